"""Regions of interest: boolean columns ``roi.<name>`` of a recording's units, and their unions.

A name may stand for parts that the table lists one by one: ``V1`` for ``V1v`` and ``V1d``,
``FFA`` for ``FFA-1`` and ``FFA-2``.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.integers import inside, whole_numbers
from brainkit.errors import InputError, listed, unknown_name

PREFIX = "roi."
PART_SUFFIXES = ("v", "d", "-1", "-2")

Mask = NDArray[np.bool_]


def roi_names(units: pd.DataFrame) -> list[str]:
    """Return the ROIs that the table lists, in its order."""
    return [str(name).removeprefix(PREFIX) for name in units.columns if _is_roi(name)]


def _is_roi(column: object) -> bool:
    return str(column).startswith(PREFIX)


def region_names(units: pd.DataFrame) -> list[str]:
    """Return the ROIs that have units, with the parts of one region under their common name."""
    names = [name for name in roi_names(units) if bool(units[PREFIX + name].any())]
    regions: list[str] = []
    for name in names:
        whole = next((s for s in PART_SUFFIXES if name.endswith(s)), "")
        stem = name.removesuffix(whole)
        siblings = [other for other in names if other in {stem + s for s in PART_SUFFIXES}]
        region = stem if whole and len(siblings) > 1 else name
        if region not in regions:
            regions.append(region)
    return regions


def roi_mask(units: pd.DataFrame, roi: str | Sequence[str]) -> Mask:
    """Return which units belong to a ROI, or to any of several.

    Raises
    ------
    UnknownNameError
        If a name is neither listed nor the common name of listed parts.
    """
    if not isinstance(roi, str):
        masks = [roi_mask(units, name) for name in roi]
        return np.any(masks, axis=0) if masks else np.zeros(len(units), dtype=bool)
    known = roi_names(units)
    parts = [roi] if roi in known else [roi + s for s in PART_SUFFIXES if roi + s in known]
    if not parts:
        raise unknown_name("ROI", roi, sorted({*known, *region_names(units)}))
    columns = units[[PREFIX + part for part in parts]].to_numpy(dtype=bool)
    return np.asarray(columns.any(axis=1))


def with_boolean_rois(units: pd.DataFrame) -> pd.DataFrame:
    """Return the units with every ``roi.`` column as true and false, which 1 and 0 may stand for.

    Raises
    ------
    InputError
        If a column holds anything else, or says nothing of a unit.
    """
    columns = {}
    for name in roi_names(units):
        column = units[PREFIX + name].infer_objects()
        what = f"The units' column {PREFIX + name!r}"
        numbers = None
        if pd.api.types.is_numeric_dtype(column) and not column.isna().any():  # booleans too
            numbers = whole_numbers(column.to_numpy(), what)
        if numbers is None or not np.isin(numbers, (0, 1)).all():
            raise InputError(
                f"{what} must be true or false for each unit; it holds "
                f"{listed(column[~column.isin([True, False])].unique())}."
            )
        columns[PREFIX + name] = numbers == 1
    return units.assign(**columns)


def roi_table(masks: Mapping[str, ArrayLike]) -> pd.DataFrame:
    """Return the unit-table columns for ROI masks, each (units,) and true where in the ROI."""
    return pd.DataFrame(
        {
            PREFIX + name: inside(np.asarray(mask), f"The mask of the ROI {name}")
            for name, mask in masks.items()
        }
    )
