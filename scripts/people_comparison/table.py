"""The comparison as JSON and as a page of Markdown: scores, paired differences, and claims."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from brainkit.arrays.atomic import write_text
from brainkit.evaluation.intervals import Estimate, Interval
from people_comparison.cells import OWN, RIGHT, SCORES, SHUFFLED, Cell, estimate

TITLES = {
    "identification_image_given_reconstruction": "decoding, identification of the image",
    "identification_reconstruction_given_image": "decoding, identification of the reconstruction",
    "identification_components": "decoding, identification by components",
    "pixel_correlation": "decoding, pixel correlation",
    "encoding_r": "encoding, r",
}
CHANCE = {name: 0.5 if name.startswith("identification") else 0.0 for name in TITLES}
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def pooled(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean over worlds, whose test images are other units in each.

    The mean of K worlds has the influences of all, divided by K: its variance is that over test
    images within these worlds, which stand for themselves.
    """
    k = len(estimates)
    return Estimate(
        float(np.mean([one.value for one in estimates])),
        np.concatenate([one.influence for one in estimates]) / k,
        sum(one.n for one in estimates),
        sum(one.freedom for one in estimates),
    )


def share(part: Estimate, whole: Estimate, chance: float = 0.0) -> Estimate:
    """Return (part - chance) / (whole - chance) of the same units, by the delta method."""
    ratio = (part.value - chance) / (whole.value - chance)
    influence = (part.influence - ratio * whole.influence) / (whole.value - chance)
    return replace(part, value=ratio, influence=influence)


@dataclass(frozen=True)
class Results:
    """The cells that are there, by seed and cell.

    Attributes
    ----------
    held : dict of (int, Cell) to dict
        As `people_comparison.cells.run_cell` returns them.
    seeds : tuple of int
    """

    held: Mapping[tuple[int, Cell], dict[str, Any]]
    seeds: tuple[int, ...]

    @classmethod
    def read(cls, paths: Mapping[tuple[int, Cell], Path], seeds: Sequence[int]) -> "Results":
        """Read the files that are there."""
        there = {key: path for key, path in paths.items() if path.exists()}
        return cls({key: json.loads(path.read_text()) for key, path in there.items()}, tuple(seeds))

    def cells(self) -> list[Cell]:
        """Return the cells that all seeds have."""
        every = dict.fromkeys(cell for _, cell in self.held)
        return [cell for cell in every if all((seed, cell) in self.held for seed in self.seeds)]

    def of_seeds(self, cell: Cell, score: str) -> list[Estimate]:
        """Return a score in every world."""
        return [estimate(self.held[seed, cell]["scores"][score]) for seed in self.seeds]

    def score(self, cell: Cell, score: str) -> Estimate:
        """Return a score, pooled over worlds."""
        return pooled(self.of_seeds(cell, score))

    def gain(self, cell: Cell, score: str) -> Interval | None:
        """Return the paired difference from the own model on the same trials, with its interval."""
        own = replace(cell, aligner=OWN, pairing=RIGHT)
        if not {cell, own} <= {*self.cells()}:
            return None
        pairs = zip(self.of_seeds(cell, score), self.of_seeds(own, score), strict=True)
        return pooled([one - other for one, other in pairs]).interval()

    def as_json(self) -> dict[str, Any]:
        """Return scores and differences of all cells."""
        rows = []
        for cell in self.cells():
            for score in SCORES[cell.job]:
                by_seed = [one.value for one in self.of_seeds(cell, score)]
                gain = None if cell.aligner == OWN else self.gain(cell, score)
                rows.append({
                    "job": cell.job, "aligner": cell.aligner, "trials": cell.trials or "all",
                    "pairing": cell.pairing, "score": score, "value": float(np.mean(by_seed)),
                    "by_seed": by_seed,
                    "gain": gain and {"value": gain.value, "low": gain.low, "high": gain.high},
                })  # fmt: skip
        return {"simulated": True, "seeds": list(self.seeds), "sizes": self.sizes(), "rows": rows}

    def sizes(self) -> dict[str, Any]:
        """Return units, test images and all trials by seed."""
        names = ("units", "test_images", "all_trials")
        return {
            str(seed): {name: one[name] for name in names} for (seed, _), one in self.held.items()
        }


def write_table(target: Path, results: Results, command: str) -> None:
    """Write the table between its marks in a page that is there, or as a page of its own."""
    lines = [
        f"Made by `{command}`.",
        "",
        *_sizes(results),
        "",
        *_table(results),
        "",
        *claims(results),
    ]
    text = "\n".join([BEGIN, *lines, END])
    page = target.read_text() if target.exists() else ""
    if BEGIN in page:
        before, _, rest = page.partition(BEGIN)
        write_text(target, before + text + rest.partition(END)[2])
    else:
        write_text(target, text + "\n")


def _sizes(results: Results) -> list[str]:
    lines = []
    for seed, one in results.sizes().items():
        units = ", ".join(f"{name} {n:,}" for name, n in one["units"].items())
        lines.append(
            f"- seed {seed}: voxels {units}; {one['test_images']} test images; *all* are "
            f"{one['all_trials']:,} trials."
        )
    return lines


def _table(results: Results) -> list[str]:
    cells = results.cells()
    sizes = sorted({c.trials for c in cells}, key=lambda n: (n is None, n))
    columns = [(n, RIGHT) for n in sizes]
    columns += sorted({(c.trials, c.pairing) for c in cells if c.pairing == SHUFFLED})
    heads = [f"{n or 'all'} trials" + (", shuffled" if p == SHUFFLED else "") for n, p in columns]
    lines = [_row(["score", "model", *heads]), _row(["---"] * (len(columns) + 2))]
    names = list(dict.fromkeys(cell.aligner for cell in cells))
    for job, scores in SCORES.items():
        for score in scores:
            for name in names:
                row = [Cell(job, name, n, pairing) for n, pairing in columns]
                if any(cell in cells for cell in row):
                    texts = [_cell(results, cell, score) for cell in row]
                    lines.append(_row([TITLES[score], name, *texts]))
    return lines


def _cell(results: Results, cell: Cell, score: str) -> str:
    if cell not in results.cells():
        return ""
    value = f"{results.score(cell, score).value:.3f}"
    gain = None if cell.aligner == OWN else results.gain(cell, score)
    if gain is None:
        return value
    told = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
    return f"{value} (**{told}**)" if gain.low > 0 else f"{value} ({told})"


def claims(results: Results, control: int = 200, few: int = 750) -> list[str]:
    """Return what the table says of the aligners that beat the own model, and of few trials."""
    lines = []
    for job, scores in SCORES.items():
        for score in scores:
            told = []
            for pairing in (RIGHT, SHUFFLED):
                names = better(results, job, score, control, pairing)
                told.append(f"{len(names)} ({'; '.join(names) or 'none'})")
            lines.append(
                f"- {TITLES[score]}, {control} trials: better than the own model, interval above "
                f"0: {told[0]}; with the pairing shuffled: {told[1]}."
            )
    return lines + _few_trials(results, few)


def better(results: Results, job: str, score: str, trials: int, pairing: str) -> list[str]:
    """Return the aligners whose gain over the own model has its interval above 0."""
    names = []
    for cell in results.cells():
        if (cell.job, cell.trials, cell.pairing) == (job, trials, pairing) and cell.aligner != OWN:
            gain = results.gain(cell, score)
            if gain is not None and gain.low > 0:
                names.append(cell.aligner)
    return names


def _few_trials(results: Results, trials: int) -> list[str]:
    """Say which share of the full own decoder's identification few trials reach."""
    full, own = Cell("decode", OWN, None), Cell("decode", OWN, trials)
    cells = results.cells()
    aligned = [
        c for c in cells
        if (c.job, c.trials, c.pairing) == ("decode", trials, RIGHT) and c.aligner != OWN
    ]  # fmt: skip
    if full not in cells or own not in cells or not aligned:
        return []
    lines = []
    for score in SCORES["decode"][:3]:
        whole = results.score(full, score)
        best = max(aligned, key=lambda cell: results.score(cell, score).value)
        for label, cell in ((best.aligner, best), ("own model", own)):
            part = results.score(cell, score)
            shares = [share(part, whole, chance).interval() for chance in (0.0, CHANCE[score])]
            told = [
                f"{100 * s.value:.0f} % [{100 * s.low:.0f}, {100 * s.high:.0f}]" for s in shares
            ]
            lines.append(
                f"- {TITLES[score]}, {trials} trials, {label}: {told[0]} of the own decoder of all "
                f"trials ({part.value:.3f} of {whole.value:.3f}); beyond chance {told[1]}."
            )
    return lines


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
