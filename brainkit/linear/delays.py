r"""Delayed copies of features, for responses that follow the stimulus late (FIR models).

The response to a stimulus builds up over seconds (the haemodynamic response) or milliseconds. A
linear model with weights of its own for every delay d,

.. math:: \hat y(t) = \sum_d w_d' x(t - d),

makes no assumption about its shape (a finite impulse response; Dale, 1999, Hum. Brain Mapp. 8:109).
What went before the first sample of a run is unknown: the copies are 0 there, and never hold
samples of another run.

The functions take NumPy arrays or torch tensors, on any device, and return the same kind.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import ArrayLike

from brainkit.errors import InputError, listed

Array = Any  # a NumPy array or a torch tensor


def delay(X: Array, delays: Sequence[int], runs: ArrayLike | None = None) -> Array:
    """Put delayed copies of the features side by side.

    Parameters
    ----------
    X : array (n_samples, n_features)
        Features in order of time.
    delays : sequence of int
        In samples, each once. With a delay d, row t holds the features of row t − d of the same
        run; a negative one looks ahead.
    runs : array (n_samples,), optional
        Run of each sample; the rows of a run stand together. One run where not given.

    Returns
    -------
    array (n_samples, n_delays · n_features)
        All features of the first delay, then all of the next, of the dtype of X; 0 where a run has
        no such row.

    Raises
    ------
    InputError
        If X is not two-dimensional, delays are missing, not whole or repeated, or runs do not fit
        X or stand in several places.
    """
    shifts = checked_delays(delays)
    if X.ndim != 2:
        raise InputError(
            f"Features to delay are (n_samples, n_features); got an array of {tuple(X.shape)}."
        )
    xp = array_namespace(X)
    n_samples, n_features = X.shape
    delayed = xp.zeros((n_samples, len(shifts) * n_features), dtype=X.dtype, device=X.device)
    for start, stop in run_spans(runs, n_samples):
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


def run_spans(runs: ArrayLike | None, n_samples: int) -> Iterator[tuple[int, int]]:
    """Return the first row of each run and the one after its last.

    Raises
    ------
    InputError
        If there is not one run for each sample, or the rows of a run stand in several places.
    """
    if runs is None:
        return iter([(0, n_samples)])
    labels = np.asarray(runs)
    if labels.shape != (n_samples,):
        raise InputError(
            f"runs must have one value for each of the {n_samples} samples; got {labels.shape}."
        )
    starts = [0, *(np.flatnonzero(labels[1:] != labels[:-1]) + 1).tolist(), n_samples]
    if n_samples == 0:
        return iter([])
    names, counts = np.unique(labels[starts[:-1]], return_counts=True)
    torn = names[counts > 1]
    if len(torn):
        raise InputError(
            "Rows of a run must stand together, in order of time; those of these runs stand in "
            f"several places: {listed(torn)}. Sort the rows by run, or give runs of different "
            "sessions different names."
        )
    return pairwise(starts)
