"""One type per quantity, so that r, R², ceilings and ncsnr cannot be mixed by accident.

A kind is a float64 :class:`numpy.ndarray` subclass. Indexing, reshaping, copying and joining keep
the kind and its attributes. Everything else NumPy computes (arithmetic, comparisons, reductions
such as ``mean`` and ``np.nanmean``) gives plain arrays and floats, because the mean of squared
correlations, say, is for the caller to name. Two different kinds in one operation raise
:class:`brainkit.errors.QuantityError`; so do two ceilings of different definitions or repeats.
``numpy.asarray(quantity)`` drops the kind on purpose.
"""

from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from brainkit.errors import InputError, QuantityError
from brainkit.evaluation._quantity import Quantity, require_kind


class Correlation(Quantity):
    """Pearson correlation r, in [-1, 1]."""

    bounds = (-1.0, 1.0)

    def signed_square(self) -> "RSquared":
        """Give r·|r|, in units of variance.

        The sign is kept because a predictor without information has r symmetric about 0: its
        r·|r| averages 0, whereas its r² averages 1/n.
        """
        r = np.asarray(self)
        return RSquared(r * np.abs(r), definition="signed-square")


class RSquared(Quantity):
    """A fraction of the measured variance, at most 1.

    Parameters
    ----------
    values : array_like
        The fractions.
    definition : str, default "determination"
        ``"determination"`` (1 - SS_res/SS_tot), ``"explained-variance"`` (residual mean removed)
        or ``"signed-square"`` (r·|r|). Different definitions do not mix.
    """

    bounds = (-np.inf, 1.0)
    attributes = ("definition",)
    definition: str

    def __new__(cls, values: ArrayLike, definition: str = "determination") -> Self:
        """Wrap plain numbers."""
        return cls._wrap(values, definition=definition)


class NoiseCeiling(Quantity):
    """Fraction of the measured variance that any model could explain, in [0, 1]; in r² units.

    Parameters
    ----------
    values : array_like
        The fractions.
    definition : str
        How the ceiling was estimated, such as ``"nsd"``.
    n_repeats : float
        Number of trials averaged in the response that the ceiling is for. Where responses average
        different numbers of trials it is their harmonic mean (:func:`effective_repeats`).
    """

    bounds = (0.0, 1.0)
    attributes = ("definition", "n_repeats")
    definition: str
    n_repeats: float

    def __new__(cls, values: ArrayLike, *, definition: str, n_repeats: float) -> Self:
        """Wrap plain numbers."""
        return cls._wrap(values, definition=definition, n_repeats=_positive_repeats(n_repeats))

    def percent(self) -> "CeilingPercent":
        """Give the ceiling in percent of variance."""
        return CeilingPercent(100.0 * np.asarray(self), **self._attribute_values())

    def max_correlation(self) -> Correlation:
        """Give the largest expected r, the square root of the ceiling."""
        return Correlation(np.sqrt(np.clip(np.asarray(self), 0.0, None)))


class CeilingPercent(Quantity):
    """A noise ceiling in percent of variance, in [0, 100]; attributes as :class:`NoiseCeiling`."""

    bounds = (0.0, 100.0)
    attributes = ("definition", "n_repeats")
    definition: str
    n_repeats: float

    def __new__(cls, values: ArrayLike, *, definition: str, n_repeats: float) -> Self:
        """Wrap plain numbers."""
        return cls._wrap(values, definition=definition, n_repeats=_positive_repeats(n_repeats))

    def fraction(self) -> NoiseCeiling:
        """Give the ceiling as a fraction of variance."""
        return NoiseCeiling(np.asarray(self) / 100.0, **self._attribute_values())


class NCSNR(Quantity):
    """Noise-ceiling signal-to-noise ratio: signal sd over single-trial noise sd, at least 0.

    Parameters
    ----------
    values : array_like
        The ratios.
    definition : str, default "nsd"
        How signal and noise were estimated.
    """

    bounds = (0.0, np.inf)
    attributes = ("definition",)
    definition: str

    def __new__(cls, values: ArrayLike, definition: str = "nsd") -> Self:
        """Wrap plain numbers."""
        return cls._wrap(values, definition=definition)


class ExplainableVariance(Quantity):
    """Share of a single trial's variance that repeats have in common, at most 1.

    Units without signal scatter about 0 where the bias of the noise has been taken off.

    Parameters
    ----------
    values : array_like
        The shares.
    bias_corrected : bool, default True
        Whether the share that noise contributes to the mean over repeats has been taken off.
    """

    bounds = (-np.inf, 1.0)
    attributes = ("bias_corrected",)
    bias_corrected: bool

    def __new__(cls, values: ArrayLike, *, bias_corrected: bool = True) -> Self:
        """Wrap plain numbers."""
        return cls._wrap(values, bias_corrected=bool(bias_corrected))

    def ceiling(self, n_repeats: float | Mapping[int, int]) -> NoiseCeiling:
        """Give the noise ceiling of means over `n_repeats` trials.

        NC(n) = n·EV / (1 + (n - 1)·EV), 0 where EV is below 0.

        Raises
        ------
        QuantityError
            If the values are not corrected for bias.
        """
        if not self.bias_corrected:
            raise QuantityError(
                "Explainable variance without bias correction contains noise and is no ceiling: "
                "use explainable_variance(..., bias_correction=True)."
            )
        n = effective_repeats(n_repeats)
        share = np.maximum(np.asarray(self), 0.0)
        values = n * share / (1.0 + (n - 1.0) * share)
        return NoiseCeiling(values, definition="explainable-variance", n_repeats=n)


class CeilingFraction(Quantity):
    """Explained share of the explainable variance; 1 is a perfect model, chance is 0.

    It may exceed 1 or fall below 0 by sampling error: nothing is clamped.

    Parameters
    ----------
    values : array_like
        The shares.
    normalisation : str
        ``"pooled"``, or ``"above 0.1"`` for units above a stated ceiling.
    definition : str
        Definition of the noise ceiling that divided.
    """

    attributes = ("normalisation", "definition")
    normalisation: str
    definition: str

    def __new__(cls, values: ArrayLike, *, normalisation: str, definition: str) -> Self:
        """Wrap plain numbers."""
        return cls._wrap(values, normalisation=normalisation, definition=definition)


class CorrelationFraction(Quantity):
    """Share of the largest correlation that can be expected; 1 is a perfect model, chance is 0.

    The square of neither side: it does not mix with :class:`CeilingFraction`, a share of variance.
    Nothing is clamped.

    Parameters
    ----------
    values : array_like
        The shares.
    normalisation : str
        ``"pooled"``, or ``"above 0.05"`` for units above a stated largest correlation.
    definition : str
        Definition of the noise ceiling that divided.
    """

    attributes = ("normalisation", "definition")
    normalisation: str
    definition: str

    def __new__(cls, values: ArrayLike, *, normalisation: str, definition: str) -> Self:
        """Wrap plain numbers."""
        return cls._wrap(values, normalisation=normalisation, definition=definition)


def effective_repeats(n_repeats: float | Mapping[int, int]) -> float:
    """Give the harmonic mean of the number of trials that responses average.

    Parameters
    ----------
    n_repeats : float or mapping
        One number of trials for all responses, or ``{trials averaged: number of images}``.

    Returns
    -------
    float
        1/norm with norm = (n_3/3 + n_2/2 + n_1/1)/(n_3 + n_2 + n_1).

    Raises
    ------
    InputError
        If a number of trials is below 1, a count negative, or there is no image.
    """
    if not isinstance(n_repeats, Mapping):
        return _positive_repeats(n_repeats)
    counts = {_positive_repeats(repeats): images for repeats, images in n_repeats.items()}
    total = sum(counts.values())
    if total <= 0 or min(counts.values()) < 0:
        raise InputError(
            f"n_repeats={dict(n_repeats)} counts no image: "
            "give {trials averaged: number of images}, such as {3: 515, 2: 99, 1: 0}."
        )
    return float(total / sum(images / repeats for repeats, images in counts.items()))


def ncsnr_to_ceiling(ncsnr: NCSNR, n_repeats: float | Mapping[int, int]) -> NoiseCeiling:
    """Give the noise ceiling of responses that average `n_repeats` trials.

    NC(n) = ncsnr² / (ncsnr² + 1/n), after Allen et al. (2022).

    Parameters
    ----------
    ncsnr : NCSNR of any shape
        Signal sd over single-trial noise sd.
    n_repeats : float or mapping
        Trials averaged, or ``{trials averaged: number of images}`` where images differ; then
        1/n is the mean of the reciprocals over images.

    Returns
    -------
    NoiseCeiling
        Fraction of variance, same shape.

    Raises
    ------
    QuantityError
        If `ncsnr` is not an :class:`NCSNR`.
    InputError
        If `n_repeats` is below 1 or counts no image.
    """
    require_kind(ncsnr, NCSNR, "ncsnr")
    repeats = effective_repeats(n_repeats)
    # Written with reciprocals so that the limits hold: 0 for ncsnr 0, 1 for an infinite one.
    with np.errstate(divide="ignore", over="ignore"):
        noise_to_signal = 1.0 / (repeats * np.asarray(ncsnr) ** 2)
    return NoiseCeiling(
        1.0 / (1.0 + noise_to_signal), definition=ncsnr.definition, n_repeats=repeats
    )


def _positive_repeats(n_repeats: float) -> float:
    if not np.isfinite(n_repeats) or n_repeats < 1:
        raise InputError(f"n_repeats={n_repeats}: a response averages at least 1 trial.")
    return float(n_repeats)
