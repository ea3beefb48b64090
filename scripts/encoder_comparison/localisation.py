"""Does routing look at the object that drives a region? Attention against the objects' places."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.arrays.seeds import rng
from brainkit.evaluation import bootstrap_ci
from encoder_comparison.encoders import whole_tokens
from encoder_comparison.world import CATEGORY, GROUPS, LAYER, N_TRAIN, Subject

SIDE = 8


def object_mask(x: float, y: float, size: float) -> NDArray[np.bool_]:
    """Return the tokens whose centre lies in the square round an object, (SIDE * SIDE,)."""
    centre = (np.arange(SIDE) + 0.5) / SIDE
    inside = np.abs(centre - x) <= size / 2
    return (np.abs(centre - y) <= size / 2)[:, None].repeat(SIDE, 1).ravel() & np.tile(inside, SIDE)


def localisation(subject: Subject, model: Any, seed: int = 0) -> dict[str, Any]:
    """Measure the share of attention on the preferred object, beside what chance gives.

    For test images with one object of a region's category and other objects beside it: the share of
    the region's attention on that object's tokens; the same on the tokens with the attention of
    another such image (chance). Attention to the class token is left out: shares are of that to
    patches.
    """
    whole = bool(model.global_tokens)
    tokens = whole_tokens(subject) if whole else subject.features[LAYER]
    attention = np.asarray(model.attention(tokens[N_TRAIN:]))[:, :, int(whole) :]
    attention = attention / attention.sum(axis=2, keepdims=True)
    found: dict[str, Any] = {}
    for group, category in CATEGORY.items():
        queries = [n for n, name in enumerate(model.region_names_) if name in GROUPS[group]]
        if not queries:
            continue
        rows = _images(subject, category)
        maps = attention[[image for image, _ in rows]][:, queries].mean(axis=1)
        masks = np.stack([object_mask(*place) for _, place in rows])
        order = rng(seed, "other image", group).permutation(len(rows))
        other = np.empty_like(order)
        other[order] = np.roll(order, 1)  # a ring: never the image itself
        here, chance = (maps * masks).sum(axis=1), (maps[other] * masks).sum(axis=1)
        paired = bootstrap_ci(here - chance)
        found[group] = {
            "images": len(rows),
            "attention_on_object": float(here.mean()),
            "chance": float(chance.mean()),
            "area": float(masks.mean()),
            "difference": paired.value,
            "ci": [paired.low, paired.high],
        }
    return found


def _images(subject: Subject, category: str) -> list[tuple[int, tuple[float, float, float]]]:
    """Return images with exactly one object of a category and others beside it."""
    rows = []
    for image, things in subject.objects.groupby("image"):
        own = things[things["category"] == category]
        if len(own) == 1 and len(things) > 1:
            thing = own.iloc[0]
            place = (float(thing["x"]), float(thing["y"]), float(thing["size"]))
            if object_mask(*place).any():
                rows.append((int(image), place))
    return rows
