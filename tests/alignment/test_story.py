"""Thirty-six people who hear one story: aligners undo what scrambles their factors.

Published factors of these people correspond as they stand, so that the truth is known: turned by a
seeded random rotation of each person's own, they have to be found again. Aligners learn on one half
of the story. On the other, ten time points of one person are looked for in the mean of all others,
among all segments that do not overlap the right one; the score is the share that is found, over
people and segments. Shifted in a circle against the others, people are at chance.
"""

import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat
from scipy.stats import ortho_group
from sklearn.base import clone

from brainkit import Recording
from brainkit.alignment import PCA, Identity, Procrustes, RidgeToReference, SharedResponse

TR, WIDTH = 1.5, 10
FIRST, SECOND = np.arange(150), np.arange(150, 300)
CHANCE = 0.03  # one segment in 130 or so; the shifted are below this


def recordings(arrays):
    samples = pd.DataFrame({"run": 1, "time": TR * np.arange(300)})
    return [
        Recording.from_arrays(
            values.astype(np.float32), subject=f"p{number:02d}", samples=samples, sfreq=1 / TR
        )
        for number, values in enumerate(arrays, start=1)
    ]


@pytest.fixture(scope="module")
def people(shared_data):
    """As they stand, and scrambled."""
    cells = loadmat(shared_data / "pieman" / "weights.mat")["weights"].ravel()
    factors = [cell.astype(np.float64) for cell in cells]
    turned = [
        values @ ortho_group.rvs(values.shape[1], random_state=number)
        for number, values in enumerate(factors)
    ]
    return {"as they stand": recordings(factors), "scrambled": recordings(turned)}


def segments(values):
    """Every ten consecutive time points as one pattern of unit length and mean 0."""
    windows = np.lib.stride_tricks.sliding_window_view(values, WIDTH, axis=0)
    flat = windows.reshape(len(windows), -1).astype(np.float64)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def matching(values, shift=0):
    """Share of segments found in the mean of the others; overlapping ones are left out."""
    total, found = sum(values), []
    for one in values:
        likeness = segments(np.roll(one, shift, axis=0)) @ segments(total - one).T
        place = np.arange(len(likeness))
        apart = np.abs(place[:, None] - place)
        likeness[(apart > 0) & (apart < WIDTH)] = -np.inf
        found.append((likeness.argmax(axis=1) == place).mean())
    return float(np.mean(found))


def recovered(aligner, people):
    """Fit on either half, and return the matching on the other with that of shifted people."""
    scores, shifted = [], []
    for train, test in ((SECOND, FIRST), (FIRST, SECOND)):
        fitted = clone(aligner).fit(
            [one.select(trials=train) for one in people],
            forbidden=[one.select(trials=test) for one in people],
        )
        shared = [fitted.align(one).responses.read(test) for one in people]
        scores.append(matching(shared))
        shifted += [matching(shared, shift) for shift in (30, 60, 90, 120)]
    return np.array(scores), max(shifted)


# What each reaches on the factors as they stand, in the two halves of the story.
AS_THEY_STAND = {
    "Identity": (Identity(), (0.300, 0.333)),
    "Procrustes": (Procrustes(), (0.181, 0.189)),
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
    others = segments(np.mean(shared[:-1], axis=0))
    likeness = segments(shared[-1]) @ others.T
    place = np.arange(len(likeness))
    apart = np.abs(place[:, None] - place)
    likeness[(apart > 0) & (apart < WIDTH)] = -np.inf
    assert (likeness.argmax(axis=1) == place).mean() > 5 * CHANCE / 3
