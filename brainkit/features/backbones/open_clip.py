"""Features of open_clip's image and text towers, and how its models are built.

open_clip itself opens pickles, fetches what is missing without being asked, and only warns where
the weights were trained with another activation than the configuration has (QuickGELU). Here the
configuration and the classes are open_clip's own and the rest is strict.

A specification is ``open_clip:NAME[+PREPROCESSING][/WEIGHTS]``, and ``open_clip-text:`` for text.
``PREPROCESSING`` is how images are resized and normalised: as for one of the architecture's tags,
or for a family of models (``openai``, ``siglip``, ``clipa``, ``mobileclip``). It is needed only for
a file of weights that comes without ``open_clip_config.json``, where the architecture's tags do not
all agree: open_clip itself would take OpenAI's without a word.

Layers of an image tower: ``stem`` (what the first block sees), ``blocks.N`` or the names of the
convolutional stages, ``pooled`` (before the projection) and ``embedding`` (open_clip's
``encode_image``, not normalised). Layers of a text tower are the same, by ``encode_text``.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.constants import (
    HF_SAFE_WEIGHTS_NAME,
    IMAGENET_MEAN,
    IMAGENET_STD,
    INCEPTION_MEAN,
    INCEPTION_STD,
    OPENAI_DATASET_MEAN,
    OPENAI_DATASET_STD,
)
from open_clip.convert import convert_state_dict
from open_clip.factory import HFTokenizer
from open_clip.hf_model import HFTextEncoder
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.timm_model import TimmModel
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from open_clip.transformer import VisionTransformer, text_global_pool
from PIL import Image
from torchvision.transforms import Normalize

from brainkit.arrays.files import is_file, read_json
from brainkit.data.text import as_texts
from brainkit.errors import InputError, listed, unknown_name
from brainkit.features.backbones.backbone import (
    Backbone,
    evaluating,
    first_tensor,
    freeze,
    record,
    submodule_of,
)
from brainkit.features.backbones.torch_module import (
    HookedModule,
    is_square,
    pictures,
    random_weights,
    versions,
)
from brainkit.features.spec import HUB, Spec, parse_spec
from brainkit.features.weights import (
    CONVERT,
    SMALL_FILES,
    find_hub_file,
    find_model,
    find_safetensors,
    load_state,
    read_state,
)

CONFIG = "open_clip_config.json"
WEIGHT_NAMES = (HF_SAFE_WEIGHTS_NAME, "open_clip_pytorch_model.safetensors", "model.safetensors")
QUICK = "-quickgelu"
# Ways in which families of models were trained to see images, by open_clip's own settings.
FAMILIES: dict[str, dict[str, Any]] = {
    family: {"mean": mean, "std": std, "interpolation": interpolation, "resize_mode": mode}
    for family, mean, std, interpolation, mode in (
        ("openai", OPENAI_DATASET_MEAN, OPENAI_DATASET_STD, "bicubic", "shortest"),
        ("siglip", INCEPTION_MEAN, INCEPTION_STD, "bicubic", "squash"),
        ("clipa", IMAGENET_MEAN, IMAGENET_STD, "bilinear", "squash"),
        ("mobileclip", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bilinear", "shortest"),
    )
}
Tokenizer = Callable[..., torch.Tensor]  # open_clip's, from strings and context_length
EMBEDDING, POOLED, STEM = "embedding", "pooled", "stem"


@dataclass(frozen=True)
class Source:
    """Where a model of open_clip comes from, before its weights are read.

    Attributes
    ----------
    config : dict
        open_clip's ``model_cfg``.
    preprocess : dict
        open_clip's ``preprocess_cfg``, complete but for the size.
    folder : Path, optional
        The model's folder, where there is one.
    tag : dict, optional
        What open_clip says of a tag of weights.
    """

    config: dict[str, Any]
    preprocess: dict[str, Any]
    folder: Path | None = None
    tag: dict[str, Any] | None = None


def find_source(spec: Spec, download: bool | None) -> Source:
    """Return the configuration of a model, checked.

    Raises
    ------
    UnknownNameError
        If there is no such architecture or tag.
    InputError
        If the tag's weights were trained with another activation than the architecture has, or a
        folder is not in open_clip's format.
    """
    if spec.place == "name":
        return _named(spec)
    tiny = "clip" if spec.name == "tiny" else spec.name.removeprefix("tiny-")
    folder = find_model(f"tiny/{tiny}" if spec.place == "tiny" else spec.name, download=download)
    path = folder / CONFIG
    if not is_file(path):
        raise InputError(f"{folder} is no model in open_clip's format: it has no {CONFIG}.")
    content = _configuration(path)
    return Source(content["model_cfg"], content["preprocess_cfg"], folder)


def _configuration(path: Path) -> dict[str, Any]:
    """Read ``open_clip_config.json``, its ``preprocess_cfg`` complete but for the size."""
    content = read_json(path, "The configuration of a model of open_clip")
    lacking = {"model_cfg", "preprocess_cfg"} - set(content)
    if lacking or not {"mean", "std"} <= set(content["preprocess_cfg"]):
        raise InputError(
            f"{path} must hold model_cfg and preprocess_cfg, with the mean and std that the model "
            "was trained with: without them open_clip would silently take OpenAI's."
        )
    preprocess = merge_preprocess_dict(asdict(PreprocessCfg()), content["preprocess_cfg"])
    return {**content, "preprocess_cfg": preprocess}


def _named(spec: Spec) -> Source:
    name, plus, preprocessing = spec.name.partition("+")
    config = open_clip.get_model_config(name)
    if config is None:
        raise unknown_name("model of open_clip", name, ["tiny", *open_clip.list_models()])
    chosen = _preprocessing(name, preprocessing) if plus else None
    if spec.seed is not None:  # nothing was trained: open_clip's own default
        return Source(config, chosen or asdict(PreprocessCfg()))
    if spec.file is not None:
        return Source(config, chosen or _of_file(spec, name))
    tags = open_clip.list_pretrained_tags_by_model(name)
    if spec.weights is None:
        raise InputError(
            f"{spec.model} names no weights. Add a tag ({', '.join(tags) or 'there is none'}), a "
            f"*.safetensors file, or 'random', as in {spec.model}/random."
        )
    tag = open_clip.get_pretrained_cfg(name, spec.weights)
    if not tag:
        plain = name.removesuffix(QUICK)
        if plain != name and open_clip.get_pretrained_cfg(plain, spec.weights):
            raise _mismatch(spec, name, config_quick=True, other=plain)
        raise unknown_name(f"weights of {name}", spec.weights, tags)
    quick = bool(config.get("quick_gelu", False))
    if bool(tag.get("quick_gelu", False)) != quick:
        other = name.removesuffix(QUICK) if quick else name + QUICK
        raise _mismatch(spec, name, quick, other)
    return Source(config, chosen or merge_preprocess_dict(asdict(PreprocessCfg()), tag), tag=tag)


def _preprocessing(name: str, wanted: str) -> dict[str, Any]:
    """Return the preprocessing of one of an architecture's tags, or of a family of models."""
    tag = open_clip.get_pretrained_cfg(name, wanted)
    if not tag and wanted not in FAMILIES:
        known = [*open_clip.list_pretrained_tags_by_model(name), *FAMILIES]
        raise unknown_name(f"preprocessing of {name}", wanted, known)
    return merge_preprocess_dict(asdict(PreprocessCfg()), tag or FAMILIES[wanted])


def _of_file(spec: Spec, name: str) -> dict[str, Any]:
    """Return the preprocessing that goes with a file of weights.

    That of the configuration beside the file, or of the architecture's tags where they all agree.
    A text tower needs none.
    """
    beside = spec.file.parent / CONFIG if spec.file is not None else None
    if beside is not None and is_file(beside):
        return dict(_configuration(beside)["preprocess_cfg"])
    tags = open_clip.list_pretrained_tags_by_model(name)
    candidates = {json.dumps(_preprocessing(name, tag)): tag for tag in tags}
    if len(candidates) == 1 or spec.source == "open_clip-text":
        return _preprocessing(name, tags[0]) if tags else asdict(PreprocessCfg())
    hint = (
        f"its published weights were trained with {len(candidates)} preprocessings"
        if candidates
        else "open_clip has no published weights of it"
    )
    choices = [*candidates.values(), *FAMILIES]
    raise InputError(
        f"How are images prepared for the weights {spec.file}? The file does not say, and {hint}. "
        f"Name the preprocessing that they were trained with, of {listed(choices)}, as in "
        f"{spec.source}:{name}+{choices[0]}/{spec.weights}, or put the model's {CONFIG} beside the "
        "file."
    )


def _mismatch(spec: Spec, name: str, config_quick: bool, other: str) -> InputError:
    has, trained = ("QuickGELU", "GELU") if config_quick else ("GELU", "QuickGELU")
    known = other in open_clip.list_models()
    mend = f"Write {spec.source}:{other}/{spec.weights}." if known else "Take other weights."
    return InputError(
        f"QuickGELU mismatch: {name} computes {has}, but the weights {spec.weights!r} were "
        f"trained with {trained}; the features would be wrong. {mend}"
    )


def build(spec: Spec, source: Source, download: bool | None) -> torch.nn.Module:
    """Return the whole model with its weights, strictly loaded.

    Raises
    ------
    DownloadError
        If the weights are neither here nor to be fetched.
    InputError
        If they are pickled or do not fit, or the configuration cannot be built.
    """
    config = json.loads(json.dumps(source.config))
    custom = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    if custom and "multimodal_cfg" in config:
        kind = open_clip.CoCa
    config["vision_cfg"]["timm_model_pretrained"] = False
    language = config["text_cfg"].get("hf_model_name")
    if language:
        where = find_model(_repository(language), download=download, patterns=SMALL_FILES)
        config["text_cfg"] |= {"hf_model_name": str(where), "hf_model_pretrained": False}
    # Before the model is built: that takes longer than to see that its weights are not here.
    file = None if spec.seed is not None else _weights_file(spec, source, download)
    try:
        with random_weights(spec.seed or 0):
            model = kind(**config)
    except (TypeError, KeyError, ValueError, AssertionError, RuntimeError) as error:
        raise InputError(
            f"The configuration of {spec.model} cannot be built by open_clip "
            f"{open_clip.__version__}: {error}."
        ) from error
    if file is not None:
        _load(model, file)
    return model


def _weights_file(spec: Spec, source: Source, download: bool | None) -> Path:
    if source.folder is not None:
        return find_safetensors(source.folder, WEIGHT_NAMES)
    if spec.file is not None:
        return spec.file
    place = (source.tag or {}).get("hf_hub", "")
    if not place:
        raise InputError(
            f"open_clip has the weights of {spec.model} as a pickle only, which is not read: "
            f"{(source.tag or {}).get('url', 'no address')}. {CONVERT} Then name the file: "
            f"{spec.source}:{spec.name}/./FILE.safetensors."
        )
    repository, _, filename = place.rpartition("/")
    safe = Path(filename).with_suffix(".safetensors").name if filename else HF_SAFE_WEIGHTS_NAME
    return find_hub_file(repository, safe, download=download)


def _load(model: torch.nn.Module, file: Path) -> None:
    """Load weights strictly, after open_clip's own renaming of older formats."""
    state = convert_state_dict(model, read_state(file))
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    expected = model.state_dict()
    for name in ("logit_scale", "logit_bias"):  # a number, or an array of one
        if name in state and name in expected:
            state[name] = state[name].reshape(expected[name].shape)
    # Counted by transformers' older versions among the weights.
    state.pop("text.transformer.embeddings.position_ids", None)
    try:
        load_state(model, state)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def tokenizer(spec: Spec, source: Source, download: bool | None) -> Tokenizer:
    """Return the model's tokenizer, from strings to (n, context) integers.

    Raises
    ------
    DownloadError
        If it is neither here nor to be fetched.
    """
    text = source.config["text_cfg"]
    named = text.get("hf_tokenizer_name")
    if not named:
        return open_clip.SimpleTokenizer(
            context_length=text.get("context_length", 77), **_simple_options(text, source.folder)
        )
    folder = source.folder
    if folder is None:
        folder = find_model(_repository(named), download=download, patterns=SMALL_FILES)
    return HFTokenizer(
        str(folder),
        context_length=text.get("context_length", 77),
        tokenizer_mode=text.get("tokenizer_mode"),
        **text.get("tokenizer_kwargs", {}),
    )


def _simple_options(text: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """Return the tokenizer's options; a vocabulary of the model's own lies in its folder."""
    options = dict(text.get("tokenizer_kwargs", {}))
    if folder is not None and "bpe_path" in options:
        options["bpe_path"] = str(folder / options["bpe_path"])
    return options


def _repository(name: str) -> str:
    """Return what `find_model` takes for a name in open_clip's configurations."""
    return name if Path(name).is_dir() else f"{HUB}{name}"


def open_clip_backbone(spec: Spec, *, download: bool | None = None) -> Backbone:
    """Load a tower of a model of open_clip; see `brainkit.features.open_backbone`."""
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
        Names of submodules by those of layers.
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
    def recording(
        self, places: Iterable[str], all_tokens: bool
    ) -> Iterator[dict[str, torch.Tensor]]:
        """Record outputs, in a pass that ends at the deepest one unless the whole is needed.

        The first pass is whole: it shows that none of the submodules is called a second time.
        """
        names = list(dict.fromkeys(places))
        stop = not all_tokens and self._called_once.issuperset(names)
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
            with self.recording(places.values(), all_tokens=EMBEDDING in wanted) as recorded:
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
        text_tower = getattr(model, "text", None)
        tower: torch.nn.Module = model if text_tower is None else text_tower
        self._encode = model.encode_text if text_tower is None else text_tower
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
            with self.recording(places.values(), all_tokens=EMBEDDING in wanted) as recorded:
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
