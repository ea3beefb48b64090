"""From the responses of one fold to all that images and sentences are made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from brainkit.arrays.seeds import rng
from brainkit.data.preparing import Prepared
from brainkit.data.stimuli import Stimuli
from brainkit.errors import InputError, listed
from brainkit.reconstruction.nulls import (
    Condition,
    Training,
    caption_nulls,
    classes_of,
    joined,
    mean_conditions,
    nearest_training,
)
from brainkit.reconstruction.parts import ReconstructionParts
from brainkit.reconstruction.scores import MADE, TRUE

Array = NDArray[Any]
SHUFFLED = "shuffled_brain"


@dataclass(frozen=True)
class Decoded:
    """Test items decoded from the brain, and the nulls beside them.

    Attributes
    ----------
    rows : array of int (n,)
        Stimulus row of each item.
    compared : dict of str to array (n, width)
        Standardised embeddings: ``"reconstruction"`` and ``"shuffled_brain"`` as ridge leaves
        them, ``"true_embedding"`` those of the images shown.
    conditions : dict of str to Condition
        What each kind of image is drawn from.
    nearest : array of int (n,)
        Stimulus row of the training image nearest to each decoded embedding.
    sentences : dict of str to list of str
        The nulls that training captions give.
    fitted : (embedding model, latent model)
        The latter may be None.
    """

    rows: Array
    compared: dict[str, Array]
    conditions: dict[str, Condition]
    nearest: Array
    sentences: dict[str, list[str]]
    fitted: tuple[Any, Any]


def decode(
    folds: Sequence[Prepared], stimuli: Stimuli, parts: ReconstructionParts, seed: int
) -> Decoded:
    """Decode the test part of every fold, see `decode_fold`, and put them together."""
    return join(
        [decode_fold(fold, stimuli, parts, seed, number) for number, fold in enumerate(folds)]
    )


def decode_fold(
    fold: Prepared, stimuli: Stimuli, parts: ReconstructionParts, seed: int, number: int
) -> Decoded:
    """Fit on a fold's training part and decode its test part.

    Parameters
    ----------
    fold : Prepared
    stimuli : Stimuli
    parts : ReconstructionParts
    seed : int
        Of the exchanged responses and the captions at random.
    number : int
        Of the fold.

    Raises
    ------
    InputError
        If an image is tested twice.
    """
    rows = fold.test_stimuli
    unique, counts = np.unique(rows, return_counts=True)
    repeated = unique[counts > 1]
    if repeated.size:
        raise InputError(f"Test images appear more than once: stimulus rows {listed(repeated)}.")
    latents = parts.latents(stimuli, fold.train_stimuli)
    embeddings = parts.embeddings(stimuli, fold.train_stimuli)
    training = Training(stimuli, fold.train_stimuli, embeddings, latents)
    X_train, X_test = fold.train[:, fold.usable], fold.test[:, fold.usable]
    compared, condition, fitted = _decode(training, X_train, X_test, parts)
    generator = rng(seed, "exchanged brain", number)
    X_train = X_train[generator.permutation(len(X_train))]
    X_test = X_test[generator.permutation(len(X_test))]
    compared_null, condition_null, _ = _decode(training, X_train, X_test, parts)
    true = parts.embeddings(stimuli, rows)
    nearest = nearest_training(training, fitted[0], compared)
    sentences = caption_nulls(training, nearest, rng(seed, "captions at random", number))
    conditions = {
        MADE: condition,
        TRUE: Condition(true),
        SHUFFLED: condition_null,
        **mean_conditions(training, classes_of(stimuli, rows), len(rows)),
    }
    if "caption_prior" in sentences:
        conditions["caption_prior"] = Condition(text=sentences["caption_prior"])
    conditions["no_brain"] = Condition()
    return Decoded(
        rows=rows,
        compared={
            MADE: compared,
            TRUE: fitted[0].standardise(true),
            SHUFFLED: compared_null,
        },
        conditions=conditions,
        nearest=nearest,
        sentences=sentences,
        fitted=fitted,
    )


def _decode(
    training: Training, train: Array, test: Array, parts: ReconstructionParts
) -> tuple[Array, Condition, tuple[Any, Any]]:
    """Fit both decoders; return standardised embeddings, what to draw from, and the decoders."""
    model = clone(parts.embedding_model)
    model.fit(train, training.embeddings, groups=training.rows)
    start, latent_model = None, None
    if training.latents is not None:
        latent_model = clone(parts.latent_model)
        shape = training.latents.shape[1:]
        flat = training.latents.reshape(len(training.latents), -1)
        latent_model.fit(train, flat, groups=training.rows)
        start = np.asarray(latent_model.predict(test), dtype=np.float32).reshape(-1, *shape)
    condition = Condition(model.predict(test), start)
    return model.predict_standardised(test), condition, (model, latent_model)


def join(folds: Sequence[Decoded]) -> Decoded:
    """Put the test items of several folds together, in the order of their stimulus rows."""
    rows = np.concatenate([fold.rows for fold in folds])
    order = np.argsort(rows, kind="stable")
    kinds = [kind for kind in folds[0].conditions if all(kind in f.conditions for f in folds)]
    said = [kind for kind in folds[0].sentences if all(kind in f.sentences for f in folds)]
    return Decoded(
        rows=rows[order],
        compared={
            kind: np.concatenate([fold.compared[kind] for fold in folds])[order]
            for kind in folds[0].compared
        },
        conditions={
            kind: joined([fold.conditions[kind] for fold in folds]).part(order) for kind in kinds
        },
        nearest=np.concatenate([fold.nearest for fold in folds])[order],
        sentences={
            kind: [[text for fold in folds for text in fold.sentences[kind]][n] for n in order]
            for kind in said
        },
        fitted=folds[0].fitted,
    )
