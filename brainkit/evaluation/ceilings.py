"""Noise ceilings, each of a named definition: how much variance any model could explain."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from brainkit.errors import InputError, unknown_name
from brainkit.evaluation._columns import column_batches
from brainkit.evaluation._repeats import repeated, repeated_trials, zscore_sessions
from brainkit.evaluation.cross_subject import Predictor, cross_subject_ceiling
from brainkit.evaluation.quantities import NCSNR, NoiseCeiling, ncsnr_to_ceiling
from brainkit.evaluation.reliability import split_half_ceiling

FROM_REPEATS = ("nsd", "split-half")
FROM_SUBJECTS = ("cross-subject", "cross-subject-all")
DEFINITIONS = (*FROM_REPEATS, *FROM_SUBJECTS)


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
        Which stimulus each trial showed. For the cross-subject definitions: samples of one label
        (a run, an image) stay on one side of a fold.
    sessions : array_like of shape (n_trials,), optional
        Session of each trial; not for the cross-subject definitions.
    n_repeats : float or mapping, optional
        Trials averaged in the responses that models will be scored on, or
        ``{trials averaged: number of images}``. It need not be the repeats in `responses`. 3 where
        not given; for the cross-subject definitions it says what `responses` average, 1 where not
        given.
    definition : {"nsd", "split-half", "cross-subject", "cross-subject-all"}
        How signal and noise are told apart.
    min_repeats, min_images : int
        As in :func:`ncsnr`.
    target : str, optional
        For the cross-subject definitions: the subject whose ceiling is wanted.
    predict : callable, optional
        For the cross-subject definitions: ``predict(X_train, Y_train, X_test)`` gives predictions.
    seed : int, default 0
        Of the splits, and of the subsets of subjects.

    Returns
    -------
    NoiseCeiling of shape (n_units,)
        Fraction of variance, in r² units; NaN for constant and NaN units.

    Raises
    ------
    InputError
        As in :func:`ncsnr`, for arguments that do not belong to the definition, or for an unknown
        definition.
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
