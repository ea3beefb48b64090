"""Semantic readout: masks and channels that move with what the image shows."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from brainkit.encoding.deep import Training
from brainkit.encoding.deep.rows import as_tokens
from brainkit.encoding.readouts.spatial_readouts import MaskReadout, mask_weights
from brainkit.encoding.readouts.token_readout import by_slices, target_slices
from brainkit.errors import InputError, unknown_name

CHANNELS, HIDDEN = 4, 32  # of the localisation network
ANGLE = 6  # after the six numbers of an affine map
# Which numbers an image sets; the six are those of a 2 × 3 matrix, row by row.
MOTIONS: dict[str, tuple[int, ...]] = {
    "affine": (0, 1, 2, 3, 4, 5),
    "translation": (2, 5),
    "scale": (0, 4),
    "shear": (1, 3),
    "rotation": (ANGLE,),
}
SAMPLING = 5  # numbers that sampling one value takes: two of the grid, twice, and the value


def motion_numbers(motion: str) -> tuple[int, ...]:
    """Return which numbers a motion sets, sorted; names may be joined by ``+``.

    Raises
    ------
    UnknownNameError
        If there is no such motion.
    """
    names = [name.strip() for name in str(motion).split("+")]
    for name in names:
        if name not in MOTIONS:
            raise unknown_name("motion", name, list(MOTIONS))
    return tuple(sorted({number for name in names for number in MOTIONS[name]}))


def affine_matrices(changes: Tensor, numbers: Sequence[int]) -> Tensor:
    """Return affine maps of a 2-D plane, the identity where all changes are 0.

    Parameters
    ----------
    changes : tensor (..., len(numbers))
        What is added to the identity; the rotation, in radians, is done last.
    numbers : sequence of int
        Which of the seven numbers (six of the matrix, row by row, and the angle) they are.

    Returns
    -------
    tensor (..., 2, 3)
    """
    # Not written in place: a gradient flows through the numbers that are set.
    given = {number: changes[..., place] for place, number in enumerate(numbers)}
    none = torch.zeros_like(changes[..., 0])
    flat = torch.stack([given.get(number, none) for number in range(ANGLE)], dim=-1)
    identity = torch.eye(2, 3, device=changes.device, dtype=changes.dtype)
    matrix = flat.unflatten(-1, (2, 3)) + identity
    if ANGLE not in given:
        return matrix
    cosine, sine = given[ANGLE].cos(), given[ANGLE].sin()
    rotation = torch.stack([cosine, -sine, sine, cosine], dim=-1).unflatten(-1, (2, 2))
    return rotation @ matrix


class SemanticModule(nn.Module):
    """Masks and feature weights, with masks and channels moved by what is in the image.

    Parameters
    ----------
    grid : (int, int)
    n_features, n_targets : int
    n_localisation : int
        Features that the localisation network reads: the last ones of each token, which then are
        not weighed; 0 for all of them, which then are.
    motion : str
        See `MOTIONS`.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        n_features: int,
        n_targets: int,
        n_localisation: int = 0,
        motion: str = "affine",
    ) -> None:
        super().__init__()
        self.grid, self.n_localisation = grid, n_localisation
        self.numbers = motion_numbers(motion)
        self.n_channels = n_features - n_localisation
        self.logits = nn.Parameter(torch.zeros(n_targets, grid[0] * grid[1]))
        self.weight = nn.Parameter(torch.zeros(n_targets, self.n_channels))
        self.bias = nn.Parameter(torch.zeros(n_targets))
        # A 1 × 1 convolution is a linear map of each token.
        self.reduce = nn.Linear(n_localisation or n_features, CHANNELS)
        self.hidden = nn.Linear(CHANNELS * grid[0] * grid[1], HIDDEN)
        self.move_masks = nn.Linear(HIDDEN, len(self.numbers) * n_targets)
        self.move_channels = nn.Linear(HIDDEN, len(self.numbers) * self.n_channels)
        for head in (self.move_masks, self.move_channels):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def locate(self, x: Tensor) -> Tensor:
        """Return what the localisation network makes of the images, (batch, hidden)."""
        read = x[..., -self.n_localisation :] if self.n_localisation else x
        hidden: Tensor = self.hidden(self.reduce(read).flatten(1))
        return hidden.relu()

    def mask_matrices(self, located: Tensor, part: slice) -> Tensor:
        """Return how the masks of some targets move, (batch, targets, 2, 3)."""
        rows = slice(part.start * len(self.numbers), part.stop * len(self.numbers))
        changes = functional.linear(
            located, self.move_masks.weight[rows], self.move_masks.bias[rows]
        )
        return affine_matrices(changes.float().unflatten(1, (-1, len(self.numbers))), self.numbers)

    def _moved_channels(self, x: Tensor, located: Tensor) -> Tensor:
        changes = self.move_channels(located).float().unflatten(1, (-1, len(self.numbers)))
        matrices = affine_matrices(changes, self.numbers).flatten(0, 1)  # (batch · channel, 2, 3)
        maps = x[..., : self.n_channels].transpose(1, 2).float().reshape(-1, 1, *self.grid)
        where = functional.affine_grid(matrices, list(maps.shape), align_corners=False)
        moved = functional.grid_sample(maps, where, align_corners=False)
        return moved.reshape(len(x), self.n_channels, -1).transpose(1, 2)

    def _moved_masks(self, located: Tensor, part: slice) -> Tensor:
        """Return masks for each image, (batch, targets, token)."""
        rows, columns = self.grid
        matrices = self.mask_matrices(located, part).transpose(0, 1)  # (targets, batch, 2, 3)
        n_targets, batch = matrices.shape[:2]
        size = [n_targets * batch, 1, rows, columns]
        where = functional.affine_grid(matrices.reshape(-1, 2, 3), size, align_corners=False)
        # All images of a batch are sampled from one copy of a mask, one below the other.
        where = where.reshape(n_targets, batch * rows, columns, 2)
        masks = mask_weights(self.logits[part]).float().reshape(n_targets, 1, rows, columns)
        moved = functional.grid_sample(masks, where, align_corners=False)
        return moved.reshape(n_targets, batch, rows * columns).transpose(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Respond to tokens (batch, token, feature) with (batch, target)."""
        located = self.locate(x)
        channels = self._moved_channels(x, located)

        def respond(part: slice) -> Tensor:
            pooled = self._moved_masks(located, part) @ channels  # (batch, targets, channel)
            return torch.einsum("bvc,vc->bv", pooled, self.weight[part]) + self.bias[part]

        per_target = len(x) * (SAMPLING * x.shape[1] + self.n_channels)
        return by_slices(respond, target_slices(len(self.weight), per_target))


class SemanticReadout(MaskReadout):
    r"""Encoder whose masks move with the image: a spatial transformer on a factorised readout.

    A small network reads the map and gives an affine map of the plane for each target's mask and
    for each channel of the features: :math:`\hat y_v = b_v + \sum_c f_{vc} \sum_t m'_{vt} X'_{tc}`
    with mask and channel resampled bilinearly, nothing beyond the border. It begins with the
    identity, that is as a `FactorizedReadout`. Masks are moved for a slice of the targets at a
    time, so that memory does not grow with images × targets. The published loss is
    ``loss="mse+ccc"``; what else is as published, and what is not, stands in
    ``docs/published.md``.

    Parameters
    ----------
    n_localisation : int, default=0
        How many of the last features of each token are for the localisation network alone, such
        as those of another frozen model put beside the first; 0 lets it read all of them.
    motion : str, default="affine"
        How masks and channels may move: "affine", or one or more of "translation", "rotation",
        "scale" and "shear", joined by "+".
    start : {"ridge", "none"}
        As in `FactorizedReadout`.
    **training
        See `brainkit.encoding.deep.DeepEncoder`; the learning rate is .005 where not given.

    Attributes
    ----------
    masks_ : array (n_targets, rows, columns)
        Before they are moved.
    coef_ : array (n_targets, n_channels)
        Of the pooled features, in the units of the data.
    intercept_ : array (n_targets,)

    References
    ----------
    Saha, Chadha and Khosla (2024). Modeling the human visual system: comparative insights from
    response-optimized and task-optimized vision models, language models, and different readout
    mechanisms. arXiv 2410.14031.
    Jaderberg, Simonyan, Zisserman and Kavukcuoglu (2015). Spatial transformer networks. NeurIPS.
    """

    trained_parts: ClassVar[Sequence[str]] = (
        "logits", "weight", "bias", "reduce", "hidden", "move_masks", "move_channels",
    )  # fmt: skip
    module_: SemanticModule

    def __init__(
        self,
        n_localisation: int = 0,
        motion: str = "affine",
        start: Literal["ridge", "none"] = "ridge",
        **training: Unpack[Training],
    ) -> None:
        super().__init__(start=start, **training)
        self.n_localisation = n_localisation
        self.motion = motion

    def _check_parameters(self) -> None:
        super()._check_parameters()
        motion_numbers(self.motion)

    def _module(self, n_tokens: int, n_features: int, n_targets: int) -> SemanticModule:
        if not 0 <= self.n_localisation < n_features:
            raise InputError(
                f"n_localisation={self.n_localisation} of {n_features} features leaves none to "
                "weigh; give a number from 0 to below that."
            )
        return SemanticModule(self.grid_, n_features, n_targets, self.n_localisation, self.motion)

    def transforms(self, X: Any, targets: Sequence[int] | slice) -> NDArray[np.float32]:
        """Return how the masks of some targets move in each image.

        Parameters
        ----------
        X : array (n_samples, n_tokens, n_features)
        targets : sequence of int, or slice

        Returns
        -------
        array (n_samples, targets, 2, 3)
            From a place in the moved mask to that in the mask, in coordinates from −1 to 1.
        """
        numbers = np.arange(self.n_targets_)[targets]
        motions = []
        with torch.no_grad():
            for _, x in self._standardised(as_tokens(X, self.n_tokens_, self.n_features_in_)):
                located = self.module_.locate(x)
                moved = [self.module_.mask_matrices(located, slice(n, n + 1)) for n in numbers]
                motions.append(torch.cat(moved, dim=1).cpu().numpy())
        return np.concatenate(motions)
