"""T36: features found again by file name, size and time, of another set of images."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from brainkit.data.stimuli import HDF5Stimuli, Stimuli
from brainkit.errors import InputError
from brainkit.features import TorchModel, extract
from brainkit.features import fingerprint as fingerprints
from brainkit.features.store import FeatureStore

MODEL = "builtin:oriented-energy"
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
TIME = 1_700_000_000_000_000_000


def files(folder: Path, images: np.ndarray) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.bmp" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
        os.utime(path, ns=(TIME, TIME))
    return paths


def hdf5(folder: Path, images: np.ndarray) -> HDF5Stimuli:
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("x", data=images, track_times=False)
    os.utime(folder / "x.h5", ns=(TIME, TIME))
    return HDF5Stimuli.open(folder / "x.h5", "x")


def mapped(folder: Path, images: np.ndarray) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "x.npy", images)
    os.utime(folder / "x.npy", ns=(TIME, TIME))
    return np.load(folder / "x.npy", mmap_mode="r")


KINDS: dict[str, Callable[[Path, np.ndarray], Any]] = {
    "paths": files,
    "names": lambda folder, images: [str(path) for path in files(folder, images)],
    "stimuli of files": lambda folder, images: Stimuli.from_files(files(folder, images)),
    "chosen files": lambda folder, images: Stimuli.from_files(files(folder, images)).select(
        [0, 1, 2, 3]
    ),
    "folder": lambda folder, images: Stimuli.from_files(files(folder, images)[0].parent),
    "hdf5": lambda folder, images: Stimuli(hdf5(folder, images)),
    "chosen of hdf5": lambda folder, images: Stimuli(hdf5(folder, images)).select([0, 1, 2, 3]),
    "map": mapped,
    "stimuli of a map": lambda folder, images: Stimuli(mapped(folder, images)),
    "array": lambda folder, images: images.copy(),
    "images": lambda folder, images: [Image.open(path) for path in files(folder, images)],
}


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_each_set_has_features_of_its_own(
    kind: str, settled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if settled:  # as files are a minute later, where what was read is remembered
        monkeypatch.setattr(fingerprints, "SETTLED_NS", -1)
        monkeypatch.setattr(fingerprints, "_honest", lambda places: True)
    store = tmp_path / "store"
    for images, folder in ((IMAGES, "one"), (255 - IMAGES, "two"), (IMAGES[::-1], "one")):
        stimuli = KINDS[kind](tmp_path / folder, images)
        expected = extract(MODEL, images)
        for _ in range(2):
            np.testing.assert_array_equal(extract(MODEL, stimuli, store=store), expected)
    assert len(FeatureStore(store).entries()) == 3


def test_stimuli_that_change_meanwhile_leave_no_features(tmp_path: Path) -> None:
    import torch

    paths = files(tmp_path / "images", IMAGES)

    class Writing(TorchModel):
        """Another program writes to the stimuli while they are read."""

        def run(self, batch: torch.Tensor, layers: Any) -> dict[str, torch.Tensor]:
            # Each file is replaced whole: what is read ahead meanwhile is one set or the other.
            for new in files(tmp_path / "new", 255 - IMAGES):
                Path(new).replace(tmp_path / "images" / Path(new).name)
            return super().run(batch, layers)

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3))
    store = FeatureStore(tmp_path / "store")
    with pytest.raises(InputError, match="stimuli changed while their features were extracted"):
        extract(Writing(module), paths, store=store, batch_size=2)
    (entry,) = store.entries()
    assert not entry.complete
    assert len(entry.missing()) == 1
    files(tmp_path / "images", IMAGES)
    again = extract(TorchModel(module), paths, store=store, batch_size=2)
    np.testing.assert_array_equal(again, extract(TorchModel(module), IMAGES, batch_size=2))
