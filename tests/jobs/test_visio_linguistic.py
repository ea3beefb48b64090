"""Images and captions against people in BOLD5000's layout, as a run."""

import json

import numpy as np
import pandas as pd
import pytest

import brainkit
from brainkit.data.bold5000 import KEYS
from brainkit.data.cards import read_card
from brainkit.errors import InputError
from brainkit.features import FeatureStack, SideBySide, read_for
from brainkit.jobs import read_recipe, run_job
from brainkit.jobs.encode import EncodeRecipe
from brainkit.recipes.specs import build_features
from brainkit.world import SceneWorld, write_bold5000

QUICK = (
    "protocol.split=kfold:3:stimulus",
    "protocol.permutations=0",
    "protocol.shuffles=2",
    "model.alphas.count=6",
    "model.cv=3",
)
PATTERNS = {"encoding_2v2", "encoding_pattern_r"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two simulated people in BOLD5000's layout; do not change its files."""
    return write_bold5000(
        tmp_path_factory.mktemp("bold5000"),
        SceneWorld(seed=0),
        (1, 4),
        images=90,
        repeated=20,
        sessions=3,
        density=0.2,
    )


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("visio_linguistic") / "run"
    return out, run_job("encode", "bold5000", out=out, root=root, changes=QUICK)


def test_the_recipe_reads_images_and_captions():
    recipe = read_recipe("visio_linguistic")
    assert isinstance(recipe, EncodeRecipe)
    assert read_card("bold5000").recipes["encode"] == "visio_linguistic"
    assert recipe.protocol.pattern_scores
    space = build_features(recipe.features)
    assert isinstance(space, FeatureStack)
    assert space.reads == "stimuli and captions"


def test_a_run_on_all_people(run):
    out, metrics = run
    assert set(metrics["encoding_r"]["by_subject"]) == {"CSI1", "CSI4"}
    assert set(metrics) >= PATTERNS
    for subject in ("CSI1", "CSI4"):
        for metric, chance in (("encoding_2v2", 0.5), ("encoding_pattern_r", 0.0)):
            entry = metrics[metric]["by_subject"][subject]
            assert set(entry["by_roi"]) == set(KEYS)
            assert entry["chance"] == chance
            assert abs(entry["nulls"]["shuffled_features"] - chance) < 0.1
            assert entry["ci"][0] < entry["value"] < entry["ci"][1]
        regions = pd.read_parquet(out / subject / "regions.parquet").set_index("region")
        assert list(regions.index) == list(read_card("bold5000").regions)
        by_roi = metrics["encoding_2v2"]["by_subject"][subject]["by_roi"]
        assert by_roi == pytest.approx(regions["2V2"].to_dict())
    # Early cortex follows what the image and its words say of a scene.
    assert metrics["encoding_2v2"]["by_subject"]["CSI1"]["by_roi"]["LHEarlyVis"] > 0.6
    page = (out / "report.html").read_text()
    assert "shuffled 2V2" in page
    assert "no space" in page  # release 1 has no coordinates, so there is no map
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["subjects"]["CSI1"]["trs"] == ["34"]


def test_what_is_saved_predicts_from_what_it_reads(run, root):
    encoder = brainkit.load_estimator(run[0] / "CSI1/estimator")
    stimuli = brainkit.load("bold5000", root, 1).stimuli
    given = encoder.read(stimuli, np.arange(5))
    assert isinstance(given, SideBySide)
    predicted = encoder.predict(given)
    assert predicted.shape == (5, len(encoder.usable))
    assert np.isfinite(predicted[:, encoder.usable]).all()
    with pytest.raises(InputError, match="reads stimuli and captions"):
        encoder.predict(stimuli.read([0]))


def test_without_captions_it_says_so(root, tmp_path):
    options = {"annotations": False}
    with pytest.raises(InputError, match="reads captions, and the stimuli have none"):
        run_job(
            "encode", "bold5000", out=tmp_path / "out", root=root, subject="CSI1",
            changes=QUICK, options=options,
        )  # fmt: skip
    assert not (tmp_path / "out").exists()
    only = [*QUICK, "features=[{kind: pixel-pca, settings: {n_components: 5}}]"]
    run_job(
        "encode", "bold5000", out=tmp_path / "out", root=root, subject="CSI1",
        changes=only, options=options,
    )  # fmt: skip


@pytest.mark.slow
def test_another_average_of_volumes(root, tmp_path):
    changes = [*QUICK, "features=[{kind: pixel-pca, settings: {n_components: 5}}]"]
    for trs in ("peak", "oota-2022"):
        run_job(
            "encode", "bold5000", out=tmp_path / trs, root=root, subject="4",
            changes=changes, options={"trs": trs},
        )  # fmt: skip
    files = [tmp_path / trs / "predictions.npy" for trs in ("peak", "oota-2022")]
    assert not np.array_equal(*(np.load(file) for file in files))
    manifest = json.loads((tmp_path / "oota-2022/manifest.json").read_text())
    assert manifest["subjects"]["CSI4"]["trs"] == ["1", "2", "3", "34", "4", "5"]


@pytest.mark.slow
@pytest.mark.parametrize("job", ["decode", "synthesize"])
def test_other_jobs_read_captions_too(root, tmp_path, job):
    captions = "{kind: caption-layer, scale: space, settings: {pool: null}}"
    settings = {
        "decode": ("decode-pixel-components", "protocol.back=bank", "protocol.seeds=[0]"),
        "synthesize": ("rank-by-pixel-components", "judge_model.alphas.count=3"),
    }
    recipe, *changes = settings[job]
    folds = "protocol.split=kfold:3:stimulus"
    run_job(
        job, "bold5000", out=tmp_path / "out", root=root, subject="CSI1", recipe_name=recipe,
        changes=[f"features=[{captions}]", "model.alphas.count=3", folds, *changes],
    )  # fmt: skip
    assert (tmp_path / "out/report.html").is_file()


def test_comparing_spaces_reads_captions(root):
    from brainkit.encoding import EncodingProtocol, VoxelwiseRidge, compare_spaces
    from brainkit.features import CaptionLayer, OrientedEnergy, SingleSpace

    recording = brainkit.load("bold5000", root, 1)
    trials = recording.trials.assign(shared=recording.trials["stimulus"] % 4 == 0)
    recording = recording._with(trials=trials)
    spaces = {
        "words": SingleSpace(CaptionLayer(), scale="space"),
        "energy": SingleSpace(OrientedEnergy(), scale="space"),
    }
    found = compare_spaces(
        recording, spaces, VoxelwiseRidge(alphas=(0.1, 1.0)), EncodingProtocol("nsd-shared1000")
    )
    assert found.spaces == ["words", "energy"]
    assert found.units["words"].notna().all()
    assert read_for(spaces["words"], recording.stimuli, [0]).dtype.kind == "U"
