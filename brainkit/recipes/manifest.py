"""What a run was: enough to run it again, and to tell why numbers differ."""

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import brainkit
from brainkit.data.cards import DatasetCard

LIBRARIES = (
    "numpy", "scipy", "scikit-learn", "pandas", "h5py", "nibabel", "nilearn", "mne", "torch",
)  # fmt: skip


def describe_run(
    *,
    job: str,
    card: DatasetCard,
    root: Path,
    recipe: dict[str, Any],
    options: dict[str, Any],
    subjects: dict[str, Any],
) -> dict[str, Any]:
    """Return the manifest of a run.

    Parameters
    ----------
    subjects : dict
        For each subject what was loaded, how it was z-scored, what was left out, batch sizes.
    """
    return {
        "brainkit": brainkit.__version__,
        "job": job,
        "command": command_line(),
        "card": card.name,
        "licence": card.licence.name,
        "citation": card.citation,
        "root": str(root),
        "options": options,
        "recipe": recipe,
        "subjects": subjects,
        "dtype": "float32",
        "device": "cpu",
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in LIBRARIES},
        "platform": platform.platform(),
        "git": git_state(),
    }


def command_line() -> list[str] | None:
    """Return the command that was given; None where brainkit is used from Python."""
    program = Path(sys.argv[0]).stem if sys.argv else ""
    return ["brainkit", *sys.argv[1:]] if program == "brainkit" else None


def git_state() -> dict[str, Any] | None:
    """Return commit and cleanliness of the checkout that brainkit runs from, or None."""
    folder = Path(brainkit.__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        commit, status = (
            subprocess.run(
                ["git", "-C", str(folder), *arguments],
                capture_output=True, text=True, check=True, timeout=10,
            ).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "clean": not status}
