"""Stable unCLIP: images from a CLIP image embedding, with text beside it.

The embedding, together with a code of how noisy it is, is added to the denoiser's time embedding;
the text enters by cross-attention (Ramesh et al. 2022; diffusers'
``StableUnCLIPImg2ImgPipeline``). The small pipeline that comes with brainkit is of this class.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from brainkit.errors import InputError
from brainkit.features.weights import quiet
from brainkit.generators import loading
from brainkit.generators.base import Generator
from brainkit.generators.sampling import Condition, draw


class StableUnCLIPGenerator(Generator):
    """A ``StableUnCLIPImg2ImgPipeline``: image embeddings, text, and both together."""

    steps = 20
    guidance = 10.0

    @property
    def embedding_width(self) -> int:
        """Width of the image embeddings."""
        return int(self.pipe.image_normalizer.config.embedding_dim)

    def noisy_embeddings(self, embeds: Tensor, noise: Tensor, noise_level: int) -> Tensor:
        """Return what the denoiser is given for embeddings: (n, 2 × width).

        With the normaliser's mean m and deviation d: m + d (√ᾱ (e − m) / d + √(1 − ᾱ) ε), ᾱ at the
        noise level, and beside it the sinusoidal code of the level.

        Parameters
        ----------
        embeds, noise : tensor (n, width)
        noise_level : int
            A timestep of the pipeline's noising schedule.

        Raises
        ------
        InputError
            If the level is outside the schedule.
        """
        from diffusers.models.embeddings import get_timestep_embedding

        schedule = self.pipe.image_noising_scheduler
        last = int(schedule.config.num_train_timesteps) - 1
        if int(noise_level) != noise_level or not 0 <= noise_level <= last:
            raise InputError(f"noise_level is a whole number in 0 to {last}; got {noise_level!r}.")
        mean = self.pipe.image_normalizer.mean.to(embeds)
        deviation = self.pipe.image_normalizer.std.to(embeds)
        level = torch.full((len(embeds),), int(noise_level), device=embeds.device)
        noisy = schedule.add_noise((embeds - mean) / deviation, noise, level) * deviation + mean
        code = get_timestep_embedding(
            level, embeds.shape[1], flip_sin_to_cos=True, downscale_freq_shift=0
        )
        return torch.cat([noisy, code.to(embeds.dtype)], dim=1)

    def _condition(
        self,
        embeds: Tensor | None,
        texts: list[str],
        guidance: float,
        noise_level: int,
        generators: Sequence[torch.Generator] | None,
    ) -> Condition:
        # Told nothing, both branches of the guidance are the unconditional one.
        guided = guidance > 1 and (embeds is not None or any(texts))
        with torch.no_grad(), quiet(*loading.LIBRARIES):  # of cut texts brainkit warns
            hidden, without = self.pipe.encode_prompt(texts, self.device, 1, guided)
        if embeds is None:  # what the denoiser was trained to take for "no embedding"
            labels = hidden.new_zeros(len(texts), 2 * self.embedding_width)
        else:
            noise = torch.zeros_like(embeds)
            if generators is not None:
                noise = draw(generators, embeds.shape[1:], self.device, self.dtype)
            labels = self.noisy_embeddings(embeds, noise, noise_level)
        if guided:
            hidden = torch.cat([without, hidden])
            labels = torch.cat([torch.zeros_like(labels), labels])
        weight = guidance if guided else 1.0
        return Condition({"encoder_hidden_states": hidden, "class_labels": labels}, weight)
