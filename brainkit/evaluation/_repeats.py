"""Repeated trials of stimuli: labels, sessions, z-scores and which trials repeat."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError, listed
from brainkit.evaluation._columns import centred, real_array


def repeated_trials(
    responses: ArrayLike, stimuli: ArrayLike, sessions: ArrayLike | None
) -> tuple[NDArray[np.generic], NDArray[np.intp], list[NDArray[np.intp]]]:
    """Return trials (n_trials, n_units), the stimulus code of each, and the rows of each session.

    Raises
    ------
    InputError
        If the shapes do not fit, labels are missing, or a session has one trial.
    """
    trials = real_array(responses, "responses")
    if trials.ndim != 2:
        raise InputError(f"responses has shape {trials.shape}, expected (n_trials, n_units).")
    images = _trial_labels(stimuli, len(trials), "stimuli")
    return trials, images, _session_rows(sessions, len(trials))


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


def repeated(
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


def zscore_sessions(
    block: NDArray[np.generic], session_rows: list[NDArray[np.intp]]
) -> NDArray[np.float64]:
    """Z-score float64 columns within each session, so that their total variance is 1."""
    scored = np.empty(block.shape)
    for rows in session_rows:
        deviations, sum_of_squares = centred(block[rows])
        # ddof 1, as in the noise variance that is subtracted from this total of 1.
        scored[rows] = deviations / np.sqrt(sum_of_squares / (len(rows) - 1))
    return scored
