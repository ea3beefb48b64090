"""A lock between processes that the system lets go of when its holder dies, however it dies."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from brainkit.arrays.interruption import half_written
from brainkit.errors import OutputError

RETRY = 0.01  # seconds between tries while another holds the lock
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


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
