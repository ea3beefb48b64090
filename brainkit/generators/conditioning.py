"""What a generator is asked for: checked, and brought to its device and precision.

Embeddings of another model of the same width give pictures of nothing in particular, and no error:
the direction, the order of the rows and the length of the vectors are therefore compared with those
of the generator's own image encoder on a few images (`compare_embeddings`).
"""

import warnings
from collections.abc import Iterable, Sequence, Sized
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from brainkit.data.rgb import as_images
from brainkit.errors import InputError, listed

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
TOKENIZERS = ("tokenizer", "tokenizer_2")  # what diffusers calls them
LONGEST_QUOTE = 60  # characters of a text in a message


def describe_width(width: int) -> str:
    """Say how wide embeddings are, and which well-known model has this width."""
    known = KNOWN_WIDTHS.get(width)
    return f"{width} wide" + (f" (as {known}'s are)" if known else "")


def wrong_width(width: int, expected: int, name: str) -> InputError:
    """Return the error for embeddings that are too narrow or too wide."""
    return InputError(
        f"These image embeddings are {describe_width(width)}, but {name} takes embeddings that are "
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
    encoded: NDArray[np.floating], embeddings: NDArray[np.floating], name: str = "the generator"
) -> float:
    """Compare embeddings with those that a generator's own encoder gives for the same images.

    Parameters
    ----------
    encoded, embeddings : array (n, width) or (n, tokens, width)
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
    encoded, embeddings = np.asarray(encoded), np.asarray(embeddings)
    if embeddings.shape[-1] != encoded.shape[-1]:
        raise wrong_width(embeddings.shape[-1], encoded.shape[-1], name)
    if embeddings.shape != encoded.shape:
        raise InputError(
            f"Embeddings of {len(encoded)} images have shape {encoded.shape} for {name}; got "
            f"{embeddings.shape}."
        )
    table = cosines(encoded, embeddings)
    mean = float(np.mean(np.diag(table)))
    best = table.argmax(axis=1)
    if mean < SAME_MODEL and np.mean(table.max(axis=1)) >= SAME_MODEL and len(set(best)) > 1:
        raise InputError(
            f"The embeddings are those of {name}, but in another order than the images (mean "
            f"cosine {mean:.2f}; image 0 fits row {best[0]}). Give both in one order."
        )
    if not mean >= SAME_MODEL:  # NaN too
        raise InputError(
            f"These embeddings come from another model than {name}: on {len(encoded)} images their "
            f"mean cosine with its own is {mean:.2f}, expected at least {SAME_MODEL}, although "
            f"both are {encoded.shape[-1]} wide. Extract them with the generator's own encoder, "
            "`generator.embed_images(images)`, and train the decoder on those."
        )
    _check_lengths(encoded, embeddings, name)
    return mean


def _check_lengths(
    encoded: NDArray[np.floating], embeddings: NDArray[np.floating], name: str
) -> None:
    lengths = [
        float(np.median(np.linalg.norm(values.reshape(len(values), -1).astype(np.float64), axis=1)))
        for values in (encoded, embeddings)
    ]
    ratio = lengths[1] / lengths[0]
    if not 1 / LARGEST_RATIO <= ratio <= LARGEST_RATIO:
        raise InputError(
            f"These embeddings point where those of {name} do, but have a length of "
            f"{lengths[1]:.3g} where {lengths[0]:.3g} is expected: they were normalised or scaled. "
            f"Use them as the encoder gives them, or multiply them by {1 / ratio:.3g}."
        )


def embedding_tensor(values: ArrayLike | Tensor, width: int | None, axes: int, name: str) -> Tensor:
    """Return image embeddings as a tensor; a tensor keeps its gradients.

    Parameters
    ----------
    values : array or tensor (n, width), or (n, tokens, width)
    width : int or None
        Width that they have to have; None where the generator takes none.
    axes : {2, 3}
        Number of axes that they have to have.
    name : str
        What the generator is called in messages.

    Raises
    ------
    InputError
        If the generator takes none, or they are of another shape or not finite.
    """
    if width is None:
        raise InputError(
            f"{name} takes no image embeddings: no IP-Adapter is loaded. Give one as "
            "Generator.from_pretrained(..., adapter='ip-adapter.safetensors')."
        )
    embeddings = as_tensor(values)
    if embeddings.ndim != axes:
        shape = "(n, width)" if axes == 2 else "(n, tokens, width)"
        raise InputError(f"image_embeds are {shape} here; got shape {tuple(embeddings.shape)}.")
    if embeddings.shape[-1] != width:
        raise wrong_width(embeddings.shape[-1], width, name)
    if not bool(torch.isfinite(embeddings).all()):
        raise InputError("image_embeds hold values that are not finite (NaN or infinite).")
    return embeddings


def text_list(text: str | Sequence[str] | None, n: int) -> list[str]:
    """Return one text per image: the one for all, or the empty one where there is none."""
    if text is None or isinstance(text, str):
        return [text or ""] * n
    if not isinstance(text, Iterable) or not all(isinstance(one, str) for one in text):
        raise InputError("text is a string or a sequence of strings.")
    return list(text)


def latent_tensor(
    values: ArrayLike | Tensor, shape: tuple[int, int, int], image_size: tuple[int, int]
) -> Tensor:
    """Return latents to start from as a tensor; raises `InputError` unless they fit."""
    latents = as_tensor(values)
    if tuple(latents.shape[1:]) != shape or not bool(torch.isfinite(latents).all()):
        raise InputError(
            f"init_latents are (n, {', '.join(map(str, shape))}) and finite; got shape "
            f"{tuple(latents.shape)}. Encode images of {image_size[0]}×{image_size[1]} pixels."
        )
    return latents.detach()


def as_tensor(values: ArrayLike | Tensor) -> Tensor:
    """Return a tensor as it is, and a copy of anything else."""
    if isinstance(values, Tensor):
        return values
    try:
        return torch.tensor(np.asarray(values, dtype=np.float32))
    except (TypeError, ValueError) as error:
        raise InputError(f"Embeddings and latents are arrays of numbers ({error}).") from error


def guidance_weight(guidance: float) -> float:
    """Return the weight of guidance; raises `InputError` if it is negative or not finite."""
    if not isinstance(guidance, Real) or not np.isfinite(guidance) or guidance < 0:
        raise InputError(f"guidance is a weight from 0; got {guidance!r}.")
    return float(guidance)


def check_counts(**parts: Sized | None) -> None:
    """Raise `InputError` unless everything that is given is of one length."""
    counts = {name: len(part) for name, part in parts.items() if part is not None}
    if len(set(counts.values())) > 1:
        counted = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise InputError(f"Everything is one per image; got {counted}.")


def warn_of_cut_texts(texts: Sequence[str], pipe: Any, name: str) -> None:
    """Warn, once for all texts, of those whose ends a pipeline leaves out.

    Text encoders have room for a fixed number of tokens, start and end marks among them; diffusers
    drops what is beyond it.

    Parameters
    ----------
    texts : sequence of str
    pipe : diffusers.DiffusionPipeline
        Pipeline whose text encoders are asked; with several of them a text counts as cut by the
        most that one of them leaves out.
    name : str
        What the generator is called in the message.
    """
    distinct = list(dict.fromkeys(texts))
    parts = [getattr(pipe, part, None) for part in TOKENIZERS]
    tokenizers = [part for part in parts if part is not None]
    lost: dict[str, int] = {}
    for tokenizer in tokenizers if distinct else ():
        rows = tokenizer(distinct, truncation=False, verbose=False)["input_ids"]
        for text, row in zip(distinct, rows, strict=True):
            if len(row) > tokenizer.model_max_length:
                lost[text] = max(lost.get(text, 0), len(row) - tokenizer.model_max_length)
    if not lost:
        return
    room = min(tokenizer.model_max_length for tokenizer in tokenizers)
    cut = listed((f"{count} of {_beginning(text)!r}" for text, count in lost.items()), 5, "; ")
    warnings.warn(
        f"{name} reads texts of at most {room} tokens, start and end marks among them. It does not "
        f"see the last tokens of {len(lost)} of {len(distinct)} different texts: {cut}. Give "
        "shorter texts, or put what matters first.",
        UserWarning,
        stacklevel=3,
    )


def _beginning(text: str) -> str:
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE].rstrip()}..."
