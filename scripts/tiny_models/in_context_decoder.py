"""The in-context decoder: three stages, on voxels of simulated people of worlds of their own.

Worlds are told apart by their seeds. Those below are in no training of the in-context encoder, so
that the weights it writes for their people are as good, or as bad, as those of anybody new. A
person is read from several support sets, by the encoder and by ridge regression, and what was read
is kept.
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from brainkit.arrays.atomic import atomic_path, plain, write_json, write_text
from brainkit.arrays.progress import track
from brainkit.arrays.seeds import rng
from brainkit.decoding import InContextDecoder
from brainkit.decoding.voxel_sets import (
    DecodingStage,
    PeopleSets,
    Reading,
    SyntheticSets,
    read_person,
    train_decoding_stage,
)
from brainkit.decoding.voxel_transformer import (
    DecoderArchitecture,
    DecoderOrigin,
    VoxelTransformer,
    load_decoder,
    save_decoder,
)
from brainkit.encoding import InContextEncoder, VoxelwiseRidge
from brainkit.evaluation import bootstrap_ci, bootstrap_difference
from brainkit.evaluation.identification import (
    RETRIEVAL_DIRECTIONS,
    first_among,
    retrieval_contest,
)
from brainkit.features.weights import weights_hash
from brainkit.reconstruction import EmbeddingDecoder
from brainkit.training import Report, Schedule
from brainkit.training.set_networks import Subject, check_excluded
from tiny_models import in_context
from tiny_models.cards import _row

NAME = "in-context-decoder"
REPORTS = f"{NAME}.json"
PAINTED = tuple(range(141, 147))  # worlds whose scenes are the images of synthetic voxels
TRAINING, VALIDATION = tuple(range(141, 145)), 149
LEARNED, WATCHED = range(1, 5), range(1, 3)  # people of the training worlds, and of the other
ENCODER = {"estimator": "brainkit.encoding:InContextEncoder", "parameters": {"checkpoint": "tiny"}}
ALPHAS = tuple(float(alpha) for alpha in np.logspace(-2, 4, 13))
# Encoders that read people for the training: support images, and support sets of each person.
READERS: dict[str, tuple[Any, tuple[int, int], int]] = {
    "in-context": (InContextEncoder("tiny", device="cpu"), (30, 200), 1),
    "ridge": (VoxelwiseRidge(ALPHAS), (30, 700), 4),
}


ARCHITECTURE = DecoderArchitecture(embedding=256, width=128, layers=2, heads=4, hidden=256)
FIRST = Schedule(
    steps=100,
    learning_rate=1e-3,
    final=0.5,
    warmup=30,
    weight_decay=0.02,
    seed=43,
    checkpoint_every=50,
    validate_every=50,
)
STAGES = (
    DecodingStage("synthetic", FIRST, (200, 200)),
    DecodingStage("voxels", replace(FIRST, steps=50), (200, 1000), n_tokens=4096),
    DecodingStage(
        "people",
        replace(FIRST, steps=600, final=0.02, average=0.99, validate_every=100),
        (200, 1000),
        n_tokens=4096,
    ),
)


# -- people, and what encoders read of them --------------------------------------------------------


@dataclass(frozen=True)
class Read:
    """People by name, and what encoders read of them."""

    people: dict[str, Subject]
    readings: list[Reading]


def read_worlds(
    work: Path, seeds: Sequence[int], numbers: Sequence[int], scenes: int, brain: int = 1
) -> Read:
    """Return the people of some worlds and their readings, made once and kept in `work`."""
    found, readings = {}, []
    persons = [
        one for seed in seeds for one in in_context.people(work, seed, numbers, scenes, brain=brain)
    ]
    for one in track(persons, "people read"):
        subject = one.subject
        person = Subject(subject.embeddings, subject.responses, subject.noise)
        found[one.name] = person
        for reader in READERS:
            readings += _kept(work, one.name, person, reader)
    return Read(found, readings)


def _kept(work: Path, name: str, person: Subject, reader: str) -> list[Reading]:
    """Return the readings of a person by one encoder, from a file where they are there."""
    encoder, (low, high), n_sets = READERS[reader]
    known = weights_hash(encoder.open()[0])[:8] if hasattr(encoder, "open") else "0"
    stem = f"{name.replace('/', '-')}-{len(person.embeddings)}-{person.responses.shape[1]}"
    path = work / "readings" / f"{stem}-{reader}-{known}-{low}-{high}-{n_sets}.npz"
    if not path.is_file():
        generator = rng(0, "readings", name, reader)
        made = []
        for _ in range(n_sets):
            n_support = round(float(np.exp(generator.uniform(np.log(low), np.log(high)))))
            made.append(asdict(read_person(name, person, encoder, n_support, generator)))
        columns = [key for key in made[0] if key != "person"]
        arrays = {f"{n}-{key}": one[key] for n, one in enumerate(made) for key in columns}
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)
    with np.load(path, allow_pickle=False) as held:
        arrays = dict(held)
    parts: list[dict[str, Any]] = [{} for _ in range(n_sets)]
    for key, values in arrays.items():
        number, _, column = key.partition("-")
        parts[int(number)][column] = values
    return [Reading(name, **one) for one in parts]


# -- training --------------------------------------------------------------------------------------


def stages(longer: float = 1.0) -> list[DecodingStage]:
    """Return the stages with so many times their steps."""
    return [
        replace(stage, schedule=replace(stage.schedule, steps=round(longer * stage.schedule.steps)))
        for stage in STAGES
    ]


def fit(
    work: Path, scenes: int = in_context.SCENES, longer: float = 1.0
) -> tuple[VoxelTransformer, DecoderOrigin, list[Report]]:
    """Train the network in its three stages; an interrupted run goes on where it was."""
    embeddings = np.concatenate(
        [in_context.people(work, seed, LEARNED[:1], scenes)[0].subject.embeddings
         for seed in PAINTED]
    )  # fmt: skip
    torch.manual_seed(FIRST.seed)
    network = VoxelTransformer(ARCHITECTURE)
    network.set_space(torch.from_numpy(embeddings))
    synthetic, states, reports = SyntheticSets(embeddings), work / "states-decoder", []
    *first, last = stages(longer)
    for stage in first:
        reports.append(
            train_decoding_stage(network, synthetic, stage, validation=synthetic, folder=states)
        )
    learned = read_worlds(work, TRAINING, LEARNED, scenes)
    watched = read_worlds(work, [VALIDATION], WATCHED, scenes)
    check_excluded(watched.people, learned.people)
    reports.append(
        train_decoding_stage(
            network,
            PeopleSets(learned.people, learned.readings),
            last,
            validation=PeopleSets(watched.people, watched.readings, repeats=(3, 3)),
            folder=states,
        )
    )
    contexts = [context for _, context, _ in READERS.values()]
    origin = DecoderOrigin(
        embedding_model=in_context.EMBEDDING_MODEL,
        encoder=ENCODER,
        context=(min(low for low, _ in contexts), max(high for _, high in contexts)),
        voxels=last.voxels,
        subjects=tuple(learned.people),
        training={
            stage.name: {"steps": report.steps, "retrieval_top1_of_100": report.scores[-1][1]}
            for stage, report in zip(STAGES, reports, strict=True)
        },
    )
    return network, origin, reports


def make(
    out: Path, work: Path, scenes: int = in_context.SCENES, longer: float = 1.0
) -> list[Report]:
    """Train the network, write it, and keep the stages' reports in `work`."""
    network, origin, reports = fit(work, scenes, longer)
    save_decoder(network, origin, out / NAME, dtype="float16")
    write_json(work / REPORTS, [asdict(report) for report in reports])
    return reports


# -- scores and card -------------------------------------------------------------------------------

TEST = in_context.TEST  # worlds whose people neither the encoder nor the decoder learned from
TRIED = range(1, 2)  # people of each
SIZES, REPEATS, ASKED, GALLERY, VOXELS = (50, 200), 3, 700, 300, 1000
RIDGE = "brainkit.encoding:VoxelwiseRidge"
PENALTIES = tuple(float(alpha) for alpha in np.geomspace(100, 1e6, 9))
Scores = dict[str, Any]
LIMITS = (
    "Trained on people of the simulated world alone, and on the embedding of the tiny CLIP: with "
    "another model's embeddings, or a real brain's responses, what it writes means nothing. It "
    "exists so that every part of brainkit runs, is tested and is shown without a download. For "
    "research, train one on people of your own: `brainkit.decoding.voxel_sets`."
)
ABOUT = """# Tiny in-context decoder

Reads voxels' weights and their responses to an image, and writes the image's embedding: {layers}
blocks of width {width}, {heads} heads, {registers} registers of which {read} are read, {weights:,}
weights in half precision, the {form} form (`brainkit.decoding.voxel_transformer`); for the image
embedding of `open_clip:tiny` (256 numbers), {few} to {many} voxels and {low} to {high} support
images.

```python
from brainkit.decoding import InContextDecoder

decoder = InContextDecoder("tiny").fit(responses, embeddings)
decoded = decoder.predict(new_responses)
```
"""


def inverse_alone(models: Path, work: Path) -> Path:
    """Write the network with nothing learned in its readout, and return its folder.

    What is left is the inverse of the encoder, with which it begins.
    """
    network, origin = load_decoder(models / NAME)
    for part in (network.readout.second, network.readout.bypass):
        for parameter in part.parameters():
            parameter.zero_()
    return save_decoder(network, origin, work / "inverse-alone")


def decoders(models: Path) -> dict[str, Any]:
    """Return the decoders that are scored: ours by either encoder's weights, and a rival."""
    folder = str(models / NAME)
    return {
        "in-context weights": InContextDecoder(folder, max_voxels=VOXELS, cv=2, device="cpu"),
        "ridge weights": InContextDecoder(folder, RIDGE, max_voxels=VOXELS, cv=2, device="cpu"),
        "ridge decoder": EmbeddingDecoder(PENALTIES, cv=3, spread="whole"),
    }


def with_network(fitted: InContextDecoder, folder: Path) -> InContextDecoder:
    """Return a fitted decoder that reads the same weights by another network."""
    twin = copy.copy(fitted).set_params(network=str(folder))
    twin.network_hash_ = weights_hash(twin.open()[0])
    return twin


def score(models: Path, work: Path, scenes: int = in_context.SCENES, brain: int = 1) -> Scores:
    """Measure the network on a person of each test world, of any version of the brain."""
    rivals, bare, found = decoders(models), inverse_alone(models, work), {}
    persons = [
        one for seed in TEST for one in in_context.people(work, seed, TRIED, scenes, brain=brain)
    ]
    for n_support in SIZES:
        for direction, kept in _retrieved(rivals, bare, persons, n_support).items():
            stem = f"{direction}_top1_from_{n_support}_images"
            held = {name: np.concatenate(parts) for name, parts in kept.items()}
            for name, values in held.items():
                found[f"{stem}_by_{name}"] = _interval(bootstrap_ci(values))
            for name in ("in-context weights", "ridge weights"):
                found[f"{stem}_by_{name}_less_ridge_decoder"] = _interval(
                    bootstrap_difference(held[name], held["ridge decoder"])
                )
    return found


def _retrieved(
    rivals: dict[str, Any], bare: Path, persons: Sequence[in_context.Person], n_support: int
) -> dict[str, dict[str, list[Any]]]:
    """Return by direction and decoder what share of galleries each image is first in."""
    alone = {f"inverse alone, {name}": name for name in rivals if name != "ridge decoder"}
    kept: dict[str, dict[str, list[Any]]] = {
        way: {name: [] for name in (*rivals, *alone, "images exchanged")}
        for way in RETRIEVAL_DIRECTIONS
    }
    for one in track(persons, f"{n_support} images"):
        person = Subject(one.subject.embeddings, one.subject.responses, one.subject.noise)
        generator = rng(0, "support", one.name, n_support)
        order = generator.permutation(len(person.embeddings))
        shown, asked = order[:n_support], order[ASKED:]
        every = slice(None)
        responses, new = (
            person.measured(generator, rows, every, (REPEATS, REPEATS)) for rows in (shown, asked)
        )
        Z, true = person.embeddings[shown], person.embeddings[asked]
        fitted = {name: _fitted(model, responses, Z, one.name) for name, model in rivals.items()}
        fitted |= {name: with_network(fitted[of], bare) for name, of in alone.items()}
        exchanged = Z[rng(0, "exchanged", one.name).permutation(len(Z))]
        fitted["images exchanged"] = _fitted(
            rivals["ridge weights"], responses, exchanged, one.name
        )
        for name, model in fitted.items():
            predicted, standard = model.predict_standardised(new), model.standardise(true)
            for way, by_name in kept.items():
                contest = retrieval_contest(predicted, standard, way, score=first_among(GALLERY))
                by_name[name].append(np.asarray(contest.scores))
    return kept


def _fitted(model: Any, responses: Any, embeddings: Any, name: str) -> Any:
    twin = clone(model)
    known = {"subject": name} if isinstance(model, InContextDecoder) else {}
    return twin.fit(responses, embeddings, **known)


def _interval(found: Any) -> Scores:
    return {"value": found.value, "ci": [found.low, found.high], "n": found.n}


def write_card(models: Path, work: Path, scores: Scores) -> None:
    """Write ``scores.json`` and ``README.md`` beside the network."""
    folder = models / NAME
    reports = json.loads((work / REPORTS).read_text(encoding="utf-8"))
    write_json(folder / "scores.json", plain(scores))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    origin = config["origin"]
    (low, high), (few, many) = origin["context"], origin["voxels"]
    sizes = {"low": low, "high": high, "few": few, "many": many}
    weights = sum(reports[-1]["trained"].values())
    lines = [ABOUT.format(**config["architecture"], **sizes, weights=weights), "## Training", ""]
    for stage, report in zip(STAGES, reports, strict=True):
        voxels = " to ".join(f"{n:,}" for n in dict.fromkeys(stage.voxels))
        lines.append(
            f"- {stage.name}: {report['steps']:,} steps of up to {stage.n_trials} trials of "
            f"{voxels} voxels, {report['seconds'] / 60:.0f} minutes on a core shared with other "
            f"work; top-1 of 100 on the way {report['scores'][-1][1]:.2f}"
        )
    worlds = sorted({name.split("/")[0] for name in origin["subjects"]})
    readers = "; ".join(
        f"{n_sets} support sets of {low} to {high} images by {type(encoder).__name__}"
        for encoder, (low, high), n_sets in READERS.values()
    )
    lines += [
        "",
        f"On {len(origin['subjects'])} simulated people of `brainkit.world`, brain version 1, "
        f"worlds {', '.join(worlds)}, none of whom the in-context encoder learned from. Each was "
        f"read from {readers}; the noise of one to three trials is added to responses anew at each "
        f"step. World {VALIDATION} was looked at on the way; images of synthetic voxels are scenes "
        f"of the worlds {', '.join(map(str, PAINTED))}. Fixed seeds; rerun with "
        "`python scripts/train_in_context_decoder.py`.",
        "",
        "## Scores",
        "",
        f"Top-1 retrieval among {GALLERY} by the cosine of standardised embeddings, for a person "
        f"of each of the worlds {', '.join(map(str, TEST))}, which are in no training; all "
        f"responses are means of {REPEATS} trials with independent noise, and {VOXELS:,} voxels "
        "are read. The ridge decoder learned from the same images and all voxels. "
        "*Inverse alone* is the network with nothing learned: the expectation of the image given "
        "the weights. *Images exchanged* is the null: ridge weights from responses to other "
        "images. 95 % intervals by bootstrap over the images of these people, who stand for "
        "themselves. Rerun with "
        "`python scripts/train_in_context_decoder.py --score`.",
        "",
        "| measure | value | interval | images |",
        "|---|---|---|---|",
    ]
    lines += [_row(measure, value) for measure, value in scores.items()]
    lines += ["", "## Limits", "", LIMITS, "", "Licence: that of brainkit.", ""]
    write_text(folder / "README.md", "\n".join(lines))
