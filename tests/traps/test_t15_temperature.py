"""T15: a log temperature that is never exponentiated, or that no optimiser knows."""

import math

import numpy as np
import pytest
import torch

from brainkit.decoding import ContrastiveDecoder
from brainkit.training.contrastive import Temperature, info_nce


def fitted(steps):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(120, 6)).astype(np.float32)
    X = (Z @ rng.normal(size=(6, 20)) + 0.3 * rng.normal(size=(120, 20))).astype(np.float32)
    settings = {"alphas": (1.0,), "cv": 2, "validation": 0.0, "progress": False, "seed": 3}
    return ContrastiveDecoder(steps=steps, learning_rate=1e-2, **settings).fit(X, Z)


def test_similarities_are_scaled_by_the_exponential():
    """At the start of CLIP, 1 / .07: 14.29, and not the 2.66 that its logarithm is."""
    a = torch.eye(2)
    loss = float(info_nce(a, a, Temperature()()).detach())
    assert loss == pytest.approx(math.log(1 + math.exp(-1 / 0.07)), abs=2e-7)
    assert loss < math.log(1 + math.exp(-math.log(1 / 0.07))) / 100


def test_the_optimiser_has_the_temperature():
    short, long = fitted(1), fitted(60)
    names = [name for name, p in long.module_.named_parameters() if p.requires_grad]
    assert "temperature.log_scale" in names
    assert long.report_.trained["temperature"] == 1
    assert abs(long.module_.temperature.scale - short.module_.temperature.scale) > 0.5
