"""Train contrastive decoders: brainkit beside the bare network on the same batches.

    python scripts/bench/decoding.py [--repeats 5] [--size mlp|tiny]
    python scripts/bench/decoding.py --size hive

Each way runs in fresh processes, at one thread of the numeric libraries and at two:

- bare: the network of `brainkit.decoding.ContrastiveDecoder`, batches that stand ready, its loss by
  hand, clipping and AdamW;
- brainkit: `ContrastiveDecoder.fit`, everything trained (``start="random"``), validation off.

Seconds are those of the training, a step; the first three are left out of the bare network's. Goal:
brainkit at most 1.1 times the bare network.

Sizes: "mlp" is a layer of 4,000 units, a residual network of four layers of 1,024, embeddings of
768, batches of 256; "tiny" a quarter of it. "hive" is Brain-HIVE's published size (Linear 4,250 →
1,024, a residual network, three embeddings fused by another; 11 million parameters) on 16,540 rows
of noise: all 425 steps of 1,024 rows are run once, by brainkit alone, with the minutes that they
take. Goal: at most 5 minutes on two cores.

How the other benchmarks of decoders are run: `massive_ridge.py`, `decoding_metrics.py`.
"""

import argparse
import json
import sys
import time
from typing import Any

import numpy as np
import torch
from side_by_side import compare
from torch import nn
from torch.nn import functional

from brainkit.alignment.person_units import PersonUnits
from brainkit.decoding import ContrastiveDecoder

WAYS = ("bare", "brainkit")
SIZES: dict[str, dict[str, int]] = {
    "mlp": {
        "rows": 4096, "units": 4000, "width": 1024, "embedding": 768, "batch": 256, "steps": 30,
    },
    "tiny": {
        "rows": 2048, "units": 1000, "width": 256, "embedding": 256, "batch": 256, "steps": 60,
    },
    "hive": {
        "rows": 16_540, "units": 4250, "width": 1024, "embedding": 768 + 512 + 1024,
        "batch": 1024, "steps": 425,
    },
}  # fmt: skip
SKIPPED = 3


def data(size: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return responses and embeddings of noise."""
    rng = np.random.default_rng(0)
    shapes = ((size["rows"], size[name]) for name in ("units", "embedding"))
    X, Z = (rng.standard_normal(shape, dtype=np.float32) for shape in shapes)
    return X, Z


def decoder(name: str) -> ContrastiveDecoder:
    """Return the decoder of a size."""
    size = SIZES[name]
    settings: dict[str, Any] = {
        "start": "random",
        "alignment_settings": {"width": size["width"]},
        "backbone": "residual-mlp",
        "backbone_settings": {"depth": 4},
        "image_side": "fixed",
    }
    if name == "hive":
        settings |= {
            "backbone": "residual-gelu",
            "backbone_settings": {"dropout": 0.1},
            "heads": {"retrieval": {"kind": "direct"}, "embedding": {"kind": "direct"}},
            "image_side": "residual",
            "regression": 0.0,
            "dropout": 0.1,
            "learning_rate": 5e-4,
            "weight_decay": 0.05,
        }
    return ContrastiveDecoder(
        **settings, steps=size["steps"], batch_size=size["batch"], validation=0.0,
        device="cpu", precision="float32", progress=False,
    )  # fmt: skip


def bare(name: str) -> dict[str, float]:
    """Train the network by hand, on batches that stand ready; return the seconds of a step."""
    size = SIZES[name]
    X, Z = (torch.from_numpy(values) for values in data(size))
    network = decoder(name).network({"person": PersonUnits(size["units"])}, size["embedding"])
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
    rng, start = np.random.default_rng(0), 0.0
    order = [rng.choice(len(X), size["batch"], replace=False) for _ in range(size["steps"])]
    batches = [(X[rows], Z[rows]) for rows in order]
    network.train()
    right = torch.arange(size["batch"])
    for number, (x, z) in enumerate(batches):
        if number == SKIPPED:
            start = time.perf_counter()
        outputs = network.brain(x, "person")
        sides = (functional.normalize(values, dim=1) for values in (outputs["retrieval"], z))
        logits = network.temperature().exp() * torch.matmul(*(s.T if k else s for k, s in enumerate(sides)))  # fmt: skip # noqa: E501
        loss = functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)
        loss = loss / 2 + functional.mse_loss(outputs["embedding"], z)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    return {"seconds": (time.perf_counter() - start) / (size["steps"] - SKIPPED)}


def ours(name: str) -> dict[str, float]:
    """Fit the decoder; return the seconds of a step, and of the whole fit."""
    X, Z = data(SIZES[name])
    start = time.perf_counter()
    fitted = decoder(name).fit(X, Z)
    whole = time.perf_counter() - start
    parameters = sum(fitted.report_.trained.values())
    return {
        "seconds": fitted.report_.seconds / SIZES[name]["steps"],
        "fit_seconds": whole,
        "parameters": float(parameters),
    }


def main() -> None:
    """Run one way, or compare both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", choices=list(SIZES), default="mlp")
    parser.add_argument("--way", choices=WAYS, help="run one way here, and print its figures")
    chosen = parser.parse_args()
    if chosen.way is not None or chosen.size == "hive":
        print(json.dumps(bare(chosen.size) if chosen.way == "bare" else ours(chosen.size)))
        return
    command = [sys.executable, __file__, "--size", chosen.size, "--way"]
    report = compare({way: [*command, way] for way in WAYS}, repeats=chosen.repeats)
    for threads, ways in report.items():
        if isinstance(ways, dict):
            ratio = ways["brainkit"]["seconds"] / ways["bare"]["seconds"]
            print(f"{threads}: brainkit / bare {ratio:.3f}", file=sys.stderr)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
