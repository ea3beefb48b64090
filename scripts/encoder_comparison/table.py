"""The comparison as a page of Markdown: means, paired differences, localisation, pRF centres."""

import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brainkit.arrays.atomic import write_text
from brainkit.evaluation import compare_encoders, pearson_r
from brainkit.world.versions import VERSIONS
from encoder_comparison.encoders import LIKE_ROUTING
from encoder_comparison.world import LAYER, N_TEST, load_subject, world_name

Job = tuple[int, str, str, int]
COLUMNS = ("V1", "V2", "V3", "hV4", "faces", "bodies", "places", "words", "food", "category")
STATIC = (
    "ridge, oriented energy", "ridge, tokens", "ridge, embedding", "banded ridge",
    "feature-weighted RF", "feature-weighted RF, early", "linear readout", "Gaussian readout",
    "Gaussian readout, early", "factorized readout", "semantic readout",
)  # fmt: skip


def _words(numbers: Iterable[int]) -> str:
    return " ".join(map(str, numbers))


class Fits:
    """All fits that are there."""

    def __init__(self, folder: Path, places: Mapping[Job, Path]) -> None:
        self.folder, self.places = folder, dict(places)

    def seeds(self) -> list[int]:
        """Return the worlds' seeds."""
        return sorted({seed for seed, *_ in self.places})

    def brains(self) -> list[int]:
        """Return the versions of the simulated brain that were fitted."""
        worlds = {world for _, world, *_ in self.places}
        return [brain for brain in VERSIONS if world_name(brain) in worlds]

    def sizes(self) -> list[int]:
        """Return the numbers of training images, ascending."""
        return sorted({n for *_, n in self.places})

    def load(self, job: Job) -> Any:
        """Return the arrays of a fit: predicted, r, extra."""
        return np.load(self.places[job])

    def extra(self, job: Job) -> dict[str, Any]:
        """Return what is known of a fit beside its predictions."""
        found: dict[str, Any] = json.loads(str(self.load(job)["extra"]))
        return found

    def means(self, world: str, name: str, n: int) -> dict[str, float]:
        """Return the mean r of each group, over voxels and then seeds."""
        rows = []
        for seed in self.seeds():
            job = (seed, world, name, n)
            if job in self.places:
                masks = load_subject(self.folder, seed, world).masks()
                score = self.load(job)["r"]
                rows.append({k: score[m].mean() for k, m in masks.items()})
        return {k: float(np.mean([row[k] for row in rows])) for k in rows[0]} if rows else {}

    def differences(self, world: str, first: str, second: str, n: int, group: str) -> list[str]:
        """Return the paired difference of r with its interval, for each seed."""
        found = []
        for seed in self.seeds():
            pair = [(seed, world, name, n) for name in (first, second)]
            if not all(job in self.places for job in pair):
                continue
            subject = load_subject(self.folder, seed, world)
            one, other = (self.load(job)["predicted"] for job in pair)
            result = compare_encoders(
                pearson_r, subject.test, one, other, regions={group: subject.masks()[group]}
            )
            interval = result.by_region[group].interval
            found.append(f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]")
        return found


def write_table(target: Path, folder: Path, places: Mapping[Job, Path]) -> None:
    """Write the page."""
    fits = Fits(folder, places)
    names = list(dict.fromkeys(name for _, _, name, _ in places))
    lines = [
        "# Encoders on the simulated world",
        "",
        f"Simulated subjects (subject 1 of the worlds of seeds {fits.seeds()}; the versions of the "
        f"brain are those of docs/world.md), {N_TEST} test images, means of three trials. Numbers "
        "are the mean over voxels of Pearson's r with the measured responses, then over seeds. A "
        "simulation shows that a mechanism is found where it is; it does not show that it is in a "
        "brain.",
        "",
        f"Readouts and routing read the tokens of {LAYER} of the tiny CLIP (early: blocks.0). "
        "*Routing* is the mean of three trainings that read the class token beside the patches; "
        "*one training* is one of them, *patches* one without the class token; its *static twin* "
        "is the same network whose queries look at the same places in every image. Rows *as "
        "routing* and *class and patches* are its rivals on the same tokens, the mean of as many "
        "trainings where they are trained. Banded ridge weighs 500 principal "
        "components each of oriented energy and two layers, beside the embedding.",
        "",
        f"Made by `python scripts/compare_encoders.py FOLDER --seeds {_words(fits.seeds())} "
        f"--sizes {_words(fits.sizes())}` and, with the same, `--table docs/encoders.md`.",
    ]
    for brain in fits.brains():
        for n in fits.sizes():
            lines += ["", f"## Simulated brain {brain}, {n} training images", ""]
            lines += [_row(("encoder", *COLUMNS, "CPU s")), _row(["---"] * (len(COLUMNS) + 2))]
            world = world_name(brain)
            table = {name: fits.means(world, name, n) for name in names}
            table = {name: row for name, row in table.items() if row}
            best = {c: max(row.get(c, -1.0) for row in table.values()) for c in COLUMNS}
            for name, row in table.items():
                cells = [_cell(row.get(c), best[c]) for c in COLUMNS]
                lines.append(_row((name, *cells, _seconds(fits, world, name, n))))
    lines += _claims(fits)
    lines += _localisation(fits)
    lines += _fields(fits)
    write_text(target, "\n".join(lines) + "\n")


def _row(cells: Any) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _cell(value: float | None, best: float) -> str:
    if value is None:
        return ""
    return f"**{value:.3f}**" if value == best else f"{value:.3f}"


def _seconds(fits: Fits, world: str, name: str, n: int) -> str:
    spent = [fits.extra(job)["cpu_seconds"] for job in fits.places if job[1:] == (world, name, n)]
    return f"{np.median(spent):.0f}" if spent else ""


def _claims(fits: Fits) -> list[str]:
    """Routing against the others, in-context against ridge, and both in the counter-worlds."""
    largest, smallest = fits.sizes()[-1], fits.sizes()[0]
    lines = ["", "## Paired differences", "", "By seed, over test images, 95 % intervals.", ""]
    lines += [_row(("first less second", "world", "images", "regions", "difference by seed"))]
    lines += [_row(["---"] * 5)]
    networks = sorted({name for _, _, name, _ in fits.places if name.startswith("in-context")})
    for brain in fits.brains():
        world, ungated, apart = (world_name(brain, c) for c in ("none", "gate", "tuning"))
        for where in (world, ungated):
            for name in (*STATIC, *LIKE_ROUTING):
                lines += _claim(fits, where, "routing", name, largest, "category")
            lines += _claim(
                fits, where, "routing, patches", "routing, static twin", largest, "category"
            )
        for name in ("banded ridge", "ridge, oriented energy", "feature-weighted RF, early"):
            lines += _claim(fits, world, name, "routing", largest, "V1-V3")
        for where in (world, apart):
            for name in networks:
                lines += _claim(fits, where, name, "ridge, embedding", smallest, "category")
    return lines


def _claim(fits: Fits, world: str, first: str, second: str, n: int, group: str) -> list[str]:
    found = fits.differences(world, first, second, n, group)
    text = "; ".join(found)
    return [_row((f"{first} − {second}", world, n, group, text))] if found else []


def _localisation(fits: Fits) -> list[str]:
    lines = ["", "## Where routing looks", ""]
    lines += [
        "Share of a region's attention that falls on the object of its category, in test images "
        "with one such object among others; chance is the attention to another such image on the "
        "same places.",
        "",
        _row(
            ("brain", "seed", "region", "images", "on the object", "chance", "area", "difference")
        ),
        _row(["---"] * 8),
    ]
    for brain, seed in itertools.product(fits.brains(), fits.seeds()):
        job = (seed, world_name(brain), "routing", fits.sizes()[-1])
        if job not in fits.places:
            continue
        for group, row in fits.extra(job)["localisation"].items():
            low, high = row["ci"]
            shares = [f"{row[k]:.2f}" for k in ("attention_on_object", "chance", "area")]
            gap = f"{row['difference']:+.2f} [{low:+.2f}, {high:+.2f}]"
            lines.append(_row((brain, seed, group, row["images"], *shares, gap)))
    return lines


def _fields(fits: Fits) -> list[str]:
    lines = ["", "## pRF centres", "", "Median distance from the truth in degrees of 8.4.", ""]
    lines += [_row(("brain", "encoder", "seed", "images", "V1", "V2", "V3", "hV4"))]
    lines += [_row(["---"] * 8)]
    for brain in fits.brains():
        for job in sorted(fits.places, key=lambda job: (job[2], job[0], job[3])):
            error = fits.extra(job).get("prf_error")
            if job[1] == world_name(brain) and error and job[3] == fits.sizes()[-1]:
                cells = [f"{error[k]:.2f}" if k in error else "" for k in ("V1", "V2", "V3", "hV4")]
                lines.append(_row((brain, job[2], job[0], job[3], *cells)))
    return lines
