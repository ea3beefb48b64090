"""Building open_clip's models: configuration, weights, tokenizer.

open_clip itself opens pickles, fetches what is missing without being asked, and only warns where
the weights were trained with another activation than the configuration has (QuickGELU). Here the
configuration and the classes are open_clip's own and the rest is strict.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
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
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from brainkit.arrays.files import is_file, read_json
from brainkit.errors import InputError, listed, unknown_name
from brainkit.features.backbones.module import random_weights
from brainkit.features.spec import HUB, Spec
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
    found = {json.dumps(_preprocessing(name, tag)): tag for tag in tags}
    if len(found) == 1 or spec.source == "open_clip-text":
        return _preprocessing(name, tags[0]) if tags else asdict(PreprocessCfg())
    told = (
        f"its published weights were trained with {len(found)} preprocessings"
        if found
        else "open_clip has no published weights of it"
    )
    choices = [*found.values(), *FAMILIES]
    raise InputError(
        f"How are images prepared for the weights {spec.file}? The file does not say, and {told}. "
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
    own = model.state_dict()
    for name in ("logit_scale", "logit_bias"):  # a number, or an array of one
        if name in state and name in own:
            state[name] = state[name].reshape(own[name].shape)
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
