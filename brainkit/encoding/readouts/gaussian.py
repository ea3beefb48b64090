"""Gaussian readout: each target pools the map by a Gaussian whose place and size are learned."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from brainkit.encoding.deep import Training
from brainkit.encoding.readouts.fields import Fields, gaussian_fields
from brainkit.encoding.readouts.pooling import pooled_response
from brainkit.encoding.readouts.start import Start
from brainkit.encoding.readouts.token_readout import PoolingReadout

Float = NDArray[np.float32]
GAIN = 5.0  # weights begin near where they belong, places half a candidate's spacing away
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
        by, all divided by `GAIN`. Being vectors, they do not decay.
    weight : parameter (n_targets, n_features)
    bias : parameter (n_targets,)
    """

    def __init__(self, grid: tuple[int, int], n_features: int, n_targets: int) -> None:
        super().__init__()
        self.grid = grid
        # A map shows nothing finer; a narrower Gaussian would also lose its gradient.
        self.smallest = 0.3 / grid[1]
        self.x = nn.Parameter(torch.full((n_targets,), 0.5 / GAIN))
        self.y = nn.Parameter(torch.full((n_targets,), grid[0] / grid[1] / 2 / GAIN))
        self.log_size = nn.Parameter(torch.full((n_targets,), float(np.log(0.25)) / GAIN))
        self.weight = nn.Parameter(torch.zeros(n_targets, n_features))
        self.bias = nn.Parameter(torch.zeros(n_targets))

    def places(self, part: slice = slice(None)) -> tuple[Tensor, Tensor, Tensor]:
        """Return x, y and the standard deviation of some targets, each (targets,)."""
        size = self.smallest + (GAIN * self.log_size[part]).exp()
        return GAIN * self.x[part], GAIN * self.y[part], size

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
            "x": torch.from_numpy(start.fields.x) / GAIN,
            "y": torch.from_numpy(start.fields.y) / GAIN,
            "log_size": (size - module.smallest).clamp_min(0.1 * module.smallest).log() / GAIN,
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
