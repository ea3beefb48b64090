"""The command line itself: how mistakes are told, and the options of every command."""

import errno
import os
import re
import sys
import warnings
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import brainkit
from brainkit.arrays.interruption import said, tell, told
from brainkit.errors import BrainkitError

MISTAKE = 2
UNPRINTED = 1
INTERRUPTED = 130
# NumPy, HDF5 and Arrow tell of a full disk in words of their own.
SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
FULL = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)))
NUMBER_WITHIN = re.compile(r"errno (?:= )?(\d+)")


class UnprintedError(Exception):
    """Results that nobody can read, because standard output is closed, broken or full."""


def say(text: str) -> None:
    """Print results on standard output."""
    if sys.stdout is None:
        raise UnprintedError("it is closed")
    try:
        typer.echo(text)
    except OSError as error:
        raise UnprintedError(error.strerror or str(error)) from error


class Guarded(TyperGroup):
    """Commands whose users' mistakes end in one sentence on stderr and exit code 2.

    Beside those that are written down there is one for every registered job. A job of another
    package does not take the name of one that is written down.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """Name the jobs' commands, then the others."""
        from brainkit.jobs import JOBS

        others = super().list_commands(ctx)
        return [*(job for job in JOBS if job not in others), *others]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by its name."""
        from brainkit.cli.job_commands import job_command
        from brainkit.jobs import JOBS

        command = super().get_command(ctx, cmd_name)
        return job_command(cmd_name) if command is None and cmd_name in JOBS else command

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run; the process ends here unless `standalone_mode` is off."""
        if not settings.pop("standalone_mode", True):
            return super().main(*args, **{**settings, "standalone_mode": False})
        settings["standalone_mode"] = False
        tell("")  # a process may run several commands
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                code = super().main(*args, **settings)
            except Exception as error:
                code = UNPRINTED if _is_unprinted(error) else MISTAKE
                message = _unprinted(error) if code == UNPRINTED else _mistake(error)
                if message is None:
                    raise
                _tell(message)
        if code == INTERRUPTED:
            _tell(said())
        sys.exit(code if isinstance(code, int) else 0)


def _tell(message: str) -> None:
    with suppress(OSError):  # standard error may be closed as well
        typer.echo(message, err=True, nl=bool(message))


def _is_unprinted(error: Exception) -> bool:
    return isinstance(error, UnprintedError | BrokenPipeError)


def _unprinted(error: Exception) -> str:
    """Return what to tell where standard output cannot be written; what was done stands."""
    if sys.stdout is not None:
        # What is left in its buffer would be written, and fail, once more when Python ends.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    cause = error if isinstance(error, BrokenPipeError) else error.__cause__
    if isinstance(cause, BrokenPipeError) and not told():
        return ""  # a reader that has seen enough, such as head
    reason = "it is closed" if isinstance(error, BrokenPipeError) else str(error)
    return _sentence(f"Standard output could not be written ({reason}). {told()}")


def _mistake(error: Exception) -> str | None:
    """Return what to tell the user, or None where the error is brainkit's own fault."""
    if hasattr(error, "format_message"):  # a mistake in the command line itself
        problem = error.format_message().rstrip(".")
        where = getattr(getattr(error, "ctx", None), "command_path", "brainkit")
        return (
            _sentence(f"{problem}. See '{where} --help'.") if problem else ""
        )  # the help was shown
    if isinstance(error, BrainkitError):
        return _sentence(in_options(str(error)))
    if isinstance(error, OSError):
        place = f": {error.filename}" if error.filename else ""
        reason = _reason(error)
        stands = told() or "Nothing half-written is left in its place."
        room = any(full in reason for full in FULL)
        advice = "Free some space there, or choose another folder." if room else ""
        return _sentence(f"{reason}{place}. {stands} {advice}")
    if isinstance(error, MemoryError):
        return _sentence(
            "There is not enough memory for this. Read fewer voxels or sessions (see --option). "
            f"{told()}"
        )
    return None


def _reason(error: OSError) -> str:
    """Say why the system refused, whichever library passed it on."""
    text = error.strerror or str(error)
    number = NUMBER_WITHIN.search(text)
    if number:
        return os.strerror(int(number[1]))
    if SHORT_WRITE.search(text):
        return os.strerror(errno.ENOSPC)
    return text.rstrip(".") or type(error).__name__


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int,
    file: Any = None, line: str | None = None,
) -> None:  # fmt: skip
    """Show what users should know as a sentence; what concerns programmers as Python does."""
    if issubclass(category, UserWarning):
        _tell(_sentence(f"Warning: {in_options(str(message))}"))
    else:
        _tell(warnings.formatwarning(message, category, filename, lineno, line).rstrip())


def in_options(message: str) -> str:
    """Say settings in the words of a command: ``zscore=None`` is --set protocol.zscore=null."""
    from brainkit.jobs import protocol_settings

    names = "|".join(sorted(name for name in protocol_settings() if len(name) > 1))
    setting = re.compile(rf"(?<![\w.])({names})=('[^']*'|None|True|False|[\d.]+\b)")
    return (
        setting.sub(lambda one: _as_option(one[1], one[2].strip("'")), message)
        if names
        else message
    )


def _as_option(name: str, value: str) -> str:
    literal = {"None": "null", "True": "true", "False": "false"}.get(value, value)
    if name == "ceiling":
        return f"--ceiling {'none' if literal == 'null' else literal}"
    return f"--set protocol.{name}={literal}"


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
        say(f"brainkit {brainkit.__version__}")
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
