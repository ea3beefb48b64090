"""Linear readout: every token and feature has a weight for every target."""

from typing import Unpack

from torch import Tensor, nn
from torch.nn import functional

from brainkit.arrays.devices import free_bytes
from brainkit.encoding.deep import DeepEncoder, Training
from brainkit.errors import InputError

LEARNING_RATE = 0.01
COPIES = 5  # of the weights while they are trained: their gradient, AdamW's two, the best so far


class LinearModule(nn.Module):
    """Average the map to a coarser one, flatten it, and weigh it.

    The inputs are divided by the root of their number, so that steps of one size suit maps of any
    size.

    Parameters
    ----------
    grid : (int, int)
    side : int or None
        Rows and columns after averaging; None leaves the map as it is.
    n_features, n_targets : int
    """

    def __init__(
        self, grid: tuple[int, int], side: int | None, n_features: int, n_targets: int
    ) -> None:
        super().__init__()
        self.grid, self.side = grid, side
        n_tokens = grid[0] * grid[1] if side is None else side * side
        self.scale = (n_tokens * n_features) ** -0.5
        self.readout = nn.Linear(n_tokens * n_features, n_targets)
        nn.init.zeros_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Respond to tokens (batch, token, feature) with (batch, target)."""
        if self.side is not None:
            maps = x.transpose(1, 2).unflatten(2, self.grid)
            x = functional.adaptive_avg_pool2d(maps, self.side).flatten(2).transpose(1, 2)
        response: Tensor = self.readout(x.flatten(1) * self.scale)
        return response


class LinearReadout(DeepEncoder):
    """Linear encoder over a whole map, trained by gradient descent.

    The plainest readout, and the one with the most weights: tokens × features for each target.
    They begin at 0; weight decay and early stopping keep them small. Where pooled features are
    enough, `VoxelwiseRidge` solves the same problem exactly.

    Parameters
    ----------
    side : int, optional
        Average the map to side × side first, which makes the weights fewer.
    **training
        See `brainkit.encoding.deep.DeepEncoder`; the learning rate is .01 where not given.

    Attributes
    ----------
    module_ : LinearModule
        And the others of `brainkit.encoding.deep.DeepEncoder`.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit.encoding.readouts import LinearReadout
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4, 3))
    >>> Y = X.reshape(200, 12) @ rng.normal(size=(12, 2))
    >>> model = LinearReadout(epochs=60, learning_rate=0.05).fit(X[:160], Y[:160])
    >>> bool(model.score(X[160:], Y[160:]) > 0.9)
    True
    """

    trained_parts = ("readout",)

    def __init__(self, side: int | None = None, **training: Unpack[Training]) -> None:
        training.setdefault("learning_rate", LEARNING_RATE)
        super().__init__(**training)
        self.side = side

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.side is not None and (self.side != int(self.side) or self.side < 1):
            raise InputError(f"side is a whole number from 1, or None; got {self.side!r}.")

    def _module(self, n_tokens: int, n_features: int, n_targets: int) -> LinearModule:
        side = self.side
        if side is not None and side > min(self.grid_):
            raise InputError(f"A map of {self.grid_} cannot be averaged to {side} × {side}.")
        n_weights = (n_tokens if side is None else side * side) * n_features * n_targets
        if n_weights * 4 * COPIES > free_bytes():
            raise InputError(
                f"{n_weights:,} weights take about {n_weights * 4 * COPIES / 2**30:.1f} GiB to "
                f"train, and {free_bytes() / 2**30:.1f} GiB are free. Average the map (side=4), "
                "reduce the features, or take FactorizedReadout or GaussianReadout."
            )
        return LinearModule(self.grid_, side, n_features, n_targets)
