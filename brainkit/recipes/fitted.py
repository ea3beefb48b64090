"""What a run leaves behind to be used: features and model in one, from images or from responses.

``brainkit.load_estimator(run / "estimator")`` gives one of the classes below.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from brainkit.data.preparing import prepare
from brainkit.data.stimuli import Stimuli
from brainkit.decoding import DecodingProtocol, DecodingResult
from brainkit.decoding.image_decoding import invert
from brainkit.encoding import EncodingResult, SpaceComparison
from brainkit.errors import InputError
from brainkit.features import read_for
from brainkit.linear.estimator import predict_rows
from brainkit.recipes.reconstruct import captioner_options, generator_options
from brainkit.recipes.schema import Recipe, ReconstructRecipe
from brainkit.reconstruction import ReconstructionResult
from brainkit.synthesis import RankingResult

Array = NDArray[Any]
Result = EncodingResult | SpaceComparison | DecodingResult | ReconstructionResult | RankingResult
FittedResult = EncodingResult | DecodingResult | ReconstructionResult | RankingResult


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

    def read(self, stimuli: Stimuli, rows: ArrayLike) -> Any:
        """Read what `predict` takes of some stimuli: images, captions or both."""
        return read_for(self.features, stimuli, rows)

    def predict(self, images: Any) -> Array:
        """Predict the responses to images, (n, units), as the model was fitted on them.

        Where the recipe z-scores, predictions are in standard deviations of the training trials.
        An encoder whose features read captions takes what `read` gives.
        """
        features = self.features.transform(images)
        predicted = predict_rows(self.model, features, int(np.sum(self.usable)))
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
        return np.asarray(self.model.predict(_usable_responses(responses, self.usable)))

    def predict(self, responses: ArrayLike) -> Array:
        """Decode images in [0, 1], (n, height, width[, 3]), through the features' inverse."""
        return np.asarray(invert(self.features, self.predict_features(responses)))


class ImageReconstructor(BaseEstimator):
    """From the responses of all units to embeddings, and to images and sentences by frozen models.

    The frozen models are named, not saved: they are loaded when they are first needed.

    Parameters
    ----------
    embedding_model, latent_model : fitted estimators
        From the responses of the usable units to embeddings, and to flattened latents; the latter
        may be None.
    usable : array of bool (units,)
        Units that they were fitted on.
    generator : dict, optional
        What `Generator.from_pretrained` is given.
    captioner : dict, optional
        What `Captioner.from_pretrained` is given.
    drawing : dict, optional
        ``steps``, ``guidance``, ``noise_level`` and ``strength`` of `Generator.generate`.
    saying : dict, optional
        ``max_new_tokens`` and ``num_beams`` of `Captioner.caption`.
    """

    def __init__(
        self,
        embedding_model: Any,
        latent_model: Any,
        usable: Any,
        generator: dict[str, Any] | None = None,
        captioner: dict[str, Any] | None = None,
        drawing: dict[str, Any] | None = None,
        saying: dict[str, Any] | None = None,
    ) -> None:
        self.embedding_model = embedding_model
        self.latent_model = latent_model
        self.usable = usable
        self.generator = generator
        self.captioner = captioner
        self.drawing = drawing
        self.saying = saying

    def predict_embeddings(self, responses: ArrayLike) -> Array:
        """Decode the embeddings of what was shown, (n, width), from responses (n, units)."""
        chosen = _usable_responses(responses, self.usable)
        return np.asarray(self.embedding_model.predict(chosen))

    def predict(self, responses: ArrayLike, seeds: Sequence[int] | None = None) -> Array:
        """Draw images in [0, 1], (n, height, width, 3).

        Parameters
        ----------
        responses : array (n, units)
        seeds : sequence of int (n,), optional
            Of the noise that drawing starts from; 0, 1, 2 ... where not given.
        """
        if self.generator is None:
            raise InputError("This run had no generator, so it decodes embeddings only.")
        from brainkit.generators import Generator

        chosen = _usable_responses(responses, self.usable)
        generator = self._loaded("generator", Generator, self.generator)
        settings = {"strength": None, **(self.drawing or {})}
        strength = settings.pop("strength")
        if self.latent_model is not None:
            flat = np.asarray(self.latent_model.predict(chosen), dtype=np.float32)
            settings["init_latents"] = flat.reshape(-1, *generator.latent_shape)
            settings["strength"] = strength
        embeddings = self.predict_embeddings(responses)
        numbers = range(len(embeddings)) if seeds is None else seeds
        return np.asarray(
            generator.generate(image_embeds=embeddings, seeds=list(numbers), **settings)
        )

    def caption(self, responses: ArrayLike) -> list[str]:
        """Say what was shown, a sentence a response."""
        if self.captioner is None:
            raise InputError("This run had no captioner.")
        from brainkit.generators import Captioner

        captioner = self._loaded("captioner", Captioner, self.captioner)
        if getattr(captioner, "embedding_width", None) is None:
            given = {"images": self.predict(responses)}
        else:
            given = {"image_embeds": self.predict_embeddings(responses)}
        said: list[str] = captioner.caption(**given, **(self.saying or {}))
        return said

    def _loaded(self, what: str, kind: Any, options: dict[str, Any]) -> Any:
        """Return a frozen model, loaded once; what a file asks for is never a download."""
        name = f"_{what}"  # not a fitted attribute, so that it is not saved
        if name not in vars(self):
            if options.get("download"):
                raise InputError(
                    f"The {what} of this estimator asks to be downloaded, which is not done for a "
                    "file's sake: set BRAINKIT_DOWNLOAD=1 to allow it."
                )
            setattr(self, name, kind.from_pretrained(**options))
        return getattr(self, name)


def _usable_responses(responses: ArrayLike, usable: Any) -> Array:
    """Return the responses of the units that a decoder was fitted on."""
    values = np.asarray(responses)
    if values.ndim != 2 or values.shape[1] != len(usable):
        raise InputError(f"This decoder takes responses (n, {len(usable)}); got {values.shape}.")
    return values[:, usable]


def fitted_part(
    result: FittedResult, recipe: Recipe | None = None
) -> ImageEncoder | ImageDecoder | ImageReconstructor:
    """Return what a run fitted: on the first fold's training part, or the ranking encoder.

    Parameters
    ----------
    result : FittedResult
        Of a run.
    recipe : Recipe, optional
        Names the frozen models of a reconstruction.
    """
    usable = usable_units(result)
    if isinstance(result, ReconstructionResult):
        return _reconstructor(result, usable, recipe)
    if isinstance(result, DecodingResult):
        return ImageDecoder(*result.fitted, usable)
    if isinstance(result, RankingResult):
        return ImageEncoder(result.encoder.features, result.encoder.model, usable)
    return ImageEncoder(*result.fitted, usable)


def _reconstructor(
    result: ReconstructionResult, usable: Array, recipe: Recipe | None
) -> ImageReconstructor:
    named = recipe if isinstance(recipe, ReconstructRecipe) else None
    generator = captioner = None
    if named is not None and named.generator is not None:
        generator = generator_options(named.generator)
    if named is not None and named.captioner is not None:
        captioner = captioner_options(named.captioner)
    protocol = result.protocol
    drawing = ("steps", "guidance", "noise_level", "strength")
    return ImageReconstructor(
        *result.fitted,
        usable,
        generator=generator,
        captioner=captioner,
        drawing={name: getattr(protocol, name) for name in drawing},
        saying={name: getattr(protocol, name) for name in ("max_new_tokens", "num_beams")},
    )


def usable_units(result: FittedResult) -> NDArray[np.bool_]:
    """Mask the units that the first fold's model was fitted on."""
    if isinstance(result, EncodingResult):
        return np.isfinite(result.predictions[0])  # the first item is of the first fold
    if not result.counts["constant_or_nan"]:
        return np.ones(result.counts["units"], dtype=bool)
    protocol = result.protocol
    seed = protocol.seeds[0] if isinstance(protocol, DecodingProtocol) else protocol.seed
    return prepare(
        result.recording.split(protocol.split, seed=seed).folds[0],
        zscore=protocol.zscore,
        unseen=protocol.unseen,
        average_repeats=protocol.average_repeats,
    ).usable
