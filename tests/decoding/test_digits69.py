"""Decoding the real recording: each of 100 handwritten digits, held out, beside every null."""

import numpy as np
import pytest

import brainkit
from brainkit.decoding import (
    BayesianDecoder,
    DecodingProtocol,
    LearnedLatents,
    RidgeDecoder,
    assess_decoder,
)
from brainkit.evaluation import mean_estimate
from brainkit.features import PixelPCA


@pytest.fixture(scope="module")
def result(shared_data):
    # The settings of the recipe decode-pixel-components.
    recording = brainkit.load("digits69", shared_data / "digits69")
    model = RidgeDecoder(alphas=tuple(np.geomspace(10, 1e7, 13)))
    protocol = DecodingProtocol(
        "kfold:10", seeds=(0, 1, 2, 3, 4), zscore=None, average_repeats=False
    )
    return assess_decoder(recording, PixelPCA(20), model, protocol)


@pytest.mark.slow
def test_pixel_correlation_is_above_every_null(result):
    metric = result.metrics["pixel_correlation"]
    assert metric["value"] >= 0.725
    assert (result.by_seed["pixel_correlation"] >= 0.725).all()
    assert metric["nulls"].keys() == {
        "mean_image", "class_mean", "nearest_training_image", "no_brain", "shuffled_brain"
    }  # fmt: skip
    for name, gap in metric["above_nulls"].items():
        assert gap["ci"][0] > 0, name
        assert gap["value"] == pytest.approx(metric["value"] - metric["nulls"][name], abs=1e-9)
    assert 0.60 <= metric["nulls"]["mean_image"] <= 0.615
    assert metric["nulls"]["class_mean"] == pytest.approx(0.665, abs=0.005)
    assert metric["nulls"]["shuffled_brain"] == pytest.approx(0.608, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("direction", "floor"),
    [("reconstruction_given_image", 0.94), ("image_given_reconstruction", 0.89)],
)
def test_identification_in_both_directions(result, direction, floor):
    metric = result.metrics[f"identification_{direction}"]
    assert metric["value"] >= floor
    assert metric["chance"] == 0.5
    # The training image nearest to the decoded features is decoded from the brain as well, and
    # identifies about as well as the reconstruction: what it lacks is likeness.
    for name in ("class_mean", "no_brain", "shuffled_brain"):
        assert metric["above_nulls"][name]["ci"][0] > 0, name


@pytest.mark.slow
def test_every_digit_is_held_out_once_a_seed(result):
    assert result.items["stimulus"].tolist() == list(range(100))
    assert len(result.by_seed) == 5
    assert result.images["reconstruction"].shape == result.images["shown"].shape == (100, 28, 28)
    assert result.counts == {"units": 3092, "constant_or_nan": 0}


# ------------------------------------------- through an encoding model, and through learned latents


def judged(shared_data, features, model, seeds):
    recording = brainkit.load("digits69", shared_data / "digits69")
    protocol = DecodingProtocol("kfold:10", seeds=seeds, zscore=None, average_repeats=False)
    return assess_decoder(recording, features, model, protocol)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_an_encoding_model_turned_round_decodes_better_than_ridge(shared_data, result):
    bayesian = judged(shared_data, PixelPCA(20), BayesianDecoder(), (0, 1, 2, 3, 4))
    assert bayesian.metrics["pixel_correlation"]["value"] >= 0.75
    better = bayesian.items["pixel_correlation"] - result.items["pixel_correlation"]
    assert mean_estimate(better, bounds=(-1, 1)).interval().low > 0
    for direction in ("reconstruction_given_image", "image_given_reconstruction"):
        name = f"identification_{direction}"
        assert bayesian.metrics[name]["value"] > result.metrics[name]["value"]


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_learned_latents_are_above_the_linear_reference(shared_data, result):
    """The settings of the recipe decode-learned-latents, of the first fold seed."""
    learned = judged(shared_data, LearnedLatents(), BayesianDecoder(), (0,))
    metric = learned.metrics["pixel_correlation"]
    assert metric["value"] >= 0.747
    assert metric["value"] > result.by_seed["pixel_correlation"][0]
    sharper = learned.metrics["ssim_gaussian-2d"]["value"]
    assert sharper > result.metrics["ssim_gaussian-2d"]["value"] + 0.03
    for name, gap in metric["above_nulls"].items():
        assert gap["ci"][0] > 0, name
    assert learned.metrics["identification_reconstruction_given_image"]["value"] >= 0.94
    assert learned.metrics["identification_image_given_reconstruction"]["value"] >= 0.89
