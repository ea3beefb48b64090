"""The commands of the jobs, made of what each job says of itself, and the demonstration.

A job's command is built when it is called: listing the commands imports none of them.
"""

import inspect
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from brainkit.cli.app import AsJson, CardName, app, say
from brainkit.errors import InputError, listed
from brainkit.jobs import JOBS, SUMMARIES

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
        help="A recipe by name (or NAME@PROFILE, as mindeye2@published), a YAML file, or an "
        "earlier run's manifest.json. Default: the card's.",
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
# The options of every job's command, with their defaults.
COMMON: dict[str, tuple[Any, Any]] = {
    "card": (CardName, inspect.Parameter.empty),
    "root": (Root, None),
    "subject": (Subject, None),
    "recipe": (RecipeName, None),
    "out": (Out, None),
    "changes": (Changes, None),
    "options": (Options, None),
    "overwrite": (Overwrite, False),
    "as_json": (AsJson, False),
}


class JobCommand(TyperCommand):
    """The command of a registered job, whose options are known once the job is loaded."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Load the job and parse its options."""
        return build_command(str(self.name)).make_context(info_name, args, parent, **extra)


def job_command(name: str) -> TyperCommand:
    """Return the command of a job, with the line that the list of commands has of it."""
    owners = listed([owner for owner in JOBS.owners(name) if owner != "brainkit"])
    about = f"Of {owners}: see 'brainkit {name} --help'." if owners else SUMMARIES[name]
    return JobCommand(name, help=about)


def build_command(name: str) -> Any:
    """Return the command of a job with all its options."""
    job = JOBS[name]

    def run(**given: Any) -> None:
        from brainkit.jobs.runner import run_job

        target = given["out"] or Path("runs") / f"{name}-{Path(given['card']).stem}"
        metrics = run_job(
            name,
            given["card"],
            out=target,
            root=given["root"],
            subject=given["subject"],
            recipe_name=given["recipe"],
            changes=given["changes"] or (),
            options=_parse(given["options"] or []),
            overwrite=given["overwrite"],
            **{name: given[name] for name in flags},
        )
        show_metrics(metrics, target, given["as_json"])

    flags = {
        one.flag.replace("-", "_"): (
            Annotated[str | None, typer.Option(f"--{one.flag}", help=one.help, show_default=False)],
            None,
        )
        for one in job.shortcuts
    }
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                option, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
            )
            for option, (annotation, default) in {**COMMON, **flags}.items()
        ]
    )
    run.__annotations__ = {k: annotation for k, (annotation, _) in {**COMMON, **flags}.items()}
    example = f"\n\nExample: {job.example}" if job.example else ""
    program = typer.Typer(add_completion=False, rich_markup_mode="rich")
    program.command(name=name, help=f"{inspect.getdoc(job) or ''}{example}")(run)
    return typer.main.get_command(program)


def _parse(options: list[str]) -> dict[str, Any]:
    from brainkit.recipes.reading import parse_value

    parsed = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name.strip():
            raise InputError(f"Write options as name=value, such as mask=V1; got {option!r}.")
        parsed[name.strip()] = parse_value(value, option)
    return parsed


def show_metrics(metrics: dict[str, Any], folder: Path, as_json: bool) -> None:
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
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    card: Annotated[
        str | None, typer.Option(help="Dataset card. Default: the run's.", show_default=False)
    ] = None,
    root: Root = None,
    subject: Subject = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to make. Default: RUN-predictions.", show_default=False),
    ] = None,
    options: Options = None,
    average_repeats: Annotated[
        bool, typer.Option("--average-repeats", help="Average the trials of each stimulus first.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Apply what a run fitted to raw new trials, which it z-scores with the run's statistics.

    Writes predictions.npy and rows.parquet, which says what each row of it is of.

    Example: brainkit predict runs/decode-nsd --root /data/nsd --subject subj01 --out runs/new
    """
    from brainkit.jobs.runner import predict_run

    target = out or run.with_name(f"{run.name}-predictions")
    shape = predict_run(
        run, target, card=card, root=root, subject=subject, options=_parse(options or []),
        average_repeats=average_repeats, overwrite=overwrite,
    )  # fmt: skip
    written = target / "predictions.npy"
    if as_json:
        say(json.dumps({"predictions": str(written), "shape": list(shape)}, indent=2))
    else:
        say(f"{written}: {' x '.join(map(str, shape))}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Run folder to make.")] = Path("runs/demo"),
    full: Annotated[
        bool, typer.Option("--full", help="Four people and 9,000 images each, as in NSD.")
    ] = False,
    subjects: Annotated[
        int | None,
        typer.Option(min=2, max=8, help="Simulated people. Default: 2.", show_default=False),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            min=500,
            help="Images that each person sees, three times. Default: 1500.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulated world.")] = 0,
    brain: Annotated[int, typer.Option(help="Version of the simulated brain: 1 or 2.")] = 1,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Simulate people who look at pictures, then do every job on them.

    The simulated data are written in NSD's layout and stay under the run folder, in nsd/.

    Example: brainkit demo --out runs/demo
    """
    from brainkit.jobs.demo import FULL, SMALL, run_demo

    size = FULL if full else SMALL
    metrics = run_demo(
        out,
        n_subjects=subjects or size.n_subjects,
        images=images or size.images,
        seed=seed,
        brain=brain,
        overwrite=overwrite,
    )
    show_metrics(metrics, out, as_json)
