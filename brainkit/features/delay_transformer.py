"""Delayed copies of features as a transformer, for recordings of continuous time."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from brainkit.errors import InputError
from brainkit.linear.delays import checked_delays, contiguous_spans, delay
from brainkit.linear.ridge_estimator import validated


class Delays(TransformerMixin, BaseEstimator):
    """Delayed copies of features, side by side, which never hold samples of another stretch.

    See `brainkit.linear.delays`. Runs and times are those of the rows at hand, so they are given
    with the rows: to `fit_transform` and to `transform`. In a scikit-learn pipeline they come by
    metadata routing (see the example). Where rows may be missing within a run, as in the training
    part of a cross-validation, give their times, such as their numbers in the recording: labels of
    runs do not show a hole. Once fitted with runs or times, the transformer does not delay rows
    without.

    Parameters
    ----------
    delays : sequence of int, default=(1, 2, 3, 4)
        Delays in samples; negative ones look ahead.
    bands : sequence of int, optional
        Number of features of each feature space, in the order of their columns: all delays of one
        then stand together, as banded models need them. One space where not given.

    Attributes
    ----------
    n_features_in_ : int
    widths_ : list of int
        Number of delayed features of each space.
    runs_given_, times_given_ : bool
        Whether it was fitted with runs, and with times.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit.features import Delays
    >>> Delays([0, 1]).fit_transform(np.array([[1], [2], [3], [4]]), runs=[1, 1, 2, 2])
    array([[1., 0.],
           [2., 1.],
           [3., 0.],
           [4., 3.]])

    Rows 3 and 4 are missing, so that row 5 has none before it:

    >>> Delays([0, 1]).fit_transform(np.array([[1], [2], [5]]), times=[1, 2, 5])
    array([[1., 0.],
           [2., 1.],
           [5., 0.]])

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

    def __init__(
        self, delays: Sequence[int] = (1, 2, 3, 4), bands: Sequence[int] | None = None
    ) -> None:
        self.delays = delays
        self.bands = bands

    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        runs: ArrayLike | None = None,
        times: ArrayLike | None = None,
    ) -> Self:
        """Note the number of features, and whether there are runs and times.

        Raises
        ------
        InputError
            If the delays are no whole numbers, or runs or times do not fit X.
        """
        samples = validated(self, X, dtype=[np.float64, np.float32])
        checked_delays(self.delays)
        contiguous_spans(runs, times, len(samples))
        self.runs_given_, self.times_given_ = runs is not None, times is not None
        bands = [samples.shape[1]] if self.bands is None else [int(one) for one in self.bands]
        if sum(bands) != samples.shape[1] or min(bands, default=0) < 1:
            raise InputError(
                f"bands={self.bands} are numbers of features that sum up to those of X, which are "
                f"{samples.shape[1]}."
            )
        self.widths_ = [width * len(self.delays) for width in bands]
        return self

    def transform(
        self, X: ArrayLike, runs: ArrayLike | None = None, times: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Return the delayed features, (n_samples, n_delays · n_features), band by band.

        Parameters
        ----------
        X : array (n_samples, n_features)
            Features in order of time.
        runs : array (n_samples,), optional
            Run of each sample; one run where not given.
        times : array (n_samples,), optional
            Time at which each sample was taken, in whole numbers of samples or in any unit of time.

        Raises
        ------
        InputError
            If runs or times are missing though it was fitted with some, or do not fit X.
        """
        check_is_fitted(self)
        samples = validated(self, X, dtype=[np.float64, np.float32], reset=False)
        if self.runs_given_ and runs is None:
            raise InputError(
                f"These delays were fitted with runs, and {len(samples)} rows came without: give "
                f"the runs of these rows (runs=np.zeros({len(samples)}) if they are one run)."
            )
        if self.times_given_ and times is None:
            raise InputError(
                f"These delays were fitted with times, and {len(samples)} rows came without: give "
                f"the times of these rows (times=np.arange({len(samples)}) if none is missing)."
            )
        ends = np.cumsum(self.widths_) // len(self.delays)
        parts = [
            delay(part, self.delays, runs, times)
            for part in np.split(samples, ends[:-1].tolist(), axis=1)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def fit_transform(
        self,
        X: ArrayLike,
        y: object = None,
        runs: ArrayLike | None = None,
        times: ArrayLike | None = None,
    ) -> NDArray[Any]:
        """Fit and transform the same rows, with the same runs and times."""
        return self.fit(X, y, runs=runs, times=times).transform(X, runs=runs, times=times)
