"""Small random models of open_clip in local folders, and real photographs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

VIT = {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8}
RESNET = {"image_size": 64, "layers": [1, 2, 1, 1], "width": 8, "head_width": 16}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
PREPROCESS = {"mean": [0.4, 0.45, 0.5], "std": [0.3, 0.25, 0.2]}

MakeClip = Callable[..., Path]


@pytest.fixture(scope="session")
def make_clip(tmp_path_factory: pytest.TempPathFactory) -> MakeClip:
    """Make the folder of a random open_clip model, by its configuration."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    def make(vision: dict[str, Any], **settings: Any) -> Path:
        folder = tmp_path_factory.mktemp("clip")
        config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": TEXT, **settings}
        torch.manual_seed(3)
        kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
        model = kind(**json.loads(json.dumps(config)))
        for name, value in model.named_parameters():
            if name.endswith("bn3.weight"):  # zero at the start, which would hide a branch
                torch.nn.init.normal_(value, 1.0, 0.1)
        if kind is open_clip.CustomTextCLIP:
            config["custom_text"] = True
        content = {"model_cfg": config, "preprocess_cfg": PREPROCESS}
        (folder / "open_clip_config.json").write_text(json.dumps(content))
        save_file(
            {name: value.contiguous() for name, value in model.state_dict().items()},
            folder / "open_clip_model.safetensors",
        )
        return folder

    return make


WORDS = ["a", "dog", "cat", "red", "house", "on", "the", "grass", "sits"]


def word_tokenizer(**options: Any) -> Any:
    """Make a tokenizer of transformers that knows a few whole words."""
    import transformers
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
    vocabulary |= {word: number for number, word in enumerate(WORDS, start=4)}
    raw = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = Whitespace()
    raw.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]", **options,
    )  # fmt: skip


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., Any]:
    """Make a tokenizer of transformers that knows a few whole words."""
    return word_tokenizer


@pytest.fixture(scope="session")
def vit_folder(make_clip: MakeClip) -> Path:
    """A small vision transformer with a text tower."""
    return make_clip(VIT)


@pytest.fixture(scope="session")
def resnet_folder(make_clip: MakeClip) -> Path:
    """A small residual network as an image tower."""
    return make_clip(RESNET)


@pytest.fixture(scope="session")
def photos(shared_data: Path) -> list[Path]:
    """Real photographs, of several sizes."""
    found = sorted((shared_data / "cc0_photos").glob("*.jpg"))[:6]
    assert len(found) == 6
    return found
