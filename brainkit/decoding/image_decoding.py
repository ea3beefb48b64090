"""Judge a decoder: every held-out image reconstructed, beside what no brain could explain.

Nulls, all made without the test images:

- ``shuffled_brain``: the whole pipeline fitted and tested on responses exchanged between images;
- ``mean_image``: the mean training image;
- ``class_mean``: the mean training image of the true class (where classes are known; of all
  training images for an item whose class is not): what a decoder of the class alone could show;
- ``nearest_training_image``: the training image nearest to the decoded features: what copying
  from the training set could show;
- ``no_brain``: a training image drawn at random, the prior without a brain.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from brainkit.arrays.progress import track
from brainkit.arrays.seeds import rng
from brainkit.data.dependence import Rows, joined
from brainkit.data.preparing import (
    AverageRepeats,
    Prepared,
    check_seeds,
    prepare_split,
    training_shares,
    zscore_column,
)
from brainkit.data.recording import Recording
from brainkit.data.splits import SplitLike, kept_split
from brainkit.data.stimuli import Stimuli
from brainkit.decoding.ridge_decoder import fit_with_null
from brainkit.errors import InputError, PenaltyWarning, told_once, unknown_name
from brainkit.evaluation import greyscale, pixel_correlation, ssim
from brainkit.evaluation.identification import IdentificationDirection, identification_contest
from brainkit.evaluation.intervals import ItemScores, mean_of, mean_score
from brainkit.evaluation.metrics import metric_entry
from brainkit.features import as_features, read_for
from brainkit.features.design import Design, independent_rows
from brainkit.features.pixels import as_float, as_uint8
from brainkit.linear.ridge_estimator import check_model

# -- scores of reconstructed images, one a held-out image, and their summary with intervals --------


Array = NDArray[Any]
# By (metric, kind of image).
Scores = dict[tuple[str, str], ItemScores]

SSIM: Literal["gaussian-2d"] = "gaussian-2d"
SMALLEST_SSIM_SIDE = 11
DIRECTIONS: tuple[IdentificationDirection, ...] = (
    "reconstruction_given_image",
    "image_given_reconstruction",
)
RECONSTRUCTION = "reconstruction"


def item_scores(
    shown: Array, images: Mapping[str, Array], fold: Array, rows: Rows, training: float = 0.0
) -> Scores:
    """Score each kind of image against what was shown.

    Parameters
    ----------
    shown : array (items, height, width[, 3])
        In [0, 1].
    images : mapping of str to array like `shown`
        Reconstructions and nulls.
    fold : array of int (items,)
        Fold that each item was held out in: items are told apart from those of their fold alone.
    rows : Rows
        What each item shows, and which belong together.
    training : float, default 0
        See `brainkit.evaluation.Estimate`.

    Returns
    -------
    dict of (metric, kind) to ItemScores
        Identification of the mean image is left out: equal images cannot be told apart, and chance
        is .5. A tie counts one half, so that nulls which show several items the same image are
        not put below what guessing among these would give.
    """
    scores: Scores = {}
    grey = _grey(shown)
    units: dict[str, Any] = {"units": rows.groups, "training": training}
    several = any(len(np.unique(rows.shown[fold == one])) > 1 for one in np.unique(fold))
    for kind, reconstructed in images.items():
        # An image without contrast is like none: 0, not missing.
        correlation = np.nan_to_num(np.asarray(pixel_correlation(shown, reconstructed)), nan=0.0)
        scores["pixel_correlation", kind] = mean_score(correlation, bounds=(-1.0, 1.0), **units)
        if min(grey.shape[1:]) >= SMALLEST_SSIM_SIDE:
            values = ssim(grey, _grey(reconstructed), data_range=1.0, variant=SSIM)
            scores[f"ssim_{SSIM}", kind] = mean_score(values, bounds=(-1.0, 1.0), **units)
        if kind != "mean_image" and several:
            for direction in DIRECTIONS:
                scores[f"identification_{direction}", kind] = identification_contest(
                    reconstructed, shown, direction, fold=fold, image=rows.shown, **units
                )
    return scores


def _grey(images: Array) -> Array:
    """Return (items, height, width), luminance where the images have colour."""
    return greyscale(images) if images.ndim == 4 else np.asarray(images, dtype=np.float64)


def mean_over_seeds(runs: list[Scores], order: list[Array]) -> Scores:
    """Average the scores of several passes over the same items.

    Parameters
    ----------
    runs : list of dict
        Of every fold seed.
    order : list of array of int (items,)
        That brings the items of each pass into one order.
    """
    return {
        name: ItemScores(
            np.mean([run[name].scores[o] for run, o in zip(runs, order, strict=True)], axis=0),
            mean_of([run[name].estimate for run in runs]),
        )
        for name in runs[0]
    }


def decoding_metrics(scores: Scores) -> dict[str, Any]:
    """Sum scores up by metric id: value, interval, nulls, and the difference from each null.

    Intervals are over held-out images; ``"above_nulls"`` holds the paired difference from each
    null.
    """
    metrics: dict[str, Any] = {}
    for (metric, kind), one in scores.items():
        if kind != RECONSTRUCTION:
            continue
        nulls = {
            name: null.estimate
            for (other, name), null in scores.items()
            if other == metric and name != RECONSTRUCTION
        }
        metrics[metric] = metric_entry(metric, one.estimate, nulls=nulls)
    return metrics


LANDMARKS = 100


# -- judging a decoder -----------------------------------------------------------------------------


@dataclass(frozen=True)
class DecodingProtocol:
    """How a decoder is judged.

    Parameters
    ----------
    split : str, splitter, list of (train, test), or Split
        See `Recording.split`.
    seeds : tuple of int
        Seeds of the folds; each image's scores are averaged over them.
    zscore, unseen, average_repeats
        See `brainkit.data.preparing.prepare`.
    back : {"inverse", "bank"}
        How decoded features become images: through the space's inverse, or as the nearest image
        of a bank, the training images.
    roi : str, optional
        Decode from these units only.
    resample : str
        What is independent, for nulls, intervals and inner folds; see
        `brainkit.data.dependence.dependence`.
    """

    split: SplitLike
    seeds: tuple[int, ...] = (0,)
    zscore: str | None = "session"
    unseen: str | None = None
    average_repeats: AverageRepeats = True
    back: str = "inverse"
    roi: str | None = None
    resample: str = "auto"

    def __post_init__(self) -> None:
        if not self.seeds:
            raise InputError("A decoder is judged with at least one seed; got none.")
        if self.back not in ("inverse", "bank"):
            raise unknown_name("way back to images", self.back, ("inverse", "bank"))
        object.__setattr__(self, "split", kept_split(self.split))


@dataclass(frozen=True)
class Decoded:
    """Held-out images of one pass over a split.

    Attributes
    ----------
    rows : Rows
        What each item shows, and which belong together.
    fold : array of int (items,)
        Fold that each item was held out in.
    likeness : array (items, landmarks)
        Products of the decoded features with those of some fixed stimuli, both less the training
        means: what was decoded, in terms that do not depend on the axes of a fold's space.
    images : dict of str to float array (items, height, width[, 3])
        ``"reconstruction"`` and the nulls.
    fitted : (features, model)
        Of the first fold.
    """

    rows: Rows
    fold: Array
    likeness: Array
    images: dict[str, Array]
    fitted: tuple[Any, Any]
    zscore: dict[str, Any]


@dataclass(frozen=True)
class DecodingResult:
    """What `assess_decoder` found.

    Attributes
    ----------
    items : DataFrame
        A row a held-out image: its stimulus row and its scores, means over seeds.
    images : dict of str to array
        Shown images (``"shown"``), reconstructions and nulls of the first seed, in [0, 1].
    metrics : dict
        By metric id, as in ``metrics.json``.
    by_seed : DataFrame
        A row a seed: the means of the scores.
    counts : dict
        Units in use and left out.
    resampling : dict
        What intervals take as independent, and why; and the share of the decoded features'
        variance that comes from the training items.
    prepared : Prepared or None
        The first fold, as it was standardised and read.
    """

    recording: Recording
    protocol: DecodingProtocol
    items: pd.DataFrame
    images: dict[str, Array]
    metrics: dict[str, Any]
    by_seed: pd.DataFrame
    counts: dict[str, int]
    fitted: tuple[Any, Any]
    zscore: dict[str, Any]
    resampling: dict[str, Any] = field(default_factory=dict)
    prepared: Prepared | None = field(default=None, repr=False)


def assess_decoder(
    recording: Recording, features: Any, model: Any, protocol: DecodingProtocol
) -> DecodingResult:
    """Reconstruct every held-out image and score it beside the nulls.

    Parameters
    ----------
    recording : Recording
        (trial, unit) or (trial, unit, time), with image stimuli.
    features : transformer
        From images to the space that is decoded; a clone is fitted on each training part.
    model : estimator
        From responses to features; a clone is fitted on each training part.
    protocol : DecodingProtocol
        How to judge.

    Returns
    -------
    DecodingResult
    """
    stimuli = stimuli_of(recording)
    if protocol.roi is not None:
        recording = recording.select(roi=protocol.roi)
    features = as_features(features)
    check_model(model)
    protocol = replace(protocol, zscore=zscore_column(recording, protocol.zscore))
    rows = independent_rows(recording, protocol, [Design.from_stimuli(recording, features)])
    folds = [
        prepare_split(
            recording,
            protocol.split,
            seed=seed,
            zscore=protocol.zscore,
            unseen=protocol.unseen,
            average_repeats=protocol.average_repeats,
            rows=rows,
        )
        for seed in protocol.seeds
    ]
    check_seeds(folds, protocol.split)
    distinct = np.unique(rows.shown)
    landmarks = distinct[np.unique(np.linspace(0, len(distinct) - 1, LANDMARKS).astype(int))]

    def decode(seed: int, parts: Sequence[Prepared], silent: bool = True) -> Decoded:
        spaces = fit_spaces(stimuli, parts, features)
        with told_once(PenaltyWarning, silent=silent):  # the first pass tells of its penalties
            return reconstruct(stimuli, parts, spaces, model, protocol.back, landmarks, seed=seed)

    seeds = list(zip(protocol.seeds, folds, strict=True))
    runs = [decode(*seeds[0], silent=False)]
    if len(seeds) > 1:
        runs.append(decode(*seeds[1]))
    training = decoded_training_share(
        folds[:2], [run.likeness for run in runs], lambda few: decode(protocol.seeds[0], few)
    )
    by_seed: list[Scores] = []
    order: list[Array] = []
    first = runs[0]
    for number, one in enumerate(track(seeds, f"{recording.subject}: decode")):
        run = runs[number] if number < 2 else decode(*one)
        shown = as_float(stimuli.read(run.rows.shown))
        by_seed.append(item_scores(shown, run.images, run.fold, run.rows, training))
        order.append(np.lexsort((run.rows.place, run.rows.shown)))
    mean, first_order, usable = mean_over_seeds(by_seed, order), order[0], folds[0][0].usable
    tested = first.rows.shown[first_order]
    columns = {name: one.scores for name, one in mean.items()}
    return DecodingResult(
        recording=recording,
        protocol=protocol,
        items=pd.DataFrame({"stimulus": tested, **_flat(columns)}),
        images={"shown": as_float(stimuli.read(tested))}
        | {name: values[first_order] for name, values in first.images.items()},
        metrics=decoding_metrics(mean),
        by_seed=pd.DataFrame([
            {"seed": seed, **_flat({name: one.estimate.value for name, one in scores.items()})}
            for seed, scores in zip(protocol.seeds, by_seed, strict=True)
        ]),
        counts={"units": len(usable), "constant_or_nan": int((~usable).sum())},
        fitted=first.fitted,
        zscore=first.zscore,
        resampling={**rows.facts, "training_share": training},
        prepared=folds[0][0],
    )  # fmt: skip


def stimuli_of(recording: Recording) -> Stimuli:
    """Return a recording's stimuli; raises `InputError` where it has none."""
    if recording.stimuli is None:
        raise InputError("Decoding needs image stimuli; this recording has none.")
    return recording.stimuli


def decoded_training_share(
    folds: Sequence[Sequence[Prepared]],
    likeness: Sequence[Array],
    decode: Callable[[Sequence[Prepared]], Decoded],
) -> float:
    """Return which share of the variance of what is decoded comes from the training items.

    See `brainkit.data.preparing.training_shares`; landmarks count by the variance they are given.
    """
    shares = training_shares(folds, list(likeness), lambda few: decode(few).likeness)
    weights = np.mean([(values**2).mean(axis=0) for values in likeness], axis=0)
    return float(np.average(shares, weights=weights)) if weights.sum() > 0 else 1.0


def _flat(scores: dict[tuple[str, str], Any]) -> dict[str, Any]:
    """Name columns ``metric`` for the reconstruction and ``metric/null`` for a null."""
    return {
        metric if kind == "reconstruction" else f"{metric}/{kind}": values
        for (metric, kind), values in scores.items()
    }


class RetrievalBank:
    """Images to choose from, with their features.

    Parameters
    ----------
    stimuli : Stimuli
        Where the images are.
    rows : array of int (n_bank,)
        Which of them are in the bank. Images that a decoder is tested on belong in it only if
        retrieval among them is what is measured.
    features : array (n_bank, n_features)
        Their features, in the decoder's space.
    """

    def __init__(self, stimuli: Stimuli, rows: Array, features: Array) -> None:
        if len(rows) != len(features) or not len(rows):
            raise InputError(
                f"A bank needs features for each of its images, at least one; got {len(rows)} "
                f"rows and {len(features)} features."
            )
        self.stimuli, self.rows, self.features = stimuli, np.asarray(rows), np.asarray(features)

    def nearest(self, decoded: Array) -> Array:
        """Return the stimulus row whose features correlate most with each decoded vector.

        Parameters
        ----------
        decoded : array (n, n_features)

        Returns
        -------
        array of int (n,)
        """
        similarity = _unit_rows(decoded) @ _unit_rows(self.features).T  # (n, n_bank)
        return np.asarray(self.rows[np.argmax(similarity, axis=1)])

    def images(self, decoded: Array) -> NDArray[np.float32]:
        """Return the nearest image of each decoded vector, float in [0, 1]."""
        return as_float(self.stimuli.read(self.nearest(decoded)))


def _unit_rows(values: Array) -> Array:
    centred = np.asarray(values, dtype=np.float64)
    centred = centred - centred.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(norm > 0, norm, 1.0)


def invert(space: Any, decoded: Array) -> NDArray[np.float32]:
    """Return the images that a feature space gives back for decoded features, clipped to [0, 1].

    Raises
    ------
    InputError
        If the space has no inverse.
    """
    if not hasattr(space, "inverse_transform"):
        raise InputError(
            f"{type(space).__name__} has no inverse, so decoded features cannot become images "
            "directly. Decode through a retrieval bank, or choose a space such as PixelPCA."
        )
    return np.clip(space.inverse_transform(decoded), 0, 1).astype(np.float32)


def fit_spaces(
    stimuli: Stimuli, folds: Sequence[Prepared], features: Any
) -> list[tuple[Any, Array]]:
    """Fit the feature space on each fold's training images; return it and their features."""
    spaces = []
    for fold in folds:
        space = clone(features)
        given = read_for(space, stimuli, fold.train_stimuli)
        spaces.append((space, space.fit_transform(given)))
    return spaces


def reconstruct(
    stimuli: Stimuli,
    folds: Sequence[Prepared],
    spaces: Sequence[tuple[Any, Array]],
    model: Any,
    back: str,
    landmarks: Array,
    *,
    seed: int = 0,
) -> Decoded:
    """Fit on each fold's training part and reconstruct the images of its test part.

    Parameters
    ----------
    spaces : sequence of (features, array)
        See `fit_spaces`.
    landmarks : array of int
        Stimulus rows, see `Decoded`.
    seed : int, default=0
        Of the nulls.
    """
    likeness, reconstructed, fitted = [], [], []
    for number, (fold, (space, Z)) in enumerate(zip(folds, spaces, strict=True)):
        X_train, X_test = fold.train[:, fold.usable], fold.test[:, fold.usable]
        generator = rng(seed, "exchanged brain", number)
        decoder, null = fit_with_null(
            model,
            X_train,
            Z,
            groups=fold.train_rows.groups,
            exchange=fold.train_rows.exchanged(generator),
            people=fold.train_people,
        )
        decoded = decoder.predict(X_test)
        by_chance = null.predict(X_test[fold.test_rows.exchanged(generator)])
        mean = Z.mean(axis=0, dtype=np.float64)
        known = space.transform(read_for(space, stimuli, landmarks))
        likeness.append((decoded - mean) @ (known - mean).T)  # (n_test, landmarks)
        bank = RetrievalBank(stimuli, fold.train_stimuli, Z)
        shown = stimuli.read(fold.train_stimuli)
        reconstructed.append(
            {
                "reconstruction": _back(bank, space, decoded, back),
                "nearest_training_image": bank.images(decoded),
                **_brainless(shown, fold, stimuli, rng(seed, "no brain", number)),
                "shuffled_brain": _back(bank, space, by_chance, back),
            }
        )
        fitted.append((space, decoder))
    return Decoded(
        rows=joined([fold.test_rows for fold in folds]),
        fold=np.repeat(np.arange(len(folds)), [fold.n_test for fold in folds]),
        likeness=np.concatenate(likeness),
        images={
            name: np.concatenate([images[name] for images in reconstructed])
            for name in reconstructed[0]
        },
        fitted=fitted[0],
        zscore=folds[0].zscore,
    )


def _back(bank: RetrievalBank, space: Any, decoded: Array, back: str) -> Array:
    """Return the images that decoded features become."""
    return bank.images(decoded) if back == "bank" else invert(space, decoded)


def _brainless(
    shown: Array, fold: Prepared, stimuli: Stimuli, generator: np.random.Generator
) -> dict[str, Array]:
    """Make the nulls that no response enters, from the training images alone."""
    n_test = len(fold.test_stimuli)
    mean = _mean_image(shown)
    nulls = {
        "mean_image": np.broadcast_to(mean, (n_test, *mean.shape)),
        "no_brain": as_float(shown[generator.integers(len(shown), size=n_test)]),
    }
    if stimuli.table is not None and "category" in stimuli.table:
        classes = stimuli.table["category"].to_numpy()
        train, test = classes[fold.train_stimuli], classes[fold.test_stimuli]
        known = pd.Series(train).dropna().unique()
        means = {name: _mean_image(shown[train == name]) for name in known}
        nulls["class_mean"] = np.stack([means.get(name, mean) for name in test])
    return nulls


def _mean_image(images: Array) -> Array:
    """Return the mean image in [0, 1], without the images as floating point."""
    floating = images.dtype.kind == "f"
    values = as_float(images) if floating else as_uint8(images)
    mean = values.mean(axis=0, dtype=np.float64)
    return (mean if floating else mean / 255).astype(np.float32)
