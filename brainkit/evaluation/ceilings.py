"""Noise ceilings from repeated stimuli: how much variance any model could explain."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError, listed, unknown_name
from brainkit.evaluation._columns import centred, column_batches, real_array
from brainkit.evaluation.quantities import NCSNR, NoiseCeiling, ncsnr_to_ceiling

DEFINITIONS = ("nsd",)


def ncsnr(
    responses: ArrayLike,
    stimuli: ArrayLike,
    sessions: ArrayLike | None = None,
    *,
    min_repeats: int = 3,
    min_images: int = 10,
) -> NCSNR:
    """Estimate each unit's noise-ceiling signal-to-noise ratio from repeated images.

    Responses are z-scored within each session, so that total variance is 1. The noise variance σ²
    is the mean, over images shown at least `min_repeats` times, of the variance over an image's
    trials (ddof 1); then ncsnr = √max(0, 1 - σ²) / σ, after Allen et al. (2022).

    Parameters
    ----------
    responses : array_like of shape (n_trials, n_units)
        Single-trial responses, any unit of measurement.
    stimuli : array_like of shape (n_trials,)
        Which stimulus each trial showed, integers or strings.
    sessions : array_like of shape (n_trials,), optional
        Session of each trial; all trials are one session when not given.
    min_repeats : int, default 3
        Images shown fewer times do not enter the noise variance (all trials enter the z-score).
    min_images : int, default 10
        Fewest images with enough repeats that an estimate may rest on.

    Returns
    -------
    NCSNR of shape (n_units,)
        Of definition ``"nsd"``. NaN where a unit holds NaN or is constant in any session, 0 where
        repeats vary as much as different images do.

    Raises
    ------
    InputError
        If the shapes do not fit, a session has one trial, or too few images repeat.
    """
    trials = real_array(responses, "responses")
    if trials.ndim != 2:
        raise InputError(f"responses has shape {trials.shape}, expected (n_trials, n_units).")
    images = _trial_labels(stimuli, len(trials), "stimuli")
    session_rows = _session_rows(sessions, len(trials))
    order, starts, counts = _repeated(images, min_repeats, min_images)
    noise = np.empty(trials.shape[1])
    for batch in column_batches(*trials.shape):
        block = _zscore_sessions(trials[:, batch], session_rows)[order]
        means = np.add.reduceat(block, starts, axis=0) / counts[:, None]
        block -= np.repeat(means, counts, axis=0)
        variances = np.add.reduceat(block**2, starts, axis=0) / (counts[:, None] - 1)
        noise[batch] = variances.mean(axis=0)
    # Repeats that agree exactly have no noise: the ratio is then infinite, and the ceiling 1.
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt(np.maximum(0.0, 1.0 - noise)) / np.sqrt(noise)
    return NCSNR(ratio, definition="nsd")


def noise_ceiling(
    responses: ArrayLike,
    stimuli: ArrayLike,
    sessions: ArrayLike | None = None,
    n_repeats: float | Mapping[int, int] = 3,
    *,
    min_repeats: int = 3,
    min_images: int = 10,
    definition: str = "nsd",
) -> NoiseCeiling:
    """Estimate the share of variance in `n_repeats`-trial means that any model could explain.

    NC(n) = ncsnr² / (ncsnr² + 1/n); with unequal repeats, 1/n becomes
    (n_3/3 + n_2/2 + n_1/1)/(n_1 + n_2 + n_3), n_k the number of images averaged over k trials.

    Parameters
    ----------
    responses : array_like of shape (n_trials, n_units)
        Single-trial responses.
    stimuli : array_like of shape (n_trials,)
        Which stimulus each trial showed.
    sessions : array_like of shape (n_trials,), optional
        Session of each trial.
    n_repeats : float or mapping, default 3
        Trials averaged in the responses that models will be scored on, or
        ``{trials averaged: number of images}``. It need not be the repeats in `responses`.
    min_repeats, min_images : int
        As in :func:`ncsnr`.
    definition : {"nsd"}
        How signal and noise are told apart.

    Returns
    -------
    NoiseCeiling of shape (n_units,)
        Fraction of variance, in r² units; NaN for constant and NaN units.

    Raises
    ------
    InputError
        As in :func:`ncsnr`, or for an unknown definition.
    """
    if definition not in DEFINITIONS:
        raise unknown_name("noise-ceiling definition", definition, DEFINITIONS)
    ratio = ncsnr(responses, stimuli, sessions, min_repeats=min_repeats, min_images=min_images)
    return ncsnr_to_ceiling(ratio, n_repeats)


def _trial_labels(labels: ArrayLike, n_trials: int, name: str) -> NDArray[np.intp]:
    given = np.asarray(labels)
    if given.shape != (n_trials,):
        raise InputError(
            f"{name} has shape {given.shape}, expected ({n_trials},): one label for each trial."
        )
    try:
        missing = given.dtype.kind == "f" and bool(np.isnan(given).any())
        _, codes = np.unique(given, return_inverse=True)
    except TypeError:  # None or pandas.NA cannot be put in order with labels
        missing = True
    if missing:
        raise InputError(
            f"{name} has missing labels: select the trials that have one before calling."
        )
    return codes


def _session_rows(sessions: ArrayLike | None, n_trials: int) -> list[NDArray[np.intp]]:
    if sessions is None:
        return [np.arange(n_trials)]
    codes = _trial_labels(sessions, n_trials, "sessions")
    rows = [np.flatnonzero(codes == code) for code in range(codes.max(initial=-1) + 1)]
    names = np.asarray(sessions)
    short = [names[session[0]] for session in rows if len(session) < 2]
    if short:
        raise InputError(
            f"Sessions {listed(short)} have a single trial and cannot be z-scored: leave them out."
        )
    return rows


def _repeated(
    images: NDArray[np.intp], min_repeats: int, min_images: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Rows of repeated images sorted by image, where each image starts, and its trials."""
    if min_repeats < 2:
        raise InputError(f"min_repeats={min_repeats}: a variance over repeats needs at least 2.")
    shown = np.bincount(images)
    kept = shown >= min_repeats
    if kept.sum() < max(min_images, 1):
        times, n_images = np.unique(shown, return_counts=True)
        tally = listed(f"{n} shown {k}×" for k, n in zip(times, n_images, strict=True))
        raise InputError(
            f"{int(kept.sum())} images were shown at least {min_repeats} times, expected at least "
            f"{min_images} (images: {tally or 'none'}). Give the trials of more repeated images, "
            "or lower min_repeats or min_images."
        )
    rows = np.flatnonzero(kept[images])
    order = rows[np.argsort(images[rows], kind="stable")]
    counts = shown[kept]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return order, starts, counts


def _zscore_sessions(
    block: NDArray[np.generic], session_rows: list[NDArray[np.intp]]
) -> NDArray[np.float64]:
    scored = np.empty(block.shape)
    for rows in session_rows:
        deviations, sum_of_squares = centred(block[rows])
        # ddof 1, as in the noise variance that is subtracted from this total of 1.
        scored[rows] = deviations / np.sqrt(sum_of_squares / (len(rows) - 1))
    return scored
