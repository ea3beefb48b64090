"""From activity patterns to representational dissimilarity matrices (RDMs), checked as arrays.

Correlation, cosine and Euclidean dissimilarities come from one matrix of inner products, summed
over blocks of features, so that a layer of a million features needs no second copy in memory.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError, listed, unknown_name
from brainkit.evaluation.checked_arrays import column_batches, real_array
from brainkit.evaluation.intervals import group_members

FEWEST_CONDITIONS = 3
# RDMs are often stored in single precision, or averaged over two triangles.
SYMMETRY_TOLERANCE = 1e-5
DISSIMILARITIES = (
    "correlation",
    "cosine",
    "euclidean",
    "squared-euclidean",
    "mahalanobis",
    "crossnobis",
)
# What rounding leaves of an exact zero, relative to the squares that cancelled: of differences of
# sums, and of sums of squared differences.
_ROUNDING = 1e-12
_ROUNDING_SQUARED = 1e-24


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
    values = real_array(rdms, name).astype(np.float64)
    stack = values[None] if values.ndim == 2 else values
    if stack.ndim != 3 or stack.shape[1] != stack.shape[2] or not len(stack):
        raise InputError(
            f"{name} has shape {values.shape}, expected (n_conditions, n_conditions) or "
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
        RDMs, see :func:`rdm_stack`.
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


def rdm(
    patterns: ArrayLike,
    measure: str = "correlation",
    *,
    conditions: ArrayLike | None = None,
    folds: ArrayLike | None = None,
    precision: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Compute a representational dissimilarity matrix (Kriegeskorte et al., 2008).

    With x and y the patterns of two conditions over p features and P the noise precision:

    - ``"correlation"``: 1 - Pearson r of x and y;
    - ``"cosine"``: 1 - xᵀy / (|x| |y|);
    - ``"euclidean"``: |x - y|;
    - ``"squared-euclidean"``: |x - y|² / p, what rsatoolbox calls "euclidean";
    - ``"mahalanobis"``: (x - y)ᵀ P (x - y) / p, a squared distance;
    - ``"crossnobis"``: the mean over folds of (x - y)ᵀ P (x' - y') / p, with the unprimed
      patterns from one fold and the primed ones the mean of all others; unbiased by noise, so that
      it may be negative (Walther et al., 2016).

    Parameters
    ----------
    patterns : array_like of shape (n_patterns, n_features)
        Responses or features, one pattern a row.
    measure : str, default "correlation"
        One of those above.
    conditions : array_like of shape (n_patterns,), optional
        Condition of each pattern. Patterns of one condition are averaged, and conditions stand in
        sorted order. Each row is a condition of its own where not given.
    folds : array_like of shape (n_patterns,), optional
        Independent part (run, session) of each pattern, for ``"crossnobis"`` alone.
    precision : array_like of shape (n_features, n_features), optional
        Inverse covariance of the noise, for ``"mahalanobis"`` and ``"crossnobis"``; the identity
        where not given.

    Returns
    -------
    numpy.ndarray of shape (n_conditions, n_conditions)

    Raises
    ------
    UnknownNameError
        If there is no such measure.
    InputError
        If there are fewer than 3 conditions, values are not finite, a pattern has no correlation
        or cosine because it is constant or zero, or an argument does not fit the measure.
    """
    if measure not in DISSIMILARITIES:
        raise unknown_name("dissimilarity", measure, DISSIMILARITIES)
    measured = real_array(patterns, "patterns")
    if measured.ndim != 2 or not measured.shape[1]:
        raise InputError(
            f"patterns has shape {measured.shape}, expected (n_patterns, n_features) with at least "
            "1 feature: flatten tokens or maps first."
        )
    names, labels = _labels(conditions, len(measured))
    if len(names) < FEWEST_CONDITIONS:
        raise InputError(
            f"patterns hold {len(names)} conditions: an RDM needs at least {FEWEST_CONDITIONS}."
        )
    _require_finite(measured)
    noise = _precision(precision, measured.shape[1], measure)
    if (folds is not None) != (measure == "crossnobis"):
        raise InputError(
            f"folds are {'given' if folds is not None else 'missing'}, but the dissimilarity is "
            f"{measure!r}: 'crossnobis' compares independent folds, and no other does."
        )
    if folds is not None:
        return _crossnobis(measured, labels, np.asarray(folds), noise)
    averaged = measured if conditions is None else _averaged(measured, labels)
    if measure == "mahalanobis" and noise is not None:
        return _mahalanobis(averaged, noise)
    return _from_products(averaged, "squared-euclidean" if measure == "mahalanobis" else measure)


def _labels(
    conditions: ArrayLike | None, n_patterns: int
) -> tuple[NDArray[np.generic], NDArray[np.intp]]:
    if conditions is None:
        return np.arange(n_patterns), np.arange(n_patterns)
    values = np.asarray(conditions)
    if values.shape != (n_patterns,):
        raise InputError(
            f"conditions has shape {values.shape}, expected ({n_patterns},): one label a pattern."
        )
    names, labels = np.unique(values, return_inverse=True)
    return names, labels


def _require_finite(patterns: NDArray[np.generic]) -> None:
    broken = np.zeros(len(patterns), dtype=bool)
    for part in column_batches(*patterns.shape):
        broken |= ~np.isfinite(patterns[:, part]).all(axis=1)
    if broken.any():
        raise InputError(
            f"{int(broken.sum())} of {len(broken)} patterns hold NaN or infinity (rows "
            f"{listed(np.flatnonzero(broken))}): leave out those conditions or features."
        )


def _precision(
    precision: ArrayLike | None, n_features: int, measure: str
) -> NDArray[np.float64] | None:
    if precision is None:
        return None
    if measure not in ("mahalanobis", "crossnobis"):
        raise InputError(
            f"A noise precision is given, but {measure!r} has no use for it: take 'mahalanobis' "
            "or 'crossnobis'."
        )
    noise = real_array(precision, "precision").astype(np.float64)
    if noise.shape != (n_features, n_features) or not np.allclose(noise, noise.T):
        raise InputError(
            f"precision has shape {noise.shape}, expected a symmetric ({n_features}, {n_features})."
        )
    return noise


def _averaged(patterns: NDArray[np.generic], labels: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.stack(
        [patterns[rows].mean(axis=0, dtype=np.float64) for rows in group_members(labels)]
    )


def _from_products(patterns: NDArray[np.generic], measure: str) -> NDArray[np.float64]:
    centre = patterns.mean(axis=1, dtype=np.float64) if measure == "correlation" else None
    products = np.zeros((len(patterns), len(patterns)))
    squares = np.zeros(len(patterns))  # before anything is taken off: what rounding is relative to
    for part in column_batches(*patterns.shape):
        block = patterns[:, part].astype(np.float64)
        squares += np.einsum("ij,ij->i", block, block)
        if centre is not None:
            block -= centre[:, None]
        elif measure != "cosine":  # distances have no origin; near the mean they lose fewer digits
            block -= block.mean(axis=0)
        products += block @ block.T  # (n_conditions, n_conditions)
    norms = np.diag(products).copy()
    if measure in ("correlation", "cosine"):
        return _angular(products, norms, squares, measure)
    distances = np.maximum(norms[:, None] + norms[None, :] - 2.0 * products, 0.0)
    distances[distances <= _ROUNDING * norms.max(initial=0.0)] = 0.0
    distances = np.sqrt(distances) if measure == "euclidean" else distances / patterns.shape[1]
    return _tidy(distances)


def _angular(
    products: NDArray[np.float64],
    norms: NDArray[np.float64],
    squares: NDArray[np.float64],
    measure: str,
) -> NDArray[np.float64]:
    flat = np.flatnonzero(norms <= _ROUNDING_SQUARED * squares)
    if flat.size:
        what = "constant over features" if measure == "correlation" else "zero"
        raise InputError(
            f"{flat.size} of {len(norms)} patterns are {what} (conditions {listed(flat)}) and have "
            f"no {measure}: leave them out or take 'squared-euclidean'."
        )
    length = np.sqrt(norms)
    similar = np.clip(products / length[:, None] / length[None, :], -1.0, 1.0)
    return _tidy(1.0 - similar)


def _tidy(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make a matrix exactly symmetric and exactly zero on its diagonal."""
    even = (matrix + matrix.T) / 2
    np.fill_diagonal(even, 0.0)
    return even


def _mahalanobis(patterns: NDArray[np.generic], noise: NDArray[np.float64]) -> NDArray[np.float64]:
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm

    toolbox_rdms = calc_rdm(Dataset(patterns.astype(np.float64)), method="mahalanobis", noise=noise)
    return _tidy(np.asarray(toolbox_rdms.get_matrices()[0], dtype=np.float64))


def _crossnobis(
    patterns: NDArray[np.generic],
    labels: NDArray[np.intp],
    folds: NDArray[np.generic],
    noise: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm

    if folds.shape != labels.shape:
        raise InputError(f"folds has shape {folds.shape}, expected {labels.shape}.")
    names, fold = np.unique(folds, return_inverse=True)
    counts = np.zeros((len(names), labels.max() + 1), dtype=int)
    np.add.at(counts, (fold, labels), 1)
    if len(names) < 2 or (counts == 0).any():
        raise InputError(
            f"crossnobis needs every condition in each of at least 2 folds; there are "
            f"{len(names)} folds, and {int((counts == 0).sum())} pairs of fold and condition have "
            "no pattern."
        )
    # Labels are floats since it fills arrays of their kind with NaN, which integers cannot hold.
    dataset = Dataset(
        patterns.astype(np.float64),
        obs_descriptors={
            "condition": labels.astype(np.float64),
            "fold": fold.astype(np.float64),
        },
    )
    toolbox_rdms = calc_rdm(
        dataset, method="crossnobis", descriptor="condition", cv_descriptor="fold", noise=noise
    )
    return _tidy(np.asarray(toolbox_rdms.get_matrices()[0], dtype=np.float64))
