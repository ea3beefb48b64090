"""The one runner: from a job's name and a dataset's card to a run folder with its report.

It loads what the jobs read, has every job check every case before the first fit, runs person by
person, keeps each who is done, and renders what the results say of themselves. It knows no job by
name.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import brainkit
from brainkit.arrays.atomic import check_output, output_folder, plain, write_json, write_npy
from brainkit.arrays.digest import content_digest
from brainkit.arrays.persistence import load_estimator
from brainkit.arrays.progress import track, waiting
from brainkit.arrays.sources import Kept
from brainkit.data.cards import (
    DatasetCard,
    dataset_root,
    load,
    load_dissimilarities,
    read_card,
    subjects,
)
from brainkit.data.responses import Responses
from brainkit.errors import InputError, MissingFileError, listed
from brainkit.jobs import JOBS
from brainkit.jobs.contract import Case, Job, Result
from brainkit.jobs.pipeline import row_table
from brainkit.jobs.run_folder import PERSON, RunFolder, run_folder, save_result
from brainkit.recipes.manifest import describe_run, git_state, part_facts, what_ran
from brainkit.recipes.reading import (
    RECIPES,
    check_places,
    checked_options,
    checked_recipe,
    earlier_run,
    read_content,
    recipe_content,
)
from brainkit.recipes.specs import Known
from brainkit.reporting import PersonReport, write_report
from brainkit.reporting.page import PICTURES, REACHED

# Of the results of one person's jobs, by label, to them with something added.
Revise = Callable[[str, Any, Result], Result]
Check = Callable[[str, Mapping[str, Result]], list[dict[str, Any]]]


@dataclass(frozen=True)
class Step:
    """One job with its settings and what it loaded for all people."""

    job: Job
    recipe: Any
    tools: Any = None


@dataclass(frozen=True)
class Plan:
    """All that makes a run what it is.

    Attributes
    ----------
    name : str
        What was asked for, such as ``"encode"``.
    card : DatasetCard
    root : Path
        The dataset's folder.
    steps : dict of str to Step
        The jobs of each person by label; of several each has a folder of its own.
    people : sequence of str
        Who is run; all where empty.
    options : dict
        Of the dataset's reader.
    regions : sequence of str, optional
        Regions to sum up; the card's where None.
    title, summary : str
        Of the report.
    headline : tuple of str
        See `brainkit.reporting.render_report`; the jobs' own where empty.
    manifest : dict
        What else the manifest says.
    """

    name: str
    card: DatasetCard
    root: Path
    steps: dict[str, Step]
    people: Sequence[str] = ()
    options: dict[str, Any] = field(default_factory=dict)
    regions: Sequence[str] | None = None
    title: str = ""
    summary: str = ""
    headline: tuple[str, ...] = ()
    manifest: dict[str, Any] = field(default_factory=dict)

    def recipes(self) -> dict[str, Any]:
        """Return the recipe as JSON values; of several jobs by label."""
        dumped = {label: step.recipe.model_dump(mode="json") for label, step in self.steps.items()}
        return next(iter(dumped.values())) if len(dumped) == 1 else dumped

    def identity(self) -> dict[str, Any]:
        """Return what tells an unfinished run of this plan from others'."""
        return {
            "brainkit": brainkit.__version__,
            "code": git_state(),
            "name": self.name,
            "card": self.card.model_dump(mode="json"),
            "root": str(self.root.resolve()),
            "recipe": self.recipes(),
            "options": self.options,
            "people": list(self.people),
        }


def read_recipe(name: str | Path, changes: Sequence[str] = ()) -> Any:
    """Read a recipe by name, from a YAML file, or from the ``manifest.json`` of an earlier run.

    Parameters
    ----------
    name : str or path
        See `brainkit.recipes.reading.recipe_content`.
    changes : sequence of str
        Settings to change, such as ``"protocol.permutations=20"``.

    Returns
    -------
    instance of the schema of the recipe's job

    Raises
    ------
    UnknownNameError, MissingFileError, InputError
        If there is no such recipe, its job is none, or it is not valid.
    """
    content = recipe_content(name, changes)
    job = content.get("job")
    if not isinstance(job, str) or job not in JOBS:
        raise InputError(
            f"The recipe {name} is not valid: job must be one of {', '.join(JOBS)}; got {job!r}."
        )
    return checked_recipe(JOBS[job].schema, name, content)


def plan_job(
    job: str,
    card_name: str,
    *,
    root: str | Path | None = None,
    subject: str | None = None,
    recipe_name: str | Path | None = None,
    changes: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    **shortcuts: Any,
) -> Plan:
    """Return the plan of one job on a dataset; see `run_job`."""
    card = read_card(card_name)
    kind = JOBS[job]
    changes = [*changes, *_shortcut_changes(kind, shortcuts)]
    if recipe_name is None and job not in card.recipes:
        known = listed(name for name in RECIPES if recipe_content(name).get("job") == job)
        raise InputError(
            f"The card {card.name} has no default recipe to {job}: give one with --recipe, of "
            f"{known}, or a file of your own."
        )
    recipe = read_recipe(recipe_name or card.recipes[job], changes)
    if recipe_name is not None and Path(recipe_name).suffix == ".json":
        check_places(recipe_name, recipe.model_dump(mode="json"))
    if recipe.job != job:
        raise InputError(
            f"The recipe {recipe.name} is for {recipe.job}; this is {job}. Run it with 'brainkit "
            f"{recipe.job}'."
        )
    earlier = earlier_run(card, recipe_name, root=root, options=options or {})
    return Plan(
        name=job,
        card=card,
        root=dataset_root(card, root if root is not None else earlier.get("root")),
        steps={job: Step(kind(), recipe)},
        people=[subject] if subject is not None else list(earlier.get("subjects", ())),
        options=checked_options({**earlier.get("options", {}), **(options or {})}),
        title=f"{job.capitalize()} {card.name}",
        summary=recipe.about,
    )


def _shortcut_changes(kind: type[Job], given: Mapping[str, Any]) -> list[str]:
    """Return the changes of a recipe that the options of a job's own ask for."""
    known = {one.flag.replace("-", "_"): one for one in kind.shortcuts}
    changes = []
    for name, value in given.items():
        if name not in known:
            raise InputError(
                f"{kind.name} has no option {name!r}; beside those of all jobs it has "
                f"{listed(known) or 'none'}."
            )
        if value is not None:
            changes += [*known[name].also, f"{known[name].setting}={value}"]
    return changes


def run_job(
    job: str, card_name: str, *, out: str | Path, overwrite: bool = False, **settings: Any
) -> dict[str, Any]:
    """Run one job on a dataset, into a run folder with its report.

    Parameters
    ----------
    job : str
        Name of a registered job, such as ``"encode"``.
    card_name : str
        Name of a dataset card, or a YAML file.
    out : path
        Run folder; it appears whole. People who are done before a run is cut off are kept, and the
        same call goes on with the others.
    overwrite : bool, default=False
        Replace an earlier run.
    root, subject : optional
        See `brainkit.load`; all subjects where none is given.
    recipe_name : str, optional
        Recipe, or a file; the card's default for the job where not given. The ``manifest.json``
        of an earlier run on the same dataset gives root, subjects and options too, where these
        are not given here.
    changes : sequence of str
        Settings of the recipe to change, ``"protocol.permutations=20"``.
    options : mapping, optional
        Options of the reader.
    **shortcuts
        The job's own options by name, such as ``ceiling="ncsnr"`` of `encode`.

    Returns
    -------
    dict
        What ``metrics.json`` holds.
    """
    return run_plan(plan_job(job, card_name, **settings), out, overwrite=overwrite)


def run_plan(
    plan: Plan,
    out: str | Path,
    *,
    overwrite: bool = False,
    first: Callable[[Path], Any] | None = None,
    revise: Revise | None = None,
    check: Check | None = None,
) -> dict[str, Any]:
    """Run a plan into a run folder.

    Parameters
    ----------
    plan : Plan
    out : path
    overwrite : bool, default=False
    first : callable, optional
        ``first(folder)`` makes the dataset in the run folder, in place of the plan's root, and
        returns its root.
    revise : callable, optional
        ``revise(label, recording, result)`` returns a result with something added.
    check : callable, optional
        ``check(person, results)`` returns rows for the report's table of checks.

    Returns
    -------
    dict
        What ``metrics.json`` holds.
    """
    started = time.monotonic()
    check_output(out, overwrite=overwrite)
    steps = {
        label: replace(step, tools=step.job.tools(step.recipe))
        for label, step in plan.steps.items()
    }
    plan = replace(plan, steps=steps)
    cases = None if first is not None else load_cases(plan)
    names = list(plan.people) if cases is None else list(cases)
    identity = {**plan.identity(), "data": {} if cases is None else glimpses(cases)}
    with run_folder(out, identity, names, overwrite=overwrite) as run:
        if first is not None:
            plan = replace(plan, root=first(run.path))
            cases = load_cases(plan)
        assert cases is not None
        for case in track(list(cases), "people") if len(cases) > 1 else list(cases):
            if run.done(case) is None:
                _run_person(plan, run, case, cases[case], revise, check)
        kept = {name: run.done(name) or {} for name in cases}
        metrics = collect_metrics({name: one["metrics"] for name, one in kept.items()})
        manifest = _manifest(plan, kept, metrics)
        manifest["seconds"] = round(time.monotonic() - started, 1)
        _write_run(plan, run.path, kept, metrics, manifest)
    return metrics


def run_recipe(data: Any, recipe: Any, **known: Any) -> Result:
    """Run a recipe on a recording that is there, without a run folder.

    Parameters
    ----------
    data : Recording, or what else the recipe's job reads
    recipe : as `read_recipe` returns it
    **known
        ``others`` and ``regions`` of `brainkit.jobs.contract.Case`.

    Returns
    -------
    Result
    """
    job = JOBS[recipe.job]()
    case = Case(data, **known)
    tools = job.tools(recipe)
    job.check(case, recipe)
    result: Result = job.run(case, recipe, tools)
    return result


def predict_run(
    run: str | Path,
    out: str | Path,
    *,
    card: str | None = None,
    root: str | Path | None = None,
    subject: str | None = None,
    options: Mapping[str, Any] | None = None,
    average_repeats: bool = False,
    overwrite: bool = False,
) -> tuple[int, ...]:
    """Apply what a run fitted to the raw trials of a recording, and write what is predicted.

    Parameters
    ----------
    run : path
        Folder of a finished run.
    out : path
        Folder for ``predictions.npy`` and ``rows.parquet``.
    card, root, subject, options : optional
        Of the recording; the run's own where not given.
    average_repeats : bool, default=False
        Average the trials of each stimulus first.
    overwrite : bool, default=False
        Replace earlier predictions.

    Returns
    -------
    tuple of int
        Shape of the predictions.

    Raises
    ------
    InputError, MissingFileError
        If the folder is no run of this version, or it fitted nothing for this person.
    """
    folder = Path(run)
    manifest = run_manifest(folder)
    people = list(manifest["subjects"])
    name = subject or people[0]
    person_folder = folder / name if len(people) > 1 else folder
    if name not in people or not (person_folder / "estimator").is_dir():
        raise InputError(
            f"{folder} holds no estimator of {name!r}: the run was of {listed(people)}"
            f"{'' if name not in people else ', and its job leaves none'}."
        )
    estimator = load_estimator(person_folder / "estimator")
    if not hasattr(estimator, "predict"):
        raise InputError(
            f"What {folder} fitted, a {type(estimator).__name__}, has no predict: it cannot be "
            "applied to a recording."
        )
    kept = {**manifest.get("options", {}), **(options or {})}
    recording = load(card or manifest["card"], root or manifest["root"], name, **kept)
    with waiting(f"{name}: predict"):
        given = {"average_repeats": True} if average_repeats else {}
        predicted = np.asarray(estimator.predict(recording, **given))
    with output_folder(out, overwrite=overwrite) as written:
        write_npy(written / "predictions.npy", predicted)
        row_table(recording, average_repeats=average_repeats).to_parquet(written / "rows.parquet")
        facts = {"run": str(folder.resolve()), "card": card or manifest["card"], "subject": name}
        write_json(written / "manifest.json", {"brainkit": brainkit.__version__, **facts})
    return predicted.shape


def run_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a finished run; raises where it is none, or of another version."""
    if not (folder / "manifest.json").is_file():
        raise MissingFileError(
            f"{folder} is no finished run: there is no manifest.json in it. Give the folder that "
            "was the --out of a run."
        )
    manifest = read_content(folder / "manifest.json")
    if "subjects" not in manifest or "job" not in manifest:
        raise InputError(f"{folder} is no run: its manifest.json names no job and no subjects.")
    version = manifest.get("brainkit")
    if version != brainkit.__version__:
        raise InputError(
            f"{folder} was made by brainkit {version}, and this is {brainkit.__version__}: run it "
            f"again from its manifest, 'brainkit {manifest['job']} {manifest.get('card')} --recipe "
            f"{folder / 'manifest.json'}'."
        )
    return manifest


def load_cases(plan: Plan) -> dict[str, Case]:
    """Open what the jobs read of everyone, and let each job check it, before anything is run."""
    jobs = [step.job for step in plan.steps.values()]
    if any(job.reads == "dissimilarities" for job in jobs):
        data = load_dissimilarities(plan.card, plan.root, **plan.options)
        cases = {f"{len(data.subjects)} people": Case(data)}
    else:
        cases = _recordings(plan)
    for case in cases.values():
        for step in plan.steps.values():
            step.job.check(case, step.recipe)
    return cases


def glimpses(cases: Mapping[str, Case]) -> dict[str, str]:
    """Return a digest of a glimpse of each recording, so that no run goes on with other data.

    It takes in the table of rows, how many units there are, and the responses of the first, the
    middle and the last row: not all of what may be terabytes.
    """
    recordings: dict[str, Any] = {}
    for name, case in cases.items():
        if hasattr(case.data, "responses"):
            recordings |= {name: case.data, **case.others}
    digests = {}
    for name, one in recordings.items():
        n_rows = len(one.rows)
        looked_at = one.responses.read(np.unique([0, n_rows // 2, n_rows - 1]) if n_rows else None)
        digests[name] = content_digest([one.rows, len(one.units), looked_at])
    return digests


def _recordings(plan: Plan) -> dict[str, Case]:
    """Open the recordings of everyone who is run, and of the others where a job needs them."""
    names = list(plan.people)
    if not names:
        names = subjects(plan.card, plan.root)
        for step in plan.steps.values():
            names = step.job.tested(step.recipe, names)
    # All are opened before the first is run: a missing file of the last should not cost hours.
    opened = [load(plan.card, plan.root, name, **plan.options) for name in names]
    people = {recording.subject: recording for recording in opened}
    others = dict(people)
    if any(step.job.needs(step.recipe).others for step in plan.steps.values()):
        more = (
            load(plan.card, plan.root, n, **plan.options) for n in subjects(plan.card, plan.root)
        )
        others = {recording.subject: recording for recording in more} | people
    cases = {}
    for name, recording in people.items():
        available = {*recording.region_names, *recording.roi_names}
        listed = plan.regions or recording.info.get("regions", [])
        cases[name] = Case(
            recording,
            {who: other for who, other in others.items() if who != name},
            [region for region in listed if region in available] or None,
        )
    return cases


def _run_person(
    plan: Plan, run: RunFolder, name: str, case: Case, revise: Revise | None, check: Check | None
) -> None:
    """Run all jobs of one person and keep what came of them."""
    results: dict[str, Result] = {}
    several = len(plan.steps) > 1
    with run.person(name) as folder, _shared(case, several) as shared:
        for label, step in plan.steps.items():
            with waiting(f"{name}: {label}"):
                result = step.job.run(shared, step.recipe, step.tools)
                result = result if revise is None else revise(label, case.data, result)
                save_result(result, case.data, folder / label if several else folder)
                results[label] = result
        kept = _kept(name, case.data, results)
        kept["checks"] = [] if check is None else check(name, results)
        write_json(folder / PERSON, kept)


@contextmanager
def _shared(case: Case, several: bool) -> Iterator[Case]:
    """Give a case whose responses and features several jobs read once."""
    if not several:
        yield case
        return
    source = Kept(case.data.responses.source)
    known: Known = {}
    yield replace(case, data=replace(case.data, responses=Responses(source)), known=known)
    for part in (source, *known.values()):
        part.forget()


def _kept(name: str, data: Any, results: Mapping[str, Result]) -> dict[str, Any]:
    """Return what metrics, manifest and report need of a person who is done, as JSON values."""
    report = person_report(name, data, results)
    ran: list[dict[str, Any]] = []
    facts: dict[str, Any] = {k: v for k, v in data.info.items() if k not in ("zscore", "regions")}
    for result in results.values():
        one = {**part_facts(result.fitted, data), **result.facts}
        ran += [
            entry for entry in [*one.pop("ran", ()), *what_ran(*result.fitted)] if entry not in ran
        ]
        facts = {**one, **facts}
    facts["ran"] = ran
    return plain({"metrics": report.metrics, "facts": facts, "report": report.kept()})


def person_report(name: str, data: Any, results: Mapping[str, Result]) -> PersonReport:
    """Return what the report shows of one person, of one job or of several."""
    metrics: dict[str, Any] = {}
    for label, result in results.items():  # of a metric that two jobs have, the second says so
        for metric, entry in result.metrics.items():
            metrics[metric if metric not in metrics else f"{metric}[{label}]"] = entry
    each = 1 if len(results) > 1 else PICTURES
    learned = dict.fromkeys(result.learned_from for result in results.values())
    return PersonReport.of(
        f"Subject {name}" if hasattr(data, "subject") else name,
        [section for result in results.values() for section in result.sections],
        [picture for result in results.values() for picture in list(result.highlights)[:each]],
        about="; learned from ".join([data.described, *filter(None, learned)]),
        simulated=data.info.get("simulated"),
        metrics=metrics,
        glossary={n: text for result in results.values() for n, text in result.glossary.items()},
        lines={n: text for result in results.values() for n, text in result.lines.items()},
    )


# -------------------------------------------------------------------------- what is of all people


def _manifest(
    plan: Plan, kept: Mapping[str, Mapping[str, Any]], metrics: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the manifest: what was run, on whom, and how each part ran."""
    models: dict[str, Any] = {}
    ran: list[dict[str, Any]] = []
    for step in plan.steps.values():
        described, entries = step.job.describe_tools(step.tools)
        models |= described
        ran += entries
    people = {name: one["facts"] for name, one in kept.items()}
    groups = [facts["subjects"] for facts in people.values() if "subjects" in facts]
    manifest = describe_run(
        job=plan.name,
        card=plan.card,
        root=plan.root if not plan.root.is_absolute() else plan.root.resolve(),
        recipe=plan.recipes(),
        options=plan.options,
        subjects={name: {} for group in groups for name in group} if groups else people,
        ran=ran,
    )
    if models:
        manifest["models"] = models
    manifest["presets"] = sorted({entry["preset"] for entry in metrics.values()})
    told = [step.job.describe(step.recipe) for step in plan.steps.values()]
    manifest["parts"] = {name: text for one in told for name, text in one.items()}
    return manifest | plan.manifest


def _write_run(
    plan: Plan,
    folder: Path,
    kept: Mapping[str, Mapping[str, Any]],
    metrics: dict[str, Any],
    manifest: dict[str, Any],
) -> None:
    """Write the report and the files that are of all people."""
    checks = pd.DataFrame([row for one in kept.values() for row in one["checks"]])
    people = {name: PersonReport(**one["report"]) for name, one in kept.items()}
    jobs = [step.job for step in plan.steps.values()]
    headline = plan.headline or tuple(name for job in jobs for name in job.headline)
    with waiting("report"):
        write_report(
            folder / "report.html",
            people,
            title=plan.title,
            manifest=plain(manifest),
            metrics=metrics,
            summary=plan.summary,
            headline=headline,
            checks=checks,
        )
    if len(checks):
        checks.to_parquet(folder / "checks.parquet")
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "manifest.json", manifest)


def collect_metrics(by_subject: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the metrics of one subject, or of several with means over subjects.

    For several, `value` and each null is the mean over subjects and ``"by_subject"`` holds what
    each subject has. There is no interval over so few people.
    """
    if len(by_subject) == 1:
        return plain(dict(next(iter(by_subject.values()))))
    names = dict.fromkeys(metric for metrics in by_subject.values() for metric in metrics)
    collected: dict[str, Any] = {}
    for metric in names:
        each = {subject: m[metric] for subject, m in by_subject.items() if metric in m}
        nulls = dict.fromkeys(null for entry in each.values() for null in entry.get("nulls", {}))
        one = next(iter(each.values()))
        collected[metric] = {
            "value": _mean([entry["value"] for entry in each.values()]),
            "n": len(each),
            "nulls": {
                null: _mean([entry["nulls"].get(null) for entry in each.values()]) for null in nulls
            },
            **{key: one[key] for key in ("preset", "direction", "chance") if key in one},
            "by_subject": each,
        }
        true = [entry[REACHED]["value"] for entry in each.values() if REACHED in entry]
        if true:
            collected[metric][REACHED] = {"value": _mean(true), "n": len(true)}
    return plain(collected)


def _mean(values: Sequence[float | None]) -> float:
    finite = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")
