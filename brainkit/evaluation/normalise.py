"""Scores as a share of the noise ceiling, pooled over units or above a stated ceiling.

Per-unit ratios with clamped ceilings are not offered: where the estimated ceiling is 0, clamping
it to a small number and capping the ratio at 1 gives a predictor without information about .3 on
pure noise. Here nothing is clamped or capped, and the same predictor averages 0.
"""

import numpy as np
from numpy.typing import NDArray

from brainkit.errors import InputError
from brainkit.evaluation._quantity import require_kind
from brainkit.evaluation.quantities import (
    CeilingFraction,
    Correlation,
    CorrelationFraction,
    NoiseCeiling,
    RSquared,
)


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
