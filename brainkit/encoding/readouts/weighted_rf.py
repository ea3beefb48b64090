"""The feature-weighted receptive field as an estimator."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from brainkit.arrays.array_likes import unmasked
from brainkit.arrays.devices import pick_device
from brainkit.encoding.deep.rows import (
    CHUNK_BYTES,
    Float,
    as_targets,
    as_tokens,
    check_varying,
    chunks,
    resolve_grid,
)
from brainkit.encoding.readouts.fields import Fields, feature_weighted_rf, field_grid
from brainkit.evaluation.response_scores import r2
from brainkit.linear.folds import kfold
from brainkit.linear.targets import checked_penalties

DEFAULT_ALPHAS = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)


class FeatureWeightedRF(MultiOutputMixin, RegressorMixin, BaseEstimator):
    r"""Encoder with a pRF from a grid and ridge weights of the features pooled in it.

    :math:`\hat y_v = b_v + \sum_c f_{vc} \sum_t w^{k(v)}_t X_{tc}` with the Gaussian field
    :math:`k(v)` (place and size) and the penalty that predict the held-out parts of a K-fold
    cross-validation within the training data best. See `brainkit.encoding.readouts.fields`;
    memory holds a few pooled feature sets.

    Parameters
    ----------
    alphas : sequence of float
        Candidate penalties, positive; of features pooled and scaled to unit variance.
    n_positions : int, default=9
        Candidate centres along the width of the image, evenly spaced; along the height alike.
    n_sizes : int, default=4
        Candidate sizes, each a constant ratio above the one before.
    smallest, largest : float, optional
        Sizes, in fractions of the width; from half a token to .4.
    cv : int, default=5
        Folds by which field and penalty are chosen; `groups` given to `fit` stay whole.
    grid : (int, int), optional
        Rows and columns of the map; a square where not given.
    field_of_view : float, optional
        Width of the image in degrees of visual angle.
    device : str, default="auto"
        A GPU if there is one.
    progress : bool, default=True
        Show how far it is while it takes longer than two seconds.

    Attributes
    ----------
    prf_x_, prf_y_, prf_size_ : arrays (n_targets,)
        Centre and standard deviation: in degrees from the image's centre, y up, if
        `field_of_view` is given; else in fractions of the width from the top left, y down.
    coef_ : array (n_targets, n_features)
        Of the features pooled in the target's field.
    intercept_, alpha_ : arrays (n_targets,)
    cv_r2_ : array (n_targets,)
        Held-out R² of the chosen field and penalty, within the training data; biased upwards,
        since the best of many was chosen by it.
    field_ : dict of str to array
        Each target's field in fractions of the width: x, y, size.
    grid_ : (int, int)
    device_, dtype_ : str
        What the search ran on and in.
    n_features_in_, n_tokens_ : int

    References
    ----------
    St-Yves and Naselaris (2018). The feature-weighted receptive field: an interpretable encoding
    model for complex feature spaces. NeuroImage 180:188.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit.encoding.readouts import FeatureWeightedRF
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 64, 5))  # maps of 8 × 8
    >>> Y = X[:, [9, 54]].sum(axis=2)  # at the second row and column; at the seventh of both
    >>> model = FeatureWeightedRF(n_positions=8, n_sizes=2).fit(X, Y)
    >>> model.prf_x_.tolist(), model.prf_y_.tolist()
    ([0.1875, 0.8125], [0.1875, 0.8125])
    """

    def __init__(
        self,
        alphas: Sequence[float] = DEFAULT_ALPHAS,
        *,
        n_positions: int = 9,
        n_sizes: int = 4,
        smallest: float | None = None,
        largest: float = 0.4,
        cv: int = 5,
        grid: tuple[int, int] | None = None,
        field_of_view: float | None = None,
        device: str = "auto",
        progress: bool = True,
    ) -> None:
        self.alphas = alphas
        self.n_positions = n_positions
        self.n_sizes = n_sizes
        self.smallest = smallest
        self.largest = largest
        self.cv = cv
        self.grid = grid
        self.field_of_view = field_of_view
        self.device = device
        self.progress = progress

    def fit(
        self,
        X: Any,
        Y: ArrayLike,
        groups: ArrayLike | None = None,
        runs: ArrayLike | None = None,
    ) -> Self:
        """Choose fields and penalties, and solve for the weights.

        Parameters
        ----------
        X : array (n_samples, n_tokens, n_features)
            The tokens of a map, row by row; may be a memory map.
        Y : array (n_samples, n_targets) or (n_samples,)
        groups : array (n_samples,), optional
            Samples of one group, such as the repeats of an image, stay in one fold.
        runs : array (n_samples,), optional
            Used as groups where none are given.

        Returns
        -------
        self

        Raises
        ------
        InputError
            If the data hold NaN, a target is constant, the tokens make no map, rows do not match,
            a parameter is out of range, or there is no such device.
        """
        alphas = checked_penalties(self.alphas)
        tokens = as_tokens(X)
        targets = as_targets(Y, len(tokens))
        n_samples, self.n_tokens_, self.n_features_in_ = (int(size) for size in tokens.shape)
        self.grid_ = resolve_grid(self.grid, self.n_tokens_)
        candidates = field_grid(
            self.grid_, self.n_positions, self.n_sizes, self.smallest, self.largest
        )
        rows = np.arange(n_samples)
        check_varying(targets, rows)
        folds = kfold(n_samples, self.cv, groups=runs if groups is None else groups)
        device = pick_device(self.device)
        fit = feature_weighted_rf(
            tokens, targets, candidates, self.grid_,
            rows=rows, folds=folds, alphas=alphas, device=device, progress=self.progress,
        )  # fmt: skip
        chosen = candidates.take(fit.field)
        self.field_ = {"x": chosen.x, "y": chosen.y, "size": chosen.size}
        self.prf_x_, self.prf_y_, self.prf_size_ = chosen.measured(self.grid_, self.field_of_view)
        self.coef_, self.intercept_, self.alpha_ = fit.coef, fit.intercept, fit.alpha
        self.cv_r2_ = 1 - fit.error / np.where(fit.total > 0, fit.total, np.nan)
        self.device_, self.dtype_ = str(device), "float32"
        self.single_target_ = np.ndim(Y) == 1
        return self

    def predict(self, X: Any) -> Float:
        """Predict the responses, a few rows at a time.

        Parameters
        ----------
        X : array (n_samples, n_tokens, n_features)

        Returns
        -------
        float32 array (n_samples, n_targets), or (n_samples,) if fitted so
        """
        check_is_fitted(self)
        tokens = as_tokens(X, self.n_tokens_, self.n_features_in_)
        fields = np.stack([self.field_[name] for name in ("x", "y", "size")], axis=1)
        distinct, which = np.unique(fields, axis=0, return_inverse=True)
        weights = Fields(*(column.copy() for column in distinct.T)).weights(self.grid_)
        targets = [np.flatnonzero(which.ravel() == number) for number in range(len(distinct))]
        predicted = np.empty((len(tokens), len(self.coef_)), dtype=np.float32)
        widest = max(len(distinct), self.n_tokens_)
        at_once = max(1, CHUNK_BYTES // (4 * widest * self.n_features_in_))
        for rows, values in chunks(tokens, np.arange(len(tokens)), at_once):
            pooled = torch.matmul(weights, torch.from_numpy(values)).numpy()
            for number, columns in enumerate(targets):
                part = pooled[:, number] @ self.coef_[columns].T + self.intercept_[columns]
                predicted[np.ix_(rows, columns)] = part
        return predicted[:, 0] if self.single_target_ else predicted

    def score_targets(self, X: Any, Y: ArrayLike) -> NDArray[np.float64]:
        """Return R² of each target, (n_targets,); NaN for a constant one."""
        predicted = self.predict(X).reshape(len(X), -1)
        truth = np.asarray(unmasked(Y, "Y")).reshape(len(X), -1)
        return np.asarray(r2(truth, predicted), dtype=np.float64)

    def score(self, X: Any, Y: ArrayLike) -> float:
        """Return the mean over targets of `score_targets`; NaN if all targets are constant."""
        scores = self.score_targets(X, Y)
        scores = scores[np.isfinite(scores)]
        return float(scores.mean()) if scores.size else float("nan")
