"""Ridge predictions of samples that the fit had not seen, against scikit-learn's."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_predict

from brainkit.linear.folds import kfold
from brainkit.linear.out_of_fold import stacked_ridge

ALPHAS = (1.0, 10.0, 100.0)


def data(n_samples, n_features):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_samples, n_features)).astype(np.float32)
    W = rng.normal(size=(n_features, 3)) / np.sqrt(n_features)
    Y = (X @ W + rng.normal(size=(n_samples, 3)) + 5).astype(np.float32)
    return X, Y


@pytest.mark.parametrize("shape", [(60, 8), (30, 50)])
def test_predictions_and_fit_are_those_of_scikit_learn(shape):
    X, Y = data(*shape)
    folds = kfold(len(X), 5)
    fit = stacked_ridge(X, Y, ALPHAS, folds)
    expected = {a: cross_val_predict(Ridge(alpha=a), X, Y, cv=folds) for a in ALPHAS}
    errors = {a: ((values - Y) ** 2).sum() for a, values in expected.items()}
    assert fit.alpha == min(errors, key=errors.get)
    np.testing.assert_allclose(fit.predictions, expected[fit.alpha], rtol=2e-4, atol=2e-4)
    peer = Ridge(alpha=fit.alpha).fit(X.astype(np.float64), Y)
    np.testing.assert_allclose(fit.coef, peer.coef_, rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(fit.intercept, peer.intercept_, rtol=1e-4)


def test_rows_of_a_group_do_not_predict_each_other():
    """With every row twice, a fit that had seen the twin would be far too good on noise."""
    rng = np.random.default_rng(1)
    X, Y = (np.tile(rng.normal(size=(40, n)), (2, 1)).astype(np.float32) for n in (60, 2))
    images = np.tile(np.arange(40), 2)

    def r(groups):
        fit = stacked_ridge(X, Y, (1.0,), kfold(80, 5, groups=groups))
        return np.corrcoef(fit.predictions.ravel(), Y.ravel())[0, 1]

    assert r(None) > 0.8
    assert abs(r(images)) < 0.35
