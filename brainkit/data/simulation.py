"""What a folder of simulated data says of itself."""

from pathlib import Path
from typing import Any

from brainkit.arrays.files import is_file, read_json
from brainkit.errors import CorruptFileError

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
