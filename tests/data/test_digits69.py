"""The real recording: every array against the file itself, read without the reader."""

import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat, savemat

import brainkit
from brainkit.errors import CorruptFileError, InputError, MissingFileError, UnknownNameError

SHAPE = (110, 110, 37)


@pytest.fixture(scope="module")
def content(shared_data):
    return loadmat(shared_data / "digits69" / "69digits.mat")


@pytest.fixture(scope="module")
def recording(shared_data):
    return brainkit.load("digits69", shared_data / "digits69")


def mask(content, name):
    names = [str(entry.ravel()[0]) for entry in content["funloc"].ravel()]
    (number,) = [n for n, entry in enumerate(names) if entry.startswith(name)]
    return content["masks"].ravel()[number] > 0


def test_shape_and_tables(recording, content):
    assert recording.responses.shape == (100, 3092)
    np.testing.assert_allclose(recording.responses.read(), content["X"], rtol=1e-6)
    labels = np.array(["", "six", "nine"])[content["Y"].ravel()]
    np.testing.assert_array_equal(recording.trials["label"], labels)
    np.testing.assert_array_equal(recording.stimuli.table["category"], labels)
    np.testing.assert_array_equal(recording.stimulus_rows(), np.arange(100))
    assert recording.subject == "s1"
    assert recording.info["card"] == "digits69"


def test_images_are_upright(recording, content):
    images = recording.stimuli.read()
    assert images.shape == (100, 28, 28)
    assert images.dtype == np.uint8
    for row in (0, 57, 99):
        np.testing.assert_array_equal(images[row], content["I"][row].reshape(28, 28, order="F"))
    # The loop of a six is below, that of a nine above: there the ink spreads wide.
    ink, column = images.astype(float), np.arange(28)
    centre = (ink * column).sum(2).sum(1) / ink.sum((1, 2))
    spread = (ink * np.abs(column - centre[:, None, None])).sum(2)
    lower = spread[:, 14:].sum(1) / spread.sum(1)
    label = recording.trials["label"].to_numpy()
    assert lower[label == "six"].mean() > 0.5 > lower[label == "nine"].mean()


def test_regions(recording, content):
    first = mask(content, "primary")
    # Fortran order: x runs fastest, then y, then z.
    places = np.array([(x, y, z) for z in range(37) for y, x in np.argwhere(first[:, :, z].T)])
    np.testing.assert_array_equal(recording.units[["i", "j", "k"]], places)
    for area in ("V1d", "V1v", "V2d", "V2v", "V3d", "V3v"):
        both = np.zeros(len(places), dtype=bool)
        for side in ("lh", "rh"):
            inside = mask(content, f"{side}.{area}")[tuple(places.T)]
            np.testing.assert_array_equal(recording.roi_mask(f"{side}.{area}"), inside)
            both |= inside
        np.testing.assert_array_equal(recording.roi_mask(area), both)
        assert recording.select(roi=area).responses.shape == (100, both.sum())
        assert both.sum() > 100
    v1 = recording.roi_mask("V1d") | recording.roi_mask("V1v")
    np.testing.assert_array_equal(recording.roi_mask("V1"), v1)
    with pytest.raises(UnknownNameError, match="V1d"):
        recording.select(roi="V4")


def neighbours(recording, values):
    volume = np.full(SHAPE, np.nan)
    volume[tuple(recording.units[["i", "j", "k"]].to_numpy().T)] = values
    one, other = volume[:-1].ravel(), volume[1:].ravel()
    both = np.isfinite(one) & np.isfinite(other)
    return np.corrcoef(one[both], other[both])[0, 1]


def test_voxels_lie_where_the_map_is_smooth(recording, content):
    """SOURCE.txt: neighbours of the r-map correlate .54 in Fortran order, .04 in C order."""
    label = (recording.trials["label"] == "six").to_numpy(float)
    values = recording.responses.read()
    ink = recording.stimuli.read().reshape(100, -1).astype(float)
    ink = ink[:, ink.std(0) > 0]
    component = np.linalg.svd(ink - ink.mean(0), full_matrices=False)[0][:, 0]
    for target in (label, component):
        r = np.array([np.corrcoef(values[:, v], target)[0, 1] for v in range(3092)])
        assert neighbours(recording, r) > 0.3
        # The same map with the voxels taken in C order is not smooth.
        first = mask(content, "primary")
        wrong = np.full(SHAPE, np.nan)
        wrong[first] = r
        assert neighbours(
            recording, wrong[tuple(recording.units[["i", "j", "k"]].to_numpy().T)]
        ) < (0.15)


def test_maps_round_trip_over_the_anatomy(recording, content, tmp_path):
    values = np.arange(1.0, 3093)
    nibabel.save(recording.to_image(values, fill=0), tmp_path / "map.nii.gz")
    got = nibabel.load(tmp_path / "map.nii.gz").get_fdata()
    assert got.shape == SHAPE
    first = mask(content, "primary")
    np.testing.assert_array_equal(got.ravel(order="F")[first.ravel(order="F")], values)
    assert (got[~first] == 0).all()
    np.testing.assert_allclose(
        recording.space.background_image().get_fdata(), content["structural"], rtol=1e-6
    )
    part = recording.select(roi="V2v")
    got = part.to_image(np.ones(part.responses.shape[1])).get_fdata()
    areas = mask(content, "lh.V2v") | mask(content, "rh.V2v")
    np.testing.assert_array_equal(np.isfinite(got), areas & first)


def test_ten_folds(recording):
    split = recording.split("kfold:10", seed=3)
    assert [len(fold.test.trials) for fold in split] == [10] * 10


def test_masks_and_classes_with_noise(recording, content, tmp_path):
    """A class of 1.99997 was read as a six."""
    noisy = {name: content[name] for name in ("X", "I", "funloc", "structural")}
    noisy["Y"] = content["Y"] * (1 - 1.5e-5)
    noisy["masks"] = np.empty(content["masks"].shape, dtype=object)
    for place, volume in np.ndenumerate(content["masks"]):
        noisy["masks"][place] = np.where(volume > 0, 1.00003, 7e-15)
    savemat(tmp_path / "69digits.mat", noisy, do_compression=True)
    with pytest.warns(UserWarning, match="were rounded to whole numbers") as caught:
        found = brainkit.load("digits69", tmp_path)
    assert len(caught) == 14  # thirteen masks and the classes
    pd.testing.assert_frame_equal(found.units, recording.units)
    pd.testing.assert_frame_equal(found.trials, recording.trials)
    savemat(tmp_path / "69digits.mat", {**noisy, "Y": content["Y"] + 1}, do_compression=True)
    with (
        pytest.warns(UserWarning, match="were rounded"),
        pytest.raises(CorruptFileError, match="holds the classes 3; expected 1 and 2"),
    ):
        brainkit.load("digits69", tmp_path)


def test_bad_input(shared_data, tmp_path):
    folder = shared_data / "digits69"
    with pytest.raises(UnknownNameError, match="s1"):
        brainkit.load("digits69", folder, subject="s2")
    with pytest.raises(InputError, match="no option 'mask'"):
        brainkit.load("digits69", folder, mask="V1")
    with pytest.raises(MissingFileError, match=r"69digits\.mat"):
        brainkit.load("digits69", tmp_path)
    path = tmp_path / "69digits.mat"
    shutil.copyfile(folder / "69digits.mat", path)
    whole = path.read_bytes()
    for size in (0, 100, 5000, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:size])
        with pytest.raises(CorruptFileError, match="brainkit download digits69"):
            brainkit.load("digits69", tmp_path)
