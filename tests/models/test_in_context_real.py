"""The half-real bench of the in-context encoder: its protocol on simulated and on real tunings."""

import dataclasses

import numpy as np
import pytest
from in_context_real_tunings import (
    ALONE,
    CONDITIONS,
    PRIOR,
    RIDGE,
    RIVALS,
    SHARED,
    Plan,
    bench,
    by_ridge,
    correlations,
    isotropic_share,
    measured,
    over_draws,
    page,
    read_tunings,
    run,
    second_moment,
    turned,
)

from brainkit.errors import InputError
from brainkit.evaluation import pearson_r
from brainkit.training.set_networks import unit_norm

SMALL = Plan(
    dimensions=16, supports=(12,), ceilings=(0.3,), draws=2, seeds=1, voxels=20, clusters=3,
    steps=(250, 250), pool=500, width=64, layers=2, heads=4, hidden=64,
)  # fmt: skip


def simulated(width=24, shared=4, n=60, own=0.3):
    """Three people whose voxels lie near one subspace of few dimensions."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.standard_normal((width, shared)))[0]

    def region():
        common = rng.standard_normal((n, shared)) @ axes.T / np.sqrt(shared)
        return unit_norm(common + own * rng.standard_normal((n, width)) / np.sqrt(width))

    return {f"P{person}": {name: region() for name in ("a", "b")} for person in range(3)}


@pytest.fixture(scope="module")
def people():
    return simulated()


def test_a_rotation_leaves_what_a_person_has_and_takes_what_people_share(people):
    again = turned(people, seed=0)
    for person, regions in people.items():
        before, after = (np.concatenate(list(own.values())) for own in (regions, again[person]))
        np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-5)
        assert np.abs(after - before).max() > 0.1
    overlap = [
        float(np.sum(second_moment(given["P0"]) * second_moment(given["P1"])))
        for given in (people, again)
    ]
    assert overlap[0] > 0.15  # 1/4 for one subspace
    assert overlap[1] < 0.1  # 1/24 by chance


def test_the_share_of_no_direction_is_what_people_do_not_have_in_common(people):
    assert isotropic_share(people) == 0.02  # the others' moment holds all there is
    assert isotropic_share(turned(people, seed=0)) > 0.6
    rng = np.random.default_rng(3)
    halves = {  # what each has beside the common subspace is its own
        name: {
            region: unit_norm(weights + rng.standard_normal((60, 3)) @ own / 2)
            for region, weights in regions.items()
        }
        for (name, regions), own in zip(
            people.items(), rng.standard_normal((3, 3, 24)) / 5, strict=True
        )
    }
    assert 0.02 < isotropic_share(halves) < 0.6
    alone = {name: {"a": np.eye(24, dtype=np.float32)} for name in "xy"}
    assert isotropic_share(alone) in {0.02, 0.98}  # any share is the same then


def test_scores_are_correlations_with_noise_free_responses_and_noise_is_as_said(people):
    place = bench("P0", people, "as published", SMALL)
    covariance = place.covariance()
    rng = np.random.default_rng(1)
    estimated = place.true + 0.5 * rng.standard_normal(place.true.shape)
    stimuli = place.draw(rng, 20_000)
    np.testing.assert_allclose(np.linalg.norm(stimuli, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.cov(stimuli.T), covariance, atol=0.005)
    found = np.asarray(pearson_r(stimuli @ place.true.T, stimuli @ estimated.T))
    np.testing.assert_allclose(correlations(estimated, place.true, covariance), found, atol=0.02)
    assert (correlations(np.zeros_like(estimated), place.true, covariance) == 0).all()
    X, Y = measured(place, covariance, 20_000, 0.3, rng)
    np.testing.assert_allclose(Y.var(axis=0), 1, atol=0.05)
    ceiling = np.asarray(pearson_r(X @ place.true.T, Y)) ** 2
    np.testing.assert_allclose(ceiling, 0.3, atol=0.03)
    assert covariance[0, 0] > 5 * covariance[-1, -1]  # as 1/k, but for the length


def test_a_prior_is_a_ridge_in_its_own_space(people):
    place = bench("P0", people, "as published", SMALL)
    covariance = place.covariance()
    X, Y = measured(place, covariance, 30, 0.3, np.random.default_rng(2))
    even = np.eye(16) / 16
    np.testing.assert_allclose(
        by_ridge(X, Y, even, shared=False), by_ridge(X, Y, None, shared=False), rtol=1e-4, atol=1e-6
    )
    one = by_ridge(X, Y, None, shared=True)
    assert not np.allclose(one, by_ridge(X, Y, None, shared=False))
    true = second_moment({"a": place.true})
    better = correlations(by_ridge(X, Y, true, shared=True), place.true, covariance).mean()
    assert better > correlations(one, place.true, covariance).mean() + 0.05


def test_only_the_teachers_turn_in_the_counter_test(people):
    kept, turned_ = (bench("P0", people, condition, SMALL) for condition in CONDITIONS)
    for name in ("true", "spread", "clusters"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(turned_, name))
    assert set(kept.others) == {"P1", "P2"}
    assert not np.allclose(kept.others["P1"]["a"], turned_.others["P1"]["a"])
    other = dict(people, P0={"a": people["P0"]["a"] * -1})
    again = bench("P0", other, "as published", SMALL)  # the one who is read decides nothing
    np.testing.assert_array_equal(again.others["P2"]["b"], kept.others["P2"]["b"])


def test_an_interval_over_draws_is_students():
    low, high = over_draws(np.array([1.0, 2.0, 3.0]))
    half = 4.302653 / np.sqrt(3)
    assert (low, high) == pytest.approx((2 - half, 2 + half))
    assert over_draws(np.array([1.0])) == [float("-inf"), float("inf")]


@pytest.mark.slow
def test_what_people_share_is_learned_and_the_lead_goes_where_they_share_nothing(tmp_path):
    found = run(simulated(), SMALL, tmp_path)
    kept, rotated = found["rows"]
    assert (kept["condition"], rotated["condition"]) == CONDITIONS
    for rival in (RIDGE, SHARED, ALONE):
        gap = kept["difference"][rival]
        assert gap["value"] > 0.04
        assert gap["ci"][0] > 0
        assert min(gap["by_person"].values()) > 0
        assert rotated["difference"][rival]["ci"][0] < 0
    assert abs(kept["difference"][PRIOR]["value"]) < 0.1  # the truth is no more than a subspace
    for rival in (RIDGE, SHARED, ALONE):  # the same stimuli, responses and first stage
        assert rotated["r"][rival] == pytest.approx(kept["r"][rival])


def test_on_real_tunings(shared_data, tmp_path):
    tunings = read_tunings(shared_data / "bold5000_encoders")
    assert list(tunings) == ["CSI1", "CSI2", "CSI3"]
    assert sum(len(w) for regions in tunings.values() for w in regions.values()) == 7059
    brief = dataclasses.replace(
        SMALL, dimensions=64, supports=(30,), draws=1, voxels=5, clusters=2, steps=(3, 3), pool=200
    )  # fmt: skip
    found = run(tunings, brief, tmp_path / "a")
    assert len(found["rows"]) == 2
    assert all(0.2 < one["kept"] < 1 for one in found["spaces"])  # by chance 64 of 512
    shares = {one["condition"]: one["share"] for one in found["spaces"]}
    assert shares["as published"] < shares["rotated"]
    for row in found["rows"]:
        assert all(-0.1 < row["r"][name] < 1 for name in (*RIVALS, "network"))
        assert row["r"][SHARED] > 0.1
    again = run(tunings, brief, tmp_path / "b")
    assert again["rows"] == found["rows"]
    text = page(found, "python it")
    assert text.count("\n| 0.3 | 30 | ") == 2 * (1 + len(RIVALS))
    assert "`python it`" in text
    assert "Counter-test" in text


def test_too_few_people_are_told(tmp_path):
    np.savez(tmp_path / "weights.npz", **{"A.V1.coef": np.ones((3, 4), dtype=np.float32)})
    with pytest.raises(InputError, match="weights of 1 people; three or more are needed"):
        read_tunings(tmp_path)
