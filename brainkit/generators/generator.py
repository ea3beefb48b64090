"""Generators: frozen pipelines that make images from embeddings, text and starting latents.

One interface for all of them: the same arguments, the same scale of latents, and images that depend
on their own seed and condition only. What differs (how a pipeline is conditioned) is one method of
each class. `describe_generator` gives what makes a generator's images what they are, for manifests.
"""

import functools
import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from brainkit.arrays.atomic import plain
from brainkit.arrays.devices import pick_device
from brainkit.arrays.files import is_file, read_json
from brainkit.arrays.progress import track
from brainkit.errors import InputError, unknown_name
from brainkit.features.backbones.torch_module import versions
from brainkit.features.weights import weights_hash
from brainkit.generators import pipeline_loading
from brainkit.generators.autoencoders import Autoencoder
from brainkit.generators.conditioning import (
    check_counts,
    clip_pixels,
    compare_embeddings,
    embedding_tensor,
    guidance_weight,
    latent_tensor,
    text_list,
    warn_of_cut_texts,
)
from brainkit.generators.sampling import (
    Condition,
    Run,
    denoise,
    draw,
    guided_output,
    image_generators,
    levels,
    predict_original,
    start,
)

BATCH_SIZE = 16
DEFAULT_STRENGTH = 0.75  # Brain-Diffuser's (Ozcelik & VanRullen 2023)
# The `_class_name` of model_index.json, and the module and class of the generator.
GENERATORS = {
    "StableUnCLIPImg2ImgPipeline": ("brainkit.generators.pipelines", "StableUnCLIPGenerator"),
    "StableDiffusionXLPipeline": ("brainkit.generators.pipelines", "SDXLGenerator"),
}


def generator_class(name: str) -> "type[Generator]":
    """Return the generator that drives a class of diffusers; raises `UnknownNameError`."""
    if name not in GENERATORS:
        raise unknown_name("pipeline class", name, list(GENERATORS))
    module, attribute = GENERATORS[name]
    kind: type[Generator] = getattr(importlib.import_module(module), attribute)
    return kind


class Generator(ABC):
    """A frozen pipeline that makes images.

    Attributes
    ----------
    pipe : diffusers.DiffusionPipeline
        Evaluation mode, no gradients of weights.
    autoencoder : Autoencoder
        Autoencoder of the pipeline (``vae``), in float32.
    steps, guidance : int, float
        What `generate` takes where nothing else is said: those of ``generation_config.json`` beside
        the pipeline (``num_inference_steps``, ``guidance_scale``), or else the pipeline's own.
    """

    steps = 20
    guidance = 1.0

    def __init__(self, pipe: Any, name: str = "the generator") -> None:
        self.pipe, self.name = pipe, name
        self.autoencoder = Autoencoder(pipe.vae)

    @classmethod
    def from_pretrained(
        cls,
        id_or_path: str | Path,
        *,
        adapter: str | Path | None = None,
        adapter_scale: float = 1.0,
        device: str = "auto",
        dtype: str = "float32",
        download: bool | None = None,
    ) -> Self:
        """Load a generator.

        Parameters
        ----------
        id_or_path : str or path
            ``"tiny"`` (the one that comes with brainkit), a local folder, or an id on the hub, of a
            pipeline in diffusers' format whose class is one of `registry.GENERATORS`.
        adapter : str or path, optional
            An IP-Adapter, for pipelines that take one: a ``*.safetensors`` file, or one on the hub
            as ``"ORG/NAME:PATH"``.
        adapter_scale : float, default=1.0
            Weight of the adapter beside the text.
        device : str, default="auto"
            ``"auto"`` takes a GPU if there is one.
        dtype : {"float32", "float16", "bfloat16"}
            Precision of all networks but the autoencoder.
        download : bool, optional
            Whether what is not in the local cache may be fetched; see `find_model`.

        Raises
        ------
        DownloadError, MissingFileError
            If it is not there.
        InputError
            If it is no such pipeline, or its weights are pickled.
        CorruptFileError
            If weights cannot be read or fit only in part.
        """
        precision, where = pipeline_loading.pick_dtype(dtype), pick_device(device)
        folder = pipeline_loading.find_pipeline(id_or_path, download)
        kind = generator_class(pipeline_loading.read_index(folder)["_class_name"])
        if not issubclass(kind, cls):
            raise InputError(f"{folder} holds a {kind.__name__}, not a {cls.__name__}.")
        adapter_path = None if adapter is None else pipeline_loading.adapter_file(adapter, download)
        pipe = pipeline_loading.load_pipeline(folder, precision)
        if adapter_path is not None:
            kind.attach(pipe, adapter_path, adapter_scale, precision)
        generator = kind(pipe.to(where), str(id_or_path))
        defaults = folder / pipeline_loading.DEFAULTS
        if is_file(defaults):
            values = read_json(defaults)
            generator.steps = int(values.get("num_inference_steps", kind.steps))
            generator.guidance = float(values.get("guidance_scale", kind.guidance))
        return generator

    @classmethod
    def attach(cls, pipe: Any, path: Path, scale: float, dtype: torch.dtype) -> None:
        """Load an adapter into a pipeline; raises `InputError` where it takes none."""
        raise InputError(
            f"{type(pipe).__name__} takes no adapter; leave out adapter={str(path)!r}, or give a "
            "StableDiffusionXLPipeline."
        )

    @property
    @abstractmethod
    def embedding_width(self) -> int | None:
        """Width of the image embeddings that `generate` takes; None where it takes none."""

    @property
    def embedding_axes(self) -> int:
        """Number of axes of `image_embeds`: 2, or 3 where an image has several tokens."""
        return 2

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape (c, h, w) of one image's latents."""
        size = self.pipe.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return int(self.pipe.unet.config.in_channels), int(height), int(width)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        _, height, width = self.latent_shape
        return height * self.autoencoder.downsampling, width * self.autoencoder.downsampling

    @property
    def device(self) -> torch.device:
        """Where the pipeline is."""
        return self.autoencoder.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the denoiser."""
        dtype: torch.dtype = self.pipe.unet.dtype
        return dtype

    def generate(
        self,
        *,
        seeds: Sequence[int],
        image_embeds: ArrayLike | Tensor | None = None,
        text: str | Sequence[str] | None = None,
        init_latents: ArrayLike | Tensor | None = None,
        strength: float | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        noise_level: int = 0,
        batch_size: int = BATCH_SIZE,
    ) -> NDArray[np.float32]:
        """Make one image per seed.

        Parameters
        ----------
        seeds : sequence of int
            One per image. An image depends on its own seed, not on the others of the batch.
        image_embeds : array (n, width), optional
            One embedding per image, as `embed_images` gives them (neither normalised nor scaled).
            Without them, and without `text`, the images are unconditional.
        text : str or sequence of str, optional
            One per image, or one for all; empty by default; together with `image_embeds`. What the
            text encoder has no room for is left out, with a warning.
        init_latents : array (n, c, h, w), optional
            Latents to start from, on the scheduler's scale, as `encode_latents` gives them.
        strength : float, optional
            Share of the run to go through from `init_latents`, 0 to 1 (default .75): at 0 they
            are decoded as they are, at 1 they are ignored.
        steps : int, optional
            Number of denoising steps of a whole run.
        guidance : float, optional
            Weight of classifier-free guidance: output = unconditional + guidance × (conditional −
            unconditional) (Ho & Salimans 2022); none at 1 or below.
        noise_level : int, default=0
            Noise that is added to the embeddings, in timesteps of the pipeline's noising
            schedule (unCLIP only): for embeddings that are themselves uncertain.
        batch_size : int, default=16
            Images at a time; it does not change them beyond rounding.

        Returns
        -------
        array (n, height, width, 3)
            float32 in 0..1.

        Raises
        ------
        InputError
            If lengths, widths or ranges do not fit; the message says which.
        """
        embeds = None if image_embeds is None else self._embeddings(image_embeds)
        generators = image_generators(seeds)
        texts, init = text_list(text, len(generators)), None
        if init_latents is not None:
            init = latent_tensor(init_latents, self.latent_shape, self.image_size)
        check_counts(seeds=seeds, image_embeds=embeds, text=texts, init_latents=init)
        warn_of_cut_texts(texts, self.pipe, self.name)
        if strength is not None and init is None:
            raise InputError("strength says how far to go from init_latents; give those too.")
        if batch_size < 1:
            raise InputError(f"batch_size is a whole number from 1; got {batch_size}.")
        run = Run(
            steps=self.steps if steps is None else steps,
            guidance=guidance_weight(self.guidance if guidance is None else guidance),
            noise_level=noise_level,
            strength=1.0 if init is None else DEFAULT_STRENGTH if strength is None else strength,
        )
        images = [np.empty((0, *self.image_size, 3), np.float32)]
        for first in track(range(0, len(generators), batch_size), "generating images"):
            rows = slice(first, first + batch_size)
            conditions, begin = (None if part is None else part[rows] for part in (embeds, init))
            images.append(self._batch(run, conditions, begin, texts[rows], generators[rows]))
        return np.concatenate(images)

    @torch.no_grad()
    def _batch(
        self,
        run: Run,
        embeds: Tensor | None,
        init: Tensor | None,
        texts: list[str],
        generators: list[torch.Generator],
    ) -> NDArray[np.float32]:
        """Make a few images; the order of the draws is that of the pipelines of diffusers."""
        condition = self._condition(embeds, texts, run.guidance, run.noise_level, generators)
        noise = draw(generators, self.latent_shape, self.device, self.dtype)
        scheduler, timesteps, latents = start(
            self.pipe.scheduler,
            noise,
            steps=run.steps,
            init_latents=None if init is None else init.to(self.device, self.dtype),
            strength=run.strength,
        )
        output = functools.partial(guided_output, self.pipe.unet, condition)
        latents = denoise(output, scheduler, timesteps, latents, generators)
        images: NDArray[np.float32] = self.autoencoder.decode(latents).cpu().numpy()
        return images

    def encode_latents(self, images: ArrayLike | Tensor) -> Any:
        """Return latents of images, on the scheduler's scale; see `Autoencoder.encode`."""
        return self.autoencoder.encode(images)

    def decode_latents(self, latents: ArrayLike | Tensor, *, clip: bool = True) -> Any:
        """Return images of latents on the scheduler's scale; see `Autoencoder.decode`."""
        return self.autoencoder.decode(latents, clip=clip)

    def predict_x0(
        self,
        latents: Tensor,
        timestep: float | Tensor,
        *,
        image_embeds: ArrayLike | Tensor | None = None,
        text: str | Sequence[str] | None = None,
        guidance: float | None = None,
        noise_level: int = 0,
    ) -> Tensor:
        """Return the clean latents that the denoiser sees in noisy ones.

        Parameters
        ----------
        latents : tensor (n, c, h, w)
            Noisy latents, as the scheduler holds them.
        timestep : float or tensor (n,)
            On the scheduler's scale.
        image_embeds, text, guidance
            See `generate`; the embeddings may be a tensor with gradients.
        noise_level : int, default=0
            See `generate`; here with the noise at its mean (zero).

        Returns
        -------
        tensor (n, c, h, w)
            Images that are not clipped, with gradients with respect to `latents` and
            `image_embeds`.
        """
        channels = self.latent_shape[0]
        if latents.ndim != 4 or latents.shape[1] != channels:
            raise InputError(
                f"latents are a tensor (n, {channels}, h, w); got shape {tuple(latents.shape)}."
            )
        embeds = None if image_embeds is None else self._embeddings(image_embeds)
        texts = text_list(text, len(latents))
        check_counts(latents=latents, image_embeds=embeds, text=texts)
        warn_of_cut_texts(texts, self.pipe, self.name)
        latents = latents.to(self.device, self.dtype)
        steps = torch.as_tensor(timestep, device=self.device).reshape(-1).expand(len(latents))
        level = levels(self.pipe.scheduler, steps)
        weight = guidance_weight(self.guidance if guidance is None else guidance)
        condition = self._condition(embeds, texts, weight, noise_level, None)
        scaled = latents * level.scale.to(self.dtype)
        output = guided_output(self.pipe.unet, condition, scaled, steps)
        # The factors are float32, hence also the sum of large and small terms.
        return predict_original(level.kind, latents, output, level.signal, level.noise)

    def embed_images(self, images: ArrayLike) -> NDArray[np.float32]:
        """Return the embeddings of images by the pipeline's own image encoder.

        Parameters
        ----------
        images : array (n, height, width, 3)
            uint8, or floating point in 0..1 (rounded to 8 bits); of any size.

        Returns
        -------
        array (n, width)
            Raw: neither normalised nor scaled, as the pipeline takes them; (n, tokens, width) where
            an image has several tokens.

        Raises
        ------
        InputError
            If the pipeline has no image encoder.
        """
        encoder = getattr(self.pipe, "image_encoder", None)
        if encoder is None:
            raise InputError(
                f"{self.name} has no image encoder; load the pipeline (or the adapter's folder) "
                "with its image_encoder, or embed the images with the model it was trained with."
            )
        pixels = clip_pixels(self.pipe.feature_extractor, images)
        with torch.no_grad():
            parts = [
                self._encode_image(part.to(self.device, encoder.dtype)).float().cpu().numpy()
                for part in pixels.split(BATCH_SIZE)
            ]
        return np.concatenate(parts)

    def check_embeddings(self, images: ArrayLike, embeddings: ArrayLike) -> float | None:
        """Check that embeddings are those that this generator takes, on a few images.

        Parameters
        ----------
        images : array (n, height, width, 3)
            Probe images; some ten are enough.
        embeddings : array (n, width)
            What is to be used as `image_embeds`, for the same images: the targets of a decoder,
            not its predictions.

        Returns
        -------
        float or None
            Mean cosine with the generator's own embeddings; None where it has no image encoder, so
            that only the width was checked.

        Raises
        ------
        InputError
            If they are of another width, another model, another order or another scale.
        """
        checked = embedding_tensor(embeddings, self.embedding_width, self.embedding_axes, self.name)
        check_counts(images=np.asarray(images), embeddings=checked)
        if getattr(self.pipe, "image_encoder", None) is None:
            return None
        return compare_embeddings(self.embed_images(images), checked.cpu().numpy(), self.name)

    def _embeddings(self, values: ArrayLike | Tensor) -> Tensor:
        width, axes = self.embedding_width, self.embedding_axes
        return embedding_tensor(values, width, axes, self.name).to(self.device, self.dtype)

    @abstractmethod
    def _condition(
        self,
        embeds: Tensor | None,
        texts: list[str],
        guidance: float,
        noise_level: int,
        generators: Sequence[torch.Generator] | None,
    ) -> Condition:
        """Return what the denoiser is told; without `generators` noise is left at its mean."""

    def _encode_image(self, pixels: Tensor) -> Tensor:
        result: Tensor = self.pipe.image_encoder(pixels).image_embeds
        return result


def describe_generator(generator: Generator) -> dict[str, Any]:
    """Return a generator's classes, the hashes of its weights, and its settings.

    Parameters
    ----------
    generator : Generator

    Returns
    -------
    dict
        JSON values. ``weights`` has the SHA-256 of every network of the pipeline, an adapter's
        within those of the network that it was loaded into; ``steps`` and ``guidance`` are what
        `generate` takes where nothing else is said.
    """
    pipe = generator.pipe
    networks = {
        name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)
    }
    return {
        "generator": type(generator).__name__,
        "name": generator.name,
        "pipeline": type(pipe).__name__,
        "weights": {name: weights_hash(part) for name, part in sorted(networks.items())},
        "scheduler": _scheduler(pipe.scheduler),
        "steps": generator.steps,
        "guidance": generator.guidance,
        "embedding_width": generator.embedding_width,
        "image_size": list(generator.image_size),
        "dtype": str(generator.dtype).removeprefix("torch."),
        "device": str(generator.device),
        "batch_size": BATCH_SIZE,
        "versions": versions("diffusers", "transformers", "torch"),
    }


def _scheduler(scheduler: Any) -> dict[str, Any]:
    settings = {
        key: value for key, value in scheduler.config.items() if not str(key).startswith("_")
    }
    return {"class": type(scheduler).__name__, **plain(settings)}
