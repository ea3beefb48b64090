"""Encode: features → responses, judged by unit and by region against ceilings and nulls."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from brainkit.alignment import ALIGNERS
from brainkit.data.preparing import AverageRepeats
from brainkit.data.recording import Recording
from brainkit.data.simulation import names_of
from brainkit.data.splits import describe_split
from brainkit.data.units import VolumeSpace
from brainkit.encoding import EncodingProtocol, EncodingResult, assess_encoder
from brainkit.encoding.unit_ceilings import LEAST_OTHERS, check_ceiling
from brainkit.errors import InputError, listed
from brainkit.features import Design
from brainkit.jobs.contract import Case, Needs, Result, Shortcut, access_within, stimuli_needed
from brainkit.jobs.people import (
    SHORTCUTS,
    PeopleJob,
    PeopleRecipe,
    bring_together,
    build_aligner,
    check_people,
    is_plain,
)
from brainkit.jobs.pipeline import ImageEncoder
from brainkit.jobs.pooled_models import PooledEncoder, said_of_people
from brainkit.recipes.specs import (
    AtLeastTwo,
    Count,
    FeatureRecipe,
    FeatureSpec,
    ModelSpec,
    Seeds,
    settings_of,
)
from brainkit.reporting import Folded, Picture, Section, Table, Text, Widget
from brainkit.reporting.figures import region_scores, score_against_ceiling, score_histograms
from brainkit.reporting.maps import region_map, score_map
from brainkit.reporting.markup import join, number, tag
from brainkit.reporting.widgets import left_out, resampled, standardised

Array = NDArray[Any]

# "nsd", the name of the definition in `brainkit.evaluation`, is another name of "ncsnr".
Ceiling = Annotated[
    Literal["auto", "ncsnr", "split-half", "cross-subject", "cross-subject-all"] | None,
    BeforeValidator(lambda name: {"nsd": "ncsnr", "none": None}.get(name, name)),
]
Unseen = Literal["session-unlabelled"] | None
Settings = settings_of(
    EncodingProtocol,
    seeds=Seeds,
    unseen=Unseen,
    average_repeats=AverageRepeats,
    ceiling=Ceiling,
    permutations=Annotated[int, Field(ge=0)],
    shuffles=Count,
    n_train=AtLeastTwo | None,
)
CEILINGS = {
    "ncsnr": "after the definition of the Natural Scenes Dataset, from how much the trials of one "
    "stimulus differ (Allen et al., 2022)",
    "split-half": "from the correlation of halves of the repeats, stepped up by Spearman and Brown",
    "cross-subject": "from how well other subjects' responses predict this one's, extrapolated to "
    "ever more subjects (Schrimpf et al., 2021)",
    "cross-subject-all": "from how well all other subjects' responses together predict this one's",
}
GLOSSARY = {
    "r": "Pearson correlation, over the held-out items of a fold, between a unit's measured and "
    "predicted response; the mean over folds weighted by their items, and over fold seeds. 0 is no "
    "relation, 1 a perfect prediction. No exemplar (no run, where stimuli are conditions) is in "
    "both the training and the test part of a fit.",
    "R²": "1 − (squared error of the prediction) / (squared error of predicting the training "
    "mean). Negative where the prediction is worse than that mean, as it is where the model has "
    "learned from noise: what exchanged stimuli reach is its chance.",
    "shuffled features": "Null: the whole fit again with stimuli exchanged at random, so that no "
    "feature belongs to its response. About 0, since correlations are formed within folds.",
    "p": "Share of null runs with a score at least as high, counting the observed run as one "
    "(so never below 1 / (runs + 1)).",
    "left-out units": f"Units whose training responses are constant or not finite are not fitted; "
    f"their scores are NaN, shown as “{chr(0x2013)}”, and they are counted.",
}
CEILING_GLOSSARY = {
    "noise ceiling": "The share of the variance of a unit's (averaged) response that a model which "
    "knows the stimulus alone can be expected to explain; √ceiling is the highest expected r.",
    "pooled ceiling fraction": "Explained share of the explainable variance of a set of units: "
    "Σ r·|r| / Σ ceiling, both sums over the units with both numbers. 1 is all that can be "
    "explained, 0 is nothing. Pooling weights units by how reliable they are; no unit's ceiling "
    "is clamped.",
}
PATTERN_GLOSSARY = {
    "2V2": "Pattern score: share of pairs of held-out items of one fold whose predicted patterns "
    "over a region's units are nearer (cosine) to their own measured patterns than to each "
    "other's. Chance is .5. The value is a mean over regions.",
    "pattern r": "Pattern score: correlation over a region's units between the measured and the "
    "predicted pattern of one held-out item, both less the units' training means; mean over "
    "items, then over regions. Another quantity than the r of a unit, which is over items.",
}


class EncodeRecipe(PeopleRecipe, FeatureRecipe):
    """Features → responses, learned from the tested person, or from others too."""

    job: Literal["encode"]
    protocol: Settings  # type: ignore[valid-type]


class Encode(PeopleJob):
    """Fit encoding models and map which units follow the stimuli."""

    name = "encode"
    schema = EncodeRecipe
    headline = ("encoding_ceiling_fraction_pooled", "encoding_r")
    shortcuts = (
        *SHORTCUTS,
        Shortcut(
            "ceiling",
            "protocol.ceiling",
            "The noise ceiling: auto (what the repeats allow), ncsnr, split-half, cross-subject, "
            "cross-subject-all or none. Default: the recipe's.",
        ),
    )
    example = "brainkit encode nsd --root /data/nsd --subject subj01 --out runs/encode-s1"

    def needs(self, recipe: Any) -> Needs:
        """Ask for the other people where they train, or the ceiling rests on them."""
        return Needs(others=bool(recipe.subjects.train) or recipe.protocol.ceiling in LEAST_OTHERS)

    def describe(self, recipe: Any) -> dict[str, str]:
        """Name the feature spaces and the encoder."""
        return describe_encoder(recipe.features, recipe.model)

    def check(self, case: Case, recipe: Any) -> None:
        """Raise where there are no stimuli, or the ceiling cannot be had."""
        stimuli_needed(case, "An encoding model")
        recipe.build(case.known)
        check_people(case, recipe)
        if recipe.subjects.train and not build_aligner(recipe).leads_back_to(case.data.subject):
            kinds = ALIGNERS.builtin.items()
            ways = [name for name, kind in kinds if kind.invertible and kind.aligns]
            raise InputError(
                f"{recipe.alignment.kind} leads to the shared space alone, and an encoder has to "
                f"come back to the voxels of {case.data.subject!r}: take one of {listed(ways)}, or "
                f"ridge-to-reference with alignment.settings.reference={case.data.subject}."
            )
        check_ceiling(case.data, recipe.protocol.ceiling, case.others)

    def run(self, case: Case, recipe: Any, tools: Any) -> Result:
        """Judge the encoder; see `brainkit.encoding.assess_encoder`."""
        features, model = recipe.build(case.known)
        protocol, folds = recipe.protocol.build(), []
        if not is_plain(recipe):
            folds = bring_together(case, recipe, protocol, features)
            pairs = [(one.rows["train"], one.rows["test"]) for one in folds]
            protocol = replace(protocol, split=pairs)
        if recipe.subjects.train:
            shown = [case.others[name].stimulus_rows() for name in recipe.subjects.train]
            features = Design.from_stimuli(case.data, features, beside=np.concatenate(shown))
            model = PooledEncoder(model, folds)
        judged = assess_encoder(
            case.data, features, model, protocol, regions=case.regions, others=case.others
        )
        result = encoding_result(judged)
        return replace(result, **said_of_people(result, folds)) if folds else result


def describe_encoder(spaces: list[FeatureSpec], model: ModelSpec) -> dict[str, str]:
    """Return the names of feature spaces and of an estimator, as reports show them."""
    named = (f"{one.kind} {one.settings.get('model', '')}".strip() for one in spaces)
    return {"Features": "; ".join(named), "Model": model.kind}


def network_lines(model: Any, recording: Recording) -> dict[str, str]:
    """Say from whom a network learned that stood ready before the run; nothing without one."""
    if not hasattr(model, "describe_network"):
        return {}
    network = model.describe_network(names_of(recording))
    whom = ", ".join(network["learned_from"])
    among = f"{whom}, predicted here, among them" if whom else (
        "none of those predicted here among them"
    )  # fmt: skip
    n_people = len(network["trained_on"])
    return {"Network": f"{network['checkpoint']}, trained on {n_people} subjects; {among}"}


def encoding_result(judged: EncodingResult) -> Result:
    """Return what is written down and shown of an encoder that was judged."""
    usable = np.isfinite(judged.predictions[0]).ravel()  # the first item is of the first fold
    maps = {name: judged.units[name].to_numpy() for name in ("r", "ceiling", "p")}
    glossary = GLOSSARY | (CEILING_GLOSSARY if judged.ceiling else {})
    tables = {"units": judged.units, "regions": judged.regions, "items": _item_table(judged)}
    if judged.time_courses is not None:
        tables["time_courses"] = judged.time_courses
    return Result(
        metrics=judged.metrics,
        sections=[*_sections(judged)],
        highlights=_highlights(judged),
        tables=tables,
        arrays={"predictions": _predictions(judged)},
        maps=maps,
        pipeline=_pipeline(judged, usable),
        facts={
            "access": access_within(judged.first.folds[0] if judged.first else None),
            "zscore": judged.zscore,
            "ceiling": judged.ceiling,
            "counts": judged.counts,
            "resampling": judged.resampling,
            "penalties": judged.grid,
        },
        fitted=[judged.fitted],
        glossary=glossary | (PATTERN_GLOSSARY if "2V2" in judged.regions else {}),
        lines=network_lines(judged.fitted[1], judged.recording),
        source=judged,
    )


def _pipeline(judged: EncodingResult, usable: Array) -> ImageEncoder:
    """Return the encoder of the first fold; of one over people what is kept of it."""
    space, model = judged.fitted
    return ImageEncoder(space, model.kept() if hasattr(model, "kept") else model, usable)


def _predictions(judged: EncodingResult) -> Array:
    """Return held-out predictions as the fitted pipeline gives them, (items, units[, times]).

    Scores are of deviations from each fold's training mean, which is added again here.
    """
    if judged.first is None:
        return judged.predictions
    means = judged.recording.unflatten(judged.first.means)  # (folds, units[, times])
    return judged.predictions + means[judged.fold]


def _item_table(judged: EncodingResult) -> pd.DataFrame:
    """Return a row a row of ``predictions.npy``: stimulus row and id."""
    rows = np.asarray(judged.test_stimuli)
    stimuli = judged.recording.stimuli
    ids = stimuli.ids[rows] if stimuli is not None else rows
    return pd.DataFrame({"stimulus": rows, "id": ids})


# ------------------------------------------------------------------------------- what is shown


def _highlights(judged: EncodingResult) -> list[Widget]:
    pictures = [score_picture(judged), region_picture(judged.regions), _unit_picture(judged)]
    return [one for one in pictures if one is not None]


def _sections(judged: EncodingResult) -> list[Section]:
    scores: list[Widget | None] = [
        region_picture(judged.regions),
        _unit_picture(judged) or Text(["No unit has a score, so none is drawn."], kind="note"),
        _about(judged),
        left_out(judged.counts),
        standardised(judged.zscore),
        _ceiling_text(judged.ceiling),
        resampled(judged.resampling),
        grid_text(judged.grid),
        _region_tables(judged),
    ]
    return [
        Section("Maps in the person's own space", _maps(judged)),
        Section("Encoding: scores against ceilings", [one for one in scores if one is not None]),
    ]


def _about(judged: EncodingResult) -> Text:
    protocol, n_seeds = judged.protocol, len(judged.protocol.seeds)
    averaged = ", repeats averaged" if protocol.average_repeats else ""
    learned = "" if protocol.n_train is None else f", learned from {protocol.n_train:,} stimuli"
    return Text(
        [
            f"{len(judged.test_stimuli):,} held-out items (split {describe_split(protocol.split)}"
            f"{averaged}{learned}), {n_seeds} fold seed{'s' * (n_seeds != 1)}; shuffled fits: "
            f"{protocol.shuffles}, permutation runs: {protocol.permutations}."
        ],
        kind="note",
    )


def _ceiling_text(facts: Mapping[str, Any]) -> Text:
    """Say which noise ceiling stands beside the scores, and what it rests on."""
    if not facts:
        return Text(["No noise ceiling was estimated."])
    n, n_repeats = int(facts["stimuli"]), float(facts["n_repeats"])
    by_others = str(facts["name"]).startswith("cross-subject")
    rests = f"{n:,} test stimuli that {', '.join(facts['subjects'])} saw too"
    rests = rests if by_others else f"{n:,} repeated stimuli"
    of = "single trials" if n_repeats == 1 else f"means of {number(n_repeats)} trials"
    name = tag("strong", str(facts["name"]))
    definition = CEILINGS.get(str(facts["name"]), "")
    return Text(["Noise ceiling: ", name, f", {definition}; from {rests}, for {of}."])


def grid_text(facts: Mapping[str, float]) -> Text:
    """Say how many units have a penalty at the edge of its grid, and constant predictions."""
    if not facts:
        return Text([])
    low, high, constant = (
        number(100 * facts[name])
        for name in ("at_smallest_alpha", "at_largest_alpha", "constant_predictions")
    )
    return Text(
        [
            f"Penalties: {low} % of the units have the smallest of their grid, {high} % the "
            f"largest; the predictions of {constant} % are constant."
        ]
    )


def region_picture(regions: pd.DataFrame) -> Picture | None:
    """Draw the score by region, with the shuffled null beside it."""
    if not len(regions):
        return None
    ceilings = bool(regions["ceiling fraction"].notna().any())
    value, null = ("ceiling fraction", "shuffled fraction") if ceilings else ("r", "shuffled r")
    label = "pooled ceiling fraction, Σ r·|r| / Σ ceiling" if ceilings else "mean held-out r"
    figure = region_scores(
        {"": regions}, value, null, label=label, null_label="shuffled features",
        reference=1.0 if ceilings else None,
    )  # fmt: skip
    line = " The dashed line is the ceiling." if ceilings else " There are no noise ceilings."
    values = "; ".join(
        f"{row['region']} {number(row[value])} (shuffled {number(row[null])})"
        for _, row in regions.iterrows()
    )
    caption = join(
        [tag("strong", "Score by region."), f" Filled: {label}; open: shuffled features.{line}"]
    )
    return Picture(figure, f"Dot plot of {label} by region: {values}.", caption)


def _region_tables(judged: EncodingResult) -> Widget:
    """Put numbers of one kind into one table each."""
    regions = judged.regions
    if not len(regions):
        return Text(["No region has units, so there is no table by region."], kind="note")
    count = next((name for name in regions if str(name).startswith("units r")), None)
    smallest = number(1 / (judged.protocol.permutations + 1))
    kinds: list[tuple[list[Any], str]] = [
        (["units", "r", "low", "high", "shuffled r", "p"], "Mean r over a region's units, with "
         "its 95 % interval. p is that of the region's mean r among null runs; the smallest "
         f"possible is {smallest}."),
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
            tables.append(Table(regions[["region", *present]], caption=caption))
    return Folded("Tables by region", tables)


def _unit_picture(judged: EncodingResult) -> Picture | None:
    """Draw the units' r against their ceilings, or its distribution where there are none."""
    units, names = judged.units, list(judged.regions["region"])
    if not units["r"].notna().any():
        return None
    if units["ceiling"].notna().any():
        figure = score_against_ceiling(units["r"], units["ceiling"], regions_of(judged), names)
        below = int((units["ceiling"] == 0).sum())
        return Picture(
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
    masks = {name: judged.recording.roi_mask(name) for name in names} or {
        "all units": np.ones(len(units), dtype=bool)
    }
    null = {name: units["shuffled r"].to_numpy()[inside] for name, inside in masks.items()}
    r = {name: units["r"].to_numpy()[inside] for name, inside in masks.items()}
    return Picture(
        score_histograms(r, null),
        "Histograms of held-out r over the units of each region, with the shuffled null.",
        join([tag("strong", "Distribution of r by region"), ", beside fits on shuffled stimuli."]),
    )


def regions_of(judged: EncodingResult) -> Array:
    """Return the region of each unit, the first of the result's in which it is, or None."""
    region = np.full(len(judged.units), None, dtype=object)
    for name in reversed(list(judged.regions["region"])):
        region[judged.recording.roi_mask(name)] = name
    return region


def volume_of(judged: EncodingResult) -> VolumeSpace | None:
    """Return the volume that maps are drawn on; None where the recording is in none."""
    space = judged.recording.space
    return None if space is None else space.volume


def score_picture(judged: EncodingResult) -> Picture | None:
    """Draw held-out r on slices of the person's anatomy; None where there is no volume."""
    space = volume_of(judged)
    if space is None or not judged.units["r"].notna().any():
        return None
    oriented = judged.recording.info.get("affine") != "voxel indices"
    figure, limit = score_map(space, judged.units["r"], label="held-out r", oriented=oriented)
    over = "the person's anatomy" if space.background is not None else "an empty background"
    place = (
        "z in millimetres, L and R as marked"
        if oriented
        else "z in voxels; the file has no affine, so left and right are not told"
    )
    return Picture(
        figure,
        f"Axial slices with the held-out r of each unit over {over}.",
        join(
            [
                tag("strong", "Held-out r in the person's own space"),
                f", axial slices over {over}, cut to where the units are ({place}). Colours end at "
                f"±{number(limit)}, the 99th percentile; units without a score are left blank.",
            ]
        ),
    )


def _maps(judged: EncodingResult) -> list[Widget]:
    """Return maps of r and of the regions in the person's own space, or say why there is none."""
    space = volume_of(judged)
    if space is None:
        other = judged.recording.space
        where = "has no space" if other is None else f"is in a {type(other).__name__}"
        reason = f"No map is drawn: the recording {where}, and maps are drawn for volumes."
        return [Text([reason], kind="note")]
    picture = score_picture(judged)
    if picture is None:
        return [Text(["No unit has a score, so there is no map."], kind="note")]
    widgets: list[Widget] = [picture]
    names = list(judged.regions["region"])
    if names:
        oriented = judged.recording.info.get("affine") != "voxel indices"
        figure = region_map(space, regions_of(judged), names, oriented=oriented)
        caption = join([tag("strong", "Regions"), ", on the same slices. A unit in several regions "
                        "has the colour of the first."])  # fmt: skip
        widgets.append(Picture(figure, "Axial slices with the region of each unit.", caption))
    return widgets
