"""The comparison of feature spaces: which layer of a network each region follows."""

import numpy as np

from brainkit.encoding import SpaceComparison
from brainkit.reporting.figures import WIDTH, literal
from brainkit.reporting.markup import Html, interval, join, note, number, table, tag
from brainkit.reporting.pictures import figure_picture


def spaces_section(result: SpaceComparison, heading: object) -> Html:
    """Return the map from regions to feature spaces, and its numbers.

    Parameters
    ----------
    result : SpaceComparison
        Of one subject.
    heading : object
        The section's heading, HTML with its anchor.
    """
    about = note(
        f"One encoder a feature space, fitted on {result.n_train:,} training items. Each unit's "
        "preferred space is the one with the highest correlation on a fifth of the training "
        "stimuli that was kept aside for that; the correlations shown are those on the test part, "
        "which chooses nothing."
    )
    picture = figure_picture(
        space_map(result),
        "Test correlation by region and feature space",
        "Mean test correlation of each region's units by feature space; each row is scaled to its "
        "own best. Dots mark the space that most of the region's units prefer.",
    )
    return join([heading, about, picture, _numbers(result)])


def space_map(result: SpaceComparison) -> object:
    """Draw a region by space map of mean r, each region on its own scale.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    wide = result.regions.pivot_table(index="region", columns="space", values="r", sort=False)
    wide = wide[result.spaces]
    values = wide.to_numpy()
    shown = values / np.maximum(values.max(axis=1, keepdims=True), 1e-9)
    figure = Figure(figsize=(WIDTH, 1.2 + 0.32 * len(wide)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(np.clip(shown, 0, 1), cmap="Greys", vmin=0, vmax=1.25, aspect="auto")
    preferred = result.preferred()
    for row, region in enumerate(wide.index):
        for column, space in enumerate(wide.columns):
            ink = "white" if shown[row, column] > 0.75 else "black"
            words = f"{values[row, column]:.2f}"
            axes.text(column, row, words, ha="center", va="center", fontsize=8, color=ink)
            if preferred[region] == space:
                axes.plot(column + 0.36, row, "o", color="#ee7733", ms=5)
    axes.set_xticks(range(len(wide.columns)), [literal(name) for name in wide.columns], fontsize=8)
    axes.set_yticks(range(len(wide)), [literal(name) for name in wide.index], fontsize=9)
    return figure


def _numbers(result: SpaceComparison) -> Html:
    preferred, rows = result.preferred(), []
    for region, part in result.regions.groupby("region", sort=False):
        best = part.loc[part["space"] == preferred[str(region)]].iloc[0]
        rows.append(
            [
                str(region),
                number(best["n_units"]),
                preferred[str(region)],
                number(best["share"]),
                number(best["r"]),
                interval((best["low"], best["high"])),
                number(best["shuffled r"]),
            ]
        )
    columns = ["region", "units", "preferred by most", "share", "its r", "95 % CI", "shuffled r"]
    return table(columns, rows, caption=tag("strong", "The space that most units prefer"))
