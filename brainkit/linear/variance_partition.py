r"""Whose is the explained variance: its partition among feature bands.

Two partitions, which answer different questions.

*Product measure* of one joint model whose prediction is a sum over bands,
:math:`\hat y = \sum_j \hat y_j`: with y centred, each band's share is

.. math:: R^2_j = \frac{\sum_t (2 y_t - \hat y_t)\, \hat y_{jt}}{\sum_t y_t^2},
          \qquad \sum_j R^2_j = R^2

(Hoffman, 1960, Psychol. Bull. 57:116; for banded ridge Dupré la Tour and others, 2022, NeuroImage
264:119728). One fit, but the shares depend on how it divided what the bands have in common.

*Commonality analysis* of one model for every subset of bands: R² is taken for the size of a union
of sets, and the part that is in all bands of S and in no other is

.. math:: C(S) = \sum_{T \subseteq S} (-1)^{|T| + 1} R^2(T \cup \bar S),
          \qquad \sum_S C(S) = R^2(\text{all})

(Mood, 1971, Am. Educ. Res. J. 8:191; for voxels Lescroart, Stansbury and Gallant, 2015, Front.
Comput. Neurosci. 9:135). Parts can be
negative, by noise or where bands help each other; they are reported as they are.

The functions take NumPy arrays or torch tensors, on any device, and return the same kind. Sums run
in double precision over batches of targets.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from array_api_compat import array_namespace

from brainkit.errors import InputError, listed
from brainkit.linear.targets import target_batches

Array = Any  # a NumPy array or a torch tensor
Subset = tuple[Any, ...]  # bands, in the order in which they were given
MOST_BANDS = 8
TARGETS_AT_ONCE = 2048


@dataclass(frozen=True)
class R2Split:
    """Each band's share of the R² of a joint model.

    Attributes
    ----------
    bands : float64 array (n_bands, n_targets)
    offset : float64 array (n_targets,)
        What the prediction's mean takes away by being off; 0 where no intercept was given.
    total : float64 array (n_targets,)
        R² of the joint prediction: the sum of the above. NaN for a constant target, as the others.
    """

    bands: Array
    offset: Array
    total: Array


def r2_split(Y: Array, predictions: Sequence[Array], intercept: Array | None = None) -> R2Split:
    """Split R² among the bands of a joint model, by the product measure.

    Parameters
    ----------
    Y : array (n_samples, n_targets)
        Measured responses.
    predictions : sequence of arrays (n_samples, n_targets), or array (n_bands, ...)
        Each band's summand of the joint prediction.
    intercept : array (n_targets,), optional
        The constant summand of the joint prediction. Where not given, the mean of Y: the R² is
        then that of predicting deviations from the mean, as it is for data centred beforehand.

    Returns
    -------
    R2Split

    Raises
    ------
    InputError
        If there are no bands, or shapes differ.
    """
    xp = _checked_predictions(Y, predictions)
    n_targets = Y.shape[1]
    if intercept is not None and tuple(intercept.shape) != (n_targets,):
        raise InputError(
            f"intercept must have one value for each of the {n_targets} targets; got "
            f"{tuple(intercept.shape)}."
        )
    shares = xp.empty((len(predictions), n_targets), dtype=xp.float64, device=Y.device)
    offset = xp.zeros(n_targets, dtype=xp.float64, device=Y.device)
    for part in target_batches(n_targets, TARGETS_AT_ONCE):
        truth, variance, mean = _centred(Y[:, part])
        bands = [xp.astype(band[:, part], xp.float64) for band in predictions]
        joint = _sum(bands)
        if intercept is not None:
            constant = xp.astype(intercept[part], xp.float64) - mean
            joint = joint + constant
            # The deviations `truth` sum to 0, so that a constant explains nothing of them.
            offset[part] = -constant * xp.sum(joint, axis=0) / variance
        else:
            offset[part] = 0 * variance  # NaN for constant targets
        for number, band in enumerate(bands):
            shares[number, part] = xp.sum((2 * truth - joint) * band, axis=0) / variance
    return R2Split(shares, offset, xp.sum(shares, axis=0) + offset)


def correlation_split(Y: Array, predictions: Sequence[Array]) -> Array:
    r"""Split the correlation of a joint prediction among its bands.

    :math:`r_j = \mathrm{cov}(y, \hat y_j) / (\sigma_y\, \sigma_{\hat y})`, which sum to r. For
    scores in r, where predictions of other data may have another scale or mean, which cost R².

    Parameters
    ----------
    Y, predictions
        See `r2_split`; constants, such as an intercept, make no difference.

    Returns
    -------
    float64 array (n_bands, n_targets)
        NaN where the target or the joint prediction is constant.

    Raises
    ------
    InputError
        If there are no bands, or shapes differ.
    """
    xp = _checked_predictions(Y, predictions)
    shares = xp.empty((len(predictions), Y.shape[1]), dtype=xp.float64, device=Y.device)
    for part in target_batches(Y.shape[1], TARGETS_AT_ONCE):
        truth, variance, _ = _centred(Y[:, part])
        bands = [xp.astype(band[:, part], xp.float64) for band in predictions]
        scale = xp.sqrt(variance * _centred(_sum(bands))[1])
        for number, band in enumerate(bands):
            shares[number, part] = xp.sum(truth * band, axis=0) / scale
    return shares


@dataclass(frozen=True)
class Commonality:
    """Parts of R² that single bands explain alone, and that several explain in common.

    Attributes
    ----------
    bands : tuple
        The bands' names.
    parts : dict of tuple to array (n_targets,)
        The part explained by all bands of a subset, and by no other; smallest subsets first.
    total : array (n_targets,)
        R² of the model with all bands: the sum of the parts.
    """

    bands: Subset
    parts: dict[Subset, Array]
    total: Array

    @property
    def unique(self) -> dict[Any, Array]:
        """What each band explains alone, by band, (n_targets,)."""
        return {band: self.parts[(band,)] for band in self.bands}


def band_subsets(bands: Sequence[Hashable]) -> list[Subset]:
    """Return the subsets of bands that commonality analysis needs a model of.

    Parameters
    ----------
    bands : sequence
        The bands' names, 2 to 8 of them, all different.

    Returns
    -------
    list of tuple
        All subsets but the empty one, 2ⁿ − 1, the smallest first.

    Raises
    ------
    InputError
        If there are too few or too many bands, or one stands twice.
    """
    names = tuple(bands)
    if len(set(names)) < len(names) or not 2 <= len(names) <= MOST_BANDS:
        raise InputError(
            f"Commonality analysis takes 2 to {MOST_BANDS} different bands; got "
            f"{len(names)}: {listed(names)}."
        )
    sizes = range(1, len(names) + 1)
    return [subset for size in sizes for subset in combinations(names, size)]


def commonality(bands: Sequence[Hashable], r2: Mapping[Any, Array]) -> Commonality:
    """Partition the explained variance from the R² of a model of every subset of bands.

    Parameters
    ----------
    bands : sequence
        The bands' names.
    r2 : mapping of tuple or frozenset to array (n_targets,)
        Held-out R² by the bands of the model, in any order; see `band_subsets`.

    Returns
    -------
    Commonality

    Raises
    ------
    InputError
        If subsets are missing or unknown, or shapes differ.
    """
    names = tuple(bands)
    subsets = band_subsets(names)
    by_set = {frozenset(subset): values for subset, values in r2.items()}
    wanted = {frozenset(subset): subset for subset in subsets}
    missing = [subset for key, subset in wanted.items() if key not in by_set]
    unknown = [tuple(key) for key in by_set if key not in wanted]
    if missing or unknown or len(by_set) < len(r2):
        raise InputError(
            f"The R² of each of the {len(subsets)} subsets of {listed(names)} is needed once; "
            f"{len(r2)} were given, missing: {listed(missing) or 'none'}, unknown: "
            f"{listed(unknown) or 'none'}."
        )
    total = by_set[frozenset(names)]
    for key, values in by_set.items():
        if tuple(values.shape) != tuple(total.shape):
            raise InputError(
                f"The R² of {listed(wanted[key])} has shape {tuple(values.shape)}; that of all "
                f"bands has {tuple(total.shape)}."
            )
    by_set[frozenset()] = 0 * total
    parts = {subset: _in_common(subset, names, by_set) for subset in subsets}
    return Commonality(names, parts, total)


def commonality_analysis(
    bands: Sequence[Hashable], Y: Array, fit_predict: Callable[[Subset], Array]
) -> Commonality:
    """Fit a model of every subset of bands, and partition the variance that they explain.

    Parameters
    ----------
    bands : sequence
        The bands' names.
    Y : array (n_samples, n_targets)
        Held-out responses.
    fit_predict : callable
        Fits a model on the bands that it is given, a tuple of names, and returns its predictions
        of Y. It never sees Y: what it fits on is its own.

    Returns
    -------
    Commonality

    Raises
    ------
    InputError
        If there are too few or too many bands, or predictions are not of Y's shape.
    """
    scores = {subset: _r2(Y, fit_predict(subset)) for subset in band_subsets(bands)}
    return commonality(bands, scores)


def _in_common(subset: Subset, names: Subset, r2: Mapping[frozenset[Any], Array]) -> Array:
    """Include and exclude: what all of a subset explain and no other band does."""
    others = frozenset(names) - frozenset(subset)
    part = -r2[others]
    for size in range(1, len(subset) + 1):
        for inside in combinations(subset, size):
            part = part + (-1) ** (size + 1) * r2[others | frozenset(inside)]
    return part


def _r2(Y: Array, predicted: Array) -> Array:
    """Return R² of each target (n_targets,), NaN for a constant one."""
    xp = _checked_predictions(Y, [predicted])
    scores = xp.empty(Y.shape[1], dtype=xp.float64, device=Y.device)
    for part in target_batches(Y.shape[1], TARGETS_AT_ONCE):
        truth, variance, mean = _centred(Y[:, part])
        residual = truth + mean - predicted[:, part]
        scores[part] = 1 - xp.sum(residual**2, axis=0) / variance
    return scores


def _sum(bands: list[Array]) -> Array:
    total = bands[0]
    for band in bands[1:]:
        total = total + band
    return total


def _centred(values: Array) -> tuple[Array, Array, Array]:
    """Return columns less their means, sums of squares (NaN where constant), and the means."""
    xp = array_namespace(values)
    wide = xp.astype(values, xp.float64)
    mean = xp.mean(wide, axis=0)
    centred = wide - mean
    squares = xp.sum(centred**2, axis=0)
    rounding = xp.finfo(values.dtype).eps * xp.max(xp.abs(wide), axis=0)
    constant = xp.max(wide, axis=0) - xp.min(wide, axis=0) <= rounding
    return centred, xp.where(constant, xp.full_like(squares, xp.nan), squares), mean


def _checked_predictions(Y: Array, predictions: Sequence[Array]) -> Any:
    """Return the namespace of arrays whose shapes fit each other."""
    if not len(predictions):
        raise InputError("No predictions of bands were given.")
    for number, band in enumerate(predictions):
        if Y.ndim != 2 or tuple(band.shape) != tuple(Y.shape):
            raise InputError(
                f"Y and the predictions of every band must be (n_samples, n_targets); got Y "
                f"{tuple(Y.shape)} and, for band {number}, {tuple(band.shape)}."
            )
    xp = array_namespace(Y, *predictions)
    if not xp.isdtype(Y.dtype, "real floating"):
        raise InputError(f"Y must be floating point; got {Y.dtype}.")
    if Y.shape[0] < 2:
        raise InputError(f"Explained variance needs at least 2 samples; got {Y.shape[0]}.")
    return xp
