"""What a manifest says ran is what ran: measured by the parts, never assumed."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from brainkit.data.cards import read_card
from brainkit.encoding import VoxelwiseRidge
from brainkit.encoding.in_context import InContextEncoder
from brainkit.encoding.readouts import FeatureWeightedRF, LinearReadout
from brainkit.encoding.routing import RoutingEncoder
from brainkit.features import FeatureStack, ModelLayer, Remembered, SingleSpace, extract
from brainkit.jobs import run_job
from brainkit.recipes.manifest import LIBRARIES, describe_run, versions, what_ran

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4, 5)).astype(np.float32)
Y = RNG.normal(size=(60, 3)).astype(np.float32)
QUICK = {"epochs": 1, "progress": False}
TORCH = ("torch", "torchvision", "timm", "open_clip_torch", "transformers", "diffusers")
OTHERS = ("scikit-learn", "mne", "nilearn", "nibabel", "h5py", "numpy", "scipy", "pandas")


class Elsewhere(VoxelwiseRidge):
    """Ridge that says that it ran somewhere else, as one on another machine's device would."""

    def fit(self, X, y, groups=None, runs=None):
        super().fit(X, y, groups=groups, runs=runs)
        self.device_, self.dtype_, self.batch_size_ = "xpu:3", "float64", 77
        return self


def test_versions_are_of_all_libraries_that_take_part():
    found = versions()
    assert (
        {"python", "brainkit", *TORCH, *OTHERS} <= set(found) == {"python", "brainkit", *LIBRARIES}
    )
    assert found["torch"] == torch.__version__.split("+")[0] or torch.__version__ == found["torch"]
    assert all(value is None or value[0].isdigit() for value in found.values())
    assert all(found[name] for name in (*TORCH, *OTHERS))


def test_parts_within_parts_are_asked():
    @dataclass
    class Found:
        fitted: tuple
        more: dict

    model = Elsewhere(alphas=[1.0]).fit(X[:, 0], Y)
    deep = LinearReadout(batch_size=8, precision="bfloat16", **QUICK).fit(X, Y)
    told = what_ran(Found((FeatureStack([SingleSpace(model)]), [deep, deep]), {"again": model}))
    assert [entry["part"] for entry in told] == ["Elsewhere", "LinearReadout"]
    elsewhere = {"device": "xpu:3", "dtype": "float64", "batch_size": 77}
    assert told[0] | elsewhere == told[0]
    assert told[1] == {
        "part": "LinearReadout",
        "device": "cpu",
        "dtype": "float32",
        "precision": "bfloat16",
        "batch_size": 8,
        "trained_on": {"cpu": 7},
    }


def test_every_encoder_says_what_ran():
    members = RoutingEncoder(n_seeds=2, width=8, n_heads=2, device="cpu", **QUICK).fit(X, Y)
    assert {entry["part"] for entry in what_ran(members)} == {"RoutingEncoder"}
    fields = FeatureWeightedRF(n_positions=2, n_sizes=1, device="cpu", progress=False).fit(X, Y)
    network = InContextEncoder(None, width=8, layers=1, heads=2, hidden=8, device="cpu")
    network.pretrain(X[:, 0], steps=1).fit(X[:30, 0], Y[:30])
    for part in (members, fields, network):
        for entry in what_ran(part):
            assert (entry["device"], entry["dtype"]) == ("cpu", "float32")
    assert what_ran(network)[0]["batch_size"] == round(2048 / 34)


def test_features_say_what_their_outputs_were(tmp_path):
    images = RNG.integers(0, 256, size=(7, 64, 64, 3), dtype=np.uint8)
    layer = ModelLayer("open_clip:tiny@blocks.1", batch_size=3, dtype="float16")
    assert what_ran(layer) == []
    space = Remembered(layer)
    space.transform(images)
    named = {"part": "ModelLayer", "model": "open_clip:tiny@blocks.1"}
    expected = named | {"device": "cpu", "dtype": "float32", "batch_size": 3}
    assert what_ran(FeatureStack([SingleSpace(space)])) == [expected]
    doubles = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12288, 2)).double()
    seen = []

    class Doubled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = doubles

        def forward(self, batch):
            seen.append(len(batch))
            return self.inner(batch.double())

    from brainkit.features import TorchModel

    model = TorchModel(Doubled())
    extract(model, images, layers="inner.1", batch_size=4)
    assert model.ran == [{"device": "cpu", "dtype": "float64", "batch_size": 4}]
    assert seen[-2:] == [4, 3]  # after the passes that ask whether the model is frozen


def test_features_from_a_store_say_that_nothing_ran(tmp_path):
    images = RNG.integers(0, 256, size=(4, 64, 64, 3), dtype=np.uint8)
    first, again = (ModelLayer("open_clip:tiny", pool=None, store=str(tmp_path)) for _ in range(2))
    np.testing.assert_array_equal(first.transform(images), again.transform(images))
    assert what_ran(first)[0]["device"] == "cpu"
    named = {"part": "ModelLayer", "model": "open_clip:tiny"}
    assert what_ran(again) == [named | {"from_store": True}]


def described(**given):
    settings = {"job": "encode", "card": read_card("nsd"), "root": "x", "recipe": {}, "options": {}}
    return describe_run(**settings, subjects={}, **given)


def test_where_no_part_says_nothing_is_assumed():
    manifest = described()
    assert manifest["device"] is manifest["dtype"] is manifest["accelerator"] is None
    told = [{"part": "a", "device": "cpu", "dtype": "float64"}, {"part": "b", "device": "cpu"}]
    manifest = described(ran=told)
    assert (manifest["device"], manifest["dtype"]) == ("cpu", "float64")
    json.dumps(manifest, allow_nan=False)


CHANGES = ("protocol.n_train=40", "protocol.permutations=0", "protocol.shuffles=1")


def test_a_run_says_of_each_part_what_it_said(nsd, tmp_path, monkeypatch):
    true_fit = VoxelwiseRidge.fit

    def fit(self, *arguments, **given):
        true_fit(self, *arguments, **given)
        self.device_, self.dtype_, self.batch_size_ = "xpu:3", "float64", 77
        return self

    monkeypatch.setattr(VoxelwiseRidge, "fit", fit)
    run_job(
        "encode", "nsd", out=tmp_path / "out", root=nsd, subject="1", recipe_name="in_context",
        changes=(*CHANGES, "model.kind=voxelwise-ridge", "model.settings={}"),
    )  # fmt: skip
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    ran = manifest["subjects"]["subj01"]["ran"]
    assert ran[-1]["part"] == "VoxelwiseRidge"
    assert (ran[-1]["device"], ran[-1]["batch_size"]) == ("xpu:3", 77)
    assert "ModelLayer" in {entry["part"] for entry in ran}
    assert manifest["device"] == "cpu, xpu:3"
    assert manifest["dtype"] == "float32, float64"
    assert manifest["git"] is None or set(manifest["git"]) == {"commit", "clean"}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_of_a_deep_encoder_says_in_what_it_trained(nsd, tmp_path, precision):
    settings = (
        f"model.settings={{epochs: 1, batch_size: 20, progress: false, precision: {precision}}}"
    )
    run_job(
        "encode", "nsd", out=tmp_path / "out", root=nsd, subject="1",
        recipe_name="semantic_readout", changes=(*CHANGES, settings),
    )  # fmt: skip
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    facts = manifest["subjects"]["subj01"]
    deep = facts["ran"][-1]
    assert deep == {
        "part": "SemanticReadout",
        "device": deep["device"],
        "dtype": "float32",
        "precision": precision,
        "batch_size": 20,
        "trained_on": {deep["device"].split(":")[0]: 2},  # 36 of 40 images, by 20
    }
    assert "solver_side" not in facts  # it has none
    assert "n_targets_batch" not in facts
