"""Retrieval from large galleries: ranks as of one matrix in double precision, names, draws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainkit.errors import InputError, LeakError
from brainkit.evaluation import (
    class_centroids,
    drawn_retrieval,
    gallery_retrieval,
    gallery_rows,
    retrieval,
)
from brainkit.evaluation.checked_arrays import row_directions, unit_rows
from brainkit.evaluation.identification import first_among, retrieval_contest, similarity_matrix

NAMES = {"direction": "image_from_brain", "gallery_name": "test-images"}


def ranks_by_one_matrix(queries, gallery, truth, similarity, fold=None, image=None):
    """Rank by all similarities at once, in double precision."""
    centre = similarity == "pearson"
    units, lost = zip(
        *(unit_rows(np.asarray(one, float), centre=centre) for one in (queries, gallery)),
        strict=True,
    )
    matrix = units[0] @ units[1].T
    matrix[lost[0]] = -np.inf
    matrix[:, lost[1]] = -np.inf
    right = matrix[np.arange(len(queries)), truth][:, None]
    fold = np.zeros(len(gallery)) if fold is None else fold
    image = np.arange(len(gallery)) if image is None else image
    rivals = (fold[truth][:, None] == fold) & (image[truth][:, None] != image)
    return (rivals & ~(matrix < right - 1e-10)).sum(axis=1)


@pytest.mark.parametrize("similarity", ["cosine", "pearson"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("block", [1, 4 * 90 * 7, 2**26])
def test_ranks_are_those_of_one_matrix(monkeypatch, similarity, dtype, block):
    monkeypatch.setattr(gallery_retrieval, "_BLOCK_BYTES", block)
    generator = np.random.default_rng(0)
    gallery = generator.normal(size=(90, 40)).astype(dtype)
    truth = generator.integers(90, size=50)
    queries = (gallery[truth] + 2 * generator.normal(size=(50, 40))).astype(dtype)
    found = retrieval(queries, gallery, truth=truth, similarity=similarity, **NAMES)
    np.testing.assert_array_equal(
        found.ranks, ranks_by_one_matrix(queries, gallery, truth, similarity)
    )
    assert found.median_rank == np.median(found.ranks) + 1
    fold, image = np.arange(90) % 3, np.arange(90) // 2
    found = retrieval(
        queries, gallery, truth=truth, similarity=similarity, fold=fold, image=image, **NAMES
    )
    np.testing.assert_array_equal(
        found.ranks, ranks_by_one_matrix(queries, gallery, truth, similarity, fold, image)
    )


def test_what_single_precision_cannot_tell_is_told(monkeypatch):
    """Rivals that differ from the right item by 1e-8 of its length, nearer and farther."""
    generator = np.random.default_rng(0)
    query = generator.normal(size=400)
    query /= np.linalg.norm(query)
    aside = generator.normal(size=400)
    aside -= (aside @ query) * query
    aside /= np.linalg.norm(aside)
    angles = 0.5 + 1e-8 * np.arange(-3, 4)
    near = np.cos(angles)[:, None] * query + np.sin(angles)[:, None] * aside
    far = generator.normal(size=(900, 400))
    gallery = np.concatenate([near, far])
    calls = []
    monkeypatch.setattr(
        gallery_retrieval, "similarity_matrix", lambda *a: calls.append(a) or similarity_matrix(*a)
    )
    for place in range(7):
        found = retrieval(query[None], gallery, truth=[place], **NAMES)
        assert found.ranks.tolist() == [place]
    assert not calls  # the pairs alone were compared again


def test_equal_items_all_count_against_the_right_one():
    gallery = np.tile(np.random.default_rng(0).normal(size=(1, 30)), (40, 1)).astype(np.float32)
    found = retrieval(gallery, gallery, **NAMES)
    np.testing.assert_array_equal(found.ranks, 39)
    assert found.value == 0


def test_what_has_no_direction_is_never_found():
    gallery = np.eye(6)
    gallery[2] = 0
    queries = np.eye(6)
    queries[4] = 0
    found = retrieval(queries, gallery, **NAMES)
    assert found.ranks.tolist() == [0, 0, 5, 0, 5, 0]


def test_long_vectors_are_compared_in_double_precision(monkeypatch):
    monkeypatch.setattr(gallery_retrieval, "_LONGEST", 10)
    generator = np.random.default_rng(0)
    queries, gallery = generator.normal(size=(2, 30, 20))
    found = retrieval(queries, gallery, **NAMES)
    expected = ranks_by_one_matrix(queries, gallery, np.arange(30), "cosine")
    np.testing.assert_array_equal(found.ranks, expected)


@pytest.mark.parametrize("similarity", ["cosine", "pearson"])
@given(st.integers(0, 2**31), st.sampled_from([1e-200, 1.0, 1e200]))
def test_similarities_of_batches_of_columns(similarity, seed, scale):
    first, second = scale * np.random.default_rng(seed).normal(size=(2, 4, 9))
    units = [unit_rows(one, centre=similarity == "pearson")[0] for one in (first, second)]
    np.testing.assert_allclose(
        similarity_matrix(first, second, similarity), units[0] @ units[1].T, atol=1e-14
    )
    directions = row_directions(first, centre=similarity == "pearson")
    np.testing.assert_allclose(directions.applied(first, slice(None)), units[0], atol=1e-15)


# -- names, centroids, draws -----------------------------------------------------------------------


def test_gallery_rows_by_name():
    assert gallery_rows(["dog", "cat", "dog"], ["cat", "cow", "dog"]).tolist() == [2, 0, 2]
    with pytest.raises(InputError, match=r"lacks the truth of 2 names .*: bee, ant"):
        gallery_rows(["bee", "cat", "ant", "bee"], ["cat", "cow"])
    with pytest.raises(InputError, match="holds cat more than once"):
        gallery_rows(["cat"], ["cat", "cow", "cat"])


def test_class_centroids_are_means_over_other_images():
    embeddings = np.array([[1.0, 0], [3, 0], [0, 2], [5, 5]], dtype=np.float32)
    centroids, names = class_centroids(
        embeddings, ["b", "b", "a", "c"], images=["b1", "b2", "a1", "c1"], test_images=["a9"]
    )
    assert names == ["b", "a", "c"]
    np.testing.assert_array_equal(centroids, [[2, 0], [0, 2], [5, 5]])
    with pytest.raises(LeakError, match=r"2 test images .*: b2, c1") as raised:
        class_centroids(
            embeddings,
            ["b", "b", "a", "c"],
            images=["b1", "b2", "a1", "c1"],
            test_images=["c1", "b2"],
        )
    assert raised.value.ids == ["b2", "c1"]
    with pytest.raises(InputError, match="4 embeddings, 3 classes and 4 image"):
        class_centroids(embeddings, "abc", images="abcd", test_images="")


def test_drawn_galleries_have_the_mean_of_all_that_can_be_drawn():
    generator = np.random.default_rng(0)
    images = generator.normal(size=(60, 6))
    brain = images + 1.5 * generator.normal(size=images.shape)
    for direction in ("image_from_brain", "brain_from_image"):
        options = {"n": 10, "draws": 4000, "generator": np.random.default_rng(1)}
        found = drawn_retrieval(brain, images, direction, **options)
        every = retrieval_contest(brain, images, direction, score=first_among(10))
        assert found.estimate.value == pytest.approx(every.estimate.value, abs=0.01)
        np.testing.assert_allclose(found.scores, every.scores, atol=0.07)
        np.testing.assert_array_equal(found.estimate.influence, every.estimate.influence)


def test_a_draw_by_hand():
    # The angles of T09's case: brains 0, 20 and 90 degrees, images 15, 60 and 85. Of two images
    # brain 1 (20°) finds its own (60°) beside image 2 and not beside image 0; the others always do.
    brains, images = (
        np.stack([np.cos(np.radians(one)), np.sin(np.radians(one))], axis=1)
        for one in ([0, 20, 90], [15, 60, 85])
    )
    options = {"n": 2, "generator": np.random.default_rng(0)}
    found = drawn_retrieval(brains, images, "image_from_brain", draws=3000, **options)
    assert found.scores[[0, 2]].tolist() == [1, 1]
    assert found.scores[1] == pytest.approx(1 / 2, abs=0.05)
    whole = drawn_retrieval(brains, images, "image_from_brain", draws=1, **(options | {"n": 3}))
    assert whole.scores.tolist() == [1, 0, 1]
    assert whole.estimate.value == pytest.approx(2 / 3)


def test_an_item_that_was_never_drawn_has_no_score():
    images = np.random.default_rng(0).normal(size=(40, 5))
    found = drawn_retrieval(
        images, images, "brain_from_image", n=3, draws=2, generator=np.random.default_rng(0)
    )
    assert np.isnan(found.scores).sum() >= 34
    assert found.estimate.value == 1
    for change in ({"n": 1}, {"draws": 0}):
        options = {"n": 3, "draws": 2, "generator": np.random.default_rng(0)} | change
        with pytest.raises(InputError, match="at least 2 items and 1 draw"):
            drawn_retrieval(images, images, "brain_from_image", **options)
