import numpy as np
import pytest
from scipy import stats

from brainkit.errors import InputError
from brainkit.evaluation import (
    bootstrap,
    bootstrap_scores,
    explained_variance,
    pearson_r,
    r2,
    time_blocks,
)

FAST = [pearson_r, r2, explained_variance]


def pair(n=60, n_targets=7, seed=0):
    generator = np.random.default_rng(seed)
    true = generator.normal(size=(n, n_targets)) + 2.0
    return true, 0.6 * true + 0.5 * generator.normal(size=true.shape)


def not_known(score_fn):
    """The same score as a function that has no fast form."""
    return lambda true, pred: np.asarray(score_fn(true, pred))


@pytest.mark.parametrize("score_fn", FAST)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("blocks", [None, np.arange(60) // 4, np.arange(60) % 13])
def test_products_equal_the_function_called_on_the_drawn_rows(score_fn, dtype, blocks):
    true, pred = (values.astype(dtype) for values in pair())
    fast = bootstrap_scores(score_fn, true, pred, n=80, blocks=blocks)
    slow = bootstrap_scores(not_known(score_fn), true, pred, n=80, blocks=blocks)
    tolerance = 1e-9 if dtype is np.float64 else 2e-5
    np.testing.assert_allclose(fast.low, slow.low, atol=tolerance)
    np.testing.assert_allclose(fast.high, slow.high, atol=tolerance)
    np.testing.assert_array_equal(fast.observed, slow.observed)


def test_interval_of_r_is_near_fishers():
    generator = np.random.default_rng(0)
    true = generator.normal(size=(400, 300))
    pred = 0.5 * true + np.sqrt(0.75) * generator.normal(size=true.shape)
    result = bootstrap_scores(pearson_r, true, pred, n=500)
    z = np.arctanh(result.observed)
    half = stats.norm.ppf(0.975) / np.sqrt(397)
    assert np.mean(result.low - np.tanh(z - half)) == pytest.approx(0, abs=0.01)
    assert np.mean(result.high - np.tanh(z + half)) == pytest.approx(0, abs=0.01)
    covered = (result.low <= 0.5) & (result.high >= 0.5)
    assert 0.9 < covered.mean() < 0.985
    assert result.excludes_zero.all()
    assert (result.n, result.level) == (500, 0.95)


def test_intervals_equal_scipys():
    true, pred = pair(n=80, n_targets=1)
    theirs = stats.bootstrap(
        (true[:, 0], pred[:, 0]),
        lambda y, p: stats.pearsonr(y, p).statistic,
        paired=True, vectorized=False, method="percentile", n_resamples=3000, rng=0,
    ).confidence_interval  # fmt: skip
    ours = bootstrap_scores(pearson_r, true, pred, n=3000)
    np.testing.assert_allclose([ours.low[0], ours.high[0]], theirs, atol=0.01)


def test_copies_of_samples_do_not_narrow_intervals_when_drawn_together():
    true, pred = pair()
    single = bootstrap_scores(pearson_r, true, pred, n=300)
    images = np.repeat(np.arange(60), 3)
    copies = bootstrap_scores(pearson_r, true[images], pred[images], n=300, blocks=images)
    np.testing.assert_allclose(copies.low, single.low)
    alone = bootstrap_scores(pearson_r, true[images], pred[images], n=300)
    assert (alone.high - alone.low).mean() < 0.7 * (single.high - single.low).mean()


def test_time_blocks_widen_intervals_of_slow_series():
    generator = np.random.default_rng(0)
    runs = np.repeat([0, 1, 2, 3], 100)
    true, pred = np.cumsum(generator.normal(size=(2, 400, 20)), axis=1)
    free = bootstrap_scores(pearson_r, true, pred, n=200)
    blocked = bootstrap_scores(pearson_r, true, pred, n=200, blocks=time_blocks(runs, 25))
    assert (blocked.high - blocked.low).mean() > 2 * (free.high - free.low).mean()


def test_batches_seeds_and_one_target(monkeypatch):
    true, pred = pair()
    first = bootstrap_scores(r2, true, pred, n=50, seed=4)
    monkeypatch.setattr(bootstrap, "_DRAWN_CELLS", 100)
    np.testing.assert_allclose(bootstrap_scores(r2, true, pred, n=50, seed=4).low, first.low)
    assert (bootstrap_scores(r2, true, pred, n=50, seed=5).low != first.low).all()
    one = bootstrap_scores(r2, true[:, 0], pred[:, 0], n=50, seed=4)
    assert one.low.shape == ()
    assert float(one.low) == pytest.approx(first.low[0])


def test_targets_without_a_score_are_nan():
    true, pred = pair()
    true[:, 1] = 3.0
    pred[4, 2] = np.nan
    for score_fn in (pearson_r, not_known(pearson_r)):
        result = bootstrap_scores(score_fn, true, pred, n=20)
        assert np.isnan(result.low).tolist() == [False, True, True] + [False] * 4
        assert np.isnan(result.high).tolist() == np.isnan(result.observed).tolist()
    empty = bootstrap_scores(pearson_r, true[:, :0], pred[:, :0], n=20)
    assert empty.low.shape == (0,)


def test_draws_of_one_value_only_are_left_out():
    true = np.array([[0.0], [0.0], [0.0], [1.0]])
    result = bootstrap_scores(pearson_r, true, true, n=400)
    np.testing.assert_allclose([result.low[0], result.high[0]], 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"Y_true": np.zeros((3, 2))}, "same samples"),
        ({"n": 0}, "n=0"),
        ({"level": 1.0}, r"level=1\.0"),
        ({"blocks": [0] * 6}, "draws among 2 or more"),
        ({"blocks": [0, 1]}, "one label per item"),
    ],
)
def test_bad_input(options, message):
    arguments = {"Y_true": np.zeros((6, 2)), "Y_pred": np.zeros((6, 2))} | options
    with pytest.raises(InputError, match=message):
        bootstrap_scores(pearson_r, **arguments)
