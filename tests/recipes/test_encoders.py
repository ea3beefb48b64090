"""The recipes of the published encoders as runs, from the tokens of the tiny CLIP to a report."""

import json

import numpy as np
import pytest

import brainkit
from brainkit.encoding import BandedRidge, RoutingEncoder
from brainkit.recipes import run_job

QUICK = ("protocol.n_train=60", "protocol.permutations=10", "protocol.shuffles=1")
RECIPES = {
    "linear_banded": ("model.settings.draws=3", "model.alphas.count=3"),
    "feature_weighted_rf": ("model.settings={n_positions: 3, n_sizes: 2, progress: false}",),
    "semantic_readout": ("model.settings={epochs: 1, progress: false}",),
    "attention_routing": (
        "model.settings={epochs: 2, global_tokens: 1, n_seeds: 2, progress: false}",
    ),
    "in_context": (),
}


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_recipe_makes_a_whole_run(name, nsd, tmp_path):
    out = tmp_path / "run"
    changes = (*QUICK, *RECIPES[name])
    metrics = run_job(
        "encode", "nsd", out=out, root=nsd, subject="1", recipe_name=name, changes=changes
    )
    kept = json.loads((out / "metrics.json").read_text())
    assert kept["encoding_r"]["value"] == pytest.approx(metrics["encoding_r"]["value"])
    assert np.isfinite(metrics["encoding_r"]["nulls"]["shuffled_features"])
    assert (out / "report.html").stat().st_size > 10_000
    encoder = brainkit.load_estimator(out / "estimator")
    model = encoder.model
    if isinstance(model, BandedRidge):
        assert len(model.bands) == model.band_weights_.shape[1] == 4
    if isinstance(model, RoutingEncoder):
        assert {"EBA", "hV4"} <= set(model.region_names_)
