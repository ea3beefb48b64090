"""Prefix captioners: real GPT-2 classes at a tiny size, trained, saved and loaded for real."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from brainkit.errors import CorruptFileError, InputError, MissingFileError, UnknownNameError
from brainkit.features.extraction import extract
from brainkit.generators.captioner import Captioner, captioner_class
from brainkit.generators.captioning_models import (
    GitCaptioner,
    Prefix,
    PrefixCaptioner,
    PrefixConfig,
)

SENTENCES = [
    "a red house on a green field",
    "a small calm face",
    "a plate of brown pizza and a blue sign",
    "a walking person in white at night",
]
WIDTH = 24


def tokenizer() -> PreTrainedTokenizerFast:
    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    vocabulary = {word: n for n, word in enumerate(["<pad>", "<end>", "<unknown>", *words])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.WordPiece(prefix="##")
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<end>", pad_token="<pad>", unk_token="<unknown>"
    )


def build(kind: str = "linear", dropout: float = 0.1, **changes) -> PrefixCaptioner:
    torch.manual_seed(0)
    words = tokenizer()
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(words),
            n_positions=32,
            n_embd=32,
            n_layer=2,
            n_head=2,
            resid_pdrop=dropout,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
            bos_token_id=words.eos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    )
    settings = {"embedding_width": WIDTH, "prefix_length": 3, "width": 32, **changes}
    return PrefixCaptioner(model, words, Prefix(PrefixConfig(kind=kind, **settings)))


def embeddings(n: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def trained() -> PrefixCaptioner:
    captioner = build(dropout=0.0, input_scale=WIDTH**0.5)
    ids, mask = captioner.tokenise(SENTENCES)
    optimiser = torch.optim.AdamW(captioner.parameters(), lr=3e-3)
    seen = torch.as_tensor(embeddings())
    for _ in range(150):
        optimiser.zero_grad()
        captioner(seen, ids, mask).backward()
        optimiser.step()
    return captioner


def test_a_trained_captioner_says_what_it_was_taught(trained: PrefixCaptioner) -> None:
    assert trained.caption(image_embeds=embeddings()) == SENTENCES
    assert trained.caption(image_embeds=embeddings(), num_beams=3) == SENTENCES
    assert trained.caption(image_embeds=embeddings(), max_new_tokens=2) == [
        " ".join(sentence.split()[:2]) for sentence in SENTENCES
    ]


def test_only_the_direction_of_an_embedding_counts(trained: PrefixCaptioner) -> None:
    assert trained.caption(image_embeds=7.5 * embeddings()) == SENTENCES


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_sentence_does_not_depend_on_its_batch(num_beams: int) -> None:
    captioner = build()  # untrained: sentences of all lengths, hence all sorts of padding
    vectors = embeddings(11, seed=3)
    alone = [
        captioner.caption(image_embeds=vectors[[n]], num_beams=num_beams)[0] for n in range(11)
    ]
    assert len(set(alone)) > 4
    for size in (11, 4):
        made = captioner.caption(image_embeds=vectors, num_beams=num_beams, batch_size=size)
        assert made == alone
    assert captioner.caption(image_embeds=vectors[::-1].copy(), num_beams=num_beams) == alone[::-1]


def test_greedy_decoding_takes_the_likeliest_token_each_time(trained: PrefixCaptioner) -> None:
    mix = (embeddings()[:2].sum(axis=0, keepdims=True)).astype(np.float32)
    words = trained.model.get_input_embeddings()
    with torch.inference_mode():
        inputs = trained.prefix(torch.as_tensor(mix))
        expected = []
        for _ in range(12):
            token = trained.model(inputs_embeds=inputs).logits[0, -1].argmax()
            if token == trained.tokenizer.eos_token_id:
                break
            expected.append(int(token))
            inputs = torch.cat([inputs, words(token)[None, None]], dim=1)
    made = trained.caption(image_embeds=mix, max_new_tokens=12)
    assert made == [trained.tokenizer.decode(expected)]


def test_loss_is_the_cross_entropy_of_the_caption_alone() -> None:
    captioner = build(dropout=0.0)
    vectors = torch.as_tensor(embeddings(2))
    ids, mask = captioner.tokenise([SENTENCES[0], SENTENCES[1]])
    assert ids.shape == (2, 8)
    assert mask.sum(axis=1).tolist() == [8, 5]
    assert ids[1].tolist()[4:] == [1, 0, 0, 0]
    inputs = torch.cat([captioner.prefix(vectors), captioner.model.transformer.wte(ids)], dim=1)
    logits = captioner.model(inputs_embeds=inputs).logits
    # The last of three prefix positions foretells the first word.
    logp = torch.log_softmax(logits[:, 2:-1], dim=-1).gather(2, ids[:, :, None])[:, :, 0]
    expected = -(logp * mask).sum() / mask.sum()
    assert captioner(vectors, ids, mask).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_what_is_saved_comes_back(tmp_path: Path, kind: str) -> None:
    captioner = build(kind)
    vectors = embeddings(9, seed=1)
    expected = captioner.caption(image_embeds=vectors)
    captioner.save_pretrained(tmp_path)
    assert captioner_class(tmp_path) is PrefixCaptioner
    loaded = PrefixCaptioner.load(tmp_path, device="cpu")
    for (name, mine), (other, theirs) in zip(
        captioner.state_dict().items(), loaded.state_dict().items(), strict=True
    ):
        assert name == other
        assert torch.equal(mine, theirs)
    assert not any(p.requires_grad for p in loaded.parameters())
    assert not loaded.training
    assert loaded.caption(image_embeds=vectors) == expected
    assert loaded.prefix.config == captioner.prefix.config
    again = Captioner.from_pretrained(tmp_path, device="cpu")
    assert isinstance(again, PrefixCaptioner)
    assert again.identity() == captioner.identity()
    assert again.identity()["prefix"]["embedding_width"] == WIDTH
    with pytest.raises(InputError, match="holds a PrefixCaptioner, not a GitCaptioner"):
        GitCaptioner.from_pretrained(tmp_path)
    # transformers' own class reads the language model without us
    GPT2LMHeadModel.from_pretrained(tmp_path)


def test_files_stand_under_the_users_umask(tmp_path: Path) -> None:
    build().save_pretrained(tmp_path / "made")
    reference = tmp_path / "plain"
    reference.write_bytes(b"")
    modes = {path.stat().st_mode for path in (tmp_path / "made").iterdir()}
    assert modes == {reference.stat().st_mode}


def test_half_precision_halves_the_file(tmp_path: Path, trained: PrefixCaptioner) -> None:
    trained.save_pretrained(tmp_path, dtype="float16")
    assert load_file(tmp_path / "model.safetensors")["transformer.wpe.weight"].dtype is torch.half
    assert load_file(tmp_path / "prefix.safetensors")["projection.weight"].dtype is torch.half
    loaded = PrefixCaptioner.load(tmp_path)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert GPT2LMHeadModel.from_pretrained(tmp_path).dtype is torch.float32
    assert loaded.caption(image_embeds=embeddings()) == SENTENCES
    assert {p.dtype for p in trained.parameters()} == {torch.float32}


def test_sampling_defaults_in_the_files_do_not_leak_in(
    tmp_path: Path, trained: PrefixCaptioner
) -> None:
    trained.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "generation_config.json").read_text())
    settings |= {"do_sample": True, "num_beams": 4, "repetition_penalty": 50.0, "min_length": 25}
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    assert PrefixCaptioner.load(tmp_path).caption(image_embeds=embeddings()) == SENTENCES


def test_captioning_leaves_the_training_mode_as_it_was() -> None:
    captioner = build()
    captioner.train()
    captioner.caption(image_embeds=embeddings(1))
    assert captioner.training
    assert captioner.model.training


def test_images_are_embedded_by_the_model_that_is_named() -> None:
    captioner = build(embedding_width=256, image_model="open_clip:tiny")
    images = np.random.default_rng(5).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    vectors = extract("open_clip:tiny", images)
    assert vectors.shape == (5, 256)
    assert captioner.caption(images=images) == captioner.caption(image_embeds=vectors)


def test_embeddings_of_another_width_name_both_widths(trained: PrefixCaptioner) -> None:
    with pytest.raises(InputError, match=r"\(2, 512\).*\(n, 24\)"):
        trained.caption(image_embeds=np.zeros((2, 512)))
    with pytest.raises(InputError, match=r"shape \(24,\)"):
        trained.caption(image_embeds=np.zeros(24))


def test_bad_arguments_are_named(trained: PrefixCaptioner) -> None:
    broken = embeddings()
    broken[2, 5] = np.nan
    with pytest.raises(InputError, match="rows 2"):
        trained.caption(image_embeds=broken)
    with pytest.raises(InputError, match="array of numbers"):
        trained.caption(image_embeds=[["a"] * WIDTH])
    with pytest.raises(InputError, match="got none"):
        trained.caption()
    with pytest.raises(InputError, match="got image_embeds, images"):
        trained.caption(image_embeds=broken, images=[])
    with pytest.raises(InputError, match="give image_embeds"):
        trained.caption(image_tokens=broken)
    with pytest.raises(InputError, match="image_model"):
        trained.caption(images=np.zeros((1, 8, 8, 3)))
    for wrong in ({"max_new_tokens": 0}, {"num_beams": 0}, {"batch_size": 0}):
        with pytest.raises(InputError, match="at least 1"):
            trained.caption(image_embeds=embeddings(), **wrong)
    with pytest.raises(InputError, match="room for 29 new tokens"):
        trained.caption(image_embeds=embeddings(), max_new_tokens=30)
    assert trained.caption(image_embeds=np.zeros((0, WIDTH))) == []
    with pytest.raises(UnknownNameError, match="float8"):
        trained.save_pretrained("unused", dtype="float8")
    with pytest.raises(UnknownNameError, match="mlp"):
        PrefixConfig(4, 1, 4, kind="mlq")
    with pytest.raises(InputError, match="prefix_length=0"):
        PrefixConfig(4, 0, 4)
    with pytest.raises(InputError, match="64 wide and the language model 32"):
        PrefixCaptioner(trained.model, trained.tokenizer, Prefix(PrefixConfig(WIDTH, 2, 64)))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    build().save_pretrained(tmp_path)
    model = load_file(tmp_path / "model.safetensors")
    prefix = load_file(tmp_path / "prefix.safetensors")

    lacking = {k: v for k, v in model.items() if k != "transformer.h.1.mlp.c_fc.weight"}
    save_file(lacking, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"1 missing \(transformer\.h\.1\.mlp\.c_fc\.weight"):
        PrefixCaptioner.load(tmp_path)
    more = {**model, "transformer.spare": torch.zeros(3)}
    save_file(more, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"1 unexpected \(transformer\.spare\)"):
        PrefixCaptioner.load(tmp_path)
    save_file(model, tmp_path / "model.safetensors", {"format": "pt"})

    save_file({"projection.weight": prefix["projection.weight"]}, tmp_path / "prefix.safetensors")
    with pytest.raises(InputError, match=r"1 missing \(projection\.bias\)"):
        PrefixCaptioner.load(tmp_path)
    save_file({**prefix, "projection.bias": torch.zeros(2)}, tmp_path / "prefix.safetensors")
    with pytest.raises(InputError, match=r"1 of another shape .*\(2,\) for \(96,\)"):
        PrefixCaptioner.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    save_file(prefix, tmp_path / "prefix.safetensors")
    with pytest.raises(CorruptFileError, match="not a readable prefix captioner"):
        PrefixCaptioner.load(tmp_path)
    (tmp_path / "prefix.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CorruptFileError, match=r"prefix\.safetensors"):
        PrefixCaptioner.load(tmp_path)


def test_folders_that_hold_no_captioner_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"config\.json"):
        captioner_class(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="model_type is 'bert'"):
        captioner_class(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CorruptFileError, match="not a JSON object"):
        captioner_class(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CorruptFileError, match="not readable JSON"):
        captioner_class(tmp_path)
    (tmp_path / "prefix.json").write_text('{"embedding_width": 4, "depth": 3}')
    with pytest.raises(CorruptFileError, match="depth"):
        PrefixCaptioner.load(tmp_path)


def test_loading_and_captioning_leave_the_screen_alone(
    tmp_path: Path, trained: PrefixCaptioner, capfd: pytest.CaptureFixture[str]
) -> None:
    trained.save_pretrained(tmp_path)
    capfd.readouterr()
    PrefixCaptioner.from_pretrained(tmp_path).caption(image_embeds=embeddings(2))
    assert capfd.readouterr() == ("", "")
