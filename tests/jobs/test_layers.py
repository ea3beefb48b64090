"""The comparison of a network's layers as a run: tables, metrics, report, errors."""

import json

import pandas as pd
import pytest

from brainkit.errors import InputError, UnknownNameError
from brainkit.jobs import read_recipe, run_job
from brainkit.jobs.layers import ENERGY, LayersRecipe

LAYERS = ["stem", "blocks.3", "embedding"]
CHANGES = (
    "layers=[stem, blocks.3, embedding]",
    "components=64",
    "protocol.n_train=60",
    "protocol.seed=1",
)


@pytest.fixture(scope="module")
def run(nsd, tmp_path_factory):
    out = tmp_path_factory.mktemp("layers") / "run"
    return out, run_job(
        "layers", "nsd", out=out, root=nsd, subject="1", recipe_name="clip_layers", changes=CHANGES
    )


def test_the_recipe_is_told_apart_from_an_encoders():
    assert isinstance(read_recipe("clip_layers"), LayersRecipe)
    with pytest.raises(InputError, match="there is no setting features"):
        read_recipe("clip_layers", ["features=1"])


def test_every_region_has_every_layer(run):
    out, metrics = run
    table = pd.read_parquet(out / "layers.parquet")
    assert table.groupby("region")["space"].apply(list).map(tuple).nunique() == 1
    assert table["space"].unique().tolist() == [ENERGY, *LAYERS]
    assert set(metrics) == {f"encoding_r[{name}]" for name in (ENERGY, *LAYERS)}
    for name, entry in metrics.items():
        assert entry["ci"][0] <= entry["value"] <= entry["ci"][1]
        assert abs(entry["nulls"]["shuffled_stimuli"]) < 0.1
        own = table[table["space"] == name[len("encoding_r[") : -1]]
        assert entry["by_roi"] == pytest.approx(dict(zip(own["region"], own["r"], strict=True)))


def test_the_report_shows_the_map_and_the_manifest_repeats_it(run, nsd, tmp_path):
    out, metrics = run
    page = (out / "report.html").read_text()
    assert "Feature spaces by region" in page
    assert "preferred by most" in page
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["recipe"]["network"] == "open_clip:tiny"
    ran = manifest["subjects"]["subj01"]["ran"][0]
    assert (ran["device"], ran["dtype"], ran["batch_size"]) == ("cpu", "float32", 128)
    again = run_job("layers", "nsd", out=tmp_path / "again", recipe_name=out / "manifest.json")
    assert again == metrics


def test_an_unknown_layer_is_named(nsd, tmp_path):
    with pytest.raises(UnknownNameError, match=r"blocks\.4"):
        run_job(
            "layers",
            "nsd",
            out=tmp_path / "out",
            root=nsd,
            subject="1",
            recipe_name="clip_layers",
            changes=["layers=[blocks.44]", "protocol.n_train=60"],
        )
