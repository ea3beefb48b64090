r"""Grids of penalties: one that suits features of any unit, and what the choice tells of a grid.

A penalty acts by its ratio to the eigenvalues of X'X, so that a grid for features of unit variance
says nothing of features in volts. The automatic grid is

.. math:: \alpha_k = s^2 \cdot 10^{k / 2}, \quad k = 0 \dots 12,

:math:`s^2` being the mean variance of the features that vary: 1 to 10⁶ for standardised features,
and the same predictions for any others that differ from them by one factor.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.errors import InputError, PenaltyWarning, warn
from brainkit.linear.targets import checked_penalties

Float = NDArray[np.float64]
AUTO = "auto"
STANDARD_GRID = tuple(float(alpha) for alpha in np.logspace(0, 6, 13))
SHOWN = 0.05  # share of targets at an edge from which on it is worth a word
SETTLED = 0.01  # change of R² that a penalty beyond an edge can make, below which it is no matter
CONSTANT = 0.01  # what shrinkage leaves of every prediction, below which it is a constant


def penalty_grid(
    alphas: Any, scale: float, standard: Sequence[float] = STANDARD_GRID
) -> list[float]:
    """Return candidate penalties: those given, or for ``"auto"`` the standard ones times a scale.

    Parameters
    ----------
    alphas : "auto", float, or sequence of float
    scale : float
        Mean variance of the features that vary.
    standard : sequence of float
        For features of unit variance.

    Raises
    ------
    InputError
        If they are no penalties.
    """
    if isinstance(alphas, str):
        if alphas != AUTO:
            raise InputError(
                f"alphas must be {AUTO!r} or positive numbers, at least one, in one row; got the "
                f"text {alphas!r}."
            )
        return [float(alpha) * scale for alpha in standard]
    return checked_penalties(alphas)


def mean_variance(variances: NDArray[Any]) -> float:
    """Return the mean of the variances above 0, 1 where there is none."""
    above = np.asarray(variances, dtype=np.float64)
    above = above[above > 0]
    return rounded(above.mean()) if above.size else 1.0


def rounded(scale: float) -> float:
    """Return a scale in six digits, the same for data in single and in double precision."""
    return float(f"{scale:.6g}")


def shares_at_edge(alphas: Sequence[float], chosen: Float) -> Float:
    """Return the shares of targets whose penalty is the smallest candidate, and the largest, (2,).

    Of a single candidate both are 0: there was no choice.
    """
    low, high = min(alphas), max(alphas)
    if low == high or not chosen.size:
        return np.zeros(2)
    return np.array([(chosen == low).mean(), (chosen == high).mean()])


def share_constant(chosen: Float, largest: float) -> float:
    r"""Return the share of targets that are predicted to be constant, by their penalty alone.

    Shrinkage by :math:`\lambda / (\lambda + \alpha)` leaves less than a hundredth of what the
    direction of the largest eigenvalue λ predicts, and of the others less still.
    """
    if not chosen.size:
        return 0.0
    return float((largest < CONSTANT * (largest + chosen)).mean())


def judge_choice(
    alphas: Sequence[float],
    chosen: Float,
    least: Float,
    total: Float,
    eigenvalues: tuple[float, float],
    errors: Float | None = None,
    *,
    shared: bool = False,
) -> tuple[Float, float]:
    """Return what a choice tells of its grid, and warn once if the grid does not suit the data.

    Not counted for the warning are targets for which a wider grid could change next to nothing: at
    the upper edge those whose held-out R² is about 0, as it is of a constant. At the lower edge,
    where the smallest penalty is below every eigenvalue, what is left to gain is less than what the
    last step gained, so that those are not counted for which that was little.

    Parameters
    ----------
    alphas : sequence of float
        The candidates.
    chosen : float64 array (n_targets,)
        Each target's penalty.
    least, total : float64 arrays (n_targets,)
        Its held-out error with that, and with the mean; NaN or 0 for a constant target.
    eigenvalues : (float, float)
        The smallest and the largest of X'X.
    errors : float64 array (n_alphas, n_targets), optional
        Held-out errors of all candidates; without them every target at the lower edge counts.
    shared : bool, default=False
        Whether one penalty was chosen for all targets, by the errors that they have together.

    Returns
    -------
    at_edge : float64 array (2,)
        See `shares_at_edge`.
    constant : float
        See `share_constant`.

    Warns
    -----
    PenaltyWarning
    """
    varies = total > 0
    if shared:
        least, total = (part[varies].sum(keepdims=True) for part in (least, total))
        errors = None if errors is None else errors[:, varies].sum(axis=1, keepdims=True)
        varies = total > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where(varies, 1 - least / total, np.nan)
        gain = None if errors is None else _last_gain(alphas, 1 - errors / total)
    constant = share_constant(chosen, eigenvalues[1])
    message = _complaint(alphas, chosen, r2, eigenvalues, gain)
    if message:
        warn(message, PenaltyWarning)
    return shares_at_edge(alphas, chosen), constant


def _last_gain(alphas: Sequence[float], r2: Float) -> Float:
    """Return what R² (n_alphas, n_targets) gained by the last step to the smallest penalty."""
    order = np.argsort(alphas, kind="stable")
    above = order[np.asarray(alphas)[order] > min(alphas)]
    return r2[order[0]] - r2[above[0]] if len(above) else np.full(r2.shape[1], np.inf)


def _complaint(
    alphas: Sequence[float],
    chosen: Float,
    r2: Float,
    eigenvalues: tuple[float, float],
    gain: Float | None,
) -> str | None:
    """Return what is wrong with a grid, or None."""
    least, largest = eigenvalues
    low, high = min(alphas), max(alphas)
    if not chosen.size:
        return None
    if largest <= 0:
        return (
            f"All {chosen.size} targets are predicted to be constant: the features do not vary "
            "over the training samples."
        )
    if largest < CONSTANT * (largest + low):
        return (
            f"100 % of {chosen.size} targets are predicted to be constant: penalties from "
            f"{low:.3g} to {high:.3g} shrink every weight to nothing, as the largest eigenvalue of "
            f"the features' X'X is {largest:.3g}. Give alphas of its order, or alphas='auto', or "
            "standardise the features."
        )
    if low == high:
        return None
    at_low = chosen == low
    if gain is not None and low <= least:
        at_low &= ~(gain < SETTLED)
    at_high = (chosen == high) & ~(np.abs(r2) < SETTLED) & np.isfinite(r2)
    parts = [
        f"{_percent(mask.mean())} have the {name} one, {edge:.3g}"
        for mask, name, edge in ((at_low, "smallest", low), (at_high, "largest", high))
        if mask.mean() >= SHOWN
    ]
    if not parts:
        return None
    return (
        f"The best penalty lies at the edge of its grid: of {chosen.size} targets "
        f"{' and '.join(parts)}. Give alphas that reach further, so that the choice is inside."
    )


def _percent(share: float) -> str:
    return f"{100 * float(share):.0f} %"
