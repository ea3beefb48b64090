"""The reconstruction part of a subject: images and sentences with the nulls beside them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.data.splits import describe_split
from brainkit.reconstruction import ReconstructionResult
from brainkit.reconstruction.judge import judge_metric
from brainkit.reconstruction.scores import MADE, TRUE
from brainkit.reporting.decoding import ordinal, stimulus_name, told_apart
from brainkit.reporting.encoding import left_out, resampling_said, standardised
from brainkit.reporting.figures import score_dots
from brainkit.reporting.markup import Html, interval, join, note, number, table, tag
from brainkit.reporting.pictures import figure_picture, thumbnail
from brainkit.reporting.words import kind_name, metric_name

Array = NDArray[Any]

SHOWN_ITEMS = 10
ORDER = (
    "shown",
    MADE,
    TRUE,
    "low_level",
    "shuffled_brain",
    "mean_embedding",
    "nearest_training_image",
    "class_mean",
    "caption_prior",
    "typical_caption",
    "no_brain",
)
NAMING = "caption_names_category"
# How sentences are headed where the name of the kind does not say it.
SENTENCES = {
    "shown": "the stimulus's own",
    MADE: "said from the brain",
    TRUE: "said from the true embedding",
    "caption_prior": "caption prior: of the nearest training image",
    "no_brain": "no brain: a training caption at random",
}


def reconstruction_section(result: ReconstructionResult, heading: object) -> Html:
    """Return images and sentences beside their nulls, and every metric as figure and table.

    Parameters
    ----------
    result : ReconstructionResult
        Of one subject.
    heading : object
        The section's heading, HTML with its anchor.
    """
    parts = [
        heading,
        _about(result),
        left_out({name: result.counts[name] for name in ("units", "constant_or_nan")}),
        standardised(result.zscore),
        resampling_said(result.resampling),
        _missing(result),
        images(result),
        sentences(result),
        _figure(result),
        tag("div", *(_metric(n, entry) for n, entry in result.metrics.items()), class_="tables"),
    ]
    return join(parts)


def _about(result: ReconstructionResult) -> Html:
    protocol, counts = result.protocol, result.counts
    split = describe_split(protocol.split)
    where = f" in {protocol.roi}" if protocol.roi else ""
    said = [
        f"{counts['images_tested']:,} held-out images (split {split}), whose embeddings "
        f"are decoded from the units{where}; retrieval uses all of them."
    ]
    drawn, spoken = MADE in result.images, MADE in result.captions
    if drawn or spoken:
        made = " and ".join(["drawn"] * drawn + ["said in words"] * spoken)
        said.append(
            f"{counts['images_drawn']:,} of them, chosen at random (seed {protocol.seed}), are "
            f"{made}, by models that were not fitted here and are given no test image."
        )
    if "low_level" in result.images:
        strength = number(protocol.strength)
        said.append(f"Drawing starts from decoded latents (low-level look), strength {strength}.")
    elif drawn:
        said.append("Drawing starts from noise.")
    return note(" ".join(said))


def _missing(result: ReconstructionResult) -> Html:
    """Say which nulls cannot be had because too little is known of the stimuli (trap T26)."""
    made = [*result.images, *result.captions]
    if MADE not in made:
        return Html("")
    lacking = []
    if "caption_prior" not in made:
        lacking.append("the caption prior, since the stimuli have no captions")
    if MADE in result.images and "class_mean" not in made:
        lacking.append("the class mean, since their categories are not known")
    if MADE in result.captions and NAMING not in result.metrics:
        lacking.append("any score of the sentences, since their categories are not known")
    if not lacking:
        return Html("")
    return note(
        tag("strong", "Nulls are missing. "),
        f"This report lacks {'; '.join(lacking)}. What a caption or a category alone explains is "
        "then not told apart from what the brain tells.",
        kind="warning",
    )


def _chosen(n_items: int) -> tuple[int, Array]:
    step = max(1, -(-n_items // SHOWN_ITEMS))
    return step, np.arange(0, n_items, step)


def _which(step: int, n_items: int) -> str:
    every = "Every item" if step == 1 else f"Every {ordinal(step)} item"
    return f"{every} of {n_items} in order of stimulus number, none chosen by its score."


def _in_order(kinds: Sequence[str]) -> list[str]:
    known = [kind for kind in ORDER if kind in kinds]
    return [*known, *(kind for kind in kinds if kind not in known)]


def _name(result: ReconstructionResult, item: int) -> str:
    row = int(result.items["stimulus"].iloc[item])
    return stimulus_name(result.recording.stimuli, row)


def images(result: ReconstructionResult) -> Html:
    """Return a table of shown images, reconstructions and nulls for every k-th image drawn."""
    if MADE not in result.images:
        return Html("")
    step, chosen = _chosen(len(result.items))
    kinds = _in_order(list(result.images))
    judge = _first_judge(result)
    rows = []
    for item in chosen:
        name = _name(result, item)
        cells: list[object] = [name]
        for kind in kinds:
            picture = thumbnail(result.images[kind][item], f"{kind_name(kind)}: {name}")
            cells.append(join([picture, _found(result, judge, kind, item)]))
        rows.append(cells)
    below = (
        f" Below each image: how often {judge[1]} finds the image shown by it, among "
        f"{_among(result.metrics[judge[0]])}."
        if judge
        else ""
    )
    caption = join(
        [
            tag("strong", "Shown and reconstructed images, with nulls. "),
            _which(step, len(result.items)),
            below,
            " All images of a row are drawn from the same noise.",
        ]
    )
    header = ["stimulus", *(kind_name(kind) for kind in kinds)]
    return table(header, rows, caption=caption, class_="pairs wide")


def _among(entry: Mapping[str, Any]) -> str:
    """Return how many images are compared, from the preset's ``1-of-N``."""
    return next(
        part.removeprefix("1-of-") for part in entry["preset"].split("/") if "1-of-" in part
    )


def _first_judge(result: ReconstructionResult) -> tuple[str, str] | None:
    """Return metric and name of the first judge."""
    start = judge_metric("image_given_reconstruction", "").removesuffix("]")
    for metric in result.metrics:
        if metric.startswith(start):
            return metric, metric.removeprefix(start).removesuffix("]")
    return None


def _found(
    result: ReconstructionResult, judge: tuple[str, str] | None, kind: str, item: int
) -> Html:
    column = "" if judge is None else judge[0] if kind == MADE else f"{judge[0]}/{kind}"
    if column not in result.items:
        return Html("&nbsp;")
    return join([f"found {number(float(result.items[column].iloc[item]))}"])


def sentences(result: ReconstructionResult) -> Html:
    """Return a table of sentences from the brain and of the nulls, for the same images."""
    if not result.captions:
        return Html("")
    step, chosen = _chosen(len(result.items))
    kinds = _in_order(list(result.captions))
    rows = []
    for item in chosen:
        name = _name(result, item)
        first: list[object] = [name]
        if "shown" in result.images:
            first.insert(0, thumbnail(result.images["shown"][item], f"shown: {name}"))
        cells = [
            join([_verdict(result, kind, item), result.captions[kind][item]]) for kind in kinds
        ]
        rows.append([join(first), *cells])
    marks = (
        " ✓ and ✗ tell whether the category that the sentence names first is that of the largest "
        "object."
        if NAMING in result.metrics
        else ""
    )
    caption = join(
        [tag("strong", "Sentences, with nulls. "), _which(step, len(result.items)), marks]
    )
    header = ["stimulus", *(SENTENCES.get(kind, kind_name(kind)) for kind in kinds)]
    return table(header, rows, caption=caption, class_="sentences")


def _verdict(result: ReconstructionResult, kind: str, item: int) -> Html:
    column = NAMING if kind == MADE else f"{NAMING}/{kind}"
    if column not in result.items:
        return Html("")
    score = result.items[column].iloc[item]
    if np.isnan(score):  # the image's category is not known
        return Html("")
    right = bool(score)
    mark = tag("span", "✓" if right else "✗", class_="met" if right else "unmet")
    return join([mark, " "])


def _figure(result: ReconstructionResult) -> Html:
    figure = score_dots(
        {metric_name(name): _rows(entry) for name, entry in result.metrics.items()},
        {
            metric_name(n): entry["chance"]
            for n, entry in result.metrics.items()
            if "chance" in entry
        },
        own=kind_name(MADE),
        reach=kind_name(TRUE),
    )
    return figure_picture(
        figure,
        "Each metric with its interval, beside the nulls, what true embeddings reach, and chance.",
        "Each metric in a panel of its own: filled, from the brain; diamond, what the embeddings "
        "of the shown images themselves reach; open, the nulls; dashed, chance. Bars are 95 % "
        "intervals over images. Presets differ, so that panels do not compare.",
    )


def _rows(entry: Mapping[str, Any]) -> dict[str, tuple[float, Sequence[float]]]:
    """Return (value, interval) of the reconstruction, of the true embeddings and of each null."""
    rows = {kind_name(MADE): (entry["value"], entry["ci"])}
    if TRUE in entry:
        rows[kind_name(TRUE)] = (entry[TRUE]["value"], entry[TRUE]["ci"])
    for null in _in_order(list(entry["nulls"])):
        rows[kind_name(null)] = (entry["nulls"][null], entry["null_ci"][null])
    return rows


def _metric(metric: str, entry: Mapping[str, Any]) -> Html:
    """Return one metric as a table: the reconstruction, its reach, and each null."""
    own = tag("span", kind_name(MADE), class_="total")
    rows: list[list[object]] = [[own, number(entry["value"]), interval(entry["ci"]), "", ""]]
    if TRUE in entry:
        reach = entry[TRUE]
        rows.append([kind_name(TRUE), number(reach["value"]), interval(reach["ci"]), "", ""])
    for null in _in_order(list(entry["nulls"])):
        gap = entry["above_nulls"][null]
        rows.append(
            [
                f"null: {kind_name(null)}",
                number(entry["nulls"][null]),
                interval(entry["null_ci"][null]),
                f"{number(gap['value'])} {interval(gap['ci'])}",
                told_apart(gap["ci"]),
            ]
        )
    chance = f" Chance is {number(entry['chance'])}." if "chance" in entry else ""
    caption = join(
        [
            tag("strong", metric_name(metric)),
            f" n = {number(entry['n'])} images (preset {entry['preset']}).{chance}",
        ]
    )
    header = ["from", "value", "95 % CI", "difference, 95 % CI", "told apart"]
    return table(header, rows, caption=caption)
