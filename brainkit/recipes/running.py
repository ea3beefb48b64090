"""Run a recipe on a dataset's subjects, into a run folder."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainkit.arrays.atomic import check_output, output_folder, plain, write_json
from brainkit.arrays.progress import waiting
from brainkit.data.cards import DatasetCard, read_card
from brainkit.data.loading import dataset_root, load, subjects
from brainkit.data.recording import Recording
from brainkit.data.simulation import names_of
from brainkit.decoding import DecodingProtocol, DecodingResult, assess_decoder
from brainkit.encoding import (
    EncodingProtocol,
    EncodingResult,
    SpaceComparison,
    assess_encoder,
)
from brainkit.encoding.passes import grid_facts
from brainkit.encoding.unit_ceilings import LEAST_OTHERS
from brainkit.errors import InputError, MissingFileError
from brainkit.recipes.building import Known, build_features, build_model
from brainkit.recipes.fitted import Result
from brainkit.recipes.layers import compare_layers
from brainkit.recipes.manifest import describe_run, parts_within, what_ran
from brainkit.recipes.reading import check_places, read_content, read_recipe
from brainkit.recipes.reconstruct import build_parts, describe_parts, parts_ran
from brainkit.recipes.saving import save_result
from brainkit.recipes.schema import (
    DecodeRecipe,
    EncodeRecipe,
    LayersRecipe,
    Recipe,
    ReconstructRecipe,
    RSARecipe,
)
from brainkit.reconstruction import (
    ReconstructionParts,
    ReconstructionProtocol,
    ReconstructionResult,
    assess_reconstruction,
)
from brainkit.reconstruction.scores import TRUE
from brainkit.reporting import SubjectResults, write_report
from brainkit.synthesis import RankingProtocol, assess_ranking


def run_recipe(
    recording: Recording,
    recipe: Recipe,
    *,
    regions: Sequence[str] | None = None,
    known: Known | None = None,
    parts: ReconstructionParts | None = None,
    others: Mapping[str, Recording] | None = None,
) -> Result:
    """Run a recipe on one recording.

    Parameters
    ----------
    recording : Recording
        One subject's.
    recipe : Recipe
        What to do; one for recordings, not for dissimilarities.
    regions : sequence of str, optional
        Regions to sum up; those of the dataset's card that the recording has where not given.
    known : dict, optional
        Features to share between runs, see `build_features`.
    parts : ReconstructionParts, optional
        Models to share between runs of a recipe that reconstructs, see `build_parts`.
    others : mapping of str to Recording, optional
        Other subjects, for a recipe of `encode` whose noise ceiling rests on them.
    """
    if isinstance(recipe, RSARecipe):
        raise InputError(
            f"The recipe {recipe.name} compares dissimilarities, and this is a recording: use "
            "brainkit rsa."
        )
    if regions is None:
        listed = recording.info.get("regions", [])
        regions = [name for name in listed if name in _available(recording)] or None
    settings = recipe.protocol.model_dump()
    if isinstance(recipe, LayersRecipe):
        return compare_layers(recording, recipe, regions=regions, known=known)
    if isinstance(recipe, ReconstructRecipe):
        protocol = ReconstructionProtocol(**settings)
        return assess_reconstruction(recording, protocol, parts or build_parts(recipe))
    features = build_features(recipe.features, recipe.components, known)
    model = build_model(recipe.model)
    if isinstance(recipe, EncodeRecipe):
        return assess_encoder(
            recording, features, model, EncodingProtocol(**settings), regions=regions, others=others
        )
    if isinstance(recipe, DecodeRecipe):
        return assess_decoder(recording, features, model, DecodingProtocol(**settings))
    judge_features = build_features(recipe.judge_features, known=known)
    judge = judge_features, build_model(recipe.judge_model)
    return assess_ranking(
        recording, (features, model), judge, RankingProtocol(**settings), regions=regions
    )


def _available(recording: Recording) -> set[str]:
    return {*recording.region_names, *recording.roi_names}


def run_job(
    job: str,
    card_name: str,
    *,
    out: str | Path,
    root: str | Path | None = None,
    subject: str | None = None,
    recipe_name: str | None = None,
    changes: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Run one job on a dataset, into a run folder with its report.

    Parameters
    ----------
    job : {"encode", "decode", "synthesize"}
        What to do.
    card_name : str
        Dataset card.
    out : path
        Run folder; appears whole or not at all.
    root, subject
        See `brainkit.load`; all subjects where none is given.
    recipe_name : str, optional
        Recipe, or a file; the card's default for the job where not given. The ``manifest.json``
        of an earlier run on the same dataset gives root, subjects and options too, where these
        are not given here.
    changes : sequence of str
        Settings of the recipe to change, ``"protocol.permutations=20"``.
    options : mapping, optional
        Options of the reader.
    overwrite : bool, default=False
        Replace an earlier run.

    Returns
    -------
    dict
        What ``metrics.json`` holds.
    """
    started = time.monotonic()
    card = read_card(card_name)
    recipe = recipe_for(card, job, recipe_name, changes)
    earlier = earlier_run(card, recipe_name, root=root, options=options or {})
    options = checked_options({**earlier.get("options", {}), **(options or {})})
    folder = dataset_root(card, root if root is not None else earlier.get("root"))
    check_output(out, overwrite=overwrite)
    parts = build_parts(recipe) if isinstance(recipe, ReconstructRecipe) else None
    names = [subject] if subject is not None else list(earlier.get("subjects", ()))
    # All are opened before the first is run: a missing file of the last should not cost hours.
    recordings = [load(card, folder, name, **options) for name in names or subjects(card, folder)]
    people = {recording.subject: recording for recording in recordings}
    if isinstance(recipe, EncodeRecipe) and recipe.protocol.ceiling in LEAST_OTHERS:
        everyone = (load(card, folder, name, **options) for name in subjects(card, folder))
        people = {recording.subject: recording for recording in everyone} | people
    results: dict[str, Result] = {}
    with output_folder(out, overwrite=overwrite) as run:
        for recording in recordings:
            name = recording.subject
            with waiting(f"{name}: {job}"):
                others = {who: other for who, other in people.items() if who != name}
                results[name] = run_recipe(recording, recipe, parts=parts, others=others)
                save_result(results[name], run if len(recordings) == 1 else run / name, recipe)
        metrics = collect_metrics({name: result.metrics for name, result in results.items()})
        models = None if parts is None else describe_parts(parts)
        manifest = describe_run(
            job=job,
            card=card,
            root=folder.resolve(),
            recipe=recipe.model_dump(mode="json"),
            options=options,
            subjects={name: facts_of(result) for name, result in results.items()},
            ran=() if parts is None or models is None else parts_ran(parts, models),
        )
        if models is not None:
            manifest["models"] = models
        manifest["presets"] = sorted({entry["preset"] for entry in metrics.values()})
        manifest["seconds"] = round(time.monotonic() - started, 1)
        title = f"{job.capitalize()} {card.name}"
        _write_run(run, results, metrics, manifest, title=title, summary=recipe.about)
    return metrics


def _write_run(
    run: Path,
    results: Mapping[str, Result],
    metrics: dict[str, Any],
    manifest: dict[str, Any],
    *,
    title: str,
    summary: str,
) -> None:
    """Write the report and the files that are of all subjects."""
    with waiting("report"):
        write_report(
            run / "report.html",
            {name: _reported(result) for name, result in results.items()},
            title=title,
            manifest=plain(manifest),
            metrics=metrics,
            summary=summary,
        )
    write_json(run / "metrics.json", metrics)
    write_json(run / "manifest.json", manifest)


def _reported(result: Result) -> SubjectResults:
    if isinstance(result, EncodingResult):
        return SubjectResults(encoding=result)
    if isinstance(result, DecodingResult):
        return SubjectResults(decoding=result)
    if isinstance(result, ReconstructionResult):
        return SubjectResults(reconstruction=result)
    if isinstance(result, SpaceComparison):
        return SubjectResults(spaces=result)
    return SubjectResults(ranking=result)


def earlier_run(
    card: DatasetCard,
    recipe_name: str | None,
    *,
    root: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the manifest that a run on this dataset shall repeat; nothing if there is none.

    Parameters
    ----------
    card : DatasetCard
    recipe_name : str, optional
        Where it ends in ``.json``, the manifest of an earlier run.
    root : path, optional
    options : mapping, optional
        What is given beside the manifest, and taken in place of what it says.

    Raises
    ------
    MissingFileError
        If the manifest names a folder of the dataset, or a file among the reader's options, that
        is not on this machine, and nothing is given in its place.
    """
    if recipe_name is None or Path(recipe_name).suffix != ".json":
        return {}
    content = read_content(Path(recipe_name))
    if content.get("card") != card.name:
        return {}  # the recipe alone is taken to another dataset
    kinds = {"options": dict, "subjects": dict, "root": str}
    kept = {name: content[name] for name, kind in kinds.items() if type(content.get(name)) is kind}
    if root is None and "root" in kept and not Path(kept["root"]).is_dir():
        raise MissingFileError(
            f"{recipe_name} was made from {kept['root']}, which is not on this machine: give the "
            f"folder of {card.name} with --root (root=)."
        )
    for name, value in kept.get("options", {}).items():
        foreign = isinstance(value, str) and Path(value).is_absolute() and not Path(value).exists()
        if foreign and name not in (options or {}):
            raise MissingFileError(
                f"{recipe_name} was made with {name}={value}, which is not on this machine: give "
                f"another with --option {name}=PATH (options={{{name!r}: PATH}})."
            )
    return kept


def checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a reader so that a rerun from any folder reads the same."""
    for name in ("card", "root", "subject"):
        if name in options:
            raise InputError(
                f"{name!r} is not an option of a reader; give it as an argument of its own."
            )
    return {name: _absolute(value) for name, value in options.items()}


def _absolute(value: Any) -> Any:
    """Return a file's name so that a rerun finds it from any folder; all else as it is."""
    is_file = isinstance(value, str) and Path(value).suffix and Path(value).is_file()
    return str(Path(value).resolve()) if is_file else value


def recipe_for(card: DatasetCard, job: str, name: str | None, changes: Sequence[str]) -> Recipe:
    """Return the named recipe, or the card's default for the job, with settings changed."""
    if name is None and job not in card.recipes:
        raise InputError(f"The card {card.name} has no default recipe to {job}; give --recipe.")
    recipe = read_recipe(name or card.recipes[job], changes)
    if name is not None and Path(name).suffix == ".json":
        check_places(name, recipe.model_dump(mode="json"))
    if recipe.job != job:
        raise InputError(f"The recipe {recipe.name} is for {recipe.job}; this is {job}.")
    return recipe


def facts_of(result: Result) -> dict[str, Any]:
    """Return what the manifest says of one subject's run."""
    info = {
        key: value
        for key, value in result.recording.info.items()
        if key not in ("zscore", "regions")
    }
    for part in parts_within(result):
        if hasattr(part, "describe_network"):
            info.setdefault("network", part.describe_network(names_of(result.recording)))
        if hasattr(part, "n_targets_batch") and hasattr(part, "batch_size_"):
            info.setdefault("n_targets_batch", part.batch_size_)
        if hasattr(part, "primal_"):
            info.setdefault("solver_side", "primal" if part.primal_ else "dual")
    ran = [*info.pop("ran", ()), *what_ran(result)]
    penalties = map(grid_facts, parts_within(result))
    return {
        **info,
        "zscore": result.zscore,
        **({"ceiling": result.ceiling} if isinstance(result, EncodingResult) else {}),
        "counts": result.counts,
        "resampling": getattr(result, "resampling", {}),
        "penalties": getattr(result, "grid", None) or next(filter(None, penalties), {}),
        "ran": ran,
    }


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
        collected[metric] = {
            "value": _mean([entry["value"] for entry in each.values()]),
            "n": len(each),
            "nulls": {
                null: _mean([entry["nulls"].get(null) for entry in each.values()]) for null in nulls
            },
            "preset": next(iter(each.values()))["preset"],
            "by_subject": each,
        }
        true = [entry[TRUE]["value"] for entry in each.values() if TRUE in entry]
        if true:
            collected[metric][TRUE] = {"value": _mean(true), "n": len(true)}
    return plain(collected)


def _mean(values: Sequence[float | None]) -> float:
    finite = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")
