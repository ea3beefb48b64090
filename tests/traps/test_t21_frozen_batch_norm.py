"""T21: batch normalisation of a frozen trunk that drifts in training mode."""

import numpy as np
import pytest
import torch

from brainkit.features import TorchModel, extract, open_backbone
from brainkit.features.weights import weights_hash
from brainkit.training import Schedule, Step, train

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)


def test_features_neither_use_nor_change_batch_statistics() -> None:
    backbone = open_backbone("torchvision:resnet18/random:0")
    before = weights_hash(backbone.module)
    first = extract(backbone, IMAGES, layers="layer2", pool="mean", batch_size=6)
    backbone.module.train()
    again = extract(backbone, IMAGES, layers="layer2", pool="mean", batch_size=6)
    assert weights_hash(backbone.module) == before
    np.testing.assert_array_equal(again, first)
    others = extract(backbone, IMAGES[::-1], layers="layer2", pool="mean", batch_size=3)
    np.testing.assert_allclose(others[::-1], first, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_a_module_of_the_users_leaves_as_it_came(training: bool) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).train(training)
    module[0].eval()
    modes = [part.training for part in module.modules()]
    before = weights_hash(module)
    by_hand = module.eval()(torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255).detach()
    for part, mode in zip(module.modules(), modes, strict=True):
        part.training = mode
    features = extract(TorchModel(module), IMAGES, layers="1", pool="flatten")
    np.testing.assert_allclose(features, by_hand.flatten(1).numpy(), rtol=1e-5, atol=1e-6)
    assert weights_hash(module) == before
    assert [part.training for part in module.modules()] == modes
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_a_frozen_trunk_in_a_trained_module_stays_as_it_is() -> None:
    trunk = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4, affine=False), torch.nn.Dropout(0.5)
    ).requires_grad_(False)
    head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(1))
    module = torch.nn.Sequential(trunk, head)
    shown = torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255
    module.eval()(shown)
    before, modes = weights_hash(trunk), []

    def loss(current: torch.nn.Module, step: Step) -> torch.Tensor:
        modes.append([part.training for part in trunk.modules()])
        assert current[1].training
        return current(shown).square().mean()

    report = train(module.train(), loss, Schedule(steps=5, warmup=1))
    assert weights_hash(trunk) == before
    assert not any(map(any, modes))
    assert report.frozen == {"0": 4 * 3 * 9 + 4}
    assert report.trained == {"1": 62 * 62 * 4 + 1}
