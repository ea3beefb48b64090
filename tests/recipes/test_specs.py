"""From names and settings to parts, with the types that the parts take."""

import numpy as np
import pytest

from brainkit.encoding import VoxelwiseRidge
from brainkit.errors import InputError, UnknownNameError
from brainkit.features import FeatureStack, PixelPCA, SingleSpace
from brainkit.recipes.specs import (
    FEATURES,
    MODELS,
    FeatureSpec,
    ModelSpec,
    build_features,
    build_model,
)

ALPHAS = {"low": 0.1, "high": 1000, "count": 5}


def test_a_model():
    spec = ModelSpec(kind="voxelwise-ridge", alphas=ALPHAS, cv=4, settings={"fit_intercept": False})
    model = build_model(spec)
    assert type(model) is VoxelwiseRidge
    np.testing.assert_allclose(model.alphas, [0.1, 1, 10, 100, 1000])
    assert model.cv == 4
    assert model.fit_intercept is False


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_every_model_can_be_built_with_its_own_settings(kind):
    given = MODELS[kind]().get_params(deep=False)
    lists = {n: list(v) if isinstance(v, tuple) else v for n, v in given.items()}
    alphas = ALPHAS if "alphas" in given else None
    model = build_model(ModelSpec(kind=kind, alphas=alphas, settings=lists))
    assert model.get_params(deep=False) == given


@pytest.mark.parametrize("kind", sorted(FEATURES))
def test_every_space_can_be_built_with_its_own_settings(kind):
    given = FEATURES[kind]().get_params(deep=False)
    lists = {n: list(v) if isinstance(v, tuple) else v for n, v in given.items()}
    space = build_features([FeatureSpec(kind=kind, scale="feature", settings=lists)])
    assert type(space) is SingleSpace
    inner = getattr(space.space, "space", space.space)
    assert inner.get_params(deep=False) == given


def test_one_space_and_several():
    alone = FeatureSpec(kind="pixel-pca", settings={"n_components": 3})
    assert type(build_features([alone])) is PixelPCA
    scaled = FeatureSpec(kind="pixel-pca", scale="space", settings={"n_components": 3})
    assert type(build_features([scaled, scaled])) is FeatureStack
    with pytest.raises(InputError, match="need a scale, 'feature' or 'space'; pixel-pca"):
        build_features([scaled, alone])


def test_spaces_that_are_known_share_what_they_compute():
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16), dtype=np.uint8)
    energy = FeatureSpec(kind="oriented-energy", settings={"side": 16, "frequencies": [2.0]})
    pixels = FeatureSpec(kind="pixel-pca", settings={"n_components": 3})
    known = {}
    spaces = [build_features([spec], known=known) for spec in (energy, energy, pixels, pixels)]
    values = [space.fit_transform(images) for space in spaces]
    assert spaces[0] is spaces[1]
    assert spaces[2].components_ is spaces[3].components_
    apart = [build_features([spec]) for spec in (energy, pixels)]
    for space, made in zip(apart, values[::2], strict=True):
        np.testing.assert_array_equal(space.fit_transform(images), made)
    assert apart[1].components_ is not spaces[2].components_
    for part in known.values():
        part.forget()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_components": "few"}, "n_components cannot be 'few'"),
        ({"n_components": 2.5}, "n_components cannot be 2.5"),
        ({"n_components": None}, "n_components cannot be None"),
        ({"components": 3}, "pixel-pca has no setting 'components'; it has n_components"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(InputError, match=message):
        build_features([FeatureSpec(kind="pixel-pca", settings=settings)])


def test_unknown_parts():
    with pytest.raises(UnknownNameError, match="Did you mean 'pixel-pca'"):
        build_features([FeatureSpec(kind="pixel-pac")])
    with pytest.raises(UnknownNameError, match="voxelwise-ridge"):
        build_model(ModelSpec(kind="voxelwise", alphas=ALPHAS))
