"""The demonstration: all three jobs on the simulated world, held against its known truth."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.arrays.atomic import check_output, output_folder, plain, write_json
from brainkit.arrays.progress import track
from brainkit.data.cards import Licence, read_card
from brainkit.data.loading import load
from brainkit.data.recording import Recording
from brainkit.data.world import Population, SceneWorld, SimulatedBrain, write_nsd
from brainkit.decoding import DecodingResult
from brainkit.encoding import EncodingResult
from brainkit.errors import InputError
from brainkit.evaluation import Correlation, NoiseCeiling, pooled_ceiling_fraction
from brainkit.recipes.building import Known
from brainkit.recipes.manifest import describe_run
from brainkit.recipes.running import collect_metrics, facts_of, run_recipe
from brainkit.recipes.saving import save_result
from brainkit.recipes.schema import read_recipe
from brainkit.reporting import SubjectResults, write_report
from brainkit.synthesis import RankingResult

Array = NDArray[Any]
REGIONS = ("V1", "V2", "V3", "hV4", "FFA", "EBA", "OPA", "PPA", "VWFA", "food")
SIMULATED = {
    "licence": Licence(name="none needed: simulated data in the layout of NSD"),
    "citation": "No person was measured; the world is that of brainkit.data.world, version 1.",
}
EARLY = ("V1", "V2", "V3", "hV4")
JOBS = ("encode", "decode", "synthesize")
SHARED_PART = 0.1
FEWEST_IMAGES = 500  # half the training part must hold the judge's 200 pixel components
FEWEST_SUBJECTS = 2  # what one person never saw is what another saw


def run_demo(
    out: str | Path,
    *,
    n_subjects: int = 4,
    images: int = 9000,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Simulate people, write them in NSD's layout, encode, decode, rank stimuli, and report.

    Parameters
    ----------
    out : path
        Run folder; appears whole or not at all. The simulated data stay in its ``nsd``.
    n_subjects : int, default=4
        Simulated people, at least 2: stimuli are ranked that others saw.
    images : int, default=9000
        Images that each sees three times, at least 500; a tenth of them are shared.
    seed : int, default=0
        Of the world and of the experiment.
    overwrite : bool, default=False
        Replace an earlier run.

    Returns
    -------
    dict
        What ``metrics.json`` holds: the three jobs' metrics, means over subjects.

    Raises
    ------
    InputError
        If there are too few people or images.
    OutputError
        If `out` is there and not to be replaced.
    """
    started = time.monotonic()
    if n_subjects < FEWEST_SUBJECTS or images < FEWEST_IMAGES:
        raise InputError(
            f"The demonstration needs at least {FEWEST_SUBJECTS} people who see at least "
            f"{FEWEST_IMAGES} images each; got n_subjects={n_subjects} and images={images}."
        )
    check_output(out, overwrite=overwrite)
    card = read_card("nsd")
    recipes = {job: read_recipe(card.recipes[job]) for job in JOBS}
    with output_folder(out, overwrite=overwrite) as run:
        world = SceneWorld(seed=seed)
        people = Population(world, seed)
        root = write_nsd(
            run / "nsd",
            world,
            tuple(range(1, n_subjects + 1)),
            images_per_subject=images,
            shared=max(round(images * SHARED_PART), 10),
            trials_per_session=_trials_per_session(images),
            population=people,
        )
        results: dict[str, SubjectResults] = {}
        checks: list[dict[str, Any]] = []
        metrics, facts = {}, {}
        for number in track(range(1, n_subjects + 1), "subjects"):
            recording = load(card, root, number)
            name = recording.subject
            known: Known = {}  # the three jobs of a person share features; people share few images
            found = [
                run_recipe(recording, recipes[job], regions=REGIONS, known=known) for job in JOBS
            ]
            encoding, decoding = cast(EncodingResult, found[0]), cast(DecodingResult, found[1])
            ranking = with_truth(cast(RankingResult, found[2]), root, number, people)
            for job, result in zip(JOBS, [*found[:2], ranking], strict=True):
                save_result(result, run / name / job)
            for space in known.values():
                space.forget()
            results[name] = SubjectResults(encoding=encoding, decoding=decoding, ranking=ranking)
            metrics[name] = {**encoding.metrics, **decoding.metrics, **ranking.metrics}
            facts[name] = facts_of(encoding)
            checks += check_subject(name, encoding, decoding, ranking)
        collected = collect_metrics(metrics)
        manifest = describe_run(
            job="demo",
            card=card.model_copy(update=SIMULATED),
            root=Path("nsd"),
            recipe={job: recipe.model_dump(mode="json") for job, recipe in recipes.items()},
            options={"n_subjects": n_subjects, "images": images, "seed": seed},
            subjects=facts,
        )
        manifest["seconds"] = round(time.monotonic() - started, 1)
        table = pd.DataFrame(checks)
        write_report(
            run / "report.html",
            results,
            title="brainkit demonstration",
            manifest=plain(manifest),
            metrics=collected,
            summary="Three jobs on simulated people who looked at painted scenes: which voxels "
            "follow the image, what the image was, and which images a region prefers.",
            checks=table,
        )
        table.to_parquet(run / "checks.parquet")
        write_json(run / "metrics.json", collected)
        write_json(run / "manifest.json", manifest)
    return collected


def _trials_per_session(images: int) -> int:
    """Return NSD's 750 trials a session where they fit, else the nearest divisor below."""
    trials = 3 * images
    return next(size for size in range(min(750, trials), 0, -1) if trials % size == 0)


def with_truth(
    ranking: RankingResult, root: Path, subject: int, people: Population | None = None
) -> RankingResult:
    """Add to each region where the ranked stimuli stand in the simulated brain's true responses.

    The true response of a region is the mean over its voxels of the noise-free response, each
    voxel standardised over the bank. New columns: ``true percentile``, the share of the bank below
    the mean true response of the ranked stimuli, and ``percent of the best drive``, their mean
    response as a part of what the best `n` stimuli of the bank reach.
    """
    brain = SimulatedBrain.from_manifest(root, subject, people)
    truth = _by_unit(ranking.recording, brain)
    added: dict[str, dict[str, float]] = {}
    responses: dict[int, Array] = {}
    for name, part in ranking.rankings.items():
        inside = ranking.recording.roi_mask(name)
        key = hash(part.bank.tobytes())
        if key not in responses:
            raw = brain.response(part.bank)[:, truth]
            responses[key] = (raw - raw.mean(axis=0)) / raw.std(axis=0)
        drive = responses[key][:, inside].mean(axis=1)
        chosen = drive[np.searchsorted(part.bank, part.rows)].mean()
        best = np.sort(drive)[-len(part.rows) :].mean()
        added[name] = {
            "true percentile": 100 * float((drive < chosen).mean()),
            "percent of the best drive": 100 * float(chosen / best),
        }
    table = ranking.regions.join(pd.DataFrame(added).T, on="region")
    return replace(ranking, regions=table)


def _by_unit(recording: Recording, brain: SimulatedBrain) -> Array:
    """Return the simulated voxel of each unit of the recording."""
    place = {tuple(ijk): number for number, ijk in enumerate(brain.units[["i", "j", "k"]].values)}
    return np.array([place[tuple(ijk)] for ijk in recording.units[["i", "j", "k"]].values])


def early_fractions(encoding: EncodingResult) -> tuple[float, float]:
    """Return the pooled ceiling fraction over V1–hV4 and the same for shuffled stimuli."""
    inside = encoding.recording.roi_mask(EARLY)
    return _pooled(encoding, "r", inside), _pooled(encoding, "shuffled r", inside)


def _pooled(encoding: EncodingResult, column: str, inside: Array) -> float:
    units = encoding.units[inside]
    ceiling = NoiseCeiling(units["ceiling"].to_numpy(), definition="nsd", n_repeats=3)
    return float(pooled_ceiling_fraction(Correlation(units[column].to_numpy()), ceiling))


def check_subject(
    name: str, encoding: EncodingResult, decoding: DecodingResult, ranking: RankingResult
) -> list[dict[str, Any]]:
    """Hold one subject's results against what the simulated world should give."""
    fraction, shuffled = early_fractions(encoding)
    worst = min(
        (gap["ci"][0], null)
        for null, gap in decoding.metrics["pixel_correlation"]["above_nulls"].items()
    )
    top = ranking.regions["true percentile"] >= 90
    return [
        _check(name, "pooled ceiling fraction, V1-hV4", fraction, "≥ .8", fraction >= 0.8),
        _check(name, "the same for shuffled features", shuffled, "0 ± .02", abs(shuffled) <= 0.02),
        _check(
            name,
            f"decoded pixel r above the nearest null ({worst[1]}), lower end of 95 % CI",
            worst[0],
            "> 0",
            worst[0] > 0,
        ),
        _check(
            name,
            f"regions of {len(top)} whose ranked stimuli drive it in the bank's top decile",
            float(top.sum()),
            "≥ 8 of 10",
            bool(top.sum() >= 0.8 * len(top)),
        ),
    ]


def _check(subject: str, claim: str, value: float, target: str, met: bool) -> dict[str, Any]:
    return {"subject": subject, "claim": claim, "value": value, "target": target, "met": bool(met)}
