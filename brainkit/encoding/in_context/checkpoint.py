"""Networks on disk: ``config.json`` and ``model.safetensors`` in a folder, never pickle.

The configuration says what the network is and what it learned from: size, the embeddings that it
reads, the contexts that it saw and the subjects that it must not be judged on.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from brainkit.arrays.atomic import atomic_path, under_umask, write_json
from brainkit.arrays.files import read_json, require_file
from brainkit.encoding.in_context.module import Architecture, InContextNetwork
from brainkit.errors import CorruptFileError, InputError, unknown_name
from brainkit.features.weights import find_model, load_state

FORMAT = 1
KIND = "brainkit in-context encoder"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
SHIPPED = {"tiny": "tiny/in-context", "tiny-published": "tiny/in-context-published"}
DTYPES = {"float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class Origin:
    """What a network learned from.

    Attributes
    ----------
    embedding_model : str or None
        Spec of the model whose embeddings it reads.
    context : (int, int)
        Fewest and most support images that it was trained with; (0, 0) for an untrained one.
    subjects : tuple of str
        Whose voxels it learned from.
    training : dict
        What is worth knowing of each stage.
    """

    embedding_model: str | None = None
    context: tuple[int, int] = (0, 0)
    subjects: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)


def save_network(
    network: InContextNetwork,
    origin: Origin,
    folder: str | Path,
    *,
    dtype: Literal["float16", "float32"] = "float32",
) -> Path:
    """Write a network to a folder.

    Parameters
    ----------
    network : InContextNetwork
    origin : Origin
    folder : path
    dtype : {"float32", "float16"}, default="float32"
        What the weights are kept as. They are loaded as float32 in any case.
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
    config = {"kind": KIND, "format": FORMAT, "architecture": asdict(network.architecture)}
    write_json(target / CONFIG, config | {"origin": asdict(origin)})
    return target


def load_network(name: str | Path) -> tuple[InContextNetwork, Origin]:
    """Load a network that `save_network` wrote.

    Parameters
    ----------
    name : str or path
        ``"tiny"`` or ``"tiny-published"`` for those that come with brainkit, or a folder.

    Returns
    -------
    network : InContextNetwork
        On the CPU, frozen, in evaluation mode.
    origin : Origin

    Raises
    ------
    MissingFileError
        If there is none.
    CorruptFileError
        If it is damaged, or of another format than this brainkit reads.
    InputError
        If its weights do not fit its configuration.
    """
    folder = find_model(SHIPPED.get(str(name), str(name)))
    path = folder / CONFIG
    config = read_json(
        path,
        "The configuration of an in-context encoder",
        damaged="is not the configuration of an in-context encoder",
    )
    weights = require_file(folder / WEIGHTS, "The weights of an in-context encoder")
    architecture, origin = _read_config(path, config)
    network = InContextNetwork(architecture)
    load_state(network, weights)
    return network.eval().requires_grad_(False), origin


def _read_config(path: Path, config: Mapping[str, Any]) -> tuple[Architecture, Origin]:
    try:
        kind, version = config["kind"], config["format"]
        if kind == KIND and version != FORMAT:
            raise CorruptFileError(
                f"{path} has format {version}; this brainkit reads {FORMAT}. Take the brainkit "
                "that wrote it, or train the network again."
            )
        if kind != KIND:
            raise CorruptFileError(f"{path} is that of a {kind!r}, not of a {KIND!r}.")
        origin = config["origin"]
        low, high = origin["context"]
        return Architecture(**config["architecture"]), Origin(
            origin["embedding_model"], (low, high), tuple(origin["subjects"]), origin["training"]
        )
    except (KeyError, TypeError, ValueError, InputError) as error:
        raise CorruptFileError(
            f"{path} is not the configuration of an in-context encoder ({error!r})."
        ) from error
