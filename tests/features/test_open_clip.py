"""open_clip's towers: every layer against open_clip's own loop, on real photographs."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from PIL import Image

from brainkit.errors import CorruptFileError, DownloadError, InputError, UnknownNameError
from brainkit.features import extract, open_backbone
from brainkit.features.backbones.open_clip import FAMILIES, find_source
from brainkit.features.spec import parse_spec

VIT = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
TEXTS = ["a photograph of a dog", "two cats", "nothing at all"]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def library(folder: Path, photos: list[Path]) -> tuple[torch.nn.Module, torch.Tensor]:
    """open_clip's own model and its own preprocessing of the photographs."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    images = torch.stack([transform(Image.open(path).convert("RGB")) for path in photos])
    return model.eval(), images


def test_vit_equals_forward_intermediates(vit_folder: Path, photos: list[Path]) -> None:
    model, images = library(vit_folder, photos)
    ours = extract(
        f"open_clip:{vit_folder}", photos, layers=open_backbone(f"open_clip:{vit_folder}").layers()
    )
    with torch.no_grad():
        theirs = model.forward_intermediates(
            image=images, image_output_fmt="NLC", image_output_extra_tokens=True, normalize=False
        )
        parts = zip(
            theirs["image_intermediates_prefix"], theirs["image_intermediates"], strict=True
        )
        blocks = [torch.cat(part, dim=1).numpy() for part in parts]
        pooled = model.visual.ln_post(torch.from_numpy(blocks[-1]))[:, 0].numpy()
        stem = model.visual._embeds(images).numpy()
    assert list(ours) == ["stem", "blocks.0", "blocks.1", "blocks.2", "pooled", "embedding"]
    np.testing.assert_allclose(ours["stem"], stem, **CLOSE)
    for number, block in enumerate(blocks):
        assert ours[f"blocks.{number}"].shape == (6, 17, 32)
        np.testing.assert_allclose(ours[f"blocks.{number}"], block, **CLOSE)
    np.testing.assert_allclose(ours["pooled"], pooled, **CLOSE)
    np.testing.assert_allclose(ours["embedding"], theirs["image_features"].numpy(), **CLOSE)


def test_resnet_equals_forward_intermediates(resnet_folder: Path, photos: list[Path]) -> None:
    model, images = library(resnet_folder, photos)
    ours = extract(
        f"open_clip:{resnet_folder}",
        photos,
        layers=[
            "stem",
            "layer1",
            "layer2.0",
            "layer2.1",
            "layer2",
            "layer3",
            "layer4",
            "embedding",
        ],
        pool="flatten",
    )
    with torch.no_grad():
        theirs = model.forward_intermediates(image=images, normalize=False)
    stages = ("stem", "layer1", "layer2", "layer3", "layer4")
    for name, value in zip(stages, theirs["image_intermediates"], strict=True):
        assert value.std() > 0.001
        np.testing.assert_allclose(ours[name], value.flatten(1).numpy(), **CLOSE)
    np.testing.assert_array_equal(ours["layer2.1"], ours["layer2"])
    assert not np.allclose(ours["layer2.0"], ours["layer2"])
    np.testing.assert_allclose(ours["embedding"], theirs["image_features"].numpy(), **CLOSE)


@pytest.mark.parametrize(
    ("name", "pool", "size", "layer", "shape"),
    [
        ("test_convnext", "avg", 128, "stages.1", (256, 32)),
        ("test_vit", "token", 160, "blocks.3", (101, 64)),
    ],
)
def test_timm_towers_equal_hooks(
    make_clip, photos: list[Path], name: str, pool: str, size: int, layer: str, shape
) -> None:
    vision = {"timm_model_name": name, "timm_pool": pool, "image_size": size}
    folder = make_clip(vision, custom_text=True)
    model, images = library(folder, photos[:2])
    ours = extract(f"open_clip:{folder}@{layer},pooled,embedding", photos[:2])
    recorded = {}
    model.visual.trunk.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: recorded.update(x=output.detach().clone())
    )
    with torch.no_grad():
        pooled = model.visual.trunk(images)
        embedding = model.encode_image(images)
    theirs = recorded["x"]
    theirs = theirs.flatten(2).transpose(1, 2) if theirs.ndim == 4 else theirs
    assert ours[layer].shape == (2, *shape)
    np.testing.assert_allclose(ours[layer], theirs.numpy(), **CLOSE)
    np.testing.assert_allclose(ours["pooled"], pooled.numpy(), **CLOSE)
    np.testing.assert_allclose(ours["embedding"], embedding.numpy(), **CLOSE)


@pytest.mark.parametrize("custom_text", [False, True])
def test_text_equals_forward_intermediates(make_clip, vit_folder: Path, custom_text: bool) -> None:
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    folder = make_clip(vision, custom_text=True) if custom_text else vit_folder
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    spec = f"open_clip-text:{folder}"
    ours = extract(spec, TEXTS, layers=open_backbone(spec).layers())
    with torch.no_grad():
        theirs = model.forward_intermediates(text=tokens, normalize=False)
        tower = model.text if custom_text else model
        final = tower.ln_final(theirs["text_intermediates"][-1])
    end = tokens.argmax(dim=-1)
    assert list(ours) == ["tokens", "blocks.0", "blocks.1", "pooled", "embedding"]
    for number, value in enumerate(theirs["text_intermediates"]):
        np.testing.assert_allclose(ours[f"blocks.{number}"], value.numpy(), **CLOSE)
    np.testing.assert_allclose(ours["pooled"], final[torch.arange(3), end].numpy(), **CLOSE)
    np.testing.assert_allclose(ours["embedding"], theirs["text_features"].numpy(), **CLOSE)
    # Padding comes after the end of the text and is left out of a mean.
    mean = extract(f"{spec}@blocks.1", TEXTS, pool="mean")
    block = theirs["text_intermediates"][1]
    by_hand = torch.stack([block[i, : end[i] + 1].mean(0) for i in range(3)])
    np.testing.assert_allclose(mean, by_hand.numpy(), **CLOSE)


def test_token_policy(vit_folder: Path, photos: list[Path]) -> None:
    spec = f"open_clip:{vit_folder}@blocks.1"
    whole = extract(spec, photos[:2])
    np.testing.assert_array_equal(extract(spec, photos[:2], tokens="patch"), whole[:, 1:])
    np.testing.assert_array_equal(extract(spec, photos[:2], tokens="class"), whole[:, 0])
    np.testing.assert_array_equal(extract(spec, photos[:2], pool="class"), whole[:, 0])
    pooled = extract(spec, photos[:2], tokens="patch", pool="mean")
    np.testing.assert_allclose(pooled, whole[:, 1:].mean(axis=1), rtol=1e-5, atol=1e-6)


def test_quickgelu_mismatch_is_an_error_both_ways() -> None:
    with pytest.raises(
        InputError, match=r"QuickGELU mismatch.*open_clip:ViT-B-32-quickgelu/openai"
    ):
        open_backbone("open_clip:ViT-B-32/openai")
    with pytest.raises(InputError, match=r"QuickGELU mismatch.*open_clip:ViT-B-32/laion2b"):
        open_backbone("open_clip:ViT-B-32-quickgelu/laion2b_s34b_b79k")


def test_every_tag_that_open_clip_would_warn_of_is_an_error() -> None:
    refused = 0
    for name, tag in open_clip.list_pretrained():
        quick = bool(open_clip.get_model_config(name).get("quick_gelu"))
        spec = parse_spec(f"open_clip:{name}/{tag}")
        if quick != bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu")):
            refused += 1
            with pytest.raises(InputError, match="QuickGELU mismatch"):
                find_source(spec, download=False)
        else:
            source = find_source(spec, download=False)
            assert len(source.preprocess["mean"]) == 3
    assert refused >= 20


def preprocessing_of(spec: str) -> dict:
    return find_source(parse_spec(spec), download=False).preprocess


def of_tag(name: str, tag: str) -> dict:
    """What open_clip itself takes for a tag, but for the size, which the model decides."""
    own = merge_preprocess_dict(asdict(PreprocessCfg()), open_clip.get_pretrained_cfg(name, tag))
    return {key: value for key, value in own.items() if key != "size"}


def same(ours: dict, theirs: dict) -> bool:
    plain = {key: value for key, value in ours.items() if key != "size"}
    return json.dumps(plain) == json.dumps(theirs)


def test_files_of_weights_are_prepared_for_as_their_tags_are(tmp_path: Path) -> None:
    asked = []
    for name in open_clip.list_models():
        file = f"open_clip:{name}/{tmp_path}/w.safetensors"
        tags = [of_tag(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
        if tags and all(tag == tags[0] for tag in tags):
            assert same(preprocessing_of(file), tags[0]), name
        else:
            asked.append(name)
            with pytest.raises(InputError, match=rf"How are images prepared .* open_clip:{name}\+"):
                preprocessing_of(file)
    assert {"ViT-L-14", "ViT-H-14", "convnext_tiny", "vit_relpos_medium_patch16_cls_224"} <= {
        *asked
    }
    siglip = preprocessing_of(f"open_clip:ViT-B-16-SigLIP2/{tmp_path}/w.safetensors")
    assert siglip["mean"] == (0.5, 0.5, 0.5)
    assert siglip["resize_mode"] == "squash"
    mobile = preprocessing_of(f"open_clip:MobileCLIP-S1/{tmp_path}/w.safetensors")
    assert (mobile["mean"], mobile["interpolation"]) == ((0.0, 0.0, 0.0), "bilinear")


def test_preprocessing_of_choice(tmp_path: Path, vit_folder: Path) -> None:
    file = f"{tmp_path}/w.safetensors"
    for tag in open_clip.list_pretrained_tags_by_model("ViT-H-14"):
        named = preprocessing_of(f"open_clip:ViT-H-14+{tag}/{file}")
        assert same(named, of_tag("ViT-H-14", tag))
    family = preprocessing_of(f"open_clip:convnext_tiny+siglip/{file}")
    assert same(family, of_tag("ViT-B-16-SigLIP", "webli"))
    assert preprocessing_of(f"open_clip:ViT-L-14+mobileclip/{file}")["std"] == (1.0, 1.0, 1.0)
    with pytest.raises(UnknownNameError, match=r"preprocessing of ViT-L-14 'siglap'.*'siglip'"):
        preprocessing_of(f"open_clip:ViT-L-14+siglap/{file}")
    # Text needs none, and the configuration beside the file says it.
    find_source(parse_spec(f"open_clip-text:convnext_tiny/{file}"), download=False)
    beside = vit_folder / "open_clip_model.safetensors"
    assert preprocessing_of(f"open_clip:convnext_tiny/{beside}")["mean"] == [0.4, 0.45, 0.5]


@pytest.mark.parametrize("family", ["openai", "siglip", "clipa", "mobileclip"])
def test_images_are_prepared_as_open_clip_does(
    family: str, make_clip, tmp_path: Path, photos: list[Path]
) -> None:
    settings = FAMILIES[family]
    folder = make_clip(VIT)
    content = json.loads((folder / "open_clip_config.json").read_text())
    content["preprocess_cfg"] = settings
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    _, images = library(folder, photos)
    ours = open_backbone(f"open_clip:{folder}")
    batch = ours.prepare([Image.open(path) for path in photos])
    torch.testing.assert_close(batch, images, rtol=0, atol=0)


def test_a_text_tower_without_a_mask_pads_to_its_full_length(make_clip, make_tokenizer) -> None:
    """As SigLIP's: whatever else is in the batch, a text has the same embedding."""
    text = {
        "context_length": 16, "vocab_size": 14, "width": 32, "heads": 2, "layers": 2,
        "hf_tokenizer_name": "local", "tokenizer_kwargs": {"clean": "canonicalize"},
        "no_causal_mask": True, "proj_bias": True, "pool_type": "last",
    }  # fmt: skip
    folder = make_clip(VIT, custom_text=True, text_cfg=text)
    make_tokenizer().save_pretrained(folder)
    ours = open_backbone(f"open_clip-text:{folder}")
    texts = ["a dog", "the red cat sits on the grass", "house"]
    whole = extract(ours, texts)
    alone = np.concatenate([extract(ours, [text]) for text in texts])
    np.testing.assert_allclose(whole, alone, **CLOSE)
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    words = open_clip.factory.HFTokenizer(str(folder), context_length=16, clean="canonicalize")
    with torch.no_grad():
        expected = model.encode_text(words(texts)).numpy()
    np.testing.assert_allclose(whole, expected, **CLOSE)


def test_random_weights_are_seeded_and_say_so(vit_folder: Path) -> None:
    first, again, other = (
        open_backbone(f"open_clip:{vit_folder}/random:{seed}").identity() for seed in (1, 1, 2)
    )
    assert first == again
    assert first["random_weights"] == 1
    assert first["weights"] != other["weights"]
    assert open_backbone(f"open_clip:{vit_folder}").identity()["random_weights"] is None


def test_identity(vit_folder: Path) -> None:
    identity = open_backbone(f"open_clip:{vit_folder}").identity()
    assert identity["preprocessing"] == {
        "size": [32, 32],
        "mode": "RGB",
        "mean": [0.4, 0.45, 0.5],
        "std": [0.3, 0.25, 0.2],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "fill_color": 0,
    }
    assert identity["model"] == "folder"
    text = open_backbone(f"open_clip-text:{vit_folder}").identity()
    assert text["source"] == "open_clip-text"
    assert len(text["preprocessing"]["vocabulary"]) == 64
    json.dumps([identity, text])


def test_unknown_names(vit_folder: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'ViT-B-32'"):
        open_backbone("open_clip:ViT-B32/openai")
    with pytest.raises(UnknownNameError, match="Did you mean 'laion2b_s34b_b79k'"):
        open_backbone("open_clip:ViT-B-32/laion2b_s34b")
    with pytest.raises(UnknownNameError, match=r"Did you mean 'blocks\.2'"):
        extract(f"open_clip:{vit_folder}@block.2", np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(InputError, match=r"names no weights\. Add a tag"):
        open_backbone("open_clip:ViT-B-16")


def test_offline_hub() -> None:
    with pytest.raises(DownloadError, match=r"hf:laion/.*open_clip_model\.safetensors was looked"):
        open_backbone("open_clip:ViT-B-32/laion2b_s34b_b79k")
    with pytest.raises(DownloadError, match="hf download org/name"):
        open_backbone("open_clip:hf:org/name")


def test_folders_in_another_format(tmp_path: Path, vit_folder: Path) -> None:
    with pytest.raises(InputError, match=r"no open_clip_config\.json"):
        open_backbone(f"open_clip:{tmp_path}")
    config = tmp_path / "open_clip_config.json"
    config.write_text("{")
    with pytest.raises(CorruptFileError, match="not readable JSON"):
        open_backbone(f"open_clip:{tmp_path}")
    content = json.loads((vit_folder / config.name).read_text())
    config.write_text(json.dumps({"model_cfg": content["model_cfg"], "preprocess_cfg": {}}))
    with pytest.raises(InputError, match="silently take OpenAI's"):
        open_backbone(f"open_clip:{tmp_path}")
    content["model_cfg"]["vision_cfg"]["no_such_setting"] = 1
    config.write_text(json.dumps(content))
    with pytest.raises(InputError, match="cannot be built by open_clip"):
        open_backbone(f"open_clip:{tmp_path}/random")


def test_pickled_weights_in_a_folder(tmp_path: Path, vit_folder: Path) -> None:
    config = "open_clip_config.json"
    (tmp_path / config).write_text((vit_folder / config).read_text())
    torch.save({}, tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(InputError, match=r"safetensors\.torch\.save_file"):
        open_backbone(f"open_clip:{tmp_path}")


def test_text_is_never_cut_silently() -> None:
    model = open_backbone("open_clip-text:ViT-B-32/random")
    fitting, longer = ("cup " * n for n in (75, 76))  # beside the tokens of start and end
    tokens = model.prepare([fitting, "cup"])
    assert torch.equal(tokens, open_clip.get_tokenizer("ViT-B-32")([fitting, "cup"]))
    with pytest.raises(InputError, match=r"at most 77 tokens; 2 of 3 are longer. .*'cup cup"):
        model.prepare(["cup", longer, longer])
