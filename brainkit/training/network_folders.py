"""Trained networks on disk: ``config.json`` and ``model.safetensors`` in a folder, never pickle.

The configuration says which kind of network it is, its architecture and what it learned from; what
stands in these two is that of the kind.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from brainkit.arrays.atomic import atomic_path, under_umask, write_json
from brainkit.arrays.files import read_json, require_file
from brainkit.errors import CorruptFileError, InputError, unknown_name
from brainkit.features.weights import find_model

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
DTYPES = {"float16": torch.float16, "float32": torch.float32}
Read = TypeVar("Read")


def write_network(
    network: nn.Module,
    folder: str | Path,
    kind: str,
    *,
    architecture: Mapping[str, Any],
    origin: Mapping[str, Any],
    dtype: Literal["float16", "float32"] = "float32",
) -> Path:
    """Write a network to a folder.

    Parameters
    ----------
    network : Module
    folder : path
    kind : str
        Such as ``"in-context encoder"``.
    architecture, origin : mapping
        JSON values.
    dtype : {"float32", "float16"}, default="float32"
        What the weights are kept as.

    Raises
    ------
    UnknownNameError
        If there is no such dtype.
    """
    from safetensors.torch import save_file

    if dtype not in DTYPES:
        raise unknown_name("dtype of saved weights", dtype, tuple(DTYPES))
    target = Path(folder)
    state = {
        name: value.detach().to("cpu", DTYPES[dtype]).contiguous()
        for name, value in network.state_dict().items()
    }
    with atomic_path(target / WEIGHTS) as path:
        save_file(state, path, metadata={"format": "pt"})
        under_umask(path)
    config = {"kind": f"brainkit {kind}", "format": FORMAT, "architecture": dict(architecture)}
    write_json(target / CONFIG, config | {"origin": dict(origin)})
    return target


def read_network(
    place: str, kind: str, read: Callable[[Mapping[str, Any], Mapping[str, Any]], Read]
) -> tuple[Read, Path]:
    """Read the configuration of a network; return it, and the file of its weights.

    Parameters
    ----------
    place : str
        A folder, or a folder of the models that come with brainkit.
    kind : str
        As for `write_network`.
    read : callable
        From architecture and origin to what the kind makes of them.

    Raises
    ------
    MissingFileError
        If there is none.
    CorruptFileError
        If it is damaged, of another kind, or of another format than this brainkit reads.
    """
    folder = find_model(place)
    path = folder / CONFIG
    config = read_json(
        path,
        f"The configuration of an {kind}",
        damaged=f"is not the configuration of an {kind}",
    )
    weights = require_file(folder / WEIGHTS, f"The weights of an {kind}")
    named = f"brainkit {kind}"
    try:
        if config["kind"] != named:
            raise CorruptFileError(f"{path} is that of a {config['kind']!r}, not of a {named!r}.")
        if config["format"] != FORMAT:
            raise CorruptFileError(
                f"{path} has format {config['format']}; this brainkit reads {FORMAT}. Take the "
                "brainkit that wrote it, or train the network again."
            )
        return read(config["architecture"], config["origin"]), weights
    except (KeyError, TypeError, ValueError, InputError) as error:
        raise CorruptFileError(
            f"{path} is not the configuration of an {kind} ({error!r})."
        ) from error
