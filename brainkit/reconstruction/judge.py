"""Is the right one found among n? Identification by a held-out judge, and retrieval.

Both compare an item with n - 1 distractors drawn from the other items. What is given is the share
of *all* such draws in which the right item comes first, which a count of the distractors that lose
determines exactly; drawing at random, thirty times say, would only estimate it.
"""

from collections.abc import Mapping
from math import lgamma
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError
from brainkit.evaluation import IDENTIFICATION_METRICS, identification, retrieval
from brainkit.evaluation.identification import (
    RETRIEVAL_DIRECTIONS,
    IdentificationDirection,
    RetrievalDirection,
)

Array = NDArray[Any]
DIRECTIONS: tuple[IdentificationDirection, ...] = (
    "image_given_reconstruction",
    "reconstruction_given_image",
)


def share_of_draws(
    beaten: ArrayLike, tied: ArrayLike, n_others: int, n: int
) -> NDArray[np.float64]:
    r"""Return in what share of the draws of n - 1 distractors the right item comes first.

    With b of the N others beaten by the right item and t tied with it, ties being broken at
    random:

    .. math:: \frac{1}{t + 1} \sum_{j=0}^{t} \binom{b + j}{n - 1} \Big/ \binom{N}{n - 1}

    Parameters
    ----------
    beaten, tied : array of int (n_items,)
        Others less similar than the right one, and exactly as similar.
    n_others : int
        N.
    n : int
        Items that are compared, the right one among them; 2 to N + 1.

    Returns
    -------
    array (n_items,)
        Chance is 1 / n.
    """
    if not 2 <= n <= n_others + 1:
        raise InputError(
            f"One in {n} cannot be asked of {n_others + 1} items: give 2 to {n_others + 1}."
        )
    ways = np.array([_log_binomial(count, n - 1) for count in range(n_others + 1)])
    share = np.exp(ways - ways[-1])  # of draws that hold none but `count` of the others
    return np.array(
        [
            share[b : b + t + 1].mean()
            for b, t in zip(np.asarray(beaten), np.asarray(tied), strict=True)
        ]
    )


def _log_binomial(total: int, chosen: int) -> float:
    if chosen > total:
        return -np.inf
    return lgamma(total + 1) - lgamma(chosen + 1) - lgamma(total - chosen + 1)


def identification_among(
    reconstructions: ArrayLike,
    images: ArrayLike,
    direction: IdentificationDirection,
    *,
    n: int = 50,
) -> NDArray[np.float64]:
    """Return for each item how often it is identified among n, by Pearson correlation.

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

    Returns
    -------
    array (n_items,)
        In [0, 1]; chance is 1 / n. Ties are broken at random.

    Raises
    ------
    InputError
        If there are fewer items than n, or as `brainkit.evaluation.identification` raises.
    """
    lost_ties = identification(reconstructions, images, direction, ties="failure")
    half_ties = identification(reconstructions, images, direction, ties="half")
    n_others = len(lost_ties) - 1
    beaten = np.rint(lost_ties * n_others).astype(int)
    tied = np.rint(2 * (half_ties - lost_ties) * n_others).astype(int)
    return share_of_draws(beaten, tied, n_others, n)


def retrieval_among(
    brain: ArrayLike, images: ArrayLike, direction: RetrievalDirection, *, n: int = 300
) -> NDArray[np.float64]:
    """Return for each query how often the right item is the most similar of n, by cosine.

    Parameters
    ----------
    brain, images : array (n_items, width)
        Embeddings predicted from the brain, and those of the images shown.
    direction : {"image_from_brain", "brain_from_image"}
        What is looked for, from what, as in `brainkit.evaluation.retrieval`.
    n : int, default=300
        Size of the gallery.

    Returns
    -------
    array (n_items,)
        In [0, 1]; chance is 1 / n. An item exactly as similar as the right one counts against it.

    Raises
    ------
    InputError
        If there are fewer items than n, or as `brainkit.evaluation.retrieval` raises.
    """
    pair = (brain, images) if direction == "image_from_brain" else (images, brain)
    ranks = retrieval(*pair, direction=direction, gallery_name="test-images").ranks
    n_others = len(ranks) - 1
    return share_of_draws(n_others - ranks, np.zeros_like(ranks), n_others, n)


def judge_scores(
    judges: Mapping[str, Any], shown: Array, images: Mapping[str, Array], n: int
) -> dict[tuple[str, str], Array]:
    """Identify each kind of image among n by each judge, in both directions.

    Parameters
    ----------
    judges : mapping of str to transformer
        Held-out networks, images → features; nothing is fitted.
    shown : array (n_items, height, width, 3)
        In [0, 1].
    images : mapping of str to array like `shown`
    n : int

    Returns
    -------
    dict of (metric, kind) to array (n_items,)
        Metrics are named such as ``identification_image_given_reconstruction_top1[judge]``.
    """
    scores: dict[tuple[str, str], Array] = {}
    for name, judge in judges.items():
        truth = judge.transform(shown)
        for kind, made in images.items():
            seen = judge.transform(made)
            for direction in DIRECTIONS:
                metric = judge_metric(direction, name)
                scores[metric, kind] = identification_among(seen, truth, direction, n=n)
    return scores


def judge_metric(direction: IdentificationDirection, judge: str) -> str:
    """Return the id of identification by a judge; scores of different judges do not compare."""
    return f"{IDENTIFICATION_METRICS[direction]}_top1[{judge}]"


def retrieval_metric(direction: RetrievalDirection) -> str:
    """Return the id of retrieval in a direction."""
    return f"retrieval_{direction}_top1"


def retrieval_scores(
    kinds: Mapping[str, Array], images: Array, n: int
) -> dict[tuple[str, str], Array]:
    """Retrieve 1 in n in both directions for each kind of predicted embedding.

    Returns
    -------
    dict of (metric, kind) to array (n_items,)
    """
    return {
        (retrieval_metric(direction), kind): retrieval_among(brain, images, direction, n=n)
        for kind, brain in kinds.items()
        for direction in RETRIEVAL_DIRECTIONS
    }
