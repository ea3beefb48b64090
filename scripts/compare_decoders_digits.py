"""Decoders of the digits recording on the same folds: pixel components against learned latents.

    python scripts/compare_decoders_digits.py ROOT [--seeds 0 1 2 3 4] [--out docs/FILE.md]

ROOT is where digits69 lies. Two feature spaces, 20 principal components of the pixels and 16
latents that an autoencoder learns, each fitted inside the folds; two decoders, ridge and the
posterior mean of an encoding model that is turned round. All settings are the parts' defaults or
those of the linear recipe, decode-pixel-components; penalties are chosen inside the training parts.
Differences are paired by held-out image, scores averaged over fold seeds first. One in a hundred
takes all held-out images as rivals, also those of other folds, of the first fold seed; guessing
reaches .01, and the shuffled brain says whether folds help to guess.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from brainkit.arrays.atomic import write_text
from brainkit.data.cards import load
from brainkit.decoding import DecodingResult
from brainkit.evaluation import mean_estimate
from brainkit.evaluation.identification import first_among, identification_contest
from brainkit.evaluation.intervals import Interval
from brainkit.jobs import read_recipe, run_recipe
from brainkit.jobs.decode import DecodeRecipe

LINEAR = "components, ridge"
LATENTS = {"kind": "learned-latents", "settings": {"n_latents": 16}}
BAYES = {"kind": "bayesian-decoder"}
DECODERS: dict[str, dict[str, Any]] = {
    LINEAR: {},
    "latents, ridge": {"features": [LATENTS]},
    "components, Bayesian": {"model": BAYES},
    "latents, Bayesian": {"features": [LATENTS], "model": BAYES},
}
SCORES = {
    "pixel_correlation": "pixel r",
    "ssim_gaussian-2d": "SSIM",
    "identification_reconstruction_given_image": "reconstruction given image",
    "identification_image_given_reconstruction": "image given reconstruction",
}
DIRECTIONS = ("reconstruction_given_image", "image_given_reconstruction")


def recipe_of(name: str, seeds: list[int]) -> DecodeRecipe:
    """Return the linear recipe with other parts."""
    content = read_recipe("decode-pixel-components").model_dump()
    content |= {"name": name.replace(", ", "-"), **DECODERS[name]}
    content["protocol"] |= {"seeds": seeds}
    return DecodeRecipe.model_validate(content)


def one_in_all(judged: DecodingResult, kind: str) -> dict[str, Interval]:
    """Return top-1 identification among all held-out images, by direction."""
    shown, made = judged.images["shown"], judged.images[kind]
    return {
        direction: identification_contest(
            made, shown, direction, score=first_among(len(shown)),
            training=judged.resampling["training_share"],
        ).estimate.interval()
        for direction in DIRECTIONS
    }  # fmt: skip


def cell(value: float, ends: Any) -> str:
    """Return a value with its interval."""
    return f"{value:.3f} ({ends[0]:.3f}–{ends[1]:.3f})"


def page(judged: dict[str, DecodingResult]) -> str:
    """Return the tables as Markdown."""
    lines = ["| decoder | " + " | ".join(SCORES.values()) + " |", "|---|" + "---|" * len(SCORES)]
    for name, one in judged.items():
        cells = [cell(one.metrics[id_]["value"], one.metrics[id_]["ci"]) for id_ in SCORES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for null in ("shuffled_brain", "class_mean", "mean_image", "nearest_training_image"):
        one = judged[LINEAR]
        cells = [f"{one.metrics[id_]['nulls'].get(null, np.nan):.3f}" for id_ in SCORES]
        text = " | ".join(cells).replace("nan", "–")
        lines.append(f"| *{null.replace('_', ' ')}, of the first* | {text} |")
    lines += ["", "By fold seed, pixel r:", ""]
    for name, one in judged.items():
        seeds = ", ".join(f"{value:.3f}" for value in one.by_seed["pixel_correlation"])
        lines.append(f"- {name}: {seeds}")
    lines += ["", f"Less *{LINEAR}*, paired by image:", ""]
    lines += ["| decoder | " + " | ".join(SCORES.values()) + " |", "|---|" + "---|" * len(SCORES)]
    for name, one in judged.items():
        if name != LINEAR:
            cells = [difference(one, judged[LINEAR], id_) for id_ in SCORES]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "One in a hundred:", ""]
    lines += ["| decoder | " + " | ".join(d.replace("_", " ") for d in DIRECTIONS)
              + " | shuffled brain |", "|---|---|---|---|"]  # fmt: skip
    for name, one in judged.items():
        top, null = one_in_all(one, "reconstruction"), one_in_all(one, "shuffled_brain")
        cells = [cell(top[d].value, (top[d].low, top[d].high)) for d in DIRECTIONS]
        cells.append(" and ".join(f"{null[d].value:.3f}" for d in DIRECTIONS))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def difference(one: DecodingResult, other: DecodingResult, metric: str) -> str:
    """Return the mean difference of two decoders over the same images, with its interval."""
    apart = one.items[metric].to_numpy() - other.items[metric].to_numpy()
    share = max(judged.resampling["training_share"] for judged in (one, other))
    interval = mean_estimate(apart, training=share, bounds=(-1.0, 1.0)).interval()
    return f"{interval.value:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"


def main() -> None:
    """Judge every decoder and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path("runs/decoders_digits.md"))
    chosen = parser.parse_args()
    recording = load("digits69", chosen.root)
    known: dict[str, Any] = {}  # what is learned of the same images is learned once
    judged: dict[str, DecodingResult] = {}
    for name in DECODERS:
        recipe = recipe_of(name, chosen.seeds)
        judged[name] = run_recipe(recording, recipe, known=known).source
        print(name, judged[name].metrics["pixel_correlation"]["value"], flush=True)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(chosen.out, page(judged))


if __name__ == "__main__":
    main()
