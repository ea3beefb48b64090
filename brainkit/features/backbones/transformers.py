"""Features of transformers' image and text models.

A specification is ``transformers:NAME[/random[:SEED]]`` for images and ``transformers-text:NAME``
for text; ``NAME`` is a hub id (``ORG/NAME``), a folder that ``save_pretrained`` wrote, or ``tiny``.
Of a model with two towers, such as CLIP, the one that is asked for is kept.

Layers are ``hidden_states.0`` (what enters the first block) to ``hidden_states.N``, as the model
itself returns them, and every submodule. The last hidden state of a language model is usually the
one after its final layer norm: that is transformers' convention.
"""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image

from brainkit.errors import InputError, listed
from brainkit.features.backbones.base import Modality, evaluating, freeze, record
from brainkit.features.backbones.module import HookedModule, random_weights, versions
from brainkit.features.quiet import quiet
from brainkit.features.spec import Spec
from brainkit.features.weights import find_model, find_safetensors

HIDDEN = "hidden_states."
LONGEST_TEXT = 512
# Of a model with two towers: the tower and what maps its pooled output to the common space.
TOWERS: dict[Modality, tuple[str, str]] = {
    "image": ("vision_model", "visual_projection"),
    "text": ("text_model", "text_projection"),
}


class TransformersBackbone(HookedModule):
    """A model of transformers.

    Parameters
    ----------
    model : PreTrainedModel
        Of images, of text, or of both.
    processor : image processor or tokenizer
        The model's own, for the tower that is wanted.
    spec : str, optional
        What to call the model; ``transformers:CLASS`` where not given.
    modality : {"image", "text"}
    context_length : int, optional
        Tokens that a text is padded to, and the most it may have; by default what the model takes,
        at most 512.
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
        self._tower, self._projection, module = _tower(model, modality)
        super().__init__(freeze(module), spec or f"{source}:{type(model).__name__}", modality)
        self._processor = processor
        self._hidden = [f"{HIDDEN}{index}" for index in range(_n_hidden(self._tower.config))]
        self._prefix = _prefix(self._tower, processor, modality)
        if modality == "text":
            self._length = context_length or _context_length(self._tower.config, processor)

    def identity(self) -> dict[str, Any]:
        """Return the model, the weights' hash and the processor's settings in full."""
        kind = type(self._processor).__name__
        return {
            "source": self.spec.partition(":")[0],
            "model": self.model(),
            "class": type(self._tower).__name__,
            "attention": getattr(self._tower.config, "_attn_implementation", None),
            "weights": self.weights(),
            "preprocessing": {"class": kind, **self._preprocessing()},
            "versions": versions("transformers", "torch", "torchvision", "pillow", "tokenizers"),
        }

    def _preprocessing(self) -> dict[str, Any]:
        if self.modality == "image":
            return dict(json.loads(self._processor.to_json_string()))
        backend = getattr(self._processor, "backend_tokenizer", None)
        rules = backend.to_str() if backend else json.dumps(sorted(self._processor.get_vocab()))
        digest = sha256(rules.encode()).hexdigest()
        return {"tokenizer": digest, "context_length": self._length, "padding": "right"}

    def layers(self) -> list[str]:
        """Return the hidden states and all submodules."""
        return self._hidden + super().layers()

    def default_layer(self) -> str:
        """Return the projection to the space that two towers share, else the last hidden state."""
        projections = [pair[1] for pair in TOWERS.values()]
        own = [name for name, _ in self.module.named_children() if name in projections]
        return (own or self._hidden[-1:] or super().layers()[-1:])[0]

    def prefix_tokens(self, layer: str) -> int:
        """Return the number of class and register tokens."""
        return 0 if "patch_embed" in layer else self._prefix

    def channels_last(self, layer: str) -> bool:
        """Return True for plain layer norms and linear maps."""
        return not layer.startswith(HIDDEN) and super().channels_last(layer)

    def prepare(self, items: Sequence[Image.Image] | Sequence[str]) -> torch.Tensor:
        """Apply the processor.

        Returns
        -------
        tensor
            Images: float32 (n, channels, height, width). Text: int64 (n, 2, context length), the
            tokens' numbers and, beside them, 1 for tokens and 0 for padding.

        Raises
        ------
        InputError
            If a text has more tokens than the context length, or none: nothing is cut silently.
        """
        if self.modality == "text":
            return self._tokenised([str(item) for item in items])
        pixels = self._processor(images=list(items), return_tensors="pt")["pixel_values"]
        return torch.as_tensor(pixels)

    def _tokenised(self, texts: list[str]) -> torch.Tensor:
        with quiet("transformers"):  # it would only warn of texts that are too long
            numbers = self._processor(texts, padding=False, truncation=False)["input_ids"]
        unfit = [text for text, row in zip(texts, numbers, strict=True) if len(row) > self._length]
        empty = sum(not row for row in numbers)
        if unfit or empty:
            raise InputError(
                f"{self.spec} takes texts of 1 to {self._length} tokens; {len(unfit)} are longer "
                f"and {empty} have no token at all. "
                + (f"The first: {unfit[0][:60]!r}... " if unfit else "")
                + "Shorten, split or leave out these."
            )
        padding = getattr(self._processor, "pad_token_id", None) or 0
        batch = torch.zeros(len(texts), 2, self._length, dtype=torch.int64)
        batch[:, 0] = padding
        for row, text in zip(batch, numbers, strict=True):
            row[0, : len(text)], row[1, : len(text)] = torch.tensor(text), 1
        return batch

    def valid_tokens(self, batch: torch.Tensor) -> torch.Tensor | None:
        """Return which tokens of a text are no padding, (n, context length)."""
        return batch[:, 1].bool() if self.modality == "text" else None

    def run(self, batch: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the outputs of several layers, by one forward pass.

        A batch of texts is computed at the length of its longest; what would lie beyond is zeros.
        """
        names = self.check_layers(layers)
        hooked = [name for name in names if name not in self._hidden]
        batch = batch.to(self.device())
        inputs = {"pixel_values": batch}
        if self.modality == "text":
            longest = int(batch[:, 1].sum(dim=1).max())
            inputs = {"input_ids": batch[:, 0, :longest], "attention_mask": batch[:, 1, :longest]}
        with evaluating(self.module), record(self.module, hooked, _tensor) as recorded:
            output = self._tower(**inputs, output_hidden_states=len(hooked) < len(names))
            if self._projection is not None:
                self._projection(output.pooler_output)
            recorded |= {
                f"{HIDDEN}{index}": state
                for index, state in enumerate(output.get("hidden_states") or ())
                if f"{HIDDEN}{index}" in names
            }
            values = self.tidied(recorded, names, len(batch))
        return {name: self._padded(name, value) for name, value in values.items()}

    def _padded(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """Bring the tokens of a text back to the context length, so that all batches agree."""
        if self.modality == "image" or value.ndim == 2:
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
                model = _class(config).from_config(config)
    return TransformersBackbone(model, processor, spec.model, modality)


def _read(kind: Any, folder: Path, name: str, what: str) -> Any:
    try:
        # Code that lies in the folder is never run; left to itself the library would ask.
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{name} ({folder}) has no {what}. ({reason})") from error


def _class(config: Any) -> Any:
    """Return the class without a task's head, but with the projection that a tower may have."""
    saved = next(iter(config.architectures or ()), "")
    projecting = saved.endswith("WithProjection")
    return getattr(transformers, saved) if projecting else transformers.AutoModel


def _load(folder: Path, config: Any, name: str) -> Any:
    """Load the weights, strictly but for heads that the features do without.

    Checkpoints of many tasks lack the pooler, which would then be random: it is left out.
    """
    if not any(folder.glob("*.safetensors.index.json")):
        find_safetensors(folder, ["model.safetensors"])
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
    """Return what is called, the projection after it, and a module that holds both by name."""
    tower, projection = TOWERS[modality]
    if all(hasattr(model, pair[0]) for pair in TOWERS.values()):
        called, mapping = getattr(model, tower), getattr(model, projection, None)
        parts = {tower: called} | ({} if mapping is None else {projection: mapping})
        return called, mapping, torch.nn.ModuleDict(parts)
    called = model.get_encoder() if model.config.is_encoder_decoder else model
    return called, None, called


def _n_hidden(config: Any) -> int:
    stages = getattr(config, "stage_names", None)
    blocks = getattr(config, "num_hidden_layers", None)
    return len(stages) if stages else 0 if blocks is None else blocks + 1


def _prefix(tower: Any, processor: Any, modality: Modality) -> int:
    """Count the tokens before the patches; of a text, the class token before the words."""
    if modality == "text":
        return int(getattr(processor, "cls_token_id", None) is not None)
    singles = ("cls_token", "class_embedding", "class_token", "distillation_token")
    count = 0
    for name, values in tower.named_parameters():
        last = name.rpartition(".")[2]
        count += 1 if last in singles else values.shape[1] if last == "register_tokens" else 0
    return count


def _context_length(config: Any, tokenizer: Any) -> int:
    lengths = [getattr(config, "max_position_embeddings", None), tokenizer.model_max_length]
    return int(min(LONGEST_TEXT, *(length for length in lengths if length)))


def _tensor(output: Any) -> torch.Tensor:
    """Return what a submodule gives: transformers' blocks may give a tuple or an output object."""
    # An output object is a dict that takes whole numbers too.
    return output[0] if isinstance(output, tuple | list | dict) else output
