"""Bands of features, and the weights on the simplex that banded ridge tries for them."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.seeds import rng
from brainkit.errors import InputError, listed

Index = NDArray[np.int64]
Float = NDArray[np.float64]
CONCENTRATIONS = (0.1, 1.0)
UNIT_SUM = 1e-4  # by which the weights of a draw may miss 1, as in single precision they do


def band_columns(bands: Any, n_features: int) -> list[Index]:
    """Return the columns of each band.

    Parameters
    ----------
    bands : None, mapping, or sequence
        One of

        - None: one band of all features;
        - sequence of int: the number of columns of each band, in order, with a sum of
          `n_features`;
        - sequence of one label (text or whole number) for each column; bands come in the order
          of their labels' first columns;
        - sequence, or mapping with names for keys, of one slice, one array of column numbers or
          one mask of all columns for each band.
    n_features : int

    Returns
    -------
    list of int64 arrays
        Every column is in one band, every band has one at least.

    Raises
    ------
    InputError
        If bands overlap, are empty, leave columns out, or name columns that there are not; if
        whole numbers could be sizes as well as labels.
    """
    if bands is None:
        return [np.arange(n_features)]
    if isinstance(bands, str | bytes | slice) or not isinstance(bands, Iterable):
        raise InputError(
            f"bands must be sizes, labels, slices or arrays of column numbers; got {bands!r}."
        )
    given = list(bands.values()) if isinstance(bands, Mapping) else list(bands)
    flat = not any(isinstance(band, slice) or np.ndim(band) for band in given)
    if given and flat and not isinstance(bands, Mapping):
        return _from_labels(given, n_features)
    return _checked([_columns(band, n_features) for band in given], n_features)


def _from_labels(given: list[Any], n_features: int) -> list[Index]:
    """Read one number or text for each band (sizes) or for each column (labels)."""
    values = np.asarray(given)
    whole = values.dtype.kind in "iu"
    sizes = whole and values.sum() == n_features and (values > 0).all()
    labels = len(values) == n_features and values.dtype.kind in "iuUSb"
    names, first, codes = np.unique(values, return_index=True, return_inverse=True)
    if sizes and labels and len(names) != n_features:
        raise InputError(
            f"bands={listed(given)} could be the sizes of {n_features} bands or the labels of "
            f"{n_features} columns; give column numbers, such as [[0, 1], [2]]."
        )
    if sizes:
        edges = np.concatenate([[0], np.cumsum(values)])
        return [np.arange(start, stop) for start, stop in pairwise(edges)]
    if labels:
        return [np.flatnonzero(codes == code) for code in np.argsort(first)]
    what = f"sizes with a sum of {values.sum()}" if whole else "labels"
    raise InputError(
        f"bands are {len(values)} {what} for {n_features} features: give sizes above 0 with that "
        "sum, or one label for each feature."
    )


def _columns(band: Any, n_features: int) -> Index:
    """Return the column numbers of one band."""
    if isinstance(band, slice):
        return np.arange(n_features)[band]
    values = np.asarray(band)
    if values.dtype == bool and values.shape == (n_features,):
        return np.flatnonzero(values)
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
        raise InputError(
            "A band is a slice, a list of column numbers, or a mask with one value for each of "
            f"the {n_features} features; got {band!r}."
        )
    return values.astype(np.int64)


def _checked(columns: list[Index], n_features: int) -> list[Index]:
    """Raise unless every column is in one band."""
    if not columns or not all(len(band) for band in columns):
        empty = [number for number, band in enumerate(columns) if not len(band)]
        raise InputError(
            f"Bands {listed(empty)} have no columns; leave them out." if columns
            else "No bands were given; None stands for one band of all features."
        )  # fmt: skip
    every = np.concatenate(columns)
    outside = np.unique(every[(every < 0) | (every >= n_features)])
    if len(outside):
        raise InputError(
            f"Bands hold columns {listed(outside)}, but features are numbered 0 to "
            f"{n_features - 1}."
        )
    counts = np.bincount(every, minlength=n_features)
    if (counts > 1).any():
        raise InputError(
            f"Columns {listed(np.flatnonzero(counts > 1))} are in a band more than once; every "
            "column belongs to one band."
        )
    if (counts == 0).any():
        raise InputError(
            f"Columns {listed(np.flatnonzero(counts == 0))} are in no band; drop them from the "
            "features or give them a band."
        )
    return columns


def simplex_draws(
    n_draws: int,
    n_bands: int,
    *,
    concentration: float | Sequence[float] = CONCENTRATIONS,
    seed: int = 0,
) -> Float:
    """Draw weights for the bands, not negative and with a sum of 1.

    The first draw weighs all bands alike. The next ones are the corners, each band alone, as far
    as `n_draws` allows. The others are random, in turn from a Dirichlet distribution of each
    concentration (Dupré la Tour and others, 2022, NeuroImage 264:119728, use .1 and 1), and from a
    face of the simplex, where some bands have a weight of 0 exactly: with three bands or more,
    a random number of them, two at least and not all, uniform among themselves. So a band can be
    switched off, not only made small.

    Parameters
    ----------
    n_draws : int
    n_bands : int
    concentration : float or sequence of float, default=(0.1, 1.0)
        Of the symmetric Dirichlet distributions; below 1 the weights keep to the corners.
    seed : int, default=0

    Returns
    -------
    float64 array (n_draws, n_bands)
        With one band, a single draw.

    Raises
    ------
    InputError
        If there are no draws or bands, or a concentration is not positive.
    """
    concentrations = np.atleast_1d(np.asarray(concentration, dtype=float))
    if n_draws < 1 or n_bands < 1:
        raise InputError(f"At least 1 draw of 1 band; got {n_draws} of {n_bands}.")
    if not concentrations.size or not (np.isfinite(concentrations) & (concentrations > 0)).all():
        raise InputError(f"concentration must be positive, one or several; got {concentration}.")
    fixed = np.concatenate([np.full((1, n_bands), 1 / n_bands), np.eye(n_bands)])
    if n_bands == 1:
        return fixed[:1]
    generator = rng(seed, "simplex draws")
    kinds = [*concentrations, *([None] if n_bands > 2 else [])]
    drawn = [
        _draw(generator, n_bands, kinds[number % len(kinds)])
        for number in range(n_draws - len(fixed))
    ]
    return np.concatenate([fixed, np.reshape(drawn, (-1, n_bands))])[:n_draws]


def _draw(generator: np.random.Generator, n_bands: int, concentration: float | None) -> Float:
    """Draw from the whole simplex, or without a concentration from one of its faces."""
    if concentration is not None:
        return generator.dirichlet(np.full(n_bands, concentration))
    weights = np.zeros(n_bands)
    size = int(generator.integers(2, n_bands))
    weights[generator.permutation(n_bands)[:size]] = generator.dirichlet(np.ones(size))
    return weights


def checked_draws(draws: ArrayLike, n_bands: int) -> Float:
    """Return given draws in double precision.

    Raises
    ------
    InputError
        If they are not weights on the simplex of that many bands.
    """
    on_host = draws.cpu() if hasattr(draws, "cpu") else draws  # from a GPU too
    weights = np.asarray(on_host, dtype=np.float64)
    if weights.ndim != 2 or weights.shape[1] != n_bands or not len(weights):
        raise InputError(
            f"draws must have one row for each draw and one column for each of the {n_bands} "
            f"bands; got {weights.shape}."
        )
    if not (weights >= 0).all() or not (abs(weights.sum(axis=1) - 1) <= UNIT_SUM).all():
        wrong = ~((weights >= 0).all(axis=1) & (abs(weights.sum(axis=1) - 1) <= UNIT_SUM))
        raise InputError(
            f"Weights of a draw are not negative and sum to 1; those of draws "
            f"{listed(np.flatnonzero(wrong))} do not. Divide each draw by its sum."
        )
    return weights
