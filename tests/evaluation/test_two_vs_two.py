""""""

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
    pattern_correlation,
    permutation_test,
    two_vs_two,
    two_vs_two_ci,
)
from brainkit.evaluation.response_scores import two_vs_two_contest


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


def test_items_by_hand():
    true = np.eye(3)
    pred = np.array([[1.0, 0, 0], [0, 0, 1], [0, 1, 0]])
    # 0-1 and 0-2 win by 1 against 0; 1 and 2 are exchanged and lose.
    found = two_vs_two_contest(true, pred)
    np.testing.assert_allclose(found.scores, [1.0, 0.5, 0.5])
    assert two_vs_two(true, pred) == pytest.approx(2 / 3)


def test_pairs_are_of_one_fold_and_of_different_images():
    generator = np.random.default_rng(0)
    true, noise = generator.normal(size=(2, 30, 5))
    pred = true + noise
    fold, image = np.arange(30) // 10, np.arange(30) // 2
    expected = []
    for i in range(30):
        others = [j for j in range(30) if fold[j] == fold[i] and image[j] != image[i]]
        expected.append(np.mean([pair_by_pair(true[[i, j]], pred[[i, j]]) for j in others]))
    assert two_vs_two(true, pred, fold=fold, image=image) == pytest.approx(np.mean(expected))


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
    value = two_vs_two(true, pred)
    without = [two_vs_two(np.delete(true, i, 0), np.delete(pred, i, 0)) for i in range(9)]
    found = two_vs_two_contest(true, pred).estimate
    np.testing.assert_allclose(
        found.influence, np.sqrt(8 / 9) * (np.mean(without) - without), atol=1e-12
    )
    interval = two_vs_two_ci(true, pred, n=500, seed=2)
    assert interval.value == pytest.approx(value)
    assert interval.low < value < interval.high
    with pytest.raises(InputError, match="at least 3"):
        two_vs_two_ci(true[:2], pred[:2])


@pytest.mark.parametrize("n", [12, 20, 60])
@pytest.mark.parametrize("noise", [2.0, 0.6])
def test_the_interval_covers_the_truth_also_near_its_limit(n, noise):
    def draw(generator, n):
        true = generator.normal(size=(n, 6))
        return true, true + noise * generator.normal(size=true.shape)

    truth = two_vs_two(*draw(np.random.default_rng(0), 3000))
    covered = []
    for seed in range(5000, 5300):
        interval = two_vs_two_ci(*draw(np.random.default_rng(seed), n), n=300)
        covered.append(interval.low <= truth <= interval.high)
    assert np.mean(covered) > 0.9  # few whole numbers may cover more than .95


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
