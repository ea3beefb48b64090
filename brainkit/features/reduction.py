"""Fewer features: sparse random projection and principal components of large layers.

*Sparse random projection* keeps the stimuli's distances and has nothing to fit. It is for layers
too large to keep: each batch is projected as it leaves the model, and the layer itself
is never stored. By the lemma of Johnson and Lindenstrauss (1984), k random directions keep all
squared distances among n stimuli within a factor 1 ± ε for k of the order of
4 ln n / (ε²/2 - ε³/3), whatever the number of features.

*Principal components* are those of the training stimuli alone, of features that need not fit in
memory. The rows are read a block at a time, from a memory map as the feature store returns it. Up
to 4,000 features, their covariance is summed and the components are exact. Beyond that, the leading
components of what was read so far are merged with each new block (Ross, Lim, Lin and Yang 2008,
Int. J. Comput. Vis. 77:125); what each merge cuts off lies below the components that are kept, so
the leading ones are close to exact. For much larger layers, `SparseProjection` comes first.
"""

import hashlib
import math
from collections.abc import Iterator
from numbers import Integral
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from brainkit.arrays.array_likes import as_array
from brainkit.arrays.seeds import rng
from brainkit.errors import InputError, listed

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Float = NDArray[np.float32]
EXACT_SIZE = 4000  # on the smaller side; beyond it a few components are found by iteration
RANK_TOLERANCE = 1e-10  # of variance: 1e-5 of the spread, what single precision still tells apart
ROWS_BYTES = 256 << 20
SPARE = 0.25  # directions carried along beyond those asked for, as a share of them
LEAST_SPARE = 20
PRODUCT_BYTES = 64 << 20


def feature_array(X: Any) -> NDArray[Any]:
    """Return features as an array (n, ...), read no further than their shape where they are mapped.

    Raises
    ------
    InputError
        If they are no array, masked or sparse, hold anything but real numbers, have no rows or no
        features, or are not one row a stimulus.
    """
    features: Any = X if _is_lazy(X) else np.asarray(as_array(X, "The table of features (n, ...)"))
    if features.ndim < 2:
        raise InputError(
            f"Features are (n, ...), one row a stimulus; got shape {features.shape}. Reshape your "
            "data with X.reshape(-1, 1) if it is one feature, or X.reshape(1, -1) if one stimulus."
        )
    if features.dtype.kind == "O":
        features = _from_objects(features)
    if features.dtype.kind == "c":
        raise InputError("Complex data not supported: features are real numbers.")
    if features.dtype.kind not in "biuf":
        raise InputError(f"Features are real numbers; got {features.dtype}.")
    if not len(features):
        raise InputError(
            f"Found array with 0 sample(s) (shape={features.shape}) while a minimum of 1 is "
            "required: features of one stimulus at least."
        )
    if not math.prod(features.shape[1:]):
        raise InputError(
            f"0 feature(s) (shape={features.shape}) while a minimum of 1 is required: features are "
            "(n, ...) with at least one each."
        )
    array: NDArray[Any] = features
    return array


def _is_lazy(X: Any) -> bool:
    """Tell whether X is array-like without being in memory, such as a dataset in an HDF5 file."""
    known = isinstance(X, np.ndarray | pd.Series) and not isinstance(X, np.memmap)
    lazy = hasattr(X, "shape") and hasattr(X, "dtype") and hasattr(X, "ndim")
    return lazy and not (known or hasattr(X, "detach") or hasattr(X, "tocsr"))


def _from_objects(features: Any) -> NDArray[np.float64]:
    if any(isinstance(value, complex) for value in np.asarray(features).flat):
        raise InputError("Complex data not supported: features are real numbers.")
    try:
        return np.asarray(features).astype(np.float64)
    except ValueError as error:  # text; what is no number at all is a TypeError as it stands
        raise InputError(f"Features are real numbers; got objects: {error}") from error


def finite(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a block of features.

    Raises
    ------
    InputError
        If it holds NaN or infinity.
    """
    if not np.isfinite(block).all():
        raise InputError(
            "The features hold NaN or infinity, or exceed single precision, so that nothing can be "
            "computed of them. Extract them again, as float32 if they were float16."
        )
    return block


def check_width(transformer: Any, features: NDArray[Any], width: int) -> None:
    """Raise unless features have as many values a row as a transformer was fitted to.

    Raises
    ------
    InputError
    """
    n_features = math.prod(features.shape[1:])
    if n_features != width:
        raise InputError(
            f"X has {n_features} features, but {type(transformer).__name__} is expecting {width} "
            f"features as input; got an array of shape {features.shape}."
        )


def check_count(name: str, value: Any) -> None:
    """Raise unless a parameter is a whole number from 1.

    Raises
    ------
    InputError
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise InputError(f"{name} must be at least 1, a whole number; got {value!r}.")


class Reduction(Protocol):
    """From features, (n, ...), to fewer, (n, components), row by row: what `extract` can apply."""

    def transform(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return the components of some rows."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return what the components depend on, as JSON."""
        ...


def check_reduction(reduce: Any) -> None:
    """Raise `InputError` unless this is None or can reduce features."""
    if reduce is None:
        return
    if isinstance(reduce, type) or not (
        hasattr(reduce, "transform") and hasattr(reduce, "identity")
    ):
        raise InputError(
            "reduce takes a SparseProjection(...) or a fitted FeaturePCA(...), whose settings "
            f"become part of a stored feature's address; got {reduce!r}."
        )
    reduce.identity()  # raises where it is not fitted


def principal_axes(centred: NDArray[Any], n_components: int) -> tuple[Float, Float]:
    """Return the leading principal axes (n_components, n_features) and their variances.

    By the eigenvectors of the smaller of the two Gram matrices, in double precision; for a few
    components of large matrices, by subspace iteration. The sign of an axis makes its largest
    weight positive, so that it does not depend on the library. There are fewer axes where the
    samples vary in fewer directions.
    """
    n_samples, n_features = centred.shape
    if min(n_samples, n_features) > EXACT_SIZE and n_components * 10 < min(n_samples, n_features):
        axes, values = _randomised(centred, n_components)
    else:
        axes, values = _exact(centred.astype(np.float64), n_components)
    return settle_axes(axes, values, n_samples)


def settle_axes(axes: NDArray[Any], values: NDArray[Any], n_samples: int) -> tuple[Float, Float]:
    """Return axes at unit length, with settled signs, and their variances.

    Parameters
    ----------
    axes : array (n_components, n_features)
        Leading eigenvectors of the scatter matrix, of any length and sign.
    values : array (n_eigenvalues,)
        Eigenvalues, largest first; the axes' own come first.
    n_samples : int
        Number of samples that the scatter is summed over.
    """
    n_components = len(axes)
    n_directions = int((values > values[0] * RANK_TOLERANCE).sum())
    axes, values = axes[:n_directions], values[:n_directions]
    axes = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    largest = np.argmax(np.abs(axes), axis=1)
    axes = axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]
    variances = np.maximum(values[:n_components], 0) / max(n_samples - 1, 1)
    return axes.astype(np.float32), variances.astype(np.float32)


def _exact(wide: NDArray[np.float64], n_components: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return leading axes, not normalised, and all eigenvalues, largest first."""
    if len(wide) <= wide.shape[1]:
        values, vectors = np.linalg.eigh(wide @ wide.T)  # (n_images, n_images)
        return vectors.T[::-1][:n_components] @ wide, values[::-1]
    values, vectors = np.linalg.eigh(wide.T @ wide)  # (pixels, pixels)
    return vectors.T[::-1][:n_components], values[::-1]


def _randomised(centred: NDArray[Any], n_components: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return leading axes and eigenvalues by subspace iteration with a fixed seed.

    Halko, Martinsson and Tropp (2011), SIAM Review 53:217.
    """
    from sklearn.utils.extmath import randomized_svd

    _, singular, axes = randomized_svd(
        centred, n_components, n_oversamples=20, n_iter=6, random_state=0
    )
    return axes.astype(np.float64), singular.astype(np.float64) ** 2


def projection_matrix(
    n_features: int, n_components: int, seed: int, density: float | None = None
) -> "csr_array":
    """Draw a very sparse random matrix.

    Every entry is, independently, ±1 / √(density · n_components) with the probability `density`,
    half of them positive, and 0 else (Achlioptas 2003, J. Comput. Syst. Sci. 66:671; Li, Hastie
    and Church 2006, KDD: density 1/√n_features).

    Parameters
    ----------
    n_features, n_components : int
        Features before and after.
    seed : int
        Seed of the weights, whose stream depends on both numbers too.
    density : float, optional
        Share of weights that are not 0, in (0, 1]; it is 1/√n_features where not given.

    Returns
    -------
    scipy.sparse.csr_array (n_components, n_features), float32
    """
    from scipy.sparse import csr_array

    density = 1 / math.sqrt(n_features) if density is None else density
    if n_features < 1 or n_components < 1 or not 0 < density <= 1:
        raise InputError(
            "A projection needs at least one feature and component and a density in (0, 1]; got "
            f"n_features={n_features}, n_components={n_components}, density={density}."
        )
    generator = rng(seed, "sparse-projection", n_features, n_components)
    filled = _bernoulli_positions(generator, n_features * n_components, density)
    values = np.where(generator.random(len(filled)) < 0.5, -1.0, 1.0)
    values /= math.sqrt(density * n_components)
    rows, columns = np.divmod(filled, n_features)
    starts = np.searchsorted(rows, np.arange(n_components + 1))
    parts = (values.astype(np.float32), columns, starts)
    return csr_array(parts, shape=(n_components, n_features))


def _bernoulli_positions(
    generator: np.random.Generator, length: int, density: float
) -> NDArray[np.int64]:
    """Return where a long row of independent draws succeeds, from the gaps in between.

    The gaps are geometric; drawing them takes memory for the successes alone.
    """
    if density == 1:
        return np.arange(length)
    drawn, last = [], -1
    while last < length:
        n_expected = int((length - last) * density) + 100
        gaps = np.log1p(-generator.random(n_expected)) / math.log1p(-density)
        drawn.append(last + np.cumsum(gaps.astype(np.int64) + 1))
        last = int(drawn[-1][-1])
    positions = np.concatenate(drawn)
    return positions[positions < length]


class SparseProjection(TransformerMixin, BaseEstimator):
    """Project features, of any shape, onto a few random sparse directions.

    Nothing is learnt: the matrix follows from the seed and the number of features, so that it is
    the same for every batch, part and machine, and only the parameters are saved.

    Parameters
    ----------
    n_components : int, default=2000
        Features to make.
    seed : int, default=0
        Seed of the directions.
    density : float, optional
        Share of entries that are not 0; 1/√(number of features) where not given.

    Attributes
    ----------
    n_features_in_ : int
        Number of features that `fit` saw; without `fit`, any number is taken.
    """

    def __init__(
        self, n_components: int = 2000, seed: int = 0, density: float | None = None
    ) -> None:
        self.n_components = n_components
        self.seed = seed
        self.density = density

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Note the number of features; there is nothing else to fit.

        Raises
        ------
        InputError
            If X is no table of real numbers, or a parameter is out of range.
        """
        features = feature_array(X)
        check_count("n_components", self.n_components)
        self.n_features_in_ = math.prod(features.shape[1:])
        for start, stop in self._steps(features):
            finite(np.asarray(features[start:stop], dtype=np.float32))
        self._matrix_for(self.n_features_in_)
        return self

    def transform(self, X: ArrayLike) -> Float:
        """Return the projections, (n, n_components).

        Parameters
        ----------
        X : array (n, ...)
            All axes but the first are taken as one; a memory map is read a block at a time.

        Raises
        ------
        InputError
            If the number of features is not that of `fit`, or X holds NaN, infinity, or what is no
            real number.
        """
        features = feature_array(X)
        check_count("n_components", self.n_components)
        width = math.prod(features.shape[1:])
        check_width(self, features, getattr(self, "n_features_in_", width))
        matrix = self._matrix_for(width)
        projected = np.empty((len(features), self.n_components), dtype=np.float32)
        for start, stop in self._steps(features):
            block = finite(np.asarray(features[start:stop], dtype=np.float32))
            # (block, n_components)
            projected[start:stop] = (matrix @ block.reshape(len(block), -1).T).T
        return projected

    @staticmethod
    def _steps(features: NDArray[Any]) -> Iterator[tuple[int, int]]:
        """Cut the rows into blocks of bounded size."""
        step = max(PRODUCT_BYTES // (4 * math.prod(features.shape[1:])), 1)
        for start in range(0, len(features), step):
            yield start, min(start + step, len(features))

    def _matrix_for(self, width: int) -> "csr_array":
        wanted = (width, self.n_components, self.seed, self.density)
        drawn = getattr(self, "_drawn", None)
        if drawn is None or drawn[0] != wanted:
            self._drawn = drawn = (wanted, projection_matrix(*wanted))
        return drawn[1]

    def identity(self) -> dict[str, Any]:
        """Return what the projections depend on, as JSON: part of a stored feature's key."""
        return {"reduction": "sparse-projection", **self.get_params()}

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


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
    step = max(ROWS_BYTES // (4 * width), least)
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
        scatter += centred.T @ centred  # (n_features, n_features)
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
