"""Constant embedding dimensions are predicted as they are by decoders; encoders refuse them."""

import numpy as np
import pytest

from brainkit.decoding import RidgeDecoder
from brainkit.encoding import BandedRidge, KernelRidge, ReducedRankRidge, VoxelwiseRidge
from brainkit.errors import InputError
from brainkit.reconstruction import EmbeddingDecoder

N, VALUE = 60, 0.1  # which rounding makes differ from its mean


def data(dtype=np.float32):
    """Responses, and embeddings whose dimension 2 is constant."""
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(N, 5))
    X = Z @ rng.normal(size=(5, 20)) + rng.normal(size=(N, 20))
    Z[:, 2] = VALUE
    return X.astype(dtype), Z.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("alpha_per_target", [False, True])
@pytest.mark.parametrize("cv", [3, "gcv"])
def test_a_constant_feature_is_predicted_and_leaves_the_others_alone(dtype, alpha_per_target, cv):
    X, Z = data(dtype)
    model = RidgeDecoder(cv=cv, alpha_per_target=alpha_per_target).fit(X, Z)
    np.testing.assert_allclose(model.predict(X)[:, 2], VALUE, rtol=1e-5)
    assert np.isnan(model.cv_r2_).tolist() == [False, False, True, False, False]
    rest = [0, 1, 3, 4]
    without = RidgeDecoder(cv=cv, alpha_per_target=alpha_per_target).fit(X, Z[:, rest])
    np.testing.assert_array_equal(model.alpha_[rest], without.alpha_)
    np.testing.assert_allclose(model.predict(X)[:, rest], without.predict(X), rtol=1e-3, atol=1e-4)


def test_it_is_so_beside_the_null_and_in_calibrated_embeddings():
    X, Z = data()
    model = RidgeDecoder(cv=3)
    null = model.fit_with_null(X, Z, np.random.default_rng(1).permutation(N))
    for fitted in (model, null):
        np.testing.assert_allclose(fitted.predict(X)[:, 2], VALUE, rtol=1e-5)
        assert np.isfinite(fitted.predict(X)).all()
    for spread in ("dimension", "whole", None):
        decoder = EmbeddingDecoder(cv=3, spread=spread, renormalise=False).fit(X, Z)
        np.testing.assert_allclose(decoder.predict(X)[:, 2], VALUE, rtol=1e-5)
        assert np.isfinite(decoder.predict(X)).all()


@pytest.mark.parametrize("decoder", [RidgeDecoder(cv=3), EmbeddingDecoder(cv=3)], ids=repr)
def test_nan_is_refused(decoder):
    X, Z = data()
    Z[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        decoder.fit(X, Z)


@pytest.mark.parametrize(
    "encoder",
    [VoxelwiseRidge(cv=3), KernelRidge(cv=3), ReducedRankRidge(cv=3), BandedRidge(cv=3)],
    ids=lambda one: type(one).__name__,
)
def test_encoders_refuse_a_constant_unit(encoder):
    X, Z = data()
    with pytest.raises(InputError, match=r"1 of 5 targets are constant, .* number 2"):
        encoder.fit(X, Z)
