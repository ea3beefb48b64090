"""Features of any torch module, by hooks on its submodules, and what tells two modules apart.

`HookedModule` is what all sources share that are one torch module; `TorchModel` wraps a module of
the user's own. `structure_hash` stands for what a module computes beside its weights: its parts,
their settings, and the code of both. Two modules with equal weights may give other features:
another activation, another padding, a flag that turns the input about, or a ``forward`` that was
edited in between. None of this is in the weights, and little of it in what a module prints of
itself.
"""

import functools
import hashlib
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from brainkit.data.rgb import as_rgb
from brainkit.errors import InputError, unknown_name
from brainkit.features.backbones.backbone import (
    Backbone,
    Modality,
    evaluating,
    record,
    submodule_of,
)
from brainkit.features.weights import weights_hash

if TYPE_CHECKING:
    import torch
    from PIL import Image

# Attributes that say where a module came from, not what it does; and its mode, which is always
# that of evaluation.
ABOUT = {"training", "pretrained_cfg", "default_cfg", "name_or_path", "warnings_issued"}
LIBRARIES = ("torch", "torchvision", "timm", "transformers", "open_clip", "numpy", "PIL")
_PRIMITIVES = (bool, int, float, complex, str, bytes, types.NoneType, types.EllipsisType)

Preprocess = Callable[[Any], "torch.Tensor"]


def structure_hash(module: "torch.nn.Module", versioned: Collection[str] = LIBRARIES) -> str:
    """Return the SHA-256 of all that a module computes by, but for its weights.

    Parameters
    ----------
    module : torch module
    versioned : collection of str
        Packages whose version says what their code is; that of all others is part of the hash.

    Returns
    -------
    str
        Over each submodule: name, class, what it prints of itself, plain attributes, buffers that
        are not saved, and the class's code.
    """
    described = _Description(versioned)
    lines = []
    for name, part in module.named_modules():
        settings = {
            key: described(value)
            for key, value in vars(part).items()
            if not key.startswith("_") and key not in ABOUT
        }
        unsaved = {
            key: described(buffer)
            for key, buffer in part.named_buffers(recurse=False)
            if key in part._non_persistent_buffers_set
        }
        lines.append(
            repr((name, _name(type(part)), part.extra_repr(), sorted(settings.items()), unsaved))
        )
        lines.append(described.code(type(part)))
    return _sha256(lines)


def code_hash(function: Callable[..., Any], versioned: Collection[str] = LIBRARIES) -> str | None:
    """Return the SHA-256 of a function's code and of what it uses; None for one of a library.

    What it uses are its defaults, the values that it closes over, and plain values, functions and
    classes among the globals that it names.
    """
    code = _Description(versioned).code(function)
    return _sha256([code]) if code else None


class _Description:
    """Describes values in words that are the same in every process, and change with the values."""

    def __init__(self, versioned: Collection[str]) -> None:
        self._versioned = tuple(versioned)
        self._within: set[int] = set()

    def __call__(self, value: Any) -> str:  # noqa: PLR0911 - one line for each kind of value
        import torch

        if isinstance(value, _PRIMITIVES):
            return repr(value)
        if isinstance(value, np.ndarray | np.generic):
            return self._array(np.asarray(value))
        if isinstance(value, torch.Tensor) and value.is_meta:
            return f"{value.dtype} {tuple(value.shape)}"
        if isinstance(value, torch.Tensor):
            plain = value.detach().cpu().contiguous()
            numbers = plain.reshape(-1).view(torch.uint8).numpy() if plain.numel() else np.empty(0)
            return f"{plain.dtype} {tuple(plain.shape)} {self._array(numbers)}"
        if isinstance(value, torch.dtype | torch.device | slice | range):
            return repr(value)
        if isinstance(value, list | tuple | set | frozenset | dict):
            return self._container(value)
        if isinstance(value, functools.partial):
            return f"partial{self._container([value.func, value.args, value.keywords])}"
        if isinstance(value, types.FunctionType | types.MethodType | type):
            return f"{_name(value)} {_sha256([self.code(value)])}"
        return _name(value) if callable(value) else _name(type(value))

    def _container(self, value: Any) -> str:
        if isinstance(value, dict):
            return repr(sorted((str(key), self(item)) for key, item in value.items()))
        items = [self(item) for item in value]
        ordered = sorted(items) if isinstance(value, set | frozenset) else items
        return f"{type(value).__name__}{ordered}"

    def _array(self, array: Any) -> str:
        if array.dtype.kind == "O":
            return self._container(array.ravel().tolist())
        digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        return f"{array.dtype.str} {array.shape} {digest}"

    def code(self, thing: Any) -> str:
        """Return the code of a function or class, "" for those of versioned packages."""
        package = str(getattr(thing, "__module__", "") or "").partition(".")[0]
        if package in self._versioned or package in ("builtins", "abc", "typing"):
            return ""
        if id(thing) in self._within:  # it calls itself, or what calls it
            return _name(thing)
        self._within.add(id(thing))
        try:
            if isinstance(thing, type):
                return self._class(thing)
            function = getattr(thing, "__wrapped__", getattr(thing, "__func__", thing))
            return self._function(function) if hasattr(function, "__code__") else _name(thing)
        finally:
            self._within.discard(id(thing))

    def _class(self, kind: type) -> str:
        lines = [self.code(base) for base in kind.__bases__]
        for key, value in sorted(vars(kind).items()):
            inner = getattr(value, "__func__", getattr(value, "fget", value))
            if hasattr(inner, "__code__"):
                lines.append(f"{key}: {self.code(inner)}")
            elif not key.startswith("__"):
                lines.append(f"{key} = {self(value)}")
        return "\n".join(lines)

    def _function(self, function: Any) -> str:
        cells = (cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell))
        known = function.__globals__
        used = {name: known[name] for name in _names(function.__code__) if name in known}
        lines = [self._code_object(function.__code__)]
        lines += [self._container([function.__defaults__, function.__kwdefaults__, list(cells)])]
        lines += [
            f"{name} = {self(value)}"
            for name, value in sorted(used.items())
            if not isinstance(value, types.ModuleType)
        ]
        return "\n".join(lines)

    def _code_object(self, code: types.CodeType) -> str:
        constants = [
            self._code_object(value) if isinstance(value, types.CodeType) else self(value)
            for value in code.co_consts
        ]
        return repr((code.co_code.hex(), constants, code.co_names))


def _names(code: types.CodeType) -> set[str]:
    inner = (_names(value) for value in code.co_consts if isinstance(value, types.CodeType))
    return set(code.co_names).union(*inner)


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - an empty one raises
    except ValueError:
        return False
    return True


def _name(thing: Any) -> str:
    return (
        f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__name__)}"
    )


def _sha256(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


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
            Names of the layers that are wanted.
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
        Function from one PIL image (RGB) or one string to a tensor, without a random part. By
        default an image becomes float32 (3, height, width) in [0, 1], and all must have one size.
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
        text = repr(self._preprocess)
        if " at 0x" not in text and "Lambda(" not in text:
            return " ".join([text, *([] if (code := self._call_code()) is None else [code])])
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
