"""The demonstration: all three jobs on the simulated world, held against its known truth."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

import pandas as pd

from brainkit.arrays.atomic import check_output, output_folder, plain, write_json
from brainkit.arrays.progress import track
from brainkit.arrays.sources import Kept
from brainkit.data.cards import DatasetCard, Licence, load, read_card
from brainkit.data.recording import Recording
from brainkit.data.responses import Responses
from brainkit.decoding import DecodingResult
from brainkit.encoding import EncodingResult, SpaceComparison
from brainkit.errors import InputError
from brainkit.recipes.building import Known
from brainkit.recipes.demo_checks import check_subject, with_truth
from brainkit.recipes.fitted import Result
from brainkit.recipes.manifest import describe_run
from brainkit.recipes.reading import read_recipe
from brainkit.recipes.reconstruct import build_parts, describe_parts, parts_ran
from brainkit.recipes.running import collect_metrics, facts_of, run_recipe
from brainkit.recipes.saving import save_result
from brainkit.recipes.schema import Recipe, ReconstructRecipe
from brainkit.reconstruction import ReconstructionParts, ReconstructionResult
from brainkit.reporting import SubjectResults, write_report
from brainkit.synthesis import RankingResult
from brainkit.world import Population, SceneWorld, write_nsd
from brainkit.world.versions import brain_version

REGIONS = ("V1", "V2", "V3", "hV4", "FFA", "EBA", "OPA", "PPA", "VWFA", "food")
LICENCE = Licence(name="none needed: simulated data in the layout of NSD")
CITATION = (
    "No person was measured; the world is that of brainkit.world, version {world}, brain {brain}."
)
JOBS = ("encode", "decode", "synthesize")
DRAWING = "brain_diffuser_simple"
# A part of the training images is enough for the demonstration; all of them take minutes longer.
DRAWING_SETTINGS = ("protocol.n_train=1500", "protocol.steps=8")
LAYERS = "clip_layers"
LAYERS_SETTINGS = ("protocol.n_train=800", "layers=[stem, blocks.1, blocks.3, embedding]")
SHARED_PART = 0.1
FEWEST_IMAGES = 500  # half the training part must hold the judge's 200 pixel components
FEWEST_SUBJECTS = 2  # what one person never saw is what another saw


def run_demo(
    out: str | Path,
    *,
    n_subjects: int = 4,
    images: int = 9000,
    seed: int = 0,
    brain: int = 1,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Simulate people, write them in NSD's layout, do all jobs on them, and report.

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
    brain : int, default=1
        Version of the simulated brain, see docs/world.md.
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
    UnknownNameError
        If there is no such version of the brain.
    OutputError
        If `out` is there and not to be replaced.
    """
    started = time.monotonic()
    if n_subjects < FEWEST_SUBJECTS or images < FEWEST_IMAGES:
        raise InputError(
            f"The demonstration needs at least {FEWEST_SUBJECTS} people who see at least "
            f"{FEWEST_IMAGES} images each; got n_subjects={n_subjects} and images={images}."
        )
    brain_version(brain)
    check_output(out, overwrite=overwrite)
    study = _Study.of_the_card()
    options = {"n_subjects": n_subjects, "images": images, "seed": seed, "brain": brain}
    with output_folder(out, overwrite=overwrite) as run:
        people = Population(SceneWorld(seed=seed), seed, version=brain)
        _simulate(run / "nsd", people, n_subjects, images)
        results: dict[str, SubjectResults] = {}
        checks: list[dict[str, Any]] = []
        for number in track(range(1, n_subjects + 1), "subjects"):
            name, found = study.person(run, number, people)
            results[name] = found
            checks += check_subject(name, found)
        metrics = collect_metrics({name: study.metrics(part) for name, part in results.items()})
        manifest = study.manifest(results, options)
        manifest["seconds"] = round(time.monotonic() - started, 1)
        _write_demo(run, results, pd.DataFrame(checks), metrics, manifest)
    return metrics


def _simulate(root: Path, people: Population, n_subjects: int, images: int) -> None:
    """Write the people's data in NSD's layout."""
    write_nsd(
        root,
        people.world,
        tuple(range(1, n_subjects + 1)),
        images_per_subject=images,
        shared=max(round(images * SHARED_PART), 10),
        trials_per_session=_trials_per_session(images),
        population=people,
    )


def _write_demo(
    run: Path,
    results: Mapping[str, SubjectResults],
    checks: pd.DataFrame,
    metrics: dict[str, Any],
    manifest: dict[str, Any],
) -> None:
    """Write the report and the files that are of all people."""
    write_report(
        run / "report.html",
        results,
        title="brainkit demonstration",
        manifest=plain(manifest),
        metrics=metrics,
        summary="Three jobs on simulated people who looked at painted scenes: which voxels "
        "follow the image, what the image was, and which images a region prefers.",
        checks=checks,
    )
    checks.to_parquet(run / "checks.parquet")
    write_json(run / "metrics.json", metrics)
    write_json(run / "manifest.json", manifest)


@dataclass(frozen=True)
class _Study:
    """What is done with each person, and the models that all of them share."""

    card: DatasetCard
    recipes: dict[str, Recipe]
    parts: ReconstructionParts

    @classmethod
    def of_the_card(cls) -> Self:
        card = read_card("nsd")
        recipes = {job: read_recipe(card.recipes[job]) for job in JOBS}
        recipes["layers"] = read_recipe(LAYERS, LAYERS_SETTINGS)
        recipes["reconstruct"] = drawing = read_recipe(DRAWING, DRAWING_SETTINGS)
        return cls(card, recipes, build_parts(cast(ReconstructRecipe, drawing)))

    def person(self, run: Path, number: int, people: Population) -> tuple[str, SubjectResults]:
        """Do everything with one person and write what was found; return name and results."""
        recording = load(self.card, run / "nsd", number)
        found = self.results(recording)
        ranking = with_truth(cast(RankingResult, found.ranking), run / "nsd", number, people)
        found = replace(found, ranking=ranking)
        self.save(found, run / recording.subject)
        return recording.subject, found

    def results(self, recording: Recording) -> SubjectResults:
        """Do everything with one person."""
        known: Known = {}  # the jobs of a person share features; people share few images
        kept = Kept(recording.responses.source)  # and all of them read all responses
        recording = replace(recording, responses=Responses(kept))
        found = {
            job: run_recipe(recording, recipe, regions=REGIONS, known=known, parts=self.parts)
            for job, recipe in self.recipes.items()
        }
        for part in (kept, *known.values()):
            part.forget()
        return SubjectResults(
            encoding=cast(EncodingResult, found["encode"]),
            spaces=cast(SpaceComparison, found["layers"]),
            decoding=cast(DecodingResult, found["decode"]),
            reconstruction=cast(ReconstructionResult, found["reconstruct"]),
            ranking=cast(RankingResult, found["synthesize"]),
        )

    def save(self, results: SubjectResults, folder: Path) -> None:
        """Write what was found of one person."""
        for job, part in _by_job(results).items():
            save_result(part, folder / job, self.recipes[job])

    def metrics(self, results: SubjectResults) -> dict[str, Any]:
        """Return one person's metrics; those of drawn images say so where decoding has them too."""
        found: dict[str, Any] = {}
        for part in _by_job(results).values():
            for name, entry in part.metrics.items():
                found[name if name not in found else f"{name}[drawn]"] = entry
        return found

    def manifest(
        self, results: Mapping[str, SubjectResults], options: dict[str, Any]
    ) -> dict[str, Any]:
        """Return what the demonstration's manifest says."""
        models = describe_parts(self.parts)
        citation = CITATION.format(world=SceneWorld.version, brain=options["brain"])
        described = describe_run(
            job="demo",
            card=self.card.model_copy(update={"licence": LICENCE, "citation": citation}),
            root=Path("nsd"),
            recipe={job: recipe.model_dump(mode="json") for job, recipe in self.recipes.items()},
            options=options,
            subjects={
                name: facts_of(cast(EncodingResult, part.encoding)) | {"ran": _ran(part)}
                for name, part in results.items()
            },
            ran=parts_ran(self.parts, models),
        )
        return described | {"models": models}


def _ran(results: SubjectResults) -> list[dict[str, Any]]:
    """Return what the parts of all jobs of a person say of how they ran, each once."""
    told = [entry for part in _by_job(results).values() for entry in facts_of(part)["ran"]]
    return [entry for number, entry in enumerate(told) if entry not in told[:number]]


def _by_job(results: SubjectResults) -> dict[str, Result]:
    by_job = {
        "encode": results.encoding,
        "layers": results.spaces,
        "decode": results.decoding,
        "synthesize": results.ranking,
        "reconstruct": results.reconstruction,
    }
    return {job: cast(Result, part) for job, part in by_job.items()}


def _trials_per_session(images: int) -> int:
    """Return NSD's 750 trials a session where they fit, else the nearest divisor below."""
    trials = 3 * images
    return next(size for size in range(min(750, trials), 0, -1) if trials % size == 0)
