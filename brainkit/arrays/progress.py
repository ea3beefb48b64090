"""Progress on standard error for anything that takes more than two seconds.

On a terminal and in a notebook bars move. In a log (a pipe, a file, a batch job) a line is written
after two seconds and then at most every half minute. TQDM_DISABLE=1 in the environment turns all
of it off.
"""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
DELAY = 2.0
LOG_INTERVAL = 30.0
LOG_COLUMNS = 110  # room for loss and score behind a bar


class _Log:
    """A stream for bars that go to a log: each state on a line of its own, blank ones left out.

    Where the log has gone, or there is none, the work goes on without.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        line = text.strip()
        if line and self.stream is not None:
            with suppress(OSError):
                self.stream.write(line + "\n")

    def flush(self) -> None:
        if self.stream is not None:
            with suppress(OSError):
                self.stream.flush()


def is_live() -> bool:
    """Tell whether standard error is a terminal or a notebook, where a line can be rewritten."""
    if sys.stderr is None:  # closed, or a program without a console
        return False
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel")


def bar(description: str, **settings: Any) -> Any:
    """Make a bar of tqdm that suits where standard error goes; `settings` are tqdm's."""
    look: dict[str, Any] = {"file": sys.stderr, "dynamic_ncols": True}
    if not is_live():
        look = {"file": _Log(sys.stderr), "ncols": LOG_COLUMNS, "ascii": True, "position": 0}
        look["mininterval"] = LOG_INTERVAL
    return tqdm(desc=description, leave=False, **{"delay": DELAY, **look, **settings})


def track(
    iterable: Iterable[T],
    description: str,
    total: int | None = None,
    state: Callable[[], str] | None = None,
) -> Iterator[T]:
    """Iterate with a bar on standard error that appears after two seconds.

    Parameters
    ----------
    iterable : iterable
        What to go through.
    description : str
        What is being done, in a few words.
    total : int, optional
        Number of items where `iterable` has no length.
    state : callable, optional
        Function that says how it stands after an item, such as the loss; shown behind the bar.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with bar(description, total=total) as shown:
        if shown.disable:  # by $TQDM_DISABLE, which leaves a bar without its state
            yield from iterable
            return
        later = shown.mininterval
        shown.mininterval = min(later, DELAY)  # the first line of a log need not wait for long
        # Counted here: tqdm's own loop keeps the interval it began with, and miscounts if it grows.
        for item in iterable:
            yield item
            if state is not None:
                shown.set_postfix_str(state(), refresh=False)
            shown.update()
            if shown.last_print_n:
                shown.mininterval = later
        if 0 < shown.last_print_n < shown.n:  # a log that has a line of it gets the last one too
            shown.refresh()


@contextmanager
def waiting(description: str) -> Iterator[None]:
    """Show for how long a step without inner bars has been going on, once it takes two seconds.

    Parameters
    ----------
    description : str
        What is being done, in a few words.
    """
    done = threading.Event()
    thread = threading.Thread(target=_show_elapsed, args=(description, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _show_elapsed(description: str, done: threading.Event) -> None:
    if done.wait(DELAY):
        return
    interval = 1.0 if is_live() else LOG_INTERVAL
    with bar(description, bar_format="{desc} … {elapsed}") as shown:
        if shown.disable:
            return
        shown.delay, shown.start_t = 0, shown.start_t - DELAY  # what has passed before the bar
        shown.refresh()
        while not done.wait(interval):
            if len(shown._instances) == 1:  # bars of inner steps tell more
                shown.refresh()
