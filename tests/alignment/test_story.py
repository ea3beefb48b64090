"""Thirty-six people who hear one story: aligners undo what scrambles their factors.

The protocol is that of `scripts/compare_aligners.py`: each person's factors, which correspond as
they stand, are turned by a seeded random rotation; aligners learn on one half of the story, and ten
time points of one person are looked for in the mean of the others on the other half.
"""

import numpy as np
import pytest
from compare_aligners import FIRST, SECOND, found_segments, recovered, story_people

from brainkit.alignment import PCA, Identity, Procrustes, RidgeToReference, SharedResponse

CHANCE = 0.03  # one segment in 130 or so; the shifted are below this


@pytest.fixture(scope="module")
def people(shared_data):
    """As they stand, and scrambled."""
    return {
        "as they stand": story_people(shared_data / "pieman", scrambled=False),
        "scrambled": story_people(shared_data / "pieman", scrambled=True),
    }


# What each reaches on the factors as they stand, in the two halves of the story.
AS_THEY_STAND = {
    "Identity": (Identity(), (0.300, 0.333)),
    "Procrustes": (Procrustes(), (0.184, 0.189)),
    "SharedResponse(50)": (SharedResponse(50), (0.187, 0.182)),
    "SharedResponse(20)": (SharedResponse(20), (0.151, 0.162)),
    "RidgeToReference": (RidgeToReference(), (0.106, 0.115)),
    "PCA": (PCA(20), (0.022, 0.020)),
}


@pytest.fixture(scope="module")
def baseline(people):
    scores, shifted = recovered(Identity(), people["as they stand"])
    assert shifted < CHANCE
    return scores


@pytest.mark.parametrize("name", AS_THEY_STAND)
def test_what_each_reaches_on_factors_as_they_stand(people, name):
    aligner, expected = AS_THEY_STAND[name]
    scores, shifted = recovered(aligner, people["as they stand"])
    np.testing.assert_allclose(scores, expected, atol=0.01)
    assert shifted < CHANCE


@pytest.mark.parametrize("aligner", [Procrustes(), SharedResponse(50)], ids=repr)
def test_scrambled_people_are_matched_at_half_of_what_was_there(people, aligner, baseline):
    scores, shifted = recovered(aligner, people["scrambled"])
    assert (scores >= 0.5 * baseline).all()
    assert shifted < CHANCE
    plain, _ = recovered(aligner, people["as they stand"])
    np.testing.assert_allclose(scores, plain, atol=0.005)  # rotations make no difference


@pytest.mark.parametrize("aligner", [Identity(), PCA(20)], ids=repr)
def test_scrambled_people_are_at_chance_where_nothing_is_aligned(people, aligner):
    scores, _ = recovered(aligner, people["scrambled"])
    assert (scores < CHANCE).all()


def test_ridge_to_one_noisy_person_falls_short_of_half(people, baseline):
    # The reference's own noise is what it predicts with: .35 to .4 of what was there, not half.
    scores, shifted = recovered(RidgeToReference(), people["scrambled"])
    assert (scores > 3 * shifted).all()
    assert (scores < 0.5 * baseline).all()


def test_a_person_left_out_joins_by_the_half_they_all_heard(people):
    held = people["scrambled"]
    train = [one.select(trials=FIRST) for one in held]
    aligner = SharedResponse(50).fit(train[:-1]).add_subject(train[-1])
    shared = [aligner.align(one).responses.read(SECOND) for one in held]
    assert found_segments(shared[-1], np.mean(shared[:-1], axis=0)) > 2 * CHANCE
