"""The report of representational similarity analysis: layers against people's regions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.arrays.atomic import write_text
from brainkit.encoding import RSAResult
from brainkit.reporting import words
from brainkit.reporting.decoding import stimulus_name
from brainkit.reporting.figures import NULL, WIDTH, empty_axes, literal, region_colours
from brainkit.reporting.markup import (
    Html,
    definitions,
    interval,
    join,
    note,
    number,
    table,
    tag,
)
from brainkit.reporting.overview import headline, manifest_section
from brainkit.reporting.page import READING, contents, document
from brainkit.reporting.pictures import figure_picture, thumbnail

SAMPLES = 22


def render_rsa_report(
    result: RSAResult,
    *,
    title: str,
    manifest: Mapping[str, Any],
    summary: str | None = None,
) -> str:
    """Return the report as HTML that needs no other file.

    Parameters
    ----------
    result : RSAResult
        What to report.
    title : str
        Heading and title of the page.
    manifest : mapping
        As in ``manifest.json``.
    summary : str, optional
        A sentence on what was done.

    Returns
    -------
    str
    """
    sections = [
        ("headline", "Headline numbers", _headline(result)),
        ("layers", "Layer by layer", _layers(result)),
        ("ceilings", "People and noise ceilings", _ceilings(result)),
        ("matrices", "The dissimilarities themselves", _matrices(result)),
        ("reading", READING, definitions(words.RSA)),
        ("manifest", "Manifest", manifest_section(manifest)),
    ]
    body = [
        tag("h1", title),
        tag("p", summary, class_="lead") if summary else "",
        _what_was_run(result, manifest),
        contents(sections, {}),
        *(
            tag("section", tag("h2", heading), content, id=anchor)
            for anchor, heading, content in sections
        ),
    ]
    return document(title, tag("main", *body))


def write_rsa_report(path: str | Path, result: RSAResult, **settings: Any) -> None:
    """Write the report of `render_rsa_report` to a file, whole or not at all."""
    write_text(path, render_rsa_report(result, **settings))


def _what_was_run(result: RSAResult, manifest: Mapping[str, Any]) -> Html:
    data, protocol = result.data, result.protocol
    entries: dict[str, object] = {}
    for label, key in (("Dataset", "card"), ("Licence", "licence")):
        if manifest.get(key):
            entries[label] = str(manifest[key])
    model = manifest.get("model")
    if isinstance(model, Mapping):
        entries["Model"] = f"{model.get('source')}: {model.get('model')}"
        entries["Weights"] = f"sha256 {model.get('weights')}"
        entries["Preprocessing"] = str(model.get("preprocessing"))
    entries["People"] = (
        f"{len(data.subjects)} people, {len(data.stimuli)} stimuli; "
        f"{data.info.get('measure', 'dissimilarities')}"
    )
    entries["Layers' RDMs"] = f"{protocol.dissimilarity} dissimilarity"
    entries["Comparison"] = (
        f"{protocol.comparison}; {number(protocol.bootstraps)} bootstrap samples, "
        f"{number(protocol.permutations)} relabellings"
    )
    if manifest.get("citation"):
        entries["Citation"] = str(manifest["citation"])
    return definitions(entries)


def _headline(result: RSAResult) -> Html:
    best = [
        join(
            [
                tag("strong", row["region"]), f" is most like {row['layer']} (layer "
                f"{row['position']} of {row['of']}): {number(row['similarity'])} ",
                interval([row["low"], row["high"]]),
                f", family-wise p {number(row['p_familywise'])}",
            ]
        )
        for row in result.best.to_dict("records")
    ]  # fmt: skip
    order = [
        note(
            f"From the best layer of {early} to that of {late}: {number(gap.value)} layers later, ",
            interval([gap.low, gap.high]),
            f"; later in {number(100 * gap.later)} % of the bootstrap samples. ",
            _rise(result, early, late),
        )
        for (early, late), gap in result.order.items()
    ]
    advice = note(
        "Nulls stand beside each value; n counts people. ",
        tag("a", READING, href="#reading"),
        " says what each number is.",
    )
    lines = tag("ul", *(tag("li", line) for line in best))
    return join([lines, *order, headline(result.metrics), advice])


def _rise(result: RSAResult, early: str, late: str) -> Html:
    found = result.rise.get((early, late))
    if found is None:
        return Html("")
    return join(
        [
            f"From the first layer to the last, similarity rises {number(found.value)} more for "
            f"{late} than for {early}, ", interval([found.low, found.high]), ".",
        ]
    )  # fmt: skip


def _layers(result: RSAResult) -> Html:
    figure = figure_picture(
        layer_curves(result),
        "Similarity of each layer with each region, with intervals and the null.",
        "Mean similarity over people; bands are 95 % intervals for new people and new stimuli. "
        "Rings mark each region's best layer. Below the dashed line, the best of all layers and "
        "regions lies in 95 % of relabellings of the stimuli.",
    )
    tables = []
    for region, part in result.layers.groupby("region", sort=False):
        rows = [
            [
                row["layer"],
                number(row["similarity"]),
                interval([row["low"], row["high"]]),
                number(row["null"]),
                number(row["p"]),
                number(row["p_familywise"]),
            ]
            for row in part.to_dict("records")
        ]
        header = ["layer", "similarity", "95 % CI", "null: relabelled", "p", "p, family-wise"]
        tables.append(table(header, rows, caption=tag("strong", region)))
    return join([figure, tag("div", *tables, class_="tables")])


def _ceilings(result: RSAResult) -> Html:
    figure = figure_picture(
        people_and_ceilings(result),
        "Each person's similarity with each layer, and the noise ceiling of each region.",
        "Dots are people, lines their means. Grey bands are noise ceilings: the true model is "
        "expected in them.",
    )
    rows = [
        [
            region,
            ceiling.n_subjects,
            interval([ceiling.lower, ceiling.upper]),
            number(ceiling.bound),
            interval([pools["mean"].lower, pools["mean"].upper]),
            number(best["similarity"] / ceiling.lower) if ceiling.lower > 0 else number(None),
        ]
        for (region, pools), best in zip(
            result.ceilings.items(), result.best.to_dict("records"), strict=True
        )
        for ceiling in [pools["matched"]]
    ]
    header = [
        "region", "people", "noise ceiling", "bound", "ceiling of the mean RDM",
        "best layer / lower end of the ceiling",
    ]  # fmt: skip
    return join([figure, table(header, rows)])


def _matrices(result: RSAResult) -> Html:
    figure = figure_picture(
        matrices(result),
        "Dissimilarity matrices of the regions and of their best layers.",
        "Above: people's mean dissimilarities. Below: each region's best layer. Every matrix is "
        "shown as ranks, from the most similar pair (dark) to the most different one (light); "
        "stimuli in the order of the data set.",
    )
    stimuli = result.data.stimuli
    chosen = np.unique(np.linspace(0, len(stimuli) - 1, min(SAMPLES, len(stimuli))).astype(int))
    kinds = None
    if stimuli.table is not None and "category" in stimuli.table:
        kinds = stimuli.table["category"].to_numpy()
    items = []
    for row, image in zip(chosen, stimuli.read(chosen), strict=True):
        name = stimulus_name(stimuli, int(row))
        below = f"{row + 1}. {kinds[row] if kinds is not None else name}"
        items.append(tag("li", thumbnail(image, name), below))
    strip = tag("div", tag("ul", *items), class_="strip")
    return join([figure, note("Some of the stimuli, with their row in the matrices:"), strip])


def layer_curves(result: RSAResult) -> Any:
    """Draw the similarity of each layer with each region, with intervals and the null.

    Parameters
    ----------
    result : RSAResult

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = empty_axes(WIDTH, 3.9)
    colours = _colours(result.data.regions)
    names = list(result.model_rdms)
    x = np.arange(len(names))
    for region, part in result.layers.groupby("region", sort=False):
        colour = colours[str(region)]
        y = part["similarity"].to_numpy()
        axes.fill_between(x, part["low"], part["high"], color=colour, alpha=0.14, linewidth=0)
        axes.plot(x, y, "o-", color=colour, ms=5, label=literal(region))
        axes.plot(x[y.argmax()], y.max(), "o", ms=12, mfc="none", mec=colour, mew=1.5)
    axes.axhline(0, color="#444444", linewidth=0.8)
    axes.axhline(
        result.null_maximum, color=NULL, linestyle="--", linewidth=1.2,
        label="best of all, relabelled (95 %)",
    )  # fmt: skip
    _layer_axis(axes, names)
    axes.set_ylabel(f"similarity of RDMs ({result.protocol.comparison})", fontsize=9)
    figure.legend(fontsize=8, frameon=False, loc="outside upper center", ncols=6)
    return figure


def people_and_ceilings(result: RSAResult) -> Any:
    """Draw each person's similarity with each layer, and the noise ceiling, a panel a region.

    Parameters
    ----------
    result : RSAResult

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    regions, names = result.data.regions, list(result.model_rdms)
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    panels = figure.subplots(1, len(regions), sharey=True, squeeze=False)[0]
    colours = _colours(regions)
    for axes, region in zip(panels, regions, strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        ceiling = result.ceilings[region]["matched"]
        axes.axhspan(ceiling.lower, ceiling.upper, color="#dddddd", label="noise ceiling")
        part = result.people[result.people["region"] == region]
        values = part["similarity"].to_numpy().reshape(len(names), -1)
        jitter = np.linspace(-0.22, 0.22, values.shape[1])
        x = np.arange(len(names))
        axes.plot((x[:, None] + jitter).ravel(), values.ravel(), ".", color=colours[region],
                  alpha=0.45, ms=4)  # fmt: skip
        axes.plot(x, values.mean(axis=1), "-", color=colours[region], linewidth=1.8)
        axes.axhline(0, color="#444444", linewidth=0.8)
        axes.set_title(literal(region), fontsize=10, loc="left")
        _layer_axis(axes, names)
    panels[0].set_ylabel(f"similarity of RDMs ({result.protocol.comparison})", fontsize=9)
    panels[0].legend(fontsize=8, frameon=False, loc="upper left")
    return figure


def matrices(result: RSAResult) -> Any:
    """Draw people's mean RDMs above those of the layers that are most like them, as ranks.

    Parameters
    ----------
    result : RSAResult

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    regions = result.data.regions
    side = min(3.4, WIDTH / len(regions))
    figure = Figure(figsize=(side * len(regions), 2 * side), layout="constrained")
    grid = figure.subplots(2, len(regions), squeeze=False)
    best = result.best.set_index("region")["layer"]
    for column, region in enumerate(regions):
        shown = {
            f"{region}, mean of {len(result.data.subjects)} people": result.data[region].mean(0),
            f"{best[region]}, best for {region}": result.model_rdms[best[region]],
        }
        for axes, (name, matrix) in zip(grid[:, column], shown.items(), strict=True):
            axes.imshow(_ranks(matrix), cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(literal(name), fontsize=9, loc="left")
            axes.set_xticks([])
            axes.set_yticks([])
    return figure


def _ranks(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give each pair's rank from 0 to 1; the diagonal, being no pair, is left blank."""
    from scipy.stats import rankdata

    n = len(matrix)
    rows, columns = np.triu_indices(n, 1)
    ranks = rankdata(matrix[rows, columns]) - 1
    shown = np.full((n, n), np.nan)
    shown[rows, columns] = shown[columns, rows] = ranks / max(ranks.max(), 1)
    return shown


def _colours(regions: Sequence[str]) -> dict[str, str]:
    """Give regions colours that lie far apart where there are few."""
    return dict(zip(regions, ["#4477aa", "#cc6677"], strict=False)) if len(regions) < 3 else (
        region_colours(regions)
    )  # fmt: skip


def _layer_axis(axes: Any, names: Sequence[str]) -> None:
    axes.set_xticks(range(len(names)), [literal(name) for name in names])
    axes.tick_params(labelsize=8)
    if sum(map(len, names)) > 40:
        axes.tick_params(axis="x", labelrotation=45)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")
            label.set_rotation_mode("anchor")
    axes.grid(axis="y", color="#eeeeee")
    axes.set_axisbelow(True)
