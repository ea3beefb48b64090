"""torchvision's models: equal to torchvision's own feature extraction, on real photographs."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from brainkit.errors import DownloadError, InputError, UnknownNameError
from brainkit.features import extract
from brainkit.features.backbones.torchvision import (
    CaffeBGR,
    TorchvisionBackbone,
    torchvision_backbone,
)
from brainkit.features.spec import parse_spec

# Layers that torchvision's own extractor (by tracing) knows under the same name, and whose output
# nothing changes in place afterwards: tracing would return the changed one.
TRACED = {
    "resnet18": ("maxpool", "layer1", "layer2.0.conv1", "layer3", "layer4", "avgpool", "fc"),
    "squeezenet1_0": ("features.2", "features.3.squeeze_activation", "features", "classifier.3"),
    "swin_t": ("features.0.0", "features.1.0.norm1", "features.3", "norm", "permute", "head"),
    "convnext_tiny": ("features.0", "features.1.0.block.0", "features.5", "avgpool", "classifier"),
}
CHANNELS_LAST = {"features.1.0.norm1", "features.3", "norm"}


@pytest.fixture(scope="module")
def photos(shared_data):
    files = sorted((shared_data / "cc0_photos").glob("*.jpg"))[:2]
    return [Image.open(file).convert("RGB") for file in files]


@pytest.fixture
def squeezenet(shared_data):
    file = shared_data / "weights" / "squeezenet" / "squeezenet1_0_fp16_caffeBGR.safetensors"
    return f"torchvision:squeezenet1_0+caffe-bgr/{file}"


@pytest.mark.parametrize("name", TRACED)
def test_layers_equal_torchvisions_own_extraction(name, photos):
    model = torchvision_backbone(parse_spec(f"torchvision:{name}/random:2"))
    for part in model.module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
    transform = models.get_model_weights(name).DEFAULT.transforms()
    batch = model.prepare(photos)
    torch.testing.assert_close(
        batch, torch.stack([transform(photo) for photo in photos]), rtol=0, atol=0
    )
    got = model.run(batch, TRACED[name])
    with torch.inference_mode():
        expected = create_feature_extractor(model.module, list(TRACED[name]))(batch)
    for layer in TRACED[name]:
        value = expected[layer]
        if name == "swin_t" and layer in CHANNELS_LAST:
            value = value.movedim(-1, 1)
        torch.testing.assert_close(got[layer], value, rtol=1e-5, atol=1e-5, msg=layer)


def test_every_block_of_a_small_vision_transformer(photos):
    torch.manual_seed(0)
    module = models.VisionTransformer(
        image_size=64, patch_size=16, num_layers=3, num_heads=2, hidden_dim=32, mlp_dim=64
    )
    torch.nn.init.normal_(module.heads.head.weight)
    transform = models.ViT_B_16_Weights.DEFAULT.transforms
    model = TorchvisionBackbone(module, "vit_small", transform(crop_size=64, resize_size=64))
    batch = model.prepare(photos)
    blocks = [f"encoder.layers.encoder_layer_{index}" for index in range(3)]
    got = model.run(batch, [*blocks, "encoder", "conv_proj", "heads"])
    with torch.inference_mode():
        tokens = module._process_input(batch)
        tokens = torch.cat([module.class_token.expand(2, -1, -1), tokens], dim=1)
        tokens = module.encoder.dropout(tokens + module.encoder.pos_embedding)
        for block, layer in zip(blocks, module.encoder.layers, strict=True):
            tokens = layer(tokens)
            torch.testing.assert_close(got[block], tokens, rtol=1e-5, atol=1e-5)
            assert model.prefix_tokens(block) == 1
        torch.testing.assert_close(got["encoder"], module.encoder.ln(tokens))
        torch.testing.assert_close(got["heads"], module(batch), rtol=1e-5, atol=1e-5)
    assert model.prefix_tokens("conv_proj") == 0
    assert got["conv_proj"].shape == (2, 32, 4, 4)
    assert model.default_layer() == "encoder"


def test_a_layer_that_is_changed_in_place_keeps_its_own_output(photos):
    model = torchvision_backbone(parse_spec("torchvision:resnet18/random"))
    module = model.module
    batch = model.prepare(photos)
    got = model.run(batch, ["bn1", "relu", "layer1.0.bn2"])
    with torch.inference_mode():
        before = module.bn1(module.conv1(batch))
        torch.testing.assert_close(got["bn1"], before, rtol=1e-5, atol=1e-5)
        assert got["bn1"].min() < 0
        torch.testing.assert_close(got["relu"], module.layer4[1].relu(got["relu"]))
        block, x = module.layer1[0], module.maxpool(torch.relu(before))
        inner = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x)))))
    torch.testing.assert_close(got["layer1.0.bn2"], inner, rtol=1e-5, atol=1e-5)


def test_batch_norm_never_drifts(photos):
    """Trap T21: a frozen trunk in train mode neither uses nor updates batch statistics."""
    model = torchvision_backbone(parse_spec("torchvision:resnet18/random:1"))
    batch = model.prepare(photos)
    first = model.run(batch, ["layer4"])["layer4"]
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    model.module.train()
    second = model.run(batch[:1], ["layer4"])["layer4"]
    torch.testing.assert_close(first[:1], second, rtol=1e-5, atol=1e-6)
    for name, value in model.module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_caffe_preprocessing():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    got = CaffeBGR()(Image.fromarray(pixels)).numpy()
    middle = pixels[14 : 14 + 227, 14 : 14 + 227].astype(np.float32)
    assert got.shape == (3, 227, 227)
    np.testing.assert_array_equal(got[0], middle[:, :, 2] - 104)  # blue
    np.testing.assert_array_equal(got[1], middle[:, :, 1] - 117)
    np.testing.assert_array_equal(got[2], middle[:, :, 0] - 123)  # red
    grey = CaffeBGR()(Image.new("L", (300, 40), 200)).numpy()
    np.testing.assert_array_equal(grey[:, 5, 5], [96, 83, 77])
    whole = CaffeBGR(resize=227, interpolation="bicubic")(Image.fromarray(pixels[:227, :227]))
    np.testing.assert_array_equal(whole.numpy()[2], pixels[:227, :227, 0] - np.float32(123))
    with pytest.raises(InputError, match="crop must be from 1 to resize=200; got 227"):
        CaffeBGR(resize=200)
    with pytest.raises(UnknownNameError, match="Did you mean 'bicubic'"):
        CaffeBGR(interpolation="cubic")


def test_real_squeezenet_from_caffe(squeezenet, photos, tmp_path):
    model = torchvision_backbone(parse_spec(squeezenet))
    identity = model.identity()
    assert identity["preprocessing"] == (
        "CaffeBGR(resize=256, crop=227, interpolation=bilinear, mean_bgr=(104.0, 117.0, 123.0), "
        "range=0..255)"
    )
    assert identity["model"] == "squeezenet1_0+caffe-bgr"
    assert json.loads(json.dumps(identity)) == identity
    # The same weights as a pickle, which is refused, and written again.
    torch.save(model.module.state_dict(), tmp_path / "squeezenet.pth")
    with pytest.raises(InputError, match=r"safetensors\.torch\.save_file"):
        torchvision_backbone(parse_spec(f"torchvision:squeezenet1_0/{tmp_path}/squeezenet.pth"))
    save_file(model.module.state_dict(), tmp_path / "mine.safetensors")
    again = torchvision_backbone(
        parse_spec(f"torchvision:squeezenet1_0+caffe-bgr/{tmp_path}/mine.safetensors")
    )
    assert again.identity() == identity
    batch = model.prepare(photos)
    torch.testing.assert_close(
        again.run(batch, ["features.12"])["features.12"],
        model.run(batch, ["features.12"])["features.12"],
        rtol=0,
        atol=0,
    )


@pytest.mark.parametrize(
    ("file", "category"),
    [
        ("34255900146_45f2d8682e_z", "lesser panda"),
        ("37873094362_a317d1a104_z", "castle"),
        ("32830552834_7bc70281d7_z", "agaric"),
        ("37721937066_ca5b374fde_z", "ox"),
        ("37310568722_765c8ff243_z", "trombone"),
    ],
)
def test_real_squeezenet_names_what_is_in_a_photograph(squeezenet, shared_data, file, category):
    model = torchvision_backbone(parse_spec(squeezenet))
    photo = Image.open(shared_data / "cc0_photos" / f"{file}.jpg").convert("RGB")
    scores = model.run(model.prepare([photo]), ["classifier.3"])["classifier.3"].mean(dim=(2, 3))
    names = models.SqueezeNet1_0_Weights.DEFAULT.meta["categories"]
    assert names[int(scores.argmax())] == category
    assert scores.softmax(dim=1).max() > 0.9


def test_weights_of_torchvision_are_found_once_converted(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(DownloadError, match=r"resnet18-f37072fd\.pth.*\.torch\.save_file"):
        torchvision_backbone(parse_spec("torchvision:resnet18/IMAGENET1K_V1"))
    with pytest.raises(DownloadError, match=r"resnet18-f37072fd\.safetensors"):
        torchvision_backbone(parse_spec("torchvision:resnet18"))
    torch.manual_seed(7)
    module = models.resnet18()
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    save_file(module.state_dict(), folder / "resnet18-f37072fd.safetensors")
    model = torchvision_backbone(parse_spec("torchvision:resnet18/IMAGENET1K_V1"))
    torch.testing.assert_close(model.module.fc.weight, module.fc.weight, rtol=0, atol=0)


def test_preprocessing_of_choice():
    identity = {
        name: torchvision_backbone(parse_spec(f"torchvision:{name}/random")).identity()
        for name in (
            "mobilenet_v2",
            "mobilenet_v2+IMAGENET1K_V1",
            "mobilenet_v2+caffe-bgr",
            "mobilenet_v2+caffe-bgr-whole",
        )
    }
    assert "resize_size=[232]" in identity["mobilenet_v2"]["preprocessing"]
    assert "resize_size=[256]" in identity["mobilenet_v2+IMAGENET1K_V1"]["preprocessing"]
    assert "CaffeBGR" in identity["mobilenet_v2+caffe-bgr"]["preprocessing"]
    assert "resize=227, crop=227" in identity["mobilenet_v2+caffe-bgr-whole"]["preprocessing"]
    assert len({value["weights"] for value in identity.values()}) == 1


def test_unknown_names_and_weights_that_do_not_fit(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'resnet18'"):
        torchvision_backbone(parse_spec("torchvision:resnet_18/random"))
    with pytest.raises(UnknownNameError, match="Did you mean 'IMAGENET1K_V1'"):
        torchvision_backbone(parse_spec("torchvision:resnet18/IMAGENET1K_V9"))
    with pytest.raises(UnknownNameError, match="Did you mean 'caffe-bgr'"):
        torchvision_backbone(parse_spec("torchvision:resnet18+cafe-bgr/random"))
    state = models.squeezenet1_1().state_dict()
    save_file({f"net.{name}": value for name, value in state.items()}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="fit only in part"):
        torchvision_backbone(parse_spec(f"torchvision:squeezenet1_1/{tmp_path}/w.safetensors"))
    model = torchvision_backbone(parse_spec("torchvision:squeezenet1_1/random"))
    with pytest.raises(UnknownNameError, match=r"Did you mean 'features\.12'"):
        model.check_layers(["feature.12"])


def test_the_axis_of_channels_within_blocks(photos):
    """Activations keep the axes of what comes before them, which differ from block to block."""
    torch.manual_seed(0)
    settings = [
        models.convnext.CNBlockConfig(16, 24, 1), models.convnext.CNBlockConfig(24, None, 1)
    ]  # fmt: skip
    module = models.convnext.ConvNeXt(settings)
    model = TorchvisionBackbone(module, "small", models.ConvNeXt_Tiny_Weights.DEFAULT.transforms())
    parts = [f"features.1.0.block.{number}" for number in range(7)]
    got = model.run(model.prepare(photos), [*parts, "features.1.0", "features.2.0"])
    widths = {name: value.shape[1] for name, value in got.items()}
    assert list(widths.values()) == [16, 16, 16, 64, 64, 16, 16, 16, 16]
    assert {value.shape[2:] for value in got.values()} == {(56, 56)}
    mean = extract(model, photos, layers=parts[4], pool="mean")
    assert mean.shape == (2, 64)
    np.testing.assert_allclose(mean, got[parts[4]].mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_the_axis_of_channels_within_windows(photos):
    torch.manual_seed(0)
    module = models.MaxVit((224, 224), 16, 7, [32], [1], 8, 0.0)
    model = TorchvisionBackbone(module, "small", models.MaxVit_T_Weights.DEFAULT.transforms())
    attention = "blocks.0.layers.0.layers.window_attention"
    names = [
        f"{attention}{part}"
        for part in ("", ".partition_op", ".attn_layer", ".mlp_layer", ".mlp_layer.2",
                     ".departition_op")
    ]  # fmt: skip
    got = model.run(model.prepare(photos), names)
    shapes = [tuple(got[name].shape[1:]) for name in names]
    pixels = (64, 49)  # of 56 × 56 pixels: windows, and pixels in each
    assert shapes == [
        (32, 56, 56), (32, *pixels), (32, *pixels), (32, *pixels), (128, *pixels), (32, 56, 56),
    ]  # fmt: skip
