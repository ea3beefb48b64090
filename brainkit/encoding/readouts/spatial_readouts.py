"""Linear, factorised and Gaussian readouts: a weight everywhere, a mask, or a place and size."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional

from brainkit.arrays.devices import free_bytes
from brainkit.encoding.deep import DeepEncoder, Training
from brainkit.encoding.readouts.fields import Fields, gaussian_fields
from brainkit.encoding.readouts.token_readout import PoolingReadout, Start, pooled_response
from brainkit.errors import InputError

# -- linear readout: every token and feature has a weight for every target -------------------------


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


# -- factorised readout: a free mask over the map times weights of the features --------------------


Float = NDArray[np.float32]
MASK_GAIN = 4.0  # a mask has to change by factors while a weight changes by a fraction
EVEN = 0.3  # share of a start's mask that lies evenly over the map, so that it can grow anywhere


def mask_weights(logits: Tensor) -> Tensor:
    """Return masks, positive and of sum 1: the softmax of `MASK_GAIN` times the logits."""
    return (MASK_GAIN * logits).softmax(dim=1)


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
            module.logits.copy_(masks.log() / MASK_GAIN)
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


# -- gaussian readout: each target pools the map by a Gaussian whose place and size are learned ----


PLACE_GAIN = 5.0  # weights begin near where they belong, places half a candidate's spacing away
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1.0


class GaussianModule(nn.Module):
    """Pool a map by one Gaussian for each target, then weigh the features.

    Parameters
    ----------
    grid : (int, int)
    n_features, n_targets : int

    Attributes
    ----------
    x, y, log_size : parameters (n_targets,)
        Centres in fractions of the width, and the logarithm of what the size exceeds `smallest`
        by, all divided by `PLACE_GAIN`. Being vectors, they do not decay.
    weight : parameter (n_targets, n_features)
    bias : parameter (n_targets,)
    """

    def __init__(self, grid: tuple[int, int], n_features: int, n_targets: int) -> None:
        super().__init__()
        self.grid = grid
        # A map shows nothing finer; a narrower Gaussian would also lose its gradient.
        self.smallest = 0.3 / grid[1]
        self.x = nn.Parameter(torch.full((n_targets,), 0.5 / PLACE_GAIN))
        self.y = nn.Parameter(torch.full((n_targets,), grid[0] / grid[1] / 2 / PLACE_GAIN))
        self.log_size = nn.Parameter(torch.full((n_targets,), float(np.log(0.25)) / PLACE_GAIN))
        self.weight = nn.Parameter(torch.zeros(n_targets, n_features))
        self.bias = nn.Parameter(torch.zeros(n_targets))

    def places(self, part: slice = slice(None)) -> tuple[Tensor, Tensor, Tensor]:
        """Return x, y and the standard deviation of some targets, each (targets,)."""
        size = self.smallest + (PLACE_GAIN * self.log_size[part]).exp()
        return PLACE_GAIN * self.x[part], PLACE_GAIN * self.y[part], size

    def fields(self, part: slice) -> Tensor:
        """Return the weights of the tokens for some targets, (targets, token)."""
        return gaussian_fields(*self.places(part), self.grid)

    def forward(self, x: Tensor) -> Tensor:
        """Respond to tokens (batch, token, feature) with (batch, target)."""
        return pooled_response(x, self.fields, self.weight, self.bias)


class GaussianReadout(PoolingReadout):
    r"""Encoder with a population receptive field for each target.

    :math:`\hat y_v = b_v + \sum_c f_{vc} \sum_t w_t(x_v, y_v, σ_v)\, X_{tc}` with a Gaussian
    :math:`w` over the tokens that sums to 1 (`brainkit.encoding.readouts.fields`). Place, size and
    feature weights are trained together. The pooling is the whole Gaussian sum over the map, not a
    position drawn from the Gaussian at each step (Lurz et al. 2021): σ is then the width of what
    the target pools rather than a noise that training shrinks, so it can be read as the pRF's
    size, and training and prediction use one and the same function.

    Parameters
    ----------
    start : {"ridge", "none"}
        Whether each target begins at the best of a few fields with ridge weights, chosen on
        training rows, or at the middle of the image.
    field_of_view : float, optional
        Width of the image in degrees of visual angle, for `prf_x_`, `prf_y_`, `prf_size_`.
    **training
        See `brainkit.encoding.deep.DeepEncoder`; where not given, the learning rate is .001 and
        the weight decay 1, which bears on the feature weights alone.

    Attributes
    ----------
    prf_x_, prf_y_, prf_size_ : arrays (n_targets,)
        Centre and standard deviation: in degrees from the image's centre, y up, if
        `field_of_view` is given; else in fractions of the width from the top left, y down.
    coef_ : array (n_targets, n_features)
        Of the pooled features, in the units of the data.
    intercept_ : array (n_targets,)

    References
    ----------
    St-Yves and Naselaris (2018). The feature-weighted receptive field. NeuroImage 180:188.
    Lurz et al. (2021). Generalization in data-driven models of primary visual cortex. ICLR.
    """

    trained_parts: ClassVar[Sequence[str]] = ("x", "y", "log_size", "weight", "bias")
    module_: GaussianModule

    def __init__(
        self,
        start: Literal["ridge", "none"] = "ridge",
        field_of_view: float | None = None,
        **training: Unpack[Training],
    ) -> None:
        training.setdefault("learning_rate", LEARNING_RATE)
        training.setdefault("weight_decay", WEIGHT_DECAY)
        super().__init__(start=start, **training)
        self.field_of_view = field_of_view

    def _module(self, n_tokens: int, n_features: int, n_targets: int) -> GaussianModule:
        return GaussianModule(self.grid_, n_features, n_targets)

    def _begin(self, module: Any, start: Start) -> None:
        size = torch.from_numpy(start.fields.size.copy())
        values = {
            "x": torch.from_numpy(start.fields.x) / PLACE_GAIN,
            "y": torch.from_numpy(start.fields.y) / PLACE_GAIN,
            "log_size": (size - module.smallest).clamp_min(0.1 * module.smallest).log()
            / PLACE_GAIN,
            "weight": start.weight,
            "bias": start.bias,
        }
        with torch.no_grad():
            for name, value in values.items():
                module.get_parameter(name).copy_(value)

    def _prf(self) -> tuple[Float, Float, Float]:
        check_is_fitted(self, "module_")
        fields = Fields(*(part.detach().cpu().numpy() for part in self.module_.places()))
        return fields.measured(self.grid_, self.field_of_view)

    @property
    def prf_x_(self) -> Float:
        """Horizontal position of each target's pRF."""
        return self._prf()[0]

    @property
    def prf_y_(self) -> Float:
        """Vertical position of each target's pRF."""
        return self._prf()[1]

    @property
    def prf_size_(self) -> Float:
        """Standard deviation of each target's pRF."""
        return self._prf()[2]
