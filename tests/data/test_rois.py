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


def test_unknown_names_list_the_known_and_the_nearest():
    with pytest.raises(UnknownNameError, match=r"'V2': there are FFA-1, FFA-2, V1, V1d, V1v"):
        roi_mask(UNITS, "V2")
    with pytest.raises(UnknownNameError, match="Did you mean 'food'"):
        roi_mask(UNITS, ["V1", "foods"])
    with pytest.raises(UnknownNameError, match="there are none here"):
        roi_mask(pd.DataFrame({"i": [1]}), "V1")
