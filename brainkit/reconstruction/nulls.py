"""What no brain, or no reconstruction, explains: the nulls beside every figure (trap T26).

A generator makes convincing pictures of anything, so that a picture may look right because of what
the generator, a category or a caption brings along. For images:

- ``shuffled_brain``: the whole decoding fitted and tested on responses exchanged between images;
- ``mean_image``: the mean of the training images;
- ``mean_embedding``: drawn from the mean training embedding;
- ``class_mean``: drawn from the mean training embedding of the image's true class (where classes
  are known): what a decoder of the class alone could show;
- ``nearest_training_image``: the training image whose embedding is nearest to the decoded one;
- ``caption_prior``: drawn from words alone, the caption of that nearest training image;
- ``no_brain``: drawn from nothing at all.

For sentences: ``shuffled_brain`` and ``mean_embedding`` as above, captioned; ``caption_prior``, the
caption of the nearest training image itself; ``typical_caption``, the one training caption whose
image is nearest to the mean; ``no_brain``, a training caption at random.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.data.stimuli import Stimuli
from brainkit.decoding.image_decoding import RetrievalBank
from brainkit.reconstruction.embeddings import to_length

Array = NDArray[Any]

IMAGE_NULLS = (
    "shuffled_brain",
    "mean_image",
    "mean_embedding",
    "class_mean",
    "nearest_training_image",
    "caption_prior",
    "no_brain",
)
CAPTION_NULLS = (
    "shuffled_brain",
    "mean_embedding",
    "caption_prior",
    "typical_caption",
    "no_brain",
)


@dataclass(frozen=True)
class Condition:
    """What one set of images is drawn from; all None is nothing at all.

    Attributes
    ----------
    image_embeds : array (n, width), optional
    init_latents : array (n, c, h, w), optional
        Where drawing starts.
    text : list of str, optional
    """

    image_embeds: Array | None = None
    init_latents: Array | None = None
    text: list[str] | None = None

    def part(self, rows: Array) -> "Condition":
        """Return the condition of some of the items."""
        return Condition(
            None if self.image_embeds is None else self.image_embeds[rows],
            None if self.init_latents is None else self.init_latents[rows],
            None if self.text is None else [self.text[row] for row in rows],
        )


def known_column(stimuli: Stimuli, name: str, rows: Array) -> Array | None:
    """Return a column of the stimuli's table for some rows; None unless it is known of all."""
    table = stimuli.table
    if table is None or name not in table or table[name].iloc[rows].isna().any():
        return None
    return np.asarray(table[name].to_numpy()[rows])


@dataclass(frozen=True)
class Training:
    """What is known of the training images; no null sees more.

    Attributes
    ----------
    stimuli : Stimuli
    rows : array of int (n,)
        Their rows of the stimuli.
    embeddings : array (n, width)
    latents : array (n, c, h, w), optional
    targets : array (n, width of all that are fused), optional
        What the embedding model is fitted to, where it is more than the embeddings.
    """

    stimuli: Stimuli
    rows: Array
    embeddings: Array
    latents: Array | None = None
    targets: Array | None = None

    def column(self, name: str) -> Array | None:
        """Return a column of the stimuli's table for the training images, if it is there."""
        return known_column(self.stimuli, name, self.rows)

    def mean(self, chosen: Array | None = None) -> Condition:
        """Return the mean of the training embeddings (as long as they are) and latents."""
        among = np.arange(len(self.rows)) if chosen is None else np.flatnonzero(chosen)
        length = float(np.linalg.norm(self.embeddings, axis=1).mean(dtype=np.float64))
        embedding = self.embeddings[among].mean(axis=0, dtype=np.float64, keepdims=True)
        latents = None
        if self.latents is not None:
            latents = self.latents[among].mean(axis=0, dtype=np.float64, keepdims=True)
        return Condition(
            to_length(embedding, length), None if latents is None else latents.astype(np.float32)
        )


def mean_conditions(training: Training, test_classes: Array | None, n: int) -> dict[str, Condition]:
    """Return the conditions that the means of the training embeddings give, for n items.

    Parameters
    ----------
    training : Training
    test_classes : array (n,), optional
        True class of each item, see `classes_of`. A class without training images, or one that is
        not known, gets the mean of all.
    n : int

    Returns
    -------
    dict of str to Condition
    """
    overall = training.mean()
    conditions = {"mean_embedding": overall.part(np.zeros(n, dtype=int))}
    classes = classes_of(training.stimuli, training.rows)
    if classes is not None and test_classes is not None:
        each = {name: training.mean(classes == name) for name in set(classes) - {""}}
        means = [each.get(name, overall) for name in test_classes]
        conditions["class_mean"] = joined(means)
    return conditions


def classes_of(stimuli: Stimuli, rows: Array) -> Array | None:
    """Return the classes of stimuli, ``""`` where one is not known; None where none is."""
    table = stimuli.table
    if table is None or "category" not in table:
        return None
    classes = table["category"].iloc[rows]
    return None if classes.isna().all() else np.asarray(classes.astype(object).fillna(""))


def joined(conditions: Sequence[Condition]) -> Condition:
    """Put the items of several conditions of one kind together."""
    embeddings = [one.image_embeds for one in conditions if one.image_embeds is not None]
    latents = [one.init_latents for one in conditions if one.init_latents is not None]
    text = [line for one in conditions if one.text is not None for line in one.text]
    return Condition(
        np.concatenate(embeddings) if embeddings else None,
        np.concatenate(latents) if latents else None,
        text or None,
    )


def nearest_training(training: Training, decoder: Any, decoded: Array) -> NDArray[np.int64]:
    """Return the stimulus row of the training image nearest to each decoded embedding.

    Parameters
    ----------
    training : Training
    decoder : fitted decoder of embeddings
        Its `retrieval_targets` gives the space in which they are compared.
    decoded : array (n, width)
        Standardised predictions.

    Returns
    -------
    array of int (n,)
    """
    targets = training.embeddings if training.targets is None else training.targets
    bank = RetrievalBank(training.stimuli, training.rows, decoder.retrieval_targets(targets))
    return bank.nearest(decoded).astype(np.int64)


def caption_nulls(
    training: Training, nearest: Array, generator: np.random.Generator
) -> dict[str, list[str]]:
    """Return the sentences that training captions give; none where captions are not known.

    Parameters
    ----------
    training : Training
    nearest : array of int (n,)
        Stimulus row of the training image nearest to each decoded embedding.
    generator : numpy.random.Generator
        Draws captions at random.
    """
    captions = training.column("caption")
    table = training.stimuli.table
    if captions is None or table is None:
        return {}
    centred = training.embeddings - training.embeddings.mean(axis=0)
    typical = str(captions[np.argmin(np.linalg.norm(centred, axis=1))])
    drawn = generator.integers(len(captions), size=len(nearest))
    return {
        "caption_prior": [str(text) for text in table["caption"].to_numpy()[nearest]],
        "typical_caption": [typical] * len(nearest),
        "no_brain": [str(text) for text in captions[drawn]],
    }
