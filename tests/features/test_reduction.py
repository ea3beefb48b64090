"""Sparse random projections and principal components of features too large for memory."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from torch import nn

from brainkit.arrays.persistence import load_estimator, save_estimator
from brainkit.errors import InputError
from brainkit.features import reduction
from brainkit.features.backbones.torch_module import random_weights
from brainkit.features.extraction import extract
from brainkit.features.reduction import (
    FeaturePCA,
    SparseProjection,
    principal_axes,
    projection_matrix,
)
from brainkit.features.store import FeatureStore

RNG = np.random.default_rng(0)

# ------------------------------------------------------------------------------------- projection


def test_distances_are_kept_as_johnson_and_lindenstrauss_say():
    n, width, error = 40, 20_000, 0.25
    n_components = int(4 * np.log(n) / (error**2 / 2 - error**3 / 3)) + 1
    features = RNG.exponential(size=(n, width)).astype(np.float32)
    projected = SparseProjection(n_components, seed=1).transform(features)
    assert projected.shape == (n, n_components)
    ratio = pdist(projected, "sqeuclidean") / pdist(features, "sqeuclidean")
    assert np.abs(ratio - 1).max() < error
    # The squared length of a projection is unbiased, with a variance of about 2 / k.
    assert abs(ratio.mean() - 1) < 0.02
    assert ratio.std() < 1.3 * np.sqrt(2 / n_components)


@pytest.mark.parametrize("density", [None, 0.2, 1.0])
def test_entries_have_the_distribution_of_the_papers(density):
    width, k = 2500, 400
    expected = 1 / 50 if density is None else density
    matrix = projection_matrix(width, k, 3, density)
    values = np.unique(matrix.data)
    np.testing.assert_allclose(values, [-1 / np.sqrt(expected * k), 1 / np.sqrt(expected * k)])
    n = width * k
    spread = np.sqrt(expected * (1 - expected) / n)
    assert abs(matrix.nnz / n - expected) <= 5 * spread
    assert abs((matrix.data > 0).mean() - 0.5) < 5 * 0.5 / np.sqrt(matrix.nnz)
    # Rows and columns hold binomial numbers of entries: nothing clusters.
    filled = matrix.toarray() != 0
    for axis, length in ((0, k), (1, width)):
        counts = filled.sum(axis=axis)
        np.testing.assert_allclose(counts.mean(), expected * length, rtol=0.05)
        np.testing.assert_allclose(
            counts.var(), expected * (1 - expected) * length, rtol=0.25, atol=1e-9
        )
    again = projection_matrix(width, k, 3, density)
    assert (again != matrix).nnz == 0
    assert (projection_matrix(width, k, 4, density) != matrix).nnz > 0


def test_the_stream_of_a_seed_is_settled():
    # Stored features and saved estimators rely on it: a change needs another name in `identity`.
    matrix = projection_matrix(1000, 50, 0)
    assert matrix.nnz == 1544
    assert matrix.indices[:6].tolist() == [1, 22, 80, 108, 111, 140]
    assert np.sign(matrix.data[:6]).tolist() == [-1, -1, 1, -1, -1, 1]


def test_a_projection_is_the_product_with_its_matrix_whatever_the_batches(monkeypatch):
    features = RNG.normal(size=(50, 12, 30)).astype(np.float32)
    project = SparseProjection(70, seed=2)
    whole = project.transform(features)
    matrix = projection_matrix(360, 70, 2).toarray()
    np.testing.assert_allclose(whole, features.reshape(50, -1) @ matrix.T, atol=1e-4)
    parts = [SparseProjection(70, seed=2).transform(features[i : i + 7]) for i in range(0, 50, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    monkeypatch.setattr(reduction, "PRODUCT_BYTES", 4 * 360 * 3)
    np.testing.assert_array_equal(project.transform(features), whole)


def test_half_precision_and_maps_are_taken(tmp_path):
    features = RNG.normal(size=(20, 100)).astype(np.float16)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    found = SparseProjection(10).transform(mapped)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, SparseProjection(10).transform(features))


def test_a_projection_is_saved_by_its_seed(tmp_path):
    features = RNG.normal(size=(5, 4000)).astype(np.float32)
    project = SparseProjection(300, seed=5).fit(features)
    values = project.transform(features)
    save_estimator(project, tmp_path / "saved")
    size = sum(path.stat().st_size for path in (tmp_path / "saved").iterdir())
    assert size < 1000
    np.testing.assert_array_equal(load_estimator(tmp_path / "saved").transform(features), values)
    np.testing.assert_array_equal(clone(project).transform(features), values)
    assert project.set_params(seed=6).transform(features)[0, 0] != values[0, 0]
    assert project.identity() == {
        "reduction": "sparse-projection", "n_components": 300, "seed": 6, "density": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "shape", "message"),
    [
        ({"n_components": 0}, (3, 4), "n_components must be at least 1, a whole number; got 0"),
        ({"density": 0.0}, (3, 4), "density"),
        ({"density": 1.5}, (3, 4), "density"),
        ({}, (3,), r"Features are \(n, ...\)"),
        ({}, (3, 0), "at least one each|0 feature"),
    ],
)
def test_projections_that_cannot_be_are_refused(settings, shape, message):
    with pytest.raises(InputError, match=message):
        SparseProjection(**settings).transform(np.zeros(shape))


def test_another_width_than_fitted_is_refused():
    project = SparseProjection(3).fit(np.zeros((2, 8)))
    with pytest.raises(InputError, match="9 features, but SparseProjection is expecting 8"):
        project.transform(np.zeros((2, 9)))


# ----------------------------------------------------------------------------------- components


def decaying(n, width, rate=0.5):
    """Make samples whose variances fall off as the features of real layers do."""
    rank = min(n, width, 150)
    scores = RNG.normal(size=(n, rank)) * np.arange(1, rank + 1) ** -rate
    axes = np.linalg.qr(RNG.normal(size=(width, rank)))[0]
    return (scores @ axes.T * 10 + RNG.normal(size=width)).astype(np.float32)


def test_components_are_those_of_scikit_learn_on_the_training_rows():
    features = decaying(300, 60)
    rows = RNG.permutation(300)[:200]
    ours = FeaturePCA(12).fit(features, rows=rows)
    theirs = PCA(12, svd_solver="full").fit(features[rows].astype(np.float64))
    np.testing.assert_allclose(ours.explained_variance_, theirs.explained_variance_, rtol=1e-5)
    np.testing.assert_allclose(
        ours.kept_variance_, theirs.explained_variance_ratio_.sum(), rtol=1e-5
    )
    signs = np.sign(np.sum(ours.components_ * theirs.components_, axis=1))
    np.testing.assert_allclose(ours.components_ * signs[:, None], theirs.components_, atol=1e-4)
    np.testing.assert_allclose(
        ours.transform(features) * signs, theirs.transform(features), atol=2e-3
    )


def test_rows_outside_training_have_no_influence():
    features = decaying(100, 30)
    rows = np.arange(60)
    spoiled = features.copy()
    spoiled[60:] = np.nan
    ours, theirs = FeaturePCA(5).fit(features, rows=rows), FeaturePCA(5).fit(spoiled, rows=rows)
    np.testing.assert_array_equal(ours.components_, theirs.components_)
    np.testing.assert_array_equal(ours.mean_, theirs.mean_)
    alone = FeaturePCA(5).fit(features[:60])
    np.testing.assert_array_equal(ours.components_, alone.components_)
    shuffled = FeaturePCA(5).fit(features, rows=rows[::-1])
    np.testing.assert_array_equal(ours.components_, shuffled.components_)


def test_blocks_of_a_map_give_the_covariance_of_the_whole(tmp_path, monkeypatch):
    features = decaying(200, 40).reshape(200, 5, 8)
    np.save(tmp_path / "features.npy", features)
    whole = FeaturePCA(7).fit(features)
    monkeypatch.setattr(reduction, "ROWS_BYTES", 4 * 40 * 9)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    parts = FeaturePCA(7).fit(mapped)
    np.testing.assert_allclose(parts.components_, whole.components_, atol=1e-5)
    np.testing.assert_allclose(parts.transform(mapped), whole.transform(features), atol=1e-4)


def test_merged_blocks_are_close_to_exact_for_the_leading_components(monkeypatch):
    monkeypatch.setattr(reduction, "EXACT_SIZE", 100)
    monkeypatch.setattr(reduction, "ROWS_BYTES", 4 * 500 * 50)
    features = decaying(600, 500)
    ours = FeaturePCA(20).fit(features)
    exact = PCA(20, svd_solver="full").fit(features.astype(np.float64))
    np.testing.assert_allclose(ours.mean_, exact.mean_, atol=1e-4)
    np.testing.assert_allclose(ours.components_ @ ours.components_.T, np.eye(20), atol=1e-4)
    # What the exact components keep of the variance, these keep to within 1 %.
    theirs = exact.explained_variance_ratio_.sum()
    scores = ours.transform(features)
    kept = scores.var(axis=0, ddof=1).sum() / features.var(axis=0, ddof=1, dtype=float).sum()
    assert 0.99 * theirs < kept < theirs * 1.0001
    assert 0.98 * kept < ours.kept_variance_ <= kept * 1.001


def test_merged_blocks_are_exact_where_the_carried_directions_span_all(monkeypatch):
    monkeypatch.setattr(reduction, "EXACT_SIZE", 100)
    monkeypatch.setattr(reduction, "ROWS_BYTES", 1)
    scores, axes = RNG.normal(size=(300, 25)), RNG.normal(size=(25, 400))
    features = (scores @ axes + 3).astype(np.float32)
    ours = FeaturePCA(10).fit(features)  # carries 30 of the 25 directions that there are
    variances = np.linalg.svd(features - features.mean(0, dtype=float), compute_uv=False) ** 2 / 299
    np.testing.assert_allclose(ours.explained_variance_, variances[:10], rtol=1e-4)
    np.testing.assert_allclose(
        ours.kept_variance_, variances[:10].sum() / variances.sum(), rtol=1e-4
    )


def test_components_lead_back_to_features():
    features = decaying(80, 30)
    model = FeaturePCA(30).fit(features)
    np.testing.assert_allclose(model.inverse_transform(model.transform(features)), features,
                               atol=1e-3)  # fmt: skip
    assert model.kept_variance_ == pytest.approx(1, abs=1e-5)


def test_there_are_no_more_components_than_directions():
    features = np.zeros((20, 50), np.float32)
    features[:, 3] = np.arange(20)
    features[:, 7] = np.arange(20) % 3
    model = FeaturePCA(10).fit(features)
    assert model.components_.shape == (2, 50)
    assert model.transform(features).shape == (20, 2)


def test_components_are_saved_and_told_apart(tmp_path):
    features = decaying(50, 20)
    model = FeaturePCA(4).fit(features)
    save_estimator(model, tmp_path / "saved")
    again = load_estimator(tmp_path / "saved")
    np.testing.assert_array_equal(again.transform(features), model.transform(features))
    assert again.identity() == model.identity()
    assert FeaturePCA(4).fit(features, rows=np.arange(40)).identity() != model.identity()
    with pytest.raises(NotFittedError):
        FeaturePCA(4).identity()
    with pytest.raises(NotFittedError):
        FeaturePCA(4).transform(features)


@pytest.mark.parametrize(
    ("features", "rows", "message"),
    [
        (np.zeros(5), None, r"Features are \(n, ...\)"),
        (np.ones((5, 3)), [0.5, 1], "list of integers"),
        (np.ones((5, 3)), [1, 1, 2], "each once"),
        (np.ones((5, 3)), [2], "At least two"),
        (np.ones((5, 3)), [2, 5], "out of range: 5"),
        (np.ones((5, 3)), [-1, 2], "out of range: -1"),
        (np.ones((5, 3)), None, "all the same"),
        (np.full((5, 3), np.nan), None, "NaN or infinity"),
    ],
)
def test_rows_and_features_that_cannot_be_are_refused(features, rows, message):
    with pytest.raises(InputError, match=message):
        FeaturePCA(2).fit(features, rows=rows)


def test_other_mistakes_are_named():
    with pytest.raises(InputError, match="at least 1"):
        FeaturePCA(0).fit(np.eye(3))
    with pytest.raises(InputError, match="21 features, but FeaturePCA is expecting 20"):
        FeaturePCA(2).fit(decaying(30, 20)).transform(np.zeros((2, 21)))


def test_settling_leaves_the_axes_of_the_pixels_as_they_were():
    centred = decaying(40, 30)
    centred -= centred.mean(axis=0)
    axes, variances = principal_axes(centred, 6)
    theirs = PCA(6, svd_solver="full").fit(centred)
    np.testing.assert_allclose(variances, theirs.explained_variance_, rtol=1e-4)
    assert (axes[np.arange(6), np.abs(axes).argmax(axis=1)] > 0).all()


# ------------------------------------------------------------------- as features leave the model


@pytest.fixture
def network():
    with random_weights(0):
        return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())


IMAGES = np.random.default_rng(1).integers(0, 256, (23, 9, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize("stored", [False, True])
def test_layers_are_reduced_batch_by_batch_before_they_are_kept(tmp_path, network, stored):
    settings = {"batch_size": 4, "device": "cpu", "progress": False}
    whole = extract(network, IMAGES, pool="flatten", **settings)
    assert whole.shape == (23, 6 * 7 * 7)
    store = FeatureStore(tmp_path) if stored else None
    project = SparseProjection(50, seed=3)
    # Over tokens and channels at once: the same numbers, in another order.
    tokens = extract(network, IMAGES, **settings)
    found = extract(network, IMAGES, reduce=project, store=store, **settings)
    np.testing.assert_array_equal(found, project.transform(tokens))
    flat = extract(network, IMAGES, pool="flatten", reduce=project, store=store, **settings)
    np.testing.assert_array_equal(flat, project.transform(whole))
    model = FeaturePCA(5).fit(whole, rows=np.arange(15))
    scores = extract(network, IMAGES, pool="flatten", reduce=model, store=store, **settings)
    np.testing.assert_allclose(scores, model.transform(whole), atol=1e-5)
    if stored:
        layouts = [entry.layout for entry in store.entries()]
        assert sorted(layout.shape for layout in layouts) == [(5,), (50,), (50,)]
        keys = [entry.key["reduce"] for entry in store.entries()]
        assert project.identity() in keys
        assert model.identity() in keys


def test_what_is_not_finite_is_found_though_a_projection_might_miss_it(network):
    network[0].weight.data[2, 0, 0, 0] = np.inf
    with pytest.raises(InputError, match="not finite"):
        extract(network, IMAGES, reduce=SparseProjection(1, density=0.001), progress=False)


@pytest.mark.parametrize("reduce", [PCA(3), SparseProjection, "sparse"])
def test_what_cannot_reduce_is_refused(network, reduce):
    with pytest.raises(InputError, match=r"reduce takes a SparseProjection"):
        extract(network, IMAGES, reduce=reduce)
    with pytest.raises(NotFittedError):
        extract(network, IMAGES, reduce=FeaturePCA(3))


# ------------------------------------------------------------------------------------- any array


@pytest.mark.parametrize("reduce", [FeaturePCA(n_components=2), SparseProjection(n_components=3)])
def test_lists_and_tables_are_arrays(reduce):
    import pandas as pd
    import torch

    values = RNG.normal(size=(12, 4)).astype(np.float32)
    expected = clone(reduce).fit(values).transform(values)
    for given in (values.tolist(), pd.DataFrame(values), torch.from_numpy(values)):
        found = clone(reduce).fit(given).transform(given)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert clone(reduce).fit(values).n_features_in_ == 4


@pytest.mark.parametrize("reduce", [FeaturePCA(n_components=2), SparseProjection(n_components=3)])
@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (np.nan, "NaN or infinity"),
        (np.inf, "NaN or infinity"),
        (1j, "Complex data not supported"),
        ("text", "real numbers"),
    ],
)
def test_what_is_no_finite_real_number_is_refused_by_fit_and_transform(reduce, spoilt, said):
    values = RNG.normal(size=(12, 4))
    wrong = values.astype(type(spoilt) if not isinstance(spoilt, float) else float)
    wrong[3, 1] = spoilt
    with pytest.raises(InputError, match=said):
        clone(reduce).fit(wrong)
    with pytest.raises(InputError, match=said):
        clone(reduce).fit(values).transform(wrong)
    if not isinstance(spoilt, str):
        with pytest.raises(InputError, match=said):
            clone(reduce).fit(wrong.tolist())


@pytest.mark.parametrize("kind", [FeaturePCA, SparseProjection])
@pytest.mark.parametrize("count", [0, -1, 2.5, True, "3", None])
def test_components_are_counted_in_whole_numbers(kind, count):
    with pytest.raises(InputError, match="n_components must be at least 1"):
        kind(count).fit(RNG.normal(size=(12, 4)))
