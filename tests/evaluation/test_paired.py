import itertools

import numpy as np
import pytest

from brainkit.errors import InputError
from brainkit.evaluation import (
    bootstrap,
    compare_encoders,
    explained_variance,
    fdr_bh,
    pearson_r,
    r2,
    time_blocks,
)
from brainkit.evaluation._linear_scores import contributions

SCORES = [pearson_r, r2, explained_variance]


def encoders(n=200, n_targets=30, better=10, seed=0):
    """Responses, and predictions of two encoders; the first is better in the first targets."""
    generator = np.random.default_rng(seed)
    signal, noise, one, two = generator.normal(size=(4, n, n_targets))
    first, second = signal + one, signal + two
    second[:, :better] += 1.5 * generator.normal(size=second[:, :better].shape)
    return signal + noise, first, second


@pytest.mark.parametrize("score_fn", SCORES)
def test_contributions_sum_to_the_difference(score_fn):
    true, first, second = encoders(n=40)
    second += 0.3
    summed = contributions(score_fn.__name__, true, first, second).sum(axis=0)
    difference = np.asarray(score_fn(true, first)) - np.asarray(score_fn(true, second))
    np.testing.assert_allclose(summed, difference, atol=1e-10)
    result = compare_encoders(score_fn, true, first, second, n=20)
    np.testing.assert_allclose(result.difference, difference, atol=1e-10)
    assert result.score == score_fn.__name__


@pytest.mark.parametrize("score_fn", SCORES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_p_equals_the_enumeration_of_signs(score_fn, dtype):
    arrays = [values.astype(dtype) for values in encoders(n=8, n_targets=5, better=2)]
    by_sample = contributions(score_fn.__name__, *arrays)
    signs = np.array(list(itertools.product([-1, 1], repeat=8)))
    null, observed = np.abs(signs @ by_sample), np.abs(by_sample.sum(axis=0))
    result = compare_encoders(score_fn, *arrays, n=6000)
    np.testing.assert_allclose(result.p, (null >= observed - 1e-5).mean(axis=0), atol=0.025)
    largest = null.max(axis=1)[:, None]
    np.testing.assert_allclose(
        result.p_familywise, (largest >= observed - 1e-5).mean(axis=0), atol=0.025
    )
    np.testing.assert_array_equal(result.p_fdr, fdr_bh(result.p))


@pytest.mark.parametrize("score_fn", SCORES)
def test_intervals_equal_the_draws_done_one_by_one(score_fn):
    true, first, second = encoders(n=50, n_targets=4)
    blocks = np.arange(50) // 5
    region = np.array([True, False, True, True])
    result = compare_encoders(
        score_fn, true, first, second, n=60, blocks=blocks, regions={"some": region}
    )
    drawn = []
    for counts in bootstrap.drawn_weights(10, 60, 0):
        rows = np.concatenate(
            [np.tile(np.flatnonzero(blocks == b), c) for b, c in enumerate(counts)]
        )
        one, two = (np.asarray(score_fn(true[rows], pred[rows])) for pred in (first, second))
        drawn.append(one - two)
    ends = np.quantile(drawn, [0.025, 0.975], axis=0)
    np.testing.assert_allclose([result.low, result.high], ends, atol=1e-9)
    mean = np.mean(np.array(drawn)[:, region], axis=1)
    interval = result.by_region["some"].interval
    np.testing.assert_allclose([interval.low, interval.high], np.quantile(mean, [0.025, 0.975]))
    assert interval.value == pytest.approx(result.difference[region].mean())
    assert (interval.n, interval.level) == (10, 0.95)


def test_finds_what_differs_and_controls_what_does_not():
    better = np.arange(30) < 10
    result = compare_encoders(
        pearson_r, *encoders(n=800, seed=1), n=500, regions={"better": better, "same": ~better}
    )
    assert (result.p[better] < 0.05).mean() >= 0.9
    assert (result.low[better] > 0).mean() >= 0.9
    assert (result.p_familywise[~better] > 0.05).all()
    assert result.by_region["better"].interval.excludes_zero
    assert result.by_region["better"].p == pytest.approx(1 / 501)
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
    monkeypatch.setattr(bootstrap, "_DRAWN_CELLS", 100)
    split = compare_encoders(pearson_r, true, first, second, n=50, regions=regions)
    np.testing.assert_allclose(split.p_familywise, result.p_familywise)
    assert split.by_region["all"].p == result.by_region["all"].p


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_fn": lambda y, p: 0.0}, "pearson_r, r2, explained_variance"),
        ({"Y_pred_second": np.zeros((6, 3))}, r"Y_pred_second \(6, 3\)"),
        ({"Y_pred_first": np.zeros((5, 2))}, r"Y_pred_first \(5, 2\)"),
        ({"n": 0}, "n=0"),
        ({"blocks": [0] * 6}, "draws among 2 or more"),
        ({"regions": {"V1": [1, 0]}}, "'V1'.*of bool"),
        ({"regions": {"V1": [False, False]}}, "at least one True"),
    ],
)
def test_bad_input(options, message):
    zeros = np.zeros((6, 2))
    arguments = {"Y_true": zeros, "Y_pred_first": zeros, "Y_pred_second": zeros}
    with pytest.raises(InputError, match=message):
        compare_encoders(**({"score_fn": pearson_r} | arguments | options))
    with pytest.raises(InputError, match="n_samples, n_targets"):
        compare_encoders(pearson_r, zeros[:, 0], zeros[:, 0], zeros[:, 0])
