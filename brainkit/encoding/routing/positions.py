"""Where a token is: sines and cosines of its row and its column."""

import math

import torch
from torch import Tensor

from brainkit.errors import InputError

TEMPERATURE = 10_000.0


def sine_positions(height: int, width: int, features: int) -> Tensor:
    r"""Return the position embedding of each cell of a map.

    With y = 2π (row + 1) / height, x = 2π (column + 1) / width and q = features / 4, the first half
    of the features belongs to y, the second to x, and each half holds for i = 0 … q - 1 the pairs

    .. math::
        \sin(y / 10000^{i / q}), \; \cos(y / 10000^{i / q}).

    Parameters
    ----------
    height, width : int
        Of the map, in tokens.
    features : int
        Numbers for each token, a multiple of 4.

    Returns
    -------
    float32 tensor (height * width, features)
        Rows of the map one after the other.

    Raises
    ------
    InputError
        If `features` is no multiple of 4, or the map is empty.

    References
    ----------
    Carion et al. (2020), End-to-end object detection with transformers.
    """
    if features < 4 or features % 4:
        raise InputError(
            f"A position has two coordinates, each with sines and cosines: the width must be a "
            f"multiple of 4; got {features}."
        )
    if height < 1 or width < 1:
        raise InputError(f"A map has at least one row and one column; got {height} × {width}.")
    quarter = features // 4
    periods = TEMPERATURE ** (torch.arange(quarter, dtype=torch.float64) / quarter)

    def waves(count: int) -> Tensor:
        angle = 2 * math.pi * torch.arange(1, count + 1, dtype=torch.float64) / count
        phases = angle[:, None] / periods
        return torch.stack([phases.sin(), phases.cos()], dim=-1).flatten(1)

    rows = waves(height)[:, None].expand(-1, width, -1)
    columns = waves(width)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1).float()
