"""RoutingEncoder on responses to content whose place content tells."""

import numpy as np
import pytest
import torch

from brainkit import load_estimator, save_estimator
from brainkit.encoding.readouts import FactorizedReadout
from brainkit.encoding.routing import RoutingEncoder
from brainkit.errors import InputError, UnknownNameError
from brainkit.evaluation import pearson_r
from brainkit.linear.ridge_estimator import CrossValidatedRidge

SIDE, FEATURES, N_TARGETS = 4, 12, 12
N_TRAIN, N_TEST = 700, 150
SMALL = {
    "epochs": 25,
    "batch_size": 32,
    "n_heads": 2,
    "width": 16,
    "hidden": 32,
    "dropout": 0.1,
    "device": "cpu",
    "progress": False,
}


def world(*, moving, seed=0):
    """Make tokens of noise with two objects in them, and what two regions make of these.

    A marker says which object a token is of: region A answers the rest of the features where
    marker 0 stands, region B where marker 1 does. Objects stand at places that are drawn anew for
    each image, or always at the same two.
    """
    rng = np.random.default_rng(seed)
    n, n_tokens = N_TRAIN + N_TEST, SIDE**2
    X = rng.standard_normal((n, n_tokens, FEATURES)).astype(np.float32)
    X[:, :, :2] = 0
    places = np.array([rng.permutation(n_tokens)[:2] if moving else (5, 10) for _ in range(n)])
    rows = np.arange(n)
    for marker in (0, 1):
        X[rows, places[:, marker], marker] = 4
    weights = rng.standard_normal((2, N_TARGETS // 2, FEATURES - 2))
    Y = np.concatenate([X[rows, places[:, m], 2:] @ weights[m].T for m in (0, 1)], axis=1)
    Y += 0.5 * Y.std(axis=0) * rng.standard_normal(Y.shape)
    return X, Y.astype(np.float32), places


def mean_r(model, X, Y, flat=False):
    given = X.reshape(len(X), -1) if flat else X
    model.fit(given[:N_TRAIN], Y[:N_TRAIN])
    return np.mean(pearson_r(Y[N_TRAIN:], model.predict(given[N_TRAIN:])))


REGIONS = np.repeat(["A", "B"], N_TARGETS // 2)


@pytest.fixture(scope="module")
def moving():
    return world(moving=True)


@pytest.fixture(scope="module")
def fitted(moving):
    X, Y, _ = moving
    return RoutingEncoder(REGIONS, **SMALL).fit(X[:N_TRAIN], Y[:N_TRAIN])


def test_content_at_a_place_that_content_tells_is_found(fitted, moving):
    X, Y, _ = moving
    ours = np.mean(pearson_r(Y[N_TRAIN:], fitted.predict(X[N_TRAIN:])))
    flat = mean_r(CrossValidatedRidge(), X, Y, flat=True)
    pooled = mean_r(CrossValidatedRidge(), X.mean(axis=1), Y)
    masked = mean_r(FactorizedReadout(epochs=10, device="cpu", progress=False), X, Y)
    assert ours > 0.7
    assert ours > max(flat, pooled, masked) + 0.3


def test_each_region_looks_at_its_own_object(fitted, moving):
    X, _, places = moving
    weights = fitted.attention(X[N_TRAIN:])
    assert weights.shape == (N_TEST, 2, SIDE**2)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)
    assert fitted.region_names_ == ["A", "B"]
    for region in (0, 1):
        hits = weights[:, region].argmax(axis=-1) == places[N_TRAIN:, region]
        assert hits.mean() > 0.9  # chance is 1 in 16
    by_head = fitted.attention(X[N_TRAIN:], average_heads=False)
    assert by_head.shape == (N_TEST, 2, 2, SIDE**2)
    np.testing.assert_allclose(by_head.mean(axis=1), weights, rtol=1e-5, atol=1e-7)


def test_targets_with_queries_of_their_own_find_it_too(moving):
    X, Y, places = moving
    model = RoutingEncoder(queries="voxel", **SMALL)
    assert mean_r(model, X, Y) > 0.6
    looked = model.attention(X[N_TRAIN:]).argmax(axis=-1)
    expected = np.repeat(places[N_TRAIN:], N_TARGETS // 2, axis=1)
    assert (looked == expected).mean() > 0.5  # chance is 1 in 16


def test_at_a_fixed_place_a_linear_model_does_as_well():
    X, Y, _ = world(moving=False)
    ours = mean_r(RoutingEncoder(REGIONS, **SMALL), X, Y)
    flat = mean_r(CrossValidatedRidge(), X, Y, flat=True)
    assert ours > 0.75
    assert flat > ours - 0.1


@pytest.mark.parametrize("queries", ["region", "voxel"])
def test_what_is_loaded_predicts_the_same_bits(moving, tmp_path, queries):
    X, Y, _ = moving
    regions = REGIONS if queries == "region" else None
    model = RoutingEncoder(regions, queries, **(SMALL | {"epochs": 1})).fit(X[:99], Y[:99])
    again = load_estimator(save_estimator(model, tmp_path / "model"))
    assert np.array_equal(again.predict(X), model.predict(X))
    assert np.array_equal(again.attention(X), model.attention(X))
    assert again.region_names_ == model.region_names_ == (["A", "B"] if regions is not None else [])
    assert again.attention(X[:3]).shape == (3, 2 if queries == "region" else N_TARGETS, SIDE**2)


def test_the_same_seed_gives_the_same_bits(moving):
    X, Y, _ = moving
    settings = SMALL | {"epochs": 2}
    first, second, other = (
        RoutingEncoder(REGIONS, seed=seed, **settings).fit(X[:99], Y[:99]).predict(X)
        for seed in (3, 3, 4)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("n_heads", "folds"), [(1, True), (2, False)])
def test_half_precision_trains_to_about_the_same(moving, n_heads, folds):
    X, Y, _ = moving
    settings = SMALL | {"epochs": 3, "n_heads": n_heads, "dropout": 0.0}
    exact, rough = (
        RoutingEncoder(REGIONS, precision=precision, **settings).fit(X[:200], Y[:200])
        for precision in ("float32", "bfloat16")
    )
    assert exact.module_._attention()[0].is_folded() == folds
    assert rough.module_.queries.dtype == torch.float32
    assert not np.array_equal(rough.predict(X), exact.predict(X))
    assert pearson_r(exact.predict(X), rough.predict(X)).min() > 0.9


@pytest.fixture(scope="module")
def layered(moving):
    """Two layers, of which one is noise."""
    X, Y, _ = moving
    noise = np.random.default_rng(1).standard_normal(X.shape).astype(np.float32)
    layers = {"late": noise, "early": X}
    model = RoutingEncoder(REGIONS, **(SMALL | {"epochs": 12}))
    return model.fit({k: v[:N_TRAIN] for k, v in layers.items()}, Y[:N_TRAIN]), layers


def test_the_layer_that_predicts_counts(layered, moving):
    model, layers = layered
    _, Y, _ = moving
    assert list(model.members_) == ["late", "early"]
    np.testing.assert_allclose(model.member_weights_.sum(axis=0), 1)
    assert (model.member_weights_[1] > 0.9).all()
    parts = [model.members_[name].predict(layers[name]) for name in model.members_]
    expected = sum(w * p for w, p in zip(model.member_weights_, parts, strict=True))
    np.testing.assert_allclose(model.predict(layers), expected, rtol=1e-4, atol=1e-5)
    assert model.score(layers, Y) == pytest.approx(model.score_targets(layers, Y).mean())
    maps = model.attention({name: tokens[:2] for name, tokens in layers.items()})
    np.testing.assert_array_equal(
        maps["early"], model.members_["early"].attention(layers["early"][:2])
    )


def test_layers_are_saved_together(layered, tmp_path):
    model, layers = layered
    again = load_estimator(save_estimator(model, tmp_path / "model"))
    assert np.array_equal(again.predict(layers), model.predict(layers))
    assert np.array_equal(again.validation_r_, model.validation_r_)


def test_a_finished_training_is_taken_up_layer_by_layer(moving, tmp_path):
    X, Y, _ = moving
    layers = {"a": X[:99], "b": X[:99, ::-1]}
    settings = SMALL | {"epochs": 2, "folder": tmp_path}
    first, again = (RoutingEncoder(REGIONS, **settings).fit(layers, Y[:99]) for _ in range(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert np.array_equal(first.predict(layers), again.predict(layers))
    for name, member in again.members_.items():
        assert member.report_ == first.members_[name].report_


def test_trainings_from_several_seeds_are_averaged(moving, tmp_path):
    X, Y, _ = moving
    settings = SMALL | {"epochs": 2}
    both = RoutingEncoder(REGIONS, n_seeds=2, **{**settings, "seed": 3}).fit(X[:99], Y[:99])
    each = [RoutingEncoder(REGIONS, **{**settings, "seed": k}).fit(X[:99], Y[:99]) for k in (3, 4)]
    assert list(both.members_) == ["seed-3", "seed-4"]
    mean = np.mean([one.predict(X) for one in each], axis=0)
    np.testing.assert_allclose(both.predict(X), mean, rtol=1e-5, atol=1e-6)
    looks = np.mean([one.attention(X[:3]) for one in each], axis=0)
    np.testing.assert_allclose(both.attention(X[:3]), looks, rtol=1e-5, atol=1e-7)
    scores = np.mean([one.validation_r_ for one in each], axis=0)
    np.testing.assert_allclose(both.validation_r_, scores)
    again = load_estimator(save_estimator(both, tmp_path / "model"))
    np.testing.assert_array_equal(again.predict(X[:5]), both.predict(X[:5]))
    with pytest.raises(InputError, match="X is a mapping"):
        both.predict({"a": X})
    with pytest.raises(InputError, match="n_seeds must be a whole number from 1"):
        RoutingEncoder(n_seeds=0, **SMALL).fit(X[:99], Y[:99])


def test_seeds_of_several_layers(moving, tmp_path):
    X, Y, _ = moving
    layers = {"a": X[:99], "b": X[:99, ::-1]}
    settings = SMALL | {"epochs": 1, "folder": tmp_path / "state"}
    model = RoutingEncoder(REGIONS, n_seeds=2, **settings).fit(layers, Y[:99])
    parts = [model.members_[name].predict(layers[name]) for name in layers]
    expected = sum(w * p for w, p in zip(model.member_weights_, parts, strict=True))
    np.testing.assert_allclose(model.predict(layers), expected, rtol=1e-4, atol=1e-5)
    assert {p.name for p in (tmp_path / "state" / "a").iterdir()} == {"seed-0", "seed-1"}
    again = load_estimator(save_estimator(model, tmp_path / "model"))
    np.testing.assert_array_equal(again.predict(layers), model.predict(layers))


def test_a_global_token_is_read_without_a_place(moving):
    """Targets that only the token before the map knows are predicted, and it is looked at."""
    X, Y, _ = moving
    rng, half = np.random.default_rng(5), N_TARGETS // 2
    hidden = rng.standard_normal((len(X), 1, FEATURES)).astype(np.float32)
    tokens = np.concatenate([hidden, X], axis=1)
    whole = hidden[:, 0] @ rng.standard_normal((FEATURES, half)).astype(np.float32)
    known = np.concatenate([Y[:, :half], whole], axis=1)
    model = RoutingEncoder(["A"] * half + ["whole"] * half, global_tokens=1, **SMALL)
    model.fit(tokens[:N_TRAIN], known[:N_TRAIN])
    blind = RoutingEncoder(REGIONS, **SMALL).fit(X[:N_TRAIN], known[:N_TRAIN])
    found = pearson_r(known[N_TRAIN:], model.predict(tokens[N_TRAIN:]))
    without = pearson_r(known[N_TRAIN:], blind.predict(X[N_TRAIN:]))
    assert found[half:].mean() > 0.8
    assert abs(without[half:].mean()) < 0.2
    maps = model.attention(tokens[N_TRAIN:])
    assert maps.shape[2] == tokens.shape[1]
    looks = dict(zip(model.region_names_, maps[:, :, 0].mean(axis=0), strict=True))
    assert looks["whole"] > 0.5 > 5 * looks["A"]
    assert model.grid_ == blind.grid_
    with pytest.raises(InputError, match="global_tokens=1"):
        RoutingEncoder(**SMALL).fit(tokens[:99], Y[:99])
    with pytest.raises(InputError, match="global_tokens must be a whole number"):
        RoutingEncoder(global_tokens=-1, **SMALL).fit(tokens[:99], Y[:99])


def test_the_static_twin_looks_at_the_same_places_and_loses_what_moves(fitted, moving):
    X, Y, _ = moving
    twin = RoutingEncoder(REGIONS, content=False, **SMALL).fit(X[:N_TRAIN], Y[:N_TRAIN])
    maps = twin.attention(X[N_TRAIN:])
    np.testing.assert_allclose(maps, np.broadcast_to(maps[:1], maps.shape), atol=1e-6)
    ours, static = (
        np.mean(pearson_r(Y[N_TRAIN:], model.predict(X[N_TRAIN:]))) for model in (fitted, twin)
    )
    assert ours > static + 0.2


def test_one_target_stays_one(moving):
    X, Y, _ = moving
    settings = SMALL | {"epochs": 1}
    one = RoutingEncoder(**settings).fit(X[:99], Y[:99, 0])
    assert one.predict(X[:5]).shape == (5,)
    both = RoutingEncoder(layers="b", **settings).fit({"a": X[:99, :1], "b": X[:99]}, Y[:99, 0])
    np.testing.assert_array_equal(both.predict({"b": X[:5]}), one.predict(X[:5]))
    assert np.isfinite(both.score({"b": X[:9]}, Y[:9, 0]))


def test_parameters_are_scikit_learns():
    model = RoutingEncoder(REGIONS, epochs=3)
    parameters = model.get_params()
    assert parameters["regions"] is REGIONS
    assert parameters["epochs"] == 3
    assert model.set_params(width=8, seed=2).get_params()["seed"] == 2


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"queries": "voxels"}, "Did you mean 'voxel'"),
        ({"queries": "voxel", "regions": REGIONS}, "regions have no part in it"),
        ({"regions": REGIONS[:3]}, r"shape \(3,\); for 12 targets"),
        ({"n_heads": 5}, "multiple of the number of heads; got 16 and 5"),
        ({"n_heads": 0}, "n_heads must be a whole number from 1"),
        ({"width": 18, "n_heads": 2}, "multiple of 4; got 18"),
        ({"hidden": 2.5}, "hidden must be a whole number"),
        ({"dropout": 1.0}, "dropout is from 0 to below 1"),
        ({"beta": -1.0}, "beta is a finite number"),
        ({"layers": ["blocks.1"]}, "X is one array"),
        ({"grid": (3, 5)}, "3 × 5 does not hold 16 tokens"),
        ({"device": "cuda:99"}, "cuda"),
    ],
)
def test_settings_that_cannot_be_are_refused(moving, settings, match):
    X, Y, _ = moving
    with pytest.raises(InputError, match=match):
        RoutingEncoder(**(SMALL | settings)).fit(X[:50], Y[:50])


def test_data_that_cannot_be_are_refused(moving, layered):
    X, Y, _ = moving
    spoilt = Y[:50].copy()
    spoilt[3, 2] = np.nan
    with pytest.raises(InputError, match="1 of 12 targets hold NaN"):
        RoutingEncoder(**SMALL).fit(X[:50], spoilt)
    spoilt[:, 2] = 1
    with pytest.raises(InputError, match="1 of 12 targets are constant"):
        RoutingEncoder(**SMALL).fit(X[:50], spoilt)
    with pytest.raises(InputError, match=r"X has 50, Y has shape \(49, 12\)"):
        RoutingEncoder(**SMALL).fit(X[:50], Y[:49])
    with pytest.raises(UnknownNameError, match=r"Did you mean 'blocks\.1'"):
        RoutingEncoder(layers=["block.1"], **SMALL).fit({"blocks.1": X}, Y)
    with pytest.raises(InputError, match="holds out none"):
        RoutingEncoder(validation=0, **SMALL).fit({"a": X, "b": X}, Y)
    with pytest.raises(InputError, match="without a layer"):
        RoutingEncoder(**SMALL).fit({}, Y)
    model, _ = layered
    with pytest.raises(InputError, match="must be a mapping"):
        model.predict(X)
    with pytest.raises(UnknownNameError, match="layer 'late'"):
        model.predict({"early": X})
    with pytest.raises(InputError, match="X is a mapping"):
        model.members_["late"].predict({"late": X})
    with pytest.raises(InputError, match=r"Y has shape"):
        model.members_["late"].score(X[:4], Y[:4, :2])
