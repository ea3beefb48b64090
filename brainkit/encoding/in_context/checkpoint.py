"""Networks on disk: ``config.json`` and ``model.safetensors`` in a folder, never pickle.

The configuration says what the network is and what it learned from: size, the embeddings that it
reads, the contexts that it saw and the subjects that it must not be judged on.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from brainkit.encoding.in_context.module import Architecture, InContextNetwork
from brainkit.features.weights import load_state
from brainkit.training.network_folders import read_network, write_network

KIND = "in-context encoder"
SHIPPED = {"tiny": "tiny/in-context", "tiny-published": "tiny/in-context-published"}


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
    parts = {"architecture": asdict(network.architecture), "origin": asdict(origin)}
    return write_network(network, folder, KIND, dtype=dtype, **parts)


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
    place = SHIPPED.get(str(name), str(name))
    (architecture, origin), weights = read_network(place, KIND, _read_config)
    network = InContextNetwork(architecture)
    load_state(network, weights)
    return network.eval().requires_grad_(False), origin


def _read_config(
    architecture: Mapping[str, Any], origin: Mapping[str, Any]
) -> tuple[Architecture, Origin]:
    low, high = origin["context"]
    return Architecture(**architecture), Origin(
        origin["embedding_model"], (low, high), tuple(origin["subjects"]), origin["training"]
    )
