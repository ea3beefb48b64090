"""The recipes of the published encoders as runs, from the tokens of the tiny CLIP to a report."""

import json
from dataclasses import replace

import numpy as np
import pytest

import brainkit
from brainkit.encoding import BandedRidge, InContextEncoder, RoutingEncoder
from brainkit.encoding.context import names_of
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
    if isinstance(model, InContextEncoder):
        _tells_whom_the_network_learned_from(out)


def _tells_whom_the_network_learned_from(out):
    manifest = json.loads((out / "manifest.json").read_text())
    network = manifest["subjects"]["subj01"]["network"]
    assert network["trained_on"] == list(InContextEncoder("tiny").origin.subjects)
    assert network["learned_from"] == []
    assert network["embedding_model"] == "open_clip:tiny"
    said = "tiny, trained on 48 subjects; none of those predicted here among them"
    assert said in (out / "report.html").read_text()


def test_a_subject_goes_by_the_names_of_its_card_and_of_its_simulated_world(nsd):
    recording = brainkit.load("nsd", root=nsd, subject="1")
    seed = recording.info["simulated"]["world"]["seed"]
    assert names_of(recording) == (f"world-{seed}/subject-1", "nsd/subj01", "subj01")
    simulated = recording.info["simulated"]
    for version, name in ((1, "subject-1"), (2, "brain-2/subject-1")):  # another person
        brain = {**simulated["brain"], "version": version}
        other = replace(recording, info={"simulated": {**simulated, "brain": brain}})
        assert names_of(other)[0] == f"world-{seed}/{name}"
    real = replace(recording, info={"card": "nsd"})
    assert names_of(real) == ("nsd/subj01", "subj01")
    assert names_of(replace(recording, info={})) == ("subj01",)
