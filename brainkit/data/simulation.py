"""What simulated data say of themselves, and the names that simulated people go by."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainkit.arrays.files import is_file, read_json
from brainkit.errors import CorruptFileError, OutputError

if TYPE_CHECKING:
    from brainkit.data.recording import Recording

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


def names_of(recording: "Recording") -> tuple[str, ...]:
    """Return the names by which a network may say that it learned from a recording's subject.

    ``CARD/SUBJECT``, that of `simulated_name` for one of a simulated world, and the subject alone,
    for a network that was not told of which dataset its subjects are.
    """
    names = [recording.subject]
    if recording.info.get("card"):
        names.insert(0, f"{recording.info['card']}/{recording.subject}")
    given = recording.info.get("simulated")
    simulated = given if isinstance(given, Mapping) else {}
    world = simulated.get("world")
    number = re.search(r"\d+$", recording.subject)
    if isinstance(world, Mapping) and "seed" in world and number:
        brain = simulated.get("brain")
        version = brain.get("version", 1) if isinstance(brain, Mapping) else 1
        names.insert(0, simulated_name(world["seed"], int(number[0]), version))
    return tuple(names)


def simulated_name(seed: int, subject: int, brain: int = 1) -> str:
    """Return the name of a simulated subject: another for each version of the simulated brain.

    Parameters
    ----------
    seed : int
        Of the world.
    subject : int
    brain : int, default=1
        Version of the brain.
    """
    version = "" if brain == 1 else f"brain-{brain}/"
    return f"world-{seed}/{version}subject-{subject}"
