"""The shipped in-context encoder: small, described, and better than ridge where it should be."""

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from tiny_models import in_context, in_context_card
from tiny_models.in_context import Variant

from brainkit.arrays.files import share_folder
from brainkit.encoding import VoxelwiseRidge
from brainkit.encoding.in_context import InContextEncoder
from brainkit.errors import InputError, LeakError
from brainkit.evaluation import pearson_r

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
TINY = share_folder("models") / "tiny"
FOLDER = TINY / "in-context"
FOLDERS = {"tiny": FOLDER, "tiny-published": TINY / "in-context-published"}
COMPARED = (*range(10), *range(31, 40))  # the seeds of the worlds that encoders are compared on


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    """A subject of a world that neither trained the network nor stands in its card."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_context, "DENSITY", 0.3)
        found = in_context.people(tmp_path_factory.mktemp("work"), 131, [3], scenes=500)
    return found[0]


def test_it_is_small_and_in_half_precision():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".md"}
    assert sum(path.stat().st_size for path in files) <= 3e6
    with safe_open(FOLDER / "model.safetensors", framework="pt") as weights:
        kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
    assert kinds == {"F16"}


def test_its_size_and_what_it_learned_from():
    network, origin = InContextEncoder.from_pretrained("tiny").open()
    assert network.architecture.layers >= 4
    assert network.architecture.width >= 128
    assert origin.embedding_model == "open_clip:tiny"
    worlds = {int(name.split("/")[0].removeprefix("world-")) for name in origin.subjects}
    assert worlds == set(in_context.TRAINING)
    assert not worlds & {*COMPARED, in_context.VALIDATION, *in_context.TEST}


def test_the_card_holds_the_figures_of_the_scores():
    scores = json.loads((FOLDER / "scores.json").read_text())
    card = (FOLDER / "README.md").read_text()
    assert "## Limits" in card
    for measure, score in scores.items():
        assert measure.replace("_", " ") in card
        assert f"{score['value']:.3f}" in card


def test_the_figures_reach_what_they_should():
    scores = json.loads((FOLDER / "scores.json").read_text())
    assert scores["category_r_from_100_images_difference"]["ci"][0] > 0
    assert scores["category_r_from_30_images_difference"]["ci"][0] > 0


@pytest.mark.slow
def test_from_100_images_of_a_new_subject_it_beats_ridge_on_the_same_in_category_regions(person):
    subject, category = person.subject, person.kind == "category"
    noise = np.random.default_rng(0).standard_normal((100, len(category)))
    X, Y = subject.embeddings[:100], subject.responses[:100] + noise * subject.noise / np.sqrt(3)
    new, truth = subject.embeddings[100:], subject.responses[100:].astype(np.float32)
    encoder = InContextEncoder.from_pretrained("tiny").fit(X, Y, subject=person.name)
    ridge = VoxelwiseRidge(np.logspace(-2, 4, 13)).fit(X, Y)
    ours, theirs = (
        np.nan_to_num(np.asarray(pearson_r(truth, model.predict(new)))[category])
        for model in (encoder, ridge)
    )
    assert np.mean(ours - theirs) > 0.02
    attention = encoder.attention(np.flatnonzero(category)[:20])
    # Images are told apart: the tenth that is attended to most gets more than a tenth.
    assert np.sort(attention, axis=1)[:, -10:].sum(axis=1).mean() > 0.15


def test_a_subject_that_it_learned_from_is_refused():
    encoder = InContextEncoder.from_pretrained("tiny")
    X = np.random.default_rng(0).standard_normal((20, 256))
    with pytest.raises(LeakError, match="world-101/subject-1 is to be predicted"):
        encoder.fit(X, X[:, :2], subject="world-101/subject-1", embedding_model="open_clip:tiny")


def test_embeddings_of_another_model_are_refused():
    X = np.random.default_rng(0).standard_normal((50, 256))
    with pytest.raises(InputError, match="do not look like those of open_clip:tiny"):
        InContextEncoder.from_pretrained("tiny").fit(X, X[:, :2])
    with pytest.raises(InputError, match="embeddings of 256 numbers"):
        InContextEncoder.from_pretrained("tiny").fit(X[:, :100], X[:, :2])


def test_a_longer_support_set_warns():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((260, 256))
    with pytest.warns(UserWarning, match="260 images; the network was trained with 20 to 200"):
        InContextEncoder().fit(X, X[:, :1], embedding_model="open_clip:tiny")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        InContextEncoder().fit(X[:200], X[:200, :1], embedding_model="open_clip:tiny")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["product", "published"])
def test_it_is_trained_scored_and_described(tmp_path, monkeypatch, form):
    variant = Variant(form)
    brief = [
        replace(
            stage,
            schedule=replace(stage.schedule, steps=1, warmup=0),
            context=(4, 8),
            n_voxels=2,
            n_query=5,
        )
        for stage in in_context.STAGES
    ]
    settings = {"STAGES": brief, "DENSITY": 0.02, "TRAINING": (101,), "LEARNED": range(1, 2)}
    for name, value in settings.items():
        monkeypatch.setattr(in_context, name, value)
    monkeypatch.setattr(in_context, "VALIDATION", 102)
    for module in (in_context, in_context_card):
        monkeypatch.setattr(module, "WATCHED", range(1, 3))
    for name, value in {"TEST": (102,), "SIZES": (8,), "STAGES": brief}.items():
        monkeypatch.setattr(in_context_card, name, value)
    out, work = tmp_path / "out", tmp_path / "work"
    reports = in_context.make(out, work, 40, variant=variant)
    assert [report.steps for report in reports] == [1, 1, 1]
    again = in_context.make(out, work, 40, variant=variant)
    assert [report.seconds for report in again] == [report.seconds for report in reports]
    others = in_context.make(tmp_path / "other", work, 44, variant=variant)  # of other scenes
    assert [report.seconds for report in others] != [report.seconds for report in reports]
    scores = in_context_card.score(out, work, 40, variant)
    in_context_card.write_card(out, work, scores, variant)
    folder = out / variant.name
    card = (folder / "README.md").read_text()
    assert "category difference from 8 images without shared tuning" in card
    assert "subjects: 1 steps of 4 voxels" in card
    assert f"the {form}\nform with a dropout of {0 if form == 'product' else 0.5}" in card
    assert InContextEncoder.from_pretrained(folder).open()[0].architecture.form == form
    beside = in_context_card.against(folder, tmp_path / "other" / variant.name, work, 40)
    assert beside["early_r_from_8_images"]["value"] == scores["early_r_from_8_images"]["value"]
    same = in_context_card.against(folder, folder, work, 40)
    assert same["early_r_from_8_images_difference"]["ci"] == [0, 0]


def test_networks_and_people_of_other_versions_have_other_names():
    names = {Variant(form, brain).name for form in ("product", "published") for brain in (1, 2)}
    assert names == {
        "in-context", "in-context-published", "in-context-brain-2", "in-context-published-brain-2",
    }  # fmt: skip
    assert 1 in in_context.known_versions()


def test_a_version_of_the_brain_that_is_not_there_is_told():
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "train_in_context.py"), "--score", "--test-brain", "77"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "there is no brain of version 77; there are [1" in done.stderr
