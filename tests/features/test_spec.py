"""The names of models and layers."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainkit.errors import InputError, UnknownNameError
from brainkit.features.spec import SOURCES, Spec, parse_spec


@pytest.mark.parametrize(
    ("text", "expected", "place"),
    [
        (
            "open_clip:ViT-B-16/laion2b_s34b_b88k@blocks.6,blocks.11",
            Spec("open_clip", "ViT-B-16", "laion2b_s34b_b88k", ("blocks.6", "blocks.11")),
            "name",
        ),
        ("open_clip:tiny@blocks.2", Spec("open_clip", "tiny", None, ("blocks.2",)), "tiny"),
        ("open_clip-text:tiny", Spec("open_clip-text", "tiny"), "tiny"),
        ("timm:tiny-judge-a", Spec("timm", "tiny-judge-a"), "tiny"),
        ("timm:tiny_vit_5m_224/random:7", Spec("timm", "tiny_vit_5m_224", "random:7"), "name"),
        ("timm:resnet18/random", Spec("timm", "resnet18", "random:0"), "name"),
        ("timm:hf-hub:timm/x.y", Spec("timm", "hf:timm/x.y"), "hub"),
        ("open_clip:hf:org/name/random:2", Spec("open_clip", "hf:org/name", "random:2"), "hub"),
        ("transformers:openai/clip", Spec("transformers", "hf:openai/clip"), "hub"),
        ("transformers:tiny@stem", Spec("transformers", "tiny", None, ("stem",)), "tiny"),
        ("transformers:./here/x", Spec("transformers", "./here/x"), "folder"),
        ("open_clip:/a/b@c/", Spec("open_clip", "/a/b@c"), "folder"),
        ("open_clip:/a/b/random:1@x.1", Spec("open_clip", "/a/b", "random:1", ("x.1",)), "folder"),
    ],
)
def test_parse(text: str, expected: Spec, place: str) -> None:
    spec = parse_spec(text)
    assert spec == expected
    assert spec.place == place
    assert parse_spec(str(spec)) == spec


def test_files_of_weights() -> None:
    spec = parse_spec("torchvision:squeezenet1_0//data/w.safetensors@features.3")
    assert (spec.name, spec.file) == ("squeezenet1_0", Path("/data/w.safetensors"))
    assert parse_spec("torchvision:x/w.pth").file == Path("w.pth")
    assert parse_spec("torchvision:x/IMAGENET1K_V1").file is None
    assert parse_spec("timm:x/random").file is None


def test_seed() -> None:
    assert parse_spec("timm:x/random:12").seed == 12
    assert parse_spec("timm:x/random").seed == 0
    assert parse_spec("timm:x/tag").seed is None
    assert parse_spec("timm:x").seed is None


@pytest.mark.parametrize(
    "text",
    ["", "tiny", "open_clip:", "open_clip:a@", "open_clip:a@x,", "timm:a/", "open_clip:hf:name"],
)
def test_ungrammatical(text: str) -> None:
    with pytest.raises(InputError, match=r"SOURCE:NAME\[/WEIGHTS\]"):
        parse_spec(text)


def test_unknown_source_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'open_clip'"):
        parse_spec("openclip:ViT-B-16")


WORD = st.from_regex(r"[A-Za-z][A-Za-z0-9_.]{0,8}", fullmatch=True)


@settings(max_examples=40)
@given(
    st.sampled_from([source for source in SOURCES if not source.startswith("transformers")]),
    WORD,
    st.none() | WORD,
    st.lists(WORD, max_size=3).map(tuple),
)
def test_canonical_form_round_trips(
    source: str, name: str, weights: str | None, layers: tuple[str, ...]
) -> None:
    if weights == "random":
        weights = "random:0"
    spec = Spec(source, name, weights, layers)
    assert parse_spec(str(spec)) == spec
