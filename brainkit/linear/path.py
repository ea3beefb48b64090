r"""Ridge along a grid of penalties with fewer products than there are penalties.

In the eigenbasis of X'X the solution is :math:`b_i / (\lambda_i + \alpha)`. Over a short stretch of
the spectrum these ratios hardly differ between penalties but for a factor: as functions of
:math:`\lambda` they span a space of few dimensions,

.. math:: \frac{1}{\lambda_i + \alpha} = \sum_r u_r(\lambda_i)\, t_r(\alpha),

to working precision. Ten penalties over four decades need three or four functions where the
eigenvalues lie within a factor of four, and five where they span a decade. So the spectrum is cut
into stretches; within each the costly products are made for the functions u, and the predictions
for all penalties are mixed from them. In double precision the tolerance leaves little to gain, and
where it leaves nothing, the ratios themselves are the functions.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
CUTS = (1, 2, 3, 4, 6, 8)  # numbers of stretches that are tried
TOLERANCE = 64.0  # in units of the precision; the products themselves err by as much
MIXING_COST = 12  # of one more function, in eigenvalues whose product it costs


@dataclass(frozen=True)
class Stretch:
    """Neighbouring eigenvalues whose ratios are combinations of a few functions.

    Attributes
    ----------
    start, stop : int
        Which eigenvalues, of an ascending order.
    functions : float64 array (stop - start, n_functions)
        u.
    mixing : float64 array (n_alphas, n_functions)
        t.
    """

    start: int
    stop: int
    functions: Float
    mixing: Float


def stretches(
    values: Float, alphas: Sequence[float], dtype: Any, slack: float = 1.0
) -> tuple[Stretch, ...]:
    """Cut a spectrum into the stretches that cost least.

    Parameters
    ----------
    values : float64 array (rank,)
        Eigenvalues, ascending, not negative.
    alphas : sequence of float
        Penalties, positive.
    dtype : dtype
        Of the products; its precision says how exact the combinations are.
    slack : float, default=1.0
        How many times less exact they may be.
    """
    penalties = np.asarray(alphas, dtype=np.float64)
    tolerance = slack * TOLERANCE * float(np.finfo(dtype).eps)
    low = max(float(values[0]), float(values[-1]) * 1e-12, float(penalties.min()) * 1e-3)
    best: tuple[Stretch, ...] = ()
    for count in CUTS:
        edges = np.geomspace(low, max(float(values[-1]), low) * 1.01, count + 1)[1:-1]
        bounds = np.unique([0, *np.searchsorted(values, edges), len(values)])
        found = tuple(
            _stretch(values, int(start), int(stop), penalties, tolerance)
            for start, stop in itertools.pairwise(bounds)
        )
        if not best or _cost(found) < _cost(best):
            best = found
    return best


def _cost(found: Sequence[Stretch]) -> int:
    return sum(s.functions.shape[1] * (s.stop - s.start + MIXING_COST) for s in found)


def _stretch(values: Float, start: int, stop: int, alphas: Float, tolerance: float) -> Stretch:
    """Find as few functions as give every ratio of a stretch to a relative tolerance."""
    ratios = 1 / (values[start:stop, None] + alphas)  # (stretch, n_alphas)
    # Balanced, so that what the singular vectors leave out is small for every eigenvalue.
    rows = ratios.max(axis=1, keepdims=True)
    columns = (ratios / rows).max(axis=0)
    left, strength, right = np.linalg.svd(ratios / rows / columns, full_matrices=False)
    for rank in range(1, min(len(alphas), stop - start)):
        functions = rows * left[:, :rank]
        mixing = (strength[:rank, None] * right[:rank] * columns).T
        if np.abs(functions @ mixing.T / ratios - 1).max() <= tolerance:
            return Stretch(start, stop, functions, mixing)
    if len(alphas) <= stop - start:
        return Stretch(start, stop, ratios, np.eye(len(alphas)))
    return Stretch(start, stop, np.eye(stop - start), ratios.T)
