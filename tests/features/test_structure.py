"""What a module computes beside its weights is part of what its features are known by."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from brainkit.features import TorchModel, extract
from brainkit.features.backbones.structure import code_hash, structure_hash
from brainkit.features.backbones.torchvision import torchvision_backbone
from brainkit.features.spec import parse_spec
from brainkit.features.store import FeatureStore

SOURCE = """
import torch
from torch import nn

SCALE = {scale}

def shift(x):
    return x + {shift}

class Net(nn.Module):
    slope = {slope}

    def __init__(self, flag={flag}):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 2, 3)
        self.flag = flag
        self.act = nn.LeakyReLU(self.slope)
        self.register_buffer("table", torch.full((2,), {table}), persistent=False)

    def forward(self, x):
        x = shift(self.conv(x)) * SCALE {edit}
        return self.act(x.flip(1) if self.flag else x)

def preprocess(image):
    import numpy
    return torch.from_numpy(numpy.asarray(image)[..., ::{step}].astype("float32")).movedim(2, 0)
"""
PLAIN = {
    "scale": 2.0, "shift": 1, "slope": 0.1, "flag": False, "table": 1.0, "edit": "", "step": 1,
}  # fmt: skip


def network(**changes):
    """Return a module of one's own, as it stands in a file or a notebook cell at some moment."""
    space = {"__name__": "mine"}
    exec(SOURCE.format(**{**PLAIN, **changes}), space)
    return space


@pytest.mark.parametrize(
    "change",
    [{"scale": 3.0}, {"shift": 2}, {"slope": 0.2}, {"flag": True}, {"table": 2.0}, {"edit": "- 1"}],
)
def test_everything_that_is_computed_by_counts(change):
    first, other = network()["Net"](), network(**change)["Net"]()
    assert structure_hash(first) == structure_hash(network()["Net"]())
    assert structure_hash(first) != structure_hash(other)


def test_an_edited_module_does_not_get_the_features_of_what_it_was(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    store = FeatureStore(tmp_path)
    for change in ({}, {"edit": "- 1"}, {"flag": True}, {"shift": 5}):
        module = network(**change)["Net"]()
        got = extract(module, images, layers="act", pool="flatten", store=store)
        expected = extract(module, images, layers="act", pool="flatten")
        np.testing.assert_array_equal(got, expected)
    for step in (1, -1):
        space = network(step=step)
        model = TorchModel(space["Net"](), space["preprocess"])
        got = extract(model, images, layers="act", pool="flatten", store=store)
        expected = extract(model, images, layers="act", pool="flatten")
        np.testing.assert_array_equal(got, expected)
    assert len(store.entries()) == 6


def test_mode_and_hooks_do_not_count():
    module = network()["Net"]()
    first = structure_hash(module)
    module.train(not module.training)
    module.register_forward_hook(lambda *given: None)
    assert structure_hash(module) == first


def test_code_of_functions():
    def add(n):
        def plus(x, step=n):
            return x + step + n

        return plus

    assert code_hash(add(1)) == code_hash(add(1))
    assert code_hash(add(1)) != code_hash(add(2))
    assert code_hash(functools.partial(add(1), step=3).func) == code_hash(add(1))
    assert code_hash(np.asarray) is None
    assert code_hash(torch.nn.functional.relu) is None

    def recursive(n):
        return recursive(n - 1)

    assert code_hash(recursive) == code_hash(recursive)


def test_it_is_the_same_in_every_process():
    """Whatever the seed of the hashes of text, which orders sets."""
    code = (
        "import sys; from brainkit.features.backbones.structure import structure_hash;"
        "space = {'__name__': 'mine'}; exec(sys.argv[1], space);"
        "print(structure_hash(space['Net']()))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", code, SOURCE.format(**PLAIN)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == structure_hash(network()["Net"]())


def test_weights_that_change_in_place_are_hashed_anew():
    model = torchvision_backbone(parse_spec("torchvision:squeezenet1_1/random"))
    first = model.identity()
    assert model.identity() == first
    other = torchvision_backbone(parse_spec("torchvision:squeezenet1_1/random:1"))
    model.module.load_state_dict(other.module.state_dict())
    assert model.identity()["weights"] == other.identity()["weights"] != first["weights"]
    with torch.no_grad():
        model.module.features[0].bias += 1
    assert model.identity()["weights"] != other.identity()["weights"]


def test_flags_of_library_modules_count():
    model = torchvision_backbone(parse_spec("torchvision:squeezenet1_1/random"))
    first = model.identity()
    model.module.features[1] = nn.LeakyReLU()
    assert model.identity()["structure"] != first["structure"]
    assert model.identity()["weights"] == first["weights"]
