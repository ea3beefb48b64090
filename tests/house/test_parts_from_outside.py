"""A package of somebody else adds one part of each kind, and is used by name.

``small_lab/`` beside this file is such a package; it is built and installed in a folder that only
these tests' processes look into.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytestmark = [pytest.mark.install, pytest.mark.timeout(300)]

PARTS = {
    "dataset": "small-set",
    "feature": "grid-means",
    "model": "least-squares",
    "aligner": "unit-mean",
    "job": "agree",
    "metric": "agreement_r",
    "card": "small-set",
}
NOISE = 0.02
LOAD = "import sys, brainkit; print(type(brainkit.load_estimator(sys.argv[1])).__name__)"


def python(*arguments, path, cwd, succeeds=True):
    """Run Python with folders on its path, and return what it printed, or complained of."""
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert "Traceback" not in result.stderr or not succeeds, result.stderr
    assert (result.returncode == 0) == succeeds, result.stdout + result.stderr
    return result.stdout if succeeds else result.stderr


@pytest.fixture(scope="module")
def installed(repository, tmp_path_factory):
    """Build the package, install it, and return the path on which it is found beside brainkit."""
    work = tmp_path_factory.mktemp("lab")
    source = shutil.copytree(repository / "tests" / "house" / "small_lab", work / "source")
    python(
        "-m", "build", "--wheel", "--no-isolation", "--outdir", work, source, path=[], cwd=work
    )  # fmt: skip
    (wheel,) = work.glob("*.whl")
    install = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target"]
    python(*install, work / "installed", wheel, path=[], cwd=work)
    shutil.rmtree(source)
    return [repository, work / "installed"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two people who saw 80 images and answer the brightness of their quarters."""
    folder = tmp_path_factory.mktemp("small-set")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (80, 4, 4), dtype=np.uint8)
    quarters = images.reshape(80, 2, 2, 2, 2).mean(axis=(2, 4)).reshape(80, 4) / 255
    for name, n_units in (("ann", 5), ("bob", 7)):
        weights = rng.uniform(0.5, 1.5, (4, n_units))
        responses = quarters @ weights + NOISE * rng.normal(size=(80, n_units))
        np.savez(folder / f"{name}.npz", images=images, responses=responses)
    return folder


@pytest.fixture(scope="module")
def encoded(installed, root, tmp_path_factory):
    """A run of brainkit's own job on the package's card, with its default recipe."""
    work = tmp_path_factory.mktemp("encoded")
    python(
        "-m", "brainkit", "encode", "small-set", "--root", root, "--subject", "ann",
        "--option", "units=3", "--out", work / "run", path=installed, cwd=work,
    )  # fmt: skip
    return work / "run"


def test_all_are_listed_with_their_package(installed, tmp_path):
    command = ["-m", "brainkit", "parts", "--json"]
    rows = json.loads(python(*command, path=installed, cwd=tmp_path))
    theirs = {(r["kind"], r["name"]): r for r in rows if r["packages"] == ["small-lab 1.2"]}
    assert {*PARTS.items()} <= set(theirs)
    assert [row["problem"] for row in rows if row["problem"]] == []
    without = python(*command, path=installed[:1], cwd=tmp_path)
    assert "small-lab" not in without
    assert len(json.loads(without)) == len(rows) - len(theirs)


def test_cards_and_commands_are_listed(installed, tmp_path):
    assert "small-set" in python("-m", "brainkit", "datasets", path=installed, cwd=tmp_path)
    listed = python("-m", "brainkit", "--help", path=installed, cwd=tmp_path)
    assert re.search(r"agree\s+Of small-lab 1\.2", listed)
    own = python("-m", "brainkit", "agree", "--help", path=installed, cwd=tmp_path)
    assert "Correlate each person's aligned responses with the mean" in " ".join(own.split())


def test_encode_runs_with_its_dataset_features_and_model(encoded):
    metrics = json.loads((encoded / "metrics.json").read_text())
    # The noise is 2 % of the responses' scale: least squares on the true features is near 1.
    assert metrics["encoding_r"]["value"] > 0.98
    assert abs(metrics["encoding_r"]["nulls"]["shuffled_features"]) < 0.4
    manifest = json.loads((encoded / "manifest.json").read_text())
    assert manifest["versions"]["small-lab"] == "1.2"
    assert manifest["parts"] == {"Features": "grid-means", "Model": "least-squares"}
    assert manifest["options"] == {"units": 3}
    assert "least-squares" in (encoded / "report.html").read_text()


def test_a_saved_estimator_comes_back_where_the_package_is(encoded, installed, tmp_path):
    (saved,) = encoded.rglob("estimator")
    assert python("-c", LOAD, saved, path=installed, cwd=tmp_path).strip() == "ImageEncoder"
    refused = python("-c", LOAD, saved, path=installed[:1], cwd=tmp_path, succeeds=False)
    assert re.search(
        r"CorruptFileError: small_lab:\w+ is not an estimator of brainkit, nor registered", refused
    )


def test_a_run_is_repeated_from_its_manifest(encoded, installed, tmp_path):
    again = [
        "-m", "brainkit", "encode", "small-set", "--recipe", encoded / "manifest.json",
    ]  # fmt: skip
    python(*again, "--out", "run", path=installed, cwd=tmp_path)
    metrics = [(run / "metrics.json").read_text() for run in (encoded, tmp_path / "run")]
    assert metrics[0] == metrics[1]
    refused = python(*again, path=installed[:1], cwd=tmp_path, succeeds=False)
    assert "brainkit: Unknown dataset card 'small-set'" in refused


def test_its_job_runs_with_its_aligner_and_metric(installed, root, tmp_path):
    run = ["-m", "brainkit", "agree", "small-set", "--root", root, "--json"]
    metrics = json.loads(python(*run, "--out", "run", path=installed, cwd=tmp_path))
    entry = metrics["agreement_r"]
    # People weigh the quarters unequally: their means over units correlate, not perfectly.
    assert 0.8 < entry["value"] < 1
    assert abs(entry["nulls"]["rolled"]) < 0.5
    assert entry["chance"] == 0
    assert sorted(entry["by_subject"]) == ["ann", "bob"]
    assert "Agreement" in (tmp_path / "run" / "report.html").read_text()
    (saved, _) = sorted((tmp_path / "run").rglob("estimator"))
    assert python("-c", LOAD, saved, path=installed, cwd=tmp_path).strip() == "UnitMean"
    # Aligners of brainkit go into the same setting by name; those that are none are listed.
    python(*run, "--set", "aligner=procrustes", "--out", "other", path=installed, cwd=tmp_path)
    wrong = [*run, "--set", "aligner=unit-means", "--out", "wrong"]
    refused = python(*wrong, path=installed, cwd=tmp_path, succeeds=False)
    assert "Did you mean 'unit-mean'?" in refused


def test_a_card_and_a_recipe_in_files_of_ones_own(installed, root, tmp_path):
    for name in ("small-set", "small-encode"):
        shutil.copy(installed[1] / "small_lab" / f"{name}.yaml", tmp_path / f"my-{name}.yaml")
    python(
        "-m", "brainkit", "encode", "my-small-set.yaml", "--recipe", "my-small-encode.yaml",
        "--root", root, "--subject", "bob", "--out", "run", path=installed, cwd=tmp_path,
    )  # fmt: skip
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["encoding_r"]["value"] > 0.98
