r"""Delayed copies of features, for responses that follow the stimulus late (FIR models).

The response to a stimulus builds up over seconds (the haemodynamic response) or milliseconds. A
linear model with weights of its own for every delay d,

.. math:: \hat y(t) = \sum_d w_d' x(t - d),

makes no assumption about its shape (a finite impulse response; Dale, 1999, Hum. Brain Mapp. 8:109).
What went before the first sample of a contiguous stretch is unknown: the copies are 0 there, and
never hold samples of another stretch. A stretch ends where the run changes, and within a run where
samples are missing: the training rows of a cross-validation have holes where rows were held out,
which the labels of runs alone do not show. The times of the rows do.

The functions take NumPy arrays or torch tensors, on any device, and return the same kind.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from array_api_compat import array_namespace
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError, listed

TWICE = 0.1  # of the usual step: two rows that are nearer are one moment told twice

Array = Any  # a NumPy array or a torch tensor


def delay(
    X: Array,
    delays: Sequence[int],
    runs: ArrayLike | None = None,
    times: ArrayLike | None = None,
) -> Array:
    """Put delayed copies of the features side by side.

    Parameters
    ----------
    X : array (n_samples, n_features)
        Features in order of time.
    delays : sequence of int
        Delays in samples, each once. With a delay d, row t holds the features of row t − d of the
        same stretch; a negative one looks ahead.
    runs : array (n_samples,), optional
        Run of each sample. One run where not given; without times, the rows of a run stand
        together, and none is missing in between.
    times : array (n_samples,), optional
        Time at which each sample was taken, rising within a run: whole numbers of samples, such as
        row numbers of the whole recording, or times in any unit, whose usual step is one sample.

    Returns
    -------
    array (n_samples, n_delays · n_features)
        All features of the first delay, then all of the next, of the dtype of X; 0 where a stretch
        has no such row.

    Raises
    ------
    InputError
        If X is not two-dimensional, delays are missing, not whole or repeated, runs or times do not
        fit X, runs stand in several places (without times), or times do not rise.
    """
    shifts = checked_delays(delays)
    if X.ndim != 2:
        raise InputError(
            f"Features to delay are (n_samples, n_features); got an array of {tuple(X.shape)}."
        )
    xp = array_namespace(X)
    n_samples, n_features = X.shape
    delayed = xp.zeros((n_samples, len(shifts) * n_features), dtype=X.dtype, device=X.device)
    for start, stop in contiguous_spans(runs, times, n_samples):
        for place, shift in enumerate(shifts):
            if abs(shift) >= stop - start:
                continue
            columns = slice(place * n_features, (place + 1) * n_features)
            late, early = max(shift, 0), max(-shift, 0)
            delayed[start + late : stop - early, columns] = X[start + early : stop - late]
    return delayed


def checked_delays(delays: Sequence[int]) -> list[int]:
    """Return delays as a list of int.

    Raises
    ------
    InputError
        If there are none, or they are not whole, or not different.
    """
    values = np.asarray(delays)
    numbers = values.dtype.kind in "iuf" and values.ndim == 1 and values.size
    if not numbers or not np.all(np.isfinite(values)) or np.any(values != np.round(values)):
        raise InputError(f"delays must be whole numbers of samples, at least one; got {delays}.")
    shifts = [int(value) for value in values]
    if len(set(shifts)) < len(shifts):
        raise InputError(f"Every delay may be given once; got {delays}.")
    return shifts


def contiguous_spans(
    runs: ArrayLike | None, times: ArrayLike | None, n_samples: int
) -> Iterator[tuple[int, int]]:
    """Return the first row of each contiguous stretch and the one after its last.

    Parameters
    ----------
    runs, times : arrays (n_samples,) or None
        See `delay`.
    n_samples : int

    Raises
    ------
    InputError
        If there is not one run and one time for each sample, the rows of a run stand in several
        places (without times), or times do not rise within a run.
    """
    labels = _one_each("runs", runs, n_samples)
    if labels is not None and pd.isna(labels).any():
        row = int(np.flatnonzero(pd.isna(labels))[0])
        raise InputError(f"runs must tell of every sample; that of row {row} is missing.")
    moments = _one_each("times", times, n_samples)
    if n_samples == 0:
        return iter([])
    new_run = np.zeros(n_samples - 1, dtype=bool) if labels is None else labels[1:] != labels[:-1]
    if moments is None:
        if labels is not None:
            _check_together(labels, new_run)
        return _spans(new_run, n_samples)
    if moments.dtype.kind not in "iuf" or not np.isfinite(moments).all():
        raise InputError(
            f"times must be finite numbers, one for each of the {n_samples} samples; got "
            f"{moments.dtype}."
        )
    steps = np.diff(moments.astype(np.float64))
    inside = steps[~new_run]
    if (inside <= 0).any():
        row = int(np.flatnonzero(~new_run & (steps <= 0))[0])
        raise InputError(
            f"times must rise within a run; rows {row} and {row + 1} have {moments[row]} and "
            f"{moments[row + 1]}. Sort the rows by time, or tell runs apart by runs."
        )
    step = 1.0 if moments.dtype.kind in "iu" else _usual_step(inside)
    if moments.dtype.kind in "iu" and len(inside) and not (inside == 1).any():
        raise InputError(
            "times in whole numbers are the numbers of samples, of which neighbours differ by 1; "
            f"these differ by {inside.min():.0f} or more. Give times in seconds as real numbers, "
            "such as times * 1.0."
        )
    if len(inside) and inside.min() < TWICE * step:
        row = int(np.flatnonzero(~new_run & (steps == inside.min()))[0])
        raise InputError(
            f"Rows {row} and {row + 1} are {inside.min():.3g} apart in time where neighbours are "
            f"{step:.3g} apart: a time that stands there twice, or that is wrong."
        )
    # Times that are read from a clock jitter; a missing sample is a whole step more.
    return _spans(new_run | (steps > 1.5 * step), n_samples)


def _usual_step(steps: NDArray[np.float64]) -> float:
    """Return how far neighbours in time are apart, where samples may be missing between others."""
    if not len(steps):
        return np.inf
    small = np.quantile(steps, 0.1, method="higher")  # not the least: clocks jitter
    return float(np.median(steps[steps <= 1.5 * small]))


def _one_each(name: str, values: ArrayLike | None, n_samples: int) -> NDArray[Any] | None:
    """Return an array with one value for each sample."""
    if values is None:
        return None
    column = np.asarray(values)
    if column.shape != (n_samples,):
        raise InputError(
            f"{name} must have one value for each of the {n_samples} samples; got {column.shape}."
        )
    return column


def _check_together(labels: NDArray[Any], new_run: NDArray[np.bool_]) -> None:
    """Raise if the rows of a run stand in several places."""
    firsts = labels[np.concatenate([[0], np.flatnonzero(new_run) + 1])]
    codes, names = pd.factorize(firsts)  # names of any types
    torn = names[np.bincount(codes) > 1]
    if len(torn):
        raise InputError(
            "Rows of a run must stand together, in order of time; those of these runs stand in "
            f"several places: {listed(torn)}. Sort the rows by run, give runs of different "
            "sessions different names, or give the rows' times."
        )


def _spans(breaks: NDArray[np.bool_], n_samples: int) -> Iterator[tuple[int, int]]:
    return pairwise([0, *(np.flatnonzero(breaks) + 1).tolist(), n_samples])
