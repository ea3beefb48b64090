"""The program ``brainkit``, and ``python -m brainkit``."""


def main() -> None:
    """Run the command line; from the first import on, signals end it without a traceback."""
    from brainkit.arrays.interruption import guard

    guard()
    from brainkit.cli import main as run

    run()


if __name__ == "__main__":
    main()
