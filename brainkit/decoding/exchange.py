"""The null of a brain that saw something else: images exchanged between responses."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from brainkit.decoding.ridge import RidgeDecoder

Array = NDArray[Any]


def exchanged(rows: ArrayLike, generator: np.random.Generator) -> NDArray[np.int64]:
    """Exchange images between responses.

    Parameters
    ----------
    rows : array of int (n,)
        Stimulus row of each response; an image may have several.
    generator : numpy.random.Generator

    Returns
    -------
    array of int (n,)
        For each response one that another image evoked, the same image for all responses to an
        image: none is then on both sides of a fold, neither by what evoked it nor by what it is
        told to have been evoked by. By chance an image may keep its own.
    """
    _, first, image = np.unique(np.asarray(rows), return_index=True, return_inverse=True)
    order = np.argsort(generator.permutation(len(first)))
    return np.asarray(first[order][image], dtype=np.int64)


def fit_with_null(
    model: Any, X: Array, Z: Array, *, groups: ArrayLike, exchange: Array
) -> tuple[Any, Any]:
    """Fit clones of a model to responses: to what evoked them, and to what did not.

    Parameters
    ----------
    model : estimator
    X : array (n_samples, n_units)
        Responses.
    Z : array (n_samples, n_features)
        Features of the images that evoked them.
    groups : array (n_samples,)
        Samples of one group stay in one fold.
    exchange : array of int (n_samples,)
        See `exchanged`.

    Returns
    -------
    fitted, null : estimators
        The second is fitted to ``Z[exchange]``. A `RidgeDecoder` decomposes the responses once
        for both.
    """
    fitted = clone(model)
    if type(fitted) is RidgeDecoder and fitted.shares_decompositions:
        return fitted, fitted.fit_with_null(X, Z, exchange, groups=groups)
    fitted.fit(X, Z, groups=groups)
    return fitted, clone(model).fit(X, Z[exchange], groups=groups)
