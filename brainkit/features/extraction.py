"""From stimuli to the features of a model's layers, in one call.

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

from brainkit.arrays.devices import BATCH_SIZES
from brainkit.arrays.progress import bar
from brainkit.errors import InputError, listed
from brainkit.features.arrays import check_count
from brainkit.features.backbones.base import Backbone
from brainkit.features.backbones.registry import open_backbone
from brainkit.features.fingerprint import KnownContent, fingerprint, may_change
from brainkit.features.items import Items
from brainkit.features.probe import check_frozen, probe_items
from brainkit.features.projection import Reduction, check_reduction
from brainkit.features.spec import Spec, parse_spec
from brainkit.features.store import FeatureStore, open_store
from brainkit.features.store_entry import Entry
from brainkit.features.tokens import Pool, Tokens, check_policy, pool_tokens, select_tokens

if TYPE_CHECKING:
    import torch

FORMAT = 2
DEFAULT_BATCH = BATCH_SIZES[0]
CHUNK_BYTES = 64 << 20  # what is gathered for one layer before it is written
MOST_BATCHES = 8  # in one chunk
MOST_READERS = 4
DTYPES = ("float32", "float16")

Array = NDArray[Any]
Store = FeatureStore | str | Path | None


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
        How tokens, or positions of a map, are pooled; see `brainkit.features.tokens`.
    tokens : {"all", "patch", "class"}
        Which tokens are taken.
    layers : str or sequence of str, optional
        Instead of those in the specification. The model's default layer where neither names any.
    reduce : SparseProjection or fitted FeaturePCA, optional
        For layers too large to keep: applied to each batch, after pooling, over all tokens and
        features at once; only its result is kept, (n, components).
    store : FeatureStore, path or "default", optional
        Where features are kept and found again. Extraction resumes there where it was
        interrupted, and its peak memory does not depend on the number of stimuli. "default" is
        $BRAINKIT_STORE, or ``~/.cache/brainkit/features``.
    batch_size : int, default=128
        Stimuli in one forward pass. Part of what identifies stored features, because it changes
        the last bits.
    device : str, default="auto"
        Of torch; "auto" is a GPU where there is one.
    dtype : {"float32", "float16"}
        Of what is returned; the model computes in its own precision.
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
        (see `brainkit.features.probe`).
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
    items = Items(stimuli, backbone.modality)
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
        from brainkit.features.backbones.module import TorchModel

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
        items: Items,
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
