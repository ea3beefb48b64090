"""Train an in-context encoder on simulated subjects, score it, and write its card.

    python scripts/train_in_context.py                       # train, score, write the card
    python scripts/train_in_context.py --form published      # the published form of the network
    python scripts/train_in_context.py --longer 4            # four times the steps
    python scripts/train_in_context.py --score               # score the one that is there
    python scripts/train_in_context.py --against FOLDER      # beside another network, paired
    python scripts/train_in_context.py --brain 2 --out runs/networks   # learn from version 2
    python scripts/train_in_context.py --score --test-brain 2          # and be tried on another

Subjects are made once and kept in ``--work``, and so is the state of the training, every few steps:
started again, this goes on where it was. Worlds of seeds 101 to 106 train, 111 is looked at on the
way, 121 to 123 are for the card; the seeds 0 to 9 and 31 to 39, on which encoders are compared, are
in none. A network learns from people of one version of the simulated brain alone; tried on another
version, it meets people whom another simulator made. Only the card of what was tried on the version
that it learned from is written.
"""

import argparse
import json
from pathlib import Path

from brainkit.arrays.atomic import plain
from brainkit.arrays.files import share_folder


def main() -> None:
    """Train, or score, a network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=share_folder("models") / "tiny")
    parser.add_argument("--work", type=Path, default=Path("runs/tiny-models/in-context"))
    parser.add_argument("--scenes", type=int, default=1200, help="painted scenes of each world")
    parser.add_argument("--longer", type=float, default=1.0, help="factor on the steps")
    parser.add_argument("--threads", type=int, help="of torch; all cores where not given")
    parser.add_argument("--form", choices=("product", "published"), default="product")
    parser.add_argument("--brain", type=int, default=1, help="version of the brain to learn from")
    parser.add_argument("--test-brain", type=int, help="that to be tried on; the same by default")
    parser.add_argument("--score", action="store_true", help="score the network that is there")
    parser.add_argument("--against", type=Path, help="compare the one that is there with another")
    chosen = parser.parse_args()
    import torch
    from tiny_models import in_context, in_context_card

    known = in_context.known_versions()
    tried = chosen.brain if chosen.test_brain is None else chosen.test_brain
    for version in (chosen.brain, tried):
        if version not in known:
            parser.error(f"there is no brain of version {version}; there are {known}")
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    variant = in_context.Variant(chosen.form, chosen.brain)
    work, scenes = chosen.work, chosen.scenes
    if chosen.against is not None:
        folder = chosen.out / variant.name
        found = in_context_card.against(folder, chosen.against, work, scenes, brain=tried)
        print(json.dumps(plain(found), indent=1))
        return
    if not chosen.score:
        in_context.make(chosen.out, work, scenes, chosen.longer, variant)
    scores = in_context_card.score(chosen.out, work, scenes, variant, tried)
    print(json.dumps(plain(scores), indent=1))
    if tried == chosen.brain:
        in_context_card.write_card(chosen.out, work, scores, variant)


if __name__ == "__main__":
    main()
