"""Build hook: the wheel carries the data folders inside the package."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHARED_FOLDERS = ("datasets", "models")


class ShareHook(BuildHookInterface[Any]):
    """Map ``datasets/`` and ``models/`` to ``brainkit/_share/`` in a wheel.

    An editable install is left alone: there the folders are read where they stand, beside the
    package, so that an edit takes effect at once.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the folders to a standard build."""
        if version == "editable":
            return
        for name in SHARED_FOLDERS:
            folder = Path(self.root) / name
            if folder.is_dir():
                build_data["force_include"][str(folder)] = f"brainkit/_share/{name}"
