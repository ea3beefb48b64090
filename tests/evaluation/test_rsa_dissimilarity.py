"""Dissimilarities against closed forms, scipy and rsatoolbox."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import calc_rdm
from scipy.spatial.distance import pdist, squareform

from brainkit.errors import InputError, UnknownNameError
from brainkit.evaluation.rsa import condensed, rdm, rdm_stack

SCIPY = {
    "correlation": ("correlation", 1.0),
    "cosine": ("cosine", 1.0),
    "euclidean": ("euclidean", 1.0),
    "squared-euclidean": ("sqeuclidean", 1 / 40),
    "mahalanobis": ("sqeuclidean", 1 / 40),
}


def patterns(n=7, p=40, seed=0, offset=2.0):
    return np.random.default_rng(seed).normal(offset, 1.0, size=(n, p))


@pytest.mark.parametrize("measure", SCIPY)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_measure_equals_scipys(measure, dtype):
    x = patterns().astype(dtype)
    name, scale = SCIPY[measure]
    expected = squareform(pdist(x.astype(np.float64), name)) * scale
    found = rdm(x, measure)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    assert (np.diag(found) == 0).all()
    assert (found == found.T).all()


def test_known_patterns_have_known_dissimilarities():
    x = np.array([[1.0, 2, 3], [3, 2, 1], [2, 4, 6]])
    np.testing.assert_allclose(rdm(x)[0], [0, 2, 0], atol=1e-15)
    np.testing.assert_allclose(rdm(x, "euclidean")[0], [0, np.sqrt(8), np.sqrt(14)])
    np.testing.assert_allclose(rdm(x, "squared-euclidean")[0], [0, 8 / 3, 14 / 3])
    np.testing.assert_allclose(rdm(x, "cosine")[0], [0, 1 - 10 / 14, 0], atol=1e-15)


@pytest.mark.parametrize(
    ("measure", "theirs"), [("correlation", "correlation"), ("squared-euclidean", "euclidean")]
)
def test_measures_equal_rsatoolboxs_where_it_has_them(measure, theirs):
    x = patterns()
    expected = calc_rdm(Dataset(x), method=theirs).get_vectors()
    np.testing.assert_allclose(condensed(rdm(x, measure)), expected, rtol=1e-10)


def test_many_features_are_summed_in_blocks(monkeypatch):
    x = patterns(p=1000).astype(np.float32)
    whole = rdm(x), rdm(x, "euclidean")
    monkeypatch.setattr("brainkit.evaluation.checked_arrays.BATCH_BYTES", 8 * 7 * 64)
    np.testing.assert_allclose(rdm(x), whole[0], rtol=1e-12)
    np.testing.assert_allclose(rdm(x, "euclidean"), whole[1], rtol=1e-12)


def test_patterns_that_are_equal_are_at_distance_zero():
    x = patterns(offset=1e4).astype(np.float32)
    x[3] = x[5]
    for measure in ("euclidean", "squared-euclidean"):
        assert rdm(x, measure)[3, 5] == 0
        assert (condensed(rdm(x, measure)) >= 0).all()


def test_repeated_measurements_are_averaged_in_sorted_order():
    x = patterns(n=6)
    found = rdm(x, conditions=["c", "a", "b", "a", "c", "b"])
    means = np.stack([x[[1, 3]].mean(axis=0), x[[2, 5]].mean(axis=0), x[[0, 4]].mean(axis=0)])
    np.testing.assert_allclose(found, rdm(means), atol=1e-14)


def test_mahalanobis_is_euclidean_after_whitening():
    x, root = patterns(p=5), np.random.default_rng(1).normal(size=(5, 5))
    found = rdm(x, "mahalanobis", precision=root @ root.T)
    np.testing.assert_allclose(found, rdm(x @ root, "squared-euclidean"), rtol=1e-10)


def test_crossnobis_is_the_product_of_independent_differences():
    x = patterns(n=6, p=8)
    conditions, folds = [0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1]
    found = rdm(x, "crossnobis", conditions=conditions, folds=folds)
    first, second = x[:3], x[3:]
    expected = np.einsum(
        "ijp,ijp->ij", first[:, None] - first[None], second[:, None] - second[None]
    )
    np.testing.assert_allclose(found, expected / 8, atol=1e-12)


def test_crossnobis_of_noise_is_zero_on_average_and_euclidean_is_not():
    generator = np.random.default_rng(3)
    conditions, folds = np.tile(np.arange(4), 4), np.repeat(np.arange(4), 4)
    draws = [generator.normal(size=(16, 50)) for _ in range(100)]
    crossed = [rdm(x, "crossnobis", conditions=conditions, folds=folds) for x in draws]
    plain = [rdm(x, "squared-euclidean", conditions=conditions) for x in draws]
    assert condensed(np.array(crossed)).mean() == pytest.approx(0, abs=0.02)
    assert condensed(np.array(plain)).mean() == pytest.approx(0.5, abs=0.05)  # 2 · 1 / 4 repeats


@given(st.integers(0, 10**6), st.floats(0.1, 10), st.floats(-5, 5))
def test_correlation_ignores_scale_and_offset_of_a_pattern(seed, scale, offset):
    x = patterns(seed=seed)
    y = x.copy()
    y[2] = scale * y[2] + offset
    np.testing.assert_allclose(rdm(x), rdm(y), atol=1e-12)


def test_the_callers_arrays_stay_as_they_are():
    x = patterns()
    before = x.copy()
    for measure in SCIPY:
        rdm(x, measure)
    assert (x == before).all()


# ------------------------------------------------------------------------------------- bad input


def test_unknown_measure_says_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'correlation'"):
        rdm(patterns(), "corelation")


@pytest.mark.parametrize(
    ("x", "settings", "said"),
    [
        (patterns(n=2), {}, "at least 3"),
        (patterns(n=4), {"conditions": [0, 0, 1, 1]}, "hold 2 conditions"),
        (patterns()[0], {}, "expected .n_patterns, n_features."),
        (np.zeros((5, 0)), {}, "at least 1 feature"),
        (np.where(np.eye(7, 40) > 0, np.nan, 1.0), {}, "7 of 7 patterns hold NaN"),
        (np.ones((4, 6)), {}, "4 of 4 patterns are constant over features"),
        (np.zeros((4, 6)), {"measure": "cosine"}, "4 of 4 patterns are zero"),
        (np.full((4, 60), 0.1, np.float32), {}, "constant over features"),
        (patterns(), {"measure": "crossnobis"}, "folds are missing"),
        (patterns(), {"folds": [0] * 7}, "folds are given"),
        (patterns(), {"precision": np.eye(40)}, "no use for it"),
        (patterns(), {"measure": "mahalanobis", "precision": np.eye(3)}, "expected a symmetric"),
        (patterns(), {"conditions": [0, 1]}, "one label a pattern"),
        (
            patterns(n=6),
            {"measure": "crossnobis", "conditions": [0, 1, 2, 0, 1, 1], "folds": [0] * 3 + [1] * 3},
            "every condition in each of at least 2 folds",
        ),
        (
            patterns(n=3),
            {"measure": "crossnobis", "conditions": [0, 1, 2], "folds": [0, 0, 0]},
            "there are 1 folds",
        ),
        (patterns(), {"measure": "crossnobis", "folds": [0]}, "folds has shape"),
        (np.array([["a"]] * 4), {}, "expected real numbers"),
    ],
)
def test_what_cannot_be_used_is_refused(x, settings, said):
    with pytest.raises(InputError, match=said):
        rdm(x, **settings)


def test_an_rdm_is_checked():
    good = rdm(patterns())
    assert rdm_stack(good).shape == (1, 7, 7)
    assert condensed(good).shape == (1, 21)
    broken = {
        "has shape": good[:3],
        "has 2 conditions": good[:2, :2],
        "2 values that are NaN": np.where(np.eye(7, k=6) + np.eye(7, k=-6) > 0, np.nan, good),
        "not symmetric": np.triu(good),
        "not zero on the diagonal": 1 - good,
    }
    for said, matrix in broken.items():
        with pytest.raises(InputError, match=said):
            rdm_stack(matrix)
