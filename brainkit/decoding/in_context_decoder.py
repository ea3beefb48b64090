"""The in-context decoder as an estimator: labelled trials of a new person go in, nothing is fitted.

A linear encoder reads the person's voxels from the trials at hand, and a network that was trained
on other people reads those voxels, and a trial's responses, into an image embedding. Which encoder
that is, is not the decoder's business: any estimator that is linear in the embeddings will do. A
network's own configuration names the one whose weights it was trained on.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, clone
from sklearn.utils.validation import check_is_fitted

from brainkit.arrays.devices import pick_device
from brainkit.arrays.persistence import find_estimator
from brainkit.arrays.seeds import rng
from brainkit.decoding.spread import standard_scores
from brainkit.decoding.voxel_sets import response_scale, voxel_weights
from brainkit.decoding.voxel_transformer import (
    DecoderOrigin,
    Noise,
    VoxelTransformer,
    decode_trials,
    load_decoder,
    trials_at_once,
)
from brainkit.errors import InputError, PenaltyWarning, listed, told_once, unknown_name
from brainkit.features.weights import weights_hash
from brainkit.linear.folds import group_codes, kfold
from brainkit.linear.ridge_estimator import (
    fit_rows,
    mean_variance,
    penalty_grid,
    training_scale,
    validated,
)
from brainkit.linear.ridge_solver import ridge_cv
from brainkit.training.set_networks import check_embeddings, check_excluded, unit_norm

Float = NDArray[np.float32]
Index = NDArray[np.int64]
SPREADS = ("dimension", "whole", None)
FEWEST = 10  # trials: with fewer, neither penalties nor the spread can be told
SMALLEST = 1e-6  # standard deviations below this are none
LEAST_SHRUNKEN = 1e-3  # of a noise covariance, which has to be inverted


class Weights(NamedTuple):
    """What an encoder reads of voxels.

    Attributes
    ----------
    coef, intercept : float32 arrays (n_voxels, width), (n_voxels,)
        Of z-scored responses.
    mean, deviation : float32 arrays (n_voxels,)
        By which they are z-scored.
    """

    coef: Float
    intercept: Float
    mean: Float
    deviation: Float

    def residuals(self, responses: Float, embeddings: Float) -> Float:
        """Return what is left of z-scored responses, (n_trials, n_voxels)."""
        scored = (responses - self.mean) / self.deviation
        return np.asarray(scored - embeddings @ self.coef.T - self.intercept, dtype=np.float32)


def noise_of(residuals: Float) -> tuple[float, Float]:
    r"""Return level a and factor F of a noise covariance, :math:`a I + F^\top F`.

    The covariance of the residuals, shrunken towards independent voxels of equal noise by as much
    as Ledoit and Wolf (2004) find best: with n residuals R, their covariance C and its mean
    variance μ, :math:`(1 - \gamma) C + \gamma \mu I`.

    Parameters
    ----------
    residuals : float32 array (n_trials, n_voxels)
        Of trials that weights were not read from, so that their errors count as noise.

    Returns
    -------
    level : float
    factor : float32 array (n_trials, n_voxels)
    """
    centred = residuals - residuals.mean(axis=0)
    n_trials, n_voxels = centred.shape
    inner = (centred @ centred.T).astype(np.float64) / n_trials  # eigenvalues of C, and some 0
    mean_variance = np.trace(inner) / n_voxels
    spread = (inner**2).sum() / n_voxels - mean_variance**2
    lengths = np.square(centred, dtype=np.float64).sum(axis=1)
    error = (np.square(lengths).mean() - (inner**2).sum()) / (n_trials * n_voxels)
    gamma = 1.0 if spread <= 0 else float(np.clip(error / spread, LEAST_SHRUNKEN, 1.0))
    factor = np.sqrt((1 - gamma) / n_trials) * centred
    return max(gamma * mean_variance, SMALLEST), np.asarray(factor, dtype=np.float32)


class InContextDecoder(MultiOutputMixin, RegressorMixin, BaseEstimator):
    r"""Decoder of a new person's responses, responses → embeddings, without any fitting to them.

    After BrainCoDec (arXiv:2604.08537). `fit` takes no gradient step. It reads each voxel's weights
    :math:`w_v, b_v` from the labelled trials by a linear encoder, and keeps them. A trial's
    responses :math:`\beta_v`, z-scored over the labelled trials, are then read together with these
    by a network f that learned to do so from other people:

    .. math:: \hat e = f(\{(w_v, b_v, \beta_v)\}_v)

    Voxels have no order, and there may be any number of them.

    **Which voxels.** The `max_voxels` whose responses to the labelled trials a ridge regression on
    the embeddings predicts best in cross-validation (R²), of those that are not constant. No other
    trial has a say.

    **Noise.** The covariance of what the weights do not predict, on labelled trials that they were
    not read from (`noise_of`), goes to networks of the inverse form.

    **Spread.** The network writes a direction; its predictions vary less than embeddings do. What
    restores the spread is measured on labelled trials that the weights were not read from: the
    encoder reads the voxels anew in each of `cv` folds. Those trials did choose the voxels, so that
    what is restored is a little less than is lost. See `brainkit.reconstruction.EmbeddingDecoder`
    for the equation.

    Parameters
    ----------
    network : str, default="tiny"
        ``"tiny"`` for the network that comes with brainkit (which writes the image embedding of
        ``open_clip:tiny``), or the folder of another, see
        `brainkit.decoding.voxel_transformer.save_decoder`.
    encoder : estimator, str or dict, optional
        Where voxels' weights come from: an estimator with ``fit(embeddings, responses)``, then
        `coef_` (n_voxels, width) and `intercept_`; or its name, ``"ROOM:CLASS"``, such as
        ``"brainkit.encoding:VoxelwiseRidge"``; or ``{"estimator": NAME, "parameters": {...}}``.
        Where not given, the one that the network was trained with.
    max_voxels : int, optional
        Voxels that are read at most, 2,000 by default; all where None. Time and memory grow with
        the square of their number.
    n_support : int, optional
        Labelled trials that are used at most, drawn by `seed`; where not given, as many as the
        network, and an encoder that is one, were trained with at most.
    cv : int, default=3
        Folds to choose voxels and to measure the spread on; groups stay whole.
    spread : {"dimension", "whole", None}, default="dimension"
        How the spread is restored: of each dimension, of all together, or not at all.
    renormalise : bool, default=True
        Bring each prediction to the mean length of the training embeddings.
    seed : int, default=0
        Of the choice of trials where there are more than `n_support`.
    device : str, default="auto"
        "cpu", "cuda", or a GPU if there is one.

    Attributes
    ----------
    voxels_ : int array (n_voxels,)
        Units that are read, the best predicted first.
    support_ : int array (n_support,)
        Rows that were used.
    voxel_coef_, voxel_intercept_ : float32 arrays (n_voxels, width), (n_voxels,)
        Their weights on unit-norm embeddings, of z-scored responses.
    voxel_mean_, voxel_deviation_ : float32 arrays (n_voxels,)
        By which responses are z-scored.
    noise_level_, noise_factor_ : float, float32 array (n_support, n_voxels)
        Of the noise covariance, see `noise_of`.
    voxel_cv_r2_ : float64 array (n_units,)
        By which voxels were chosen; -inf of constant ones.
    mean_, scale_ : float32 arrays (width,)
        Mean and standard deviation of the training embeddings.
    predicted_mean_, predicted_scale_, gain_ : float32 arrays (width,)
        Of held-out standardised predictions, and the factor that restores the spread.
    norm_ : float
        Mean length of the training embeddings.
    network_hash_ : str
        SHA-256 of the network's weights.
    device_, dtype_ : str
        Where, and in what, voxels were read.
    batch_size_ : int
        Trials that are read at once.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit.decoding import InContextDecoder
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.normal(size=(60, 256))  # embeddings, of the network's model for real work
    >>> X = Z @ rng.normal(size=(256, 20)) + rng.normal(size=(60, 20))
    >>> model = InContextDecoder(encoder="brainkit.encoding:VoxelwiseRidge")
    >>> model = model.fit(X[:50], Z[:50], embedding_model="open_clip:tiny")
    >>> model.predict(X[50:]).shape
    (10, 256)
    """

    def __init__(
        self,
        network: str = "tiny",
        encoder: Any = None,
        max_voxels: int | None = 2000,
        n_support: int | None = None,
        cv: int = 3,
        spread: Literal["dimension", "whole"] | None = "dimension",
        renormalise: bool = True,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.network = network
        self.encoder = encoder
        self.max_voxels = max_voxels
        self.n_support = n_support
        self.cv = cv
        self.spread = spread
        self.renormalise = renormalise
        self.seed = seed
        self.device = device

    # -- the network and the encoder ---------------------------------------------------------------

    def open(self) -> tuple[VoxelTransformer, DecoderOrigin]:
        """Return the network and what it learned from; it is loaded once."""
        if getattr(self, "_opened", None) != self.network:
            network, origin = load_decoder(self.network)
            self._network, self._origin = network.to(pick_device(self.device)), origin
            self._opened = self.network
        return self._network, self._origin

    @property
    def origin(self) -> DecoderOrigin:
        """What the network learned from."""
        return self.open()[1]

    def open_encoder(self) -> Any:
        """Return the encoder that reads voxels' weights, not fitted.

        Raises
        ------
        InputError
            If none is named, or the name is not that of a public estimator.
        """
        given = self.origin.encoder if self.encoder is None else self.encoder
        if given is None:
            raise InputError(
                f"The network {self.network!r} does not say which encoder it was trained with: "
                "give one, such as encoder='brainkit.encoding:VoxelwiseRidge'."
            )
        if isinstance(given, str):
            given = {"estimator": given}
        if isinstance(given, Mapping):
            return _named_encoder(given)
        if not hasattr(given, "fit") or isinstance(given, type):
            raise InputError(
                f"encoder must be an estimator, or the name of one as it is saved; got {given!r}."
            )
        return clone(given)

    def refuse_people(self, names: Iterable[str]) -> None:
        """Raise if the network, or its encoder, learned from a person who is to be decoded.

        Parameters
        ----------
        names : iterable of str
            By which a network may know the person, see `brainkit.data.simulation.names_of`.

        Raises
        ------
        LeakError
            With the names in ``ids``.
        """
        check_excluded(names, self._people_learned_from())

    def describe_network(self, names: Iterable[str]) -> dict[str, Any]:
        """Return what a run's manifest says of the network.

        Parameters
        ----------
        names : iterable of str
            By which the network may know the person who is decoded.

        Returns
        -------
        dict
            ``checkpoint``; ``sha256`` of the weights; ``form``; ``embedding_model``;
            ``context``, the fewest and most support images of the training; ``encoder``, the class
            that reads voxels; ``trained_on``, all people that it or its encoder learned from;
            ``learned_from``, those of them that are decoded.
        """
        network, origin = self.open()
        learned = self._people_learned_from()
        return {
            "checkpoint": self.network,
            "sha256": weights_hash(network),
            "form": network.architecture.form,
            "embedding_model": origin.embedding_model,
            "context": list(origin.context),
            "encoder": type(self.open_encoder()).__name__,
            "trained_on": learned,
            "learned_from": [name for name in names if name in learned],
        }

    def _people_learned_from(self) -> list[str]:
        """Return the people that the network or its encoder learned from."""
        encoder = self.open_encoder()
        others = encoder.origin.subjects if hasattr(encoder, "origin") else ()
        return list(dict.fromkeys([*self.origin.subjects, *others]))

    def __sklearn_clone__(self) -> Self:
        parameters = self.get_params(deep=False)
        if hasattr(self.encoder, "get_params"):
            parameters["encoder"] = clone(self.encoder)
        twin = type(self)(**parameters)
        if getattr(self, "_opened", None) == self.network:
            twin._network, twin._origin, twin._opened = self._network, self._origin, self._opened
        return twin

    # -- reading labelled trials -------------------------------------------------------------------

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        runs: ArrayLike | None = None,
        *,
        subject: str | None = None,
        embedding_model: str | None = None,
    ) -> Self:
        """Read voxels' weights from labelled trials; no gradient step is taken.

        Parameters
        ----------
        X : array (n_trials, n_units)
            Responses.
        y : array (n_trials, width)
            Embeddings of the images that evoked them.
        groups, runs : array (n_trials,), optional
            Trials of one group stay in one fold, such as the repeats of an image.
        subject : str, optional
            Whose responses these are; refused if the network or its encoder learned from them.
        embedding_model : str, optional
            Spec of the model whose embeddings these are; refused if the network writes another's.

        Returns
        -------
        self

        Raises
        ------
        LeakError
            If the network or its encoder learned from `subject`.
        InputError
            If there are too few trials, the embeddings are not those of the network's model, all
            units are constant, or the encoder is not linear in the embeddings.
        ValueError
            If a value is NaN or infinite.
        """
        self._check_settings()
        network, origin = self.open()
        if subject is not None:
            self.refuse_people([subject])
        responses, Z = validated(self, X, y, dtype=np.float32, multi_output=True)
        if Z.ndim != 2:
            raise InputError(f"Embeddings are (n_trials, width); got shape {np.shape(y)}.")
        Z = Z.astype(np.float32, copy=False)
        embeddings = unit_norm(Z)
        check_embeddings(network, origin, embeddings, embedding_model)
        codes = group_codes(runs if groups is None else groups, len(Z))
        self.support_ = self._support(codes, origin)
        rows = self.support_
        responses, Z, embeddings, codes = responses[rows], Z[rows], embeddings[rows], codes[rows]
        self.mean_ = Z.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.scale_ = training_scale(Z)
        self.norm_ = float(np.linalg.norm(Z, axis=1).mean(dtype=np.float64))
        folds = kfold(len(Z), self.cv, groups=codes)
        self.voxel_cv_r2_ = _predictability(embeddings, responses, folds)
        self.voxels_ = _best(self.voxel_cv_r2_, self.max_voxels)
        chosen = np.ascontiguousarray(responses[:, self.voxels_])
        with told_once(PenaltyWarning):
            read = self._read(chosen, embeddings, codes)
            held = [self._read_fold(chosen, embeddings, codes, train) for train, _ in folds]
        self.voxel_coef_, self.voxel_intercept_, self.voxel_mean_, self.voxel_deviation_ = read
        left = np.empty_like(chosen)  # what weights do not predict of trials that they never saw
        for (_, out), fold in zip(folds, held, strict=True):
            left[out] = fold.residuals(chosen[out], embeddings[out])
        self.noise_level_, self.noise_factor_ = noise_of(left)
        self._measure_spread(chosen, held, folds)
        self.network_hash_ = weights_hash(network)
        self.device_, self.dtype_ = str(network.centre.device), "float32"
        self.batch_size_ = trials_at_once(network, len(self.voxels_))
        return self

    def _check_settings(self) -> None:
        if self.spread not in SPREADS:
            raise unknown_name("way to restore spread", self.spread, [str(s) for s in SPREADS])
        for name, least in (("max_voxels", 1), ("n_support", FEWEST), ("cv", 2)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} must be at least {least}; got {value}.")

    def _support(self, codes: Index, origin: DecoderOrigin) -> Index:
        """Return the rows that are used: all, or some drawn by the seed, groups kept whole."""
        n_trials = len(codes)
        if n_trials < FEWEST:
            raise InputError(
                f"An in-context decoder reads voxels from at least {FEWEST} labelled trials; got "
                f"{n_trials}."
            )
        most = self.n_support or self._longest_context(origin) or n_trials
        if n_trials <= most:
            return np.arange(n_trials)
        order = rng(self.seed, "support").permutation(int(codes.max()) + 1)
        sizes = np.bincount(codes)[order]
        kept = order[np.cumsum(sizes) <= most]
        return np.flatnonzero(np.isin(codes, kept))

    def _longest_context(self, origin: DecoderOrigin) -> int:
        """Return the most labelled trials that network and encoder know; 0 where neither says."""
        known = getattr(self.open_encoder(), "origin", None)
        longest = [origin.context[1], 0 if known is None else known.context[1]]
        return min((n for n in longest if n), default=0)

    def _read(self, responses: Float, embeddings: Float, groups: Index) -> "Weights":
        """Return weights, constants, means and deviations of voxels, as the encoder reads them."""
        mean, deviation = response_scale(responses)
        encoder = self.open_encoder()
        fitted = fit_rows(encoder, embeddings, (responses - mean) / deviation, groups=groups)
        coef, intercept = voxel_weights(fitted, responses.shape[1], embeddings.shape[1])
        return Weights(coef, np.array(intercept), mean, deviation)

    def _read_fold(
        self, responses: Float, embeddings: Float, groups: Index, train: Index
    ) -> "Weights":
        """Return what the encoder reads from some trials; weights of 0 of voxels constant there."""
        varying = np.flatnonzero(np.ptp(responses[train], axis=0) > 0)
        part = responses[np.ix_(train, varying)]
        read = self._read(part, embeddings[train], groups[train])
        n_voxels = responses.shape[1]
        mean, deviation = response_scale(responses[train])
        coef = np.zeros((n_voxels, embeddings.shape[1]), dtype=np.float32)
        intercept = np.zeros(n_voxels, dtype=np.float32)
        coef[varying], intercept[varying] = read.coef, read.intercept
        return Weights(coef, intercept, mean, deviation)

    def _measure_spread(
        self, responses: Float, held: list["Weights"], folds: list[tuple[Index, Index]]
    ) -> None:
        """Measure mean and standard deviation of predictions for trials that were not read."""
        predicted = np.empty((len(responses), len(self.mean_)), dtype=np.float32)
        for (_, out), fold in zip(folds, held, strict=True):
            predicted[out] = self._decode(responses[out], fold)
        self.predicted_mean_ = predicted.mean(axis=0, dtype=np.float64).astype(np.float32)
        scale = predicted.std(axis=0, dtype=np.float64)
        self.predicted_scale_ = scale.astype(np.float32)
        if self.spread == "whole":
            scale = np.full_like(scale, np.sqrt(np.mean(scale**2)))
        gain = np.divide(1.0, scale, out=np.ones_like(scale), where=scale > SMALLEST)
        self.gain_ = (np.ones_like(gain) if self.spread is None else gain).astype(np.float32)

    def _decode(self, responses: Float, weights: "Weights") -> Float:
        """Return standardised embeddings (n, width) of trials by the network."""
        network, _ = self.open()
        coef, intercept, scored, factor = (
            torch.from_numpy(np.ascontiguousarray(one, dtype=np.float32)).to(network.centre.device)
            for one in (
                weights.coef,
                weights.intercept,
                (responses - weights.mean) / weights.deviation,
                self.noise_factor_,
            )
        )
        noise = Noise(self.noise_level_, factor)
        written = decode_trials(network, coef, intercept, scored, noise=noise).cpu().numpy()
        return self.standardise(written * self.norm_)

    # -- decoding ----------------------------------------------------------------------------------

    def standardise(self, embeddings: ArrayLike) -> Float:
        """Return embeddings minus the training mean, over the training standard deviation."""
        return standard_scores(embeddings, self.mean_, self.scale_)

    def retrieval_targets(self, embeddings: ArrayLike) -> Float:
        """Return what images are retrieved by, in the space of `predict_standardised`."""
        return self.standardise(embeddings)

    def predict_standardised(self, X: ArrayLike) -> Float:
        """Predict standardised embeddings, shrunken as the network leaves them: best to compare by.

        Their mean over held-out labelled trials is taken off, since what a network writes of a
        person whom it never saw may lean to one side.

        Returns
        -------
        float32 array (n_trials, width)
        """
        check_is_fitted(self, "voxel_coef_")
        network, _ = self.open()
        if weights_hash(network) != self.network_hash_:
            raise InputError(
                f"The network {self.network!r} is not the one that this decoder was fitted with. "
                "Fit it again."
            )
        responses = validated(self, X, dtype=np.float32, reset=False)
        weights = Weights(
            self.voxel_coef_, self.voxel_intercept_, self.voxel_mean_, self.voxel_deviation_
        )
        return self._decode(responses[:, self.voxels_], weights) - self.predicted_mean_

    def predict(self, X: ArrayLike) -> Float:
        """Predict embeddings with the spread that embeddings have: best to generate from.

        A row's prediction depends on that row alone.

        Returns
        -------
        float32 array (n_trials, width)
        """
        predicted = self.predict_standardised(X)
        embeddings = predicted * self.gain_ * self.scale_ + self.mean_
        if not self.renormalise:
            return embeddings
        lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
        scaled = embeddings * (self.norm_ / np.where(lengths > 0, lengths, 1.0))
        return np.asarray(scaled, dtype=np.float32)


def _named_encoder(given: Mapping[str, Any]) -> Any:
    """Return the estimator of ``{"estimator": NAME, "parameters": {...}}``."""
    unknown = sorted(set(given) - {"estimator", "parameters"})
    name = given.get("estimator")
    if unknown or not isinstance(name, str):
        raise InputError(
            "An encoder is named by 'estimator' (ROOM:CLASS) and, if need be, 'parameters'; got "
            f"{listed(map(str, given))}."
        )
    kind = find_estimator(name)
    if kind is None:
        raise InputError(
            f"{name!r} is not the name of a public estimator, such as "
            "'brainkit.encoding:VoxelwiseRidge'."
        )
    try:
        return kind(**given.get("parameters", {}))
    except TypeError as error:
        raise InputError(f"{name} cannot be made with these parameters: {error}.") from error


def _predictability(
    embeddings: Float, responses: Float, folds: list[tuple[Index, Index]]
) -> NDArray[np.float64]:
    """Return the held-out R² of each voxel by ridge regression; -inf of constant ones."""
    varies = np.ptp(responses, axis=0) > 0
    if not varies.any():
        raise InputError(
            f"All {len(varies)} units are constant over the labelled trials: nothing can be read."
        )
    design = embeddings - embeddings.mean(axis=0)
    alphas = penalty_grid("auto", mean_variance(design.var(axis=0)))
    fit = ridge_cv(design, np.ascontiguousarray(responses[:, varies]), alphas, folds)
    error = np.take_along_axis(np.asarray(fit.errors), np.asarray(fit.chosen)[None], axis=0)[0]
    r2 = np.full(len(varies), -np.inf)
    r2[varies] = 1 - error / np.maximum(np.asarray(fit.total), np.finfo(float).tiny)
    return r2


def _best(r2: NDArray[np.float64], most: int | None) -> Index:
    """Return the units with the largest R², the largest first, without constant ones."""
    order = np.argsort(-r2, kind="stable")
    order = order[np.isfinite(r2[order])]
    return order if most is None else order[:most]
