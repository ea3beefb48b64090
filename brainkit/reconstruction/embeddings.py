"""Ridge from responses to embeddings, brought back to the spread that embeddings have.

Ridge predicts towards the mean: the less the brain tells of a dimension, the less its predictions
vary. A generator that was trained on full embeddings takes such a shrunken one for a bland image.
What restores the spread is learned from the training part alone (trap T01), on predictions for
images that the fit had not seen, since those for its own are less shrunken.
"""

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from brainkit.data.stimuli import Stimuli
from brainkit.decoding.ridge import DEFAULT_ALPHAS, RidgeDecoder
from brainkit.errors import InputError, unknown_name
from brainkit.linear.estimator import training_scale
from brainkit.linear.folds import kfold
from brainkit.linear.ridge import solve_ridge

Array = NDArray[Any]
SPREADS = ("dimension", "whole", None)
IMAGES_AT_ONCE = 512


class EmbeddingDecoder(MultiOutputMixin, RegressorMixin, BaseEstimator):
    r"""Calibrated linear decoder, responses → embeddings.

    With z the training embeddings, standardised by their mean μ and standard deviation σ, and p
    the ridge prediction of z, whose mean m and standard deviation s over training images are
    measured out of fold:

    .. math:: \hat e = \mu + \sigma\, (p - m)\, g, \qquad g_j = 1 / s_j

    (``spread="dimension"``), or one g for all dimensions, which restores the total variance
    (``"whole"``), or none (None).

    Parameters
    ----------
    alphas : sequence of float
        Candidate penalties; one is chosen for all dimensions, see `RidgeDecoder`.
    cv : int, default=5
        Folds, to choose the penalty by and to measure the shrinkage on; groups stay whole.
    spread : {"dimension", "whole", None}, default="dimension"
        How the spread is restored.
    renormalise : bool, default=True
        Bring each prediction to the mean length of the training embeddings. For embeddings whose
        direction is what counts (CLIP), not for latents.
    n_targets_batch : int, optional
        Dimensions at once; by free memory where not given.

    Attributes
    ----------
    ridge_ : RidgeDecoder
        Responses → standardised embeddings.
    mean_, scale_ : array (n_dimensions,)
        μ and σ.
    predicted_mean_, predicted_scale_ : array (n_dimensions,)
        m and s.
    gain_ : array (n_dimensions,)
        g.
    norm_ : float
        Mean length of the training embeddings.
    """

    def __init__(
        self,
        alphas: Sequence[float] = DEFAULT_ALPHAS,
        cv: int = 5,
        spread: Literal["dimension", "whole"] | None = "dimension",
        renormalise: bool = True,
        n_targets_batch: int | None = None,
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.spread = spread
        self.renormalise = renormalise
        self.n_targets_batch = n_targets_batch

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        runs: ArrayLike | None = None,
    ) -> Self:
        """Fit the ridge, and measure how much its predictions shrink.

        Parameters
        ----------
        X : array (n_samples, n_units)
            Responses.
        y : array (n_samples, n_dimensions)
            Embeddings.
        groups, runs
            See `RidgeDecoder.fit`.

        Raises
        ------
        InputError
            If the embeddings are not (n_samples, n_dimensions), or `spread` is unknown.
        """
        if self.spread not in SPREADS:
            raise unknown_name("way to restore spread", self.spread, [str(s) for s in SPREADS])
        Z, responses = np.asarray(y, dtype=np.float32), np.asarray(X)
        if responses.dtype.kind != "f":
            responses = responses.astype(np.float64)
        if Z.ndim != 2:
            raise InputError(f"Embeddings are (n_samples, n_dimensions); got shape {Z.shape}.")
        kept = runs if groups is None else groups
        self.mean_ = Z.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.scale_ = training_scale(Z)
        self.norm_ = float(np.linalg.norm(Z, axis=1).mean(dtype=np.float64))
        targets = self.standardise(Z)
        self.ridge_ = RidgeDecoder(
            alphas=self.alphas, cv=self.cv, n_targets_batch=self.n_targets_batch
        ).fit(responses, targets, groups=kept)
        self.predicted_mean_, self.predicted_scale_ = _out_of_fold_spread(
            self.ridge_, responses, targets, kept
        )
        self.gain_ = _gain(self.predicted_scale_, self.spread)
        return self

    def standardise(self, embeddings: ArrayLike) -> NDArray[np.float32]:
        """Return embeddings minus the training mean, over the training standard deviation."""
        values = (np.asarray(embeddings, dtype=np.float32) - self.mean_) / self.scale_
        return np.asarray(values, dtype=np.float32)

    def predict_standardised(self, X: ArrayLike) -> NDArray[np.float32]:
        """Predict standardised embeddings, shrunken as ridge leaves them: best to compare by.

        Returns
        -------
        array (n_samples, n_dimensions)
        """
        check_is_fitted(self)
        return np.asarray(self.ridge_.predict(X), dtype=np.float32)

    def predict(self, X: ArrayLike) -> NDArray[np.float32]:
        """Predict embeddings with the spread that embeddings have: best to generate from.

        A row's prediction depends on that row alone.

        Returns
        -------
        array (n_samples, n_dimensions)
        """
        made = self.predict_standardised(X)
        if self.spread is not None:
            made = (made - self.predicted_mean_) * self.gain_
        embeddings = made * self.scale_ + self.mean_
        return to_length(embeddings, self.norm_) if self.renormalise else embeddings


def _out_of_fold_spread(
    ridge: RidgeDecoder, X: Array, Z: Array, groups: ArrayLike | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation of predictions for samples held out of the fit."""
    Z = Z.astype(X.dtype, copy=False)
    total, squares = np.zeros(Z.shape[1]), np.zeros(Z.shape[1])
    for train, test in kfold(len(X), ridge.cv, groups=groups):
        scale = training_scale(X[train])
        coef, intercept = solve_ridge(
            X[train] / scale, Z[train], ridge.alpha_, n_targets_batch=ridge.batch_size_
        )
        predicted = X[test] / scale @ coef.T + intercept
        total += predicted.sum(axis=0, dtype=np.float64)
        squares += np.square(predicted, dtype=np.float64).sum(axis=0)
    mean = total / len(X)
    variance = np.maximum(squares / len(X) - mean**2, 0)
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)


def _gain(predicted_scale: Array, spread: str | None) -> NDArray[np.float32]:
    """Return the factor of each dimension; 1 where nothing is predicted at all."""
    if spread is None:
        return np.ones_like(predicted_scale)
    if spread == "whole":
        predicted_scale = np.full_like(
            predicted_scale, np.sqrt(np.mean(predicted_scale**2, dtype=np.float64))
        )
    return np.divide(
        1.0, predicted_scale, out=np.ones_like(predicted_scale), where=predicted_scale > 1e-6
    )


def to_length(vectors: ArrayLike, length: float) -> NDArray[np.float32]:
    """Return vectors (n, width) of one length; a vector of zeros stays one."""
    values = np.asarray(vectors, dtype=np.float32)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values * (length / np.where(norms > 0, norms, 1.0)), dtype=np.float32)


def embed_stimuli(
    embed: Any, stimuli: Stimuli, rows: ArrayLike, *, size: int = IMAGES_AT_ONCE
) -> NDArray[np.float32]:
    """Return the embeddings of stimuli, reading a bounded number of them at once.

    Parameters
    ----------
    embed : transformer
        Images → (n, ...); nothing is fitted.
    stimuli : Stimuli
    rows : array of int (n,)
    size : int, default=512
        Stimuli at once.

    Returns
    -------
    array of float32 (n, width)
    """
    wanted = np.asarray(rows)
    parts = [
        np.asarray(embed.transform(stimuli.read(wanted[start : start + size])), dtype=np.float32)
        for start in range(0, len(wanted), size)
    ]
    made = np.concatenate(parts)
    return made.reshape(len(made), -1)
