"""Fingerprints: the same for the same stimuli, another one for anything else."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from brainkit.data.stimuli import HDF5Stimuli, Stimuli
from brainkit.errors import CorruptFileError, InputError, MissingFileError
from brainkit.features import fingerprint as fingerprints
from brainkit.features.fingerprint import KnownContent, fingerprint, may_change

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


def unpack(folder, images=IMAGES, time=1_700_000_000_123_456_789):
    """Write images as an archive does that keeps times: uncompressed, so that all sizes agree."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.bmp" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
        os.utime(path, ns=(time, time))
    return paths


def test_files_of_one_name_size_and_time_are_told_apart(tmp_path):
    one, two = unpack(tmp_path / "one"), unpack(tmp_path / "two", 255 - IMAGES)
    for a, b in zip(one, two, strict=True):
        assert a.name == b.name
        assert a.stat().st_size == b.stat().st_size
        assert a.stat().st_mtime_ns == b.stat().st_mtime_ns
    kinds = [list, Stimuli.from_files, lambda paths: [*paths[:5], Image.fromarray(IMAGES[5])]]
    for kind in kinds:
        assert all_different([fingerprint(kind(one), "image"), fingerprint(kind(two), "image")])


def test_files_are_told_by_their_bytes_whatever_they_are_called(tmp_path):
    paths = unpack(tmp_path / "a")
    found = fingerprint(paths)
    assert found["by"] == "files"
    assert fingerprint([str(path) for path in paths], "image") == found
    copies = [shutil.copy(path, tmp_path / f"copy {path.stem}.bmp") for path in paths]
    assert fingerprint(copies) == found
    os.utime(copies[2], ns=(0, 0))
    assert fingerprint(copies) == found
    assert fingerprint(copies[::-1]) != found
    assert fingerprint(Stimuli.from_files(paths)) == {**found, **named(Stimuli.from_files(paths))}
    moved = Path(shutil.move(tmp_path / "a", tmp_path / "b"))
    assert fingerprint(Stimuli.from_files(moved))["sha256"] == found["sha256"]


def named(stimuli):
    whole = fingerprint(stimuli)
    return {"kind": whole["kind"], "ids": whole["ids"]}


@pytest.fixture
def known(monkeypatch):
    """What is known of files' content, where any file counts as settled."""
    monkeypatch.setattr(fingerprints, "SETTLED_NS", -1)
    monkeypatch.setattr(fingerprints, "_honest", lambda places: True)
    return KnownContent()


def rewrite(path, content):
    """Put other content in the place of a file's, its size and time as they were."""
    before = path.stat()
    assert len(content) == before.st_size
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_file_rewritten_in_place_is_another(tmp_path, known):
    paths = unpack(tmp_path / "a")
    stimuli = Stimuli.from_files(paths)
    first = fingerprint(stimuli, known=known)
    content = paths[3].read_bytes()
    rewrite(paths[3], content[:-1] + bytes([content[-1] ^ 1]))
    assert fingerprint(stimuli, known=known) != first
    rewrite(paths[3], content)
    assert fingerprint(stimuli, known=known) == first
    other = unpack(tmp_path / "b", IMAGES[::-1])[3]
    other.replace(paths[3])  # by renaming, as careful programs write
    assert fingerprint(stimuli, known=known) != first


def test_what_was_read_is_not_read_again(tmp_path, known, monkeypatch):
    paths = unpack(tmp_path / "a")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = IMAGES
    np.save(tmp_path / "x.npy", IMAGES)
    hdf5 = Stimuli(HDF5Stimuli.open(tmp_path / "x.h5", "x"))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    kinds = [Stimuli.from_files(paths), hdf5, hdf5.select([4, 1]), mapped, Stimuli(mapped)]
    first = [fingerprint(kind, known=known) for kind in kinds]
    kept = KnownContent(tmp_path / "known")  # as another process finds it
    assert [fingerprint(kind, known=kept) for kind in kinds] == first

    def refuse(*args):
        raise AssertionError("read again")

    for reader in ("_file_hash", "_streamed"):
        monkeypatch.setattr(fingerprints, reader, refuse)
    for remembering in (known, kept, KnownContent(tmp_path / "known")):
        assert [fingerprint(kind, known=remembering) for kind in kinds] == first
    with pytest.raises(AssertionError, match="read again"):
        fingerprint(hdf5.select([1, 4]), known=known)


def test_files_written_just_now_and_dishonest_file_systems_are_read_again(tmp_path, monkeypatch):
    stimuli = Stimuli.from_files(unpack(tmp_path))
    known = KnownContent()
    fingerprint(stimuli, known=known)
    assert not known._found
    monkeypatch.setattr(fingerprints, "SETTLED_NS", -1)
    monkeypatch.setattr(fingerprints, "_file_system", lambda folder, mounts: "tmpfs")
    fingerprint(stimuli, known=known)
    assert not known._found
    monkeypatch.setattr(fingerprints, "_file_system", lambda folder, mounts: "xfs")
    fingerprint(stimuli, known=known)
    assert len(known._found) == 1


def test_the_file_system_of_a_folder_is_that_of_the_nearest_mount():
    mounts = [("/", "ext4"), ("/data", "nfs4"), ("/data/fast", "tmpfs"), ("/da", "vfat")]
    folders = ("/home", "/data", "/data/x", "/data/fast/y", "/database", "/da/x")
    kinds = [fingerprints._file_system(folder, mounts) for folder in folders]
    assert kinds == ["ext4", "nfs4", "nfs4", "tmpfs", "ext4", "vfat"]
    assert ("/proc", "proc") in fingerprints._mounts()


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, known):
    (tmp_path / "file").write_text("")
    stuck = KnownContent(tmp_path / "file" / "inside")
    stimuli = Stimuli.from_files(unpack(tmp_path / "a"))
    assert fingerprint(stimuli, known=stuck) == fingerprint(stimuli)


def test_an_hdf5_dataset_is_told_by_its_values(tmp_path):
    path = tmp_path / "stimuli.hdf5"
    with h5py.File(path, "w") as file:
        file["imgBrick"], file["other"] = IMAGES, IMAGES[::-1]
        file.create_dataset("packed", data=IMAGES, chunks=(2, 4, 4, 3), compression="gzip")
    first, other, packed = (
        fingerprint(Stimuli(HDF5Stimuli.open(path, name)))
        for name in ("imgBrick", "other", "packed")
    )
    assert first == packed == fingerprint(Stimuli(IMAGES))
    assert first != other


def test_datasets_that_lie_in_other_files_are_never_known_by_their_own(tmp_path, known):
    with h5py.File(tmp_path / "values.h5", "w") as file:
        file["x"] = IMAGES
    layout = h5py.VirtualLayout(IMAGES.shape, np.uint8)
    layout[:] = h5py.VirtualSource(tmp_path / "values.h5", "x", IMAGES.shape)
    with h5py.File(tmp_path / "pointing.h5", "w") as file:
        file["link"] = h5py.ExternalLink(str(tmp_path / "values.h5"), "x")
        file.create_virtual_dataset("virtual", layout)
        raw = [(str(tmp_path / "raw"), 0, IMAGES.nbytes)]
        file.create_dataset("external", IMAGES.shape, np.uint8, external=raw)[:] = IMAGES
    opened = [
        Stimuli(HDF5Stimuli.open(tmp_path / "pointing.h5", name))
        for name in ("link", "virtual", "external")
    ]
    expected = fingerprint(Stimuli(IMAGES))
    assert [fingerprint(stimuli, known=known) for stimuli in opened] == [expected] * 3
    with h5py.File(tmp_path / "values.h5", "r+") as file:
        file["x"][2] ^= 1
    (tmp_path / "raw").write_bytes(bytes(IMAGES.nbytes))
    for stimuli in opened:
        assert fingerprint(stimuli, known=known) != expected


def test_a_map_is_told_by_what_it_shows(tmp_path, known):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    expected = fingerprint(IMAGES)
    assert fingerprint(mapped, known=known) == expected
    assert fingerprint(mapped[2:4], known=known) == fingerprint(IMAGES[2:4])
    # Another file in its place: the map still shows the first one.
    np.save(tmp_path / "new.npy", 255 - IMAGES)
    (tmp_path / "new.npy").replace(tmp_path / "images.npy")
    for _ in range(2):
        assert fingerprint(mapped, known=known) == expected
        renewed = np.load(tmp_path / "images.npy", mmap_mode="r")
        assert fingerprint(renewed, known=known) == fingerprint(255 - IMAGES)
    writable = np.load(tmp_path / "images.npy", mmap_mode="c")
    writable[0] += 1
    assert fingerprint(writable, known=known) == fingerprint(np.array(writable))


def test_text_in_a_file_is_that_in_memory(tmp_path):
    texts = ["a red house", "ein Häuschen"]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["captions"] = [text.encode() for text in texts]
    stored = Stimuli(HDF5Stimuli.open(tmp_path / "x.h5", "captions"), kind="caption")
    for form in (texts, np.array(texts), [text.encode() for text in texts]):
        assert fingerprint(Stimuli(form, kind="caption")) == fingerprint(stored)
    assert fingerprint([text.encode() for text in texts], "text") == fingerprint(texts, "text")


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
    alpha = [indexed.copy(), indexed.copy()]
    for number, one in enumerate(alpha):
        colours = np.c_[np.reshape(indexed.getpalette(), (-1, 3))[:4], [number * 255] * 4]
        one.putpalette(colours.astype(np.uint8).tobytes(), "RGBA")
    looks = [image, image.convert("L"), image.rotate(90), indexed, recoloured, clear, turned]
    looks += alpha
    assert all_different([fingerprint([look]) for look in looks])
    assert fingerprint([image.copy()]) == fingerprint([image])


def test_a_list_may_be_mixed(tmp_path):
    paths = save(tmp_path)
    mixed = [paths[0], Image.fromarray(IMAGES[1]), IMAGES[2]]
    found = fingerprint(mixed, "image")
    assert found["by"] == "content"
    os.utime(paths[0], ns=(0, 0))
    assert fingerprint(mixed, "image") == found
    Image.fromarray(IMAGES[5]).save(paths[0])
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


def test_chosen_stimuli_are_told_by_what_is_chosen(tmp_path) -> None:
    images = IMAGES.copy()
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = images
    sources = [
        Stimuli(images),
        Stimuli(HDF5Stimuli.open(tmp_path / "x.h5", "x")),
        Stimuli(Handed(images)),
    ]
    first = fingerprint(Stimuli(images[[1, 2]], ids=[1, 2]))
    for stimuli in sources:
        assert fingerprint(stimuli.select([1, 2])) == first
        assert fingerprint(stimuli.select([4, 2, 1]).select([2, 1])) == first
        assert fingerprint(stimuli.select([2, 1])) != first
        assert fingerprint(stimuli.select([1, 3])) != first
    other = Stimuli(IMAGES[::-1].copy())
    assert fingerprint(other.select([1, 2])) != first
    paths = unpack(tmp_path / "files")
    files = Stimuli.from_files(paths)
    chosen = fingerprint(files.select([1, 2]))
    assert chosen["sha256"] == fingerprint(paths[1:3])["sha256"]
    paths[5].unlink()  # not among them
    assert fingerprint(files.select([1, 2])) == chosen


class Handed:
    """A source of one's own that hands on an array."""

    def __init__(self, array):
        self.array = array

    def __len__(self):
        return len(self.array)

    def read(self, rows):
        return self.array[rows]


def test_what_other_programs_can_change(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    paths = unpack(tmp_path)
    texts = np.array(["a", "b"])
    for stimuli in (mapped, mapped[1:3], Stimuli(mapped), Stimuli(mapped).select([1]), paths,
                    Stimuli.from_files(paths), [Image.open(paths[0])], Stimuli(Painted()),
                    np.array([str(path) for path in paths])):  # fmt: skip
        assert may_change(stimuli, "image")
    for stimuli in (IMAGES, IMAGES[1:3], Stimuli(IMAGES), Stimuli(IMAGES).select([1])):
        assert not may_change(stimuli, "image")
    for stimuli in (["a", "b"], texts, Stimuli(texts, kind="caption")):
        assert not may_change(stimuli, "text")
