"""Images to latents and back, on the scale that the scheduler works on.

The one convention here: images are (n, height, width, 3) in 0..1, and latents are (n, c, h, w) as
the denoiser sees them, hence shifted and scaled. What is given as a NumPy array comes back as one
(float32, no gradients); what is given as a torch tensor comes back as one, with gradients.

Tiny autoencoders that are published as two plain state dicts become modules of diffusers. The
encoder and the decoder are each a sequence of layers with keys such as ``3.conv.0.weight``.
diffusers' `AutoencoderTiny` is the same network, with two differences in the newer ones: the
bottleneck's blocks may have a branch that normalises over the whole picture (keys ``pool``), and
the decoder's clamp counts as a layer. Every size is read off the weights.

References
----------
Ollin Boer Bohan, TAESD, https://github.com/madebyollin/taesd
"""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from brainkit.errors import InputError, listed
from brainkit.features.pixels import as_float
from brainkit.features.weights import load_state, read_state

BATCH_SIZE = 16
GROUPS = 4  # of the group normalisation in the branch; the weights do not tell
_LAYER = re.compile(r"(\d+)\.(.+)")


@dataclass(frozen=True)
class LatentScale:
    """From an autoencoder's latents z to the scheduler's: (z − shift) × scale, per channel.

    Attributes
    ----------
    scale, shift : tuple of float
        One for all channels, or one per channel.
    """

    scale: tuple[float, ...] = (1.0,)
    shift: tuple[float, ...] = (0.0,)

    @classmethod
    def of(cls, config: Any) -> Self:
        """Read the factors of an autoencoder's configuration.

        ``latents_mean`` and ``latents_std`` (per channel) come before ``shift_factor``; the
        ``scaling_factor`` is applied in either case.
        """
        factor = config.get("scaling_factor")
        factor = 1.0 if factor is None else float(factor)
        mean, std = config.get("latents_mean"), config.get("latents_std")
        if mean is not None and std is not None:
            return cls(tuple(factor / float(one) for one in std), tuple(map(float, mean)))
        return cls((factor,), (float(config.get("shift_factor") or 0.0),))

    def to_scheduler(self, latents: Tensor) -> Tensor:
        """Return latents (n, c, h, w) on the scheduler's scale."""
        return (latents - self._like(self.shift, latents)) * self._like(self.scale, latents)

    def to_autoencoder(self, latents: Tensor) -> Tensor:
        """Return latents (n, c, h, w) on the autoencoder's own scale."""
        return latents / self._like(self.scale, latents) + self._like(self.shift, latents)

    @staticmethod
    def _like(values: tuple[float, ...], latents: Tensor) -> Tensor:
        return torch.tensor(values, dtype=latents.dtype, device=latents.device).view(1, -1, 1, 1)


class Autoencoder:
    """A frozen autoencoder of diffusers, alone or as a part of a pipeline.

    It runs in float32: those of Stable Diffusion XL overflow in float16.

    Parameters
    ----------
    module : AutoencoderKL, AutoencoderTiny or alike
        Its ``encode`` returns a posterior, of which the mode is taken so that the same image always
        has the same latents, or the latents themselves; its images are in −1..1.
    scale : LatentScale, optional
        The scale of latents; that of the module's configuration by default.
    """

    def __init__(self, module: Any, scale: LatentScale | None = None) -> None:
        self.module = module.float().eval().requires_grad_(False)
        self.scale = LatentScale.of(module.config) if scale is None else scale

    @property
    def channels(self) -> int:
        """Number of channels of the latents."""
        return int(self.module.config.latent_channels)

    @property
    def downsampling(self) -> int:
        """How many pixels a latent is wide."""
        return int(2 ** (len(self.module.config.block_out_channels) - 1))

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        return next(iter(self.module.parameters())).device

    def encode(self, images: ArrayLike | Tensor) -> Any:
        """Return the latents of images, on the scheduler's scale.

        Parameters
        ----------
        images : array or tensor (n, height, width, 3)
            Taken by the rule of `brainkit.data.rgb`, such as uint8, or floating point in 0..1; the
            sides are multiples of `downsampling`.

        Returns
        -------
        array or tensor (n, c, height / downsampling, width / downsampling)
            float32; a tensor, with gradients, if `images` is one.

        Raises
        ------
        InputError
            If the images are of another shape or range.
        """
        if isinstance(images, Tensor):
            if images.is_floating_point():
                as_float(images.detach().float().cpu().numpy())  # raises beyond 0..1
                return self._encode(self._checked(images))
            plain = torch.from_numpy(as_float(images.cpu().numpy()))
            return self._encode(self._checked(plain))
        values = self._checked(torch.from_numpy(as_float(images)))
        return self._in_batches(self._encode, values)

    def decode(self, latents: ArrayLike | Tensor, *, clip: bool = True) -> Any:
        """Return the images of latents.

        Parameters
        ----------
        latents : array or tensor (n, c, h, w)
            On the scheduler's scale.
        clip : bool, default=True
            Keep the images in 0..1. Where they leave this range clipping has no gradient.

        Returns
        -------
        array or tensor (n, height, width, 3)
            float32; a tensor, with gradients, if `latents` is one.

        Raises
        ------
        InputError
            If the latents have another number of channels or axes.
        """
        is_tensor = isinstance(latents, Tensor)
        values = latents if isinstance(latents, Tensor) else torch.tensor(np.asarray(latents))
        if values.ndim != 4 or values.shape[1] != self.channels:
            raise InputError(
                f"Latents are (n, {self.channels}, h, w) here; got shape {tuple(values.shape)}."
            )
        if is_tensor:
            return self._decode(values, clip)
        return self._in_batches(lambda rows: self._decode(rows, clip), values)

    def _encode(self, images: Tensor) -> Tensor:
        pixels = images.to(self.device, torch.float32).permute(0, 3, 1, 2) * 2 - 1
        coded = self.module.encode(pixels)
        latents = coded.latent_dist.mode() if hasattr(coded, "latent_dist") else coded.latents
        return self.scale.to_scheduler(latents)

    def _decode(self, latents: Tensor, clip: bool) -> Tensor:
        scaled = self.scale.to_autoencoder(latents.to(self.device, torch.float32))
        images = self.module.decode(scaled).sample / 2 + 0.5
        return (images.clamp(0, 1) if clip else images).permute(0, 2, 3, 1)

    def _checked(self, images: Tensor) -> Tensor:
        """Return images after a check of their shape; NumPy's grey ones become RGB."""
        if images.ndim == 3:
            images = images[..., None].expand(-1, -1, -1, 3)
        step = self.downsampling
        sides = images.shape[1:3]
        if (
            images.ndim != 4
            or images.shape[3] != 3
            or any(side % step or not side for side in sides)
        ):
            raise InputError(
                f"Images are (n, height, width, 3) with sides that are multiples of {step}; got "
                f"shape {tuple(images.shape)}. Crop or resize them first."
            )
        return images

    def _in_batches(self, function: Any, values: Tensor) -> NDArray[np.float32]:
        """Apply a function to a few rows at a time, so that memory does not grow with them."""
        with torch.no_grad():
            parts = [function(rows).cpu().numpy() for rows in values.split(BATCH_SIZE)]
        return np.concatenate(parts)


class PooledBlock(nn.Module):
    """A block whose input is first changed by what the picture as a whole looks like.

    x ← block(x + W₂ relu(GroupNorm(W₁ x))), with 1×1 convolutions.
    """

    def __init__(self, block: nn.Module, width: int, hidden: int) -> None:
        super().__init__()
        self.block = block
        self.pool = nn.Sequential(
            nn.Conv2d(width, hidden, 1, bias=False),
            nn.GroupNorm(GROUPS, hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, width, 1, bias=False),
        )

    def forward(self, values: Tensor) -> Tensor:
        """Map (n, width, h, w) to the same shape."""
        result: Tensor = self.block(values + self.pool(values))
        return result


def tiny_autoencoder(encoder: Mapping[str, Tensor], decoder: Mapping[str, Tensor]) -> Any:
    """Build diffusers' `AutoencoderTiny` from two plain state dicts.

    Parameters
    ----------
    encoder, decoder : mapping
        Tensors by names such as ``"1.conv.0.weight"``.

    Returns
    -------
    diffusers.AutoencoderTiny
        float32, in evaluation mode; images in −1..1, latents of unit scale.

    Raises
    ------
    InputError
        If the tensors are not those of such an autoencoder; the first few names are given.
    """
    from diffusers import AutoencoderTiny

    try:
        down, up = _stages(encoder, first=0), _stages(decoder, first=1)
        width = encoder["0.weight"].shape[0]
        channels = decoder["1.weight"].shape[1]
    except (KeyError, ValueError) as error:
        raise InputError(
            "These are not an encoder and a decoder of a tiny autoencoder: keys such as "
            f"'0.weight' and '1.conv.0.weight' are expected, got {listed(encoder, 4)} and "
            f"{listed(decoder, 4)}."
        ) from error
    module = AutoencoderTiny(
        encoder_block_out_channels=(width,) * len(down),
        decoder_block_out_channels=(width,) * len(up),
        num_encoder_blocks=down,
        num_decoder_blocks=up,
        latent_channels=channels,
    )
    _load(module.encoder.layers, encoder, shift=0)
    _load(module.decoder.layers, decoder, shift=1)  # the clamp is no layer in diffusers
    return module.eval().requires_grad_(False)


def load_tiny_autoencoder(
    encoder: str | Path, decoder: str | Path, scale: LatentScale | None = None
) -> Autoencoder:
    """Load a tiny autoencoder from two safetensors files.

    Parameters
    ----------
    encoder, decoder : path
        Files with plain state dicts, of any precision.
    scale : LatentScale, optional
        Scale from its latents to a scheduler's; none by default.

    Returns
    -------
    Autoencoder
    """
    return Autoencoder(tiny_autoencoder(read_state(encoder), read_state(decoder)), scale)


def _stages(state: Mapping[str, Tensor], first: int) -> tuple[int, ...]:
    """Return how many blocks each stage has, from the numbers of the layers.

    A stage begins with a convolution that changes the resolution (three-by-three, no bias); the
    first and the last convolutions, which have one, begin and end the network.
    """
    numbers = sorted({int(_split(key)[0]) for key in state})
    blocks = {int(_split(key)[0]) for key in state if ".conv." in key}
    plain = [number for number in numbers if number not in blocks]
    if plain[0] != first or len(plain) < 3:
        raise ValueError("no stages")
    return tuple(
        sum(low < number < high for number in blocks) for low, high in itertools.pairwise(plain)
    )


def _split(key: str) -> tuple[str, str]:
    matched = _LAYER.fullmatch(key)
    if matched is None:
        raise ValueError(key)
    return matched[1], matched[2]


def _load(layers: nn.Sequential, state: Mapping[str, Tensor], shift: int) -> None:
    """Load one half, strictly; blocks with a branch are wrapped first."""
    branches = {
        int(_split(key)[0]) - shift: value.shape
        for key, value in state.items()
        if key.endswith("pool.0.weight")
    }
    for number, (hidden, width, *_) in branches.items():
        layers[number] = PooledBlock(layers[number], width, hidden)
    renamed = {}
    for key, value in state.items():
        text, rest = _split(key)
        number = int(text) - shift
        inside = "block." if number in branches and not rest.startswith("pool.") else ""
        renamed[f"{number}.{inside}{rest}"] = value.float()
    load_state(layers, renamed)
