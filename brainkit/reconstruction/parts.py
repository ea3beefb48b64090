"""What a reconstruction is made of, and how it is made and judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from brainkit.data.splits import SplitLike, kept_split
from brainkit.data.stimuli import Stimuli
from brainkit.errors import InputError, listed
from brainkit.evaluation.presets import Preset
from brainkit.reconstruction.drawing import Size, encode_stimuli, read_images
from brainkit.reconstruction.embeddings import EmbeddingDecoder, embed_stimuli, to_length
from brainkit.reconstruction.scores import Words, words_for

Array = NDArray[Any]
SHOWN_SIZE = (96, 96)  # of the stimuli beside the sentences where nothing is drawn
CHECKED = 16  # images on which embeddings are compared with the generator's and the judges'
SAME_MODEL = 0.9  # mean cosine from which two sets of vectors are one model's


@dataclass(frozen=True)
class ReconstructionProtocol:
    """How a reconstruction is made and judged.

    Parameters
    ----------
    split : str, splitter, list of (train, test), or Split
        See `Recording.split`.
    n_images : int, default=50
        Test images that are drawn and captioned, chosen by `seed`; retrieval uses all of them.
    n_train : int, optional
        Training images that the decoders learn from, drawn by `seed`; all where not given.
    seed : int, default=0
        Of folds, of the choice of images and of the noise that drawing starts from.
    zscore, unseen, average_repeats
        See `brainkit.data.preparing.prepare`. Test items are averaged in any case.
    repeats : {"voxels", "embeddings"}
        What of an image's test trials is averaged: their responses, or what is decoded of each, as
        in MindEye2.
    roi : str, optional
        Decode from these units only.
    strength : float, default=0.8
        How much of the drawing is gone through where it starts from decoded latents.
    steps, guidance, noise_level
        See `Generator.generate`; the generator's own where None.
    samples : int, default=1
        Drawings of each image, of which the one is kept whose embedding is nearest to the one it
        was drawn from, that is, to the *decoded* one.
    identify_among, retrieve_among : int, default=50, 300
        Sizes of the comparisons; all items of the smallest fold where there are fewer.
    max_new_tokens, num_beams
        See `Captioner.caption`.
    resample : str
        What is independent, for nulls, intervals and inner folds; see
        `brainkit.data.dependence.dependence`.
    """

    split: SplitLike
    n_images: int = 50
    n_train: int | None = None
    seed: int = 0
    zscore: str | None = "session"
    unseen: str | None = None
    average_repeats: bool | Literal["test"] = True
    repeats: Literal["voxels", "embeddings"] = "voxels"
    roi: str | None = None
    strength: float = 0.8
    steps: int | None = None
    guidance: float | None = None
    noise_level: int = 0
    samples: int = 1
    identify_among: int = 50
    retrieve_among: int = 300
    max_new_tokens: int | None = None
    num_beams: int = 1
    resample: str = "auto"

    def __post_init__(self) -> None:
        for name in ("n_images", "n_train", "identify_among", "retrieve_among"):
            value = getattr(self, name)
            if value is not None and value < 2:
                raise InputError(f"{name} must be at least 2; got {value}.")
        object.__setattr__(self, "split", kept_split(self.split))
        if self.samples < 1:
            raise InputError(f"samples must be 1 or more; got {self.samples}.")
        if not 0 <= self.strength <= 1:
            raise InputError(f"strength is a share from 0 to 1; got {self.strength}.")
        if self.average_repeats is False:
            raise InputError(
                "Reconstruction needs one test item an image: average_repeats must be True or "
                "'test'."
            )


@dataclass(frozen=True)
class ReconstructionParts:
    """What a reconstruction is made of.

    Parameters
    ----------
    generator : brainkit.generators.Generator, optional
        Embeddings → images; without it there are embeddings, retrieval and sentences only.
    judges : mapping of str to transformer
        Held-out networks by name, images → features.
    embed : transformer, optional
        Images → the embeddings that generator and captioner read; the generator's own image
        encoder where not given.
    captioner : brainkit.generators.captioner.Captioner, optional
        Embeddings → sentences.
    embedding_model : decoder of embeddings
        Responses → embeddings by `predict`, and what images are retrieved by from
        `predict_standardised` and `retrieval_targets`, as `EmbeddingDecoder` has them.
    fused : sequence of transformer
        Further frozen networks, images → embeddings that stand beside those of `embed` in what the
        embedding model is fitted to: a target that is fused of several, see
        `brainkit.decoding.ContrastiveDecoder`.
    latent_model : estimator, optional
        Responses → flattened latents; without it drawing starts from noise.
    words : mapping of str to sequence of str, optional
        Words that name each category; see `brainkit.reconstruction.scores`.
    preset : brainkit.evaluation.presets.Preset, optional
        Scores images or captions as a published system does, beside all else.
    networks : mapping of str to callable
        Those that the preset judges by, see `brainkit.features.judging_networks`.
    """

    generator: Any = None
    judges: Mapping[str, Any] = field(default_factory=dict)
    embed: Any = None
    captioner: Any = None
    embedding_model: Any = field(default_factory=EmbeddingDecoder)
    fused: Sequence[Any] = ()
    latent_model: Any = None
    words: Words | None = None
    preset: Preset | None = None
    networks: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.generator is None and (self.embed is None or self.latent_model is not None):
            raise InputError(
                "Without a generator nothing can be drawn: give embed, which says what the "
                "embeddings are, and leave out latent_model; or give a generator."
            )

    @property
    def image_size(self) -> Size:
        """Height and width of the images."""
        size: Size = SHOWN_SIZE if self.generator is None else self.generator.image_size
        return size

    def embeddings(self, stimuli: Stimuli, rows: Array) -> NDArray[np.float32]:
        """Return the embeddings (n, width) of stimuli.

        Raises
        ------
        InputError
            If they are not those that the generator reads.
        """
        embed = GeneratorEmbedding(self.generator) if self.embed is None else self.embed
        unique, where = np.unique(rows, return_inverse=True)
        values = embed_stimuli(embed, stimuli, unique)
        if self.embed is not None and self.generator is not None:
            few = min(CHECKED, len(unique))
            pictures = read_images(stimuli, unique[:few], self.generator.image_size)
            self.generator.check_embeddings(pictures, values[:few])
        return values[where]

    def targets(self, stimuli: Stimuli, rows: Array) -> NDArray[np.float32]:
        """Return what the embedding model is fitted to, (n, width of all that are fused)."""
        embeddings = self.embeddings(stimuli, rows)
        if not self.fused:
            return embeddings
        unique, where = np.unique(rows, return_inverse=True)
        more = [embed_stimuli(embed, stimuli, unique)[where] for embed in self.fused]
        return np.concatenate([embeddings, *more], axis=1)

    def latents(self, stimuli: Stimuli, rows: Array) -> NDArray[np.float32] | None:
        """Return the latents (n, c, h, w) of stimuli, or None where drawing starts from noise."""
        if self.latent_model is None:
            return None
        unique, where = np.unique(rows, return_inverse=True)
        return encode_stimuli(self.generator, stimuli, unique)[where]

    def words_of(self, stimuli: Stimuli) -> Words:
        """Return the words that name each category of the stimuli."""
        table = stimuli.table
        if self.words is not None or table is None or "category" not in table:
            return self.words or {}
        known = table[table["category"].notna()].drop_duplicates("category")
        synonyms = known["synonyms"].tolist() if "synonyms" in known else ()
        return words_for([str(name) for name in known["category"]], synonyms)

    def check_judges(self, stimuli: Stimuli, rows: Array) -> None:
        """Raise if what makes the embeddings also judges the images (trap T18).

        Judges are compared by the weights of their networks, and by what they give for a few of
        the stimuli: the same network may stand in files of two formats.
        """
        few = np.unique(rows)[:CHECKED]
        images, embeddings = stimuli.read(few), self.embeddings(stimuli, few)
        networks = [_network(one) for one in (self.embed, *self.fused) if one is not None]
        same = [
            name
            for name, judge in self.judges.items()
            if _network(judge) in networks or _sees_alike(judge.transform(images), embeddings)
        ]
        if same:
            raise InputError(
                f"The judge {listed(same)} is the model whose embeddings are decoded: it would be "
                "pleased by what pleases itself. Judge by a network that had no part in it."
            )


def _network(transformer: Any) -> Any:
    """Return what tells a network from others, whatever the layer: its weights, if it has any."""
    if hasattr(transformer, "identity"):
        return transformer.identity().get("weights")
    parameters: dict[str, Any] = getattr(transformer, "get_params", dict)()
    return type(transformer), repr(sorted(parameters.items(), key=lambda item: item[0]))


def _sees_alike(features: Array, embeddings: Array) -> bool:
    """Tell whether features are the same vectors as the embeddings, up to their length."""
    flat = features.reshape(len(features), -1)
    if flat.shape != embeddings.shape or len(flat) < 3:
        return False
    units = [
        to_length(values - values.mean(axis=0), 1.0)
        for values in (to_length(flat, 1.0), to_length(embeddings, 1.0))
    ]
    return bool((units[0] * units[1]).sum(axis=1).mean() > SAME_MODEL)


class GeneratorEmbedding:
    """The generator's own image encoder, as a transformer."""

    def __init__(self, generator: Any) -> None:
        self.generator = generator

    def transform(self, images: Array) -> Array:
        """Return embeddings (n, width) of images."""
        if images.ndim == 3:
            images = np.repeat(images[..., None], 3, axis=3)
        return np.asarray(self.generator.embed_images(images), dtype=np.float32)
