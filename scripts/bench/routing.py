"""Train attention routing for one epoch: brainkit beside the same network in plain torch.

    python scripts/bench/routing.py [--repeats 5] [--size paper|tiny]

Each way runs in fresh processes, at one thread of the numeric libraries and at two:

- torch: `torch.nn.MultiheadAttention` with its weights not asked for, the feed-forward part, one
  `torch.nn.Linear` for each region, AdamW and clipping, batch after batch of standardised tokens;
- brainkit: `brainkit.encoding.routing.RoutingEncoder`, one epoch, validation off, which
  standardises the tokens batch by batch.

Seconds are those of the epoch; `fit_seconds` count the building of the network and, for brainkit,
the reading of all tokens for their statistics too.

Sizes: "paper" is 1,000 images of 31 × 31 tokens, 768 wide, 50 queries of 16 heads, 15,724 targets
in batches of 16; "tiny" the same of 8 × 8 tokens, 128 wide, 8 heads, in batches of 32. The tokens
are noise, and 125 images are shown eight times each, to spare memory.

Before any time is taken both networks get the same weights and a batch; predictions and gradients
of the queries must agree to 1e-4. Goal: brainkit at most 1.1 times the seconds of torch.

Printed: a table on standard error, all numbers as JSON on standard output.
"""

import argparse
import json
import sys
import time
from typing import Any

import numpy as np
import torch
from side_by_side import compare, measured
from torch import Tensor, nn

from brainkit.encoding.routing import RoutingDecoder, RoutingEncoder

SIZES: dict[str, dict[str, int]] = {
    "paper": {"side": 31, "width": 768, "heads": 16, "hidden": 1024, "batch": 16},
    "tiny": {"side": 8, "width": 128, "heads": 8, "hidden": 256, "batch": 32},
}
IMAGES, DRAWN, REGIONS, TARGETS = 1000, 125, 50, 15_724
LEARNING_RATE, WEIGHT_DECAY, DROPOUT, CLIP = 5e-4, 1e-2, 0.1, 1.0
WAYS = ("torch", "brainkit")
TOLERANCE = 1e-4


class Repeated:
    """Tokens of more images than were drawn."""

    def __init__(self, size: dict[str, int]) -> None:
        shape = (DRAWN, size["side"] ** 2, size["width"])
        self.drawn = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        self.shape = (IMAGES, *shape[1:])

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.drawn[np.asarray(rows) % DRAWN]


class Plain(nn.Module):
    """The network as one writes it with the layers of torch."""

    def __init__(self, size: dict[str, int], position: Tensor) -> None:
        super().__init__()
        width = size["width"]
        self.position = position
        self.queries = nn.Parameter(torch.randn(REGIONS, width))
        self.attend = nn.MultiheadAttention(width, size["heads"], batch_first=True)
        self.norm, self.final = nn.LayerNorm(width), nn.LayerNorm(width)
        self.expand = nn.Linear(width, size["hidden"])
        self.contract = nn.Linear(size["hidden"], width)
        self.dropout = nn.Dropout(DROPOUT)
        counts = np.bincount(labels())
        self.read = nn.ModuleList(nn.Linear(width, int(count)) for count in counts)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens to responses, targets region by region."""
        queries = self.queries.expand(len(x), -1, -1)
        found = self.attend(queries, x + self.position, x, need_weights=False)[0]
        found = self.dropout(found)
        inner = self.dropout(torch.relu(self.expand(self.norm(found))))
        vectors = self.final(found + self.dropout(self.contract(inner)))
        return torch.cat([read(vectors[:, row]) for row, read in enumerate(self.read)], dim=1)

    def copy_weights(self, ours: RoutingDecoder) -> None:
        """Take over the weights of brainkit's network."""
        pairs = {"query": 0, "key": 1, "value": 2}
        self.queries.copy_(ours.queries)
        self.attend.in_proj_bias.zero_()
        for name, place in pairs.items():
            self.attend.in_proj_weight.chunk(3)[place].copy_(getattr(ours, name).weight)
        self.attend.in_proj_bias.chunk(3)[0].copy_(ours.query.bias)
        self.attend.out_proj.load_state_dict(ours.out.state_dict())
        for name in ("norm", "final", "expand", "contract"):
            getattr(self, name).load_state_dict(getattr(ours, name).state_dict())
        start = 0
        for read in self.read:
            read.weight.copy_(ours.readout.target_weights()[start : start + read.out_features])
            read.bias.copy_(ours.readout.bias[start : start + read.out_features])
            start += read.out_features


def labels() -> np.ndarray:
    """Return the region of each target, ascending."""
    return np.sort(np.arange(TARGETS) % REGIONS)


def encoder(size: dict[str, int]) -> RoutingEncoder:
    """Return brainkit's encoder with the settings of the comparison."""
    return RoutingEncoder(
        [f"{label:02d}" for label in labels()],
        n_heads=size["heads"],
        hidden=size["hidden"],
        dropout=DROPOUT,
        epochs=1,
        batch_size=size["batch"],
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        validation=0,
        device="cpu",
        progress=False,
    )


def responses() -> np.ndarray:
    """Return responses of unit variance."""
    return np.random.default_rng(1).standard_normal((IMAGES, TARGETS), dtype=np.float32)


def train_plain(size: dict[str, int], tokens: Repeated, Y: np.ndarray) -> float:
    """Train the plain network for an epoch and return its seconds."""
    torch.manual_seed(0)
    position = torch.randn(size["side"] ** 2, size["width"])
    module = Plain(size, position).train()
    optimiser = torch.optim.AdamW(
        module.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98)
    )
    order = np.random.default_rng(0).permutation(IMAGES)
    started = time.perf_counter()
    for start in range(0, IMAGES, size["batch"]):
        rows = order[start : start + size["batch"]]
        x, y = torch.from_numpy(tokens[rows]), torch.from_numpy(Y[rows])
        optimiser.zero_grad(set_to_none=True)
        (module(x) - y).square().mean().backward()
        nn.utils.clip_grad_norm_(module.parameters(), CLIP)
        optimiser.step()
    return time.perf_counter() - started


def time_once(how: str, size: dict[str, int]) -> None:
    """Train in this process and print what it took."""
    tokens, Y = Repeated(size), responses()
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # the first one imports for seconds
    if how == "torch":
        seconds, found = measured(lambda: train_plain(size, tokens, Y))
    else:
        fitted, found = measured(lambda: encoder(size).fit(tokens, Y))
        seconds = fitted.report_.seconds
    print(json.dumps(found | {"seconds": seconds, "fit_seconds": found["seconds"]}))


def check(size: dict[str, int]) -> None:
    """Raise unless both networks give the same predictions and gradients."""
    model = encoder(size)
    model.grid_ = (size["side"], size["side"])
    torch.manual_seed(0)
    ours = model._module(size["side"] ** 2, size["width"], TARGETS).eval()
    theirs = Plain(size, ours.position).eval()
    with torch.no_grad():
        theirs.copy_weights(ours)
    x = torch.from_numpy(Repeated(size)[np.arange(4)])
    y = torch.from_numpy(responses()[:4])
    pairs = []
    for module in (ours, theirs):
        predicted = module(x)
        (predicted - y).square().mean().backward()
        pairs.append((predicted.detach(), module.queries.grad))
    for ours_value, their_value in zip(*pairs, strict=True):
        error = ((ours_value - their_value).abs().max() / their_value.abs().max()).item()
        if not error < TOLERANCE:
            raise RuntimeError(f"the two networks differ by {error:g} of the largest value")


def main() -> None:
    """Check, then compare, or run one way in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=tuple(SIZES), action="append")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--how", choices=WAYS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    sizes = chosen.size or list(SIZES)
    if chosen.how:
        time_once(chosen.how, SIZES[sizes[0]])
        return
    reports: dict[str, Any] = {}
    for size in sizes:
        check(SIZES[size])
        commands = {how: [sys.executable, __file__, "--how", how, "--size", size] for how in WAYS}
        reports[size] = compare(commands, repeats=chosen.repeats, threads=chosen.threads)
        for threads, runs in reports[size].items():
            if isinstance(runs, dict):
                for found in runs.values():
                    found["seconds_over_torch"] = found["seconds"] / runs["torch"]["seconds"]
                print(f"{size}, {threads}:", file=sys.stderr)
                for how, found in runs.items():
                    numbers = "  ".join(f"{key} {value:9.3f}" for key, value in found.items())
                    print(f"  {how:9s}{numbers}", file=sys.stderr)
    print(json.dumps(reports, indent=2))


if __name__ == "__main__":
    main()
