import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn import metrics

from brainkit.errors import InputError
from brainkit.evaluation import (
    Correlation,
    RSquared,
    checked_arrays,
    explained_variance,
    pearson_r,
    r2,
)

SCORES = [pearson_r, r2, explained_variance]
columns = npst.arrays(np.float64, (12, 3), elements=st.floats(-100, 100, width=32))


@pytest.fixture
def pair():
    generator = np.random.default_rng(0)
    true = generator.normal(size=(50, 7))
    return true, 0.6 * true + generator.normal(size=true.shape) + 3


def test_pearson_equals_scipy(pair):
    expected = scipy.stats.pearsonr(*pair, axis=0).statistic
    scores = pearson_r(*pair)
    assert isinstance(scores, Correlation)
    np.testing.assert_allclose(np.asarray(scores), expected, rtol=1e-12)


def test_r2_and_explained_variance_equal_sklearn(pair):
    for ours, peer in [
        (r2, metrics.r2_score),
        (explained_variance, metrics.explained_variance_score),
    ]:
        scores = ours(*pair)
        assert isinstance(scores, RSquared)
        expected = peer(*pair, multioutput="raw_values")
        np.testing.assert_allclose(np.asarray(scores), expected, rtol=1e-12)
    assert r2(*pair).definition != explained_variance(*pair).definition


@pytest.mark.parametrize("score", SCORES)
def test_a_vector_gives_a_number(score, pair):
    single = score(pair[0][:, 2], pair[1][:, 2])
    assert single.shape == ()
    assert float(single) == pytest.approx(score(*pair)[2], rel=1e-12)


@pytest.mark.parametrize("score", SCORES)
def test_batches_do_not_change_the_result(score, pair, monkeypatch):
    whole = score(*pair)
    monkeypatch.setattr(checked_arrays, "BATCH_BYTES", 8 * 50 * 2)
    np.testing.assert_allclose(np.asarray(score(*pair)), np.asarray(whole), rtol=1e-12)


def test_float32_on_a_large_offset_is_summed_in_float64():
    generator = np.random.default_rng(1)
    true = (generator.normal(size=(2000, 3)) * 8 + 1e5).astype(np.float32)
    pred = (true - 1e5 + generator.normal(size=true.shape) * 8).astype(np.float32)
    expected = scipy.stats.pearsonr(true.astype(float), pred.astype(float), axis=0).statistic
    np.testing.assert_allclose(np.asarray(pearson_r(true, pred)), expected, rtol=1e-10)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_and_nan_targets_score_nan(score, dtype):
    generator = np.random.default_rng(2)
    true = generator.normal(size=(20, 5)).astype(dtype)
    pred = true + 1
    true[:, 1] = 0.1  # its float sum is not exactly 20 × 0.1
    true[3, 2] = np.nan
    pred[4, 3] = np.nan
    true[5, 4] = np.inf
    assert np.isnan(np.asarray(score(true, pred))).tolist() == [False, True, True, True, True]


def test_constant_predictions():
    true = np.arange(10.0)
    assert np.isnan(float(pearson_r(true, np.full(10, 4.5))))
    assert float(r2(true, np.full(10, 4.5))) == 0
    assert float(explained_variance(true, np.full(10, -3.0))) == pytest.approx(0)


def test_a_rare_step_of_small_integers_is_not_constant():
    true = np.full(1000, 199, dtype=np.uint8)
    true[7] = 200
    assert float(pearson_r(true, true)) == pytest.approx(1)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    ("true", "pred", "message"),
    [
        (np.zeros((4, 2)), np.zeros((4, 3)), r"\(4, 2\) and Y_pred \(4, 3\)"),
        (np.zeros((1, 2)), np.zeros((1, 2)), "at least 2"),
        (np.zeros((4, 2, 2)), np.zeros((4, 2, 2)), "flatten"),
        (np.zeros(()), np.zeros(()), "0 axes"),
        (np.array(["a", "b"]), np.array(["a", "b"]), "real numbers"),
        (np.zeros(4, dtype=complex), np.zeros(4), "complex"),
    ],
)
def test_bad_input(score, true, pred, message):
    with pytest.raises(InputError, match=message):
        score(true, pred)


def test_inputs_are_left_alone(pair):
    before = [array.copy() for array in pair]
    for score in SCORES:
        score(*pair)
    np.testing.assert_array_equal(pair, before)


@given(columns, columns, st.floats(0.5, 20), st.floats(-50, 50))
def test_r_is_bounded_symmetric_and_affine_invariant(true, pred, scale, offset):
    r = np.asarray(pearson_r(true, pred))
    assert (np.abs(r[np.isfinite(r)]) <= 1).all()
    np.testing.assert_array_equal(r, np.asarray(pearson_r(pred, true)))
    spread = (true.std(axis=0) > 1e-6) & (pred.std(axis=0) > 1e-6)
    changed = np.asarray(pearson_r(true, -scale * pred + offset))
    np.testing.assert_allclose(changed[spread], -r[spread], atol=1e-6)


@given(columns, columns, st.permutations(range(12)))
def test_order_of_samples_does_not_matter(true, pred, order):
    spread = (true.std(axis=0) > 1e-6) & (pred.std(axis=0) > 1e-6)
    for score in SCORES:
        first = np.asarray(score(true, pred))[spread]
        again = np.asarray(score(true[order], pred[order]))[spread]
        np.testing.assert_allclose(again, first, atol=1e-9)


@given(columns, columns)
def test_r2_does_not_exceed_explained_variance(true, pred):
    lower, upper = np.asarray(r2(true, pred)), np.asarray(explained_variance(true, pred))
    finite = np.isfinite(lower)
    assert (lower[finite] <= upper[finite] + 1e-9 * (1 + np.abs(lower[finite]))).all()
