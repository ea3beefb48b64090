"""Features without a trained network, offered like a model's: oriented energy.

``builtin:oriented-energy[@LAYER]``, where the layer is ``energy`` (of luminance) or
``colour-energy`` (of luminance and two opponent axes). Principal components of pixels are learnt
from the training images, so they are no backbone: `brainkit.features.PixelPCA` has to see which
images those are.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from brainkit.data.rgb import as_rgb
from brainkit.errors import InputError, unknown_name
from brainkit.features.backbones.backbone import Backbone
from brainkit.features.backbones.torch_module import versions
from brainkit.features.energy import OrientedEnergy
from brainkit.features.pixels import as_float, resample_square
from brainkit.features.spec import Spec

if TYPE_CHECKING:
    import torch
    from PIL import Image

NAME = "oriented-energy"
LAYERS = {"energy": False, "colour-energy": True}


class OrientedEnergyBackbone(Backbone):
    """Oriented energy as a backbone: equal to `OrientedEnergy` on the same images.

    Parameters
    ----------
    energy : OrientedEnergy, optional
        Wavelets whose settings are taken; ``colour`` is the choice of the layer.
    """

    spec = f"builtin:{NAME}"
    modality = "image"

    def __init__(self, energy: OrientedEnergy | None = None) -> None:
        self._settings = (energy or OrientedEnergy()).get_params()
        del self._settings["colour"]

    def identity(self) -> dict[str, Any]:
        """Return the settings; there are no weights."""
        return {
            "source": "builtin",
            "model": NAME,
            "weights": None,
            "settings": {name: _plain(value) for name, value in self._settings.items()},
            "preprocessing": f"RGB in [0, 1], resampled to {self._settings['side']} pixels square",
            "versions": versions("numpy", "scipy", "pillow"),
        }

    def layers(self) -> list[str]:
        """Return ``energy`` and ``colour-energy``."""
        return list(LAYERS)

    def default_layer(self) -> str:
        """Return ``energy``."""
        return "energy"

    def prepare(self, items: "Sequence[Image.Image] | Sequence[str]") -> "torch.Tensor":
        """Return images as float32 (n, side, side, 3) in [0, 1]."""
        import torch

        squares = [_square(image, self._settings["side"]) for image in items]
        return torch.from_numpy(np.stack(squares))

    def run(self, batch: "torch.Tensor", layers: Sequence[str]) -> "dict[str, torch.Tensor]":
        """Return the energies, (n, features), computed on the CPU."""
        import torch

        images = batch.cpu().numpy()
        return {
            layer: torch.from_numpy(
                OrientedEnergy(**self._settings, colour=LAYERS[layer]).transform(images)
            )
            for layer in self.check_layers(layers)
        }

    def to(self, device: "str | torch.device") -> None:
        """Do nothing: the energies are computed on the CPU."""


def _square(image: Any, side: int) -> Any:
    channels_first = np.moveaxis(as_float(np.asarray(as_rgb(image))[None]), 3, 1)
    return np.moveaxis(resample_square(channels_first, side)[0], 0, 2)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def builtin_backbone(spec: Spec, *, download: bool | None = None) -> OrientedEnergyBackbone:
    """Build the features that a specification names; nothing is ever fetched.

    Raises
    ------
    UnknownNameError
        If there are no such features.
    """
    if spec.name == "pixel-pca":
        raise InputError(
            "Principal components of pixels are learnt from the training images, so they have no "
            "name as a model: fit brainkit.features.PixelPCA, or name pixel-pca in a recipe."
        )
    if spec.name != NAME or spec.weights is not None:
        raise unknown_name("built-in model", spec.model.partition(":")[2], [NAME])
    return OrientedEnergyBackbone()
