"""The two retrieval directions differ, and each is named by query and gallery."""

import numpy as np
import pytest

from brainkit.evaluation import retrieval
from brainkit.evaluation.presets import PRESETS

# Unit vectors at these angles: similarity falls with the angle between two.
#   brain 0 at 0°, brain 1 at 20°, brain 2 at 90°; image 0 at 15°, image 1 at 60°, image 2 at 85°.
# Nearest image of each brain: 0 → image 0 (15°), 1 → image 0 (5°, wrong), 2 → image 2 (5°): 2 of 3.
# Nearest brain of each image: 0 → brain 1 (5°, wrong), 1 → brain 2 (30°, wrong; its own is 40°
# away), 2 → brain 2: 1 of 3.
BRAINS, IMAGES = (
    np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], axis=1)
    for angles in ([0, 20, 90], [15, 60, 85])
)


def test_image_from_brain():
    result = retrieval(BRAINS, IMAGES, direction="image_from_brain", gallery_name="test-images")
    assert result.metric == "retrieval_image_from_brain_top1"
    np.testing.assert_array_equal(result.hits, [True, False, True])


def test_brain_from_image():
    result = retrieval(IMAGES, BRAINS, direction="brain_from_image", gallery_name="test-brains")
    assert result.metric == "retrieval_brain_from_image_top1"
    np.testing.assert_array_equal(result.hits, [False, False, True])


def test_the_direction_and_the_gallery_have_to_be_said():
    with pytest.raises(TypeError, match="direction"):
        retrieval(BRAINS, IMAGES, gallery_name="test-images")
    with pytest.raises(TypeError, match="gallery_name"):
        retrieval(BRAINS, IMAGES, direction="image_from_brain")


def test_galleries_of_unequal_size_show_which_side_is_searched():
    result = retrieval(
        BRAINS[:2], IMAGES, truth=[0, 1], direction="image_from_brain", gallery_name="test-images"
    )
    assert (len(result.hits), result.n_gallery) == (2, 3)
    np.testing.assert_array_equal(result.hits, [True, False])


@pytest.mark.parametrize("name", ["mindeye1", "mindeye2"])
def test_presets_give_each_direction_by_its_name_and_say_where_tables_print_it(name):
    preset = PRESETS[name]
    values = preset.score_retrieval(BRAINS, IMAGES, "test-images", any_number=True).values
    start = f"{name}_retrieval"
    assert values == pytest.approx({
        f"{start}_image_from_brain_top1[test-images]": 2 / 3,
        f"{start}_brain_from_image_top1[test-images]": 1 / 3,
    })  # fmt: skip
    # What the published code prints as "Image" ranks brains for a given image.
    columns = {score.column: score.direction for score in preset.retrieval}
    assert columns == {"Image": "brain_from_image", "Brain": "image_from_brain"}
