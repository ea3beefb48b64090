"""timm's models: equal to timm's own loops, layer by layer, on real photographs."""

import json
from copy import deepcopy

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import create_transform, resolve_data_config

from brainkit.errors import DownloadError, InputError, UnknownNameError
from brainkit.features import extract
from brainkit.features.backbones.backbone import evaluating
from brainkit.features.backbones.timm import TimmBackbone, timm_backbone
from brainkit.features.spec import parse_spec

ARCHITECTURES = {
    "vit_tiny_patch16_224": {"depth": 3},
    "vit_small_patch14_reg4_dinov2": {"depth": 2, "img_size": 56, "embed_dim": 96, "num_heads": 3},
    "resnet18": {},
    "convnext_atto": {"depths": (1, 1, 2, 1)},
    "swin_tiny_patch4_window7_224": {"depths": (1, 1, 1, 1), "embed_dim": 24},
    "mixer_s32_224": {},
    "pit_ti_224": {},
}


@pytest.fixture(scope="module")
def photos(shared_data):
    files = sorted((shared_data / "cc0_photos").glob("*.jpg"))[:3]
    return [Image.open(file).convert("RGB") for file in files]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request):
    torch.manual_seed(3)
    module = timm.create_model(request.param, num_classes=10, **ARCHITECTURES[request.param])
    for part in module.modules():  # statistics that a training would have left
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 2)
    return TimmBackbone(module)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model as timm itself saves it for the hub, with preprocessing of its own."""
    from timm.models._hub import save_for_hf

    target = tmp_path_factory.mktemp("judge")
    torch.manual_seed(1)
    module = timm.create_model("resnet10t", num_classes=7)
    config = {"input_size": (3, 64, 64), "mean": (0.5, 0.4, 0.3), "crop_pct": 1.0}
    module.pretrained_cfg.update(config)
    save_for_hf(module, target, safe_serialization=True)
    return target


def test_preprocessing_is_timms_for_evaluation(model, photos):
    size = {"input_size": (3, 56, 56)} if "reg4" in model.spec else None  # built for that
    config = timm.data.resolve_model_data_config(model.module, args=size)
    transform = timm.data.create_transform(**config, is_training=False)
    expected = torch.stack([transform(photo) for photo in photos])
    torch.testing.assert_close(model.prepare(photos), expected, rtol=0, atol=0)
    torch.testing.assert_close(model.prepare(photos), expected, rtol=0, atol=0)  # nothing random
    assert "Normalize" in model.identity()["preprocessing"]
    assert "Random" not in model.identity()["preprocessing"]


def test_layers_equal_timms_forward_intermediates(model, photos):
    batch = model.prepare(photos)
    names = [part["module"] for part in model.module.feature_info]
    got = model.run(batch, names)
    with torch.inference_mode():
        expected = model.module.eval().forward_intermediates(batch, intermediates_only=True)
    assert len(names) == len(expected) == len(got)
    for name, value in zip(names, expected, strict=True):
        ours = got[name]
        if ours.ndim == 3:  # tokens: timm's maps are those of the patches alone
            ours = ours[:, model.prefix_tokens(name) :].mT.reshape(value.shape)
        torch.testing.assert_close(ours, value, rtol=1e-5, atol=1e-5)


def test_every_submodule_equals_a_hook_of_ones_own(model, photos):
    batch = model.prepare(photos)
    names = [part["module"] for part in model.module.feature_info]
    calls, handles = {}, []
    for name, part in model.module.named_modules():
        handles.append(
            part.register_forward_hook(
                lambda module, given, output, name=name: calls.setdefault(name, []).append(
                    deepcopy(output)
                )
            )
        )
    with torch.inference_mode():
        logits = model.module.eval()(batch)
    for handle in handles:
        handle.remove()
    # Those that are called several times, such as a mixer's drop_path, are named by the call.
    seen = {
        f"{name}:{number}" if len(outputs) > 1 else name: output
        for name, outputs in calls.items()
        for number, output in enumerate(outputs)
    }
    usable = [
        name
        for name in seen
        if name.partition(":")[0] in model.layers()
        and isinstance(seen[name], torch.Tensor)
        and seen[name].ndim in (2, 3, 4)
        and len(seen[name]) == len(batch)
    ]
    got = model.run(batch, usable)
    assert len(usable) > 20
    for name in usable:
        value = seen[name]
        if value.shape != got[name].shape:  # channels were last, or a map is a row of tokens
            moved = value.movedim(-1, 1)
            value = moved.reshape(got[name].shape)
        torch.testing.assert_close(got[name], value, rtol=1e-5, atol=1e-5, msg=name)
    head = model.layers()[-1]
    mixed = model.run(batch, [names[0], head, names[-1]])
    torch.testing.assert_close(mixed[head].flatten(1), logits.flatten(1), rtol=1e-5, atol=1e-5)
    alone = model.run(batch, [names[0]])[names[0]]
    torch.testing.assert_close(mixed[names[0]], alone, rtol=1e-5, atol=1e-6)


def test_tokens_of_a_vision_transformer(photos):
    torch.manual_seed(0)
    module = timm.create_model(
        "vit_small_patch14_reg4_dinov2", img_size=56, depth=1, embed_dim=96, num_heads=3
    )
    model = TimmBackbone(module)
    assert model.prefix_tokens("blocks.0") == 5  # a class token and four registers
    assert model.prefix_tokens("patch_embed") == 0
    batch = model.prepare(photos[:1])
    got = model.run(batch, ["blocks.0", "patch_embed"])
    assert got["blocks.0"].shape == (1, 5 + 16, 96)
    assert got["patch_embed"].shape == (1, 16, 96)


def test_batch_norm_never_drifts(photos):
    """Trap T21: a frozen trunk in train mode neither uses nor updates batch statistics."""
    model = timm_backbone(parse_spec("timm:resnet18/random:1"))
    batch = model.prepare(photos)
    first = model.run(batch, ["layer4", "fc"])
    before = model.weights()
    model.module.train()
    second = model.run(batch[:2], ["layer4", "fc"])
    for name in first:
        torch.testing.assert_close(first[name][:2], second[name], rtol=1e-5, atol=1e-6)
    assert TimmBackbone(model.module).weights() == before


def test_random_weights_depend_on_their_seed_only():
    spec = "timm:resnet10t/random:{}"
    first = timm_backbone(parse_spec(spec.format(4))).identity()
    torch.manual_seed(99)
    assert timm_backbone(parse_spec(spec.format(4))).identity() == first
    assert timm_backbone(parse_spec(spec.format(5))).weights() != first["weights"]
    assert "random:4" in first["model"]
    assert json.loads(json.dumps(first)) == first


def test_folder_in_timms_format(folder, photos):
    model = timm_backbone(parse_spec(f"timm:{folder}"))
    for name, value in load_file(folder / "model.safetensors").items():
        torch.testing.assert_close(model.module.state_dict()[name], value, rtol=0, atol=0)
    batch = model.prepare(photos)
    assert batch.shape == (3, 3, 64, 64)
    assert model.run(batch, ["fc"])["fc"].shape == (3, 7)
    with evaluating(model.module):
        expected = model.module(batch)
    torch.testing.assert_close(model.run(batch, ["fc"])["fc"], expected)
    blank = timm_backbone(parse_spec(f"timm:{folder}/random:2"))
    assert blank.weights() != model.weights()


def test_folder_whose_weights_do_not_fit(folder, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(FileNotFoundError, match="no weights"):
        timm_backbone(parse_spec(f"timm:{tmp_path}"))
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(InputError, match=r"safetensors\.torch\.save_file"):
        timm_backbone(parse_spec(f"timm:{tmp_path}"))
    state = load_file(folder / "model.safetensors")
    del state["conv1.0.weight"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"conv1\.0\.weight"):
        timm_backbone(parse_spec(f"timm:{tmp_path}"))
    (tmp_path / "config.json").write_text('{"architecture": "no_such_model"}')
    with pytest.raises(InputError, match="timm's format"):
        timm_backbone(parse_spec(f"timm:{tmp_path}"))


def test_a_safetensors_file_for_an_architecture(folder, tmp_path):
    torch.manual_seed(8)
    file = tmp_path / "weights.safetensors"
    save_file(timm.create_model("resnet10t").state_dict(), file)
    model = timm_backbone(parse_spec(f"timm:resnet10t/{file}"))
    assert str(tmp_path) not in json.dumps(model.identity())  # the hash tells, not the place
    with pytest.raises(InputError, match="fit only in part"):
        timm_backbone(parse_spec(f"timm:resnet10t/{folder}/model.safetensors"))  # seven classes


def test_a_file_goes_with_the_preprocessing_of_a_tag(tmp_path):
    file = tmp_path / "weights.safetensors"
    save_file(timm.create_model("vit_tiny_patch16_224", depth=12).state_dict(), file)
    several = tmp_path / "resnet.safetensors"
    save_file(timm.create_model("resnet18").state_dict(), several)
    with pytest.raises(InputError, match=r"How are images prepared .* timm:resnet18\.a1_in1k/"):
        timm_backbone(parse_spec(f"timm:resnet18/{several}"))
    for name in timm.list_pretrained("resnet18.*"):
        model = timm_backbone(parse_spec(f"timm:{name}/{several}"))
        settings = resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        expected = create_transform(**settings, is_training=False)
        assert model.identity()["preprocessing"] == " ".join(repr(expected).split())
    with pytest.raises(UnknownNameError, match="weights of resnet18 'a1_in2k'"):
        timm_backbone(parse_spec(f"timm:resnet18.a1_in2k/{several}"))
    assert timm_backbone(parse_spec(f"timm:vit_tiny_patch16_224/{file}")).weights()


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("vit_relpos_small_patch16_224", 0), ("vit_relpos_base_patch16_cls_224", 1)],
)
def test_relative_positions(name, prefix, photos):
    torch.manual_seed(0)
    module = timm.create_model(name, depth=2, embed_dim=64, num_heads=2)
    model = TimmBackbone(module)
    batch = model.prepare(photos)
    got = model.run(batch, ["blocks.0", "blocks.1"])
    with torch.inference_mode():
        expected = module.forward_intermediates(batch, intermediates_only=True)
    for value, own in zip(got.values(), expected, strict=True):
        assert value.shape == (len(photos), prefix + 196, 64)
        torch.testing.assert_close(value[:, prefix:], own.flatten(2).mT, rtol=1e-5, atol=1e-5)
    assert extract(model, photos, layers="blocks.1", tokens="patch").shape[1] == 196


def test_unknown_names_and_weights_that_are_not_here():
    with pytest.raises(UnknownNameError, match="Did you mean 'resnet18'"):
        timm_backbone(parse_spec("timm:resnet_18/random"))
    with pytest.raises(UnknownNameError, match="Did you mean 'a1_in1k'"):
        timm_backbone(parse_spec("timm:resnet18/a1_in1kk"))
    with pytest.raises(DownloadError, match=r"timm/resnet18\.a1_in1k"):
        timm_backbone(parse_spec("timm:resnet18"))
    with pytest.raises(DownloadError, match=r"timm/resnet18\.a2_in1k"):
        timm_backbone(parse_spec("timm:resnet18/a2_in1k"))
    with pytest.raises(DownloadError, match="some-lab/net"):
        timm_backbone(parse_spec("timm:hf:some-lab/net"))
    with pytest.raises(InputError, match="no weights of convnext_atto_rms "):
        timm_backbone(parse_spec("timm:convnext_atto_rms"))
    model = timm_backbone(parse_spec("timm:resnet10t/random"))
    with pytest.raises(UnknownNameError, match="Did you mean 'layer4'"):
        model.check_layers(["layer5"])
    assert model.check_layers([]) == ["layer4"]
