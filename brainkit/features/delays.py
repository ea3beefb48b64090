"""Delayed copies of features as a transformer, for recordings of continuous time."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from brainkit.errors import InputError
from brainkit.linear.delays import checked_delays, delay, run_spans


class Delays(TransformerMixin, BaseEstimator):
    """Delayed copies of features, side by side, which never hold samples of another run.

    See `brainkit.linear.delays`. The runs are those of the rows at hand, so they are given with the
    rows: to `fit_transform` and to `transform`. In a scikit-learn pipeline they come by metadata
    routing (see the example). Once fitted with runs, the transformer does not delay rows without.

    Parameters
    ----------
    delays : sequence of int, default=(1, 2, 3, 4)
        In samples; negative ones look ahead.

    Attributes
    ----------
    n_features_in_ : int
    runs_given_ : bool
        Whether it was fitted with runs.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit.features import Delays
    >>> Delays([0, 1]).fit_transform(np.array([[1], [2], [3], [4]]), runs=[1, 1, 2, 2])
    array([[1., 0.],
           [2., 1.],
           [3., 0.],
           [4., 3.]])

    In a pipeline, with runs for the delays and for whole runs in the folds of the ridge:

    >>> from sklearn import config_context
    >>> from sklearn.pipeline import make_pipeline
    >>> from brainkit.encoding import VoxelwiseRidge
    >>> X, runs = np.random.default_rng(0).normal(size=(60, 3)), np.repeat([1, 2, 3], 20)
    >>> with config_context(enable_metadata_routing=True):
    ...     delays = Delays().set_fit_request(runs=True).set_transform_request(runs=True)
    ...     ridge = VoxelwiseRidge(cv=3).set_fit_request(runs=True, groups=False)
    ...     model = make_pipeline(delays, ridge).fit(X, X, runs=runs)
    ...     model.predict(X[:20], runs=runs[:20]).shape
    (20, 3)
    """

    def __init__(self, delays: Sequence[int] = (1, 2, 3, 4)) -> None:
        self.delays = delays

    def fit(self, X: ArrayLike, y: object = None, runs: ArrayLike | None = None) -> Self:
        """Note the number of features, and whether there are runs.

        Raises
        ------
        InputError
            If the delays are no whole numbers, or runs do not fit X.
        """
        samples = validate_data(self, X, dtype=[np.float64, np.float32])
        checked_delays(self.delays)
        run_spans(runs, len(samples))
        self.runs_given_ = runs is not None
        return self

    def transform(self, X: ArrayLike, runs: ArrayLike | None = None) -> NDArray[Any]:
        """Return the delayed features, (n_samples, n_delays · n_features).

        Parameters
        ----------
        X : array (n_samples, n_features)
            Features in order of time.
        runs : array (n_samples,), optional
            Run of each sample; one run where not given.

        Raises
        ------
        InputError
            If runs are missing though it was fitted with some, or do not fit X.
        """
        check_is_fitted(self)
        samples = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        if self.runs_given_ and runs is None:
            raise InputError(
                f"These delays were fitted with runs, and {len(samples)} rows came without: give "
                f"the runs of these rows (runs=np.zeros({len(samples)}) if they are one run)."
            )
        delayed: NDArray[Any] = delay(samples, self.delays, runs)
        return delayed

    def fit_transform(
        self, X: ArrayLike, y: object = None, runs: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Fit and transform the same rows, with the same runs."""
        return self.fit(X, y, runs=runs).transform(X, runs=runs)
