"""Hyper-weights by the in-context encoder, beside the sum of its own matrix products.

    python scripts/bench/in_context.py [--repeats 5] [--voxels 10000] [--images 100]

Each way runs in fresh processes, at one thread of the numeric libraries and at two:

- encoder: `brainkit.encoding.in_context.hyper_weights` with the shipped network, from embeddings
  and z-scored responses to weights, constants and attention of all voxels;
- products: every matrix product of that, written down while a batch goes through the network, and
  nothing else: no normalisation, softmax, gate, residual or bias. A fused attention counts as its
  two products, by heads.

Goal: the encoder at most 1.3 times the seconds of its products, at most 2 in any case.

Printed: a table on standard error, all numbers as JSON on standard output.
"""

import argparse
import json
import sys
from typing import Any

import torch
from side_by_side import compare, measured
from torch.utils._python_dispatch import TorchDispatchMode

from brainkit.encoding.in_context import InContextNetwork, hyper_weights, load_network
from brainkit.encoding.in_context.module import TOKENS_AT_ONCE

WAYS = ("products", "encoder")
Product = tuple[torch.Tensor, torch.Tensor]


class Recorder(TorchDispatchMode):
    """Keeps the factors of all matrix products that torch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Product] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        """Write the operation down and let it pass."""
        name = function.overloadpacket.__name__
        if name in ("mm", "bmm"):
            self.products.append(arguments[:2])
        elif name in ("addmm", "addmm_"):
            self.products.append(arguments[1:3])
        elif "scaled_dot_product" in name:
            query, key, value = (part.contiguous().flatten(0, 1) for part in arguments[:3])
            weights = torch.rand(len(query), query.shape[1], key.shape[1])
            self.products += [(query, key.transpose(1, 2)), (weights, value)]
        return function(*arguments, **(keywords or {}))


def record(network: InContextNetwork, embeddings: Any, responses: Any) -> list[Product]:
    """Return the factors of all matrix products of one batch."""
    with torch.no_grad(), Recorder() as recorder:
        network(network.encode_images(embeddings), responses)
    return recorder.products


def run(way: str, voxels: int, images: int) -> None:
    """Time one way in this process and print its measurements."""
    network, _ = load_network("tiny")
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(images, network.architecture.embedding, generator=generator)
    embeddings /= embeddings.norm(dim=1, keepdim=True)
    responses = torch.randn(images, voxels, generator=generator)
    size = round(TOKENS_AT_ONCE[0] / (images + network.architecture.registers))
    products = record(network, embeddings, responses[:, :size])
    shared, own = products[0], products[1:]  # the images' product is done once

    def multiply() -> None:
        with torch.inference_mode():
            for _ in range(voxels // size):
                for a, b in own:
                    torch.matmul(a, b)
            torch.matmul(*shared)

    hyper_weights(network, embeddings, responses[:, : 10 * size])  # warm
    if way == "encoder":
        _, found = measured(lambda: hyper_weights(network, embeddings, responses))
    else:
        _, found = measured(multiply)
    found["gflop"] = sum(2.0 * a.numel() * b.shape[-1] for a, b in own) * voxels / size / 1e9
    print(json.dumps(found))


def main() -> None:
    """Compare the two ways."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--voxels", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.way:
        run(chosen.way, chosen.voxels, chosen.images)
        return
    sizes = ["--voxels", str(chosen.voxels), "--images", str(chosen.images)]
    commands = {way: [sys.executable, __file__, "--way", way, *sizes] for way in WAYS}
    report = compare(commands, repeats=chosen.repeats)
    for threads in [key for key in report if "thread" in key]:
        seconds = {way: found["seconds"] for way, found in report[threads].items()}
        report[threads]["ratio"] = seconds["encoder"] / seconds["products"]
        print(
            f"{threads}: products {seconds['products']:.2f} s, encoder {seconds['encoder']:.2f} s, "
            f"ratio {report[threads]['ratio']:.2f}",
            file=sys.stderr,
        )
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
