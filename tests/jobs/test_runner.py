"""Metrics over subjects, what a manifest says, and estimators that know their units."""

import json
import math
import subprocess

import numpy as np
import pandas as pd
import pytest

import brainkit
from brainkit import Recording, save_estimator
from brainkit.data.cards import read_card
from brainkit.data.stimuli import Stimuli
from brainkit.decoding import RidgeDecoder
from brainkit.encoding import VoxelwiseRidge
from brainkit.errors import InputError
from brainkit.features import PixelPCA
from brainkit.jobs import read_recipe, run_job, run_recipe
from brainkit.jobs.pipeline import ImageDecoder, ImageEncoder, Preparation
from brainkit.jobs.run_folder import save_result
from brainkit.jobs.runner import collect_metrics, predict_run
from brainkit.recipes import manifest as module
from brainkit.recipes.manifest import LIBRARIES, describe_run, git_state


def entry(value, **nulls):
    return {"value": value, "n": 10, "nulls": nulls, "preset": "p", "ci": [0.0, 1.0]}


def test_metrics_of_one_subject_are_its_own():
    given = {"encoding_r": {**entry(np.float32(0.5), a=np.nan), "by_roi": {"V1": np.float64(0.1)}}}
    collected = collect_metrics({"s1": given})
    assert collected["encoding_r"]["value"] == 0.5
    assert collected["encoding_r"]["nulls"] == {"a": None}
    assert collected["encoding_r"]["by_roi"] == {"V1": 0.1}
    json.dumps(collected, allow_nan=False)


def test_metrics_of_several_are_means_beside_each():
    by_subject = {
        "s1": {"m": entry(0.2, a=0.0, b=1.0), "only": entry(3.0)},
        "s2": {"m": entry(0.4, a=0.5)},
        "s3": {"m": entry(math.nan, a=math.nan)},
    }
    collected = collect_metrics(by_subject)
    assert collected["m"]["value"] == pytest.approx(0.3)
    assert collected["m"]["nulls"] == {"a": 0.25, "b": 1.0}
    assert collected["m"]["n"] == 3
    assert collected["m"]["preset"] == "p"
    assert "ci" not in collected["m"]
    assert collected["m"]["by_subject"]["s1"]["value"] == 0.2
    assert collected["m"]["by_subject"]["s3"]["value"] is None
    assert list(collected["only"]["by_subject"]) == ["s1"]
    json.dumps(collected, allow_nan=False)


def test_nothing_finite_is_null():
    collected = collect_metrics({s: {"m": entry(math.nan)} for s in ("s1", "s2")})
    assert collected["m"]["value"] is None


def test_units_of_no_region_and_no_ceiling_are_drawn_together():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 4, 4), dtype=np.uint8)
    responses = images.reshape(60, -1) / 255 + 0.1 * rng.normal(size=(60, 16))
    recording = brainkit.Recording.from_arrays(responses, stimuli=images)
    changes = ["features.0.settings.n_components=15", "protocol.permutations=0"]
    recipe = read_recipe("encode-pixel-components", [*changes, "protocol.seeds=[0]"])
    result = run_recipe(recording, recipe)
    assert result.metrics["encoding_r"]["value"] > 0.85  # √(signal / all variance) is .94
    assert result.metrics["encoding_r"]["by_roi"] == {}
    (section,) = [one for one in result.sections if one.heading.startswith("Encoding")]
    shown = "".join(str(widget.html()) for widget in section.widgets)
    assert "Distribution of r by region" in shown
    assert "No region has units" in shown


def test_manifest(tmp_path):
    found = describe_run(
        job="encode",
        card=read_card("nsd"),
        root=tmp_path,
        recipe={"name": "x"},
        options={"mask": "V1"},
        subjects={"s1": {}},
    )
    assert found["brainkit"] == brainkit.__version__
    assert found["root"] == str(tmp_path)
    assert found["command"] is None  # this is not the command line
    assert set(found["versions"]) == {"python", "brainkit", *LIBRARIES}
    assert found["versions"]["numpy"] == np.__version__
    assert found["licence"] == "NSD Terms and Conditions"
    json.dumps(found, allow_nan=False)


def test_git_state(repository, monkeypatch):
    if not (repository / ".git").exists():
        pytest.skip("not a checkout")
    head = subprocess.run(
        ["git", "-C", str(repository), "rev-parse", "HEAD"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert git_state()["commit"] == head

    def absent(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(module.subprocess, "run", absent)
    assert git_state() is None


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    images = rng.random((30, 8, 8)).astype(np.float32)
    responses = rng.normal(size=(30, 5)).astype(np.float32)
    usable = np.array([True, False, True, True, False])
    return images, responses, usable


def test_an_encoder_predicts_nan_for_units_left_out(parts, tmp_path):
    images, responses, usable = parts
    features = PixelPCA(4).fit(images)
    model = VoxelwiseRidge(alphas=(1.0, 10.0)).fit(features.transform(images), responses[:, usable])
    encoder = ImageEncoder(features, model, usable)
    predicted = encoder.predict(images[:6])
    assert predicted.shape == (6, 5)
    assert np.isnan(predicted[:, ~usable]).all()
    expected = model.predict(features.transform(images[:6]))
    np.testing.assert_array_equal(predicted[:, usable], expected)
    brainkit.save_estimator(encoder, tmp_path / "estimator")
    modes = {path.stat().st_mode for path in (tmp_path / "estimator").iterdir()}
    assert len(modes) == 1  # a group that may read one file may read the other
    loaded = brainkit.load_estimator(tmp_path / "estimator")
    np.testing.assert_array_equal(loaded.predict(images[:6]), predicted)


def test_a_decoder_takes_all_units(parts, tmp_path):
    images, responses, usable = parts
    features = PixelPCA(4).fit(images)
    decoder = RidgeDecoder(alphas=(1.0, 10.0)).fit(responses[:, usable], features.transform(images))
    whole = ImageDecoder(features, decoder, Preparation(usable))
    changed = responses.copy()
    changed[:, ~usable] = np.nan
    np.testing.assert_array_equal(
        whole.predict_features(changed), decoder.predict(responses[:, usable])
    )
    made = whole.predict(changed[:3])
    assert made.shape == (3, 8, 8)
    expected = features.inverse_transform(decoder.predict(responses[:3, usable]))
    np.testing.assert_allclose(made, np.clip(expected, 0, 1), atol=1e-6)
    brainkit.save_estimator(whole, tmp_path / "estimator")
    again = brainkit.load_estimator(tmp_path / "estimator").predict(changed[:3])
    np.testing.assert_array_equal(again, made)
    with pytest.raises(InputError, match=r"responses \(n, 5\); got \(3, 3\)"):
        whole.predict(responses[:3, usable])
    with pytest.raises(InputError, match="takes a Recording, or responses"):
        whole.predict(responses[0])


def test_what_cannot_predict_is_told_so(tmp_path):
    save_estimator(
        PixelPCA(n_components=2).fit(np.random.default_rng(0).random((6, 4, 4))),
        tmp_path / "run/estimator",
    )
    facts = {
        "brainkit": brainkit.__version__,
        "job": "encode",
        "card": "nsd",
        "subjects": {"a": {}},
    }
    (tmp_path / "run/manifest.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="a PixelPCA, has no predict"):
        predict_run(tmp_path / "run", tmp_path / "out")


def test_epochs_leave_a_score_for_every_time(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.random((40, 4, 4)).astype(np.float32)
    values = rng.normal(size=(40, 3, 6))
    values[:, 0, 2] += 20 * (images[:, 0, 0] - 0.5)
    trials = pd.DataFrame({"stimulus": np.arange(40)})
    recording = Recording.from_arrays(
        values, subject="a", trials=trials, stimuli=Stimuli(images), times=np.arange(6) / 10
    )
    quick = ("features.0.settings.n_components=8", "protocol.seeds=[0]", "protocol.split=kfold:4")
    recipe = read_recipe("encode-pixel-components", (*quick, "protocol.permutations=0"))
    result = run_recipe(recording, recipe)
    save_result(result, recording, tmp_path)
    table = pd.read_parquet(tmp_path / "time_courses.parquet")
    assert len(table) == 18
    best = table.loc[table["r"].idxmax()]
    assert (best["unit"], best["time"]) == (0, pytest.approx(0.2))
    assert result.facts["access"] == "labelled-30"


@pytest.mark.parametrize("name", ["card", "root", "subject"])
def test_reserved_options(name, tmp_path):
    with pytest.raises(InputError, match=f"'{name}' is not an option of a reader"):
        run_job("encode", "nsd", out=tmp_path / "out", root=tmp_path, options={name: "x"})
