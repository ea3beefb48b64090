"""brainkit: encoding models of the brain, decoding from it, and stimuli that a region prefers.

Importing the package is cheap: every name below is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from brainkit.arrays.persistence import load_estimator, save_estimator
    from brainkit.data.cards import load, load_all
    from brainkit.data.recording import Recording
    from brainkit.data.stimuli import Stimuli

__version__ = "0.1.0.dev0"

__all__ = [
    "Recording",
    "Stimuli",
    "__version__",
    "load",
    "load_all",
    "load_estimator",
    "save_estimator",
]

_HOMES = {
    "Recording": "brainkit.data.recording",
    "Stimuli": "brainkit.data.stimuli",
    "load": "brainkit.data.cards",
    "load_all": "brainkit.data.cards",
    "load_estimator": "brainkit.arrays.persistence",
    "save_estimator": "brainkit.arrays.persistence",
}

# What `brainkit.<room>` loads, and where saved estimators are looked up.
ROOMS = frozenset(
    {
        "alignment",
        "arrays",
        "data",
        "decoding",
        "encoding",
        "errors",
        "evaluation",
        "features",
        "generators",
        "jobs",
        "linear",
        "recipes",
        "reconstruction",
        "reporting",
        "synthesis",
        "training",
    }
)


def __getattr__(name: str) -> Any:
    """Load a public name or a room when it is first asked for."""
    if name in ROOMS:
        return importlib.import_module(f"brainkit.{name}")
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'brainkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names and the rooms, loaded or not."""
    return sorted({*globals(), *__all__, *ROOMS})
