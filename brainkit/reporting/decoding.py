"""The decoding part of a subject: shown and reconstructed images with the nulls beside them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.data.splits import describe_split
from brainkit.data.stimuli import Stimuli
from brainkit.decoding import DecodingResult
from brainkit.evaluation import pixel_correlation
from brainkit.reporting.encoding import left_out, resampling_said, standardised
from brainkit.reporting.markup import Html, interval, join, note, number, table, tag
from brainkit.reporting.pictures import thumbnail
from brainkit.reporting.words import KINDS, kind_name, metric_name

Array = NDArray[Any]

SHOWN_ITEMS = 8


def decoding_section(result: DecodingResult, heading: object) -> Html:
    """Return pairs of images, and each metric with its nulls and the differences from them.

    Parameters
    ----------
    result : DecodingResult
        Of one subject.
    heading : object
        The section's heading, HTML with its anchor.
    """
    n_seeds = len(result.protocol.seeds)
    where = f" in {result.protocol.roi}" if result.protocol.roi else ""
    back = {
        "inverse": "the inverse of the feature space",
        "bank": "the training image with the nearest features",
    }.get(result.protocol.back, result.protocol.back)
    split = describe_split(result.protocol.split)
    about = note(
        f"{len(result.items):,} held-out images (split {split}), {n_seeds} fold "
        f"seed{'s' * (n_seeds != 1)}, decoded from the units{where}; decoded features become an "
        f"image through {back}."
    )
    said = [left_out(result.counts), standardised(result.zscore)]
    said.append(resampling_said(result.resampling))
    return join([heading, about, *said, pairs(result), _metric_tables(result)])


def pairs(result: DecodingResult) -> Html:
    """Return a table of shown images, reconstructions and nulls for every k-th item."""
    n_items = len(result.items)
    step = max(1, -(-n_items // SHOWN_ITEMS))
    chosen = np.arange(0, n_items, step)
    known = [kind for kind in KINDS if kind in result.images]
    kinds = [*known, *(kind for kind in result.images if kind not in KINDS)]
    shown = result.images["shown"][chosen]
    r = {
        kind: np.atleast_1d(pixel_correlation(shown, result.images[kind][chosen]))
        for kind in kinds
        if kind != "shown"
    }
    stimuli = result.recording.stimuli
    rows = []
    for place, item in enumerate(chosen):
        name = stimulus_name(stimuli, int(result.items["stimulus"].iloc[item]))
        cells: list[object] = [name]
        for kind in kinds:
            picture = thumbnail(result.images[kind][item], f"{kind_name(kind)}: {name}")
            below = f"r {number(r[kind][place])}" if kind in r else Html("&nbsp;")
            cells.append(join([picture, below]))
        rows.append(cells)
    caption = join(
        [
            tag("strong", "Shown and reconstructed images, with nulls. "),
            f"{'Every item' if step == 1 else f'Every {ordinal(step)} item'} of {n_items} in order "
            "of stimulus number, none chosen by its score. Below each image: its pixel correlation "
            "with what was shown. Images and correlations are of the first fold seed.",
        ]
    )
    header = ["stimulus", *(kind_name(kind) for kind in kinds)]
    return table(header, rows, caption=caption, class_="pairs")


def ordinal(value: int) -> str:
    """Write 1st, 2nd, 3rd, 4th and so on."""
    teens = 10 <= value % 100 <= 20
    return f"{value}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(value % 10, 'th')}"


def stimulus_name(stimuli: Stimuli | None, row: int) -> str:
    """Return the id of a stimulus, and its category where that is known."""
    if stimuli is None:
        return str(row)
    name = str(stimuli.ids[row])
    if stimuli.table is not None and "category" in stimuli.table:
        category = stimuli.table["category"].iloc[row]
        name += "" if pd.isna(category) else f" ({category})"
    return name


def _metric_tables(result: DecodingResult) -> Html:
    parts = [_metric_table(name, entry, result) for name, entry in result.metrics.items()]
    return tag("div", *parts, class_="tables")


def _metric_table(metric: str, entry: Mapping[str, Any], result: DecodingResult) -> Html:
    """Return one metric: the reconstruction, then each null and the difference from it."""
    own = tag("span", "reconstruction", class_="total")
    rows: list[list[object]] = [[own, number(entry.get("value")), "", ""]]
    above = entry.get("above_nulls") or {}
    for null, value in (entry.get("nulls") or {}).items():
        gap = above.get(null, {})
        difference = f"{number(gap.get('value'))} {interval(gap.get('ci'))}" if gap else ""
        rows.append([kind_name(null), number(value), difference, told_apart(gap.get("ci"))])
    n_seeds = len(result.protocol.seeds)
    seeds = ""
    if metric in result.by_seed and n_seeds > 1:
        seeds = " By fold seed: " + ", ".join(number(v) for v in result.by_seed[metric]) + "."
    chance = f" Chance is {number(entry['chance'])}." if "chance" in entry else ""
    caption = join(
        [
            tag("strong", metric_name(metric)),
            f" {number(entry.get('value'))}, 95 % CI {interval(entry.get('ci'))}, "
            f"n = {number(entry.get('n'))} images (preset {entry.get('preset', 'not stated')})."
            f"{chance}{seeds}",
        ]
    )
    header = ["image", "value", "difference, 95 % CI", "told apart"]
    return table(header, rows, caption=caption)


def told_apart(ends: Any) -> object:
    """Say on which side of 0 an interval lies."""
    if not ends or any(end is None or not np.isfinite(end) for end in ends):
        return ""
    if ends[0] > 0:
        return tag("span", "above", class_="met")
    return tag("span", "below", class_="unmet") if ends[1] < 0 else "no"
