"""What a folder of simulated data says of itself."""

import json
from pathlib import Path
from typing import Any

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
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        complete = content.get("complete", True)
    except (ValueError, AttributeError) as error:
        raise CorruptFileError(f"{path} is damaged ({error}); simulate the data anew.") from error
    if not complete:
        raise CorruptFileError(
            f"The simulated data in {root} were not written to their end; simulate them anew."
        )
    return content


def simulation_info(root: Path) -> dict[str, Any]:
    """Return what a recording's info says of a simulated dataset; nothing of a real one."""
    content = read_simulation(root)
    return {} if content is None else {"simulated": content}
