"""The command line: thin commands over the jobs. Results are files; messages go to stderr."""

from brainkit.arrays.interruption import guard
from brainkit.cli import job_commands, listings
from brainkit.cli.app import app

__all__ = ["app", "job_commands", "listings", "main"]


def main() -> None:
    """Run the command line."""
    guard()
    app()
