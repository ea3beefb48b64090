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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from brainkit.arrays.progress import track
from brainkit.arrays.seeds import rng
from brainkit.data.preparing import AverageRepeats, Prepared, prepare
from brainkit.data.recording import Recording
from brainkit.data.stimuli import Stimuli
from brainkit.decoding.exchange import exchanged, fit_with_null
from brainkit.decoding.images import RetrievalBank, invert
from brainkit.decoding.scores import decoding_metrics, item_scores
from brainkit.errors import InputError, unknown_name
from brainkit.features import read_for
from brainkit.features.images import as_float

Array = NDArray[Any]


@dataclass(frozen=True)
class DecodingProtocol:
    """How a decoder is judged.

    Parameters
    ----------
    split : str
        Split preset.
    seeds : tuple of int
        Seeds of the folds; each image's scores are averaged over them.
    zscore, unseen, average_repeats
        See `brainkit.data.preparing.prepare`.
    back : {"inverse", "bank"}
        How decoded features become images: through the space's inverse, or as the nearest image
        of a bank, the training images.
    roi : str, optional
        Decode from these units only.
    """

    split: str
    seeds: tuple[int, ...] = (0,)
    zscore: str | None = "session"
    unseen: str | None = None
    average_repeats: AverageRepeats = True
    back: str = "inverse"
    roi: str | None = None

    def __post_init__(self) -> None:
        if not self.seeds:
            raise InputError("A decoder is judged with at least one seed; got none.")
        if self.back not in ("inverse", "bank"):
            raise unknown_name("way back to images", self.back, ("inverse", "bank"))


@dataclass(frozen=True)
class Decoded:
    """Held-out images of one pass over a split.

    Attributes
    ----------
    stimuli : array of int (items,)
        Stimulus row of each item.
    images : dict of str to float array (items, height, width[, 3])
        ``"reconstruction"`` and the nulls.
    fitted : (features, model)
        Of the first fold.
    """

    stimuli: Array
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
    stimuli = recording.stimuli
    if stimuli is None:
        raise InputError("Decoding needs image stimuli; this recording has none.")
    if protocol.roi is not None:
        recording = recording.select(roi=protocol.roi)
    by_seed: list[dict[tuple[str, str], Array]] = []
    for seed in track(protocol.seeds, f"{recording.subject}: decode"):
        folds = [
            prepare(
                fold,
                zscore=protocol.zscore,
                unseen=protocol.unseen,
                average_repeats=protocol.average_repeats,
            )
            for fold in recording.split(protocol.split, seed=seed)
        ]
        spaces = fit_spaces(stimuli, folds, features)
        run = reconstruct(stimuli, folds, spaces, model, protocol.back, seed=seed)
        scores = item_scores(as_float(stimuli.read(run.stimuli)), run.images)
        order = np.argsort(run.stimuli, kind="stable")
        if not by_seed:  # the images of the first seed are kept
            first, first_order, usable = run, order, folds[0].usable
        by_seed.append({name: values[order] for name, values in scores.items()})
    mean = {name: np.mean([s[name] for s in by_seed], axis=0) for name in by_seed[0]}
    return DecodingResult(
        recording=recording,
        protocol=protocol,
        items=pd.DataFrame({"stimulus": first.stimuli[first_order], **_flat(mean)}),
        images={"shown": as_float(stimuli.read(first.stimuli[first_order]))}
        | {name: values[first_order] for name, values in first.images.items()},
        metrics=decoding_metrics(mean),
        by_seed=pd.DataFrame([{"seed": seed, **_flat({k: v.mean() for k, v in s.items()})}
                              for seed, s in zip(protocol.seeds, by_seed, strict=True)]),
        counts={"units": len(usable), "constant_or_nan": int((~usable).sum())},
        fitted=first.fitted,
        zscore=first.zscore,
    )  # fmt: skip


def _flat(scores: dict[tuple[str, str], Any]) -> dict[str, Any]:
    """Name columns ``metric`` for the reconstruction and ``metric/null`` for a null."""
    return {
        metric if kind == "reconstruction" else f"{metric}/{kind}": values
        for (metric, kind), values in scores.items()
    }


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
    *,
    seed: int = 0,
) -> Decoded:
    """Fit on each fold's training part and reconstruct the images of its test part.

    Parameters
    ----------
    spaces : sequence of (features, array)
        See `fit_spaces`.
    seed : int, default=0
        Of the nulls.
    """
    rows, made, fitted = [], [], []
    for number, (fold, (space, Z)) in enumerate(zip(folds, spaces, strict=True)):
        X_train, X_test = fold.train[:, fold.usable], fold.test[:, fold.usable]
        generator = rng(seed, "exchanged brain", number)
        decoder, null = fit_with_null(
            model,
            X_train,
            Z,
            groups=fold.train_stimuli,
            exchange=exchanged(fold.train_stimuli, generator),
        )
        decoded = decoder.predict(X_test)
        by_chance = null.predict(X_test[generator.permutation(len(X_test))])
        bank = RetrievalBank(stimuli, fold.train_stimuli, Z)
        shown = stimuli.read(fold.train_stimuli)
        made.append(
            {
                "reconstruction": _back(bank, space, decoded, back),
                "nearest_training_image": bank.images(decoded),
                **_brainless(shown, fold, stimuli, rng(seed, "no brain", number)),
                "shuffled_brain": _back(bank, space, by_chance, back),
            }
        )
        rows.append(fold.test_stimuli)
        fitted.append((space, decoder))
    return Decoded(
        stimuli=np.concatenate(rows),
        images={name: np.concatenate([images[name] for images in made]) for name in made[0]},
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
    mean = images.mean(axis=0, dtype=np.float64)
    return (mean / 255 if images.dtype == np.uint8 else mean).astype(np.float32)
