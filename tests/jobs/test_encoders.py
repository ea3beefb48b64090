"""The recipes of the published encoders as runs, from the tokens of the tiny CLIP to a report."""

import json
from dataclasses import replace

import numpy as np
import pytest

import brainkit
from brainkit.data.simulation import names_of
from brainkit.encoding import BandedRidge, InContextEncoder, RoutingEncoder
from brainkit.encoding.readouts import SemanticReadout
from brainkit.jobs import run_job

QUICK = ("protocol.n_train=60", "protocol.permutations=10", "protocol.shuffles=1")
RECIPES = {
    "linear_banded": ("model.settings.draws=3", "model.alphas.count=3"),
    "feature_weighted_rf": ("model.settings={n_positions: 3, n_sizes: 2, progress: false}",),
    "semantic_readout": ("model.settings={epochs: 1, progress: false}",),
    "attention_routing": (
        "model.settings={epochs: 2, global_tokens: 1, n_seeds: 2, progress: false}",
    ),
    "in_context": (),
    "semantic_readout_published": ("model.settings.epochs=1", "model.settings.progress=false"),
    "attention_routing_published": (
        "model.settings.epochs=1",
        "model.settings.n_seeds=2",
        "model.settings.progress=false",
    ),
    "in_context_published": (),
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
        _tells_whom_the_network_learned_from(out, model.checkpoint)
    if name.endswith("_published"):
        _has_the_published_settings(model)


def _has_the_published_settings(model):
    """Check what docs/published.md says that the recipes take."""
    if isinstance(model, RoutingEncoder):
        member = next(iter(model.members_.values()))
        assert (member.n_heads, member.hidden, member.dropout) == (16, 1024, 0.1)
        assert (member.batch_size, member.learning_rate, member.clip) == (16, 5e-4, 0.1)
        assert (member.final_rate, member.weight_decay, member.average) == (1.0, 1e-4, None)
        assert (member.beta, member.global_tokens, member.n_tokens_) == (40, 0, 64)
    elif isinstance(model, SemanticReadout):
        assert (model.loss, model.start, model.motion) == ("mse+ccc", "none", "affine")
        assert (model.learning_rate, model.final_rate, model.weight_decay) == (1e-4, 1.0, 0.0)
    else:
        architecture = model.open()[0].architecture
        assert (architecture.form, architecture.dropout) == ("published", 0.5)


def _tells_whom_the_network_learned_from(out, checkpoint):
    manifest = json.loads((out / "manifest.json").read_text())
    network = manifest["subjects"]["subj01"]["network"]
    assert network["checkpoint"] == checkpoint
    assert network["form"] == ("published" if checkpoint == "tiny-published" else "product")
    assert network["trained_on"] == list(InContextEncoder(checkpoint).origin.subjects)
    assert network["learned_from"] == []
    assert network["embedding_model"] == "open_clip:tiny"
    said = f"{checkpoint}, trained on 48 subjects; none of those predicted here among them"
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
