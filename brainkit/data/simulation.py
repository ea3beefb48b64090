"""What a folder of simulated data says of itself, and what may be simulated into a folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainkit.arrays.files import is_file, read_json
from brainkit.errors import CorruptFileError, OutputError

MANIFEST = "SIMULATED.json"


def read_simulation(root: Path) -> dict[str, Any] | None:
    """Return what ``SIMULATED.json`` in a dataset's folder holds; None for a real dataset.

    Raises
    ------
    CorruptFileError
        If the file is damaged, or the data were not written to their end.
    """
    path = root / MANIFEST
    if not is_file(path):
        return None
    content = read_json(
        path, "What simulated data say of themselves", "simulate them anew", "is damaged"
    )
    if not content.get("complete", True):
        raise CorruptFileError(
            f"The simulated data in {root} were not written to their end; simulate them anew."
        )
    return content


def simulation_info(root: Path) -> dict[str, Any]:
    """Return what a recording's info says of a simulated dataset; nothing of a real one."""
    content = read_simulation(root)
    return {} if content is None else {"simulated": content}


def check_root(root: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse to mix a simulation with real data or with another simulation.

    Parameters
    ----------
    root : Path
        Folder in which the simulation shall stand.
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
