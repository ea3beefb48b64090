"""Hold the demonstration's results against what is known of the simulated world."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.data.recording import Recording
from brainkit.decoding import DecodingResult
from brainkit.encoding import EncodingResult, SpaceComparison
from brainkit.evaluation import Correlation, NoiseCeiling, pooled_ceiling_fraction
from brainkit.recipes.layers import ENERGY
from brainkit.reconstruction import ReconstructionResult
from brainkit.reporting import SubjectResults
from brainkit.synthesis import RankingResult
from brainkit.world import Population, SimulatedBrain
from brainkit.world.scenes import EYE_SIZE

Array = NDArray[Any]
EARLY = ("V1", "V2", "V3", "hV4")
LATE = ("FFA", "EBA", "OPA", "PPA", "VWFA", "food")
JUDGED = "identification_image_given_reconstruction_top1[judge-a]"
NAMED = "caption_names_category"
# These need no brain. The nearest training image, and its caption, are found by the brain: rivals
# of a reconstruction rather than nulls, and held against it image by image.
RIVALS = ("nearest_training_image", "caption_prior")


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
            raw = brain.response(part.bank, images=pictures)[:, truth]
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


def check_subject(name: str, results: SubjectResults) -> list[dict[str, Any]]:
    """Hold one subject's results against what the simulated world should give."""
    return [
        *_check_encoding(name, cast(EncodingResult, results.encoding)),
        *_check_layers(name, cast(SpaceComparison, results.spaces)),
        *_check_decoding(name, cast(DecodingResult, results.decoding)),
        *_check_reconstruction(name, cast(ReconstructionResult, results.reconstruction)),
        *_check_ranking(name, cast(RankingResult, results.ranking)),
    ]


def _check_encoding(name: str, encoding: EncodingResult) -> list[dict[str, Any]]:
    fraction, shuffled = early_fractions(encoding)
    return [
        _check(name, "pooled ceiling fraction, V1-hV4", fraction, "≥ .8", fraction >= 0.8),
        _check(name, "the same for shuffled features", shuffled, "0 ± .02", abs(shuffled) <= 0.02),
    ]


def _check_layers(name: str, spaces: SpaceComparison) -> list[dict[str, Any]]:
    """Early regions should prefer earlier layers than category regions do."""
    depth = spaces.depth([space for space in spaces.spaces if space != ENERGY])
    early = np.nanmean([depth[region] for region in EARLY[:3]])
    late = np.nanmean([depth[region] for region in LATE])
    claim = "layers by which category regions prefer later ones than V1-V3 do"
    return [_check(name, claim, float(late - early), "> 1", bool(late - early > 1))]


def _check_decoding(name: str, decoding: DecodingResult) -> list[dict[str, Any]]:
    gap, null = min(
        (gap["ci"][0], null)
        for null, gap in decoding.metrics["pixel_correlation"]["above_nulls"].items()
    )
    claim = f"decoded pixel r above the nearest null ({null}), lower end of 95 % CI"
    return [_check(name, claim, gap, "> 0", gap > 0)]


def _check_reconstruction(name: str, result: ReconstructionResult) -> list[dict[str, Any]]:
    drawn, said = result.metrics[JUDGED], result.metrics[NAMED]
    checks = []
    for what, entry in (
        ("drawn images identified among 50", drawn),
        ("captions that name the largest category", said),
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


def _check_ranking(name: str, ranking: RankingResult) -> list[dict[str, Any]]:
    top = ranking.regions["true percentile"] >= 90
    claim = f"regions of {len(top)} whose ranked stimuli drive it in the bank's top decile"
    met = bool(top.sum() >= 0.8 * len(top))
    return [_check(name, claim, float(top.sum()), "≥ 8 of 10", met)]


def _check(subject: str, claim: str, value: float, target: str, met: bool) -> dict[str, Any]:
    return {"subject": subject, "claim": claim, "value": value, "target": target, "met": bool(met)}
