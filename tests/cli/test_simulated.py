"""Each job on simulated people: the run folder, its files' values, several subjects, reruns."""

import json
import re

import nibabel
import numpy as np
import pandas as pd
import pytest

import brainkit
from brainkit.data.preparing import prepare
from brainkit.world import SceneWorld

JOBS = ("encode", "decode", "synthesize")
METRIC = {
    "encode": "encoding_r",
    "decode": "pixel_correlation",
    "synthesize": "ranked_judged_percentile_top3",
}
FILES = {
    "encode": {"units.parquet", "regions.parquet", "items.parquet", "predictions.npy"},
    "decode": {"items.parquet", "seeds.parquet", "predictions.npy"},
    "synthesize": {"ranking.parquet", "regions.parquet"},
}


@pytest.fixture(scope="module")
def runs(call, nsd, recipes, tmp_path_factory):
    """Run each job on one subject and on both, once; give folders and what was printed."""
    folder, done = tmp_path_factory.mktemp("runs"), {}
    for job in JOBS:
        for who in ("1", None):
            out = folder / f"{job}-{who or 'all'}"
            arguments = [job, "nsd", "--root", nsd, "--recipe", recipes[job], "--out", out]
            result = call(*arguments, "--json", *(["--subject", who] if who else []))
            assert result.exit_code == 0, result.stderr
            done[job, who] = out, result
    return done


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def fold(nsd, subject=1):
    split = brainkit.load("nsd", nsd, subject).split("nsd-shared1000", seed=0)
    return prepare(split.folds[0], zscore="session", average_repeats=True)


@pytest.mark.parametrize("job", JOBS)
def test_a_run_folder_of_one_subject(runs, job):
    out, result = runs[job, "1"]
    names = {path.name for path in out.iterdir()}
    expected = {"manifest.json", "metrics.json", "report.html", "estimator"} | FILES[job]
    assert names == expected | ({"maps"} if job == "encode" else set())
    metrics = read(out / "metrics.json")
    assert json.loads(result.stdout) == metrics  # and nothing but JSON on stdout
    assert f"Report: {out / 'report.html'}" in result.stderr
    entry = metrics[METRIC[job]]
    assert {"value", "n", "nulls", "preset"} <= set(entry)
    assert "by_subject" not in entry
    assert entry["nulls"]


@pytest.mark.parametrize("job", JOBS)
def test_a_run_folder_of_several_subjects(runs, job):
    out, result = runs[job, None]
    names = {path.name for path in out.iterdir()}
    assert names == {"manifest.json", "metrics.json", "report.html", "subj01", "subj03"}
    metrics = read(out / "metrics.json")
    assert json.loads(result.stdout) == metrics
    alone = read(runs[job, "1"][0] / "metrics.json")
    assert set(metrics) == set(alone)
    for name, entry in metrics.items():
        each = entry["by_subject"]
        assert list(each) == ["subj01", "subj03"]
        assert each["subj01"] == alone[name]
        assert entry["value"] == pytest.approx(np.mean([e["value"] for e in each.values()]))
        for null, value in entry["nulls"].items():
            assert value == pytest.approx(np.mean([e["nulls"][null] for e in each.values()]))
        assert entry["n"] == 2
        assert "ci" not in entry
    for name in ("subj01", "subj03"):
        assert {path.name for path in (out / name).iterdir()} >= FILES[job] | {"estimator"}


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("who", ["1", None])
def test_manifest_and_report_say_what_was_done(runs, recipes, nsd, job, who):
    out, _ = runs[job, who]
    manifest = read(out / "manifest.json")
    assert manifest["job"] == job
    assert manifest["card"] == "nsd"
    assert manifest["root"] == str(nsd)
    assert manifest["brainkit"] == brainkit.__version__
    assert manifest["recipe"]["name"] == f"small-{job}"
    assert manifest["recipe"]["protocol"]["split"] == "nsd-shared1000"
    assert list(manifest["subjects"]) == (["subj01"] if who else ["subj01", "subj03"])
    assert {"dtype", "device", "versions", "platform", "git", "seconds"} <= set(manifest)
    metrics = read(out / "metrics.json")
    assert manifest["presets"] == sorted({entry["preset"] for entry in metrics.values()})
    for facts in manifest["subjects"].values():
        assert facts["simulated"]["world"] == {"version": 1, "seed": 0, "size": 64}
        assert facts["zscore"]["transductive"] is False
        assert facts["counts"]["constant_or_nan"] == 0
        assert facts["n_targets_batch"] >= 1
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Simulated data." in page
    assert all(f"Subject {name}" in page for name in manifest["subjects"])
    assert not re.search(r"(src|href)=[\"']https?:", page)


@pytest.mark.parametrize("name", ["split-half", "cross-subject-all", "none"])
def test_the_noise_ceiling_is_chosen_by_name(call, nsd, recipes, tmp_path, name):
    arguments = ["encode", "nsd", "--root", nsd, "--recipe", recipes["encode"], "--subject", "1"]
    out = tmp_path / "out"
    assert call(*arguments, "--out", out, "--ceiling", name).exit_code == 0
    manifest, metrics = read(out / "manifest.json"), read(out / "metrics.json")
    page, units = (out / "report.html").read_text("utf-8"), pd.read_parquet(out / "units.parquet")
    facts = manifest["subjects"]["subj01"]["ceiling"]
    if name == "none":
        assert manifest["recipe"]["protocol"]["ceiling"] is None
        assert facts == {}
        assert units["ceiling"].isna().all()
        assert "encoding_ceiling_fraction_pooled" not in metrics
        assert "No noise ceiling was estimated." in page
        assert "pooled ceiling fraction" not in page
        return
    assert manifest["recipe"]["protocol"]["ceiling"] == name
    who, stimuli = ("subj01", 40) if name == "split-half" else ("subj03", 10)
    assert facts == {
        "name": name, "zscore": "session", "n_repeats": 3.0, "stimuli": stimuli, "subjects": [who],
    }  # fmt: skip
    assert units["ceiling"].between(0, 1).all()
    preset = metrics["encoding_ceiling_fraction_pooled"]["preset"]
    assert preset == f"signed-r2-over-{name}-ceiling/within-folds/pooled"
    assert f"Noise ceiling: <strong>{name}</strong>" in page


def test_a_ceiling_that_the_data_do_not_allow_is_refused(refused, base, tmp_path):
    said = refused(*base("encode"), "--ceiling", "cross-subject")
    assert "needs at least 2 other subjects" in said
    assert "there are 1 among 1 (subj03)" in said
    assert not (tmp_path / "out").exists()


def test_what_encode_writes(runs, nsd):
    out, _ = runs["encode", "1"]
    recording, prepared = brainkit.load("nsd", nsd, 1), fold(nsd)
    n_units = recording.responses.shape[1]
    units = pd.read_parquet(out / "units.parquet")
    assert {"r", "r2", "ceiling", "alpha", "p", "q", "status", "i", "j", "k"} <= set(units)
    assert len(units) == n_units
    items = pd.read_parquet(out / "items.parquet")
    np.testing.assert_array_equal(items["stimulus"], prepared.test_stimuli)
    np.testing.assert_array_equal(items["id"], recording.stimuli.ids[items["stimulus"]])
    predictions = np.load(out / "predictions.npy", allow_pickle=False)
    assert predictions.shape == (10, n_units)
    truth = prepared.test - prepared.train.mean(axis=0)
    r = [np.corrcoef(truth[:, v], predictions[:, v])[0, 1] for v in range(n_units)]
    np.testing.assert_allclose(units["r"], r, atol=1e-5)
    metrics = read(out / "metrics.json")
    assert metrics["encoding_r"]["value"] == pytest.approx(np.mean(r), abs=1e-5)
    assert metrics["encoding_r"]["n"] == n_units
    # The estimator predicts what was scored: responses, whose training means are taken off.
    estimator = brainkit.load_estimator(out / "estimator")
    again = estimator.predict(recording.stimuli.read(items["stimulus"].to_numpy()))
    np.testing.assert_allclose(again, predictions, rtol=1e-6, atol=1e-6)
    for name in ("r", "ceiling", "p"):
        image = nibabel.load(out / "maps" / f"{name}.nii.gz")
        assert image.shape == recording.space.shape
        np.testing.assert_allclose(image.affine, recording.space.affine)
        at = image.get_fdata()[tuple(units[["i", "j", "k"]].to_numpy().T)]
        np.testing.assert_allclose(at, units[name], rtol=1e-6)
        assert np.isfinite(image.get_fdata()).sum() == np.isfinite(units[name]).sum()


def test_what_decode_writes(runs, nsd):
    out, _ = runs["decode", "1"]
    recording, prepared = brainkit.load("nsd", nsd, 1), fold(nsd)
    items = pd.read_parquet(out / "items.parquet")
    assert list(items["stimulus"]) == sorted(prepared.test_stimuli)
    images = np.load(out / "predictions.npy", allow_pickle=False)
    assert images.shape == (10, 64, 64, 3)
    assert images.min() >= 0
    assert images.max() <= 1
    shown = recording.stimuli.read(items["stimulus"].to_numpy()) / 255
    r = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(shown, images, strict=True)]
    np.testing.assert_allclose(items["pixel_correlation"], r, atol=1e-5)
    entry = read(out / "metrics.json")["pixel_correlation"]
    assert entry["value"] == pytest.approx(np.mean(r), abs=1e-5)
    assert {"shuffled_brain", "mean_image"} <= set(entry["nulls"])
    estimator = brainkit.load_estimator(out / "estimator")
    order = np.argsort(prepared.test_stimuli)
    np.testing.assert_allclose(estimator.predict(prepared.test[order]), images, atol=1e-6)
    with pytest.raises(brainkit.errors.InputError, match="takes a Recording, or responses"):
        estimator.predict(prepared.test[:, :5])


def test_what_synthesize_writes(runs, nsd):
    out, _ = runs["synthesize", "1"]
    recording = brainkit.load("nsd", nsd, 1)
    ranking = pd.read_parquet(out / "ranking.parquet")
    regions = pd.read_parquet(out / "regions.parquet").set_index("region")
    estimator = brainkit.load_estimator(out / "estimator")
    unseen = np.setdiff1d(np.arange(len(recording.stimuli)), recording.stimulus_rows())
    responses = estimator.predict(recording.stimuli.read(unseen))
    assert responses.shape == (len(unseen), recording.responses.shape[1])
    assert set(ranking["region"]) == set(regions.index)
    for name, part in ranking.groupby("region"):
        assert list(part["rank"]) == [1, 2, 3]
        drive = responses[:, recording.roi_mask(name)].mean(axis=1)
        best = unseen[np.argsort(-drive, kind="stable")[:3]]
        np.testing.assert_array_equal(part["stimulus"], best)
        np.testing.assert_array_equal(part["id"], recording.stimuli.ids[best])
        assert regions.loc[name, "judged percentile"] == pytest.approx(
            part["judged_percentile"].mean()
        )
    assert SceneWorld(seed=0).paint([int(best[0])]).shape == (1, 64, 64, 3)


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.slow
def test_a_rerun_from_its_manifest_is_identical(call, runs, job, tmp_path):
    """Without a root, a subject or a recipe given: all of them are in the manifest."""
    for who in ("1", None):
        out, _ = runs[job, who]
        again = tmp_path / f"again-{who}"
        result = call(job, "nsd", "--recipe", out / "manifest.json", "--out", again)
        assert result.exit_code == 0, result.stderr
        assert read(again / "metrics.json") == read(out / "metrics.json")
        old, new = read(out / "manifest.json"), read(again / "manifest.json")
        for name in ("recipe", "subjects", "options", "root", "card", "versions"):
            assert old[name] == new[name]


def test_a_rerun_keeps_options_and_can_change_them(call, base, tmp_path):
    narrow = call(*base("encode"), "--option", "mask=V1", "--option", "sessions=[1, 2, 3, 4, 5]")
    assert narrow.exit_code == 0, narrow.stderr
    options = {"mask": "V1", "sessions": [1, 2, 3, 4, 5]}
    assert read(tmp_path / "out" / "manifest.json")["options"] == options
    rerun = ["encode", "nsd", "--recipe", tmp_path / "out" / "manifest.json"]
    assert call(*rerun, "--out", tmp_path / "same").exit_code == 0
    same = read(tmp_path / "same" / "metrics.json")
    assert same == read(tmp_path / "out" / "metrics.json")
    changed = ["--option", "mask=V2", "--subject", "3", "--set", "protocol.permutations=0"]
    assert call(*rerun, *changed, "--out", tmp_path / "other").exit_code == 0
    manifest = read(tmp_path / "other" / "manifest.json")
    assert manifest["options"] == {**options, "mask": "V2"}
    assert list(manifest["subjects"]) == ["subj03"]
    assert manifest["recipe"]["protocol"]["permutations"] == 0
    assert not (tmp_path / "other" / "maps" / "p.nii.gz").exists()


def test_a_mask_file_is_found_again_from_another_folder(call, base, nsd, tmp_path, monkeypatch):
    mask = nibabel.load(nsd / "nsddata/ppdata/subj01/func1pt8mm/roi/prf-visualrois.nii.gz")
    monkeypatch.chdir(tmp_path)
    nibabel.save(mask, "mine.nii.gz")
    assert call(*base("encode"), "--option", "mask=mine.nii.gz").exit_code == 0
    assert read(tmp_path / "out" / "manifest.json")["options"] == {
        "mask": str(tmp_path / "mine.nii.gz")
    }
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    rerun = ["encode", "nsd", "--recipe", "../out/manifest.json", "--out", "again"]
    assert call(*rerun).exit_code == 0
    assert read(tmp_path / "elsewhere/again/metrics.json") == read(tmp_path / "out/metrics.json")


def test_without_json_the_nulls_stand_beside_each_value(call, base, tmp_path):
    result = call(*base("decode"))
    metrics = read(tmp_path / "out" / "metrics.json")
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == list(metrics)
    assert f"{metrics['pixel_correlation']['value']:.3g}" in lines[0]
    assert "shuffled_brain" in lines[0]
    assert lines[-1] == f"Report: {tmp_path / 'out' / 'report.html'}"


def test_a_recording_without_regions(call, base, tmp_path):
    """Encoding needs none; ranking takes all units for one region."""
    assert call(*base("encode"), "--option", "rois=[]").exit_code == 0
    metrics = read(tmp_path / "out" / "metrics.json")
    assert metrics["encoding_r"]["by_roi"] == {}
    arguments = base("synthesize", out=tmp_path / "ranked")
    assert call(*arguments, "--option", "rois=[]").exit_code == 0
    metrics = read(tmp_path / "ranked" / "metrics.json")
    assert len(metrics) == 1


def test_overwriting_is_asked_for(call, refused, contents, base, tmp_path):
    assert call(*base("decode")).exit_code == 0
    before = contents(tmp_path / "out")
    said = refused(*base("decode"))
    assert "already holds a run" in said
    assert "--overwrite" in said
    # A run that fails does not replace the earlier one.
    refused(*base("decode"), "--overwrite", "--set", "protocol.split=kfold:200")
    assert contents(tmp_path) == {f"out/{name}": content for name, content in before.items()}
    changed = call(*base("decode"), "--overwrite", "--set", "features.0.settings.n_components=4")
    assert changed.exit_code == 0
    settings = read(tmp_path / "out" / "manifest.json")["recipe"]["features"][0]["settings"]
    assert settings == {"n_components": 4}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
