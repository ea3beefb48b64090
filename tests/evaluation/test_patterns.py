import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cosine
from scipy.stats import pearsonr

from brainkit.errors import InputError
from brainkit.evaluation import (
    Correlation,
    bootstrap_ci,
    pattern_correlation,
    patterns,
    permutation_test,
    two_vs_two,
    two_vs_two_by_item,
    two_vs_two_ci,
)


def pair_by_pair(true, pred):
    """2V2 as it is defined, one pair at a time."""
    wins = []
    for i, j in itertools.combinations(range(len(true)), 2):
        right = cosine(pred[i], true[i]) + cosine(pred[j], true[j])
        wrong = cosine(pred[i], true[j]) + cosine(pred[j], true[i])
        wins.append(0.5 if abs(right - wrong) < 1e-12 else float(right < wrong))
    return np.mean(wins)


@given(st.integers(2, 12), st.integers(1, 5), st.integers(0, 1000))
def test_two_vs_two_equals_its_definition(n, n_units, seed):
    generator = np.random.default_rng(seed)
    true = generator.normal(size=(n, n_units))
    pred = true + generator.normal(size=true.shape)
    assert two_vs_two(true, pred) == pytest.approx(pair_by_pair(true, pred))
    assert two_vs_two(pred, true) == pytest.approx(two_vs_two(true, pred))


def test_blocks_of_rows_do_not_matter(monkeypatch):
    true, pred = np.random.default_rng(0).normal(size=(2, 40, 6))
    whole = two_vs_two_by_item(true, pred)
    monkeypatch.setattr(patterns, "BATCH_BYTES", 8 * 40 * 7)
    np.testing.assert_allclose(two_vs_two_by_item(true, pred), whole)
    assert whole.mean() == pytest.approx(pair_by_pair(true, pred))


def test_items_by_hand():
    true = np.eye(3)
    pred = np.array([[1.0, 0, 0], [0, 0, 1], [0, 1, 0]])
    # 0-1 and 0-2 win by 1 against 0; 1 and 2 are exchanged and lose.
    np.testing.assert_allclose(two_vs_two_by_item(true, pred), [1.0, 0.5, 0.5])
    assert two_vs_two(true, pred) == pytest.approx(2 / 3)


def test_what_is_known_of_two_vs_two():
    generator = np.random.default_rng(0)
    true = generator.normal(size=(300, 20))
    assert two_vs_two(true, 3.0 * true) == 1.0
    assert two_vs_two(true, -true) == 0.0
    assert two_vs_two(true, generator.normal(size=true.shape)) == pytest.approx(0.5, abs=0.05)
    # One prediction for all items, or none at all, ties in every pair.
    assert two_vs_two(true, np.tile(true[0], (300, 1))) == 0.5
    assert two_vs_two(true, np.zeros_like(true)) == 0.5


def test_the_jackknife_of_two_vs_two():
    true = np.random.default_rng(0).normal(size=(9, 4))
    pred = true + np.random.default_rng(1).normal(size=true.shape)
    whole = two_vs_two(true, pred)
    without = [two_vs_two(np.delete(true, i, 0), np.delete(pred, i, 0)) for i in range(9)]
    interval = two_vs_two_ci(true, pred, n=500, seed=2)
    expected = bootstrap_ci(9 * whole - 8 * np.array(without), n=500, seed=2)
    assert interval.value == pytest.approx(whole)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    with pytest.raises(InputError, match="at least 3"):
        two_vs_two_ci(true[:2], pred[:2])


def test_the_interval_covers_the_truth_where_that_of_shares_does_not():
    def draw(generator, n):
        true = generator.normal(size=(n, 6))
        return true, 0.7 * true + 2.0 * generator.normal(size=true.shape)

    truth = two_vs_two(*draw(np.random.default_rng(0), 4000))
    covered = {"pseudo": 0, "shares": 0}
    for seed in range(1, 151):
        data = draw(np.random.default_rng(seed), 60)
        intervals = {
            "pseudo": two_vs_two_ci(*data, n=300),
            "shares": bootstrap_ci(two_vs_two_by_item(*data), n=300),
        }
        for name, interval in intervals.items():
            covered[name] += interval.low <= truth <= interval.high
    assert 132 <= covered["pseudo"] <= 149
    assert covered["shares"] < 125


def test_two_vs_two_can_be_permuted():
    true = np.random.default_rng(0).normal(size=(25, 8))
    result = permutation_test(two_vs_two, true, true, n=49)
    assert (float(result.observed), float(result.p)) == (1.0, 0.02)


def test_pattern_correlation_is_that_of_rows():
    true, pred = np.random.default_rng(0).normal(size=(2, 6, 15))
    pred[2] = 1.0
    scores = pattern_correlation(true, pred)
    assert isinstance(scores, Correlation)
    expected = [pearsonr(y, p).statistic for y, p in zip(true, pred, strict=True) if p.std() > 0]
    np.testing.assert_allclose(np.asarray(scores)[[0, 1, 3, 4, 5]], expected)
    assert np.isnan(scores[2])
    single = pattern_correlation(true[:1], pred[:1])
    assert single.shape == (1,)
    assert float(single[0]) == pytest.approx(expected[0])


@pytest.mark.parametrize(
    ("true", "pred", "message"),
    [
        (np.zeros((3, 4)), np.zeros((3, 5)), r"\(3, 4\) and Y_pred \(3, 5\)"),
        (np.zeros(3), np.zeros(3), "at least 2 units"),
        (np.zeros((3, 1)), np.zeros((3, 1)), "at least 2 units"),
    ],
)
def test_pattern_correlation_bad_input(true, pred, message):
    with pytest.raises(InputError, match=message):
        pattern_correlation(true, pred)


@pytest.mark.parametrize(
    ("true", "pred", "message"),
    [
        (np.zeros((3, 4)), np.zeros((2, 4)), "the same patterns"),
        (np.zeros((1, 4)), np.zeros((1, 4)), "at least 2 items"),
        (np.zeros(3), np.zeros(3), "n_items"),
        (np.full((3, 4), np.nan), np.zeros((3, 4)), "NaN or infinity"),
    ],
)
def test_two_vs_two_bad_input(true, pred, message):
    with pytest.raises(InputError, match=message):
        two_vs_two(true, pred)
