"""The in-context encoder as an estimator: a support set goes in, linear encoders come out."""

import warnings
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from brainkit.arrays.array_likes import unmasked
from brainkit.encoding.fit_context import FitContext
from brainkit.encoding.in_context.checkpoint import Origin
from brainkit.encoding.in_context.module import (
    HyperWeights,
    InContextNetwork,
    hyper_weights,
    voxels_at_once,
)
from brainkit.encoding.in_context.tasks import Scale
from brainkit.encoding.in_context.trainable import TrainableNetwork
from brainkit.errors import InputError
from brainkit.evaluation import r2
from brainkit.features.weights import weights_hash
from brainkit.training.set_networks import check_embeddings, check_excluded, unit_norm

Float = NDArray[np.float32]


class InContextEncoder(MultiOutputMixin, RegressorMixin, TrainableNetwork):
    r"""Encoder of a new subject's voxels from a few images, without any fitting.

    After Yu et al. (2025), in one of two forms. ``form="published"`` is their network (97,074,852
    weights for embeddings of 512, raw embeddings, image and response read as one vector, constants
    and dropout). ``form="product"``, the default for a new network and that of ``"tiny"``, is ours:
    a first layer with the product of response and image, embeddings half-way to whitened axes,
    blocks without constants, no dropout unless asked for; ``docs/published.md`` compares them point
    by point and by their scores.

    A network that was trained on other subjects reads a voxel's support set, the unit-norm
    embeddings :math:`x_i` of n images and the voxel's responses :math:`y_i` to them, z-scored over
    those images, and writes the voxel's weights: :math:`\hat y = w \cdot x + b`. `fit` therefore
    takes no gradient step. What the network knows of how voxels tend to be tuned stands in for
    the images that a ridge regression would need.

    Parameters
    ----------
    checkpoint : str, optional
        ``"tiny"`` for the network that comes with brainkit (which reads the image embedding of
        ``open_clip:tiny``), ``"tiny-published"`` for its twin in the published form, or the folder
        of another. None for a new network, of the size below,
        that `pretrain` and `fit_subjects` train.
    width, layers, heads, hidden, registers : int
        Size of a new network; by default the published one for embeddings of 512.
    seed : int, default=0
        Of a new network's weights, and of the images put aside for validation.
    device : str, default="auto"
        "cpu", "cuda", or a GPU if there is one.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Of matrix products in training; "auto" is bfloat16 on a GPU.
    form : {"product", "published"}
        Of a new network.
    dropout : float, default=0
        Of a new network, in training; .5 is published.

    Attributes
    ----------
    coef_ : float32 array (n_voxels, n_features)
        Weights on the unit-norm embedding, in the responses' unit.
    intercept_ : float32 array (n_voxels,)
    support_embeddings_, support_responses_ : float32 arrays (n_images, ...)
        The support set, for `attention`.
    n_features_in_ : int
    network_hash_ : str
        SHA-256 of the network's weights.
    device_, dtype_ : str
        Where the weights were written, and in what.
    batch_size_ : int
        Voxels that were read at once.

    References
    ----------
    Yu, Nan, Adeli, Prince, Pyles, Wehbe, Henderson, Tarr and Luo (2025). Meta-learning an
    in-context transformer model of human higher visual cortex. arXiv:2505.15813.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit.encoding.in_context import InContextEncoder
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(40, 8)), rng.normal(size=(40, 3))
    >>> model = InContextEncoder(None, width=16, layers=2, heads=2, hidden=16).pretrain(X, steps=2)
    >>> model.fit(X[:30], Y[:30]).predict(X[30:]).shape
    (10, 3)
    """

    def fit(
        self,
        X: ArrayLike,
        Y: ArrayLike,
        groups: ArrayLike | None = None,
        runs: ArrayLike | None = None,
        *,
        subject: str | None = None,
        embedding_model: str | None = None,
    ) -> Self:
        """Read a support set and write each voxel's weights; no gradient step is taken.

        Parameters
        ----------
        X : array (n_images, n_features)
            Embeddings of the support images.
        Y : array (n_images, n_voxels) or (n_images,)
            Responses to them.
        groups, runs : ignored
        subject : str, optional
            Whose responses these are; refused if the network learned from that subject.
        embedding_model : str, optional
            Spec of the model whose embeddings these are; refused if the network reads another's.

        Returns
        -------
        self

        Raises
        ------
        LeakError
            If the network learned from `subject`.
        InputError
            If the embeddings are not of the network's model, or the responses do not fit them,
            are not finite, or are constant.

        Warns
        -----
        UserWarning
            If there are more images than the network was trained with.
        """
        network, origin = self.open()
        embeddings = unit_norm(X)
        check_embeddings(network, origin, embeddings, embedding_model)
        responses = np.asarray(unmasked(Y, "Y"), dtype=np.float32)
        single = responses.ndim == 1
        responses = responses[:, None] if single else responses
        _check_responses(responses, len(embeddings))
        if subject is not None:
            check_excluded([subject], origin.subjects)
        _warn_of_length(len(embeddings), origin)
        scale = Scale.of(responses)
        written = _written(network, embeddings, responses, scale, attention=False)
        self.coef_ = written.coef.cpu().numpy() * scale.deviation[:, None]
        self.intercept_ = written.intercept.cpu().numpy() * scale.deviation + scale.mean
        self.support_embeddings_, self.support_responses_ = embeddings, responses.copy()
        self.n_features_in_ = embeddings.shape[1]
        self.network_hash_ = weights_hash(network)
        self.device_, self.dtype_ = str(network.centre.device), "float32"
        self.batch_size_ = voxels_at_once(network, len(embeddings))
        self.single_target_ = single
        return self

    def set_context(self, context: FitContext) -> None:
        """Warn if the network learned from the subject that is to be predicted.

        Parameters
        ----------
        context : FitContext
        """
        learned = [name for name in context.known_as if name in self.origin.subjects]
        if learned:
            warnings.warn(
                f"The network of checkpoint={self.checkpoint!r} learned from {learned[0]}, which "
                "is predicted here: the scores are not those of a new subject. Take a network "
                "that was trained without it.",
                stacklevel=1,
            )

    def describe_network(self, names: Iterable[str]) -> dict[str, Any]:
        """Return what a run's manifest says of the network.

        Parameters
        ----------
        names : iterable of str
            By which the network may know the subject that is predicted.

        Returns
        -------
        dict
            ``checkpoint``; ``sha256`` of the weights; ``form``; ``embedding_model``;
            ``context``, the fewest and most support images of the training; ``trained_on``, all
            subjects that it learned from; ``learned_from``, those of them that are predicted.
        """
        network, origin = self.open()
        return {
            "checkpoint": self.checkpoint,
            "sha256": weights_hash(network),
            "form": network.architecture.form,
            "embedding_model": origin.embedding_model,
            "context": list(origin.context),
            "trained_on": list(origin.subjects),
            "learned_from": [name for name in names if name in origin.subjects],
        }

    def predict(self, X: ArrayLike) -> Float:
        """Predict responses to images; a row's prediction depends on that row alone.

        Parameters
        ----------
        X : array (n_images, n_features)

        Returns
        -------
        float32 array (n_images, n_voxels), or (n_images,) if fitted so
        """
        check_is_fitted(self, "coef_")
        embeddings = unit_norm(X)
        if embeddings.shape[1] != self.n_features_in_:
            raise InputError(
                f"The encoder was fitted on embeddings of {self.n_features_in_} numbers; got "
                f"{embeddings.shape[1]}."
            )
        predicted: Float = embeddings @ self.coef_.T + self.intercept_
        return predicted[:, 0] if self.single_target_ else predicted

    def score_targets(self, X: ArrayLike, Y: ArrayLike) -> NDArray[np.float64]:
        """Return R² of each voxel, (n_voxels,); NaN for a constant one."""
        predicted, truth = self.predict(X), np.asarray(unmasked(Y, "Y"))
        if truth.shape != predicted.shape:
            raise InputError(f"Y has shape {truth.shape}; the predictions have {predicted.shape}.")
        return np.atleast_1d(np.asarray(r2(truth, predicted), dtype=np.float64))

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Return the mean over voxels of `score_targets`; NaN if all are constant."""
        scores = self.score_targets(X, y)
        scores = scores[np.isfinite(scores)]
        return float(scores.mean()) if scores.size else float("nan")

    def attention(self, targets: ArrayLike | None = None) -> Float:
        """Return how much each voxel's register attends to each support image.

        In the last block, register 0, mean over heads. What is missing to a sum of 1 went to the
        registers.

        Parameters
        ----------
        targets : array of int, optional
            Which voxels; all by default.

        Returns
        -------
        float32 array (n_voxels, n_images)
        """
        check_is_fitted(self, "coef_")
        network, _ = self.open()
        if weights_hash(network) != self.network_hash_:
            raise InputError(
                f"The network of checkpoint={self.checkpoint!r} is not the one that this encoder "
                "was fitted with. Fit it again."
            )
        chosen = slice(None) if targets is None else np.atleast_1d(np.asarray(targets))
        responses = self.support_responses_[:, chosen]
        scale = Scale.of(responses)
        written = _written(network, self.support_embeddings_, responses, scale, attention=True)
        return np.asarray(written.attention.cpu().numpy())


def _written(
    network: InContextNetwork, embeddings: Float, responses: Float, scale: Scale, *, attention: bool
) -> HyperWeights:
    device = network.centre.device
    return hyper_weights(
        network,
        torch.from_numpy(embeddings).to(device),
        torch.from_numpy(scale.apply(responses)).to(device),
        attention=attention,
    )


def _check_responses(responses: Float, n_images: int) -> None:
    if responses.ndim != 2 or len(responses) != n_images or not responses.size:
        raise InputError(
            f"There are {n_images} images but responses of shape {responses.shape}; one row of "
            "responses is needed for each image."
        )
    if n_images < 2:
        raise InputError("A support set needs at least 2 images; got 1.")
    unfit = ~np.isfinite(responses).all(axis=0)
    constant = ~unfit & (np.ptp(responses, axis=0) == 0)
    for bad, what in ((unfit, "hold NaN or infinities"), (constant, "are constant")):
        if bad.any():
            raise InputError(
                f"{int(bad.sum())} of {responses.shape[1]} targets {what} over the support images, "
                f"the first of them number {int(np.flatnonzero(bad)[0])}; leave them out."
            )


def _warn_of_length(n_images: int, origin: Origin) -> None:
    low, high = origin.context
    if n_images > high > 0:
        warnings.warn(
            f"The support set has {n_images} images; the network was trained with {low} to {high}. "
            "With more than that its weights may be worse than they could be.",
            stacklevel=3,
        )
