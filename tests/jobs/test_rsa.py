"""`brainkit rsa`: a real network on real brains, and what goes wrong."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from brainkit.errors import InputError, MissingFileError, OutputError, UnknownNameError
from brainkit.jobs import read_recipe, run_job
from brainkit.jobs.rsa import RSARecipe

FIRES = [f"fire{i}" for i in range(2, 10)]
QUICK = ["protocol.bootstraps=20", "protocol.permutations=19"]
RANDOM = "torchvision:squeezenet1_0+caffe-bgr/random@features.3,features.12"


@pytest.fixture(scope="module")
def root(shared_data):
    return shared_data / "rsa92"


@pytest.fixture(scope="module")
def weights(shared_data):
    return shared_data / "weights/squeezenet/squeezenet1_0_fp16_caffeBGR.safetensors"


@pytest.fixture(scope="module")
def run(root, weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("rsa") / "run"
    changes = ["protocol.bootstraps=300", "protocol.permutations=999"]
    metrics = run_job("rsa", "rsa92", out=out, root=root, weights=weights, changes=changes)
    return out, metrics


@pytest.mark.slow
def test_the_hierarchy_of_a_real_network_comes_out(run):
    _, metrics = run
    early, late = metrics["rsa_best_layer[EVC]"], metrics["rsa_best_layer[IT]"]
    assert early["value"] == pytest.approx(0.22, abs=0.005)
    assert early["layer"] == "fire4 pooled"
    assert late["by_layer"]["fire9"] == pytest.approx(0.21, abs=0.005)
    assert late["layer"] in ("fire8 pooled", "fire9")
    # Of the fire modules alone, too.
    best = {
        region: max(FIRES, key=metrics[f"rsa_best_layer[{region}]"]["by_layer"].get)
        for region in ("EVC", "IT")
    }
    assert best == {"EVC": "fire4", "IT": "fire9"}
    for entry in (early, late):
        assert entry["p_familywise"] == 0.001
        assert entry["ci"][0] > entry["nulls"]["best_of_relabelled_stimuli"]
        assert entry["n"] == 15
    gap = metrics["rsa_layers_between_best[EVC, IT]"]
    assert gap["value"] == 5
    assert gap["ci"][0] > 0
    assert gap["later_in_bootstrap"] > 0.95
    assert metrics["rsa_rise_over_layers[IT minus EVC]"]["value"] > 0.05


@pytest.mark.slow
def test_ceilings_are_those_that_others_report(run):
    _, metrics = run
    expected = {"EVC": (0.239, 0.386), "IT": (0.449, 0.535)}
    for region, bounds in expected.items():
        entry = metrics[f"rsa_best_layer[{region}]"]
        found = entry["ceiling_of_mean_rdm"]
        assert (found["lower"], found["upper"]) == pytest.approx(bounds, abs=5e-4)
        assert entry["ceiling"]["upper"] >= found["upper"]
        assert entry["value"] < entry["ceiling"]["upper"]


@pytest.mark.slow
def test_the_run_folder_is_complete(run):
    out, metrics = run
    assert json.loads((out / "metrics.json").read_text()) == metrics
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["job"] == "rsa"
    assert manifest["models"]["network"]["model"].startswith("squeezenet1_0")
    assert len(manifest["models"]["network"]["weights"]) >= 64
    assert manifest["recipe"]["layers"]["fire9"] == "features.12"
    assert (manifest["device"], manifest["dtype"]) == ("cpu", "float32")
    assert manifest["ran"][0]["batch_size"] == 16
    assert list(manifest["subjects"]) == [f"sub-{i:02d}" for i in range(1, 16)]
    rdms = np.load(out / "model_rdms.npy", allow_pickle=False)
    assert rdms.shape == (11, 92, 92)
    layers = pd.read_parquet(out / "layers.parquet")
    assert len(layers) == 22
    assert len(pd.read_parquet(out / "people.parquet")) == 22 * 15
    assert list(pd.read_parquet(out / "best.parquet")["region"]) == ["EVC", "IT"]
    page = (out / "report.html").read_text()
    assert "fire4 pooled" in page
    assert "noise ceiling" in page


@pytest.mark.slow
def test_a_rerun_from_the_manifest_is_identical(run, tmp_path):
    out, metrics = run
    again = run_job("rsa", "rsa92", out=tmp_path / "again", recipe_name=str(out / "manifest.json"))
    assert again == metrics


# --------------------------------------------------------------------- a small network, untrained


@pytest.mark.slow
def test_another_model_with_layers_of_its_own(root, tmp_path):
    metrics = run_job("rsa", "rsa92", out=tmp_path / "a", root=root, model=RANDOM, changes=QUICK)
    by_layer = metrics["rsa_best_layer[EVC]"]["by_layer"]
    assert list(by_layer) == ["features.3", "features.12"]
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert "random" in manifest["recipe"]["model"]
    assert "Compare another network" in (tmp_path / "a" / "report.html").read_text()
    stored = run_job(
        "rsa", "rsa92", out=tmp_path / "b", root=root, model=RANDOM,
        changes=[*QUICK, f"store={tmp_path}/store"],
    )  # fmt: skip
    assert stored == metrics
    with pytest.raises(OutputError, match="already holds a run"):
        run_job("rsa", "rsa92", out=tmp_path / "a", root=root, model=RANDOM, changes=QUICK)


@pytest.mark.slow
def test_settings_reach_the_protocol(root, tmp_path):
    changes = [*QUICK, "protocol.comparison=pearson", "protocol.dissimilarity=cosine"]
    metrics = run_job(
        "rsa", "rsa92", out=tmp_path / "a", root=root, model=RANDOM, changes=changes,
        options={"ground": "white"},
    )  # fmt: skip
    assert metrics["rsa_best_layer[IT]"]["preset"] == "rsa/cosine/pearson"
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["options"] == {"ground": "white"}


# ------------------------------------------------------------------------------------- bad input


@pytest.fixture
def recipe():
    found = read_recipe("rsa-squeezenet")
    assert isinstance(found, RSARecipe)
    return found


def test_weights_are_put_into_the_models_name(recipe, tmp_path):
    file = tmp_path / "mine.safetensors"
    file.write_bytes(b"")
    changed = read_recipe("rsa-squeezenet", [f"weights={file}"])
    assert changed.weighted_model() == f"{recipe.model}/{file.resolve()}"
    assert changed.named_layers() == recipe.layers
    other = ["model=torchvision:alexnet@features.0", f"weights={file}"]
    assert read_recipe("rsa-squeezenet", other).named_layers() == {"features.0": "features.0"}
    nowhere = f"weights={tmp_path}/nowhere.safetensors"
    with pytest.raises(MissingFileError, match=r"no file of weights .*nowhere"):
        read_recipe("rsa-squeezenet", [nowhere]).weighted_model()
    with pytest.raises(InputError, match="names its weights already"):
        read_recipe("rsa-squeezenet", ["model=torchvision:alexnet/random", other[1]])


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"model": "torchvision:squeezenet1_0/random"}, InputError, "Name the layers"),
        ({"model": "torchvision:squeezenet1_0/random@fire9"}, UnknownNameError, "layer"),
        ({"model": "torchvison:squeezenet1_0"}, UnknownNameError, "Did you mean 'torchvision'"),
        ({"changes": ["protocol.comparison=spearmann"]}, InputError, "protocol.comparison"),
        ({"changes": ["protocol.dissimilarity=r"]}, InputError, "protocol.dissimilarity"),
        ({"changes": ["protocol.permutations=0"]}, InputError, "greater than or equal to 1"),
        ({"recipe_name": "encode-energy"}, InputError, "is for encode; this is rsa"),
        ({"options": {"ground": "blue"}, "model": RANDOM}, InputError, "'grey' or 'white'"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(root, tmp_path, settings, error, said):
    with pytest.raises(error, match=said):
        run_job("rsa", "rsa92", out=tmp_path / "out", root=root, **settings)
    assert list(tmp_path.iterdir()) == []


def test_pickled_weights_are_refused(root, tmp_path):
    file = tmp_path / "squeezenet.pth"
    file.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(InputError, match=r"safetensors\.torch\.save_file"):
        run_job("rsa", "rsa92", out=tmp_path / "out", root=root, weights=file)


def test_missing_folders_and_other_cards(root, shared_data, tmp_path):
    with pytest.raises(MissingFileError, match="does not exist"):
        run_job("rsa", "rsa92", out=tmp_path / "out", root=tmp_path / "nowhere")
    with pytest.raises(MissingFileError, match="images"):
        run_job("rsa", "rsa92", out=tmp_path / "out", root=shared_data / "digits69", model=RANDOM)
    with pytest.raises(InputError, match="no default recipe to rsa"):
        run_job("rsa", "digits69", out=tmp_path / "out", root=shared_data / "digits69")
    with pytest.raises(InputError, match="holds recordings, no dissimilarities"):
        run_job(
        "rsa", "digits69", out=tmp_path / "out", root=shared_data / "digits69",
            recipe_name="rsa-squeezenet", model=RANDOM,
        )  # fmt: skip
    with pytest.raises(InputError, match="no default recipe to encode"):
        run_job("encode", "rsa92", out=tmp_path / "out", root=root)


def test_rdms_with_nan_are_refused(root, tmp_path):
    copy = tmp_path / "rsa92"
    shutil.copytree(root, copy, copy_function=shutil.copyfile)
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o755)
    file = copy / "cichy92_and_78/nb/brain_data/92images/fmri_IT_RDMs.npz"
    with np.load(file) as content:
        values = content["Net_RDM"].copy()
    values[3, 5, 7] = np.nan
    np.savez(file, Net_RDM=values)
    with pytest.raises(InputError, match="region IT holds 1 values that are NaN"):
        run_job("rsa", "rsa92", out=tmp_path / "out", root=copy, model=RANDOM)


def test_the_command(root, tmp_path):
    from typer.testing import CliRunner

    from brainkit.cli import app

    recipe = tmp_path / "mine.yaml"
    content = read_recipe("rsa-squeezenet").model_dump(mode="json")
    content["protocol"] |= {"bootstraps": 20, "permutations": 19}
    recipe.write_text(yaml.safe_dump(content))
    arguments = ["rsa", "rsa92", "--root", root, "--recipe", recipe, "--model", RANDOM]
    done = CliRunner().invoke(app, [*map(str, arguments), "--out", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads((tmp_path / "out" / "metrics.json").read_text())
    wrong = CliRunner().invoke(app, ["rsa", "rsa92", "--root", str(tmp_path / "nowhere")])
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith("brainkit: The folder")
