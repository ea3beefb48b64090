"""Images to latents and back, on the scale that the scheduler works on.

The one convention here: images are (n, height, width, 3) in 0..1, and latents are (n, c, h, w) as
the denoiser sees them, hence shifted and scaled. What is given as a NumPy array comes back as one
(float32, no gradients); what is given as a torch tensor comes back as one, with gradients.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from brainkit.errors import InputError
from brainkit.features.pixels import as_float

BATCH_SIZE = 16


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
        That of the module's configuration by default.
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
        given = isinstance(latents, Tensor)
        values = latents if isinstance(latents, Tensor) else torch.tensor(np.asarray(latents))
        if values.ndim != 4 or values.shape[1] != self.channels:
            raise InputError(
                f"Latents are (n, {self.channels}, h, w) here; got shape {tuple(values.shape)}."
            )
        if given:
            return self._decode(values, clip)
        return self._in_batches(lambda rows: self._decode(rows, clip), values)

    def _encode(self, images: Tensor) -> Tensor:
        pixels = images.to(self.device, torch.float32).permute(0, 3, 1, 2) * 2 - 1
        coded = self.module.encode(pixels)
        latents = coded.latent_dist.mode() if hasattr(coded, "latent_dist") else coded.latents
        return self.scale.to_scheduler(latents)

    def _decode(self, latents: Tensor, clip: bool) -> Tensor:
        own = self.scale.to_autoencoder(latents.to(self.device, torch.float32))
        images = self.module.decode(own).sample / 2 + 0.5
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
