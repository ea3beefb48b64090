"""From stimuli to the features of a model's layers, in one call.

Stimuli of any kind are a row of images or strings that are read when needed. Pictures become RGB of
8 bits by the rule of `brainkit.data.rgb`, texts strings by that of `brainkit.data.text`; what
cannot be read is an error that names it, never a gap.

One forward pass gives all layers. While the model works on one batch, the next ones are read and
preprocessed in the background. Batches always begin at multiples of the batch size, and what is
stored is written in whole numbers of batches, so that an extraction that was interrupted and
resumed gives the same bits as one that was not.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from brainkit.arrays.array_likes import as_items, unmasked
from brainkit.arrays.devices import BATCH_SIZES
from brainkit.arrays.files import is_file
from brainkit.arrays.progress import bar
from brainkit.data.rgb import as_images, check_format, to_rgb, warn_of_dark
from brainkit.data.stimuli import ArrayStimuli, ImageFiles, Stimuli
from brainkit.data.text import KINDS, as_texts
from brainkit.errors import (
    BrainkitError,
    CorruptFileError,
    FileAccessError,
    InputError,
    MissingFileError,
    listed,
)
from brainkit.features.backbones.backbone import Backbone, Modality, open_backbone
from brainkit.features.fingerprint import (
    KnownContent,
    check_frozen,
    fingerprint,
    may_change,
    probe_items,
)
from brainkit.features.reduction import Reduction, check_count, check_reduction
from brainkit.features.spec import Spec, parse_spec
from brainkit.features.store import Entry, FeatureStore, open_store
from brainkit.features.tokens import Pool, Tokens, check_policy, pool_tokens, select_tokens

if TYPE_CHECKING:
    import torch
    from PIL import Image

# What may be wrong with one item of many; all that have the same fault are named.
FAULTS = (CorruptFileError, FileAccessError, MissingFileError, InputError)

FORMAT = 2
DEFAULT_BATCH = BATCH_SIZES[0]
CHUNK_BYTES = 64 << 20  # what is gathered for one layer before it is written
MOST_BATCHES = 8  # in one chunk
MOST_READERS = 4
DTYPES = ("float32", "float16")

Array = NDArray[Any]
Store = FeatureStore | str | Path | None


class ModelInputs:
    """Stimuli for one kind of model, in order.

    Parameters
    ----------
    stimuli : Stimuli, array, or sequence of PIL images, of paths or of strings
        Images as an array are (n, height, width) or (n, height, width, 3), of 8 or 16 bits,
        booleans, or floating point in [0, 1]. For a model of text, strings, or bytes in UTF-8;
        for a model of images, strings are paths.
    modality : {"image", "text"}

    Raises
    ------
    InputError
        If the stimuli are none of these: tables, dicts and sets have other items than rows in an
        order, and masked arrays would lose their mask.
    """

    def __init__(self, stimuli: Any, modality: Modality) -> None:
        self.modality = modality
        self.ids: list[Any] | None = None
        if isinstance(stimuli, Stimuli):
            expected = ("image",) if modality == "image" else KINDS
            if stimuli.kind not in expected:
                raise InputError(
                    f"The model takes {modality}s, but the stimuli are of kind {stimuli.kind!r}."
                )
            self.ids = list(stimuli.ids)
            files = stimuli.source
            stimuli = list(files.paths) if isinstance(files, ImageFiles) else stimuli
        elif isinstance(stimuli, np.ndarray):
            stimuli = unmasked(stimuli, "The array of stimuli")
        else:
            stimuli = as_items(stimuli, "The stimuli")
        self.stimuli = stimuli
        if modality == "image":
            self._check_images()
        elif not isinstance(stimuli, Stimuli):
            if isinstance(stimuli, np.ndarray) and stimuli.ndim != 1:
                raise InputError(
                    f"A model of text takes a string for each stimulus, an array (n,); got shape "
                    f"{stimuli.shape}."
                )
            self.stimuli = as_texts(list(stimuli), "A model of text takes strings")

    def __len__(self) -> int:
        return len(self.stimuli)

    def name(self, row: int) -> str:
        """Return what to call one stimulus in a message."""
        item = self.stimuli[row] if isinstance(self.stimuli, list) else None
        if isinstance(item, str | Path):
            return str(item)
        return f"stimulus {row if self.ids is None else self.ids[row]}"

    def read(self, rows: range) -> "list[Image.Image] | list[str]":
        """Return the items of some rows: RGB images, or strings.

        Raises
        ------
        CorruptFileError, FileAccessError, MissingFileError, InputError
            If any image, of these rows or later ones, is damaged, may not be read, is gone, or has
            no place in 8 bits; the message counts and names all that have the same fault.
        """
        if self.modality == "text":
            if isinstance(self.stimuli, list):
                return self.stimuli[rows.start : rows.stop]
            return [str(text) for text in self.stimuli.read(np.arange(rows.start, rows.stop))]
        if isinstance(self.stimuli, list):
            try:
                return [self._image(row) for row in rows]
            except FAULTS as error:
                raise self._all_faults(rows.start, type(error)) from error
        if isinstance(self.stimuli, Stimuli):
            return as_images(self.stimuli.read(np.arange(rows.start, rows.stop)))
        return as_images(self.stimuli[rows.start : rows.stop])

    def _image(self, row: int) -> "Image.Image":
        return to_rgb(self.stimuli[row])

    def _all_faults(self, start: int, kind: type[BrainkitError]) -> BrainkitError:
        """Return the error that names all images from a row on that have one fault."""
        reasons = []
        for row in range(start, len(self)):
            try:
                self._image(row)
            except kind as error:
                reasons.append(f"{self.name(row)} ({_reason(error)})")
        return kind(
            f"{len(reasons)} of {len(self)} images cannot be read: "
            f"{listed(reasons, separator='; ')}. Mend or leave out these stimuli; none is ever "
            "skipped."
        )

    def _check_images(self) -> None:
        from PIL import Image

        stimuli = self.stimuli
        if isinstance(stimuli, Stimuli) and isinstance(stimuli.source, ArrayStimuli):
            warn_of_dark(stimuli.source.array)
        if isinstance(stimuli, np.ndarray):
            if stimuli.ndim == 1 and stimuli.dtype.kind in "OUST":
                self.stimuli = stimuli = stimuli.tolist()
            else:
                check_format(stimuli)
                warn_of_dark(stimuli)
        if isinstance(stimuli, list):
            self.stimuli = stimuli = [
                os.fsdecode(item) if isinstance(item, bytes) else item for item in stimuli
            ]
            kinds = str | Path | Image.Image | np.ndarray
            wrong = [row for row, item in enumerate(stimuli) if not isinstance(item, kinds)]
            if wrong:
                raise InputError(
                    "Image stimuli are PIL images, paths or arrays; got "
                    f"{type(stimuli[wrong[0]]).__name__} in rows {listed(wrong)}."
                )
            absent = [
                str(item) for item in stimuli if isinstance(item, str | Path) and not is_file(item)
            ]
            if absent:
                raise MissingFileError(
                    f"{len(absent)} of {len(stimuli)} image files are not there: {listed(absent)}. "
                    "The model takes images, and strings name their files; for texts name a model "
                    "of text, such as open_clip-text:tiny."
                )


def _reason(error: BaseException) -> str:
    """Return what a library or the system said, without the name of the file."""
    while error.__cause__ is not None:
        error = error.__cause__
    message = getattr(error, "strerror", None) or str(error)
    return " ".join(message.split()).rstrip(".")


def extract(  # noqa: PLR0913 - all but two by name
    model: "str | Spec | Backbone | torch.nn.Module",
    stimuli: Any,
    *,
    pool: Pool | None = None,
    tokens: Tokens = "all",
    layers: str | Sequence[str] | None = None,
    reduce: Reduction | None = None,
    store: Store = None,
    batch_size: int | None = None,
    device: str = "auto",
    dtype: Literal["float32", "float16"] = "float32",
    progress: bool = True,
) -> Any:
    """Return the features of stimuli in one or several layers of a model.

    Parameters
    ----------
    model : str, Backbone or torch module
        A specification such as ``"open_clip:ViT-B-16/laion2b_s34b_b88k@blocks.6"`` (see
        `brainkit.features.spec`), a loaded model, or a module of your own, whose images are then
        given as float32 in [0, 1] (`TorchModel` takes another preprocessing).
    stimuli : Stimuli, array (n, height, width[, 3]), or sequence of PIL images, paths or strings
        Strings are texts for a model of text and paths for a model of images.
    pool : {None, "mean", "max", "class", "last", "flatten"}
        Way in which tokens, or positions of a map, are pooled; see `brainkit.features.tokens`.
    tokens : {"all", "patch", "class"}
        The tokens of a layer that are taken.
    layers : str or sequence of str, optional
        Layers to take instead of those in the specification. The model's default layer where
        neither names any.
    reduce : SparseProjection or fitted FeaturePCA, optional
        Reduction for layers too large to keep: it is applied to each batch, after pooling, over all
        tokens and features at once; only its result is kept, (n, components).
    store : FeatureStore, path or "default", optional
        Store in which features are kept and found again. Extraction resumes there where it was
        interrupted, and its peak memory does not depend on the number of stimuli. "default" is
        $BRAINKIT_STORE, or ``~/.cache/brainkit/features``.
    batch_size : int, default=128
        Stimuli in one forward pass. Part of what identifies stored features, because it changes
        the last bits.
    device : str, default="auto"
        Device of torch; "auto" is a GPU where there is one.
    dtype : {"float32", "float16"}
        Dtype of what is returned; the model computes in its own precision.
    progress : bool, default=True
        Show rate and time left on standard error, if it takes more than two seconds.

    Returns
    -------
    array or dict of arrays
        (n, tokens, width) where tokens are kept, (n, features) otherwise. From a store: a
        read-only memory map. A dict by layer where `layers` is a sequence or the specification
        names several layers, and one array otherwise.

    Raises
    ------
    UnknownNameError
        If there is no such source, model, weights or layer; the message names the nearest.
    CorruptFileError
        If images cannot be read; the message counts and names all of them.
    InputError
        If the stimuli are of another kind than the model takes, features are not finite, or they
        are not those of a frozen model: different at every pass, or with what else is in a batch
        (see `brainkit.features.fingerprint`).
    DownloadError
        If weights are not on this machine; they are fetched only where $BRAINKIT_DOWNLOAD is 1.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit.features import extract
    >>> images = np.zeros((2, 64, 64, 3), dtype=np.uint8)
    >>> extract("torchvision:squeezenet1_0/random@features.3", images, pool="mean").shape
    (2, 128)
    """
    check_policy(tokens, pool)
    check_reduction(reduce)
    batch_size = _checked(batch_size, dtype)
    backbone, named = _opened(model)
    wanted = [layers] if isinstance(layers, str) else layers
    chosen = backbone.check_layers(named if wanted is None else wanted)
    several = len(chosen) > 1 if wanted is None else not isinstance(layers, str)
    items = ModelInputs(stimuli, backbone.modality)
    if not len(items):
        raise InputError("There are no stimuli to extract features of.")
    work = _Work(backbone, items, tuple(chosen), tokens, pool, reduce, batch_size, dtype)
    backbone.to(_device(device))
    with exact_arithmetic():
        if store is None:
            values = _in_memory(work, progress)
        else:
            values = _stored(work, open_store(store), stimuli, progress)
    return values if several else values[chosen[0]]


def _checked(batch_size: int | None, dtype: str) -> int:
    if dtype not in DTYPES:
        raise InputError(f"dtype must be one of {listed(DTYPES)}; got {dtype!r}.")
    if batch_size is None:
        return DEFAULT_BATCH
    check_count("batch_size", batch_size)
    return int(batch_size)


def _opened(model: Any) -> tuple[Backbone, Sequence[str]]:
    if isinstance(model, Backbone):
        return model, ()
    if isinstance(model, str | Spec):
        spec = parse_spec(model) if isinstance(model, str) else model
        return open_backbone(spec), spec.layers
    import torch

    if isinstance(model, torch.nn.Module):
        from brainkit.features.backbones.torch_module import TorchModel

        return TorchModel(model), ()
    raise InputError(
        "A model is a specification such as 'open_clip:tiny@blocks.2', a Backbone or a torch "
        f"module; got {type(model).__name__}."
    )


def _device(name: str) -> "torch.device":
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InputError(f"The device {name!r} cannot be used ({error}). Take 'auto'.") from error
    return device


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Let a GPU neither shorten float32 (TF32) nor choose its algorithms by trial, in a block."""
    import torch

    short = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = short


class _Work:
    """What is to be extracted, and how: everything but where it goes."""

    def __init__(
        self,
        backbone: Backbone,
        items: ModelInputs,
        layers: tuple[str, ...],
        tokens: Tokens,
        pool: Pool | None,
        reduce: Reduction | None,
        batch_size: int,
        dtype: str,
    ) -> None:
        self.backbone, self.items, self.layers = backbone, items, layers
        self.tokens, self.pool, self.reduce = tokens, pool, reduce
        self.batch_size, self.dtype = batch_size, dtype

    def key(self, layer: str, stimuli: dict[str, Any], identity: dict[str, Any]) -> dict[str, Any]:
        """Return what the features of a layer are stored under."""
        return {
            "format": FORMAT,
            "backbone": identity,
            "layer": layer,
            "tokens": self.tokens,
            "pool": self.pool,
            "reduce": None if self.reduce is None else self.reduce.identity(),
            "dtype": self.dtype,
            "batch_size": self.batch_size,
            "stimuli": stimuli,
        }

    def prepare(self, rows: range) -> "torch.Tensor":
        """Read and preprocess some stimuli."""
        return self.backbone.prepare(self.items.read(rows))

    def compute(
        self, batch: "torch.Tensor", rows: range, layers: Sequence[str]
    ) -> dict[str, Array]:
        """Return the features of prepared stimuli."""
        pooled = self._pooled(batch, layers)
        return {layer: self._cast(values, layer, rows) for layer, (values, _) in pooled.items()}

    def _pooled(
        self, batch: "torch.Tensor", layers: Sequence[str]
    ) -> "dict[str, tuple[torch.Tensor, torch.dtype]]":
        """Return the pooled tokens of each layer, and the precision that it was computed in."""
        valid = self.backbone.valid_tokens(batch)
        pooled = {}
        for layer, raw in self.backbone.run(batch, layers).items():
            self.backbone.note(raw, self.batch_size)
            prefix = self.backbone.prefix_tokens(layer) if raw.ndim == 3 else 0
            suffix = self.backbone.suffix_tokens(layer) if raw.ndim == 3 else 0
            # Half precision is too coarse to add tokens up in.
            plain = raw.float() if raw.dtype.itemsize < 4 else raw
            values = pool_tokens(
                select_tokens(plain, self.tokens, prefix, suffix),
                self.pool,
                prefix=0 if self.tokens == "patch" else prefix,
                # The padding of the tokens that are left.
                valid=valid[:, prefix:] if valid is not None and self.tokens == "patch" else valid,
            )
            pooled[layer] = (values, raw.dtype)
        return pooled

    def check_frozen(self, layers: Sequence[str]) -> None:
        """Raise unless layers are those of a frozen model; once for each, see `features.probe`."""
        way = (self.tokens, self.pool, str(getattr(self.backbone, "device", str)()))
        done: set[Any] = vars(self.backbone).setdefault("_found_frozen", set())
        due = [layer for layer in layers if (layer, *way) not in done]
        if not due:
            return

        def features(batch: "torch.Tensor") -> "dict[str, torch.Tensor]":
            pooled = self._pooled(batch, due)
            return {layer: values.to(kind) for layer, (values, kind) in pooled.items()}

        check_frozen(self.backbone, probe_items(self.items), features)
        done.update((layer, *way) for layer in due)

    def _cast(self, values: "torch.Tensor", layer: str, rows: range) -> Array:
        array = values.float().cpu().numpy()
        if self.reduce is not None:
            self._check_finite(array, array, layer, rows)  # a sparse projection might miss some
            array = self.reduce.transform(array)
        with np.errstate(over="ignore"):
            cast = array.astype(self.dtype, copy=False)
        self._check_finite(array, cast, layer, rows)
        return cast

    def _check_finite(self, array: Array, cast: Array, layer: str, rows: range) -> None:
        # A sum is finite only if all terms are, short of an overflow, which is looked into.
        if np.isfinite(cast.sum(dtype=np.float64)):
            return
        bad = ~np.isfinite(cast).reshape(len(cast), -1).all(axis=1)
        if not bad.any():
            return
        names = listed(self.items.name(rows[i]) for i in np.flatnonzero(bad))
        mend = (
            "They exceed float16; take dtype='float32'."
            if np.isfinite(array).all()
            else "The model gives NaN or infinity there: look at its weights, or name another "
            "layer."
        )
        raise InputError(
            f"The features of {self.backbone.spec}, layer {layer}, are not finite for "
            f"{bad.sum()} stimuli of this batch: {names}. {mend}"
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of one stimulus's features in every layer, from the first stimulus."""
        rows = range(1)
        values = self.compute(self.prepare(rows), rows, self.layers)
        return {layer: value.shape[1:] for layer, value in values.items()}


def _batches(
    work: _Work, starts: Sequence[int], progress: bool
) -> "Iterator[tuple[range, torch.Tensor]]":
    """Give prepared batches in order; the next ones are prepared meanwhile."""
    n_stimuli = len(work.items)
    todo = [range(start, min(start + work.batch_size, n_stimuli)) for start in starts]
    # Tokenizers are not made for several threads at once.
    text = work.backbone.modality == "text"
    n_readers = 1 if text else min(os.cpu_count() or 1, MOST_READERS)
    pending: list[tuple[range, Future[torch.Tensor]]] = []
    shown = bar(
        f"features of {work.backbone.spec}",
        total=sum(len(rows) for rows in todo),
        unit=" stimuli",
        disable=not progress,
    )
    pool = ThreadPoolExecutor(n_readers, thread_name_prefix="brainkit-reader")
    try:
        for i, rows in enumerate(todo):
            for ahead in todo[i + len(pending) : i + 1 + n_readers]:
                pending.append((ahead, pool.submit(work.prepare, ahead)))
            _, future = pending.pop(0)
            yield rows, future.result()
            shown.update(len(rows))
    finally:
        shown.close()
        pool.shutdown(wait=True, cancel_futures=True)


def _in_memory(work: _Work, progress: bool) -> dict[str, Array]:
    work.check_frozen(work.layers)
    n_stimuli = len(work.items)
    out: dict[str, Array] = {}
    for rows, batch in _batches(work, range(0, n_stimuli, work.batch_size), progress):
        for layer, values in work.compute(batch, rows, work.layers).items():
            if layer not in out:
                out[layer] = np.empty((n_stimuli, *values.shape[1:]), work.dtype)
            out[layer][rows.start : rows.stop] = values
    return out


def _stored(work: _Work, store: FeatureStore, stimuli: Any, progress: bool) -> dict[str, Array]:
    """Compute what the store does not have yet, and return all from there."""
    known = KnownContent(store.folder / ".stimuli")
    what, who = fingerprint(stimuli, work.backbone.modality, known), work.backbone.identity()
    entries = {layer: store.entry(work.key(layer, what, who)) for layer in work.layers}
    if all(entry.complete for entry in entries.values()):
        work.backbone.note(None, work.batch_size)
    else:
        work.check_frozen([layer for layer, entry in entries.items() if not entry.complete])
        shapes = work.shapes()
        sinks = {
            layer: _Sink(entry, len(work.items), shapes[layer], work)
            for layer, entry in entries.items()
            if not entry.complete
        }
        starts = sorted({start for sink in sinks.values() for start in sink.batches})
        for rows, batch in _batches(work, starts, progress):
            due = [layer for layer, sink in sinks.items() if rows.start in sink.batches]
            for layer, values in work.compute(batch, rows, due).items():
                sinks[layer].take(rows, values)
        again = may_change(stimuli, work.backbone.modality)
        if again and fingerprint(stimuli, work.backbone.modality, known) != what:
            for sink in sinks.values():
                sink.forget()
            raise InputError(
                "The stimuli changed while their features were extracted, so these are of neither "
                "state and were not kept. Extract again when nothing writes to them."
            )
        for sink in sinks.values():
            sink.entry.finish()
    return {layer: entry.read() for layer, entry in entries.items()}


class _Sink:
    """Gathers a layer's batches into chunks and writes those that the store lacks."""

    def __init__(self, entry: Entry, n_stimuli: int, shape: tuple[int, ...], work: _Work) -> None:
        row_bytes = int(np.prod(shape)) * np.dtype(work.dtype).itemsize
        n_batches = CHUNK_BYTES // max(row_bytes * work.batch_size, 1)
        chunk = work.batch_size * int(np.clip(n_batches, 1, MOST_BATCHES))
        entry.begin(n_stimuli, shape, work.dtype, chunk)
        self.entry = entry
        self._chunks = {
            start: chunk_rows
            for chunk_rows in entry.missing()
            for start in range(chunk_rows.start, chunk_rows.stop, work.batch_size)
        }
        self.batches = frozenset(self._chunks)
        self._shape, self._dtype = shape, work.dtype
        self._buffer: Array | None = None
        self._written: list[range] = []

    def take(self, rows: range, values: Array) -> None:
        """Take the next batch; write the chunk that it completes."""
        chunk = self._chunks[rows.start]
        if self._buffer is None:
            self._buffer = np.empty((len(chunk), *self._shape), self._dtype)
        self._buffer[rows.start - chunk.start : rows.stop - chunk.start] = values
        if rows.stop == chunk.stop:
            self.entry.write(chunk.start, self._buffer)
            self._buffer = None
            self._written.append(chunk)

    def forget(self) -> None:
        """Take back what was written here."""
        self.entry.drop(self._written)
