"""Reconstruct: responses → embeddings → images and sentences by frozen models, beside the nulls."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from brainkit.data.cards import Strict
from brainkit.data.preparing import Prepared
from brainkit.data.splits import describe_split
from brainkit.errors import InputError, listed
from brainkit.evaluation.presets import PRESETS, get_preset
from brainkit.features import ModelLayer
from brainkit.features.judging_networks import load_networks
from brainkit.jobs.contract import Case, Result, Shortcut, judged_facts, stimuli_needed
from brainkit.jobs.encode import Unseen, network_lines
from brainkit.jobs.people import PeopleJob, PeopleRecipe, check_people, is_plain
from brainkit.jobs.pipeline import ImageReconstructor, Preparation
from brainkit.jobs.pooled_models import of_people, pool_people, with_positions
from brainkit.recipes.manifest import what_ran
from brainkit.recipes.specs import (
    AtLeastTwo,
    Count,
    FolderName,
    ModelName,
    ModelSpec,
    Seed,
    StoreName,
    build_model,
    settings_of,
)
from brainkit.reconstruction import (
    ReconstructionParts,
    ReconstructionProtocol,
    ReconstructionResult,
    assess_reconstruction,
)
from brainkit.reconstruction.scores import MADE, TRUE, judge_metric
from brainkit.reporting import Folded, ImageCell, ImageGrid, Picture, Section, Text, Widget
from brainkit.reporting.figures import score_dots
from brainkit.reporting.markup import Html, join, number, tag
from brainkit.reporting.widgets import (
    chance_alarm,
    every_kth,
    in_order,
    kind_name,
    left_out,
    metric_name,
    metric_table,
    resampled,
    standardised,
    stimulus_name,
)

Array = NDArray[Any]
SHOWN_ITEMS, FIRST_ITEMS = 10, 4
NAMING = "caption_names_category"
# How sentences are headed where the name of the kind does not say it.
SENTENCES = {
    "shown": "the stimulus's own",
    MADE: "said from the brain",
    TRUE: "said from the true embedding",
    "caption_prior": "caption prior: of the nearest training image",
    "no_brain": "no brain: a training caption at random",
}
GLOSSARY = {
    "drawn and said": "From the embedding that is decoded from the brain a frozen generator "
    "draws an image and a frozen captioner says a sentence. Both make convincing ones of anything: "
    "what counts is the distance from the nulls.",
    "from the true embedding": "The same generator and captioner, given the embedding of the image "
    "shown: what a perfect decoder of embeddings would reach.",
    "low-level look": "The autoencoder's latents that are decoded from the brain, as an image: "
    "where drawing starts.",
    "retrieval, image from brain": "Share of comparisons in which the embedding of the image shown "
    "is the most similar, of all in the gallery, to the one predicted from the brain. The preset "
    "names the gallery's size; chance is 1 over it.",
    "retrieval, brain from image": "The other way: how often the embedding predicted from the "
    "right brain response is the most similar to that of the image. The two differ.",
    "identification [judge]": "A held-out network, which had no part in the decoding, looks at the "
    "images: given the reconstruction, it finds the image shown among n (or the reverse), by "
    "correlation of its features. The share of all draws of n − 1 others in which the right one "
    "comes first; chance is 1 / n. Without a judge in brackets pixels are compared, with one "
    "other at a time, and chance is .5.",
    "caption names category": "Share of sentences whose first-named category is that of the "
    "image's largest object.",
    "shuffled brain (drawn and said)": "Null: the whole decoding fitted and tested on responses "
    "exchanged between images.",
    "mean image": "Null: the mean of the training images.",
    "mean embedding": "Null: drawn, or said, from the mean training embedding.",
    "class mean (drawn)": "Null: drawn from the mean training embedding of the true category; what "
    "a decoder of the category alone could show.",
    "nearest training image (by embedding)": "Null: the training image whose embedding is nearest "
    "to the decoded one; what copying from the training set could show.",
    "caption prior": "Null: drawn from words alone, the caption of that nearest training image; "
    "among the sentences, that caption itself.",
    "typical caption": "Null: the one training caption whose image is nearest to the mean.",
    "no brain (drawn and said)": "Null: drawn from nothing at all; among the sentences, a training "
    "caption at random.",
    "told apart": "Mean over images of (score − score of the null), with its 95 % "
    "interval over images: told apart where it excludes 0.",
}
Settings = settings_of(
    ReconstructionProtocol,
    n_images=AtLeastTwo,
    n_train=AtLeastTwo | None,
    seed=Seed,
    unseen=Unseen,
    average_repeats=Literal[True, "test"],
    strength=Annotated[float, Field(ge=0, le=1)],
    steps=Count | None,
    samples=Count,
    guidance=Annotated[float, Field(ge=0, allow_inf_nan=False)] | None,
    noise_level=Annotated[int, Field(ge=0)],
    identify_among=AtLeastTwo,
    retrieve_among=AtLeastTwo,
    max_new_tokens=Count | None,
    num_beams=Count,
)


class GeneratorSpec(Strict):
    """A frozen generator; see `brainkit.generators.Generator.from_pretrained`."""

    name: FolderName = Field(description="tiny, a local folder or an id on the hub.")
    adapter: FolderName | None = None
    adapter_scale: float = Field(default=1.0, allow_inf_nan=False)
    device: str = "auto"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    latents: ModelSpec | None = Field(
        default=None,
        description="Decoder of the autoencoder's latents, from which drawing then starts.",
    )

    def options(self) -> dict[str, Any]:
        """Return what `Generator.from_pretrained` is given."""
        options = self.model_dump(mode="json", exclude={"name", "latents"})
        return {"id_or_path": self.name, **options}


class CaptionerSpec(Strict):
    """A frozen captioner; see `brainkit.generators.Captioner.from_pretrained`."""

    name: FolderName = Field(description="tiny, a local folder or an id on the hub.")
    device: str = "auto"

    def options(self) -> dict[str, Any]:
        """Return what `Captioner.from_pretrained` is given."""
        return {"id_or_path": self.name, "device": self.device}


class ReconstructRecipe(PeopleRecipe):
    """Responses → embeddings → images and sentences, learned from others too where asked for."""

    job: Literal["reconstruct"]
    embedding: ModelName = Field(description="As for brainkit.features.extract.")
    fused: list[ModelName] = Field(
        default_factory=list,
        description="Further embeddings that the target of a contrastive decoder is fused of.",
    )
    model: ModelSpec
    generator: GeneratorSpec | None = None
    captioner: CaptionerSpec | None = None
    judges: dict[str, ModelName] = Field(
        default_factory=dict,
        description="Held-out networks that judge the images; names as for extract.",
    )
    store: StoreName | None = Field(default=None, description="Folder where embeddings are kept.")
    preset: str | None = Field(
        default=None,
        description=f"Score as a published system does, too: {listed(PRESETS)}.",
    )
    networks: FolderName | None = Field(
        default=None, description="Folder with the weights of the networks that a preset judges by."
    )
    protocol: Settings  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _judged(self) -> Self:
        if self.generator is not None and not self.judges:
            raise ValueError("images that a generator makes need at least one held-out judge")
        return self


class Reconstruct(PeopleJob):
    """Draw and caption what was seen, from decoded embeddings, by frozen models."""

    name = "reconstruct"
    schema = ReconstructRecipe
    headline = ("identification_image_given_reconstruction_top1", NAMING)
    shortcuts = (
        *PeopleJob.shortcuts,
        Shortcut("preset", "preset", f"Score as a published system does, too: {listed(PRESETS)}."),
        Shortcut("networks", "networks", "Folder with the weights of a preset's networks."),
    )
    example = "brainkit reconstruct nsd --root /data/nsd --recipe brain_diffuser"

    def describe(self, recipe: Any) -> dict[str, str]:
        """Name the frozen models."""
        models = {"Embedding": recipe.embedding}
        if recipe.fused:
            models["Fused with"] = ", ".join(recipe.fused)
        for role, spec in (("Generator", recipe.generator), ("Captioner", recipe.captioner)):
            if spec is not None:
                models[role] = spec.name
        judges = "; ".join(f"{name} {spec}" for name, spec in recipe.judges.items())
        return models | ({"Judges": judges} if judges else {})

    def tools(self, recipe: Any) -> ReconstructionParts:
        """Load the frozen models, for any number of people; see `build_tools`."""
        return build_tools(recipe)

    def describe_tools(self, tools: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the models with the hashes of their weights, and how they ran."""
        described = describe_models(tools)
        ran = what_ran(tools.embed, tools.judges)
        for role in ("generator", "captioner"):
            if role in described:
                kept = {key: described[role][key] for key in ("device", "dtype", "batch_size")}
                ran.append({"part": role, **kept})
        return described, ran

    def check(self, case: Case, recipe: Any) -> None:
        """Raise where there are no image stimuli, or no such region."""
        stimuli_needed(case, "Reconstruction")
        check_people(case, recipe)
        if recipe.protocol.repeats == "embeddings" and not is_plain(recipe):
            raise InputError(
                "protocol.repeats=embeddings decodes single test trials, and those of people who "
                "are brought together are averaged before. Take repeats=voxels, or one person's "
                "own trials, all of them (no subjects.train, no subjects.trials)."
            )
        if recipe.protocol.roi is not None:
            case.data.roi_mask(recipe.protocol.roi)

    def run(self, case: Case, recipe: Any, tools: Any) -> Result:
        """Judge the reconstruction; see `brainkit.reconstruction.assess_reconstruction`."""
        protocol = recipe.protocol.build()
        if is_plain(recipe):
            return reconstruction_result(assess_reconstruction(case.data, protocol, tools), recipe)
        unseen = protocol.unseen
        recording, protocol, folds = pool_people(case, recipe, protocol, tools.embed)
        tools = replace(tools, embedding_model=with_positions(tools.embedding_model, folds))
        judged = assess_reconstruction(recording, protocol, tools)
        return of_people(reconstruction_result(judged, recipe), folds, unseen)


def reconstruction_result(
    judged: ReconstructionResult, recipe: ReconstructRecipe | None = None
) -> Result:
    """Return what is written down and shown of a reconstruction; the recipe names its models."""
    grid = image_grid(judged, FIRST_ITEMS)
    return Result(
        metrics=judged.metrics,
        sections=[
            Section("Reconstruction: drawn and said from decoded embeddings", _widgets(judged))
        ],
        highlights=[] if grid is None else [grid],
        tables={"items": judged.items, "retrieval_items": judged.retrieval_items},
        arrays={
            "embeddings" + ("" if kind == MADE else f"-{kind.replace('_', '-')}"): values
            for kind, values in judged.embeddings.items()
        },
        images={"images": judged.images} if judged.images else {},
        documents=_captions(judged),
        pipeline=None
        if recipe is None or judged.prepared is None
        else _pipeline(judged, judged.prepared, recipe),
        facts=judged_facts(judged),
        fitted=[judged.fitted],
        glossary=GLOSSARY,
        lines=network_lines(judged.fitted[0], judged.recording),
        source=judged,
    )


def build_tools(recipe: ReconstructRecipe) -> ReconstructionParts:
    """Load all that a recipe names, so that a wrong name is told before anything is fitted.

    Raises
    ------
    UnknownNameError, MissingFileError, DownloadError
        If a model is not there; the message says what was looked for, and where.
    InputError
        If the recipe's model decodes no embeddings, or its captioner needs images and it names no
        generator that would make some.
    """
    decoder = build_model(recipe.model)
    if not hasattr(decoder, "predict_standardised"):
        raise InputError(
            f"The model of {recipe.name} is {recipe.model.kind!r}; embeddings are decoded by "
            "'embedding-decoder', 'massive-ridge', 'contrastive-decoder' or 'in-context-decoder'."
        )
    latents = recipe.generator.latents if recipe.generator is not None else None
    embed = _layer(recipe.embedding, recipe.store)
    fused = [_layer(spec, recipe.store) for spec in recipe.fused]
    if fused and "fused_width" not in decoder.get_params(deep=False):
        raise InputError(
            f"{recipe.name} fuses {listed(recipe.fused)} into the target, which its model, "
            f"{recipe.model.kind!r}, cannot do: take 'contrastive-decoder', or leave fused out."
        )
    judges = {name: _layer(spec) for name, spec in recipe.judges.items()}
    captioner = load_captioner(recipe.captioner)
    reads_images = captioner is not None and getattr(captioner, "embedding_width", None) is None
    if recipe.generator is None and reads_images:
        raise InputError(
            f"The captioner of {recipe.name} reads images, and the recipe names no generator to "
            "make them. Name one, or a captioner that reads embeddings, such as 'tiny'."
        )
    preset = None if recipe.preset is None else get_preset(recipe.preset)
    return ReconstructionParts(
        preset=preset,
        networks={} if preset is None else load_networks(preset, recipe.networks),
        generator=load_generator(recipe.generator),
        judges=judges,
        embed=embed,
        fused=fused,
        captioner=captioner,
        embedding_model=decoder,
        latent_model=None if latents is None else build_model(latents),
    )


def _layer(spec: str, store: str | None = None) -> ModelLayer:
    """Return a layer of a model, loaded, so that its name is known to be right."""
    layer = ModelLayer(spec, store=store)
    layer.identity()
    return layer


def load_generator(spec: GeneratorSpec | None) -> Any:
    """Load the generator that a recipe names, if it names one."""
    from brainkit.generators import Generator

    return None if spec is None else Generator.from_pretrained(**spec.options())


def load_captioner(spec: CaptionerSpec | None) -> Any:
    """Load the captioner that a recipe names, if it names one."""
    from brainkit.generators import Captioner

    return None if spec is None else Captioner.from_pretrained(**spec.options())


def describe_models(tools: ReconstructionParts) -> dict[str, Any]:
    """Return the models of a run with the hashes of their weights, for the manifest.

    Returns
    -------
    dict
        ``embedding``, ``judges`` by name and, where there are any, ``fused``, ``generator``,
        ``captioner`` and ``preset``.
    """
    described: dict[str, Any] = {"embedding": tools.embed.identity()}
    if tools.fused:
        described["fused"] = [one.identity() for one in tools.fused]
    if tools.generator is not None:
        from brainkit.generators.generator import describe_generator

        described["generator"] = describe_generator(tools.generator)
    if tools.captioner is not None:
        from brainkit.generators.captioner import BATCH_SIZE

        described["captioner"] = {**tools.captioner.identity(), "batch_size": BATCH_SIZE}
    described["judges"] = {name: judge.identity() for name, judge in tools.judges.items()}
    if tools.preset is not None:
        described["preset"] = {"id": tools.preset.id, "hash": tools.preset.hash}
    return described


def _captions(judged: ReconstructionResult) -> dict[str, Any]:
    if not judged.captions:
        return {}
    stimuli, rows = judged.recording.stimuli, judged.items["stimulus"].to_numpy()
    ids = rows if stimuli is None else stimuli.ids[rows]
    return {"captions": {"id": ids, **judged.captions}}


def _pipeline(
    judged: ReconstructionResult, fold: Prepared, recipe: ReconstructRecipe
) -> ImageReconstructor:
    drawing = ("steps", "guidance", "noise_level", "strength", "samples")
    saying = ("max_new_tokens", "num_beams")
    return ImageReconstructor(
        *judged.fitted,
        Preparation.of(fold, judged.protocol.unseen),
        generator=None if recipe.generator is None else recipe.generator.options(),
        captioner=None if recipe.captioner is None else recipe.captioner.options(),
        drawing={name: getattr(judged.protocol, name) for name in drawing},
        saying={name: getattr(judged.protocol, name) for name in saying},
    )


# ------------------------------------------------------------------------------- what is shown


def _widgets(judged: ReconstructionResult) -> list[Widget]:
    units = {name: judged.counts[name] for name in ("units", "constant_or_nan")}
    tables = [metric_table(name, entry) for name, entry in judged.metrics.items()]
    widgets: list[Widget | None] = [
        chance_alarm(judged.metrics),
        image_grid(judged, SHOWN_ITEMS),
        _sentence_grid(judged),
        _score_picture(judged),
        _missing(judged),
        _about(judged),
        left_out(units),
        standardised(judged.zscore),
        resampled(judged.resampling),
        Folded("Every metric beside its nulls", tables),
    ]
    return [one for one in widgets if one is not None]


def _about(judged: ReconstructionResult) -> Text:
    protocol, counts = judged.protocol, judged.counts
    where = f" in {protocol.roi}" if protocol.roi else ""
    sentences = [
        f"{counts['images_tested']:,} held-out images (split {describe_split(protocol.split)}), "
        f"whose embeddings are decoded from the units{where}; retrieval uses all of them."
    ]
    drawn, spoken = MADE in judged.images, MADE in judged.captions
    if drawn or spoken:
        what = " and ".join(["drawn"] * drawn + ["said in words"] * spoken)
        sentences.append(
            f"{counts['images_drawn']:,} of them, chosen at random (seed {protocol.seed}), are "
            f"{what}, by models that were not fitted here and are given no test image."
        )
    if drawn and protocol.samples > 1:
        sentences.append(
            f"Of {protocol.samples} drawings of each the one is kept whose embedding is nearest to "
            "the decoded one; no drawing is ever compared with the image shown. Nulls draw as many."
        )
    if "low_level" in judged.images:
        strength = number(protocol.strength)
        sentences.append(
            f"Drawing starts from decoded latents (low-level look), strength {strength}."
        )
    elif drawn:
        sentences.append("Drawing starts from noise.")
    return Text([" ".join(sentences)], kind="note")


def _missing(judged: ReconstructionResult) -> Text | None:
    """Say which nulls cannot be had because too little is known of the stimuli (trap T26)."""
    kinds = [*judged.images, *judged.captions]
    lacking = []
    if MADE in kinds and "caption_prior" not in kinds:
        lacking.append("the caption prior, since the stimuli have no captions")
    if MADE in judged.images and "class_mean" not in kinds:
        lacking.append("the class mean, since their categories are not known")
    if MADE in judged.captions and NAMING not in judged.metrics:
        lacking.append("any score of the sentences, since their categories are not known")
    if not lacking:
        return None
    return Text(
        [
            tag("strong", "Nulls are missing. "),
            f"This report lacks {'; '.join(lacking)}. What a caption or a category alone explains "
            "is then not told apart from what the brain tells.",
        ],
        kind="warning",
    )


def _name(judged: ReconstructionResult, item: int) -> str:
    row = int(judged.items["stimulus"].iloc[item])
    return stimulus_name(judged.recording.stimuli, row)


def image_grid(judged: ReconstructionResult, most: int) -> ImageGrid | None:
    """Return shown images, reconstructions and nulls of every k-th image drawn."""
    if MADE not in judged.images:
        return None
    chosen, which = every_kth(len(judged.items), most)
    kinds = in_order(list(judged.images))
    judge = _first_judge(judged)
    rows: list[list[Any]] = []
    for item in chosen:
        name = _name(judged, item)
        cells = [
            ImageCell(
                judged.images[kind][item],
                _identified(judged, judge, kind, item),
                f"{kind_name(kind)}: {name}",
            )
            for kind in kinds
        ]
        rows.append([name, *cells])
    below = (
        f" Below each image: how often {judge[1]} finds the image shown by it, among "
        f"{_among(judged.metrics[judge[0]])}."
        if judge
        else ""
    )
    caption = join(
        [
            tag("strong", "Shown and reconstructed images, with nulls. "),
            f"{which}{below} All images of a row are drawn from the same noise.",
        ]
    )
    return ImageGrid(["stimulus", *map(kind_name, kinds)], rows, caption, "pairs wide")


def _among(entry: Mapping[str, Any]) -> str:
    """Return how many images are compared, from the preset's ``1-of-N``."""
    return next(
        part.removeprefix("1-of-") for part in entry["preset"].split("/") if "1-of-" in part
    )


def _first_judge(judged: ReconstructionResult) -> tuple[str, str] | None:
    """Return metric and name of the first judge."""
    start = judge_metric("image_given_reconstruction", "").removesuffix("]")
    for metric in judged.metrics:
        if metric.startswith(start):
            return metric, metric.removeprefix(start).removesuffix("]")
    return None


def _identified(
    judged: ReconstructionResult, judge: tuple[str, str] | None, kind: str, item: int
) -> str:
    column = "" if judge is None else judge[0] if kind == MADE else f"{judge[0]}/{kind}"
    if column not in judged.items:
        return ""
    return f"found {number(float(judged.items[column].iloc[item]))}"


def _sentence_grid(judged: ReconstructionResult) -> ImageGrid | None:
    """Return sentences from the brain and of the nulls, for the same images."""
    if not judged.captions:
        return None
    chosen, which = every_kth(len(judged.items), SHOWN_ITEMS)
    kinds = in_order(list(judged.captions))
    shown = judged.images.get("shown")
    rows = [
        [
            ImageCell(
                None if shown is None else shown[item],
                _name(judged, item),
                f"shown: {_name(judged, item)}",
            ),
            *(join([_verdict(judged, kind, item), judged.captions[kind][item]]) for kind in kinds),
        ]
        for item in chosen
    ]
    marks = (
        " ✓ and ✗ tell whether the category that the sentence names first is that of the largest "
        "object."
        if NAMING in judged.metrics
        else ""
    )
    caption = join([tag("strong", "Sentences, with nulls. "), which, marks])
    header = ["stimulus", *(SENTENCES.get(kind, kind_name(kind)) for kind in kinds)]
    return ImageGrid(header, rows, caption, "sentences")


def _verdict(judged: ReconstructionResult, kind: str, item: int) -> Html:
    column = NAMING if kind == MADE else f"{NAMING}/{kind}"
    if column not in judged.items:
        return Html("")
    score = judged.items[column].iloc[item]
    if np.isnan(score):  # the image's category is not known
        return Html("")
    right = bool(score)
    mark = tag("span", "✓" if right else "✗", class_="met" if right else "unmet")
    return join([mark, " "])


def _score_picture(judged: ReconstructionResult) -> Picture:
    metrics = judged.metrics
    figure = score_dots(
        {metric_name(name): _rows(entry) for name, entry in metrics.items()},
        {metric_name(n): entry["chance"] for n, entry in metrics.items() if "chance" in entry},
        value=kind_name(MADE),
        reach=kind_name(TRUE),
    )
    return Picture(
        figure,
        "Each metric with its interval, beside the nulls, what true embeddings reach, and chance.",
        "Each metric in a panel of its own: filled, from the brain; diamond, what the embeddings "
        "of the shown images themselves reach; open, the nulls; dashed, chance. Bars are 95 % "
        "intervals over images. Presets differ, so that panels do not compare.",
    )


def _rows(entry: Mapping[str, Any]) -> dict[str, tuple[float, Sequence[float]]]:
    """Return (value, interval) of the reconstruction, of the true embeddings and of each null."""
    rows = {kind_name(MADE): (entry["value"], entry["ci"])}
    if TRUE in entry:
        rows[kind_name(TRUE)] = (entry[TRUE]["value"], entry[TRUE]["ci"])
    for null in in_order(list(entry["nulls"])):
        rows[kind_name(null)] = (entry["nulls"][null], entry["null_ci"][null])
    return rows
