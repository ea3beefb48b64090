"""Principal components of features that do not fit in memory, from the training stimuli alone.

The rows are read a block at a time, from a memory map as the feature store returns it. Up to 4,000
features, their covariance is summed and the components are exact. Beyond that, the leading
components of what was read so far are merged with each new block (Ross, Lim, Lin and Yang 2008,
Int. J. Comput. Vis. 77:125); what each merge cuts off lies below the components that are kept, so
the leading ones are close to exact. For much larger layers, `SparseProjection` comes first.
"""

import hashlib
import math
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from brainkit.errors import InputError, listed
from brainkit.features.arrays import check_count, check_width, feature_array, finite
from brainkit.features.pixels import EXACT_SIZE, principal_axes, settle_axes

Float = NDArray[np.float32]
BLOCK_BYTES = 256 << 20
SPARE = 0.25  # directions carried along beyond those asked for, as a share of them
LEAST_SPARE = 20


class FeaturePCA(TransformerMixin, BaseEstimator):
    """Principal components of features, (n, ...), fitted on given rows.

    Parameters
    ----------
    n_components : int, default=1000
        Components to keep; fewer where the training rows vary in fewer directions.

    Attributes
    ----------
    mean_ : array (n_features,)
        Mean of the training rows.
    components_ : array (n_components, n_features)
        Orthonormal axes, the largest weight of each positive.
    explained_variance_ : array (n_components,)
    kept_variance_ : float
        Share of the training variance that is kept.
    """

    def __init__(self, n_components: int = 1000) -> None:
        self.n_components = n_components

    def fit(self, X: ArrayLike, y: object = None, *, rows: ArrayLike | None = None) -> Self:
        """Fit on the training rows.

        Parameters
        ----------
        X : array (n, ...)
            Features of all stimuli, in memory or mapped; all axes but the first are taken as one.
        rows : array of int, optional
            The training stimuli; all where not given. Other rows are not read.

        Raises
        ------
        InputError
            If rows do not exist or repeat, or the features are too few, constant, or not finite.
        """
        features = feature_array(X)
        check_count("n_components", self.n_components)
        chosen = _checked_rows(features, rows)
        width = math.prod(features.shape[1:])
        self.n_features_in_ = width
        n_kept = min(self.n_components, width, len(chosen) - 1)
        if width <= EXACT_SIZE:
            mean, axes, variances, total = _by_covariance(features, chosen, n_kept)
        else:
            mean, axes, variances, total = _by_merging(features, chosen, n_kept)
        if not len(axes):
            raise InputError(
                f"The features of the {len(chosen)} training stimuli are all the same, so they "
                "have no principal components."
            )
        self.mean_, self.components_ = mean.astype(np.float32), axes
        self.explained_variance_ = variances
        self.kept_variance_ = float(variances.sum(dtype=np.float64) * (len(chosen) - 1) / total)
        return self

    def transform(self, X: ArrayLike) -> Float:
        """Return the components' scores, (n, n_components), read a block at a time.

        Raises
        ------
        InputError
            If X has another number of features than in `fit`, or holds NaN or infinity.
        """
        check_is_fitted(self, "mean_")
        features = feature_array(X)
        check_width(self, features, len(self.mean_))
        scores = np.empty((len(features), len(self.components_)), dtype=np.float32)
        start = 0
        for block in _blocks(features, np.arange(len(features))):
            scores[start : start + len(block)] = (finite(block) - self.mean_) @ self.components_.T
            start += len(block)
        return scores

    def inverse_transform(self, X: ArrayLike) -> Float:
        """Return the features of given scores, (n, n_features)."""
        check_is_fitted(self, "mean_")
        scores = feature_array(X)
        if scores.ndim != 2 or scores.shape[1] != len(self.components_):
            raise InputError(
                f"Scores are (n, {len(self.components_)}), one for each component; got "
                f"{scores.shape}."
            )
        restored: Float = np.asarray(scores, dtype=np.float32) @ self.components_ + self.mean_
        return restored

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def identity(self) -> dict[str, Any]:
        """Return what the scores depend on, as JSON: part of a stored feature's key."""
        check_is_fitted(self, "mean_")
        digest = hashlib.sha256(self.mean_.tobytes() + self.components_.tobytes()).hexdigest()
        return {"reduction": "principal-components", "shape": list(self.components_.shape)} | {
            "sha256": digest
        }


def _checked_rows(features: NDArray[Any], rows: ArrayLike | None) -> NDArray[np.int64]:
    chosen = np.arange(len(features)) if rows is None else np.asarray(rows)
    if chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer):
        raise InputError(
            f"Training rows are a list of integers; got {chosen.dtype} of shape {chosen.shape}."
        )
    unique = np.unique(chosen)
    if len(unique) < 2 or len(unique) < len(chosen):
        raise InputError(
            f"At least two training rows are needed, each once; got n_samples={len(chosen)}, "
            f"{len(unique)} of them different."
        )
    if unique[0] < 0 or unique[-1] >= len(features):
        outside = unique[(unique < 0) | (unique >= len(features))]
        raise InputError(
            f"Training rows out of range: {listed(outside)}; there are {len(features)} rows."
        )
    return unique  # in the order of the file


def _blocks(
    features: NDArray[Any], rows: NDArray[np.int64], least: int = 1
) -> Iterator[NDArray[np.float32]]:
    """Read rows a block of bounded size at a time, as arrays (rows, n_features)."""
    width = math.prod(features.shape[1:])
    step = max(BLOCK_BYTES // (4 * width), least)
    for start in range(0, len(rows), step):
        block = np.asarray(features[rows[start : start + step]], dtype=np.float32)
        yield block.reshape(len(block), width)


Fitted = tuple[NDArray[np.float64], Float, Float, float]


def _by_covariance(features: NDArray[Any], rows: NDArray[np.int64], n_kept: int) -> Fitted:
    """Sum the scatter matrix in double precision; give mean, axes, variances, total scatter."""
    width = math.prod(features.shape[1:])
    mean = np.zeros(width)
    for block in _blocks(features, rows):
        mean += finite(block).sum(axis=0, dtype=np.float64) / len(rows)
    scatter = np.zeros((width, width))
    for block in _blocks(features, rows):
        centred = block - mean
        scatter += centred.T @ centred
    values, vectors = np.linalg.eigh(scatter)
    axes, variances = settle_axes(vectors.T[::-1][:n_kept], values[::-1], len(rows))
    return mean, axes, variances, float(np.trace(scatter))


def _by_merging(features: NDArray[Any], rows: NDArray[np.int64], n_kept: int) -> Fitted:
    """Merge the leading directions so far with each block; give what `_by_covariance` gives."""
    n_carried = n_kept + max(int(n_kept * SPARE), LEAST_SPARE)
    seen, total = 0, 0.0
    mean = np.zeros(math.prod(features.shape[1:]))
    scaled = np.zeros((0, len(mean)), dtype=np.float32)  # directions times root of their scatter
    for block in _blocks(features, rows, least=n_carried):
        block_mean = finite(block).mean(axis=0, dtype=np.float64)
        centred = block - block_mean.astype(np.float32)
        weight = seen * len(block) / (seen + len(block))
        shift = (np.sqrt(weight) * (mean - block_mean)).astype(np.float32)
        stacked = np.concatenate([scaled, centred, shift[None]])
        mean += (block_mean - mean) * (len(block) / (seen + len(block)))
        seen += len(block)
        total += float(np.square(centred, dtype=np.float64).sum() + shift @ shift)
        axes, variances = principal_axes(stacked, n_carried)
        scaled = axes * np.sqrt(variances * (len(stacked) - 1))[:, None]
    scale = (len(stacked) - 1) / (len(rows) - 1)
    return mean, axes[:n_kept], variances[:n_kept] * np.float32(scale), total
