"""Which targets belong to which region, in the forms that users have it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.arrays.array_likes import whole_numbers
from brainkit.errors import InputError, listed

REST = "rest"
WHOLE = "all"

Array = NDArray[Any]


@dataclass(frozen=True)
class Regions:
    """Regions of targets; every target is in one or more of them.

    Attributes
    ----------
    names : tuple of str
    membership : bool array (n_regions, n_targets)
    """

    names: tuple[str, ...]
    membership: Array


def read_regions(regions: Any, n_targets: int) -> Regions:
    """Read regions in any of the forms that a user may give.

    Parameters
    ----------
    regions : None, sequence (n_targets,), array (n_regions, n_targets), or mapping
        None for one region of all targets; a label for each target, "" for no region; a matrix that
        is true (or 1) where a target is in a region; or a mask (n_targets,) by name. Regions may
        overlap in the last two. Targets in none make up a further region "rest".
    n_targets : int

    Returns
    -------
    Regions
        In the order of the matrix or mapping, of the alphabet for labels; "rest" is last.

    Raises
    ------
    InputError
        If the shape does not fit the targets, a mask holds something else than 0 and 1, a region
        has no target, or a region that was given is named "rest" while targets are in none.
    """
    if regions is None:
        return Regions((WHOLE,), np.ones((1, n_targets), dtype=bool))
    if isinstance(regions, Mapping):
        names = [str(name) for name in regions]
        masks = [_mask(f"region {name!r}", mask, n_targets) for name, mask in regions.items()]
        table = np.stack(masks) if masks else np.zeros((0, n_targets), dtype=bool)
    else:
        names, table = _from_array(np.asarray(regions), n_targets)
    empty = [name for name, mask in zip(names, table, strict=True) if not mask.any()]
    if empty:
        raise InputError(
            f"No target is in {listed(empty)}: there is nothing to learn for such a region. Leave "
            "it out, or check that regions and targets were selected alike."
        )
    left = np.logical_not(table.any(axis=0))
    if left.any():
        if REST in names:
            raise InputError(
                f"{int(left.sum())} targets are in no region, and the region of such targets is "
                f"called {REST!r}, which is also one of yours. Rename it, or add them to it."
            )
        names, table = [*names, REST], np.concatenate([table, left[None]])
    return Regions(tuple(names), table)


def _from_array(given: Array, n_targets: int) -> tuple[list[str], Array]:
    if given.ndim not in (1, 2) or given.shape[-1] != n_targets:
        raise InputError(
            f"regions has shape {given.shape}; for {n_targets} targets it is one label for each, "
            f"({n_targets},), or a matrix (regions, {n_targets})."
        )
    if given.ndim == 2:
        names = [str(number) for number in range(len(given))]
        masks = [_mask(f"region {name}", row, n_targets) for name, row in enumerate(given)]
        return names, np.stack(masks) if masks else np.zeros((0, n_targets), dtype=bool)
    if given.dtype.kind == "f":  # 1.00003 is no region beside 1, and NaN is none
        numbers = whole_numbers(given, "The labels in regions")
        given = np.where(np.isnan(given), "", numbers.astype(str))
    labels = np.array([str(label) for label in given])
    names = [str(name) for name in np.unique(labels) if name]
    table = np.array([labels == name for name in names], dtype=bool).reshape(-1, n_targets)
    return names, table


def _mask(what: str, given: Any, n_targets: int) -> Array:
    mask = np.asarray(given)
    if mask.shape != (n_targets,):
        raise InputError(
            f"The mask of {what} has shape {mask.shape}; there are {n_targets} targets."
        )
    if mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
        raise InputError(f"The mask of {what} holds other values than true and false (or 0 and 1).")
    return mask.astype(bool)
