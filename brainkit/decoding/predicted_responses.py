"""What decoding tells of *predicted* responses, and what it does not.

Responses that an encoder (or a generator of responses) predicts have no noise, and a decoder finds
images from them better than from measured ones. That is a property of the decoder and of the
absence of noise: a prediction may be retrieved perfectly and resemble the measured responses little
(traps T25 and T31). So the two retrievals stand side by side here, their difference is called the
decoder's bias, and how alike the responses are is said by voxels: correlation, and the ratio of
variances.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.array_likes import as_array
from brainkit.errors import InputError
from brainkit.evaluation.identification import (
    RETRIEVAL_DIRECTIONS,
    RetrievalDirection,
    retrieval_contest,
)
from brainkit.evaluation.intervals import Estimate
from brainkit.evaluation.response_scores import pearson_r


@dataclass(frozen=True)
class PredictedResponses:
    """Measured and predicted responses to the same images, decoded and compared.

    Attributes
    ----------
    from_measured, from_predicted : dict of str to Estimate
        By direction, the share of the other images that the right one beats, decoded from measured
        and from predicted responses; chance is .5.
    decoder_bias : dict of str to Estimate
        By direction, the second less the first, image by image. Above 0 where predictions decode
        better than the brain. It says nothing good of the encoder.
    r : array (n_units,)
        Correlation of predicted and measured responses over images.
    variance_ratio : array (n_units,)
        Variance of predicted over that of measured responses; NaN for a unit that was constant.
    """

    from_measured: dict[str, Estimate]
    from_predicted: dict[str, Estimate]
    decoder_bias: dict[str, Estimate]
    r: NDArray[np.float64]
    variance_ratio: NDArray[np.float64]

    def summary(self) -> dict[str, float]:
        """Return the means, each under a name that says what was decoded.

        No entry is a score of an encoder; ``predicted_response_r`` comes nearest to one.
        """
        values = {
            "predicted_response_r": float(np.nanmean(self.r)),
            "predicted_response_variance_ratio": float(np.nanmean(self.variance_ratio)),
        }
        for direction in self.decoder_bias:
            for name, estimates in (
                (f"retrieval_{direction}_from_measured_responses", self.from_measured),
                (f"retrieval_{direction}_from_predicted_responses", self.from_predicted),
                (f"decoder_bias_{direction}", self.decoder_bias),
            ):
                values[name] = float(estimates[direction].value)
        return values


def decode_predicted_responses(
    decoder: Any, measured: ArrayLike, predicted: ArrayLike, embeddings: ArrayLike, **rows: Any
) -> PredictedResponses:
    """Decode predicted responses beside the measured ones, which they are compared with.

    Parameters
    ----------
    decoder : fitted decoder of embeddings
        With `predict_standardised` and `retrieval_targets`, such as `ContrastiveDecoder`.
    measured : array (n_images, n_units)
        Responses to images that neither decoder nor encoder was fitted on.
    predicted : array (n_images, n_units)
        Predictions of them.
    embeddings : array (n_images, width)
        Of the images.
    **rows
        ``fold``, ``image``, ``units`` and ``training``, see
        `brainkit.evaluation.identification.contest`.

    Returns
    -------
    PredictedResponses

    Raises
    ------
    InputError
        If the two are not of one shape.
    """
    real, guess = as_array(measured, "measured"), as_array(predicted, "predicted")
    if real.shape != guess.shape or real.ndim != 2:
        raise InputError(
            f"Measured and predicted responses are (n_images, n_units) of one shape; got "
            f"{real.shape} and {guess.shape}."
        )
    sought = decoder.retrieval_targets(embeddings)
    vectors = [decoder.predict_standardised(values) for values in (real, guess)]
    by_direction: list[dict[str, Estimate]] = [{}, {}]
    for place, decoded in enumerate(vectors):
        for direction in RETRIEVAL_DIRECTIONS:
            by_direction[place][direction] = _retrieved(decoded, sought, direction, rows)
    from_measured, from_predicted = by_direction
    variance = real.var(axis=0, dtype=np.float64)
    ratio = guess.var(axis=0, dtype=np.float64) / np.where(variance > 0, variance, np.nan)
    return PredictedResponses(
        from_measured,
        from_predicted,
        {name: from_predicted[name] - from_measured[name] for name in from_measured},
        np.asarray(pearson_r(real, guess), dtype=np.float64),
        ratio,
    )


def _retrieved(
    decoded: NDArray[Any], sought: NDArray[Any], direction: RetrievalDirection, rows: Any
) -> Estimate:
    return retrieval_contest(decoded, sought, direction, **rows).estimate
