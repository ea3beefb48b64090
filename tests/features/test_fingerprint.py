"""Fingerprints: the same for the same stimuli, another one for anything else.

Frozen means deterministic: what differs between passes or with its company is refused.
"""

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from brainkit.data.stimuli import HDF5Stimuli, Stimuli
from brainkit.errors import CorruptFileError, InputError, MissingFileError
from brainkit.features import Backbone, TorchModel, extract
from brainkit.features import fingerprint as fingerprints
from brainkit.features.fingerprint import KnownContent, fingerprint, may_change
from brainkit.features.store import FeatureStore

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, size=(6, 8, 8, 3), dtype=np.uint8)
PROBED = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


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


class Layered(torch.nn.Module):
    """A convolution, and then one hazard."""

    def __init__(self, hazard: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.last = torch.nn.Identity()
        self.hazard = hazard

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.hazard(self.conv(x)))


def masked(x: torch.Tensor) -> torch.Tensor:
    return x * (torch.rand(len(x), 1, *x.shape[2:]) > 0.5)


def by_hand_dropped(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.dropout(x, 0.1)


def noisy(x: torch.Tensor) -> torch.Tensor:
    return x + 1e-3 * torch.randn_like(x)


def seeded_by_place(x: torch.Tensor) -> torch.Tensor:
    return x + torch.rand(x.shape, generator=torch.Generator().manual_seed(1))


def normalised_by_batch(x: torch.Tensor) -> torch.Tensor:
    return (x - x.mean(0)) / (x.std(0, correction=0) + 0.1)


def sorted_over_batch(x: torch.Tensor) -> torch.Tensor:
    return x.sort(dim=0).values


RANDOM = [masked, by_hand_dropped, noisy]
COMPANY = [seeded_by_place, normalised_by_batch, sorted_over_batch]


@pytest.mark.parametrize("hazard", RANDOM)
def test_what_is_random_is_refused_by_name(hazard: Any) -> None:
    with pytest.raises(InputError, match=r"module:Layered, layer last, differ from one pass"):
        extract(Layered(hazard), PROBED, layers="last", pool="mean")
    # Another layer of the same model is frozen.
    assert extract(Layered(hazard), PROBED, layers="conv", pool="mean").shape == (5, 4)
    with pytest.raises(InputError, match="layer last, differ"):
        extract(Layered(hazard), PROBED, layers=["conv", "last"], pool="mean")


@pytest.mark.parametrize("hazard", COMPANY)
@pytest.mark.parametrize("n_images", [1, 5])
def test_what_depends_on_its_company_is_refused_by_name(hazard: Any, n_images: int) -> None:
    with pytest.raises(InputError, match=r"layer last, differ with what else is in the batch"):
        extract(Layered(hazard), PROBED[:n_images], layers="last", pool="flatten")


def test_a_random_preprocessing_is_refused() -> None:
    generator = np.random.default_rng(0)

    def crop(image: Image.Image) -> torch.Tensor:
        left = int(generator.integers(5))
        pixels = np.asarray(image.crop((left, 0, left + 8, 8)), np.float32)
        return torch.from_numpy(pixels.transpose(2, 0, 1))

    model = TorchModel(Layered(torch.relu), crop)
    with pytest.raises(InputError, match="in its forward pass or in its preprocessing"):
        extract(model, PROBED, pool="mean")


class Words(Backbone):
    """A model of text that pads to the longest, without a mask or with one."""

    spec, modality = "words", "text"

    def __init__(self, mask: bool) -> None:
        self.mask = mask

    def identity(self) -> dict[str, Any]:
        return {"source": "words"}

    def layers(self) -> list[str]:
        return ["mean"]

    def default_layer(self) -> str:
        return "mean"

    def prepare(self, items: Sequence[Any]) -> torch.Tensor:
        length = max(map(len, items))
        return torch.tensor([[ord(c) for c in item.ljust(length, "\0")] for item in items])

    def run(self, batch: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        values = torch.cos(batch.float())
        weight = (batch > 0).float() if self.mask else torch.ones_like(values)
        return {"mean": ((values * weight).sum(1) / weight.sum(1))[:, None]}

    def to(self, device: Any) -> None:
        pass


def test_texts_that_depend_on_the_longest_of_their_batch_are_refused() -> None:
    texts = ["a house", "a dog", "a red house on a beach"]
    with pytest.raises(InputError, match="layer mean, differ with what else is in the"):
        extract(Words(mask=False), texts)
    assert extract(Words(mask=True), texts).shape == (3, 1)
    for alike in (["a dog", "a cat"], ["a dog"]):  # others would be padded
        with pytest.raises(InputError, match="differ with what else is in the"):
            extract(Words(mask=False), alike)


def test_the_shape_may_not_depend_on_the_company() -> None:
    class Tokens(Words):
        def run(self, batch: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
            return {"mean": batch[..., None].float()}

    with pytest.raises(InputError, match=r"differ with what else is in the batch \(in shape\)"):
        extract(Tokens(mask=True), ["a house on a beach", "a dog"], pool=None)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rounding_is_no_difference(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(16 * 16 * 3, 300), *(torch.nn.Linear(300, 300) for _ in range(8))]
    module = torch.nn.Sequential(torch.nn.Flatten(), *layers).to(kind)
    assert extract(module, PROBED, layers="9").shape == (5, 300)


def test_a_model_is_looked_at_once_for_each_layer(tmp_path: Path) -> None:
    calls: list[int] = []
    module = Layered(torch.relu)
    module.register_forward_pre_hook(lambda part, inputs: calls.append(len(inputs[0])))
    model = TorchModel(module)
    store = FeatureStore(tmp_path)
    extract(model, PROBED, layers="conv", pool="mean", store=store)
    assert calls == [3, 3, 1, 1, 1, 1, 5]
    calls.clear()
    extract(model, PROBED, layers="conv", pool="mean", store=store)
    assert calls == []
    extract(model, PROBED[::-1], layers="conv", pool="mean", store=store)
    assert calls == [1, 5]
    calls.clear()
    extract(model, PROBED, layers=["conv", "last"], pool="mean")
    assert calls == [3, 3, 1, 1, 1, 5]


def test_refused_features_leave_nothing_in_the_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="differ from one pass"):
        extract(Layered(masked), PROBED, layers="last", pool="mean", store=tmp_path / "s")
    assert FeatureStore(tmp_path / "s").entries() == []


def test_values_that_are_not_finite_are_for_another_check() -> None:
    broken = copy.deepcopy(Layered(torch.relu))
    with torch.no_grad():
        broken.conv.bias[0] = torch.nan
    with pytest.raises(InputError, match="are not finite for 5 stimuli"):
        extract(broken, PROBED, layers="last", pool="mean")
