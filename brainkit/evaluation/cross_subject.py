"""A noise ceiling for responses without repeats: how well other subjects predict a subject."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.progress import track
from brainkit.arrays.seeds import rng
from brainkit.errors import InputError, listed, unknown_name
from brainkit.evaluation.checked_arrays import column_batches, real_array
from brainkit.evaluation.quantities import Correlation, NoiseCeiling, effective_repeats
from brainkit.evaluation.response_scores import pearson_r
from brainkit.linear.folds import kfold

# predict(X_train, Y_train, X_test) -> predictions of Y_test
Predictor = Callable[[NDArray[np.generic], NDArray[np.generic], NDArray[np.generic]], ArrayLike]

_N_RATES = 48


@dataclass(frozen=True)
class CrossSubjectCeiling:
    """How well other subjects predict one, by their number.

    Attributes
    ----------
    ceiling : NoiseCeiling of shape (n_units,)
        max(0, v0)², fraction of variance.
    v0 : Correlation of shape (n_units,)
        r that the prediction reaches, or would reach from ever more subjects. Its sign is kept:
        units without signal average 0.
    tau : numpy.ndarray of shape (n_units,)
        Number of subjects after which 1 - 1/e of `v0` is reached; NaN where nothing was fitted.
    sizes : numpy.ndarray of int of shape (n_subsets,)
        Number of subjects that predicted, for each subset.
    scores : Correlation of shape (n_subsets, n_units)
        r of each subset's prediction, mean over folds.
    """

    ceiling: NoiseCeiling
    v0: Correlation
    tau: NDArray[np.float64]
    sizes: NDArray[np.intp]
    scores: Correlation


def cross_subject_ceiling(
    responses: Mapping[str, ArrayLike],
    target: str,
    predict: Predictor,
    *,
    folds: int = 5,
    groups: ArrayLike | None = None,
    extrapolate: bool = True,
    max_subsets: int = 10,
    n_bootstraps: int = 100,
    n_repeats: float | Mapping[int, int] = 1,
    seed: int = 0,
) -> CrossSubjectCeiling:
    """Predict a subject's responses from other subjects', and extrapolate in their number.

    For x = 1, 2, ... other subjects, subsets of x subjects predict the target in held-out folds
    with the encoder that is to be judged; r is the mean over folds. For each unit
    v(x) = v0 (1 - exp(-x/τ0)) is fitted to the subsets' r by least squares, with v0 in [-1, 1] and
    τ0 at most twice the number of other subjects, and v0 is the median over bootstraps of the
    subsets (drawn within each x). After Schrimpf et al. (2021) and Oota et al. (2025).

    Parameters
    ----------
    responses : mapping of str to array_like of shape (n_samples, n_units)
        Each subject's responses to the same samples; subjects may differ in units.
    target : str
        The subject whose ceiling is wanted.
    predict : callable
        ``predict(X_train, Y_train, X_test)`` gives (n_test, n_units of the target) from responses
        of other subjects, side by side (n_samples, Σ n_units); penalties are chosen inside. With an
        estimator: ``lambda X, Y, Z: VoxelwiseRidge().fit(X, Y).predict(Z)``.
    folds : int, default 5
        Number of folds of consecutive samples.
    groups : array_like of shape (n_samples,), optional
        Samples of one group (a run, an image) stay on one side of a fold.
    extrapolate : bool, default True
        False for the simpler variant: r of the prediction from all other subjects at once, of
        definition ``"cross-subject-all"``.
    max_subsets : int, default 10
        Subsets of each size, drawn without repetition where there are more.
    n_bootstraps : int, default 100
        Bootstraps of the fit.
    n_repeats : float or mapping, default 1
        Trials that the target's responses average.
    seed : int, default 0
        Seed of the subsets and the bootstraps.

    Returns
    -------
    CrossSubjectCeiling
        Its ``ceiling`` is of definition ``"cross-subject"`` or ``"cross-subject-all"``.

    Raises
    ------
    InputError
        If subjects differ in samples, there are too few of them, or an argument is out of range.
    UnknownNameError
        If the target is not among the subjects.
    """
    arrays = _subjects(responses, target, 2 if extrapolate else 1)
    if max_subsets < 1 or n_bootstraps < 1:
        raise InputError(
            f"max_subsets={max_subsets}, n_bootstraps={n_bootstraps}: expected at least 1 of each."
        )
    n_averaged = effective_repeats(n_repeats)
    wanted = arrays.pop(target)
    cuts = kfold(len(wanted), folds, groups=groups)
    subsets = [tuple(arrays)]
    if extrapolate:
        generator = rng(seed, "cross-subject", "subsets")
        subsets = [
            subset
            for size in range(1, len(arrays) + 1)
            for subset in _subsets(tuple(arrays), size, max_subsets, generator)
        ]
    scores = np.stack(
        [
            _score(np.concatenate([arrays[name] for name in subset], axis=1), wanted, predict, cuts)
            for subset in track(subsets, "predictions from other subjects")
        ]
    )
    sizes = np.array([len(subset) for subset in subsets], dtype=np.intp)
    v0, tau = scores[0], np.full(wanted.shape[1], np.nan)
    if extrapolate:
        v0, tau = saturation(sizes, scores, n_bootstraps, seed)
    ceiling = NoiseCeiling(
        np.maximum(v0, 0.0) ** 2,
        definition="cross-subject" if extrapolate else "cross-subject-all",
        n_repeats=n_averaged,
    )
    return CrossSubjectCeiling(ceiling, Correlation(v0), tau, sizes, Correlation(scores))


def saturation(
    sizes: NDArray[np.intp], scores: NDArray[np.float64], n_bootstraps: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit v0 (1 - exp(-x/τ0)) to each unit's scores, and give medians over bootstraps.

    For a τ0 of a grid the best v0 is a ratio of sums, so that all fits are one matrix product.

    Parameters
    ----------
    sizes : array of shape (n_subsets,)
        x of each score.
    scores : array of shape (n_subsets, n_units)
        What is fitted.
    n_bootstraps, seed : int
        Draws of subsets within each x.

    Returns
    -------
    v0, tau : arrays of shape (n_units,)
    """
    generator = rng(seed, "cross-subject", "bootstrap")
    weights = np.zeros((n_bootstraps, len(sizes)))
    for size in np.unique(sizes):
        same = np.flatnonzero(sizes == size)
        chance = np.full(len(same), 1 / len(same))
        weights[:, same] = generator.multinomial(len(same), chance, size=n_bootstraps)
    rates = np.geomspace(0.1, 2.0 * sizes.max(), _N_RATES)
    curves = 1.0 - np.exp(-sizes / rates[:, None])  # n_rates, n_subsets
    design = weights[:, None] * curves  # n_bootstraps, n_rates, n_subsets
    norms = np.einsum("brs,rs->br", design, curves)[..., None]
    v0, tau = np.empty(scores.shape[1]), np.empty(scores.shape[1])
    for batch in column_batches(n_bootstraps * _N_RATES, scores.shape[1]):
        products = design @ scores[:, batch]  # n_bootstraps, n_rates, n_units
        height = np.clip(products / norms, -1.0, 1.0)
        best = (height * (2.0 * products - height * norms)).argmax(axis=1)[:, None]
        v0[batch] = np.median(np.take_along_axis(height, best, axis=1)[:, 0], axis=0)
        tau[batch] = np.median(rates[best[:, 0]], axis=0)
    tau[np.isnan(v0)] = np.nan
    return v0, tau


def _score(
    X: NDArray[np.generic],
    Y: NDArray[np.generic],
    predict: Predictor,
    cuts: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> NDArray[np.float64]:
    """Mean r over folds; pooling the folds would correlate their means with what was left out."""
    scores = np.zeros(Y.shape[1])
    for train, test in cuts:
        predicted = np.asarray(predict(X[train], Y[train], X[test]))
        if predicted.shape != (len(test), Y.shape[1]):
            raise InputError(
                f"predict gave shape {predicted.shape}, expected {(len(test), Y.shape[1])}: one "
                "row for each row of X_test, one column for each unit of the target."
            )
        scores += np.asarray(pearson_r(Y[test], predicted))
    return scores / len(cuts)


def _subjects(
    responses: Mapping[str, ArrayLike], target: str, fewest: int
) -> dict[str, NDArray[np.generic]]:
    if target not in responses:
        raise unknown_name("subject", target, list(responses))
    if len(responses) <= fewest:
        raise InputError(
            f"There are {len(responses)} subjects: predicting one from others needs at least 2, "
            "and 3 to extrapolate in their number (extrapolate=False predicts from all at once)."
        )
    arrays = {
        name: real_array(values, f"responses of {name}") for name, values in responses.items()
    }
    shapes = {name: array.shape for name, array in arrays.items()}
    samples = {shape[0] for shape in shapes.values() if len(shape) == 2}
    if len(samples) != 1 or any(len(shape) != 2 for shape in shapes.values()):
        raise InputError(
            "Each subject needs (n_samples, n_units) of the same samples; the shapes are "
            f"{listed(f'{name} {shape}' for name, shape in shapes.items())}."
        )
    return arrays


def _subsets(
    names: tuple[str, ...], size: int, most: int, generator: np.random.Generator
) -> list[tuple[str, ...]]:
    """Distinct subsets, all of them or a random choice."""
    if comb(len(names), size) <= most:
        return list(combinations(names, size))
    chosen: dict[tuple[str, ...], None] = {}
    while len(chosen) < most:
        drawn = np.sort(generator.permutation(len(names))[:size])
        chosen[tuple(names[i] for i in drawn)] = None
    return list(chosen)
