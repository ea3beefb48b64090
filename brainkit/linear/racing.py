r"""Racing: giving up candidates that fall behind before all folds are seen.

The functions take NumPy arrays or torch tensors, on any device, and return the same kind.
"""

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from brainkit.errors import InputError

Array = Any  # a NumPy array or a torch tensor


@dataclass(frozen=True)
class RacingRule:
    r"""When to give up a draw of band weights for a target before all folds are seen.

    Folds are gone through one by one, all draws in each. With :math:`E_{dt}` the least error over
    penalties of draw d and target t, summed over the n held-out rows seen so far, :math:`T_t` the
    error of the training mean on the same rows, and :math:`R^2_t` the best draw's R² on them, or 0
    where that is negative, draw d is given up for target t once

    .. math:: E_{dt} - \min_{d'} E_{d't}
              > \mathrm{slack} \cdot T_t \sqrt{R^2_t (1 - R^2_t) / n} .

    The root is how chance scales: errors of two predictions whose difference has a share ρ of
    their variance differ by chance with a standard deviation of
    :math:`2 T \sqrt{\rho R^2 (1 - R^2) / n}`, so that a slack of 1 allows one standard deviation
    to predictions that differ by half of their own (ρ = 1/4). Where nothing is predicted, draws do
    not matter, and the best goes on alone. In the folds to come only the targets that are left are
    gone on with. All penalties stay in the race with their draw: they cost little beside it.

    What is guaranteed: the errors of draws that are left are exact, over all folds; the penalty
    chosen is the best one of the chosen draw, and that draw the best of those left. So the choice
    differs from that without racing for those targets only whose best draw was given up, and that
    draw was then behind by more than the rule allows. What is not: how much better it would have
    been on the folds that it did not see.

    Samples in single precision are decomposed in single precision too as long as the largest
    eigenvalue of X'X is at most 10,000 times the smallest penalty (100 times where features
    outnumber samples). Errors then differ from exact
    ones by some 1e-5 of themselves at most, which is far below what is left to chance, and draws
    closer to each other than that may change places. The final solution is in double precision.

    Attributes
    ----------
    slack : float, default=1.0
        Finite, not negative. With 0 only the best draw on the first folds goes on.
    first_folds : int, default=1
        Folds that are seen before anything is given up.
    """

    slack: float = 1.0
    first_folds: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.slack < float("inf"):
            raise InputError(f"The slack of racing must be 0 or more, finite; got {self.slack}.")
        if self.first_folds < 1:
            raise InputError(f"Racing sees at least 1 fold first; got {self.first_folds}.")

    def remaining(self, errors: Array, total: Array, n_rows: int) -> Array:
        """Tell which draws go on, bool (n_draws, n_targets).

        Parameters
        ----------
        errors : float64 array (n_draws, n_targets)
            Least over penalties, on the rows seen so far; infinite where given up before.
        total : float64 array (n_targets,)
            Of the training mean, on the same rows.
        n_rows : int
            How many rows these are.
        """
        xp = array_namespace(errors)
        least = xp.min(errors, axis=0)
        # Nothing is to be told of a constant target; its draws have equal errors.
        r2 = 1 - least / xp.where(total > 0, total, xp.ones_like(total))
        r2 = xp.where(r2 > 0, r2, xp.zeros_like(r2))
        limit = least + self.slack * total * (r2 * (1 - r2) / n_rows) ** 0.5
        return (errors <= limit) & (errors < xp.inf)
