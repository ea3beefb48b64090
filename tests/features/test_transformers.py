"""transformers' models: equal to the library's own forward pass, layer by layer."""

import json

import pytest
import torch
import transformers as hf
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from brainkit.errors import DownloadError, InputError, MissingFileError, UnknownNameError
from brainkit.features import extract
from brainkit.features.backbones.transformers import TransformersBackbone, transformers_backbone
from brainkit.features.spec import parse_spec
from brainkit.features.tokens import pool_tokens

WORDS = ["a", "dog", "cat", "red", "house", "on", "the", "grass", "sits"]
TEXTS = ["a dog", "the red cat sits on the grass", "house"]
BLOCKS = {"num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": 32}
SHAPE = {**BLOCKS, "intermediate_size": 48, "initializer_range": 0.3}
VISION = {**SHAPE, "image_size": 48, "patch_size": 16}
IMAGE_MODELS = {
    "vit": lambda: hf.ViTModel(hf.ViTConfig(**VISION)),
    "dinov2-registers": lambda: hf.Dinov2WithRegistersModel(
        hf.Dinov2WithRegistersConfig(**BLOCKS, image_size=48, patch_size=16, num_register_tokens=2)
    ),
    "resnet": lambda: hf.ResNetModel(
        hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24], depths=[1, 2, 1])
    ),
    "convnext": lambda: hf.ConvNextModel(
        hf.ConvNextConfig(hidden_sizes=[8, 16, 16, 24], depths=[1, 1, 2, 1], num_stages=4)
    ),
    "clip": lambda: hf.CLIPModel(clip_config()),
    "clip-vision": lambda: hf.CLIPVisionModelWithProjection(
        hf.CLIPVisionConfig(**VISION, projection_dim=20)
    ),
}
TEXT_MODELS = {
    "bert": lambda: hf.BertModel(hf.BertConfig(vocab_size=14, max_position_embeddings=16, **SHAPE)),
    "gpt2": lambda: hf.GPT2Model(
        hf.GPT2Config(
            vocab_size=14,
            n_positions=16,
            n_embd=32,
            n_layer=3,
            n_head=2,
            initializer_range=0.3,
            bos_token_id=2,
            eos_token_id=3,
        )
    ),
    "clip": lambda: hf.CLIPModel(clip_config()),
    "t5": lambda: hf.T5Model(
        hf.T5Config(vocab_size=14, d_model=32, d_kv=16, d_ff=48, num_layers=3, num_heads=2)
    ),
}


def clip_config():
    text = {**SHAPE, "vocab_size": 14, "max_position_embeddings": 16, "bos_token_id": 2}
    return hf.CLIPConfig(
        text_config={**text, "eos_token_id": 3, "pad_token_id": 0},
        vision_config=VISION,
        projection_dim=20,
    )


def tokenizer():
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
    vocabulary |= {word: number for number, word in enumerate(WORDS, start=4)}
    raw = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = Whitespace()
    raw.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]",
    )  # fmt: skip


def image_processor():
    side = {"height": 48, "width": 48}
    return hf.ViTImageProcessor(size=side, image_mean=[0.5, 0.4, 0.3], image_std=[0.2] * 3)


def save(model, target):
    model.save_pretrained(target)
    image_processor().save_pretrained(target)
    tokenizer().save_pretrained(target)
    return target


def build(maker, seed=0):
    torch.manual_seed(seed)
    return maker().eval()


@pytest.fixture(scope="module")
def photos(shared_data):
    files = sorted((shared_data / "cc0_photos").glob("*.jpg"))[:3]
    return [Image.open(file).convert("RGB") for file in files]


@pytest.mark.parametrize("kind", IMAGE_MODELS)
def test_image_layers_equal_the_librarys_own(kind, photos, tmp_path):
    model = build(IMAGE_MODELS[kind])
    backbone = transformers_backbone(parse_spec(f"transformers:{save(model, tmp_path)}"))
    batch = backbone.prepare(photos)
    own = image_processor()(images=photos, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(batch, own, rtol=0, atol=0)
    tower = model.vision_model if kind == "clip" else model
    with torch.inference_mode():
        output = tower(pixel_values=own, output_hidden_states=True)
    hidden = [name for name in backbone.layers() if name.startswith("hidden_states.")]
    assert len(hidden) == len(output.hidden_states) > 3
    got = backbone.run(batch, hidden)
    for name, expected in zip(hidden, output.hidden_states, strict=True):
        torch.testing.assert_close(got[name], expected, rtol=1e-5, atol=1e-5)
    if "clip" in kind:
        assert backbone.default_layer() == "visual_projection"
        with torch.inference_mode():
            if kind == "clip":
                embeds = model.visual_projection(output.pooler_output)
            else:
                embeds = output.image_embeds
        got = backbone.run(batch, ["visual_projection"])["visual_projection"]
        torch.testing.assert_close(got, embeds, rtol=1e-5, atol=1e-5)
        assert not any("text" in name for name in backbone.layers())
    else:
        assert backbone.default_layer() == hidden[-1]


@pytest.mark.parametrize(("kind", "prefix"), [("vit", 1), ("dinov2-registers", 3), ("resnet", 0)])
def test_prefix_tokens(kind, prefix, photos):
    backbone = TransformersBackbone(build(IMAGE_MODELS[kind]), image_processor())
    assert backbone.prefix_tokens("hidden_states.1") == prefix
    assert backbone.prefix_tokens("embeddings.patch_embeddings") == 0
    value = backbone.run(backbone.prepare(photos), ["hidden_states.1"])["hidden_states.1"]
    assert prefix == 0 or value.shape == (3, prefix + 9, 32)


def test_hooks_give_what_the_hidden_states_give(photos):
    backbone = TransformersBackbone(build(IMAGE_MODELS["vit"]), image_processor())
    layer = next(n for n in backbone.layers() if n.endswith(("layer.1", "layers.1")))
    got = backbone.run(backbone.prepare(photos), [layer, "hidden_states.2", "pooler"])
    torch.testing.assert_close(got[layer], got["hidden_states.2"], rtol=0, atol=0)
    assert got["pooler"].shape == (3, 32)


@pytest.mark.parametrize("kind", TEXT_MODELS)
def test_text_layers_equal_the_librarys_own(kind, tmp_path):
    model = build(TEXT_MODELS[kind])
    backbone = transformers_backbone(parse_spec(f"transformers-text:{save(model, tmp_path)}"))
    assert backbone.modality == "text"
    batch = backbone.prepare(TEXTS)
    valid = backbone.valid_tokens(batch)
    assert valid.sum(dim=1).tolist() == [4, 9, 3]
    tower = {"clip": lambda: model.text_model, "t5": model.get_encoder}.get(kind, lambda: model)()
    hidden = [name for name in backbone.layers() if name.startswith("hidden_states.")]
    got = backbone.run(batch, hidden)
    for row, text in enumerate(TEXTS):  # each text by itself, so without any padding
        inputs = tokenizer()([text], return_tensors="pt", return_token_type_ids=False)
        with torch.inference_mode():
            output = tower(**inputs, output_hidden_states=True)
        assert len(hidden) == len(output.hidden_states) == 4
        for name, expected in zip(hidden, output.hidden_states, strict=True):
            value = got[name]
            assert value.shape == (3, valid.shape[1], 32)
            torch.testing.assert_close(value[row, valid[row]], expected[0], rtol=1e-5, atol=1e-5)
            pooled = pool_tokens(value, "mean", valid=valid)[row]
            torch.testing.assert_close(pooled, expected[0].mean(dim=0), rtol=1e-5, atol=1e-5)
            last = pool_tokens(value, "last", valid=valid)[row]
            torch.testing.assert_close(last, expected[0, -1], rtol=1e-5, atol=1e-5)
        if kind == "clip":
            got_embeds = backbone.run(batch, ["text_projection"])["text_projection"][row]
            with torch.inference_mode():
                embeds = model.text_projection(output.pooler_output)[0]
            torch.testing.assert_close(got_embeds, embeds, rtol=1e-5, atol=1e-5)


def test_a_text_does_not_depend_on_its_batch():
    backbone = TransformersBackbone(build(TEXT_MODELS["bert"]), tokenizer(), modality="text")
    whole = backbone.run(backbone.prepare(TEXTS), ["hidden_states.3"])["hidden_states.3"]
    alone = backbone.run(backbone.prepare(TEXTS[:1]), ["hidden_states.3"])["hidden_states.3"]
    assert whole.shape[1:] == alone.shape[1:] == (16, 32)
    torch.testing.assert_close(whole[0, :4], alone[0, :4], rtol=1e-5, atol=1e-6)
    assert backbone.prefix_tokens("hidden_states.3") == 1


@pytest.mark.parametrize("pool", ["mean", "max", "last"])
@pytest.mark.parametrize("tokens", ["all", "patch"])
def test_extraction_leaves_padding_out(pool, tokens):
    backbone = TransformersBackbone(build(TEXT_MODELS["bert"]), tokenizer(), modality="text")
    layer = "hidden_states.2"
    got = extract(backbone, TEXTS, layers=layer, pool=pool, tokens=tokens)
    batch = backbone.prepare(TEXTS)
    for row, length in enumerate([4, 9, 3]):
        values = backbone.run(batch, [layer])[layer][row, tokens == "patch" : length]
        expected = {"mean": values.mean(0), "max": values.amax(0), "last": values[-1]}[pool]
        torch.testing.assert_close(torch.from_numpy(got[row]), expected, rtol=1e-5, atol=1e-5)


def test_text_is_never_cut_silently():
    backbone = TransformersBackbone(
        build(TEXT_MODELS["gpt2"]), tokenizer(), modality="text", context_length=6
    )
    with pytest.raises(InputError, match="1 to 6 tokens; 1 are longer and 0 have no token"):
        backbone.prepare(TEXTS)
    bare = tokenizer()
    bare.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    backbone = TransformersBackbone(build(TEXT_MODELS["gpt2"]), bare, modality="text")
    with pytest.raises(InputError, match="0 are longer and 1 have no token"):
        backbone.prepare(["a dog", ""])


def test_attention_maps_of_text_are_no_features():
    class Heads(torch.nn.Module):
        def forward(self, tokens):
            return tokens.unflatten(-1, (2, -1)).transpose(1, 2)

    model = build(TEXT_MODELS["bert"])
    model.heads = Heads()
    model.encoder.register_forward_hook(
        lambda module, given, output: (model.heads(output[0]), None)[1]
    )
    backbone = TransformersBackbone(model, tokenizer(), modality="text")
    with pytest.raises(InputError, match=r"gives \(1, 2, 3, 16\): neither a row nor tokens"):
        backbone.run(backbone.prepare(TEXTS), ["heads"])


def test_batch_norm_never_drifts(photos):
    """Trap T21: a frozen trunk in train mode neither uses nor updates batch statistics."""
    backbone = TransformersBackbone(build(IMAGE_MODELS["resnet"]), image_processor())
    batch = backbone.prepare(photos)
    first = backbone.run(batch, ["hidden_states.3"])["hidden_states.3"]
    before = backbone.weights()
    backbone.module.train()
    second = backbone.run(batch[:1], ["hidden_states.3"])["hidden_states.3"]
    torch.testing.assert_close(first[:1], second, rtol=1e-5, atol=1e-6)
    assert TransformersBackbone(backbone.module, image_processor()).weights() == before


def test_identity(tmp_path):
    folder = save(build(IMAGE_MODELS["clip"]), tmp_path)
    image = transformers_backbone(parse_spec(f"transformers:{folder}")).identity()
    text = transformers_backbone(parse_spec(f"transformers-text:{folder}")).identity()
    for identity in (image, text):
        assert json.loads(json.dumps(identity)) == identity
    assert image["preprocessing"]["image_mean"] == [0.5, 0.4, 0.3]
    assert text["preprocessing"]["context_length"] == 16
    assert image["weights"] != text["weights"]
    again = transformers_backbone(parse_spec(f"transformers-text:{folder}"))
    again.prepare(TEXTS)
    assert again.identity() == text


def test_loading_leaves_the_screen_alone(tmp_path, capfd):
    folder = save(build(IMAGE_MODELS["vit"]), tmp_path)
    capfd.readouterr()
    transformers_backbone(parse_spec(f"transformers:{folder}"))
    assert capfd.readouterr() == ("", "")


def test_random_weights_of_a_folder(tmp_path):
    folder = save(build(IMAGE_MODELS["vit"]), tmp_path)
    spec = f"transformers:{folder}/random:{{}}"
    first = transformers_backbone(parse_spec(spec.format(1))).weights()
    torch.manual_seed(50)
    assert transformers_backbone(parse_spec(spec.format(1))).weights() == first
    assert transformers_backbone(parse_spec(spec.format(2))).weights() != first


def test_checkpoint_of_a_task_without_pooler(tmp_path):
    torch.manual_seed(0)
    task = hf.BertForMaskedLM(
        hf.BertConfig(vocab_size=14, max_position_embeddings=16, **SHAPE)
    ).eval()
    backbone = transformers_backbone(parse_spec(f"transformers-text:{save(task, tmp_path)}"))
    assert not any("pooler" in name for name in backbone.layers())  # it would be random
    batch = backbone.prepare(TEXTS[:1])
    got = backbone.run(batch, ["hidden_states.3"])["hidden_states.3"][0, :4]
    with torch.inference_mode():
        output = task.bert(batch[:, 0, :4], output_hidden_states=True)
    torch.testing.assert_close(got, output.hidden_states[-1][0], rtol=1e-5, atol=1e-5)


def test_weights_that_do_not_fit(tmp_path):
    folder = save(build(IMAGE_MODELS["vit"]), tmp_path)
    state = load_file(folder / "model.safetensors")
    del state[next(name for name in state if "layer" in name and name.endswith("weight"))]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"fit only in part: 1 of .*layer.*weight"):
        transformers_backbone(parse_spec(f"transformers:{folder}"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"safetensors\.torch\.save_file"):
        transformers_backbone(parse_spec(f"transformers:{folder}"))
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(MissingFileError, match="no weights"):
        transformers_backbone(parse_spec(f"transformers:{folder}"))


def test_what_is_not_there(tmp_path):
    with pytest.raises(DownloadError, match="some-lab/net"):
        transformers_backbone(parse_spec("transformers:some-lab/net"))
    with pytest.raises(InputError, match="no configuration of a model"):
        transformers_backbone(parse_spec(f"transformers:{tmp_path}"))
    with pytest.raises(MissingFileError, match="no folder"):
        transformers_backbone(parse_spec(f"transformers:{tmp_path}/nothing"))
    model = build(IMAGE_MODELS["vit"])
    model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no tokenizer, so it takes no text"):
        transformers_backbone(parse_spec(f"transformers-text:{tmp_path}"))
    with pytest.raises(InputError, match="no image processor, so it takes no images"):
        transformers_backbone(parse_spec(f"transformers:{tmp_path}"))
    backbone = TransformersBackbone(model, image_processor())
    with pytest.raises(UnknownNameError, match=r"Did you mean 'hidden_states\.3'"):
        backbone.check_layers(["hidden_state.3"])
