"""SSIM of columns is not SSIM of the image: both exist, each by its name."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from brainkit.errors import InputError
from brainkit.evaluation import SSIM_VARIANTS, greyscale, ssim
from brainkit.evaluation.presets import PRESETS

SETTINGS = {
    "gaussian_weights": True,
    "sigma": 1.5,
    "use_sample_covariance": False,
    "data_range": 1.0,
}


@pytest.fixture
def unrelated():
    return np.random.default_rng(0).uniform(size=(2, 1, 40, 48))


def test_each_variant_is_what_its_name_says(unrelated):
    a, b = unrelated
    image = structural_similarity(a[0], b[0], **SETTINGS)
    columns = structural_similarity(a[0], b[0], channel_axis=-1, **SETTINGS)
    assert float(ssim(a, b, data_range=1, variant="gaussian-2d")[0]) == pytest.approx(
        image, abs=1e-6
    )
    by_column = ssim(a, b, data_range=1, variant="gaussian-columns")
    assert float(by_column[0]) == pytest.approx(columns, abs=1e-6)


def test_the_variants_differ_on_a_blurred_image():
    sharp = np.random.default_rng(0).uniform(size=(1, 60, 60))
    blurred = ndimage.gaussian_filter(sharp, (0, 1, 1))
    image, columns = (
        float(ssim(sharp, blurred, data_range=1, variant=variant)[0]) for variant in SSIM_VARIANTS
    )
    assert abs(columns - image) > 0.02


def test_columns_are_taken_along_the_height(unrelated):
    a, b = unrelated
    by_hand = [
        ssim(
            np.repeat(a[:, :, [column]], 12, axis=2),
            np.repeat(b[:, :, [column]], 12, axis=2),
            data_range=1,
        )[0]
        for column in range(a.shape[2])
    ]
    by_column = ssim(a, b, data_range=1, variant="gaussian-columns")
    assert float(by_column[0]) == pytest.approx(np.mean(by_hand))


def test_the_default_is_the_image():
    assert SSIM_VARIANTS[0] == "gaussian-2d"
    a, b = np.random.default_rng(1).uniform(size=(2, 3, 20, 20))
    np.testing.assert_array_equal(
        ssim(a, b, data_range=1), ssim(a, b, data_range=1, variant="gaussian-2d")
    )


def test_presets_name_their_variant_and_give_it():
    generator = np.random.default_rng(0)
    sharp = np.repeat(generator.uniform(size=(3, 60, 60, 1)), 3, axis=3)
    blurred = ndimage.gaussian_filter(sharp, (0, 1, 1, 0))
    values = {}
    for name, variant in (("low_level", "gaussian-2d"), ("braindiffuser", "gaussian-columns")):
        preset = PRESETS[name]
        pixels = replace(preset, images=tuple(one for one in preset.images if one.kind == "ssim"))
        values[name] = pixels.score(sharp, blurred, any_number=True).values
        assert list(values[name]) == [f"{name}_ssim_{variant}"]
    first, second = (next(iter(one.values())) for one in values.values())
    assert abs(first - second) > 0.02


def test_ssim_of_colours_is_refused():
    colours = np.random.default_rng(0).uniform(size=(2, 20, 20, 3))
    with pytest.raises(InputError, match=r"expected greyscale images.*greyscale\(images\)"):
        ssim(colours, colours, data_range=1)


@pytest.mark.parametrize("variant", SSIM_VARIANTS)
@pytest.mark.parametrize("shape", [(11, 11), (30, 12), (12, 30), (41, 57)])
def test_both_variants_of_grey_and_coloured_images_of_many_shapes(shape, variant):
    generator = np.random.default_rng(1)
    first = generator.uniform(size=(3, *shape, 3))
    second = np.clip(first + generator.normal(scale=0.2, size=first.shape), 0, 1)
    second[2] = 0.5  # a constant image
    axis = {"channel_axis": -1} if variant == "gaussian-columns" else {}
    expected = [
        structural_similarity(rgb2gray(a), rgb2gray(b), **axis, **SETTINGS)
        for a, b in zip(first, second, strict=True)
    ]
    found = ssim(greyscale(first), greyscale(second), data_range=1, variant=variant)
    np.testing.assert_allclose(found, expected, atol=1e-6)
