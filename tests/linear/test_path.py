"""Few functions stand for all penalties, to the precision that is worked in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainkit.linear.path import stretches


def relative_errors(cut, values, alphas):
    found = np.concatenate([s.functions @ s.mixing.T for s in cut])
    return np.abs(found * (values[:, None] + alphas) - 1)


@given(
    size=st.integers(1, 80),
    decades=st.floats(0, 9),
    low=st.floats(-3, 4),
    span=st.floats(0, 8),
    count=st.integers(1, 14),
)
def test_ratios_are_met_for_every_eigenvalue_and_penalty(size, decades, low, span, count):
    values = np.geomspace(1, 10**decades, size)
    alphas = np.geomspace(10**low, 10 ** (low + span), count)
    cut = stretches(values, alphas, np.float32)
    assert [s.start for s in cut[1:]] == [s.stop for s in cut[:-1]]
    assert (cut[0].start, cut[-1].stop) == (0, size)
    assert relative_errors(cut, values, alphas).max() < 1e-4
    assert relative_errors(stretches(values, alphas, np.float64), values, alphas).max() < 1e-11


def test_a_narrow_spectrum_needs_few_functions():
    alphas = np.geomspace(10, 1e5, 10)
    cut = stretches(np.linspace(4000, 16000, 1000), alphas, np.float32)
    assert max(s.functions.shape[1] for s in cut) <= 4
    assert relative_errors(cut, np.linspace(4000, 16000, 1000), alphas).max() < 3e-5


@pytest.mark.parametrize("values", [np.zeros(4), np.array([0, 0, 1e-12, 5.0])])
def test_directions_without_variance_are_no_trouble(values):
    alphas = np.array([1e-3, 1.0, 1e3])
    cut = stretches(values, alphas, np.float32)
    assert relative_errors(cut, values, alphas).max() < 1e-4
