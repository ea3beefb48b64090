"""Responses with known pRFs on random feature maps."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from brainkit.encoding.readouts import gaussian_fields


@dataclass(frozen=True)
class Known:
    """Maps, noisy responses, their noiseless part, and the truth."""

    X: np.ndarray
    Y: np.ndarray
    signal: np.ndarray
    x: np.ndarray
    y: np.ndarray
    size: np.ndarray
    weight: np.ndarray


@pytest.fixture(scope="package")
def known() -> Known:
    rng = np.random.default_rng(0)
    side, n_features, n_targets = 10, 8, 40
    X = rng.normal(size=(440, side * side, n_features)).astype(np.float32)
    x, y = rng.uniform(0.12, 0.88, (2, n_targets))
    size = rng.uniform(0.06, 0.2, n_targets)
    truth = (torch.tensor(values, dtype=torch.float32) for values in (x, y, size))
    fields = gaussian_fields(*truth, (side, side)).numpy()
    weight = rng.normal(size=(n_targets, n_features))
    signal = np.einsum("vt,ntc,vc->nv", fields, X, weight, optimize=True)
    weight /= signal.std(axis=0)[:, None]
    signal /= signal.std(axis=0)
    Y = 5 + signal + rng.normal(size=signal.shape)
    return Known(X, Y.astype(np.float32), 5 + signal, x, y, size, weight)
