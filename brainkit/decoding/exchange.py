"""The null of a brain that saw something else: images exchanged between responses."""

from typing import Any

from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from brainkit.decoding.ridge import RidgeDecoder
from brainkit.errors import PenaltyWarning, told_once
from brainkit.linear.ridge_estimator import fit_rows

Array = NDArray[Any]


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
        For each response another one, whose image it is now said to have been evoked by; see
        `brainkit.data.dependence.Rows.exchanged`.

    Returns
    -------
    fitted, null : estimators
        The second is fitted to ``Z[exchange]``. A `RidgeDecoder` decomposes the responses once
        for both.
    """
    fitted = clone(model)
    if type(fitted) is RidgeDecoder and fitted.shares_decompositions:
        return fitted, fitted.fit_with_null(X, Z, exchange, groups=groups)
    fit_rows(fitted, X, Z, groups=groups)
    with told_once(PenaltyWarning, silent=True):
        return fitted, fit_rows(clone(model), X, Z[exchange], groups=groups)
