"""Banded ridge beside himalaya's two solvers, on identical data, folds and draws.

    python scripts/bench/banded.py [--size full|small] [--repeats 5] [--threads 1 2]

The job: 4 bands of 250 columns, 2,000 samples, 10,000 voxels, 10 penalties, 5 folds, 20 draws of
band weights, single precision ("small": 1,000 voxels, 4 draws). Voxels follow the bands by weights
of their own, a quarter of them only noise. Each way runs in fresh processes, at one thread of the
numeric libraries and at two:

- group: `himalaya.ridge.GroupRidgeCV`, torch backend;
- kernel: `himalaya.kernel_ridge.MultipleKernelRidgeCV` with linear kernels, torch backend;
- exact: `brainkit.linear.banded_solver.banded_ridge_cv`;
- racing: the same with a `RacingRule`.

Before any time counts, results of one run of each are compared: the exact search must have, in
every voxel, the least held-out error of himalaya's within 1e-4 of it, and all ways their mean R² on
1,000 test samples. Targets: exact in at most half of the seconds of the faster peer, racing in at
most a fifth, with its mean test R² within .002 of the exact one's.

Printed: a table on standard error, all numbers as JSON on standard output.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import compare, measured

BANDS, WIDTH, SAMPLES, TEST, FOLDS = 4, 250, 2000, 1000, 5
SIZES = {"full": (10_000, 20), "small": (1_000, 4)}  # voxels, draws
ALPHAS = np.logspace(0, 5, 10)
WAYS = ("group", "kernel", "exact", "racing")
SAME_ERROR, SAME_R2 = 1e-4, 0.002

Arrays = dict[str, np.ndarray]


def data(size: str) -> Arrays:
    """Simulate bands of features, responses of training and test samples, and draws."""
    voxels, n_draws = SIZES[size]
    rng = np.random.default_rng(0)
    X = rng.standard_normal((SAMPLES + TEST, BANDS * WIDTH), dtype=np.float32)
    shares = rng.dirichlet(np.full(BANDS, 0.5), voxels) * rng.uniform(0, 0.6, (voxels, 1))
    shares[rng.random(voxels) < 0.25] = 0
    Y = rng.standard_normal((len(X), voxels), dtype=np.float32)
    Y *= np.sqrt(1 - shares.sum(axis=1)).astype(np.float32)
    for band in range(BANDS):
        W = rng.standard_normal((WIDTH, voxels), dtype=np.float32)
        W *= np.sqrt(shares[:, band] / WIDTH).astype(np.float32)
        Y += X[:, band * WIDTH : (band + 1) * WIDTH] @ W
    from brainkit.linear.bands import simplex_draws

    draws = simplex_draws(n_draws, BANDS, seed=1).astype(np.float32)
    # Himalaya takes logarithms of weights, so none of them is 0 here.
    draws = np.maximum(draws, 1e-6) / np.maximum(draws, 1e-6).sum(axis=1, keepdims=True)
    means = X[:SAMPLES].mean(axis=0), Y[:SAMPLES].mean(axis=0)
    return {"X": X - means[0], "Y": Y - means[1], "draws": draws}


def himalaya(way: str, given: Arrays) -> Callable[[], Arrays]:
    """Return a fit by one of himalaya's solvers."""
    import torch
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import MultipleKernelRidgeCV
    from himalaya.ridge import GroupRidgeCV
    from sklearn.model_selection import KFold

    set_backend("torch")
    X, Y = torch.as_tensor(given["X"]), torch.as_tensor(given["Y"])
    Xs = [X[:SAMPLES, b * WIDTH : (b + 1) * WIDTH] for b in range(BANDS)]
    test = [X[SAMPLES:, b * WIDTH : (b + 1) * WIDTH] for b in range(BANDS)]
    search = {
        "n_iter": torch.as_tensor(given["draws"]), "alphas": torch.as_tensor(ALPHAS).float(),
        "progress_bar": False,
    }  # fmt: skip
    folds = KFold(FOLDS)
    if way == "group":
        model = GroupRidgeCV(groups="input", cv=folds, fit_intercept=True, solver_params=search)

        def work() -> Arrays:
            model.fit(Xs, Y[:SAMPLES])
            return {"errors": -model.cv_scores_.numpy(), "predicted": model.predict(test).numpy()}

        return work
    kernels = torch.stack([x @ x.T for x in Xs])
    model = MultipleKernelRidgeCV(
        kernels="precomputed", cv=folds, fit_intercept=True, solver_params=search
    )

    def work() -> Arrays:
        model.fit(kernels, Y[:SAMPLES])
        crossed = torch.stack([t @ x.T for t, x in zip(test, Xs, strict=True)])
        return {"errors": -model.cv_scores_.numpy(), "predicted": model.predict(crossed).numpy()}

    return work


def ours(way: str, given: Arrays) -> Callable[[], Arrays]:
    """Return a fit by brainkit."""
    import torch

    from brainkit.linear.banded_solver import RacingRule, banded_ridge_cv
    from brainkit.linear.folds import kfold

    X, Y = torch.as_tensor(given["X"]), torch.as_tensor(given["Y"])
    rule = RacingRule() if way == "racing" else None

    def work() -> Arrays:
        fit = banded_ridge_cv(
            X[:SAMPLES], Y[:SAMPLES], [WIDTH] * BANDS, ALPHAS, kfold(SAMPLES, FOLDS),
            draws=given["draws"], racing=rule,
        )  # fmt: skip
        predicted = X[SAMPLES:] @ fit.coef.T + fit.intercept
        skipped = fit.skipped / (fit.errors.numel() * FOLDS)
        return {
            "errors": fit.errors.numpy() / SAMPLES, "predicted": predicted.numpy(),
            "skipped": np.asarray(skipped),
        }  # fmt: skip

    return work


def time_once(way: str, size: str, path: Path | None) -> None:
    """Run one way in this process, print what it took, and keep its results where asked to."""
    given = data(size)
    work = himalaya(way, given) if way in ("group", "kernel") else ours(way, given)
    found, spent = measured(work)
    truth = given["Y"][SAMPLES:]
    residual = ((truth - found.pop("predicted")) ** 2).sum(axis=0)
    r2 = 1 - residual / ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    spent |= {"test_r2": float(r2.mean()), "skipped": float(found.pop("skipped", 0))}
    if path is not None:
        np.savez(path, **found)
    print(json.dumps(spent))


def check(base: list[str], threads: int) -> dict[str, float]:
    """Run every way once and raise unless their results agree; tell how far they do."""
    least, r2 = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for way in WAYS:
            path = Path(folder) / f"{way}.npz"
            command = [*base, way, "--keep", str(path)]
            report = compare({way: command}, repeats=1, threads=[threads])
            r2[way] = report[f"{threads} thread" + "s" * (threads > 1)][way]["test_r2"]
            least[way] = np.nanmin(np.load(path)["errors"], axis=0)
    off = {peer: np.max(abs(least["exact"] / least[peer] - 1)) for peer in ("group", "kernel")}
    far = abs(r2["racing"] - r2["exact"])
    if max(off.values()) > SAME_ERROR or far > SAME_R2:
        raise SystemExit(f"the results differ: errors by {off}, test R² of racing by {far:.5f}")
    found = {f"largest_relative_error_against_{peer}": float(value) for peer, value in off.items()}
    return found | {f"test_r2_{way}": value for way, value in r2.items()}


def show(report: dict[str, Any]) -> None:
    """Add ratios to the faster peer, and print the numbers as a table on standard error."""
    for threads, runs in report.items():
        if not isinstance(runs, dict) or "exact" not in runs:
            continue
        print(f"banded, {threads}:", file=sys.stderr)
        peer = min(runs["group"]["seconds"], runs["kernel"]["seconds"])
        for way, found in runs.items():
            found["faster_than_best_peer"] = peer / found["seconds"]
            numbers = "  ".join(f"{key} {value:8.3f}" for key, value in found.items())
            print(f"  {way:8s}{numbers}", file=sys.stderr)


def main() -> None:
    """Compare all ways, or run one in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=tuple(SIZES), default="full")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--how", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--keep", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.how:
        time_once(chosen.how, chosen.size, chosen.keep)
        return
    base = [sys.executable, __file__, "--size", chosen.size, "--how"]
    agreement = check(base, max(chosen.threads))
    commands = {way: [*base, way] for way in WAYS}
    report = compare(commands, repeats=chosen.repeats, threads=chosen.threads)
    show(report)
    print(json.dumps({"banded": report, "agreement": agreement}, indent=2))


if __name__ == "__main__":
    main()
