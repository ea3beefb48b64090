"""Features of torchvision's image models.

A specification is ``torchvision:NAME[+PREPROCESSING][/WEIGHTS]``. ``WEIGHTS`` is a safetensors
file, ``random[:SEED]`` or one of torchvision's own tags, such as ``IMAGENET1K_V1``. Those come as
pickles, which are refused: convert the file once, and the tag finds it.

``PREPROCESSING`` is the tag whose evaluation transforms are to be used, or ``caffe-bgr``, for
networks that come from Caffe (``caffe-bgr-whole``: without cutting off the image's margins). Where
it is missing, the transforms are those of the tag given as weights, else those of torchvision's
default weights for the architecture.
"""

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
from brainkit.features.backbones.base import freeze
from brainkit.features.backbones.module import (
    HookedModule,
    pictures,
    random_weights,
    stacked,
    versions,
)
from brainkit.features.spec import Spec
from brainkit.features.weights import CONVERT, load_state

CAFFE = "caffe-bgr"
CAFFE_WHOLE = "caffe-bgr-whole"
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
        With `resize` equal to `crop` the whole image is seen, for stimuli whose margins matter.
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
        Its weights loaded.
    name : str
        torchvision's name of the architecture, such as ``"resnet18"``.
    transform : function
        From an RGB image to a tensor, without a random part; described by its ``repr``.
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

    def channels_last(self, layer: str) -> bool:
        """Return True for all but the convolutions of a Swin transformer's features too."""
        swin = isinstance(self.module, models.SwinTransformer) and layer.startswith("features")
        return super().channels_last(layer) or (swin and not self.is_convolution(layer))


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
    with random_weights(spec.seed or 0):
        module = models.get_model(name, weights=None)
    if spec.seed is None:
        load_state(module, spec.file or _converted(tags[tag] if tag else tags.DEFAULT))
    return TorchvisionBackbone(module, name, transform, spec.model)


def _transform(tags: Any, name: str, preprocessing: str | None) -> Transform:
    if preprocessing == CAFFE:
        return CaffeBGR()
    if preprocessing == CAFFE_WHOLE:
        return CaffeBGR(resize=227, interpolation="bicubic")
    if preprocessing is None:
        return tags.DEFAULT.transforms()
    if preprocessing not in tags.__members__:
        raise unknown_name(
            f"preprocessing of {name}", preprocessing, [CAFFE, CAFFE_WHOLE, *tags.__members__]
        )
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
