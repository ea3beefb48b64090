"""Count what the published profiles of the decoding recipes hold, and what a training step needs.

    python scripts/published_sizes.py [--voxels 15724] [--write docs/decoders.md]

Every recipe with a profile ``published`` is built from its real classes on the meta device, where
nothing is computed, for one person with the voxels of NSD's subj01. Memory is that of single
precision with AdamW, at the recipe's batch size: parameters, gradients, two moments, and what the
forward pass keeps; time follows from the operations at a stated rate.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from brainkit.alignment.person_units import PersonUnits
from brainkit.arrays.atomic import write_text
from brainkit.recipes.reading import recipe_content, recipe_names, recipe_profiles
from brainkit.recipes.specs import ModelSpec, build_model
from brainkit.training import training_memory

PROFILE, PERSON = "published", "subj01"
RATE = 200e12  # operations a second that an H100 sustains in bfloat16, about a fifth of its peak
BEGIN, END = "<!-- sizes: begin -->", "<!-- sizes: end -->"


def embedding_width(settings: dict[str, Any]) -> int:
    """Return how many numbers the recipe's embedding has, all tokens together."""
    head = (settings.get("heads") or {}).get("embedding", {})
    return int(head.get("n_tokens", 1) * head["width"])


def count(module: Any) -> int:
    """Return the number of parameters."""
    return 0 if module is None else sum(p.numel() for p in module.parameters())


def row(name: str, n_voxels: int) -> list[str]:
    """Return the sizes of one recipe, as cells of a table."""
    content = recipe_content(f"{name}@{PROFILE}")
    model = build_model(ModelSpec.model_validate(content["model"]))
    settings = content["model"]["settings"]
    batch = int(settings["batch_size"])
    with torch.device("meta"):
        units = PersonUnits(n_voxels, clusters=np.arange(n_voxels) % 128)
        network = model.network({PERSON: units}, embedding_width(settings))
        brain, prior = network.brain, network.prior
        step = training_memory(brain, [torch.empty(batch, n_voxels), PERSON])
        total, flops = step.total, step.flops
        if prior is not None:
            tokens = torch.empty(batch, prior.n_tokens, prior.width)
            more = training_memory(prior, [tokens, tokens, torch.Generator("cpu")])
            total, flops = total + more.total, flops + more.flops
    hours = flops * settings["steps"] / RATE / 3600
    millions = [
        f"{count(one) / 1e6:,.1f}"
        for one in (brain.alignment, brain.backbone, brain.heads, prior, network)
    ]
    return [name, *millions, str(batch), f"{total / 2**30:.0f}", f"{flops / 1e12:.1f}",
            f"{settings['steps']:,}", f"{hours:.1f}"]  # fmt: skip


def table(n_voxels: int) -> list[str]:
    """Return the table's lines."""
    header = ["recipe", "a person, M", "backbone, M", "heads, M", "prior, M", "all, M", "batch",
              "GiB", "TFLOP a step", "steps", "hours"]  # fmt: skip
    lines = ["| " + " | ".join(header) + " |", "| --- " * len(header) + "|"]
    for name in recipe_names():
        content = recipe_content(name)
        if PROFILE in recipe_profiles(name) and content["model"]["kind"] == "contrastive-decoder":
            lines.append("| " + " | ".join(row(name, n_voxels)) + " |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or write it between its marks in a page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--voxels", type=int, default=15_724)
    parser.add_argument("--write", type=Path, help="a page with the table's marks")
    chosen = parser.parse_args(arguments)
    lines = table(chosen.voxels)
    print("\n".join(lines))
    if chosen.write is not None:
        text = chosen.write.read_text()
        body = "\n".join([BEGIN, *lines, END])
        write_text(
            chosen.write, text[: text.index(BEGIN)] + body + text[text.index(END) + len(END) :]
        )


if __name__ == "__main__":
    main()
