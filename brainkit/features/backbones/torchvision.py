"""Features of torchvision's image models.

A specification is ``torchvision:NAME[+PREPROCESSING][/WEIGHTS]``. ``WEIGHTS`` is a safetensors
file, ``random[:SEED]`` or one of torchvision's own tags, such as ``IMAGENET1K_V1``. Those come as
pickles, which are refused: convert the file once, and the tag finds it.

``PREPROCESSING`` is the tag whose evaluation transforms are to be used, ``plain`` for those of
torchvision's default weights, or ``caffe-bgr``, for networks that come from Caffe
(``caffe-bgr-whole``: without cutting off the image's margins). Where it is missing, the transforms
are those of the tag given as weights, else those of torchvision's default weights for the
architecture.

torchvision's builders do more than load weights. With a tag they also set the model up for it:
GoogLeNet and Inception turn their input from ImageNet's scale to that of their training
(``transform_input``), vision transformers take the tag's image size. Here the tag given as weights
decides that, or with a file or random weights the tag given as preprocessing. A file of GoogLeNet
or Inception may come from either side, so with one the preprocessing has to be named.
"""

import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import models

from brainkit.arrays.files import is_file
from brainkit.data.rgb import as_rgb
from brainkit.errors import DownloadError, InputError, unknown_name
from brainkit.features.backbones.backbone import freeze
from brainkit.features.backbones.torch_module import (
    HookedModule,
    pictures,
    random_weights,
    stacked,
    versions,
)
from brainkit.features.spec import Spec
from brainkit.features.weights import CONVERT, load_state, read_state

CAFFE = "caffe-bgr"
CAFFE_WHOLE = "caffe-bgr-whole"
PLAIN = "plain"
TURNING = ("googlenet", "inception_v3")  # builders that set transform_input with weights
Transform = Callable[[Image.Image], torch.Tensor]


class CaffeBGR:
    """The evaluation preprocessing of networks trained in Caffe on ImageNet.

    Squashed to `resize` × `resize` pixels, the middle `crop` × `crop` cut out, channels in the
    order blue, green, red, values from 0 to 255 less ImageNet's mean (Jia et al., 2014,
    arXiv:1408.5093).

    Parameters
    ----------
    resize : int, default=256
    crop : int, default=227
        Side of the square that is cut out, in pixels. With `resize` equal to `crop` the whole image
        is seen, for stimuli whose margins matter.
    interpolation : {"bilinear", "bicubic"}

    Raises
    ------
    InputError
        If `crop` exceeds `resize`, or there is no such interpolation.
    """

    mean_bgr = (104.0, 117.0, 123.0)

    def __init__(self, resize: int = 256, crop: int = 227, interpolation: str = "bilinear") -> None:
        if interpolation not in ("bilinear", "bicubic"):
            raise unknown_name("interpolation", interpolation, ["bilinear", "bicubic"])
        if not 1 <= crop <= resize:
            raise InputError(f"crop must be from 1 to resize={resize}; got {crop}.")
        self.resize, self.crop, self.interpolation = resize, crop, interpolation

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return float32 (3, crop, crop)."""
        size = (self.resize, self.resize)
        method = Image.Resampling[self.interpolation.upper()]
        pixels = np.asarray(as_rgb(image).resize(size, method))
        start = (self.resize - self.crop) // 2
        middle = pixels[start : start + self.crop, start : start + self.crop, ::-1]
        centred = middle.astype(np.float32) - np.array(self.mean_bgr, dtype=np.float32)
        return torch.from_numpy(np.ascontiguousarray(centred.transpose(2, 0, 1)))

    def __repr__(self) -> str:
        return (
            f"CaffeBGR(resize={self.resize}, crop={self.crop}, "
            f"interpolation={self.interpolation}, mean_bgr={self.mean_bgr}, range=0..255)"
        )


class TorchvisionBackbone(HookedModule):
    """A model of torchvision.

    Parameters
    ----------
    module : torch module
        Module with its weights loaded.
    name : str
        torchvision's name of the architecture, such as ``"resnet18"``.
    transform : function
        Function from an RGB image to a tensor, without a random part; described by its ``repr``.
    spec : str, optional
        What to call the model; ``torchvision:NAME`` where not given.
    """

    def __init__(
        self, module: torch.nn.Module, name: str, transform: Transform, spec: str | None = None
    ) -> None:
        super().__init__(freeze(module), spec or f"torchvision:{name}")
        self.name, self._transform = name, transform

    def identity(self) -> dict[str, Any]:
        """Return the architecture, the weights' hash and the transforms in full."""
        return {
            "source": "torchvision",
            "model": self.model(),
            "weights": self.weights(),
            "structure": self.structure(),
            "preprocessing": " ".join(repr(self._transform).split()),
            "versions": versions("torch", "torchvision", "pillow"),
        }

    def prepare(self, items: Sequence[Image.Image] | Sequence[str]) -> torch.Tensor:
        """Apply the evaluation transforms to every image."""
        return stacked([self._transform(image) for image in pictures(items)], self.spec)

    def default_layer(self) -> str:
        """Return what comes before the classifier: the last of the model's own parts but one."""
        parts = [name for name, _ in self.module.named_children()]
        return parts[-2] if len(parts) > 1 else parts[-1]

    def prefix_tokens(self, layer: str) -> int:
        """Return 1 for the layers of a vision transformer's encoder: its class token."""
        transformer = isinstance(self.module, models.VisionTransformer)
        return int(transformer and layer.partition(".")[0] == "encoder")

    def channels_last(self, layer: str) -> bool | None:
        """Return True for all that comes after a Swin's patches or within a MaxVit's windows too.

        Convolutions have their channels first even there.
        """
        swin = isinstance(self.module, models.SwinTransformer) and layer.startswith("features")
        parts = layer.split(".")
        windows = "window_attention" in parts[:-1] or "grid_attention" in parts[:-1]
        known = super().channels_last(layer)
        if known is None and windows:  # (n, window, pixel, channel) until they are put together
            return parts[-1].partition(":")[0] != "departition_op"
        return True if known is None and swin else known


def torchvision_backbone(spec: Spec, *, download: bool | None = None) -> TorchvisionBackbone:
    """Build the model that a specification names.

    torchvision's own weights are never downloaded, since they are pickles.

    Raises
    ------
    UnknownNameError
        If there is no such architecture, tag or preprocessing.
    DownloadError
        If a tag's weights have not been converted to safetensors on this machine.
    InputError
        If the weights do not fit, or are pickled.
    """
    name, _, preprocessing = spec.name.partition("+")
    known = models.list_models(module=models)
    if name not in known:
        raise unknown_name("model of torchvision", name, known)
    tags = models.get_model_weights(name)
    tag = spec.weights if spec.seed is None and spec.file is None else None
    if tag is not None and tag not in tags.__members__:
        raise unknown_name(f"weights of {name}", tag, [*tags.__members__, "random"])
    transform = _transform(tags, name, preprocessing or tag)
    if spec.file is not None and name in TURNING and not preprocessing:
        raise InputError(
            f"Where do the weights {spec.file} come from? Those of torchvision's tags see their "
            f"input on another scale than others ({name} is built with transform_input). Write "
            f"torchvision:{name}+{tags.DEFAULT.name}/{spec.file} for weights that were converted "
            f"from torchvision's, or torchvision:{name}+{PLAIN}/{spec.file} for others."
        )
    weights = tags[tag] if tag else tags.DEFAULT
    if spec.seed is None and spec.file is None:
        setting = weights
    else:
        setting = tags.__members__.get(preprocessing)
    if spec.seed is not None:
        with random_weights(spec.seed):
            module = models.get_model(name, weights=None, **_options(name, setting, weights))
    else:
        state = read_state(spec.file or _converted(weights))
        module = _with_weights(name, _options(name, setting, weights), state, spec)
    return TorchvisionBackbone(module, name, transform, spec.model)


def _options(name: str, setting: Any, fallback: Any) -> dict[str, Any]:
    """Return what torchvision's builder sets with a tag's weights, beside loading them.

    Parameters
    ----------
    name : str
        Name of the architecture.
    setting : tag or None
        The tag that the model is set up for.
    fallback : tag
        The one whose transforms are taken where there is no other: the image size is theirs.
    """
    if name.startswith("vit_"):
        return {"image_size": (setting or fallback).meta["min_size"][0]}
    return {"transform_input": True} if name in TURNING and setting is not None else {}


def _with_weights(
    name: str, options: dict[str, Any], state: dict[str, torch.Tensor], spec: Spec
) -> torch.nn.Module:
    """Build a model and load weights, as torchvision's own builder does with those of a tag."""
    if name in TURNING:
        heads = any(key.startswith(("aux1.", "AuxLogits.")) for key in state)
        options = {**options, "init_weights": False, "aux_logits": heads}
    with random_weights(0):
        module = models.get_model(name, weights=None, **options)
    if isinstance(module, models.DenseNet):
        state = {_LAYER.sub(r"\1\2", key): value for key, value in state.items()}
    if isinstance(module, models.MNASNet):
        state = _of_mnasnet(module, state)
    try:
        load_state(module, state)
    except InputError as error:
        size = options.get("image_size")
        hint = f" (built for images of {size} pixels; name another tag with +TAG)" if size else ""
        raise InputError(f"{spec.model}{hint}: {error}") from error
    if isinstance(module, models.GoogLeNet):  # as torchvision does; they are for training alone
        module.aux_logits, module.aux1, module.aux2 = False, None, None
    return module


# Names of before dots were barred in them; torchvision's own files have them still.
_LAYER = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)$")


def _of_mnasnet(
    module: models.MNASNet, state: dict[str, torch.Tensor]
) -> "OrderedDict[str, torch.Tensor]":
    """Return weights with the version that MNASNet wants, which safetensors does not keep.

    In version 1 the first layers had the same width whatever the width of the others.
    """
    stem = state.get("layers.0.weight")
    if stem is not None and stem.shape != module.layers[0].weight.shape:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it would recommend to train again
            module._load_from_state_dict({}, "", {"version": 1}, False, [], [], [])
    versioned = OrderedDict(state)
    versioned._metadata = {"": {"version": 2}}  # type: ignore[attr-defined]
    return versioned


def _transform(tags: Any, name: str, preprocessing: str | None) -> Transform:
    if preprocessing == CAFFE:
        return CaffeBGR()
    if preprocessing == CAFFE_WHOLE:
        return CaffeBGR(resize=227, interpolation="bicubic")
    if preprocessing in (None, PLAIN):
        return tags.DEFAULT.transforms()
    if preprocessing not in tags.__members__:
        known = [CAFFE, CAFFE_WHOLE, PLAIN, *tags.__members__]
        raise unknown_name(f"preprocessing of {name}", preprocessing, known)
    return tags[preprocessing].transforms()


def _converted(weights: Any) -> Path:
    """Return the safetensors file that torchvision's pickle was converted to."""
    pickled = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    converted = pickled.with_suffix(".safetensors")
    if is_file(converted):
        return converted
    raise DownloadError(
        f"The weights {weights} are not there as {converted}. torchvision offers them as a pickle, "
        f"{weights.url}, which brainkit does not read. {CONVERT} Or name a file of weights, as in "
        "torchvision:NAME//folder/NAME.safetensors."
    )
