"""The widgets that reports are made of: what a job has to show, as data, and how it looks.

A job gives sections of widgets (`Text`, `Table`, `Picture`, `ImageGrid`, `ImageStrip`); the page
renders them. Nothing is fetched from elsewhere: pictures are data addresses.
"""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.data.rgb import as_uint8
from brainkit.data.stimuli import Stimuli
from brainkit.reporting.markup import Html, frame, interval, join, note, number, table, tag, void

Array = NDArray[Any]

DPI = 110
LARGEST_SIDE = 96
FIGURE_COLOURS = 256
THUMBNAIL_COLOURS = 128
# Kinds of images, sentences and nulls as readers see them, in the order in which they stand.
KINDS = {
    "shown": "shown",
    "reconstruction": "reconstruction",
    "true_embedding": "from the true embedding",
    "low_level": "low-level look",
    "shuffled_brain": "shuffled brain",
    "mean_embedding": "mean embedding",
    "nearest_training_image": "nearest training image",
    "class_mean": "class mean",
    "mean_image": "mean image",
    "caption_prior": "caption prior",
    "typical_caption": "typical caption",
    "no_brain": "no brain",
}


SIGNS = {"auc": "AUC", "rsa": "RSA", "r2": "R²", "ssim": "SSIM", "2v2": "2V2"}


class Widget(Protocol):
    """Anything that can be shown."""

    def html(self) -> Html:
        """Return the widget as HTML."""
        ...


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes
    ----------
    content : sequence
        Text, numbers and HTML, put together; text is escaped.
    kind : {"plain", "note", "warning"}
        A note is small; a warning stands out.
    """

    content: Sequence[object]
    kind: str = "plain"

    def html(self) -> Html:
        """Return the paragraph; nothing where there is no text."""
        if not any(str(part) for part in self.content):
            return Html("")
        return note(*self.content, kind=self.kind) if self.kind != "plain" else tag(
            "p", *self.content
        )  # fmt: skip


def chance_alarm(metrics: Mapping[str, Mapping[str, Any]]) -> Text | None:
    """Return a warning where every metric of a decoder sits at chance; None where one does not.

    A metric is at chance where its interval holds its chance or, for those without one, where that
    of its paired difference from the shuffled brain holds 0. Metrics without intervals have no say.

    Parameters
    ----------
    metrics : mapping of str to mapping
        As in ``metrics.json``.
    """
    judged = [one for one in map(_above_chance, metrics.values()) if one is not None]
    if not judged or any(judged):
        return None
    return Text(
        [
            tag("strong", "Everything is at chance. "),
            "No metric tells these predictions from guesses. Where the brain should tell something "
            "this is mostly one of three faults: images and responses stand in another order (an "
            "index that starts at 1, rows sorted on one side); the responses are another person's; "
            "or another session's, or its order of trials. Compare the ids of the first trials "
            "with the experiment's own log.",
        ],
        kind="warning",
    )


def _above_chance(entry: Mapping[str, Any]) -> bool | None:
    """Tell whether a metric is on the better side of chance; None where nobody can say."""
    sign = -1 if entry.get("direction") == "lower" else 1
    if entry.get("chance") is not None and "ci" in entry:
        (low, high), chance = entry["ci"], entry["chance"]
    elif (null := entry.get("above_nulls", {}).get("shuffled_brain")) is not None:
        (low, high), chance = null["ci"], 0.0
    else:
        return None
    worst = low if sign > 0 else high
    return bool(np.isfinite(worst) and sign * (worst - chance) > 0)


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    rows : DataFrame, or sequence of sequence
    header : sequence, optional
        Names of the columns, for rows that are no DataFrame.
    caption : object, optional
    class_ : str, optional
        CSS class.
    """

    rows: Any
    header: Sequence[object] = ()
    caption: object = None
    class_: str | None = None

    def html(self) -> Html:
        """Return the table, which scrolls sideways where the window is narrow."""
        if isinstance(self.rows, pd.DataFrame):
            return frame(self.rows, caption=self.caption)
        return table(self.header, self.rows, caption=self.caption, class_=self.class_)


@dataclass(frozen=True)
class Folded:
    """Widgets that are shown when their title is clicked: full tables, mostly."""

    title: str
    widgets: Sequence[Widget]

    def html(self) -> Html:
        """Return the folded widgets; tables stand side by side where there is room."""
        inner = tag("div", *(widget.html() for widget in self.widgets), class_="tables")
        return tag("details", tag("summary", self.title), inner)


@dataclass(frozen=True)
class Picture:
    """A matplotlib Figure.

    Attributes
    ----------
    figure : matplotlib.figure.Figure
        Encoded with 256 colours.
    alt : str
        What it shows, for those who do not see it.
    caption : object, optional
        Text below.
    """

    figure: Any
    alt: str
    caption: object = None

    def html(self) -> Html:
        """Return the picture with its caption."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from PIL import Image

        canvas = FigureCanvasAgg(self.figure)
        self.figure.set_dpi(DPI)
        canvas.draw()
        drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        address = _png(drawn, FIGURE_COLOURS)
        picture = void("img", src=address, alt=self.alt, width=drawn.width, height=drawn.height)
        below = tag("figcaption", self.caption) if self.caption is not None else ""
        return tag("figure", picture, below)


@dataclass(frozen=True)
class ImageCell:
    """One cell of an `ImageGrid`: an image, text, or an image with text below."""

    image: Array | None = None
    text: object = ""
    alt: str = ""

    def html(self) -> Html:
        """Return the cell's content."""
        picture = "" if self.image is None else thumbnail(self.image, self.alt)
        return join([picture, self.text if str(self.text) else Html("&nbsp;")])


@dataclass(frozen=True)
class ImageGrid:
    """Images beside each other, a row an item and a column a kind.

    Attributes
    ----------
    header : sequence
        Of the columns, the first being that of the items.
    rows : sequence of sequence of ImageCell or text
    caption : object, optional
    class_ : str
        ``"pairs"``, ``"pairs wide"`` for many columns, or ``"sentences"``.
    """

    header: Sequence[object]
    rows: Sequence[Sequence[Any]]
    caption: object = None
    class_: str = "pairs"

    def html(self) -> Html:
        """Return the grid as a table."""
        rows = [
            [cell.html() if hasattr(cell, "html") else cell for cell in row] for row in self.rows
        ]
        return table(self.header, rows, caption=self.caption, class_=self.class_)


@dataclass(frozen=True)
class ImageStrip:
    """Images in a row under a title, each with a line below and a title that appears on it."""

    title: str
    about: str
    images: Sequence[tuple[Array, str, str]] = field(default_factory=tuple)

    def html(self) -> Html:
        """Return the strip; images are (image, line below, title)."""
        items = [
            tag("li", thumbnail(image, f"{self.title}: {title}"), below, title=title)
            for image, below, title in self.images
        ]
        heading = tag("h4", self.title, tag("span", self.about)) if self.title else ""
        return tag("div", heading, tag("ul", *items), class_="strip")


@dataclass(frozen=True)
class Section:
    """A part of a person's report, under a heading of its own."""

    heading: str
    widgets: Sequence[Widget]


def thumbnail(image: Array, alt: str) -> Html:
    """Return one image, (height, width) or (height, width, 3), as a small picture.

    Larger images are reduced to 96 pixels, and colour ones to 128 colours, for display alone.
    """
    from PIL import Image

    drawn = Image.fromarray(as_uint8(np.asarray(image)[None])[0])
    drawn.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
    return void("img", src=_png(drawn, THUMBNAIL_COLOURS), alt=alt, class_="stimulus")


def _png(image: Any, colours: int) -> str:
    """Return an image as a data address; colours are reduced to a palette.

    Of the ways to choose one, this keeps small spots of a rare colour: on the simulated world's
    scenes 128 colours are within 4 of 255 for all but a thousandth of the values.
    """
    from PIL import Image

    if image.mode == "RGB":
        image = image.quantize(
            colours, method=Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE
        )
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


# --------------------------------------------------------- what the sections of several jobs say


def kind_name(kind: str) -> str:
    """Return the name of a kind of image, or of a null, as a reader sees it."""
    return KINDS.get(kind, kind.replace("_", " "))


def metric_name(metric: str) -> str:
    """Return the id of a metric in words a reader knows: what it is of stands in brackets."""
    name, bracket, of = metric.partition("[")
    words = " ".join(SIGNS.get(word, word) for word in name.split("_"))
    words = re.sub(r"\btop(\d+)$", r"top \1", words)
    return f"{words} ({of.removesuffix(']')})" if bracket else words


def in_order(kinds: Sequence[str]) -> list[str]:
    """Return kinds of images in the order of `KINDS`, then all others."""
    known = [kind for kind in KINDS if kind in kinds]
    return [*known, *(kind for kind in kinds if kind not in known)]


def every_kth(n_items: int, most: int) -> tuple[Array, str]:
    """Return at most so many items at equal steps, and a sentence that says which."""
    step = max(1, -(-n_items // most))
    every = "Every item" if step == 1 else f"Every {ordinal(step)} item"
    chosen = np.arange(0, n_items, step)
    return chosen, f"{every} of {n_items} in order of stimulus number, none chosen by its score."


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


def left_out(counts: Mapping[str, int]) -> Text:
    """Say how many units there are, and how many were left out and why."""
    reasons = {name: count for name, count in counts.items() if name != "units"}
    total = counts.get("units", 0)
    used = total - sum(reasons.values())
    why = "; ".join(f"{name.replace('_', ' ')}: {number(n)}" for name, n in reasons.items())
    why = why.replace("constant or nan", "constant or NaN")
    return Text([f"Units: {number(used)} of {number(total)} used. Left out – {why or 'none'}."])


def standardised(record: Mapping[str, Any]) -> Text:
    """Say how the responses were z-scored; a transductive one gets a warning."""
    if not record:
        return Text(["Responses were not z-scored."])
    by = record.get("by")
    within = f"within each {by}" if by else "over all trials"
    text = f"Responses were z-scored {within}, with the statistics of the training trials."
    if not record.get("transductive"):
        return Text([text])
    groups = ", ".join(str(group) for group in np.atleast_1d(record.get("unseen") or "some"))
    warning = (
        f" These had no training trials and were z-scored with their own, unlabelled, statistics: "
        f"{groups}. Scores of such a decoder need the whole test session at once."
    )
    return Text([text, " ", tag("strong", "Transductive."), warning], kind="warning")


def resampled(facts: Mapping[str, Any]) -> Text:
    """Say what p values and intervals take as independent."""
    if not facts:
        return Text([])
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
    return Text([text])


def told_apart(ends: Any) -> object:
    """Say on which side of 0 an interval lies."""
    if not ends or any(end is None or not np.isfinite(end) for end in ends):
        return ""
    if ends[0] > 0:
        return tag("span", "above", class_="met")
    return tag("span", "below", class_="unmet") if ends[1] < 0 else "no"


def metric_table(metric: str, entry: Mapping[str, Any], more: str = "") -> Table:
    """Return one metric as a table: its value, what true embeddings reach, and each null.

    Parameters
    ----------
    metric : str
    entry : mapping
        As in ``metrics.json``.
    more : str
        A sentence for the caption.
    """
    value = tag("span", kind_name("reconstruction"), class_="total")
    rows: list[list[object]] = [[value, number(entry.get("value")), interval(entry.get("ci"))]]
    reach = entry.get("true_embedding")
    if reach:
        rows.append([kind_name("true_embedding"), number(reach["value"]), interval(reach["ci"])])
    rows = [[*row, "", ""] for row in rows]
    above, ends = entry.get("above_nulls") or {}, entry.get("null_ci") or {}
    for null in in_order(list(entry.get("nulls") or {})):
        gap = above.get(null, {})
        difference = f"{number(gap.get('value'))} {interval(gap.get('ci'))}" if gap else ""
        row = [number(entry["nulls"][null]), interval(ends.get(null)), difference]
        rows.append([f"null: {kind_name(null)}", *row, told_apart(gap.get("ci"))])
    chance = f" Chance is {number(entry['chance'])}." if "chance" in entry else ""
    preset = entry.get("preset", "not stated")
    about = f" n = {number(entry.get('n'))} images (preset {preset}).{chance}{more}"
    header = ["from", "value", "95 % CI", "difference, 95 % CI", "told apart"]
    return Table(rows, header, caption=join([tag("strong", metric_name(metric)), about]))
