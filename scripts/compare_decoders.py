"""Retrieve, draw and say what four simulated people saw, by every recipe, on the same test images.

    python scripts/compare_decoders.py --out FOLDER [--seeds 101 102 103] [--cells NAME ...]
    python scripts/compare_decoders.py --out FOLDER --brain 2 --table docs/decoders_2.md

For each seed a simulated NSD of four people of unequal voxel counts is written into FOLDER and
kept; `subj04` is tested on the split 'nsd-515'. Every cell of the comparison (a recipe, with or
without the other three people, with all of the tested person's trials or with 200) is a run folder,
as ``brainkit reconstruct`` writes it, and what is there is not done again, so that the script may
be stopped. At the end ``results.json`` and the table are written, from the cells that are there.
Everything here is simulated.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from people_comparison.table import BEGIN, END, pooled

from brainkit.arrays.atomic import write_json, write_text
from brainkit.evaluation.intervals import Estimate, Interval, mean_estimate
from brainkit.jobs.runner import run_job
from brainkit.world import SceneWorld, write_nsd

TESTED, OTHERS, FEW = "subj04", "subj01,subj02,subj03", 200
SEEDS = (101, 102, 103)
NAMES = {
    "retrieval_image_from_brain_top1": "image from brain",
    "retrieval_brain_from_image_top1": "brain from image",
    "identification_image_given_reconstruction": "pixels, two-way",
    "identification_image_given_reconstruction_top1[judge-a]": "judge A",
    "identification_image_given_reconstruction_top1[judge-b]": "judge B",
    "caption_names_category": "names category",
}
NULLS = ("shuffled_brain", "mean_embedding", "class_mean", "nearest_training_image",
         "caption_prior", "no_brain")  # fmt: skip
WITH_OTHERS = (f"subjects.train={OTHERS}", "alignment={kind: own-units}")


@dataclass(frozen=True)
class Cell:
    """A recipe and what is changed in it.

    Attributes
    ----------
    recipe : str
    changes : tuple of str
    few : bool
        Whether the tested person has 200 trials.
    drawn : bool
        Whether images are drawn; elsewhere embeddings are retrieved by and said in words.
    rival : str or None
        The cell that it is compared with, item by item.
    """

    recipe: str
    changes: tuple[str, ...] = ()
    few: bool = False
    drawn: bool = False
    rival: str | None = None

    @property
    def settings(self) -> list[str]:
        """What is given with ``--set``."""
        few = (f"subjects.trials={FEW}", "protocol.zscore=recording") if self.few else ()
        words = () if self.drawn else ("generator=null",)
        return ["protocol.split=nsd-515", *words, *few, *self.changes]


ADAPTER = "model.settings.new_person=adapter"
CELLS = {
    "ridge": Cell("brain_diffuser", drawn=True),
    "mindeye2": Cell("mindeye2", rival="ridge"),
    "mindeye2 four people": Cell("mindeye2", WITH_OTHERS, drawn=True, rival="ridge"),
    "mindeye1": Cell("mindeye1", rival="ridge"),
    "mindbridge four people": Cell("mindbridge", WITH_OTHERS, rival="ridge"),
    "brain_it four people": Cell("brain_it", WITH_OTHERS, rival="ridge"),
    "ridge 200": Cell("brain_diffuser", few=True),
    "mindeye2 200": Cell("mindeye2", few=True, rival="ridge 200"),
    "mindeye2 three people and 200": Cell(
        "mindeye2", (*WITH_OTHERS, ADAPTER), few=True, rival="ridge 200"
    ),
    "procrustes three people and 200": Cell(
        "brain_diffuser",
        (f"subjects.train={OTHERS}", "alignment={kind: procrustes}"),
        few=True,
        rival="ridge 200",
    ),
}


def world(out: Path, brain: int, seed: int, images: int, shared: int) -> Path:
    """Write a simulated experiment where it is not there, and return its folder."""
    folder = out / f"nsd-{brain}-{seed}-{images}-{shared}"
    write_nsd(
        folder, SceneWorld(seed), (1, 2, 3, 4), images_per_subject=images, shared=shared,
        trials_per_session=750, brain_version=brain,
    )  # fmt: skip
    return folder


def run(cell: Cell, folder: Path, out: Path, n_images: int) -> None:
    """Run a cell."""
    run_job(
        "reconstruct", "nsd", out=out, overwrite=True, root=folder, subject=TESTED,
        recipe_name=cell.recipe, changes=[*cell.settings, f"protocol.n_images={n_images}"],
    )  # fmt: skip


@dataclass(frozen=True)
class Scores:
    """Scores of the test images of one cell, by metric and kind, over seeds.

    Attributes
    ----------
    tables : sequence of DataFrame
        A seed's items, indexed by stimulus.
    """

    tables: Sequence[pd.DataFrame]

    @classmethod
    def read(cls, folders: Sequence[Path]) -> "Scores":
        """Read run folders."""
        tables = []
        for folder in folders:
            parts = [
                pd.read_parquet(next(iter(sorted(folder.rglob(f"{name}.parquet")))))
                for name in ("items", "retrieval_items")
            ]
            tables.append(pd.concat([part.set_index("stimulus") for part in parts], axis=1))
        return cls(tables)

    def has(self, column: str) -> bool:
        """Tell whether every seed has a column."""
        return all(column in table for table in self.tables)

    def estimate(self, column: str, other: "Scores | None" = None, name: str = "") -> Estimate:
        """Return the mean over seeds, less that of another cell (or null) on the same items."""
        estimates = []
        for place, table in enumerate(self.tables):
            values = table[column]
            if other is not None:
                values = values - other.tables[place][name or column]
            values = values.dropna()
            estimates.append(mean_estimate(values.to_numpy(dtype=np.float64)))
        return pooled(estimates)


def said(interval: Interval, *, signed: bool = False) -> str:
    """Write a value with its interval, bold where the difference is above 0."""
    form = "+.3f" if signed else ".3f"
    text = f"{interval.value:{form}} [{interval.low:{form}}, {interval.high:{form}}]"
    return f"**{text}**" if signed and interval.low > 0 else text


def table_lines(held: Mapping[str, Scores]) -> list[str]:
    """Return the tables: scores with paired differences, and the nulls."""
    lines = ["| cell | " + " | ".join(NAMES.values()) + " |", "| --- " * (len(NAMES) + 1) + "|"]
    for name, scores in held.items():
        row = []
        for metric in NAMES:
            if not scores.has(metric):
                row.append("")
                continue
            text = said(scores.estimate(metric).interval())
            rival = held.get(CELLS[name].rival or "")
            if rival is not None and rival.has(metric):
                gain = scores.estimate(metric, rival).interval()
                text += f" ({said(gain, signed=True)})"
            row.append(text)
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    lines += [
        "",
        "Paired differences from each null (drawings by judge A, captions by category):",
        "",
    ]
    lines += ["| cell | score | " + " | ".join(NULLS) + " |", "| --- " * (len(NULLS) + 2) + "|"]
    for name, scores in held.items():
        for metric in list(NAMES)[3:]:
            if not scores.has(metric):
                continue
            row = []
            for null in NULLS:
                column = f"{metric}/{null}"
                if not scores.has(column):
                    row.append("")
                    continue
                gain = scores.estimate(metric, scores, column).interval()
                row.append(said(gain, signed=True))
            lines.append(f"| {name} | {NAMES[metric]} | " + " | ".join(row) + " |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, and write results and table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--brain", type=int, default=1, help="version of the simulated brain")
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), default=list(CELLS))
    parser.add_argument("--images", type=int, default=3000, help="of each person")
    parser.add_argument("--shared", type=int, default=900, help="of these, seen by all")
    parser.add_argument("--drawn", type=int, default=50, help="test images that are drawn")
    parser.add_argument("--table", type=Path, help="where the table goes; FOLDER/table.md if not")
    chosen = parser.parse_args(arguments)
    places: dict[tuple[int, str], Path] = {}
    for seed in chosen.seeds:
        of_seed = chosen.out / f"brain{chosen.brain}-{seed}"
        places |= {(seed, name): of_seed / name.replace(" ", "-") for name in chosen.cells}
        missing = [n for n in chosen.cells if not (places[seed, n] / "metrics.json").exists()]
        if missing:
            folder = world(chosen.out, chosen.brain, seed, chosen.images, chosen.shared)
        for name in missing:
            place = places[seed, name]
            run(CELLS[name], folder, place, chosen.drawn)
            print(seed, name, first_scores(place), flush=True)
    held = {
        name: Scores.read([places[seed, name] for seed in chosen.seeds]) for name in chosen.cells
    }
    write_json(chosen.out / f"results-brain{chosen.brain}.json", as_json(held))
    lines = [f"Made by `{command(chosen)}`.", "", *table_lines(held)]
    write_page(chosen.table or chosen.out / "table.md", lines)


def first_scores(place: Path) -> dict[str, float]:
    """Return the values of a run, to be printed."""
    metrics = json.loads((place / "metrics.json").read_text())
    metrics = metrics.get(TESTED, metrics)
    metrics = metrics.get("metrics", metrics)
    return {
        short: round(metrics[name]["value"], 3) for name, short in NAMES.items() if name in metrics
    }


def as_json(held: Mapping[str, Scores]) -> dict[str, Any]:
    """Return all values with their intervals."""
    rows = []
    for name, scores in held.items():
        for metric in NAMES:
            if scores.has(metric):
                one = scores.estimate(metric).interval()
                rows.append({
                    "cell": name, "metric": metric, "value": one.value, "low": one.low,
                    "high": one.high, "n": one.n,
                })  # fmt: skip
    return {"simulated": True, "rows": rows}


def write_page(target: Path, lines: Sequence[str]) -> None:
    """Write the tables between their marks in a page that is there, or as a page of its own."""
    body = "\n".join([BEGIN, *lines, END])
    text = target.read_text() if target.exists() else ""
    if BEGIN in text and END in text:
        body = text[: text.index(BEGIN)] + body + text[text.index(END) + len(END) :]
    write_text(target, body if body.endswith("\n") else body + "\n")


def command(chosen: argparse.Namespace) -> str:
    """Return the command that makes the table."""
    seeds = " ".join(map(str, chosen.seeds))
    size = f"--images {chosen.images} --shared {chosen.shared} --drawn {chosen.drawn}"
    some = chosen.cells != list(CELLS)
    cells = " --cells " + " ".join(f'"{name}"' for name in chosen.cells) if some else ""
    return (
        f"python scripts/compare_decoders.py --out FOLDER --seeds {seeds} --brain {chosen.brain} "
        f"{size}{cells}"
    )


if __name__ == "__main__":
    main()
