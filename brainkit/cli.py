"""The command line: thin commands over the recipes. Results are files; messages go to stderr."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import brainkit
from brainkit.errors import BrainkitError, InputError

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

Root = Annotated[
    Path | None,
    typer.Option(help="The dataset's folder. Default: $BRAINKIT_DATA/<card>.", show_default=False),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Run folder to make. Default: runs/<job>-<card>.", show_default=False),
]
Subject = Annotated[
    str | None, typer.Option(help="One subject. Default: all that are there.", show_default=False)
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="A recipe by name, a YAML file, or an earlier run's manifest.json. Default: the "
        "card's.",
        show_default=False,
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change a setting of the recipe, as in protocol.permutations=20. May be repeated.",
        show_default=False,
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        help="An option of the dataset's reader, as in sessions=[1,2] or mask=V1. May be repeated.",
        show_default=False,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in --out.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the metrics as JSON on stdout.")]
CardName = Annotated[
    str, typer.Argument(metavar="CARD", help="A dataset card; see 'brainkit datasets'.")
]


def _run(
    job: str,
    card: str,
    root: Path | None,
    subject: str | None,
    recipe: str | None,
    out: Path | None,
    changes: list[str] | None,
    options: list[str] | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    from brainkit.recipes import run_job

    target = out or Path("runs") / f"{job}-{Path(card).stem}"
    metrics = run_job(
        job,
        card,
        out=target,
        root=root,
        subject=subject,
        recipe_name=recipe,
        changes=changes or (),
        options=_parse(options or []),
        overwrite=overwrite,
    )
    _show(metrics, target, as_json)


def _parse(options: list[str]) -> dict[str, Any]:
    from brainkit.recipes.schema import parse_value

    parsed = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name.strip():
            raise InputError(f"Write options as name=value, such as mask=V1; got {option!r}.")
        parsed[name.strip()] = parse_value(value, option)
    return parsed


def _show(metrics: dict[str, Any], folder: Path, as_json: bool) -> None:
    """Print the metrics, as JSON or as lines with their nulls, and where the report is."""
    if as_json:
        typer.echo(json.dumps(metrics, indent=2))
    else:
        for name, entry in metrics.items():
            typer.echo(_line(name, entry))
    typer.echo(f"Report: {folder / 'report.html'}", err=as_json)


def _line(name: str, entry: dict[str, Any]) -> str:
    def number(value: float | None) -> str:
        if value is None:
            return "–"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"

    text = f"{name:45} {number(entry['value']):>7}"
    if entry.get("ci"):
        text += f"  [{number(entry['ci'][0])}, {number(entry['ci'][1])}]"
    nulls = ", ".join(f"{null} {number(v)}" for null, v in entry.get("nulls", {}).items())
    return f"{text}  (nulls: {nulls})" if nulls else text


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


@app.command()
def encode(
    card: CardName,
    root: Root = None,
    subject: Subject = None,
    recipe: RecipeName = None,
    out: Out = None,
    changes: Changes = None,
    options: Options = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Fit encoding models and map which voxels follow the stimuli.

    Example: brainkit encode nsd --root /data/nsd --subject subj01 --out runs/encode-s1
    """
    _run("encode", card, root, subject, recipe, out, changes, options, overwrite, as_json)


@app.command()
def decode(
    card: CardName,
    root: Root = None,
    subject: Subject = None,
    recipe: RecipeName = None,
    out: Out = None,
    changes: Changes = None,
    options: Options = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Reconstruct held-out images from brain responses, beside the nulls.

    Example: brainkit decode digits69 --root data/digits69 --out runs/digits
    """
    _run("decode", card, root, subject, recipe, out, changes, options, overwrite, as_json)


@app.command()
def synthesize(
    card: CardName,
    root: Root = None,
    subject: Subject = None,
    recipe: RecipeName = None,
    out: Out = None,
    changes: Changes = None,
    options: Options = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Rank the stimuli that should drive each region most, judged by a second encoder.

    Example: brainkit synthesize nsd --root /data/nsd --subject subj01 --set protocol.n=20
    """
    _run("synthesize", card, root, subject, recipe, out, changes, options, overwrite, as_json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Run folder to make.")] = Path("runs/demo"),
    subjects: Annotated[int, typer.Option(min=2, max=8, help="Simulated people.")] = 4,
    images: Annotated[
        int, typer.Option(min=500, help="Images that each person sees, three times.")
    ] = 9000,
    seed: Annotated[int, typer.Option(help="Seed of the simulated world.")] = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Simulate people who look at pictures, then encode, decode and rank stimuli: all three jobs.

    The simulated data are written in NSD's layout and stay under the run folder, in nsd/.

    Example: brainkit demo --out runs/demo
    """
    from brainkit.recipes.demo import run_demo

    metrics = run_demo(out, n_subjects=subjects, images=images, seed=seed, overwrite=overwrite)
    _show(metrics, out, as_json)


@app.command()
def download(
    card: CardName,
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder to download into. Default: $BRAINKIT_DATA/<card>, or data/<card>.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a dataset's public files: licence shown, checksum verified, resumable.

    Example: brainkit download digits69 --root data/digits69
    """
    from brainkit.data.cards import read_card
    from brainkit.data.download import download as fetch_all

    chosen = read_card(card)
    if chosen.files:
        about = f"{chosen.title}\nLicence: {_licence(chosen)}\nCite: {chosen.citation}"
        typer.echo(about, err=True)
    folder = root or Path(os.environ.get("BRAINKIT_DATA") or "data") / chosen.name
    paths = [str(path) for path in fetch_all(chosen, folder)]
    typer.echo(json.dumps(paths, indent=2) if as_json else "\n".join(paths))
    for job in sorted(chosen.recipes)[:1]:
        typer.echo(f"Next: brainkit {job} {card} --root {folder}", err=True)


def _licence(card: Any) -> str:
    parts = [card.licence.name, card.licence.url, card.licence.note]
    return ". ".join(str(part).rstrip(".") for part in parts if part)


@app.command()
def datasets(
    card: Annotated[
        str | None, typer.Argument(metavar="[CARD]", help="Show one card whole.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the datasets that brainkit reads, or show one's card.

    Example: brainkit datasets nsd
    """
    from brainkit.data.cards import card_names, read_card

    cards = [read_card(name) for name in ([card] if card else card_names())]
    if as_json:
        typer.echo(json.dumps([item.model_dump(mode="json") for item in cards], indent=2))
    elif card is None:
        for item in cards:
            fetch = "brainkit download" if item.files else "by agreement"
            typer.echo(f"{item.name:12} {item.title}. {item.modality}. Access: {fetch}.")
    else:
        item = cards[0]
        typer.echo(
            f"{item.title}\n\nModality: {item.modality}\nLicence:  {_licence(item)}\n"
            f"Access:   {item.access}\nCite:     {item.citation}\n"
            f"Recipes:  {', '.join(f'{job}: {name}' for job, name in item.recipes.items())}"
        )


def main() -> None:
    """Run the command line."""
    app()
