"""Closed forms, against their known answers and peers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group

from brainkit.alignment.solutions import (
    isometry_onto,
    nearest_isometry,
    procrustes,
    readout_of_encoder,
    rotate_together,
    share_responses,
    thin_scores,
)

seeds = st.integers(0, 2**16)


def centred(X):
    return X - X.mean(axis=0)


@pytest.mark.parametrize("shape", [(30, 8), (30, 30), (30, 200)])
def test_scores_and_axes_give_the_responses_back(shape):
    X = np.random.default_rng(0).standard_normal(shape) + 5
    found = thin_scores(X)
    axes = found.axes(X)
    assert axes.shape == (shape[1], min(shape[0] - 1, shape[1]))
    np.testing.assert_allclose(axes.T @ axes, np.eye(axes.shape[1]), atol=1e-9)
    np.testing.assert_allclose(found.scores @ axes.T + found.mean, X, atol=1e-9)
    assert (np.diff((found.scores**2).sum(axis=0)) <= 1e-9).all()


def test_scores_keep_no_direction_without_variance():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3)) @ rng.standard_normal((3, 100))
    assert thin_scores(X).scores.shape == (40, 3)
    assert thin_scores(X, 2).scores.shape == (40, 2)
    assert thin_scores(np.ones((5, 9))).scores.shape == (5, 0)


@given(seeds, st.integers(2, 12))
def test_procrustes_recovers_a_rotation_exactly(seed, n_voxels):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((40, n_voxels)) + rng.standard_normal(n_voxels)
    R = ortho_group.rvs(n_voxels, random_state=seed)
    left, right = procrustes(X, X @ R + 7)
    np.testing.assert_allclose(left @ right.T, R, atol=1e-9)


@given(seeds)
def test_procrustes_equals_scipys_on_equal_counts(seed):
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((2, 50, 9))
    left, right = procrustes(X, Y)
    expected, _ = orthogonal_procrustes(centred(X), centred(Y))
    np.testing.assert_allclose(left @ right.T, expected, atol=1e-8)


def test_procrustes_recovers_a_shared_subspace_of_unequal_counts():
    rng = np.random.default_rng(1)
    S = rng.standard_normal((60, 5))
    A = np.linalg.qr(rng.standard_normal((300, 5)))[0]
    B = np.linalg.qr(rng.standard_normal((70, 5)))[0]
    left, right = procrustes(S @ A.T, S @ B.T + 2)
    assert left.shape == (300, 5)
    np.testing.assert_allclose(left @ right.T, A @ B.T, atol=1e-9)


def test_procrustes_of_more_voxels_than_samples_reaches_the_least_distance():
    # The distance of the best orthogonal matrix is known from singular values alone.
    rng = np.random.default_rng(2)
    X, Y = rng.standard_normal((2, 20, 90))
    left, right = procrustes(X, Y)
    np.testing.assert_allclose(left.T @ left, np.eye(19), atol=1e-9)
    distance = ((centred(X) @ left @ right.T - centred(Y)) ** 2).sum()
    overlap = np.linalg.svd(centred(X).T @ centred(Y), compute_uv=False).sum()
    assert distance == pytest.approx(
        (centred(X) ** 2).sum() + (centred(Y) ** 2).sum() - 2 * overlap, rel=1e-9
    )


def test_nearest_isometry_is_the_polar_factor():
    M = np.random.default_rng(0).standard_normal((9, 4))
    U = nearest_isometry(M)
    np.testing.assert_allclose(U.T @ U, np.eye(4), atol=1e-12)
    H = U.T @ M
    np.testing.assert_allclose(H, H.T, atol=1e-12)
    assert np.linalg.eigvalsh(H).min() > 0


@given(seeds)
def test_people_who_differ_by_a_rotation_meet_at_once(seed):
    rng = np.random.default_rng(seed)
    Z = centred(rng.standard_normal((40, 7)))
    people = [Z @ ortho_group.rvs(7, random_state=seed + k) for k in range(4)]
    found = rotate_together(people)
    assert found.losses[-1] == pytest.approx(0, abs=1e-9 * (Z**2).sum())
    for part, turn in zip(people, found.maps, strict=True):
        np.testing.assert_allclose(part @ turn, found.shared, atol=1e-8)


def test_losses_of_rotations_never_rise_and_are_what_they_say():
    rng = np.random.default_rng(3)
    S = rng.standard_normal((50, 8))
    people = [
        centred(S @ rng.standard_normal((8, n)) + rng.standard_normal((50, n))) for n in (8, 12, 10)
    ]
    found = rotate_together(people, n_iterations=40, tolerance=0)
    assert len(found.losses) == 40
    assert (np.diff(found.losses) <= 1e-9 * found.losses[0]).all()
    distance = sum(
        ((part @ turn - found.shared) ** 2).sum()
        for part, turn in zip(people, found.maps, strict=True)
    )
    assert found.losses[-1] == pytest.approx(distance, rel=1e-9)


# -- shared responses -------------------------------------------------------------------------


def srm_data(n_people=3, n_samples=100, n_voxels=60, n_shared=5, seed=0):
    rng = np.random.default_rng(seed)
    S = rng.standard_normal((n_samples, n_shared))
    return [
        centred(
            S @ np.linalg.qr(rng.standard_normal((n_voxels, n_shared)))[0].T
            + 0.3 * rng.standard_normal((n_samples, n_voxels))
        )
        for _ in range(n_people)
    ]


def products(people):
    return [X @ X.T for X in people]


def srm_loss(people, bases, shared):
    return sum(((X - shared @ W.T) ** 2).sum() for X, W in zip(people, bases, strict=True))


def test_losses_of_the_shared_response_never_rise_and_are_what_they_say():
    people = srm_data()
    found = share_responses(products(people), 5, n_iterations=30, tolerance=0)
    assert (np.diff(found.losses) <= 1e-9 * found.losses[0]).all()
    bases = [X.T @ M for X, M in zip(people, found.maps, strict=True)]
    for W in bases:
        np.testing.assert_allclose(W.T @ W, np.eye(5), atol=1e-8)
    assert found.losses[-1] == pytest.approx(srm_loss(people, bases, found.shared), rel=1e-9)


def test_shared_responses_without_noise_are_found():
    rng = np.random.default_rng(0)
    S = centred(rng.standard_normal((40, 4)))
    bases = [np.linalg.qr(rng.standard_normal((n, 4)))[0] for n in (200, 30, 80)]
    found = share_responses([S @ S.T for _ in bases], 4)
    assert found.losses[-1] == pytest.approx(0, abs=1e-8)
    # S up to a rotation: the same products of samples.
    np.testing.assert_allclose(found.shared @ found.shared.T, S @ S.T, atol=1e-8)


@given(seeds, st.permutations(range(3)))
def test_order_of_people_and_rotations_of_voxels_change_nothing(seed, order):
    people = srm_data(seed=seed)
    found = share_responses(products(people), 3)
    turned = [X @ ortho_group.rvs(60, random_state=seed) for X in people]
    again = share_responses([products(turned)[k] for k in order], 3)
    np.testing.assert_allclose(again.shared, found.shared, atol=1e-5)
    assert again.losses[-1] == pytest.approx(found.losses[-1], rel=1e-9)


def test_dimensions_are_uncorrelated_and_ordered():
    shared = share_responses(products(srm_data()), 5).shared
    gram = shared.T @ shared
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-8)
    assert (np.diff(np.diag(gram)) < 0).all()


# -- people who come later ---------------------------------------------------------------------


def test_a_new_person_comes_to_the_shared_space_with_their_mean():
    rng = np.random.default_rng(4)
    S = centred(rng.standard_normal((60, 4)))
    W = np.linalg.qr(rng.standard_normal((150, 4)))[0]
    mean = rng.standard_normal(150)
    few = slice(3, 14)  # whose S has a mean of its own
    way = isometry_onto(S[few] @ W.T + mean, S[few])
    np.testing.assert_allclose(way.forth, W, atol=1e-9)
    np.testing.assert_allclose(way.mean, mean, atol=1e-9)


def test_readout_is_the_pseudo_inverse_without_a_prior_and_the_posterior_with_one():
    rng = np.random.default_rng(5)
    W = rng.standard_normal((50, 6))
    noise, precision = rng.uniform(0.5, 2, 50), rng.uniform(0.5, 2, 6)
    plain = readout_of_encoder(W, np.ones(50), precision, penalty=0)
    np.testing.assert_allclose(plain.T, np.linalg.pinv(W), atol=1e-10)
    found = readout_of_encoder(W, noise, precision)
    # The posterior mean by the other formula, P⁻¹W'(WP⁻¹W' + D)⁻¹.
    P = np.diag(1 / precision)
    expected = P @ W.T @ np.linalg.inv(W @ P @ W.T + np.diag(noise))
    np.testing.assert_allclose(found.T, expected, atol=1e-10)
