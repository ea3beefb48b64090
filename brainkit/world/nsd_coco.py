"""What a simulated experiment's pictures show, in the layout of COCO's annotation files."""

from typing import Any, Final

from brainkit.world.objects import CATEGORIES, SceneObject
from brainkit.world.scenes import SceneWorld

# As the simulated nsd_stim_info_merged.csv has it in `cocoSplit`, where the dataset has train2017
# or val2017.
SPLIT: Final = "simulated"


def coco_annotations(world: SceneWorld, n_stimuli: int) -> dict[str, dict[str, Any]]:
    """Describe the first scenes of a world as COCO describes photographs.

    Parameters
    ----------
    world : SceneWorld
    n_stimuli : int
        Scenes 0 … n_stimuli - 1 are described; the scene's id is the image's.

    Returns
    -------
    dict of str to dict
        By file name: ``captions_simulated.json`` with one caption an image, and
        ``instances_simulated.json`` with the objects, largest first, of the five categories 1 … 5.

    Notes
    -----
    An object's box is cut off at the picture's edge, as COCO's are. Its area is the whole square of
    its size, whatever is cut off or covered, since that size is what the world calls the largest.
    """
    common = {
        "info": {"description": "Simulated scenes: nothing here is a photograph.", "year": 0},
        "licenses": [],
        "images": [_image(number, world.size) for number in range(n_stimuli)],
    }
    captions: list[dict[str, Any]] = []
    instances: list[dict[str, Any]] = []
    for number in range(n_stimuli):
        scene = world.scene(number)
        captions.append({"image_id": number, "id": number + 1, "caption": scene.caption})
        for thing in scene.objects:
            instance = {"image_id": number, "id": len(instances) + 1, "iscrowd": 0}
            instances.append(instance | _outline(thing, world.size))
    categories = [
        {"supercategory": name, "id": number, "name": name}
        for number, name in enumerate(CATEGORIES, start=1)
    ]
    return {
        f"captions_{SPLIT}.json": {**common, "annotations": captions},
        f"instances_{SPLIT}.json": {**common, "annotations": instances, "categories": categories},
    }


def _image(number: int, size: int) -> dict[str, Any]:
    return {"id": number, "file_name": f"{number:012d}.jpg", "height": size, "width": size}


def _outline(thing: SceneObject, side: int) -> dict[str, Any]:
    """Give an object's box, area and outline (a rectangle) in pixels."""
    left, right = (_within(thing.x + sign * thing.size / 2) * side for sign in (-1, 1))
    top, bottom = (_within(thing.y + sign * thing.size / 2) * side for sign in (-1, 1))
    return {
        "category_id": CATEGORIES.index(thing.category) + 1,
        "area": (thing.size * side) ** 2,
        "bbox": [left, top, right - left, bottom - top],
        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
    }


def _within(fraction: float) -> float:
    return min(max(fraction, 0.0), 1.0)
