"""From the responses of one fold to all that images and sentences are made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from brainkit.arrays.seeds import rng
from brainkit.data.dependence import Rows
from brainkit.data.dependence import joined as joined_rows
from brainkit.data.preparing import Prepared, training_shares
from brainkit.data.stimuli import Stimuli
from brainkit.decoding.ridge_decoder import fit_with_null
from brainkit.errors import InputError, listed
from brainkit.linear.ridge_estimator import fit_rows
from brainkit.reconstruction.embeddings import EmbeddingDecoder, fit_decoders
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
Models = tuple[Any, Any]  # of embeddings, of latents
SHUFFLED = "shuffled_brain"


@dataclass(frozen=True)
class Decoded:
    """Test items decoded from the brain, and the nulls beside them.

    Attributes
    ----------
    rows : Rows
        What each item shows, and which belong together.
    fold : array of int (n,)
        Fold that each item was held out in.
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

    rows: Rows
    fold: Array
    compared: dict[str, Array]
    conditions: dict[str, Condition]
    nearest: Array
    sentences: dict[str, list[str]]
    fitted: tuple[Any, Any]


def decode(
    folds: Sequence[Prepared], stimuli: Stimuli, parts: ReconstructionParts, seed: int
) -> tuple[Decoded, float]:
    """Decode the test part of every fold, see `decode_fold`, and put them together.

    Returns
    -------
    decoded : Decoded
    training : float
        See `training_share_of`.
    """
    each = [decode_fold(fold, stimuli, parts, seed, number) for number, fold in enumerate(folds)]
    compared = [one.compared[MADE] for one in each]
    return join(each), training_share_of(folds, stimuli, parts, compared)


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
        Of the exchanged images and the captions at random.
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
    generator = rng(seed, "exchanged brain", number)
    fitted, null = fit_models(
        training,
        X_train,
        parts,
        groups=fold.train_rows.groups,
        exchange=fold.train_rows.exchanged(generator),
    )
    compared, condition = _decode(fitted, X_test, training)
    X_exchanged = X_test[fold.test_rows.exchanged(generator)]
    compared_null, condition_null = _decode(null, X_exchanged, training)
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
        rows=fold.test_rows,
        fold=np.full(len(rows), number),
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


def training_share_of(
    folds: Sequence[Prepared],
    stimuli: Stimuli,
    parts: ReconstructionParts,
    decoded: Sequence[Array],
) -> float:
    """Return which share of the decoded embeddings' variance comes from the training items.

    Parameters
    ----------
    folds : sequence of Prepared
    stimuli : Stimuli
    parts : ReconstructionParts
    decoded : sequence of array (items, width)
        Standardised embeddings of each fold's test items, in their order.
    """

    def refit(few: Sequence[Prepared]) -> Array:
        predictions = []
        for fold in few:
            embeddings = parts.embeddings(stimuli, fold.train_stimuli)
            model = clone(parts.embedding_model)
            X_train, X_test = fold.train[:, fold.usable], fold.test[:, fold.usable]
            fit_rows(model, X_train, embeddings, groups=fold.train_rows.groups)
            predictions.append(model.predict_standardised(X_test))
        return np.concatenate(predictions)

    return float(training_shares([folds], [np.concatenate(decoded)], refit).mean())


def fit_models(
    training: Training,
    responses: Array,
    parts: ReconstructionParts,
    *,
    groups: Array,
    exchange: Array,
) -> tuple[Models, Models]:
    """Fit the decoders of embeddings and of latents, to the training part and to exchanged images.

    Parameters
    ----------
    training : Training
    responses : array (n, units)
        Of the training images.
    parts : ReconstructionParts
    groups : array of int (n,)
        Samples of one group stay in one inner fold.
    exchange : array of int (n,)
        For each response another one, whose image it is now said to have been evoked by.

    Returns
    -------
    fitted, null : (embedding model, latent model)
        The latter is None without latents. All `EmbeddingDecoder` share the decompositions of the
        responses, which are most of the work.
    """
    shared: dict[str, Any] = {"groups": groups, "exchange": exchange}
    model = clone(parts.embedding_model)
    if training.latents is None:
        (null,) = fit_decoders([model], responses, [training.embeddings], **shared)
        return (model, None), (null, None)
    flat = training.latents.reshape(len(training.latents), -1)
    if isinstance(parts.latent_model, EmbeddingDecoder):
        latent_model = clone(parts.latent_model)
        both = [model, latent_model]
        null, latent_null = fit_decoders(both, responses, [training.embeddings, flat], **shared)
    else:
        (null,) = fit_decoders([model], responses, [training.embeddings], **shared)
        latent_model, latent_null = fit_with_null(parts.latent_model, responses, flat, **shared)
    return (model, latent_model), (null, latent_null)


def _decode(models: Models, test: Array, training: Training) -> tuple[Array, Condition]:
    """Return standardised embeddings, and what to draw from."""
    model, latent_model = models
    start = None
    if training.latents is not None:
        shape = training.latents.shape[1:]
        start = np.asarray(latent_model.predict(test), dtype=np.float32).reshape(-1, *shape)
    return model.predict_standardised(test), Condition(model.predict(test), start)


def join(folds: Sequence[Decoded]) -> Decoded:
    """Put the test items of several folds together, in the order of their stimulus rows."""
    rows = joined_rows([fold.rows for fold in folds])
    order = np.argsort(rows.shown, kind="stable")
    kinds = [kind for kind in folds[0].conditions if all(kind in f.conditions for f in folds)]
    captioned = [kind for kind in folds[0].sentences if all(kind in f.sentences for f in folds)]
    return Decoded(
        rows=rows.take(order),
        fold=np.concatenate([fold.fold for fold in folds])[order],
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
            for kind in captioned
        },
        fitted=folds[0].fitted,
    )
