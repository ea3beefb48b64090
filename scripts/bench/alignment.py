"""Align people: brainkit beside fmralign and fastsrm, on identical simulated data.

    python scripts/bench/alignment.py [--size full|medium|small] [--jobs procrustes srm]
        [--repeats 5] [--threads 1 2] [--peers PYTHON]

The data: 4 people × 15,000 voxels × 1,000 shared images ("medium": 6,000 voxels; "small": 3,000
voxels × 400 images), single precision, 100 shared dimensions of falling variance and as much noise.
Each way runs in fresh processes in turn; PYTHON is one that imports the peers beside brainkit's
dependencies (``pip install fmralign==0.0.6 fastsrm==0.0.5``).

procrustes: all people to a common template
    - fmralign: GroupAlignment, Procrustes without scaling, 2 iterations (its default);
    - brainkit: `Procrustes`. Targets: at most a tenth of the peer's time, peak memory beyond the
      data at most 1 GiB, and a distance to the template that is no larger.
srm: 50 shared dimensions
    - fastsrm: IdentifiableFastSRM(method="det"), with as few tens of iterations as bring
      its loss within 1e-5 of brainkit's;
    - brainkit: `SharedResponse(50)`. Target: at most a third of the peer's time.

Printed: a table on standard error, all numbers as JSON on standard output.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from side_by_side import compare, measured

SIZES = {"full": (15_000, 1_000), "medium": (6_000, 1_000), "small": (3_000, 400)}  # voxels, images
PEOPLE, SHARED, RANK = 4, 100, 50
WAYS = {"procrustes": ("fmralign", "brainkit"), "srm": ("fastsrm", "brainkit")}
ITERATIONS = (*range(10, 100, 10), *range(100, 700, 50))
SAME_LOSS = 1e-5

Arrays = list[np.ndarray]


def data(size: str) -> Arrays:
    """Simulate responses (image, voxel) of each person, of mean 0."""
    n_voxels, n_images = SIZES[size]
    rng = np.random.default_rng(0)
    S = rng.standard_normal((n_images, SHARED), dtype=np.float32)
    S *= np.arange(1, SHARED + 1, dtype=np.float32) ** -0.5
    people = []
    for _ in range(PEOPLE):
        W = rng.standard_normal((SHARED, n_voxels), dtype=np.float32)
        X = S @ W
        X += X.std() * rng.standard_normal(X.shape, dtype=np.float32)
        people.append(X - X.mean(axis=0))
    return people


def recordings(people: Arrays) -> list[Any]:
    """Return brainkit's recordings of the same arrays, which are not copied."""
    import pandas as pd

    from brainkit import Recording

    trials = pd.DataFrame({"stimulus": range(len(people[0]))})
    return [Recording.from_arrays(X, subject=f"s{k}", trials=trials) for k, X in enumerate(people)]


def distance(aligned: Arrays, template: np.ndarray, people: Arrays) -> float:
    """Return the squared distance of aligned people to their template, as a share of the whole."""
    total = sum(float((X.astype(np.float64) ** 2).sum()) for X in people)
    return sum(float(((X - template) ** 2).sum()) for X in aligned) / total


def loss(people: Arrays, bases: Arrays) -> float:
    """Return the loss of a shared response model as a share of the whole, by its bases alone."""
    total = sum(float((X.astype(np.float64) ** 2).sum()) for X in people)
    seen = np.mean([X.astype(np.float64) @ W for X, W in zip(people, bases, strict=True)], axis=0)
    return 1 - len(people) * float((seen**2).sum()) / total


def fmralign(people: Arrays) -> tuple[Callable[[], Any], Callable[[Any], float]]:
    """Return the peer's group Procrustes, and what measures its result."""
    from fmralign import GroupAlignment
    from fmralign.methods import Procrustes

    named = {f"s{k}": X for k, X in enumerate(people)}
    model = GroupAlignment(method=Procrustes(scaling=False))

    def score(_: Any) -> float:
        aligned = list(model.transform(named).values())
        return distance(aligned, np.mean(aligned, axis=0), people)

    return lambda: model.fit(named, y="template"), score


def fastsrm(people: Arrays, iterations: int) -> tuple[Callable[[], Any], Callable[[Any], float]]:
    """Return the peer's shared response model, and what measures its result."""
    from fastsrm.identifiable_srm import IdentifiableFastSRM

    turned = [np.ascontiguousarray(X.T) for X in people]  # (voxel, image)
    model = IdentifiableFastSRM(method="det", n_components=RANK, n_iter=iterations)

    def score(_: Any) -> float:
        return loss(people, [np.asarray(W) for W in model.basis_list])

    return lambda: model.fit(turned), score


def brainkit(job: str, people: Arrays) -> tuple[Callable[[], Any], Callable[[Any], float]]:
    """Return brainkit's aligner, and what measures its result."""
    from brainkit.alignment import Procrustes, SharedResponse

    held = recordings(people)
    aligner = Procrustes() if job == "procrustes" else SharedResponse(RANK)

    def score(_: Any) -> float:
        if job == "srm":
            return loss(people, list(aligner.basis_.values()))
        aligned = [aligner.transform(X, f"s{k}") for k, X in enumerate(people)]
        return distance(aligned, np.mean(aligned, axis=0), people)

    return lambda: aligner.fit(held), score


def time_once(job: str, way: str, size: str, iterations: int) -> None:
    """Run one way in this process and print what it took."""
    people = data(size)
    if way == "fmralign":
        work, score = fmralign(people)
    elif way == "fastsrm":
        work, score = fastsrm(people, iterations)
    else:
        work, score = brainkit(job, people)
    found, spent = measured(work)
    print(json.dumps(spent | {"loss": score(found), "iterations": iterations}))


def enough_iterations(base: list[str], ours: list[str]) -> int:
    """Return how many iterations fastsrm takes to come as far as brainkit."""

    def reached(command: list[str]) -> float:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(json.loads(done.stdout.strip().splitlines()[-1])["loss"])

    goal = reached([*ours, "srm", "brainkit"]) * (1 + SAME_LOSS)
    for iterations in ITERATIONS:
        if reached([*base, "srm", "fastsrm", "--iterations", str(iterations)]) <= goal:
            return iterations
    return ITERATIONS[-1]


def main() -> None:
    """Compare all ways, or run one in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=tuple(SIZES), default="full")
    parser.add_argument("--jobs", nargs="+", choices=tuple(WAYS), default=list(WAYS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--peers", default=sys.executable, help="a Python that has the peers")
    parser.add_argument("--how", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--iterations", type=int, default=0, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.how:
        time_once(*chosen.how, chosen.size, chosen.iterations)
        return
    rest = [__file__, "--size", chosen.size, "--how"]
    ours, peers = [sys.executable, *rest], [chosen.peers, *rest]
    report: dict[str, Any] = {}
    for job in chosen.jobs:
        iterations = enough_iterations(peers, ours) if job == "srm" else 0
        more = ["--iterations", str(iterations)]
        commands = {
            way: [*(ours if way == "brainkit" else peers), job, way, *more] for way in WAYS[job]
        }
        report[job] = compare(commands, repeats=chosen.repeats, threads=chosen.threads)
        for threads, runs in report[job].items():
            if isinstance(runs, dict):
                show(job, threads, runs, WAYS[job][0])
    print(json.dumps(report, indent=2))


def show(job: str, threads: str, runs: dict[str, Any], peer: str) -> None:
    """Print the numbers of one job as a table on standard error."""
    print(f"{job}, {threads}:", file=sys.stderr)
    for way, found in runs.items():
        found["times_peer"] = runs[peer]["seconds"] / found["seconds"]
        numbers = "  ".join(f"{key} {value:10.5g}" for key, value in found.items())
        print(f"  {way:10s}{numbers}", file=sys.stderr)


if __name__ == "__main__":
    main()
