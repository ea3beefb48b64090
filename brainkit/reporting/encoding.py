"""The encoding part of a subject: scores beside ceilings and nulls, what was left out, maps."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.data.splits import describe_split
from brainkit.data.units import VolumeSpace
from brainkit.encoding import EncodingResult
from brainkit.reporting.figures import region_scores, score_against_ceiling, score_histograms
from brainkit.reporting.maps import region_map, score_map
from brainkit.reporting.markup import Html, frame, join, note, number, tag
from brainkit.reporting.pictures import figure_picture
from brainkit.reporting.words import CEILINGS

Array = NDArray[Any]

PERMUTATION_NOTE = (
    "p is that of the region's mean r among null runs; the smallest possible is {smallest}."
)


def encoding_section(result: EncodingResult, heading: object) -> Html:
    """Return scores by region with ceilings and nulls, then the scores of the units.

    Parameters
    ----------
    result : EncodingResult
        Of one subject.
    heading : object
        The section's heading, HTML with its anchor.
    """
    items, n_seeds = len(result.test_stimuli), len(result.protocol.seeds)
    averaged = ", repeats averaged" if result.protocol.average_repeats else ""
    few = result.protocol.n_train
    learned = "" if few is None else f", learned from {few:,} stimuli"
    split = describe_split(result.protocol.split)
    about = note(
        f"{items:,} held-out items (split {split}{averaged}{learned}), "
        f"{n_seeds} fold seed{'s' * (n_seeds != 1)}; shuffled fits: {result.protocol.shuffles}, "
        f"permutation runs: {result.protocol.permutations}."
    )
    return join(
        [
            heading,
            about,
            left_out(result.counts),
            standardised(result.zscore),
            ceiling_said(result.ceiling),
            resampling_said(result.resampling),
            grid_said(result.grid),
            region_picture({result.recording.subject: result.regions}),
            _region_tables(result),
            _unit_picture(result),
        ]
    )


def left_out(counts: Mapping[str, int]) -> Html:
    """Say how many units there are, and how many were left out and why."""
    reasons = {name: count for name, count in counts.items() if name != "units"}
    total = counts.get("units", 0)
    used = total - sum(reasons.values())
    why = "; ".join(f"{name.replace('_', ' ')}: {number(n)}" for name, n in reasons.items())
    why = why.replace("constant or nan", "constant or NaN")
    return tag("p", f"Units: {number(used)} of {number(total)} used. Left out – {why or 'none'}.")


def standardised(record: Mapping[str, Any]) -> Html:
    """Say how the responses were z-scored; a transductive one gets a warning."""
    if not record:
        return tag("p", "Responses were not z-scored.")
    by = record.get("by")
    within = f"within each {by}" if by else "over all trials"
    text = f"Responses were z-scored {within}, with the statistics of the training trials."
    if not record.get("transductive"):
        return tag("p", text)
    groups = ", ".join(str(group) for group in np.atleast_1d(record.get("unseen") or "some"))
    warning = (
        f" These had no training trials and were z-scored with their own, unlabelled, statistics: "
        f"{groups}. Scores of such a decoder need the whole test session at once."
    )
    return note(text, " ", tag("strong", "Transductive."), warning, kind="warning")


def ceiling_said(facts: Mapping[str, Any]) -> Html:
    """Say which noise ceiling stands beside the scores, and what it rests on."""
    if not facts:
        return tag("p", "No noise ceiling was estimated.")
    n, n_repeats = int(facts["stimuli"]), float(facts["n_repeats"])
    by_others = str(facts["name"]).startswith("cross-subject")
    rests = f"{n:,} test stimuli that {', '.join(facts['subjects'])} saw too"
    rests = rests if by_others else f"{n:,} repeated stimuli"
    of = "single trials" if n_repeats == 1 else f"means of {number(n_repeats)} trials"
    name = tag("strong", str(facts["name"]))
    said = CEILINGS.get(str(facts["name"]), "")
    return tag("p", "Noise ceiling: ", name, f", {said}; from {rests}, for {of}.")


def resampling_said(facts: Mapping[str, Any]) -> Html:
    """Say what p values and intervals take as independent."""
    if not facts:
        return Html("")
    unit = str(facts["independent"])
    stretch = unit.removeprefix("block:")
    names = {"stimulus": "stimuli", "run": "runs", "session": "sessions", "block": "blocks"}
    what = f"stretches of {stretch} trials" if stretch != unit else names.get(unit, f"{unit}s")
    text = f"P values and intervals take {what} as independent ({facts['because']})."
    share = facts.get("training_share")
    if share:
        text += (
            f" Of the variance of predictions {number(100 * share)} % comes from which items "
            "trained them, which widens the intervals."
        )
    return tag("p", text)


def grid_said(facts: Mapping[str, float]) -> Html:
    """Say how many units have a penalty at the edge of its grid, and constant predictions."""
    if not facts:
        return Html("")
    low, high, constant = (
        number(100 * facts[name])
        for name in ("at_smallest_alpha", "at_largest_alpha", "constant_predictions")
    )
    return tag(
        "p",
        f"Penalties: {low} % of the units have the smallest of their grid, {high} % the largest; "
        f"the predictions of {constant} % are constant.",
    )


def region_picture(tables: Mapping[str, pd.DataFrame]) -> Html:
    """Draw the score by region of one subject or of several, with the shuffled null beside it."""
    tables = {name: table for name, table in tables.items() if len(table)}
    if not tables:
        return Html("")
    ceilings = any(table["ceiling fraction"].notna().any() for table in tables.values())
    value, null = ("ceiling fraction", "shuffled fraction") if ceilings else ("r", "shuffled r")
    label = "pooled ceiling fraction, Σ r·|r| / Σ ceiling" if ceilings else "mean held-out r"
    figure = region_scores(
        tables, value, null, label=label, null_label="shuffled features",
        reference=1.0 if ceilings else None,
    )  # fmt: skip
    line = " The dashed line is the ceiling." if ceilings else " There are no noise ceilings."
    several = "one colour a subject, " if len(tables) > 1 else ""
    said = "; ".join(
        f"{row['region']} {number(row[value])} (shuffled {number(row[null])})"
        for table in list(tables.values())[:1]
        for _, row in table.iterrows()
    )
    return figure_picture(
        figure,
        f"Dot plot of {label} by region. First subject: {said}.",
        join(
            [
                tag("strong", "Score by region."),
                f" Filled: {label}; {several}open: the same for shuffled features.{line}",
            ]
        ),
    )


def _region_tables(result: EncodingResult) -> Html:
    """Put numbers of one kind into one table each."""
    regions = result.regions
    if not len(regions):
        return note("No region has units, so there is no table by region.")
    count = next((name for name in regions if str(name).startswith("units r")), None)
    smallest = number(1 / (result.protocol.permutations + 1))
    kinds: list[tuple[list[Any], str]] = [
        (["units", "r", "low", "high", "shuffled r", "p"], "Mean r over a region's units, with "
         "its 95 % interval. " + PERMUTATION_NOTE.format(smallest=smallest)),
        (["units", count], "Units with a high r (of the mean over fold seeds)."),
        (["ceiling", "ceiling fraction", "shuffled fraction"], "Against the noise ceiling."),
        (["units", "2V2", "shuffled 2V2"], "Patterns over the units of a region: share of pairs of "
         "held-out items that are told apart. Chance is .5."),
        (["units", "pattern r", "shuffled pattern r"], "Patterns over the units of a region: mean "
         "correlation over held-out items. Chance is 0."),
    ]  # fmt: skip
    tables = []
    for columns, caption in kinds:
        present = [str(n) for n in columns if n in regions and regions[n].notna().any()]
        if set(present) - {"units"}:
            tables.append(frame(regions[["region", *present]], caption=caption))
    return tag("div", *tables, class_="tables")


def _unit_picture(result: EncodingResult) -> Html:
    """Draw the units' r against their ceilings, or its distribution where there are none."""
    units, names = result.units, list(result.regions["region"])
    if not units["r"].notna().any():
        return note("No unit has a score, so none is drawn.")
    if units["ceiling"].notna().any():
        figure = score_against_ceiling(units["r"], units["ceiling"], regions_of(result), names)
        below = int((units["ceiling"] <= 0).sum())
        return figure_picture(
            figure,
            "Scatter plot of each unit's held-out r against the square root of its noise ceiling, "
            f"coloured by region; {int(units['r'].notna().sum())} units.",
            join(
                [
                    tag("strong", "Score against ceiling, unit by unit."),
                    " On the dashed line a unit is explained as far as its ceiling goes; single "
                    "units lie above it by chance, since both numbers are estimates. "
                    f"Units with a ceiling of 0: {number(below)}.",
                ]
            ),
        )
    masks = {name: result.recording.roi_mask(name) for name in names} or {
        "all units": np.ones(len(units), dtype=bool)
    }
    by_unit = units["shuffled r"].to_numpy() if "shuffled r" in units else None
    means = result.regions.set_index("region")["shuffled r"]
    null = {
        name: means.get(name, np.nan) if by_unit is None else by_unit[inside]
        for name, inside in masks.items()
    }
    r = {name: units["r"].to_numpy()[inside] for name, inside in masks.items()}
    return figure_picture(
        score_histograms(r, null),
        "Histograms of held-out r over the units of each region, with the shuffled null.",
        join([tag("strong", "Distribution of r by region"), ", beside fits on shuffled stimuli."]),
    )


def regions_of(result: EncodingResult) -> Array:
    """Return the region of each unit, the first of the result's in which it is, or None."""
    region = np.full(len(result.units), None, dtype=object)
    for name in reversed(list(result.regions["region"])):
        region[result.recording.roi_mask(name)] = name
    return region


def maps_section(result: EncodingResult, heading: object) -> Html:
    """Return maps of r and of the regions in the person's own space."""
    recording, space = result.recording, result.recording.space
    if not isinstance(space, VolumeSpace):
        where = "has no space" if space is None else f"is in a {type(space).__name__}"
        reason = f"No map is drawn: the recording {where}, and maps are drawn for volumes."
        return join([heading, note(reason)])
    if not result.units["r"].notna().any():
        return join([heading, note("No unit has a score, so there is no map.")])
    oriented = recording.info.get("affine") != "voxel indices"
    figure, limit = score_map(space, result.units["r"], label="held-out r", oriented=oriented)
    over = "the person's anatomy" if space.background is not None else "an empty background"
    place = (
        "z in millimetres, L and R as marked"
        if oriented
        else "z in voxels; the file has no affine, so left and right are not told"
    )
    parts: list[object] = [
        heading,
        figure_picture(
            figure,
            f"Axial slices with the held-out r of each unit over {over}.",
            join(
                [
                    tag("strong", "Held-out r in the person's own space"),
                    f", axial slices over {over}, cut to where the units are ({place}). Colours "
                    f"end at ±{number(limit)}, the 99th percentile; units without a score are "
                    "left blank.",
                ]
            ),
        ),
    ]
    names = list(result.regions["region"])
    if names:
        figure = region_map(space, regions_of(result), names, oriented=oriented)
        caption = join([tag("strong", "Regions"), ", on the same slices. A unit in several regions "
                        "has the colour of the first."])  # fmt: skip
        parts.append(figure_picture(figure, "Axial slices with the region of each unit.", caption))
    return join(parts)
