"""Extract features of the tiny CLIP and of a ViT-B/32: brainkit beside the bare model's loop.

    python scripts/bench/extraction.py FOLDER [--model tiny|vit] [--repeats 5]

writes images of noise into FOLDER (HDF5, as NSD keeps its own) and, where ``models/tiny/clip`` is
missing, a model of its shape with random weights. The ViT-B/32 of open_clip has random weights.
Each way runs in fresh processes, at one thread of the numeric libraries and at two:

- forward: the model's forward pass alone, on batches prepared beforehand;
- loop: open_clip's own preprocessing, then the forward pass, image batch by image batch;
- extract: `brainkit.features.extract` of the image embedding, from the file to an array;
- stored: the same into a new store, the hash of the weights included;
- one, three: the last block alone, all tokens, and three blocks in one pass.

All take the same images in the same batches of 128, after one batch that does not count. Targets:
extract at least 0.9 times the images a second of forward; three at most 1.15 times the seconds of
one. Then the peak memory of extracting 10,000 images to a store against 1,000, the tiny model's,
last block, mean of the tokens: within 10 %. What the process held before, mostly libraries, is part
of that; the peak above it is shown too, and levels off after some thousands of images, when every
reader has filled its buffers once.

Printed: a table on standard error, all numbers as JSON on standard output.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import compare, measured

BATCH = 128
SHAPE = {"embed_dim": 256}
VISION = {"image_size": 64, "layers": 5, "width": 128, "head_width": 32, "patch_size": 8}
TEXT = {"context_length": 32, "vocab_size": 2048, "width": 128, "heads": 4, "layers": 2}
COLOURS = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
SIZES = {"tiny": 64, "vit": 224}
IMAGES = {"tiny": 4096, "vit": 256}
BLOCKS = {
    "tiny": ("blocks.0", "blocks.2", "blocks.4"),
    "vit": ("blocks.3", "blocks.7", "blocks.11"),
}
WAYS = ("forward", "loop", "extract", "stored", "one", "three")
FEW, MANY = 1000, 10_000


def prepare(folder: Path) -> None:
    """Write images and a model of the tiny CLIP's shape, once."""
    import h5py

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name, size in SIZES.items():
        counts = {"": IMAGES[name]} | ({"-few": FEW, "-many": MANY} if name == "tiny" else {})
        for suffix, count in counts.items():
            path = folder / f"{name}{suffix}.hdf5"
            if not path.exists():
                with h5py.File(path, "w") as file:
                    data = file.create_dataset("images", (count, size, size, 3), "uint8")
                    for start in range(0, count, 1000):
                        part = data[start : start + 1000].shape
                        data[start : start + 1000] = rng.integers(0, 256, part, dtype=np.uint8)
    tiny_model(folder)


def tiny_model(folder: Path) -> Path:
    """Return the folder of the tiny CLIP, or of a model of its shape that is written here."""
    from brainkit.arrays.files import share_folder

    shipped = share_folder("models") / "tiny" / "clip"
    made = folder / "clip"
    if (shipped / "open_clip_config.json").is_file():
        return shipped
    if not (made / "open_clip_config.json").is_file():
        import open_clip
        import torch
        from safetensors.torch import save_file

        torch.manual_seed(0)
        model = open_clip.CLIP(**SHAPE, vision_cfg=VISION, text_cfg=TEXT)
        made.mkdir(exist_ok=True)
        save_file(model.state_dict(), made / "open_clip_model.safetensors")
        config = {"model_cfg": SHAPE | {"vision_cfg": VISION, "text_cfg": TEXT}}
        text = json.dumps(config | {"preprocess_cfg": COLOURS})
        (made / "open_clip_config.json").write_text(text, encoding="utf-8")
    return made


def stimuli(folder: Path, name: str) -> Any:
    """Return the images of one file, as brainkit's stimuli."""
    from brainkit.data.stimuli import HDF5Stimuli, Stimuli

    return Stimuli(HDF5Stimuli.open(folder / f"{name}.hdf5", "images"))


def bare(model: str, how: str, folder: Path) -> tuple[Callable[[int], Any], int]:
    """Return the work of open_clip alone on the first so many images, and how many there are."""
    import open_clip
    import torch
    from PIL import Image

    name = f"local-dir:{tiny_model(folder)}" if model == "tiny" else "ViT-B-32"
    network, _, transform = open_clip.create_model_and_transforms(name)
    network.eval()
    images = stimuli(folder, model)

    def batch(start: int) -> torch.Tensor:
        rows = np.arange(start, min(start + BATCH, len(images)))
        return torch.stack([transform(Image.fromarray(image)) for image in images.read(rows)])

    starts = range(0, len(images), BATCH)
    prepared = {start: batch(start) for start in starts} if how == "forward" else {}

    def work(n_images: int) -> np.ndarray:
        found = []
        with torch.inference_mode():
            for start in range(0, n_images, BATCH):
                given = prepared[start] if prepared else batch(start)
                found.append(network.visual(given).numpy())
        return np.concatenate(found)

    return work, len(images)


def ours(model: str, how: str, folder: Path, store: str) -> tuple[Callable[[int], Any], int]:
    """Return brainkit's work on the first so many images, and how many there are."""
    from brainkit.data.stimuli import Stimuli
    from brainkit.features.backbones.backbone import open_backbone
    from brainkit.features.extraction import extract

    name = str(tiny_model(folder)) if model == "tiny" else "ViT-B-32/random"
    backbone = open_backbone(f"open_clip:{name}")
    images = stimuli(folder, model)
    layers: tuple[str, ...] = {"one": BLOCKS[model][-1:], "three": BLOCKS[model]}.get(how, ())

    def work(n_images: int) -> Any:
        whole = n_images == len(images)
        given = images if whole else Stimuli(images.read(np.arange(n_images)))
        return extract(
            backbone,
            given,
            layers=layers or None,
            store=Path(store) if how == "stored" and whole else None,
            batch_size=BATCH,
            device="cpu",
            progress=False,
        )

    return work, len(images)


def time_once(model: str, how: str, folder: Path) -> None:
    """Run one way in this process and print what it took."""
    import torch

    with tempfile.TemporaryDirectory(dir=folder) as store:
        is_bare = how in ("forward", "loop")
        work, n_images = bare(model, how, folder) if is_bare else ours(model, how, folder, store)
        work(BATCH)  # the libraries set themselves up
        _, found = measured(lambda: work(n_images))
    found |= {"images_per_second": n_images / found["seconds"], "threads": torch.get_num_threads()}
    print(json.dumps(found))


def remember_once(name: str, folder: Path) -> None:
    """Extract one file's images to a store and print the peak memory."""
    from brainkit.features.backbones.backbone import open_backbone
    from brainkit.features.extraction import extract

    backbone, images = open_backbone(f"open_clip:{tiny_model(folder)}"), stimuli(folder, name)
    settings: dict[str, Any] = {"layers": BLOCKS["tiny"][-1], "pool": "mean", "batch_size": BATCH}
    extract(backbone, images.read(np.arange(BATCH)), device="cpu", progress=False, **settings)
    with tempfile.TemporaryDirectory(dir=folder) as store:
        _, found = measured(
            lambda: extract(
                backbone, images, store=Path(store), device="cpu", progress=False, **settings
            )
        )
    status = Path("/proc/self/status").read_text(encoding="ascii").split("VmHWM:")[1]
    print(json.dumps(found | {"whole_peak_mib": int(status.split()[0]) / 1024}))


def ratios(report: dict[str, Any]) -> None:
    """Add what the targets are about to a report of `compare`."""
    for runs in report.values():
        if not isinstance(runs, dict):
            continue
        if "many" in runs:
            for key in ("peak_mib", "whole_peak_mib"):
                runs["many"][f"{key}_over_few"] = runs["many"][key] / runs["few"][key]
            continue
        for found in runs.values():
            rate = found["images_per_second"]
            found["rate_over_forward"] = rate / runs["forward"]["images_per_second"]
        runs["three"]["seconds_over_one"] = runs["three"]["seconds"] / runs["one"]["seconds"]


def show(reports: dict[str, Any]) -> None:
    """Print the numbers as a table on standard error."""
    for title, report in reports.items():
        for threads, runs in report.items():
            if isinstance(runs, dict):
                print(f"{title}, {threads}:", file=sys.stderr)
                for way, found in runs.items():
                    numbers = "  ".join(f"{key} {value:8.2f}" for key, value in found.items())
                    print(f"  {way:8s}{numbers}", file=sys.stderr)


def main() -> None:
    """Prepare the files and compare, or run one way in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=("tiny", "vit"), action="append")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--how", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    models = chosen.model or ["tiny", "vit"]
    if chosen.how in ("few", "many"):
        remember_once(f"tiny-{chosen.how}", chosen.folder)
        return
    if chosen.how:
        time_once(models[0], chosen.how, chosen.folder)
        return
    prepare(chosen.folder)
    base = [sys.executable, __file__, str(chosen.folder), "--how"]
    settings = {"repeats": chosen.repeats, "threads": chosen.threads}
    asked = {model: {way: [*base, way, "--model", model] for way in WAYS} for model in models}
    if "tiny" in models:
        asked["memory"] = {how: [*base, how] for how in ("few", "many")}
    reports = {}
    for title, commands in asked.items():
        reports[title] = compare(commands, **settings)
        ratios(reports[title])
        show({title: reports[title]})
    print(json.dumps(reports, indent=2))


if __name__ == "__main__":
    main()
