"""Factorised readout: a free mask over the map times weights of the features."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from brainkit.encoding.deep import Training
from brainkit.encoding.readouts.pooling import pooled_response
from brainkit.encoding.readouts.start import Start
from brainkit.encoding.readouts.token_readout import PoolingReadout

Float = NDArray[np.float32]
GAIN = 4.0  # a mask has to change by factors while a weight changes by a fraction
EVEN = 0.3  # share of a start's mask that lies evenly over the map, so that it can grow anywhere


def mask_weights(logits: Tensor) -> Tensor:
    """Return masks, positive and of sum 1: the softmax of `GAIN` times the logits."""
    return (GAIN * logits).softmax(dim=1)


class FactorizedModule(nn.Module):
    """Pool a map by one mask for each target, then weigh the features.

    Parameters
    ----------
    n_tokens, n_features, n_targets : int

    Attributes
    ----------
    logits : parameter (n_targets, n_tokens)
        See `mask_weights`.
    weight : parameter (n_targets, n_features)
    bias : parameter (n_targets,)
    """

    def __init__(self, n_tokens: int, n_features: int, n_targets: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_targets, n_tokens))
        self.weight = nn.Parameter(torch.zeros(n_targets, n_features))
        self.bias = nn.Parameter(torch.zeros(n_targets))

    def masks(self, part: slice) -> Tensor:
        """Return the masks of some targets, (targets, token)."""
        return mask_weights(self.logits[part])

    def forward(self, x: Tensor) -> Tensor:
        """Respond to tokens (batch, token, feature) with (batch, target)."""
        return pooled_response(x, self.masks, self.weight, self.bias)


class MaskReadout(PoolingReadout):
    """Base of readouts whose module has a mask for each target, given by `logits`."""

    trained_parts: ClassVar[Sequence[str]] = ("logits", "weight", "bias")

    def _begin(self, module: Any, start: Start) -> None:
        masks = (1 - EVEN) * start.fields.weights(self.grid_) + EVEN / self.n_tokens_
        n_features = module.weight.shape[1]
        with torch.no_grad():
            module.logits.copy_(masks.log() / GAIN)
            module.weight.copy_(start.weight[:, :n_features])
            module.bias.copy_(start.bias)

    @property
    def masks_(self) -> Float:
        """Masks over the map, (n_targets, rows, columns); each is positive and sums to 1."""
        check_is_fitted(self, "module_")
        with torch.no_grad():
            masks = mask_weights(self.module_.get_parameter("logits"))
        return masks.cpu().numpy().reshape(-1, *self.grid_)


class FactorizedReadout(MaskReadout):
    r"""Encoder with a free spatial mask and feature weights for each target.

    :math:`\hat y_v = b_v + \sum_c f_{vc} \sum_t m_{vt} X_{tc}`, where the mask :math:`m_v` is a
    softmax over the tokens: not negative, and of sum 1, so that the scale lies in the feature
    weights alone. Sign and size of a response to a feature are the same all over the mask.

    Parameters
    ----------
    start : {"ridge", "none"}
        Whether each mask begins as the best of a few Gaussian fields with ridge weights, chosen on
        training rows, or even all over the image.
    **training
        See `brainkit.encoding.deep.DeepEncoder`; the learning rate is .005 where not given.

    Attributes
    ----------
    masks_ : array (n_targets, rows, columns)
    coef_ : array (n_targets, n_features)
        Of the pooled features, in the units of the data.
    intercept_ : array (n_targets,)

    References
    ----------
    Klindt, Ecker, Euler and Bethge (2017). Neural system identification for large populations
    separating "what" and "where". NeurIPS.
    """

    def __init__(
        self, start: Literal["ridge", "none"] = "ridge", **training: Unpack[Training]
    ) -> None:
        super().__init__(start=start, **training)

    def _module(self, n_tokens: int, n_features: int, n_targets: int) -> FactorizedModule:
        return FactorizedModule(n_tokens, n_features, n_targets)
