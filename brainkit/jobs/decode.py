"""Decode: responses → features → images, beside what no brain could explain."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from brainkit.data.preparing import AverageRepeats
from brainkit.data.splits import describe_split
from brainkit.decoding import DecodingProtocol, DecodingResult, assess_decoder
from brainkit.evaluation import pixel_correlation
from brainkit.features import read_for
from brainkit.jobs.contract import Case, Result, judged_facts, stimuli_needed
from brainkit.jobs.encode import Unseen, describe_encoder
from brainkit.jobs.people import PeopleJob, PeopleRecipe, check_people, is_plain
from brainkit.jobs.pipeline import ImageDecoder, Preparation
from brainkit.jobs.pooled_models import of_people, pool_people, with_positions
from brainkit.recipes.specs import FeatureRecipe, Seeds, settings_of
from brainkit.reporting import Folded, ImageCell, ImageGrid, Section, Text, Widget
from brainkit.reporting.markup import join, number, tag
from brainkit.reporting.widgets import (
    chance_alarm,
    every_kth,
    in_order,
    kind_name,
    left_out,
    metric_table,
    resampled,
    standardised,
    stimulus_name,
)

Array = NDArray[Any]

SHOWN_ITEMS, FIRST_ITEMS = 8, 4
Settings = settings_of(
    DecodingProtocol,
    seeds=Seeds,
    unseen=Unseen,
    average_repeats=AverageRepeats,
    back=Literal["inverse", "bank"],
)
GLOSSARY = {
    "pixel correlation": "Pearson correlation over the pixels of the shown and the made image.",
    "SSIM": "Structural similarity of the grey images, Gaussian windows; 1 for equal images.",
    "identification, reconstruction given image": "For each shown image, the share of the other "
    "reconstructions of its fold that resemble it less than its own does. Chance is .5; the preset "
    "says how ties count.",
    "identification, image given reconstruction": "For each reconstruction, the share of the other "
    "shown images of its fold that resemble it less than the right one does. Chance is .5; the "
    "preset says how ties count.",
    "nearest training image": "Null: the training image nearest to the decoded features; what "
    "copying from the training set could show.",
    "class mean": "Null: the mean training image of the true class (for photographs of several "
    "things, the category of the largest object; of all training images where the class is not "
    "known); what a decoder of the class alone could show.",
    "mean image": "Null: the mean of all training images, the same for every item of a fold.",
    "shuffled brain": "Null: the whole decoder fitted and tested on responses exchanged between "
    "images.",
    "no brain": "Null: a training image drawn at random, the prior without any brain.",
    "difference": "Mean over held-out images of (score of the reconstruction − score of the null), "
    "with its 95 % interval over images. It is told apart from the null where the "
    "interval excludes 0; “below” means that the null scores higher.",
}


class DecodeRecipe(PeopleRecipe, FeatureRecipe):
    """Responses → features → images, learned from the tested person, or from others too."""

    job: Literal["decode"]
    protocol: Settings  # type: ignore[valid-type]


class Decode(PeopleJob):
    """Reconstruct held-out images from brain responses, beside the nulls."""

    name = "decode"
    schema = DecodeRecipe
    headline = ("pixel_correlation", "identification_image_given_reconstruction")
    example = "brainkit decode digits69 --root data/digits69 --out runs/digits"

    def describe(self, recipe: Any) -> dict[str, str]:
        """Name the feature space and the decoder."""
        return describe_encoder(recipe.features, recipe.model)

    def check(self, case: Case, recipe: Any) -> None:
        """Raise where there are no image stimuli, or no units in the region."""
        stimuli_needed(case, "Decoding images")
        recipe.build(case.known)
        check_people(case, recipe)
        if recipe.protocol.roi is not None:
            case.data.roi_mask(recipe.protocol.roi)

    def run(self, case: Case, recipe: Any, tools: Any) -> Result:
        """Judge the decoder; see `brainkit.decoding.assess_decoder`."""
        features, model = recipe.build(case.known)
        protocol = recipe.protocol.build()
        if is_plain(recipe):
            return decoding_result(assess_decoder(case.data, features, model, protocol))
        unseen = protocol.unseen
        recording, protocol, folds = pool_people(case, recipe, protocol, features)
        judged = assess_decoder(recording, features, with_positions(model, folds), protocol)
        return of_people(decoding_result(judged), folds, unseen)


def decoding_result(judged: DecodingResult) -> Result:
    """Return what is written down and shown of a decoder that was judged."""
    return Result(
        metrics=judged.metrics,
        sections=[Section("Decoding: shown and reconstructed", _widgets(judged))],
        highlights=[image_pairs(judged, FIRST_ITEMS)],
        tables={"items": judged.items, "seeds": judged.by_seed},
        arrays={"predictions": judged.images["reconstruction"]},
        pipeline=_pipeline(judged),
        facts=judged_facts(judged),
        fitted=[judged.fitted],
        glossary=GLOSSARY,
        source=judged,
    )


def _pipeline(judged: DecodingResult) -> ImageDecoder | None:
    """Return the decoder of the first fold; of one that goes through a bank with its bank."""
    fold, (space, model) = judged.prepared, judged.fitted
    if fold is None:
        return None
    decoder = ImageDecoder(space, model, Preparation.of(fold, judged.protocol.unseen))
    if judged.protocol.back == "bank" and judged.recording.stimuli is not None:
        rows = np.unique(fold.train_stimuli)
        bank = space.transform(read_for(space, judged.recording.stimuli, rows))
        decoder.set_params(bank=np.asarray(bank), bank_rows=rows)
    return decoder


# ------------------------------------------------------------------------------- what is shown


def _widgets(judged: DecodingResult) -> list[Widget]:
    protocol, n_seeds = judged.protocol, len(judged.protocol.seeds)
    where = f" in {protocol.roi}" if protocol.roi else ""
    back = {
        "inverse": "the inverse of the feature space",
        "bank": "the training image with the nearest features",
    }.get(protocol.back, protocol.back)
    about = (
        f"{len(judged.items):,} held-out images (split {describe_split(protocol.split)}), "
        f"{n_seeds} fold seed{'s' * (n_seeds != 1)}, decoded from the units{where}; decoded "
        f"features become an image through {back}."
    )
    tables = [
        metric_table(name, entry, _seeds_text(judged, name))
        for name, entry in judged.metrics.items()
    ]
    widgets: list[Widget | None] = [
        chance_alarm(judged.metrics),
        image_pairs(judged, SHOWN_ITEMS),
        Text([about], kind="note"),
        left_out(judged.counts),
        standardised(judged.zscore),
        resampled(judged.resampling),
        Folded("Every metric beside its nulls", tables),
    ]
    return [one for one in widgets if one is not None]


def _seeds_text(judged: DecodingResult, metric: str) -> str:
    if metric not in judged.by_seed or len(judged.protocol.seeds) < 2:
        return ""
    return " By fold seed: " + ", ".join(number(v) for v in judged.by_seed[metric]) + "."


def image_pairs(judged: DecodingResult, most: int) -> ImageGrid:
    """Return shown images, reconstructions and nulls of every k-th item."""
    chosen, which = every_kth(len(judged.items), most)
    kinds: Sequence[str] = in_order(list(judged.images))
    shown = judged.images["shown"][chosen]
    r = {
        kind: np.atleast_1d(pixel_correlation(shown, judged.images[kind][chosen]))
        for kind in kinds
        if kind != "shown"
    }
    rows: list[list[Any]] = []
    for place, item in enumerate(chosen):
        name = stimulus_name(judged.recording.stimuli, int(judged.items["stimulus"].iloc[item]))
        cells = [
            ImageCell(
                judged.images[kind][item],
                f"r {number(r[kind][place])}" if kind in r else "",
                f"{kind_name(kind)}: {name}",
            )
            for kind in kinds
        ]
        rows.append([name, *cells])
    caption = join(
        [
            tag("strong", "Shown and reconstructed images, with nulls. "),
            f"{which} Below each image: its pixel correlation with what was shown. Images and "
            "correlations are of the first fold seed.",
        ]
    )
    return ImageGrid(["stimulus", *map(kind_name, kinds)], rows, caption)
