"""GIT at a tiny size: the real model, tokenizer and image preprocessing, saved and loaded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessor,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
    GitVisionConfig,
    PreTrainedTokenizerFast,
)

from brainkit.errors import CorruptFileError, InputError
from brainkit.generators.captioner import Captioner, captioner_class
from brainkit.generators.captioning_models import GitCaptioner

WORDS = [f"word{n}" for n in range(40)]


@pytest.fixture(scope="module")
def git() -> GitCaptioner:
    return build_git()


def build_git() -> GitCaptioner:
    torch.manual_seed(1)
    names = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *WORDS]
    core = Tokenizer(models.WordLevel({w: n for n, w in enumerate(names)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    words = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        bos_token="[CLS]",
        eos_token="[SEP]",
        unk_token="[UNK]",
    )
    vision = GitVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    model = GitForCausalLM(
        GitConfig(
            vision_config=vision.to_dict(),
            vocab_size=len(names),
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=20,
            initializer_range=0.5,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    )
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return GitCaptioner(model, GitProcessor(pictures, words))


def pictures(n: int = 6) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (n, 32, 32, 3)).astype(np.uint8)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_captions_equal_the_librarys_own(git: GitCaptioner, num_beams: int) -> None:
    images = [Image.fromarray(image) for image in pictures()]
    pixels = git.processor(images=images, return_tensors="pt").pixel_values
    tokens = git.model.generate(pixel_values=pixels, max_new_tokens=15, num_beams=num_beams)
    expected = git.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    assert len(set(expected)) > 2
    made = git.caption(images=pictures(), max_new_tokens=15, num_beams=num_beams)
    assert made == expected


def test_tokens_in_place_of_images_give_the_same_sentences(git: GitCaptioner) -> None:
    tokens = git.image_tokens(pictures())
    assert tokens.shape == (6, 17, 16)
    assert git.caption(image_tokens=tokens) == git.caption(images=pictures())
    assert git.caption(image_tokens=tokens[::-1].copy()) == git.caption(images=pictures())[::-1]
    # and they are what the captions hang on
    assert git.caption(image_tokens=-tokens) != git.caption(images=pictures())


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_sentence_does_not_depend_on_its_batch(git: GitCaptioner, num_beams: int) -> None:
    alone = [git.caption(images=pictures(9)[[n]], num_beams=num_beams)[0] for n in range(9)]
    assert git.caption(images=pictures(9), num_beams=num_beams) == alone
    assert git.caption(images=pictures(9), num_beams=num_beams, batch_size=4) == alone


def test_what_is_saved_comes_back(git: GitCaptioner, tmp_path: Path) -> None:
    git.save_pretrained(tmp_path)
    assert captioner_class(tmp_path) is GitCaptioner
    loaded = Captioner.from_pretrained(tmp_path, device="cpu")
    assert isinstance(loaded, GitCaptioner)
    assert loaded.identity() == git.identity()
    assert loaded.caption(images=pictures()) == git.caption(images=pictures())
    np.testing.assert_array_equal(loaded.image_tokens(pictures()), git.image_tokens(pictures()))
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("git.visual_projection.visual_projection.0.weight")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"1 missing \(git\.visual_projection"):
        GitCaptioner.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CorruptFileError, match="not a readable GIT"):
        GitCaptioner.load(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"safetensors\.torch\.save_file"):
        GitCaptioner.load(tmp_path)


def test_images_of_several_kinds_are_read_alike(git: GitCaptioner) -> None:
    expected = git.caption(images=pictures())
    assert git.caption(images=[Image.fromarray(image) for image in pictures()]) == expected
    assert git.caption(images=pictures() / 255) == expected


def test_bad_input_is_named(git: GitCaptioner) -> None:
    with pytest.raises(InputError, match=r"image_tokens of shape \(n, 17, 16\)"):
        git.caption(image_embeds=np.zeros((2, 16)))
    with pytest.raises(InputError, match=r"\(2, 257, 1024\).*\(n, 17, 16\)"):
        git.caption(image_tokens=np.zeros((2, 257, 1024)))
    with pytest.raises(InputError, match="room for 19"):
        git.caption(images=pictures(), max_new_tokens=20)
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        git.caption(images=pictures().astype(float))
    with pytest.raises(InputError, match=r"3, 8, 8\)"):
        git.caption(images=np.zeros((2, 3, 8, 8)))
    assert git.caption(image_tokens=np.zeros((0, 17, 16))) == []
