"""Peers that are no dependencies: what they gave on the same seeded data, kept as numbers.

fmralign 0.0.6 and fastsrm 0.0.5, on NumPy 2.4 in double precision, from ``people()`` below:

    pip install fmralign==0.0.6 fastsrm==0.0.5
    scaled_procrustes(X, Y, scaling=False)                        # fmralign.methods.procrustes
    GroupAlignment(method=Procrustes(scaling=False), n_iter=N)    # .fit(named, y="template")
    IdentifiableFastSRM(method="det", n_components=5, n_iter=3000, tol=1e-8, use_pca=True,
                        random_state=seed)                        # .fit([X.T for X in people])

Distances are summed squares: of rotated responses to the other's, of all people to the mean of
what is aligned, and of responses to the mean shared response times each basis.
"""

import numpy as np
import pytest

from brainkit.alignment.solutions import procrustes, rotate_together, share_responses, thin_scores

FMRALIGN_PAIR = {
    20: (8027.8475514082365, [[6.10869471, -4.2254597, 0.35013082],
                              [3.87427126, 5.62582593, -2.29680428]]),
    90: (11608.201061910666, [[3.92595721, -5.53266676, 2.92294131],
                              [3.94791243, 4.9218939, -2.5183335]]),
}  # fmt: skip
FMRALIGN_GROUP = {2: 10572.564659804231, 10: 10565.599599017418}
FASTSRM = (84478.67234003278, 84478.67234003276, 84478.67234003276)  # seeds 0, 1, 2


def people():
    """Three people of 90 voxels, 60 samples and 8 shared dimensions, under as much noise."""
    rng = np.random.default_rng(11)
    S = rng.standard_normal((60, 8))
    found = []
    for _ in range(3):
        X = S @ rng.standard_normal((8, 90)) + 2 * rng.standard_normal((60, 90))
        found.append(X - X.mean(axis=0))
    return found


@pytest.mark.parametrize("n_voxels", FMRALIGN_PAIR)
def test_a_pair_is_rotated_as_by_fmralign(n_voxels):
    # With fewer voxels than samples, and with more, where fmralign takes its dual way.
    X, Y = (one[:, :n_voxels] for one in people()[:2])
    left, right = procrustes(X, Y)
    rotated = X @ left @ right.T
    distance, corner = FMRALIGN_PAIR[n_voxels]
    assert ((rotated - Y) ** 2).sum() == pytest.approx(distance, rel=1e-10)
    np.testing.assert_allclose(rotated[:2, :3], corner, atol=1e-7)


@pytest.mark.parametrize("n_iterations", FMRALIGN_GROUP)
def test_a_group_comes_as_near_as_by_fmralign(n_iterations):
    scores = [thin_scores(X).scores for X in people()]
    found = rotate_together(scores, n_iterations=n_iterations, tolerance=0)
    assert found.losses[-1] <= FMRALIGN_GROUP[n_iterations] * (1 + 1e-10)


def test_shared_responses_reach_the_loss_of_fastsrm():
    found = share_responses([X @ X.T for X in people()], 5, n_iterations=3000, tolerance=0)
    assert found.losses[-1] == pytest.approx(min(FASTSRM), rel=1e-10)
    # By default they stop within 1e-5 of it.
    assert share_responses([X @ X.T for X in people()], 5).losses[-1] < max(FASTSRM) * (1 + 1e-5)
