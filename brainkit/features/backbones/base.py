"""What extraction needs to know of a model: its layers, its preprocessing, its raw outputs.

A backbone is frozen: every forward pass runs in evaluation mode, without gradients, on the
model's own evaluation preprocessing, so that the same stimulus always gives the same features.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal

from brainkit.errors import InputError, unknown_name

if TYPE_CHECKING:
    import torch
    from PIL import Image

Modality = Literal["image", "text"]


class Backbone(ABC):
    """A frozen model as a source of features.

    Attributes
    ----------
    spec : str
        What the model is called, without layers: ``"open_clip:ViT-B-16/laion2b_s34b_b88k"``.
    modality : {"image", "text"}
        What it takes.
    """

    spec: str
    modality: Modality

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return all that determines the numbers, for the address of stored features.

        Returns
        -------
        dict
            JSON values only: source, model, hash of the weights, the preprocessing in full, and
            the versions of the libraries that change numbers.
        """

    @abstractmethod
    def layers(self) -> list[str]:
        """Return the names of all layers, in the order of the forward pass."""

    @abstractmethod
    def default_layer(self) -> str:
        """Return the layer that is taken where none is named."""

    @abstractmethod
    def prepare(self, items: "Sequence[Image.Image] | Sequence[str]") -> "torch.Tensor":
        """Apply the model's evaluation preprocessing, which has no random part.

        Parameters
        ----------
        items : sequence of RGB images, of any sizes, or of strings

        Returns
        -------
        tensor (n, ...)
            On the CPU; what `run` takes. A row depends on its item only.
        """

    @abstractmethod
    def run(self, batch: "torch.Tensor", layers: Sequence[str]) -> "dict[str, torch.Tensor]":
        """Return the raw outputs of several layers, by one forward pass.

        Parameters
        ----------
        batch : tensor (n, ...)
            From `prepare`, on any device.
        layers : sequence of str
            Names that `layers` lists.

        Returns
        -------
        dict
            For every layer a tensor (n, tokens, width), (n, channels, height, width) or
            (n, features), on the model's device.
        """

    @abstractmethod
    def to(self, device: "str | torch.device") -> None:
        """Move the model to a device."""

    @property
    def ran(self) -> list[dict[str, Any]]:
        """What ran so far, each way once: device, dtype and batch size of outputs, as measured.

        ``{"from_store": True}`` where features were found in a store and nothing had to run.
        """
        runs: list[dict[str, Any]] = vars(self).setdefault("_ran", [])
        return runs

    def note(self, output: "torch.Tensor | None", batch_size: int) -> None:
        """Write down what an output ran on; None for features that were read from a store."""
        told: dict[str, Any] = {"from_store": True}
        if output is not None:
            dtype = str(output.dtype).removeprefix("torch.")
            told = {"device": str(output.device), "dtype": dtype, "batch_size": batch_size}
        if told not in self.ran:
            self.ran.append(told)

    def prefix_tokens(self, layer: str) -> int:
        """Return how many tokens lead a token layer's patches (class token, registers), or 0."""
        return 0

    def valid_tokens(self, batch: "torch.Tensor") -> "torch.Tensor | None":
        """Return (n, tokens), True where a token is no padding; None where there is no padding."""
        return None

    def check_layers(self, layers: Sequence[str]) -> list[str]:
        """Return the layers, or the default one where there are none.

        Raises
        ------
        UnknownNameError
            If the model has no such layer; the message names the nearest one.
        """
        known = self.layers()
        for layer in layers:
            if layer not in known:
                raise unknown_name(f"layer of {self.spec}", layer, known)
        return list(dict.fromkeys(layers)) or [self.default_layer()]


def freeze(module: "torch.nn.Module") -> "torch.nn.Module":
    """Put a module of our own in evaluation mode and stop its gradients; return it."""
    return module.eval().requires_grad_(False)


@contextmanager
def evaluating(module: "torch.nn.Module") -> Iterator[None]:
    """Run a block in evaluation mode, whatever mode the module is in, and without gradients.

    Batch normalisation then neither uses nor updates the statistics of the batch, even if somebody
    called ``train()`` on the module in between. The modes are put back afterwards, so that a
    module that belongs to the caller leaves as it came.
    """
    import torch

    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for part in training:
            part.training = True


@contextmanager
def record(
    module: "torch.nn.Module",
    layers: Sequence[str],
    pick: "Callable[[Any], torch.Tensor] | None" = None,
    *,
    stop: bool = False,
) -> "Iterator[dict[str, torch.Tensor]]":
    """Record the outputs of submodules during a block.

    Parameters
    ----------
    module : torch module
    layers : sequence of str
        Dotted names of submodules, as `named_modules` gives them.
    pick : function, optional
        From what a submodule returns to a tensor; by default the tensor itself, or the first of a
        tuple or list.
    stop : bool, default=False
        End the block as soon as every submodule has been called once: what comes after the
        deepest layer need not be computed.

    Yields
    ------
    dict
        Filled by the forward pass. A submodule that is called several times leaves its last
        output. Outputs are copied: the next operation often works in place.

    Raises
    ------
    UnknownNameError
        If there is no such submodule.
    InputError
        If a submodule returns no tensor.
    """
    parts = dict(module.named_modules())
    recorded: dict[str, torch.Tensor] = {}
    handles = []
    try:
        for layer in layers:
            if layer not in parts:
                raise unknown_name("submodule", layer, list(parts))
            keep = _keeper(recorded, layer, pick or first_tensor, len(set(layers)) if stop else 0)
            handles.append(parts[layer].register_forward_hook(keep))
        with suppress(_Recorded):
            yield recorded
    finally:
        for handle in handles:
            handle.remove()


def first_tensor(output: Any) -> "torch.Tensor":
    """Return a tensor as it is, or the first element of a tuple or list of them."""
    import torch

    value = output[0] if isinstance(output, tuple | list) and output else output
    if not isinstance(value, torch.Tensor):
        raise InputError(
            f"A layer must return a tensor, or a tuple that begins with one; this one returned "
            f"{type(output).__name__}. Name another layer."
        )
    return value


class _Recorded(Exception):
    """All wanted layers are recorded: no error, but the way out of a forward pass."""


def _keeper(
    recorded: "dict[str, torch.Tensor]",
    layer: str,
    pick: "Callable[[Any], torch.Tensor]",
    enough: int,
) -> Callable[..., None]:
    """Return a hook that keeps a layer's output, and ends the pass at the `enough`-th layer."""

    def keep(module: "torch.nn.Module", inputs: Any, output: Any) -> None:
        recorded[layer] = pick(output).clone()
        if len(recorded) == enough:
            raise _Recorded

    return keep
