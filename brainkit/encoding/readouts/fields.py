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

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainkit.errors import InputError

Float = NDArray[np.float32]


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
