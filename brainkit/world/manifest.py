"""Keeping a simulation apart from real data and from other simulations."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainkit.data.simulation import MANIFEST
from brainkit.errors import OutputError


def check_root(root: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse to mix a simulation with real data or with another simulation.

    Parameters
    ----------
    root : Path
        Where the simulation shall stand.
    manifest : mapping
        What its ``SIMULATED.json`` will hold, whether complete or not.

    Raises
    ------
    OutputError
        If the folder holds anything but this very simulation.
    """
    if root.exists() and not root.is_dir():
        raise OutputError(f"{root} is a file; give a folder to write the simulated data to.")
    if not root.is_dir() or not any(root.iterdir()):
        return
    path = root / MANIFEST
    if not path.is_file():
        raise OutputError(
            f"{root} holds files but no {MANIFEST}: nothing is simulated into a folder that may "
            "hold real data. Choose a new or empty folder."
        )
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        earlier = None
    if not isinstance(earlier, dict) or {**earlier, "complete": None} != {
        **manifest,
        "complete": None,
    }:
        raise OutputError(
            f"{root} holds another simulation (see its {MANIFEST}). Choose another folder or "
            "remove it."
        )
