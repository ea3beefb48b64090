import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from brainkit.errors import InputError, UnknownNameError
from brainkit.evaluation import IDENTIFICATION_METRICS, identification, retrieval
from brainkit.evaluation.identification import (
    first_among,
    identification_contest,
    retrieval_contest,
)

DIRECTIONS = list(IDENTIFICATION_METRICS)
vectors = npst.arrays(np.int64, (5, 4), elements=st.integers(-3, 3))


def cosine(a, b):
    lengths = np.sqrt((a @ a) * (b @ b))
    return a @ b / lengths if lengths > 0 else -np.inf


def pearson(a, b):
    return cosine(a - a.mean(), b - b.mean())


SIMILARITIES = {"pearson": pearson, "cosine": cosine}


def naive_identification(reconstructions, images, direction, similarity, tie):
    compare = SIMILARITIES[similarity]
    fractions = []
    for i in range(len(images)):
        own = compare(images[i], reconstructions[i])
        won = 0.0
        for j in range(len(images)):
            if j == i:
                continue
            if direction == "reconstruction_given_image":
                other = compare(images[i], reconstructions[j])
            else:
                other = compare(images[j], reconstructions[i])
            if other == own or abs(other - own) < 1e-10:
                won += tie
            elif other < own:
                won += 1
        fractions.append(won / (len(images) - 1))
    return fractions


@pytest.mark.parametrize("similarity", ["pearson", "cosine"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("ties", "tie"), [("failure", 0.0), ("half", 0.5)])
@given(reconstructions=vectors, images=vectors)
def test_identification_equals_a_double_loop(
    direction, ties, tie, similarity, reconstructions, images
):
    ours = identification(reconstructions, images, direction, similarity=similarity, ties=ties)
    # The means are thirds and quarters of integers, so that equal vectors stay equal.
    expected = naive_identification(4 * reconstructions, 4 * images, direction, similarity, tie)
    np.testing.assert_allclose(ours, expected)


@given(reconstructions=vectors, images=vectors)
def test_the_directions_are_each_others_transpose(reconstructions, images):
    forth = identification(reconstructions, images, "reconstruction_given_image")
    back = identification(images, reconstructions, "image_given_reconstruction")
    np.testing.assert_array_equal(forth, back)


@given(st.permutations(range(6)), st.floats(0.1, 10), st.floats(-5, 5))
def test_order_and_scale_do_not_matter(order, scale, offset):
    images, reconstructions = np.random.default_rng(0).normal(size=(2, 6, 9))
    for direction in DIRECTIONS:
        fractions = identification(reconstructions, images, direction)
        moved = identification(scale * reconstructions[order] + offset, images[order], direction)
        np.testing.assert_allclose(moved, fractions[order])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_perfect_and_unrelated_reconstructions(direction):
    generator = np.random.default_rng(0)
    images = generator.normal(size=(200, 5, 5, 3))
    np.testing.assert_array_equal(identification(images, images, direction), 1)
    unrelated = identification(generator.normal(size=images.shape), images, direction)
    assert unrelated.mean() == pytest.approx(0.5, abs=0.05)


def test_a_constant_reconstruction_never_wins():
    images = np.random.default_rng(0).normal(size=(4, 9))
    reconstructions = images.copy()
    reconstructions[2] = 0.3
    given_image = identification(reconstructions, images, "reconstruction_given_image")
    np.testing.assert_array_equal(given_image, [1, 1, 0, 1])
    given_reconstruction = identification(reconstructions, images, "image_given_reconstruction")
    np.testing.assert_array_equal(given_reconstruction, [1, 1, 0, 1])


@pytest.mark.parametrize(
    ("reconstructions", "images", "message"),
    [
        (np.zeros((3, 4)), np.zeros((2, 4)), "3 reconstructions and 2 images"),
        (np.zeros((1, 4)), np.zeros((1, 4)), "at least 2"),
        (np.zeros((2, 4)), np.zeros((2, 5)), "4 numbers|5 and 4"),
        (np.zeros(4), np.zeros(4), "n_items"),
        (np.full((2, 4), np.nan), np.zeros((2, 4)), "reconstructions 0, 1 hold NaN"),
    ],
)
def test_identification_bad_arrays(reconstructions, images, message):
    with pytest.raises(InputError, match=message):
        identification(reconstructions, images, "reconstruction_given_image")


def test_identification_unknown_names():
    pair = np.eye(3), np.eye(3)
    with pytest.raises(UnknownNameError, match="image_given_reconstruction"):
        identification(*pair, "forward")
    with pytest.raises(UnknownNameError, match="half"):
        identification(*pair, DIRECTIONS[0], ties="success")
    with pytest.raises(UnknownNameError, match="pearson"):
        identification(*pair, DIRECTIONS[0], similarity="euclidean")


@given(queries=vectors, gallery=vectors, k=st.integers(1, 5))
def test_retrieval_equals_a_double_loop(queries, gallery, k):
    result = retrieval(
        queries, gallery, direction="image_from_brain", gallery_name="test-images", k=k
    )
    for i, query in enumerate(queries):
        own = cosine(query, gallery[i])
        rank = sum(
            not cosine(query, item) < own - 1e-10 for j, item in enumerate(gallery) if j != i
        )
        assert result.ranks[i] == rank
    np.testing.assert_array_equal(result.hits, result.ranks < k)


def test_retrieval_names_direction_and_gallery():
    result = retrieval(
        np.eye(4), np.eye(4), direction="brain_from_image", gallery_name="test-brains", k=2
    )
    assert result.metric == "retrieval_brain_from_image_top2"
    assert result.id == "retrieval_brain_from_image_top2[test-brains]"
    assert (result.value, result.chance) == (1.0, 0.5)


def test_retrieval_from_a_larger_gallery():
    gallery = np.eye(5)
    options = {"direction": "image_from_brain", "gallery_name": "bank"}
    result = retrieval(gallery[[3, 1]], gallery, truth=[3, 1], **options)
    np.testing.assert_array_equal(result.ranks, 0)
    assert result.chance == 0.2
    wrong = retrieval(gallery[[3, 1]], gallery, truth=[1, 1], **options)
    np.testing.assert_array_equal(wrong.hits, [False, True])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"direction": "forward"}, "image_from_brain"),
        ({"gallery_name": " "}, "gallery_name is empty"),
        ({"k": 0}, "1 to 4"),
        ({"k": 5}, "1 to 4"),
        ({"queries": np.eye(4)[:2]}, "give `truth`"),
        ({"queries": np.zeros((0, 4))}, "queries has shape .0, 4."),
        ({"truth": [0, 1, 2, 4]}, "rows 4"),
        ({"truth": [0, 1]}, "expected \\(4,\\) integers"),
        ({"truth": [0.0, 1.0, 2.0, 3.0]}, "integers"),
        ({"gallery": np.eye(5)[:4]}, "cannot be compared"),
    ],
)
def test_retrieval_bad_input(change, message):
    arguments = {"queries": np.eye(4), "gallery": np.eye(4)}
    arguments |= {"direction": "image_from_brain", "gallery_name": "test-images"} | change
    with pytest.raises(InputError, match=message):
        retrieval(**arguments)


def subsets(direction, made, images, fold, image):
    """Identification of each item among the other images of its fold, one item at a time."""
    scores = []
    for i in range(len(images)):
        rivals = np.flatnonzero((fold == fold[i]) & (image != image[i]))
        rows = np.concatenate([[i], rivals])
        scores.append(identification(made[rows], images[rows], direction, ties="half")[0])
    return scores


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_distractors_are_other_images_of_the_same_fold(direction):
    generator = np.random.default_rng(0)
    images = np.repeat(generator.normal(size=(12, 8)), 2, axis=0)
    made = images + generator.normal(size=images.shape)
    fold, image = np.arange(24) // 8, np.arange(24) // 2
    options = {"fold": fold, "image": image}
    ours = identification(made, images, direction, ties="half", **options)
    np.testing.assert_allclose(ours, subsets(direction, made, images, fold, image))
    found = identification_contest(made, images, direction, **options)
    np.testing.assert_array_equal(found.scores, ours)
    assert found.fewest_rivals == 6
    without = []
    for unit in range(12):
        kept = image != unit
        rows = {name: labels[kept] for name, labels in options.items()}
        scores = identification(made[kept], images[kept], direction, ties="half", **rows)
        without.append(scores[fold[kept] == unit // 4].mean())
    deviations = np.array(without).reshape(3, 4)
    deviations = np.sqrt(3 / 4) / 3 * (deviations.mean(axis=1, keepdims=True) - deviations)
    np.testing.assert_allclose(found.estimate.influence, deviations.ravel(), atol=1e-12)
    assert found.estimate.freedom == 9


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("n_folds", [2, 10])
def test_noise_is_at_chance_within_folds_and_not_across(direction, n_folds):
    """Decoders of noise, each trained on the other folds: pooled, they tell the fold, and lose."""
    within, pooled = [], []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        brain, images = generator.normal(size=(40, 30)), generator.normal(size=(40, 6))
        fold = np.arange(40) % n_folds
        made = np.empty_like(images)
        for one in range(n_folds):
            train = fold != one
            mean = images[train].mean(axis=0)
            weights = np.linalg.solve(
                brain[train].T @ brain[train] + 1e3 * np.eye(30),
                brain[train].T @ (images[train] - mean),
            )
            made[~train] = brain[~train] @ weights + mean
        options = {"similarity": "cosine", "ties": "half"}
        within.append(identification(made, images, direction, fold=fold, **options).mean())
        pooled.append(identification(made, images, direction, **options).mean())
    error = np.std(within) / np.sqrt(40)
    assert np.mean(within) == pytest.approx(0.5, abs=3 * error)
    if direction == "image_given_reconstruction":
        assert np.mean(pooled) < 0.45


@pytest.mark.parametrize("n", [12, 20, 60])
@pytest.mark.parametrize("noise", [4.0, 1.0])
def test_intervals_cover_the_truth_also_near_their_limit(n, noise):
    def score(generator, n):
        images = generator.normal(size=(n, 10))
        made = images + noise * generator.normal(size=images.shape)
        return identification_contest(made, images, "image_given_reconstruction").estimate

    truth = score(np.random.default_rng(0), 3000).value
    intervals = [
        score(np.random.default_rng(seed), n).interval(n=300) for seed in range(5000, 5300)
    ]
    covered = [one.low <= truth <= one.high for one in intervals]
    assert np.mean(covered) > 0.9  # few whole numbers may cover more than .95


def test_retrieval_within_folds_and_without_the_own_repeats():
    generator = np.random.default_rng(1)
    gallery = generator.normal(size=(20, 5))
    queries = gallery + 2 * generator.normal(size=gallery.shape)
    fold, image = np.arange(20) % 2, np.arange(20) // 4
    options = {"direction": "brain_from_image", "gallery_name": "test-brains"}
    found = retrieval(queries, gallery, fold=fold, image=image, **options)
    for i in range(20):
        rivals = np.flatnonzero((fold == fold[i]) & (image != image[i]))
        own = cosine(queries[i], gallery[i])
        assert found.ranks[i] == sum(cosine(queries[i], gallery[j]) >= own for j in rivals)
    assert set(found.sizes) == {9}
    assert found.chance == pytest.approx(1 / 9)
    contest = retrieval_contest(
        gallery, queries, "brain_from_image", score=first_among(9), fold=fold, image=image
    )
    np.testing.assert_allclose(contest.scores, found.hits)


def test_no_fold_with_two_images():
    pair = (np.eye(4), np.eye(4))
    with pytest.raises(InputError, match="no fold holds two different images"):
        identification(*pair, DIRECTIONS[0], fold=[0, 1, 2, 3])
    with pytest.raises(InputError, match="no fold holds two different images"):
        identification(*pair, DIRECTIONS[0], image=[7, 7, 7, 7])
    # A fold of one image alone has no rival, and no score.
    scores = identification(*pair, DIRECTIONS[0], fold=[0, 0, 0, 1])
    assert np.isnan(scores).tolist() == [False, False, False, True]


def test_a_frequent_image_does_not_win_for_being_frequent():
    """Predictions near what was shown most are at chance over pairs of images."""
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(5), (6, 3, 2, 2, 1))
    pictures = rng.normal(size=(5, 30))
    values = []
    for _ in range(200):
        near_the_frequent = np.average(pictures, axis=0, weights=np.bincount(image))
        predicted = near_the_frequent + 0.5 * rng.normal(size=(len(image), 30))
        for direction in ("image_given_reconstruction", "reconstruction_given_image"):
            scores = identification_contest(predicted, pictures[image], direction, image=image)
            values.append(scores.estimate.value)
    assert np.mean(values) == pytest.approx(0.5, abs=4 * np.std(values) / np.sqrt(200))


def test_every_pair_of_images_counts_alike():
    """Three trials of one image, one of each other: by hand, pair by pair."""
    pictures = np.eye(3)
    image = np.array([0, 0, 0, 1, 2])
    predicted = np.array([
        [3.0, 2, 1], [3, 1, 2], [1, 2, 3],  # of image 0: two right, and one nearest to image 2
        [1, 3, 2], [2, 3, 1],  # of image 1: right; of image 2: nearest to image 1, then to 0
    ])  # fmt: skip
    found = identification_contest(
        predicted, pictures[image], "image_given_reconstruction", image=image, similarity="cosine"
    )
    np.testing.assert_allclose(found.scores, [1, 1, 0, 1, 0])
    assert found.estimate.value == pytest.approx((2 / 3 + 1 + 0) / 3)
