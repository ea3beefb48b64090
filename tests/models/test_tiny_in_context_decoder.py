"""The shipped in-context decoder: small, described, and above chance on people it never saw."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from tiny_models import in_context, in_context_decoder

from brainkit.arrays.files import share_folder
from brainkit.decoding import InContextDecoder
from brainkit.encoding.in_context import InContextEncoder
from brainkit.errors import InputError, LeakError
from brainkit.evaluation.identification import RETRIEVAL_DIRECTIONS, first_among, retrieval_contest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
FOLDER = share_folder("models") / "tiny" / "in-context-decoder"
RIDGE = "brainkit.encoding:VoxelwiseRidge"
COMPARED = (*range(10), *range(31, 40), *range(161, 164))  # worlds on which methods are compared


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    """A person of a world that neither trained a network nor stands in a card."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_context, "DENSITY", 0.4)
        return in_context.people(tmp_path_factory.mktemp("work"), 131, [2], scenes=560)[0]


@pytest.fixture(scope="module")
def trials(person):
    """Labelled trials and others: responses and embeddings of both; means of three repeats."""
    subject = person.subject
    noise = np.random.default_rng(0).standard_normal(subject.responses.shape)
    responses = (subject.responses + noise * subject.noise / np.sqrt(3)).astype(np.float32)
    return responses[:200], subject.embeddings[:200], responses[200:], subject.embeddings[200:]


def test_it_is_small_and_in_half_precision():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".md"}
    assert sum(path.stat().st_size for path in files) <= 3e6
    with safe_open(FOLDER / "model.safetensors", framework="pt") as weights:
        kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
    assert kinds == {"F16"}


def test_whom_it_learned_from():
    origin = InContextDecoder().origin
    assert origin.embedding_model == "open_clip:tiny"
    worlds = {int(name.split("/")[0].removeprefix("world-")) for name in origin.subjects}
    assert worlds == set(in_context_decoder.TRAINING)
    assert not worlds & {*COMPARED, in_context_decoder.VALIDATION, *in_context_decoder.TEST}
    # What the encoder writes for them is what it writes for anybody new.
    assert not worlds & {*in_context.TRAINING, in_context.VALIDATION}


def test_the_card_holds_the_figures_of_the_scores():
    scores = json.loads((FOLDER / "scores.json").read_text())
    card = (FOLDER / "README.md").read_text()
    assert "## Limits" in card
    for measure, score in scores.items():
        assert measure.replace("_", " ") in card
        assert f"{score['value']:.3f}" in card


def test_the_figures_are_above_chance_and_those_of_the_null_are_not():
    scores = json.loads((FOLDER / "scores.json").read_text())
    chance = 1 / in_context_decoder.GALLERY
    for direction in RETRIEVAL_DIRECTIONS:
        for n_images in in_context_decoder.SIZES:
            stem = f"{direction}_top1_from_{n_images}_images_by_"
            assert scores[f"{stem}in-context weights"]["ci"][0] > 5 * chance
            assert scores[f"{stem}images exchanged"]["value"] < 3 * chance


def test_it_names_a_new_persons_images_far_above_chance_and_by_exchanged_images_at_chance(trials):
    X, Z, new, true = trials
    model = InContextDecoder(encoder=RIDGE, max_voxels=400, device="cpu").fit(X, Z)
    order = np.random.default_rng(1).permutation(len(Z))
    null = InContextDecoder(encoder=RIDGE, max_voxels=400, device="cpu").fit(X, Z[order])
    for direction in RETRIEVAL_DIRECTIONS:
        ours, exchanged = (
            retrieval_contest(
                one.predict_standardised(new), one.standardise(true), direction,
                score=first_among(300),
            ).estimate.value
            for one in (model, null)
        )  # fmt: skip
        assert ours > 10 / 300
        assert exchanged < 4 / 300


@pytest.mark.slow
def test_by_its_own_encoder_it_is_far_above_chance_too(trials, person):
    X, Z, new, true = trials
    model = InContextDecoder(max_voxels=400, cv=2, device="cpu").fit(X, Z, subject=person.name)
    found = retrieval_contest(
        model.predict_standardised(new), model.standardise(true), "image_from_brain",
        score=first_among(300),
    )  # fmt: skip
    assert found.estimate.value > 10 / 300
    assert model.describe_network(["nobody"])["encoder"] == "InContextEncoder"


def test_people_that_it_or_its_encoder_learned_from_are_refused():
    decoder = InContextDecoder()
    theirs = InContextEncoder.from_pretrained("tiny").origin.subjects
    for name in (decoder.origin.subjects[0], theirs[0]):
        with pytest.raises(LeakError, match=f"{name} is to be predicted"):
            decoder.refuse_people(["nsd/subj01", name])
    decoder.refuse_people(["nsd/subj01", "world-161/subject-4"])


def test_embeddings_of_another_model_are_refused():
    Z = np.random.default_rng(0).standard_normal((50, 256))
    with pytest.raises(InputError, match="do not look like those of open_clip:tiny"):
        InContextDecoder().fit(Z[:, :5], Z)
    with pytest.raises(InputError, match="embeddings of 256 numbers"):
        InContextDecoder().fit(Z[:, :5], Z[:, :100])


@pytest.mark.slow
def test_it_is_trained_scored_and_described(tmp_path, monkeypatch):
    brief = [
        replace(
            stage, schedule=replace(stage.schedule, steps=1, warmup=0), voxels=(4, 8), n_trials=4
        )
        for stage in in_context_decoder.STAGES
    ]
    readers = {
        name: (encoder, (10, 12), 1) for name, (encoder, _, _) in in_context_decoder.READERS.items()
    }
    settings = {
        "STAGES": brief, "READERS": readers, "PAINTED": (141,), "TRAINING": (141,),
        "LEARNED": range(1, 3), "VALIDATION": 142, "TEST": (143,), "SIZES": (20,), "ASKED": 20,
        "GALLERY": 10,
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setattr(in_context_decoder, name, value)
    monkeypatch.setattr(in_context, "DENSITY", 0.02)
    out, work = tmp_path / "out", tmp_path / "work"
    reports = in_context_decoder.make(out, work, 40)
    assert [report.steps for report in reports] == [1, 1, 1]
    again = in_context_decoder.make(out, work, 40)
    assert [report.seconds for report in again] == [report.seconds for report in reports]
    scores = in_context_decoder.score(out, work, 40)
    in_context_decoder.write_card(out, work, scores)
    card = (out / "in-context-decoder" / "README.md").read_text()
    assert "people: 1 steps of up to 4 trials of 4 to 8 voxels" in card
    assert "image from brain top1 from 20 images by inverse alone, ridge weights" in card
    origin = InContextDecoder(str(out / "in-context-decoder")).origin
    assert origin.subjects == ("world-141/subject-1", "world-141/subject-2")
    assert origin.encoder == in_context_decoder.ENCODER


def test_a_version_of_the_brain_that_is_not_there_is_told():
    script = str(SCRIPTS / "train_in_context_decoder.py")
    done = subprocess.run(
        [sys.executable, script, "--score", "--test-brain", "77"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "there is no brain of version 77; there are [1" in done.stderr
