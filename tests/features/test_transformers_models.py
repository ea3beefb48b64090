"""Many models of transformers, small and random: equal to the library's own, one item at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from tokenizers.processors import TemplateProcessing

from brainkit.errors import InputError
from brainkit.features import extract
from brainkit.features.backbones.transformers import TransformersBackbone, transformers_backbone
from brainkit.features.spec import parse_spec

TEXTS = ["a dog", "the red cat sits on the grass", "house", "a red house"]
SHAPE: dict[str, Any] = {
    "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 48,
}  # fmt: skip
VISION = {"image_size": 48, "patch_size": 16, **SHAPE}
TOWER = {
    **SHAPE, "vocab_size": 14, "max_position_embeddings": 16, "bos_token_id": 2,
    "eos_token_id": 3, "pad_token_id": 0,
}  # fmt: skip
ENCODER = {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2}
SEQ2SEQ = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
}  # fmt: skip
RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}


def auto(config: str, **settings: Any) -> Callable[[], Any]:
    return lambda: hf.AutoModel.from_config(getattr(hf, config)(**settings))


def text(config: str, **settings: Any) -> Callable[[], Any]:
    return auto(config, vocab_size=14, **settings)


# Each with the most tokens that it takes, at most 512.
TEXT_MODELS: dict[str, tuple[Callable[[], Any], int]] = {
    "bert": (text("BertConfig", **SHAPE), 512),
    "roberta": (
        text("RobertaConfig", max_position_embeddings=18, pad_token_id=1, **SHAPE), 16
    ),
    "mpnet": (text("MPNetConfig", max_position_embeddings=18, **SHAPE), 16),
    "distilbert": (text("DistilBertConfig", dim=32, n_layers=2, n_heads=2, hidden_dim=48), 512),
    "albert": (text("AlbertConfig", embedding_size=16, **SHAPE), 512),
    "deberta": (text("DebertaConfig", **RELATIVE, **SHAPE), 512),
    "deberta-v2": (text("DebertaV2Config", position_buckets=8, **RELATIVE, **SHAPE), 512),
    "roformer": (text("RoFormerConfig", max_position_embeddings=32, **SHAPE), 32),
    "t5": (text("T5Config", **ENCODER), 512),
    "t5-encoder": (lambda: hf.T5EncoderModel(hf.T5Config(vocab_size=14, **ENCODER)), 512),
    "umt5-encoder": (lambda: hf.UMT5EncoderModel(hf.UMT5Config(vocab_size=14, **ENCODER)), 512),
    "bart": (text("BartConfig", max_position_embeddings=32, **SEQ2SEQ), 32),
    "xlnet": (text("XLNetConfig", d_model=32, n_layer=2, n_head=2, d_inner=48), 512),
    "gpt2": (text("GPT2Config", n_positions=16, n_embd=32, n_layer=2, n_head=2), 16),
    "llama": (
        text("LlamaConfig", num_key_value_heads=1, max_position_embeddings=32, **SHAPE), 32
    ),
    "bloom": (text("BloomConfig", hidden_size=32, n_layer=2, n_head=2), 512),
    "fnet": (
        text("FNetConfig", max_position_embeddings=16, hidden_size=32, num_hidden_layers=2,
             intermediate_size=48), 16,
    ),
    "longformer": (
        text("LongformerConfig", attention_window=[4, 4], max_position_embeddings=34,
             pad_token_id=0, **SHAPE), 33,
    ),
    "mamba": (text("MambaConfig", hidden_size=32, num_hidden_layers=2, state_size=4), 512),
    "siglip-text": (
        lambda: hf.SiglipTextModel(hf.SiglipTextConfig(projection_size=20, **TOWER)), 16
    ),
}  # fmt: skip
# Each with the tokens before and behind its patches, and the number of patches; maps have none.
IMAGE_MODELS: dict[str, tuple[Callable[[], Any], int, int, int]] = {
    "vit": (auto("ViTConfig", **VISION), 1, 0, 9),
    "vit-msn": (auto("ViTMSNConfig", **VISION), 1, 0, 9),
    "deit": (auto("DeiTConfig", **VISION), 2, 0, 9),
    "beit": (auto("BeitConfig", use_relative_position_bias=True, **VISION), 1, 0, 9),
    "data2vec": (auto("Data2VecVisionConfig", use_relative_position_bias=True, **VISION), 1, 0, 9),
    "dinov2": (auto("Dinov2Config", **VISION), 1, 0, 9),
    "dinov3": (auto("DINOv3ViTConfig", num_register_tokens=2, **VISION), 3, 0, 9),
    "ijepa": (auto("IJepaConfig", **VISION), 0, 0, 9),
    "siglip": (lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**VISION)), 0, 0, 9),
    "yolos": (
        lambda: hf.YolosModel(
            hf.YolosConfig(num_detection_tokens=5, **{**VISION, "image_size": [48, 48]})
        ), 1, 5, 9,
    ),
    "swin": (
        auto("SwinConfig", image_size=64, patch_size=4, embed_dim=16, depths=[1, 1],
             num_heads=[1, 2], window_size=4), 0, 0, 256,
    ),
    "regnet": (
        auto("RegNetConfig", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1],
             groups_width=4), 0, 0, 0,
    ),
    "segformer": (
        auto("SegformerConfig", hidden_sizes=[8, 8, 16, 16], depths=[1] * 4,
             num_attention_heads=[1, 1, 2, 2]), 0, 0, 0,
    ),
    "pvt": (
        auto("PvtConfig", image_size=64, hidden_sizes=[16, 16, 32, 32], depths=[1] * 4,
             num_attention_heads=[1, 1, 2, 2]), 0, 0, 256,
    ),
    "mobilenet": (auto("MobileNetV2Config"), 0, 0, 0),
}  # fmt: skip
TOWERS: dict[str, Callable[[], Any]] = {
    name: (lambda kind=kind, own=own, vision=vision: getattr(hf, f"{kind}Model")(
        getattr(hf, f"{kind}Config")(
            text_config={**TOWER, **own}, vision_config=vision, projection_dim=20
        )
    ))
    for name, kind, own, vision in (
        ("clip", "CLIP", {}, VISION),
        ("siglip", "Siglip", {"projection_size": 32}, VISION),
        ("align", "Align", {}, {"width_coefficient": 0.5, "depth_coefficient": 0.5}),
        ("chinese-clip", "ChineseCLIP", {}, VISION),
        ("altclip", "AltCLIP", {"project_dim": 20}, VISION),
        ("metaclip-2", "MetaClip2", {}, VISION),
        ("owlvit", "OwlViT", {}, VISION),
        ("blip", "Blip", {}, VISION),
        ("aimv2", "Aimv2", {}, VISION),
    )
}  # fmt: skip


def build(maker: Callable[[], Any]) -> Any:
    torch.manual_seed(0)
    model = maker().eval()
    for part in model.parameters():
        if part.ndim > 1:
            torch.nn.init.normal_(part, 0.0, 0.15)
    return model


def processor(side: int = 48) -> Any:
    return hf.ViTImageProcessor(size={"height": side, "width": side})


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    generator = np.random.default_rng(0)
    shapes = ((70, 60, 3), (50, 80, 3), (64, 64, 3))
    return [Image.fromarray(generator.integers(0, 256, shape, np.uint8)) for shape in shapes]


@pytest.mark.parametrize("kind", TEXT_MODELS)
def test_a_text_is_what_it_would_be_alone(kind: str, make_tokenizer: Any) -> None:
    maker, longest = TEXT_MODELS[kind]
    model, words = build(maker), make_tokenizer()
    backbone = TransformersBackbone(model, words, modality="text")
    batch = backbone.prepare(TEXTS)
    assert batch.shape[2] == longest
    hidden = [name for name in backbone.layers() if name.startswith("hidden_states.")]
    got = backbone.run(batch, hidden)
    tower = model.get_encoder() if model.config.is_encoder_decoder else model
    for row, line in enumerate(TEXTS):
        inputs = words([line], return_tensors="pt", return_token_type_ids=False)
        if kind == "siglip-text":  # as its processor pads, without a mask
            padded = words([line], padding="max_length", max_length=16, return_tensors="pt")
            inputs = {"input_ids": padded["input_ids"]}
        with torch.inference_mode():
            output = tower(**inputs, output_hidden_states=True)
        assert len(output.hidden_states) == len(hidden) >= 3
        for name, expected in zip(hidden, output.hidden_states, strict=True):
            value = got[name][row, : expected.shape[1]]
            torch.testing.assert_close(value, expected[0], rtol=1e-5, atol=1e-5)
            assert not got[name][row, expected.shape[1] :].any()
    # What is first used is looked at: nothing random, nothing of the neighbours.
    features = extract(backbone, TEXTS, layers=hidden[-1], pool="mean")
    alone = [extract(backbone, [line], layers=hidden[-1], pool="mean") for line in TEXTS]
    np.testing.assert_allclose(features, np.concatenate(alone), rtol=1e-4, atol=1e-5)


def test_a_model_that_hashes_at_random_is_refused(make_tokenizer: Any) -> None:
    model = build(text(
        "ReformerConfig", hidden_size=32, attention_head_size=16, num_attention_heads=2,
        attn_layers=["lsh", "lsh"], axial_pos_embds=False, max_position_embeddings=64,
        feed_forward_size=48, is_decoder=False, num_buckets=2, num_hashes=1,
        lsh_attn_chunk_length=4,
    ))  # fmt: skip
    backbone = TransformersBackbone(model, make_tokenizer(), modality="text")
    texts = ["the red cat sits on the grass", "a dog sits on the red house a cat on"]
    with pytest.raises(InputError, match=r"ReformerModel, layer hidden_states\.2, differ from one"):
        extract(backbone, texts, layers="hidden_states.2", pool="mean")


def test_submodules_that_work_tokens_first(make_tokenizer: Any) -> None:
    backbone = TransformersBackbone(
        build(TEXT_MODELS["xlnet"][0]), make_tokenizer(), modality="text"
    )
    texts = ["a red house on the grass"[:n] for n in (24, 11, 5)]  # 8, 5 and 3 tokens
    for some in (texts, texts[2:] * 3, [texts[0]] * 8):  # as many texts as tokens too
        got = backbone.run(backbone.prepare(some), ["layer.0", "layer.1", "hidden_states.1"])
        torch.testing.assert_close(got["layer.0"], got["hidden_states.1"], rtol=0, atol=0)


def test_types_of_tokens_and_class_tokens_at_the_end(make_tokenizer: Any) -> None:
    """As XLNet's own tokenizer makes them: a class token at the end, of a type of its own."""
    words = make_tokenizer(model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    words.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A [SEP] [CLS]:2", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    words.padding_side = "left"
    model = build(TEXT_MODELS["xlnet"][0])
    backbone = TransformersBackbone(model, words, modality="text")
    assert backbone.prefix_tokens("hidden_states.1") == 0
    got = backbone.run(backbone.prepare(TEXTS), ["hidden_states.2"])["hidden_states.2"]
    for row, line in enumerate(TEXTS):
        inputs = words([line], return_tensors="pt")
        assert inputs["token_type_ids"][0, -1] == 2
        with torch.inference_mode():
            expected = model(**inputs, output_hidden_states=True).hidden_states[2][0]
        torch.testing.assert_close(got[row, : len(expected)], expected, rtol=1e-5, atol=1e-5)
    last = extract(backbone, TEXTS, layers="hidden_states.2", pool="last")
    np.testing.assert_allclose(last[3], got[3, 4], rtol=1e-5)  # the class token
    with pytest.raises(InputError, match="no such token"):
        extract(backbone, TEXTS, layers="hidden_states.2", tokens="class")


@pytest.mark.parametrize("kind", IMAGE_MODELS)
def test_images_equal_the_librarys_own(kind: str, photos: list[Image.Image]) -> None:
    maker, prefix, suffix, patches = IMAGE_MODELS[kind]
    model = build(maker)
    side = 48 if patches == 9 else 64
    backbone = TransformersBackbone(model, processor(side))
    batch = backbone.prepare(photos)
    own = processor(side)(images=photos, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(batch, own, rtol=0, atol=0)
    with torch.inference_mode():
        states = model(pixel_values=own, output_hidden_states=True).hidden_states
    hidden = [name for name in backbone.layers() if name.startswith("hidden_states.")]
    assert len(hidden) == len(states) > 1
    assert backbone.default_layer() in (hidden[-1], "head")
    got = backbone.run(batch, hidden)
    for name, expected in zip(hidden, states, strict=True):
        torch.testing.assert_close(got[name], expected, rtol=1e-5, atol=1e-5)
    assert (backbone.prefix_tokens(hidden[0]), backbone.suffix_tokens(hidden[0])) == (
        prefix,
        suffix,
    )
    kept = extract(backbone, photos, layers=hidden[0], tokens="patch")
    if patches:
        assert states[0].shape[1] == prefix + patches + suffix
        expected = states[0][:, prefix : prefix + patches].numpy()
        np.testing.assert_allclose(kept, expected, rtol=1e-4, atol=1e-5)
        mean = extract(backbone, photos, layers=hidden[0], tokens="patch", pool="mean")
        np.testing.assert_allclose(mean, expected.mean(axis=1), rtol=1e-4, atol=1e-5)


def test_a_masked_autoencoder_sees_every_patch_in_order(
    photos: list[Image.Image], tmp_path: Path
) -> None:
    model = build(auto("ViTMAEConfig", **VISION))
    model.save_pretrained(tmp_path)
    processor().save_pretrained(tmp_path)
    backbone = transformers_backbone(parse_spec(f"transformers:{tmp_path}"))
    hidden = [f"hidden_states.{index}" for index in range(3)]
    got = extract(backbone, photos, layers=hidden)
    again = extract(f"transformers:{tmp_path}", photos, layers=hidden)
    # The same network without any masking.
    plain = hf.ViTModel(hf.ViTConfig(**VISION), add_pooling_layer=False).eval()
    names = plain.load_state_dict(model.state_dict(), strict=False)
    assert not names.missing_keys
    with torch.inference_mode():
        states = plain(backbone.prepare(photos), output_hidden_states=True).hidden_states
    for name, expected in zip(hidden, states, strict=True):
        assert got[name].shape == (3, 10, 32)
        np.testing.assert_array_equal(got[name], again[name])
        if name != hidden[-1]:  # the last one's norm is the model's own
            np.testing.assert_allclose(got[name], expected.numpy(), rtol=1e-4, atol=1e-5)
    assert backbone._tower.config.mask_ratio == 0.75  # put back


@pytest.mark.parametrize("kind", TOWERS)
def test_two_towers_meet_where_the_library_says(
    kind: str, photos: list[Image.Image], make_tokenizer: Any
) -> None:
    model, words = build(TOWERS[kind]), make_tokenizer()
    backbone = TransformersBackbone(model, words, modality="text")
    layer = backbone.default_layer()
    assert layer == ("text_model.head" if kind == "siglip" else "text_projection")
    got = extract(backbone, TEXTS, layers=layer)
    for row, line in enumerate(TEXTS):
        inputs = words([line], return_tensors="pt", return_token_type_ids=False)
        if kind == "siglip":
            padded = words([line], padding="max_length", max_length=16, return_tensors="pt")
            inputs = {"input_ids": padded["input_ids"]}
        with torch.inference_mode():
            expected = model.get_text_features(**inputs).pooler_output[0]
        np.testing.assert_allclose(got[row], expected.numpy(), rtol=1e-4, atol=1e-5)
    backbone = TransformersBackbone(model, processor(64 if kind == "align" else 48))
    if kind != "align":  # whose images are pooled and not projected
        got = extract(backbone, photos)
        with torch.inference_mode():
            expected = model.get_image_features(pixel_values=backbone.prepare(photos))
        np.testing.assert_allclose(got, expected.pooler_output.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_half_and_double_precision(
    kind: torch.dtype, photos: list[Image.Image], make_tokenizer: Any
) -> None:
    for model, items, modality in (
        (build(IMAGE_MODELS["vit"][0]), photos, "image"),
        (build(TEXT_MODELS["bert"][0]), TEXTS, "text"),
    ):
        made = processor() if modality == "image" else make_tokenizer()
        single = extract(TransformersBackbone(model, made, modality=modality), items, pool="mean")
        other = extract(
            TransformersBackbone(model.to(kind), made, modality=modality), items, pool="mean"
        )
        error = np.abs(other - single).max() / np.abs(single).max()
        assert error < 20 * torch.finfo(kind).eps + 1e-5


def test_images_of_several_sizes_never_pad_each_other() -> None:
    """As detectors' processors pad all images of a batch to the largest."""
    model = build(lambda: hf.YolosModel(hf.YolosConfig(**{**VISION, "image_size": [48, 48]})))
    backbone = TransformersBackbone(
        model, hf.YolosImageProcessor(size={"shortest_edge": 48, "longest_edge": 96})
    )
    generator = np.random.default_rng(0)
    wide, square = (
        Image.fromarray(generator.integers(0, 256, (48, width, 3), np.uint8)) for width in (96, 48)
    )
    with pytest.raises(InputError, match="gave tensors of several shapes"):
        backbone.prepare([wide, square])
    assert backbone.prepare([square, square]).shape == (2, 3, 48, 48)


def test_models_that_need_more_are_refused() -> None:
    config = hf.Siglip2VisionConfig(num_patches=9, patch_size=16, **SHAPE)
    with pytest.raises(InputError, match=r"needs pixel_attention_mask, spatial_shapes beside"):
        TransformersBackbone(hf.Siglip2VisionModel(config), processor())


@pytest.mark.parametrize("kind", ["t5-encoder", "umt5-encoder"])
def test_encoders_alone_are_loaded(kind: str, tmp_path: Path, make_tokenizer: Any) -> None:
    model = build(TEXT_MODELS[kind][0])
    model.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    got = extract(f"transformers-text:{tmp_path}", TEXTS, pool="mean")
    expected = extract(
        TransformersBackbone(model, make_tokenizer(), modality="text"), TEXTS, pool="mean"
    )
    np.testing.assert_array_equal(got, expected)
    again = extract(f"transformers-text:{tmp_path}/random:3", TEXTS, pool="mean")
    assert not np.allclose(again, got)


def test_the_configuration_is_part_of_the_identity(make_tokenizer: Any) -> None:
    identities = []
    for activation in ("gelu", "gelu", "relu"):
        torch.manual_seed(0)
        model = hf.BertModel(hf.BertConfig(vocab_size=14, hidden_act=activation, **SHAPE))
        identities.append(TransformersBackbone(model, make_tokenizer(), modality="text").identity())
    assert identities[0] == identities[1]
    assert identities[0]["weights"] == identities[2]["weights"]
    assert identities[0]["config"] != identities[2]["config"]
