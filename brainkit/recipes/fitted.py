"""What a run leaves behind to be used: features and model in one, from images or from responses.

``brainkit.load_estimator(run / "estimator")`` gives one of the two classes below.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from brainkit.data.preparing import prepare
from brainkit.decoding import DecodingResult
from brainkit.decoding.images import invert
from brainkit.encoding import EncodingResult
from brainkit.errors import InputError
from brainkit.synthesis import RankingProtocol, RankingResult

Array = NDArray[Any]


class ImageEncoder(BaseEstimator):
    """From images to the responses of all units.

    Parameters
    ----------
    features, model : fitted transformer and estimator
        From images to features, and from these to the responses of the usable units.
    usable : array of bool (units,)
        Units that the model was fitted on; the others are predicted as NaN.
    """

    def __init__(self, features: Any, model: Any, usable: Any) -> None:
        self.features = features
        self.model = model
        self.usable = usable

    def predict(self, images: Array) -> Array:
        """Predict the responses to images, (n, units), as the model was fitted on them.

        Where the recipe z-scores, predictions are in standard deviations of the training trials.
        """
        predicted = np.asarray(self.model.predict(self.features.transform(images)))
        whole = np.full((len(predicted), len(self.usable)), np.nan, dtype=predicted.dtype)
        whole[:, self.usable] = predicted
        return whole


class ImageDecoder(BaseEstimator):
    """From the responses of all units to features and images.

    Parameters
    ----------
    features, model : fitted transformer and estimator
        From images to features, and from the responses of the usable units to these.
    usable : array of bool (units,)
        Units that the model was fitted on.
    """

    def __init__(self, features: Any, model: Any, usable: Any) -> None:
        self.features = features
        self.model = model
        self.usable = usable

    def predict_features(self, responses: ArrayLike) -> Array:
        """Decode the features of what was shown, (n, features), from responses (n, units)."""
        values = np.asarray(responses)
        if values.ndim != 2 or values.shape[1] != len(self.usable):
            raise InputError(
                f"This decoder takes responses (n, {len(self.usable)}); got {values.shape}."
            )
        return np.asarray(self.model.predict(values[:, self.usable]))

    def predict(self, responses: ArrayLike) -> Array:
        """Decode images in [0, 1], (n, height, width[, 3]), through the features' inverse."""
        return np.asarray(invert(self.features, self.predict_features(responses)))


def fitted_part(
    result: EncodingResult | DecodingResult | RankingResult,
) -> ImageEncoder | ImageDecoder:
    """Return what a run fitted: on the first fold's training part, or the ranking encoder."""
    usable = usable_units(result)
    if isinstance(result, DecodingResult):
        return ImageDecoder(*result.fitted, usable)
    if isinstance(result, RankingResult):
        return ImageEncoder(result.encoder.features, result.encoder.model, usable)
    return ImageEncoder(*result.fitted, usable)


def usable_units(result: EncodingResult | DecodingResult | RankingResult) -> NDArray[np.bool_]:
    """Mask the units that the first fold's model was fitted on."""
    if isinstance(result, EncodingResult):
        return np.isfinite(result.predictions[0])  # the first item is of the first fold
    if not result.counts["constant_or_nan"]:
        return np.ones(result.counts["units"], dtype=bool)
    protocol = result.protocol
    seed = protocol.seed if isinstance(protocol, RankingProtocol) else protocol.seeds[0]
    return prepare(
        result.recording.split(protocol.split, seed=seed).folds[0],
        zscore=protocol.zscore,
        unseen=protocol.unseen,
        average_repeats=protocol.average_repeats,
    ).usable
