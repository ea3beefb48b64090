"""Is the right one found among n? Identification by a held-out judge, and retrieval.

Both compare an item with n - 1 distractors drawn from the other items of its fold. What is given is
the share of *all* such draws in which the right item comes first, which a count of the distractors
that lose determines exactly; drawing at random, thirty times say, would only estimate it.
"""

from collections.abc import Mapping
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
from brainkit.reconstruction.scores import Scores

Array = NDArray[Any]
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
    found = identification_contest(reconstructions, images, direction, score=first_among(n), **rows)
    return _among(found, n)


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


def _among(found: ItemScores, n: int) -> ItemScores:
    others = found.fewest_rivals or 0
    if not 2 <= n <= others + 1:
        raise InputError(
            f"One in {n} cannot be asked of {others + 1} items (of a fold): give 2 to {others + 1}."
        )
    return found


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
        for kind, made in images.items():
            seen = judge.transform(made)
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
