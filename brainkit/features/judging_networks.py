"""The networks that metric presets judge by, from a local folder; nothing is fetched unasked.

`load_networks` gives what `brainkit.evaluation.presets.Preset.score` takes as `networks`. The
architectures are those of torchvision and open_clip, with the weights of the published protocols,
read strictly and counted from safetensors files that are called NETWORK-WEIGHTS.safetensors. Where
one is missing, the error has the command that makes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.devices import pick_device
from brainkit.arrays.files import is_file
from brainkit.errors import InputError, MissingFileError, listed, unknown_name
from brainkit.evaluation.image_scores import kernel_distance, perceptual_distance
from brainkit.evaluation.preset_scores import features_of, resized
from brainkit.evaluation.presets import IMAGENET, Judge, Preset, Resize
from brainkit.features.backbones.backbone import Backbone, open_backbone
from brainkit.features.weights import read_state

if TYPE_CHECKING:
    pass

Single = NDArray[np.float32]

_SAVE = (
    'mkdir -p {folder} && python -c "import {imports}, safetensors.torch as s; '
    "s.save_file({{k: v.contiguous() for k, v in {state}.items()}}, '{file}')\""
)


@dataclass(frozen=True)
class _Known:
    """How a network is built, and where its weights come from.

    Attributes
    ----------
    spec : str
        Its name for `brainkit.features.open_backbone`; ``{weights}`` and ``{file}`` stand in it.
    imports, state : str
        What the command that gets the weights imports, and its expression of all tensors.
    """

    spec: str
    imports: str = "torchvision"
    state: str = "torchvision.models.get_model('{name}', weights='{weights}').state_dict()"


_NETWORKS = {
    "alexnet": _Known("torchvision:alexnet+{weights}/{file}"),
    "vgg16": _Known("torchvision:vgg16+{weights}/{file}"),
    # Its input is turned to the scale of its training, as torchvision does with its own weights.
    "inception_v3": _Known("torchvision:inception_v3+{weights}/{file}"),
    "efficientnet_b1": _Known("torchvision:efficientnet_b1+{weights}/{file}"),
    "swav_resnet50": _Known(
        "torchvision:resnet50+plain/{file}",
        "torch",
        "torch.hub.load('facebookresearch/swav:main', 'resnet50').state_dict()",
    ),
    "clip_vit_l_14": _Known(
        "open_clip:ViT-L-14-quickgelu+openai/{file}",
        "open_clip",
        "open_clip.create_model('ViT-L-14-quickgelu', pretrained='openai').state_dict()",
    ),
    "judge-a": _Known("timm:tiny-judge-a"),
    "judge-b": _Known("timm:tiny-judge-b"),
}


class JudgingNetwork:
    """A frozen network as presets take it: from images, resized and normalised, to features.

    Parameters
    ----------
    backbone : Backbone
        The network with its weights.
    device : str, default "auto"
        Device of torch that it runs on.
    """

    def __init__(self, backbone: Backbone, device: str = "auto") -> None:
        self.backbone = backbone
        backbone.to(pick_device(device))

    def __call__(self, images: ArrayLike, layers: Sequence[str]) -> dict[str, Single]:
        """Return the features of images by layer.

        Parameters
        ----------
        images : float32 array (n, 3, height, width)
        layers : sequence of str
            Names of submodules; an empty one for the network's own choice.

        Returns
        -------
        dict of str to float32 array (n, ...)

        Raises
        ------
        UnknownNameError
            If the network has no such layer.
        """
        import torch

        names = {layer: layer or self.backbone.default_layer() for layer in layers}
        batch: torch.Tensor = torch.from_numpy(np.array(images, dtype=np.float32))
        outputs = self.backbone.run(batch, list(dict.fromkeys(names.values())))
        return {layer: outputs[name].float().cpu().numpy() for layer, name in names.items()}

    def identity(self) -> dict[str, Any]:
        """Return what determines the features, for manifests; see `Backbone.identity`."""
        return self.backbone.identity()


def weights_file(network: str, weights: str, folder: str | Path) -> Path:
    """Return where a network's weights lie in a folder."""
    return Path(folder).expanduser() / f"{network}-{weights}.safetensors"


def command_for(network: str, weights: str, folder: str | Path) -> str:
    """Return the command, for a shell, that gets a network's weights and writes them as a file.

    Raises
    ------
    UnknownNameError
        If presets know no such network.
    """
    known = _known(network)
    state = known.state.format(name=network, weights=weights)
    file = weights_file(network, weights, folder)
    return _SAVE.format(folder=file.parent, imports=known.imports, state=state, file=file)


def _known(network: str) -> _Known:
    if network not in _NETWORKS:
        raise unknown_name("judging network", network, list(_NETWORKS))
    return _NETWORKS[network]


def load_network(
    network: str, weights: str, folder: str | Path | None, *, needed_by: str, device: str = "auto"
) -> JudgingNetwork:
    """Load one network.

    Parameters
    ----------
    network, weights : str
        As a preset's `Judge` names them.
    folder : path or None
        Where the file of weights lies; those that come with brainkit need none.
    needed_by : str
        What needs it, for messages: "The preset mindeye2".
    device : str, default "auto"

    Raises
    ------
    UnknownNameError
        If presets know no such network.
    MissingFileError
        If its file is not there; the message has the command that gets it.
    InputError
        If the file's tensors are not those of the network.
    """
    known = _known(network)
    if "{file}" not in known.spec:
        return JudgingNetwork(open_backbone(known.spec), device)
    file = weights_file(network, weights, folder or "judges")
    if folder is None or not is_file(file):
        searched = "no folder was named" if folder is None else f"{folder} was searched"
        raise MissingFileError(
            f"{needed_by} judges by {network} with the weights {weights}, and {searched} for "
            f"{file.name}. Where there is a network, get it with\n"
            f"    {command_for(network, weights, folder or 'judges')}"
        )
    spec = known.spec.format(weights=weights, file=file.resolve())
    return JudgingNetwork(open_backbone(spec), device)


def load_networks(
    preset: Preset, folder: str | Path | None = None, device: str = "auto"
) -> dict[str, JudgingNetwork]:
    """Load all networks that a preset judges by.

    Parameters
    ----------
    preset : Preset
    folder : path, optional
        Where files of weights lie; the preset ``tiny`` needs none.
    device : str, default "auto"
        Device of torch that they run on.

    Returns
    -------
    dict
        What `Preset.score` takes as `networks`; empty where a preset needs none.

    Raises
    ------
    MissingFileError
        If a network is not there; the message names it, the preset, the folder that was searched,
        and the command that gets it.
    InputError
        If a file's tensors are not those of the network, or a preset wants two weights of one.
    """
    wanted: dict[str, str] = {}
    for judge in _judges(preset):
        if wanted.setdefault(judge.network, judge.weights) != judge.weights:
            raise InputError(f"{preset.id} wants {judge.network} with two different weights.")
    name = f"The preset {preset.id}"
    return {
        network: load_network(network, weights, folder, needed_by=name, device=device)
        for network, weights in wanted.items()
    }


def _judges(preset: Preset) -> list[Judge]:
    return [one.judge for one in preset.images if one.judge is not None]


# -- LPIPS and KID of images -----------------------------------------------------------------------

# The outputs of the ReLUs before each pooling, and AlexNet's two between them.
_PERCEPTUAL = {
    "alexnet": ("features.1", "features.4", "features.7", "features.9", "features.11"),
    "vgg16": ("features.3", "features.8", "features.15", "features.22", "features.29"),
}
_LPIPS_NAMES = {"alexnet": "alex", "vgg16": "vgg"}
_LPIPS_WEIGHTS = "0.1"
# From [-1, 1], as published: nearly ImageNet's normalisation.
_SHIFT = np.array([-0.030, -0.088, -0.188], dtype=np.float32)
_SCALE = np.array([0.458, 0.448, 0.450], dtype=np.float32)


class PerceptualDistance:
    """LPIPS version 0.1 of pairs of images (Zhang et al., 2018); lower is better.

    Parameters
    ----------
    folder : path
        Where ``alexnet-IMAGENET1K_V1.safetensors`` (or ``vgg16-...``) and the fitted weights,
        ``lpips-alexnet-0.1.safetensors``, lie.
    network : {"alexnet", "vgg16"}, default "alexnet"
    device : str, default "auto"

    Raises
    ------
    UnknownNameError
        If there is no LPIPS of that network.
    MissingFileError
        If a file is not there; the message has the command that gets it.
    InputError
        If the fitted weights are not those of the network's five layers.
    """

    def __init__(self, folder: str | Path, network: str = "alexnet", device: str = "auto") -> None:
        if network not in _PERCEPTUAL:
            raise unknown_name("network of LPIPS", network, list(_PERCEPTUAL))
        self.network, self.layers = network, _PERCEPTUAL[network]
        file = weights_file(f"lpips-{network}", _LPIPS_WEIGHTS, folder)
        if not is_file(file):
            state = (
                "{f'lin{i}': one.model[1].weight.detach() for i, one in enumerate(lpips.LPIPS("
                f"net='{_LPIPS_NAMES[network]}', pnet_rand=True).lins)}}"
            )
            command = _SAVE.format(folder=file.parent, imports="lpips", state=state, file=file)
            raise MissingFileError(
                f"LPIPS weighs the channels of {network} by what people were found to see, and "
                f"{folder} was searched for {file.name}. Get it with `pip install lpips`, then\n"
                f"    {command}"
            )
        tensors = read_state(file)
        wanted = [f"lin{number}" for number in range(len(self.layers))]
        if sorted(tensors) != wanted:
            raise InputError(
                f"{file} holds {listed(sorted(tensors)) or 'nothing'}, expected {listed(wanted)}: "
                "the weights of each layer's channels."
            )
        self.weights = [tensors[name].float().cpu().numpy().ravel() for name in wanted]
        self._judge = load_network(
            network, "IMAGENET1K_V1", folder, needed_by="LPIPS", device=device
        )

    def __call__(self, a: ArrayLike, b: ArrayLike, batch_size: int = 16) -> NDArray[np.float64]:
        """Return the distance of each pair.

        Parameters
        ----------
        a, b : array_like of shape (n, height, width, 3)
            RGB of 8 bits or in [0, 1], of one size, which is kept.
        batch_size : int, default 16

        Returns
        -------
        numpy.ndarray of shape (n,)

        Raises
        ------
        InputError
            If the shapes differ.
        """
        first, second = np.asarray(a), np.asarray(b)
        if first.shape != second.shape or first.ndim != 4:
            raise InputError(
                f"a has shape {first.shape} and b {second.shape}: they need one shape, (n, height, "
                "width, 3)."
            )
        values = np.empty(len(first))
        for start in range(0, len(first), batch_size):
            batch = slice(start, start + batch_size)
            one, two = self._features(first[batch]), self._features(second[batch])
            values[batch] = perceptual_distance(one, two, self.weights)
        return values

    def _features(self, images: NDArray[np.generic]) -> list[Single]:
        seen = (2.0 * resized(images, None) - 1.0 - _SHIFT) / _SCALE
        given = self._judge(np.ascontiguousarray(seen.transpose(0, 3, 1, 2)), self.layers)
        return [given[layer] for layer in self.layers]


def inception_kernel_distance(
    images: ArrayLike, reconstructions: ArrayLike, networks: Mapping[str, JudgingNetwork]
) -> float:
    """Give KID of two sets of images by Inception v3's average pool; lower is better.

    Images are resized to 299 pixels with antialiasing and normalised as ImageNet's. Published KIDs
    are of another conversion of the network, from TensorFlow; the two do not compare.

    Parameters
    ----------
    images, reconstructions : array_like of shape (n, height, width, 3)
        RGB of 8 bits or in [0, 1]; the numbers may differ.
    networks : mapping
        With ``"inception_v3"``, see `load_network`.

    Returns
    -------
    float
        See `brainkit.evaluation.kernel_distance`.
    """
    resize = Resize(299, "bilinear", antialias=True)
    judge = Judge("inception_v3", "IMAGENET1K_V1", "avgpool", resize, *IMAGENET)
    sides = [
        features_of(networks["inception_v3"], judge, np.asarray(one))
        for one in (images, reconstructions)
    ]
    return kernel_distance(*sides)
