"""The CLIP: a small vision transformer and a small text transformer, in open_clip's own classes.

Exported to transformers' format as well. Weights are stored in half precision; both libraries
compute from the same numbers, in single precision.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from brainkit.arrays.atomic import write_json
from brainkit.training import Report, Schedule, Step, info_nce, train
from brainkit.world import SceneWorld
from tiny_models.files import declare_single, finish, what_decides
from tiny_models.scenes import (
    SIZE,
    TRAINING,
    VALIDATION,
    as_tensor,
    category_prompts,
    describe,
    main_categories,
    paint_pool,
)
from tiny_models.tokenizers import CONTEXT, clip_tokenizer

NAME = "clip"
WIDTH, LAYERS, TEXT_LAYERS, HEAD, PATCH, EMBEDDING = 128, 5, 2, 32, 8, 256
BATCH = 128
SCHEDULE = Schedule(
    steps=2600,
    learning_rate=1.2e-3,
    weight_decay=0.1,
    warmup=150,
    precision="bfloat16",
    average=0.995,
    seed=11,
)
PREPROCESSING = {"size": SIZE, "mode": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3,
                 "interpolation": "bicubic", "resize_mode": "shortest"}  # fmt: skip


def configuration(vocabulary: int) -> dict[str, Any]:
    """Return open_clip's model_cfg."""
    return {
        "embed_dim": EMBEDDING,
        "vision_cfg": {
            "image_size": SIZE,
            "layers": LAYERS,
            "width": WIDTH,
            "head_width": HEAD,
            "patch_size": PATCH,
        },
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": vocabulary,
            "width": WIDTH,
            "heads": WIDTH // HEAD,
            "layers": TEXT_LAYERS,
            "hf_tokenizer_name": "the tokenizer beside this file",
        },
    }


def build(vocabulary: int) -> nn.Module:
    """Build the model with fresh weights."""
    from open_clip import CLIP

    config = configuration(vocabulary)
    text = {key: value for key, value in config["text_cfg"].items() if "hf_" not in key}
    torch.manual_seed(SCHEDULE.seed)
    return CLIP(config["embed_dim"], config["vision_cfg"], text)


def fit(work: Path, pool: int) -> tuple[nn.Module, Report]:
    """Train the model on painted scenes and their captions."""
    images, world = paint_pool(work, count=pool), SceneWorld(TRAINING, SIZE)
    scenes = [world.scene(number) for number in range(pool)]
    tokenizer = clip_tokenizer()
    model = build(len(tokenizer))

    def loss(module: nn.Module, step: Step) -> torch.Tensor:
        generator = step.rng("captions")
        rows = np.sort(generator.choice(pool, BATCH, replace=False))
        texts = [describe(scenes[row], generator) for row in rows]
        tokens = tokenize(tokenizer, texts)
        _, which = np.unique(texts, return_inverse=True)
        same = torch.from_numpy(which[:, None] == which[None, :])
        # Where two scenes share a caption, each is a right answer to it.
        return info_nce(
            module.encode_image(as_tensor(images[rows])),
            module.encode_text(tokens),
            module.logit_scale.clamp(max=np.log(100)),
            same=same,
        )

    held_out = paint_pool(work, VALIDATION, 1000)
    validation = SceneWorld(VALIDATION, SIZE)
    truth = np.array(main_categories([validation.scene(n) for n in range(1000)]))

    def validate(module: nn.Module) -> float:
        guess = zero_shot(module, tokenizer, held_out)
        return float(np.mean(np.array(guess) == truth))

    captions = [scene.caption for scene in scenes]
    identity = what_decides(model, scenes=images, captions=captions, batch=BATCH)
    report = train(
        model,
        loss,
        SCHEDULE,
        folder=work / NAME,
        identity=identity,
        validate=validate,
        description=NAME,
    )
    return model, report


def tokenize(tokenizer: Any, texts: list[str]) -> torch.Tensor:
    """Return token numbers (n, CONTEXT), as open_clip's tokenizer gives them."""
    return tokenizer(
        texts, return_tensors="pt", max_length=CONTEXT, padding="max_length", truncation=True
    ).input_ids


def embed(
    model: nn.Module, images: np.ndarray, batch: int = 250, *, normalize: bool = True
) -> torch.Tensor:
    """Return image embeddings (n, EMBEDDING), unit vectors unless `normalize` is off."""
    with torch.inference_mode():
        return torch.cat(
            [
                model.encode_image(as_tensor(images[start : start + batch]), normalize=normalize)
                for start in range(0, len(images), batch)
            ]
        ).clone()


def zero_shot(model: nn.Module, tokenizer: Any, images: np.ndarray) -> list[str]:
    """Name the category of each scene's largest object, by the nearest prompt."""
    names, prompts = zip(*category_prompts(), strict=True)
    with torch.inference_mode():
        texts = model.encode_text(tokenize(tokenizer, list(prompts)), normalize=True)
    nearest = (embed(model, images) @ texts.T).argmax(dim=1)
    return [names[int(number)] for number in nearest]


def save(model: nn.Module, folder: Path) -> None:
    """Write open_clip's format to `folder` and transformers' to ``<folder>-transformers``."""
    tokenizer = clip_tokenizer()
    config = {"model_cfg": configuration(len(tokenizer)), "preprocess_cfg": PREPROCESSING}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "open_clip_config.json", config)
    half = {k: v.detach().half().contiguous() for k, v in model.state_dict().items()}
    save_file(half, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)
    whole = {name: value.float() for name, value in half.items()}
    export = to_transformers(whole, len(tokenizer))
    twin = folder.with_name(f"{folder.name}-transformers")
    export.half().save_pretrained(twin)
    tokenizer.save_pretrained(twin)
    image_processor().save_pretrained(twin)
    declare_single(twin / "config.json")
    for written in (folder, twin):
        finish(written)


def image_processor() -> Any:
    """Return transformers' image preprocessing, equal to open_clip's."""
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(
        size={"shortest_edge": SIZE},
        crop_size={"height": SIZE, "width": SIZE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


def transformers_configuration(vocabulary: int) -> Any:
    """Return transformers' configuration of the same network."""
    from transformers import CLIPConfig

    ends = {"bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1, "pad_token_id": 0}
    return CLIPConfig(
        projection_dim=EMBEDDING,
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": TEXT_LAYERS,
            "num_attention_heads": WIDTH // HEAD,
            "max_position_embeddings": CONTEXT,
            "hidden_act": "gelu",
            "projection_dim": EMBEDDING,
            **ends,
        },
        vision_config={
            "image_size": SIZE,
            "patch_size": PATCH,
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": WIDTH // HEAD,
            "hidden_act": "gelu",
            "projection_dim": EMBEDDING,
        },
    )


def to_transformers(state: dict[str, torch.Tensor], vocabulary: int) -> Any:
    """Return transformers' CLIPModel with the weights of an open_clip state."""
    from transformers import CLIPModel

    model = CLIPModel(transformers_configuration(vocabulary))
    model.load_state_dict(renamed(state), strict=True)
    return model.eval()


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give open_clip's weights the names and shapes that transformers has for them."""
    new = {
        "logit_scale": state["logit_scale"],
        "visual_projection.weight": state["visual.proj"].T.contiguous(),
        "text_projection.weight": state["text_projection"].T.contiguous(),
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
    }
    for end in ("weight", "bias"):
        new[f"text_model.final_layer_norm.{end}"] = state[f"ln_final.{end}"]
        new[f"vision_model.pre_layrnorm.{end}"] = state[f"visual.ln_pre.{end}"]
        new[f"vision_model.post_layernorm.{end}"] = state[f"visual.ln_post.{end}"]
    towers = (("", "text_model", TEXT_LAYERS), ("visual.", "vision_model", LAYERS))
    for source, target, layers in towers:
        for number in range(layers):
            old = f"{source}transformer.resblocks.{number}."
            fresh = f"{target}.encoder.layers.{number}."
            new |= _renamed_block(state, old, fresh)
    return new


def _renamed_block(state: dict[str, torch.Tensor], old: str, new: str) -> dict[str, torch.Tensor]:
    names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj",
             "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}  # fmt: skip
    block = {
        f"{new}{theirs}.{end}": state[f"{old}{ours}.{end}"]
        for ours, theirs in names.items()
        for end in ("weight", "bias")
    }
    for end in ("weight", "bias"):
        parts = state[f"{old}attn.in_proj_{end}"].chunk(3)
        for letter, part in zip("qkv", parts, strict=True):
            block[f"{new}self_attn.{letter}_proj.{end}"] = part.contiguous()
    return block


def load(folder: Path) -> tuple[nn.Module, Any]:
    """Load the shipped model and its tokenizer through open_clip."""
    import open_clip

    name = f"local-dir:{folder.resolve()}"
    model = open_clip.create_model(name).eval()
    return model, open_clip.get_tokenizer(name).tokenizer


def make(name: str, out: Path, work: Path, pool: int) -> Report:
    """Train the model and write it."""
    model, report = fit(work, pool)
    save(model, out / name)
    return report
