"""Judge a reconstruction: pictures and sentences from decoded embeddings.

Responses are decoded to image embeddings and, where asked for, to an autoencoder's latents
as the place where drawing starts (the low-level look). A frozen generator makes images of them and
a frozen captioner sentences. Neither is fitted, and neither is ever given a test image; test
images are read to score by, and for the figures that their true embeddings reach.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.arrays.progress import waiting
from brainkit.arrays.seeds import rng
from brainkit.data.dependence import dependence
from brainkit.data.preparing import Prepared, check_folds, prepare_split, zscore_column
from brainkit.data.recording import Recording
from brainkit.data.simulation import names_of
from brainkit.data.stimuli import Stimuli
from brainkit.decoding.image_decoding import item_scores
from brainkit.errors import InputError, listed
from brainkit.evaluation.identification import RETRIEVAL_DIRECTIONS
from brainkit.evaluation.intervals import mean_score
from brainkit.reconstruction.decoded import SHUFFLED, Decoded, decode
from brainkit.reconstruction.drawing import draw, item_seeds, read_images, say
from brainkit.reconstruction.nulls import classes_of, known_column
from brainkit.reconstruction.parts import ReconstructionParts, ReconstructionProtocol
from brainkit.reconstruction.scores import (
    DIRECTIONS,
    MADE,
    TRUE,
    Scores,
    fewest_in_a_fold,
    item_columns,
    judge_metric,
    judge_scores,
    names_category,
    retrieval_metric,
    retrieval_scores,
    summarise,
)

Array = NDArray[Any]
Images = dict[str, Array]
Captions = dict[str, list[str]]
NAMING = "caption_names_category"
CAPTIONED = (MADE, TRUE, SHUFFLED, "mean_embedding")  # kinds whose embeddings are captioned


@dataclass(frozen=True)
class ReconstructionResult:
    """What `assess_reconstruction` found.

    Attributes
    ----------
    items : DataFrame
        A row an image drawn: its stimulus row, seed, scores and caption.
    retrieval_items : DataFrame
        A row a test image: its stimulus row and the retrieval scores.
    images : dict of str to array (n_images, height, width, 3)
        ``"shown"``, ``"reconstruction"``, ``"true_embedding"``, the nulls and, with latents,
        ``"low_level"``; in [0, 1]. Without a generator those that are read only.
    captions : dict of str to list of str
        Of the same kinds; ``"shown"`` are the stimuli's own, where known. Empty without captioner.
    embeddings : dict of str to array (n_images, width)
        ``"reconstruction"`` and ``"true_embedding"``.
    metrics : dict
        By metric id, as in ``metrics.json``.
    counts : dict
        Units in use and left out, images drawn and tested.
    fitted : (embedding model, latent model)
        Of the first fold; the latter may be None.
    zscore : dict
    resampling : dict
        What intervals take as independent, and why; and the share of the decoded embeddings'
        variance that comes from the training items.
    prepared : Prepared or None
        The first fold, as it was standardised and read.
    """

    recording: Recording
    protocol: ReconstructionProtocol
    items: pd.DataFrame
    retrieval_items: pd.DataFrame
    images: dict[str, Array]
    captions: dict[str, list[str]]
    embeddings: dict[str, Array]
    metrics: dict[str, Any]
    counts: dict[str, int]
    fitted: tuple[Any, Any]
    zscore: dict[str, Any]
    resampling: dict[str, Any] = field(default_factory=dict)
    prepared: Prepared | None = field(default=None, repr=False)


def assess_reconstruction(
    recording: Recording, protocol: ReconstructionProtocol, parts: ReconstructionParts
) -> ReconstructionResult:
    """Reconstruct test images and sentences, and score them beside the nulls.

    Parameters
    ----------
    recording : Recording
        (trial, unit) or (trial, unit, time), with image stimuli.
    protocol : ReconstructionProtocol
        How to make and to judge.
    parts : ReconstructionParts
        Generator, judges, captioner and decoders; clones of the decoders are fitted on each
        training part.

    Returns
    -------
    ReconstructionResult

    Raises
    ------
    InputError
        If there are no image stimuli, the embeddings are not the generator's, or a judge is the
        model whose embeddings are decoded.
    LeakError
        If the decoder is a network that learned from this person.
    """
    stimuli = recording.stimuli
    if stimuli is None:
        raise InputError("Reconstruction needs image stimuli; this recording has none.")
    if hasattr(parts.embedding_model, "refuse_people"):
        parts.embedding_model.refuse_people(names_of(recording))
    if protocol.roi is not None:
        recording = recording.select(roi=protocol.roi)
    protocol = replace(protocol, zscore=zscore_column(recording, protocol.zscore))
    rows = dependence(recording, protocol.resample, features=[partial(parts.embeddings, stimuli)])
    prepared = partial(
        prepare_split,
        recording,
        protocol.split,
        seed=protocol.seed,
        zscore=protocol.zscore,
        unseen=protocol.unseen,
        n_train=protocol.n_train,
        rows=rows,
    )
    folds = prepared(average_repeats=protocol.average_repeats)
    trials = prepared(average_repeats=False) if protocol.repeats == "embeddings" else None
    check_folds(folds, protocol.split)
    parts.check_judges(stimuli, folds[0].train_stimuli)
    with waiting(f"{recording.subject}: embed and decode"):
        decoded, training = decode(folds, stimuli, parts, protocol.seed, trials)
    run = _Run(stimuli, parts, protocol, decoded, _choose(decoded.fold, protocol), training)
    images = run.images()
    captions = run.captions(images)
    scores = run.image_scores(images) | run.caption_scores(captions)
    by_preset = run.preset_entries(images, captions)
    retrieved = run.retrieval_scores()
    usable = folds[0].usable
    return ReconstructionResult(
        recording=recording,
        protocol=protocol,
        items=run.items(scores, captions),
        retrieval_items=pd.DataFrame({"stimulus": decoded.rows.shown, **item_columns(retrieved)}),
        images=images,
        captions=captions,
        embeddings={kind: run.embeddings(kind) for kind in (MADE, TRUE)},
        metrics=summarise(scores | retrieved, run.settings()) | by_preset,
        counts={
            "units": len(usable),
            "constant_or_nan": int((~usable).sum()),
            "images_tested": len(decoded.fold),
            "images_drawn": len(run.chosen),
        },
        fitted=decoded.fitted,
        zscore=folds[0].zscore,
        resampling={**rows.facts, "training_share": training},
        prepared=folds[0],
    )


def _choose(fold: Array, protocol: ReconstructionProtocol) -> Array:
    """Return which test items are drawn, in order: as many of each fold, two at least.

    Items are told apart from others of their fold, so that every fold needs some.
    """
    generator = rng(protocol.seed, "images drawn")
    folds = np.unique(fold)
    n_each = np.diff(np.linspace(0, protocol.n_images, len(folds) + 1).round().astype(int))
    chosen = [
        generator.permutation(np.flatnonzero(fold == one))[: max(2, n)]
        for one, n in zip(folds, n_each, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


@dataclass(frozen=True)
class _Run:
    """One subject's decoded items, those of them that are drawn, and what draws and judges."""

    stimuli: Stimuli
    parts: ReconstructionParts
    protocol: ReconstructionProtocol
    decoded: Decoded
    chosen: Array
    training: float

    @property
    def rows(self) -> Array:
        """Stimulus rows of the images drawn."""
        return self.decoded.rows.shown[self.chosen]

    @property
    def drawn_items(self) -> dict[str, Any]:
        """Folds, images and units of the items drawn, for contests."""
        every = self.every_item
        return {name: part if name == "training" else part[self.chosen]
                for name, part in every.items()}  # fmt: skip

    @property
    def every_item(self) -> dict[str, Any]:
        """Folds, images and units of all test items, for contests."""
        rows = self.decoded.rows
        return {
            "fold": self.decoded.fold,
            "image": rows.shown,
            "units": rows.groups,
            "training": self.training,
        }

    @property
    def seeds(self) -> list[int]:
        return item_seeds(self.rows, self.protocol.seed)

    @property
    def among(self) -> tuple[int, int]:
        """Return how many are compared in identification, and in retrieval."""
        return (
            min(self.protocol.identify_among, fewest_in_a_fold(self.decoded.fold[self.chosen])),
            min(self.protocol.retrieve_among, fewest_in_a_fold(self.decoded.fold)),
        )

    def column(self, name: str) -> list[str] | None:
        """Return what the stimuli's table says of the images drawn, if it says it of all."""
        values = known_column(self.stimuli, name, self.rows)
        return None if values is None else [str(value) for value in values]

    def embeddings(self, kind: str) -> Array:
        return np.asarray(self.decoded.conditions[kind].part(self.chosen).image_embeds)

    def images(self) -> Images:
        """Draw every kind of image, where there is a generator; read the others."""
        size = self.parts.image_size
        nearest = self.decoded.nearest[self.chosen]
        return {
            "shown": read_images(self.stimuli, self.rows, size),
            **({} if self.parts.generator is None else self.drawn()),
            "nearest_training_image": read_images(self.stimuli, nearest, size),
            "mean_image": self.decoded.mean_images[self.decoded.fold[self.chosen]],
        }

    def drawn(self) -> Images:
        """Draw every kind of image that is drawn."""
        generator, protocol = self.parts.generator, self.protocol
        conditions = {kind: c.part(self.chosen) for kind, c in self.decoded.conditions.items()}
        settings = {
            "steps": protocol.steps,
            "guidance": protocol.guidance,
            "noise_level": protocol.noise_level,
        }
        drawn = draw(
            generator,
            conditions,
            self.seeds,
            settings,
            strength=protocol.strength,
            samples=protocol.samples,
        )
        start = conditions[MADE].init_latents
        if start is not None:
            drawn["low_level"] = np.asarray(generator.decode_latents(start), dtype=np.float32)
        return drawn

    def captions(self, images: Images) -> Captions:
        """Say what each kind of embedding shows; nothing without a captioner."""
        if self.parts.captioner is None:
            return {}
        settings = {
            "max_new_tokens": self.protocol.max_new_tokens,
            "num_beams": self.protocol.num_beams,
        }
        embeddings = {kind: self.embeddings(kind) for kind in CAPTIONED}
        captions = say(self.parts.captioner, embeddings, images, settings)
        for kind, lines in self.decoded.sentences.items():
            captions[kind] = [lines[number] for number in self.chosen]
        shown = self.column("caption")
        return captions if shown is None else {"shown": shown, **captions}

    def image_scores(self, images: Images) -> Scores:
        """Score the images; none where nothing was drawn."""
        if MADE not in images:
            return {}
        judged = {k: values for k, values in images.items() if k not in ("shown", "low_level")}
        shown, items = images["shown"], self.drawn_items
        rows = self.decoded.rows.take(self.chosen)
        scores: Scores = item_scores(shown, judged, items["fold"], rows, self.training)
        # One image for all items cannot be told apart by anybody, see `item_scores`.
        several = {kind: values for kind, values in judged.items() if kind != "mean_image"}
        return scores | judge_scores(self.parts.judges, shown, several, self.among[0], **items)

    def caption_scores(self, captions: Captions) -> Scores:
        """Tell which sentences name the main category; NaN for images whose is not known."""
        classes = classes_of(self.stimuli, self.rows)
        if not captions or classes is None or (classes != "").sum() < 2:
            return {}
        known, words = np.flatnonzero(classes != ""), self.parts.words_of(self.stimuli)
        categories = [str(name) for name in classes[known]]
        scores: Scores = {}
        for kind, lines in captions.items():
            if kind != "shown":
                values = np.full(len(lines), np.nan)
                values[known] = names_category([lines[n] for n in known], categories, words)
                scores[NAMING, kind] = mean_score(
                    values,
                    units=self.drawn_items["units"],
                    training=self.training,
                    bounds=(0.0, 1.0),
                )
        return scores

    def retrieval_scores(self) -> Scores:
        """Retrieve by what each decoder predicts, in its own space."""
        scores: Scores = {}
        for kind, predicted in self.decoded.compared.items():
            truth = self.decoded.sought[kind]
            scores |= retrieval_scores({kind: predicted}, truth, self.among[1], **self.every_item)
        return scores

    def preset_entries(self, images: Images, captions: Captions) -> dict[str, Any]:
        """Return the preset's scores of what was drawn or said, beside those of every null."""
        preset, scored = self.parts.preset, {}
        if preset is None:
            return {}
        apart = ("shown", "low_level", TRUE)
        if preset.images and MADE in images:
            scored = {
                kind: preset.score(
                    images["shown"], drawn, self.parts.networks, any_number=True,
                    **self.drawn_items,
                )
                for kind, drawn in images.items() if kind not in apart
            }  # fmt: skip
        elif preset.captions and "shown" in captions:
            ids = [str(name) for name in self.stimuli.ids[self.rows]]
            references = {name: [text] for name, text in zip(ids, captions["shown"], strict=True)}
            scored = {
                kind: preset.score_captions(
                    dict(zip(ids, lines, strict=True)), references, any_number=True
                )
                for kind, lines in captions.items() if kind not in apart
            }  # fmt: skip
        if MADE not in scored:
            raise InputError(
                f"The preset {preset.id} finds nothing to score: {preset.offers()}, and of the "
                "test images these were made: "
                f"{listed([*(['images'] if images else []), *(['captions'] if captions else [])])}."
            )
        nulls = {kind: one for kind, one in scored.items() if kind != MADE}
        entries: dict[str, Any] = scored[MADE].entries(nulls)
        return entries

    def settings(self) -> dict[str, dict[str, Any]]:
        """Return what the presets of the metrics leave open."""
        n, gallery = self.among
        judged = [judge_metric(way, name) for name in self.parts.judges for way in DIRECTIONS]
        retrieved = [retrieval_metric(way) for way in RETRIEVAL_DIRECTIONS]
        return {
            **{metric: {"n": n, "similarity": "pearson"} for metric in judged},
            **{metric: {"n": gallery, "similarity": "cosine/standardised"} for metric in retrieved},
        }

    def items(self, scores: Scores, captions: Captions) -> pd.DataFrame:
        table = pd.DataFrame({"stimulus": self.rows, "seed": self.seeds, **item_columns(scores)})
        for kind in (MADE, TRUE):
            if kind in captions:
                table["caption" if kind == MADE else f"caption/{kind}"] = captions[kind]
        return table
