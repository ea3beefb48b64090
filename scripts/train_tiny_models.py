"""Train the tiny models of ``models/tiny/`` on painted scenes.

    python scripts/train_tiny_models.py                      # all, one after another
    python scripts/train_tiny_models.py clip autoencoder     # some of them
    python scripts/train_tiny_models.py diffusion --out /tmp/tiny --work /tmp/tiny-work

Each model is trained from fixed seeds, keeps its state in ``--work`` every few hundred steps, and
goes on from there when it is started again. How long each took stands in its card. The
diffusion model needs the autoencoder and the CLIP, the captioner needs the CLIP. Afterwards,
``python scripts/score_tiny_models.py`` measures them and writes their cards.
"""

import argparse
import importlib
import sys
from dataclasses import asdict
from pathlib import Path

from brainkit.arrays.atomic import write_json
from brainkit.arrays.files import share_folder

# In an order in which each finds what it builds on.
MODELS = {
    "clip": "clip",
    "autoencoder": "autoencoder",
    "judge-a": "judges",
    "judge-b": "judges",
    "captioner": "captioner",
    "diffusion": "diffusion",
}


def main() -> None:
    """Train what was named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("--out", type=Path, default=share_folder("models") / "tiny")
    parser.add_argument("--work", type=Path, default=Path("runs/tiny-models"))
    parser.add_argument("--scenes", type=int, default=60_000, help="painted scenes to train on")
    parser.add_argument("--threads", type=int, help="of torch; all cores where not given")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.models if name not in MODELS]
    if unknown:
        parser.error(f"there is no model {unknown[0]!r}; there are {', '.join(MODELS)}")
    import torch

    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    for name in chosen.models or MODELS:
        module = importlib.import_module(f"tiny_models.{MODELS[name]}")
        report = module.make(name, chosen.out, chosen.work, chosen.scenes)
        write_json(chosen.work / f"{name}.json", asdict(report))
        minutes = report.seconds / 60
        print(f"{name}: {report.steps} steps in {minutes:.1f} minutes", file=sys.stderr)


if __name__ == "__main__":
    main()
