"""A lock between processes that the system lets go of when its holder dies, however it dies."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from brainkit.errors import OutputError

RETRY = 0.05  # seconds between tries where the system cannot wait by itself


@contextmanager
def exclusive(path: str | Path) -> Iterator[None]:
    """Hold a file's lock; others who ask for it, processes or threads, wait until the block ends.

    Parameters
    ----------
    path : path
        The file that stands for what is locked. It is made if missing, and stays.

    Raises
    ------
    OutputError
        If the file cannot be opened, or its file system has no locks.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # less the umask
    except OSError as error:
        raise OutputError(
            f"{path} cannot be opened for writing ({error.strerror}), which is needed to write "
            "beside it. Choose a folder that you may write to."
        ) from error
    try:
        _acquire(handle, Path(path))
        yield
    finally:
        os.close(handle)  # lets the lock go


def _acquire(handle: int, path: Path) -> None:
    if sys.platform == "win32":
        import msvcrt

        while True:
            try:
                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            except OSError:
                time.sleep(RETRY)
            else:
                return
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        raise OutputError(
            f"The file system of {path} has no file locks ({error.strerror}), without which two "
            "processes could spoil each other's files. Choose a folder on another disk (on a "
            "cluster: the node's own, or a file system mounted with locks)."
        ) from error
