"""What a module computes beside its weights: its parts, their settings, and the code of both.

Two modules with equal weights may give other features: another activation, another padding, a flag
that turns the input about, or a ``forward`` that was edited in between. None of this is in the
weights, and little of it in what a module prints of itself.
"""

import functools
import hashlib
import types
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

# Attributes that say where a module came from, not what it does; and its mode, which is always
# that of evaluation.
ABOUT = {"training", "pretrained_cfg", "default_cfg", "name_or_path", "warnings_issued"}
LIBRARIES = ("torch", "torchvision", "timm", "transformers", "open_clip", "numpy", "PIL")
_PRIMITIVES = (bool, int, float, complex, str, bytes, types.NoneType, types.EllipsisType)


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
