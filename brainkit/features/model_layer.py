"""A layer of a frozen model as a feature space, for encoders and recipes.

`ModelLayer` is a layer of a model of images, or of texts where the stimuli are texts;
`CaptionLayer` one of a model of text that is given the stimuli's captions, mean over captions.
"""

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from brainkit.data.stimuli import Stimuli
from brainkit.data.text import KINDS, as_texts, is_missing
from brainkit.errors import InputError, listed
from brainkit.features.backbones.backbone import Backbone, open_backbone
from brainkit.features.extraction import DEFAULT_BATCH, extract
from brainkit.features.spec import parse_spec
from brainkit.features.tokens import Pool, Tokens

Float = NDArray[np.float32]
CAPTIONS = "captions"
TAKES = "CaptionLayer takes the captions of each stimulus as text, a caption a line"


class ModelLayer(TransformerMixin, BaseEstimator):
    """One layer of a model, as a transformer from stimuli to features; nothing is fitted.

    Only the model's name is a parameter, so that what is saved is small and says where the
    features come from. The model is loaded when it is first needed; clones share it.

    Parameters
    ----------
    model : str, default="open_clip:tiny"
        Model and layer, ``SOURCE:NAME[/WEIGHTS][@LAYER]`` (see `brainkit.features.spec`); the
        model's default layer where none is named.
    pool : {"mean", "max", "class", "last", "flatten", None}, default="mean"
        Way in which tokens, or positions of a map, are pooled; None for layers that give one
        vector.
    tokens : {"all", "patch", "class"}, default="all"
        The tokens of a layer that are taken.
    keep_tokens : bool, default=False
        Give tokens, (n, token, feature), where `pool` is None: for encoders that read them, such as
        readouts and routing. Without it a layer of tokens that is not pooled is refused.
    store : str, optional
        Folder where features are kept and found again, or "default".
    batch_size : int, optional
        Stimuli in one forward pass.
    device : str, default="auto"
        Device of torch that the model runs on.
    dtype : {"float32", "float16"}, default="float32"
        Dtype in which features are kept in the store; they are always given as float32.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit.features.model_layer import ModelLayer
    >>> layer = ModelLayer("torchvision:squeezenet1_0/random@features.3")
    >>> layer.fit_transform(np.zeros((2, 64, 64, 3), dtype=np.uint8)).shape
    (2, 128)
    """

    stateless = True  # features of a stimulus depend on nothing that was fitted

    def __init__(
        self,
        model: str = "open_clip:tiny",
        pool: Pool | None = "mean",
        tokens: Tokens = "all",
        store: str | None = None,
        batch_size: int | None = None,
        device: str = "auto",
        dtype: Literal["float32", "float16"] = "float32",
        keep_tokens: bool = False,
    ) -> None:
        self.model = model
        self.pool = pool
        self.tokens = tokens
        self.store = store
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype
        self.keep_tokens = keep_tokens

    def __sklearn_clone__(self) -> "ModelLayer":
        twin = type(self)(**self.get_params())
        if "_opened" in vars(self):
            twin._opened = self._opened
        return twin

    def __getstate__(self) -> dict[str, Any]:
        # The loaded model stays behind; whoever receives the copy loads it by its name.
        state = dict(super().__getstate__())
        state.pop("_opened", None)
        return state

    def fit(self, stimuli: Any, y: None = None) -> Self:
        """Do nothing; the features have no fitted part."""
        return self

    def transform(self, stimuli: Any) -> Float:
        """Return the features of images (or of strings, for a model of text).

        Returns
        -------
        float32 array (n, features), or (n, token, feature) with `keep_tokens`

        Raises
        ------
        UnknownNameError
            If there is no such model or layer; the message names the nearest.
        InputError
            If several layers are named, or the layer gives tokens that are neither pooled nor to be
            kept.
        """
        spec = parse_spec(self.model)
        if len(spec.layers) > 1:
            raise InputError(
                f"ModelLayer takes one layer; {self.model} names {listed(spec.layers)}. Put "
                "several side by side: in a recipe as feature spaces, else with FeatureStack."
            )
        values = extract(
            self._backbone(),
            stimuli,
            pool=self.pool,
            tokens=self.tokens,
            layers=spec.layers[0] if spec.layers else None,
            store=self.store,
            batch_size=self.batch_size,
            device=self.device,
            dtype=self.dtype,
        )
        if values.ndim != 2 and not self.keep_tokens:
            raise InputError(
                f"The layer of {self.model} gives tokens, {values.shape[1:]} for each stimulus, "
                "where one row of features is needed. Take pool='mean', pool='flatten' for all, or "
                "keep_tokens=True for an encoder that reads tokens."
            )
        return np.asarray(values, dtype=np.float32)

    def identity(self) -> dict[str, Any]:
        """Return what determines the features, for manifests; loads the model.

        Returns
        -------
        dict
            JSON values: those of `Backbone.identity`, the layer, tokens, pooling and batch size.
        """
        backbone, spec = self._backbone(), parse_spec(self.model)
        return {
            **backbone.identity(),
            "layer": backbone.check_layers(spec.layers)[0],
            "tokens": self.tokens,
            "pool": self.pool,
            "batch_size": self.batch_size or DEFAULT_BATCH,
        }

    @property
    def ran_(self) -> list[dict[str, Any]]:
        """What ran so far of this layer and its clones, which share a model; see `Backbone.ran`."""
        runs = self._opened[1].ran if "_opened" in vars(self) else ()
        return [{"model": self.model, **run} for run in runs]

    def _backbone(self) -> Backbone:
        """Return the model, loaded once for a name."""
        name = parse_spec(self.model).model
        if getattr(self, "_opened", ("",))[0] != name:
            self._opened: tuple[str, Backbone] = (name, open_backbone(self.model))
        return self._opened[1]

    def __sklearn_is_fitted__(self) -> bool:
        return True


def read_captions(stimuli: Stimuli, rows: ArrayLike) -> NDArray[np.str_]:
    """Read the captions of stimuli.

    Parameters
    ----------
    stimuli : Stimuli
        Stimuli with a column `captions` (lists) or `caption` in their table, or of kind "caption".
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
        captions_of_row = [np.atleast_1d(texts).tolist() for texts in stimuli.read(wanted)]
    else:
        table = stimuli.table
        column = next((name for name in ("captions", "caption") if _has(table, name)), None)
        if table is None or column is None:
            raise InputError(
                "This feature space reads captions, and the stimuli have none. Datasets take them "
                "from COCO's annotation files (the reader's option annotations); for stimuli of "
                "your own give Stimuli a table with a column 'caption' or 'captions'."
            )
        captions_of_row = [_as_list(value) for value in table[column].iloc[wanted]]
    lines = [[" ".join(text.split()) for text in captions] for captions in captions_of_row]
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
        Parameters as for `ModelLayer`; `pool` is None by default, for the default layer of a text
        tower, which gives one vector.

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
