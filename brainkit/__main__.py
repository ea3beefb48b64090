"""``python -m brainkit``: the command line."""

from brainkit.cli import main

main()
