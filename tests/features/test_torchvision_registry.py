"""Every model of torchvision's classification registry, set up as its own builder does."""

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import models

from brainkit.errors import InputError
from brainkit.features.backbones.torch_module import structure_hash
from brainkit.features.backbones.torchvision import (
    TURNING,
    _options,
    _with_weights,
    torchvision_backbone,
)
from brainkit.features.spec import parse_spec

NAMES = models.list_models(module=models)
TAGS = [(name, tag.name) for name in NAMES for tag in models.get_model_weights(name)]
LARGE = 60e6  # parameters; beyond it the structure is compared, not the output


def reference(name: str, tag: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what torchvision's builder makes with a tag, but for the values of the weights."""
    with monkeypatch.context() as patch:
        patch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *a, **k: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *a, **k: None)
        torch.manual_seed(0)
        return models.get_model(name, weights=tag).eval()


def published(name: str, module: Any) -> "OrderedDict[str, torch.Tensor]":
    """Return weights as torchvision's own files hold them: DenseNet's under their old names."""
    state = module.state_dict()
    if name == "googlenet":  # with the heads that the builder lets go of
        state = models.get_model(name, weights=None, init_weights=False).state_dict() | state
    if name.startswith("densenet"):
        old = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))([12]\.)")
        state = OrderedDict((old.sub(r"\1.\2", key), value) for key, value in state.items())
    return state


def shapes(module: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def quick_ones_first() -> list[Any]:
    """Give every entry; in daily work one of each builder, and all that set more than weights."""
    chosen: list[Any] = []
    builders = set()
    for name, tag in TAGS:
        family = re.sub(r"[_\d].*", "", name)
        more = name in TURNING or name.startswith(("vit", "densenet121", "mnasnet0_5"))
        quick = family not in builders or more
        builders.add(family)
        chosen.append(pytest.param(name, tag, marks=[] if quick else [pytest.mark.slow]))
    return chosen


@pytest.mark.parametrize(("name", "tag"), quick_ones_first())
def test_every_entry_is_set_up_as_torchvisions_own(
    name: str, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths = models.regnet.BlockParams.from_init_params

    def plain_widths(*given: Any, **settings: Any) -> Any:
        with torch.device("cpu"):  # they are computed as tensors
            return widths(*given, **settings)

    monkeypatch.setattr(models.regnet.BlockParams, "from_init_params", plain_widths)
    with torch.device("meta"):  # nothing but shapes
        theirs = reference(name, tag, monkeypatch)
        weights = models.get_model_weights(name)[tag]
        spec = parse_spec(f"torchvision:{name}/{tag}")
        options = _options(name, weights, weights)
        ours = _with_weights(name, options, published(name, theirs), spec)
    assert shapes(ours) == shapes(theirs)
    assert structure_hash(ours) == structure_hash(theirs)


def fill(module: torch.nn.Module) -> None:
    """Put numbers in place of what is zero at the start, which would hide what comes before."""
    torch.manual_seed(1)
    for part in [*module.parameters(), *module.buffers()]:
        if part.is_floating_point() and not part.any():
            torch.nn.init.normal_(part, 0.0, 0.05)
        elif part.is_floating_point() and bool((part == part.flatten()[0]).all()):
            torch.nn.init.uniform_(part, 0.5, 1.5)


def entries() -> list[Any]:
    chosen = []
    for name, tag in TAGS:
        size = models.get_model_weights(name)[tag].meta["num_params"]
        first = tag == next(iter(models.get_model_weights(name))).name
        if size < LARGE and first:
            quick = name in ("googlenet", "mnasnet0_5", "densenet121", "shufflenet_v2_x0_5")
            marks = [] if quick else [pytest.mark.slow]
            chosen.append(pytest.param(name, tag, marks=marks))
    return chosen


@pytest.mark.parametrize(("name", "tag"), entries())
def test_features_equal_torchvisions_own(
    name: str, tag: str, tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    theirs = reference(name, tag, monkeypatch)
    fill(theirs)
    weights = models.get_model_weights(name)[tag]
    file = tmp_path / "hub" / "checkpoints" / Path(weights.url).with_suffix(".safetensors").name
    file.parent.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in published(name, theirs).items()}, file)
    photo = Image.open(sorted((shared_data / "cc0_photos").glob("*.jpg"))[0]).convert("RGB")
    model = torchvision_backbone(parse_spec(f"torchvision:{name}/{tag}"))
    batch = model.prepare([photo])
    last = model.layers()[-1]
    with torch.inference_mode():
        expected = theirs(weights.transforms()(photo)[None])
    assert expected.std() > 1e-4
    got = model.run(batch, [last])[last].flatten(1)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_the_image_size_of_a_tag(shared_data: Path) -> None:
    photo = Image.open(sorted((shared_data / "cc0_photos").glob("*.jpg"))[0])
    for name, size in (("vit_b_16", 224), ("vit_b_16+IMAGENET1K_SWAG_E2E_V1", 384)):
        model = torchvision_backbone(parse_spec(f"torchvision:{name}/random"))
        batch = model.prepare([photo])
        assert batch.shape == (1, 3, size, size)
        assert model.module.image_size == size
    block = "encoder.layers.encoder_layer_0"
    tokens = model.run(batch, ["conv_proj"])["conv_proj"]
    assert tokens.shape == (1, 768, 24, 24)
    assert model.prefix_tokens(block) == 1


@pytest.mark.parametrize(
    "name", ["googlenet", pytest.param("inception_v3", marks=pytest.mark.slow)]
)
def test_files_of_networks_that_turn_their_input(name: str, tmp_path: Path) -> None:
    tag = models.get_model_weights(name).DEFAULT.name
    torch.manual_seed(0)
    module = models.get_model(name, weights=None, init_weights=False)
    save_file(module.state_dict(), tmp_path / "w.safetensors")
    file = f"{tmp_path}/w.safetensors"
    with pytest.raises(InputError, match=rf"Where do the weights .* torchvision:{name}\+{tag}/"):
        torchvision_backbone(parse_spec(f"torchvision:{name}/{file}"))
    turned = torchvision_backbone(parse_spec(f"torchvision:{name}+{tag}/{file}"))
    plain = torchvision_backbone(parse_spec(f"torchvision:{name}+plain/{file}"))
    assert turned.module.transform_input
    assert not plain.module.transform_input
    assert turned.identity()["weights"] == plain.identity()["weights"]
    assert turned.identity()["structure"] != plain.identity()["structure"]
    assert not torchvision_backbone(parse_spec(f"torchvision:{name}/random")).module.transform_input
    # Without the heads that only training needs, as torchvision's own model is saved.
    small = {k: v for k, v in module.state_dict().items() if not k.startswith(("aux", "Aux"))}
    save_file(small, tmp_path / "small.safetensors")
    again = torchvision_backbone(
        parse_spec(f"torchvision:{name}+plain/{tmp_path}/small.safetensors")
    )
    batch = torch.randn(1, 3, 96, 96)
    torch.testing.assert_close(again.run(batch, ["fc"])["fc"], plain.run(batch, ["fc"])["fc"])


@pytest.mark.parametrize("name", ["mnasnet0_5", pytest.param("mnasnet1_0", marks=pytest.mark.slow)])
def test_both_versions_of_mnasnet(name: str, tmp_path: Path) -> None:
    batch = torch.randn(2, 3, 64, 64)
    for version in (1, 2):
        torch.manual_seed(0)
        module = models.get_model(name, weights=None).eval()
        if version == 1:
            state = OrderedDict()
            module._load_from_state_dict(state, "", {"version": 1}, False, [], [], [])
            module.eval()
        fill(module)
        save_file(module.state_dict(), tmp_path / f"{version}.safetensors")
        model = torchvision_backbone(
            parse_spec(f"torchvision:{name}/{tmp_path}/{version}.safetensors")
        )
        with torch.inference_mode():
            expected = module(batch)
        torch.testing.assert_close(model.run(batch, ["classifier.1"])["classifier.1"], expected)
