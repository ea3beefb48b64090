"""Layers: which layer of a network does each region follow? Layers in one pass, an encoder each."""

from typing import Any, Literal

import numpy as np
from pydantic import Field

from brainkit.data.cards import Strict
from brainkit.data.preparing import AverageRepeats
from brainkit.encoding import (
    EncodingProtocol,
    SpaceComparison,
    compare_spaces,
    stimuli_in_use,
)
from brainkit.features import Precomputed, SingleSpace, extract
from brainkit.features.backbones.backbone import open_backbone
from brainkit.features.reduction import SparseProjection
from brainkit.jobs.contract import Case, Job, Result, access_within, stimuli_needed
from brainkit.jobs.encode import GLOSSARY, Unseen
from brainkit.recipes.specs import (
    AtLeastTwo,
    FeatureSpec,
    ModelName,
    ModelSpec,
    Recipe,
    Seed,
    build_features,
    build_model,
)
from brainkit.reporting import Folded, Picture, Section, Table, Text, Widget
from brainkit.reporting.figures import WIDTH, literal
from brainkit.reporting.markup import interval, number, tag

ENERGY = "oriented energy"


class LayersSettings(Strict):
    """See `brainkit.encoding.compare_spaces`."""

    split: str
    zscore: str | None = "session"
    unseen: Unseen = None
    average_repeats: AverageRepeats = True
    resample: str = "auto"
    n_train: AtLeastTwo | None = None
    seed: Seed = 0

    def build(self) -> EncodingProtocol:
        """Return the protocol of one encoder."""
        return EncodingProtocol(**self.model_dump(exclude={"n_train", "seed"}))


class LayersRecipe(Recipe):
    """Layers of a network, each → responses, compared by region."""

    job: Literal["layers"]
    network: ModelName = Field(description="As for brainkit.features.extract, without layers.")
    layers: list[str] = Field(min_length=1, description="From the earliest to the latest.")
    energy: bool = Field(default=True, description="Compare oriented energy too.")
    components: int = Field(default=1000, ge=1, description="Features of each layer.")
    model: ModelSpec
    protocol: LayersSettings


class Layers(Job):
    """Map which layer of a network each region follows, one encoder a layer."""

    name = "layers"
    schema = LayersRecipe
    headline = ("encoding_r",)
    example = "brainkit layers nsd --root /data/nsd --recipe clip_layers --subject subj01"

    def describe(self, recipe: Any) -> dict[str, str]:
        """Name the network."""
        return {"Network": recipe.network, "Layers": ", ".join(recipe.layers)}

    def check(self, case: Case, recipe: Any) -> None:
        """Raise where there are no image stimuli or no such layer."""
        stimuli_needed(case, "Comparing layers")
        build_model(recipe.model)
        open_backbone(recipe.network).check_layers(recipe.layers)

    def run(self, case: Case, recipe: Any, tools: Any) -> Result:
        """Compare the layers; see `compare_layers`."""
        compared, ran = compare_layers(case, recipe)
        return Result(
            metrics=compared.metrics,
            sections=[Section("Feature spaces by region", _widgets(compared))],
            highlights=[space_picture(compared)],
            tables={"layers": compared.regions, "units": compared.units},
            facts={
                "access": access_within(compared.prepared),
                "zscore": compared.zscore,
                "counts": compared.counts,
                "ran": ran,
            },
            glossary={"r": GLOSSARY["r"]},
            source=compared,
        )


def compare_layers(
    case: Case, recipe: LayersRecipe
) -> tuple[SpaceComparison, list[dict[str, Any]]]:
    """Fit one encoder a layer of a network, and one to oriented energy, and compare them.

    Every layer is flattened, so that where things are is kept, and then reduced by one sparse
    random projection a layer, so that all layers have as many features.

    Returns
    -------
    compared : SpaceComparison
    ran : list of dict
        How the network ran, for the manifest.

    Raises
    ------
    UnknownNameError, SplitError
        If there is no such layer, or the split has several folds.
    """
    settings, protocol, recording = recipe.protocol, recipe.protocol.build(), case.data
    stimuli = stimuli_needed(case, "Comparing layers")
    used = stimuli_in_use(recording, protocol, settings.n_train, settings.seed)
    rows = np.unique(np.concatenate(used))
    backbone = open_backbone(recipe.network)
    values = extract(
        backbone,
        stimuli.select(rows),
        pool="flatten",
        layers=recipe.layers,
        reduce=SparseProjection(n_components=recipe.components, seed=settings.seed),
    )
    spaces: dict[str, Any] = {}
    if recipe.energy:
        energy = FeatureSpec(kind="oriented-energy", scale="feature")
        spaces[ENERGY] = build_features([energy], recipe.components, case.known)
    ids = stimuli.ids[rows]
    spaces |= {
        name: SingleSpace(Precomputed(values[name], ids), scale="space") for name in recipe.layers
    }
    compared = compare_spaces(
        recording,
        spaces,
        build_model(recipe.model),
        protocol,
        regions=case.regions,
        n_train=settings.n_train,
        seed=settings.seed,
    )
    return compared, [{"part": type(backbone).__name__, **ran} for ran in backbone.ran]


# ------------------------------------------------------------------------------- what is shown


def _widgets(compared: SpaceComparison) -> list[Widget]:
    about = (
        f"One encoder a feature space, fitted on {compared.n_train:,} training items. Each unit's "
        "preferred space is the one with the highest correlation on a fifth of the training "
        "stimuli that was kept aside for that; the correlations shown are those on the test part, "
        "which chooses nothing."
    )
    return [
        space_picture(compared),
        Text([about], kind="note"),
        Folded("The preferred space of each region", [_preferred_table(compared)]),
    ]


def space_picture(compared: SpaceComparison) -> Picture:
    """Draw a region by space map of mean r, each region on its own scale."""
    from matplotlib.figure import Figure

    wide = compared.regions.pivot_table(index="region", columns="space", values="r", sort=False)
    wide = wide[compared.spaces]
    values = wide.to_numpy()
    shown = values / np.maximum(values.max(axis=1, keepdims=True), 1e-9)
    figure = Figure(figsize=(WIDTH, 1.2 + 0.32 * len(wide)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(np.clip(shown, 0, 1), cmap="Greys", vmin=0, vmax=1.25, aspect="auto")
    preferred = compared.preferred()
    for row, region in enumerate(wide.index):
        for column, space in enumerate(wide.columns):
            ink = "white" if shown[row, column] > 0.75 else "black"
            text = f"{values[row, column]:.2f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
            if preferred[region] == space:
                axes.plot(column + 0.36, row, "o", color="#ee7733", ms=5)
    axes.set_xticks(range(len(wide.columns)), [literal(name) for name in wide.columns], fontsize=8)
    axes.set_yticks(range(len(wide)), [literal(name) for name in wide.index], fontsize=9)
    return Picture(
        figure,
        "Test correlation by region and feature space",
        "Mean test correlation of each region's units by feature space; each row is scaled to its "
        "own best. Dots mark the space that most of the region's units prefer.",
    )


def _preferred_table(compared: SpaceComparison) -> Table:
    preferred, rows = compared.preferred(), []
    for region, part in compared.regions.groupby("region", sort=False):
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
    return Table(rows, columns, caption=tag("strong", "The space that most units prefer"))
