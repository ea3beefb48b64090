"""Representational dissimilarity matrices (RDMs) as arrays, checked before anything is computed."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError, listed
from brainkit.evaluation._columns import real_array

FEWEST_CONDITIONS = 3
# RDMs are often stored in single precision, or averaged over two triangles.
SYMMETRY_TOLERANCE = 1e-5


def rdm_stack(rdms: ArrayLike, name: str = "rdms") -> NDArray[np.float64]:
    """Return RDMs as a new float64 array after checking that they are RDMs.

    Parameters
    ----------
    rdms : array_like of shape (n_conditions, n_conditions) or (n_rdms, n_conditions, n_conditions)
        Square, symmetric, finite, zero on the diagonal.
    name : str
        What to call them in messages.

    Returns
    -------
    numpy.ndarray of shape (n_rdms, n_conditions, n_conditions)

    Raises
    ------
    InputError
        If they are not RDMs, or of fewer than 3 conditions.
    """
    given = real_array(rdms, name).astype(np.float64)
    stack = given[None] if given.ndim == 2 else given
    if stack.ndim != 3 or stack.shape[1] != stack.shape[2] or not len(stack):
        raise InputError(
            f"{name} has shape {given.shape}, expected (n_conditions, n_conditions) or "
            "(n_rdms, n_conditions, n_conditions) with at least 1 RDM."
        )
    if stack.shape[1] < FEWEST_CONDITIONS:
        raise InputError(
            f"{name} has {stack.shape[1]} conditions: RDMs are compared over the pairs of at "
            f"least {FEWEST_CONDITIONS}."
        )
    broken = np.flatnonzero(~np.isfinite(stack).all(axis=(1, 2)))
    if broken.size:
        missing = int((~np.isfinite(stack)).sum())
        raise InputError(
            f"{name} holds {missing} values that are NaN or infinite, in RDM {listed(broken)}: "
            "leave those conditions out of all RDMs."
        )
    largest = np.abs(stack).max(axis=(1, 2))
    uneven = np.abs(stack - stack.transpose(0, 2, 1)).max(axis=(1, 2))
    diagonal = np.abs(np.einsum("kii->ki", stack)).max(axis=1)
    for what, amount in (("not symmetric", uneven), ("not zero on the diagonal", diagonal)):
        wrong = np.flatnonzero(amount > SYMMETRY_TOLERANCE * largest)
        if wrong.size:
            raise InputError(
                f"{name} is {what} in RDM {listed(wrong)} (by {amount[wrong].max():g}): give "
                "dissimilarities, 0 between a condition and itself, not similarities."
            )
    return stack


def condensed(rdms: ArrayLike, name: str = "rdms") -> NDArray[np.float64]:
    """Give the dissimilarities of all pairs of conditions, each pair once.

    Parameters
    ----------
    rdms : array_like of shape (n_conditions, n_conditions) or (n_rdms, n_conditions, n_conditions)
        As for :func:`rdm_stack`.
    name : str
        What to call them in messages.

    Returns
    -------
    numpy.ndarray of shape (n_rdms, n_conditions (n_conditions - 1) / 2)
        Row by row of the upper triangle: (0, 1), (0, 2), …, (1, 2), …
    """
    return upper(rdm_stack(rdms, name))


def upper(stack: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the upper triangles of a checked stack."""
    rows, columns = np.triu_indices(stack.shape[1], 1)
    return stack[:, rows, columns]


def squared(pairs: NDArray[np.float64], n_conditions: int) -> NDArray[np.float64]:
    """Give symmetric matrices, zero on the diagonal, from their upper triangles."""
    rows, columns = np.triu_indices(n_conditions, 1)
    stack = np.zeros((len(pairs), n_conditions, n_conditions))
    stack[:, rows, columns] = stack[:, columns, rows] = pairs
    return stack


def same_conditions(
    models: NDArray[np.float64], data: NDArray[np.float64], names: tuple[str, str]
) -> None:
    """Raise unless two stacks are of the same number of conditions."""
    if models.shape[-1] != data.shape[-1]:
        raise InputError(
            f"{names[0]} is of {models.shape[-1]} conditions and {names[1]} of {data.shape[-1]}: "
            "RDMs are compared over the same conditions in the same order."
        )
