"""Region names, their parts and their unions."""

import numpy as np
import pandas as pd
import pytest

from brainkit.data.rois import region_names, roi_mask, roi_names, roi_table
from brainkit.errors import UnknownNameError

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
