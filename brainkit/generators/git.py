"""GIT: a captioner that reads the hidden states of its image tower.

A GIT model (Wang et al., 2022, arXiv:2205.14100) looks at all patch tokens of an image. Decoders
that predict these tokens from a brain can drive it without the image (as MindEye2 does), so here
every caption goes through them: images become tokens first, and given tokens stand in for them.
"""

import copy
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from brainkit.arrays.devices import pick_device
from brainkit.errors import InputError
from brainkit.features.backbones.backbone import evaluating
from brainkit.features.extraction import ModelInputs
from brainkit.features.weights import find_safetensors, placed, quiet, weights_hash
from brainkit.generators.captioner import (
    BATCH_SIZE,
    Captioner,
    batches,
    checked_vectors,
    decoding_settings,
    load_parts,
    only_one,
    read_sentences,
    same_permissions,
)


class _GivenTokens(nn.Module):
    """Stands where the image tower was, and hands on the tokens it is given as "pixels"."""

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> BaseModelOutput:
        """Return (n, tokens, width) for (n, 1, tokens, width)."""
        return BaseModelOutput(last_hidden_state=pixel_values[:, 0])


def _reader(model: Any) -> Any:
    """Return the same model, sharing all weights, with tokens for its image input."""
    reader, core = _shallow(model), _shallow(model.git)
    core.image_encoder = _GivenTokens()
    reader.git = core
    return reader


def _shallow(module: nn.Module) -> Any:
    """Copy one module so that its children can be exchanged; the children are shared."""
    copied = copy.copy(module)
    copied.__dict__["_modules"] = dict(module._modules)
    return copied


class GitCaptioner(Captioner):
    """A GIT model with its processor.

    Parameters
    ----------
    model : transformers.GitForCausalLM
    processor : transformers.GitProcessor
        Its tokenizer and its image preprocessing.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self.model = model.eval().requires_grad_(False)
        self.processor, self.tokenizer = processor, processor.tokenizer
        self._from_tokens = _reader(self.model)

    @property
    def tokens_shape(self) -> tuple[int, int]:
        """Tokens an image and their width, of the image tower's last hidden state."""
        vision = self.model.config.vision_config
        return (vision.image_size // vision.patch_size) ** 2 + 1, vision.hidden_size

    def image_tokens(self, images: Any, *, batch_size: int = BATCH_SIZE) -> NDArray[np.float32]:
        """Return what the image tower makes of images: what a decoder has to predict.

        Parameters
        ----------
        images : Stimuli, sequence of PIL images or paths, or array (n, height, width[, 3])
            uint8, or float in [0, 1].
        batch_size : int, default=64
            Images at once.

        Returns
        -------
        array of float32 (n, tokens, width)
        """
        pictures = ModelInputs(images, "image")
        tokens = [np.empty((0, *self.tokens_shape), dtype=np.float32)]
        with evaluating(self.model):
            for batch in batches(len(pictures), batch_size):
                rows = range(*batch.indices(len(pictures)))
                pixels = self.processor.image_processor(pictures.read(rows), return_tensors="pt")
                made = self.model.git.image_encoder(pixels["pixel_values"].to(self.model.device))
                tokens.append(made.last_hidden_state.float().cpu().numpy())
        return np.concatenate(tokens)

    def caption(
        self,
        *,
        image_embeds: ArrayLike | None = None,
        images: Any = None,
        image_tokens: ArrayLike | None = None,
        max_new_tokens: int | None = None,
        num_beams: int = 1,
        batch_size: int = BATCH_SIZE,
    ) -> list[str]:
        """Say in a sentence what each image, or its tokens, shows; see `Captioner.caption`."""
        given = only_one(image_embeds=image_embeds, images=images, image_tokens=image_tokens)
        if given == "image_embeds":
            raise InputError(
                "GIT reads all tokens of an image, not one embedding; give image_tokens of shape "
                f"(n, {self.tokens_shape[0]}, {self.tokens_shape[1]}), or images."
            )
        if image_tokens is None:
            image_tokens = self.image_tokens(images, batch_size=batch_size)
        tokens = checked_vectors(image_tokens, "image_tokens", self.tokens_shape, "this GIT")
        room = self.model.config.max_position_embeddings - 1  # one is the start token's
        settings = decoding_settings(self.tokenizer, max_new_tokens, num_beams, room)
        settings.bos_token_id = self.tokenizer.cls_token_id
        sentences: list[str] = []
        with evaluating(self._from_tokens), quiet("transformers"):
            for batch in batches(len(tokens), batch_size):
                seen = torch.as_tensor(tokens[batch])[:, None].to(self.model.device)
                made = self._from_tokens.generate(pixel_values=seen, generation_config=settings)
                sentences += read_sentences(self.tokenizer, made)
        return sentences

    def identity(self) -> dict[str, Any]:
        """Return class, shape of the tokens and weights, for manifests."""
        return {
            "captioner": type(self).__name__,
            "image_tokens": list(self.tokens_shape),
            "weights": weights_hash(self.model),
            **placed(self.model),
        }

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the folder in transformers' own format, weights as safetensors."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        same_permissions(Path(folder))

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto") -> Self:
        """Load from a local folder; see `Captioner.from_pretrained`."""
        from transformers import GitForCausalLM, GitProcessor

        find_safetensors(folder, ("model.safetensors",))  # refuses pickled weights
        model, processor = load_parts(folder, "GIT model", GitForCausalLM, GitProcessor)
        return cls(model.to(pick_device(device)), processor)
