"""The run folder: what results leave on the disk, and people who are done staying done.

A run is written beside its place, under a hidden name that tells its settings apart from others',
and renamed when all people are done. Each person's folder appears whole or not at all, so that a
run that was cut off goes on with the people who are missing.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brainkit.arrays.atomic import (
    atomic_path,
    check_output,
    exclusive,
    put_in_place,
    write_json,
    write_npy,
)
from brainkit.arrays.digest import content_digest
from brainkit.arrays.interruption import half_written, remove, tell, undisturbed
from brainkit.arrays.persistence import save_estimator
from brainkit.arrays.progress import waiting
from brainkit.errors import OutputError
from brainkit.jobs.contract import Result

PERSON = "person.json"  # what the report and the metrics need of a person; gone when all are done


@dataclass
class RunFolder:
    """A run that is being written.

    Attributes
    ----------
    path : Path
        Where it is written, under a hidden name.
    out : Path
        Where it will stand.
    people : list of str
        Everyone who takes part, in order.
    """

    path: Path
    out: Path
    people: list[str]
    unkept: ExitStack

    def done(self, name: str) -> dict[str, Any] | None:
        """Return what was kept of a person who is done, None of one who is not."""
        file = self.path / name / PERSON
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    @contextmanager
    def person(self, name: str) -> Iterator[Path]:
        """Give a folder for a person's files, which stays when the block ends well."""
        partial = self.path / f".{name}.partial"
        remove(partial)  # of a process that was killed
        with half_written(partial):
            partial.mkdir(parents=True)
            try:
                yield partial
            except BaseException:
                with undisturbed():
                    remove(partial)
                raise
            with undisturbed():
                partial.replace(self.path / name)
                self.unkept.close()  # from now on the run is worth keeping
                self.tell_state()

    def tell_state(self) -> None:
        """Note what stands, for the message of an interruption."""
        n_done = sum(self.done(name) is not None for name in self.people)
        earlier = "; the earlier run there is as it was" if _is_filled(self.out) else ""
        onward = "The same command begins anew."
        if n_done:
            onward = (
                f"What is done of {n_done} of {len(self.people)} people is kept in {self.path}: "
                "the same command goes on from there."
            )
        tell(f"Nothing was written to {self.out}{earlier}. {onward}")


def _is_filled(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


@contextmanager
def run_folder(
    out: str | Path, plan: Mapping[str, Any], people: list[str], *, overwrite: bool = False
) -> Iterator[RunFolder]:
    """Give a run folder that stands at `out`, complete, when the block ends well.

    Parameters
    ----------
    out : path
        Where the run shall stand.
    plan : mapping
        All that makes a run what it is, as JSON values: an unfinished one with the same plan is
        gone on with.
    people : list of str
        Everyone who takes part.
    overwrite : bool, default=False
        Replace an earlier complete run.

    Raises
    ------
    OutputError
        See `brainkit.arrays.atomic.check_output`. Where another process is at the same run, this
        one waits, and raises if the other finished it.
    """
    check_output(out, overwrite=overwrite)
    target = Path(out).resolve()  # what a link points to is replaced, not the link
    digest = content_digest(json.dumps(dict(plan), sort_keys=True, default=str))[:12]
    partial = target.with_name(f".{target.name}.{digest}.unfinished")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The run folder {target} cannot be written: {error}.") from error
    with ExitStack() as stack:
        with waiting(f"{target.name}: another process is at this run"):
            # Beside the folder, so that it is held until the folder stands in its place.
            lock = partial.with_suffix(".lock")
            stack.enter_context(exclusive(lock, keep=False, required=False))
        check_output(out, overwrite=overwrite)  # the other process may have finished it
        unkept = stack.enter_context(ExitStack())
        run = RunFolder(partial, target, people, unkept)
        run.tell_state()
        if not _is_filled(partial):
            unkept.enter_context(half_written(partial))
        try:
            partial.mkdir(exist_ok=True)
            yield run
            _clean(run)
        except BaseException:
            with undisturbed():
                if not any(run.done(name) for name in people):
                    remove(partial)
            raise
        with undisturbed():
            put_in_place(partial, target, overwrite=overwrite)
            tell(f"The results in {target} are complete.")


def _clean(run: RunFolder) -> None:
    """Leave of a finished run what is its result; a single person's files stand in the run."""
    for name in run.people:
        (run.path / name / PERSON).unlink(missing_ok=True)
    if len(run.people) == 1:
        folder = run.path / f".{run.people[0]}"  # one of its files may have the person's name
        (run.path / run.people[0]).replace(folder)
        for path in list(folder.iterdir()):
            path.replace(run.path / path.name)
        shutil.rmtree(folder)


def save_result(result: Result, recording: Any, folder: Path) -> None:
    """Write a result's tables, arrays, images, documents, maps and pipeline into a folder.

    Parameters
    ----------
    result : Result
    recording : Recording, or what else the job reads
        Its space says how maps are written.
    folder : path
        Made where it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in result.tables.items():
        table.to_parquet(folder / f"{name}.parquet")
    for name, values in result.arrays.items():
        write_npy(folder / f"{name}.npy", values)
    for name, document in result.documents.items():
        write_json(folder / f"{name}.json", document)
    for name, images in result.images.items():
        eight_bit = {
            kind: np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
            for kind, values in images.items()
        }
        with atomic_path(folder / f"{name}.npz") as partial, partial.open("wb") as file:
            np.savez_compressed(file, **eight_bit)
    for name, values in result.maps.items():
        if recording.space is not None and np.isfinite(values).any():
            (folder / "maps").mkdir(parents=True, exist_ok=True)
            recording.space.save(values, folder / "maps", name)
    if result.pipeline is not None:
        save_estimator(result.pipeline, folder / "estimator")
