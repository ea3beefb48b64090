"""Train the in-context encoder of ``models/tiny/in-context`` on simulated subjects; write its card.

    python scripts/train_in_context.py                       # train, score, write the card
    python scripts/train_in_context.py --longer 4            # four times the steps
    python scripts/train_in_context.py --score               # score the one that is there

Subjects are made once and kept in ``--work``, and so is the state of the training, every few steps:
started again, this goes on where it was. Worlds of seeds 101 to 106 train, 111 is looked at on the
way, 121 to 123 are for the card; the seeds 0 to 9, on which encoders are compared, are in none.
"""

import argparse
import json
from pathlib import Path

from brainkit.arrays.atomic import plain
from brainkit.arrays.share import share_folder


def main() -> None:
    """Train, or score, the network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=share_folder("models") / "tiny")
    parser.add_argument("--work", type=Path, default=Path("runs/tiny-models/in-context"))
    parser.add_argument("--scenes", type=int, default=1200, help="painted scenes of each world")
    parser.add_argument("--longer", type=float, default=1.0, help="factor on the steps")
    parser.add_argument("--threads", type=int, help="of torch; all cores where not given")
    parser.add_argument("--score", action="store_true", help="score the network that is there")
    chosen = parser.parse_args()
    import torch
    from tiny_models import in_context, in_context_card

    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    if not chosen.score:
        in_context.make(chosen.out, chosen.work, chosen.scenes, chosen.longer)
    scores = in_context_card.score(chosen.out, chosen.work, chosen.scenes)
    print(json.dumps(plain(scores), indent=1))
    in_context_card.write_card(chosen.out, chosen.work, scores)


if __name__ == "__main__":
    main()
