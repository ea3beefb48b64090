"""The null of exchanged images, and a decoder that is fitted together with it."""

import numpy as np
import pytest
from sklearn.base import clone

from brainkit.decoding import RidgeDecoder
from brainkit.decoding.ridge_decoder import fit_with_null
from brainkit.encoding import VoxelwiseRidge
from brainkit.evaluation import exchanged_rows
from brainkit.linear import cross_validation, ridge_solver

N = 40
ROWS = np.concatenate([np.arange(N), np.arange(10)])[np.random.default_rng(0).permutation(N + 10)]


def data(n_units, dtype=np.float32):
    rng = np.random.default_rng(1)
    Z = rng.normal(size=(N, 6))[ROWS]
    X = Z @ rng.normal(size=(6, n_units)) + rng.normal(size=(len(Z), n_units))
    return X.astype(dtype), Z.astype(dtype)


@pytest.mark.parametrize("n_units", [20, 90])
@pytest.mark.parametrize("model", [RidgeDecoder(alphas=[1.0, 30.0], n_targets_batch=4),
                                   RidgeDecoder(alpha_per_target=True),
                                   VoxelwiseRidge(cv=3)])  # fmt: skip
def test_both_are_what_separate_fits_give(model, n_units):
    X, Z = data(n_units)
    order = exchanged_rows(ROWS, np.random.default_rng(3))
    pair = fit_with_null(model, X, Z, groups=ROWS, exchange=order)
    for found, target in zip(pair, (Z, Z[order]), strict=True):
        alone = clone(model).fit(X, target, groups=ROWS)
        assert vars(found).keys() == vars(alone).keys()
        for name, value in vars(alone).items():
            if not name.endswith("_"):
                continue
            if isinstance(value, str):
                assert vars(found)[name] == value, name
                continue
            np.testing.assert_allclose(vars(found)[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
            assert np.asarray(vars(found)[name]).dtype == np.asarray(value).dtype, name
        np.testing.assert_allclose(found.predict(X), alone.predict(X), atol=1e-4)
    assert not hasattr(model, "coef_")


def test_one_feature_stays_one():
    X, Z = data(20)
    fitted, null = fit_with_null(
        RidgeDecoder(),
        X,
        Z[:, 0],
        groups=ROWS,
        exchange=exchanged_rows(ROWS, np.random.default_rng(3)),
    )
    assert fitted.predict(X).shape == null.predict(X).shape == (N + 10,)


def test_the_responses_are_decomposed_once_for_both(monkeypatch):
    done = []
    original = cross_validation.decompose
    monkeypatch.setattr(
        cross_validation,
        "decompose",
        lambda X, *a, **b: done.append(len(X)) or original(X, *a, **b),
    )
    monkeypatch.setattr(ridge_solver, "decompose", cross_validation.decompose)
    X, Z = data(20)
    order = exchanged_rows(ROWS, np.random.default_rng(3))
    fit_with_null(RidgeDecoder(cv=4), X, Z, groups=ROWS, exchange=order)
    assert len(done) == 5
    assert done[-1] == N + 10


def test_bad_data_are_refused_as_by_fit():
    X, Z = data(20)
    order = np.arange(N + 10)
    with pytest.raises(ValueError, match="NaN"):
        fit_with_null(RidgeDecoder(), np.where(X > 1, np.nan, X), Z, groups=ROWS, exchange=order)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fit_with_null(RidgeDecoder(), X, Z[:-1], groups=ROWS, exchange=order)
    with pytest.raises(ValueError, match="alphas must be positive"):
        fit_with_null(RidgeDecoder(alphas=[-1.0]), X, Z, groups=ROWS, exchange=order)
