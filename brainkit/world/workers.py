"""Doing independent pieces of work in threads, in an order that does not depend on the threads."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from brainkit.errors import InputError

T = TypeVar("T")
R = TypeVar("R")

_MOST: Final = 8


def n_workers(workers: int | None = None) -> int:
    """Give the number of threads to use.

    Parameters
    ----------
    workers : int, optional
        What was asked for. By default as many as this process may use cores, at most 8, and not
        more than ``OMP_NUM_THREADS`` where that is set.

    Raises
    ------
    InputError
        If `workers` is under 1.
    """
    if workers is not None:
        if workers < 1:
            raise InputError(f"workers must be 1 or more, but {workers} was given.")
        return workers
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores, _MOST, int(limit) if limit.isdecimal() else _MOST))


def in_order(
    function: Callable[[T], R], items: Iterable[T], workers: int | None = None
) -> Iterator[R]:
    """Apply a function to items in threads and give its results in the items' order.

    Parameters
    ----------
    function : callable
        Takes an item; must not depend on what it did before.
    items : iterable
    workers : int, optional
        See `n_workers`. At most one result more than that is kept waiting.

    Yields
    ------
    object
        What `function` gave. An exception of its is raised at its place in the order.
    """
    threads = n_workers(workers)
    # These threads take the cores already; BLAS's own would wait for them, spinning. With one
    # thread here too, `workers` cannot change how BLAS divides, and so rounds, its sums.
    with threadpool_limits(1, user_api="blas"):
        if threads == 1:
            yield from map(function, items)
            return
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Future[R]] = deque()
            try:
                for item in items:
                    waiting.append(pool.submit(function, item))
                    if len(waiting) > threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
