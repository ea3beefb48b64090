"""Two-way identification names the side that is fixed, and says how ties count."""

import numpy as np
import pytest

from brainkit.evaluation import IDENTIFICATION_METRICS, identification

# Unit vectors at these angles, compared by cosine, so that the nearer angle is the more similar.
# Image fixed, distances to its own reconstruction and to the others:
#   image 0: 30°; 20° (lost), 60° (won): 1/2
#   image 1: 30°; 20° (lost), 10° (lost): 0
#   image 2: 40°; 70° (won), 80° (won): 1
# Reconstruction fixed, distances to its own image and to the others:
#   reconstruction 0: 30°; 20° (lost), 70° (won): 1/2
#   reconstruction 1: 30°; 20° (lost), 80° (won): 1/2
#   reconstruction 2: 40°; 60° (won), 10° (lost): 1/2
IMAGE_ANGLES, RECONSTRUCTION_ANGLES = [0, 50, 100], [30, 20, 60]


def directions_of(angles):
    radians = np.radians(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ("reconstruction_given_image", [0.5, 0.0, 1.0]),
        ("image_given_reconstruction", [0.5, 0.5, 0.5]),
    ],
)
def test_hand_worked_case(direction, expected):
    fractions = identification(
        directions_of(RECONSTRUCTION_ANGLES),
        directions_of(IMAGE_ANGLES),
        direction,
        similarity="cosine",
    )
    np.testing.assert_allclose(fractions, expected)


def test_the_direction_has_to_be_said_and_is_the_metrics_name():
    with pytest.raises(TypeError, match="direction"):
        identification(np.eye(3), np.eye(3))
    for direction, metric in IDENTIFICATION_METRICS.items():
        assert metric == f"identification_{direction}"


@pytest.mark.parametrize(("ties", "expected"), [("failure", 0.0), ("half", 0.5)])
def test_one_reconstruction_for_all_images_ties(ties, expected):
    generator = np.random.default_rng(0)
    images = generator.normal(size=(37, 301)).astype(np.float32)
    collapsed = np.repeat(images.mean(axis=0, keepdims=True), 37, axis=0)
    fractions = identification(collapsed, images, "reconstruction_given_image", ties=ties)
    np.testing.assert_array_equal(fractions, expected)


def test_equal_reconstructions_still_order_the_images():
    images = np.random.default_rng(0).normal(size=(37, 301))
    collapsed = np.repeat(images.mean(axis=0, keepdims=True), 37, axis=0)
    fractions = identification(collapsed, images, "image_given_reconstruction")
    assert fractions.mean() == pytest.approx(0.5)
