"""What extraction needs to know of a model: its layers, its preprocessing, its raw outputs.

A backbone is frozen: every forward pass runs in evaluation mode, without gradients, on the
model's own evaluation preprocessing, so that the same stimulus always gives the same features.

`open_backbone` leads from the name of a model to the model; each library is imported only when it
is asked for.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal

from brainkit.errors import InputError, listed, unknown_name
from brainkit.features.spec import Spec, parse_spec

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
            On the CPU; what `run` takes. A row depends on its item only, and so do its features:
            the first extraction checks both (`brainkit.features.fingerprint`).
        """

    @abstractmethod
    def run(self, batch: "torch.Tensor", layers: Sequence[str]) -> "dict[str, torch.Tensor]":
        """Return the raw outputs of several layers, by one forward pass.

        Parameters
        ----------
        batch : tensor (n, ...)
            A batch from `prepare`, on any device.
        layers : sequence of str
            Names that `layers` lists.

        Returns
        -------
        dict
            The outputs: for every layer a tensor (n, tokens, width), (n, channels, height, width)
            or (n, features), on the model's device.
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
        run: dict[str, Any] = {"from_store": True}
        if output is not None:
            dtype = str(output.dtype).removeprefix("torch.")
            run = {"device": str(output.device), "dtype": dtype, "batch_size": batch_size}
        if run not in self.ran:
            self.ran.append(run)

    def prefix_tokens(self, layer: str) -> int:
        """Return how many tokens lead a token layer's patches (class token, registers), or 0."""
        return 0

    def suffix_tokens(self, layer: str) -> int:
        """Return how many tokens follow a token layer's patches (detection tokens), or 0."""
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
            if layer not in known and submodule_of(layer)[0] not in known:
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
        Dotted names of submodules, as `named_modules` gives them. One call of a submodule that is
        called several times, such as a ReLU that two branches share, is named with its number,
        from 0: ``relu:1``.
    pick : function, optional
        Function from what a submodule returns to a tensor; by default the tensor itself, or the
        first of a tuple or list.
    stop : bool, default=False
        End the block as soon as every output is recorded: what comes after the deepest layer need
        not be computed. Only for submodules that are known to be called once, since the block ends
        before a second call could be seen.

    Yields
    ------
    dict
        Filled by the forward pass. Outputs are copied: the next operation often works in place.

    Raises
    ------
    UnknownNameError
        If there is no such submodule.
    InputError
        If a submodule returns no tensor, or is called several times and no call is named.
    """
    parts = dict(module.named_modules())
    recorded: dict[str, torch.Tensor] = {}
    calls: dict[str, int] = {}
    handles = []
    try:
        for part in dict.fromkeys(submodule_of(layer)[0] for layer in layers):
            if part not in parts:
                raise unknown_name("submodule", part, list(parts))
            enough = len(set(layers)) if stop else 0
            keep = _keeper(recorded, calls, part, set(layers), pick or first_tensor, enough)
            handles.append(parts[part].register_forward_hook(keep))
        with suppress(_Recorded):
            yield recorded
        _check_calls(layers, calls)
    finally:
        for handle in handles:
            handle.remove()


def submodule_of(layer: str) -> tuple[str, int | None]:
    """Return the submodule that a layer names, and the number of the call where it names one."""
    part, colon, number = layer.rpartition(":")
    return (part, int(number)) if colon and number.isdecimal() else (layer, None)


def _check_calls(layers: Sequence[str], calls: Mapping[str, int]) -> None:
    """Raise unless every layer names one call of those that were made."""
    for layer in layers:
        part, number = submodule_of(layer)
        count = calls.get(part, 0)
        named = listed(f"{part}:{call}" for call in range(count))
        if number is None and count > 1:
            raise InputError(
                f"{part} is called {count} times in one forward pass, each time with an output of "
                f"its own. Name the call that is meant: {named}."
            )
        if number is not None and count and number >= count:
            raise InputError(f"There is no call {layer}; one forward pass makes {named}.")


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
    calls: dict[str, int],
    part: str,
    layers: set[str],
    pick: "Callable[[Any], torch.Tensor]",
    enough: int,
) -> Callable[..., None]:
    """Return a hook that keeps a submodule's outputs, and ends the pass at the `enough`-th."""

    def keep(module: "torch.nn.Module", inputs: Any, output: Any) -> None:
        call = calls.get(part, 0)
        calls[part] = call + 1
        names = {f"{part}:{call}", *([part] if call == 0 else [])} & layers
        if names:
            value = pick(output).clone()
            recorded.update(dict.fromkeys(names, value))
        if enough and len(recorded) == enough:
            raise _Recorded

    return keep


def open_backbone(spec: str | Spec, *, download: bool | None = None) -> "Backbone":
    """Load a model as a frozen source of features.

    Parameters
    ----------
    spec : str or Spec
        ``SOURCE:NAME[/WEIGHTS]``, see `brainkit.features.spec`; layers are not looked at.
    download : bool, optional
        Whether weights may be fetched; by default as $BRAINKIT_DOWNLOAD says (1: yes).

    Raises
    ------
    UnknownNameError
        If there is no such source, model or tag of weights; the message names the nearest.
    DownloadError
        If the weights are neither here nor to be fetched.
    InputError
        If the weights are pickled, do not fit, or were trained with another activation.
    """
    chosen = parse_spec(spec) if isinstance(spec, str) else spec
    match chosen.source:
        case "open_clip" | "open_clip-text":
            from brainkit.features.backbones.open_clip import open_clip_backbone

            return open_clip_backbone(chosen, download=download)
        case "timm":
            from brainkit.features.backbones.timm import timm_backbone

            return timm_backbone(chosen, download=download)
        case "torchvision":
            from brainkit.features.backbones.torchvision import torchvision_backbone

            return torchvision_backbone(chosen, download=download)
        case "transformers" | "transformers-text":
            from brainkit.features.backbones.transformers import transformers_backbone

            return transformers_backbone(chosen, download=download)
        case _:
            from brainkit.features.backbones.builtin import builtin_backbone

            return builtin_backbone(chosen, download=download)
