"""Networks of metric presets: random weights in a local folder, each layer by a pass of its own."""

from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from brainkit.errors import InputError, MissingFileError, UnknownNameError
from brainkit.evaluation import kernel_distance
from brainkit.evaluation.presets import PRESETS
from brainkit.features.judging_networks import (
    PerceptualDistance,
    command_for,
    inception_kernel_distance,
    load_network,
    load_networks,
    weights_file,
)

MEAN, STD = (torch.tensor(three)[:, None, None] for three in
             ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))  # fmt: skip
TORCHVISION = {
    "alexnet": ("alexnet", "IMAGENET1K_V1", {}),
    "inception_v3": ("inception_v3", "IMAGENET1K_V1", {"init_weights": False}),
    "efficientnet_b1": ("efficientnet_b1", "IMAGENET1K_V2", {}),
    "swav_resnet50": ("resnet50", "swav_800ep", {}),
}


def untrained(name, seed=0):
    architecture, _, options = TORCHVISION[name]
    torch.manual_seed(seed)
    return torchvision.models.get_model(architecture, weights=None, **options).eval()


def saved(folder, name, module=None):
    state = (module or untrained(name)).state_dict()
    path = weights_file(name, TORCHVISION[name][1], folder)
    save_file({key: value.contiguous() for key, value in state.items()}, path)


@pytest.fixture
def images():
    return np.random.default_rng(0).random((2, 3, 96, 96), dtype=np.float32)


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory):
    """Untrained AlexNet, and the folder that it is saved in."""
    folder, module = tmp_path_factory.mktemp("judges"), untrained("alexnet")
    saved(folder, "alexnet", module)
    return module, folder


@pytest.fixture(scope="module")
def heard_alexnet(alexnet):
    return load_network("alexnet", "IMAGENET1K_V1", alexnet[1], needed_by="This test")


@pytest.mark.parametrize(
    ("layer", "children"), [("features.4", 5), ("features.11", 12), ("features.2", 3)]
)
def test_alexnet_is_heard_after_its_relus(alexnet, heard_alexnet, images, layer, children):
    module = alexnet[0]
    heard = heard_alexnet(images, [layer])[layer]
    with torch.no_grad():
        expected = module.features[:children](torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(heard, expected, atol=1e-6)
    assert heard.min() >= 0
    # The second and fifth convolutions, of 192 and 256 channels; features.2 is the first pooling.
    assert heard.shape[1] == {"features.4": 192, "features.11": 256, "features.2": 64}[layer]


def by_hand(name, module, images):
    """Pool what stands before the classifier, a step at a time."""
    with torch.no_grad():
        if name == "swav_resnet50":
            x = module.maxpool(module.relu(module.bn1(module.conv1(images))))
            for block in (module.layer1, module.layer2, module.layer3, module.layer4):
                x = block(x)
        elif name == "efficientnet_b1":
            x = module.features(images)
        else:
            # From ImageNet's scale to [-1, 1], on which the published weights were trained.
            x = (images * STD + MEAN - 0.5) / 0.5
            for part in (name for name, _ in module.named_children()):
                if part == "AuxLogits":
                    continue
                if part == "avgpool":
                    break
                x = getattr(module, part)(x)
        return x.mean(dim=(2, 3)).numpy()


@pytest.mark.parametrize("name", ["inception_v3", "efficientnet_b1", "swav_resnet50"])
def test_other_networks_are_heard_at_their_average_pool(tmp_path, images, name):
    module = untrained(name)
    saved(tmp_path, name, module)
    network = load_network(name, TORCHVISION[name][1], tmp_path, needed_by="This test")
    heard = network(images, ["avgpool"])["avgpool"].reshape(2, -1)
    expected = by_hand(name, module, torch.from_numpy(images))
    np.testing.assert_allclose(heard, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow  # the tower of ViT-L/14 has 304 million weights
def test_clip_is_heard_at_its_image_embedding(tmp_path):
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-L-14-quickgelu", pretrained=None).eval()
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, weights_file("clip_vit_l_14", "openai", tmp_path))
    network = load_network("clip_vit_l_14", "openai", tmp_path, needed_by="This test")
    images = np.random.default_rng(0).random((1, 3, 224, 224), dtype=np.float32)
    heard = network(images, ["embedding"])["embedding"]
    with torch.no_grad():
        expected = model.encode_image(torch.from_numpy(images)).numpy()
    assert heard.shape == (1, 768)
    np.testing.assert_allclose(heard, expected, rtol=1e-4, atol=1e-5)


def test_weights_load_strictly_and_counted(tmp_path):
    module = untrained("alexnet")
    state = {key: value for key, value in module.state_dict().items() if "classifier.6" not in key}
    save_file(state, weights_file("alexnet", "IMAGENET1K_V1", tmp_path))
    with pytest.raises(InputError, match=r"of the 16 tensors .* 14 were found, 2 missing"):
        load_network("alexnet", "IMAGENET1K_V1", tmp_path, needed_by="This test")


def test_a_missing_network_is_named_with_preset_folder_and_command(alexnet):
    tmp_path = alexnet[1]
    with pytest.raises(MissingFileError) as raised:
        load_networks(PRESETS["mindeye2"], tmp_path)
    message = str(raised.value)
    assert "mindeye2" in message
    assert "inception_v3" in message
    assert str(tmp_path) in message
    assert command_for("inception_v3", "IMAGENET1K_V1", tmp_path) in message
    with pytest.raises(MissingFileError, match="no folder was named"):
        load_networks(PRESETS["braindiffuser"])


def test_every_network_of_every_preset_has_a_command():
    for preset in PRESETS.values():
        for score in preset.images:
            if score.judge is not None and score.judge.weights != "tiny":
                command = command_for(score.judge.network, score.judge.weights, "judges")
                assert f"judges/{score.judge.network}-{score.judge.weights}.safetensors" in command
                assert command.count('"') == 2  # what a shell reads as one argument
    with pytest.raises(UnknownNameError, match="alexnet"):
        command_for("alexnet2", "IMAGENET1K_V1", "judges")


def test_two_weights_of_one_network_are_refused():
    preset = PRESETS["mindeye2"]
    first = preset.images[2]
    other = replace(first, judge=replace(first.judge, weights="mine"))
    with pytest.raises(InputError, match="two different weights"):
        load_networks(replace(preset, images=(first, other)), "judges")


def test_low_level_needs_no_network():
    assert load_networks(PRESETS["low_level"]) == {}


def test_the_tiny_preset_tells_images_apart():
    generator = np.random.default_rng(0)
    images = np.kron(generator.random((8, 8, 8, 3), dtype=np.float32), np.ones((1, 8, 8, 1)))
    networks = load_networks(PRESETS["tiny"], device="cpu")
    made = np.clip(images + 0.02 * generator.normal(size=images.shape), 0, 1).astype(np.float32)
    close = PRESETS["tiny"].score(images, made, networks).values
    far = PRESETS["tiny"].score(images, np.roll(made, 1, axis=0), networks).values
    for judge in ("judge-a", "judge-b"):
        wins = f"tiny_identification_image_given_reconstruction[{judge}]"
        assert close[wins] > 0.9 > far[wins]
        gap = f"tiny_correlation_distance[{judge}]"
        assert close[gap] < far[gap]
    assert networks["judge-a"].identity() != networks["judge-b"].identity()


# -- LPIPS and KID ---------------------------------------------------------------------------------

CHANNELS = (64, 192, 384, 256, 256)


@pytest.fixture(scope="module")
def lpips(alexnet):
    folder = alexnet[1]
    generator = np.random.default_rng(1)
    weights = [generator.random((1, n, 1, 1), dtype=np.float32) for n in CHANNELS]
    tensors = {f"lin{i}": torch.from_numpy(one) for i, one in enumerate(weights)}
    save_file(tensors, weights_file("lpips-alexnet", "0.1", folder))
    return PerceptualDistance(folder, device="cpu"), weights


def test_lpips_is_the_weighted_distance_of_unit_features(alexnet, lpips):
    module, (distance, weights) = alexnet[0], lpips
    a, b = np.random.default_rng(2).random((2, 3, 64, 64, 3), dtype=np.float32)
    shift, scale = (torch.tensor(three)[:, None, None] for three in
                    ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))  # fmt: skip
    expected = torch.zeros(3)
    with torch.no_grad():
        x, y = (
            (torch.from_numpy(one).permute(0, 3, 1, 2) * 2 - 1 - shift) / scale for one in (a, b)
        )
        for number, part in enumerate(module.features[:12]):
            x, y = part(x), part(y)
            if number in (1, 4, 7, 9, 11):
                layer = (1, 4, 7, 9, 11).index(number)
                gap = (x / x.norm(dim=1, keepdim=True) - y / y.norm(dim=1, keepdim=True)) ** 2
                weighted = torch.from_numpy(weights[layer]) * gap
                expected += weighted.sum(dim=1).mean(dim=(1, 2))
    np.testing.assert_allclose(distance(a, b), expected.numpy(), rtol=1e-4)
    np.testing.assert_array_equal(distance(a, a), 0)
    np.testing.assert_allclose(distance(a, b, batch_size=2), distance(a, b), rtol=1e-5)


def test_lpips_without_its_files(tmp_path):
    with pytest.raises(MissingFileError, match=r"pip install lpips[\s\S]*lpips-alexnet-0.1"):
        PerceptualDistance(tmp_path)
    save_file({"lin0": torch.zeros(3)}, weights_file("lpips-alexnet", "0.1", tmp_path))
    with pytest.raises(InputError, match="lin0, expected lin0, lin1"):
        PerceptualDistance(tmp_path)
    tensors = {f"lin{i}": torch.zeros(n) for i, n in enumerate(CHANNELS)}
    save_file(tensors, weights_file("lpips-alexnet", "0.1", tmp_path))
    with pytest.raises(MissingFileError, match="LPIPS judges by alexnet"):
        PerceptualDistance(tmp_path)
    with pytest.raises(UnknownNameError, match="vgg16"):
        PerceptualDistance(tmp_path, "squeezenet")


def test_lpips_of_unlike_shapes(lpips):
    with pytest.raises(InputError, match="one shape"):
        lpips[0](np.zeros((2, 64, 64, 3)), np.zeros((2, 32, 32, 3)))


@pytest.mark.slow
def test_kid_of_images_is_that_of_their_average_pools(tmp_path):
    module = untrained("inception_v3")
    saved(tmp_path, "inception_v3", module)
    network = load_network("inception_v3", "IMAGENET1K_V1", tmp_path, needed_by="KID", device="cpu")
    a, b = np.random.default_rng(0).integers(0, 256, (2, 2, 299, 299, 3), dtype=np.uint8)
    pools = [
        by_hand(
            "inception_v3",
            module,
            (torch.from_numpy(one).permute(0, 3, 1, 2) / 255 - MEAN) / STD,
        )
        for one in (a, b)
    ]
    found = inception_kernel_distance(a, b, {"inception_v3": network})
    assert found == pytest.approx(kernel_distance(*pools), abs=1e-5)
