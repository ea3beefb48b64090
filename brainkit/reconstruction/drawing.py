"""Drawing images for conditions, and sentences for embeddings, each item with a seed of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.seeds import rng
from brainkit.data.stimuli import Stimuli
from brainkit.decoding.spread import to_length
from brainkit.features.pixels import as_float
from brainkit.reconstruction.nulls import Condition

Array = NDArray[Any]
Size = tuple[int, int]
IMAGES_AT_ONCE = 128


def item_seeds(rows: ArrayLike, seed: int) -> list[int]:
    """Return a seed for each stimulus row, whatever other rows are drawn with it."""
    return [int(rng(seed, "drawing", int(row)).integers(2**31)) for row in np.asarray(rows)]


def further_seeds(seeds: Sequence[int], sample: int) -> list[int]:
    """Return the seeds of another drawing of each item; those given for sample 0."""
    if sample == 0:
        return list(seeds)
    return [int(rng(seed, "drawing", "sample", sample).integers(2**31)) for seed in seeds]


def draw(
    generator: Any,
    conditions: Mapping[str, Condition],
    seeds: Sequence[int],
    settings: Mapping[str, Any],
    *,
    strength: float | None = None,
    samples: int = 1,
) -> dict[str, NDArray[np.float32]]:
    """Draw images for each kind of condition; all kinds share the items' seeds.

    What an item is drawn from is all that is known of it here: neither the drawing nor the choice
    among several can depend on the image shown (trap T02).

    Parameters
    ----------
    generator : brainkit.generators.Generator
    conditions : mapping of str to Condition
    seeds : sequence of int (n,)
    settings : mapping
        ``steps``, ``guidance`` and ``noise_level`` of `Generator.generate`.
    strength : float, optional
        Where a condition has latents to start from.
    samples : int, default=1
        Drawings of each item. Of several the one is kept whose embedding points most nearly where
        the embedding that it was drawn from does; the first where there is no such embedding.

    Returns
    -------
    dict of str to array (n, height, width, 3)
        In [0, 1].
    """
    images: dict[str, NDArray[np.float32]] = {}
    for kind, condition in conditions.items():
        extra: dict[str, Any] = dict(settings)
        if condition.init_latents is not None:
            extra |= {"init_latents": condition.init_latents, "strength": strength}
        if condition.image_embeds is None:
            extra.pop("noise_level", None)
        wanted = condition.image_embeds
        drawn = [
            np.asarray(
                generator.generate(
                    image_embeds=wanted, text=condition.text, seeds=further_seeds(seeds, k), **extra
                ),
                dtype=np.float32,
            )
            for k in range(1 if wanted is None else samples)
        ]
        images[kind] = drawn[0] if wanted is None else nearest_drawing(generator, drawn, wanted)
    return images


def nearest_drawing(
    generator: Any, drawn: Sequence[NDArray[np.float32]], wanted: Array
) -> NDArray[np.float32]:
    """Return, item by item, the drawing whose embedding has the largest cosine with the wanted one.

    Parameters
    ----------
    generator : brainkit.generators.Generator
        Whose image encoder looks at the drawings.
    drawn : sequence of array (n, height, width, 3)
        Drawings of the same items.
    wanted : array (n, width)
        The embeddings that they were drawn from.
    """
    if len(drawn) == 1:
        return drawn[0]
    target = to_length(np.asarray(wanted).reshape(len(drawn[0]), -1), 1.0)
    cosines = [
        (to_length(generator.embed_images(images).reshape(len(images), -1), 1.0) * target).sum(1)
        for images in drawn
    ]
    best = np.argmax(np.stack(cosines), axis=0)
    return np.stack([drawn[k][item] for item, k in enumerate(best)])


def say(
    captioner: Any,
    embeddings: Mapping[str, Array],
    images: Mapping[str, Array],
    settings: Mapping[str, Any],
) -> dict[str, list[str]]:
    """Return a sentence for every item of each kind.

    A captioner that reads embeddings is given these; another is given the images drawn.

    Parameters
    ----------
    captioner : brainkit.generators.captioner.Captioner
    embeddings : mapping of str to array (n, width)
    images : mapping of str to array (n, height, width, 3)
    settings : mapping
        ``max_new_tokens`` and ``num_beams``.
    """
    if getattr(captioner, "embedding_width", None) is None:
        return {kind: captioner.caption(images=images[kind], **settings) for kind in embeddings}
    return {
        kind: captioner.caption(image_embeds=values, **settings)
        for kind, values in embeddings.items()
    }


def to_size(images: Array, size: Size) -> NDArray[np.float32]:
    """Return images as RGB of one size: the middle of the right shape, resampled.

    Parameters
    ----------
    images : array (n, height, width[, 3])
        uint8, or float in [0, 1].
    size : (int, int)
        Height and width.

    Returns
    -------
    array (n, *size, 3)
        In [0, 1]. Images that have the size are left as they are; others are cropped to its
        proportions and resampled bilinearly, with antialiasing.
    """
    import torch

    values = as_float(images)
    if values.ndim == 3:
        values = np.repeat(values[..., None], 3, axis=3)
    height, width = values.shape[1:3]
    if (height, width) == size:
        return values
    scale = min(height / size[0], width / size[1])
    keep = (
        min(height, max(1, round(size[0] * scale))),
        min(width, max(1, round(size[1] * scale))),
    )
    top, left = (height - keep[0]) // 2, (width - keep[1]) // 2
    middle = values[:, top : top + keep[0], left : left + keep[1]]
    resampled = torch.nn.functional.interpolate(
        torch.from_numpy(np.ascontiguousarray(middle)).permute(0, 3, 1, 2),
        size=size,
        mode="bilinear",
        antialias=True,
    )
    return np.clip(resampled.permute(0, 2, 3, 1).numpy(), 0, 1)


def read_images(stimuli: Stimuli, rows: ArrayLike, size: Size) -> NDArray[np.float32]:
    """Read stimuli as RGB images of one size, see `to_size`."""
    return to_size(stimuli.read(np.asarray(rows)), size)


def mean_image(stimuli: Stimuli, rows: Array, size: Size) -> NDArray[np.float32]:
    """Return the mean of stimuli as RGB of one size, reading a bounded number of them at once."""
    total = np.zeros((*size, 3))
    for start in range(0, len(rows), IMAGES_AT_ONCE):
        images = read_images(stimuli, rows[start : start + IMAGES_AT_ONCE], size)
        total += images.sum(axis=0, dtype=np.float64)
    return np.asarray(total / len(rows), dtype=np.float32)


def encode_stimuli(generator: Any, stimuli: Stimuli, rows: Array) -> NDArray[np.float32]:
    """Return the latents of stimuli, reading a bounded number of them at once.

    Returns
    -------
    array (n, c, h, w)
    """
    parts = []
    for start in range(0, len(rows), IMAGES_AT_ONCE):
        images = read_images(stimuli, rows[start : start + IMAGES_AT_ONCE], generator.image_size)
        parts.append(np.asarray(generator.encode_latents(images), dtype=np.float32))
    return np.concatenate(parts)
