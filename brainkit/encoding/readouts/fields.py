r"""Gaussian pooling fields on a map of tokens.

Positions and sizes are fractions of the image's width, with the origin at the top left corner, x
to the right and y down; the simulated world counts the same way. The token in row i and column j
of a map of h × w has its centre at ((j + ½) / w, (i + ½) / w), tokens being square.

The weight of token t in the field at (x, y) of size σ is

.. math:: w_t = \exp(-\lVert p_t - (x, y) \rVert^2 / 2σ^2) / \sum_s
   \exp(-\lVert p_s - (x, y) \rVert^2 / 2σ^2).

The weights sum to 1 also where part of the Gaussian lies outside the image, so that a field near
the border responds on the scale of any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainkit.arrays.progress import track
from brainkit.encoding.deep.rows import Float, Index, chunks
from brainkit.errors import InputError
from brainkit.linear.ridge_solver import select_alphas, solve_ridge, validation_errors
from brainkit.linear.targets import checked_penalties


@dataclass(frozen=True)
class Fields:
    """Gaussian fields, in fractions of the image's width from its top left corner.

    Attributes
    ----------
    x, y, size : float32 arrays (n_fields,)
        Centres, and standard deviations.
    """

    x: Float
    y: Float
    size: Float

    def __len__(self) -> int:
        return len(self.x)

    def take(self, numbers: NDArray[np.int64]) -> "Fields":
        """Return some of them, in the order given."""
        return Fields(self.x[numbers], self.y[numbers], self.size[numbers])

    def weights(self, grid: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
        """Return the weights of the tokens, (n_fields, n_tokens); see `gaussian_fields`."""
        parts = (torch.from_numpy(np.ascontiguousarray(v)) for v in (self.x, self.y, self.size))
        x, y, size = (part.to(device) for part in parts)
        return gaussian_fields(x, y, size, grid)

    def measured(
        self, grid: tuple[int, int], field_of_view: float | None
    ) -> tuple[Float, Float, Float]:
        """Return x, y and size in the units of the estimators' attributes.

        Parameters
        ----------
        grid : (int, int)
        field_of_view : float or None
            Width of the image in degrees of visual angle. With it, positions are in degrees from
            the image's centre, x to the right and y up, as in retinotopic maps. Without it they
            are fractions of the width as they are here.
        """
        if field_of_view is None:
            return self.x, self.y, self.size
        middle = np.float32(grid[0] / grid[1] / 2)
        degrees = np.float32(field_of_view)
        x, y = (self.x - np.float32(0.5)) * degrees, (middle - self.y) * degrees
        return x, y, self.size * degrees


def token_centres(grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return x and y of every token, (n_tokens,), in fractions of the width."""
    rows, columns = grid
    y, x = torch.meshgrid(
        (torch.arange(rows) + 0.5) / columns, (torch.arange(columns) + 0.5) / columns, indexing="ij"
    )
    return x.flatten(), y.flatten()


def gaussian_fields(x: Tensor, y: Tensor, size: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the weights of the tokens in each field; they are positive and sum to 1.

    Parameters
    ----------
    x, y, size : tensor (n_fields,)
        In fractions of the image's width, origin at the top left.
    grid : (int, int)
        Rows and columns of the map.

    Returns
    -------
    tensor (n_fields, n_tokens)
    """
    place_x, place_y = (place.to(x.device) for place in token_centres(grid))
    distance = (place_x - x[:, None]).square() + (place_y - y[:, None]).square()
    return (-distance / (2 * size[:, None].square())).softmax(dim=1)


def field_grid(
    grid: tuple[int, int],
    n_positions: int = 9,
    n_sizes: int = 4,
    smallest: float | None = None,
    largest: float = 0.4,
) -> Fields:
    """Return candidate fields: centres on a lattice over the image, sizes spaced by their ratio.

    Parameters
    ----------
    grid : (int, int)
        Rows and columns of the map.
    n_positions : int, default=9
        Along the width; along the height in proportion. The outermost lie half a spacing inside
        the border.
    n_sizes : int, default=4
    smallest : float, optional
        Smallest size; half a token where not given, since the map shows nothing smaller.
    largest : float, default=0.4

    Returns
    -------
    Fields
        All pairs of a centre and a size, the smallest sizes first.

    Raises
    ------
    InputError
        If a number is not positive, or the sizes are out of order.
    """
    least = 0.5 / grid[1] if smallest is None else smallest
    if n_positions < 1 or n_sizes < 1:
        raise InputError(f"n_positions and n_sizes are 1 or more; got {n_positions} and {n_sizes}.")
    if not 0 < least <= largest:
        raise InputError(
            f"Sizes run from {least:g} to {largest:g} of the image's width; the first must be "
            "above 0 and not above the second."
        )
    height = grid[0] / grid[1]
    n_rows = max(1, round(n_positions * height))
    x = (np.arange(n_positions) + 0.5) / n_positions
    y = (np.arange(n_rows) + 0.5) / n_rows * height
    size = np.geomspace(least, largest, n_sizes) if n_sizes > 1 else np.array([least])
    sizes, ys, xs = (axis.ravel() for axis in np.meshgrid(size, y, x, indexing="ij"))
    return Fields(xs.astype(np.float32), ys.astype(np.float32), sizes.astype(np.float32))


# -- feature-weighted receptive fields: a grid of Gaussian fields, and ridge in each of them -------
#
# For every field k the map is pooled, :math:`Z^k_{ic} = \sum_t w^k_t X_{itc}`, and every target is
# predicted from :math:`Z^k` by ridge. Each target keeps the field and penalty with the least
# squared error on the held-out parts of the training data (St-Yves and Naselaris 2018, who hold
# out one part; all parts of a cross-validation cost little more here, and choose places better).
# Nothing is descended, so nothing depends on a start: the strong, cheap baseline for learned
# readouts.
#
# Fields are treated a few at a time and only the best so far is kept for each target, so that
# memory holds the pooled features of a few fields and the weights of one.


POOLED_BYTES = 512 << 20  # of the pooled features of the fields that are treated together


@dataclass(frozen=True)
class FieldFit:
    """What `feature_weighted_rf` chose and solved.

    Attributes
    ----------
    field : int array (n_targets,)
        Which field each target has.
    alpha : float64 array (n_targets,)
        Its penalty, of features pooled and scaled to unit variance.
    coef : float32 array (n_targets, n_features)
        Of the pooled features as they are.
    intercept : float32 array (n_targets,)
    error, total : float64 arrays (n_targets,)
        Sum of squared errors over the held-out parts, and that of a prediction by the mean.
    """

    field: Index
    alpha: NDArray[np.float64]
    coef: Float
    intercept: Float
    error: NDArray[np.float64]
    total: NDArray[np.float64]


def feature_weighted_rf(
    X: Any,
    Y: Float,
    fields: Fields,
    grid: tuple[int, int],
    *,
    rows: Index,
    folds: Sequence[tuple[Index, Index]],
    alphas: Sequence[float],
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> FieldFit:
    """Choose a field and a penalty for each target by cross-validation, and fit on all rows.

    Parameters
    ----------
    X : array (n, n_tokens, n_features)
        May be a memory map.
    Y : float32 array (n, n_targets)
    fields : Fields
        The candidates; of equals the first is taken.
    grid : (int, int)
        Rows and columns of the map.
    rows : array of int
        The training rows, ascending; others are not read.
    folds : sequence of (train, held_out)
        Numbers into `rows`; see `brainkit.linear.folds.kfold`.
    alphas : sequence of float
        Candidate penalties, positive.
    device : torch.device or str
    progress : bool, default=False
        Show how far it is while it takes longer than two seconds.

    Returns
    -------
    FieldFit

    Raises
    ------
    InputError
        If a penalty is not positive, or there is no field.
    """
    penalties = checked_penalties(alphas)
    if not len(fields):
        raise InputError("There is no field to choose from; give one at least.")
    search = _Search(X, Y, fields, grid, rows, device)
    best = np.full(Y.shape[1], np.inf)
    chosen = np.zeros(Y.shape[1], dtype=np.int64)
    alpha = np.full(Y.shape[1], penalties[0])
    total = np.zeros(Y.shape[1])
    groups = search.groups(np.arange(len(fields)))
    for numbers in track(groups, "pRFs") if progress else groups:
        for number, pooled in zip(numbers, search.pool(numbers), strict=True):
            scaled = pooled / _scale(pooled)
            errors, total_here = validation_errors(scaled, search.Y, penalties, folds)
            place = select_alphas(errors, penalties).cpu().numpy()
            least = np.take_along_axis(errors.cpu().numpy(), place[None], axis=0)[0]
            better = least < best
            best = np.where(better, least, best)
            chosen[better], alpha[better] = number, np.asarray(penalties)[place[better]]
            total = total_here.cpu().numpy()
    coef, intercept = search.solve(chosen, alpha)
    return FieldFit(chosen, alpha, coef, intercept, best, total)


def _scale(pooled: Tensor) -> Tensor:
    """Return the standard deviation of each pooled feature, 1 where it is constant."""
    deviation = pooled.std(dim=0, correction=0)
    constant = deviation <= 1e-6 * pooled.abs().amax(dim=0)
    return torch.where(constant, torch.ones_like(deviation), deviation)


class _Search:
    """The data of a search, and what it pools and solves."""

    def __init__(
        self,
        X: Any,
        Y: Float,
        fields: Fields,
        grid: tuple[int, int],
        rows: Index,
        device: torch.device | str,
    ) -> None:
        self.X, self.fields, self.grid, self.rows, self.device = X, fields, grid, rows, device
        self.Y = torch.from_numpy(Y[rows]).to(device)
        self.at_once = max(1, POOLED_BYTES // (4 * len(rows) * X.shape[2]))

    def groups(self, numbers: Index) -> list[Index]:
        """Cut fields into those that are pooled in one pass over the data."""
        return [numbers[i : i + self.at_once] for i in range(0, len(numbers), self.at_once)]

    def pool(self, numbers: Index) -> Tensor:
        """Return the pooled features of some fields, (field, row, feature)."""
        weights = self.fields.take(numbers).weights(self.grid, self.device)
        pooled = torch.empty(len(numbers), len(self.rows), self.X.shape[2], device=self.device)
        start = 0
        for _, values in chunks(self.X, self.rows):
            part = torch.matmul(weights, torch.from_numpy(values).to(self.device))
            pooled[:, start : start + len(values)] = part.transpose(0, 1)
            start += len(values)
        return pooled

    def solve(self, chosen: Index, alpha: NDArray[np.float64]) -> tuple[Float, Float]:
        """Return weights (n_targets, n_features) and intercepts, each in its target's field."""
        coef = np.empty((len(chosen), self.X.shape[2]), dtype=np.float32)
        intercept = np.empty(len(chosen), dtype=np.float32)
        for numbers in self.groups(np.unique(chosen)):
            for number, pooled in zip(numbers, self.pool(numbers), strict=True):
                targets = np.flatnonzero(chosen == number)
                scale = _scale(pooled)
                penalties = torch.from_numpy(alpha[targets]).to(self.device)
                responses = self.Y[:, torch.from_numpy(targets).to(self.device)]
                weights, offset = solve_ridge(pooled / scale, responses, penalties)
                coef[targets] = (weights / scale).cpu().numpy()
                intercept[targets] = offset.cpu().numpy()
        return coef, intercept
