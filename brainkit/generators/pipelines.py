"""The pipelines that generators drive: images from a CLIP image embedding and text.

*Stable Diffusion XL with an IP-Adapter*: the adapter turns an embedding into a few tokens that get
attention layers of their own beside those of the text (Podell et al. 2023; Ye et al. 2023). The
plain adapter takes one embedding per image, the "plus" kind all tokens of the image encoder's last
layer but one.

*Stable unCLIP*: the embedding, together with a code of how noisy it is, is added to the denoiser's
time embedding; the text enters by cross-attention (Ramesh et al. 2022; diffusers'
``StableUnCLIPImg2ImgPipeline``). The small pipeline that comes with brainkit is of this class.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from brainkit.arrays.files import is_file, read_json
from brainkit.errors import InputError
from brainkit.features.weights import quiet
from brainkit.generators import pipeline_loading
from brainkit.generators.generator import Generator
from brainkit.generators.sampling import Condition, draw

ENCODERS = ("image_encoder", "../models/image_encoder")  # beside an adapter's file


class SDXLGenerator(Generator):
    """A ``StableDiffusionXLPipeline``, with or without an IP-Adapter."""

    steps = 50
    guidance = 5.0

    def __init__(self, pipe: Any, name: str = "the generator") -> None:
        if pipe.unet.config.time_cond_proj_dim is not None:
            raise InputError(
                f"{name} is distilled: its denoiser takes the guidance as an input, which is not "
                "supported. Give the pipeline that it was distilled from."
            )
        super().__init__(pipe, name)

    @classmethod
    def attach(cls, pipe: Any, path: Path, scale: float, dtype: torch.dtype) -> None:
        """Load an IP-Adapter into a pipeline, and the image encoder that lies beside it.

        Parameters
        ----------
        pipe : StableDiffusionXLPipeline
            Changed in place.
        path : path
            The adapter's safetensors file.
        scale : float
            Weight of the adapter beside the text.
        dtype : torch.dtype

        Raises
        ------
        InputError
            If the file is no IP-Adapter, or one for faces or for another pipeline.
        """
        groups = pipeline_loading.read_adapter(path)
        projection = groups["image_proj"]
        if not ("proj.weight" in projection or "latents" in projection):
            raise InputError(
                f"{path} is neither a plain IP-Adapter nor a 'plus' one: those for faces take the "
                "embeddings of a face recogniser."
            )
        try:
            with quiet(*pipeline_loading.LIBRARIES):
                pipe.load_ip_adapter(
                    groups, subfolder="", weight_name="", image_encoder_folder=None
                )
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(
                f"The IP-Adapter {path} does not fit this pipeline: {error}. Take one that was "
                "made for Stable Diffusion XL."
            ) from error
        pipe.set_ip_adapter_scale(scale)
        pipe.unet.to(dtype=dtype).eval().requires_grad_(False)
        _attach_encoder(pipe, path, dtype)

    @property
    def embedding_width(self) -> int | None:
        """Width of the image embeddings; None without an adapter."""
        projection = _projection(self.pipe)
        return None if projection is None else _width(projection)

    @property
    def embedding_axes(self) -> int:
        """Number of axes of `image_embeds`: 3 for the "plus" adapters, which take tokens."""
        return 3 if hasattr(_projection(self.pipe), "proj_in") else 2

    def _encode_image(self, pixels: Tensor) -> Tensor:
        if self.embedding_axes == 2:
            return super()._encode_image(pixels)
        hidden: Tensor = self.pipe.image_encoder(pixels, output_hidden_states=True).hidden_states[
            -2
        ]
        return hidden

    def _condition(
        self,
        embeds: Tensor | None,
        texts: list[str],
        guidance: float,
        noise_level: int,
        generators: Sequence[torch.Generator] | None,
    ) -> Condition:
        if noise_level:
            raise InputError(
                f"{self.name} has no noise level of embeddings; only unCLIP pipelines have. Leave "
                f"out noise_level={noise_level}."
            )
        guided = guidance > 1
        with torch.no_grad(), quiet(*pipeline_loading.LIBRARIES):  # of cut texts brainkit warns
            hidden, without, pooled, pooled_without = self.pipe.encode_prompt(
                texts, device=self.device, do_classifier_free_guidance=guided
            )
        height, width = self.image_size
        sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=hidden.dtype)
        added: dict[str, Any] = {"time_ids": sizes.to(self.device).repeat(len(hidden), 1)}
        added["text_embeds"] = pooled
        if guided:
            hidden = torch.cat([without, hidden])
            added["text_embeds"] = torch.cat([pooled_without, pooled])
            added["time_ids"] = torch.cat([added["time_ids"]] * 2)
        if self.embedding_width is not None:
            added["image_embeds"] = [self._adapter_rows(embeds, len(texts), guided)]
        return Condition({"encoder_hidden_states": hidden, "added_cond_kwargs": added}, guidance)

    def _adapter_rows(self, embeds: Tensor | None, n: int, guided: bool) -> Tensor:
        """Return what the adapter is given: (rows, 1, width) or (rows, 1, tokens, width)."""
        without = self._without_image(embeds)
        if embeds is None:
            embeds = without.expand(n, *without.shape[1:])
        rows = torch.cat([without.expand_as(embeds), embeds]) if guided else embeds
        return rows[:, None]

    def _without_image(self, embeds: Tensor | None) -> Tensor:
        """Return the one row that stands for no image: zeros, or the tokens of a black image."""
        width = _width(_projection(self.pipe))
        encoder = getattr(self.pipe, "image_encoder", None)
        if self.embedding_axes == 2:
            return torch.zeros(1, width, device=self.device, dtype=self.dtype)
        if encoder is None:
            tokens = 1 if embeds is None else embeds.shape[1]
            return torch.zeros(1, tokens, width, device=self.device, dtype=self.dtype)
        side = int(encoder.config.image_size)
        with torch.no_grad():
            blank = torch.zeros(1, 3, side, side, device=self.device, dtype=encoder.dtype)
            return self._encode_image(blank).to(self.dtype)


def _projection(pipe: Any) -> Any:
    """Return the adapter's first layers, or None."""
    layers = getattr(pipe.unet.encoder_hid_proj, "image_projection_layers", None)
    return None if layers is None else layers[0]


def _width(projection: Any) -> int:
    layer = projection.proj_in if hasattr(projection, "proj_in") else projection.image_embeds
    return int(layer.in_features)


def _attach_encoder(pipe: Any, path: Path, dtype: torch.dtype) -> None:
    """Load the image encoder beside an adapter whose embeddings are as wide as it takes them."""
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    projection = _projection(pipe)
    wanted = "hidden_size" if hasattr(projection, "proj_in") else "projection_dim"
    for place in ENCODERS:
        folder = path.parent / place
        config = folder / "config.json"
        if is_file(config) and read_json(config).get(wanted) == _width(projection):
            with quiet(*pipeline_loading.LIBRARIES):
                encoder = pipeline_loading.load_part(CLIPVisionModelWithProjection, folder, dtype)
            side = int(encoder.config.image_size)
            size = {"height": side, "width": side}
            extractor = CLIPImageProcessor(size={"shortest_edge": side}, crop_size=size)
            pipe.register_modules(image_encoder=encoder, feature_extractor=extractor)
            return


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
        with torch.no_grad(), quiet(*pipeline_loading.LIBRARIES):  # of cut texts brainkit warns
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
