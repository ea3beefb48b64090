"""Scores of classes against scikit-learn's, within folds, with influences by leaving units out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.metrics import confusion_matrix as peer_matrix

from brainkit.errors import InputError
from brainkit.evaluation.classification import (
    balanced_accuracy,
    balanced_accuracy_estimate,
    confusion_matrix,
    guessing,
    roc_auc,
    roc_auc_estimate,
)


def drawn(seed=0, n=60, n_classes=3, n_folds=4, ties=False):
    rng = np.random.default_rng(seed)
    fold = np.arange(n) % n_folds
    true = rng.permutation(np.repeat(np.arange(n_classes), n // n_classes))
    scores = rng.normal(size=(n, n_classes)) + np.eye(n_classes)[true]
    if ties:
        scores = np.round(scores)
    return true, scores, fold


def by_fold(score, fold, *arrays):
    values = [score(*(one[fold == f] for one in arrays)) for f in np.unique(fold)]
    return np.average(values, weights=np.bincount(fold))


@given(st.integers(0, 10**6), st.integers(2, 4), st.booleans())
def test_scores_are_those_of_scikit_learn_in_every_fold(seed, n_classes, ties):
    true, scores, fold = drawn(seed, n_classes=n_classes, ties=ties)
    predicted = scores.argmax(axis=1)
    expected = by_fold(balanced_accuracy_score, fold, true, predicted)
    if all(len(np.unique(true[fold == f])) == n_classes for f in range(4)):
        assert balanced_accuracy(true, predicted, fold=fold) == pytest.approx(expected)
        assert guessing(true, predicted, fold=fold) == pytest.approx(1 / n_classes)
    binary = (true == 1).astype(int)
    if all(0 < binary[fold == f].sum() < 15 for f in range(4)):
        expected = by_fold(roc_auc_score, fold, binary, scores[:, 1])
        assert roc_auc(binary, scores[:, 1], fold=fold) == pytest.approx(expected)


def test_several_classes_are_told_one_from_the_rest():
    true, scores, _ = drawn(1)
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    expected = roc_auc_score(true, shares, multi_class="ovr", average="macro")
    assert roc_auc(true, shares) == pytest.approx(expected)


def test_the_confusion_matrix_is_that_of_scikit_learn():
    true, scores, _ = drawn(2)
    names = np.array(["cat", "face", "house"])
    predicted = names[scores.argmax(axis=1)]
    expected = peer_matrix(names[true], predicted, labels=names)
    np.testing.assert_array_equal(confusion_matrix(names[true], predicted, names), expected)
    with pytest.raises(InputError, match=r"predicted has the classes \['shoe'\]"):
        confusion_matrix(names[true], np.full(60, "shoe"), names)


def test_a_fold_without_a_class_is_guessed_by_what_is_said_there():
    true = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    fold = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    predicted = np.array([0, 1, 1, 1, 1, 1, 1, 0])
    assert balanced_accuracy(true, predicted, fold=fold) == pytest.approx((2 / 3 + 3 / 4) / 2)
    assert guessing(true, predicted, fold=fold) == pytest.approx((1 / 2 + 3 / 4) / 2)
    # Which is what labels exchanged within folds give on average.
    rng, found = np.random.default_rng(0), []
    for _ in range(4000):
        moved = np.concatenate([rng.permutation(true[:4]), rng.permutation(true[4:])])
        found.append(balanced_accuracy(moved, predicted, fold=fold))
    assert np.mean(found) == pytest.approx(5 / 8, abs=4 * np.std(found) / np.sqrt(4000))


@pytest.mark.parametrize("ties", [False, True])
def test_influences_are_those_of_leaving_units_out(ties):
    true, scores, fold = drawn(3, ties=ties)
    predicted, units = scores.argmax(axis=1), np.arange(60) // 2
    fold = units % 4
    for estimate, score in (
        (balanced_accuracy_estimate(true, predicted, fold=fold, units=units),
         lambda rows: balanced_accuracy(true[rows], predicted[rows])),
        (roc_auc_estimate(true, scores, fold=fold, units=units),
         lambda rows: roc_auc(true[rows], scores[rows])),
    ):  # fmt: skip
        expected = np.zeros(30)
        for one in range(4):
            own = np.unique(units[fold == one])
            left_out = np.array(
                [score(np.flatnonzero((fold == one) & (units != unit))) for unit in own]
            )
            spread = np.sqrt((len(own) - 1) / len(own)) * (left_out.mean() - left_out)
            expected[own] = (fold == one).mean() * spread
        np.testing.assert_allclose(estimate.influence, expected, atol=1e-12)
        assert estimate.freedom == 30 - 4


@pytest.mark.parametrize("kind", ["recall", "area"])
def test_intervals_cover_chance_on_noise(kind):
    covered, values = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        true, fold = np.arange(80) % 2, np.arange(80) // 16
        if kind == "recall":
            one = balanced_accuracy_estimate(true, rng.integers(0, 2, 80), fold=fold)
        else:
            one = roc_auc_estimate(true, rng.normal(size=80), fold=fold)
        ends = one.interval()
        covered.append(ends.low <= 0.5 <= ends.high)
        values.append(one.value)
    assert np.mean(values) == pytest.approx(0.5, abs=4 * np.std(values) / np.sqrt(300))
    assert np.mean(covered) > 0.95 - 4 * np.sqrt(0.05 * 0.95 / 300)


def test_folds_of_single_units_vary_among_themselves():
    true, scores, _ = drawn(4, n=60)
    runs = np.arange(60) // 10
    one = balanced_accuracy_estimate(true, scores.argmax(axis=1), fold=runs, units=runs)
    assert one.freedom == 5
    assert one.standard_error > 0


def test_bad_input():
    with pytest.raises(InputError, match="expected one shape"):
        balanced_accuracy([0, 1], [0])
    with pytest.raises(InputError, match="No fold has items of two classes"):
        roc_auc_estimate([0, 0, 1, 1], np.arange(4.0), fold=[0, 0, 1, 1])
    assert np.isnan(roc_auc([0, 0, 1, 1], np.arange(4.0), fold=[0, 0, 1, 1]))
    with pytest.raises(InputError, match="numbers of classes"):
        roc_auc(["a", "b"], [0.0, 1.0])
    with pytest.raises(InputError, match="NaN or infinity"):
        roc_auc([0, 1], [0.0, np.nan])
