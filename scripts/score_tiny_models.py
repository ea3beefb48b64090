"""Measure the tiny models on scenes of a world that none of them was trained on; write their cards.

    python scripts/score_tiny_models.py                     # all that are there
    python scripts/score_tiny_models.py --no-cards          # figures only

The figures go to ``models/tiny/scores.json`` and into each model's card (``README.md``). The scenes
are those of world seed 90003; training used seeds 90001 (all but the judges) and 90011 (the
judges), and 90002 was looked at on the way. Simulated scenes only: a figure here says how well a
model knows this world, not how it does on photographs.
"""

import argparse
import json
from pathlib import Path

from tiny_models.cards import write_cards
from tiny_models.scores import SCORERS, Scenes

from brainkit.arrays.atomic import plain, write_json
from brainkit.arrays.files import share_folder


def main() -> None:
    """Score the models that are there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, default=share_folder("models") / "tiny")
    parser.add_argument("--work", type=Path, default=Path("runs/tiny-models"))
    parser.add_argument("--scenes", type=int, default=2000, help="test scenes")
    parser.add_argument("--generated", type=int, default=200, help="images to generate")
    parser.add_argument("--no-cards", action="store_true", help="leave the cards as they are")
    chosen = parser.parse_args()
    scenes = Scenes.paint(chosen.scenes)
    scores = {}
    for name, scorer in SCORERS.items():
        if (chosen.models / name).is_dir():
            scores[name] = scorer(chosen.models, scenes, chosen.generated)
            print(name, json.dumps(plain(scores[name]), indent=1))
    training = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(chosen.work.glob("*.json"))
    }
    if not chosen.no_cards:
        write_json(chosen.models / "scores.json", plain(scores))
        write_cards(chosen.models, scores, training)


if __name__ == "__main__":
    main()
