"""The command line itself: how mistakes are told, and the options of every command."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import brainkit
from brainkit.errors import BrainkitError

MISTAKE = 2
INTERRUPTED = 130


class Guarded(TyperGroup):
    """Commands whose users' mistakes end in one sentence on stderr and exit code 2."""

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run; the process ends here unless `standalone_mode` is off."""
        if not settings.pop("standalone_mode", True):
            return super().main(*args, **{**settings, "standalone_mode": False})
        settings["standalone_mode"] = False
        try:
            code = super().main(*args, **settings)
        except Exception as error:
            message = _mistake(error)
            if message is None:
                raise
            typer.echo(message, err=True, nl=bool(message))
            code = MISTAKE
        if code == INTERRUPTED:
            typer.echo("brainkit: interrupted; no half-written results stay.", err=True)
        sys.exit(code if isinstance(code, int) else 0)


def _mistake(error: Exception) -> str | None:
    """Return what to tell the user, or None where the error is brainkit's own fault."""
    if hasattr(error, "format_message"):  # a mistake in the command line itself
        said = error.format_message().rstrip(".")
        where = getattr(getattr(error, "ctx", None), "command_path", "brainkit")
        return _sentence(f"{said}. See '{where} --help'.") if said else ""  # the help was shown
    if isinstance(error, BrainkitError):
        return _sentence(str(error))
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename else ""
        return _sentence(f"{error.strerror}{place}. Nothing half-written is left in its place.")
    if isinstance(error, MemoryError):
        return _sentence(
            "There is not enough memory for this. Read fewer voxels or sessions (see --option)."
        )
    return None


def _sentence(message: str) -> str:
    return "brainkit: " + " ".join(message.split())


app = typer.Typer(
    name="brainkit",
    cls=Guarded,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Encoding models of the brain, decoding from it, and stimuli that a region prefers.\n\n"
    "New here? Run [bold]brainkit demo[/bold]: it simulates four people looking at pictures and "
    "does all three jobs on them, without a download.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print the metrics as JSON on stdout.")]
CardName = Annotated[
    str, typer.Argument(metavar="CARD", help="A dataset card; see 'brainkit datasets'.")
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"brainkit {brainkit.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Options of brainkit itself."""
