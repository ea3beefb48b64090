"""Compare all encoders on simulated subjects: by region, by number of training images, by world.

    python scripts/compare_encoders.py FOLDER [--seeds 31 32 33] [--sizes 100 400 1600 4800]
    python scripts/compare_encoders.py FOLDER --brain 2 --counter gate tuning
    python scripts/compare_encoders.py FOLDER --table docs/encoders.md

Every version of the simulated brain takes part, or those that ``--brain`` names, each with its
counter-worlds, or those that ``--counter`` names (none is the world itself): the gate off at the
largest size, shared tuning off at the smallest. Routing is compared with rivals that read the same
tokens and are trained as often (rows *as routing* and *class and patches*). ``--network "brain
2=FOLDER"`` adds an in-context network that ``train_in_context.py --brain 2 --out ...`` made, so
that simulator and person differ. What was done before is kept in FOLDER and not done again, so that
the script may be stopped. Everything here is simulated.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from encoder_comparison.encoders import ENCODERS, add_network, applies
from encoder_comparison.localisation import localisation
from encoder_comparison.table import write_table
from encoder_comparison.world import (
    COUNTERS,
    N_TEST,
    Subject,
    file_name,
    load_subject,
    world_name,
)

from brainkit.arrays.atomic import atomic_path
from brainkit.evaluation import pearson_r
from brainkit.world.versions import VERSIONS

SEEDS, SIZES = (31, 32, 33), (100, 400, 1600, 4800)
COUNTER = {
    "gate": (
        "ridge, oriented energy", "ridge, embedding", "ridge, class and pooled patches",
        "factorized readout, as routing", "semantic readout, as routing", "routing, patches",
        "routing, static twin", "routing, static twin, as routing", "routing",
    ),
    "tuning": ("ridge, embedding", "in-context", "in-context, published form"),
}  # fmt: skip


def jobs(
    seeds: list[int], sizes: list[int], brains: Sequence[int] = tuple(VERSIONS)
) -> list[tuple[int, str, str, int]]:
    """Return (seed, world, encoder, number of images) of all fits, counter-worlds last."""
    found = [
        (seed, world_name(brain), name, n)
        for brain in brains
        for seed in seeds
        for n in sizes
        for name in ENCODERS
        if applies(name, n)
    ]
    for counter, names in COUNTER.items():
        for brain in brains:
            for seed in seeds:
                for name in names:
                    wanted = sizes[:1] if counter == "tuning" else sizes[-1:]
                    world = world_name(brain, counter)
                    found += [(seed, world, name, n) for n in wanted if applies(name, n)]
    return found


def place(folder: Path, job: tuple[int, str, str, int]) -> Path:
    """Return the file of one fit."""
    seed, world, name, n = job
    return folder / "fits" / f"{file_name(world)}-{seed}-{file_name(name)}-{n}.npz"


def fit(folder: Path, job: tuple[int, str, str, int]) -> None:
    """Fit one encoder, and keep its predictions and scores."""
    seed, world, name, n = job
    subject = load_subject(folder, seed, world)
    begun = time.process_time()
    predicted, model = ENCODERS[name](subject, n)
    seconds = time.process_time() - begun
    score = np.asarray(pearson_r(subject.test, predicted))
    score = np.where(np.isfinite(score), score, 0.0)  # a constant prediction tells nothing
    extra: dict[str, Any] = {"cpu_seconds": seconds}
    if name.startswith("routing"):
        extra["localisation"] = localisation(subject, model)
    if hasattr(model, "prf_x_"):
        extra["prf_error"] = prf_error(subject, model)
    target = place(folder, job)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as path, path.open("wb") as file:
        np.savez(file, predicted=predicted.astype(np.float32), r=score, extra=json.dumps(extra))
    groups = {k: round(float(score[m].mean()), 3) for k, m in subject.masks().items()}
    print(f"{seed} {world} {name} {n}: {groups} {seconds:.0f} s", flush=True)


def prf_error(subject: Subject, model: Any, degrees: float = 8.4) -> dict[str, float]:
    """Return the median distance of pRF centres from the truth in degrees, by group.

    The pictures are taken to be `degrees` wide, NSD's width.
    """
    x, y = np.asarray(model.prf_x_), np.asarray(model.prf_y_)
    away = np.hypot(x - subject.units["prf_x"], y - subject.units["prf_y"]) * degrees
    masks = subject.masks()
    return {k: float(np.median(away[masks[k]])) for k in ("V1", "V2", "V3", "hV4") if k in masks}


def main() -> None:
    """Run what is missing, or write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--encoders", nargs="+", help=", ".join(ENCODERS))
    parser.add_argument(
        "--network", action="append", default=[], metavar="NAME=FOLDER",
        help="a further in-context network, such as one that learned from another simulated brain",
    )  # fmt: skip
    parser.add_argument(
        "--brain", type=int, nargs="+", choices=list(VERSIONS), default=list(VERSIONS),
        help="versions of the simulated brain",
    )  # fmt: skip
    parser.add_argument(
        "--counter", nargs="+", choices=list(COUNTERS), default=list(COUNTERS),
        help="counter-worlds, and none for the world itself",
    )  # fmt: skip
    parser.add_argument("--table", type=Path, help="write the table of what is there and stop")
    chosen = parser.parse_args()
    for network in chosen.network:
        name, _, folder = network.partition("=")
        if not folder:
            parser.error(f"--network is NAME=FOLDER; got {network!r}")
        COUNTER["tuning"] += (add_network(name, folder),)
    names = chosen.encoders or list(ENCODERS)
    if unknown := [name for name in names if name not in ENCODERS]:
        parser.error(f"there is no encoder {unknown[0]!r}; there are {', '.join(ENCODERS)}")
    worlds = {world_name(brain, name) for brain in chosen.brain for name in chosen.counter}
    wanted = [
        job
        for job in jobs(chosen.seeds, chosen.sizes, chosen.brain)
        if job[1] in worlds and job[2] in names
    ]
    if chosen.table:
        there = {job: place(chosen.folder, job) for job in wanted}
        write_table(chosen.table, chosen.folder, {j: p for j, p in there.items() if p.exists()})
        return
    for job in wanted:
        if not place(chosen.folder, job).exists():
            fit(chosen.folder, job)
    print(f"{len(wanted)} fits, {N_TEST} test images each, are in {chosen.folder}.")


if __name__ == "__main__":
    main()
