"""Bands in every form they may be given in, draws on the simplex, and the rule of racing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from brainkit.errors import InputError
from brainkit.linear.banded_solver import RacingRule
from brainkit.linear.bands import band_columns, checked_draws, simplex_draws


@pytest.mark.parametrize(
    "bands",
    [
        [2, 3],
        np.array([2, 3]),
        ["a", "a", "b", "b", "b"],
        [7, 7, 1, 1, 1],
        np.array([True, True, False, False, False]),
        [slice(0, 2), slice(2, None)],
        [[0, 1], np.arange(2, 5)],
        [slice(0, 2), [2, 3, 4]],
        [np.arange(5) < 2, np.arange(5) >= 2],
        {"early": [0, 1], "late": slice(2, 5)},
    ],
)
def test_all_ways_to_say_which_columns_give_the_same(bands):
    assert [list(columns) for columns in band_columns(bands, 5)] == [[0, 1], [2, 3, 4]]


def test_no_bands_are_one_and_labels_come_in_the_order_of_their_columns():
    assert [list(columns) for columns in band_columns(None, 3)] == [[0, 1, 2]]
    found = band_columns(["z", "a", "z", "m"], 4)
    assert [list(columns) for columns in found] == [[0, 2], [1], [3]]
    assert [list(columns) for columns in band_columns([1], 1)] == [[0]]


@pytest.mark.parametrize(
    ("bands", "said"),
    [
        ([[0, 1], [1, 2, 3]], "Columns 1 are in a band more than once"),
        ([[0, 0, 1], [2, 3]], "Columns 0 are in a band more than once"),
        ([[0, 1], [3]], "Columns 2 are in no band"),
        ([[0, 1, 2, 3], []], "Bands 1 have no columns"),
        ([slice(4, 9), slice(0, 4)], "Bands 0 have no columns"),
        ([], "No bands were given"),
        ({}, "No bands were given"),
        ([[0, 1, 2], [3, 4]], "hold columns 4, but features are numbered 0 to 3"),
        ([[-1, 0], [1, 2]], "hold columns -1"),
        ([2, 3], "2 sizes with a sum of 5 for 4 features"),
        ([4, 0], "2 sizes with a sum of 4 for 4 features"),
        (["a", "b"], "2 labels for 4 features"),
        ([0.5, 3.5], "2 labels for 4 features"),
        ([1, 1, 1, 1], "could be the sizes of 4 bands or the labels of 4 columns"),
        ([[0.0, 1.0], [2.0, 3.0]], "A band is a slice, a list of column numbers, or a mask"),
        ([[[0, 1], [2, 3]]], "A band is a slice"),
        ("abcd", "must be sizes, labels, slices or arrays"),
        (4, "must be sizes, labels, slices or arrays"),
    ],
)
def test_bands_that_do_not_fit_are_refused(bands, said):
    with pytest.raises(InputError, match=said):
        band_columns(bands, 4)


@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 50))
def test_draws_lie_on_the_simplex(n_draws, n_bands, seed):
    draws = simplex_draws(n_draws, n_bands, seed=seed)
    assert draws.shape == (n_draws if n_bands > 1 else 1, n_bands)
    assert (draws >= 0).all()
    np.testing.assert_allclose(draws.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(checked_draws(draws, n_bands), draws)
    np.testing.assert_array_equal(simplex_draws(n_draws, n_bands, seed=seed), draws)


def test_draws_begin_alike_and_in_the_corners_and_visit_faces():
    draws = simplex_draws(400, 4, seed=3)
    assert draws[0].tolist() == [0.25] * 4
    np.testing.assert_array_equal(draws[1:5], np.eye(4))
    zeros = (draws[5:] == 0).sum(axis=1)
    assert set(zeros[2::3]) == {1, 2}  # faces with three bands and with two
    assert not zeros[0::3].any()
    assert not zeros[1::3].any()
    # Variance of a symmetric Dirichlet of concentration a: (1/4)(3/4) / (4 a + 1).
    assert draws[5::3].var(axis=0).mean() == pytest.approx(0.1875 / 1.4, rel=0.15)
    assert draws[6::3].var(axis=0).mean() == pytest.approx(0.1875 / 5, rel=0.15)
    assert not np.array_equal(simplex_draws(9, 4, seed=4), draws[:9])
    assert (simplex_draws(60, 2)[3:] > 0).all()  # of two bands the corners are the only faces


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"n_draws": 0, "n_bands": 2}, "At least 1 draw of 1 band; got 0 of 2"),
        ({"n_draws": 2, "n_bands": 2, "concentration": 0.0}, "concentration must be positive"),
        ({"n_draws": 2, "n_bands": 2, "concentration": []}, "concentration must be positive"),
        ({"n_draws": 2, "n_bands": 2, "concentration": [1, np.nan]}, "concentration must be"),
    ],
)
def test_draws_that_cannot_be_made(arguments, said):
    with pytest.raises(InputError, match=said):
        simplex_draws(**arguments)


@pytest.mark.parametrize(
    ("draws", "said"),
    [
        (np.ones((3, 2)) / 2, r"each of the 3 bands; got \(3, 2\)"),
        (np.ones(3) / 3, r"got \(3,\)"),
        (np.empty((0, 3)), r"got \(0, 3\)"),
        ([[0.5, 0.5, 0], [0.5, 0.4, 0]], "those of draws 1 do not"),
        ([[1.5, -0.5, 0]], "those of draws 0 do not"),
        ([[np.nan, 0.5, 0.5]], "those of draws 0 do not"),
    ],
)
def test_given_draws_are_checked(draws, said):
    with pytest.raises(InputError, match=said):
        checked_draws(draws, 3)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_racing_keeps_what_is_behind_by_no_more_than_it_allows(kind):
    # Targets with an R² of .8, of .5, below 0, and a constant one.
    errors = np.array(
        [[10.0, 50.0, 101.0, 0.0], [11.0, 50.6, 101.0, 0.0], [10.1, np.inf, 101.1, 0.0]]
    )
    total = np.array([50.0, 100.0, 100.0, 0.0])
    # Slack 1 and 10,000 rows allow .01 · 50 · .4 = .2 and .01 · 100 · .5 = .5.
    kept = RacingRule(slack=1.0).remaining(kind(errors), kind(total), 10_000)
    expected = [[1, 1, 1, 1], [0, 0, 1, 1], [1, 0, 0, 1]]
    np.testing.assert_array_equal(np.asarray(kept), np.array(expected, dtype=bool))
    for slack, n_rows, left in ((0.0, 9, [1, 1, 2, 3]), (2.0, 10_000, [2, 2, 2, 3]),
                                (1.0, 100, [3, 2, 2, 3])):  # fmt: skip
        kept = RacingRule(slack=slack).remaining(kind(errors), kind(total), n_rows)
        np.testing.assert_array_equal(np.asarray(kept).sum(axis=0), left)


@pytest.mark.parametrize("slack", [-0.1, np.nan, np.inf])
def test_slack_of_racing_is_not_negative(slack):
    with pytest.raises(InputError, match="slack of racing must be 0 or more, finite"):
        RacingRule(slack=slack)


def test_racing_sees_a_fold_first():
    with pytest.raises(InputError, match="at least 1 fold first; got 0"):
        RacingRule(first_folds=0)
