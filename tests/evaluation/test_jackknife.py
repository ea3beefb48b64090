"""Intervals of every target's score by leaving blocks out."""

import numpy as np
import pytest
from scipy import stats

from brainkit.errors import InputError
from brainkit.evaluation import explained_variance, pearson_r, r2, score_intervals, time_blocks

FAST = [pearson_r, r2, explained_variance]


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
