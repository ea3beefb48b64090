"""Features of transformers' image and text models.

A specification is ``transformers:NAME[/random[:SEED]]`` for images and ``transformers-text:NAME``
for text; ``NAME`` is a hub id (``ORG/NAME``), a folder that ``save_pretrained`` wrote, or ``tiny``.
Of a model with two towers, such as CLIP, the one that is asked for is kept.

Layers are ``hidden_states.0`` (what enters the first block) to ``hidden_states.N``, as the model
itself returns them, and every submodule. The last hidden state of a language model is usually the
one after its final layer norm: that is transformers' convention.

A text is computed as if it were alone, whatever else is in its batch: those of one length together,
without padding. Models that see their padding, because they were trained without a mask (SigLIP,
FNet), get every text at the full length of their context, as the library's own processors pad it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image

from brainkit.arrays.files import refusal
from brainkit.data.text import as_texts
from brainkit.errors import InputError, listed
from brainkit.features.backbones.backbone import Modality, evaluating, freeze, record
from brainkit.features.backbones.torch_module import (
    HookedModule,
    is_square,
    pictures,
    random_weights,
    stacked,
    versions,
)
from brainkit.features.spec import Spec
from brainkit.features.weights import check_safetensors, find_model, find_safetensors, quiet

HIDDEN = "hidden_states."
LONGEST_TEXT = 512
# Of a model with two towers: the tower, and what maps its pooled output to the common space.
TOWERS: dict[Modality, tuple[str, str]] = {
    "image": ("vision_model", "visual_projection"),
    "text": ("text_model", "text_projection"),
}
# Text towers that were trained on padding without a mask, whatever their tokenizers say.
SEES_PADDING = ("siglip", "siglip_text_model", "siglip2", "siglip2_text_model")
ONE_LENGTH = ("nystromformer",)  # of the number of tokens that they were built for
VOLATILE = ("_name_or_path", "name_or_path", "transformers_version", "architectures", "dtype")


class TransformersBackbone(HookedModule):
    """A model of transformers.

    Parameters
    ----------
    model : PreTrainedModel
        Name of a model of images, of text, or of both.
    processor : image processor or tokenizer
        The model's own, for the tower that is wanted.
    spec : str, optional
        What to call the model; ``transformers:CLASS`` where not given.
    modality : {"image", "text"}
    context_length : int, optional
        The most tokens that a text may have, and what all texts are brought to; by default what the
        model takes, at most 512.

    Raises
    ------
    InputError
        If the model needs more than pixels, or more than tokens and their mask.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        spec: str | None = None,
        modality: Modality = "image",
        context_length: int | None = None,
    ) -> None:
        source = "transformers" if modality == "image" else "transformers-text"
        self._tower, self._call, module = _tower(model, modality)
        super().__init__(freeze(module), spec or f"{source}:{type(model).__name__}", modality)
        self._processor = processor
        self._config = getattr(self._tower, "config", model.config)
        self._hidden = [f"{HIDDEN}{index}" for index in range(self._n_hidden())]
        self._takes = signature(self._tower.forward).parameters
        arguments = {"pixel_values", "input_ids", "attention_mask", "token_type_ids"}
        plain = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        needed = [
            name
            for name, parameter in self._takes.items()
            if parameter.default is Parameter.empty and parameter.kind in plain
        ]
        if set(needed) - arguments:
            raise InputError(
                f"{self.spec} needs {listed(sorted(set(needed) - arguments))} beside the "
                f"{modality}s themselves, which brainkit does not make. Take a model of plain "
                f"{modality}s."
            )
        if modality == "image":
            self._prefix, self._suffix = _prefix(self._tower), _suffix(self._tower)
        else:
            self._prefix, self._suffix = self._leading_class_token(), 0
            self._length = context_length or _context_length(self._tower, self._config, processor)
            kind = self._config.model_type
            self._masked = (
                "attention_mask" in processor.model_input_names and kind not in SEES_PADDING
            )
            self._whole = not self._masked or kind in ONE_LENGTH
            self._tokens_first: dict[str, bool] = {}

    def _n_hidden(self) -> int:
        """Return how many hidden states the model gives.

        Its configuration says so of transformers and of what comes in named stages. Others count
        blocks, stages or neither; they are small, and are asked with a blank image.
        """
        config = self._config
        stages = getattr(config, "stage_names", None)
        blocks = getattr(config, "num_hidden_layers", None)
        if stages:
            return len(stages)
        plain = isinstance(getattr(config, "num_attention_heads", None), int)
        if self.modality == "text" or (plain and blocks):
            return 0 if blocks is None else int(blocks) + 1
        pixels = self.to_module(self._pixels(Image.new("RGB", (64, 64)))[None])
        with evaluating(self.module):
            output = self._tower(pixel_values=pixels, output_hidden_states=True)
        return len(output.get("hidden_states") or ())

    def identity(self) -> dict[str, Any]:
        """Return the model, its configuration, weights, and the processor's settings in full."""
        kind = type(self._processor).__name__
        settings = {k: v for k, v in self._config.to_dict().items() if k not in VOLATILE}
        config = sha256(json.dumps(settings, sort_keys=True, default=str).encode())
        return {
            "source": self.spec.partition(":")[0],
            "model": self.model(),
            "class": type(self._tower).__name__,
            "attention": getattr(self._config, "_attn_implementation", None),
            "config": config.hexdigest(),
            "weights": self.weights(),
            "structure": self.structure(),
            "preprocessing": {"class": kind, **self._preprocessing()},
            "versions": versions("transformers", "torch", "torchvision", "pillow", "tokenizers"),
        }

    def _preprocessing(self) -> dict[str, Any]:
        if self.modality == "image":
            return dict(json.loads(self._processor.to_json_string()))
        backend = getattr(self._processor, "backend_tokenizer", None)
        rules = backend.to_str() if backend else json.dumps(sorted(self._processor.get_vocab()))
        digest = sha256(rules.encode()).hexdigest()
        padding = "none" if not self._whole else "with" if self._masked else "without"
        return {"tokenizer": digest, "context_length": self._length, "mask": padding}

    def layers(self) -> list[str]:
        """Return the hidden states and all submodules."""
        return self._hidden + super().layers()

    def default_layer(self) -> str:
        """Return what maps to the space that two towers share, else the last hidden state."""
        projections = [pair[1] for pair in TOWERS.values()]
        outputs = [name for name, _ in self.module.named_children() if name in projections]
        # SigLIP's towers have a head of their own instead.
        heads = [f"{tower}.head" for tower, _ in TOWERS.values()]
        outputs += [name for name, _ in self.module.named_modules() if name in heads]
        return (outputs or self._hidden[-1:] or super().layers()[-1:])[0]

    def prefix_tokens(self, layer: str) -> int:
        """Return the number of class and register tokens."""
        return 0 if "patch_embed" in layer else self._prefix

    def suffix_tokens(self, layer: str) -> int:
        """Return the number of detection tokens, which YOLOS puts behind the patches."""
        return 0 if "patch_embed" in layer else self._suffix

    def channels_last(self, layer: str) -> bool | None:
        """Return None for hidden states: where their channels are is for their shape to say."""
        return None if layer.startswith(HIDDEN) else super().channels_last(layer)

    def prepare(self, items: Sequence[Image.Image] | Sequence[str]) -> torch.Tensor:
        """Apply the processor, to each image by itself.

        Returns
        -------
        tensor
            Images: float32 (n, channels, height, width). Text: int64 (n, 3, context length), the
            tokens' numbers, then 1 for tokens and 0 for padding, then the tokens' types.

        Raises
        ------
        InputError
            If a text has more tokens than the context length, or none: nothing is cut silently.
        """
        if self.modality == "text":
            return self._tokenised(as_texts(items, f"{self.spec} takes strings"))
        # Together, images of several sizes would be padded to the largest among them.
        return stacked([self._pixels(image) for image in pictures(items)], self.spec)

    def _pixels(self, image: Image.Image) -> torch.Tensor:
        inputs = self._processor(images=image, return_tensors="pt")
        if "pixel_values" not in inputs:
            raise InputError(
                f"The image processor of {self.spec} gives {listed(inputs)} and no pixel_values: "
                "brainkit reads models of plain images."
            )
        return torch.as_tensor(inputs["pixel_values"])[0]

    def _tokenised(self, texts: list[str]) -> torch.Tensor:
        rows, types = self._tokens(texts)
        unfit = [text for text, row in zip(texts, rows, strict=True) if len(row) > self._length]
        empty = sum(not row for row in rows)
        if unfit or empty:
            raise InputError(
                f"{self.spec} takes texts of 1 to {self._length} tokens; {len(unfit)} are longer "
                f"and {empty} have no token at all. "
                + (f"The first: {unfit[0][:60]!r}... " if unfit else "")
                + "Shorten, split or leave out these."
            )
        padding = getattr(self._processor, "pad_token_id", None) or 0
        batch = torch.zeros(len(texts), 3, self._length, dtype=torch.int64)
        batch[:, 0] = padding
        for place, row, kinds in zip(batch, rows, types, strict=True):
            place[0, : len(row)], place[1, : len(row)] = torch.tensor(row), 1
            place[2, : len(row)] = torch.tensor(kinds)
        return batch

    def _tokens(self, texts: list[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Return the numbers and the types of each text's tokens, without any padding."""
        with quiet("transformers"):  # it would only warn of texts that are too long
            inputs = self._processor(texts, padding=False, truncation=False)
        rows = inputs["input_ids"]
        return rows, inputs.get("token_type_ids") or [[0] * len(row) for row in rows]

    def _leading_class_token(self) -> int:
        """Return 1 where a text begins with a class token; XLNet's, for one, end with it."""
        number = getattr(self._processor, "cls_token_id", None)
        return int(number is not None and self._tokens(["a"])[0][0][:1] == [number])

    def valid_tokens(self, batch: torch.Tensor) -> torch.Tensor | None:
        """Return which tokens of a text are no padding, (n, context length)."""
        return batch[:, 1].bool() if self.modality == "text" else None

    def run(self, batch: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the outputs of several layers.

        Texts of one length are computed together, without padding; what lies beyond a text's end
        is zeros. Models that see their padding get the whole context.
        """
        names = self.check_layers(layers)
        if self.modality == "image":
            return self._pass({"pixel_values": self.to_module(batch)}, names, len(batch))
        batch = batch.to(self.device())
        self._look_at_axes([name for name in names if name not in self._hidden])
        lengths = batch[:, 1].sum(dim=1)
        if self._whole:
            lengths = torch.full_like(lengths, self._length)
        values: dict[str, torch.Tensor] = {}
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero()[:, 0]
            part = self._pass(self._text_inputs(batch[rows, :, :length]), names, len(rows))
            for name, value in part.items():
                padded = self._padded(name, value)
                if name not in values:
                    values[name] = padded.new_zeros((len(batch), *padded.shape[1:]))
                values[name][rows] = padded
        return values

    def _look_at_axes(self, layers: Sequence[str]) -> None:
        """Find which submodules work on (tokens, n, width), as XLNet's do, by two short texts."""
        new = [layer for layer in layers if layer not in self._tokens_first]
        if not new:
            return
        length = self._length if self._whole else 3
        part = self._tokenised(["a"]).to(self.device())[:, :, :1].repeat(2, 1, length)
        with evaluating(self.module), record(self.module, new, _tensor) as recorded:
            self._call(**self._text_inputs(part))
        self._tokens_first |= {
            layer: layer in recorded and recorded[layer].shape[:2] == (length, 2) for layer in new
        }

    def _text_inputs(self, part: torch.Tensor) -> dict[str, torch.Tensor]:
        inputs = {"input_ids": part[:, 0]}
        if self._masked:
            inputs["attention_mask"] = part[:, 1]
        # Zeros are what a model takes where it is told nothing; GPT-2 would add them to the words.
        if "token_type_ids" in self._takes and bool(part[:, 2].any()):
            inputs["token_type_ids"] = part[:, 2]
        return inputs

    def _pass(
        self, inputs: dict[str, torch.Tensor], names: Sequence[str], n_items: int
    ) -> dict[str, torch.Tensor]:
        """Return the outputs of layers for inputs that the model takes at once."""
        hooked = [name for name in names if name not in self._hidden]
        with (
            evaluating(self.module),
            _unmasked(self._tower, n_items, self.device()) as extra,
            record(self.module, hooked, _tensor) as recorded,
        ):
            wanted = len(hooked) < len(names)
            output = self._call(**inputs, **extra, output_hidden_states=wanted)
        if self.modality == "text":
            recorded = {
                name: value.transpose(0, 1) if self._tokens_first[name] else value
                for name, value in recorded.items()
            }
        recorded |= {
            f"{HIDDEN}{index}": state
            for index, state in enumerate(output.get("hidden_states") or ())
            if f"{HIDDEN}{index}" in names
        }
        image = inputs.get("pixel_values")
        return self.tidied(recorded, names, n_items, image is not None and is_square(image))

    def _padded(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """Bring the tokens of a text back to the context length, so that all batches agree."""
        if value.ndim == 2:
            return value
        if value.ndim == 4:
            raise InputError(
                f"The layer {name} of {self.spec} gives {tuple(value.shape)}: neither a row nor "
                "tokens for each text. Name another layer, such as the block that holds it."
            )
        return torch.nn.functional.pad(value, (0, 0, 0, self._length - value.shape[1]))


def transformers_backbone(spec: Spec, *, download: bool | None = None) -> TransformersBackbone:
    """Build the model that a specification names.

    Raises
    ------
    UnknownNameError, MissingFileError
        If there is no such tiny model or folder.
    DownloadError
        If the model is not on this machine, and `download` is not given or fails.
    InputError
        If the folder holds no such model, its weights do not fit or are pickled, or it takes
        another kind of stimulus.
    """
    modality: Modality = "text" if spec.source.endswith("-text") else "image"
    name = spec.name
    if spec.place == "tiny":
        name = "tiny/clip-transformers" if name == "tiny" else name.replace("tiny-", "tiny/", 1)
    folder = find_model(name, download=download)
    if modality == "text":
        wanted, what = transformers.AutoTokenizer, "tokenizer, so it takes no text"
    else:
        wanted, what = transformers.AutoImageProcessor, "image processor, so it takes no images"
    with quiet("transformers"):
        config = _read(transformers.AutoConfig, folder, spec.model, "configuration of a model")
        processor = _read(wanted, folder, spec.model, what)
        if spec.seed is None:
            model = _load(folder, config, spec.model)
        else:
            with random_weights(spec.seed):
                kind = _class(config)
                automatic = kind is transformers.AutoModel
                model = kind.from_config(config) if automatic else kind(config)
    return TransformersBackbone(model, processor, spec.model, modality)


def _read(kind: Any, folder: Path, name: str, what: str) -> Any:
    try:
        # Code that lies in the folder is never run; left to itself the library would ask.
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        absent = InputError(f"{name} ({folder}) has no {what}. ({reason})")
        raise (refusal(folder) or absent) from error


def _class(config: Any) -> Any:
    """Return the class without a task's head, but with the projection that a tower may have.

    Encoders alone, as those of T5 that diffusion models read text with, have a class of their own.
    """
    saved = next(iter(config.architectures or ()), "")
    complete = saved.endswith(("WithProjection", "EncoderModel"))
    return getattr(transformers, saved) if complete else transformers.AutoModel


def _load(folder: Path, config: Any, name: str) -> Any:
    """Load the weights, strictly but for heads that the features do without.

    Checkpoints of many tasks lack the pooler, which would then be random: it is left out.
    """
    if not any(folder.glob("*.safetensors.index.json")):
        find_safetensors(folder, ["model.safetensors"])
    check_safetensors(folder)
    missing = set()
    for options in ({}, {"add_pooling_layer": False}):
        try:
            model, report = _class(config).from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32,
                output_loading_info=True, **options,
            )  # fmt: skip
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"The weights of {name} cannot be loaded: {reason}") from error
        missing = {str(key) for key in (*report["missing_keys"], *report["mismatched_keys"])}
        if not all(key.startswith("pooler.") for key in missing):
            break
        if not missing:
            return model
    raise InputError(
        f"The weights of {name} fit only in part: {len(missing)} of {len(model.state_dict())} "
        f"tensors of {type(model).__name__} are missing or of another shape "
        f"({listed(sorted(missing), 3)}). They belong to another architecture."
    )


def _tower(model: Any, modality: Modality) -> tuple[Any, Any, torch.nn.Module]:
    """Return the tower, what is called, and a module that holds the tower's parts by name."""
    tower, projection = TOWERS[modality]
    if all(hasattr(model, pair[0]) for pair in TOWERS.values()):
        called, mapping = getattr(model, tower), getattr(model, projection, None)
        parts = {tower: called} | ({} if mapping is None else {projection: mapping})
        # Which of a tower's outputs is projected differs from model to model.
        features = getattr(model, f"get_{modality}_features", called)
        return called, called if mapping is None else features, torch.nn.ModuleDict(parts)
    called = model.get_encoder() if model.config.is_encoder_decoder else model
    return called, called, called


@contextmanager
def _unmasked(tower: Any, n_items: int, device: torch.device) -> Iterator[Mapping[str, Any]]:
    """Let a masked autoencoder see all patches in their order during a block.

    Left to itself it drops a random part of them, in evaluation mode too, and shuffles the rest.
    """
    if getattr(getattr(tower, "config", None), "model_type", None) != "vit_mae":
        yield {}
        return
    before, n_patches = tower.config.mask_ratio, tower.embeddings.patch_embeddings.num_patches
    tower.config.mask_ratio = 0.0
    try:
        yield {"noise": torch.arange(n_patches, device=device).float().expand(n_items, -1)}
    finally:
        tower.config.mask_ratio = before


def _prefix(tower: Any) -> int:
    """Count the tokens before the patches, which the embeddings put there.

    Others, of a pooling head or of a late stage, are not among the tokens of the blocks.
    """
    singles = ("cls_token", "class_embedding", "class_token", "distillation_token")
    count = 0
    for name, values in tower.named_parameters():
        *place, last = name.split(".")
        if "embeddings" in place:
            several = values.ndim == 3 and last in (*singles, "register_tokens")
            count += values.shape[1] if several else int(last in singles)
    return count


def _suffix(tower: Any) -> int:
    """Count the tokens behind the patches."""
    counts = {
        name: values.shape[1]
        for name, values in tower.named_parameters()
        if name.rpartition(".")[2] == "detection_tokens"
    }
    return sum(counts.values())


def _context_length(tower: Any, config: Any, tokenizer: Any) -> int:
    """Return the most tokens that a model and its tokenizer take, at most 512.

    Models of relative positions have no limit; some say so by −1. Where the padding token has a
    place among the positions, as RoBERTa's has, the first words come after it.
    """
    positions = getattr(config, "max_position_embeddings", None) or 0
    for name, part in tower.named_modules():
        taken = getattr(part, "padding_idx", None)
        if name.endswith("position_embeddings") and taken is not None:
            positions = len(part.weight) - taken - 1
    lengths = [positions, getattr(tokenizer, "model_max_length", None) or 0]
    return int(min(LONGEST_TEXT, *(length for length in lengths if length > 0)))


def _tensor(output: Any) -> torch.Tensor:
    """Return what a submodule gives: transformers' blocks may give a tuple or an output object."""
    # An output object is a dict that takes whole numbers too.
    return output[0] if isinstance(output, tuple | list | dict) else output
