"""Generators: adapters round frozen generative models, from embeddings to images and sentences.

The names are loaded when they are first used: torch, diffusers and transformers take seconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from brainkit.generators.autoencoders import Autoencoder, LatentScale, load_tiny_autoencoder
    from brainkit.generators.captioner import Captioner
    from brainkit.generators.generator import Generator

__all__ = ["Autoencoder", "Captioner", "Generator", "LatentScale", "load_tiny_autoencoder"]

_HOMES = {
    "Autoencoder": "autoencoders",
    "Captioner": "captioner",
    "Generator": "generator",
    "LatentScale": "autoencoders",
    "load_tiny_autoencoder": "autoencoders",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'brainkit.generators' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"brainkit.generators.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
