"""Gaussian fields: closed forms, units, and the grid of candidates."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from brainkit.encoding.readouts import Fields, field_grid, gaussian_fields
from brainkit.encoding.readouts.fields import token_centres
from brainkit.errors import InputError


def one(x, y, size, grid):
    values = (torch.tensor([float(value)]) for value in (x, y, size))
    return gaussian_fields(*values, grid)[0].numpy().reshape(grid)


def test_weights_are_the_gaussian_at_the_centres_of_the_tokens():
    found = one(0.3, 0.2, 0.15, (2, 4))
    x, y = (np.arange(4) + 0.5) / 4, (np.arange(2) + 0.5) / 4  # tokens are square
    expected = np.exp(-((x - 0.3) ** 2 + (y[:, None] - 0.2) ** 2) / (2 * 0.15**2))
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-5)


@given(st.floats(0.4, 0.6), st.floats(0.4, 0.6), st.floats(0.04, 0.1), st.sampled_from([24, 33]))
def test_moments_are_those_of_the_field(x, y, size, side):
    field = one(x, y, size, (side, side))
    place_x, place_y = (p.numpy().reshape(side, side) for p in token_centres((side, side)))
    assert field.sum() == pytest.approx(1, abs=1e-5)
    assert (field * place_x).sum() == pytest.approx(x, abs=1e-3)
    assert (field * place_y).sum() == pytest.approx(y, abs=1e-3)
    assert (field * (place_x - x) ** 2).sum() == pytest.approx(size**2, rel=0.05)


@given(st.floats(-3, 4), st.floats(-3, 4), st.floats(0.01, 3))
def test_fields_off_the_image_are_finite_too(x, y, size):
    field = one(x, y, size, (6, 6))
    assert np.isfinite(field).all()
    assert field.sum() == pytest.approx(1, abs=1e-5)


def test_positions_in_degrees_count_from_the_centre_and_upwards():
    fields = Fields(
        *(np.array(v, dtype=np.float32) for v in ([0.5, 0.75], [0.5, 0.25], [0.1, 0.2]))
    )
    x, y, size = fields.measured((8, 8), 8.0)
    np.testing.assert_allclose(x, [0, 2], atol=1e-6)
    np.testing.assert_allclose(y, [0, 2], atol=1e-6)
    np.testing.assert_allclose(size, [0.8, 1.6], rtol=1e-6)
    assert fields.measured((4, 8), 8.0)[1].tolist() == [-2.0, 0.0]  # half as high as wide
    assert fields.measured((8, 8), None)[0] is fields.x


def test_candidates_are_all_pairs_of_centre_and_size():
    fields = field_grid((4, 8), n_positions=4, n_sizes=3, smallest=0.1, largest=0.4)
    assert len(fields) == 4 * 2 * 3
    assert sorted(set(fields.x.tolist())) == [0.125, 0.375, 0.625, 0.875]
    assert sorted(set(fields.y.tolist())) == [0.125, 0.375]
    np.testing.assert_allclose(np.unique(fields.size), [0.1, 0.2, 0.4], rtol=1e-6)
    np.testing.assert_allclose(field_grid((8, 8), 2, 1).size, 0.5 / 8)
    assert len({*zip(fields.x, fields.y, fields.size, strict=True)}) == len(fields)


@pytest.mark.parametrize(
    "wrong", [{"n_positions": 0}, {"n_sizes": 0}, {"smallest": 0.5}, {"smallest": 0.0}]
)
def test_impossible_grids_are_refused(wrong):
    with pytest.raises(InputError):
        field_grid((8, 8), **wrong)
