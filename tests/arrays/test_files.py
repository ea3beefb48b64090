"""Files that cannot be read, by every door: damaged is said of damaged ones only."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
import timm
import torch
import transformers
import yaml
from PIL import Image
from safetensors.torch import save_file
from scipy.io import savemat

import brainkit
from brainkit.arrays.files import (
    FileState,
    parse_yaml_text,
    read_json,
    read_mat,
    read_text,
    reading,
    require_file,
)
from brainkit.arrays.volumes import HDF5Volumes, NiftiVolumes, read_volume
from brainkit.data.cards import read_card
from brainkit.data.coco import read_captions, read_stimulus_info
from brainkit.data.stimuli import HDF5Stimuli, Stimuli
from brainkit.errors import (
    CorruptFileError,
    FileAccessError,
    FilePermissionError,
    InputError,
    MissingFileError,
)
from brainkit.features import FeatureStore, OrientedEnergy, extract, open_backbone
from brainkit.features.weights import read_state
from brainkit.jobs import read_recipe
from brainkit.training.trainer import read_header

GRID = (3, 4, 5)


def hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = np.ones((6, *reversed(GRID)), np.float32)


def nifti(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((*GRID, 2), np.float32), np.eye(4)), path)


def volume(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones(GRID, np.float32), np.eye(4)), path)


def photo(path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def annotations(path: Path) -> None:
    content = {"images": [{"id": 1}], "annotations": [{"image_id": 1, "caption": "a house"}]}
    path.write_text(json.dumps(content))


def stimulus_info(path: Path) -> None:
    row = {"nsdId": [0], "cocoId": [1], "cocoSplit": ["val2017"], "cropBox": ["(0, 0, 0, 0)"]}
    pd.DataFrame(row).to_csv(path, index=False)


def card(path: Path) -> None:
    shutil.copy(Path(__file__).parents[2] / "datasets" / "nsd.yaml", path)


def recipe(path: Path) -> None:
    shutil.copy(Path(__file__).parents[2] / "models" / "encode-energy.yaml", path)


def estimator(path: Path) -> None:
    path.rmdir()
    brainkit.save_estimator(OrientedEnergy(), path)


def store_entry(path: Path) -> None:
    entry = FeatureStore(path).entry({"model": "m"})
    entry.begin(4, (3,), "float32", 4)
    entry.write(0, np.ones((4, 3), np.float32))
    entry.finish()


def weights(path: Path) -> None:
    save_file({"a": torch.zeros(3)}, path)


def checkpoint(path: Path) -> None:
    save_file({"a": torch.zeros(3)}, path, metadata={"brainkit": "{}"})


def read_entry(path: Path) -> Any:
    return FeatureStore(path).entries()[0].read()


BARRED = "may not be read|Permission denied"


def open_transformers(path: Path) -> Any:
    return open_backbone(f"transformers:{path}")


# How each is made, and how it is read.
Door = tuple[str, Callable[[Path], None], Callable[[Path], Any]]
DOORS: dict[str, Door] = {
    "hdf5-stimuli": ("x.hdf5", hdf5, lambda p: HDF5Stimuli.open(p, "x").read(np.arange(3))),
    "hdf5-volumes": ("x.h5", hdf5, lambda p: HDF5Volumes(p, "x", np.arange(3), GRID).read()),
    "nifti": ("x.nii.gz", nifti, lambda p: NiftiVolumes(p, np.arange(3), GRID).read()),
    "nifti-plain": ("x.nii", nifti, lambda p: NiftiVolumes(p, np.arange(3), GRID).read()),
    "mask": ("x.nii.gz", volume, lambda p: read_volume(p, "The mask")),
    "mat": ("x.mat", lambda p: savemat(p, {"x": 1}), lambda p: read_mat(p, "The design", ["x"])),
    "image": ("x.png", photo, lambda p: Stimuli.from_files([p]).read()),
    "image-features": ("x.png", photo, lambda p: extract("builtin:oriented-energy", [p])),
    "weights": ("x.safetensors", weights, read_state),
    "checkpoint": ("x.safetensors", checkpoint, read_header),
    "annotations": ("x.json", annotations, lambda p: read_captions(p, {1})),
    "stimulus-info": ("x.csv", stimulus_info, lambda p: read_stimulus_info(p, 1)),
    "card": ("x.yaml", card, read_card),
    "recipe": ("x.yaml", recipe, read_recipe),
    "json": ("x.json", lambda p: p.write_text("{}") and None, read_json),
    "text": ("x.txt", lambda p: p.write_text("ä", "utf-8") and None, lambda p: read_text(p, "It")),
}


def of_timm(path: Path) -> None:
    module = timm.create_model("resnet10t", num_classes=2)
    config = {"architecture": "resnet10t", "num_classes": 2, "pretrained_cfg": {"num_classes": 2}}
    (path / "config.json").write_text(json.dumps(config))
    save_file(module.state_dict(), path / "model.safetensors")


def of_transformers(path: Path) -> None:
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1}
    config = transformers.ViTConfig(num_hidden_layers=1, image_size=32, patch_size=16, **shape)
    transformers.ViTModel(config).save_pretrained(path)
    transformers.ViTImageProcessor().save_pretrained(path)


FOLDERS: dict[str, tuple[Callable[[Path], None], str, Callable[[Path], Any]]] = {
    "estimator": (estimator, "estimator.json", brainkit.load_estimator),
    "estimator-arrays": (estimator, "arrays.safetensors", brainkit.load_estimator),
    "timm": (of_timm, "model.safetensors", lambda p: open_backbone(f"timm:{p}")),
    "transformers": (of_transformers, "model.safetensors", open_transformers),
    "transformers-settings": (of_transformers, "config.json", open_transformers),
    "transformers-processor": (of_transformers, "preprocessor_config.json", open_transformers),
    "store-key": (store_entry, "*/*/key.json", read_entry),
    "store-values": (store_entry, "*/*/values.npy", read_entry),
}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def another_user() -> Iterator[None]:
    """Run a block as a user whom permissions hold back."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("door", DOORS)
def test_a_whole_file_is_read(door: str, tmp_path: Path) -> None:
    name, make, read = DOORS[door]
    make(tmp_path / name)
    read(tmp_path / name)


@pytest.mark.parametrize("door", [*DOORS, *FOLDERS])
def test_a_file_without_permission_is_named_as_such(door: str, open_folder: Path) -> None:
    if door in DOORS:
        name, make, read = DOORS[door]
        place = path = open_folder / name
        make(path)
    else:
        make, pattern, read = FOLDERS[door]
        place = open_folder / "inside"
        place.mkdir()
        make(place)
        (path,) = place.glob(pattern)
        for other in place.rglob("*"):  # safetensors bars all but the owner
            other.chmod(0o755)
    path.chmod(0)
    with another_user(), pytest.raises(FilePermissionError, match=BARRED) as caught:
        read(place)
    assert path.name in str(caught.value)
    assert isinstance(caught.value, PermissionError)
    assert "damaged" not in str(caught.value)


# (An entry of the store without its key is none, nor is a model's folder without its settings.)
NEEDED = [name for name in FOLDERS if name not in ("store-key", "transformers-settings")]


@pytest.mark.parametrize("door", [*DOORS, *NEEDED])
def test_a_missing_file_is_named_as_such(door: str, tmp_path: Path) -> None:
    if door in DOORS:
        name, _, read = DOORS[door]
        place = tmp_path / name
    else:
        make, pattern, read = FOLDERS[door]
        place = tmp_path / "inside"
        place.mkdir()
        make(place)
        next(place.glob(pattern)).unlink()
    # A word may be a card's name, and a model of text has no image processor.
    named = door in ("card", "transformers-processor")
    kind = InputError if named else MissingFileError
    with pytest.raises(kind) as caught:
        read(place)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("door", DOORS)
def test_a_file_in_a_barred_folder_is_no_missing_one(door: str, open_folder: Path) -> None:
    name, make, read = DOORS[door]
    inside = open_folder / "barred"
    inside.mkdir()
    make(inside / name)
    inside.chmod(0)
    with another_user(), pytest.raises(FilePermissionError, match=BARRED):
        read(inside / name)


@pytest.mark.parametrize("door", DOORS)
def test_a_damaged_file_is_called_damaged(door: str, tmp_path: Path) -> None:
    name, make, read = DOORS[door]
    path = tmp_path / name
    make(path)
    content = path.read_bytes()
    # Cut off; text, which would not show that, is spoiled.
    binary = path.suffix not in (".json", ".yaml", ".txt", ".csv")
    path.write_bytes(content[: len(content) // 3] if binary else b"\xff\xfe{")
    with pytest.raises(CorruptFileError, match="damaged") as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("door", ["estimator", "estimator-arrays", "timm", "transformers"])
def test_a_damaged_file_of_several_is_called_damaged(door: str, tmp_path: Path) -> None:
    make, pattern, read = FOLDERS[door]
    place = tmp_path / "inside"
    place.mkdir()
    make(place)
    (path,) = place.glob(pattern)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CorruptFileError, match="damaged"):
        read(place)


def test_a_file_that_another_program_has_locked(tmp_path: Path) -> None:
    hdf5(tmp_path / "x.h5")
    code = f"import h5py, sys; f = h5py.File({str(tmp_path / 'x.h5')!r}, 'r+'); print(flush=True)"
    writer = subprocess.Popen(
        [sys.executable, "-c", f"{code}; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    try:
        for door in ("hdf5-stimuli", "hdf5-volumes"):
            with pytest.raises(FileAccessError, match="is locked: another program"):
                DOORS[door][2](tmp_path / "x.h5")
    finally:
        writer.communicate(b"")
    DOORS["hdf5-stimuli"][2](tmp_path / "x.h5")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ESTALE])
def test_what_the_system_cannot_do_is_no_damage(number: int, tmp_path: Path) -> None:
    hdf5(tmp_path / "x.h5")
    with (
        pytest.raises(FileAccessError, match=os.strerror(number)),
        reading(tmp_path / "x.h5"),
    ):
        raise OSError(number, os.strerror(number))


def test_too_little_memory_and_our_own_errors_pass(tmp_path: Path) -> None:
    hdf5(tmp_path / "x.h5")
    for error in (MemoryError(), InputError("mine")):
        with pytest.raises(type(error)), reading(tmp_path / "x.h5", also=[Exception]):
            raise error


def test_folders_links_and_missing_variables(tmp_path: Path) -> None:
    with pytest.raises(
        MissingFileError, match=r"The mask is missing: expected a file, and .* is a f"
    ):
        require_file(tmp_path, "The mask")
    (tmp_path / "link").symlink_to(tmp_path / "gone.nii")
    with pytest.raises(MissingFileError, match=r"is a link to .*gone\.nii, which is not there"):
        require_file(tmp_path / "link", "The mask")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MissingFileError, match="is none"):
        require_file(tmp_path / "pipe", "The mask")
    savemat(tmp_path / "x.mat", {"y": 1})
    with pytest.raises(CorruptFileError, match="lacks x; it holds y"):
        read_mat(tmp_path / "x.mat", "The design", ["x"])


def test_the_state_of_a_file_tells_of_every_writing(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one")
    before = path.stat()
    first = FileState.of(path)
    assert FileState.of(path) == first
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as an archive does
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert FileState.of(path) != first


def test_a_matlab_file_of_another_version_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["x"] = np.arange(3)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    with pytest.raises(CorruptFileError, match=r"version 7\.3.*save\(\.\.\., '-v7'\)") as caught:
        read_mat(path, "A design", ["x"])
    assert "damaged" not in str(caught.value)


def test_a_byte_order_mark_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"ä": 1}', encoding="utf-8-sig")
    assert read_json(path) == {"ä": 1}
    assert read_text(path, "A file") == '{"ä": 1}'


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "{a: 1, a: 2}", "b: {a: 1, c: 2, a: 3}", "- {a: 1, 'a': 1}"]
)
def test_settings_that_are_made_twice(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="'a' is set twice"):
        parse_yaml_text(text)


def test_settings_of_one_name_in_two_places() -> None:
    text = "x: &x {a: 1}\ny: &y {a: 2, b: 3}\nz: {<<: *x, a: 4}\nw: {<<: [*x, *y]}"
    found = parse_yaml_text(text)
    assert found["z"] == {"a": 4}
    assert found["w"] == {"a": 1, "b": 3}
