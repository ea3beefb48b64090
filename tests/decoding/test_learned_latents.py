"""Latents learned from images: what they keep, that a seed repeats them, and what is no image."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from brainkit import load_estimator, save_estimator
from brainkit.decoding import LearnedLatents
from brainkit.decoding.learned_latents import ImageAutoencoder, moved
from brainkit.errors import CorruptFileError, InputError
from brainkit.evaluation import pixel_correlation
from brainkit.features.feature_spaces import RememberedFits

STILL = {"rotation": 0.0, "shift": 0.0, "scale": 0.0}
QUICK = {"n_latents": 4, "n_hidden": 32, "steps": 10, "batch_size": 8}


def bars(n, seed=0, side=12):
    """Bright bars at a place and of a width drawn at random: two numbers make an image."""
    generator = np.random.default_rng(seed)
    place, width = generator.uniform(3, side - 4, n), generator.uniform(1, 2, n)
    column = np.exp(-((np.arange(side) - place[:, None]) ** 2) / (2 * width[:, None] ** 2))
    return np.repeat(column[:, None], side, axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def space():
    return LearnedLatents(n_latents=6, n_hidden=64, steps=300, learning_rate=4e-3, **STILL).fit(
        bars(60)
    )


def test_images_come_back_that_were_not_learned(space):
    new = bars(20, seed=1)
    again = space.inverse_transform(space.transform(new))
    assert again.shape == new.shape
    assert np.mean(pixel_correlation(new, again)) > 0.97
    mean = np.broadcast_to(bars(60).mean(axis=0), new.shape)
    assert np.mean((again - new) ** 2) < 0.1 * np.mean((mean - new) ** 2)
    assert ((again >= 0) & (again <= 1)).all()


def test_noisy_latents_still_give_bars(space):
    new = bars(20, seed=3)
    latents = space.transform(new)
    noise = 0.2 * np.random.default_rng(0).normal(size=latents.shape)
    again = space.inverse_transform(latents + noise)
    assert np.mean(pixel_correlation(new, again)) > 0.85
    assert np.ptp(again, axis=1).max() < 0.25  # no bar varies along itself


def test_noise_variance_is_the_error_of_the_training_images(space):
    shown = bars(60)
    error = np.mean((space.inverse_transform(space.transform(shown)) - shown) ** 2)
    assert space.noise_variance_ == pytest.approx(error, rel=1e-4)


def test_a_seed_repeats_and_another_one_does_not():
    shown = bars(20)
    one, same, other = (LearnedLatents(**QUICK, seed=s).fit(shown) for s in (0, 0, 1))
    for name, value in one.weights_.items():
        np.testing.assert_array_equal(value, same.weights_[name])
    assert not np.array_equal(one.transform(shown), other.transform(shown))
    state = torch.random.get_rng_state()
    LearnedLatents(**QUICK).fit(shown)
    torch.testing.assert_close(torch.random.get_rng_state(), state)


def test_bytes_and_floats_agree_and_stay_as_they_are():
    shown = (bars(20) * 255).astype(np.uint8)
    before = shown.copy()
    one, other = (LearnedLatents(**QUICK).fit(images) for images in (shown, shown / 255))
    np.testing.assert_allclose(one.transform(shown), other.transform(shown / 255), atol=1e-4)
    np.testing.assert_array_equal(shown, before)


def test_colours_keep_their_place():
    shown = np.zeros((30, 6, 8, 3), dtype=np.float32)
    shown[::2, :3, :, 0], shown[1::2, 3:, :, 2] = 1.0, 1.0  # red above, or blue below
    space = LearnedLatents(n_latents=2, n_hidden=32, steps=150, learning_rate=5e-3, **STILL).fit(
        shown
    )
    again = space.inverse_transform(space.transform(shown))
    assert again.shape == shown.shape
    assert np.abs(again - shown).mean() < 0.1


def test_it_comes_back_from_disk(space, tmp_path):
    save_estimator(space, tmp_path / "space")
    again = load_estimator(tmp_path / "space")
    new = bars(5, seed=4)
    np.testing.assert_array_equal(again.transform(new), space.transform(new))
    latents = space.transform(new)
    np.testing.assert_array_equal(
        again.inverse_transform(latents), space.inverse_transform(latents)
    )
    again.set_params(n_hidden=16)
    with pytest.raises(CorruptFileError, match="another network"):
        again.transform(new)


def test_what_was_learned_of_the_same_images_is_learned_once():
    shown, fits = bars(20), RememberedFits()
    space = LearnedLatents(**QUICK).remember(fits)
    first, second = clone(space).fit(shown), clone(space).fit(shown.copy())
    assert first.weights_ is second.weights_
    assert clone(space).set_params(seed=3).fit(shown).weights_ is not first.weights_
    assert clone(space).fit(shown[:15]).weights_ is not first.weights_


# ------------------------------------------------------------------------------- its pieces


def test_the_loss_worked_by_hand():
    """With weights 0 an image is .5 everywhere and the posterior is the prior: no divergence."""
    module = ImageAutoencoder(4, 2, 3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    images = torch.tensor([[0.5, 0.5, 0.5, 0.9]])
    found = module.loss(images, torch.Generator().manual_seed(0)).item()
    assert found == pytest.approx(0.5 * np.log(0.4**2 / 4 + 1e-6), abs=1e-5)
    with torch.no_grad():  # means 1 and 2: the divergence is (1 + 4) / 2, over four values
        module.encoder[-1].bias[:2] = torch.tensor([1.0, 2.0])
    again = module.loss(images, torch.Generator().manual_seed(0)).item()
    assert again == pytest.approx(found + 2.5 / 4, abs=1e-5)


def test_images_move_by_what_is_asked():
    image = torch.zeros(64, 1, 20, 20)
    image[:, :, 9:11, 9:11] = 1.0
    generator = torch.Generator().manual_seed(0)
    still = moved(image, generator, rotation=0, shift=0, scale=0)
    torch.testing.assert_close(still, image, atol=1e-5, rtol=0)
    shifted = moved(image, generator, rotation=0, shift=0.1, scale=0)
    total = shifted.sum(dim=(1, 2, 3))
    centre = (shifted.sum(dim=2)[:, 0] * torch.arange(20)).sum(dim=1) / total - 9.5
    assert centre.abs().max() <= 2.0 + 1e-3  # a tenth of 20 pixels
    assert centre.abs().max() > 1.5
    torch.testing.assert_close(total, torch.full((64,), 4.0), atol=1e-3, rtol=0)
    grown = moved(image, generator, rotation=0, shift=0, scale=0.3).sum(dim=(1, 2, 3))
    assert grown.max() > 5
    assert grown.min() < 3
    turned = moved(image, generator, rotation=45, shift=0, scale=0)
    assert (turned - image).abs().max() > 0.1
    edge = moved(torch.ones(8, 1, 6, 6), generator, rotation=20, shift=0.2, scale=0.2)
    torch.testing.assert_close(edge, torch.ones(8, 1, 6, 6), atol=1e-5, rtol=0)


# -------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_latents": 0}, "n_latents must be 1 or more; got 0"),
        ({"n_hidden": 2.5}, "n_hidden must be a whole number"),
        ({"steps": -1}, "steps must be 1 or more"),
        ({"batch_size": 0}, "batch_size must be 1 or more"),
        ({"rotation": 180.0}, "rotation must be from 0 to below 180"),
        ({"shift": -0.1}, "shift must be from 0 to below 1"),
        ({"scale": 1.0}, "scale must be from 0 to below 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
    ],
)
def test_parameters_without_a_meaning(changes, message):
    with pytest.raises(InputError, match=message):
        LearnedLatents(**{**QUICK, **changes}).fit(bars(10))


def test_what_cannot_be_learned_from(space):
    with pytest.raises(InputError, match="all of these 5 are the same"):
        LearnedLatents(**QUICK).fit(np.repeat(bars(1), 5, axis=0))
    with pytest.raises(InputError, match="of 16384 values at most; these have 200 × 200"):
        LearnedLatents(**QUICK).fit(np.random.default_rng(0).uniform(size=(2, 200, 200)))
    with pytest.raises(InputError, match=r"shape \(12, 12\); got \(10, 10\)"):
        space.transform(bars(2, side=10))
    with pytest.raises(InputError, match=r"Latents are \(n, 6\); got \(2, 5\)"):
        space.inverse_transform(np.zeros((2, 5)))
    with pytest.raises(NotFittedError):
        LearnedLatents().transform(bars(2))
    with pytest.raises(InputError, match="uint8 or floating point"):
        LearnedLatents(**QUICK).fit(np.zeros((4, 5, 5), dtype=np.int64))
