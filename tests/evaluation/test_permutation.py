""""""

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from brainkit.errors import InputError
from brainkit.evaluation import (
    checked_arrays,
    correlation_length,
    exchanged_rows,
    explained_variance,
    fdr_bh,
    pearson_r,
    permutation,
    permutation_p,
    permutation_test,
    r2,
    shuffled_indices,
    time_blocks,
)

FAST = [pearson_r, r2, explained_variance]


def test_permutation_p_by_hand():
    observed = [0.5, 0.1, np.nan]
    null = [[0.4, 0.1, 0.0], [0.5, 0.2, 0.0], [0.0, np.nan, 9.0]]
    np.testing.assert_allclose(permutation_p(observed, null), [2 / 4, 4 / 4, np.nan])
    corrected = permutation_p(observed, null, max_statistic=True)
    np.testing.assert_allclose(corrected, [2 / 4, 3 / 4, np.nan])
    assert permutation_p(0.5, [0.1, 0.6, 0.2]) == 0.5


def test_permutation_p_bad_input():
    for null in (np.zeros((5, 2)), np.zeros((0, 3)), np.zeros(3)):
        with pytest.raises(InputError, match="n_permutations"):
            permutation_p(np.zeros(3), null)


def test_permutation_test_finds_signal_and_controls_errors():
    generator = np.random.default_rng(0)
    pred = generator.normal(size=(60, 100))
    true = generator.normal(size=(60, 100))
    true[:, :5] += 2 * pred[:, :5]
    true[:, 9] = 1.0
    result = permutation_test(pearson_r, true, pred, n=400)
    assert (result.p[:5] == 1 / 401).all()
    assert (result.p_familywise[:5] == 1 / 401).all()
    noise = np.r_[5:9, 10:100]
    assert 0.4 < result.p[noise].mean() < 0.6
    assert result.p_familywise[noise].min() > 0.01
    assert (result.p_familywise[noise] >= result.p[noise]).all()
    assert np.isnan(result.p[9])
    assert np.isnan(result.p_familywise[9])
    np.testing.assert_array_equal(result.observed, np.asarray(pearson_r(true, pred)))


def test_permutation_test_of_one_target():
    x = np.random.default_rng(0).normal(size=40)
    result = permutation_test(pearson_r, x, x, n=99)
    assert result.p.shape == ()
    assert float(result.p) == 0.01


def test_blocks_keep_repeats_of_an_image_together():
    # Image effects that trials of one image share make trials falsely look exchangeable.
    images = np.repeat(np.arange(8), 12)
    free, blocked = [], []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        true, pred = generator.normal(size=(2, 8))[:, images]
        free.append(permutation_test(pearson_r, true, pred, n=60, seed=seed).p)
        blocked.append(permutation_test(pearson_r, true, pred, n=60, seed=seed, blocks=images).p)
    assert np.mean(np.array(free) < 0.05) > 0.25
    assert np.mean(np.array(blocked) < 0.05) < 0.12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"Y_true": np.zeros((3, 2))}, "same samples"),
        ({"n": 0}, "at least 1 permutation"),
        ({"blocks": [0, 1, 1, 2, 2, 2]}, "all differ in size or run"),
        ({"blocks": [0, 1]}, "one label per item"),
    ],
)
def test_permutation_test_bad_input(options, message):
    arguments = {"Y_true": np.zeros((6, 2)), "Y_pred": np.zeros((6, 2))} | options
    with pytest.raises(InputError, match=message):
        permutation_test(pearson_r, **arguments)


def of_all_pairings(score_fn, true, pred, orders):
    """p and family-wise p from every permutation there is."""
    null = np.stack([np.asarray(score_fn(true[list(order)], pred)) for order in orders])
    observed = np.asarray(score_fn(true, pred))
    reached = null >= observed - 1e-9
    largest = null.max(axis=1)[:, None] >= observed - 1e-9
    return reached.mean(axis=0), largest.mean(axis=0)


@pytest.mark.parametrize("score_fn", FAST)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_of_orders_equal_the_enumeration(score_fn, dtype):
    generator = np.random.default_rng(1)
    true, pred = (generator.normal(size=(5, 6)) for _ in range(2))
    pred[:, 3] += true[:, 3]
    pred[:, 4] *= 7.0
    true[:, 5] += 3.0
    true, pred = true.astype(dtype), pred.astype(dtype)
    result = permutation_test(score_fn, true, pred, n=9999)
    p, family = of_all_pairings(score_fn, true, pred, itertools.permutations(range(5)))
    np.testing.assert_allclose(result.p, p, atol=0.02)
    np.testing.assert_allclose(result.p_familywise, family, atol=0.02)
    np.testing.assert_array_equal(result.observed, np.asarray(score_fn(true, pred)))


def test_p_equals_scipys_exact_test():
    true, pred = np.random.default_rng(3).normal(size=(2, 7))

    def r(values):
        return np.corrcoef(values, pred)[0, 1]

    exact = scipy.stats.permutation_test(
        (true,), r, permutation_type="pairings", alternative="greater", n_resamples=np.inf
    )
    result = permutation_test(pearson_r, true, pred, n=20000)
    assert float(result.observed) == pytest.approx(exact.statistic)
    assert float(result.p) == pytest.approx(exact.pvalue, abs=0.015)


@pytest.mark.parametrize("score_fn", FAST)
def test_functions_that_are_not_known_agree_with_those_that_are(score_fn):
    generator = np.random.default_rng(2)
    true = generator.normal(size=(40, 8))
    pred = 0.2 * true + generator.normal(size=(40, 8))
    fast = permutation_test(score_fn, true, pred, n=2000)
    slow = permutation_test(lambda y, p: np.asarray(score_fn(y, p)), true, pred, n=2000)
    np.testing.assert_allclose(fast.p, slow.p, atol=0.05)
    np.testing.assert_allclose(fast.p_familywise, slow.p_familywise, atol=0.06)


@pytest.mark.parametrize("n", [19, 6])  # a full grid of 5 × 4 pairs, and one with pairs left out
def test_p_is_exact_for_few_permutations(n):
    p, family = [], []
    for seed in range(1500):
        true, pred = np.random.default_rng(seed).normal(size=(2, 12, 4))
        result = permutation_test(pearson_r, true, pred, n=n, seed=seed)
        p.append(result.p[0])
        family.append(result.p_familywise.min())
    for values in (p, family):
        _, counts = np.unique(np.round(np.array(values) * (n + 1)), return_counts=True)
        assert len(counts) == n + 1
        assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_batches_of_targets_do_not_matter(monkeypatch):
    true, pred = np.random.default_rng(0).normal(size=(2, 30, 11))
    whole = permutation_test(r2, true, pred, n=50)
    monkeypatch.setattr(permutation, "BATCH_BYTES", 1)
    split = permutation_test(r2, true, pred, n=50)
    np.testing.assert_array_equal(whole.p, split.p)
    np.testing.assert_array_equal(whole.p_familywise, split.p_familywise)
    assert checked_arrays.BATCH_BYTES > 1


def test_constant_predictions_have_an_r2_that_no_permutation_changes():
    true = np.random.default_rng(0).normal(size=(20, 3))
    pred = true.copy()
    pred[:, 1] = 0.5
    result = permutation_test(r2, true, pred, n=99)
    np.testing.assert_allclose(result.p, [0.01, 1.0, 0.01])
    assert np.isnan(permutation_test(pearson_r, true, pred, n=99).p[1])


def test_nothing_to_test_is_nan():
    true = np.ones((10, 2))
    result = permutation_test(pearson_r, true, true, n=20)
    assert np.isnan(result.p).all()
    assert np.isnan(result.p_familywise).all()


def test_fdr_over_targets():
    true, pred = np.random.default_rng(0).normal(size=(2, 30, 5))
    pred[:, 0] += true[:, 0]
    true[:, 2] = 0.0
    result = permutation_test(pearson_r, true, pred, n=99)
    np.testing.assert_array_equal(result.p_fdr, fdr_bh(result.p))
    assert result.p_fdr[0] == pytest.approx(0.04)
    assert np.isnan(result.p_fdr[2])


def test_folds_put_together_are_not_independent_samples():
    """Held to what the documentation says of cross-validated predictions."""
    generator = np.random.default_rng(0)
    features, noise = generator.normal(size=(300, 200)), generator.normal(size=(300, 500))

    def ridge(train, test):
        gram = features[train].T @ features[train] + 100.0 * np.eye(200)
        return features[test] @ np.linalg.solve(gram, features[train].T @ noise[train])

    folds = np.split(generator.permutation(300), 5)
    rows = np.concatenate(folds)
    together = [ridge(np.setdiff1d(rows, fold), fold) for fold in folds]
    p = permutation_test(pearson_r, noise[rows], np.concatenate(together), n=199).p
    assert (p <= 0.05).mean() == pytest.approx(0.12, abs=0.03)
    p = permutation_test(
        pearson_r, noise[200:], ridge(np.arange(200), np.arange(200, 300)), n=199
    ).p
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.025)


def autocorrelated(generator, n, n_units, memory=0.9):
    noise = generator.normal(size=(n, n_units))
    for row in range(1, n):
        noise[row] += memory * noise[row - 1]
    return noise


def test_blocks_hold_for_time_series_where_single_samples_do_not():
    runs = np.repeat([3, 1, 2], 120)
    free, blocked = [], []
    for seed in range(12):
        generator = np.random.default_rng(seed)
        true, pred = (autocorrelated(generator, 360, 40) for _ in range(2))
        free.append(permutation_test(pearson_r, true, pred, n=99, seed=seed).p)
        options = {"n": 99, "seed": seed, "runs": runs, "block_length": 30}
        blocked.append(permutation_test(pearson_r, true, pred, **options).p)
    assert np.mean(np.array(free) <= 0.05) > 0.2
    assert np.mean(np.array(blocked) <= 0.05) < 0.12


def test_blocks_stay_in_their_run():
    runs = np.repeat([0, 1], 6)
    seen = set()

    def spy(true, pred):
        seen.add(tuple(true[:, 0]))
        return pearson_r(true, pred)

    true = np.arange(12.0)[:, None]
    permutation_test(spy, true, true, n=300, runs=runs, block_length=2)
    assert len(seen) == 36  # 3! orders of 3 blocks in each of 2 runs
    for order in seen:
        assert set(order[:6]) == set(range(6))
        pairs = np.array(order).reshape(-1, 2)
        assert (pairs[:, 1] == pairs[:, 0] + 1).all()
        assert (pairs[:, 0] % 2 == 0).all()


def test_time_blocks_by_hand():
    runs = ["a"] * 5 + ["b"] * 4 + ["a"] * 3
    np.testing.assert_array_equal(time_blocks(runs, 2), [0, 0, 1, 1, 2, 3, 3, 4, 4, 5, 5, 6])
    np.testing.assert_array_equal(time_blocks(runs, 10), [0] * 5 + [1] * 4 + [2] * 3)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 12))
def test_time_blocks_never_cross_a_run(lengths, block_length):
    runs = np.repeat(np.arange(len(lengths)), lengths)
    blocks = time_blocks(runs, block_length)
    sizes = np.bincount(blocks)
    assert (np.diff(blocks) >= 0).all()
    assert sizes.max() <= block_length
    assert len(sizes) == sum(-(-length // block_length) for length in lengths)
    assert all(len(set(runs[blocks == block])) == 1 for block in range(len(sizes)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runs": [0] * 6}, "without block_length"),
        ({"runs": [0] * 5, "block_length": 2}, r"runs has shape \(5,\)"),
        ({"block_length": 0}, "at least 1 sample"),
        ({"blocks": [0] * 6, "block_length": 2}, "in one way"),
        ({"runs": [0, 0, 1, 1, 2, 2], "block_length": 2}, "No two of the 3 blocks"),
    ],
)
def test_bad_blocks(options, message):
    with pytest.raises(InputError, match=message):
        permutation_test(pearson_r, np.zeros((6, 2)), np.zeros((6, 2)), **options)


def test_time_blocks_bad_input():
    with pytest.raises(InputError, match="one run a sample"):
        time_blocks([], 3)
    with pytest.raises(InputError, match="one run a sample"):
        time_blocks([[0, 1]], 3)


@given(st.integers(2, 40), st.integers(0, 5))
def test_shuffles_leave_no_item_in_place(n, seed):
    order = shuffled_indices(n, seed)
    assert sorted(order) == list(range(n))
    assert (order != np.arange(n)).all()
    np.testing.assert_array_equal(order, shuffled_indices(n, seed))


@given(st.lists(st.integers(0, 4), min_size=2, max_size=25), st.integers(0, 5))
def test_shuffles_leave_no_item_at_its_stimulus(labels, seed):
    groups = np.array(labels)
    n = len(groups)
    assume(2 * np.bincount(groups).max() <= n)
    order = shuffled_indices(n, seed, groups)
    assert sorted(order) == list(range(n))
    assert (groups[order] != groups).all()


def test_groups_of_one_size_move_as_wholes():
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(6), 3))
    moved = groups[shuffled_indices(18, 4, groups)]
    sources = {target: set(moved[groups == target]) for target in range(6)}
    assert all(len(source) == 1 for source in sources.values())
    assert set.union(*sources.values()) == set(range(6))


def test_every_derangement_is_equally_likely():
    drawn = [tuple(shuffled_indices(4, seed)) for seed in range(900)]
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == 9  # the derangements of 4 items
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize(
    ("n", "groups"), [(1, None), (4, [0] * 4), (5, [0, 0, 0, 1, 2]), (0, None)]
)
def test_impossible_shuffles(n, groups):
    with pytest.raises(InputError, match="2 stimuli"):
        shuffled_indices(n, 0, groups)


@given(npst.arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1)))
def test_fdr_equals_scipy(p):
    np.testing.assert_allclose(fdr_bh(p), scipy.stats.false_discovery_control(p))


def test_fdr_keeps_nan_and_shape():
    p = np.array([[0.01, np.nan], [0.04, 0.03]])
    np.testing.assert_allclose(fdr_bh(p), [[0.03, np.nan], [0.04, 0.04]])
    assert np.isnan(fdr_bh([np.nan])).all()
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        fdr_bh([0.5, 1.5])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 5))
def test_an_exchange_gives_all_rows_of_a_stimulus_the_same_other_one(labels, seed):
    shown = np.array(labels)
    moved = shown[exchanged_rows(shown, np.random.default_rng(seed))]
    sources = {target: set(moved[shown == target]) for target in set(labels)}
    assert all(len(source) == 1 for source in sources.values())
    assert set.union(*sources.values()) == set(labels)


def test_conditions_are_exchanged_within_each_run_in_its_own_way():
    shown = np.tile([3, 1, 2, 1], 50)
    runs = np.repeat(np.arange(50), 4)
    moved = shown[exchanged_rows(shown, np.random.default_rng(0), strata=runs)].reshape(50, 4)
    assert (np.sort(moved, axis=1) == [1, 1, 2, 3]).all()  # each as often as it was shown
    kinds, counts = np.unique(moved, axis=0, return_counts=True)
    assert len(kinds) == 12  # every order of the four trials
    assert counts.max() < 15


def test_stretches_change_places_as_wholes():
    shown = np.arange(23)
    order = exchanged_rows(shown[:20], np.random.default_rng(2), blocks=np.arange(20) // 5)
    starts = order.reshape(4, 5)
    np.testing.assert_array_equal(np.diff(starts, axis=1), 1)
    assert sorted(starts[:, 0]) == [0, 5, 10, 15]
    assert (starts[:, 0] != [0, 5, 10, 15]).any()
    # Blocks of several lengths are laid out anew, and none stays because it is alone.
    sizes = [3, 4, 5, 6, 5]
    blocks = np.repeat(np.arange(5), sizes)
    order = exchanged_rows(shown, np.random.default_rng(1), blocks=blocks)
    assert sorted(order) == list(range(23))
    assert (np.diff(order) == 1).sum() >= 23 - 5
    assert (order == shown).mean() < 0.5


@given(st.integers(0, 10_000))
def test_rows_in_random_order_are_not_alike(seed):
    generator = np.random.default_rng(seed)
    series = generator.normal(size=(100, 20)) @ generator.normal(size=(20, 30))
    # One in a thousand may look slow; none of them for long.
    assert correlation_length(series, np.zeros(100)) <= 3


@pytest.mark.parametrize("phi", [0.6, 0.9])
def test_how_long_slow_series_are_alike(phi):
    generator = np.random.default_rng(0)
    series = np.zeros((800, 40))
    for row in range(1, 800):
        series[row] = phi * series[row - 1] + generator.normal(size=40)
    length = correlation_length(series, np.repeat(np.arange(8), 100))
    # φ^k falls below what 40 independent series of 800 rows can tell, about .02.
    assert np.log(0.05) / np.log(phi) < length < np.log(0.005) / np.log(phi)
    shuffled = series[generator.permutation(800)]
    assert correlation_length(shuffled, np.zeros(800)) == 1
    assert correlation_length(np.ones((10, 3)), np.zeros(10)) == 1
