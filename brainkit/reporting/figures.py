"""Figures of scores. Each function returns a matplotlib Figure of its own and changes nothing else.

No figure is made through pyplot, so none stays open and no setting of the caller's plays a part.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

# Paul Tol's "muted" colours and others of his: told apart by colour-blind readers too.
COLOURS = (
    "#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77",
    "#cc6677", "#882255", "#aa4499", "#ee7733", "#4477aa", "#663300",
    "#bbcc33", "#cc3311", "#ffaabb", "#222222",
)  # fmt: skip
OUTSIDE = "#bbbbbb"
NULL = "#888888"
WIDTH = 8.6
ROW = 0.3


def region_colours(names: Sequence[str]) -> dict[str, str]:
    """Give each region a colour; beyond sixteen they come round again."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


def empty_axes(width: float, height: float) -> tuple[Any, Any]:
    """Return a new Figure and its Axes, without a frame to the top and the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    _plain(axes)
    return figure, axes


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def region_scores(
    tables: Mapping[str, pd.DataFrame],
    value: str,
    null: str,
    *,
    label: str,
    null_label: str,
    reference: float | None = None,
) -> Any:
    """Draw a score by region: a filled dot a subject, and an open one for its null.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        By subject, with the columns ``region``, `value` and `null`.
    value, null : str
        Columns to draw.
    label, null_label : str
        What they are.
    reference : float, optional
        A value to mark by a line, such as 1 for a ceiling.

    Returns
    -------
    matplotlib.figure.Figure
    """
    names = list(dict.fromkeys(name for table in tables.values() for name in table["region"]))
    place = {name: i for i, name in enumerate(names)}
    figure, axes = empty_axes(WIDTH, 1.15 + max(ROW, 0.11 * len(tables)) * len(names))
    offsets = np.linspace(-0.28, 0.28, len(tables)) if len(tables) > 1 else [0.0]
    for i, ((subject, table), offset) in enumerate(zip(tables.items(), offsets, strict=True)):
        y = np.array([place[name] for name in table["region"]]) + offset
        colour = COLOURS[i % len(COLOURS)]
        several = len(tables) > 1
        axes.hlines(y, table[null], table[value], color=colour, alpha=0.25, linewidth=1.5)
        axes.plot(table[null], y, "o", mfc="white", mec=NULL, ms=5, zorder=2,
                  label=null_label if not i else None)  # fmt: skip
        axes.plot(table[value], y, "o", color=colour, ms=6, zorder=3,
                  label=literal(subject) if several else label)  # fmt: skip
    axes.axvline(0, color="#444444", linewidth=0.8)
    if reference is not None:
        axes.axvline(reference, color="#444444", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(names)), [literal(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(label, fontsize=9)
    axes.grid(axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
    figure.legend(fontsize=8, frameon=False, loc="outside upper center", ncols=6)
    return figure


def score_against_ceiling(
    r: ArrayLike, ceiling: ArrayLike, region: ArrayLike, names: Sequence[str]
) -> Any:
    r"""Draw each unit's r against the highest r that is expected, :math:`\sqrt{\mathrm{NC}}`.

    Parameters
    ----------
    r, ceiling : arrays (units,)
        Scores, and noise ceilings as a fraction of variance.
    region : array of str or None (units,)
        The region of each unit, None where it is in none.
    names : sequence of str
        Regions in order.

    Returns
    -------
    matplotlib.figure.Figure
    """
    r, most = np.asarray(r), np.sqrt(np.asarray(ceiling))
    figure, axes = empty_axes(WIDTH, 4.6)
    inside = np.asarray(region, dtype=object)
    colours = region_colours(names)
    groups = [(None, OUTSIDE, "in no region"), *((n, colours[n], literal(n)) for n in names)]
    for name, colour, label in groups:
        chosen = np.array([other == name for other in inside]) & np.isfinite(r) & np.isfinite(most)
        if chosen.any():
            axes.plot(most[chosen], r[chosen], "o", color=colour, ms=3.2, alpha=0.7, mew=0,
                      label=label)  # fmt: skip
    axes.plot([0, 1], [0, 1], color="#444444", linewidth=0.8, linestyle="--")
    axes.axhline(0, color="#444444", linewidth=0.8)
    axes.set_xlim(0, 1)
    axes.set_xlabel("highest r that is expected, √ceiling", fontsize=9)
    axes.set_ylabel("held-out r of the unit", fontsize=9)
    figure.legend(fontsize=8, frameon=False, loc="outside right upper", markerscale=3)
    return figure


def score_histograms(
    r: Mapping[str, ArrayLike],
    null: Mapping[str, ArrayLike | float],
    *,
    columns: int = 3,
) -> Any:
    """Draw the distribution of r over the units of each region, beside its null.

    Parameters
    ----------
    r : mapping of str to array (units,)
        Scores by region.
    null : mapping of str to array (units,) or float
        Scores of fits on shuffled stimuli; a number is their mean, drawn as a line.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    scores = {name: _finite(values) for name, values in r.items()}
    nulls = {name: _finite(null[name]) for name in scores}
    every = np.concatenate([np.zeros(1), *scores.values(), *nulls.values()])
    bins = np.linspace(every.min(), every.max() + 1e-9, 41)
    rows = -(-len(scores) // columns)
    figure = Figure(figsize=(WIDTH, 0.5 + 1.55 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for axes, name in zip(grid, scores, strict=False):
        _plain(axes)
        axes.set_title(literal(name), fontsize=9, loc="left")
        axes.hist(scores[name], bins=bins, color=COLOURS[10], label="r of the units")
        if np.ndim(null[name]):
            axes.hist(nulls[name], bins=bins, histtype="step", color=NULL, label="shuffled")
        elif nulls[name].size:
            axes.axvline(nulls[name][0], color=NULL, linewidth=1.5, label="mean r, shuffled")
        if scores[name].size:
            axes.axvline(scores[name].mean(), color="#222222", linestyle="--", linewidth=1,
                         label="mean r")  # fmt: skip
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
    for axes in grid[len(scores) :]:
        axes.set_visible(False)
    handles: dict[str, Any] = {}
    for axes in grid[: len(scores)]:
        drawn, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, drawn, strict=True))
    figure.legend(handles.values(), handles.keys(), fontsize=8, frameon=False, ncols=4,
                  loc="outside upper center")  # fmt: skip
    figure.supxlabel("held-out r", fontsize=9)
    return figure


def score_dots(
    panels: Mapping[str, Mapping[str, tuple[float, Sequence[float]]]],
    chance: Mapping[str, float],
    *,
    value: str,
    reach: str,
    columns: int = 3,
) -> Any:
    """Draw each metric in a panel of its own: dots with intervals, a row each.

    Parameters
    ----------
    panels : mapping of str to mapping of str to (value, (low, high))
        By metric, by row. All panels have the same rows in the same order.
    chance : mapping of str to float
        By metric, where it is known: a dashed line.
    value, reach : str
        The rows that are no nulls: filled, and a diamond.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    every = [row for values in panels.values() for row in values]
    names = list(dict.fromkeys([*(row for row in (value, reach) if row in every), *every]))
    rows = -(-len(panels) // columns)
    height = 0.75 + 0.19 * len(names)
    figure = Figure(figsize=(WIDTH + 1.6, 0.2 + height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    styles = {
        value: {"fmt": "o", "color": COLOURS[10], "ms": 6},
        reach: {"fmt": "D", "color": COLOURS[3], "ms": 5},
    }
    null = {"fmt": "o", "color": NULL, "mfc": "white", "ms": 5}
    for axes, (title, values) in zip(grid, panels.items(), strict=False):
        _plain(axes)
        axes.set_title(literal(textwrap.fill(title, 34)), fontsize=9, loc="left")
        for name, (score, ends) in values.items():
            bars = np.abs(np.asarray(ends, dtype=float) - score)[:, None]
            axes.errorbar(score, names.index(name), xerr=bars, lw=1.2, **styles.get(name, null))
        if title in chance:
            axes.axvline(chance[title], color="#444444", linewidth=0.9, linestyle="--")
        axes.axvline(0, color="#444444", linewidth=0.8)
        axes.grid(axis="x", color="#eeeeee")
        axes.set_axisbelow(True)
        axes.set_yticks(range(len(names)), [literal(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    return figure


def literal(name: object) -> str:
    """Keep matplotlib from reading dollar signs as mathematics and a first ``_`` as "hide"."""
    return "\u200b" * str(name).startswith("_") + str(name).replace("$", r"\$")


def _finite(values: ArrayLike | float) -> NDArray[np.float64]:
    array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    return array[np.isfinite(array)]
