"""A module's weights as arrays, to be saved with an estimator, and back."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from brainkit.errors import CorruptFileError


def weights_of(module: nn.Module) -> dict[str, NDArray[Any]]:
    """Return a module's parameters and buffers as arrays, by name."""
    return {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}


@contextmanager
def only_trained(module: nn.Module, names: Collection[str]) -> Iterator[None]:
    """Let the named parameters alone require a gradient for a while; then all that did before."""
    before = {name: p.requires_grad for name, p in module.named_parameters()}
    try:
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name in names)
        yield
    finally:
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(before[name])


def load_weights(module: nn.Module, weights: Mapping[str, NDArray[Any]], name: str) -> None:
    """Put arrays in place of a module's parameters and buffers, every one of them.

    Raises
    ------
    CorruptFileError
        If names or shapes are not the module's; the message names the estimator.
    """
    tensors = {key: torch.from_numpy(value.copy()) for key, value in weights.items()}
    try:
        module.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise CorruptFileError(
            f"The weights of this {name} are not those of its module ({error})."
        ) from error
