"""From the responses of one fold to all that images and sentences are made from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from brainkit.decoding.spread import to_length
from brainkit.errors import InputError, listed
from brainkit.linear.ridge_estimator import fit_rows
from brainkit.reconstruction.drawing import mean_image
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
        What images are retrieved by, in the space of the decoder that predicts it, such as
        standardised embeddings as ridge leaves them: ``"reconstruction"`` and ``"shuffled_brain"``.
    sought : dict of str to array (n, width)
        The images shown in the same spaces, by the same kinds.
    conditions : dict of str to Condition
        What each kind of image is drawn from.
    nearest : array of int (n,)
        Stimulus row of the training image nearest to each decoded embedding.
    mean_images : array (n_folds, height, width, 3)
        Mean of each fold's training images.
    sentences : dict of str to list of str
        The nulls that training captions give.
    fitted : (embedding model, latent model)
        The latter may be None.
    """

    rows: Rows
    fold: Array
    compared: dict[str, Array]
    sought: dict[str, Array]
    conditions: dict[str, Condition]
    nearest: Array
    mean_images: Array
    sentences: dict[str, list[str]]
    fitted: tuple[Any, Any]


def decode(
    folds: Sequence[Prepared],
    stimuli: Stimuli,
    parts: ReconstructionParts,
    seed: int,
    trials: Sequence[Prepared] | None = None,
) -> tuple[Decoded, float]:
    """Decode the test part of every fold, see `decode_fold`, and put them together.

    Parameters
    ----------
    folds, stimuli, parts, seed
        See `decode_fold`.
    trials : sequence of Prepared, optional
        The same folds, without averaged test trials.

    Returns
    -------
    decoded : Decoded
    training : float
        See `training_share_of`.
    """
    singles = [None] * len(folds) if trials is None else trials
    each = [
        decode_fold(fold, stimuli, parts, seed, number, single)
        for number, (fold, single) in enumerate(zip(folds, singles, strict=True))
    ]
    compared = [one.compared[MADE] for one in each]
    return join(each), training_share_of(folds, stimuli, parts, compared)


def decode_fold(
    fold: Prepared,
    stimuli: Stimuli,
    parts: ReconstructionParts,
    seed: int,
    number: int,
    trials: Prepared | None = None,
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
    trials : Prepared, optional
        The same fold with single test trials, each of which is decoded; what is decoded is averaged
        by image. Where not given, responses are averaged before.

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
    targets = parts.targets(stimuli, fold.train_stimuli)
    embeddings = parts.embeddings(stimuli, fold.train_stimuli) if parts.fused else targets
    training = Training(stimuli, fold.train_stimuli, embeddings, latents, targets)
    X_train, X_test = fold.train[:, fold.usable], fold.test[:, fold.usable]
    generator = rng(seed, "exchanged brain", number)
    if parts.fused:  # the decoder predicts the first alone, and retrieves by all
        model = clone(parts.embedding_model)
        model.set_params(fused_width=targets.shape[1] - embeddings.shape[1])
        parts = replace(parts, embedding_model=model)
    fitted, null = fit_models(
        training,
        X_train,
        parts,
        groups=fold.train_rows.groups,
        exchange=fold.train_rows.exchanged(generator),
        people=fold.train_people,
    )
    item = None
    if trials is not None:
        X_test = trials.test[:, fold.usable]
        order = np.argsort(rows)
        item = order[np.searchsorted(rows, trials.test_stimuli, sorter=order)]
    compared, condition = _decode(fitted, X_test, training, item)
    compared_null, condition_null = _decode(null, X_test, training, item)
    # Rows are decoded one by one, so that exchanging what is decoded exchanges the responses.
    exchanged = fold.test_rows.exchanged(generator)
    compared_null, condition_null = compared_null[exchanged], condition_null.part(exchanged)
    sought = parts.targets(stimuli, rows)
    true = parts.embeddings(stimuli, rows) if parts.fused else sought
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
        compared={MADE: compared, SHUFFLED: compared_null},
        sought={
            MADE: fitted[0].retrieval_targets(sought),
            SHUFFLED: null[0].retrieval_targets(sought),
        },
        conditions=conditions,
        nearest=nearest,
        mean_images=mean_image(stimuli, fold.train_stimuli, parts.image_size)[None],
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
            embeddings = parts.targets(stimuli, fold.train_stimuli)
            model = clone(parts.embedding_model)
            X_train, X_test = fold.train[:, fold.usable], fold.test[:, fold.usable]
            fit_rows(
                model,
                X_train,
                embeddings,
                groups=fold.train_rows.groups,
                people=fold.train_people,
            )
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
    people: Array | None = None,
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
    people : array of str (n,), optional
        Whose each response is, for decoders that tell people apart.

    Returns
    -------
    fitted, null : (embedding model, latent model)
        The latter is None without latents. All `EmbeddingDecoder` share the decompositions of the
        responses, which are most of the work.
    """
    shared: dict[str, Any] = {"groups": groups, "exchange": exchange}
    models = [parts.embedding_model]
    targets = [training.targets if training.targets is not None else training.embeddings]
    if training.latents is not None:
        models.append(parts.latent_model)
        targets.append(training.latents.reshape(len(training.latents), -1))
    fitted: list[Any] = [clone(model) for model in models]
    nulls: list[Any] = [None, None]
    together = [n for n, model in enumerate(models) if isinstance(model, EmbeddingDecoder)]
    if together:
        both, theirs = [fitted[n] for n in together], [targets[n] for n in together]
        for n, null in zip(together, fit_decoders(both, responses, theirs, **shared), strict=True):
            nulls[n] = null
    for n in set(range(len(models))) - set(together):
        fitted[n], nulls[n] = fit_with_null(
            models[n], responses, targets[n], people=people, **shared
        )
    return (fitted[0], fitted[1] if len(fitted) > 1 else None), (nulls[0], nulls[1])


def _decode(
    models: Models, test: Array, training: Training, item: Array | None
) -> tuple[Array, Condition]:
    """Return what images are retrieved by, and what to draw from; means by item, if it is given."""
    model, latent_model = models
    start = None
    if training.latents is not None:
        shape = training.latents.shape[1:]
        flat = np.asarray(latent_model.predict(test), dtype=np.float32)
        start = _by_item(flat, item).reshape(-1, *shape)
    compared, embeddings = model.predict_standardised(test), model.predict(test)
    if item is not None:  # a mean is shorter than what it is the mean of
        length = float(np.linalg.norm(embeddings, axis=1).mean(dtype=np.float64))
        embeddings = to_length(_by_item(embeddings, item), length)
    return _by_item(compared, item), Condition(embeddings, start)


def _by_item(values: Array, item: Array | None) -> Array:
    """Average the rows of each item, 0, 1, 2 ...; all of them as they are without items."""
    if item is None:
        return values
    sums = np.zeros((item.max() + 1, values.shape[1]))
    np.add.at(sums, item, values)
    return np.asarray(sums / np.bincount(item)[:, None], dtype=np.float32)


def join(folds: Sequence[Decoded]) -> Decoded:
    """Put the test items of several folds together, in the order of their stimulus rows."""
    rows = joined_rows([fold.rows for fold in folds])
    order = np.argsort(rows.shown, kind="stable")
    kinds = [kind for kind in folds[0].conditions if all(kind in f.conditions for f in folds)]
    captioned = [kind for kind in folds[0].sentences if all(kind in f.sentences for f in folds)]
    return Decoded(
        rows=rows.take(order),
        fold=np.concatenate([fold.fold for fold in folds])[order],
        compared=_concatenated([fold.compared for fold in folds], order),
        sought=_concatenated([fold.sought for fold in folds], order),
        conditions={
            kind: joined([fold.conditions[kind] for fold in folds]).part(order) for kind in kinds
        },
        nearest=np.concatenate([fold.nearest for fold in folds])[order],
        mean_images=np.concatenate([fold.mean_images for fold in folds]),
        sentences={
            kind: [[text for fold in folds for text in fold.sentences[kind]][n] for n in order]
            for kind in captioned
        },
        fitted=folds[0].fitted,
    )


def _concatenated(folds: Sequence[dict[str, Array]], order: Array) -> dict[str, Array]:
    """Put arrays of several folds together, by kind, and into an order."""
    return {kind: np.concatenate([one[kind] for one in folds])[order] for kind in folds[0]}
