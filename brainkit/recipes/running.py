"""Run a recipe on a dataset's subjects, into a run folder."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainkit.arrays.atomic import check_output, output_folder, plain, write_json
from brainkit.data.cards import DatasetCard, read_card
from brainkit.data.loading import dataset_root, load, subjects
from brainkit.data.recording import Recording
from brainkit.decoding import DecodingProtocol, assess_decoder
from brainkit.encoding import EncodingProtocol, assess_encoder
from brainkit.errors import InputError
from brainkit.recipes.building import build_features, build_model
from brainkit.recipes.manifest import describe_run
from brainkit.recipes.saving import Result, save_result
from brainkit.recipes.schema import (
    DecodeRecipe,
    EncodeRecipe,
    Recipe,
    read_recipe,
)
from brainkit.reporting import SubjectResults, write_report
from brainkit.synthesis import RankingProtocol, assess_ranking

JOBS = {"encode": "encoding", "decode": "decoding", "synthesize": "ranking"}


def run_recipe(
    recording: Recording, recipe: Recipe, *, regions: Sequence[str] | None = None
) -> Result:
    """Run a recipe on one recording.

    Parameters
    ----------
    recording : Recording
        One subject's.
    recipe : Recipe
        What to do.
    regions : sequence of str, optional
        Regions to sum up; those of the dataset's card that the recording has where not given.
    """
    if regions is None:
        listed = recording.info.get("regions", [])
        regions = [name for name in listed if name in _available(recording)] or None
    features, model = build_features(recipe.features), build_model(recipe.model)
    settings = recipe.protocol.model_dump()
    if isinstance(recipe, EncodeRecipe):
        return assess_encoder(
            recording, features, model, EncodingProtocol(**settings), regions=regions
        )
    if isinstance(recipe, DecodeRecipe):
        return assess_decoder(recording, features, model, DecodingProtocol(**settings))
    judge = build_features(recipe.judge_features), build_model(recipe.judge_model)
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
        Recipe, or a file; the card's default for the job where not given.
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
    recipe = _recipe_for(card, job, recipe_name, changes)
    folder = dataset_root(card, root)
    check_output(out, overwrite=overwrite)
    names = subjects(card, folder) if subject is None else [subject]
    results: dict[str, Result] = {}
    for name in names:
        recording = load(card, folder, name, **(options or {}))
        results[recording.subject] = run_recipe(recording, recipe)
    metrics = collect_metrics({name: result.metrics for name, result in results.items()})
    manifest = describe_run(
        job=job,
        card=card,
        root=folder,
        recipe=recipe.model_dump(mode="json"),
        options=dict(options or {}),
        subjects={name: facts_of(result) for name, result in results.items()},
    )
    with output_folder(out, overwrite=overwrite) as run:
        for name, result in results.items():
            save_result(result, run if len(results) == 1 else run / name)
        manifest["seconds"] = round(time.monotonic() - started, 1)
        write_report(
            run / "report.html",
            {name: SubjectResults(**{JOBS[job]: result}) for name, result in results.items()},
            title=f"{job.capitalize()} {card.name}",
            manifest=plain(manifest),
            metrics=metrics,
            summary=recipe.about,
        )
        write_json(run / "metrics.json", metrics)
        write_json(run / "manifest.json", manifest)
    return metrics


def _recipe_for(card: DatasetCard, job: str, name: str | None, changes: Sequence[str]) -> Recipe:
    if name is None and job not in card.recipes:
        raise InputError(f"The card {card.name} has no default recipe to {job}; give --recipe.")
    recipe = read_recipe(name or card.recipes[job], changes)
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
    model = result.encoder.model if hasattr(result, "encoder") else result.fitted[1]
    return {
        **info,
        "zscore": result.zscore,
        "counts": result.counts,
        "n_targets_batch": model.batch_size_,
        "solver_side": "primal" if model.primal_ else "dual",
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
    return plain(collected)


def _mean(values: Sequence[float | None]) -> float:
    finite = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")
