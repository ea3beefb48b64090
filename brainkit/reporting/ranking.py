"""The synthesis part of a subject: the stimuli that each region should prefer, and their judge."""

from typing import Any

from brainkit.reporting.decoding import stimulus_name
from brainkit.reporting.encoding import left_out, standardised
from brainkit.reporting.markup import Html, frame, join, note, number, tag
from brainkit.reporting.pictures import thumbnail
from brainkit.synthesis import Ranking, RankingResult

MODEL_COLUMNS = ("agreement", "encoder r", "judge r")


def ranking_section(result: RankingResult, heading: object) -> Html:
    """Return the ranked stimuli of each region with the judge's view of them.

    Parameters
    ----------
    result : RankingResult
        Of one subject.
    heading : object
        The section's heading, HTML with its anchor.
    """
    bank = {"unseen": "stimuli that this person never saw", "test": "held-out stimuli"}
    about = note(
        "Each bank holds ", bank.get(result.protocol.bank, result.protocol.bank), ". The judge is "
        "a second encoder, fitted on other features and on other trials than the one that ranks.",
        f" Ranked for the contrast with {result.protocol.against}."
        if result.protocol.against
        else "",
    )  # fmt: skip
    strips = [_strip(result, name, ranking) for name, ranking in result.rankings.items()]
    parts = [heading, about, left_out(result.counts), standardised(result.zscore)]
    if not strips:
        return join([*parts, note("No region has units, so nothing is ranked.")])
    return join([*parts, _tables(result), tag("div", *strips, class_="strip")])


def _tables(result: RankingResult) -> Html:
    """Put the percentiles into one table and the models' quality into another."""
    regions = result.regions
    models = [name for name in MODEL_COLUMNS if name in regions]
    place = [name for name in regions if name not in models]
    caption = (
        f"Mean over the {result.protocol.n} best-ranked stimuli of a region, in % of the bank."
    )
    tables = [frame(regions[place], caption=caption)]
    if models:
        caption = "How far the two encoders can be trusted, by region."
        tables.append(frame(regions[["region", *models]], caption=caption))
    return tag("div", *tables, class_="tables")


def _strip(result: RankingResult, name: str, ranking: Ranking) -> Html:
    """Return the best stimuli of one region in a row."""
    said = f" judged percentile {number(ranking.judged_percentile.mean())}"
    if "true percentile" in result.regions:
        true = result.regions.set_index("region")["true percentile"].get(name)
        said += f", true percentile {number(true)}"
    said += f", bank of {number(len(ranking.bank))}"
    stimuli = result.recording.stimuli
    images: Any = [] if stimuli is None else stimuli.read(ranking.rows)
    items = []
    for rank, (image, stimulus, judged) in enumerate(
        zip(images, ranking.rows, ranking.judged_percentile, strict=True), start=1
    ):
        title = stimulus_name(stimuli, int(stimulus))
        picture = thumbnail(image, f"{name}, rank {rank}: {title}")
        items.append(
            tag("li", picture, f"{rank}. judge {number(judged)}\N{NO-BREAK SPACE}%", title=title)
        )
    return join([tag("h4", name, tag("span", said)), tag("ul", *items)])
