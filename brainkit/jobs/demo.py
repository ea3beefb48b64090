"""The demonstration: every job on simulated people, held against the world's known truth."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.data.cards import Licence, read_card
from brainkit.data.recording import Recording
from brainkit.errors import InputError
from brainkit.evaluation import Correlation, NoiseCeiling, pooled_ceiling_fraction
from brainkit.jobs import JOBS
from brainkit.jobs.contract import Result
from brainkit.jobs.layers import ENERGY
from brainkit.jobs.runner import Plan, Step, read_recipe, run_plan
from brainkit.jobs.synthesize import ranking_result
from brainkit.synthesis import RankingResult
from brainkit.world import Population, SceneWorld, SimulatedBrain, write_nsd
from brainkit.world.scenes import EYE_SIZE
from brainkit.world.versions import brain_version

Array = NDArray[Any]
REGIONS = ("V1", "V2", "V3", "hV4", "FFA", "EBA", "OPA", "PPA", "VWFA", "food")
EARLY, LATE = REGIONS[:4], REGIONS[4:]
LICENCE = Licence(name="none needed: simulated data in the layout of NSD")
CITATION = (
    "No person was measured; the world is that of brainkit.world, version {world}, brain {brain}."
)
SUMMARY = (
    "Every job on simulated people who looked at painted scenes: which voxels follow the image and "
    "which layer of a network each region follows, what the image was, and which images a region "
    "prefers."
)
HEADLINE = ("encoding_ceiling_fraction_pooled", "pixel_correlation")
JUDGED = "identification_image_given_reconstruction_top1[judge-a]"
NAMED = "caption_names_category"
# These need no brain. The nearest training image, and its caption, are found by the brain: rivals
# of a reconstruction rather than nulls, and held against it image by image.
RIVALS = ("nearest_training_image", "caption_prior")
SHARED_PART = 0.1


@dataclass(frozen=True)
class Size:
    """How large a demonstration is.

    Attributes
    ----------
    n_subjects, images : int
        People, and images that each sees three times.
    """

    n_subjects: int
    images: int


SMALL, FULL = Size(2, 1500), Size(4, 9000)
# Share of the ceiling, V1 to hV4, that so many images let an encoder reach.
CEILING_TARGETS = ((FULL.images, 0.8), (SMALL.images, 0.6), (0, 0.3))
SAID = "captions that name the largest category"
FEWEST_IMAGES = 500  # half the training part must hold the judge's 200 pixel components
# A contrastive decoder of one person, trained for as long as a demonstration may take.
CONTRASTIVE = (
    "protocol.split=nsd-shared1000",
    "model.settings.steps=200",
    "model.settings.cv=3",
    "model.settings.batch_size=256",
    "generator.latents={kind: embedding-decoder, alphas: {low: 100, high: 1.0e+6, count: 9}, "
    "cv: 3, settings: {renormalise: false}}",
)
FEWEST_SUBJECTS = 2  # what one person never saw is what another saw


def run_demo(
    out: str | Path,
    *,
    n_subjects: int = 2,
    images: int = 1500,
    seed: int = 0,
    brain: int = 1,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Simulate people, write them in NSD's layout, do all jobs on them, and report.

    Parameters
    ----------
    out : path
        Run folder; it appears whole. The simulated data stay in its ``nsd``.
    n_subjects : int, default=2
        Simulated people, at least 2: stimuli are ranked that others saw.
    images : int, default=1500
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
        What ``metrics.json`` holds: the metrics of all jobs, means over subjects.

    Raises
    ------
    InputError
        If there are too few people or images.
    UnknownNameError
        If there is no such version of the brain.
    OutputError
        If `out` is there and not to be replaced.
    """
    if n_subjects < FEWEST_SUBJECTS or images < FEWEST_IMAGES:
        raise InputError(
            f"The demonstration needs at least {FEWEST_SUBJECTS} people who see at least "
            f"{FEWEST_IMAGES} images each; got n_subjects={n_subjects} and images={images}."
        )
    brain_version(brain)
    options = {"n_subjects": n_subjects, "images": images, "seed": seed, "brain": brain}
    people = Population(SceneWorld(seed=seed), seed, version=brain)
    root = Path(out)

    def simulate(folder: Path) -> Path:
        nonlocal root
        root = folder / "nsd"
        return root if _is_whole(root) else _simulate(root, people, n_subjects, images)

    def revise(label: str, recording: Recording, result: Result) -> Result:
        if label != "synthesize":
            return result
        subject = int(recording.subject.removeprefix("subj"))
        return ranking_result(with_truth(result.source, root, subject, people))

    return run_plan(
        demo_plan(options), out, overwrite=overwrite, first=simulate, revise=revise,
        check=partial(check_person, images=images),
    )  # fmt: skip


def demo_plan(options: Mapping[str, Any]) -> Plan:
    """Return the jobs of the demonstration with their settings."""
    card = read_card("nsd")
    # A part of the training images is enough for drawing; all of them take minutes longer.
    large = options["images"] >= FULL.images
    drawing = ("protocol.n_train=1500", "protocol.steps=8")
    few = ("protocol.n_train=1200", "protocol.steps=6", "protocol.n_images=40")
    recipes = {
        "encode": read_recipe(card.recipes["encode"]),
        "decode": read_recipe(card.recipes["decode"]),
        "synthesize": read_recipe(card.recipes["synthesize"]),
        "layers": read_recipe(
            "clip_layers",
            ("protocol.n_train=800", "layers=[stem, blocks.1, blocks.3, embedding]"),
        ),
        "reconstruct": read_recipe("mindeye2", (*CONTRASTIVE, *(drawing if large else few))),
    }
    citation = CITATION.format(world=SceneWorld.version, brain=options["brain"])
    return Plan(
        name="demo",
        card=card.model_copy(update={"licence": LICENCE, "citation": citation}),
        root=Path("nsd"),
        steps={label: Step(JOBS[recipe.job](), recipe) for label, recipe in recipes.items()},
        people=[f"subj{number:02d}" for number in range(1, options["n_subjects"] + 1)],
        regions=REGIONS,
        title="brainkit demonstration",
        summary=SUMMARY,
        headline=HEADLINE,
        manifest={"options": dict(options), "root": "nsd"},
    )


def _is_whole(root: Path) -> bool:
    """Tell whether the data of a demonstration that was cut off are all there."""
    manifest = root / "SIMULATED.json"
    return manifest.is_file() and '"complete": true' in manifest.read_text(encoding="utf-8")


def _simulate(root: Path, people: Population, n_subjects: int, images: int) -> Path:
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
    return root


def _trials_per_session(images: int) -> int:
    """Return NSD's 750 trials a session where they fit, else the nearest divisor below."""
    trials = 3 * images
    return next(size for size in range(min(750, trials), 0, -1) if trials % size == 0)


# ------------------------------------------------------------------------------ the known truth


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
    stimuli = ranking.recording.stimuli
    # What was shown is what the simulated eye sees where it is as large; else that is painted anew.
    pictures = stimuli.read if stimuli is not None and brain.world.size == EYE_SIZE else None
    added: dict[str, dict[str, float]] = {}
    responses: dict[int, Array] = {}
    for name, part in ranking.rankings.items():
        inside = ranking.recording.roi_mask(name)
        key = hash(part.bank.tobytes())
        if key not in responses:
            raw = brain.response(part.bank, images=pictures)[:, truth]  # (n_bank, units)
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


# --------------------------------------------------------------------------------------- checks


def check_person(
    name: str, results: Mapping[str, Result], images: int = FULL.images
) -> list[dict[str, Any]]:
    """Hold one person's results against what the simulated world should give.

    What is claimed is what the number of images can show: the share of the ceiling that an encoder
    reaches grows with them, and its target with it; that drawn images are told apart is claimed of
    the full demonstration alone.
    """
    target = next(share for least, share in CEILING_TARGETS if images >= least)
    drawn = _check_reconstruction(name, results["reconstruct"].metrics)
    return [
        *_check_encoding(name, results["encode"].tables["units"], target),
        *_check_layers(name, results["layers"].tables["layers"]),
        *_check_decoding(name, results["decode"].metrics),
        *(drawn if images >= FULL.images else [one for one in drawn if SAID in one["claim"]]),
        *_check_ranking(name, results["synthesize"].tables["regions"]),
    ]


def early_fractions(units: pd.DataFrame) -> tuple[float, float]:
    """Return the pooled ceiling fraction over V1–hV4 and the same for shuffled stimuli."""
    columns = [
        name for name in units
        if str(name).startswith("roi.") and str(name)[4:].rstrip("vd") in (*EARLY, "hV4")
    ]  # fmt: skip
    inside = units[units[columns].any(axis=1)]
    ceiling = NoiseCeiling(inside["ceiling"].to_numpy(), definition="nsd", n_repeats=3)
    pooled = [
        float(pooled_ceiling_fraction(Correlation(inside[column].to_numpy()), ceiling))
        for column in ("r", "shuffled r")
    ]
    return pooled[0], pooled[1]


def _check_encoding(name: str, units: pd.DataFrame, target: float = 0.8) -> list[dict[str, Any]]:
    fraction, shuffled = early_fractions(units)
    reached, least = fraction >= target, f"≥ {target:g}".replace("0.", ".")
    return [
        _check(name, "pooled ceiling fraction, V1-hV4", fraction, least, reached),
        _check(name, "the same for shuffled features", shuffled, "0 ± .02", abs(shuffled) <= 0.02),
    ]


def _check_layers(name: str, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Early regions should prefer earlier layers than category regions do."""
    table = table[table["space"] != ENERGY]
    place = {space: number for number, space in enumerate(dict.fromkeys(table["space"]))}
    depth = {
        str(region): float(np.average(part["space"].map(place), weights=part["share"]))
        for region, part in table.groupby("region", sort=False)
        if part["share"].sum() > 0
    }
    early = np.mean([depth[region] for region in EARLY[:3] if region in depth])
    late = np.mean([depth[region] for region in LATE if region in depth])
    claim = "layers by which category regions prefer later ones than V1-V3 do"
    return [_check(name, claim, float(late - early), "> 1", bool(late - early > 1))]


def _check_decoding(name: str, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    gap, null = min(
        (gap["ci"][0], null) for null, gap in metrics["pixel_correlation"]["above_nulls"].items()
    )
    claim = f"decoded pixel r above the nearest null ({null}), lower end of 95 % CI"
    return [_check(name, claim, gap, "> 0", gap > 0)]


def _check_reconstruction(name: str, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    drawn, named = metrics[JUDGED], metrics[NAMED]
    checks = []
    for what, entry in (
        ("drawn images identified among 50", drawn),
        (SAID, named),
    ):
        ends = {null: ci[1] for null, ci in entry["null_ci"].items() if null not in RIVALS}
        best = max(ends, key=lambda null: ends[null])
        gap = entry["ci"][0] - ends[best]
        claim = f"{what}: lower end of the CI above the highest end of a brainless null's ({best})"
        checks.append(_check(name, claim, gap, "> 0", gap > 0))
    gap = drawn["above_nulls"][RIVALS[0]]["ci"][0]
    claim = "drawn images identified, above the nearest training image: lower end of the paired CI"
    checks.append(_check(name, claim, gap, "> 0", gap > 0))
    return checks


def _check_ranking(name: str, regions: pd.DataFrame) -> list[dict[str, Any]]:
    top = regions["true percentile"] >= 90
    claim = f"regions of {len(top)} whose ranked stimuli drive it in the bank's top decile"
    met = bool(top.sum() >= 0.8 * len(top))
    return [_check(name, claim, float(top.sum()), "≥ 8 of 10", met)]


def _check(subject: str, claim: str, value: float, target: str, met: bool) -> dict[str, Any]:
    return {"subject": subject, "claim": claim, "value": value, "target": target, "met": bool(met)}
