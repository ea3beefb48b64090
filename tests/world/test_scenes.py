import numpy as np
import pytest
from numpy.testing import assert_array_equal

from brainkit.errors import InputError
from brainkit.world import SceneWorld
from brainkit.world.painting import CATEGORIES
from brainkit.world.scenes import SIZES


def test_a_picture_depends_on_world_and_id_only(world: SceneWorld) -> None:
    batch = world.paint([5, 900, 17])
    assert batch.shape == (3, 64, 64, 3)
    assert batch.dtype == np.uint8
    assert_array_equal(batch[2], SceneWorld(0).paint([17])[0])
    assert world.scene(17) == SceneWorld(0, size=128).scene(17)
    assert world.scene(17) != SceneWorld(1).scene(17)


def test_resolution_changes_sharpness_only(world: SceneWorld) -> None:
    fine = SceneWorld(0, size=128).paint(range(20)).astype(float)
    coarse = fine.reshape(20, 64, 2, 64, 2, 3).mean(axis=(2, 4))
    native = world.paint(range(20)).astype(float)
    r = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(coarse, native, strict=True)]
    assert min(r) > 0.93


def test_scenes_hold_what_the_docstring_says(world: SceneWorld) -> None:
    scenes = [world.scene(number) for number in range(3000)]
    counts = np.bincount([len(scene.objects) for scene in scenes], minlength=4) / len(scenes)
    np.testing.assert_allclose(counts, [0, 0.35, 0.40, 0.25], atol=0.03)
    for scene in scenes:
        sizes = [thing.size for thing in scene.objects]
        assert sizes == sorted(sizes, reverse=True)
        assert sum(thing.category == "place" for thing in scene.objects) <= 1
        for thing in scene.objects:
            low, high = SIZES[thing.category]
            assert low <= thing.size <= high
            assert 0.4 * thing.size <= min(thing.x, thing.y)
            assert max(thing.x, thing.y) <= 1 - 0.4 * thing.size
            if thing.category == "place":
                assert scene.background in {"field", "street", "beach", "night"}
    shown = [{thing.category for thing in scene.objects} for scene in scenes]
    for category in CATEGORIES:
        assert 0.25 < np.mean([category in names for names in shown]) < 0.45


def test_table_agrees_with_scenes(world: SceneWorld) -> None:
    table = world.table(range(50))
    for number, row in table.iterrows():
        scene = world.scene(int(number))
        assert row["category"] == scene.objects[0].category
        assert row["caption"] == scene.caption
        for category in CATEGORIES:
            expected = sum(t.size for t in scene.objects if t.category == category)
            assert row[category] == pytest.approx(expected)
    assert table["caption"].nunique() > 45


def test_captions_are_plain_english(world: SceneWorld) -> None:
    for number in range(300):
        scene = world.scene(number)
        assert scene.caption[:2] in ("a ", "an")
        assert "{" not in scene.caption
        for thing in scene.objects:
            assert thing.colour_name in scene.caption
            assert thing.kind in scene.caption


def test_pictures_vary_in_luminance_and_contrast(world: SceneWorld) -> None:
    images = world.paint(range(200)).astype(float)
    means, contrasts = images.mean(axis=(1, 2, 3)), images.std(axis=(1, 2, 3))
    assert means.std() > 20
    assert np.percentile(contrasts, 90) > 1.5 * np.percentile(contrasts, 10)


@pytest.mark.parametrize("options", [{"seed": -1}, {"size": 63}])
def test_bad_worlds(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="was given"):
        SceneWorld(**options)


def test_negative_id(world: SceneWorld) -> None:
    with pytest.raises(InputError, match="id must be 0 or more"):
        world.paint([-1])
