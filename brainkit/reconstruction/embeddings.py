"""Ridge from responses to embeddings, brought back to the spread that embeddings have.

Ridge predicts towards the mean: the less the brain tells of a dimension, the less its predictions
vary. A generator that was trained on full embeddings takes such a shrunken one for a bland image.
What restores the spread is learned from the training part alone (trap T01), on predictions for
images that the fit had not seen, since those for its own are less shrunken. They are the very ones
by which the penalty is chosen.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, clone
from sklearn.utils.validation import check_is_fitted

from brainkit.data.stimuli import Stimuli
from brainkit.decoding.ridge_decoder import DEFAULT_ALPHAS
from brainkit.decoding.spread import SPREADS, spread_gain, standard_scores, to_length
from brainkit.errors import InputError, unknown_name
from brainkit.linear.folds import kfold
from brainkit.linear.ridge_estimator import judge_choice, training_scale, validated
from brainkit.linear.ridge_solver import BlockFit, TargetBlock, intercept_of, ridge_blocks
from brainkit.linear.spectrum import is_primal
from brainkit.linear.targets import batch_size, checked_penalties, column_mean, deviations

Array = NDArray[Any]
IMAGES_AT_ONCE = 512


class EmbeddingDecoder(MultiOutputMixin, RegressorMixin, BaseEstimator):
    r"""Calibrated linear decoder, responses → embeddings.

    With z the training embeddings, standardised by their mean μ and standard deviation σ, and p
    the ridge prediction of z, whose mean m and standard deviation s over training images are
    measured out of fold:

    .. math:: \hat e = \mu + \sigma\, (p - m)\, g, \qquad g_j = 1 / s_j

    (``spread="dimension"``), or one g for all dimensions, which restores the total variance
    (``"whole"``), or none (None). A dimension that is constant in the training part is predicted as
    what it is, see `RidgeDecoder`.

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
    coef_ : array (n_dimensions, n_units)
        Responses → standardised embeddings.
    intercept_ : array (n_dimensions,)
    alpha_ : float
    alpha_at_edge_ : array (2,)
        Shares of dimensions that have the smallest and the largest candidate: 0 or 1.
    constant_predictions_ : float
        Share of dimensions whose predictions the penalty shrinks to a constant.
    cv_r2_ : array (n_dimensions,)
        Held-out R² within the training data.
    batch_size_ : int
        Dimensions at once.
    primal_ : bool
        Whether there are no more units than samples.
    device_, dtype_ : str
        What ran.
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
        fit_decoders([self], X, [y], groups=runs if groups is None else groups)
        return self

    def _begin(self, X: ArrayLike, y: ArrayLike) -> tuple[Array, TargetBlock]:
        """Check what is given, and return the responses and the standardised embeddings."""
        if self.spread not in SPREADS:
            raise unknown_name("way to restore spread", self.spread, [str(s) for s in SPREADS])
        if np.ndim(y) != 2:
            raise InputError(f"Embeddings are (n_samples, n_dimensions); got shape {np.shape(y)}.")
        responses, Z = validated(
            self, X, y, dtype=[np.float64, np.float32], multi_output=True, ensure_min_samples=2
        )
        Z = Z.astype(np.float32, copy=False)
        self.mean_ = Z.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.scale_ = training_scale(Z)
        self.norm_ = float(np.linalg.norm(Z, axis=1).mean(dtype=np.float64))
        self.batch_size_ = batch_size(responses, Z.shape[1], self.n_targets_batch)
        self.primal_ = is_primal(*responses.shape)
        targets = self.standardise(Z).astype(responses.dtype, copy=False)
        return responses, TargetBlock(targets, checked_penalties(self.alphas), self.batch_size_)

    def _finish(self, fit: BlockFit, mean: Array, scale: Array) -> None:
        """Take what was found for responses less `mean`, divided by `scale`."""
        self.coef_ = fit.coef / scale
        x_mean = mean + fit.means[0] * scale
        self.intercept_ = intercept_of(self.coef_, x_mean, fit.means[1])
        self.alpha_, self.cv_r2_ = fit.alpha, fit.cv_r2
        alphas = checked_penalties(self.alphas)
        self.alpha_at_edge_, self.constant_predictions_ = judge_choice(
            alphas, np.full(len(fit.coef), fit.alpha), fit.error, fit.total, fit.eigenvalues,
            fit.errors, shared=True,
        )  # fmt: skip
        self.predicted_mean_ = fit.predicted_mean.astype(np.float32)
        self.predicted_scale_ = fit.predicted_scale.astype(np.float32)
        self.gain_ = spread_gain(self.predicted_scale_, self.spread)

    @property
    def dtype_(self) -> str:
        """The type of the weights."""
        return str(self.coef_.dtype)

    @property
    def device_(self) -> str:
        """Where the fit ran: on the processor, as the engine is given NumPy's arrays."""
        return "cpu" if isinstance(self.coef_, np.ndarray) else str(self.coef_.device)

    def standardise(self, embeddings: ArrayLike) -> NDArray[np.float32]:
        """Return embeddings minus the training mean, over the training standard deviation."""
        return standard_scores(embeddings, self.mean_, self.scale_)

    def retrieval_targets(self, embeddings: ArrayLike) -> NDArray[np.float32]:
        """Return what images are retrieved by, in the space of `predict_standardised`."""
        return self.standardise(embeddings)

    def predict_standardised(self, X: ArrayLike) -> NDArray[np.float32]:
        """Predict standardised embeddings, shrunken as ridge leaves them: best to compare by.

        Returns
        -------
        array (n_samples, n_dimensions)
        """
        check_is_fitted(self, "coef_")
        responses = validated(self, X, dtype=[np.float64, np.float32], reset=False)
        return np.asarray(responses @ self.coef_.T + self.intercept_, dtype=np.float32)

    def predict(self, X: ArrayLike) -> NDArray[np.float32]:
        """Predict embeddings with the spread that embeddings have: best to generate from.

        A row's prediction depends on that row alone.

        Returns
        -------
        array (n_samples, n_dimensions)
        """
        predicted = self.predict_standardised(X)
        if self.spread is not None:
            predicted = (predicted - self.predicted_mean_) * self.gain_
        embeddings = predicted * self.scale_ + self.mean_
        return to_length(embeddings, self.norm_) if self.renormalise else embeddings


def fit_decoders(
    decoders: Sequence[EmbeddingDecoder],
    X: ArrayLike,
    targets: Sequence[ArrayLike],
    *,
    groups: ArrayLike | None = None,
    exchange: ArrayLike | None = None,
) -> list[EmbeddingDecoder]:
    """Fit several decoders to the same responses, which are decomposed once for all of them.

    Parameters
    ----------
    decoders : sequence of EmbeddingDecoder
        Fitted in place, as `EmbeddingDecoder.fit` does.
    X : array (n_samples, n_units)
        Responses.
    targets : sequence of array (n_samples, n_dimensions)
        What each decoder predicts.
    groups : array (n_samples,), optional
        Samples of one group stay in one fold, such as the repeats of an image.
    exchange : array of int (n_samples,), optional
        Fit a clone of each decoder too, to the targets in this order.

    Returns
    -------
    list of EmbeddingDecoder
        The clones; none without `exchange`. They standardise as the decoders do.

    Raises
    ------
    InputError
        If targets are not (n_samples, n_dimensions), or a setting is unknown or out of range.
    """
    begun = [one._begin(X, y) for one, y in zip(decoders, targets, strict=True)]
    blocks = [block for _, block in begun]
    fitted, nulls = list(decoders), []
    if exchange is not None:
        nulls = [_null_of(decoder) for decoder in decoders]
        fitted += nulls
        blocks += [replace(block, rows=np.asarray(exchange)) for block in blocks]
    responses = begun[0][0]
    scale = training_scale(responses)
    mean = column_mean(responses, True)
    # Less their means first: a large mean, divided, would be rounded to more than what varies.
    scaled = deviations(responses, mean, responses.dtype) / scale
    for cv in dict.fromkeys(decoder.cv for decoder in decoders):
        alike = [place for place, decoder in enumerate(fitted) if decoder.cv == cv]
        folds = kfold(len(scaled), cv, groups=groups)
        fits = ridge_blocks(scaled, [blocks[place] for place in alike], folds)
        for place, fit in zip(alike, fits, strict=True):
            fitted[place]._finish(fit, mean, scale)
    return nulls


def _null_of(decoder: EmbeddingDecoder) -> EmbeddingDecoder:
    """Return a clone that standardises as a decoder does, and is yet to be fitted."""
    null: EmbeddingDecoder = clone(decoder)
    for name in ("mean_", "scale_", "norm_", "batch_size_", "primal_", "n_features_in_"):
        setattr(null, name, getattr(decoder, name))
    return null


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
    embeddings = np.concatenate(parts)
    return embeddings.reshape(len(embeddings), -1)
