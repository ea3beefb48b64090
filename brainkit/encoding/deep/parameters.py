"""The parameters that deep encoders share, and their modules' weights as arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import torch
from numpy.typing import NDArray
from torch import nn

from brainkit.errors import CorruptFileError


class Training(TypedDict, total=False):
    """Parameters of every deep encoder; `brainkit.encoding.deep.DeepEncoder` describes them."""

    loss: str
    epochs: int
    batch_size: int
    learning_rate: float
    final_rate: float
    clip: float
    weight_decay: float
    average: float | None
    validation: float
    patience: int
    seed: int
    device: str
    precision: str
    grid: tuple[int, int] | None
    folder: str | Path | None
    progress: bool


def weights_of(module: nn.Module) -> dict[str, NDArray[Any]]:
    """Return a module's parameters and buffers as arrays, by name."""
    return {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}


def load_weights(module: nn.Module, weights: Mapping[str, NDArray[Any]], name: str) -> None:
    """Put arrays in place of a module's parameters and buffers, every one of them.

    Raises
    ------
    CorruptFileError
        If names or shapes are not the module's; the message names the encoder.
    """
    tensors = {key: torch.from_numpy(value.copy()) for key, value in weights.items()}
    try:
        module.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise CorruptFileError(
            f"The weights of this {name} are not those of its module ({error})."
        ) from error
