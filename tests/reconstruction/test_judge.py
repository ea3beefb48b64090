"""One in n: closed forms against enumerated draws, and both directions by hand."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainkit.errors import InputError
from brainkit.evaluation import retrieval
from brainkit.evaluation.identification import first_among
from brainkit.features import OrientedEnergy
from brainkit.reconstruction import identification_among, retrieval_among
from brainkit.reconstruction.scores import judge_scores, retrieval_scores


def share(beaten, tied, others, n):
    return first_among(n)(*(np.array([float(v)]) for v in (beaten, tied, others)))[0]


@given(st.integers(0, 4), st.integers(0, 3), st.integers(0, 4), st.integers(2, 6))
def test_the_share_of_draws_is_that_of_all_draws(beaten, tied, better, n):
    others = ["beaten"] * beaten + ["tied"] * tied + ["better"] * better
    shares = [
        0.0 if "better" in draw else 1 / (1 + draw.count("tied"))
        for draw in combinations(others, min(n - 1, len(others)))
    ]
    assert share(beaten, tied, len(others), n) == pytest.approx(np.mean(shares), abs=1e-9)


def test_the_share_of_draws_of_large_numbers():
    assert share(999, 0, 999, 300) == pytest.approx(1, rel=1e-9)
    assert share(0, 0, 999, 300) == 0
    # The better one is not drawn.
    assert share(998, 0, 999, 300) == pytest.approx(1 - 299 / 999, rel=1e-9)


# Rows: reconstructions; columns: images. Unit vectors in the plane, by their angles.
def at(*degrees):
    """Vectors whose Pearson correlation is the cosine of the angle between them."""
    angle = np.radians(degrees)
    first, second = np.array([1, -1, 0]) / np.sqrt(2), np.array([1, 1, -2]) / np.sqrt(6)
    return np.cos(angle)[:, None] * first + np.sin(angle)[:, None] * second


def test_the_two_directions_of_identification_differ():
    images, made = at(0, 40, 90), at(30, 60, 80)
    # Given reconstruction 0 (30°) image 1 (40°) is nearer than its own (0°): lost. The other two
    # find their own image: 60° lies 20° from 40°, and 80° lies 10° from 90°.
    np.testing.assert_allclose(
        identification_among(made, images, "image_given_reconstruction", n=3).scores, [0, 1, 1]
    )
    np.testing.assert_allclose(
        identification_among(made, images, "image_given_reconstruction", n=2).scores, [0.5, 1, 1]
    )
    # Given image 1 (40°) reconstruction 0 (30°) is nearer than its own (60°): lost.
    np.testing.assert_allclose(
        identification_among(made, images, "reconstruction_given_image", n=3).scores, [1, 0, 1]
    )


def test_the_two_directions_of_retrieval_differ():
    images, brain = at(0, 40, 90), at(30, 60, 80)
    np.testing.assert_allclose(
        retrieval_among(brain, images, "image_from_brain", n=3).scores, [0, 1, 1]
    )
    np.testing.assert_allclose(
        retrieval_among(brain, images, "brain_from_image", n=3).scores, [1, 0, 1]
    )
    np.testing.assert_allclose(
        retrieval_among(brain, images, "image_from_brain", n=2).scores, [0.5, 1, 1]
    )


@pytest.mark.parametrize("direction", ["image_from_brain", "brain_from_image"])
def test_random_draws_estimate_the_same(direction):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(60, 12))
    brain = images + 1.5 * rng.normal(size=(60, 12))
    drawn = []
    for _ in range(400):
        rows = rng.choice(60, size=20, replace=False)
        pair = (brain, images) if direction == "image_from_brain" else (images, brain)
        drawn.append(
            retrieval(*(v[rows] for v in pair), direction=direction, gallery_name="drawn").value
        )
    exact = retrieval_among(brain, images, direction, n=20).estimate.value
    assert 0.2 < exact < 0.9
    assert exact == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 20)


def test_no_information_gives_chance():
    rng = np.random.default_rng(1)
    values = [
        identification_among(
            rng.normal(size=(80, 9)), rng.normal(size=(80, 9)), direction, n=50
        ).scores.mean()
        for direction in ("image_given_reconstruction", "reconstruction_given_image")
        for _ in range(100)
    ]
    assert np.mean(values) == pytest.approx(0.02, abs=0.003)


def test_equal_reconstructions_share_what_guessing_gives():
    rng = np.random.default_rng(2)
    images = rng.normal(size=(6, 20))
    same = np.repeat(rng.normal(size=(1, 20)), 6, axis=0)
    made = identification_among(same, images, "reconstruction_given_image", n=4).scores
    np.testing.assert_allclose(made, 0.25)
    # Given the same reconstruction six times, one image is the most like it.
    made = identification_among(same, images, "image_given_reconstruction", n=6).scores
    assert sorted(made) == [0, 0, 0, 0, 0, 1]


def test_the_order_of_items_does_not_matter():
    rng = np.random.default_rng(3)
    images = rng.normal(size=(5, 8))
    made = images + rng.normal(size=(5, 8))
    expected = identification_among(made, images, "image_given_reconstruction", n=3).scores
    for order in list(permutations(range(5)))[::17]:
        rows = list(order)
        again = identification_among(made[rows], images[rows], "image_given_reconstruction", n=3)
        np.testing.assert_allclose(again.scores, expected[rows])


def test_more_than_there_are_is_refused():
    with pytest.raises(InputError, match="One in 9 cannot be asked of 3 items"):
        retrieval_among(at(1, 2, 3), at(1, 2, 3), "image_from_brain", n=9)


def test_scores_are_named_by_direction_and_judge():
    rng = np.random.default_rng(4)
    shown = rng.uniform(size=(8, 16, 16, 3)).astype(np.float32)
    judges = {"energy": OrientedEnergy(side=16, frequencies=(2.0, 4.0))}
    images = {"reconstruction": shown, "no_brain": shown[::-1].copy()}
    scores = judge_scores(judges, shown, images, 8)
    assert len(scores) == 4
    for way in ("image_given_reconstruction", "reconstruction_given_image"):
        assert (scores[f"identification_{way}_top1[energy]", "reconstruction"].scores == 1).all()
        assert (scores[f"identification_{way}_top1[energy]", "no_brain"].scores == 0).all()
    found = retrieval_scores({"reconstruction": at(30, 60, 80)}, at(0, 40, 90), 3)
    assert found["retrieval_image_from_brain_top1", "reconstruction"].scores.tolist() == [0, 1, 1]
    assert found["retrieval_brain_from_image_top1", "reconstruction"].scores.tolist() == [1, 0, 1]


def test_only_items_of_a_fold_are_drawn():
    rng = np.random.default_rng(5)
    images = rng.normal(size=(12, 8))
    made = images + rng.normal(size=(12, 8))
    fold = np.repeat([0, 1, 2], 4)
    found = identification_among(made, images, "image_given_reconstruction", n=3, fold=fold)
    for one in range(3):
        rows = fold == one
        alone = identification_among(made[rows], images[rows], "image_given_reconstruction", n=3)
        np.testing.assert_allclose(found.scores[rows], alone.scores)
    with pytest.raises(InputError, match="One in 5 cannot be asked of 4 items"):
        identification_among(made, images, "image_given_reconstruction", n=5, fold=fold)
