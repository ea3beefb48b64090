import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from brainkit.errors import InputError, QuantityError
from brainkit.evaluation import (
    Correlation,
    RSquared,
    bootstrap_ci,
    bootstrap_difference,
    fdr_bh,
    shuffled_indices,
)
from brainkit.evaluation import statistics as statistics_module


def test_bootstrap_approaches_the_normal_interval():
    values = np.random.default_rng(0).normal(2.0, 1.0, size=400)
    interval = bootstrap_ci(values, n=4000)
    half = scipy.stats.norm.ppf(0.975) * values.std() / 20
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.01)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.01)
    assert (interval.n, interval.level, interval.excludes_zero) == (400, 0.95, True)


def test_bootstrap_covers_the_truth():
    covered = 0
    for seed in range(200):
        values = np.random.default_rng(seed).normal(size=60)
        interval = bootstrap_ci(values, n=300, level=0.9, seed=seed)
        covered += interval.low <= 0 <= interval.high
    assert 165 <= covered <= 195


def test_bootstrap_depends_on_the_seed_alone(monkeypatch):
    values = np.random.default_rng(0).normal(size=30)
    first = bootstrap_ci(values, seed=1)
    assert bootstrap_ci(values, seed=1) == first
    assert bootstrap_ci(values, seed=2) != first
    monkeypatch.setattr(statistics_module, "_RESAMPLE_CELLS", 30 * 7)
    assert bootstrap_ci(values, seed=1) == first


def test_copies_of_an_item_do_not_narrow_the_interval():
    values = np.random.default_rng(0).normal(size=50)
    single = bootstrap_ci(values, seed=3)
    grouped = bootstrap_ci(np.repeat(values, 5), seed=3, groups=np.repeat(np.arange(50), 5))
    assert (grouped.low, grouped.high) == pytest.approx((single.low, single.high))
    assert grouped.n == 250


def test_nan_items_are_left_out():
    interval = bootstrap_ci([1.0, np.nan, 3.0, 2.0])
    assert (interval.value, interval.n) == (2.0, 3)


def test_paired_difference_sees_what_unpaired_intervals_do_not():
    generator = np.random.default_rng(0)
    difficulty = generator.normal(size=100)
    a = difficulty + 0.1 + generator.normal(scale=0.05, size=100)
    b = difficulty + generator.normal(scale=0.05, size=100)
    difference = bootstrap_difference(a, b)
    assert difference.excludes_zero
    assert difference.value == pytest.approx((a - b).mean())
    assert bootstrap_ci(a).low < bootstrap_ci(b).high
    mirrored = bootstrap_difference(b, a)
    assert (mirrored.low, mirrored.high) == pytest.approx((-difference.high, -difference.low))
    assert not bootstrap_difference(b, b[::-1]).excludes_zero


def test_differences_are_between_one_kind():
    with pytest.raises(QuantityError, match="Correlation and RSquared"):
        bootstrap_difference(Correlation([0.1, 0.2]), RSquared([0.1, 0.2]))
    assert bootstrap_difference(Correlation([0.3, 0.2]), Correlation([0.1, 0.2])).n == 2


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([1.0], {}, "at least 2"),
        ([1.0, np.nan], {}, "1 of 2 scores are finite"),
        ([1.0, 2.0], {"groups": [0, 0]}, "in 1 groups"),
        ([[1.0, 2.0]], {}, "n_items"),
        ([1.0, 2.0], {"n": 0}, "n=0"),
        ([1.0, 2.0], {"level": 95}, "level=95"),
        ([1.0, 2.0], {"groups": [0]}, "one label per item"),
    ],
)
def test_bootstrap_bad_input(values, options, message):
    with pytest.raises(InputError, match=message):
        bootstrap_ci(values, **options)


def test_difference_needs_pairs():
    with pytest.raises(InputError, match="3 items and b 2"):
        bootstrap_difference([1, 2, 3], [1, 2])


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
