"""Partitions of explained variance: their sums, himalaya, sets drawn by hand, bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from brainkit.errors import InputError
from brainkit.linear.ridge_solver import solve_ridge
from brainkit.linear.variance_partition import (
    band_subsets,
    commonality,
    commonality_analysis,
    correlation_split,
    r2_split,
)


def predictions(n_bands=3, n_samples=40, n_targets=6, seed=0):
    """Responses that correlated bands predict in part, with offsets."""
    rng = np.random.default_rng([seed, n_bands])
    common = rng.normal(size=(n_samples, n_targets))
    bands = 0.4 * rng.normal(size=(n_bands, n_samples, n_targets)) + 0.3 * common
    Y = bands.sum(axis=0) + rng.normal(size=(n_samples, n_targets)) + 5
    return Y, bands


def raw_r2(Y, predicted):
    return r2_score(Y, predicted, multioutput="raw_values")


def test_shares_sum_to_the_r2_of_the_joint_prediction():
    Y, bands = predictions()
    split = r2_split(Y, bands)
    np.testing.assert_allclose(split.total, raw_r2(Y, bands.sum(axis=0) + Y.mean(axis=0)))
    np.testing.assert_allclose(split.bands.sum(axis=0), split.total)
    assert split.bands.shape == (3, 6)
    assert not split.offset.any()


@given(st.integers(1, 5), st.integers(0, 200), st.floats(-20, 20))
def test_shares_and_offset_sum_to_r2_whatever_the_intercept(n_bands, seed, shift):
    Y, bands = predictions(n_bands, seed=seed)
    intercept = np.linspace(-1, 1, 6) + shift
    split = r2_split(Y, bands, intercept)
    np.testing.assert_allclose(split.total, raw_r2(Y, bands.sum(axis=0) + intercept), rtol=1e-8)
    np.testing.assert_allclose(split.bands.sum(axis=0) + split.offset, split.total, rtol=1e-12)


def test_an_intercept_that_is_the_mean_takes_nothing_if_bands_are_centred():
    Y, bands = predictions()
    bands -= bands.mean(axis=1, keepdims=True)
    split, plain = r2_split(Y, bands, Y.mean(axis=0)), r2_split(Y, bands)
    np.testing.assert_allclose(split.offset, 0, atol=1e-12)
    np.testing.assert_allclose(split.bands, plain.bands)


def test_one_band_has_all_and_bands_without_prediction_have_none():
    Y, bands = predictions(1)
    np.testing.assert_allclose(r2_split(Y, bands).bands[0], raw_r2(Y, bands[0] + Y.mean(axis=0)))
    split = r2_split(Y, [bands[0], np.zeros_like(bands[0])])
    assert not split.bands[1].any()


def test_bands_that_are_orthogonal_have_their_own_r2():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(30, 3)) - rng.normal(size=3))[0]
    basis = np.linalg.qr(basis - basis.mean(axis=0))[0]
    Y = basis @ np.array([[3.0], [2.0], [1.0]])
    bands = [3 * basis[:, :1], 2 * basis[:, 1:2]]
    np.testing.assert_allclose(r2_split(Y, bands).bands[:, 0], [9 / 14, 4 / 14])


@pytest.mark.parametrize("n_bands", [1, 2, 4])
def test_himalaya_splits_r2_alike(n_bands):
    from himalaya.backend import set_backend
    from himalaya.scoring import r2_score_split

    set_backend("numpy")
    Y, bands = predictions(n_bands)
    Y = Y - Y.mean(axis=0)
    np.testing.assert_allclose(r2_split(Y, bands).bands, r2_score_split(Y, bands), rtol=1e-10)


@pytest.mark.parametrize("n_bands", [1, 2, 4])
def test_himalaya_splits_correlations_alike(n_bands):
    from himalaya.backend import set_backend
    from himalaya.scoring import correlation_score_split

    set_backend("numpy")
    Y, bands = predictions(n_bands)
    expected = correlation_score_split(Y, bands)
    np.testing.assert_allclose(correlation_split(Y, bands), expected, rtol=1e-10)


@given(st.integers(1, 5), st.integers(0, 200))
def test_correlations_sum_to_that_of_the_joint_prediction(n_bands, seed):
    Y, bands = predictions(n_bands, seed=seed)
    joint = bands.sum(axis=0)
    expected = [np.corrcoef(Y[:, t], joint[:, t])[0, 1] for t in range(6)]
    np.testing.assert_allclose(correlation_split(Y, bands).sum(axis=0), expected, rtol=1e-9)
    np.testing.assert_allclose(
        correlation_split(Y + 7, bands + 3), correlation_split(Y, bands), rtol=1e-7, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_torch_tensors_and_single_precision(dtype):
    Y, bands = (values.astype(dtype) for values in predictions())
    tensors = torch.as_tensor(Y), torch.as_tensor(bands)
    expected = r2_split(Y, bands, Y[0])
    split = r2_split(*tensors, torch.as_tensor(Y[0]))
    for name in ("bands", "offset", "total"):
        assert getattr(split, name).dtype == torch.float64
        np.testing.assert_allclose(
            getattr(split, name).numpy(), getattr(expected, name), rtol=1e-10, atol=1e-12
        )
    np.testing.assert_allclose(
        correlation_split(*tensors).numpy(), correlation_split(Y, bands), rtol=1e-10
    )
    double = r2_split(*predictions())
    np.testing.assert_allclose(r2_split(Y, bands).bands, double.bands, rtol=1e-4, atol=1e-5)


def test_a_constant_target_or_prediction_is_nan():
    Y, bands = predictions()
    Y[:, 2] = 0.1
    bands[:, :, 4] = 0.0
    split = r2_split(Y, bands)
    for values in (*split.bands, split.offset, split.total):
        assert np.isnan(values).tolist() == [False, False, True, False, False, False]
    shares = correlation_split(Y, bands)
    assert np.isnan(shares[0]).tolist() == [False, False, True, False, True, False]


def test_batches_of_targets_change_nothing(monkeypatch):
    Y, bands = predictions()
    whole = r2_split(Y, bands, Y[0]), correlation_split(Y, bands)
    monkeypatch.setattr("brainkit.linear.variance_partition.TARGETS_AT_ONCE", 4)
    np.testing.assert_array_equal(r2_split(Y, bands, Y[0]).bands, whole[0].bands)
    np.testing.assert_array_equal(correlation_split(Y, bands), whole[1])


def test_predictions_that_do_not_fit():
    Y, bands = predictions()
    with pytest.raises(InputError, match="No predictions of bands were given"):
        r2_split(Y, [])
    with pytest.raises(InputError, match=r"got Y \(40, 6\) and, for band 1, \(39, 6\)"):
        r2_split(Y, [bands[0], bands[1][1:]])
    with pytest.raises(InputError, match=r"got Y \(40,\) and, for band 0, \(40,\)"):
        correlation_split(Y[:, 0], [bands[0][:, 0]])
    with pytest.raises(InputError, match=r"one value for each of the 6 targets; got \(5,\)"):
        r2_split(Y, bands, np.zeros(5))
    with pytest.raises(InputError, match="Y must be floating point; got int64"):
        r2_split(Y.astype(np.int64), bands)
    with pytest.raises(InputError, match="needs at least 2 samples; got 1"):
        r2_split(Y[:1], bands[:, :1])


# ------------------------------------------------------------------------------ commonality


def union_sizes(regions, bands):
    """What each subset's union measures, of regions of a Venn diagram {bands: size}."""
    return {
        subset: np.array([sum(size for inside, size in regions.items() if inside & set(subset))])
        for subset in band_subsets(bands)
    }


def test_subsets_of_three_bands():
    assert band_subsets(["a", "b", "c"]) == [
        ("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c"),
    ]  # fmt: skip


@pytest.mark.parametrize("n_bands", [2, 3, 4])
def test_regions_of_a_venn_diagram_are_found_again(n_bands):
    bands = list("abcd")[:n_bands]
    rng = np.random.default_rng(n_bands)
    regions = {frozenset(subset): rng.uniform(0, 0.1) for subset in band_subsets(bands)}
    found = commonality(bands, union_sizes(regions, bands))
    assert list(found.parts) == band_subsets(bands)
    for subset, part in found.parts.items():
        np.testing.assert_allclose(part, regions[frozenset(subset)], atol=1e-12)
    np.testing.assert_allclose(found.total, sum(regions.values()))
    assert set(found.unique) == set(bands)
    np.testing.assert_allclose(found.unique["a"], regions[frozenset("a")], atol=1e-12)


@given(st.integers(2, 4), st.integers(0, 100))
def test_parts_sum_to_the_full_r2_and_to_each_models(n_bands, seed):
    bands = tuple(range(n_bands))
    rng = np.random.default_rng([seed, n_bands])
    r2 = {subset: rng.uniform(-0.2, 1, size=5) for subset in band_subsets(bands)}
    found = commonality(bands, r2)
    np.testing.assert_allclose(sum(found.parts.values()), r2[bands], atol=1e-12)
    for subset, expected in r2.items():
        touching = [part for inside, part in found.parts.items() if set(inside) & set(subset)]
        np.testing.assert_allclose(sum(touching), expected, atol=1e-12)


def test_two_bands_are_the_textbooks_three_differences():
    r2 = {("a",): np.array([0.3]), ("b",): np.array([0.5]), ("a", "b"): np.array([0.6])}
    found = commonality(["a", "b"], r2)
    np.testing.assert_allclose(found.parts[("a",)], 0.6 - 0.5)
    np.testing.assert_allclose(found.parts[("b",)], 0.6 - 0.3)
    np.testing.assert_allclose(found.parts[("a", "b")], 0.3 + 0.5 - 0.6)


def test_keys_may_be_in_any_order_and_arrays_of_either_kind():
    r2 = {("b",): torch.tensor([0.5]), frozenset("ab"): torch.tensor([0.6])}
    r2[("a",)] = torch.tensor([0.3])
    found = commonality(["a", "b"], r2)
    assert isinstance(found.parts[("a", "b")], torch.Tensor)
    assert found.parts[("a", "b")].item() == pytest.approx(0.2)


def test_the_driver_fits_every_subset_and_finds_what_the_bands_share():
    rng = np.random.default_rng(0)
    shared, own_a, own_b = rng.normal(size=(3, 400, 1))
    spaces = {
        "a": np.hstack([shared, own_a]),
        "b": np.hstack([shared, own_b]),
        "c": rng.normal(size=(400, 2)),
    }
    Y = np.hstack([2 * shared + own_a, own_b, shared])
    train, test = slice(0, 300), slice(300, 400)
    asked = []

    def fit_predict(subset):
        asked.append(subset)
        X = np.hstack([spaces[band] for band in subset])
        coef, intercept = solve_ridge(X[train], Y[train], np.full(3, 1e-3))
        return X[test] @ coef.T + intercept

    found = commonality_analysis(list(spaces), Y[test], fit_predict)
    assert asked == band_subsets(list(spaces))
    expected = {
        ("a",): [0.2, 0, 0],
        ("b",): [0, 1, 0],
        ("a", "b"): [0.8, 0, 1],
    }
    for subset, part in found.parts.items():
        np.testing.assert_allclose(part, expected.get(subset, [0, 0, 0]), atol=0.08)
    np.testing.assert_allclose(
        found.total, raw_r2(Y[test], fit_predict(("a", "b", "c"))), rtol=1e-10
    )


@pytest.mark.parametrize("bands", [[], ["a"], ["a", "a"], list("abcdefghi")])
def test_two_to_eight_different_bands(bands):
    with pytest.raises(InputError, match=f"takes 2 to 8 different bands; got {len(bands)}"):
        band_subsets(bands)


def test_r2_of_every_subset_is_needed_once():
    r2 = {subset: np.zeros(3) for subset in band_subsets("ab")}
    with pytest.raises(InputError, match=r"missing: \('a', 'b'\), unknown: none"):
        commonality("ab", {key: r2[key] for key in [("a",), ("b",)]})
    with pytest.raises(InputError, match=r"missing: none, unknown: \('z',\)"):
        commonality("ab", {**r2, ("z",): np.zeros(3)})
    with pytest.raises(InputError, match=r"subsets of a, b is needed once; 4 were given"):
        commonality("ab", {**r2, ("b", "a"): np.zeros(3)})
    with pytest.raises(InputError, match=r"R² of a has shape \(2,\); that of all bands has \(3,\)"):
        commonality("ab", {**r2, ("a",): np.zeros(2)})


def test_the_driver_checks_predictions():
    Y, bands = predictions()
    with pytest.raises(InputError, match=r"got Y \(40, 6\) and, for band 0, \(40, 5\)"):
        commonality_analysis("ab", Y, lambda subset: bands[0][:, 1:])
