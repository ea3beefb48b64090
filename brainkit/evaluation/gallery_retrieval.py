"""Retrieval from whole galleries, of any size, and from galleries drawn at random.

A retrieval names its direction and its gallery: what is looked for, from what, and among what. The
share of brains that find their image and that of images that find their brain differ, and 200 test
images are another gallery than the centroids of 200 classes of other images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError, LeakError, listed, unknown_name
from brainkit.evaluation.checked_arrays import (
    TIE_TOLERANCE,
    RowDirections,
    column_batches,
    item_rows,
    row_directions,
)
from brainkit.evaluation.identification import (
    RETRIEVAL_DIRECTIONS,
    Float,
    RetrievalDirection,
    Similarity,
    first_among,
    retrieval_contest,
    similarity_matrix,
)
from brainkit.evaluation.intervals import ItemScores, group_labels, group_members

_BLOCK_BYTES = 64 * 2**20  # of single-precision similarities that are held at once
_PAIR_CELLS = 2**18  # numbers of pairs that are compared again in double precision at once
_MOST_UNSURE = 0.02  # share of a block above which all of it is computed again
# Vectors so long that single precision would settle too little.
_LONGEST = 2**14


@dataclass(frozen=True)
class RetrievalResult:
    """Outcome of a retrieval, which names its direction and its gallery.

    Attributes
    ----------
    metric : str
        ``"retrieval_image_from_brain_top1"`` or its like.
    gallery : str
        What the queries were compared with, such as ``"test-images"``.
    ranks : numpy.ndarray of shape (n_queries,)
        Gallery items at least as similar to the query as the right one; 0 is best.
    k : int
        A query succeeds where its rank is below k.
    sizes : numpy.ndarray of shape (n_queries,)
        Gallery items that each query chose from, the right one among them.
    """

    metric: str
    gallery: str
    ranks: NDArray[np.intp]
    k: int
    sizes: NDArray[np.intp]

    @property
    def id(self) -> str:
        """The metric with its gallery; scores of different ids do not compare."""
        return f"{self.metric}[{self.gallery}]"

    @property
    def hits(self) -> NDArray[np.bool_]:
        """Whether each query succeeded; shape (n_queries,)."""
        return self.ranks < self.k

    @property
    def value(self) -> float:
        """Share of queries that succeeded."""
        return float(self.hits.mean())

    @property
    def chance(self) -> float:
        """Share that guessing would reach, the mean of k / n_gallery over queries."""
        return float(np.minimum(self.k / self.sizes, 1.0).mean())

    @property
    def median_rank(self) -> float:
        """Median place of the right item, 1 being the best; lower is better."""
        return float(np.median(self.ranks)) + 1.0

    @property
    def n_gallery(self) -> int:
        """Largest number of gallery items that a query chose from."""
        return int(self.sizes.max())


def retrieval(
    queries: ArrayLike,
    gallery: ArrayLike,
    *,
    direction: RetrievalDirection,
    gallery_name: str,
    truth: ArrayLike | None = None,
    k: int = 1,
    similarity: Similarity = "cosine",
    fold: ArrayLike | None = None,
    image: ArrayLike | None = None,
) -> RetrievalResult:
    """Rank a gallery by its similarity to each query and ask where the right item comes.

    Parameters
    ----------
    queries : array_like of shape (n_queries, ...)
        Brain embeddings for ``"image_from_brain"``, image embeddings for ``"brain_from_image"``.
    gallery : array_like of shape (n_gallery, ...)
        Embeddings of the other side.
    direction : {"image_from_brain", "brain_from_image"}
        What is looked for, from what.
    gallery_name : str
        What the gallery holds, such as ``"test-images"`` or ``"class-centroids"``; part of the
        result's id.
    truth : array_like of int of shape (n_queries,), optional
        Row of the gallery that is right for each query; row i for query i when not given.
    k : int, default 1
        A query succeeds where the right item is among the k most similar.
    similarity : {"cosine", "pearson"}, default "cosine"
        Measure by which flattened vectors are compared.
    fold : array_like of shape (n_gallery,), optional
        Fold that each gallery item was held out in; a query is compared with those of its right
        item's fold alone.
    image : array_like of shape (n_gallery,), optional
        The image that each gallery item belongs to. Further items of the right item's image, such
        as unaveraged repeats, are no distractors; all images differ where not given.

    Returns
    -------
    RetrievalResult
        Its ``id`` is such as ``"retrieval_image_from_brain_top1[test-images]"``. A gallery item
        exactly as similar as the right one counts against it. Beside its arguments the search
        needs copies of them in float32, and blocks of bounded size.

    Raises
    ------
    InputError
        If the shapes do not fit, an index of `truth` or `k` is out of range, the gallery has no
        name, or values are not finite.
    """
    if direction not in RETRIEVAL_DIRECTIONS:
        raise unknown_name("retrieval direction", direction, RETRIEVAL_DIRECTIONS)
    if not gallery_name.strip():
        raise InputError("gallery_name is empty: name what the queries are compared with.")
    asked, shown = item_rows(queries, "queries"), item_rows(gallery, "gallery")
    if not 1 <= k <= len(shown):
        raise InputError(f"k={k}, expected 1 to {len(shown)}, the size of the gallery.")
    right = _gallery_rows(truth, len(asked), len(shown))
    folds = None if fold is None else group_labels(fold, len(shown), "fold")
    images = None if image is None else group_labels(image, len(shown), "image")
    ranks, sizes = _ranks(asked, shown, right, similarity, folds, images)
    metric = f"retrieval_{direction}_top{k}"
    return RetrievalResult(metric, gallery_name.strip(), ranks, k, sizes)


def _gallery_rows(truth: ArrayLike | None, n_queries: int, n_gallery: int) -> NDArray[np.intp]:
    if truth is None:
        if n_queries != n_gallery:
            raise InputError(
                f"There are {n_queries} queries and {n_gallery} gallery items: give `truth`, the "
                "gallery row that is right for each query."
            )
        return np.arange(n_queries)
    rows = np.asarray(truth)
    if rows.shape != (n_queries,) or rows.dtype.kind not in "iu":
        raise InputError(
            f"truth has shape {rows.shape} and dtype {rows.dtype}, "
            f"expected ({n_queries},) integers."
        )
    outside = rows[(rows < 0) | (rows >= n_gallery)]
    if outside.size:
        raise InputError(
            f"truth names gallery rows {listed(outside)}, but the gallery has rows 0 to "
            f"{n_gallery - 1}."
        )
    return rows.astype(np.intp)


def _ranks(
    asked: NDArray[np.generic],
    shown: NDArray[np.generic],
    right: NDArray[np.intp],
    similarity: Similarity,
    folds: NDArray[np.intp] | None,
    images: NDArray[np.intp] | None,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return each query's rivals that are at least as similar as the right item, and choices.

    A block of queries at a time: products in single precision settle nearly all comparisons, and
    those within its rounding error are made again in double precision, so that the ranks are those
    of double precision throughout.
    """
    if asked.shape[1] != shown.shape[1] or similarity not in ("pearson", "cosine"):
        similarity_matrix(asked[:1], shown[:1], similarity)  # raises
    centre = similarity == "pearson"
    ways = row_directions(asked, centre=centre), row_directions(shown, centre=centre)
    width = asked.shape[1]
    single = None
    if width <= _LONGEST:
        single = _single_units(asked, ways[0]), _single_units(shown, ways[1])
    at_right = _pairs(asked, shown, ways, np.arange(len(asked)), right)
    counts, sizes = np.empty(len(asked), dtype=np.intp), np.empty(len(asked), dtype=np.intp)
    step = max(1, _BLOCK_BYTES // (4 * len(shown)))
    for start in range(0, len(asked), step):
        rows = np.arange(start, min(start + step, len(asked)))
        rivals = None
        if folds is not None or images is not None:
            rivals = np.ones((len(rows), len(shown)), dtype=bool)
            if folds is not None:
                rivals &= folds[right[rows]][:, None] == folds
            if images is None:
                rivals[np.arange(len(rows)), right[rows]] = False
            else:
                rivals &= images[right[rows]][:, None] != images
        goal = at_right[rows][:, None]
        places = right[rows]
        found = None
        if single is not None:
            found = _settled(asked, shown, ways, single, rows, places, goal, rivals)
        if found is None:
            matrix = similarity_matrix(asked[rows], shown, similarity)
            reached = ~(matrix < goal - TIE_TOLERANCE)
            found = _count(reached, rivals, places)
        sizes[rows] = len(shown) if rivals is None else rivals.sum(axis=1) + 1
        # What has no direction is as similar to all: the right item is behind every rival.
        counts[rows] = np.where(np.isfinite(goal[:, 0]), found, sizes[rows] - 1)
    return counts, sizes


def _settled(
    asked: NDArray[np.generic],
    shown: NDArray[np.generic],
    ways: tuple[RowDirections, RowDirections],
    single: tuple[NDArray[np.float32], NDArray[np.float32]],
    rows: NDArray[np.intp],
    places: NDArray[np.intp],
    goal: Float,
    rivals: NDArray[np.bool_] | None,
) -> NDArray[np.intp] | None:
    """Count by single precision; None where too many comparisons are too close for it."""
    # A product of unit vectors is off by at most its number of terms times the unit roundoff.
    margin = (asked.shape[1] + 8) * 2.0**-24 + TIE_TOLERANCE
    product = single[0][rows[0] : rows[-1] + 1] @ single[1].T
    product[:, ways[1].lost] = -np.inf
    above = product > (goal + margin).astype(np.float32)
    reached = product >= (goal - margin).astype(np.float32)
    unsure = np.flatnonzero(above.ravel() != reached.ravel())
    if len(unsure) > max(_MOST_UNSURE * product.size, 4 * len(rows)):
        return None
    query, item = np.divmod(unsure, product.shape[1])
    exact = _pairs(asked, shown, ways, rows[query], item)
    reached[query, item] = exact >= goal[query, 0] - TIE_TOLERANCE
    return _count(reached, rivals, places)


def _count(
    reached: NDArray[np.bool_], rivals: NDArray[np.bool_] | None, places: NDArray[np.intp]
) -> NDArray[np.intp]:
    if rivals is not None:
        return np.asarray((reached & rivals).sum(axis=1), dtype=np.intp)
    own = reached[np.arange(len(reached)), places]
    return np.asarray(np.count_nonzero(reached, axis=1) - own, dtype=np.intp)


def _single_units(rows: NDArray[np.generic], directions: RowDirections) -> NDArray[np.float32]:
    units = np.empty(rows.shape, dtype=np.float32)
    for batch in column_batches(rows.shape[1], len(rows)):
        units[batch] = directions.applied(rows[batch], batch)
    return units


def _pairs(
    asked: NDArray[np.generic],
    shown: NDArray[np.generic],
    ways: tuple[RowDirections, RowDirections],
    queries: NDArray[np.intp],
    items: NDArray[np.intp],
) -> Float:
    """Return the similarity of some queries, each with one item, in double precision."""
    values = np.empty(len(queries))
    step = max(1, _PAIR_CELLS // asked.shape[1])
    for start in range(0, len(queries), step):
        one, two = queries[start : start + step], items[start : start + step]
        left, right = ways[0].applied(asked[one], one), ways[1].applied(shown[two], two)
        values[start : start + step] = np.einsum("ij,ij->i", left, right)
        values[start : start + step][ways[0].lost[one] | ways[1].lost[two]] = -np.inf
    return values


# -- galleries: rows by name, centroids of classes, and galleries drawn at random ------------------


def gallery_rows(wanted: Sequence[object], names: Sequence[object]) -> NDArray[np.intp]:
    """Find the gallery's row that is right for each query by its name.

    Parameters
    ----------
    wanted : sequence of length n_queries
        The name (image id, class) that each query should find.
    names : sequence of length n_gallery
        The name of each gallery row; each once.

    Returns
    -------
    numpy.ndarray of int of shape (n_queries,)
        What :func:`retrieval` takes as `truth`.

    Raises
    ------
    InputError
        If the gallery lacks what a query should find, or has a name twice.
    """
    places = {name: row for row, name in enumerate(names)}
    if len(places) < len(names):
        all_names = list(names)
        twice = [name for name in places if all_names.count(name) > 1]
        raise InputError(
            f"The gallery holds {listed(twice)} more than once, so that a query has several right "
            "rows: average them, or keep one of each."
        )
    lacking = list(dict.fromkeys(name for name in wanted if name not in places))
    if lacking:
        raise InputError(
            f"The gallery lacks the truth of {len(lacking)} names that queries should find: "
            f"{listed(lacking)}. Add them to the gallery, or leave those queries out."
        )
    return np.array([places[name] for name in wanted], dtype=np.intp)


def class_centroids(
    embeddings: ArrayLike,
    classes: Sequence[object],
    *,
    images: Sequence[object],
    test_images: Sequence[object],
) -> tuple[NDArray[np.float64], list[object]]:
    """Average embeddings of each class's images: the gallery ``"class-centroids"``.

    Parameters
    ----------
    embeddings : array_like of shape (n_images, ...)
        Embeddings of images that nobody is tested on.
    classes : sequence of length n_images
        Class of each image.
    images : sequence of length n_images
        Id of each image.
    test_images : sequence
        Ids of the images that queries belong to.

    Returns
    -------
    centroids : numpy.ndarray of shape (n_classes, ...)
        Means, in float64.
    names : list
        Class of each centroid, in the order of first appearance.

    Raises
    ------
    LeakError
        If a centroid would be averaged over a test image; it names all of them.
    InputError
        If lengths differ.
    """
    rows = item_rows(embeddings, "embeddings")
    if not len(rows) == len(classes) == len(images):
        raise InputError(
            f"There are {len(rows)} embeddings, {len(classes)} classes and {len(images)} image "
            "ids: give one of each for every image."
        )
    tested = set(test_images)
    both = [image for image in images if image in tested]
    if both:
        raise LeakError(
            f"{len(both)} test images are among those that class centroids are averaged over: "
            f"{listed(both)}. Centroids are of other images of the class; use the gallery "
            "'test-images' for the test images themselves.",
            both,
        )
    names = list(dict.fromkeys(classes))
    place = {name: number for number, name in enumerate(names)}
    members = group_members(np.array([place[name] for name in classes], dtype=np.intp))
    centroids = np.stack([rows[one].mean(axis=0, dtype=np.float64) for one in members])
    return centroids.reshape(len(names), *np.shape(embeddings)[1:]), names


def drawn_retrieval(
    brain: ArrayLike,
    images: ArrayLike,
    direction: RetrievalDirection,
    *,
    n: int,
    draws: int,
    generator: np.random.Generator,
    similarity: Similarity = "cosine",
) -> ItemScores:
    """Retrieve by top-1 from galleries drawn at random, as published systems report it.

    Each draw takes n of the items without replacement and asks of each of them whether it comes
    first among these n. The mean over all draws that there are has a closed form,
    ``retrieval_contest(..., score=first_among(n))``, which a few draws estimate; intervals are
    those of that mean.

    Parameters
    ----------
    brain, images : array_like of shape (n_items, ...)
        Embeddings predicted from the brain, and those of the images; pairs in order.
    direction : {"image_from_brain", "brain_from_image"}
        What is looked for, from what.
    n : int
        Items of a draw; all of them where there are fewer.
    draws : int
        Number of draws.
    generator : numpy.random.Generator
        Source of the draws.
    similarity : {"cosine", "pearson"}, default "cosine"

    Returns
    -------
    ItemScores
        Share of its draws in which each item came first, a tie counting as a failure; NaN for an
        item that was never drawn. The estimate's value is the mean over draws.

    Raises
    ------
    InputError
        As :func:`retrieval` does; or if `n` is below 2 or `draws` below 1.
    """
    if n < 2 or draws < 1:
        raise InputError(f"n={n} and draws={draws}: expected at least 2 items and 1 draw.")
    every = retrieval_contest(brain, images, direction, similarity=similarity, score=first_among(n))
    pair = item_rows(brain, "brain"), item_rows(images, "images")
    asked, shown = pair if direction == "image_from_brain" else pair[::-1]
    matrix = similarity_matrix(asked, shown, similarity)
    n_items = len(matrix)
    won, drawn = np.zeros(n_items), np.zeros(n_items)
    for _ in range(draws):
        rows = generator.permutation(n_items)[:n]
        among = matrix[np.ix_(rows, rows)]
        goal = np.diag(among)[:, None]
        won[rows] += (among < goal - TIE_TOLERANCE).sum(axis=1) == len(rows) - 1
        drawn[rows] += 1
    scores = np.full(n_items, np.nan)
    np.divide(won, drawn, out=scores, where=drawn > 0)
    value = float(won.sum() / drawn.sum())
    return ItemScores(scores, replace(every.estimate, value=value), every.fewest_rivals)
