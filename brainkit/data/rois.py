"""Regions of interest: boolean columns ``roi.<name>`` of a recording's units, and their unions.

A name may stand for parts that the table lists one by one: ``V1`` for ``V1v`` and ``V1d``,
``FFA`` for ``FFA-1`` and ``FFA-2``.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

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


def check_rois(units: pd.DataFrame) -> None:
    """Raise unless every ``roi.`` column says true or false (or 1 or 0) of each unit."""
    for name in roi_names(units):
        column = units[PREFIX + name]
        if not column.isin([True, False]).all():
            raise InputError(
                f"The units' column {PREFIX + name!r} must be true or false for each unit; it "
                f"holds {listed(column[~column.isin([True, False])].unique())}."
            )


def roi_table(masks: Mapping[str, ArrayLike]) -> pd.DataFrame:
    """Return the unit-table columns for ROI masks, each (units,) and true where in the ROI."""
    return pd.DataFrame({PREFIX + name: np.asarray(mask) > 0 for name, mask in masks.items()})
