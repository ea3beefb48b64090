"""What repeats of the same stimuli have in common: split halves, explainable variance."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.seeds import rng
from brainkit.errors import InputError
from brainkit.evaluation._columns import centred, column_batches, real_array
from brainkit.evaluation._quantity import require_kind
from brainkit.evaluation._repeats import repeated, repeated_trials, zscore_sessions
from brainkit.evaluation.quantities import (
    Correlation,
    ExplainableVariance,
    NoiseCeiling,
    effective_repeats,
)


def spearman_brown(correlation: Correlation, factor: float) -> Correlation:
    """Give the correlation of two measurements that are each `factor` times as long.

    r' = k·r / (1 + (k - 1)·r), after Spearman (1910) and Brown (1910).

    Parameters
    ----------
    correlation : Correlation of any shape
        Of two parallel measurements, such as means over the halves of the repeats. Where it is
        negative there is nothing to step up, and it comes back as 0.
    factor : float
        k: 2 from halves to the whole.

    Returns
    -------
    Correlation of the same shape
        NaN where `correlation` is.

    Raises
    ------
    QuantityError
        If `correlation` is no :class:`Correlation`.
    InputError
        If `factor` is not positive.
    """
    require_kind(correlation, Correlation, "correlation")
    if not np.isfinite(factor) or factor <= 0:
        raise InputError(f"factor={factor}: a measurement has a positive length.")
    r = np.maximum(np.asarray(correlation), 0.0)
    return Correlation(factor * r / (1.0 + (factor - 1.0) * r))


def split_half_ceiling(
    responses: ArrayLike,
    stimuli: ArrayLike,
    sessions: ArrayLike | None = None,
    n_repeats: float | Mapping[int, int] = 3,
    *,
    min_repeats: int = 2,
    min_images: int = 10,
    n_splits: int = 50,
    seed: int = 0,
) -> NoiseCeiling:
    """Estimate the noise ceiling from the correlation of split halves of the repeats.

    Responses are z-scored within each session. Each split draws two halves of k = ⌊min_repeats / 2⌋
    trials of every image with enough repeats; r is the correlation over images of the halves'
    means, averaged over splits. The correlation of two noisy measurements of one signal is the
    share of *variance* that is signal (a model that knows the signal correlates √r), so that r
    stepped up to n trials by :func:`spearman_brown` is the ceiling in r² units.

    Parameters
    ----------
    responses : array_like of shape (n_trials, n_units)
        Single-trial responses, any unit of measurement.
    stimuli : array_like of shape (n_trials,)
        Which stimulus each trial showed.
    sessions : array_like of shape (n_trials,), optional
        Session of each trial; all trials are one session when not given.
    n_repeats : float or mapping, default 3
        Trials averaged in the responses that models will be scored on, or
        ``{trials averaged: number of images}``.
    min_repeats : int, default 2
        Images shown fewer times do not enter the halves.
    min_images : int, default 10
        Fewest images with enough repeats that an estimate may rest on.
    n_splits : int, default 50
        Number of random splits.
    seed : int, default 0
        The same seed gives the same splits.

    Returns
    -------
    NoiseCeiling of shape (n_units,)
        Of definition ``"split-half"``; NaN for constant and NaN units.

    Raises
    ------
    InputError
        If the shapes do not fit, a session has one trial, or too few images repeat.
    """
    trials, images, session_rows = repeated_trials(responses, stimuli, sessions)
    if n_splits < 1:
        raise InputError(f"n_splits={n_splits}: expected at least 1 split.")
    n_averaged = effective_repeats(n_repeats)
    order, starts, counts = repeated(images, min_repeats, max(min_images, 2))
    half = min_repeats // 2
    generator = rng(seed, "split-half")
    splits = [_halves(order, starts, counts, half, generator) for _ in range(n_splits)]
    r = np.zeros(trials.shape[1])
    for batch in column_batches(*trials.shape):
        block = zscore_sessions(trials[:, batch], session_rows)
        for first, second in splits:
            r[batch] += _correlation(block[first].mean(axis=1), block[second].mean(axis=1))
    stepped = spearman_brown(Correlation(r / n_splits), n_averaged / half)
    return NoiseCeiling(np.asarray(stepped), definition="split-half", n_repeats=n_averaged)


def explainable_variance(
    responses: ArrayLike, *, bias_correction: bool = True, zscore: bool = True
) -> ExplainableVariance:
    """Estimate the share of a single trial's variance that repeats have in common.

    EV = Var(mean over repeats) / mean(Var of each repeat), variances over samples (ddof 1). Noise
    that is left in the mean of R repeats adds (1 - EV)/(R - 1) to it on average, which
    `bias_correction` takes off (Schoppe et al., 2016; Dupré la Tour et al., 2025).

    Parameters
    ----------
    responses : array_like of shape (n_repeats, n_samples, n_units)
        Responses to the same samples, once for each repeat.
    bias_correction : bool, default True
        Take off the share that noise contributes. Units without signal then average 0, and half of
        them are below it.
    zscore : bool, default True
        Z-score each repeat over samples first, so that repeats count alike.

    Returns
    -------
    ExplainableVariance of shape (n_units,)
        Its ``ceiling(n_repeats)`` gives a noise ceiling. NaN where a unit holds NaN or is constant
        in any repeat.

    Raises
    ------
    InputError
        If the shape is another, or there are fewer than 2 repeats or samples.
    """
    given = real_array(responses, "responses")
    if given.ndim != 3 or given.shape[0] < 2 or given.shape[1] < 2:
        raise InputError(
            f"responses has shape {given.shape}, expected (n_repeats, n_samples, n_units) with at "
            "least 2 repeats and 2 samples."
        )
    n_repeats, n_samples, n_units = given.shape
    share = np.empty(n_units)
    for batch in column_batches(n_repeats * n_samples, n_units):
        total = np.zeros((n_samples, len(range(n_units)[batch])))
        variance = np.zeros(total.shape[1])
        for repeat in given[:, :, batch]:
            deviations, sum_of_squares = centred(repeat)
            scale = sum_of_squares / (n_samples - 1) if zscore else np.ones(total.shape[1])
            with np.errstate(invalid="ignore"):
                total += deviations / np.sqrt(scale)
                variance += sum_of_squares / (n_samples - 1) / scale
        with np.errstate(invalid="ignore"):
            of_mean = (total**2).sum(axis=0) / (n_samples - 1) / n_repeats**2
            share[batch] = of_mean / (variance / n_repeats)
    if bias_correction:
        share -= (1.0 - share) / (n_repeats - 1)
    return ExplainableVariance(share, bias_corrected=bias_correction)


def _halves(
    order: NDArray[np.intp],
    starts: NDArray[np.intp],
    counts: NDArray[np.intp],
    half: int,
    generator: np.random.Generator,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Draw two sets of `half` trials of each image, (n_images, half) each."""
    image = np.repeat(np.arange(len(counts)), counts)
    shuffled = order[np.lexsort((generator.random(len(order)), image))]
    rows = shuffled[starts[:, None] + np.arange(2 * half)]
    return rows[:, :half], rows[:, half:]


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    one, one_ss = centred(first)
    two, two_ss = centred(second)
    with np.errstate(invalid="ignore"):
        r = np.einsum("ij,ij->j", one, two) / np.sqrt(one_ss * two_ss)
    return np.asarray(np.clip(r, -1.0, 1.0))
