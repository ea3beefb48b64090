"""``python -m brainkit``: the command line."""

from brainkit.cli import main

if __name__ == "__main__":
    main()
