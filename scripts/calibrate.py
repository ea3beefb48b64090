"""Does every score say what it says? On pure noise: its mean, its p values and its intervals.

    python scripts/calibrate.py [--runs 200] [--only encode decode] [--out docs/calibration.md]
    python scripts/calibrate.py --signal            # intervals of what is not noise

Every job is run on brains that saw nothing, over numbers of folds and items and over kinds of
dependence. Of every metric three things are shown:

- *mean*: its mean less its chance, over runs, with the standard error. Where chance is the
  expectation of a null, it is the mean difference from that null.
- *type I*: how often p ≤ .05, of units and of regions.
- *coverage*: how often the 95 % interval holds chance (of the difference from the null: 0).

A row is marked where it lies outside three standard errors (of .95 for coverage, which may be
above it: where a score takes few values, no interval covers exactly .95). Intervals of fewer than
ten units, which reports mark too, have a †: their coverage is shown and promises nothing. Rates of
p that are *below* .05 are of scores that take few values, as r within folds of two items does: ties
count against a score. With ``--signal`` the brains see something, truth is the mean over all runs,
and coverage is shown alone.
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from brainkit import Recording, Stimuli
from brainkit.arrays.atomic import write_text
from brainkit.arrays.seeds import rng
from brainkit.data.dissimilarities import Dissimilarities
from brainkit.decoding import (
    DecodingProtocol,
    LabelDecoder,
    LabelProtocol,
    RidgeDecoder,
    assess_decoder,
    assess_labels,
)
from brainkit.encoding import (
    EncodingProtocol,
    RSAProtocol,
    VoxelwiseRidge,
    assess_encoder,
    assess_rsa,
    compare_spaces,
)
from brainkit.evaluation.metrics import METRICS, metric_of
from brainkit.evaluation.preset_scores import Network, PresetScores
from brainkit.evaluation.presets import PRESETS
from brainkit.features import PixelPCA, Precomputed
from brainkit.synthesis import RankingProtocol, assess_ranking

UNITS, FEATURES, SIDE = 24, 8, 12
ENCODER = VoxelwiseRidge(alphas=(1.0, 30.0, 1000.0), cv=3)
DECODER = RidgeDecoder(alphas=(10.0, 300.0, 10000.0), cv=3)
PERMUTATIONS = 19  # p ≤ .05 is then the highest of 20


@dataclass(frozen=True)
class Case:
    """One kind of noise.

    Attributes
    ----------
    job : str
        Which job is run.
    folds : int
        1 for one split into a training and a test part.
    items : int
        Stimuli in all.
    dependence : str
        See `DEPENDENCE`.
    seeds : int
        Fold seeds that scores are averaged over.
    signal : float
        0 for noise; else the share of the responses' variance that the stimuli explain.
    """

    job: str
    folds: int
    items: int
    dependence: str = "none"
    seeds: int = 1
    signal: float = 0.0

    @property
    def split(self) -> str:
        """The split preset."""
        if self.dependence in ("conditions", "runs"):
            return "leave-one-run-out"
        if self.job == "classes" and self.dependence == "none" and self.folds > 1:
            return f"stratified:{self.folds}"
        if self.folds == 1:
            return "nsd-shared1000"
        in_time = self.dependence in ("time", "samples")
        return f"stretches:{self.folds}" if in_time else f"kfold:{self.folds}"


@dataclass(frozen=True)
class Reading:
    """What one run says of one metric."""

    metric: str
    value: float
    chance: float
    ci: tuple[float, float] | None = None
    p: tuple[float, ...] = ()
    few: bool = False  # whether reports mark the interval, as of fewer than ten units


DEPENDENCE = {
    "none": "every image once",
    "repeats": "three trials an image, averaged",
    "single trials": "three trials an image that share what no feature tells, not averaged",
    "time": "features and responses change slowly (AR(1), .9)",
    "conditions": "five conditions in each of eight runs, slow noise within runs",
    "samples": "continuous data: features and responses change slowly (AR(1), .9), in one run",
    "runs": "trials without stimuli in eight runs whose noise is slow, labels in random order",
}


def noise(case: Case, seed: int) -> tuple[Recording, np.ndarray, np.ndarray]:
    """Return a recording, and two tables of features of its stimuli.

    The responses know nothing of the features, or share `case.signal` of their variance with the
    first table; units are correlated with each other.
    """
    generator = rng(seed, "calibration", case.job, case.dependence, case.folds, case.items)
    n = 5 if case.dependence == "conditions" else case.items
    runs = 8
    shown = np.arange(n)
    if case.dependence in ("repeats", "single trials"):
        shown = generator.permutation(np.repeat(shown, 3))
    if case.dependence == "conditions":
        shown = np.concatenate([generator.permutation(np.repeat(shown, 2)) for _ in range(runs)])
    features = generator.normal(size=(2, n, FEATURES))
    if case.dependence == "conditions":
        features = np.stack([np.eye(n), generator.normal(size=(n, n))])
    slow = case.dependence in ("time", "conditions")
    # Where there is something to see the units are the same in all runs: there is one truth.
    of_units = rng(0, "calibration", "units") if case.signal else generator
    mixing = np.sqrt(0.5) * of_units.normal(size=(4, UNITS)) / 2
    values = noise_of(generator, len(shown), slow) @ np.eye(UNITS)
    values = np.sqrt(0.5) * values + noise_of(generator, len(shown), slow, 4) @ mixing
    if case.dependence == "time":
        features = np.stack([noise_of(generator, n, True, FEATURES) for _ in range(2)])
    if case.dependence == "single trials":
        values = np.sqrt(0.5) * values + np.sqrt(0.5) * generator.normal(size=(n, UNITS))[shown]
    weights = rng(0, "calibration", "weights").normal(size=(features.shape[2], UNITS))
    drive = features[0] @ weights / np.sqrt(features.shape[2])
    values = np.sqrt(1 - case.signal) * values + np.sqrt(case.signal) * drive[shown]
    test = np.isin(np.arange(n), generator.permutation(n)[: max(n // 3, 2)])
    if case.dependence == "time":
        test = np.arange(n) >= n - n // 3
    columns: dict[str, Any] = {"stimulus": shown, "shared": test[shown]}
    if slow:
        columns["run"] = np.arange(len(shown)) * runs // len(shown)
        if case.dependence == "time":
            columns["run"] = np.zeros(len(shown), dtype=int)
    half = np.arange(UNITS) < UNITS // 2
    images = smooth_images(generator, n, features[0], case.signal)
    return (
        Recording.from_arrays(
            values.astype(np.float32),
            trials=pd.DataFrame(columns),
            units=pd.DataFrame({"roi.first": half, "roi.second": ~half}),
            stimuli=Stimuli(images),
            stimuli_are="conditions" if case.dependence == "conditions" else "exemplars",
        ),
        *features.astype(np.float32),
    )


def noise_of(generator: np.random.Generator, n: int, slow: bool, width: int = UNITS) -> np.ndarray:
    """Return normal noise (n, width), slow along the first axis or not."""
    white = generator.normal(size=(n, width))
    if not slow:
        return white
    for row in range(1, n):
        white[row] = 0.9 * white[row - 1] + np.sqrt(1 - 0.81) * white[row]
    return white


def smooth_images(
    generator: np.random.Generator, n: int, features: np.ndarray, signal: float
) -> np.ndarray:
    """Return images (n, SIDE, SIDE), uint8, of a few smooth components."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    waves = np.stack([np.cos(np.pi * (a * x + b * y)) for a in range(3) for b in range(3)])[1:]
    amounts = features[:, : len(waves)] if signal else generator.normal(size=(n, len(waves)))
    picture = np.tensordot(amounts, waves[: amounts.shape[1]], axes=1)
    return np.clip(128 + 25 * picture, 0, 255).astype(np.uint8)


def readings(metrics: dict[str, Any]) -> Iterator[Reading]:
    """Return what a run's metrics say of chance."""
    for name, entry in metrics.items():
        metric = metric_of(name)
        null = metric.chance if isinstance(metric.chance, str) else None
        if null is None or null.endswith("/n"):
            ci = entry.get("ci")
            few = bool(entry.get("few_units"))
            yield Reading(name, entry["value"], entry["chance"], ci and tuple(ci), few=few)
            continue
        gap = (entry.get("above_nulls") or {}).get(null)
        ci = gap["ci"] if gap else None
        # The difference from the null is what has an expectation: 0.
        few = bool(entry.get("few_units"))
        yield Reading(name, entry["value"] - entry["nulls"][null], 0.0, ci and tuple(ci), few=few)


def encode(case: Case, seed: int) -> list[Reading]:
    """Judge an encoder of features that the brain does not know."""
    recording, features, _ = noise(case, seed)
    protocol = EncodingProtocol(
        case.split,
        seeds=tuple(range(case.seeds)),
        zscore=None,
        average_repeats=case.dependence != "single trials",
        ceiling="auto" if case.dependence in ("repeats", "single trials") else None,
        permutations=0 if case.signal else PERMUTATIONS,
        shuffles=1,
        pattern_scores=True,
    )
    result = assess_encoder(recording, features, ENCODER, protocol)
    region_p = tuple(result.metrics["encoding_r"]["p_by_roi"].values())
    measured = list(readings(result.metrics))
    few = bool(result.metrics["encoding_r"].get("few_units"))
    if not case.signal:
        measured.append(Reading("encoding_r: units' p", 0.0, 0.0, None, tuple(result.units["p"])))
        measured.append(Reading("encoding_r: regions' p", 0.0, 0.0, None, region_p))
    for region, ci in result.metrics["encoding_r"]["ci_by_roi"].items():
        value = result.metrics["encoding_r"]["by_roi"][region]
        kind = f"region {region}" if case.signal else "by region"  # each has a truth of its own
        measured.append(Reading(f"encoding_r: {kind}", value, 0.0, tuple(ci), few=few))
    return measured


def spaces(case: Case, seed: int) -> list[Reading]:
    """Compare two feature spaces that the brain does not know."""
    recording, *tables = noise(case, seed)
    protocol = EncodingProtocol(case.split, zscore=None, average_repeats=False)
    measured = compare_spaces(recording, dict(zip("ab", tables, strict=True)), ENCODER, protocol)
    rows = [
        Reading("encoding_r[SPACE]", row.r, 0.0, (row.low, row.high))
        for row in measured.regions.itertuples()
    ]
    return [*rows, *(replace(one, metric="encoding_r[SPACE]")
                     for one in readings(measured.metrics))]  # fmt: skip


def continuous(case: Case, seed: int) -> tuple[Recording, np.ndarray]:
    """Return samples, or trials in runs, of slow noise, and slow features of them."""
    generator = rng(seed, "calibration", case.job, case.dependence, case.folds, case.items)
    n_runs = case.folds if case.dependence == "runs" else 1
    mixing = np.eye(UNITS) + 0.3 * generator.normal(size=(UNITS, UNITS)) / np.sqrt(UNITS)
    each = [
        (noise_of(generator, case.items // n_runs, True) @ mixing,
         noise_of(generator, case.items // n_runs, True, 4))
        for _ in range(n_runs)
    ]  # fmt: skip
    values, features = (np.concatenate(parts) for parts in zip(*each, strict=True))
    half = np.arange(UNITS) < UNITS // 2
    units = pd.DataFrame({"roi.first": half, "roi.second": ~half})
    table = pd.DataFrame(
        {"run": np.arange(case.items) * n_runs // case.items, "time": np.arange(case.items) * 1.0}
    )
    if case.dependence == "samples":
        return Recording.from_arrays(values, samples=table, units=units), features
    return Recording.from_arrays(values, trials=table[["run"]], units=units), features


def samples(case: Case, seed: int) -> list[Reading]:
    """Judge an encoder of continuous data that know nothing of the features."""
    recording, features = continuous(case, seed)
    protocol = EncodingProtocol(
        case.split, zscore=None, ceiling=None, permutations=PERMUTATIONS, shuffles=1
    )
    result = assess_encoder(recording, features, ENCODER, protocol)
    region_p = tuple(result.metrics["encoding_r"]["p_by_roi"].values())
    return [
        *readings(result.metrics),
        Reading("encoding_r: units' p", 0.0, 0.0, None, tuple(result.units["p"])),
        Reading("encoding_r: regions' p", 0.0, 0.0, None, region_p),
    ]


def labels(case: Case, seed: int) -> list[Reading]:
    """Decode labels, or numbers, from a brain that knows none."""
    generator = rng(seed, "calibration", "labels", case.job, case.items)
    if case.dependence in ("samples", "runs"):
        recording, features = continuous(case, seed)
    else:
        values = noise_of(generator, case.items, False)
        features = generator.normal(size=(case.items, 1))
        shared = np.isin(np.arange(case.items), generator.permutation(case.items)[::3])
        table = pd.DataFrame({"shared": shared})
        recording = Recording.from_arrays(values, trials=table)
    given = features[:, 0]
    if case.job == "classes":
        n_runs = len(recording.rows.get("run", pd.Series(0)).unique())
        given = np.concatenate(
            [generator.permutation(np.arange(case.items // n_runs) % 3) for _ in range(n_runs)]
        )
    rows = recording.rows.assign(label=given)
    kind = "samples" if recording.samples is not None else "trials"
    recording = replace(recording, **{kind: rows})
    decoder = LabelDecoder("lda" if case.job == "classes" else "ridge")
    protocol = LabelProtocol(case.split, permutations=PERMUTATIONS, shuffles=1)
    metrics = assess_labels(recording, decoder, protocol).metrics
    p = [Reading(f"{name}: p", 0.0, 0.0, None, (one["p"],)) for name, one in metrics.items()]
    return [*readings(metrics), *p]


def decode(case: Case, seed: int) -> list[Reading]:
    """Reconstruct images from a brain that saw none."""
    recording, *_ = noise(case, seed)
    protocol = DecodingProtocol(
        case.split,
        seeds=tuple(range(case.seeds)),
        zscore=None,
        average_repeats=case.dependence != "single trials",
    )
    result = assess_decoder(recording, PixelPCA(min(6, case.items // 4)), DECODER, protocol)
    return list(readings(result.metrics))


def rank(case: Case, seed: int) -> list[Reading]:
    """Rank stimuli by an encoder of noise, and judge them by another."""
    recording, *tables = noise(case, seed)
    protocol = RankingProtocol(case.split, n=5, bank="test", zscore=None)
    encoder, judge = ((Precomputed(table), ENCODER) for table in tables)
    return list(readings(assess_ranking(recording, encoder, judge, protocol).metrics))


def rsa(case: Case, seed: int) -> list[Reading]:
    """Compare layers of noise with people of noise."""
    generator = rng(seed, "calibration", "rsa", case.items)

    def rdm() -> np.ndarray:
        points = generator.normal(size=(case.items, 6))
        return np.linalg.norm(points[:, None] - points[None], axis=2)

    people = {region: np.stack([rdm() for _ in range(12)]) for region in ("early", "late")}
    data = Dissimilarities(
        people,
        tuple(f"s{n}" for n in range(12)),
        Stimuli(np.zeros((case.items, 4, 4), np.uint8)),
    )
    layers = {f"layer {n}": rdm() for n in range(4)}
    protocol = RSAProtocol(bootstraps=200, permutations=PERMUTATIONS, seed=seed)
    result = assess_rsa(data, layers, protocol)
    measured = [replace(one, metric=one.metric.split("[")[0]) for one in readings(result.metrics)]
    for name, entry in result.metrics.items():
        if name.startswith(("rsa_best", "rsa_layer_chosen")):
            kind = f"{name.split('[')[0]}: interval"
            measured.append(Reading(kind, 0.0, 0.0, tuple(entry["ci"])))
    table = result.layers
    measured.append(Reading("rsa: layers' p", 0.0, 0.0, None, tuple(table["p"])))
    family = (float(table["p_familywise"].min()),)
    measured.append(Reading("rsa: family-wise p", 0.0, 0.0, None, family))
    measured += [
        Reading("rsa: a layer", row.similarity, 0.0, (row.low, row.high))
        for row in table.itertuples()
    ]
    return measured


def reconstruct(case: Case, seed: int) -> list[Reading]:
    """Draw and say what a brain saw that saw nothing, with the tiny models at four steps."""
    from brainkit.jobs import read_recipe
    from brainkit.jobs.reconstruct import build_tools
    from brainkit.reconstruction import ReconstructionProtocol, assess_reconstruction
    from brainkit.world import SceneWorld

    generator = rng(seed, "calibration", "reconstruct", case.items, case.folds)
    scenes = SceneWorld(seed=1000 + seed, size=64)
    shown = range(case.items)
    images, table = scenes.paint(shown), scenes.table(shown)
    recipe = read_recipe("brain_diffuser", ["generator.latents=null"])
    parts = build_tools(recipe)
    recording = Recording.from_arrays(
        generator.normal(size=(case.items, UNITS)).astype(np.float32),
        trials=pd.DataFrame(
            {"stimulus": np.arange(case.items), "shared": np.arange(case.items) % 3 == 0}
        ),
        stimuli=Stimuli(images, table=table),
    )
    protocol = ReconstructionProtocol(
        case.split, n_images=20, zscore=None, steps=4, max_new_tokens=8, seed=seed
    )
    return list(readings(assess_reconstruction(recording, protocol, parts).metrics))


def presets(case: Case, seed: int) -> list[Reading]:
    """Score what has to do with nothing by every metric preset, judged by random projections."""
    generator = rng(seed, "calibration", "presets", case.items)
    n, words = case.items, [f"{a}{b}" for a in "bcdfghj" for b in "aeio"]
    nothing = np.zeros((n, UNITS))
    sides = [smooth_images(generator, n, nothing, 0.0) for _ in range(2)]
    images, made = (np.repeat(one[..., None], 3, axis=-1) for one in sides)  # grey as RGB
    brain, shown = generator.normal(size=(2, n, UNITS))
    captions = [" ".join(generator.choice(words, size=8)) for _ in range(2 * n)]
    references = {str(i): [captions[i]] for i in range(n)}
    other = np.roll(np.arange(n), 1)  # the shuffled brain: nobody keeps its own
    measured: dict[str, Any] = {}
    for preset in PRESETS.values():
        judge = _random_judge(rng(0, "judge", preset.id))
        networks = dict.fromkeys(preset.networks, judge)
        scored: list[list[PresetScores]] = [[], []]
        for which, rows in enumerate((np.arange(n), other)):
            if preset.images:
                scored[which].append(preset.score(images, made[rows], networks, any_number=True))
            for gallery in dict.fromkeys(one.gallery for one in preset.retrieval):
                scored[which].append(
                    preset.score_retrieval(brain[rows], shown, gallery, any_number=True)
                )
            if preset.captions:
                said = {str(i): captions[n + row] for i, row in enumerate(rows)}
                scored[which].append(preset.score_captions(said, references, any_number=True))
        for true, null in zip(*scored, strict=True):
            measured |= true.entries({"shuffled_brain": null})
    return list(readings(measured))


def _random_judge(generator: np.random.Generator) -> Network:
    """Return a network that sees a coarse picture and projects it at random."""
    weights = generator.normal(size=(3 * 6 * 6, UNITS))

    def judge(images: np.ndarray, layers: Sequence[str]) -> dict[str, np.ndarray]:
        places = np.linspace(0, images.shape[-1] - 1, 6).astype(int)
        coarse = images[:, :, places][..., places].reshape(len(images), -1)
        return dict.fromkeys(layers, coarse @ weights)

    return judge


JOBS: dict[str, Callable[[Case, int], list[Reading]]] = {
    "encode": encode,
    "samples": samples,
    "classes": labels,
    "numbers": labels,
    "spaces": spaces,
    "decode": decode,
    "rank": rank,
    "rsa": rsa,
    "reconstruct": reconstruct,
    "presets": presets,
}

NOISE = [
    *(Case("encode", folds, items) for folds, items in
      [(1, 30), (1, 100), (1, 1000), (2, 20), (2, 100), (5, 20), (5, 100), (5, 1000), (10, 40),
       (10, 100), (20, 40), (20, 200)]),
    *(Case("encode", folds, 100, seeds=3) for folds in (2, 5, 10)),
    *(Case("encode", folds, items, kind) for kind in ("repeats", "single trials")
      for folds, items in ((1, 60), (5, 60))),
    Case("encode", 1, 600, "time"), Case("encode", 5, 600, "time"),
    Case("encode", 8, 5, "conditions"),
    Case("samples", 5, 300, "samples"), Case("samples", 3, 150, "samples"),
    Case("samples", 8, 320, "runs"),
    *(Case("classes", folds, items) for folds, items in ((1, 90), (5, 60), (5, 150), (10, 150))),
    Case("classes", 8, 192, "runs"),
    *(Case("numbers", folds, items) for folds, items in ((1, 90), (5, 60), (5, 200))),
    Case("numbers", 5, 300, "samples"),
    Case("spaces", 1, 60), Case("spaces", 1, 300), Case("spaces", 1, 60, "single trials"),
    *(Case("decode", folds, items) for folds, items in
      [(1, 60), (1, 300), (2, 40), (5, 40), (5, 100), (10, 100), (20, 100), (5, 300)]),
    *(Case("decode", folds, 100, seeds=3) for folds in (2, 5, 10)),
    *(Case("decode", folds, 60, "single trials") for folds in (1, 5)),
    Case("rank", 1, 90), Case("rank", 1, 300),
    Case("rsa", 1, 20), Case("rsa", 1, 60),
    Case("reconstruct", 1, 90), Case("reconstruct", 3, 60),
    Case("presets", 1, 12), Case("presets", 1, 60),
]  # fmt: skip
SIGNAL = [
    *(Case("encode", folds, items, signal=signal) for signal in (0.05, 0.4)
      for folds, items in ((1, 60), (1, 300), (2, 100), (5, 100), (10, 100), (5, 400))),
    Case("encode", 5, 100, seeds=3, signal=0.4), Case("encode", 8, 5, "conditions", signal=0.3),
    *(Case("decode", folds, items, signal=0.6) for folds, items in
      ((1, 90), (5, 100), (10, 100), (5, 300))),
]  # fmt: skip


def quiet() -> None:
    """Run one thread a process, without progress and without the warnings of small numbers."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["TQDM_DISABLE"] = "1"


def measure(case: Case, seed: int) -> list[Reading]:
    """Run a job once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return JOBS[case.job](case, seed)


def summarise(case: Case, runs: list[list[Reading]]) -> list[dict[str, Any]]:
    """Sum the readings of all runs up, a row a metric."""
    by_metric: dict[str, list[list[Reading]]] = {}
    for run in runs:
        here: dict[str, list[Reading]] = {}
        for one in run:
            here.setdefault(one.metric, []).append(one)
        for name, several in here.items():
            by_metric.setdefault(name, []).append(several)
    return [row(case, name, each) for name, each in by_metric.items()]


def row(case: Case, name: str, runs: list[list[Reading]]) -> dict[str, Any]:
    """Return the row of one metric: readings of one run are averaged, runs are independent."""
    summary: dict[str, Any] = {
        "job": case.job, "metric": name, "folds": case.folds, "items": case.items,
        "dependence": case.dependence, "fold seeds": case.seeds, "runs": len(runs),
    }  # fmt: skip
    if case.signal:
        summary["signal"] = case.signal
    p = np.array([np.mean(np.concatenate([one.p for one in run]) <= 0.05) for run in runs
                  if any(one.p for one in run)])  # fmt: skip
    if len(p):
        error = max(p.std(ddof=1), np.sqrt(0.05 * 0.95) / len(runs[0][0].p)) / np.sqrt(len(p))
        summary |= {"type I": p.mean(), "type I error": error}
        summary["in line"] = p.mean() - 0.05 <= 3 * error
        summary["below"] = p.mean() - 0.05 < -3 * error
        return summary
    values = np.array([np.mean([one.value for one in run]) for run in runs])
    truth = values.mean() if case.signal else runs[0][0].chance
    error = values.std(ddof=1) / np.sqrt(len(values))
    summary |= {"mean": values.mean() - (0 if case.signal else truth), "error": error}
    in_line = bool(case.signal) or abs(values.mean() - truth) <= 3 * error + 1e-9
    covered = np.array([
        np.mean([one.ci[0] - 1e-9 <= truth <= one.ci[1] + 1e-9 for one in run if one.ci])
        for run in runs if any(one.ci for one in run)
    ])  # fmt: skip
    if len(covered):
        spread = max(covered.std(ddof=1), np.sqrt(0.05 * 0.95)) / np.sqrt(len(covered))
        few = any(one.few for run in runs for one in run)
        summary |= {"coverage": covered.mean(), "coverage error": spread, "few": few}
        in_line = in_line and (few or covered.mean() >= 0.95 - 3 * spread)
    summary["in line"] = in_line
    return summary


def as_table(rows: list[dict[str, Any]]) -> str:
    """Write rows as a table in Markdown."""
    header = ["job", "metric", "folds", "items", "dependence", "fold seeds", "runs"]
    signal = any("signal" in one for one in rows)
    header += ["signal"] * signal
    header += ["mean ± error" if signal else "mean − chance ± error", "type I", "coverage", ""]
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for one in rows:
        mean = f"{one['mean']:+.4f} ± {one['error']:.4f}" if "mean" in one else ""
        rate = f"{one['type I']:.3f} ± {one['type I error']:.3f}" if "type I" in one else ""
        few = " †" if one.get("few") else ""
        cover = ""
        if "coverage" in one:
            cover = f"{one['coverage']:.3f} ± {one['coverage error']:.3f}{few}"
        cells = [one["job"], f"`{one['metric']}`", one["folds"], one["items"], one["dependence"]]
        cells += [one["fold seeds"], one["runs"], *([one["signal"]] if signal else [])]
        note = "below" if one.get("below") else ""
        cells += [mean, rate, cover, note if one["in line"] else "**outside**"]
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is asked for and print, or write, the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200, help="runs of each case (default 200)")
    parser.add_argument("--only", nargs="+", choices=list(JOBS), help="these jobs alone")
    parser.add_argument("--signal", action="store_true", help="intervals of what is not noise")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--out", type=Path, help="write the table to a Markdown file")
    given = parser.parse_args()
    quiet()
    cases = [c for c in (SIGNAL if given.signal else NOISE) if c.job in (given.only or JOBS)]
    rows: list[dict[str, Any]] = []
    for case in cases:
        begun = time.monotonic()
        runs = max(10, given.runs // 10) if case.job == "reconstruct" else given.runs
        parts = Parallel(n_jobs=given.workers)(delayed(measure)(case, seed) for seed in range(runs))
        here = summarise(case, list(parts))
        rows += here
        print(f"{case} {time.monotonic() - begun:.0f} s", flush=True)
        print(as_table(here), flush=True)
    measured = {metric_of(one["metric"]).id for one in rows if ":" not in one["metric"]}
    lacking = sorted(set(METRICS.builtin) - measured) if not given.signal and not given.only else []
    outside = sum(not one["in line"] for one in rows)
    said = f"{len(rows)} rows, {outside} of them outside three standard errors."
    said += f" Not measured: {', '.join(lacking)}." if lacking else ""
    print(said)
    if given.out:
        command = f"python scripts/calibrate.py --runs {given.runs}{' --signal' * given.signal}"
        kinds = "\n".join(f"- *{name}*: {what}." for name, what in DEPENDENCE.items())
        text = f"Made by `{command}`. {said}\n\n{kinds}\n\n{as_table(rows)}\n"
        write_text(given.out, text)


if __name__ == "__main__":
    main()
