"""Features of any torch module, by hooks on its submodules.

`HookedModule` is what all sources share that are one torch module; `TorchModel` wraps a module of
the user's own.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from brainkit.data.rgb import as_rgb
from brainkit.errors import InputError, unknown_name
from brainkit.features.backbones.base import Backbone, Modality, evaluating, record, submodule_of
from brainkit.features.backbones.structure import code_hash, structure_hash
from brainkit.features.weights import weights_hash

if TYPE_CHECKING:
    import torch
    from PIL import Image

Preprocess = Callable[[Any], "torch.Tensor"]


class HookedModule(Backbone):
    """A backbone that is one torch module; every submodule that it calls is a layer.

    Parameters
    ----------
    module : torch module
        Frozen by its owner; every pass runs in evaluation mode in any case.
    spec : str
        What the model is called.
    modality : {"image", "text"}
    """

    def __init__(self, module: "torch.nn.Module", spec: str, modality: Modality = "image") -> None:
        self.module, self.spec, self.modality = module, spec, modality
        self._weights: tuple[Any, str] | None = None

    def model(self) -> str:
        """Return the model's name in its library; where its weights are a file, without the path.

        The hash of the weights tells them apart, wherever the file lies.
        """
        name = self.spec.partition(":")[2]
        return name.partition("/")[0] if name.endswith(".safetensors") else name

    def weights(self) -> str:
        """Return the hash of the weights, computed anew only where torch says they changed."""
        state = [
            # Tensors of inference mode do not count their changes, but nor can they be trained.
            (name, value.data_ptr(), 0 if value.is_inference() else value._version)
            for name, value in self.module.state_dict(keep_vars=True).items()
        ]
        if self._weights is None or self._weights[0] != state:
            self._weights = (state, weights_hash(self.module))
        return self._weights[1]

    def structure(self) -> str:
        """Return the hash of what the module computes beside its weights."""
        return structure_hash(self.module)

    def layers(self) -> list[str]:
        """Return the names of all submodules that are called, as ``named_modules`` has them."""
        from torch import nn

        holders = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
        return [
            name
            for name, part in self.module.named_modules()
            if name and not isinstance(part, holders)
        ]

    def default_layer(self) -> str:
        """Return the last layer."""
        return self.layers()[-1]

    def to(self, device: "str | torch.device") -> None:
        """Move the module to a device."""
        self.module.to(device)

    def device(self) -> "torch.device":
        """Return where the module is."""
        import torch

        first = next(self.module.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    def run(self, batch: "torch.Tensor", layers: Sequence[str]) -> "dict[str, torch.Tensor]":
        """Return the outputs of submodules, by one forward pass."""
        names = self.check_layers(layers)
        with evaluating(self.module), record(self.module, names) as recorded:
            self.module(self.to_module(batch))
        return self.tidied(recorded, names, len(batch), is_square(batch))

    def to_module(self, batch: "torch.Tensor") -> "torch.Tensor":
        """Return a batch where the module is; floating point in the precision of its weights."""
        kinds = (part.dtype for part in self.module.parameters() if part.is_floating_point())
        kind = next(kinds, None) if batch.is_floating_point() else None
        return batch.to(self.device(), kind)

    def channels_last(self, layer: str) -> bool | None:
        """Return whether a submodule's 4-D output is (n, height, width, channels).

        Linear maps and plain layer norms act on the last axis, convolutions and their like on the
        one after the images, whatever surrounds them.

        Returns
        -------
        bool or None
            None for activations, dropout and all else that works on any axis.
        """
        from torch import nn

        part = self.submodule(layer)
        if isinstance(part, nn.LayerNorm):
            return not type(part).__name__.endswith("2d")
        if isinstance(part, nn.Linear):
            return True
        first = (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.AdaptiveAvgPool2d)
        return False if isinstance(part, (*first, nn.MaxPool2d, nn.AvgPool2d)) else None

    def submodule(self, layer: str) -> "torch.nn.Module":
        """Return the submodule that a layer is the output, or one of the outputs, of."""
        return self.module.get_submodule(submodule_of(layer)[0])

    def tidied(
        self,
        recorded: "dict[str, torch.Tensor]",
        names: Sequence[str],
        n_items: int,
        square: bool = False,
    ) -> "dict[str, torch.Tensor]":
        """Check what the hooks recorded, and put channels before height and width.

        Parameters
        ----------
        recorded : dict
            The outputs by name.
        names : sequence of str
            Those that are wanted.
        n_items : int
        square : bool, default=False
            Whether the images are as high as wide: then so are their maps, which tells the axis of
            the channels where the submodule does not.

        Raises
        ------
        InputError
            If a layer was not called, or its output is not one row an item.
        """
        tidy = {}
        for name in names:
            if name not in recorded:
                raise InputError(
                    f"The forward pass of {self.spec} does not call {name}; name another layer."
                )
            value = recorded[name]
            if value.ndim not in (2, 3, 4) or len(value) != n_items:
                raise InputError(
                    f"The layer {name} of {self.spec} gives {tuple(value.shape)} for a batch of "
                    f"{n_items}; features need (n, features), (n, tokens, width) or (n, channels, "
                    "height, width). Name another layer, such as the block that holds it."
                )
            if value.ndim == 4:
                last = self.channels_last(name)
                if last is None and square:
                    last = value.shape[1] == value.shape[2] != value.shape[3]
                value = value.movedim(-1, 1) if last else value
            tidy[name] = value
        return tidy


class TorchModel(HookedModule):
    """Features of a plain torch module of your own.

    The module stays yours: its mode, its gradients and its weights are left as they are, and every
    pass runs in evaluation mode without gradients.

    Parameters
    ----------
    module : torch module
        Called with what `preprocess` gives, stacked.
    preprocess : function, optional
        From one PIL image (RGB) or one string to a tensor, without a random part. By default an
        image becomes float32 (3, height, width) in [0, 1], and all must have one size.
    layers : sequence of str, optional
        Submodules to offer, the last of them the default; all where not given.
    name : str, optional
        What to call the model; the class's name where not given.
    preprocessing : str, optional
        What `preprocess` does, in words that change whenever it does: part of the address of
        stored features. Needed for a store where `preprocess` is a lambda, or another function or
        object that cannot be told from its name.
    modality : {"image", "text"}, default="image"
    prefix_tokens : int, default=0
        Tokens before the patches in the layers that give (n, tokens, width).
    """

    def __init__(
        self,
        module: "torch.nn.Module",
        preprocess: Preprocess | None = None,
        layers: Sequence[str] | None = None,
        name: str | None = None,
        *,
        preprocessing: str | None = None,
        modality: Modality = "image",
        prefix_tokens: int = 0,
    ) -> None:
        if modality == "text" and preprocess is None:
            raise InputError("A model of text needs preprocess, from one string to a tensor.")
        super().__init__(module, f"module:{name or type(module).__name__}", modality)
        self._preprocess, self._preprocessing = preprocess, preprocessing
        self._prefix_tokens = prefix_tokens
        known = super().layers()
        if not known:
            raise InputError(f"{self.spec} has no submodules, so it has no layers to name.")
        for layer in layers or ():
            if layer not in known:
                raise unknown_name(f"layer of {self.spec}", layer, known)
        self._layers = list(layers) if layers else known

    def identity(self) -> dict[str, Any]:
        """Return the class, structure and code, the present weights and the preprocessing.

        Raises
        ------
        InputError
            If the preprocessing cannot be told from its name and was not described.
        """
        kind = type(self.module)
        return {
            "source": "module",
            "model": self.model(),
            "class": f"{kind.__module__}.{kind.__qualname__}",
            "structure": structure_hash(self.module, ["torch"]),
            "weights": weights_hash(self.module),  # anew: the owner may have trained it meanwhile
            "preprocessing": self._describe(),
            "versions": versions("torch", "pillow"),
        }

    def _describe(self) -> str:
        if self._preprocessing is not None:
            return self._preprocessing
        if self._preprocess is None:
            return "RGB, float32 in [0, 1]"
        name = getattr(self._preprocess, "__qualname__", "")
        if name and "<" not in name:
            code = code_hash(self._preprocess)
            return f"{self._preprocess.__module__}.{name}{'' if code is None else f' {code}'}"
        said = repr(self._preprocess)
        if " at 0x" not in said and "Lambda(" not in said:
            return " ".join([said, *([] if (code := self._call_code()) is None else [code])])
        raise InputError(
            f"The preprocessing {self._preprocess!r} of {self.spec} cannot be told from another, "
            "so its features cannot be stored; describe it: TorchModel(..., preprocessing='...')."
        )

    def _call_code(self) -> str | None:
        """Return the hash of what a preprocessing that is an object runs, unless a library's."""
        return code_hash(type(self._preprocess))

    def layers(self) -> list[str]:
        """Return the submodules on offer."""
        return self._layers

    def prefix_tokens(self, layer: str) -> int:
        """Return the number that the constructor was given."""
        return self._prefix_tokens

    def prepare(self, items: "Sequence[Image.Image] | Sequence[str]") -> "torch.Tensor":
        """Apply the preprocessing to every item."""
        preprocess = self._preprocess or to_tensor
        return stacked([preprocess(item) for item in items], self.spec)


def is_square(batch: "torch.Tensor") -> bool:
    """Return whether a batch is one of images that are as high as wide."""
    return batch.ndim == 4 and batch.shape[2] == batch.shape[3]


def pictures(items: Sequence[Any]) -> list[Any]:
    """Return what a model of images is given as RGB images of 8 bits; see `brainkit.data.rgb`."""
    return [as_rgb(item) for item in items]


def to_tensor(image: Any) -> "torch.Tensor":
    """Return a PIL image as float32 (3, height, width) in [0, 1]."""
    import torch

    pixels = np.asarray(as_rgb(image), dtype=np.float32) / 255
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def stacked(rows: "Sequence[torch.Tensor]", spec: str) -> "torch.Tensor":
    """Stack the items' tensors.

    Raises
    ------
    InputError
        If they have different shapes.
    """
    import torch

    shapes = sorted({tuple(row.shape) for row in rows})
    if len(shapes) != 1:
        raise InputError(
            f"The preprocessing of {spec} gave tensors of several shapes, {shapes}: one batch "
            "needs one. Resize in `preprocess`."
        )
    return torch.stack(list(rows))


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of the libraries that change numbers."""
    return {package: version(package) for package in packages}


@contextmanager
def random_weights(seed: int) -> Iterator[None]:
    """Let torch initialise weights from a seed of their own, and put its random state back."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
