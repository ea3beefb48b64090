"""A layer of a model as a transformer: equal to `extract`, cloned, saved, named in recipes.

Captions as features, and spaces that say what they read of the stimuli.
"""

from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone

import brainkit
from brainkit.arrays.persistence import load_estimator, save_estimator
from brainkit.data.stimuli import Stimuli
from brainkit.encoding import VoxelwiseRidge
from brainkit.errors import InputError, UnknownNameError
from brainkit.features import (
    CaptionLayer,
    FeatureStack,
    ModelLayer,
    OrientedEnergy,
    PixelPCA,
    PrincipalSpace,
    Remembered,
    SideBySide,
    SingleSpace,
    extract,
    read_for,
)
from brainkit.features.feature_spaces import reads
from brainkit.features.model_layer import read_captions
from brainkit.recipes.specs import FeatureSpec, build_features

MODEL = "timm:resnet10t/random:3"
LINES = [
    ["a red house on a beach", "a house"],
    ["a calm face"],
    ["a plate of green salad", "food\non a  plate", "a salad"],
    ["a house"],
]
TEXT_MODEL = "open_clip-text:tiny"


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


def stimuli(lines=LINES, **columns):
    images = np.random.default_rng(0).integers(0, 256, (len(lines), 8, 8, 3), dtype=np.uint8)
    table = pd.DataFrame({"captions": lines, **columns})
    return Stimuli(images, table=table)


def test_features_are_the_mean_over_captions():
    rows = np.array([2, 0, 3, 2, 1])
    layer = CaptionLayer(TEXT_MODEL)
    found = layer.fit_transform(read_for(layer, stimuli(), rows))
    clean = [[" ".join(text.split()) for text in LINES[row]] for row in rows]
    expected = [extract(TEXT_MODEL, texts).mean(axis=0) for texts in clean]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(found[1] - found[2]).max() > 1e-3


def test_captions_are_read_a_caption_a_line():
    texts = read_captions(stimuli(), [2, 3])
    assert list(texts) == ["a plate of green salad\nfood on a plate\na salad", "a house"]
    one = Stimuli(np.zeros((2, 4, 4)), table=pd.DataFrame({"caption": ["x y", "z"]}))
    assert list(read_captions(one, np.array([1, 0, 1]))) == ["z", "x y", "z"]
    said = Stimuli(np.array(["p q", "r"]), kind="caption")
    assert list(read_captions(said, [1, 0])) == ["r", "p q"]


@pytest.mark.parametrize(
    "table",
    [None, pd.DataFrame({"category": ["a", "b"]})],
)
def test_stimuli_without_captions(table):
    with pytest.raises(InputError, match="reads captions, and the stimuli have none"):
        read_for(CaptionLayer(TEXT_MODEL), Stimuli(np.zeros((2, 4, 4)), table=table), [0])


@pytest.mark.parametrize("nothing", [[], None, [""], " ", np.nan])
def test_a_stimulus_without_captions_is_named(nothing):
    lines = pd.Series([["a"], nothing, ["b"]], dtype=object)
    some = Stimuli(
        np.zeros((3, 4, 4)), ids=["x", "y", "z"], table=pd.DataFrame({"captions": lines})
    )
    assert list(read_captions(some, [2, 0])) == ["b", "a"]
    with pytest.raises(InputError, match="1 stimuli have no caption: y"):
        read_captions(some, [2, 1, 1])


def test_what_is_no_caption_and_no_model_of_text():
    with pytest.raises(InputError, match="takes the captions of each stimulus as text"):
        CaptionLayer(TEXT_MODEL).transform(np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="needs a model of text, and open_clip:tiny takes images"):
        CaptionLayer("open_clip:tiny").transform(["a house"])


class Mean(TransformerMixin, BaseEstimator):
    """The mean of each image."""

    def fit(self, images, y=None):
        return self

    def transform(self, images):
        return np.asarray(images, np.float32).reshape(len(images), -1).mean(axis=1, keepdims=True)

    def __sklearn_is_fitted__(self):
        return True


class Counting(Stimuli):
    """Stimuli that count how often they are read."""

    n_reads = 0

    def read(self, rows=None):
        self.n_reads += 1
        return super().read(rows)


def test_a_stack_gives_each_space_what_it_reads():
    spaces = [
        SingleSpace(Remembered(Mean())),
        SingleSpace(Remembered(CaptionLayer(TEXT_MODEL)), scale="space"),
        SingleSpace(PixelPCA(2), scale="space"),
    ]
    given = Counting(stimuli().read(), table=stimuli().table)
    rows, test = np.array([0, 2, 3]), np.array([1, 0])
    stack = FeatureStack(spaces)
    assert reads(stack) == "stimuli and captions"
    read = read_for(stack, given, rows)
    assert isinstance(read, SideBySide)
    assert len(read) == 3
    assert given.n_reads == 1  # the images are read once for both spaces
    fitted = clone(stack)
    whole = fitted.fit_transform(read)
    parts = [clone(space) for space in spaces]
    expected = [part.fit_transform(read_for(part, given, rows)) for part in parts]
    np.testing.assert_allclose(whole, np.concatenate(expected, axis=1), rtol=1e-6)
    assert fitted.widths_ == [1, 256, 2]
    later = [part.transform(read_for(part, given, test)) for part in parts]
    np.testing.assert_allclose(
        fitted.transform(read_for(fitted, given, test)), np.concatenate(later, axis=1), rtol=1e-6
    )
    components = PrincipalSpace(stack, 2)
    assert components.fit_transform(read_for(components, given, rows)).shape == (3, 2)
    with pytest.raises(InputError, match="reads stimuli and captions, so that one array is not"):
        fitted.transform(given.read(rows))
    with pytest.raises(InputError, match="has 3 feature spaces and was given what 2 read"):
        fitted.transform(SideBySide(read.parts[:2]))


def test_spaces_of_images_read_images_as_before():
    given = stimuli()
    for space in (
        OrientedEnergy(),
        Remembered(OrientedEnergy()),
        FeatureStack([SingleSpace(PixelPCA(2)), SingleSpace(OrientedEnergy())]),
        PrincipalSpace(SingleSpace(PixelPCA(2)), 1),
    ):
        assert reads(space) == "stimuli"
        np.testing.assert_array_equal(read_for(space, given, [1, 3]), given.read([1, 3]))
    only = FeatureStack([SingleSpace(CaptionLayer(TEXT_MODEL))] * 2)
    assert list(read_for(only, given, [1])) == ["a calm face"]


def test_captions_are_remembered_by_their_text():
    seen = []

    class Spy(CaptionLayer):
        def transform(self, stimuli):
            seen.extend(stimuli)
            return super().transform(stimuli)

    memory = Remembered(Spy(TEXT_MODEL))
    given = stimuli()
    first = memory.transform(read_for(memory, given, [1, 3]))  # the type of a short array
    again = clone(memory).transform(read_for(memory, given, [3, 2, 1, 0]))
    np.testing.assert_array_equal(again[[2, 0]], first)
    assert len(seen) == 4
    assert sorted(set(seen)) == sorted(seen)


def test_a_stack_with_captions_is_saved(tmp_path):
    stack = FeatureStack(
        [SingleSpace(PixelPCA(1)), SingleSpace(Remembered(CaptionLayer(TEXT_MODEL)))]
    )
    given = stimuli()
    stack.fit(read_for(stack, given, [0, 1, 2]))
    expected = stack.transform(read_for(stack, given, [3, 0]))
    brainkit.save_estimator(stack, tmp_path / "stack")
    loaded = brainkit.load_estimator(tmp_path / "stack")
    found = loaded.transform(read_for(loaded, given, [3, 0]))
    np.testing.assert_allclose(found, expected, atol=1e-5)  # captions stand in another batch
