"""What makes a generator's images what they are, for manifests."""

from typing import Any

import torch

from brainkit.arrays.atomic import plain
from brainkit.features.backbones.torch_module import versions
from brainkit.features.weights import weights_hash
from brainkit.generators.base import BATCH_SIZE, Generator


def describe_generator(generator: Generator) -> dict[str, Any]:
    """Return a generator's classes, the hashes of its weights, and its settings.

    Parameters
    ----------
    generator : Generator

    Returns
    -------
    dict
        JSON values. ``weights`` has the SHA-256 of every network of the pipeline, an adapter's
        within those of the network that it was loaded into; ``steps`` and ``guidance`` are what
        `generate` takes where nothing else is said.
    """
    pipe = generator.pipe
    networks = {
        name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)
    }
    return {
        "generator": type(generator).__name__,
        "name": generator.name,
        "pipeline": type(pipe).__name__,
        "weights": {name: weights_hash(part) for name, part in sorted(networks.items())},
        "scheduler": _scheduler(pipe.scheduler),
        "steps": generator.steps,
        "guidance": generator.guidance,
        "embedding_width": generator.embedding_width,
        "image_size": list(generator.image_size),
        "dtype": str(generator.dtype).removeprefix("torch."),
        "device": str(generator.device),
        "batch_size": BATCH_SIZE,
        "versions": versions("diffusers", "transformers", "torch"),
    }


def _scheduler(scheduler: Any) -> dict[str, Any]:
    settings = {
        key: value for key, value in scheduler.config.items() if not str(key).startswith("_")
    }
    return {"class": type(scheduler).__name__, **plain(settings)}
