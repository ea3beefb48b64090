"""Values go back to where the units are: volumes, surfaces, sensors.

Region names, their parts and their unions.
"""

import mne
import nibabel
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainkit import Recording
from brainkit.data.units import (
    SensorSpace,
    SurfaceSpace,
    VolumeSpace,
    region_names,
    roi_mask,
    roi_names,
    roi_table,
)
from brainkit.errors import InputError, UnknownNameError

AFFINE = np.array([[0.0, -2, 0, 10], [3, 0, 0, -20], [0, 0, 4, 5], [0, 0, 0, 1]])
UNITS = pd.concat(
    [
        pd.DataFrame({"i": range(4)}),
        roi_table(
            {
                "V1v": [1, 0, 0, 0],
                "V1d": [0, 1, 0, 0],
                "hV4": [0, 0, 1, 0],
                "FFA-1": [0, 0, 0, 1],
                "FFA-2": [0, 0, 0, 0],
                "food": [0, 0, 1, 1],
                "none": [-1, 0, 0, np.nan],
            }
        ),
    ],
    axis=1,
)


@given(st.lists(st.integers(0, 23), min_size=1, max_size=20, unique=True))
def test_volume_round_trip(voxels):
    space = VolumeSpace((2, 3, 4), AFFINE, np.array(voxels))
    values = np.arange(1.0, len(voxels) + 1)
    image = space.to_image(values, fill=-1)
    data = image.get_fdata()
    assert data.shape == (2, 3, 4)
    for value, voxel in zip(values, voxels, strict=True):
        assert data[voxel // 12, voxel // 4 % 3, voxel % 4] == value
    assert (data == -1).sum() == 24 - len(voxels)
    np.testing.assert_array_equal(image.affine, AFFINE)
    stack = space.to_image([values, 2 * values]).get_fdata()
    assert stack.shape == (2, 3, 4, 2)
    np.testing.assert_array_equal(stack[..., 1].ravel()[voxels], 2 * values)
    part = space.select(np.array([len(voxels) - 1, 0]))
    np.testing.assert_array_equal(part.voxels, [voxels[-1], voxels[0]])


def test_volume_coordinates_are_millimetres():
    space = VolumeSpace((2, 3, 4), AFFINE, np.array([0, 23]))
    np.testing.assert_allclose(space.coordinates(), [[10, -20, 5], [10 - 4, -20 + 3, 5 + 12]])


def test_a_map_of_a_volume_is_written(tmp_path):
    space = VolumeSpace((2, 3, 4), AFFINE, np.array([0, 23]))
    written = space.save([1.5, -2.0], tmp_path, "r")
    assert written == tmp_path / "r.nii.gz"
    data = nibabel.load(written).get_fdata()
    assert (data[0, 0, 0], data[1, 2, 3]) == (1.5, -2)
    assert np.isnan(data).sum() == 22
    assert space.volume is space


def test_volume_anatomy():
    anatomy = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    space = VolumeSpace((2, 3, 4), AFFINE, np.array([1]), anatomy)
    np.testing.assert_array_equal(space.background_image().get_fdata(), anatomy)
    assert VolumeSpace((2, 3, 4), AFFINE, np.array([1])).background_image() is None


def test_surface(tmp_path):
    space = SurfaceSpace((4, 3), np.array([6, 0, 4]))
    recording = Recording.from_arrays(np.ones((2, 3)), space=space).select(units=[2, 0])
    images = recording.to_image([1.5, -2.0])
    written = recording.space.save([1.5, -2.0], tmp_path, "r")
    assert written == tmp_path / "left.r.func.gii"
    right = nibabel.load(tmp_path / "right.r.func.gii").agg_data()
    assert space.volume is None
    np.testing.assert_array_equal(right, [1.5, np.nan, -2])
    np.testing.assert_array_equal(images["left"].agg_data(), [np.nan] * 4)
    stack = space.to_image(np.arange(6.0).reshape(2, 3), fill=0)
    np.testing.assert_array_equal(stack["left"].agg_data()[1], [4, 0, 0, 0])
    np.testing.assert_array_equal(stack["right"].agg_data()[0], [2, 0, 0])


def sensors():
    montage = mne.channels.make_standard_montage("standard_1020")
    info = mne.create_info(["Cz", "Fz", "Pz", "Oz"], 200.0, "eeg")
    info.set_montage(montage)
    return SensorSpace(tuple(info.ch_names), info), montage.get_positions()["ch_pos"]


def test_sensors(tmp_path):
    space, places = sensors()
    recording = Recording.from_arrays(np.ones((2, 4, 6)), space=space, times=np.arange(6) / 200)
    part = recording.select(units=[3, 0])
    maps = np.array([[1.0, 2], [3, 4], [5, 6]])
    evoked = part.to_image(maps)
    assert evoked.ch_names == ["Oz", "Cz"]
    np.testing.assert_array_equal(evoked.data, maps.T)
    np.testing.assert_allclose(evoked.times, [0, 0.005, 0.01])
    written = part.space.save(maps, tmp_path, "map")
    loaded = mne.read_evokeds(written, verbose=False)[0]
    assert (written.name, space.volume) == ("map-ave.fif", None)
    np.testing.assert_allclose(loaded.data, maps.T, rtol=1e-6)
    got = loaded.get_montage().get_positions()["ch_pos"]
    distance = np.linalg.norm(places["Oz"] - places["Cz"])
    np.testing.assert_allclose(np.linalg.norm(got["Oz"] - got["Cz"]), distance, rtol=1e-5)
    assert part.to_image([1.0, np.nan]).data.shape == (2, 1)


def test_magnetometers_keep_their_places():
    info = mne.create_info(["MEG 1", "MEG 2"], 100.0, "mag")
    for number, channel in enumerate(info["chs"]):
        channel["loc"][:3] = [0.1, 0.02 * number, 0.3]
    space = SensorSpace(tuple(info.ch_names), info)
    evoked = space.select(np.array([1])).to_image([7.0])
    np.testing.assert_allclose(evoked.info["chs"][0]["loc"][:3], [0.1, 0.02, 0.3], rtol=1e-6)


@pytest.mark.parametrize("units", [[], [1, 1]])
def test_sensors_are_chosen_once(units):
    space, _ = sensors()
    with pytest.raises(InputError, match="each once"):
        Recording.from_arrays(np.ones((2, 4)), space=space).select(units=units)


@pytest.mark.parametrize("values", [np.ones(3), np.ones((2, 3)), np.ones((1, 1, 2)), 1.0])
def test_one_value_a_unit(values):
    spaces = [
        VolumeSpace((2, 1, 1), np.eye(4), np.arange(2)),
        SurfaceSpace((1, 1), np.arange(2)),
        sensors()[0].select(np.array([0, 1])),
    ]
    for space in spaces:
        with pytest.raises(InputError, match=r"shape \(2,\) or \(maps, 2\)"):
            space.to_image(values)


def test_names():
    assert roi_names(UNITS) == ["V1v", "V1d", "hV4", "FFA-1", "FFA-2", "food", "none"]
    assert region_names(UNITS) == ["V1", "hV4", "FFA-1", "food"]


@pytest.mark.parametrize(
    ("roi", "expected"),
    [
        ("V1v", [1, 0, 0, 0]),
        ("V1", [1, 1, 0, 0]),
        ("FFA", [0, 0, 0, 1]),
        (["V1", "food"], [1, 1, 1, 1]),
        ([], [0, 0, 0, 0]),
        ("none", [0, 0, 0, 0]),
    ],
)
def test_masks(roi, expected):
    mask = roi_mask(UNITS, roi)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, np.array(expected, dtype=bool))


AREAS = ["6d", "6v", "LIPd", "LIPv", "Network-1", "Network-2", "Network_1", "Network_2", "TE1d"]
AREAS += ["V4v", "V4d", "hV4v", "FFA_1", "FFA_2", "PFC-1", "PFC-2", "d", "v", "-1", "V1-1", "V1-2"]


def test_names_of_other_atlases_stay_as_they_are():
    """Of the HCP's parcellation, of networks that are numbered, of whatever ends alike."""
    masks = dict(zip(AREAS, np.eye(len(AREAS)), strict=True))
    units = roi_table(masks)
    assert region_names(units) == AREAS
    for name, mask in masks.items():
        np.testing.assert_array_equal(roi_mask(units, name), mask == 1)
    for stem in ("6", "LIP", "Network", "TE1", "V4", "hV4", "PFC", "V1", ""):
        with pytest.raises(UnknownNameError, match=f"Unknown ROI {stem!r}"):
            roi_mask(units, stem)


def test_hemispheres_have_regions_of_their_own():
    units = roi_table({"lh.V1v": [1, 0, 0], "lh.V1d": [0, 1, 0], "rh.V1v": [0, 0, 1]})
    assert region_names(units) == ["lh.V1", "rh.V1v"]
    assert roi_mask(units, "lh.V1").tolist() == [True, True, False]
    assert roi_mask(units, "rh.V1").tolist() == [False, False, True]
    with pytest.raises(UnknownNameError):
        roi_mask(units, "V1")


def test_unknown_names_list_the_known_and_the_nearest():
    with pytest.raises(UnknownNameError, match=r"'V2': there are FFA-1, FFA-2, V1, V1d, V1v"):
        roi_mask(UNITS, "V2")
    with pytest.raises(UnknownNameError, match="Did you mean 'food'"):
        roi_mask(UNITS, ["V1", "foods"])
    with pytest.raises(UnknownNameError, match="there are none here"):
        roi_mask(pd.DataFrame({"i": [1]}), "V1")
