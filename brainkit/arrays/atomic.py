"""Files and folders that are either whole or not there, and locks between those who write them.

A file is written beside its place under a temporary name and renamed onto it; a folder likewise.
Signals that can be handled leave nothing of it (see `brainkit.arrays.interruption`); what a crash
leaves behind has a hidden name with ``.partial`` in it and is never read. (Libraries that write
single files so know no folders that appear whole, nor runs that are replaced only when the new one
is there.) A lock (`exclusive`) is let go of by the system when its holder dies, however it dies.
"""

import errno
import json
import os
import secrets
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.arrays.interruption import (
    half_written,
    remove,
    tell,
    undisturbed,
    within_half_written,
)
from brainkit.errors import OutputError

RETRY = 0.01  # seconds between tries while another holds the lock
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
COMPLETE = "manifest.json"


@contextmanager
def exclusive(path: str | Path, *, keep: bool = True, required: bool = True) -> Iterator[None]:
    """Hold a file's lock; others who ask for it, processes or threads, wait until the block ends.

    Parameters
    ----------
    path : path
        The file that stands for what is locked. It is made if missing.
    keep : bool, default=True
        Leave the file there. Where it is removed, by its holder and before the lock is let go of,
        those who wait for it find it gone and begin anew with another.
    required : bool, default=True
        Raise where the file system has no locks, rather than going on without one.

    Raises
    ------
    OutputError
        If the file cannot be opened, or its file system has no locks.
    """
    from filelock import FileLock

    # A soft lock would outlive a holder that was killed; one without a file could be held twice.
    lock = FileLock(path, poll_interval=RETRY, fallback_to_soft=False, preserve_lock_file=True)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise OutputError(
                f"{path} cannot be opened for writing ({error.strerror}), which is needed to "
                "write beside it. Choose a folder that you may write to."
            ) from error
        if required:
            raise OutputError(
                f"The file system of {path} has no file locks ({error.strerror}), without which "
                "two processes could spoil each other's files. Choose a folder on another disk "
                "(on a cluster: the node's own, or a file system mounted with locks)."
            ) from error
    try:
        with nullcontext() if keep else half_written(Path(path)):
            yield
    finally:
        if not keep:
            with suppress(OSError):  # Windows removes no open file
                Path(path).unlink(missing_ok=True)
        lock.release()


def _sibling(path: Path, role: str) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{role}")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path that replaces `path` when the block ends without an error.

    Parameters
    ----------
    path : path
        Where the file shall stand. Its folder is made.

    Yields
    ------
    Path
        The temporary path to write to, in the same folder and with the same suffixes.

    Raises
    ------
    OutputError
        If the folder cannot be made or the file not be put in its place.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file to write.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path.parent, error) from error
    suffix = "".join(path.suffixes)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial{suffix}")
    with half_written(partial):
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def under_umask(path: Path) -> None:
    """Give a file the permissions of any new file beside it: safetensors bars all but the owner."""
    probe = _sibling(path, "partial")
    with half_written(probe):
        try:
            probe.touch()
            path.chmod(stat.S_IMODE(probe.stat().st_mode))
        finally:
            probe.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically; NaN and infinities become null, numpy numbers plain ones."""
    write_text(path, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def write_npy(path: str | Path, array: NDArray[Any]) -> None:
    """Write one array as .npy, atomically and without pickle."""
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def plain(value: Any) -> Any:
    """Turn numpy values, paths, tuples and dicts of them into what JSON can hold."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


@contextmanager
def output_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder that becomes `path`, complete, when the block ends well.

    Parameters
    ----------
    path : path
        Where the results shall stand.
    overwrite : bool, default=False
        Replace an earlier *complete* run (one with a ``manifest.json``). Its replacement is
        whole before it is removed.

    Yields
    ------
    Path
        The folder to write into.

    Raises
    ------
    OutputError
        If `path` is a file, holds something that is not a complete run, holds a complete run and
        `overwrite` is off, or cannot be written. Nothing is changed then. If `path` was taken
        meanwhile, what the block wrote is kept, and the message says where.
    """
    check_output(path, overwrite=overwrite)
    asked, path = path, Path(path).resolve()  # what a link points to is replaced, not the link
    partial = _sibling(path, "partial")
    outermost = not within_half_written(path)  # a run's estimator is a part of the run
    if outermost:
        earlier = "; the earlier run there is as it was" if _is_filled(path) else ""
        tell(f"Nothing was written to {asked}{earlier}. The same command begins anew.")
    with half_written(partial):
        try:
            try:
                partial.mkdir(parents=True)
            except OSError as error:
                raise _unwritable(path, error) from error
            yield partial
        except BaseException:
            with undisturbed():
                remove(partial)
            raise
        with undisturbed():
            put_in_place(partial, path, overwrite=overwrite)
            if outermost:
                tell(f"The results in {asked} are complete.")


def put_in_place(partial: Path, path: Path, *, overwrite: bool = False) -> None:
    """Rename a whole folder to its place, if it is still free or may be replaced.

    Parameters
    ----------
    partial : path
        The folder, on the same disk.
    path : path
        Where it shall stand.
    overwrite : bool, default=False
        Replace an earlier complete run.

    Raises
    ------
    OutputError
        If the place was taken meanwhile; `partial` is kept, and the message says where.
    """
    try:
        check_output(path, overwrite=overwrite)
        _put_in_place(partial, path)
    except OSError as error:
        kept = f"The new results are whole; they are kept in {partial}."
        tell(kept)
        raise OutputError(f"{error} {kept}") from error


def _is_filled(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


def _put_in_place(partial: Path, path: Path) -> None:
    """Rename a whole folder to its place; an earlier one is removed only after that."""
    if not _is_filled(path):
        partial.replace(path)
        return
    earlier = _sibling(path, "replaced")
    path.replace(earlier)
    try:
        partial.replace(path)
    except OSError:
        earlier.replace(path)
        raise
    left = remove(earlier)
    if left is not None:  # a network's disk keeps files that another process has open
        warnings.warn(
            f"The earlier run could not be removed whole; what is left of it is in {left}.",
            stacklevel=2,
        )


def check_output(path: str | Path, *, overwrite: bool = False) -> None:
    """Raise unless a run may be written to `path`; see `output_folder`. Changes nothing."""
    path = Path(path)
    if path.is_dir():
        _check_present(path, overwrite)
    elif path.exists():
        raise OutputError(f"The output {path} is a file; give a folder to write to.")
    # The run is made beside its place and renamed, so it is the parent that has to be writable.
    parent = next(folder for folder in path.resolve().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise _unwritable(path, None)


def _check_present(path: Path, overwrite: bool) -> None:
    try:
        filled = any(path.iterdir())
    except OSError as error:
        raise _unwritable(path, error) from error
    if path.is_mount() or path.resolve() == Path.cwd():
        raise OutputError(
            f"The output folder {path} is a mount point or the working folder, which cannot be "
            "replaced; give a folder inside it."
        )
    if filled and not (path / COMPLETE).is_file():
        raise OutputError(
            f"The output folder {path} holds files but no {COMPLETE}: it is not a complete "
            "brainkit run, so it is left as it is. Choose another --out, or remove it yourself."
        )
    if filled and not overwrite:
        raise OutputError(
            f"The output folder {path} already holds a run. Choose another --out, or pass "
            "--overwrite to replace it."
        )


def _unwritable(path: Path, error: OSError | None) -> OutputError:
    reason = f" ({error.strerror})" if error is not None and error.strerror else ""
    return OutputError(f"The output folder {path} cannot be written{reason}. Choose another --out.")
