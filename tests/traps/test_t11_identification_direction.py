"""Two-way identification names the side that is fixed, and says how ties count."""

import numpy as np
import pytest

from brainkit.evaluation import IDENTIFICATION_METRICS, identification
from brainkit.evaluation.presets import PRESETS

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


def test_presets_fix_the_reconstruction_and_count_ties_as_failures():
    scores = [
        (name, one)
        for preset in PRESETS.values()
        for name, one in preset.metrics.items()
        if getattr(one, "kind", "") == "identification"
    ]
    assert {name.split("_")[0] for name, _ in scores} == {
        "mindeye1", "mindeye2", "braindiffuser", "tiny"
    }  # fmt: skip
    for name, one in scores:
        assert (one.direction, one.ties) == ("image_given_reconstruction", "failure")
        assert "_identification_image_given_reconstruction[" in name


def test_a_preset_gives_what_the_published_matrix_gives():
    """Rows are images and columns reconstructions; each column is compared with its diagonal."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)
    made = (0.5 * images + 0.5 * generator.integers(0, 256, images.shape)).astype(np.uint8)
    made[4] = made[3]

    def judge(pictures, layers):
        return dict.fromkeys(layers, pictures[:, :, ::16, ::16].reshape(len(pictures), -1))

    preset = PRESETS["tiny"]
    found = preset.score(images, made, dict.fromkeys(preset.networks, judge))
    real, drawn = (one[:, ::16, ::16].reshape(9, -1).astype(float) for one in (images, made))
    # Pixels have one scale for all channels, so that normalising moves no correlation.
    r = np.corrcoef(real, drawn)[:9, 9:]
    expected = (r < np.diag(r)).sum(axis=0) / 8
    name = "tiny_identification_image_given_reconstruction[judge-a]"
    np.testing.assert_allclose(found.scores[name].scores, expected)
    assert found.values[name] == pytest.approx(expected.mean())
    other_way = (r < np.diag(r)[:, None]).sum(axis=1) / 8
    assert other_way.mean() != pytest.approx(expected.mean())
