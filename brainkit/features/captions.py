"""What is said of stimuli as a feature space: a layer of a model of text, mean over captions."""

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.data.stimuli import Stimuli
from brainkit.data.text import KINDS, as_texts, is_missing
from brainkit.errors import InputError, listed
from brainkit.features.layer import ModelLayer
from brainkit.features.tokens import Pool, Tokens

Float = NDArray[np.float32]
CAPTIONS = "captions"
TAKES = "CaptionLayer takes the captions of each stimulus as text, a caption a line"


def read_captions(stimuli: Stimuli, rows: ArrayLike) -> NDArray[np.str_]:
    """Read the captions of stimuli.

    Parameters
    ----------
    stimuli : Stimuli
        With a column `captions` (lists) or `caption` in their table, or of kind "caption".
    rows : array of int (n,)

    Returns
    -------
    array of str (n,)
        The captions of each stimulus, a caption a line.

    Raises
    ------
    InputError
        If the stimuli have no captions, or some of these have none.
    """
    wanted = np.asarray(rows)
    if stimuli.kind in KINDS:
        found = [np.atleast_1d(texts).tolist() for texts in stimuli.read(wanted)]
    else:
        table = stimuli.table
        column = next((name for name in ("captions", "caption") if _has(table, name)), None)
        if table is None or column is None:
            raise InputError(
                "This feature space reads captions, and the stimuli have none. Datasets take them "
                "from COCO's annotation files (the reader's option annotations); for stimuli of "
                "your own give Stimuli a table with a column 'caption' or 'captions'."
            )
        found = [_as_list(value) for value in table[column].iloc[wanted]]
    lines = [[" ".join(text.split()) for text in captions] for captions in found]
    texts = ["\n".join(text for text in captions if text) for captions in lines]
    silent = sorted(
        {str(stimuli.ids[row]) for row, text in zip(wanted, texts, strict=True) if not text}
    )
    if silent:
        raise InputError(
            f"{len(silent)} stimuli have no caption: {listed(silent)}. Leave them out, or describe "
            "them: this feature space reads captions."
        )
    return np.array(texts, dtype=np.str_)


def _has(table: Any, name: str) -> bool:
    return table is not None and name in table


def _as_list(value: Any) -> list[str]:
    """Return the captions in a cell of the table: a list, one of them, or nothing."""
    several = isinstance(value, list | tuple | np.ndarray)
    return [] if is_missing(value) else as_texts(value if several else [value])


class CaptionLayer(ModelLayer):
    r"""One layer of a model of text, on the captions of stimuli; nothing is fitted.

    The features of a stimulus are the mean over its captions. Each distinct caption is computed
    once.

    Parameters
    ----------
    model : str, default="open_clip-text:tiny"
        Model of text and layer, as for `ModelLayer`.
    pool, tokens, store, batch_size, device, dtype
        As for `ModelLayer`; `pool` is None by default, for the default layer of a text tower,
        which gives one vector.

    Examples
    --------
    >>> from brainkit.features import CaptionLayer
    >>> layer = CaptionLayer("open_clip-text:tiny")
    >>> layer.transform(["a red house on a beach", "a calm face\na pale face"]).shape
    (2, 256)
    """

    reads = CAPTIONS

    def __init__(
        self,
        model: str = "open_clip-text:tiny",
        pool: Pool | None = None,
        tokens: Tokens = "all",
        store: str | None = None,
        batch_size: int | None = None,
        device: str = "auto",
        dtype: Literal["float32", "float16"] = "float32",
    ) -> None:
        super().__init__(model, pool, tokens, store, batch_size, device, dtype)

    def read(self, stimuli: Stimuli, rows: ArrayLike) -> NDArray[np.str_]:
        """Read the captions of stimuli, see `read_captions`."""
        return read_captions(stimuli, rows)

    def transform(self, stimuli: Any) -> Float:
        """Return the mean features of each stimulus's captions, (n, features).

        Parameters
        ----------
        stimuli : sequence of str (n,)
            The captions of each stimulus, a caption a line.

        Raises
        ------
        InputError
            If the model takes images, or what is given are no captions.
        """
        if self._backbone().modality != "text":
            raise InputError(
                f"caption-layer needs a model of text, and {self.model} takes images: name one "
                "such as open_clip-text:tiny."
            )
        captions = [_lines(text) for text in as_texts(stimuli, TAKES)]
        distinct = sorted({text for lines in captions for text in lines})
        place = {text: row for row, text in enumerate(distinct)}
        values = super().transform(distinct)
        return np.stack(
            [values[[place[text] for text in lines]].mean(axis=0) for lines in captions]
        )


def _lines(text: str) -> list[str]:
    """Return the captions of one stimulus."""
    lines = text.splitlines()
    if not lines:
        raise InputError(
            f"{TAKES}; got {text!r:.80}. Read them with read_for(space, stimuli, rows), or as "
            "stimuli of kind 'caption'."
        )
    return lines
