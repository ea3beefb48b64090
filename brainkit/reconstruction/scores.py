"""Scores of reconstructions: identification by held-out judges, retrieval, and what is named."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError
from brainkit.evaluation import IDENTIFICATION_METRICS
from brainkit.evaluation.identification import (
    RETRIEVAL_DIRECTIONS,
    IdentificationDirection,
    RetrievalDirection,
    first_among,
    identification_contest,
    retrieval_contest,
)
from brainkit.evaluation.intervals import ItemScores
from brainkit.evaluation.metrics import metric_entry

# -- from scores of items to metrics: value, interval, every null with its own interval ------------


Array = NDArray[Any]
# By (metric, kind of image).
Scores = dict[tuple[str, str], ItemScores]

MADE = "reconstruction"
TRUE = "true_embedding"


def summarise(
    scores: Mapping[tuple[str, str], ItemScores],
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Sum scores up by metric id.

    Parameters
    ----------
    scores : mapping of (metric, kind) to ItemScores
        Kinds are ``"reconstruction"``, ``"true_embedding"`` and the nulls.
    settings : mapping of str to mapping, optional
        What the preset of a metric leaves open, and ``"n"``, the candidates that its items choose
        from.

    Returns
    -------
    dict
        As in ``metrics.json``, see `brainkit.evaluation.metrics.metric_entry`. Intervals are over
        images. ``"true_embedding"`` holds what the embeddings of the shown images themselves reach.
    """
    metrics: dict[str, Any] = {}
    for (metric, kind), one in scores.items():
        if kind != MADE:
            continue
        others = {
            k: v.estimate for (m, k), v in scores.items() if m == metric and k not in (MADE, TRUE)
        }
        known = dict((settings or {}).get(metric, {}))
        entry = metric_entry(
            metric,
            one.estimate,
            nulls=others,
            n_candidates=known.pop("n", None),
            settings=known,
        )
        if (metric, TRUE) in scores:
            reached = scores[metric, TRUE].estimate.interval()
            entry[TRUE] = {
                "value": reached.value,
                "ci": [reached.low, reached.high],
                "n": reached.n,
            }
        metrics[metric] = entry
    return metrics


def item_columns(scores: Mapping[tuple[str, str], ItemScores]) -> dict[str, Array]:
    """Name the columns of a table of items: ``metric``, or ``metric/kind`` for all other kinds."""
    return {
        metric if kind == MADE else f"{metric}/{kind}": np.asarray(one.scores)
        for (metric, kind), one in scores.items()
    }


# -- is the right one found among n? Identification by a held-out judge, and retrieval -------------
#
# Both compare an item with n - 1 distractors drawn from the other items of its fold. What is given
# is the share of *all* such draws in which the right item comes first, which a count of the
# distractors that lose determines exactly; drawing at random, thirty times say, would only
# estimate it.


DIRECTIONS: tuple[IdentificationDirection, ...] = (
    "image_given_reconstruction",
    "reconstruction_given_image",
)


def identification_among(
    reconstructions: ArrayLike,
    images: ArrayLike,
    direction: IdentificationDirection,
    *,
    n: int = 50,
    **rows: Any,
) -> ItemScores:
    """Tell how often each item is identified among n, by Pearson correlation.

    Parameters
    ----------
    reconstructions, images : array (n_items, ...)
        A judge's features; row i of one belongs to row i of the other.
    direction : {"image_given_reconstruction", "reconstruction_given_image"}
        Which side is given, as in `brainkit.evaluation.identification`: with
        ``"image_given_reconstruction"`` the reconstruction is given and its image is looked for
        among n images.
    n : int, default=50
        Images (or reconstructions) to choose from.
    **rows
        ``fold``, ``image``, ``units`` and ``training``, see
        `brainkit.evaluation.identification.contest`.

    Returns
    -------
    ItemScores
        In [0, 1]; chance is 1 / n. Ties are broken at random.

    Raises
    ------
    InputError
        If an item has fewer than n - 1 others in its fold, or as
        `brainkit.evaluation.identification` raises.
    """
    contest = identification_contest(
        reconstructions, images, direction, score=first_among(n), **rows
    )
    return _among(contest, n)


def retrieval_among(
    brain: ArrayLike,
    images: ArrayLike,
    direction: RetrievalDirection,
    *,
    n: int = 300,
    **rows: Any,
) -> ItemScores:
    """Tell how often the right item is the most similar of n to each query, by cosine.

    Parameters
    ----------
    brain, images : array (n_items, width)
        Embeddings predicted from the brain, and those of the images shown.
    direction : {"image_from_brain", "brain_from_image"}
        What is looked for, from what, as in `brainkit.evaluation.retrieval`.
    n : int, default=300
        Size of the gallery.
    **rows
        As for `identification_among`.

    Returns
    -------
    ItemScores
        In [0, 1]; chance is 1 / n. Ties are broken at random.

    Raises
    ------
    InputError
        If an item has fewer than n - 1 others in its fold, or as
        `brainkit.evaluation.retrieval` raises.
    """
    return _among(retrieval_contest(brain, images, direction, score=first_among(n), **rows), n)


def _among(scores: ItemScores, n: int) -> ItemScores:
    others = scores.fewest_rivals or 0
    if not 2 <= n <= others + 1:
        raise InputError(
            f"One in {n} cannot be asked of {others + 1} items (of a fold): give 2 to {others + 1}."
        )
    return scores


def judge_scores(
    judges: Mapping[str, Any],
    shown: Array,
    images: Mapping[str, Array],
    n: int,
    **rows: Any,
) -> Scores:
    """Identify each kind of image among n by each judge, in both directions.

    Parameters
    ----------
    judges : mapping of str to transformer
        Held-out networks, images → features; nothing is fitted.
    shown : array (n_items, height, width, 3)
        In [0, 1].
    images : mapping of str to array like `shown`
    n : int
    **rows
        As for `identification_among`.

    Returns
    -------
    dict of (metric, kind) to ItemScores
        Metrics are named such as ``identification_image_given_reconstruction_top1[judge]``.
    """
    scores: Scores = {}
    for name, judge in judges.items():
        truth = judge.transform(shown)
        for kind, drawn in images.items():
            seen = judge.transform(drawn)
            for direction in DIRECTIONS:
                metric = judge_metric(direction, name)
                scores[metric, kind] = identification_among(seen, truth, direction, n=n, **rows)
    return scores


def judge_metric(direction: IdentificationDirection, judge: str) -> str:
    """Return the id of identification by a judge; scores of different judges do not compare."""
    return f"{IDENTIFICATION_METRICS[direction]}_top1[{judge}]"


def retrieval_metric(direction: RetrievalDirection) -> str:
    """Return the id of retrieval in a direction."""
    return f"retrieval_{direction}_top1"


def retrieval_scores(kinds: Mapping[str, Array], images: Array, n: int, **rows: Any) -> Scores:
    """Retrieve 1 in n in both directions for each kind of predicted embedding.

    Returns
    -------
    dict of (metric, kind) to ItemScores
    """
    return {
        (retrieval_metric(direction), kind): retrieval_among(brain, images, direction, n=n, **rows)
        for kind, brain in kinds.items()
        for direction in RETRIEVAL_DIRECTIONS
    }


def fewest_in_a_fold(fold: Array) -> int:
    """Return how many items the smallest fold has."""
    return int(np.unique(fold, return_counts=True)[1].min())


# -- whether a sentence names what an image mainly shows -------------------------------------------
#
# The main category is that of the largest object, and captions tell of the largest object first,
# so it is the category named *first* that counts: a caption that lists every category names them
# all.


Words = Mapping[str, Sequence[str]]


def words_for(categories: Sequence[str], synonyms: Sequence[Sequence[str]] = ()) -> Words:
    """Return the words of some categories: their own names, and what else they are called.

    Parameters
    ----------
    categories : sequence of str
        May come several times.
    synonyms : sequence of (sequence of str), optional
        Of each of `categories`, as the column ``synonyms`` of a dataset's stimuli has them.
    """
    more = dict(zip(categories, synonyms, strict=False))
    return {
        name: tuple(dict.fromkeys(word.lower() for word in (name, *more.get(name, ()))))
        for name in dict.fromkeys(categories)
    }


def first_named(sentence: str, words: Words) -> str | None:
    """Return the category that a sentence names first, or None.

    Parameters
    ----------
    sentence : str
    words : mapping of str to sequence of str
        For each category the words that name it; whole words, in any case. Of two that begin at
        the same place the longer counts.

    Raises
    ------
    InputError
        If one word names two categories.
    """
    category_of = _category_of(words)
    by_length = sorted(category_of, key=len, reverse=True)
    pattern = "|".join(re.escape(word) for word in by_length)
    match = re.search(rf"\b(?:{pattern})\b", sentence.lower())
    return None if match is None else category_of[match.group()]


def _category_of(words: Words) -> dict[str, str]:
    category_of: dict[str, str] = {}
    for category, names in words.items():
        for word in names:
            other = category_of.setdefault(word.lower(), category)
            if other != category:
                raise InputError(f"The word {word!r} names both {other!r} and {category!r}.")
    if not category_of:
        raise InputError("There are no words for any category; give at least one.")
    return category_of


def names_category(
    sentences: Sequence[str], categories: Sequence[str], words: Words | None = None
) -> NDArray[np.float64]:
    """Tell for each sentence whether the category that it names first is the right one.

    Parameters
    ----------
    sentences : sequence of str
    categories : sequence of str
        Of each image's largest object.
    words : mapping of str to sequence of str, optional
        See `first_named`; the categories' own names where not given.

    Returns
    -------
    array (n_sentences,)
        1 or 0.

    Raises
    ------
    InputError
        If there are not as many categories as sentences, or a category has no words.
    """
    if len(sentences) != len(categories):
        raise InputError(
            f"There are {len(sentences)} sentences and {len(categories)} categories; give pairs."
        )
    known = words_for(categories) if words is None else words
    lacking = sorted({str(name) for name in categories} - set(known))
    if lacking:
        raise InputError(f"There are no words for the categories {', '.join(lacking)}.")
    return np.array(
        [
            float(first_named(text, known) == name)
            for text, name in zip(sentences, categories, strict=True)
        ]
    )
