"""What a generator is asked for, checked and brought to its device and precision."""

import warnings
from collections.abc import Iterable, Sequence, Sized
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from brainkit.errors import InputError, listed
from brainkit.generators.embedding import wrong_width

TOKENIZERS = ("tokenizer", "tokenizer_2")  # what diffusers calls them
LONGEST_QUOTE = 60  # characters of a text in a message


def embedding_tensor(values: ArrayLike | Tensor, width: int | None, axes: int, name: str) -> Tensor:
    """Return image embeddings as a tensor; a tensor keeps its gradients.

    Parameters
    ----------
    values : array or tensor (n, width), or (n, tokens, width)
    width : int or None
        How wide they have to be; None where the generator takes none.
    axes : {2, 3}
        How many axes they have to have.
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
    given = as_tensor(values)
    if given.ndim != axes:
        shape = "(n, width)" if axes == 2 else "(n, tokens, width)"
        raise InputError(f"image_embeds are {shape} here; got shape {tuple(given.shape)}.")
    if given.shape[-1] != width:
        raise wrong_width(given.shape[-1], width, name)
    if not bool(torch.isfinite(given).all()):
        raise InputError("image_embeds hold values that are not finite (NaN or infinite).")
    return given


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
    given = as_tensor(values)
    if tuple(given.shape[1:]) != shape or not bool(torch.isfinite(given).all()):
        raise InputError(
            f"init_latents are (n, {', '.join(map(str, shape))}) and finite; got shape "
            f"{tuple(given.shape)}. Encode images of {image_size[0]}×{image_size[1]} pixels."
        )
    return given.detach()


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
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise InputError(f"Everything is one per image; got {told}.")


def warn_of_cut_texts(texts: Sequence[str], pipe: Any, name: str) -> None:
    """Warn, once for all texts, of those whose ends a pipeline leaves out.

    Text encoders have room for a fixed number of tokens, start and end marks among them; diffusers
    drops what is beyond it.

    Parameters
    ----------
    texts : sequence of str
    pipe : diffusers.DiffusionPipeline
        With several text encoders, a text counts as cut by the most that one of them leaves out.
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
    told = listed((f"{count} of {_beginning(text)!r}" for text, count in lost.items()), 5, "; ")
    warnings.warn(
        f"{name} reads texts of at most {room} tokens, start and end marks among them. It does not "
        f"see the last tokens of {len(lost)} of {len(distinct)} different texts: {told}. Give "
        "shorter texts, or put what matters first.",
        UserWarning,
        stacklevel=3,
    )


def _beginning(text: str) -> str:
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE].rstrip()}..."
