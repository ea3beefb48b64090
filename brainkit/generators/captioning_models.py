"""Two kinds of captioner: GIT, and prefixes of a language model.

*GIT* reads the hidden states of its image tower. A GIT model (Wang et al., 2022, arXiv:2205.14100)
looks at all patch tokens of an image. Decoders that predict these tokens from a brain can drive it
without the image (as MindEye2 does), so here every caption goes through them: images become tokens
first, and given tokens stand in for them.

*Prefix captioners* make an image embedding into the first few "words" of a GPT-2. A small network
turns the embedding into ``prefix_length`` input vectors of the language model, which then goes on
in words (ClipCap; Mokady, Hertz & Bermano, 2021, arXiv:2111.09734).
"""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from brainkit.arrays.atomic import write_json
from brainkit.arrays.devices import pick_device
from brainkit.arrays.files import read_json
from brainkit.errors import CorruptFileError, InputError, unknown_name
from brainkit.features.backbones.backbone import evaluating
from brainkit.features.extraction import ModelInputs
from brainkit.features.weights import find_safetensors, load_state, placed, quiet, weights_hash
from brainkit.generators.captioner import (
    BATCH_SIZE,
    PREFIX_FILE,
    Captioner,
    batches,
    checked_vectors,
    decoding_settings,
    load_parts,
    only_one,
    padding_id,
    read_sentences,
    same_permissions,
)

WEIGHTS_FILE = "prefix.safetensors"
IGNORED = -100  # a label that transformers' losses leave out


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
                encoded = self.model.git.image_encoder(pixels["pixel_values"].to(self.model.device))
                tokens.append(encoded.last_hidden_state.float().cpu().numpy())
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
        kind = only_one(image_embeds=image_embeds, images=images, image_tokens=image_tokens)
        if kind == "image_embeds":
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
                words = self._from_tokens.generate(pixel_values=seen, generation_config=settings)
                sentences += read_sentences(self.tokenizer, words)
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


@dataclass(frozen=True)
class PrefixConfig:
    """The shape of a prefix network; the content of ``prefix.json``.

    Parameters
    ----------
    embedding_width : int
        Numbers in an image embedding.
    prefix_length : int
        Input vectors made of it.
    width : int
        Width of the language model.
    kind : {"linear", "mlp"}, default="linear"
        One layer, or two with a tanh between.
    hidden : int, optional
        Width of the MLP's middle; half of what it puts out where not given, as in ClipCap.
    normalise : bool, default=True
        Bring each embedding to length `input_scale`, so that only its direction counts.
    input_scale : float, default=1
        Factor on the embedding.
    image_model : str, optional
        Spec of the model whose embeddings these are; needed to caption images.
    """

    embedding_width: int
    prefix_length: int
    width: int
    kind: Literal["linear", "mlp"] = "linear"
    hidden: int | None = None
    normalise: bool = True
    input_scale: float = 1.0
    image_model: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "mlp"):
            raise unknown_name("kind of prefix", self.kind, ("linear", "mlp"))
        for name in ("embedding_width", "prefix_length", "width"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InputError(f"{name}={value!r} must be a whole number of at least 1.")


class Prefix(nn.Module):
    """Network from an image embedding to the first inputs of a language model.

    Parameters
    ----------
    config : PrefixConfig
    """

    def __init__(self, config: PrefixConfig) -> None:
        super().__init__()
        self.config = config
        n_out = config.prefix_length * config.width
        if config.kind == "linear":
            self.projection: nn.Module = nn.Linear(config.embedding_width, n_out)
        else:
            hidden = config.hidden or max(n_out // 2, 1)
            self.projection = nn.Sequential(
                nn.Linear(config.embedding_width, hidden), nn.Tanh(), nn.Linear(hidden, n_out)
            )

    def forward(self, image_embeds: torch.Tensor) -> torch.Tensor:
        """Return (n, prefix_length, width) for (n, embedding_width)."""
        if self.config.normalise:
            image_embeds = nn.functional.normalize(image_embeds, dim=-1)
        projected: torch.Tensor = self.projection(image_embeds * self.config.input_scale)
        return projected.unflatten(-1, (self.config.prefix_length, self.config.width))


class PrefixCaptioner(nn.Module, Captioner):
    """A language model that reads an image embedding.

    Parameters
    ----------
    model : transformers.GPT2LMHeadModel
        The language model.
    tokenizer : transformers tokenizer
        Tokenizer with an end-of-sentence token.
    prefix : Prefix
        Network from the embedding to the model's inputs.
    """

    def __init__(self, model: Any, tokenizer: Any, prefix: Prefix) -> None:
        super().__init__()
        width = model.get_input_embeddings().embedding_dim
        if prefix.config.width != width:
            raise InputError(
                f"The prefix is {prefix.config.width} wide and the language model {width}: they "
                "belong to different captioners."
            )
        if tokenizer.eos_token_id is None:
            raise InputError("The captioner's tokenizer has no end-of-sentence token.")
        self.model, self.tokenizer, self.prefix = model, tokenizer, prefix

    @property
    def embedding_width(self) -> int:
        """Numbers in an image embedding."""
        return self.prefix.config.embedding_width

    def forward(
        self, image_embeds: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """Return the mean cross-entropy of the captions' tokens, for training.

        Parameters
        ----------
        image_embeds : tensor (n, embedding_width)
        input_ids : tensor of int (n, tokens)
            Captions with their end token, padded on the right; see `tokenise`.
        attention_mask : tensor of int (n, tokens)
            1 for a token, 0 for padding.

        Returns
        -------
        tensor ()
        """
        prefix = self.prefix(image_embeds)
        words = self.model.get_input_embeddings()(input_ids)
        seen = attention_mask.new_ones(prefix.shape[:2])
        return self.model(
            inputs_embeds=torch.cat([prefix, words.to(prefix.dtype)], dim=1),
            attention_mask=torch.cat([seen, attention_mask], dim=1),
            labels=torch.cat(
                [
                    input_ids.new_full(prefix.shape[:2], IGNORED),
                    input_ids.masked_fill(attention_mask == 0, IGNORED),
                ],
                dim=1,
            ),
        ).loss

    def tokenise(self, captions: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return token ids with an end token, padded on the right, and their mask.

        Returns
        -------
        input_ids, attention_mask : tensor of int (n, tokens)
        """
        end, padding = self.tokenizer.eos_token_id, padding_id(self.tokenizer)
        rows = [
            [*self.tokenizer(text, add_special_tokens=False)["input_ids"], end] for text in captions
        ]
        length = max(map(len, rows), default=0)
        ids = torch.full((len(rows), length), padding, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        return ids, mask

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
        """Say in a sentence what each embedding, or image, shows; see `Captioner.caption`."""
        kind = only_one(image_embeds=image_embeds, images=images, image_tokens=image_tokens)
        if kind == "image_tokens":
            raise InputError("A prefix captioner reads image embeddings; give image_embeds.")
        if image_embeds is None:
            image_embeds = self._embed(images)
        what = "this captioner"
        vectors = checked_vectors(image_embeds, kind, (self.embedding_width,), what)
        room = self.model.config.n_positions - self.prefix.config.prefix_length
        settings = decoding_settings(self.tokenizer, max_new_tokens, num_beams, room)
        weight = next(self.prefix.parameters())
        sentences: list[str] = []
        with evaluating(self), quiet("transformers"):
            for batch in batches(len(vectors), batch_size):
                prefix = self.prefix(torch.as_tensor(vectors[batch]).to(weight))
                tokens = self.model.generate(
                    inputs_embeds=prefix,
                    attention_mask=torch.ones(
                        prefix.shape[:2], dtype=torch.long, device=prefix.device
                    ),
                    generation_config=settings,
                )
                sentences += read_sentences(self.tokenizer, tokens)
        return sentences

    def _embed(self, images: Any) -> Any:
        if self.prefix.config.image_model is None:
            raise InputError(
                "This captioner does not name the model whose embeddings it reads "
                f"(image_model in {PREFIX_FILE}), so it cannot caption images; give image_embeds."
            )
        from brainkit.features.extraction import extract

        return extract(self.prefix.config.image_model, images, progress=False)

    def identity(self) -> dict[str, Any]:
        """Return class, prefix and weights, for manifests."""
        return {
            "captioner": type(self).__name__,
            "prefix": asdict(self.prefix.config),
            "weights": weights_hash(self),
            **placed(self),
        }

    def save_pretrained(
        self, folder: str | Path, *, dtype: Literal["float32", "float16"] = "float32"
    ) -> None:
        """Write the model, its tokenizer and the prefix to a folder, as safetensors and JSON.

        Parameters
        ----------
        folder : path
        dtype : {"float32", "float16"}, default="float32"
            What the weights are kept as. They are loaded as float32 in any case.
        """
        from safetensors.torch import save

        if dtype not in ("float32", "float16"):
            raise unknown_name("dtype of saved weights", dtype, ("float32", "float16"))
        target = Path(folder)
        kept = copy.deepcopy(self).to("cpu", getattr(torch, dtype))
        kept.model.save_pretrained(target)
        # What the files are kept as is no wish for what to compute in.
        write_json(
            target / "config.json", {**read_json(target / "config.json"), "dtype": "float32"}
        )
        self.tokenizer.save_pretrained(target)
        state = {name: value.contiguous() for name, value in kept.prefix.state_dict().items()}
        (target / WEIGHTS_FILE).write_bytes(save(state))
        write_json(target / PREFIX_FILE, asdict(self.prefix.config))
        same_permissions(target)

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto") -> Self:
        """Load from a local folder; see `Captioner.from_pretrained`."""
        from transformers import AutoTokenizer, GPT2LMHeadModel

        prefix = _load_prefix(folder)
        model, tokenizer = load_parts(folder, "prefix captioner", GPT2LMHeadModel, AutoTokenizer)
        captioner = cls(model, tokenizer, prefix).eval().requires_grad_(False)
        return captioner.to(pick_device(device))


def _load_prefix(folder: Path) -> Prefix:
    settings = read_json(folder / PREFIX_FILE)
    try:
        prefix = Prefix(PrefixConfig(**settings))
    except (TypeError, InputError) as error:
        raise CorruptFileError(f"{folder / PREFIX_FILE} is no prefix network: {error}") from error
    load_state(prefix, folder / WEIGHTS_FILE)
    return prefix
