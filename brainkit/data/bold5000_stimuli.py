"""BOLD5000's images by name: which set each is of, where its file is, and what is said of it.

The images come from three sets. COCO's have sentences in COCO's annotation files. ImageNet's have a
line of words for their synset in ``Image_Labels/imagenet_final_labels.txt``, and those of scenes
are named after what they show (``homeoffice5.jpg``); as in Oota et al. (2022, COLING) these words
stand in for a caption.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd

from brainkit.arrays.files import is_file, is_folder, read_text
from brainkit.data.coco import read_captions
from brainkit.data.nsd_annotations import annotation_folder
from brainkit.data.stimuli import ImageFiles, Stimuli
from brainkit.errors import MissingFileError, listed

SETS = ("Scene", "COCO", "ImageNet")
STIMULI = Path("BOLD5000_Stimuli")
PRESENTED = STIMULI / "Scene_Stimuli/Presented_Stimuli"
LABELS = STIMULI / "Image_Labels/imagenet_final_labels.txt"
# COCO's files of 2017 tell of the same photographs under the same numbers.
SPLITS = {"train2014": ("train2014", "train2017"), "val2014": ("val2014",)}
_COCO = re.compile(r"COCO_(\w+)_(\d+)\.\w+")
_IMAGENET = re.compile(r"(n\d{8})_\d+\.\w+")
_SCENE = re.compile(r"\D+")


def image_set(name: str) -> str:
    """Return the set that an image is of, by its name.

    Examples
    --------
    >>> [image_set(name) for name in ("bar2.jpg", "COCO_train2014_000000000009.jpg")]
    ['Scene', 'COCO']
    """
    if _COCO.fullmatch(name):
        return "COCO"
    return "ImageNet" if _IMAGENET.fullmatch(name) else "Scene"


def open_stimuli(
    root: Path, names: Sequence[str], annotations: str | Path | Literal[False] | None
) -> Stimuli | None:
    """Open images as stimuli whose ids are their names.

    Parameters
    ----------
    root : path
        Folder that holds ``BOLD5000_Stimuli`` and, where there are captions, ``annotations``.
    names : sequence of str
        File names of the images.
    annotations : path, False or None
        See `brainkit.data.bold5000.load`.

    Returns
    -------
    Stimuli or None
        None where there is no folder of stimuli.

    Raises
    ------
    MissingFileError
        If images or files of annotations are missing.
    """
    folder = annotation_folder(root, annotations)
    if not is_folder(root / STIMULI):
        return None
    paths = tuple(root / PRESENTED / image_set(name) / name for name in names)
    missing = [path.name for path in paths if not is_file(path)]
    if missing:
        raise MissingFileError(
            f"{len(missing)} of {len(names)} images are not in {root / PRESENTED}: "
            f"{listed(missing)}. Unpack BOLD5000_Stimuli.zip again, or read the images of one set "
            f"(sets=), of {listed(SETS)}."
        )
    captions = None if folder is None else _caption_files(folder, names)
    words = root / LABELS
    table = partial(stimulus_table, tuple(names), captions, words)
    return Stimuli(ImageFiles(paths), ids=list(names), table=table)


def stimulus_table(
    names: Sequence[str], captions: dict[str, Path] | None, labels: Path
) -> pd.DataFrame:
    """Return what is known of images.

    Parameters
    ----------
    names : sequence of str
        File names of the images.
    captions : dict of str to path, or None
        The file of captions of each of COCO's splits; None for no captions at all.
    labels : path
        ``imagenet_final_labels.txt``: a line a synset, its number and then words.

    Returns
    -------
    DataFrame
        `image`, `set`, and where there are captions `captions` (a list, empty where there are
        none) and `caption` (the first).

    Raises
    ------
    MissingFileError, CorruptFileError
        If a file is missing or damaged.
    """
    table = pd.DataFrame({"image": list(names), "set": [image_set(name) for name in names]})
    if captions is None:
        return table
    found = _coco_captions(names, captions) | _labels(names, labels)
    table["captions"] = [found.get(name, []) for name in names]
    table["caption"] = [lines[0] if lines else None for lines in table["captions"]]
    return table


def _caption_files(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Find the file of captions for each of COCO's splits that the images are of."""
    splits = sorted({match.group(1) for name in names if (match := _COCO.fullmatch(name))})
    files = {}
    for split in splits:
        every = [folder / f"captions_{other}.json" for other in SPLITS.get(split, (split,))]
        there = [path for path in every if is_file(path)]
        if not there:
            raise MissingFileError(
                f"{folder} holds no captions of COCO's {split}: expected "
                f"{listed([path.name for path in every], separator=' or ')}. Read without captions "
                "with annotations=False."
            )
        files[split] = there[0]
    return files


def _coco_captions(names: Sequence[str], files: dict[str, Path]) -> dict[str, list[str]]:
    matches = [match for name in names if (match := _COCO.fullmatch(name))]
    found: dict[str, list[str]] = {}
    for split, path in files.items():
        numbers = {int(match.group(2)): match.group(0) for match in matches if match[1] == split}
        for number, lines in read_captions(path, set(numbers)).items():
            found[numbers[number]] = lines
    return found


def _labels(names: Sequence[str], path: Path) -> dict[str, list[str]]:
    """Return the words that stand in for captions of the images that are not COCO's."""
    found: dict[str, list[str]] = {}
    synsets = {name: match[1] for name in names if (match := _IMAGENET.fullmatch(name))}
    if synsets:
        words = _read_labels(path)
        found |= {name: [words[synset]] for name, synset in synsets.items() if synset in words}
    for name in names:
        match = _SCENE.match(Path(name).stem)
        if image_set(name) == "Scene" and match:
            found[name] = [match.group().replace("_", " ").strip()]
    return found


def _read_labels(path: Path) -> dict[str, str]:
    lines = read_text(path, "BOLD5000's labels of ImageNet's images").splitlines()
    words: dict[str, str] = {}
    for line in lines:
        synset, _, label = line.strip().partition(" ")
        if label:
            words.setdefault(synset, label.strip())
    return words
