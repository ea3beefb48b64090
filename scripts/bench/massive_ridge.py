"""Brain-Diffuser's regressions: `MassiveRidge` beside one scikit-learn Ridge a token.

    python scripts/bench/massive_ridge.py FOLDER [--samples 8859] [--units 15724] [--threads 2]

writes made-up responses and 18,432 targets (24 tokens of 768) into FOLDER, once, single precision,
and times in fresh processes, in turn:

peer: ``Ridge(alpha=60000, max_iter=10000, fit_intercept=True)`` fitted to one token, its
    predictions of 982 test samples, its coefficients saved;
save: `MassiveRidge` with three penalties (50,000, 60,000 and 100,000), of which each has the 18,432
    targets, coefficients written to disk, spread measured on 1,024 held-out samples;
predict: the same by `fit_predict`, coefficients never formed, predictions written to disk, nothing
    held out and no spread restored;
spread: the same with the spread measured and restored.

Figures for all 347,680 targets: of the peer 335 times the one fit, as many as there are of the
system's fits (that of its 91,168 latents is counted as if it were a token); of ours what does not
depend on the targets, three maps among it, and the median time of a batch for all the others; in
seconds of a clock, and in those of all processors, which a machine with other work to do changes
less. What a disk has cached is not forgotten between runs.

Targets: at least 8 times as fast as the peer with coefficients saved, 40 times where predictions
alone are wanted; peak memory at most 6 GiB.

Printed: all numbers as JSON.
"""

import argparse
import itertools
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import compare, measured

TOKENS, WIDTH, TEST = 24, 768, 982
EVERY, FITS = 347_680, 335
ALPHAS = {"latents": 50_000.0, "image tokens": 60_000.0, "text tokens": 100_000.0}
WAYS = ("peer", "save", "predict", "spread")


def prepare(folder: Path, n_samples: int, n_units: int) -> None:
    """Write responses that share a few directions, and targets that depend on them."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "y.npy").exists():
        return
    rng = np.random.default_rng(0)
    rows = n_samples + TEST
    latent = rng.standard_normal((rows, 100), dtype=np.float32)
    X = latent @ rng.standard_normal((100, n_units), dtype=np.float32) / 20
    X += rng.standard_normal(X.shape, dtype=np.float32)
    X -= X[:n_samples].mean(axis=0)
    X /= X[:n_samples].std(axis=0)
    np.save(folder / "x.npy", X[:n_samples])
    np.save(folder / "x_test.npy", X[n_samples:])
    shape = (n_samples, TOKENS * WIDTH)
    Y = np.lib.format.open_memmap(folder / "part.npy", mode="w+", dtype=np.float32, shape=shape)
    for start in range(0, shape[1], WIDTH):
        noise = rng.standard_normal((n_samples, WIDTH), dtype=np.float32)
        weights = rng.standard_normal((100, WIDTH), dtype=np.float32) / 20
        Y[:, start : start + WIDTH] = latent[:n_samples] @ weights + noise + 3
    Y.flush()
    (folder / "part.npy").rename(folder / "y.npy")


class Clocked:
    """Targets in a file that note when they are read."""

    def __init__(self, path: Path, clock: list[tuple[int, float, float]]) -> None:
        self.path, self.clock = path, clock
        self.shape = np.load(path, mmap_mode="r").shape
        self.dtype = np.dtype(np.float32)

    def read(self, _rows: None, columns: Any) -> Any:
        """Return columns next to each other."""
        if len(columns) > 1:
            self.clock.append((len(columns), time.perf_counter(), time.process_time()))
        mapped = np.load(self.path, mmap_mode="r")
        return np.array(mapped[:, columns[0] : columns[-1] + 1])


def busy(work: Callable[[], None]) -> dict[str, float]:
    """Measure some work, and the seconds of all processors that it took."""
    before = time.process_time()
    _, cost = measured(work)
    return cost | {"cpu_seconds": time.process_time() - before}


def peer(folder: Path) -> dict[str, float]:
    """Fit one token."""
    from sklearn.linear_model import Ridge

    X, new = np.load(folder / "x.npy"), np.load(folder / "x_test.npy")

    def work() -> None:
        Y = np.array(np.load(folder / "y.npy", mmap_mode="r")[:, :WIDTH])
        model = Ridge(alpha=60_000, max_iter=10_000, fit_intercept=True).fit(X, Y)
        np.save(folder / "peer.npy", model.predict(new))
        np.save(folder / "peer-coef.npy", model.coef_)

    cost = busy(work)
    cost["all_targets_cpu_seconds"] = FITS * cost["cpu_seconds"]
    return cost | {"all_targets_seconds": FITS * cost["seconds"]}


def ours(folder: Path, how: str) -> dict[str, float]:
    """Fit three times the targets of the file."""
    from brainkit.decoding import MassiveRidge

    X, new = np.load(folder / "x.npy"), np.load(folder / "x_test.npy")
    clock: list[tuple[int, float, float]] = []
    targets = {name: Clocked(folder / "y.npy", clock) for name in ALPHAS}
    settings: dict[str, Any] = {} if how != "predict" else {"n_held_out": 0, "spread": None}
    model = MassiveRidge(ALPHAS, standardise=False, **settings)
    where = folder / "fit"
    shutil.rmtree(where, ignore_errors=True)

    def work() -> None:
        if how == "save":
            model.fit(X, targets, folder=where)
        else:
            model.fit_predict(X, targets, new, out=folder / f"{how}.npy")

    cost = busy(work)
    # A block's first batch forms the maps of its penalty; the last of all has no batch after it.
    n_blocks = len(clock) // len(ALPHAS)
    steps = [
        np.subtract(after[1:], before[1:]) / before[0]
        for place, (before, after) in enumerate(itertools.pairwise(clock))
        if place % n_blocks not in (0, n_blocks - 1)
    ]
    a_target, cpu_a_target = np.median(steps, axis=0)
    n_targets = sum(count for count, *_ in clock)
    shared = cost["seconds"] - a_target * n_targets
    more = EVERY - n_targets
    shutil.rmtree(where, ignore_errors=True)
    if how == "predict":
        part = slice(*model.blocks_["image tokens"])
        predicted = np.load(folder / "predict.npy", mmap_mode="r")[:, part][:, :WIDTH]
        theirs = np.load(folder / "peer.npy")
        cost["largest_difference"] = float(np.abs(predicted - theirs).max() / theirs.std())
    return cost | {
        "targets": n_targets,
        "batch_size": model.batch_size_,
        "shared_seconds": shared,
        "milliseconds_a_target": 1e3 * a_target,
        "cpu_milliseconds_a_target": 1e3 * cpu_a_target,
        "all_targets_seconds": cost["seconds"] + more * a_target,
        "all_targets_cpu_seconds": cost["cpu_seconds"] + more * cpu_a_target,
    }


def main() -> None:
    """Prepare the files and compare, or run one way in this process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=8859)
    parser.add_argument("--units", type=int, default=15_724)
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--how", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.how:
        run = peer(given.folder) if given.how == "peer" else ours(given.folder, given.how)
        print(json.dumps(run))
        return
    prepare(given.folder, given.samples, given.units)
    base = [sys.executable, __file__, str(given.folder)]
    commands = {how: [*base, "--how", how] for how in WAYS}
    report = compare(commands, repeats=given.repeats, threads=given.threads)
    for runs in report.values():
        if isinstance(runs, dict):
            runs["ratios"] = {
                f"{how}: {kind}": runs["peer"][kind] / runs[how][kind]
                for how in WAYS
                if how != "peer"
                for kind in ("all_targets_seconds", "all_targets_cpu_seconds")
            }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
