"""A layer of a model as a transformer: equal to `extract`, cloned, saved, named in recipes."""

from copy import deepcopy

import numpy as np
import pytest
from sklearn.base import clone

from brainkit.arrays.persistence import load_estimator, save_estimator
from brainkit.encoding import VoxelwiseRidge
from brainkit.errors import InputError, UnknownNameError
from brainkit.features import FeatureStack, ModelLayer, Remembered, SingleSpace, extract
from brainkit.recipes.building import build_features
from brainkit.recipes.schema import FeatureSpec

MODEL = "timm:resnet10t/random:3"


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 32, 40, 3), dtype=np.uint8)


@pytest.mark.parametrize("pool", ["mean", "max", "flatten"])
def test_equals_extract(images, pool):
    layer = ModelLayer(f"{MODEL}@layer3", pool=pool)
    values = layer.fit(images).transform(images)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, extract(f"{MODEL}@layer3", images, pool=pool))


def test_default_layer_and_a_layer_of_vectors(images):
    np.testing.assert_array_equal(
        ModelLayer(MODEL).transform(images), extract(MODEL, images, layers="layer4", pool="mean")
    )
    assert ModelLayer(f"{MODEL}@fc", pool=None).transform(images).shape == (5, 1000)


def test_clones_and_copies_share_or_reload_the_model(images):
    layer = ModelLayer(f"{MODEL}@layer2")
    values = layer.transform(images)
    twin = clone(layer)
    assert twin.get_params() == layer.get_params()
    assert twin._opened is layer._opened
    np.testing.assert_array_equal(twin.transform(images), values)
    twin.set_params(model="timm:resnet10t/random:4@layer2")
    assert not np.allclose(twin.transform(images), values)
    np.testing.assert_array_equal(layer.transform(images), values)
    copied = deepcopy(layer)
    assert "_opened" not in vars(copied)  # its name only, as a worker process would get it
    np.testing.assert_array_equal(copied.transform(images), values)


def test_saved_by_its_name(images, tmp_path):
    layer = SingleSpace(ModelLayer(f"{MODEL}@layer3", pool="max", batch_size=2)).fit(images)
    values = layer.transform(images)
    save_estimator(layer, tmp_path / "saved")
    size = sum(file.stat().st_size for file in (tmp_path / "saved").iterdir())
    assert size < 10_000
    loaded = load_estimator(tmp_path / "saved")
    assert loaded.space.get_params() == layer.space.get_params()
    np.testing.assert_array_equal(loaded.transform(images), values)


def test_kept_in_a_store(images, tmp_path):
    layer = ModelLayer(f"{MODEL}@layer3", store=str(tmp_path), dtype="float16")
    values = layer.transform(images)
    assert values.dtype == np.float32
    assert any(tmp_path.rglob("*"))
    np.testing.assert_array_equal(layer.transform(images), values)
    exact = ModelLayer(f"{MODEL}@layer3").transform(images)
    np.testing.assert_array_equal(values, exact.astype(np.float16))


def test_in_a_recipe_it_is_computed_once(images):
    specs = [
        FeatureSpec(kind="model-layer", scale="space", settings={"model": f"{MODEL}@layer2"}),
        FeatureSpec(kind="model-layer", scale="space", settings={"model": f"{MODEL}@layer3"}),
        FeatureSpec(kind="oriented-energy", scale="space", settings={"side": 64}),
    ]
    known = {}
    space = build_features(specs, known=known)
    assert type(space) is FeatureStack
    assert all(isinstance(part.space, Remembered) for part in space.spaces)
    values = space.fit_transform(images)
    assert space.widths_ == [128, 256, 2728]
    again = build_features(specs, known=known)
    assert [part.space for part in again.spaces] == [part.space for part in space.spaces]
    np.testing.assert_allclose(
        again.fit_transform(images[::-1])[::-1], values, rtol=1e-4, atol=1e-5
    )
    targets = values[:, :2].astype(np.float64)
    assert VoxelwiseRidge(alphas=(1.0,), cv=2).fit(values, targets).predict(values).shape == (5, 2)


def test_wrong_settings(images):
    with pytest.raises(InputError, match="takes one layer"):
        ModelLayer(f"{MODEL}@layer2,layer3").transform(images)
    with pytest.raises(InputError, match="pool='flatten'"):
        ModelLayer(f"{MODEL}@layer2", pool=None).transform(images)
    with pytest.raises(UnknownNameError, match="Did you mean 'layer4'"):
        ModelLayer(f"{MODEL}@layer5").transform(images)
    with pytest.raises(UnknownNameError, match="Did you mean 'mean'"):
        ModelLayer(MODEL, pool="meen").transform(images)
    setting = FeatureSpec(kind="model-layer", settings={"model": MODEL, "pool": "average"})
    with pytest.raises(InputError, match="pool cannot be 'average'"):
        build_features([setting])


def test_identity_tells_model_layer_and_policy():
    layer = ModelLayer(f"{MODEL}@layer2", pool="max", tokens="all")
    identity = layer.identity()
    assert identity["weights"] == layer._backbone().identity()["weights"]
    assert (identity["layer"], identity["pool"], identity["tokens"]) == ("layer2", "max", "all")
    assert identity["batch_size"] == 128
    assert ModelLayer(MODEL, batch_size=3).identity()["layer"] == "layer4"
    assert ModelLayer(MODEL, batch_size=3).identity()["batch_size"] == 3
    with pytest.raises(UnknownNameError, match="layer2"):
        ModelLayer(f"{MODEL}@layr2").identity()
