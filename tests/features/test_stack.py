"""Spaces side by side on training scales, and features computed once."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from brainkit.errors import InputError
from brainkit.features import (
    FeatureStack,
    OrientedEnergy,
    PixelPCA,
    PrincipalSpace,
    Remembered,
    SingleSpace,
)

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, size=(40, 16, 16), dtype=np.uint8)


class Pixels(TransformerMixin, BaseEstimator):
    """Some pixels, counted."""

    seen = 0

    def __init__(self, step=1):
        self.step = step

    def fit(self, images, y=None):
        return self

    def transform(self, images):
        type(self).seen += len(images)
        return np.asarray(images, np.float32).reshape(len(images), -1)[:, :: self.step]

    def __sklearn_is_fitted__(self):
        return True


@pytest.fixture
def counted():
    Pixels.seen = 0
    return Pixels


def test_each_feature_is_scaled_by_training_alone():
    train, test = IMAGES[:30].copy(), IMAGES[30:] // 2
    train[:, 0, 0] = 7  # constant in training
    space = SingleSpace(Pixels()).fit(train)
    raw = train.reshape(30, -1).astype(np.float64)
    spread = np.where(raw.std(axis=0) > 0, raw.std(axis=0) * np.sqrt(256), 1)
    found = space.transform(test)
    np.testing.assert_allclose(
        found, (test.reshape(10, -1) - raw.mean(axis=0)) / spread, rtol=1e-4, atol=1e-4
    )
    fitted = space.fit_transform(train)
    np.testing.assert_allclose(fitted[:, 1:].var(axis=0), 1 / 256, rtol=1e-4)
    np.testing.assert_allclose(fitted[:, 0], 0, atol=1e-6)


def test_a_space_scaled_whole_keeps_relative_sizes():
    raw = IMAGES.reshape(40, -1).astype(np.float64)
    found = SingleSpace(Pixels(), scale="space").fit_transform(IMAGES)
    assert np.sum(found.var(axis=0)) == pytest.approx(1, rel=1e-5)
    ratio = found.std(axis=0) / raw.std(axis=0)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)


@pytest.mark.parametrize("step", [1, 7])
@pytest.mark.parametrize("scale", ["feature", "space"])
def test_spaces_of_any_size_weigh_the_same(scale, step):
    found = SingleSpace(Pixels(step), scale=scale).fit_transform(IMAGES)
    assert found.var(axis=0).sum() == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)


def test_principal_space_is_the_pca_of_a_space():
    train, test = IMAGES[:30], IMAGES[30:]
    space = PrincipalSpace(SingleSpace(Pixels(), "space"), n_components=6)
    found = space.fit_transform(train)
    raw = SingleSpace(Pixels(), "space").fit(train)
    peer = PCA(6, svd_solver="full").fit(raw.transform(train).astype(np.float64))
    signs = np.sign((space.components_ * peer.components_).sum(axis=1))
    np.testing.assert_allclose(found, signs * peer.transform(raw.transform(train)), atol=1e-4)
    np.testing.assert_allclose(
        space.transform(test), signs * peer.transform(raw.transform(test)), atol=1e-4
    )
    assert space.kept_variance_ == pytest.approx(peer.explained_variance_ratio_.sum(), rel=1e-4)
    assert found.var(axis=0).sum() == pytest.approx(space.kept_variance_, rel=1e-4)


@pytest.mark.parametrize(
    ("images", "step", "n_kept"),
    [
        (IMAGES, 60, 5),  # fewer features
        (IMAGES[:9], 1, 8),  # fewer stimuli
        (np.repeat(IMAGES[:5], 4, axis=0), 1, 4),  # repeats of few stimuli
    ],
)
def test_principal_space_keeps_all_there_is(images, step, n_kept):
    space = PrincipalSpace(Pixels(step))
    found = space.fit_transform(images)
    assert found.shape == (len(images), n_kept)
    assert space.kept_variance_ == pytest.approx(1, rel=1e-4)
    raw = Pixels(step).transform(images)
    np.testing.assert_allclose(found @ space.components_, raw - raw.mean(axis=0), atol=0.01)


def test_scaled_features_do_not_depend_on_the_batch():
    stack = FeatureStack([SingleSpace(Pixels()), SingleSpace(PixelPCA(4), "space")]).fit(IMAGES)
    whole = stack.transform(IMAGES)
    for number in (0, 7):
        alone = stack.transform(IMAGES[number : number + 1])
        np.testing.assert_allclose(alone[0], whole[number], rtol=1e-5, atol=1e-5)


def test_stack_is_its_spaces_side_by_side():
    stack = FeatureStack([SingleSpace(Pixels(3)), PixelPCA(4)])
    found = stack.fit_transform(IMAGES[:30])
    assert stack.widths_ == [86, 4]
    np.testing.assert_array_equal(found[:, :86], SingleSpace(Pixels(3)).fit_transform(IMAGES[:30]))
    np.testing.assert_array_equal(found[:, 86:], PixelPCA(4).fit_transform(IMAGES[:30]))
    np.testing.assert_allclose(stack.transform(IMAGES[:30]), found, rtol=1e-6, atol=1e-6)


def test_each_image_is_computed_once(counted):
    space = Remembered(counted())
    first = space.fit_transform(IMAGES[[0, 1, 1, 2]])
    assert counted.seen == 3
    again = space.transform(IMAGES[[2, 3, 0]])
    assert counted.seen == 4
    np.testing.assert_array_equal(first, IMAGES[[0, 1, 1, 2]].reshape(4, -1))
    np.testing.assert_array_equal(again, IMAGES[[2, 3, 0]].reshape(3, -1))
    clone(space).transform(IMAGES[:4])  # folds and null runs use clones
    assert counted.seen == 4


def test_images_of_other_type_or_settings_are_others(counted):
    space = Remembered(counted())
    space.transform(IMAGES[:2])
    np.testing.assert_array_equal(
        space.transform(IMAGES[:2].astype(np.float32)), IMAGES[:2].reshape(2, -1)
    )
    zeros = np.zeros((1, 4, 4), np.uint8)
    assert space.transform(zeros).shape == (1, 16)
    assert space.transform(zeros.reshape(1, 2, 8)).shape == (1, 16)
    twin = clone(space).set_params(space__step=2)
    assert twin.transform(IMAGES[:2]).shape == (2, 128)
    assert space.transform(IMAGES[:2]).shape == (2, 256)
    assert space.get_params()["space__step"] == 1


def test_remembered_energy_is_the_energy():
    energy = OrientedEnergy(side=16, frequencies=(3.0,))
    np.testing.assert_array_equal(Remembered(energy).transform(IMAGES), energy.transform(IMAGES))
    assert Remembered(energy).transform(IMAGES[:0]).shape == (0, 72)


def test_bad_input():
    with pytest.raises(InputError, match="scale must be 'feature' or 'space'; got 'both'"):
        SingleSpace(Pixels(), scale="both").fit(IMAGES)
    with pytest.raises(InputError, match="at least one feature space"):
        FeatureStack([]).fit(IMAGES)
    with pytest.raises(NotFittedError, match="not fitted"):
        SingleSpace(Pixels()).transform(IMAGES)
    with pytest.raises(NotFittedError, match="not fitted"):
        FeatureStack([Pixels()]).transform(IMAGES)
    with pytest.raises(InputError, match="n_components must be at least 1; got 0"):
        PrincipalSpace(Pixels(), 0).fit(IMAGES)
    with pytest.raises(InputError, match="features of the 6 training stimuli are all the same"):
        PrincipalSpace(Pixels()).fit(np.zeros((6, 4, 4), np.uint8))
    with pytest.raises(NotFittedError, match="not fitted"):
        PrincipalSpace(Pixels()).transform(IMAGES)
    with pytest.raises(NotFittedError, match="PixelPCA instance is not fitted"):
        Remembered(PixelPCA(2)).fit_transform(IMAGES)


def test_forgetting_reaches_clones_and_changes_no_feature():
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    space = Remembered(OrientedEnergy(side=16, frequencies=(2.0,)))
    before = clone(space).fit_transform(images)
    assert len(space._values) == 3
    clone(space).forget()
    assert not space._values
    assert not space._rows
    np.testing.assert_array_equal(space.transform(images), before)


class Shifted(Pixels):
    """Pixels less a long table, of which a print shows the ends alone."""

    def __init__(self, shift):
        self.shift = shift

    def transform(self, images):
        return np.asarray(images, np.float32).reshape(len(images), -1) - self.shift[600:856]


def test_settings_that_print_alike_are_told_apart():
    shift = np.zeros(2000)
    other = shift.copy()
    other[700] = 1
    assert repr(shift) == repr(other)
    space = Remembered(Shifted(shift))
    twin = clone(space).set_params(space__shift=other)
    first, second = space.transform(IMAGES[:2]), twin.transform(IMAGES[:2])
    np.testing.assert_array_equal(np.flatnonzero(first[0] != second[0]), [100])


@pytest.mark.parametrize("scale", ["feature", "space"])
@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1e6])
def test_the_unit_of_features_changes_nothing(scale, unit):
    """Volts and microvolts are one space; a column of one value stays constant in both."""

    class Measured(Pixels):
        def transform(self, images):
            values = super().transform(images) + 50.0
            values[:, 0] = 7.0
            return (unit * values).astype(np.float32)

    found = SingleSpace(Measured(), scale=scale).fit_transform(IMAGES)
    varying = (super(Measured, Measured()).transform(IMAGES) + 50.0).astype(np.float64)[:, 1:]
    deviation = varying - varying.mean(axis=0)
    spread = deviation.std(axis=0)
    total = spread * np.sqrt(varying.shape[1] + 1) if scale == "feature" else np.sqrt(
        np.sum(spread**2)
    )  # fmt: skip
    np.testing.assert_allclose(found[:, 1:], deviation / total, atol=1e-4)
    np.testing.assert_allclose(found[:, 0], 0, atol=1e-5)
