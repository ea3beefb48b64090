"""Intervals of every target's score by leaving blocks out."""

import itertools

import numpy as np
import pytest
from scipy import stats

from brainkit.errors import InputError
from brainkit.evaluation import (
    checked_arrays,
    compare_encoders,
    explained_variance,
    fdr_bh,
    pearson_r,
    r2,
    score_intervals,
    time_blocks,
)

FAST = [pearson_r, r2, explained_variance]
SCORES = [pearson_r, r2, explained_variance]


def pair(n=60, n_targets=7, seed=0):
    generator = np.random.default_rng(seed)
    true = generator.normal(size=(n, n_targets)) + 2.0
    return true, 0.6 * true + 0.5 * generator.normal(size=true.shape)


@pytest.mark.parametrize("score_fn", FAST)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("blocks", [None, np.arange(60) // 4, np.arange(60) % 13])
def test_sums_equal_the_function_called_without_each_block(score_fn, dtype, blocks):
    true, pred = (values.astype(dtype) for values in pair())
    fast = score_intervals(score_fn, true, pred, blocks=blocks)
    labels = np.arange(60) if blocks is None else blocks
    scale = np.arctanh if score_fn is pearson_r else lambda s: -np.log(1 - s)
    without = []
    for block in np.unique(labels):
        kept = labels != block
        without.append(scale(np.asarray(score_fn(true[kept], pred[kept]), dtype=np.float64)))
    n = len(without)
    error = np.sqrt((n - 1) / n * np.sum((without - np.mean(without, axis=0)) ** 2, axis=0))
    half = stats.t.ppf(0.975, n - 1) * error
    tolerance = 1e-9 if dtype is np.float64 else 2e-5
    middle = scale(fast.observed)
    np.testing.assert_allclose(scale(fast.low), middle - half, atol=tolerance)
    np.testing.assert_allclose(scale(fast.high), middle + half, atol=tolerance)
    np.testing.assert_array_equal(fast.observed, np.asarray(score_fn(true, pred)))
    assert (fast.n_blocks, fast.level, fast.few_units) == (n, 0.95, False)


def test_other_scores_are_called_once_a_block():
    true, pred = pair(n=12)
    calls = []

    def error(y, p):
        calls.append(len(y))
        return -np.abs(y - p).mean(axis=0)

    found = score_intervals(error, true, pred, blocks=np.arange(12) // 3)
    assert sorted(calls) == [9, 9, 9, 9, 12]
    assert (found.low < found.observed).all()
    assert found.few_units


def test_interval_of_r_is_near_fishers():
    generator = np.random.default_rng(0)
    true = generator.normal(size=(400, 300))
    pred = 0.5 * true + np.sqrt(0.75) * generator.normal(size=true.shape)
    result = score_intervals(pearson_r, true, pred)
    z = np.arctanh(result.observed)
    half = stats.norm.ppf(0.975) / np.sqrt(397)
    assert np.mean(result.low - np.tanh(z - half)) == pytest.approx(0, abs=0.01)
    assert np.mean(result.high - np.tanh(z + half)) == pytest.approx(0, abs=0.01)
    assert result.excludes_zero.all()


@pytest.mark.parametrize("n", [10, 25])
@pytest.mark.parametrize("rho", [0.0, 0.9])
@pytest.mark.parametrize("size", [1, 6])
def test_coverage_of_r(n, rho, size):
    generator = np.random.default_rng(n)
    shape = (n * size, 2000)
    shared = np.repeat(generator.normal(size=(2, n, 2000)), size, axis=1)
    true, other = np.sqrt(0.5) * shared + np.sqrt(0.5) * generator.normal(size=(2, *shape))
    found = score_intervals(
        pearson_r, true, rho * true + np.sqrt(1 - rho**2) * other,
        blocks=np.repeat(np.arange(n), size),
    )  # fmt: skip
    assert 0.93 < np.mean((found.low <= rho) & (found.high >= rho)) < 0.97


def test_copies_of_samples_do_not_narrow_intervals_when_left_out_together():
    true, pred = pair()
    single = score_intervals(pearson_r, true, pred)
    images = np.repeat(np.arange(60), 3)
    copies = score_intervals(pearson_r, true[images], pred[images], blocks=images)
    np.testing.assert_allclose(copies.low, single.low)
    alone = score_intervals(pearson_r, true[images], pred[images])
    assert (alone.high - alone.low).mean() < 0.7 * (single.high - single.low).mean()


def test_time_blocks_widen_intervals_of_slow_series():
    generator = np.random.default_rng(0)
    runs = np.repeat([0, 1, 2, 3], 100)
    true, pred = np.cumsum(generator.normal(size=(2, 400, 20)), axis=1)
    free = score_intervals(pearson_r, true, pred)
    blocked = score_intervals(pearson_r, true, pred, blocks=time_blocks(runs, 25))
    assert (blocked.high - blocked.low).mean() > 2 * (free.high - free.low).mean()


def test_targets_without_a_score_are_nan():
    true, pred = pair()
    true[:, 1] = 3.0
    pred[4, 2] = np.nan
    result = score_intervals(pearson_r, true, pred)
    assert np.isnan(result.low).tolist() == [False, True, True] + [False] * 4
    assert np.isnan(result.high).tolist() == np.isnan(result.observed).tolist()
    empty = score_intervals(pearson_r, true[:, :0], pred[:, :0])
    assert empty.low.shape == (0,)
    one = score_intervals(r2, true[:, 0], pred[:, 0])
    assert one.low.shape == ()
    assert float(one.low) == pytest.approx(score_intervals(r2, true, pred).low[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"Y_true": np.zeros((3, 2))}, "same samples"),
        ({"level": 1.0}, r"level=1\.0"),
        ({"blocks": [0] * 6}, "at least 3"),
        ({"blocks": [0, 1]}, "one label per item"),
    ],
)
def test_bad_input(options, message):
    arguments = {"Y_true": np.zeros((6, 2)), "Y_pred": np.zeros((6, 2))} | options
    with pytest.raises(InputError, match=message):
        score_intervals(pearson_r, **arguments)


def encoders(n=200, n_targets=30, better=10, seed=0):
    """Responses, and predictions of two encoders; the first is better in the first targets."""
    generator = np.random.default_rng(seed)
    signal, noise, one, two = generator.normal(size=(4, n, n_targets))
    first, second = signal + one, signal + two
    second[:, :better] += 1.5 * generator.normal(size=second[:, :better].shape)
    return signal + noise, first, second


def by_hand(score_fn, true, first, second, blocks):
    """Differences, and those without each block."""
    difference = np.asarray(score_fn(true, first)) - np.asarray(score_fn(true, second))
    without = []
    for block in np.unique(blocks):
        kept = blocks != block
        one, two = (np.asarray(score_fn(true[kept], pred[kept])) for pred in (first, second))
        without.append(one - two)
    return difference, np.array(without)


@pytest.mark.parametrize("score_fn", SCORES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_p_and_intervals_equal_the_jackknife_done_one_by_one(score_fn, dtype):
    arrays = [values.astype(dtype) for values in encoders(n=50, n_targets=4, better=2)]
    blocks = np.arange(50) // 5
    region = np.array([True, False, True, True])
    result = compare_encoders(score_fn, *arrays, n=20, blocks=blocks, regions={"some": region})
    difference, without = by_hand(score_fn, *arrays, blocks)
    error = np.sqrt(0.9 * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    tolerance = 1e-9 if dtype is np.float64 else 1e-5
    np.testing.assert_allclose(result.difference, difference, atol=tolerance)
    half = stats.t.ppf(0.975, 9) * error
    np.testing.assert_allclose(result.low, difference - half, atol=tolerance)
    np.testing.assert_allclose(result.p, 2 * stats.t.sf(np.abs(difference) / error, 9), rtol=1e-3)
    np.testing.assert_array_equal(result.p_fdr, fdr_bh(result.p))
    mean, of_region = difference[region].mean(), without[:, region].mean(axis=1)
    error = np.sqrt(0.9 * ((of_region - of_region.mean()) ** 2).sum())
    interval = result.by_region["some"].interval
    assert interval.value == pytest.approx(mean)
    assert interval.high == pytest.approx(mean + stats.t.ppf(0.975, 9) * error, abs=tolerance)
    assert (interval.n_units, interval.level, interval.few_units) == (10, 0.95, False)


def test_familywise_p_is_that_of_the_largest_flipped_influence():
    arrays = encoders(n=8, n_targets=5, better=2)
    difference, without = by_hand(pearson_r, *arrays, np.arange(8))
    influence = np.sqrt(7 / 8) * (without.mean(axis=0) - without)
    signs = np.array(list(itertools.product([-1, 1], repeat=8)))
    largest = np.abs(signs @ influence).max(axis=1)[:, None]
    result = compare_encoders(pearson_r, *arrays, n=6000)
    np.testing.assert_allclose(
        result.p_familywise, (largest >= np.abs(difference)).mean(axis=0), atol=0.025
    )


@pytest.mark.parametrize("n_blocks", [12, 25])
@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_few_blocks_reach_the_nominal_error_voxelwise_familywise_and_by_region(n_blocks, strength):
    """Two encoders that are as good as each other, on dependent samples of a few blocks."""
    p, family, region, covered = [], [], [], []
    blocks = np.repeat(np.arange(n_blocks), 6)
    for seed in range(120):
        generator = np.random.default_rng(seed)
        slow = np.repeat(generator.normal(size=(4, n_blocks, 20)), 6, axis=1)
        signal, noise, one, two = 0.7 * slow + 0.7 * generator.normal(size=slow.shape)
        result = compare_encoders(
            pearson_r, strength * signal + noise, signal + one, signal + two, n=200, seed=seed,
            blocks=blocks, regions={"all": np.ones(20, dtype=bool)},
        )  # fmt: skip
        p.append(result.p)
        family.append((result.p_familywise <= 0.05).any())
        region.append(result.by_region["all"].p <= 0.05)
        covered.append((result.low <= 0) & (result.high >= 0))
    assert 0.025 < np.mean(np.array(p) <= 0.05) < 0.06
    assert 0.94 < np.mean(covered) < 0.975
    assert np.mean(family) < 0.11  # three binomial errors above .05
    assert np.mean(region) < 0.11


def test_folds_are_compared_within():
    true, first, second = encoders(n=60, n_targets=4)
    fold = np.arange(60) // 20
    moved = [values + 5.0 * fold[:, None] for values in (true, first, second)]
    result = compare_encoders(pearson_r, *moved, n=20, fold=fold)
    expected = pearson_r(true, first, fold=fold) - pearson_r(true, second, fold=fold)
    np.testing.assert_allclose(result.difference, np.asarray(expected), atol=1e-9)
    wider = compare_encoders(pearson_r, *moved, n=20, fold=fold, training=1.0)
    np.testing.assert_allclose(
        wider.high - wider.low, np.sqrt(2) * (result.high - result.low), rtol=1e-9
    )


def test_finds_what_differs_and_controls_what_does_not():
    better = np.arange(30) < 10
    result = compare_encoders(
        pearson_r, *encoders(n=800, seed=1), n=500, regions={"better": better, "same": ~better}
    )
    assert (result.p[better] < 0.05).mean() >= 0.9
    assert (result.low[better] > 0).mean() >= 0.9
    assert (result.p_familywise[~better] > 0.05).all()
    assert result.by_region["better"].interval.excludes_zero
    assert result.by_region["better"].p < 1e-6
    assert not result.by_region["same"].interval.excludes_zero
    assert result.by_region["same"].p > 0.05
    assert result.by_region["same"].n_units == 20


@pytest.mark.parametrize("score_fn", SCORES)
def test_equal_encoders_reach_their_nominal_error(score_fn):
    p, regional = [], []
    for seed in range(60):
        arrays = encoders(n=60, n_targets=20, better=0, seed=seed)
        result = compare_encoders(
            score_fn, *arrays, n=99, seed=seed, regions={"all": np.ones(20, dtype=bool)}
        )
        p.append(result.p)
        regional.append(result.by_region["all"].p)
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.02)
    assert np.mean(np.array(regional) <= 0.05) < 0.14


def test_exchanged_encoders_mirror_the_result():
    true, first, second = encoders()
    one = compare_encoders(r2, true, first, second, n=100)
    two = compare_encoders(r2, true, second, first, n=100)
    np.testing.assert_allclose(one.difference, -two.difference)
    np.testing.assert_array_equal(one.p, two.p)
    np.testing.assert_allclose(one.low, -two.high, atol=1e-12)
    same = compare_encoders(r2, true, first, first, n=100)
    np.testing.assert_array_equal(same.p, 1.0)
    np.testing.assert_array_equal(same.low, 0.0)


def test_blocks_of_time_hold_where_samples_do_not():
    free, blocked = [], []
    for seed in range(10):
        generator = np.random.default_rng(seed)
        arrays = np.cumsum(generator.normal(size=(3, 300, 30)), axis=1)
        arrays -= arrays.mean(axis=1, keepdims=True)
        blocks = time_blocks(np.zeros(300), 60)
        free.append(compare_encoders(pearson_r, *arrays, n=99).p)
        blocked.append(compare_encoders(pearson_r, *arrays, n=99, blocks=blocks).p)
    assert np.mean(np.array(free) <= 0.05) > 0.4
    assert np.mean(np.array(blocked) <= 0.05) < 0.5 * np.mean(np.array(free) <= 0.05)


def test_targets_without_a_score_stay_out(monkeypatch):
    true, first, second = encoders(n=50, n_targets=6)
    second[:, 1] = 0.0
    true[3, 2] = np.nan
    regions = {"all": np.ones(6, dtype=bool), "lost": np.array([False, True, True] + [False] * 3)}
    result = compare_encoders(pearson_r, true, first, second, n=50, regions=regions)
    lost = [False, True, True, False, False, False]
    for values in (result.difference, result.low, result.high, result.p, result.p_familywise):
        assert np.isnan(values).tolist() == lost
    assert result.by_region["all"].n_units == 4
    assert result.by_region["all"].interval.value == pytest.approx(np.nanmean(result.difference))
    assert result.by_region["lost"].n_units == 0
    assert np.isnan(result.by_region["lost"].p)
    assert np.isnan(result.by_region["lost"].interval.low)
    monkeypatch.setattr(checked_arrays, "BATCH_BYTES", 50 * 8 * 12)
    split = compare_encoders(pearson_r, true, first, second, n=50, regions=regions)
    np.testing.assert_allclose(split.p_familywise, result.p_familywise)
    assert split.by_region["all"].p == pytest.approx(result.by_region["all"].p, rel=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_fn": lambda y, p: 0.0}, "pearson_r, r2, explained_variance"),
        ({"Y_pred_second": np.zeros((6, 3))}, r"Y_pred_second \(6, 3\)"),
        ({"Y_pred_first": np.zeros((5, 2))}, r"Y_pred_first \(5, 2\)"),
        ({"n": 0}, "n=0"),
        ({"blocks": [0] * 6}, "at least 3"),
        ({"regions": {"V1": [1, 0]}}, "'V1'.*of bool"),
        ({"regions": {"V1": [False, False]}}, "at least one True"),
    ],
)
def test_bad_input_to_a_comparison(options, message):
    zeros = np.zeros((6, 2))
    arguments = {"Y_true": zeros, "Y_pred_first": zeros, "Y_pred_second": zeros}
    with pytest.raises(InputError, match=message):
        compare_encoders(**({"score_fn": pearson_r} | arguments | options))
    with pytest.raises(InputError, match="n_samples, n_targets"):
        compare_encoders(pearson_r, zeros[:, 0], zeros[:, 0], zeros[:, 0])
