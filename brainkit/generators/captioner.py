"""Captioners: from what is seen, or from what was decoded from a brain, to English sentences.

A captioner is frozen and its decoding is deterministic (greedy or beam search, never sampling), so
that a sentence depends on its own embedding and on stated settings alone, not on the batch it was
made in nor on defaults that a hub's files happen to hold.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.atomic import under_umask
from brainkit.arrays.files import is_file, read_json, reading
from brainkit.errors import InputError, listed
from brainkit.features.weights import quiet

BATCH_SIZE = 64
MAX_NEW_TOKENS = 40
PREFIX_FILE = "prefix.json"


class Captioner(ABC):
    """A frozen model that turns images, or vectors that stand for them, into sentences."""

    tokenizer: Any
    """A tokenizer of `transformers`."""

    @classmethod
    def from_pretrained(
        cls, id_or_path: str | Path, *, device: str = "auto", download: bool | None = None
    ) -> Self:
        """Load a captioner.

        Parameters
        ----------
        id_or_path : str or path
            ``"tiny"`` (the one that comes with brainkit), a local folder, or a hub id: of a prefix
            captioner (``prefix.json`` beside a GPT-2) or of a GIT model.
        device : str, default="auto"
            Device that it runs on; ``"auto"`` takes a GPU if there is one.
        download : bool, optional
            Whether a hub id that is not in the local cache may be fetched; by default as
            $BRAINKIT_DOWNLOAD says.

        Raises
        ------
        MissingFileError, DownloadError
            If it is not there.
        CorruptFileError
            If files are damaged.
        InputError
            If weights are missing, of other shapes, or more than the model has; or the folder
            holds no captioner, or one of another class than asked for.
        """
        from brainkit.features.weights import find_model

        name = "tiny/captioner" if str(id_or_path) == "tiny" else str(id_or_path)
        folder = Path(find_model(name, download=download))
        kind = captioner_class(folder)
        if not issubclass(kind, cls):
            raise InputError(
                f"{folder} holds a {kind.__name__}, not a {cls.__name__}; load it by "
                f"{kind.__name__}.from_pretrained or Captioner.from_pretrained."
            )
        return kind.load(folder, device=device)

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, *, device: str = "auto") -> Self:
        """Load from a local folder; see `from_pretrained`."""

    @abstractmethod
    def save_pretrained(self, folder: str | Path) -> None:
        """Write the folder that `from_pretrained` reads."""

    @abstractmethod
    def caption(
        self,
        *,
        image_embeds: ArrayLike | None = None,
        images: Any = None,
        image_tokens: ArrayLike | None = None,
        max_new_tokens: int | None = None,
        num_beams: int = 1,
        batch_size: int = BATCH_SIZE,
    ) -> list[str]:
        """Say in a sentence what each image shows.

        Parameters
        ----------
        image_embeds : array (n, width), optional
            Image embeddings, true or predicted, for a captioner that reads these.
        images : sequence of PIL images or array (n, height, width, 3), optional
            Pictures; uint8, or float in [0, 1].
        image_tokens : array (n, tokens, width), optional
            Hidden states of the image tower, for a captioner that reads these.
        max_new_tokens : int, optional
            Longest sentence in tokens; 40, or what the model has room for, where not given.
        num_beams : int, default=1
            Beams of the search; 1 is greedy decoding.
        batch_size : int, default=64
            Sentences at once. It changes time and memory, not the sentences.

        Returns
        -------
        list of str
            A sentence each, in order.

        Raises
        ------
        InputError
            If not exactly one of the three is given, the model cannot read it, its width is
            another than the model's, or it holds NaN.
        """

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return what makes its sentences what they are: class, weights, widths; for manifests."""


def captioner_class(folder: Path) -> type[Captioner]:
    """Return the class that reads a captioner's folder."""
    if is_file(folder / PREFIX_FILE):
        from brainkit.generators.captioning_models import PrefixCaptioner

        return PrefixCaptioner
    kind = read_json(folder / "config.json", "A captioner's configuration").get("model_type")
    if kind == "git":
        from brainkit.generators.captioning_models import GitCaptioner

        return GitCaptioner
    raise InputError(
        f"{folder} holds no captioner: it has no {PREFIX_FILE} and its model_type is {kind!r}. "
        "brainkit reads prefix captioners (a GPT-2 with a prefix.json) and GIT models."
    )


def only_one(**inputs: Any) -> str:
    """Return the name of the one input that was given."""
    names = [name for name, value in inputs.items() if value is not None]
    if len(names) != 1:
        raise InputError(
            f"caption() takes exactly one of {listed(inputs)}; got {listed(names) or 'none'}."
        )
    return names[0]


def checked_vectors(
    values: ArrayLike, name: str, shape: tuple[int, ...], what: str
) -> NDArray[np.float32]:
    """Return vectors as float32 (n, *shape), or say what is wrong with them.

    Parameters
    ----------
    values : array (n, *shape)
    name : str
        What the argument is called.
    shape : tuple of int
        Shape that the model was made for.
    what : str
        The model, for the message.
    """
    detach = getattr(values, "detach", None)
    try:
        array = np.asarray(values if detach is None else detach().cpu(), dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be an array of numbers ({error}).") from error
    if array.ndim != len(shape) + 1 or array.shape[1:] != shape:
        expected = ", ".join(map(str, ("n", *shape)))
        raise InputError(
            f"{name} has shape {array.shape}, but {what} was made for ({expected}): give "
            "embeddings of the model that it was trained on."
        )
    bad = np.flatnonzero(~np.isfinite(array).all(axis=tuple(range(1, array.ndim))))
    if bad.size:
        raise InputError(f"{name} has NaN or infinity in rows {listed(bad)}.")
    return array


def decoding_settings(tokenizer: Any, max_new_tokens: int | None, num_beams: int, room: int) -> Any:
    """Return the whole decoding as a `transformers.GenerationConfig`.

    Every setting that could change a sentence is given a value, for `generate` fills what is left
    open from the model's own files.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    max_new_tokens : int or None
    num_beams : int
    room : int
        Tokens that the model has positions for.
    """
    from transformers import GenerationConfig

    if max_new_tokens is None:
        max_new_tokens = min(MAX_NEW_TOKENS, room)
    if not 1 <= max_new_tokens <= room or num_beams < 1:
        raise InputError(
            f"max_new_tokens={max_new_tokens} and num_beams={num_beams} must be at least 1, and "
            f"this captioner has room for {room} new tokens."
        )
    return GenerationConfig(
        do_sample=False,
        num_beams=num_beams,
        num_return_sequences=1,
        max_new_tokens=max_new_tokens,
        min_length=0,
        repetition_penalty=1.0,
        length_penalty=1.0,
        no_repeat_ngram_size=0,
        early_stopping=False,
        use_cache=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=padding_id(tokenizer),
    )


def padding_id(tokenizer: Any) -> int:
    """Return the token that fills short sentences: padding, else the end of a sentence."""
    padding = tokenizer.pad_token_id
    chosen = tokenizer.eos_token_id if padding is None else padding
    if chosen is None:
        raise InputError("The captioner's tokenizer has neither an end nor a padding token.")
    return int(chosen)


def batches(n_items: int, size: int) -> Iterator[slice]:
    """Cut items into batches."""
    if size < 1:
        raise InputError(f"batch_size={size} must be at least 1.")
    return (slice(start, start + size) for start in range(0, n_items, size))


def read_sentences(tokenizer: Any, tokens: Any) -> list[str]:
    """Turn rows of token ids into sentences without special tokens."""
    return [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]


def load_parts(folder: Path, what: str, model: Any, reader: Any) -> tuple[Any, Any]:
    """Load a model of transformers, float32 and strictly, and its tokenizer or processor.

    Parameters
    ----------
    folder : path
    what : str
        What the folder should hold, for messages.
    model, reader : class
        Classes of transformers.
    """
    import torch

    with quiet("transformers"), _reading(folder, what):
        loaded, report = model.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
        beside = reader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    _check_loaded(report, folder)
    return loaded, beside


@contextmanager
def _reading(folder: Path, what: str) -> Iterator[None]:
    """Turn what the libraries raise over damaged files into one error that names the folder."""
    from safetensors import SafetensorError

    with reading(
        folder, f"is not a readable {what}", also=[RuntimeError, KeyError, SafetensorError]
    ):
        yield


def _check_loaded(report: dict[str, Any], folder: Path) -> None:
    """Raise unless every weight of a model was loaded and none was left over (trap T23)."""
    wrong = {
        kind: sorted(map(str, report.get(f"{kind}_keys") or ()))
        for kind in ("missing", "unexpected", "mismatched")
    }
    if any(wrong.values()):
        counts = "; ".join(
            f"{len(names)} {kind} ({listed(names, 3)})" for kind, names in wrong.items() if names
        )
        raise InputError(f"The weights in {folder} fit the model only in part: {counts}.")


def same_permissions(folder: Path) -> None:
    """Put the weights in a folder under the user's umask; see `under_umask`."""
    for path in folder.glob("*.safetensors"):
        under_umask(path)
