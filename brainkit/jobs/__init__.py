"""Jobs: one module each, their registry, and the one runner that takes any of them to a report.

Importing the room imports no job: each is loaded when it is asked for by name.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from brainkit.arrays.registry import Registry

if TYPE_CHECKING:
    from brainkit.jobs.pipeline import (
        ImageDecoder,
        ImageEncoder,
        ImageReconstructor,
        LabelPipeline,
        Preparation,
    )
    from brainkit.jobs.pooled_models import AlignedEncoder
    from brainkit.jobs.runner import read_recipe, run_job, run_recipe

JOBS = Registry(
    "job",
    "job",
    {
        "encode": "brainkit.jobs.encode:Encode",
        "layers": "brainkit.jobs.layers:Layers",
        "decode": "brainkit.jobs.decode:Decode",
        "reconstruct": "brainkit.jobs.reconstruct:Reconstruct",
        "synthesize": "brainkit.jobs.synthesize:Synthesize",
        "labels": "brainkit.jobs.labels:Labels",
        "rsa": "brainkit.jobs.rsa:RSA",
    },
)
# What the list of commands says of them, so that it need not import them.
SUMMARIES = {
    "encode": "Fit encoding models and map which units follow the stimuli.",
    "layers": "Map which layer of a network each region follows, one encoder a layer.",
    "decode": "Reconstruct held-out images from brain responses, beside the nulls.",
    "reconstruct": "Draw and caption what was seen, from decoded embeddings, by frozen models.",
    "synthesize": "Rank the stimuli that should drive each region most, judged by a second "
    "encoder.",
    "labels": "Decode classes or numbers from brain responses, beside exchanged labels.",
    "rsa": "Compare a model's layers with people's dissimilarities, region by region.",
}

__all__ = [
    "JOBS",
    "AlignedEncoder",
    "ImageDecoder",
    "ImageEncoder",
    "ImageReconstructor",
    "LabelPipeline",
    "Preparation",
    "read_recipe",
    "run_job",
    "run_recipe",
]

_HOMES = {
    "AlignedEncoder": "pooled_models",
    "ImageDecoder": "pipeline",
    "ImageEncoder": "pipeline",
    "ImageReconstructor": "pipeline",
    "LabelPipeline": "pipeline",
    "Preparation": "pipeline",
    "read_recipe": "runner",
    "run_job": "runner",
    "run_recipe": "runner",
}


def protocol_settings() -> set[str]:
    """Return the names of the settings that the protocols of the jobs that are loaded have."""
    added = [entry.value for entries in JOBS.added().values() for entry in entries]
    places = [place.partition(":") for place in [*JOBS.builtin.values(), *added]]
    jobs: list[Any] = [
        getattr(sys.modules.get(module), job.strip(), None) for module, _, job in places
    ]
    fields = [job.schema.model_fields.get("protocol") for job in jobs if hasattr(job, "schema")]
    protocols = [field.annotation for field in fields if field is not None]
    return {name for one in protocols for name in getattr(one, "model_fields", ())}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for."""
    if name in _HOMES:
        value = getattr(importlib.import_module(f"brainkit.jobs.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'brainkit.jobs' has no attribute {name!r}")
