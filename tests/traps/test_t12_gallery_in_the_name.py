"""T12: a gallery of class centroids compared with a gallery of test images."""

import numpy as np
import pytest

from brainkit.errors import InputError, LeakError, QuantityError
from brainkit.evaluation import class_centroids, gallery_rows, retrieval
from brainkit.evaluation.preset_scores import comparison
from brainkit.evaluation.presets import PRESETS

# Two classes on a plane; brains decode the class's direction (0° and 90°), a little off. The test
# images lie far from it (60° and 50°), and other images of the classes about it.
BRAIN, TEST, OTHERS = (
    np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], axis=1)
    for angles in ([5, 85], [60, 50], [-10, 10, 80, 100])
)
CLASSES, OTHER_CLASSES = ["cat", "dog"], ["cat", "cat", "dog", "dog"]


def centroids(test_images=("c9", "d9")):
    return class_centroids(
        OTHERS, OTHER_CLASSES, images=["c1", "c2", "d1", "d2"], test_images=test_images
    )


def test_the_two_galleries_give_opposite_answers_under_two_names():
    means, names = centroids()
    options = {"direction": "image_from_brain"}
    of_images = retrieval(BRAIN, TEST, gallery_name="test-images", **options)
    truth = gallery_rows(CLASSES, names)
    of_classes = retrieval(BRAIN, means, truth=truth, gallery_name="class-centroids", **options)
    assert (of_images.value, of_classes.value) == (0, 1)
    assert of_images.id == "retrieval_image_from_brain_top1[test-images]"
    assert of_classes.id == "retrieval_image_from_brain_top1[class-centroids]"


def test_systems_searched_in_different_galleries_share_no_table():
    preset = PRESETS["things_eeg2"]
    ids = list(preset.metrics)
    assert [name for name in ids if "top1" in name] == [
        "things_eeg2_retrieval_image_from_brain_top1[test-images]",
        "things_eeg2_retrieval_image_from_brain_top1[class-centroids]",
    ]
    systems = {
        "NICE": preset.score_retrieval(BRAIN, centroids()[0], "class-centroids", any_number=True),
        "ATM": preset.score_retrieval(BRAIN, TEST, "test-images", any_number=True),
    }
    with pytest.raises(QuantityError, match=r"top1\[class-centroids\].*top1\[test-images\]"):
        comparison(systems)


def test_centroids_are_of_images_that_nobody_is_tested_on():
    with pytest.raises(LeakError, match="d1"):
        centroids(test_images=("c9", "d1"))


def test_a_gallery_without_the_truth_is_refused():
    _, names = centroids()
    with pytest.raises(InputError, match=r"lacks the truth of 1 names .*: cow"):
        gallery_rows(["cat", "cow"], names)
    with pytest.raises(InputError, match="give `truth`"):
        retrieval(BRAIN, OTHERS, direction="image_from_brain", gallery_name="test-images")


def test_the_gallery_has_to_be_said():
    with pytest.raises(TypeError, match="gallery_name"):
        PRESETS["things_eeg2"].score_retrieval(BRAIN, TEST)
