"""Sparse random projection: fewer features that keep the stimuli's distances, with nothing to fit.

For layers too large to keep: each batch is projected as it leaves the model, and the layer itself
is never stored. By the lemma of Johnson and Lindenstrauss (1984), k random directions keep all
squared distances among n stimuli within a factor 1 ± ε for k of the order of
4 ln n / (ε²/2 - ε³/3), whatever the number of features.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from brainkit.arrays.seeds import rng
from brainkit.errors import InputError
from brainkit.features.arrays import check_count, check_width, feature_array, finite

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Float = NDArray[np.float32]
BLOCK_BYTES = 64 << 20


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
        Its stream depends on both numbers too.
    density : float, optional
        In (0, 1]; 1/√n_features where not given.

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
    found, last = [], -1
    while last < length:
        n_expected = int((length - last) * density) + 100
        gaps = np.log1p(-generator.random(n_expected)) / math.log1p(-density)
        found.append(last + np.cumsum(gaps.astype(np.int64) + 1))
        last = int(found[-1][-1])
    positions = np.concatenate(found)
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
            projected[start:stop] = (matrix @ block.reshape(len(block), -1).T).T
        return projected

    @staticmethod
    def _steps(features: NDArray[Any]) -> Iterator[tuple[int, int]]:
        """Cut the rows into blocks of bounded size."""
        step = max(BLOCK_BYTES // (4 * math.prod(features.shape[1:])), 1)
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
