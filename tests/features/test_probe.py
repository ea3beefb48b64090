"""Frozen means deterministic: what differs between passes or with its company is refused."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from brainkit.errors import InputError
from brainkit.features import Backbone, TorchModel, extract
from brainkit.features.store import FeatureStore

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


class Layered(torch.nn.Module):
    """A convolution, and then one hazard."""

    def __init__(self, hazard: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.last = torch.nn.Identity()
        self.hazard = hazard

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.hazard(self.conv(x)))


def masked(x: torch.Tensor) -> torch.Tensor:
    return x * (torch.rand(len(x), 1, *x.shape[2:]) > 0.5)


def by_hand_dropped(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.dropout(x, 0.1)


def noisy(x: torch.Tensor) -> torch.Tensor:
    return x + 1e-3 * torch.randn_like(x)


def seeded_by_place(x: torch.Tensor) -> torch.Tensor:
    return x + torch.rand(x.shape, generator=torch.Generator().manual_seed(1))


def normalised_by_batch(x: torch.Tensor) -> torch.Tensor:
    return (x - x.mean(0)) / (x.std(0, correction=0) + 0.1)


def sorted_over_batch(x: torch.Tensor) -> torch.Tensor:
    return x.sort(dim=0).values


RANDOM = [masked, by_hand_dropped, noisy]
COMPANY = [seeded_by_place, normalised_by_batch, sorted_over_batch]


@pytest.mark.parametrize("hazard", RANDOM)
def test_what_is_random_is_refused_by_name(hazard: Any) -> None:
    with pytest.raises(InputError, match=r"module:Layered, layer last, differ from one pass"):
        extract(Layered(hazard), IMAGES, layers="last", pool="mean")
    # Another layer of the same model is frozen.
    assert extract(Layered(hazard), IMAGES, layers="conv", pool="mean").shape == (5, 4)
    with pytest.raises(InputError, match="layer last, differ"):
        extract(Layered(hazard), IMAGES, layers=["conv", "last"], pool="mean")


@pytest.mark.parametrize("hazard", COMPANY)
@pytest.mark.parametrize("n_images", [1, 5])
def test_what_depends_on_its_company_is_refused_by_name(hazard: Any, n_images: int) -> None:
    with pytest.raises(InputError, match=r"layer last, differ with what else is in the batch"):
        extract(Layered(hazard), IMAGES[:n_images], layers="last", pool="flatten")


def test_a_random_preprocessing_is_refused() -> None:
    generator = np.random.default_rng(0)

    def crop(image: Image.Image) -> torch.Tensor:
        left = int(generator.integers(5))
        pixels = np.asarray(image.crop((left, 0, left + 8, 8)), np.float32)
        return torch.from_numpy(pixels.transpose(2, 0, 1))

    model = TorchModel(Layered(torch.relu), crop)
    with pytest.raises(InputError, match="in its forward pass or in its preprocessing"):
        extract(model, IMAGES, pool="mean")


class Words(Backbone):
    """A model of text that pads to the longest, without a mask or with one."""

    spec, modality = "words", "text"

    def __init__(self, mask: bool) -> None:
        self.mask = mask

    def identity(self) -> dict[str, Any]:
        return {"source": "words"}

    def layers(self) -> list[str]:
        return ["mean"]

    def default_layer(self) -> str:
        return "mean"

    def prepare(self, items: Sequence[Any]) -> torch.Tensor:
        length = max(map(len, items))
        return torch.tensor([[ord(c) for c in item.ljust(length, "\0")] for item in items])

    def run(self, batch: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        values = torch.cos(batch.float())
        weight = (batch > 0).float() if self.mask else torch.ones_like(values)
        return {"mean": ((values * weight).sum(1) / weight.sum(1))[:, None]}

    def to(self, device: Any) -> None:
        pass


def test_texts_that_depend_on_the_longest_of_their_batch_are_refused() -> None:
    texts = ["a house", "a dog", "a red house on a beach"]
    with pytest.raises(InputError, match="layer mean, differ with what else is in the"):
        extract(Words(mask=False), texts)
    assert extract(Words(mask=True), texts).shape == (3, 1)
    for alike in (["a dog", "a cat"], ["a dog"]):  # others would be padded
        with pytest.raises(InputError, match="differ with what else is in the"):
            extract(Words(mask=False), alike)


def test_the_shape_may_not_depend_on_the_company() -> None:
    class Tokens(Words):
        def run(self, batch: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
            return {"mean": batch[..., None].float()}

    with pytest.raises(InputError, match=r"differ with what else is in the batch \(in shape\)"):
        extract(Tokens(mask=True), ["a house on a beach", "a dog"], pool=None)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rounding_is_no_difference(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(16 * 16 * 3, 300), *(torch.nn.Linear(300, 300) for _ in range(8))]
    module = torch.nn.Sequential(torch.nn.Flatten(), *layers).to(kind)
    assert extract(module, IMAGES, layers="9").shape == (5, 300)


def test_a_model_is_looked_at_once_for_each_layer(tmp_path: Path) -> None:
    calls: list[int] = []
    module = Layered(torch.relu)
    module.register_forward_pre_hook(lambda part, inputs: calls.append(len(inputs[0])))
    model = TorchModel(module)
    store = FeatureStore(tmp_path)
    extract(model, IMAGES, layers="conv", pool="mean", store=store)
    assert calls == [3, 3, 1, 1, 1, 1, 5]
    calls.clear()
    extract(model, IMAGES, layers="conv", pool="mean", store=store)
    assert calls == []
    extract(model, IMAGES[::-1], layers="conv", pool="mean", store=store)
    assert calls == [1, 5]
    calls.clear()
    extract(model, IMAGES, layers=["conv", "last"], pool="mean")
    assert calls == [3, 3, 1, 1, 1, 5]


def test_refused_features_leave_nothing_in_the_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="differ from one pass"):
        extract(Layered(masked), IMAGES, layers="last", pool="mean", store=tmp_path / "s")
    assert FeatureStore(tmp_path / "s").entries() == []


def test_values_that_are_not_finite_are_for_another_check() -> None:
    broken = copy.deepcopy(Layered(torch.relu))
    with torch.no_grad():
        broken.conv.bias[0] = torch.nan
    with pytest.raises(InputError, match="are not finite for 5 stimuli"):
        extract(broken, IMAGES, layers="last", pool="mean")
