"""Decoded embeddings with the spread of true ones, from training data alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge

import brainkit
from brainkit.data.stimuli import Stimuli
from brainkit.decoding import RidgeDecoder
from brainkit.errors import InputError, UnknownNameError
from brainkit.features import PixelPCA
from brainkit.linear.folds import kfold
from brainkit.reconstruction import EmbeddingDecoder
from brainkit.reconstruction.embeddings import embed_stimuli, fit_decoders, to_length


def world(n=400, n_units=60, width=12, noise=2.0, seed=0):
    """Embeddings of several spreads round a mean, and units that are linear in them."""
    rng = np.random.default_rng(seed)
    Z = 5 * rng.normal(size=width) + rng.normal(size=(n, width)) * np.geomspace(0.2, 4, width)
    X = (Z - Z.mean(axis=0)) / Z.std(axis=0) @ rng.normal(size=(width, n_units))
    X += noise * np.sqrt(width) * rng.normal(size=X.shape)
    return X.astype(np.float32), Z.astype(np.float32)


X, Z = world()
TRAIN, TEST = slice(0, 300), slice(300, None)


@pytest.fixture(scope="module")
def decoder():
    return EmbeddingDecoder(renormalise=False).fit(X[TRAIN], Z[TRAIN])


def test_spread_of_new_predictions_is_that_of_the_embeddings(decoder):
    shrunken = decoder.predict_standardised(X[TEST]).std(axis=0)
    assert shrunken.max() < 0.9
    predicted = decoder.predict(X[TEST])
    ratio = predicted.std(axis=0) / Z[TRAIN].std(axis=0)
    np.testing.assert_allclose(ratio, 1, atol=0.25)
    assert ratio.mean() == pytest.approx(1, abs=0.07)
    gap = (predicted.mean(axis=0) - Z[TRAIN].mean(axis=0)) / Z[TRAIN].std(axis=0)
    np.testing.assert_allclose(gap, 0, atol=0.35)
    # No dimension is turned round, or mixed with others.
    for column, truth in zip(predicted.T, Z[TEST].T, strict=True):
        assert np.corrcoef(column, truth)[0, 1] > 0.3


def test_shrinkage_is_what_a_plain_loop_over_held_out_folds_finds(decoder):
    targets = (Z[TRAIN] - Z[TRAIN].mean(axis=0)) / Z[TRAIN].std(axis=0)
    scaled = X[TRAIN] / X[TRAIN].std(axis=0)
    held_out = np.empty_like(targets)
    for train, test in kfold(300, 5):
        ridge = Ridge(alpha=decoder.alpha_).fit(scaled[train], targets[train])
        held_out[test] = ridge.predict(scaled[test])
    np.testing.assert_allclose(decoder.predicted_mean_, held_out.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(decoder.predicted_scale_, held_out.std(axis=0), rtol=1e-3)
    np.testing.assert_allclose(decoder.gain_, 1 / decoder.predicted_scale_, rtol=1e-6)
    expected = Z[TRAIN].mean(axis=0) + Z[TRAIN].std(axis=0) * (
        decoder.predict_standardised(X[TEST]) - held_out.mean(axis=0)
    ) / held_out.std(axis=0)
    np.testing.assert_allclose(decoder.predict(X[TEST]), expected, rtol=1e-3, atol=1e-3)


def test_the_ridge_is_that_of_the_standardised_embeddings(decoder):
    targets = decoder.standardise(Z[TRAIN])
    np.testing.assert_allclose(targets.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(targets.std(axis=0), 1, rtol=1e-4)
    plain = RidgeDecoder().fit(X[TRAIN], targets)
    assert set(plain.alpha_) == {decoder.alpha_}
    np.testing.assert_allclose(decoder.cv_r2_, plain.cv_r2_, atol=1e-5)
    np.testing.assert_allclose(
        decoder.predict_standardised(X[TEST]), plain.predict(X[TEST]), atol=1e-5
    )
    left = clone(decoder).set_params(spread=None).fit(X[TRAIN], Z[TRAIN])
    expected = plain.predict(X[TEST]) * Z[TRAIN].std(axis=0) + Z[TRAIN].mean(axis=0)
    np.testing.assert_allclose(left.predict(X[TEST]), expected, rtol=1e-4, atol=1e-4)


def test_one_gain_for_all_restores_the_whole_variance():
    decoder = EmbeddingDecoder(spread="whole", renormalise=False).fit(X[TRAIN], Z[TRAIN])
    assert len(np.unique(decoder.gain_)) == 1
    made = decoder.standardise(decoder.predict(X[TEST]))
    assert (made**2).mean() == pytest.approx(1, abs=0.15)
    ratio = made / (decoder.predict_standardised(X[TEST]) - decoder.predicted_mean_)
    np.testing.assert_allclose(ratio, decoder.gain_[0], rtol=1e-2)


def test_lengths_are_those_of_the_training_embeddings():
    unit = to_length(Z, 1.0)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-5)
    decoder = EmbeddingDecoder().fit(X[TRAIN], 7 * unit[TRAIN])
    assert decoder.norm_ == pytest.approx(7, rel=1e-5)
    np.testing.assert_allclose(np.linalg.norm(decoder.predict(X[TEST]), axis=1), 7, rtol=1e-4)
    assert not to_length(np.zeros((2, 3)), 4.0).any()


@settings(max_examples=20)
@given(st.lists(st.integers(0, 99), min_size=1, max_size=6), st.floats(-30, 30))
def test_a_prediction_does_not_depend_on_its_company(rows, shift):
    """T01, for the calibrated decoder."""
    decoder = _fitted()
    company = np.concatenate([X[TEST][rows], X[TEST] * 3 + np.float32(shift)])
    np.testing.assert_allclose(
        decoder.predict(company)[: len(rows)], decoder.predict(X[TEST])[rows], rtol=1e-4, atol=1e-4
    )


_CACHE: dict = {}


def _fitted():
    if "decoder" not in _CACHE:
        _CACHE["decoder"] = EmbeddingDecoder().fit(X[TRAIN], Z[TRAIN])
    return _CACHE["decoder"]


def test_repeats_stay_in_one_fold():
    """Embeddings that the responses do not tell of are foretold if a repeat is in the fit."""
    rng = np.random.default_rng(0)
    repeated = np.tile(rng.normal(size=(60, 200)).astype(np.float32), (3, 1))
    unrelated = np.tile(rng.normal(size=(60, 4)).astype(np.float32), (3, 1))
    decoder = EmbeddingDecoder(alphas=[1.0])
    torn = decoder.fit(repeated, unrelated).predicted_scale_
    groups = np.tile(np.arange(60), 3)
    kept = clone(decoder).fit(repeated, unrelated, groups=groups).predicted_scale_
    assert (torn > 0.9).all()
    assert (kept < 0.8).all()


def test_a_constant_dimension_is_predicted_as_it_is():
    constant = Z.copy()
    constant[:, 3] = 2.5
    decoder = EmbeddingDecoder(renormalise=False).fit(X[TRAIN], constant[TRAIN])
    np.testing.assert_allclose(decoder.predict(X[TEST])[:, 3], 2.5, rtol=1e-5)
    assert np.isfinite(decoder.predict(X[TEST])).all()


def test_whole_numbers_and_double_precision_are_taken(decoder):
    double = EmbeddingDecoder(renormalise=False).fit(X[TRAIN].astype(np.float64), Z[TRAIN])
    np.testing.assert_allclose(
        double.predict(X[TEST]), decoder.predict(X[TEST]), rtol=1e-2, atol=0.02
    )
    EmbeddingDecoder(cv=2).fit(np.round(X[TRAIN] * 10).astype(int), Z[TRAIN])


def test_saved_and_loaded_it_predicts_the_same(decoder, tmp_path):
    brainkit.save_estimator(decoder, tmp_path / "decoder")
    loaded = brainkit.load_estimator(tmp_path / "decoder")
    np.testing.assert_array_equal(loaded.predict(X[TEST]), decoder.predict(X[TEST]))


def fitted_values(decoder):
    return {name: value for name, value in vars(decoder).items() if name.endswith("_")}


def test_fitted_together_they_are_what_they_are_alone():
    made = [
        EmbeddingDecoder(cv=4),
        EmbeddingDecoder(alphas=[3.0, 30.0], cv=4, spread="whole", n_targets_batch=2),
        EmbeddingDecoder(cv=3, spread=None, renormalise=False),
    ]
    targets = [Z[TRAIN], Z[TRAIN, :5], Z[TRAIN, 2:] ** 2]
    groups = np.arange(300) // 2
    order = np.random.default_rng(3).permutation(300)
    nulls = fit_decoders(made, X[TRAIN], targets, groups=groups, exchange=order)
    for decoder, null, target in zip(made, nulls, targets, strict=True):
        for found, y in ((decoder, target), (null, target[order])):
            alone = clone(decoder).fit(X[TRAIN], y, groups=groups)
            assert found.get_params() == alone.get_params()
            assert fitted_values(found).keys() == fitted_values(alone).keys()
            for name, value in fitted_values(alone).items():
                np.testing.assert_allclose(
                    fitted_values(found)[name], value, rtol=1e-3, atol=1e-5, err_msg=name
                )
    assert fit_decoders([clone(made[0])], X[TRAIN], [Z[TRAIN]]) == []


def test_units_are_scaled_by_the_training_part(decoder):
    """A unit in other units of measurement is decoded the same."""
    factor = np.geomspace(1e-3, 1e3, X.shape[1]).astype(np.float32)
    other = clone(decoder).fit(X[TRAIN] * factor, Z[TRAIN])
    np.testing.assert_allclose(
        other.predict(X[TEST] * factor), decoder.predict(X[TEST]), rtol=1e-3, atol=1e-3
    )


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="NaN"):
        EmbeddingDecoder().fit(np.where(X > 1, np.nan, X), Z)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        EmbeddingDecoder().fit(X, Z[:-1])
    with pytest.raises(InputError, match="alphas must be positive"):
        EmbeddingDecoder(alphas=[-1.0, 1.0]).fit(X, Z)
    with pytest.raises(InputError, match="n_targets_batch must be at least 1"):
        EmbeddingDecoder(n_targets_batch=0).fit(X, Z)
    with pytest.raises(NotFittedError):
        EmbeddingDecoder().predict(X)
    with pytest.raises(ValueError, match="60 features"):
        EmbeddingDecoder().fit(X, Z).predict(X[:, 1:])
    with pytest.raises(UnknownNameError, match="dimensions"):
        EmbeddingDecoder(spread="dimensions").fit(X, Z)
    with pytest.raises(InputError, match=r"shape \(400,\)"):
        EmbeddingDecoder().fit(X, Z[:, 0])


def test_stimuli_are_embedded_in_pieces():
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    space = PixelPCA(5).fit(images)
    rows = np.array([4, 29, 0, 4, 17, 8, 3])
    made = embed_stimuli(space, Stimuli(images), rows, size=3)
    np.testing.assert_allclose(made, space.transform(images[rows]), atol=1e-5)
    assert made.dtype == np.float32
