"""Which generator drives which pipeline of diffusers; one line per class."""

import importlib
from typing import TYPE_CHECKING

from brainkit.errors import unknown_name

if TYPE_CHECKING:
    from brainkit.generators.base import Generator

# The `_class_name` of model_index.json, and the module and class of the generator.
GENERATORS = {
    "StableUnCLIPImg2ImgPipeline": ("brainkit.generators.unclip", "StableUnCLIPGenerator"),
    "StableDiffusionXLPipeline": ("brainkit.generators.ip_adapter", "SDXLGenerator"),
}


def generator_class(name: str) -> "type[Generator]":
    """Return the generator that drives a class of diffusers; raises `UnknownNameError`."""
    if name not in GENERATORS:
        raise unknown_name("pipeline class", name, list(GENERATORS))
    module, attribute = GENERATORS[name]
    kind: type[Generator] = getattr(importlib.import_module(module), attribute)
    return kind
