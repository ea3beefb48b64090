import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from brainkit.errors import InputError
from brainkit.evaluation import (
    correlation_length,
    exchanged_rows,
    fdr_bh,
    shuffled_indices,
)


@given(st.integers(2, 40), st.integers(0, 5))
def test_shuffles_leave_no_item_in_place(n, seed):
    order = shuffled_indices(n, seed)
    assert sorted(order) == list(range(n))
    assert (order != np.arange(n)).all()
    np.testing.assert_array_equal(order, shuffled_indices(n, seed))


@given(st.lists(st.integers(0, 4), min_size=2, max_size=25), st.integers(0, 5))
def test_shuffles_leave_no_item_at_its_stimulus(labels, seed):
    groups = np.array(labels)
    n = len(groups)
    assume(2 * np.bincount(groups).max() <= n)
    order = shuffled_indices(n, seed, groups)
    assert sorted(order) == list(range(n))
    assert (groups[order] != groups).all()


def test_groups_of_one_size_move_as_wholes():
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(6), 3))
    moved = groups[shuffled_indices(18, 4, groups)]
    sources = {target: set(moved[groups == target]) for target in range(6)}
    assert all(len(source) == 1 for source in sources.values())
    assert set.union(*sources.values()) == set(range(6))


def test_every_derangement_is_equally_likely():
    drawn = [tuple(shuffled_indices(4, seed)) for seed in range(900)]
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == 9  # the derangements of 4 items
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize(
    ("n", "groups"), [(1, None), (4, [0] * 4), (5, [0, 0, 0, 1, 2]), (0, None)]
)
def test_impossible_shuffles(n, groups):
    with pytest.raises(InputError, match="2 stimuli"):
        shuffled_indices(n, 0, groups)


@given(npst.arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1)))
def test_fdr_equals_scipy(p):
    np.testing.assert_allclose(fdr_bh(p), scipy.stats.false_discovery_control(p))


def test_fdr_keeps_nan_and_shape():
    p = np.array([[0.01, np.nan], [0.04, 0.03]])
    np.testing.assert_allclose(fdr_bh(p), [[0.03, np.nan], [0.04, 0.04]])
    assert np.isnan(fdr_bh([np.nan])).all()
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        fdr_bh([0.5, 1.5])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 5))
def test_an_exchange_gives_all_rows_of_a_stimulus_the_same_other_one(labels, seed):
    shown = np.array(labels)
    moved = shown[exchanged_rows(shown, np.random.default_rng(seed))]
    sources = {target: set(moved[shown == target]) for target in set(labels)}
    assert all(len(source) == 1 for source in sources.values())
    assert set.union(*sources.values()) == set(labels)


def test_conditions_are_exchanged_within_each_run_in_its_own_way():
    shown = np.tile([3, 1, 2, 1], 50)
    runs = np.repeat(np.arange(50), 4)
    moved = shown[exchanged_rows(shown, np.random.default_rng(0), strata=runs)].reshape(50, 4)
    assert (np.sort(moved, axis=1) == [1, 1, 2, 3]).all()  # each as often as it was shown
    kinds, counts = np.unique(moved, axis=0, return_counts=True)
    assert len(kinds) == 12  # every order of the four trials
    assert counts.max() < 15


def test_stretches_change_places_as_wholes():
    shown = np.arange(23)
    order = exchanged_rows(shown[:20], np.random.default_rng(2), blocks=np.arange(20) // 5)
    starts = order.reshape(4, 5)
    np.testing.assert_array_equal(np.diff(starts, axis=1), 1)
    assert sorted(starts[:, 0]) == [0, 5, 10, 15]
    assert (starts[:, 0] != [0, 5, 10, 15]).any()
    # Blocks of several lengths are laid out anew, and none stays because it is alone.
    sizes = [3, 4, 5, 6, 5]
    blocks = np.repeat(np.arange(5), sizes)
    order = exchanged_rows(shown, np.random.default_rng(1), blocks=blocks)
    assert sorted(order) == list(range(23))
    assert (np.diff(order) == 1).sum() >= 23 - 5
    assert (order == shown).mean() < 0.5


@given(st.integers(0, 10_000))
def test_rows_in_random_order_are_not_alike(seed):
    generator = np.random.default_rng(seed)
    series = generator.normal(size=(100, 20)) @ generator.normal(size=(20, 30))
    # One in a thousand may look slow; none of them for long.
    assert correlation_length(series, np.zeros(100)) <= 3


@pytest.mark.parametrize("phi", [0.6, 0.9])
def test_how_long_slow_series_are_alike(phi):
    generator = np.random.default_rng(0)
    series = np.zeros((800, 40))
    for row in range(1, 800):
        series[row] = phi * series[row - 1] + generator.normal(size=40)
    length = correlation_length(series, np.repeat(np.arange(8), 100))
    # φ^k falls below what 40 independent series of 800 rows can tell, about .02.
    assert np.log(0.05) / np.log(phi) < length < np.log(0.005) / np.log(phi)
    shuffled = series[generator.permutation(800)]
    assert correlation_length(shuffled, np.zeros(800)) == 1
    assert correlation_length(np.ones((10, 3)), np.zeros(10)) == 1
