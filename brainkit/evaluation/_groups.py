"""Permutations that move whole groups of rows."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError


def group_labels(labels: ArrayLike | None, n: int, name: str) -> NDArray[np.intp]:
    """Give each group a number from 0; each of the `n` items is a group without labels."""
    if labels is None:
        return np.arange(n)
    given = np.asarray(labels)
    if given.shape != (n,):
        raise InputError(f"{name} has shape {given.shape}, expected ({n},): one label per item.")
    return np.unique(given, return_inverse=True)[1]


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
    """Order of items when groups change places within each size."""
    order = np.empty(n, dtype=np.intp)
    for same_size in classes:
        rows = np.stack([members[group] for group in same_size])  # n_groups, size = rows.shape
        order[rows] = rows[permute(len(rows))]
    return order
