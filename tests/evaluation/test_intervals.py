"""Intervals: closed forms, coverage of known truths, and the variance that refits add."""

import numpy as np
import pytest
import scipy.stats

from brainkit.errors import InputError, QuantityError
from brainkit.evaluation import (
    Correlation,
    Estimate,
    RSquared,
    bootstrap_ci,
    bootstrap_difference,
    intervals,
    mean_estimate,
    mean_of,
    training_share,
)


def test_bootstrap_approaches_the_normal_interval():
    values = np.random.default_rng(0).normal(2.0, 1.0, size=400)
    interval = bootstrap_ci(values, n=4000)
    half = scipy.stats.norm.ppf(0.975) * values.std() / 20
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.01)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.01)
    assert (interval.n, interval.level, interval.excludes_zero) == (400, 0.95, True)


def test_bootstrap_covers_the_truth():
    covered = 0
    for seed in range(200):
        values = np.random.default_rng(seed).normal(size=60)
        interval = bootstrap_ci(values, n=300, level=0.9, seed=seed)
        covered += interval.low <= 0 <= interval.high
    assert 165 <= covered <= 195


def test_bootstrap_depends_on_the_seed_alone(monkeypatch):
    values = np.random.default_rng(0).normal(size=30)
    first = bootstrap_ci(values, seed=1)
    assert bootstrap_ci(values, seed=1) == first
    assert bootstrap_ci(values, seed=2) != first
    monkeypatch.setattr(intervals, "_RESAMPLE_CELLS", 30 * 7)
    assert bootstrap_ci(values, seed=1) == first


def test_copies_of_an_item_do_not_narrow_the_interval():
    values = np.random.default_rng(0).normal(size=50)
    single = bootstrap_ci(values, seed=3)
    grouped = bootstrap_ci(np.repeat(values, 5), seed=3, groups=np.repeat(np.arange(50), 5))
    assert (grouped.low, grouped.high) == pytest.approx((single.low, single.high))
    assert grouped.n == 250


def test_nan_items_are_left_out():
    interval = bootstrap_ci([1.0, np.nan, 3.0, 2.0])
    assert (interval.value, interval.n) == (2.0, 3)


def test_paired_difference_sees_what_unpaired_intervals_do_not():
    generator = np.random.default_rng(0)
    difficulty = generator.normal(size=100)
    a = difficulty + 0.1 + generator.normal(scale=0.05, size=100)
    b = difficulty + generator.normal(scale=0.05, size=100)
    difference = bootstrap_difference(a, b)
    assert difference.excludes_zero
    assert difference.value == pytest.approx((a - b).mean())
    assert bootstrap_ci(a).low < bootstrap_ci(b).high
    mirrored = bootstrap_difference(b, a)
    assert (mirrored.low, mirrored.high) == pytest.approx((-difference.high, -difference.low))
    assert not bootstrap_difference(b, b[::-1]).excludes_zero


def test_differences_are_between_one_kind():
    with pytest.raises(QuantityError, match="Correlation and RSquared"):
        bootstrap_difference(Correlation([0.1, 0.2]), RSquared([0.1, 0.2]))
    assert bootstrap_difference(Correlation([0.3, 0.2]), Correlation([0.1, 0.2])).n == 2


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([1.0], {}, "at least 2"),
        ([1.0, np.nan], {}, "1 of 2 scores are finite"),
        ([1.0, 2.0], {"groups": [0, 0]}, "in 1 groups"),
        ([[1.0, 2.0]], {}, "n_items"),
        ([1.0, 2.0], {"n": 0}, "n=0"),
        ([1.0, 2.0], {"level": 95}, "level=95"),
        ([1.0, 2.0], {"groups": [0]}, "one label per item"),
    ],
)
def test_bootstrap_bad_input(values, options, message):
    with pytest.raises(InputError, match=message):
        bootstrap_ci(values, **options)


def test_difference_needs_pairs():
    with pytest.raises(InputError, match="3 items and b 2"):
        bootstrap_difference([1, 2, 3], [1, 2])


DRAWS = {
    "normal": (lambda g, n: g.normal(size=n), 0.0),
    "exponential": (lambda g, n: g.exponential(size=n), 1.0),
    "uniform": (lambda g, n: g.uniform(size=n), 0.5),
    "near the limit": (lambda g, n: g.beta(8, 1, size=n), 8 / 9),
    "won in .9": (lambda g, n: (g.uniform(size=n) < 0.9).astype(float), 0.9),
}


@pytest.mark.parametrize("n", [10, 20, 50])
@pytest.mark.parametrize("kind", DRAWS)
def test_intervals_cover_the_truth_at_their_level(kind, n):
    draw, truth = DRAWS[kind]
    covered = []
    for seed in range(400):
        found = bootstrap_ci(draw(np.random.default_rng(seed), n), n=500, seed=seed)
        covered.append(found.low <= truth <= found.high)
    # 95 % within three binomial errors of 400; wins are whole numbers, and may cover more.
    assert 0.95 - 0.035 < np.mean(covered) < (0.995 if kind == "won in .9" else 0.95 + 0.033)


@pytest.mark.parametrize("n_groups", [8, 20])
def test_groups_of_dependent_items_are_covered(n_groups):
    covered = []
    for seed in range(400):
        generator = np.random.default_rng(seed)
        sizes = generator.integers(1, 6, size=n_groups)
        groups = np.repeat(np.arange(n_groups), sizes)
        values = generator.normal(size=n_groups)[groups] + 0.5 * generator.normal(size=sizes.sum())
        found = bootstrap_ci(values, n=500, groups=groups)
        covered.append(found.low <= 0 <= found.high)
        assert found.n_units == round(sizes.sum() ** 2 / (sizes**2).sum())
        assert found.few_units == (n_groups < 10)
    # Eight groups of unequal sizes, which an interval marks as few, are covered somewhat less.
    assert (0.88 if n_groups < 10 else 0.915) < np.mean(covered) < 0.985


def test_ten_wins_of_ten_leave_room_for_losses():
    found = bootstrap_ci(np.ones(10))
    assert (found.value, found.high) == (1.0, 1.0)
    # Half a win and half a loss more than there are: near Jeffreys' .78.
    assert 0.6 < found.low < 0.85
    flags = bootstrap_ci(np.array([True] * 7 + [False] * 3))
    wilson = scipy.stats.binomtest(7, 10).proportion_ci(method="wilson")
    assert flags.low == pytest.approx(wilson.low, abs=0.1)
    assert flags.high == pytest.approx(wilson.high, abs=0.1)


def test_scores_that_are_all_alike_have_no_spread():
    found = bootstrap_ci(np.full(20, 0.5), bounds=(0.0, 1.0))
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)


def test_means_and_differences_of_estimates_are_those_of_their_items():
    generator = np.random.default_rng(0)
    one, two = generator.normal(size=(2, 40))
    units = np.arange(40) // 2
    first, second = (mean_estimate(v, units=units) for v in (one, two))
    direct = mean_estimate(one - two, units=units)
    assert (first - second).value == pytest.approx(direct.value)
    np.testing.assert_allclose((first - second).influence, direct.influence)
    both = mean_of([first, second])
    np.testing.assert_allclose(
        both.influence, mean_estimate((one + two) / 2, units=units).influence
    )
    assert first.standard_error == pytest.approx(
        np.sqrt(one.reshape(20, 2).sum(axis=1).var(ddof=1) * 20) / 40, rel=0.05
    )
    with pytest.raises(InputError, match="no paired difference"):
        _ = first - mean_estimate(one)


def test_training_widens_the_interval_by_its_share_of_variance():
    influence = np.random.default_rng(0).normal(size=400)
    plain = Estimate(0.0, influence, 400, 399).interval(n=20000)
    shared = Estimate(0.0, influence, 400, 399, training=1.0).interval(n=20000)
    ratio = (shared.high - shared.low) / (plain.high - plain.low)
    assert ratio == pytest.approx(np.sqrt(2), rel=0.03)
    nothing = Estimate(1.0, influence[:1], 1, 0).interval()
    assert np.isnan([nothing.low, nothing.high]).all()


@pytest.mark.parametrize("apart", [0.25, 1.0])
def test_the_share_of_predictions_that_training_items_make(apart):
    """Predictions are means over training items: their variance over training sets is known."""
    generator = np.random.default_rng(0)
    n, n_targets, signal = 40, 4000, 0.3
    common = int(n * (1 - apart))
    items = generator.normal(size=(n_targets, 2 * n - common))
    means = np.stack([items[:, :n].mean(axis=1), items[:, -n:].mean(axis=1)])
    truth = signal * generator.normal(size=(300, 1))
    first, second = (truth + mean for mean in means)
    expected = (1 / n) / (1 / n + signal**2)
    found = training_share(first, second, apart=apart)
    assert found.shape == (n_targets,)
    # Of one draw of the training items each share is a ratio of few numbers; its mean is not.
    noise = ((first - second) ** 2).mean() / (2 * apart)
    assert noise == pytest.approx(1 / n, rel=0.1)
    pooled = training_share(first.reshape(-1, 1), second.reshape(-1, 1), apart=apart)
    assert pooled[0] == pytest.approx(expected, rel=0.15)
    assert training_share(np.zeros((5, 2)), np.zeros((5, 2)), apart=0.5).tolist() == [1, 1]
    with pytest.raises(InputError, match="share in"):
        training_share(first, second, apart=0.0)


@pytest.mark.parametrize("sizes", [[60] + [3] * 19, [40, 40] + [4] * 10])
def test_a_few_large_groups_are_few(sizes):
    """Twenty groups of which one holds half the items cover a mean in half of the runs."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    values = np.random.default_rng(0).normal(size=len(groups))
    found = bootstrap_ci(values, n=500, groups=groups)
    assert found.few_units
    even = bootstrap_ci(values[:60], n=500, groups=np.repeat(np.arange(20), 3))
    assert (even.n_units, even.few_units) == (20, False)
