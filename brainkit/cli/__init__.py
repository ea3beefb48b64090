"""The command line: thin commands over the recipes. Results are files; messages go to stderr."""

from brainkit.arrays.interruption import guard
from brainkit.cli import jobs, models, recordings
from brainkit.cli.app import app

__all__ = ["app", "jobs", "main", "models", "recordings"]


def main() -> None:
    """Run the command line."""
    guard()
    app()
