"""Fingerprints: the same for the same stimuli, another one for anything else."""

import hashlib
import json
import os
import shutil

import h5py
import numpy as np
import pytest
from PIL import Image

from brainkit.data.stimuli import HDF5Stimuli, Stimuli
from brainkit.errors import CorruptFileError, InputError, MissingFileError
from brainkit.features.fingerprint import fingerprint

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, size=(6, 8, 8, 3), dtype=np.uint8)


def save(folder, images=IMAGES):
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


def all_different(prints):
    texts = [json.dumps(found, sort_keys=True) for found in prints]
    return len(set(texts)) == len(texts)


def test_an_array_is_told_by_type_shape_and_bytes():
    header = json.dumps(["|u1", [6, 8, 8, 3]]).encode()
    expected = hashlib.sha256(len(header).to_bytes(8, "little") + header + IMAGES.tobytes())
    found = fingerprint(IMAGES)
    assert found == {"n": 6, "by": "content", "sha256": expected.hexdigest()}
    changed = IMAGES.copy()
    changed[3, 2, 1, 0] ^= 1
    others = [IMAGES[::-1], IMAGES[:5], IMAGES.reshape(6, 8, 24), IMAGES.astype(np.float32)]
    assert all_different([found, fingerprint(changed), *map(fingerprint, others)])


def test_strides_and_blocks_make_no_difference(monkeypatch):
    found = fingerprint(IMAGES)
    twice = np.repeat(IMAGES, 2, axis=0)
    assert fingerprint(twice[::2]) == found
    assert fingerprint(np.asfortranarray(IMAGES)) == found
    monkeypatch.setattr("brainkit.features.fingerprint.BLOCK_BYTES", 200)
    assert fingerprint(IMAGES) == found


def test_stimuli_are_told_by_ids_and_content_in_order():
    prints = [
        fingerprint(Stimuli(IMAGES)),
        fingerprint(Stimuli(IMAGES, ids=list("abcdef"))),
        fingerprint(Stimuli(IMAGES, ids=[str(i) for i in range(6)])),
        fingerprint(Stimuli(IMAGES[::-1])),
        fingerprint(Stimuli(IMAGES, kind="clip")),
    ]
    assert all_different(prints)
    assert fingerprint(Stimuli(IMAGES.copy())) == prints[0]
    assert prints[0]["kind"] == "image"


class Painted:
    """A source of its own kind, which can only be read."""

    def __len__(self):
        return 600

    def read(self, rows):
        return np.asarray(rows)[:, None, None] * np.ones((8, 8), np.uint8)


def test_any_source_is_told_by_what_it_reads():
    found = fingerprint(Stimuli(Painted()))
    assert found["by"] == "content"
    assert found == fingerprint(Stimuli(Painted()))
    assert found["sha256"] != fingerprint(Stimuli(Painted().read(np.arange(600))[::-1]))["sha256"]


def test_files_are_told_by_name_size_and_time_wherever_they_are(tmp_path):
    paths = save(tmp_path / "a")
    found = fingerprint(paths)
    assert found["by"] == "files"
    assert fingerprint([str(path) for path in paths], "image") == found
    shutil.copytree(tmp_path / "a", tmp_path / "b")  # keeps times
    assert fingerprint(save(tmp_path / "c")) != found
    moved = [tmp_path / "b" / path.name for path in paths]
    assert fingerprint(moved) == found
    assert fingerprint(moved[::-1]) != found
    os.utime(moved[2], ns=(0, 0))
    assert fingerprint(moved) != found
    assert fingerprint(Stimuli.from_files(paths))["by"] == "files"


def test_an_hdf5_file_is_not_read(tmp_path):
    path = tmp_path / "stimuli.hdf5"
    with h5py.File(path, "w") as file:
        file["imgBrick"] = file["other"] = IMAGES
    prints = [fingerprint(Stimuli(HDF5Stimuli.open(path, name))) for name in ("imgBrick", "other")]
    assert all_different(prints)
    assert prints[0]["by"] == "files"


def test_a_map_of_a_whole_file_is_a_file_and_of_a_part_is_not(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert fingerprint(mapped)["by"] == "files"
    assert fingerprint(Stimuli(mapped))["by"] == "files"
    part = mapped[2:4]
    assert fingerprint(part) == fingerprint(IMAGES[2:4])
    writable = np.load(tmp_path / "images.npy", mmap_mode="c")
    assert fingerprint(writable) == fingerprint(IMAGES)


def test_text_is_told_by_its_characters_and_where_they_end():
    prints = [fingerprint(texts) for texts in (["ab", "c"], ["a", "bc"], ["abc"], ["ab", "C"])]
    assert all_different(prints)
    assert fingerprint(np.array(["ab", "c"]))["sha256"] == prints[0]["sha256"]
    assert fingerprint(np.array(["ab", "c"], object)) == prints[0]
    captions = Stimuli(np.array(["ab", "c"]), kind="caption")
    assert fingerprint(captions)["sha256"] == prints[0]["sha256"]


def test_images_are_told_by_pixels_mode_palette_and_orientation():
    image = Image.fromarray(IMAGES[0])
    indexed = image.quantize(4)
    recoloured = indexed.copy()
    recoloured.putpalette(indexed.getpalette()[::-1])
    clear = indexed.copy()
    clear.info["transparency"] = 0
    turned = image.copy()
    turned.getexif()[0x0112] = 6
    looks = [image, image.convert("L"), image.rotate(90), indexed, recoloured, clear, turned]
    assert all_different([fingerprint([look]) for look in looks])
    assert fingerprint([image.copy()]) == fingerprint([image])


def test_a_list_may_be_mixed(tmp_path):
    paths = save(tmp_path)
    mixed = [paths[0], Image.fromarray(IMAGES[1]), IMAGES[2]]
    found = fingerprint(mixed, "image")
    assert found["by"] == "content"
    os.utime(paths[0], ns=(0, 0))
    assert fingerprint(mixed, "image") != found


def test_missing_and_damaged_files_are_all_named(tmp_path):
    paths = save(tmp_path)
    for number in (1, 4):
        paths[number].unlink()
    for stimuli in (paths, Stimuli.from_files(paths)):
        with pytest.raises(MissingFileError, match=r"2 of 6 files .*1\.png.*4\.png"):
            fingerprint(stimuli)
    save(tmp_path)
    opened = [Image.open(path) for path in paths]
    for number in (0, 5):
        paths[number].write_bytes(paths[number].read_bytes()[:60])
        opened[number] = Image.open(paths[number])
    with pytest.raises(CorruptFileError, match=r"2 of 6 images .*number 0 .*number 5 "):
        fingerprint(opened)


@pytest.mark.parametrize("stimuli", ["photo.png", 3, [1, 2], np.array([1j])])
def test_what_is_no_stimulus_is_refused(stimuli):
    with pytest.raises(InputError, match="timuli"):
        fingerprint(stimuli)


def test_chosen_stimuli_are_told_apart_by_their_rows() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4), dtype=np.uint8)
    stimuli = Stimuli(images)
    first = fingerprint(stimuli.select([1, 2]))
    assert fingerprint(Stimuli(images.copy()).select([1, 2])) == first
    assert fingerprint(stimuli.select([2, 1])) != first
    assert fingerprint(stimuli.select([1, 3])) != first
    images[5] += 1
    assert fingerprint(stimuli.select([1, 2])) != first  # another source
