"""A simulated world described in COCO's files, and read back by the real dataset's reader."""

import json
from pathlib import Path

import numpy as np
import pytest

import brainkit
from brainkit.world import SceneWorld
from brainkit.world.nsd_coco import coco_annotations

N = 70


def test_the_reader_tells_the_worlds_truth(tiny_nsd: Path, world: SceneWorld) -> None:
    truth = world.table(range(N))
    for subject in (1, 3):
        table = brainkit.load("nsd", tiny_nsd, subject=subject).stimuli.table
        assert table["caption"].tolist() == truth["caption"].tolist()
        assert table["category"].tolist() == truth["category"].tolist()
        assert table["captions"].tolist() == [[line] for line in truth["caption"]]
        assert set(table["category"]) == {"face", "body", "place", "food", "word"}
        assert set(table["cocoSplit"]) == {"simulated"}


@pytest.mark.parametrize("seed", [1, 2])
def test_the_largest_instance_is_the_worlds_category(seed: int) -> None:
    world = SceneWorld(seed, size=128)
    content = coco_annotations(world, 500)["instances_simulated.json"]
    names = {category["id"]: category["name"] for category in content["categories"]}
    largest: dict[int, tuple[float, str]] = {}
    for entry in content["annotations"]:
        found = (entry["area"], names[entry["category_id"]])
        largest[entry["image_id"]] = max(largest.get(entry["image_id"], (0.0, "")), found)
    assert [largest[n][1] for n in range(500)] == world.table(range(500))["category"].tolist()


def test_the_files_have_the_layout_of_cocos(tiny_nsd: Path, world: SceneWorld) -> None:
    files = coco_annotations(world, N)
    assert sorted(files) == ["captions_simulated.json", "instances_simulated.json"]
    for name, expected in files.items():
        content = json.loads((tiny_nsd / "annotations" / name).read_text())
        assert content == expected
        assert [image["id"] for image in content["images"]] == list(range(N))
        assert {image["width"] for image in content["images"]} == {64}
    entries, categories = content["annotations"], content["categories"]
    assert categories[1] == {"supercategory": "body", "id": 2, "name": "body"}
    assert [entry["id"] for entry in entries] == list(range(1, len(entries) + 1))
    objects = [(number, thing) for number in range(N) for thing in world.scene(number).objects]
    for (number, thing), entry in zip(objects, entries, strict=True):
        assert entry["image_id"] == number
        assert categories[entry["category_id"] - 1]["name"] == thing.category
        assert entry["area"] == pytest.approx((64 * thing.size) ** 2)
        x, y, width, height = entry["bbox"]
        assert 0 <= x < x + width <= 64
        assert 0 <= y < y + height <= 64
        assert x == pytest.approx(max(64 * (thing.x - thing.size / 2), 0))
        assert y + height == pytest.approx(min(64 * (thing.y + thing.size / 2), 64))
        outline = np.reshape(entry["segmentation"][0], (-1, 2))
        np.testing.assert_allclose(outline.min(axis=0), [x, y])
        np.testing.assert_allclose(np.ptp(outline, axis=0), [width, height])
