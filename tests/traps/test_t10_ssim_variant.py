"""SSIM of columns is not SSIM of the image: both exist, each by its name."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import structural_similarity

from brainkit.evaluation import SSIM_VARIANTS, ssim

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
