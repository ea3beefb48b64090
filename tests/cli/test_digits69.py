"""The commands on the real recording: one person who looks at handwritten sixes and nines."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

import brainkit

PROGRAM = Path(sys.executable).with_name("brainkit")
AREAS = ["V1d", "V1v", "V2d", "V2v", "V3d", "V3v"]
GRID = (110, 110, 37)
N_VOXELS = 3092
QUICK = ["--set", "protocol.seeds=[0]"]


@pytest.fixture(scope="module")
def root(shared_data):
    return shared_data / "digits69"


@pytest.fixture(scope="module")
def recording(root):
    return brainkit.load("digits69", root)


def command(*arguments):
    """Run the installed program in a process of its own; give its stdout as JSON, and stderr."""
    done = subprocess.run(
        [str(PROGRAM), *map(str, arguments), "--json"],
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    return json.loads(done.stdout), done.stderr


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def encoded(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("encode") / "run"
    return out, *command("encode", "digits69", "--root", root, "--out", out)


@pytest.fixture(scope="module")
def decoded(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("decode") / "run"
    return out, *command("decode", "digits69", "--root", root, "--out", out)


@pytest.fixture(scope="module")
def ranked(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("synthesize") / "run"
    return out, *command("synthesize", "digits69", "--root", root, "--out", out)


# -------------------------------------------------------------------------------------- encoding


@pytest.mark.slow
def test_encode_meets_its_numbers(encoded):
    out, metrics, _ = encoded
    assert metrics == read(out / "metrics.json")
    count = metrics["encoding_units_r_above_0.3"]
    assert count["value"] >= 680
    assert len(count["by_seed"]) == 5
    assert min(count["by_seed"]) >= 680
    assert count["nulls"]["shuffled_features"] < 60
    assert metrics["encoding_r"]["n"] == N_VOXELS
    assert list(metrics["encoding_r"]["p_by_roi"]) == AREAS
    assert max(metrics["encoding_r"]["p_by_roi"].values()) <= 0.05
    low, high = metrics["encoding_r"]["ci"]
    assert 0 < low < metrics["encoding_r"]["value"] < high


@pytest.mark.slow
def test_encode_writes_its_tables(encoded, recording):
    out, metrics, _ = encoded
    units = pd.read_parquet(out / "units.parquet")
    assert len(units) == N_VOXELS
    assert (units["status"] == "fitted").all()
    assert units["ceiling"].isna().all()  # no image was shown twice
    assert units["r"].mean() == pytest.approx(metrics["encoding_r"]["value"], abs=1e-6)
    for area in AREAS:
        inside = recording.roi_mask(area)
        assert units["r"][inside].mean() == pytest.approx(
            metrics["encoding_r"]["by_roi"][area], abs=1e-6
        )
    items = pd.read_parquet(out / "items.parquet")
    assert sorted(items["stimulus"]) == list(range(100))
    predictions = np.load(out / "predictions.npy", allow_pickle=False)
    assert predictions.shape == (100, N_VOXELS)
    regions = pd.read_parquet(out / "regions.parquet")
    assert list(regions["region"]) == AREAS


@pytest.mark.slow
def test_encode_maps_lie_on_the_persons_grid(encoded, recording):
    out, _, _ = encoded
    units = pd.read_parquet(out / "units.parquet")
    places = tuple(recording.units[["i", "j", "k"]].to_numpy().T)
    assert {path.name for path in (out / "maps").iterdir()} == {"r.nii.gz", "p.nii.gz"}
    for name in ("r", "p"):
        values = nibabel.load(out / "maps" / f"{name}.nii.gz").get_fdata()
        assert values.shape == GRID
        assert np.isfinite(values).sum() == N_VOXELS
        np.testing.assert_allclose(values[places], units[name], rtol=1e-6)


@pytest.mark.slow
def test_encode_leaves_an_estimator(encoded, recording):
    """Fitted on the first fold: its held-out images are predicted as scored."""
    out, _, _ = encoded
    fold = recording.split("kfold:10", seed=0).folds[0]
    rows = fold.test.stimulus_rows()
    predictions = np.load(out / "predictions.npy", allow_pickle=False)
    estimator = brainkit.load_estimator(out / "estimator")
    again = estimator.predict(recording.stimuli.read(rows))
    np.testing.assert_allclose(again, predictions[: len(rows)], rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_encode_shows_progress_and_reports(encoded, recording):
    out, _, stderr = encoded
    assert "s1: permutations:" in stderr
    assert len(stderr.splitlines()) < 20  # a log is not flooded
    assert stderr.splitlines()[-1] == f"Report: {out / 'report.html'}"
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Simulated data." not in page
    assert all(area in page for area in AREAS)
    manifest = read(out / "manifest.json")
    assert manifest["recipe"]["protocol"]["seeds"] == [0, 1, 2, 3, 4]
    assert manifest["command"][:3] == ["brainkit", "encode", "digits69"]
    assert "simulated" not in manifest["subjects"]["s1"]


# -------------------------------------------------------------------------------------- decoding


def test_decode_meets_its_numbers(decoded):
    out, metrics, _ = decoded
    assert metrics == read(out / "metrics.json")
    pixels = metrics["pixel_correlation"]
    assert pixels["value"] >= 0.725
    assert 0.59 < pixels["nulls"]["mean_image"] < 0.62
    assert pixels["nulls"]["class_mean"] == pytest.approx(0.666, abs=0.01)
    assert pixels["nulls"]["shuffled_brain"] == pytest.approx(0.608, abs=0.01)
    low, high = pixels["ci"]
    assert max(pixels["nulls"].values()) < low < pixels["value"] < high
    assert metrics["identification_reconstruction_given_image"]["value"] >= 0.94
    assert metrics["identification_image_given_reconstruction"]["value"] >= 0.89


def test_decode_writes_every_held_out_digit(decoded, recording):
    out, metrics, _ = decoded
    items = pd.read_parquet(out / "items.parquet")
    assert list(items["stimulus"]) == list(range(100))
    seeds = pd.read_parquet(out / "seeds.parquet")
    assert list(seeds["seed"]) == [0, 1, 2, 3, 4]
    assert seeds["pixel_correlation"].min() >= 0.725
    value = metrics["pixel_correlation"]["value"]
    assert items["pixel_correlation"].mean() == pytest.approx(value, abs=1e-6)
    assert seeds["pixel_correlation"].mean() == pytest.approx(value, abs=1e-6)
    images = np.load(out / "predictions.npy", allow_pickle=False)
    assert images.shape == (100, 28, 28)
    shown = recording.stimuli.read() / 255
    r = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(shown, images, strict=True)]
    assert np.mean(r) == pytest.approx(seeds["pixel_correlation"][0], abs=1e-5)


def test_decode_leaves_an_estimator(decoded, recording):
    out, _, _ = decoded
    images = np.load(out / "predictions.npy", allow_pickle=False)
    test = recording.split("kfold:10", seed=0).folds[0].test
    estimator = brainkit.load_estimator(out / "estimator")
    again = estimator.predict(test.targets())
    np.testing.assert_allclose(again, images[test.stimulus_rows()], atol=1e-6)


def test_decode_rerun_from_its_manifest_is_identical(decoded, tmp_path):
    out, metrics, _ = decoded
    rerun = ["decode", "digits69", "--recipe", out / "manifest.json", "--out", tmp_path / "again"]
    assert command(*rerun)[0] == metrics
    for name in ("predictions.npy", "estimator/arrays.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()


@pytest.mark.slow
def test_encode_quickly_and_again(root, tmp_path):
    quick = [*QUICK, "--set", "protocol.permutations=5", "--set", "protocol.shuffles=1"]
    first, _ = command(
        "encode", "digits69", "--root", root, *quick, "--out", tmp_path / "a" / "run"
    )
    assert first["encoding_units_r_above_0.3"]["value"] >= 680
    manifest = tmp_path / "a" / "run" / "manifest.json"
    second, _ = command("encode", "digits69", "--recipe", manifest, "--out", tmp_path / "b")
    assert first == second


# --------------------------------------------------------------------------------------- ranking


def test_synthesize_ranks_digits_for_every_area(ranked, recording):
    out, metrics, _ = ranked
    assert metrics == read(out / "metrics.json")
    ranking = pd.read_parquet(out / "ranking.parquet")
    assert list(dict.fromkeys(ranking["region"])) == AREAS
    assert (ranking.groupby("region").size() == 5).all()
    assert ranking["stimulus"].between(0, 99).all()
    entry = metrics["ranked_judged_percentile_top5"]
    assert list(entry["by_roi"]) == AREAS
    assert entry["value"] > entry["nulls"]["random_stimuli"]
    test = recording.split("kfold:3", seed=0).folds[0].test
    assert set(ranking["stimulus"]) <= set(test.stimulus_rows())


# ------------------------------------------------------------------------------------- bad input


def test_wrong_subject_and_damaged_file(refused, root, tmp_path):
    arguments = ["decode", "digits69", "--out", tmp_path / "out"]
    said = refused(*arguments, "--root", root, "--subject", "s2")
    assert "Unknown subject 's2': there are s1." in said
    whole = (root / "69digits.mat").read_bytes()
    (tmp_path / "69digits.mat").write_bytes(whole[: len(whole) // 2])
    said = refused(*arguments, "--root", tmp_path)
    assert "truncated or damaged; fetch it again with 'brainkit download digits69'" in said
    said = refused(*arguments, "--root", root, "--set", "protocol.split=kfold:200")
    assert "200 folds cannot be made of 100 groups" in said
    assert "no option 'mask'" in refused(*arguments, "--root", root, "--option", "mask=V1")
    assert not (tmp_path / "out").exists()
