"""T21: batch normalisation of a frozen trunk that drifts in training mode."""

import numpy as np
import pytest
import torch

from brainkit.features import TorchModel, extract, open_backbone
from brainkit.features.weights import weights_hash

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
