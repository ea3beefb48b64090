"""Decoders of a fold and of its null, which share all decompositions of the responses."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin, clone

from brainkit.data.stimuli import Stimuli
from brainkit.decoding import MassiveRidge, RidgeDecoder
from brainkit.evaluation import exchanged_rows
from brainkit.linear import cross_validation, ridge_solver
from brainkit.reconstruction import EmbeddingDecoder, ReconstructionParts
from brainkit.reconstruction.decoded import fit_models
from brainkit.reconstruction.nulls import Training, nearest_training

N, UNITS = 40, 30
DECODER = EmbeddingDecoder(alphas=[1.0, 30.0], cv=4)
LATENT = EmbeddingDecoder(alphas=[3.0, 100.0], cv=4, renormalise=False)


@pytest.fixture(scope="module")
def training():
    """Forty images, the first ten of them seen twice."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([np.arange(N), np.arange(10)])[rng.permutation(N + 10)]
    embeddings = rng.normal(size=(N, 6)).astype(np.float32)[rows]
    latents = rng.normal(size=(N, 2, 3, 3)).astype(np.float32)[rows]
    return Training(Stimuli(np.zeros((N, 4, 4), np.uint8)), rows, embeddings, latents)


@pytest.fixture(scope="module")
def responses(training):
    rng = np.random.default_rng(1)
    known = np.concatenate([training.embeddings, training.latents.reshape(N + 10, -1)], axis=1)
    signal = known @ rng.normal(size=(24, UNITS))
    return (signal + rng.normal(size=signal.shape)).astype(np.float32)


def parts_of(generator, latent_model=LATENT):
    return ReconstructionParts(generator, embedding_model=DECODER, latent_model=latent_model)


def test_model_and_null_are_what_separate_fits_give(generator, training, responses):
    order = exchanged_rows(training.rows, np.random.default_rng(3))
    fitted, null = fit_models(
        training, responses, parts_of(generator), groups=training.rows, exchange=order
    )
    flat = training.latents.reshape(N + 10, -1)
    settings = {"groups": training.rows}
    for found, target in ((fitted, slice(None)), (null, order)):
        for decoder, values in zip(found, (training.embeddings, flat), strict=True):
            alone = clone(decoder).fit(responses, values, **settings)
            alone.fit(responses, values[target], **settings)
            assert decoder.alpha_ == alone.alpha_
            np.testing.assert_allclose(
                decoder.predict_standardised(responses) * decoder.scale_ + decoder.mean_,
                alone.predict_standardised(responses) * alone.scale_ + alone.mean_,
                atol=1e-3,
            )
    told = fitted[0].standardise(training.embeddings)
    errors = [
        np.abs(one.predict_standardised(responses) - told).mean() for one in (fitted[0], null[0])
    ]
    assert errors[0] < 0.5 * errors[1]
    np.testing.assert_array_equal(null[0].mean_, fitted[0].mean_)  # one standardised space


def test_embeddings_latents_and_both_nulls_take_one_decomposition_a_fold(
    generator, training, responses, monkeypatch
):
    done = []
    original = cross_validation.decompose

    def counted(X, *given, **named):
        done.append(len(X))
        return original(X, *given, **named)

    monkeypatch.setattr(cross_validation, "decompose", counted)
    monkeypatch.setattr(ridge_solver, "decompose", counted)
    order = exchanged_rows(training.rows, np.random.default_rng(3))
    fit_models(training, responses, parts_of(generator), groups=training.rows, exchange=order)
    assert len(done) == DECODER.cv + 1
    assert done[-1] == N + 10


def test_latents_by_another_estimator(generator, training, responses):
    order = exchanged_rows(training.rows, np.random.default_rng(3))
    parts = parts_of(generator, RidgeDecoder(alphas=[1.0, 10.0], cv=4))
    (_, latent), (_, null) = fit_models(
        training, responses, parts, groups=training.rows, exchange=order
    )
    flat = training.latents.reshape(N + 10, -1)
    expected = clone(parts.latent_model).fit(responses, flat[order], groups=training.rows)
    np.testing.assert_allclose(null.predict(responses), expected.predict(responses), atol=1e-6)
    assert not np.allclose(latent.predict(responses), null.predict(responses), atol=0.1)


def test_without_latents_there_is_no_model_of_them(generator, training, responses):
    order = exchanged_rows(training.rows, np.random.default_rng(3))
    bare = Training(training.stimuli, training.rows, training.embeddings)
    (model, latent), (null, latent_null) = fit_models(
        bare,
        responses,
        ReconstructionParts(generator, embedding_model=DECODER),
        groups=training.rows,
        exchange=order,
    )
    assert latent is None
    assert latent_null is None
    assert not np.allclose(model.coef_, null.coef_, atol=0.01)


@pytest.mark.parametrize("latent_model", [LATENT, MassiveRidge([3.0, 100.0])], ids=repr)
def test_embeddings_by_one_ridge_for_very_many_targets(
    generator, training, responses, latent_model
):
    order = exchanged_rows(training.rows, np.random.default_rng(3))
    parts = ReconstructionParts(
        generator, embedding_model=MassiveRidge([1.0, 30.0]), latent_model=latent_model
    )
    settings = {"groups": training.rows, "exchange": order}
    (model, latent), (null, latent_null) = fit_models(training, responses, parts, **settings)
    assert model.left_out_ == "groups"  # an image seen twice is left out as a whole
    alone = MassiveRidge([1.0, 30.0]).fit(responses, training.embeddings, groups=training.rows)
    np.testing.assert_array_equal(model.predict(responses), alone.predict(responses))
    true = model.retrieval_targets(training.embeddings)
    errors = [np.abs(one.predict_standardised(responses) - true).mean() for one in (model, null)]
    assert errors[0] < 0.5 * errors[1]
    spread = model.predict(responses).std(axis=0) / training.embeddings.std(axis=0)
    np.testing.assert_allclose(spread, 1, atol=0.35)
    assert type(latent) is type(latent_null) is type(latent_model)
    assert latent.predict(responses).shape == latent_null.predict(responses).shape == (50, 18)
    nearest = nearest_training(training, model, model.predict_standardised(responses))
    assert (nearest == training.rows).mean() > 0.9


class Standardised(RegressorMixin, BaseEstimator):
    """A decoder of embeddings that is none of ours: it standardises by what it was fitted to."""

    def fit(self, X, y, groups=None):
        self.mean_, self.scale_ = y.mean(axis=0), y.std(axis=0)
        self.inner_ = RidgeDecoder([1.0, 10.0], 4).fit(X, self.standardise(y), groups=groups)
        return self

    def standardise(self, embeddings):
        return (embeddings - self.mean_) / self.scale_

    def predict_standardised(self, X):
        return self.inner_.predict(X)

    def predict(self, X):
        return self.predict_standardised(X) * self.scale_ + self.mean_


@pytest.mark.parametrize("latents", [True, False])
def test_embeddings_by_another_estimator(generator, training, responses, latents):
    order = exchanged_rows(training.rows, np.random.default_rng(3))
    model = Standardised()
    shown = training if latents else Training(training.stimuli, training.rows, training.embeddings)
    parts = ReconstructionParts(
        generator, embedding_model=model, latent_model=LATENT if latents else None
    )
    fitted, null = fit_models(shown, responses, parts, groups=training.rows, exchange=order)
    for found, told in ((fitted[0], slice(None)), (null[0], order)):
        alone = clone(model).fit(responses, training.embeddings[told], groups=training.rows)
        np.testing.assert_allclose(
            found.predict_standardised(responses), alone.predict_standardised(responses), atol=1e-6
        )
    if not latents:
        assert fitted[1] is None
        assert null[1] is None
        return
    flat = training.latents.reshape(N + 10, -1)
    alone = clone(LATENT).fit(responses, flat, groups=training.rows)
    np.testing.assert_allclose(fitted[1].predict(responses), alone.predict(responses), atol=1e-4)
    assert not np.allclose(null[1].predict(responses), fitted[1].predict(responses), atol=0.1)
