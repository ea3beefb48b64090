"""RSA: the geometry of a network's layers against people's regions, as dissimilarity matrices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from brainkit.arrays.files import is_file
from brainkit.data.dissimilarities import Dissimilarities
from brainkit.encoding import RSAProtocol, RSAResult, assess_rsa, layer_rdm
from brainkit.errors import InputError, MissingFileError, listed
from brainkit.features.backbones.backbone import Backbone, open_backbone
from brainkit.features.extraction import extract
from brainkit.features.spec import Spec, parse_spec
from brainkit.jobs.contract import Case, Job, Result, Shortcut
from brainkit.recipes.specs import (
    AtLeastTwo,
    Count,
    FolderName,
    ModelName,
    Recipe,
    Seed,
    StoreName,
    settings_of,
)
from brainkit.reporting import Folded, ImageStrip, Picture, Section, Table, Text, Widget
from brainkit.reporting.figures import NULL, WIDTH, empty_axes, literal, region_colours
from brainkit.reporting.markup import Html, interval, join, number, tag
from brainkit.reporting.widgets import stimulus_name

SAMPLES = 22
Settings = settings_of(
    RSAProtocol,
    dissimilarity=Literal["correlation", "cosine", "euclidean", "squared-euclidean"],
    comparison=Literal[
        "spearman", "rho-a", "kendall-tau-a", "pearson", "cosine", "whitened-pearson",
        "whitened-cosine",
    ],
    bootstraps=AtLeastTwo,
    permutations=Count,
    seed=Seed,
)  # fmt: skip
GLOSSARY = {
    "RDM": "Representational dissimilarity matrix: how different the responses to, or the features "
    "of, every pair of stimuli are. It has no voxels and no channels any more, so that people and "
    "networks can be compared.",
    "similarity": "How alike two RDMs are over all pairs of stimuli (the comparison is named in "
    "each table's preset); the mean over people of the layer's similarity with each person's own "
    "RDM. No weights are fitted.",
    "interval of a similarity": "95 % interval for new people and new stimuli: both were drawn "
    "anew, together and each alone, and the three variances combined (Schütt et al., 2023). Pairs "
    "of a stimulus with its own copy do not count.",
    "noise ceiling": "Where the true model is expected, given how much people differ: an estimate "
    "from both sides (Nili et al., 2014), not a bound. Lower end: mean similarity of each person's "
    "RDM with the pooled RDM of all others. Upper end: with the pooled RDM of all, the person "
    "included. RDMs are ranked, or standardised, as the comparison asks before they are pooled.",
    "bound": "No RDM, with ties or without, is more similar to these people's on average. For "
    "Spearman's ρ it lies above the noise ceiling's upper end, which a model with ties can exceed.",
    "ceiling of the mean RDM": "The same with people's dissimilarities averaged as they are; "
    "often reported, but people with larger dissimilarities weigh more.",
    "relabelled stimuli": "Null: the layers' stimuli exchanged at random, whole rows and columns "
    "of the RDM at a time, alike for all layers and people.",
    "best of relabelled stimuli": "Null of the best layer: the mean over relabellings of what the "
    "best of all layers reaches by luck.",
    "p, family-wise": "Share of relabellings in which the best of all layers and regions is at "
    "least as similar as this one, counting the observed labelling as one.",
    "layer chosen by others": "For each person the layer that is best for all other people, scored "
    "on this person: what the best layer is worth without the luck of choosing it. Its interval is "
    "over people alone.",
    "layers from best to best": "Position of the late region's best layer less that of the early "
    "region's, in layers; percentile interval over people and stimuli.",
    "rise over layers": "How much similarity rises from the first layer to the last by its linear "
    "trend, for the late region less for the early one. It uses all layers and chooses none; above "
    "0 the order of regions follows the order of layers.",
}


class RSARecipe(Recipe):
    """Layers of a model against dissimilarities of people."""

    job: Literal["rsa"]
    model: ModelName = Field(description="As for brainkit.features.extract.")
    weights: FolderName | None = Field(default=None, description="A safetensors file of weights.")
    layers: dict[str, str] = Field(
        default_factory=dict,
        description="The model's layers in order, by the names that the report gives them.",
    )
    tokens: Literal["all", "patch", "class"] = "all"
    pool: Literal["mean", "max", "class", "last", "flatten"] | None = "flatten"
    batch_size: Count = 16
    store: StoreName | None = Field(default=None, description="Folder where features are kept.")
    protocol: Settings  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _one_place_for_weights(self) -> Self:
        if self.weights is None:
            return self
        spec = parse_spec(self.model)
        if spec.weights is not None:
            raise ValueError(
                f"the model {spec.model} names its weights already; give weights (--weights) with "
                "a model that names none"
            )
        return self

    def named_layers(self) -> dict[str, str]:
        """Return the layers by the names in the report; those of the model's name come first."""
        return {name: name for name in parse_spec(self.model).layers} or self.layers

    def weighted_model(self) -> str:
        """Return the model's specification, without layers, with its file of weights.

        Raises
        ------
        MissingFileError
            If there is no such file.
        """
        spec = parse_spec(self.model)
        if self.weights is None:
            return spec.model
        if not is_file(self.weights):
            raise MissingFileError(f"There is no file of weights {self.weights}.")
        return Spec(spec.source, spec.name, str(Path(self.weights).resolve())).model


@dataclass(frozen=True)
class Network:
    """A network that is open, and the layers that are compared, by the report's names."""

    backbone: Backbone
    layers: Mapping[str, str]


class RSA(Job):
    """Compare a model's layers with people's dissimilarities, region by region."""

    name = "rsa"
    schema = RSARecipe
    reads = "dissimilarities"
    headline = ("rsa_best_layer",)
    shortcuts = (
        Shortcut(
            "model",
            "model",
            "Another model than the recipe's, with its layers in order, as in "
            "open_clip:tiny@blocks.0,blocks.2.",
            also=("layers={}", "about=Compare another network's layers with people's "
                  "dissimilarities.",),
        ),
        Shortcut("weights", "weights", "A *.safetensors file with the model's weights."),
    )  # fmt: skip
    example = "brainkit rsa rsa92 --root data/rsa92 --weights squeezenet1_0.safetensors"

    def describe(self, recipe: Any) -> dict[str, str]:
        """Name the network and the comparison."""
        protocol = recipe.protocol
        return {
            "Model": recipe.model,
            "Layers' RDMs": f"{protocol.dissimilarity} dissimilarity",
            "Comparison": f"{protocol.comparison}; {number(protocol.bootstraps)} bootstrap "
            f"samples, {number(protocol.permutations)} relabellings",
        }

    def tools(self, recipe: Any) -> Network:
        """Open the network, and check the names of its layers."""
        backbone = open_backbone(recipe.weighted_model())
        layers = recipe.named_layers()
        if not layers:
            known = backbone.layers()
            raise InputError(
                f"Name the layers of {recipe.model} that are to be compared, in order, as in "
                f"{recipe.model}@{','.join(known[:2])}; it has {listed(known, 40)}."
            )
        backbone.check_layers(list(layers.values()))
        return Network(backbone, layers)

    def describe_tools(self, tools: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the network with the hash of its weights, and how it ran."""
        part = type(tools.backbone).__name__
        ran = [{"part": part, **told} for told in tools.backbone.ran]
        return {"network": tools.backbone.identity(), "layers": dict(tools.layers)}, ran

    def run(self, case: Case, recipe: Any, tools: Any) -> Result:
        """Compare all layers with all regions; see `brainkit.encoding.assess_rsa`."""
        rdms = extract_rdms(case.data, recipe, tools)
        compared = assess_rsa(case.data, rdms, recipe.protocol.build())
        return rsa_result(compared)


def extract_rdms(data: Dissimilarities, recipe: RSARecipe, network: Network) -> dict[str, Any]:
    """Return the RDM of every layer, by its name in the report; one pass over the stimuli."""
    features = extract(
        network.backbone,
        data.stimuli,
        layers=list(dict.fromkeys(network.layers.values())),
        tokens=recipe.tokens,
        pool=recipe.pool,
        batch_size=recipe.batch_size,
        store=recipe.store,
    )
    return {
        name: layer_rdm(features[layer], recipe.protocol.dissimilarity)  # type: ignore[attr-defined]
        for name, layer in network.layers.items()
    }


def rsa_result(compared: RSAResult) -> Result:
    """Return what is written down and shown of a comparison."""
    return Result(
        metrics=compared.metrics,
        sections=[
            Section("Layer by layer", _layers(compared)),
            Section("People and noise ceilings", _ceilings(compared)),
            Section("The dissimilarities themselves", _matrices(compared)),
        ],
        highlights=[_curve_picture(compared), _people_picture(compared), _matrix_picture(compared)],
        tables={"layers": compared.layers, "people": compared.people, "best": compared.best},
        arrays={"model_rdms": np.stack(list(compared.model_rdms.values()))},
        facts={"subjects": list(compared.data.subjects)},
        glossary=GLOSSARY,
        source=compared,
    )


# ------------------------------------------------------------------------------- what is shown


def _layers(compared: RSAResult) -> list[Widget]:
    tables = []
    for region, part in compared.layers.groupby("region", sort=False):
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
        tables.append(Table(rows, header, caption=tag("strong", region)))
    best = [Text([line]) for line in _best(compared)]
    return [_curve_picture(compared), *best, Folded("Every layer and region", tables)]


def _best(compared: RSAResult) -> list[Html]:
    """Say which layer each region is most like, and how regions follow the order of layers."""
    lines = [
        join(
            [
                tag("strong", row["region"]), f" is most like {row['layer']} (layer "
                f"{row['position']} of {row['of']}): {number(row['similarity'])} ",
                interval([row["low"], row["high"]]),
                f", family-wise p {number(row['p_familywise'])}.",
            ]
        )
        for row in compared.best.to_dict("records")
    ]  # fmt: skip
    for (early, late), gap in compared.order.items():
        rise = compared.rise.get((early, late))
        lines.append(
            join(
                [
                    f"From the best layer of {early} to that of {late}: {number(gap.value)} "
                    "layers later, ", interval([gap.low, gap.high]),
                    f"; later in {number(100 * gap.later)} % of the bootstrap samples.",
                    "" if rise is None else f" From the first layer to the last, similarity rises "
                    f"{number(rise.value)} more for {late} than for {early}, "
                    f"{interval([rise.low, rise.high])}.",
                ]
            )
        )  # fmt: skip
    return lines


def _ceilings(compared: RSAResult) -> list[Widget]:
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
            compared.ceilings.items(), compared.best.to_dict("records"), strict=True
        )
        for ceiling in [pools["matched"]]
    ]
    header = [
        "region", "people", "noise ceiling", "bound", "ceiling of the mean RDM",
        "best layer / lower end of the ceiling",
    ]  # fmt: skip
    return [_people_picture(compared), Table(rows, header)]


def _matrices(compared: RSAResult) -> list[Widget]:
    stimuli = compared.data.stimuli
    chosen = np.unique(np.linspace(0, len(stimuli) - 1, min(SAMPLES, len(stimuli))).astype(int))
    kinds = None
    if stimuli.table is not None and "category" in stimuli.table:
        kinds = stimuli.table["category"].to_numpy()
    shown = []
    for row, image in zip(chosen, stimuli.read(chosen), strict=True):
        name = stimulus_name(stimuli, int(row))
        shown.append((image, f"{row + 1}. {kinds[row] if kinds is not None else name}", name))
    about = Text(["Some of the stimuli, with their row in the matrices:"], kind="note")
    return [_matrix_picture(compared), about, ImageStrip("", "", shown)]


def _curve_picture(compared: RSAResult) -> Picture:
    return Picture(
        layer_curves(compared),
        "Similarity of each layer with each region, with intervals and the null.",
        "Mean similarity over people; bands are 95 % intervals for new people and new stimuli. "
        "Rings mark each region's best layer. Below the dashed line, the best of all layers and "
        "regions lies in 95 % of relabellings of the stimuli.",
    )


def _people_picture(compared: RSAResult) -> Picture:
    return Picture(
        people_and_ceilings(compared),
        "Each person's similarity with each layer, and the noise ceiling of each region.",
        "Dots are people, lines their means. Grey bands are noise ceilings: the true model is "
        "expected in them.",
    )


def _matrix_picture(compared: RSAResult) -> Picture:
    return Picture(
        matrices(compared),
        "Dissimilarity matrices of the regions and of their best layers.",
        "Above: people's mean dissimilarities. Below: each region's best layer. Every matrix is "
        "shown as ranks, from the most similar pair (dark) to the most different one (light); "
        "stimuli in the order of the data set.",
    )


def layer_curves(compared: RSAResult) -> Any:
    """Draw the similarity of each layer with each region, with intervals and the null.

    Parameters
    ----------
    compared : RSAResult

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = empty_axes(WIDTH, 3.9)
    colours = _colours(compared.data.regions)
    names = list(compared.model_rdms)
    x = np.arange(len(names))
    for region, part in compared.layers.groupby("region", sort=False):
        colour = colours[str(region)]
        y = part["similarity"].to_numpy()
        axes.fill_between(x, part["low"], part["high"], color=colour, alpha=0.14, linewidth=0)
        axes.plot(x, y, "o-", color=colour, ms=5, label=literal(region))
        axes.plot(x[y.argmax()], y.max(), "o", ms=12, mfc="none", mec=colour, mew=1.5)
    axes.axhline(0, color="#444444", linewidth=0.8)
    axes.axhline(
        compared.null_maximum, color=NULL, linestyle="--", linewidth=1.2,
        label="best of all, relabelled (95 %)",
    )  # fmt: skip
    _layer_axis(axes, names)
    axes.set_ylabel(f"similarity of RDMs ({compared.protocol.comparison})", fontsize=9)
    figure.legend(fontsize=8, frameon=False, loc="outside upper center", ncols=6)
    return figure


def people_and_ceilings(compared: RSAResult) -> Any:
    """Draw each person's similarity with each layer, and the noise ceiling, a panel a region.

    Parameters
    ----------
    compared : RSAResult

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    regions, names = compared.data.regions, list(compared.model_rdms)
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    panels = figure.subplots(1, len(regions), sharey=True, squeeze=False)[0]
    colours = _colours(regions)
    for axes, region in zip(panels, regions, strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        ceiling = compared.ceilings[region]["matched"]
        axes.axhspan(ceiling.lower, ceiling.upper, color="#dddddd", label="noise ceiling")
        part = compared.people[compared.people["region"] == region]
        values = part["similarity"].to_numpy().reshape(len(names), -1)
        jitter = np.linspace(-0.22, 0.22, values.shape[1])
        x = np.arange(len(names))
        axes.plot((x[:, None] + jitter).ravel(), values.ravel(), ".", color=colours[region],
                  alpha=0.45, ms=4)  # fmt: skip
        axes.plot(x, values.mean(axis=1), "-", color=colours[region], linewidth=1.8)
        axes.axhline(0, color="#444444", linewidth=0.8)
        axes.set_title(literal(region), fontsize=10, loc="left")
        _layer_axis(axes, names)
    panels[0].set_ylabel(f"similarity of RDMs ({compared.protocol.comparison})", fontsize=9)
    panels[0].legend(fontsize=8, frameon=False, loc="upper left")
    return figure


def matrices(compared: RSAResult) -> Any:
    """Draw people's mean RDMs above those of the layers that are most like them, as ranks.

    Parameters
    ----------
    compared : RSAResult

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    regions = compared.data.regions
    side = min(3.4, WIDTH / len(regions))
    figure = Figure(figsize=(side * len(regions), 2 * side), layout="constrained")
    grid = figure.subplots(2, len(regions), squeeze=False)
    best = compared.best.set_index("region")["layer"]
    for column, region in enumerate(regions):
        shown = {
            f"{region}, mean of {len(compared.data.subjects)} people": compared.data[region].mean(
                0
            ),
            f"{best[region]}, best for {region}": compared.model_rdms[best[region]],
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
