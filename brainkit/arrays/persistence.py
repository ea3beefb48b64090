"""Estimators on disk: arrays as safetensors, everything else as JSON, never pickle.

A folder holds ``estimator.json`` (classes, parameters, fitted attributes) and
``arrays.safetensors``. What comes back predicts bit for bit what was saved.

Only registered estimators are saved, and only they are built: the public ones of brainkit's rooms
(those that a room's ``__all__`` names), and those that an installed package registers as a model,
a feature space or an aligner (see `brainkit.arrays.registry`). A name is looked up before anything
is imported for its sake; a module is never imported because a file names it. An estimator of
brainkit is named by its room, and whatever module of that room a file names besides is not looked
at, so that files outlive modules; one of another package is named as its entry point names it.

What is kept are the parameters and the fitted attributes (those whose names end in ``_``). An
estimator whose fitted state is something else, such as a torch module, has two methods for it:
``__brainkit_state__()`` returns the state as arrays, numbers, text and containers of them, and
``__brainkit_restore__(state)`` takes it back on a new estimator with the same parameters, raising
`CorruptFileError` for a state that it cannot read.
"""

import importlib
import json
import re
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import brainkit
from brainkit.arrays.atomic import output_folder
from brainkit.arrays.files import require_file, unreadable
from brainkit.arrays.registry import GROUP, load_part, registered_parts
from brainkit.errors import CorruptFileError, InputError, OutputError, PartError

FORMAT = 1
STRUCTURE = "estimator.json"
UNREADABLE = "is not a readable estimator"
ARRAYS = "arrays.safetensors"
STATE, RESTORE = "__brainkit_state__", "__brainkit_restore__"
ESTIMATORS = ("model", "feature", "aligner")  # the kinds of registered parts that can be saved
NAME = re.compile(
    r"brainkit\.(?P<room>[a-z_]+)(\.[A-Za-z_]\w*)*:(?P<attribute>[A-Za-z_]\w*)", re.ASCII
)
# Text of one length takes that of its longest item for each: a small file could fill any memory.
MOST_CHARACTERS = 2**28

Arrays = dict[str, NDArray[Any]]


def save_estimator(estimator: Any, folder: str | Path) -> Path:
    """Save a fitted or unfitted estimator of brainkit to a new folder.

    Parameters
    ----------
    estimator : estimator
        A public estimator or transformer of brainkit, or one that another package registers as a
        model, a feature space or an aligner in the entry-point group ``brainkit.parts``; the same
        goes for those among its parameters.
    folder : path
        A folder that does not exist yet, or is empty. It appears whole or not at all.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        If the estimator holds something that has no safe file format.
    OutputError
        If the folder is in use.
    """
    from safetensors.numpy import save

    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"{target} exists already; save the estimator to a new folder.")
    arrays: Arrays = {}
    structure = {"format": FORMAT, "estimator": _encode(estimator, "", arrays)}
    with output_folder(target) as partial:
        # Not `save_file`: it lets nobody but the owner read, whatever the umask says.
        (partial / ARRAYS).write_bytes(save(arrays))
        text = json.dumps(structure, indent=2, allow_nan=True)
        (partial / STRUCTURE).write_text(text + "\n", encoding="utf-8")
    return target


def load_estimator(folder: str | Path) -> Any:
    """Load an estimator that `save_estimator` wrote.

    Raises
    ------
    MissingFileError, CorruptFileError
        If files are missing, damaged, of another format, or name a class that is not an
        estimator of brainkit, nor of an installed package.
    PartError
        If the package that registers a class cannot be imported.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = require_file(Path(folder) / STRUCTURE, "A saved estimator")
    stored = require_file(Path(folder) / ARRAYS, "A saved estimator's arrays")
    try:
        structure = json.loads(path.read_text(encoding="utf-8"))
        arrays = load_file(stored)
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise unreadable(folder, error, UNREADABLE, "save it again") from error
    try:
        form, root = structure["format"], structure["estimator"]
        if isinstance(form, bool) or form != FORMAT:
            raise CorruptFileError(f"{folder} has format {form!r}; this brainkit reads {FORMAT}.")
        if not isinstance(root, dict) or next(iter(root), None) != "$estimator":
            raise CorruptFileError(f"{folder} holds no estimator, but a {type(root).__name__}.")
        return _decode(root, arrays)
    except (CorruptFileError, PartError):
        raise
    except Exception as error:  # whatever a class makes of parameters that it never had
        raise unreadable(folder, error, UNREADABLE, "save it again") from error


def find_estimator(name: str) -> type | None:
    """Return a registered estimator by the name that it is saved under, None if there is none.

    Parameters
    ----------
    name : str
        Room and class, such as ``"brainkit.encoding:VoxelwiseRidge"``, with or without a module of
        the room. That module is not imported: a class of brainkit is looked up in its room, which
        has to offer it by name, and one of another package among the models, feature spaces and
        aligners that installed packages register.

    Raises
    ------
    PartError
        If the package that registers it cannot be imported.
    """
    match = NAME.fullmatch(name)
    kind: Any = None
    if match is None:
        entry = _registered().get(name)
        kind = load_part(entry) if entry is not None else None
    elif match["room"] in brainkit.ROOMS:
        room = importlib.import_module(f"brainkit.{match['room']}")
        if match["attribute"] in getattr(room, "__all__", ()):
            kind = getattr(room, match["attribute"])
    return kind if isinstance(kind, type) and hasattr(kind, "get_params") else None


def saved_name(kind: type) -> str:
    """Return the name under which an estimator is saved: its room and its own, or its entry's."""
    module = kind.__module__
    if module.startswith("brainkit."):
        return f"{'.'.join(module.split('.')[:2])}:{kind.__qualname__}"
    for name, entry in _registered().items():  # it may be registered where it is not defined
        if getattr(sys.modules.get(entry.module), entry.attr or "", None) is kind:
            return name
    return f"{module}:{kind.__qualname__}"


def _registered() -> dict[str, EntryPoint]:
    """Return the entry points of other packages' estimators by what they name."""
    entries = (entry for kind, _, entry in registered_parts() if kind in ESTIMATORS)
    return {f"{entry.module}:{entry.attr}": entry for entry in entries}


def _encode(value: Any, name: str, arrays: Arrays) -> Any:
    """Turn a value into JSON; its arrays go to `arrays`, under names that start with `name`."""
    if isinstance(value, np.ndarray | np.generic) and not isinstance(value, str):
        return _encode_array(value, name, arrays)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        items = [_encode(item, f"{name}.{number}", arrays) for number, item in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, dict) and all(isinstance(key, str | int) for key in value):
        return {"$dict": [[key, _encode(v, f"{name}.{key}", arrays)] for key, v in value.items()]}
    if find_estimator(saved_name(type(value))) is type(value):
        return _encode_estimator(value, name, arrays)
    raise _unsafe(name, f"a {type(value).__module__}.{type(value).__qualname__}")


def _unsafe(name: str, what: str) -> InputError:
    return InputError(
        f"{name or 'The estimator'} is {what}, which has no safe file format here: only public "
        "estimators of brainkit, those registered as models, feature spaces or aligners in the "
        f"entry-point group {GROUP!r}, arrays, numbers, text, and containers of them with text or "
        "whole numbers for keys can be saved."
    )


def _encode_array(value: Any, name: str, arrays: Arrays) -> dict[str, Any]:
    array = np.asarray(value)
    if array.dtype.kind in "OU":
        if not all(isinstance(item, str) for item in array.flat):
            raise _unsafe(name, "an array of Python objects")
        text = [str(item) for item in array.flat]
        return {"$strings": text, "shape": list(array.shape), "object": array.dtype.kind == "O"}
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise _unsafe(name, f"an array of {array.dtype}")
    while name in arrays:  # the keys 1 and "1" of a dict
        name += "'"
    arrays[name] = array.astype(array.dtype.newbyteorder("="), order="C")
    return {"$scalar" if isinstance(value, np.generic) else "$array": name}


def _encode_estimator(estimator: Any, name: str, arrays: Arrays) -> dict[str, Any]:
    parameters = estimator.get_params(deep=False)
    stem = f"{name}." if name else ""
    entry = {
        "$estimator": saved_name(type(estimator)),
        "parameters": {k: _encode(v, f"{stem}{k}", arrays) for k, v in parameters.items()},
    }
    if hasattr(estimator, STATE):
        inner_state = getattr(estimator, STATE)()
        return {**entry, "state": _encode(inner_state, f"{stem}state", arrays)}
    state = {
        key: value
        for key, value in vars(estimator).items()
        if key not in parameters and _is_fitted_name(key)
    }
    return {**entry, "fitted": {k: _encode(v, f"{stem}{k}", arrays) for k, v in state.items()}}


def _is_fitted_name(name: str) -> bool:
    return name.endswith("_") and not name.startswith("_")


def _decode(value: Any, arrays: Arrays) -> Any:
    if isinstance(value, list):
        return [_decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    kind = next(iter(value), None)
    decode = _DECODERS.get(str(kind))
    if decode is None:
        raise CorruptFileError(f"A saved estimator holds an entry of unknown kind {kind!r}.")
    return decode(value, arrays)


def _decode_strings(value: dict[str, Any], arrays: Arrays) -> NDArray[Any]:
    text = value["$strings"]
    if not all(isinstance(item, str) for item in text):
        raise CorruptFileError("A saved estimator holds text that is none.")
    if not value["object"] and len(text) * max(map(len, text), default=0) > MOST_CHARACTERS:
        raise CorruptFileError("A saved estimator holds text that would not fit in memory.")
    return np.array(text, dtype=object if value["object"] else str).reshape(value["shape"])


def _decode_estimator(value: dict[str, Any], arrays: Arrays) -> Any:
    name = value["$estimator"]
    kind = find_estimator(name)
    if kind is None:
        raise CorruptFileError(
            f"{name} is not an estimator of brainkit, nor registered by another package: this "
            f"installation has no {name} to load."
        )
    estimator = kind(**{k: _decode(v, arrays) for k, v in value["parameters"].items()})
    if hasattr(kind, RESTORE):
        getattr(estimator, RESTORE)(_decode(value["state"], arrays))
        return estimator
    for key, item in value["fitted"].items():
        if not _is_fitted_name(key):
            raise CorruptFileError(f"{key} is not the name of a fitted attribute.")
        setattr(estimator, key, _decode(item, arrays))
    return estimator


_DECODERS: dict[str, Callable[[dict[str, Any], Arrays], Any]] = {
    "$scalar": lambda value, arrays: arrays[value["$scalar"]][()],
    "$array": lambda value, arrays: arrays[value["$array"]],
    "$strings": _decode_strings,
    "$tuple": lambda value, arrays: tuple(_decode(item, arrays) for item in value["$tuple"]),
    "$dict": lambda value, arrays: {k: _decode(item, arrays) for k, item in value["$dict"]},
    "$estimator": _decode_estimator,
}
