"""What the readouts that pool have in common: their start, and weights in the data's units."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from brainkit.arrays.seeds import rng
from brainkit.encoding.deep import DeepEncoder, TokenRows, Training
from brainkit.encoding.readouts.fields import Fields, feature_weighted_rf, field_grid
from brainkit.errors import unknown_name
from brainkit.linear.folds import kfold

# -- the product that pooling readouts share: a field over tokens times weights over features ------
#
# The response of target v to tokens x is Σ_c f_vc Σ_t w_vt x_tc. The pooled features (batch,
# target, feature) of a whole cortex would not fit in memory, so targets are treated in slices. In
# training what a slice pooled is computed again on the way back rather than kept.


SLICE_VALUES = 16 << 20  # float32 numbers that a slice may take: 64 MiB


def target_slices(n_targets: int, values_per_target: int) -> list[slice]:
    """Cut targets into slices of at most `SLICE_VALUES` numbers, one target at least."""
    size = max(1, SLICE_VALUES // max(values_per_target, 1))
    return [slice(i, min(i + size, n_targets)) for i in range(0, n_targets, size)]


def by_slices(respond: Callable[[slice], Tensor], parts: list[slice]) -> Tensor:
    """Put the responses of slices of targets, each (batch, targets), side by side.

    Parameters
    ----------
    respond : callable
        From a slice of the targets to their responses.
    parts : list of slice
    """
    if len(parts) == 1:
        return respond(parts[0])
    if not torch.is_grad_enabled():
        return torch.cat([respond(part) for part in parts], dim=1)
    # preserve_rng_state: nothing in a slice is random.
    kept = [checkpoint(respond, p, use_reentrant=False, preserve_rng_state=False) for p in parts]
    return torch.cat(kept, dim=1)


def pooled_response(
    x: Tensor, fields: Callable[[slice], Tensor], weight: Tensor, bias: Tensor
) -> Tensor:
    """Respond to tokens through a field and feature weights for each target.

    Parameters
    ----------
    x : tensor (batch, token, feature)
    fields : callable
        From a slice of the targets to their weights of tokens, (targets, token).
    weight : tensor (target, feature)
    bias : tensor (target,)

    Returns
    -------
    tensor (batch, target)
    """

    def respond(part: slice) -> Tensor:
        pooled = torch.matmul(fields(part), x)  # (batch, targets, feature)
        return torch.einsum("bvc,vc->bv", pooled, weight[part]) + bias[part]

    return by_slices(respond, target_slices(len(weight), x.shape[0] * x.shape[2]))


# -- A start for readouts that pool: the best of few Gaussian fields and ridge weights in it -------
#
# Gradient descent on positions finds the nearest optimum, not the best, and from a field in the
# middle of the image far ones have no gradient. So each target begins at the candidate that
# predicts held-out training rows best. Only training rows are used, never those of early stopping.


MOST_ROWS = 2000  # more would make the start more precise than the training that follows needs
ALPHAS = (1.0, 10.0, 100.0, 1000.0, 10000.0)
FOLDS = 5


@dataclass(frozen=True)
class Start:
    """Where a pooling readout begins, for standardised features and responses.

    Attributes
    ----------
    fields : Fields
        One for each target.
    weight : tensor (n_targets, n_features)
    bias : tensor (n_targets,)
    """

    fields: Fields
    weight: Tensor
    bias: Tensor


def ridge_start(
    rows: TokenRows, grid: tuple[int, int], seed: int, n_positions: int = 5, n_sizes: int = 3
) -> Start:
    """Choose a field and ridge weights for each target.

    Parameters
    ----------
    rows : TokenRows
        The training rows; of many, a random sample is used.
    grid : (int, int)
    seed : int
    n_positions, n_sizes : int
        Of the candidates; see `field_grid`.

    Returns
    -------
    Start
    """
    chosen = rng(seed, "start").permutation(len(rows))[:MOST_ROWS]
    candidates = field_grid(grid, n_positions, n_sizes)
    fit = feature_weighted_rf(
        rows.X, rows.Y, candidates, grid,
        rows=np.sort(rows.rows[chosen]), folds=kfold(len(chosen), min(FOLDS, len(chosen))),
        alphas=ALPHAS, device=rows.device,
    )  # fmt: skip
    scale = rows.scale
    weight = fit.coef * scale.x_scale / scale.y_scale[:, None]
    bias = (fit.intercept + fit.coef @ scale.x_mean - scale.y_mean) / scale.y_scale
    return Start(
        candidates.take(fit.field),
        torch.from_numpy(weight.astype(np.float32)),
        torch.from_numpy(bias.astype(np.float32)),
    )


# -- what pooling readouts have in common ----------------------------------------------------------


Float = NDArray[np.float32]
STARTS = ("ridge", "none")
LEARNING_RATE = 5e-3  # few parameters, each of which one target alone uses, bear larger steps


class PoolingReadout(DeepEncoder):
    """Base of readouts whose module has a `weight` (target, feature) and a `bias` (target,).

    Parameters
    ----------
    start : {"ridge", "none"}
        Whether each target begins at the best of a few Gaussian fields with ridge weights, chosen
        on training rows, or at the middle with none.
    **training
        See `brainkit.encoding.deep.DeepEncoder`; the learning rate is .005 where not given.
    """

    trained_parts: ClassVar[Sequence[str]] = ("weight", "bias")

    def __init__(
        self, start: Literal["ridge", "none"] = "ridge", **training: Unpack[Training]
    ) -> None:
        training.setdefault("learning_rate", LEARNING_RATE)
        super().__init__(**training)
        self.start = start

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.start not in STARTS:
            raise unknown_name("start", self.start, STARTS)

    def _initialise(self, module: nn.Module, rows: TokenRows) -> None:
        if self.start == "ridge":
            self._begin(module, ridge_start(rows, self.grid_, self.seed))

    def _begin(self, module: Any, start: Start) -> None:
        """Put a start into the module."""
        raise TypeError(f"{type(self).__name__} does not say how it starts (_begin).")

    @property
    def coef_(self) -> Float:
        """Weights of the pooled features, (n_targets, n_features), in the units of the data."""
        check_is_fitted(self, "module_")
        weight: Float = self.module_.get_parameter("weight").detach().cpu().numpy()
        n_features = weight.shape[1]
        return weight * self.scale_["y_scale"][:, None] / self.scale_["x_scale"][:n_features]

    @property
    def intercept_(self) -> Float:
        """Responses where all pooled features are 0, (n_targets,), in the units of the data."""
        coef = self.coef_
        bias: Float = self.module_.get_parameter("bias").detach().cpu().numpy()
        scale = self.scale_
        centred = coef @ scale["x_mean"][: coef.shape[1]]
        return np.asarray(scale["y_mean"] + bias * scale["y_scale"] - centred, dtype=np.float32)
