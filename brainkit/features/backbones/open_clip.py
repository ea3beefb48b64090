"""Features of open_clip's image and text towers.

A specification is ``open_clip:NAME[+PREPROCESSING][/WEIGHTS]``, and ``open_clip-text:`` for text.
``PREPROCESSING`` is how images are resized and normalised: as for one of the architecture's tags,
or for a family of models (``openai``, ``siglip``, ``clipa``, ``mobileclip``). It is needed only for
a file of weights that comes without ``open_clip_config.json``, where the architecture's tags do not
all agree: open_clip itself would take OpenAI's without a word.

Layers of an image tower: ``stem`` (what the first block sees), ``blocks.N`` or the names of the
convolutional stages, ``pooled`` (before the projection) and ``embedding`` (open_clip's
``encode_image``, not normalised). Of a text tower: the same, by ``encode_text``.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import VisionTransformer, text_global_pool
from PIL import Image
from torchvision.transforms import Normalize

from brainkit.data.text import as_texts
from brainkit.errors import InputError
from brainkit.features.backbones.base import (
    Backbone,
    evaluating,
    first_tensor,
    freeze,
    record,
    submodule_of,
)
from brainkit.features.backbones.module import HookedModule, is_square, pictures, versions
from brainkit.features.backbones.open_clip_model import Tokenizer, build, find_source, tokenizer
from brainkit.features.spec import Spec, parse_spec

EMBEDDING, POOLED, STEM = "embedding", "pooled", "stem"


def open_clip_backbone(spec: Spec, *, download: bool | None = None) -> Backbone:
    """Load a tower of a model of open_clip; see `brainkit.features.backbones.open_backbone`."""
    source = find_source(spec, download)
    model: Any = build(spec, source, download)
    if spec.source == "open_clip-text":
        words = tokenizer(spec, source, download)
        return OpenClipText(model, words, spec.model, source.config)
    size = getattr(model.visual, "image_size", None) or source.preprocess["size"]
    preprocess = source.preprocess | {"size": size}
    return OpenClipImage(model.visual, preprocess, spec.model, source.config)


class OpenClipTower(HookedModule):
    """What the two towers share.

    Parameters
    ----------
    module : torch module
    spec : str
    config : dict
        open_clip's ``model_cfg``: what the weights alone do not tell, such as the activation.
    places : dict
        From the names of layers to those of submodules.
    """

    def __init__(
        self, module: torch.nn.Module, spec: str, config: dict[str, Any], places: dict[str, str]
    ) -> None:
        super().__init__(freeze(module), spec)
        self._config, self._places = config, places
        self._called_once: set[str] = set()

    def layers(self) -> list[str]:
        """Return the names of all layers, the embedding last."""
        return [*self._places, EMBEDDING]

    def default_layer(self) -> str:
        """Return ``embedding``."""
        return EMBEDDING

    def place(self, layer: str) -> str:
        """Return the submodule, or the call of one, that a layer is the output of."""
        part, number = submodule_of(layer)
        return self._places[part] if number is None else f"{self._places[part]}:{number}"

    @contextmanager
    def recording(self, places: Iterable[str], whole: bool) -> Iterator[dict[str, torch.Tensor]]:
        """Record outputs, in a pass that ends at the deepest one unless the whole is needed.

        The first pass is whole: it shows that none of the submodules is called a second time.
        """
        names = list(dict.fromkeys(places))
        stop = not whole and self._called_once.issuperset(names)
        with record(self.module, names, stop=stop) as recorded:
            yield recorded
        if not stop:
            self._called_once.update(name for name in names if submodule_of(name)[1] is None)

    def identity(self) -> dict[str, Any]:
        """Return configuration, the weights' hash, and the preprocessing in full."""
        spec = parse_spec(self.spec)
        return {
            "source": spec.source,
            # A folder may be moved; what is in it is told by the rest.
            "model": "folder" if spec.place == "folder" else spec.name,
            "config": self._config,
            "weights": self.weights(),
            "structure": self.structure(),
            "random_weights": spec.seed,
            "preprocessing": self.preprocessing(),
            "versions": versions("open_clip_torch", "torch", "torchvision", "pillow"),
        }

    def preprocessing(self) -> dict[str, Any]:
        """Return all settings of the preprocessing."""
        raise InputError(f"{self.spec} has no preprocessing.")


class OpenClipImage(OpenClipTower):
    """An image tower of open_clip.

    Parameters
    ----------
    visual : torch module
        The model's ``visual``.
    preprocess : dict
        open_clip's ``preprocess_cfg``, complete.
    spec : str
        What to call the model.
    config : dict
        open_clip's ``model_cfg``.
    """

    def __init__(
        self,
        visual: torch.nn.Module,
        preprocess: dict[str, Any],
        spec: str,
        config: dict[str, Any],
    ) -> None:
        super().__init__(visual, spec, config, _image_places(visual))
        self._preprocess = preprocess
        transform = image_transform_v2(PreprocessCfg(**preprocess), is_train=False)
        self._normalise = next(t for t in transform.transforms if isinstance(t, Normalize))
        # Resizing and cropping come first, on the 8-bit image, then conversion and normalisation.
        self._geometry = transform.transforms[: -len(("convert", "tensor", "normalise"))]

    def preprocessing(self) -> dict[str, Any]:
        """Return open_clip's settings."""
        return json.loads(json.dumps(self._preprocess))

    def prepare(self, items: Sequence[Image.Image] | Sequence[str]) -> torch.Tensor:
        """Resize, crop and normalise as open_clip evaluates; the last step for all at once."""
        pixels = []
        for picture in pictures(items):
            image = reduce(lambda part, step: step(part), self._geometry, picture)
            pixels.append(np.asarray(image))
        if not pixels:
            pixels = [np.empty((0, 0, 3), np.uint8)]
        return torch.from_numpy(
            normalised(np.stack(pixels), self._normalise.mean, self._normalise.std)
        )

    def prefix_tokens(self, layer: str) -> int:
        """Return the number of class and register tokens."""
        if isinstance(self.module, VisionTransformer):
            return 1 if layer in self._places and layer != POOLED else 0
        trunk = getattr(self.module, "trunk", None)
        prefix = 0 if layer.startswith("patch_embed") else getattr(trunk, "num_prefix_tokens", 0)
        return int(prefix or 0)

    def channels_last(self, layer: str) -> bool | None:
        """Return True for all but convolutions where timm says so of the architecture too."""
        last = getattr(getattr(self.module, "trunk", None), "output_fmt", None) == "NHWC"
        known = super().channels_last(layer)
        return True if known is None and last else known

    def run(self, batch: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the outputs of several layers, by one pass that ends at the deepest of them."""
        wanted = self.check_layers(layers)
        places = {layer: self.place(layer) for layer in wanted if layer != EMBEDDING}
        values = {}
        with evaluating(self.module):
            with self.recording(places.values(), whole=EMBEDDING in wanted) as recorded:
                values[EMBEDDING] = first_tensor(self.module(self.to_module(batch)))
            if isinstance(self.module, VisionTransformer) and POOLED in places:
                values[POOLED] = self.module._pool(recorded[places.pop(POOLED)])[0]
            tidy = self.tidied(recorded, list(places.values()), len(batch), is_square(batch))
        values |= {layer: tidy[name] for layer, name in places.items()}
        return {layer: values[layer] for layer in wanted}


def _image_places(visual: torch.nn.Module) -> dict[str, str]:
    """Return where the layers are, in the order of the forward pass."""
    if isinstance(visual, VisionTransformer):
        blocks = range(len(visual.transformer.resblocks))
        places = {f"blocks.{i}": f"transformer.resblocks.{i}" for i in blocks}
        # What is pooled is computed from the last block's output.
        return {STEM: "ln_pre", **places, POOLED: "transformer"}
    if isinstance(visual, TimmModel):
        holders = torch.nn.ModuleList | torch.nn.ModuleDict
        names = [
            name
            for name, part in visual.trunk.named_modules()
            if name and not isinstance(part, holders)
        ]
        return {**{name: f"trunk.{name}" for name in names}, POOLED: "trunk"}
    places = {STEM: "avgpool"}
    for stage in (name for name, _ in visual.named_children() if name.startswith("layer")):
        for i in range(len(visual.get_submodule(stage))):  # type: ignore[arg-type]
            places[f"{stage}.{i}"] = f"{stage}.{i}"
        places[stage] = stage
    return places


def normalised(
    pixels: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """Return (pixels / 255 − mean) / std, channels first.

    Parameters
    ----------
    pixels : uint8 array (n, height, width, 3)
    mean, std : sequence of 3 floats

    Returns
    -------
    float32 array (n, 3, height, width)
        The same to the last bit as torchvision's ToTensor and Normalize, image by image.
    """
    values = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32)
    values /= np.float32(255)
    values -= np.asarray(mean, dtype=np.float32)[:, None, None]
    values /= np.asarray(std, dtype=np.float32)[:, None, None]
    return values


class OpenClipText(OpenClipTower):
    """A text tower of open_clip.

    Strings longer than the model's context, which open_clip would cut there, are refused.

    Parameters
    ----------
    model : torch module
        The whole model; its image tower is let go.
    words : function
        The model's tokenizer.
    spec : str
        What to call the model.
    config : dict
        open_clip's ``model_cfg``.
    """

    def __init__(self, model: Any, words: Tokenizer, spec: str, config: dict[str, Any]) -> None:
        model.visual = torch.nn.Identity()
        own = getattr(model, "text", None)
        tower: torch.nn.Module = model if own is None else own
        self._encode = model.encode_text if own is None else own
        super().__init__(tower, spec, config, _text_places(tower))
        self.modality = "text"
        self._words = words

    def preprocessing(self) -> dict[str, Any]:
        """Return the tokenizer's class and context length, and a hash of its vocabulary."""
        return {
            "tokenizer": type(self._words).__name__,
            "context_length": self._config["text_cfg"].get("context_length", 77),
            "vocabulary": _vocabulary_hash(self._words),
            "settings": self._config["text_cfg"].get("tokenizer_kwargs", {}),
        }

    def prepare(self, items: Sequence[Image.Image] | Sequence[str]) -> torch.Tensor:
        """Tokenize; (n, context) integers.

        Raises
        ------
        InputError
            If a text has more tokens than the context: nothing is cut silently.
        """
        texts = as_texts(items, f"{self.spec} takes strings")
        tokens = self._words(texts)
        length = tokens.shape[1]
        # Where there is room for twice as many, a text that was cut goes on in another way.
        roomy = self._words(texts, context_length=2 * length)
        rest = roomy[:, length:]
        cut = (roomy[:, :length] != tokens).any(dim=1) | (rest != rest[:, -1:]).any(dim=1)
        if cut.any():
            first = texts[int(cut.int().argmax())]
            raise InputError(
                f"{self.spec} takes texts of at most {length} tokens; {int(cut.sum())} of "
                f"{len(texts)} are longer. The first: {first[:60]!r}... Shorten or split these."
            )
        return tokens

    def valid_tokens(self, batch: torch.Tensor) -> torch.Tensor | None:
        """Return True up to the end of each text, (n, tokens)."""
        tower = self.module
        if isinstance(tower, HFTextEncoder):
            return batch != tower.config.pad_token_id
        kind, end = self._pooling()
        if kind == "argmax":
            last = batch.argmax(dim=-1)
        elif kind == "eos":
            last = torch.eq(batch, end or 0).int().argmax(dim=-1)
        else:
            return None
        valid = torch.arange(batch.shape[1], device=batch.device) <= last[:, None]
        if getattr(tower, "cls_emb", None) is not None:  # a class token comes after the text
            valid = torch.cat([valid, torch.ones_like(valid[:, :1])], dim=1)
        return valid

    def _pooling(self) -> tuple[str, int | None]:
        tower: Any = self.module
        if hasattr(tower, "text_pool_type"):
            return str(tower.text_pool_type), tower.text_eos_id
        return str(tower.pool_type), getattr(tower, "eos_id", None)

    def run(self, batch: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the outputs of several layers, by one pass that ends at the deepest of them."""
        wanted = self.check_layers(layers)
        batch = batch.to(self.device())
        places = {layer: self.place(layer) for layer in wanted if layer != EMBEDDING}
        values = {}
        with evaluating(self.module):
            with self.recording(places.values(), whole=EMBEDDING in wanted) as recorded:
                values[EMBEDDING] = first_tensor(self._encode(batch))
            values |= {layer: recorded[name] for layer, name in places.items()}
            if POOLED in values and values[POOLED].ndim == 3:
                kind, end = self._pooling()
                values[POOLED] = text_global_pool(values[POOLED], batch, kind, end)
        return {layer: values[layer] for layer in wanted}


def _text_places(tower: torch.nn.Module) -> dict[str, str]:
    if isinstance(tower, HFTextEncoder):
        lists = [
            name for name, part in tower.named_modules() if isinstance(part, torch.nn.ModuleList)
        ]
        blocks = range(len(tower.get_submodule(lists[0])))
        places = {f"blocks.{i}": f"{lists[0]}.{i}" for i in blocks}
        return {**places, POOLED: "pooler"}
    blocks = range(len(tower.get_submodule("transformer.resblocks")))  # type: ignore[arg-type]
    places = {f"blocks.{i}": f"transformer.resblocks.{i}" for i in blocks}
    return {"tokens": "token_embedding", **places, POOLED: "ln_final"}


def _vocabulary_hash(words: Any) -> str:
    """Return the SHA-256 of what a tokenizer knows: its whole description, or words and merges."""
    fast = getattr(getattr(words, "tokenizer", None), "backend_tokenizer", None)
    if fast is not None:
        content = fast.to_str()
    elif hasattr(words, "bpe_ranks"):
        content = json.dumps([words.encoder, [" ".join(pair) for pair in words.bpe_ranks]])
    else:
        content = json.dumps(words.tokenizer.get_vocab(), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
