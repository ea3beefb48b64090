"""Groups and blocks of rows that are moved or drawn as wholes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError


def group_labels(labels: ArrayLike | None, n: int, name: str) -> NDArray[np.intp]:
    """Give each group a number from 0; each of the `n` items is a group without labels."""
    if labels is None:
        return np.arange(n)
    values = np.asarray(labels)
    if values.shape != (n,):
        raise InputError(f"{name} has shape {values.shape}, expected ({n},): one label per item.")
    return np.unique(values, return_inverse=True)[1]


def group_members(labels: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Rows of each group, in order."""
    if not len(labels):
        return []
    rows = np.argsort(labels, kind="stable")
    return np.split(rows, np.flatnonzero(np.diff(labels[rows])) + 1)


def size_classes(members: list[NDArray[np.intp]]) -> list[NDArray[np.intp]]:
    """Numbers of the groups that share a size, one array for each size."""
    sizes = np.array([len(rows) for rows in members], dtype=np.intp)
    return [np.flatnonzero(sizes == size) for size in np.unique(sizes)]


def exchange_groups(
    members: list[NDArray[np.intp]],
    classes: list[NDArray[np.intp]],
    n: int,
    permute: Callable[[int], NDArray[np.intp]],
) -> NDArray[np.intp]:
    """Order of items when groups change places within each class, all of one size."""
    return exchange_rows(
        [np.stack([members[group] for group in one]) for one in classes], n, permute
    )


def exchange_rows(
    classes: list[NDArray[np.intp]], n: int, permute: Callable[[int], NDArray[np.intp]]
) -> NDArray[np.intp]:
    """Do the same for classes given by the rows of their groups, each (n_groups, size)."""
    order = np.empty(n, dtype=np.intp)
    for rows in classes:
        order[rows] = rows[permute(len(rows))]
    return order


def time_blocks(runs: ArrayLike, block_length: int) -> NDArray[np.intp]:
    """Cut time series into blocks of consecutive samples that never cross a run's boundary.

    Parameters
    ----------
    runs : array_like of shape (n_samples,)
        Run of each sample, samples in the order of time. A label that comes back after another
        run is a run of its own.
    block_length : int
        Samples a block. It should exceed the time over which responses are correlated. The last
        block of a run is shorter where the run is no multiple of it.

    Returns
    -------
    numpy.ndarray of int of shape (n_samples,)
        Block of each sample, from 0.

    Raises
    ------
    InputError
        If `runs` is not one-dimensional or empty, or `block_length` is below 1.
    """
    of_run = np.asarray(runs)
    if of_run.ndim != 1 or not len(of_run):
        raise InputError(f"runs has shape {of_run.shape}, expected (n_samples,): one run a sample.")
    if block_length < 1:
        raise InputError(f"block_length={block_length}: a block holds at least 1 sample.")
    first = _run_starts(of_run)
    since = np.arange(len(of_run)) - np.maximum.accumulate(
        np.where(first, np.arange(len(of_run)), 0)
    )
    return np.cumsum(first | (since % block_length == 0)) - 1


@dataclass(frozen=True)
class Units:
    """What is exchanged or drawn as a whole.

    Attributes
    ----------
    labels : numpy.ndarray of int of shape (n_samples,)
        Unit of each sample.
    strata : numpy.ndarray of int of shape (n_samples,)
        Units of one stratum are exchangeable with each other.
    """

    labels: NDArray[np.intp]
    strata: NDArray[np.intp]

    @property
    def members(self) -> list[NDArray[np.intp]]:
        """Samples of each unit."""
        return group_members(self.labels)

    def classes(self) -> list[NDArray[np.intp]]:
        """Give the samples of units that can change places, of one size and one stratum.

        One array (n_units, size) for each class.
        """
        members = self.members
        stratum = np.array([self.strata[rows[0]] for rows in members], dtype=np.intp)
        return [
            np.stack([members[unit] for unit in same if stratum[unit] == wanted])
            for same in size_classes(members)
            for wanted in np.unique(stratum[same])
        ]


def resampling_units(
    n: int, blocks: ArrayLike | None, runs: ArrayLike | None, block_length: int | None
) -> Units:
    """Return the units of a resampling: given blocks, stretches of time within runs, or samples.

    Raises
    ------
    InputError
        If blocks are given both ways, runs without a block length, or a shape does not fit.
    """
    if block_length is None:
        if runs is not None:
            raise InputError(
                "runs is given without block_length: say how many consecutive samples move "
                "together (1 for samples that are independent within a run)."
            )
        return Units(group_labels(blocks, n, "blocks"), np.zeros(n, dtype=np.intp))
    if blocks is not None:
        raise InputError("blocks and block_length are both given: state the blocks in one way.")
    of_run = np.zeros(n, dtype=np.intp) if runs is None else np.asarray(runs)
    if of_run.shape != (n,):
        raise InputError(f"runs has shape {of_run.shape}, expected ({n},): one label per item.")
    return Units(time_blocks(of_run, block_length), np.cumsum(_run_starts(of_run)) - 1)


def _run_starts(runs: NDArray[np.generic]) -> NDArray[np.bool_]:
    return np.concatenate([[True], np.asarray(runs[1:] != runs[:-1])])
