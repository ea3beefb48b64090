"""Plain torch modules and the built-in features as backbones.

What a module computes beside its weights is part of what its features are known by.
"""

import copy
import functools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from brainkit.errors import InputError, UnknownNameError
from brainkit.features import OrientedEnergy, extract
from brainkit.features.backbones.builtin import builtin_backbone
from brainkit.features.backbones.torch_module import (
    TorchModel,
    code_hash,
    random_weights,
    structure_hash,
)
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


class Small(nn.Module):
    """A network with every hazard: batch norm, dropout, in-place changes, unused parts."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.parts = nn.ModuleList([nn.LayerNorm(4), nn.Linear(4, 2)])
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        x = self.norm(self.conv(x))
        x += 1  # changes what norm returned
        x = self.drop(self.act(x)).permute(0, 2, 3, 1)
        for part in self.parts:
            x = part(x)
        return x


@pytest.fixture
def module():
    with random_weights(0):
        network = Small()
        network.norm.running_mean += torch.rand(4)
    return network


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)) for _ in range(3)]


def test_outputs_are_the_submodules_own_in_evaluation_mode(module, images):
    model = TorchModel(module.train())
    batch = model.prepare(images)
    assert batch.shape == (3, 3, 6, 8)
    pixels = np.stack([np.asarray(image) for image in images])
    np.testing.assert_array_equal(batch, (pixels.astype(np.float32) / 255).transpose(0, 3, 1, 2))
    got = model.run(batch, ["norm", "parts.1", "conv"])
    assert list(got) == ["norm", "parts.1", "conv"]
    with torch.inference_mode():
        conv = module.conv(batch)
        scale = (module.norm.running_var + module.norm.eps).rsqrt()[:, None, None]
        norm = (conv - module.norm.running_mean[:, None, None]) * scale
        last = torch.relu(norm + 1).permute(0, 2, 3, 1)
        for part in module.parts:
            last = part(last)
    torch.testing.assert_close(got["conv"], conv, rtol=0, atol=0)
    torch.testing.assert_close(got["norm"], norm)  # not what the next line made of it
    torch.testing.assert_close(got["parts.1"], last.permute(0, 3, 1, 2))  # channels first


def test_leaves_the_module_as_it_was(module, images):
    module.train()
    module.drop.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    model = TorchModel(module)
    first = model.run(model.prepare(images), ["parts.1"])["parts.1"]
    second = model.run(model.prepare(images), ["parts.1"])["parts.1"]
    torch.testing.assert_close(first, second, rtol=0, atol=0)  # neither dropout nor drift
    assert [part.training for part in module.modules()] == modes
    assert all(parameter.requires_grad for parameter in module.parameters())
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_layers_of_choice(module):
    assert "parts" not in TorchModel(module).layers()  # a list is not called
    model = TorchModel(module, layers=["conv", "act"])
    assert model.layers() == ["conv", "act"]
    assert model.default_layer() == "act"
    with pytest.raises(UnknownNameError, match="Did you mean 'conv'"):
        TorchModel(module, layers=["conw"])
    with pytest.raises(UnknownNameError, match="Did you mean 'conv'"):
        model.run(torch.zeros(1, 3, 4, 4), ["con"])


def test_prefix_tokens_are_as_stated(module):
    assert TorchModel(module, prefix_tokens=2).prefix_tokens("act") == 2


def test_identity_follows_weights_structure_and_preprocessing(module):
    first = TorchModel(module, name="mine").identity()
    assert json.loads(json.dumps(first)) == first
    assert TorchModel(module, name="mine").identity() == first
    model = TorchModel(module, name="mine")
    with torch.no_grad():
        module.conv.bias += 1
    assert model.identity()["weights"] != first["weights"]
    module.conv.padding = (0, 0)
    assert model.identity()["structure"] != first["structure"]
    described = TorchModel(module, lambda image: image, preprocessing="none").identity()
    assert described["preprocessing"] == "none"
    named = TorchModel(module, np.asarray, name="mine").identity()
    assert named["preprocessing"] == "numpy.asarray"
    with pytest.raises(InputError, match=r"preprocessing='\.\.\.'"):
        TorchModel(module, lambda image: image).identity()


def test_text(module):
    table = nn.Sequential(nn.Embedding(256, 3), nn.Linear(3, 2))
    model = TorchModel(
        table, lambda text: torch.tensor(list(text.encode()[:4].ljust(4))), modality="text"
    )
    assert model.modality == "text"
    assert model.run(model.prepare(["a", "bcde"]), ["1"])["1"].shape == (2, 4, 2)
    with pytest.raises(InputError, match="needs preprocess"):
        TorchModel(table, modality="text")


def test_what_cannot_be_features(module, images):
    model = TorchModel(module)
    with pytest.raises(InputError, match="does not call unused"):
        model.run(model.prepare(images), ["unused"])
    with pytest.raises(InputError, match="several shapes"):
        model.prepare([images[0], images[1].resize((5, 5))])
    folding = nn.Sequential(nn.Flatten(0, 1), nn.Identity())
    with pytest.raises(InputError, match=r"gives \(9, 6, 8\) for a batch of 3"):
        TorchModel(folding).run(model.prepare(images), ["1"])
    with pytest.raises(InputError, match="no submodules"):
        TorchModel(nn.ReLU())


def test_random_weights_leave_the_callers_random_state():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    with random_weights(1):
        one = torch.rand(2)
    torch.testing.assert_close(torch.rand(2), expected, rtol=0, atol=0)
    with random_weights(1):
        torch.testing.assert_close(torch.rand(2), one, rtol=0, atol=0)


@pytest.mark.parametrize("layer", ["energy", "colour-energy"])
def test_oriented_energy_equals_the_transformer(layer):
    rng = np.random.default_rng(1)
    arrays = [
        rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((64, 64), (96, 128), (50, 70))
    ]
    model = builtin_backbone(parse_spec("builtin:oriented-energy"))
    got = model.run(model.prepare([Image.fromarray(array) for array in arrays]), [layer])[layer]
    energy = OrientedEnergy(colour=layer == "colour-energy")
    expected = np.concatenate([energy.transform(array[None]) for array in arrays])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_builtin_names():
    model = builtin_backbone(parse_spec("builtin:oriented-energy"))
    assert model.layers() == ["energy", "colour-energy"]
    assert model.default_layer() == "energy"
    identity = model.identity()
    assert json.loads(json.dumps(identity)) == identity
    assert identity["settings"]["side"] == 64
    with pytest.raises(InputError, match="PixelPCA"):
        builtin_backbone(parse_spec("builtin:pixel-pca"))
    with pytest.raises(UnknownNameError, match="oriented-energy"):
        builtin_backbone(parse_spec("builtin:energy"))


class Twice(nn.Module):
    """One ReLU for two branches, as in many residual blocks."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x):
        x = self.relu(self.conv(x))
        return self.relu(x - 0.2)


def test_a_submodule_that_is_called_twice_is_named_by_the_call(images):
    with random_weights(1):
        model = TorchModel(Twice())
    batch = model.prepare(images)
    with pytest.raises(InputError, match=r"relu is called 2 times.*relu:0, relu:1"):
        model.run(batch, ["relu"])
    with pytest.raises(InputError, match=r"relu is called 2 times"):
        extract(model, images, layers="relu", pool="mean")
    got = model.run(batch, ["relu:1", "conv", "relu:0", "conv:0"])
    with torch.inference_mode():
        first = torch.relu(model.module.conv(batch))
    torch.testing.assert_close(got["relu:0"], first, rtol=0, atol=0)
    torch.testing.assert_close(got["relu:1"], torch.relu(first - 0.2), rtol=0, atol=0)
    torch.testing.assert_close(got["conv:0"], got["conv"], rtol=0, atol=0)
    features = extract(model, images, layers=["relu:0", "relu:1"], pool="flatten")
    np.testing.assert_array_equal(features["relu:1"], got["relu:1"].flatten(1))
    with pytest.raises(InputError, match=r"There is no call relu:2; one forward pass makes relu:0"):
        model.run(batch, ["relu:2"])
    with pytest.raises(UnknownNameError, match="'rely:0'"):
        model.run(batch, ["rely:0"])


def test_calls_can_be_named_in_a_specification():
    spec = "torchvision:resnet18/random@layer1.0.relu:{}"
    shown = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    first, last = (extract(spec.format(call), shown, pool="mean") for call in (0, 1))
    assert not np.allclose(first, last)
    whole = extract("torchvision:resnet18/random@layer1.0", shown, pool="mean")
    np.testing.assert_array_equal(last, whole)
    with pytest.raises(InputError, match=r"layer1\.0\.relu is called 2 times"):
        extract("torchvision:resnet18/random@layer1.0.relu", shown, pool="mean")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("pool", ["mean", "max", "flatten"])
def test_modules_in_half_and_double_precision(kind, pool, images):
    with random_weights(2):
        module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GELU(), nn.Conv2d(8, 4, 3))
    single = extract(TorchModel(module), images, pool=pool)
    other = extract(TorchModel(copy.deepcopy(module).to(kind)), images, pool=pool)
    assert other.dtype == np.float32
    error = np.abs(other - single).max() / np.abs(single).max()
    assert error < 4 * torch.finfo(kind).eps + 1e-6


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
        "import sys; from brainkit.features.backbones.torch_module import structure_hash;"
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
