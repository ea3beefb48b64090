"""Whether embeddings are those that a generator was trained on.

Embeddings of another model of the same width give pictures of nothing in particular, and no error:
the direction, the order of the rows and the length of the vectors are therefore compared with those
of the generator's own image encoder on a few images.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.data.rgb import as_images
from brainkit.errors import InputError

SAME_MODEL = 0.9
"""Mean cosine from which two sets count as one model's: resampling and float16 leave .98 and more,
whereas two models of one width share no axes."""
LARGEST_RATIO = 2.0
KNOWN_WIDTHS = {
    512: "CLIP ViT-B",
    768: "CLIP ViT-L/14",
    1024: "OpenCLIP ViT-H/14",
    1280: "OpenCLIP ViT-bigG/14",
}


def describe_width(width: int) -> str:
    """Say how wide embeddings are, and which well-known model has this width."""
    known = KNOWN_WIDTHS.get(width)
    return f"{width} wide" + (f" (as {known}'s are)" if known else "")


def wrong_width(given: int, expected: int, name: str) -> InputError:
    """Return the error for embeddings that are too narrow or too wide."""
    return InputError(
        f"These image embeddings are {describe_width(given)}, but {name} takes embeddings that are "
        f"{describe_width(expected)}. Use the embeddings of the model that the generator was "
        "trained with: those of `generator.embed_images(images)`."
    )


def clip_pixels(extractor: Any, images: ArrayLike) -> Any:
    """Apply the preprocessing of a pipeline's image encoder.

    Parameters
    ----------
    extractor : image processor of transformers
    images : array (n, height, width, 3)
        Brought to 8 bits by the rule of `brainkit.data.rgb`.

    Returns
    -------
    tensor (n, 3, side, side)
    """
    return extractor(as_images(images), return_tensors="pt").pixel_values


def cosines(left: NDArray[np.floating], right: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the cosine between every row of one set and every row of another, (n, m)."""
    units = []
    for values in (left, right):
        flat = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
        units.append(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12))
    result: NDArray[np.float64] = units[0] @ units[1].T
    return result


def compare_embeddings(
    own: NDArray[np.floating], given: NDArray[np.floating], name: str = "the generator"
) -> float:
    """Compare embeddings with those that a generator's own encoder gives for the same images.

    Parameters
    ----------
    own, given : array (n, width) or (n, tokens, width)
        Row i of both belongs to image i.
    name : str
        What the generator is called in messages.

    Returns
    -------
    float
        Mean cosine between the two.

    Raises
    ------
    InputError
        If the shapes differ, the rows are in another order, the directions are another model's, or
        the lengths differ by more than a factor of two (as when one set was normalised).
    """
    own, given = np.asarray(own), np.asarray(given)
    if given.shape[-1] != own.shape[-1]:
        raise wrong_width(given.shape[-1], own.shape[-1], name)
    if given.shape != own.shape:
        raise InputError(
            f"Embeddings of {len(own)} images have shape {own.shape} for {name}; got {given.shape}."
        )
    table = cosines(own, given)
    mean = float(np.mean(np.diag(table)))
    best = table.argmax(axis=1)
    if mean < SAME_MODEL and np.mean(table.max(axis=1)) >= SAME_MODEL and len(set(best)) > 1:
        raise InputError(
            f"The embeddings are those of {name}, but in another order than the images (mean "
            f"cosine {mean:.2f}; image 0 fits row {best[0]}). Give both in one order."
        )
    if not mean >= SAME_MODEL:  # NaN too
        raise InputError(
            f"These embeddings come from another model than {name}: on {len(own)} images their "
            f"mean cosine with its own is {mean:.2f}, expected at least {SAME_MODEL}, although "
            f"both are {own.shape[-1]} wide. Extract them with the generator's own encoder, "
            "`generator.embed_images(images)`, and train the decoder on those."
        )
    _check_lengths(own, given, name)
    return mean


def _check_lengths(own: NDArray[np.floating], given: NDArray[np.floating], name: str) -> None:
    lengths = [
        float(np.median(np.linalg.norm(values.reshape(len(values), -1).astype(np.float64), axis=1)))
        for values in (own, given)
    ]
    ratio = lengths[1] / lengths[0]
    if not 1 / LARGEST_RATIO <= ratio <= LARGEST_RATIO:
        raise InputError(
            f"These embeddings point where those of {name} do, but have a length of "
            f"{lengths[1]:.3g} where {lengths[0]:.3g} is expected: they were normalised or scaled. "
            f"Use them as the encoder gives them, or multiply them by {1 / ratio:.3g}."
        )
