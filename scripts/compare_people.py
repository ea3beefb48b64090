"""Encode and decode a held-out person with few trials, with and without others, by aligner.

    python scripts/compare_people.py --out FOLDER [--seeds 101 102 103] [--trials 50 200 750 all]
    python scripts/compare_people.py --out FOLDER --brain 2 --table docs/people_2.md

For each seed a simulated NSD of four people of unequal voxel counts is written into FOLDER and
kept; `subj04` is tested on the split 'nsd-515', the other three train. Every cell of the comparison
(job, aligner, number of trials, pairing of stimuli) is a file of FOLDER, and what is there is not
done again, so that the script may be stopped. At the end ``results.json`` and the table are
written, from the cells that are there. Everything here is simulated.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from people_comparison.cells import ALIGNERS, Cell, cells, run_cell
from people_comparison.people import Study, load_people
from people_comparison.table import Results, write_table

from brainkit.arrays.atomic import write_json

SEEDS, TRIALS, CONTROL = (101, 102, 103), ("50", "200", "750", "all"), 200


def place(out: Path, brain: int, seed: int, cell: Cell) -> Path:
    """Return the file of one cell."""
    return out / "cells" / f"brain{brain}-{seed}" / f"{cell.name}.json"


def run_seed(out: Path, brain: int, seed: int, study: Study, wanted: Sequence[Cell]) -> None:
    """Run the cells of one world that are not there yet."""
    missing = [cell for cell in wanted if not place(out, brain, seed, cell).exists()]
    if not missing:
        return
    people = load_people(out, seed, brain, study)
    for cell in missing:
        found = {"seed": seed, "brain": brain, **run_cell(cell, people), **people.facts()}
        write_json(place(out, brain, seed, cell), found)
        scores = {name: round(one["value"], 3) for name, one in found["scores"].items()}
        print(f"{seed} {cell.name}: {scores}, {found['cpu_seconds']:.0f} s", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, and write results and table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--brain", type=int, default=1, help="version of the simulated brain")
    parser.add_argument("--trials", nargs="+", default=list(TRIALS), help="numbers, or all")
    parser.add_argument(
        "--aligners", nargs="+", choices=list(ALIGNERS), default=list(ALIGNERS), metavar="NAME",
        help=", ".join(ALIGNERS),
    )  # fmt: skip
    parser.add_argument("--images", type=int, default=Study.images, help="of each person")
    parser.add_argument("--shared", type=int, default=Study.shared, help="of these, seen by all")
    parser.add_argument("--session", type=int, default=Study.session, help="trials of a session")
    parser.add_argument("--table", type=Path, help="where the table goes; FOLDER/table.md if not")
    chosen = parser.parse_args(arguments)
    study = Study(chosen.images, chosen.shared, chosen.session)
    sizes = [None if n == "all" else int(n) for n in chosen.trials]
    wanted = cells(sizes, chosen.aligners, CONTROL)
    for seed in chosen.seeds:
        run_seed(chosen.out, chosen.brain, seed, study, wanted)
    paths = {
        (seed, cell): place(chosen.out, chosen.brain, seed, cell)
        for seed in chosen.seeds
        for cell in wanted
    }
    results = Results.read(paths, chosen.seeds)
    write_json(chosen.out / f"results-brain{chosen.brain}.json", results.as_json())
    write_table(chosen.table or chosen.out / "table.md", results, command(chosen))


def command(chosen: argparse.Namespace) -> str:
    """Return the command that makes the table."""
    seeds = " ".join(map(str, chosen.seeds))
    size = f" --images {chosen.images} --shared {chosen.shared}"
    return (
        f"python scripts/compare_people.py --out FOLDER --seeds {seeds} --brain {chosen.brain} "
        f"--trials {' '.join(chosen.trials)}{size} --session {chosen.session}"
    )


if __name__ == "__main__":
    main()
