"""The jobs: encode, decode, synthesize, and the demo of all three."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from brainkit.cli.app import AsJson, CardName, app, say
from brainkit.errors import InputError

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
    from brainkit.recipes.reading import parse_value

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
        say(json.dumps(metrics, indent=2))
    else:
        for name, entry in metrics.items():
            say(_line(name, entry))
    report = f"Report: {folder / 'report.html'}"
    if as_json:
        typer.echo(report, err=True)
    else:
        say(report)


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


@app.command()
def encode(
    card: CardName,
    root: Root = None,
    subject: Subject = None,
    recipe: RecipeName = None,
    ceiling: Annotated[
        str | None,
        typer.Option(
            help="The noise ceiling: auto (what the repeats allow), ncsnr, split-half, "
            "cross-subject, cross-subject-all or none. "
            "Default: the recipe's.",
            show_default=False,
        ),
    ] = None,
    out: Out = None,
    changes: Changes = None,
    options: Options = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Fit encoding models and map which voxels follow the stimuli.

    Example: brainkit encode nsd --root /data/nsd --subject subj01 --out runs/encode-s1
    """
    if ceiling is not None:
        value = "null" if ceiling == "none" else ceiling
        changes = [*(changes or []), f"protocol.ceiling={value}"]
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
def rsa(
    card: CardName,
    root: Root = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Another model than the recipe's, with its layers in order, as in "
            "open_clip:tiny@blocks.0,blocks.2.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="A *.safetensors file with the model's weights.", show_default=False),
    ] = None,
    recipe: RecipeName = None,
    out: Out = None,
    changes: Changes = None,
    options: Options = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Compare a model's layers with people's dissimilarities, region by region.

    Example: brainkit rsa rsa92 --root data/rsa92 --weights squeezenet1_0.safetensors
    """
    from brainkit.recipes.rsa import run_rsa

    target = out or Path("runs") / f"rsa-{Path(card).stem}"
    metrics = run_rsa(
        card,
        out=target,
        root=root,
        model=model,
        weights=weights,
        recipe_name=recipe,
        changes=changes or (),
        options=_parse(options or []),
        overwrite=overwrite,
    )
    _show(metrics, target, as_json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Run folder to make.")] = Path("runs/demo"),
    subjects: Annotated[int, typer.Option(min=2, max=8, help="Simulated people.")] = 4,
    images: Annotated[
        int, typer.Option(min=500, help="Images that each person sees, three times.")
    ] = 9000,
    seed: Annotated[int, typer.Option(help="Seed of the simulated world.")] = 0,
    brain: Annotated[int, typer.Option(help="Version of the simulated brain: 1 or 2.")] = 1,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Simulate people who look at pictures, then encode, decode and rank stimuli: all three jobs.

    The simulated data are written in NSD's layout and stay under the run folder, in nsd/.

    Example: brainkit demo --out runs/demo
    """
    from brainkit.recipes.demo import run_demo

    metrics = run_demo(
        out, n_subjects=subjects, images=images, seed=seed, brain=brain, overwrite=overwrite
    )
    _show(metrics, out, as_json)
