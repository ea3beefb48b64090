"""Features of timm's image models.

A specification is ``timm:NAME[/WEIGHTS]``. ``NAME`` is an architecture, a hub id (``hf:ORG/NAME``),
a folder in timm's format (``config.json`` and ``model.safetensors``), ``tiny-judge-a`` or
``tiny-judge-b``. ``WEIGHTS`` after an architecture is one of its tags, a safetensors file or
``random[:SEED]``; the default tag where there is none. With a file the tag whose preprocessing goes
with it is part of the name, ``timm:resnet50.a1_in1k//folder/file.safetensors``, unless all tags of
the architecture prepare images alike.

The layers that timm itself offers as features (``feature_info``) come from the model's own
``forward_intermediates``, which knows the layout of each architecture; every other submodule comes
from a hook.
"""

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

from brainkit.arrays.files import refusal
from brainkit.errors import InputError, listed, unknown_name
from brainkit.features.backbones.backbone import evaluating, freeze, record
from brainkit.features.backbones.torch_module import (
    HookedModule,
    is_square,
    pictures,
    random_weights,
    stacked,
    versions,
)
from brainkit.features.spec import HUB, Spec
from brainkit.features.weights import check_safetensors, find_model, find_safetensors, load_state

# What of a tag says how images are prepared, beside the size, which the model decides.
SETTINGS = ("mean", "std", "interpolation", "crop_pct", "crop_mode")


class TimmBackbone(HookedModule):
    """A model of timm.

    The layers of vision transformers are (n, tokens, width), class and register tokens first;
    those of all other architectures are (n, channels, height, width), as timm gives them.

    Parameters
    ----------
    module : torch module
        Module that ``timm.create_model`` made.
    spec : str, optional
        What to call the model; ``timm:ARCHITECTURE`` where not given.
    """

    module: Any  # timm's models have attributes of their own

    def __init__(self, module: Any, spec: str | None = None) -> None:
        config = module.pretrained_cfg
        super().__init__(freeze(module), spec or f"timm:{config['architecture']}")
        settings = resolve_model_data_config(module, args=_fixed_size(module))
        self._transform = create_transform(**settings, is_training=False)
        self._features = [part["module"] for part in _feature_info(module)]
        # Only where prefix tokens can be asked for do they stand before the patches in all blocks.
        self._tokens = "return_prefix_tokens" in signature(module.forward_intermediates).parameters

    def identity(self) -> dict[str, Any]:
        """Return the architecture, the weights' hash and the evaluation transforms in full."""
        return {
            "source": "timm",
            "model": self.model(),
            "architecture": self.module.pretrained_cfg["architecture"],
            "weights": self.weights(),
            "structure": self.structure(),
            "preprocessing": " ".join(repr(self._transform).split()),
            "versions": versions("timm", "torch", "torchvision", "pillow"),
        }

    def layers(self) -> list[str]:
        """Return the layers of ``feature_info`` and all submodules, in the module's order."""
        hooked = super().layers()
        return [name for name in self._features if name not in hooked] + hooked

    def default_layer(self) -> str:
        """Return the last of the layers that timm offers as features."""
        return self._features[-1]

    def prepare(self, items: Sequence[Image.Image] | Sequence[str]) -> torch.Tensor:
        """Apply timm's evaluation transforms to every image."""
        return stacked([self._transform(image) for image in pictures(items)], self.spec)

    def prefix_tokens(self, layer: str) -> int:
        """Return the number of class and register tokens."""
        before = layer.partition(".")[0] == "patch_embed"
        return 0 if before or not self._tokens else int(self.module.num_prefix_tokens)

    def channels_last(self, layer: str) -> bool | None:
        """Return True for all but convolutions where the architecture works that way too."""
        last = getattr(self.module, "output_fmt", None) == "NHWC"
        last |= type(self.module).__name__ in ("VOLO", "VisionTransformerSAM")  # they do not say so
        known = super().channels_last(layer)
        return True if known is None and last else known

    def run(self, batch: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the outputs of several layers.

        One pass through the trunk gives all layers of ``feature_info``, and another one all others.
        """
        names = self.check_layers(layers)
        indices = sorted(self._features.index(name) for name in names if name in self._features)
        hooked = [name for name in names if name not in self._features]
        batch = self.to_module(batch)
        values: dict[str, torch.Tensor] = {}
        with evaluating(self.module):
            if indices:
                values |= self._intermediates(batch, indices)
            if hooked:
                with record(self.module, hooked) as recorded:
                    self.module(batch)
                values |= self.tidied(recorded, hooked, len(batch), is_square(batch))
        return {name: values[name] for name in names}

    def _intermediates(self, batch: torch.Tensor, indices: list[int]) -> dict[str, torch.Tensor]:
        options: dict[str, Any] = {"indices": indices, "intermediates_only": True}
        if self._tokens:
            # Where there are none, some models fail when they are asked for them.
            prefix = int(self.module.num_prefix_tokens) > 0
            options |= {"output_fmt": "NLC", "return_prefix_tokens": prefix}
        values = self.module.forward_intermediates(batch, stop_early=True, **options)
        # With prefix tokens an entry is (patches, prefix): put them back in the model's own order.
        outputs = [torch.cat(v[::-1], dim=1) if isinstance(v, tuple) else v.clone() for v in values]
        return {self._features[index]: v for index, v in zip(indices, outputs, strict=True)}


def timm_backbone(spec: Spec, *, download: bool | None = None) -> TimmBackbone:
    """Build the model that a specification names.

    Raises
    ------
    UnknownNameError
        If there is no such architecture or tag.
    DownloadError
        If the weights are not on this machine, and `download` is not given or fails.
    InputError
        If the weights do not fit, or are pickled.
    """
    if spec.place == "name" and (spec.seed is not None or spec.file is not None):
        name = _named(spec)
        with random_weights(spec.seed or 0):
            module = timm.create_model(name, pretrained=False)
        if spec.file is not None:
            load_state(module, spec.file)
        return TimmBackbone(module, spec.model)
    return TimmBackbone(_from_folder(find_model(_place(spec), download=download), spec), spec.model)


def _fixed_size(module: Any) -> dict[str, Any]:
    """Return the size that a model was built for, where it takes no other.

    The settings that come with an architecture speak of the size of its published weights.
    """
    embedding = getattr(module, "patch_embed", None)
    size = getattr(embedding, "img_size", None)
    if size is None or not getattr(embedding, "strict_img_size", False):
        return {}
    return {"input_size": (3, *size)}


def _feature_info(module: Any) -> list[dict[str, Any]]:
    info = module.feature_info
    return list(getattr(info, "info", info))


def _known(name: str) -> str:
    """Return an architecture's name, or raise."""
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise unknown_name("model of timm", architecture, timm.list_models())
    return architecture


def _named(spec: Spec) -> str:
    """Return an architecture with the tag whose preprocessing its weights go with.

    A file of weights does not say how images were prepared for it. Where the architecture's tags
    do not agree on that, the one that is meant has to be named.
    """
    architecture, dot, tag = spec.name.partition(".")
    known = timm.list_pretrained(f"{_known(architecture)}.*")
    tags = {name.partition(".")[2]: name for name in known}
    if dot:
        if tag not in tags:
            raise unknown_name(f"weights of {architecture}", tag, list(tags))
        return tags[tag]
    if spec.file is None:
        return architecture
    ways: dict[str, str] = {}
    for name in known:
        config = timm.get_pretrained_cfg(name)
        way = repr([getattr(config, setting, None) for setting in SETTINGS])
        ways.setdefault(way, name)
    if len(ways) > 1:
        raise InputError(
            f"How are images prepared for the weights {spec.file}? The file does not say, and the "
            f"published weights of {architecture} were trained with {len(ways)} preprocessings. "
            f"Name a tag with the right one, as in timm:{next(iter(ways.values()))}/{spec.weights}"
            f"; others are {listed(list(ways.values())[1:])}."
        )
    return architecture


def _place(spec: Spec) -> str:
    """Return what `find_model` takes: a folder, a hub id or a tiny model."""
    if spec.place == "tiny":
        return f"tiny/{spec.name.removeprefix('tiny-')}"
    if spec.place != "name":
        return spec.name
    architecture, _, tag = spec.name.partition(".")
    tag = spec.weights or tag
    tags = {
        name.partition(".")[2]: name for name in timm.list_pretrained(f"{_known(architecture)}.*")
    }
    if tag and tag not in tags:
        raise unknown_name(f"weights of {architecture}", tag, list(tags))
    config = timm.get_pretrained_cfg(f"{architecture}.{tag}" if tag else architecture)
    if config is None or not config.hf_hub_id:
        raise InputError(
            f"timm has no weights of {architecture} on the Hugging Face hub. Give a safetensors "
            f"file, timm:{architecture}//path/to/file.safetensors, or timm:{architecture}/random."
        )
    return HUB + str(config.hf_hub_id)


def _from_folder(folder: Path, spec: Spec) -> torch.nn.Module:
    """Build the model of a folder in timm's format, its weights loaded strictly."""
    options: dict[str, Any] = {"pretrained": spec.seed is None}
    if spec.seed is None:
        # Left to itself timm would open a pickle that lies in the folder.
        file = find_safetensors(folder, ["model.safetensors"])
        check_safetensors(folder)
        options["pretrained_cfg_overlay"] = {"source": "", "file": str(file), "custom_load": False}
    try:
        with random_weights(spec.seed or 0):
            return timm.create_model(f"local-dir:{folder}", **options)
    except (RuntimeError, KeyError, ValueError, OSError) as error:
        unlike = f"{spec.model} is not a model in timm's format, or its weights do not fit: {error}"
        raise (refusal(folder) or InputError(unlike)) from error
