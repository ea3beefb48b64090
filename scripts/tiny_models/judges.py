"""Two judges that nothing else was trained with: other architectures, other seeds, other aims.

``judge-a``, a ConvNeXt, learns to say what a scene holds; ``judge-b``, a ResNet, learns without
labels to tell scenes apart whatever small change they went through. Both are in timm's format.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from brainkit.arrays.atomic import write_json
from brainkit.training import Report, Schedule, Step, info_nce, train
from brainkit.world import SceneWorld
from brainkit.world.painting import BACKGROUNDS, CATEGORIES
from brainkit.world.scenes import COLOURS, KINDS
from tiny_models.files import finish, what_decides
from tiny_models.scenes import SIZE, VALIDATION, as_tensor, paint_pool

BATCH = 96
# A world of its own: the judges see no scene that the other models were trained on.
WORLD = 90_011
POOL = 30_000
KIND_NAMES = [f"{category} {kind}" for category in CATEGORIES for kind in KINDS[category]]
COLOUR_NAMES = sorted({name for names in COLOURS.values() for name in names})
# What the logits of judge-a mean, in this order.
HEADS = {
    "main": list(CATEGORIES),
    "present": list(CATEGORIES),
    "kind": KIND_NAMES,
    "colour": COLOUR_NAMES,
    "background": list(BACKGROUNDS),
    "place": ["x", "y", "size"],
}
WIDTHS = {name: len(labels) for name, labels in HEADS.items()}
SUPERVISED = Schedule(
    steps=4000, learning_rate=2e-3, weight_decay=0.05, precision="bfloat16", average=0.995, seed=21
)
CONTRASTIVE = replace(SUPERVISED, steps=1600, learning_rate=1.5e-3, seed=22)
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "judge-a": (
        "convnext_atto",
        {
            "depths": (1, 1, 3, 1),
            "dims": (24, 48, 96, 160),
            "ls_init_value": 0.1,
            "num_classes": sum(WIDTHS.values()),
        },
    ),
    "judge-b": (
        "resnet18",
        {"layers": (1, 1, 1, 1), "channels": (20, 40, 80, 128), "num_classes": 64},
    ),
}


def build(name: str, seed: int) -> nn.Module:
    """Build a judge with fresh weights."""
    import timm

    architecture, settings = ARCHITECTURES[name]
    torch.manual_seed(seed)
    return timm.create_model(architecture, pretrained=False, **settings)


def targets(world: SceneWorld, count: int) -> dict[str, torch.Tensor]:
    """Return what each scene holds, in the order of `HEADS`."""
    rows: dict[str, list[Any]] = {name: [] for name in HEADS}
    for number in range(count):
        scene = world.scene(number)
        main = scene.objects[0]
        held = {thing.category for thing in scene.objects}
        rows["main"].append(CATEGORIES.index(main.category))
        rows["present"].append([float(category in held) for category in CATEGORIES])
        rows["kind"].append(KIND_NAMES.index(f"{main.category} {main.kind}"))
        rows["colour"].append(COLOUR_NAMES.index(main.colour_name))
        rows["background"].append(BACKGROUNDS.index(scene.background))
        rows["place"].append([main.x, main.y, main.size])
    return {name: torch.tensor(values) for name, values in rows.items()}


def content_loss(logits: torch.Tensor, truth: dict[str, torch.Tensor]) -> torch.Tensor:
    """Sum the losses of all heads, each on its own scale."""
    parts = dict(zip(HEADS, logits.float().split(list(WIDTHS.values()), dim=1), strict=True))
    total = functional.binary_cross_entropy_with_logits(parts["present"], truth["present"])
    total = total + 4 * functional.smooth_l1_loss(parts["place"], truth["place"], beta=0.1)
    for name in ("main", "kind", "colour", "background"):
        total = total + functional.cross_entropy(parts[name], truth[name]) / 2
    return total


def fit_supervised(work: Path) -> tuple[nn.Module, Report]:
    """Train judge-a on what scenes hold."""
    images, truth = paint_pool(work, WORLD, POOL), targets(SceneWorld(WORLD, SIZE), POOL)
    held_out, held_truth = paint_pool(work, VALIDATION, 1000), targets(SceneWorld(VALIDATION), 1000)

    def loss(module: nn.Module, step: Step) -> torch.Tensor:
        rows = np.sort(step.rng("scenes").choice(POOL, BATCH, replace=False))
        return content_loss(
            module(as_tensor(images[rows])), {name: value[rows] for name, value in truth.items()}
        )

    def validate(module: nn.Module) -> float:
        guess = module(as_tensor(held_out))[:, : WIDTHS["main"]].argmax(dim=1)
        return float((guess == held_truth["main"]).float().mean())

    model = build("judge-a", SUPERVISED.seed)
    identity = what_decides(model, scenes=images, truth=truth, batch=BATCH)
    report = train(model, loss, SUPERVISED, folder=work / "judge-a", identity=identity,
                   validate=validate, description="judge-a")  # fmt: skip
    return model, report


def fit_contrastive(work: Path) -> tuple[nn.Module, Report]:
    """Train judge-b to find the same scene again after crops and changes of colour."""
    images, held_out = paint_pool(work, WORLD, POOL), paint_pool(work, VALIDATION, 1000)
    scale = torch.tensor(np.log(10.0))

    def loss(module: nn.Module, step: Step) -> torch.Tensor:
        rows = np.sort(step.rng("scenes").choice(POOL, BATCH, replace=False))
        shown = as_tensor(images[rows])
        first, second = changed(shown, step.generator), changed(shown, step.generator)
        return info_nce(module(first), module(second), scale)

    def validate(module: nn.Module) -> float:
        generator = torch.Generator().manual_seed(0)
        shown = as_tensor(held_out[:200])
        pair = [functional.normalize(module(changed(shown, generator))) for _ in range(2)]
        return float(((pair[0] @ pair[1].T).argmax(dim=1) == torch.arange(200)).float().mean())

    model = build("judge-b", CONTRASTIVE.seed)
    identity = what_decides(model, scenes=images, batch=BATCH)
    report = train(model, loss, CONTRASTIVE, folder=work / "judge-b", identity=identity,
                   validate=validate, description="judge-b")  # fmt: skip
    return model, report


def changed(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Crop, shift, blur a little and change brightness, contrast and hue of each image."""
    n = len(images)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand((n, *shape), generator=generator)

    zoom, shift = uniform(0.7, 1.0), uniform(-1.0, 1.0, 2)
    grid = torch.zeros(n, 2, 3)
    grid[:, 0, 0] = grid[:, 1, 1] = zoom
    grid[:, :, 2] = shift * (1 - zoom)[:, None]
    places = functional.affine_grid(grid, list(images.shape), align_corners=False)
    made = functional.grid_sample(images, places, padding_mode="reflection", align_corners=False)
    gain = uniform(0.8, 1.25, 1, 1, 1) * uniform(0.9, 1.1, 3, 1, 1)
    made = made * gain + uniform(-0.15, 0.15, 1, 1, 1)
    soft = functional.avg_pool2d(made, 3, stride=1, padding=1, count_include_pad=False)
    made = made.lerp(soft, uniform(0.0, 1.0, 1, 1, 1))
    noise = torch.randn(made.shape, generator=generator)
    return (made + 0.05 * noise).clamp(-1, 1)


def save(name: str, model: nn.Module, folder: Path) -> None:
    """Write a judge in timm's format."""
    from safetensors.torch import save_file

    architecture, settings = ARCHITECTURES[name]
    labels = {"label_names": [f"{head} {label}" for head in HEADS for label in HEADS[head]]}
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architecture": architecture,
        "num_classes": settings["num_classes"],
        "num_features": model.num_features,
        "pretrained_cfg": {
            "num_classes": settings["num_classes"],
            "input_size": [3, SIZE, SIZE],
            "fixed_input_size": False,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        },
        "model_args": {k: v for k, v in settings.items() if k != "num_classes"},
    } | (labels if name == "judge-a" else {})
    write_json(folder / "config.json", config)
    half = {
        key: value.detach().half().contiguous() if value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    finish(folder)


def load(folder: Path) -> nn.Module:
    """Load a shipped judge through timm."""
    import timm

    return timm.create_model(f"local-dir:{folder.resolve()}", pretrained=True).float().eval()


def make(name: str, out: Path, work: Path, pool: int) -> Report:
    """Train one of the judges and write it; judges have scenes of their own."""
    model, report = (fit_supervised if name == "judge-a" else fit_contrastive)(work)
    save(name, model, out / name)
    return report
