"""Every encoder that applies on the real digits recording: r by region with permutation p.

    python scripts/compare_encoders_digits.py ROOT [--slow 19] [--only NAME ...]

ROOT is where digits69 lies. Ten folds by trial, r within folds; p by refits of the whole pipeline
on exchanged stimuli: 99 for what is quick, `--slow` for the pRF grid and what is trained by
gradient descent (none by default: each takes minutes; with 19 the smallest p is .05). One person,
100 trials of 28-pixel digits: a network trained on painted scenes has little to say here, and the
table shows it.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

from brainkit.arrays.atomic import write_text
from brainkit.data.cards import load
from brainkit.jobs import read_recipe, run_recipe
from brainkit.jobs.encode import EncodeRecipe

PIXELS = [{"kind": "pixel-pca", "scale": "space", "settings": {"n_components": 30}}]
ENERGY = [{"kind": "oriented-energy", "scale": "space"}]
EMBEDDING = [{"kind": "model-layer", "scale": "space", "settings": {"pool": None}}]
TOKENS = [
    {
        "kind": "model-layer",
        "settings": {
            "model": "open_clip:tiny@blocks.0",
            "pool": None,
            "tokens": "patch",
            "keep_tokens": True,
        },
    }
]
SLOW = -1  # as many refits as are asked for
ALPHAS = {"low": 0.003, "high": 300, "count": 11}


def ridge(kind: str = "voxelwise-ridge", **settings: Any) -> dict[str, Any]:
    """Return the model of a recipe that has penalties."""
    return {"kind": kind, "alphas": ALPHAS, "cv": 5, "settings": settings}


def deep(kind: str, **settings: Any) -> dict[str, Any]:
    """Return the model of a recipe that is trained by gradient descent."""
    return {"kind": kind, "settings": {"progress": False, **settings}}


ENCODERS: dict[str, tuple[list[Any], dict[str, Any], int]] = {
    "ridge, pixel components": (PIXELS, ridge(), 99),
    "ridge, oriented energy": (ENERGY, ridge(), 99),
    "ridge, CLIP embedding": (EMBEDDING, ridge(), 99),
    "banded ridge, all three": (PIXELS + ENERGY + EMBEDDING, ridge("banded-ridge", draws=10), 99),
    "kernel ridge (rbf), pixels": (PIXELS, ridge("kernel-ridge", kernel="rbf"), 99),
    "feature-weighted RF": (TOKENS, {"kind": "feature-weighted-rf"}, SLOW),
    "linear readout": (TOKENS, deep("linear-readout"), SLOW),
    "Gaussian readout": (TOKENS, deep("gaussian-readout"), SLOW),
    "factorized readout": (TOKENS, deep("factorized-readout"), SLOW),
    "semantic readout": (TOKENS, deep("semantic-readout"), SLOW),
    "routing": (TOKENS, deep("routing-encoder"), SLOW),
    "in-context": (EMBEDDING[:1], deep("in-context", checkpoint="tiny"), SLOW),
}


def recipe_of(name: str, slow: int = 0) -> EncodeRecipe:
    """Return the digits recipe with another encoder, and `slow` refits where they take long."""
    features, model, permutations = ENCODERS[name]
    permutations = slow if permutations == SLOW else permutations
    content = read_recipe("encode-pixel-components").model_dump()
    if name == "in-context":
        features = [{**features[0], "scale": None}]
        model["settings"].pop("progress")
    content |= {"name": name, "features": features, "model": model}
    content["protocol"] |= {"seeds": [0], "permutations": permutations, "shuffles": 1}
    return EncodeRecipe.model_validate(content)


def score(root: Path, name: str, slow: int) -> dict[str, Any]:
    """Fit one encoder in all folds, and its nulls."""
    begun = time.process_time()
    result = run_recipe(load("digits69", root), recipe_of(name, slow))
    table = result.tables["regions"].set_index("region")
    return {
        "r": table["r"].to_dict(),
        "p": table["p"].to_dict(),
        "all": result.metrics["encoding_r"],
        "cpu_seconds": time.process_time() - begun,
    }


def page(found: dict[str, dict[str, Any]]) -> str:
    """Return the table as Markdown."""
    regions = list(next(iter(found.values()))["r"])
    best = {region: max(row["r"][region] for row in found.values()) for region in regions}
    lines = [
        "# Encoders on the digits recording",
        "",
        "Cross-validated r by region (ten folds, mean over voxels), with p by refits on exchanged "
        "stimuli in brackets, – where none were made. Real data: digits69, one person, 3T, 100 "
        "trials. The network behind the CLIP and in-context rows was trained on painted scenes.",
        "",
        "Made by `python scripts/compare_encoders_digits.py ROOT --out docs/encoders_digits.md`.",
        "",
        "| encoder | " + " | ".join(regions) + " | CPU s |",
        "|" + "---|" * (len(regions) + 2),
    ]
    for name, row in found.items():
        cells = []
        for region in regions:
            text = f"{row['r'][region]:.3f}"
            text = f"**{text}**" if row["r"][region] == best[region] else text
            p = row["p"][region]
            cells.append(
                f"{text} ({p:.2g})" if p is not None and math.isfinite(p) else f"{text} (–)"
            )
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {row['cpu_seconds']:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Score what is missing and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/encoders_digits.md"))
    parser.add_argument("--slow", type=int, default=0, help="refits for p of the slow encoders")
    parser.add_argument("--only", nargs="+", choices=sorted(ENCODERS), default=list(ENCODERS))
    parser.add_argument("--kept", type=Path, default=Path("runs/encoders_digits.json"))
    chosen = parser.parse_args()
    found = json.loads(chosen.kept.read_text()) if chosen.kept.exists() else {}
    for name in chosen.only:
        if name not in found:
            found[name] = score(chosen.root, name, chosen.slow)
            chosen.kept.parent.mkdir(parents=True, exist_ok=True)
            write_text(chosen.kept, json.dumps(found, default=float))
            print(name, found[name]["r"], flush=True)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(chosen.out, page({name: found[name] for name in ENCODERS if name in found}))


if __name__ == "__main__":
    main()
