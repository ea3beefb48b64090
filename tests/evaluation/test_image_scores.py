""""""

import numpy as np
import pytest
from scipy.spatial.distance import correlation
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from brainkit.errors import InputError, UnknownNameError
from brainkit.evaluation import (
    Correlation,
    checked_arrays,
    correlation_distance,
    greyscale,
    kernel_distance,
    perceptual_distance,
    pixel_correlation,
    ssim,
)


def peer(a, b, data_range, **options):
    """Structural similarity by scikit-image, in the settings published with reconstructions."""
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    pairs = zip(a, b, strict=True)
    return [
        structural_similarity(*pair, data_range=data_range, **settings, **options) for pair in pairs
    ]


@pytest.fixture
def photographs():
    """Smooth images and noisy versions of them, in [0, 1]."""
    generator = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(0, 3, 31), np.linspace(0, 3, 24))
    phases = generator.uniform(0, 6, size=(5, 1, 1))
    clean = 0.5 + 0.4 * np.sin(2 * x + phases) * np.cos(y * phases)
    return clean, np.clip(clean + generator.normal(scale=0.1, size=clean.shape), 0, 1)


@pytest.mark.parametrize(
    ("variant", "options"), [("gaussian-2d", {}), ("gaussian-columns", {"channel_axis": -1})]
)
def test_ssim_equals_scikit_image(photographs, variant, options):
    clean, noisy = photographs
    ours = ssim(clean, noisy, data_range=1.0, variant=variant)
    np.testing.assert_allclose(ours, peer(clean, noisy, 1.0, **options), atol=1e-6)
    bytes_ = [np.round(255 * images).astype(np.uint8) for images in photographs]
    ours = ssim(*bytes_, data_range=255, variant=variant)
    np.testing.assert_allclose(ours, peer(*bytes_, 255, **options), atol=1e-6)


@pytest.mark.parametrize("variant", ["gaussian-2d", "gaussian-columns"])
def test_ssim_properties(photographs, variant):
    clean, noisy = photographs
    np.testing.assert_allclose(ssim(clean, clean, data_range=1, variant=variant), 1)
    forth = ssim(clean, noisy, data_range=1, variant=variant)
    np.testing.assert_allclose(forth, ssim(noisy, clean, data_range=1, variant=variant))
    assert (forth < 1).all()


def test_ssim_in_batches_and_with_nan(photographs, monkeypatch):
    clean, noisy = photographs
    whole = ssim(clean, noisy, data_range=1)
    monkeypatch.setattr(checked_arrays, "BATCH_BYTES", 8 * clean[0].size * 2)
    np.testing.assert_array_equal(ssim(clean, noisy, data_range=1), whole)
    noisy[1, 12, 12] = np.nan
    assert np.isnan(ssim(clean, noisy, data_range=1)).tolist() == [False, True] + [False] * 3


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((2, 10, 30), {}, "11 pixels"),
        ((2, 20, 30, 3), {}, "greyscale"),
        ((2, 20, 30), {"data_range": 0}, "positive"),
        ((2, 20, 30), {"data_range": 0.5}, r"more than data_range=0\.5"),
    ],
)
def test_ssim_bad_input(shape, options, message):
    images = np.linspace(0, 1, int(np.prod(shape))).reshape(shape)
    with pytest.raises(InputError, match=message):
        ssim(images, images, **({"data_range": 1.0} | options))


def test_unknown_variant_lists_those_that_exist():
    with pytest.raises(UnknownNameError, match="gaussian-2d, gaussian-columns"):
        ssim(np.zeros((1, 20, 20)), np.zeros((1, 20, 20)), data_range=1, variant="columns")


def test_greyscale_equals_scikit_image():
    colours = np.random.default_rng(0).uniform(size=(3, 8, 9, 3))
    np.testing.assert_allclose(greyscale(colours), rgb2gray(colours), atol=1e-12)
    with pytest.raises(InputError, match="height, width, 3"):
        greyscale(np.zeros((3, 8, 9)))


def test_pixel_correlation():
    generator = np.random.default_rng(0)
    a, b = generator.uniform(size=(2, 4, 8, 8, 3))
    a[2] = 0.3
    correlations = pixel_correlation(a, b)
    assert isinstance(correlations, Correlation)
    expected = [np.corrcoef(a[i].ravel(), b[i].ravel())[0, 1] for i in (0, 1, 3)]
    np.testing.assert_allclose(np.asarray(correlations)[[0, 1, 3]], expected)
    assert np.isnan(correlations[2])
    assert float(pixel_correlation(b[:1], 1 - 2 * b[:1])[0]) == pytest.approx(-1)


def test_pixel_correlation_bad_input():
    with pytest.raises(InputError, match="one shape"):
        pixel_correlation(np.zeros((2, 4, 4)), np.zeros((2, 4, 5)))
    with pytest.raises(InputError, match="one shape"):
        pixel_correlation(np.zeros(4), np.zeros(4))


# -- distances of features -------------------------------------------------------------------------


def test_correlation_distance_equals_scipy_and_is_not_inverted():
    a, b = np.random.default_rng(0).normal(size=(2, 5, 4, 3))
    expected = [correlation(x.ravel(), y.ravel()) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(correlation_distance(a, b), expected)
    np.testing.assert_allclose(correlation_distance(a, a), 0, atol=1e-12)
    np.testing.assert_allclose(correlation_distance(a, -a), 2)


def test_perceptual_distance_by_hand():
    a, b = np.array([[[[3.0]], [[4.0]]]]), np.array([[[[2.0]], [[0.0]]]])
    # (.6, .8) and (1, 0) differ by .4 and .8.
    assert perceptual_distance([a], [b], [[1, 2]]) == pytest.approx([0.16 + 2 * 0.64])
    # Positions are averaged, layers added.
    wide = [np.concatenate([one, a], axis=3) for one in (a, b)]
    found = perceptual_distance([a, wide[0]], [b, wide[1]], [[1, 2], [0, 1]])
    assert found == pytest.approx([1.44 + 0.64 / 2])
    np.testing.assert_array_equal(perceptual_distance([a], [2 * a], [[1, 2]]) < 1e-15, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": []}, "1 and 0 layers"),
        ({"weights": [[1, 2, 3]]}, "3 weights"),
        ({"weights": [[1, -2]]}, "negative weights"),
        ({"a": [np.zeros((1, 2))], "b": [np.zeros((1, 2))]}, "one weight a channel"),
    ],
)
def test_perceptual_distance_of_bad_layers(change, message):
    layer = np.ones((1, 2, 3, 3))
    arguments = {"a": [layer], "b": [layer], "weights": [[1, 2]]} | change
    with pytest.raises(InputError, match=message):
        perceptual_distance(**arguments)


def test_kernel_distance_by_hand():
    # k(x, y) = (x y + 1)³: within {0, 1} it is 1, within {1, 2} 27; between 1, 1, 8 and 27.
    found = kernel_distance([[0.0], [1.0]], [[1.0], [2.0]])
    assert found == pytest.approx(1 + 27 - 2 * 37 / 4)


def test_kernel_distance_has_no_bias():
    generator = np.random.default_rng(0)
    same = [kernel_distance(*generator.normal(size=(2, 8, 5))) for _ in range(600)]
    assert np.mean(same) == pytest.approx(0, abs=4 * np.std(same) / np.sqrt(600))
    assert min(same) < 0
    assert kernel_distance(generator.normal(size=(40, 5)), 2 + generator.normal(size=(9, 5))) > 1


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((3, 4)), np.zeros((3, 5)), "one network"),
        (np.zeros(3), np.zeros((3, 5)), "expected .n, d."),
        (np.zeros((1, 4)), np.zeros((3, 4)), "1 and 3 images"),
    ],
)
def test_kernel_distance_of_bad_sets(a, b, message):
    with pytest.raises(InputError, match=message):
        kernel_distance(a, b)
