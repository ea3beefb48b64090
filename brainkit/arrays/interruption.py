"""Leaving early: what is half-written goes, what is whole stays, and it is said which.

Python turns Control-C into an exception that may rise anywhere: in the clean-up of an earlier one,
in a finaliser or a callback, where it is printed and lost; and SIGTERM, which is what schedulers
send, ends a process on the spot. So half-written files and folders are registered here while they
are being made. The command line (`guard`) removes them in the signal's handler itself and ends the
process there, without unwinding; or in a thread, where the main one is deep in a library and does
not come to its handlers for long. In a program of the user's, SIGTERM is given such a handler only
while something is registered, and only if it had none; the process then dies of the signal as it
would have. SIGKILL cannot be handled: what it leaves has a hidden name with ``.partial`` in it.

This module imports nothing heavy, so that it can guard the imports of the rest.
"""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)

GRACE = 0.5  # seconds that the main thread has to come to its handler

_half_written: dict[Path, int] = {}  # with the process that writes it: a fork must not remove it
_guarded = 0  # the process that `guard` was called in
_state = ""
_undisturbed = threading.RLock()  # held while what belongs together is done
_leaving = threading.Lock()  # taken once, by the thread that ends the process


def tell(state: str) -> None:
    """Note in a sentence or two what stands at this moment, and how to go on from there."""
    global _state  # noqa: PLW0603 - a process has one state to tell
    _state = state


def told() -> str:
    """Return what stands at this moment; "" where nothing has been begun."""
    return _state


@contextmanager
def half_written(path: Path) -> Iterator[None]:
    """Have a file or folder removed if a signal ends the process before the block has ended.

    Parameters
    ----------
    path : path
        There or not; the block itself removes it if it ends with an exception.
    """
    _half_written[path] = os.getpid()
    try:
        with _surviving_sigterm():
            yield
    finally:
        _half_written.pop(path, None)


def within_half_written(path: Path) -> bool:
    """Tell whether a path lies in a folder that is itself half-written."""
    return any(parent in _half_written for parent in path.parents)


@contextmanager
def _surviving_sigterm() -> Iterator[None]:
    """Handle SIGTERM for the time of a block, where it would end the process on the spot."""
    if not _in_main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _die)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is _die:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let signals wait until the block, a few system calls that belong together, has ended."""
    if not _in_main_thread():  # Python handles signals in the main thread alone
        yield
        return
    waiting: list[int] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}
    ours = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in ours:
        signal.signal(number, lambda number, _: waiting.append(number))
    try:
        with _undisturbed:
            yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
        for number in waiting[:1]:
            signal.raise_signal(number)


def guard() -> None:
    """Make this process the command line's: signals end it tidily, with a line and no traceback.

    It ends with 128 and the signal's number, as shells report it. Signals that it was started to
    ignore (``nohup``, a job in the background) stay ignored. Standard streams that are closed are
    opened on the null device, lest the next file that is opened be taken for one of them. Signs
    that standard output has no letters for are written as numbers.
    """
    global _guarded  # noqa: PLW0603 - handlers are the process's too
    if _guarded == os.getpid():
        return
    _guarded = os.getpid()
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:  # a sign that it has no letter for is no reason to stop
        reconfigure(errors="backslashreplace")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - to the end
    for signal_number in SIGNALS:
        if signal.getsignal(signal_number) is not signal.SIG_IGN:
            signal.signal(signal_number, _leave)
    if hasattr(os, "register_at_fork"):
        _watch()


def _watch() -> None:
    """Start a thread that is told of signals at once, whatever the main one is doing."""
    told_by, tells = os.pipe()
    os.set_blocking(tells, False)
    signal.set_wakeup_fd(tells, warn_on_full_buffer=False)
    # A fork has this end of the pipe too, and its signals are no concern of its parent's.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))

    def watch() -> None:
        while number := os.read(told_by, 1):
            if number[0] in SIGNALS and signal.getsignal(number[0]) is _leave:
                time.sleep(GRACE)
                with _undisturbed:
                    _leave(number[0])

    threading.Thread(target=watch, daemon=True).start()


def _leave(number: int, frame: FrameType | None = None) -> Any:
    """Remove what is half-written, say what stands, and end the process."""
    if os.getpid() != _guarded:  # a fork, which leaves tidying and talking to its parent
        os._exit(128 + number)
    if _in_main_thread():
        for other in SIGNALS:
            signal.signal(other, signal.SIG_IGN)  # a second one would break the tidying off
    while not _leaving.acquire(blocking=False):  # the other thread was first
        time.sleep(1)
    _tidy()
    # Not through sys.stderr: the signal may have come while it was being written to.
    _write_error(said(signal.Signals(number).name))
    os._exit(128 + number)


def said(reason: str = "") -> str:
    """Return the line that tells of an interruption."""
    cause = f" ({reason})" if reason not in ("", "SIGINT") else ""
    return f"brainkit: interrupted{cause}. {told() or 'Nothing had been written.'}"


def _write_error(line: str) -> None:
    fresh = "\r\x1b[K" if os.isatty(2) else ""  # over a bar that stands there
    with suppress(OSError):
        os.write(2, f"{fresh}{' '.join(line.split())}\n".encode())


def _die(number: int, frame: FrameType | None) -> None:
    """Remove what is half-written, and die of the signal."""
    _tidy()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _tidy() -> None:
    for path, owner in list(_half_written.items()):
        if owner == os.getpid():
            remove(path)


def remove(path: Path) -> Path | None:
    """Remove a file or a whole folder, there or not; return where it is if that fails."""
    if not path.is_dir() or path.is_symlink():
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return path if os.path.lexists(path) else None
    doomed = path.with_name(f"{path.name}.removed")
    try:
        path.rename(doomed)  # threads that still write into it know it by its old name
    except OSError:
        doomed = path
    shutil.rmtree(doomed, ignore_errors=True)
    return doomed if doomed.exists() else None


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
