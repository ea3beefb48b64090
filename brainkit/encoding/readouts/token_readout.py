"""What the readouts that pool have in common: their start, and weights in the data's units."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Unpack

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import nn

from brainkit.encoding.deep import DeepEncoder, TokenRows, Training
from brainkit.encoding.readouts.start import Start, ridge_start
from brainkit.errors import unknown_name

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
