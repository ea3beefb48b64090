"""Noise ceilings, each of a named definition, and scores as a share of them.

A ceiling is how much variance any model could explain. It follows from what repeats of the same
stimuli have in common: split halves, explainable variance, ncsnr. Scores are given as a share of it
pooled over units or above a stated ceiling. Per-unit ratios with clamped ceilings are not offered:
where the estimated ceiling is 0, clamping it to a small number and capping the ratio at 1 gives a
predictor without information about .3 on pure noise. Here nothing is clamped or capped, and the
same predictor averages 0.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.seeds import rng
from brainkit.errors import InputError, listed, unknown_name
from brainkit.evaluation.checked_arrays import centred, column_batches, real_array
from brainkit.evaluation.cross_subject import Predictor, cross_subject_ceiling
from brainkit.evaluation.quantities import (
    NCSNR,
    CeilingFraction,
    Correlation,
    CorrelationFraction,
    ExplainableVariance,
    NoiseCeiling,
    RSquared,
    effective_repeats,
    ncsnr_to_ceiling,
    require_kind,
)

FROM_REPEATS = ("nsd", "split-half")
FROM_SUBJECTS = ("cross-subject", "cross-subject-all")
DEFINITIONS = (*FROM_REPEATS, *FROM_SUBJECTS)


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
    values = np.asarray(labels)
    if values.shape != (n_trials,):
        raise InputError(
            f"{name} has shape {values.shape}, expected ({n_trials},): one label for each trial."
        )
    try:
        missing = values.dtype.kind == "f" and bool(np.isnan(values).any())
        _, codes = np.unique(values, return_inverse=True)
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


def spearman_brown(correlation: Correlation, factor: float) -> Correlation:
    """Give the correlation of two measurements that are each `factor` times as long.

    r' = k·r / (1 + (k - 1)·r), after Spearman (1910) and Brown (1910).

    Parameters
    ----------
    correlation : Correlation of any shape
        Correlation of two parallel measurements, such as means over the halves of the repeats.
        Where it is negative there is nothing to step up, and it comes back as 0.
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
        The stimulus that each trial showed.
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
        Ceilings of definition ``"split-half"``; NaN for constant and NaN units.

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
    measured = real_array(responses, "responses")
    if measured.ndim != 3 or measured.shape[0] < 2 or measured.shape[1] < 2:
        raise InputError(
            f"responses has shape {measured.shape}, expected (n_repeats, n_samples, n_units) with "
            "at least 2 repeats and 2 samples."
        )
    n_repeats, n_samples, n_units = measured.shape
    share = np.empty(n_units)
    for batch in column_batches(n_repeats * n_samples, n_units):
        total = np.zeros((n_samples, len(range(n_units)[batch])))
        variance = np.zeros(total.shape[1])
        for repeat in measured[:, :, batch]:
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
        The stimulus that each trial showed, integers or strings.
    sessions : array_like of shape (n_trials,), optional
        Session of each trial; all trials are one session when not given.
    min_repeats : int, default 3
        Images shown fewer times do not enter the noise variance (all trials enter the z-score).
    min_images : int, default 10
        Fewest images with enough repeats that an estimate may rest on.

    Returns
    -------
    NCSNR of shape (n_units,)
        Ratios of definition ``"nsd"``. NaN where a unit holds NaN or is constant in any session, 0
        where repeats vary as much as different images do.

    Raises
    ------
    InputError
        If the shapes do not fit, a session has one trial, or too few images repeat.
    """
    trials, images, session_rows = repeated_trials(responses, stimuli, sessions)
    order, starts, counts = repeated(images, min_repeats, min_images)
    noise = np.empty(trials.shape[1])
    for batch in column_batches(*trials.shape):
        block = zscore_sessions(trials[:, batch], session_rows)[order]
        means = np.add.reduceat(block, starts, axis=0) / counts[:, None]
        block -= np.repeat(means, counts, axis=0)
        variances = np.add.reduceat(block**2, starts, axis=0) / (counts[:, None] - 1)
        noise[batch] = variances.mean(axis=0)
    # Repeats that agree exactly have no noise: the ratio is then infinite, and the ceiling 1.
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt(np.maximum(0.0, 1.0 - noise)) / np.sqrt(noise)
    return NCSNR(ratio, definition="nsd")


def noise_ceiling(
    responses: ArrayLike | Mapping[str, ArrayLike],
    stimuli: ArrayLike | None = None,
    sessions: ArrayLike | None = None,
    n_repeats: float | Mapping[int, int] | None = None,
    *,
    definition: str = "nsd",
    min_repeats: int = 3,
    min_images: int = 10,
    target: str | None = None,
    predict: Predictor | None = None,
    seed: int = 0,
) -> NoiseCeiling:
    """Estimate the share of variance in responses that any model could explain.

    - ``"nsd"``: NC(n) = ncsnr² / (ncsnr² + 1/n) from :func:`ncsnr`; with unequal repeats, 1/n
      becomes (n_3/3 + n_2/2 + n_1/1)/(n_1 + n_2 + n_3), n_k the number of images averaged over k
      trials (Allen et al., 2022).
    - ``"split-half"``: the correlation of means over halves of the repeats, stepped up to n trials
      by Spearman and Brown; see :func:`brainkit.evaluation.split_half_ceiling`.
    - ``"cross-subject"``: how well the other subjects' responses predict the target's, extrapolated
      to ever more of them; ``"cross-subject-all"``: the same from all others, not extrapolated. See
      :func:`brainkit.evaluation.cross_subject_ceiling`, which has more options.

    They answer different questions, and ceilings of two definitions do not mix.

    Parameters
    ----------
    responses : array_like of shape (n_trials, n_units), or a mapping of subject to array_like
        Single-trial responses; for the cross-subject definitions each subject's responses
        (n_samples, n_units) to the same samples.
    stimuli : array_like of shape (n_trials,), optional
        The stimulus that each trial showed. For the cross-subject definitions: samples of one label
        (a run, an image) stay on one side of a fold.
    sessions : array_like of shape (n_trials,), optional
        Session of each trial; not for the cross-subject definitions.
    n_repeats : float or mapping, optional
        Trials averaged in the responses that models will be scored on, or
        ``{trials averaged: number of images}``. It need not be the repeats in `responses`. 3 where
        not given; for the cross-subject definitions it says what `responses` average, 1 where not
        given.
    definition : {"nsd", "split-half", "cross-subject", "cross-subject-all"}
        The way in which signal and noise are told apart.
    min_repeats, min_images : int
        The least numbers of repeats and images, see :func:`ncsnr`.
    target : str, optional
        For the cross-subject definitions: the subject whose ceiling is wanted.
    predict : callable, optional
        For the cross-subject definitions: ``predict(X_train, Y_train, X_test)`` gives predictions.
    seed : int, default 0
        Seed of the splits, and of the subsets of subjects.

    Returns
    -------
    NoiseCeiling of shape (n_units,)
        Fraction of variance, in r² units; NaN for constant and NaN units.

    Raises
    ------
    InputError
        If the data are refused as by :func:`ncsnr`, for arguments that do not belong to the
        definition, or for an unknown definition.
    """
    if definition not in DEFINITIONS:
        raise unknown_name("noise-ceiling definition", definition, DEFINITIONS)
    if definition in FROM_SUBJECTS:
        if (
            not isinstance(responses, Mapping)
            or target is None
            or predict is None
            or sessions is not None
        ):
            raise InputError(
                f"The {definition!r} ceiling needs responses as {{subject: (n_samples, n_units)}}, "
                "target and predict(X_train, Y_train, X_test), and takes no sessions."
            )
        return cross_subject_ceiling(
            responses,
            target,
            predict,
            groups=stimuli,
            extrapolate=definition == "cross-subject",
            n_repeats=1 if n_repeats is None else n_repeats,
            seed=seed,
        ).ceiling
    if isinstance(responses, Mapping) or stimuli is None or target or predict:
        raise InputError(
            f"The {definition!r} ceiling needs the trials of one subject, (n_trials, n_units), and "
            "stimuli, the stimulus of each; target and predict are for the cross-subject ceilings."
        )
    repeats = 3 if n_repeats is None else n_repeats
    least = {"min_repeats": min_repeats, "min_images": min_images}
    if definition == "split-half":
        return split_half_ceiling(responses, stimuli, sessions, repeats, seed=seed, **least)
    return ncsnr_to_ceiling(ncsnr(responses, stimuli, sessions, **least), repeats)


def pooled_ceiling_fraction(
    scores: Correlation | RSquared, ceiling: NoiseCeiling
) -> CeilingFraction:
    """Give the explained share of the explainable variance of a set of units.

    Σ r·|r| / Σ NC for correlations, Σ R² / Σ NC for fractions of variance; both sums run over the
    units whose score and ceiling are finite. The sign of r is kept so that a predictor without
    information gives 0 in the mean.

    Parameters
    ----------
    scores : Correlation or RSquared of shape (n_units,)
        One score per unit, on responses that average ``ceiling.n_repeats`` trials.
    ceiling : NoiseCeiling of shape (n_units,)
        Ceilings of the same units.

    Returns
    -------
    CeilingFraction of shape ()
        ``float()`` gives the number. NaN where no unit is finite or their ceilings sum to 0.

    Raises
    ------
    QuantityError
        If `scores` or `ceiling` is a plain array or of another kind.
    InputError
        If the shapes differ.
    """
    value = _pooled(*_variances(scores, ceiling))
    return CeilingFraction(value, normalisation="pooled", definition=ceiling.definition)


def thresholded_ceiling_fraction(
    scores: Correlation | RSquared, ceiling: NoiseCeiling, *, above: float
) -> CeilingFraction:
    """Give each unit's share of its ceiling, where that ceiling is high enough to divide by.

    r·|r| / NC for correlations, R² / NC for fractions of variance.

    Parameters
    ----------
    scores : Correlation or RSquared of shape (n_units,)
        One score per unit, on responses that average ``ceiling.n_repeats`` trials.
    ceiling : NoiseCeiling of shape (n_units,)
        Ceilings of the same units.
    above : float
        Units whose ceiling is not above this fraction of variance are NaN; in (0, 1).

    Returns
    -------
    CeilingFraction of shape (n_units,)
        Its ``normalisation`` states the threshold.

    Raises
    ------
    QuantityError
        If `scores` or `ceiling` is a plain array or of another kind.
    InputError
        If the shapes differ, or `above` is not in (0, 1).
    """
    _check_threshold(above, "a fraction of variance")
    fractions = _above(*_variances(scores, ceiling), above)
    return CeilingFraction(
        fractions, normalisation=f"above {above:g}", definition=ceiling.definition
    )


def pooled_correlation_fraction(scores: Correlation, ceiling: NoiseCeiling) -> CorrelationFraction:
    """Give the correlation of a set of units as a share of the largest that can be expected.

    Σ r / Σ √NC; both sums run over the units whose score and ceiling are finite.

    Parameters
    ----------
    scores : Correlation of shape (n_units,)
        One score per unit, on responses that average ``ceiling.n_repeats`` trials.
    ceiling : NoiseCeiling of shape (n_units,)
        Ceilings of the same units; √NC is :meth:`NoiseCeiling.max_correlation`.

    Returns
    -------
    CorrelationFraction of shape ()
        ``float()`` gives the number. NaN where no unit is finite or their ceilings sum to 0.

    Raises
    ------
    QuantityError
        If `scores` or `ceiling` is a plain array or of another kind.
    InputError
        If the shapes differ.
    """
    value = _pooled(*_correlations(scores, ceiling))
    return CorrelationFraction(value, normalisation="pooled", definition=ceiling.definition)


def thresholded_correlation_fraction(
    scores: Correlation, ceiling: NoiseCeiling, *, above: float
) -> CorrelationFraction:
    """Give r / √NC of each unit whose √NC is high enough to divide by.

    Parameters
    ----------
    scores : Correlation of shape (n_units,)
        One score per unit, on responses that average ``ceiling.n_repeats`` trials.
    ceiling : NoiseCeiling of shape (n_units,)
        Ceilings of the same units.
    above : float
        Units whose √NC, a correlation, is not above this are NaN; in (0, 1).

    Returns
    -------
    CorrelationFraction of shape (n_units,)
        Its ``normalisation`` states the threshold.

    Raises
    ------
    QuantityError
        If `scores` or `ceiling` is a plain array or of another kind.
    InputError
        If the shapes differ, or `above` is not in (0, 1).
    """
    _check_threshold(above, "a correlation")
    fractions = _above(*_correlations(scores, ceiling), above)
    return CorrelationFraction(
        fractions, normalisation=f"above {above:g}", definition=ceiling.definition
    )


def _pooled(reached: NDArray[np.float64], reachable: NDArray[np.float64]) -> float:
    """Return the ratio of the sums over the units where both are finite."""
    finite = np.isfinite(reached) & np.isfinite(reachable)
    total = reachable[finite].sum()
    return float(reached[finite].sum() / total) if total > 0 else float("nan")


def _above(
    values: NDArray[np.float64], largest: NDArray[np.float64], threshold: float
) -> NDArray[np.float64]:
    fractions = np.full(values.shape, np.nan)
    np.divide(values, largest, out=fractions, where=largest > threshold)
    return fractions


def _check_threshold(above: float, what: str) -> None:
    if not 0 < above < 1:
        raise InputError(
            f"above={above}: state {what} between 0 and 1, such as 0.1 "
            "(a ceiling of 0 cannot be divided by)."
        )


def _correlations(
    scores: Correlation, ceiling: NoiseCeiling
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    require_kind(scores, Correlation, "scores")
    _, explainable = _variances(scores, ceiling)
    return np.asarray(scores), np.sqrt(explainable)


def _variances(
    scores: Correlation | RSquared, ceiling: NoiseCeiling
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    require_kind(scores, (Correlation, RSquared), "scores")
    require_kind(ceiling, NoiseCeiling, "ceiling")
    if scores.shape != ceiling.shape:
        raise InputError(
            f"scores has shape {scores.shape} and ceiling {ceiling.shape}: "
            "they need one value each for the same units."
        )
    explained = scores.signed_square() if isinstance(scores, Correlation) else scores
    return np.asarray(explained), np.asarray(ceiling)
