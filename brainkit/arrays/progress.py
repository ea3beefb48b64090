"""Progress bars for anything that takes more than two seconds."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a bar on standard error that appears after two seconds.

    Parameters
    ----------
    iterable : iterable
        What to go through.
    description : str
        What is being done, in a few words.
    total : int, optional
        Number of items where `iterable` has no length.
    """
    bar = tqdm(
        iterable,
        desc=description,
        total=total,
        delay=2.0,
        file=sys.stderr,
        leave=False,
        dynamic_ncols=True,
    )
    yield from bar
