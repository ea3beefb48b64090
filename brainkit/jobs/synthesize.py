"""Synthesize: the stimuli that should drive each region most, judged by a second encoder."""

from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from brainkit.data.preparing import AverageRepeats
from brainkit.jobs.contract import Case, Job, Result, access_within, stimuli_needed
from brainkit.jobs.encode import Unseen, describe_encoder
from brainkit.jobs.pipeline import ImageEncoder
from brainkit.recipes.specs import (
    AtLeastTwo,
    Count,
    FeatureRecipe,
    FeatureSpec,
    ModelSpec,
    Seed,
    build_features,
    build_model,
    settings_of,
)
from brainkit.reporting import Folded, ImageStrip, Section, Table, Text, Widget
from brainkit.reporting.markup import number
from brainkit.reporting.widgets import left_out, standardised, stimulus_name
from brainkit.synthesis import Ranking, RankingProtocol, RankingResult, assess_ranking

MODEL_COLUMNS = ("agreement", "encoder r", "judge r")
TRUE_PERCENTILE = "true percentile"
FIRST_REGIONS = 3
Settings = settings_of(
    RankingProtocol,
    n=Count,
    bank=Literal["unseen", "test"],
    bank_size=AtLeastTwo | None,
    seed=Seed,
    unseen=Unseen,
    average_repeats=AverageRepeats,
)
GLOSSARY = {
    "ranked stimuli": "The stimuli of a bank that an encoder, which was not fitted on any of them, "
    "predicts to drive a region most.",
    "judge": "A second encoder, fitted on other features and on other trials than the one that "
    "ranks; it has no part in the choice. Its percentile of a stimulus is the share of the "
    "rest of the bank that it predicts to drive the region less, ties counting one half; chance "
    "is 50.",
    "random stimuli": "Null: the percentile expected of stimuli drawn from the bank at random.",
    "agreement": "Correlation, over the bank, of the drive that encoder and judge predict.",
    "encoder r, judge r": "How well each predicts the region's mean response to the test stimuli; "
    "a judge with a low r is a weak witness.",
}
TRUE_GLOSSARY = {
    TRUE_PERCENTILE: "Simulated data only: share of the bank that truly drives the region less "
    "than the chosen stimuli do in the mean.",
}


class SynthesizeRecipe(FeatureRecipe):
    """Stimuli that should drive a region, and the judge of them."""

    job: Literal["synthesize"]
    judge_features: Annotated[list[FeatureSpec], Field(min_length=1)]
    judge_model: ModelSpec
    protocol: Settings  # type: ignore[valid-type]


class Synthesize(Job):
    """Rank the stimuli that should drive each region most, judged by a second encoder."""

    name = "synthesize"
    schema = SynthesizeRecipe
    headline = ("ranked_judged_percentile_top10", "ranked_judged_percentile_top5")
    example = "brainkit synthesize nsd --root /data/nsd --subject subj01 --set protocol.n=20"

    def describe(self, recipe: Any) -> dict[str, str]:
        """Name the encoder that ranks."""
        return describe_encoder(recipe.features, recipe.model)

    def check(self, case: Case, recipe: Any) -> None:
        """Raise where there are no stimuli, or the region of the contrast is not known."""
        stimuli_needed(case, "Ranking")
        recipe.build(case.known)
        if recipe.protocol.against is not None:
            case.data.roi_mask(recipe.protocol.against)

    def run(self, case: Case, recipe: Any, tools: Any) -> Result:
        """Rank the bank; see `brainkit.synthesis.assess_ranking`."""
        judge = build_features(recipe.judge_features, known=case.known)
        ranked = assess_ranking(
            case.data,
            recipe.build(case.known),
            (judge, build_model(recipe.judge_model)),
            recipe.protocol.build(),
            regions=case.regions,
        )
        return ranking_result(ranked)


def ranking_result(ranked: RankingResult) -> Result:
    """Return what is written down and shown of a ranking."""
    encoder = ranked.encoder
    strips = [_strip(ranked, name, ranking) for name, ranking in ranked.rankings.items()]
    return Result(
        metrics=ranked.metrics,
        sections=[Section("Ranked stimuli by region", _widgets(ranked, strips))],
        highlights=[strips[place] for place in some_places(len(strips), FIRST_REGIONS)],
        tables={"ranking": _ranking_table(ranked), "regions": ranked.regions},
        pipeline=None
        if ranked.prepared is None
        else ImageEncoder(encoder.features, encoder.model, ranked.prepared.usable),
        facts={
            "access": access_within(ranked.prepared),
            "zscore": ranked.zscore,
            "counts": ranked.counts,
        },
        fitted=[encoder.features, encoder.model],
        glossary=GLOSSARY | (TRUE_GLOSSARY if TRUE_PERCENTILE in ranked.regions else {}),
        source=ranked,
    )


def _ranking_table(ranked: RankingResult) -> pd.DataFrame:
    """Return a row a ranked stimulus: region, rank, stimulus row and id, drive, judgement."""
    stimuli = ranked.recording.stimuli
    ids = stimuli.ids if stimuli is not None else np.empty(0)
    tables = [
        pd.DataFrame(
            {
                "region": region,
                "rank": np.arange(1, len(ranking.rows) + 1),
                "stimulus": ranking.rows,
                "id": ids[ranking.rows],
                "predicted": ranking.predicted,
                "judged": ranking.judged,
                "judged_percentile": ranking.judged_percentile,
            }
        )
        for region, ranking in ranked.rankings.items()
    ]
    return pd.concat(tables, ignore_index=True)


# ------------------------------------------------------------------------------- what is shown


def some_places(n: int, most: int) -> list[int]:
    """Return at most so many of n places, the first and the last among them, evenly apart."""
    return sorted({round(place) for place in np.linspace(0, n - 1, min(n, most))})


def _widgets(ranked: RankingResult, strips: list[ImageStrip]) -> list[Widget]:
    protocol = ranked.protocol
    bank = {"unseen": "stimuli that this person never saw", "test": "held-out stimuli"}
    contrast = f" Ranked for the contrast with {protocol.against}." if protocol.against else ""
    about = (
        f"Each bank holds {bank.get(protocol.bank, protocol.bank)}. The judge is a second "
        "encoder, fitted on other features and on other trials than the one that ranks."
    )
    if not strips:
        nothing = Text(["No region has units, so nothing is ranked."], kind="note")
        return [nothing, left_out(ranked.counts), standardised(ranked.zscore)]
    return [
        *strips,
        Text([about, contrast], kind="note"),
        left_out(ranked.counts),
        standardised(ranked.zscore),
        Folded("Percentiles, and how far the encoders can be trusted", _tables(ranked)),
    ]


def _tables(ranked: RankingResult) -> list[Table]:
    """Put the percentiles into one table and the models' quality into another."""
    regions = ranked.regions
    models = [name for name in MODEL_COLUMNS if name in regions]
    place = [name for name in regions if name not in models]
    caption = (
        f"Mean over the {ranked.protocol.n} best-ranked stimuli of a region, in % of the bank."
    )
    tables = [Table(regions[place], caption=caption)]
    if models:
        caption = "How far the two encoders can be trusted, by region."
        tables.append(Table(regions[["region", *models]], caption=caption))
    return tables


def _strip(ranked: RankingResult, name: str, ranking: Ranking) -> ImageStrip:
    """Return the best stimuli of one region in a row."""
    about = f" judged percentile {number(ranking.judged_percentile.mean())}"
    if TRUE_PERCENTILE in ranked.regions:
        true = ranked.regions.set_index("region")[TRUE_PERCENTILE].get(name)
        about += f", true percentile {number(true)}"
    about += f", bank of {number(len(ranking.bank))}"
    stimuli = ranked.recording.stimuli
    images: Any = [] if stimuli is None else stimuli.read(ranking.rows)
    shown = [
        (
            image,
            f"{rank}. judge {number(judged)}\N{NO-BREAK SPACE}%",
            stimulus_name(stimuli, int(row)),
        )
        for rank, (image, row, judged) in enumerate(
            zip(images, ranking.rows, ranking.judged_percentile, strict=True), start=1
        )
    ]  # fmt: skip
    return ImageStrip(name, about, shown)
