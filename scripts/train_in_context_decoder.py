"""Train the in-context decoder on simulated people, score it, and write its card.

    python scripts/train_in_context_decoder.py                # train, score, write the card
    python scripts/train_in_context_decoder.py --longer 4     # four times the steps
    python scripts/train_in_context_decoder.py --score        # score the one that is there
    python scripts/train_in_context_decoder.py --score --test-brain 2   # on another simulator

People, what the encoders read of them, and the state of the training are kept in ``--work``:
started again, this goes on where it was. People of the worlds 141 to 144 train, those of 149 are
looked at on the way, those of 121 to 123 are for the card; none of them is among the people that
the in-context encoder learned from, those of 101 to 106. A network learns from people of version 1
of the simulated brain; tried on another version, it meets people whom another simulator made, and
no card is written.
"""

import argparse
import json
from pathlib import Path

from brainkit.arrays.atomic import plain
from brainkit.arrays.files import share_folder


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
    parser.add_argument("--test-brain", type=int, default=1, help="version to be tried on")
    parser.add_argument("--score", action="store_true", help="score the network that is there")
    chosen = parser.parse_args()
    import torch
    from tiny_models import in_context, in_context_decoder

    known = in_context.known_versions()
    if chosen.test_brain not in known:
        parser.error(f"there is no brain of version {chosen.test_brain}; there are {known}")
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    if not chosen.score:
        in_context_decoder.make(chosen.out, chosen.work, chosen.scenes, chosen.longer)
    scores = in_context_decoder.score(chosen.out, chosen.work, chosen.scenes, chosen.test_brain)
    print(json.dumps(plain(scores), indent=1))
    if chosen.test_brain == 1:
        in_context_decoder.write_card(chosen.out, chosen.work, scores)


if __name__ == "__main__":
    main()
