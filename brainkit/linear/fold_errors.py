r"""The squared errors of one held-out part, for every penalty and target.

With :math:`V \Lambda V'` the training features' X'X and b = V'X'Y its cross-products, the error on
the held-out samples X_h, Y_h is

.. math:: \lVert Y_h - X_h V (\Lambda + \alpha)^{-1} b \rVert^2
          = \lVert Q' Y_h - R\, (\Lambda + \alpha)^{-1} b \rVert^2 + \text{const},
          \qquad X_h V = Q R.

R is triangular, which saves half of every product where there are more held-out samples than
features.

The functions take NumPy arrays or torch tensors, on any device.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from brainkit.linear.path import Stretch, stretches

Array = Any  # a NumPy array or a torch tensor
CACHED = 24 << 20  # bytes that the inner loop works on at once, so that they stay in the cache
SMALL = 1e-3  # share of a target outside of the readout below which it is not taken as a difference
PIECE = 128  # rows of a triangular readout that are multiplied at once


@dataclass(frozen=True)
class _Weighted:
    """A stretch of eigenvalues, and the products that its functions take.

    Attributes
    ----------
    start, stop : int
        Which columns of the readout.
    first : int
        Place of the first function among all.
    functions : array (n_functions, stop - start, 1)
    blocks : tuple of (slice, int)
        Rows of the readout, and the first column of the stretch that is not zero in them. Rows that
        are in no block are zero.
    """

    start: int
    stop: int
    first: int
    functions: Array
    blocks: tuple[tuple[slice, int], ...]


@dataclass(frozen=True)
class FoldErrors:
    """What one fold's errors are computed from.

    Attributes
    ----------
    readout : array (n_rows, rank)
        R, or the held-out samples in the eigenbasis.
    stretches : tuple of _Weighted
    mixing : array (n_alphas, n_functions + 1)
        See `brainkit.linear.path`, of all stretches, and -1 for the truth: the mixture is the
        residual.
    """

    readout: Array
    stretches: tuple[_Weighted, ...]
    mixing: Array

    def errors(self, inner: Array, held: "Held") -> Array:
        """Return squared errors (n_alphas, n_targets) in double precision.

        Parameters
        ----------
        inner : array (rank, n_targets)
            b, training targets in the eigenbasis.
        held : Held
            The held-out targets.
        """
        xp = array_namespace(inner)
        truth = held.truth
        n_alphas, n_arrays = self.mixing.shape
        rows, n_targets = truth.shape
        if not rows:  # nothing but the mean is predicted
            return held.outside + xp.zeros((n_alphas, 1), dtype=xp.float64, device=inner.device)
        width = (n_alphas + n_arrays) * rows * (xp.finfo(inner.dtype).bits // 8)
        size = max(32, CACHED // width) if _on_cpu(inner) else n_targets
        found: list[Array] = []
        made: Array = None
        mixed: Array = None
        for start in range(0, n_targets, size):
            part = slice(start, min(start + size, n_targets))
            shape = (n_arrays, rows, part.stop - part.start)
            if made is None or made.shape != shape:
                made = xp.zeros(shape, dtype=inner.dtype, device=inner.device)
                mixed = xp.empty((n_alphas, *shape[1:]), dtype=inner.dtype, device=inner.device)
            self._fill(made, inner[:, part], truth[:, part])
            flat = xp.reshape(mixed, (n_alphas, -1))
            xp.matmul(self.mixing, xp.reshape(made, (n_arrays, -1)), out=flat)
            flat *= flat
            found.append(xp.sum(mixed, axis=1, dtype=xp.float64))
        return xp.concat(found, axis=1) + held.outside

    def _fill(self, made: Array, inner: Array, truth: Array) -> None:
        """Write the readout's products for every function, and the truth last."""
        xp = array_namespace(inner)
        for part in self.stretches:
            targets = inner[part.start : part.stop]
            for number in range(part.functions.shape[0]):
                weighted = part.functions[number] * targets
                target = made[part.first + number]
                for rows, column in part.blocks:
                    readout = self.readout[rows, column : part.stop]
                    xp.matmul(readout, weighted[column - part.start :], out=target[rows])
        made[-1] = truth


@dataclass(frozen=True)
class Held:
    """Held-out targets, less the training mean, as predictions are compared with them.

    Attributes
    ----------
    truth : array (n_rows, n_targets)
        Q'Y; Y itself where the readout is not reduced to fewer rows.
    outside : float64 array (n_targets,)
        Squared length of what no prediction reaches, Y - QQ'Y.
    total : float64 array (n_targets,)
        Squared length of Y.
    """

    truth: Array
    outside: Array
    total: Array

    def take(self, which: Array) -> "Held":
        """Return some of the targets."""
        xp = array_namespace(self.truth)
        return Held(xp.take(self.truth, which, axis=1), self.outside[which], self.total[which])


def held_targets(Y: Array, basis: Array | None) -> Held:
    """Split held-out targets (n_held_out, n_targets) by the basis Q of the readout, or by none.

    What lies outside is the difference of two sums of squares only where it is no small one.
    """
    xp = array_namespace(Y)
    total = xp.sum(Y**2, axis=0, dtype=xp.float64)
    if basis is None:
        return Held(Y, xp.zeros_like(total), total)
    truth = xp.matmul(basis.T, Y)
    outside = total - xp.sum(truth**2, axis=0, dtype=xp.float64)
    small = xp.nonzero(outside < SMALL * total)[0]
    if small.shape[0]:
        rest = xp.take(Y, small, axis=1) - xp.matmul(basis, xp.take(truth, small, axis=1))
        outside[small] = xp.sum(rest**2, axis=0, dtype=xp.float64)
    return Held(truth, outside, total)


def fold_errors(
    readout: Array,
    values: Array,
    alphas: Sequence[float],
    dtype: Any,
    *,
    triangular: bool,
    slack: float = 1.0,
) -> FoldErrors:
    """Prepare a fold from its readout (n_rows, rank) and its eigenvalues (rank,), double.

    No eigenvalue is 0 where a penalty may be, see `brainkit.linear.spectrum.clip`. `slack` is that
    of `brainkit.linear.path.stretches`.
    """
    xp = array_namespace(readout)
    given = np.asarray(_to_numpy(values))
    if not given.size:  # samples that do not vary: every prediction is the mean
        nothing = xp.full((len(alphas), 1), -1.0, dtype=dtype, device=readout.device)
        return FoldErrors(xp.astype(readout, dtype), (), nothing)
    cut = stretches(given, alphas, np.float32 if dtype == xp.float32 else np.float64, slack)
    mixing = np.concatenate([*(s.mixing for s in cut), -np.ones((len(alphas), 1))], axis=1)

    def like(values: Any) -> Array:
        return xp.asarray(values, dtype=dtype, device=readout.device)

    weighted: list[_Weighted] = []
    first = 0
    for stretch in cut:
        functions = like(stretch.functions.T[:, :, None])
        blocks = _blocks(stretch) if triangular else ((slice(0, readout.shape[0]), stretch.start),)
        weighted.append(_Weighted(stretch.start, stretch.stop, first, functions, blocks))
        first += functions.shape[0]
    return FoldErrors(xp.astype(readout, dtype), tuple(weighted), like(mixing))


def _blocks(stretch: Stretch) -> tuple[tuple[slice, int], ...]:
    """Cut the rows down to the diagonal, so that little below it is multiplied."""
    length = stretch.stop - stretch.start
    count = max(1, round(length / PIECE))
    edges = [stretch.start + length * number // count for number in range(count + 1)]
    cut = [(slice(start, stop), start) for start, stop in itertools.pairwise(edges)]
    # All rows above the stretch go with its first block: they reach its first column as well.
    return ((slice(0, cut[0][0].stop), stretch.start), *cut[1:])


def _to_numpy(values: Array) -> Any:
    return values.cpu().numpy() if hasattr(values, "cpu") else values


def _on_cpu(values: Array) -> bool:
    return str(values.device).startswith("cpu")
