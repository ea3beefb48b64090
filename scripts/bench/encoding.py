"""Fit encoders: brainkit beside its peers, in separate fresh processes.

    python scripts/bench/encoding.py FOLDER [--job ridge] [--repeats 5] [--threads 1 2]

writes made-up features and responses into FOLDER, once, and times:

ridge: 5-fold ridge with 10 penalties for each voxel, 9,000 samples, 1,024 features, 15,724 voxels
    (`--small` takes a tenth of the voxels), single precision
    - product: X'Y alone, in torch;
    - himalaya: RidgeCV, torch backend, 2,000 targets and 2 penalties at a time;
    - brainkit: `VoxelwiseRidge` on NumPy arrays; brainkit-torch: `ridge_cv` on tensors.
    Targets: at least 5 times as fast as himalaya (goal 10), at most 10 times the product (goal 5),
    peak memory beyond the inputs at most a third of himalaya's, and in every voxel the same penalty
    or a cross-validated loss within 1e-5.
kernel: 5-fold linear kernel ridge, 10 penalties for each voxel, 2,000 samples, 5,000 features,
    10,000 voxels (`--small`: a tenth of them), single precision
    - himalaya: KernelRidgeCV, torch backend, 2,000 targets and 2 penalties at a time;
    - brainkit: `kernel_ridge_cv` on NumPy arrays; brainkit-torch: on tensors; voxelwise: `ridge_cv`
    Targets: at least twice as fast as himalaya; in every voxel the same penalty or a
    cross-validated loss within 1e-5.
lazy: ridge on 65,536, 32,768 and 16,384 targets in an HDF5 file, 9,000 samples, 512 features.
    Targets: peak at most 3 GiB, time linear in the targets within 10 %.

Printed: a table on standard error, all numbers as JSON on standard output.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import compare, measured

ALPHAS = np.logspace(1, 5, 10)
SHAPE = (9000, 1024, 15724)
KERNEL = (2000, 5000, 10000)
FOLDS = 5
LAZY = (9000, 512, 65536)
WAYS = {
    "ridge": ("product", "himalaya", "brainkit", "brainkit-torch"),
    "kernel": ("himalaya", "brainkit", "brainkit-torch", "voxelwise"),
    "lazy": ("quarter", "half", "whole"),
}
SHAPES = {"ridge": SHAPE, "kernel": KERNEL, "lazy": LAZY}
SHARES = {"quarter": 4, "half": 2, "whole": 1}


def prepare(folder: Path, job: str) -> None:
    """Write features with a falling spectrum, and responses of voxels from noisy to clean."""
    n_samples, n_features, n_targets = SHAPES[job]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{job}.h5"
    if path.exists():
        return
    import h5py

    rng = np.random.default_rng(0)
    spread = np.arange(1, n_features + 1) ** -0.5
    X = rng.standard_normal((n_samples, n_features), dtype=np.float32)
    X *= (spread * (n_features / (spread**2).sum()) ** 0.5).astype(np.float32)
    with h5py.File(path.with_suffix(".part"), "w") as file:
        file["X"] = X
        Y = file.create_dataset("Y", (n_samples, n_targets), "f4", chunks=(n_samples, 64))
        for start in range(0, n_targets, 1024):
            width = min(1024, n_targets - start)
            weights = rng.standard_normal((n_features, width), dtype=np.float32)
            weights *= np.geomspace(0.01, 2, width, dtype=np.float32) / n_features**0.5
            noise = rng.standard_normal((n_samples, width), dtype=np.float32)
            Y[:, start : start + width] = X @ weights + noise
    path.with_suffix(".part").rename(path)


def ridge_work(how: str, X: Any, Y: Any) -> Callable[[], tuple[Any, Any]]:
    """Return one way to fit ridge; it gives the penalties and the losses of those chosen."""
    import torch

    from brainkit.linear.folds import kfold

    folds = kfold(len(X), FOLDS)
    tensors = torch.from_numpy(X), torch.from_numpy(Y)
    if how == "product":
        return lambda: (tensors[0].T @ tensors[1], None)
    if how == "himalaya":
        from himalaya.backend import set_backend
        from himalaya.ridge import RidgeCV

        set_backend("torch")
        settings = {"n_targets_batch": 2000, "n_alphas_batch": 2, "warn": False}
        model = RidgeCV(alphas=ALPHAS, cv=folds, fit_intercept=True, solver_params=settings)

        def peer() -> tuple[Any, Any]:
            model.fit(*tensors)
            return model.best_alphas_.numpy(), None

        return peer
    from brainkit.linear.ridge_solver import ridge_cv

    def ours() -> tuple[Any, Any]:
        given = (X, Y) if how == "brainkit" else tensors
        found = ridge_cv(*given, ALPHAS, folds)
        return np.asarray(found.alpha), np.asarray(found.errors)

    return ours


def kernel_work(how: str, X: Any, Y: Any) -> Callable[[], tuple[Any, Any]]:
    """Return one way to fit kernel ridge; it gives the penalties and the losses of those chosen."""
    import torch

    from brainkit.linear.folds import kfold

    folds = kfold(len(X), FOLDS)
    tensors = torch.from_numpy(X), torch.from_numpy(Y)
    if how == "himalaya":
        from himalaya.backend import set_backend
        from himalaya.kernel_ridge import KernelRidgeCV

        set_backend("torch")
        settings = {"n_targets_batch": 2000, "n_alphas_batch": 2}
        model = KernelRidgeCV(alphas=ALPHAS, cv=folds, fit_intercept=True, solver_params=settings)

        def peer() -> tuple[Any, Any]:
            model.fit(*tensors)
            return model.best_alphas_.numpy(), None

        return peer
    from brainkit.linear.kernel_solver import kernel_ridge_cv
    from brainkit.linear.ridge_solver import ridge_cv

    def ours() -> tuple[Any, Any]:
        fit = ridge_cv if how == "voxelwise" else kernel_ridge_cv
        found = fit(*(tensors if how == "brainkit-torch" else (X, Y)), ALPHAS, folds)
        return np.asarray(found.alpha), np.asarray(found.errors)

    return ours


def time_fit(job: str, how: str, folder: Path, n_targets: int) -> None:
    """Time one way in this process, keep what it found, and print the measurements."""
    import h5py

    with h5py.File(folder / f"{job}.h5", "r") as file:
        X, Y = file["X"][:], file["Y"][:, :n_targets]
    work = ridge_work if job == "ridge" else kernel_work
    work(how, X[:200, :20], Y[:200, :20])()  # the libraries set themselves up
    (alphas, errors), found = measured(work(how, X, Y))
    if how != "product":
        np.savez(
            folder / f"{job}-found-{how}.npz",
            alpha=alphas,
            **({} if errors is None else {"errors": errors}),
        )
    print(json.dumps(found))


def agree(folder: Path, job: str) -> dict[str, float]:
    """Compare what the ways found: how many penalties differ, and by how much the losses do."""
    own = np.load(folder / f"{job}-found-brainkit.npz")
    peer = np.load(folder / f"{job}-found-himalaya.npz")["alpha"]
    place = np.abs(np.log(ALPHAS)[:, None] - np.log(peer)).argmin(axis=0)
    least = own["errors"].min(axis=0)
    theirs = np.take_along_axis(own["errors"], place[None], axis=0)[0]
    return {
        "voxels": float(len(peer)),
        "other_alpha": float((~np.isclose(own["alpha"], peer)).sum()),
        "largest_relative_loss_difference": float((theirs / least - 1).max()),
    }


def time_lazy(how: str, folder: Path) -> None:
    """Fit ridge to a part of the targets in the file, and print the measurements."""
    import h5py

    from brainkit.linear.folds import kfold
    from brainkit.linear.ridge_solver import ridge_cv

    with h5py.File(folder / "lazy.h5", "r") as file:
        X, data = file["X"][:], file["Y"]
        targets = Columns(data, data.shape[1] // SHARES[how])
        _, found = measured(lambda: ridge_cv(X, targets, ALPHAS, kfold(len(X), FOLDS)))
    print(json.dumps(found | {"targets": targets.shape[1]}))


class Columns:
    """The first columns of a dataset, read when asked for."""

    def __init__(self, data: Any, n_columns: int) -> None:
        self.data, self.shape = data, (data.shape[0], n_columns)

    def __getitem__(self, key: Any) -> Any:
        return self.data[key]


def ratios(job: str, runs: dict[str, Any]) -> dict[str, float]:
    """Return what the targets are about."""
    if job == "lazy":
        rate = {name: found["seconds"] / found["targets"] for name, found in runs.items()}
        return {
            "whole_over_quarter_seconds_a_target": rate["whole"] / rate["quarter"],
            "peak_gib": runs["whole"]["peak_mib"] / 1024,
        }
    own, peer = runs["brainkit"], runs["himalaya"]
    faster = {"himalaya_over_brainkit": peer["seconds"] / own["seconds"]}
    if job == "kernel":
        return faster
    return faster | {
        "brainkit_over_product": own["seconds"] / runs["product"]["seconds"],
        "memory_over_himalaya": own["peak_mib"] / peer["peak_mib"],
    }


def main() -> None:
    """Prepare the files and compare, or run one way in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--job", choices=tuple(WAYS), action="append")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--small", action="store_true", help="a tenth of the voxels")
    parser.add_argument("--how", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    jobs = chosen.job or list(WAYS)
    if chosen.how:
        job = jobs[0]
        if job == "lazy":
            time_lazy(chosen.how, chosen.folder)
        else:
            n_targets = SHAPES[job][2] // (10 if chosen.small else 1)
            time_fit(job, chosen.how, chosen.folder, n_targets)
        return
    reports: dict[str, Any] = {}
    for job in jobs:
        prepare(chosen.folder, job)
        base = [sys.executable, __file__, str(chosen.folder), "--job", job]
        base += ["--small"] * chosen.small
        commands = {way: [*base, "--how", way] for way in WAYS[job]}
        report = compare(commands, repeats=chosen.repeats, threads=chosen.threads)
        for title, runs in report.items():
            if isinstance(runs, dict):
                runs["ratios"] = ratios(job, runs)
                print(f"{job}, {title}: {json.dumps(runs, indent=2)}", file=sys.stderr)
        reports[job] = report
        if job != "lazy":
            reports[job] |= {"agreement": agree(chosen.folder, job)}
    print(json.dumps(reports, indent=2))


if __name__ == "__main__":
    main()
