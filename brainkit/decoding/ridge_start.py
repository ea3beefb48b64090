"""People's layers fitted in closed form, before anything that people share is trained."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from brainkit.errors import InputError
from brainkit.linear.folds import kfold
from brainkit.linear.out_of_fold import StackedRidge, stacked_ridge

Array = NDArray[Any]
Float = NDArray[np.float32]


def fit_layer(
    subject: str, X: Float, goal: Float, images: Array, alphas: tuple[float, ...], cv: int
) -> StackedRidge:
    """Fit a person's linear layer in closed form, see `stacked_ridge`; images stay in one fold.

    Raises
    ------
    InputError
        If there are too few images for the folds.
    """
    n_images = len(np.unique(images))
    if n_images < 2 * cv:
        raise InputError(
            f"{subject!r} has {n_images} images to learn a layer from, and cv={cv} folds want "
            f"{2 * cv} at least: give more trials, or fewer folds."
        )
    return stacked_ridge(X, goal, alphas, kfold(len(X), cv, groups=images))


@dataclass(frozen=True, eq=False)
class SharedVectors:
    """What people's layers give of each image, out of fold: what a new person's layer is fitted to.

    Attributes
    ----------
    images : array of int (n_images,)
        Ascending.
    vectors : array (n_images, width)
        Means over people.
    spread : float
        Standard deviation of one person's vectors, over images and dimensions.
    """

    images: Array
    vectors: Float
    spread: float

    @classmethod
    def of(cls, vectors: Float, images: Array) -> Self:
        """Average rows (n, width) of several people by image."""
        known, row = np.unique(images, return_inverse=True)
        sums = np.zeros((len(known), vectors.shape[1]))
        np.add.at(sums, row, vectors)
        mean = (sums / np.bincount(row)[:, None]).astype(np.float32)
        return cls(known, mean, float(np.sqrt(vectors.var(axis=0, dtype=np.float64).mean())))

    def fit_new(
        self,
        subject: str,
        X: Float,
        targets: Float,
        images: Array,
        alphas: tuple[float, ...],
        cv: int,
    ) -> StackedRidge:
        """Fit a new person's layer to what those of others give for the same images.

        That is closer to what a brain tells of an image than its embedding is. Where few trials
        predict it, predictions are less spread than those that all that comes after was trained on:
        one factor makes up for it. Where too few of the images are known, the layer is fitted to
        their embeddings, with the same factor.

        Parameters
        ----------
        subject : str
        X : array (n, n_units)
        targets : array (n, width)
            Standardised embeddings.
        images : array of int (n,)
        alphas, cv
            See `fit_layer`.
        """
        known, goal = np.isin(images, self.images), targets
        if len(np.unique(images[known])) >= 2 * cv:
            X, images = X[known], images[known]
            goal = self.vectors[np.searchsorted(self.images, images)]
        fit = fit_layer(subject, X, goal, images, alphas, cv)
        centre = fit.predictions.mean(axis=0, dtype=np.float64)
        spread = float(np.sqrt(fit.predictions.var(axis=0, dtype=np.float64).mean()))
        gain = self.spread / spread if spread > 0 else 1.0
        intercept = (centre + gain * (fit.intercept - centre)).astype(np.float32)
        coef = np.asarray(gain * fit.coef, dtype=np.float32)
        return replace(fit, coef=coef, intercept=intercept)
