"""Regions of interest: boolean columns ``roi.<name>`` of a recording's units, and their unions.

A ROI is called what its source calls it. Some names of the Natural Scenes Dataset stand for parts
of one region: ``V1v`` and ``V1d`` of ``V1``, ``FFA-1`` and ``FFA-2`` of ``FFA``. These, with or
without a hemisphere before them, are known under the common name too. No other name is taken
apart: ``6d`` and ``6v`` are two areas of the HCP's parcellation, ``LIPd`` is no part of a ``LIP``,
and ``Network-1`` is one of several networks.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.array_likes import inside, whole_numbers
from brainkit.errors import InputError, listed, unknown_name

PREFIX = "roi."
NSD_PARTS: Mapping[str, tuple[str, str]] = {
    **{area: (f"{area}v", f"{area}d") for area in ("V1", "V2", "V3")},
    **{patch: (f"{patch}-1", f"{patch}-2") for patch in ("FFA", "FBA", "VWFA")},
}
PARTS = {
    side + region: tuple(side + part for part in parts)
    for side in ("", "lh.", "rh.")
    for region, parts in NSD_PARTS.items()
}
REGION_OF = {part: region for region, parts in PARTS.items() for part in parts}

Mask = NDArray[np.bool_]


def roi_names(units: pd.DataFrame) -> list[str]:
    """Return the ROIs that the table lists, in its order."""
    return [str(name).removeprefix(PREFIX) for name in units.columns if _is_roi(name)]


def _is_roi(column: object) -> bool:
    return str(column).startswith(PREFIX)


def region_names(units: pd.DataFrame) -> list[str]:
    """Return the ROIs that have units, with the parts of one region under their common name.

    A part whose siblings have no units keeps its own name.
    """
    names = [name for name in roi_names(units) if bool(units[PREFIX + name].any())]
    regions = []
    for name in names:
        region = REGION_OF.get(name, name)
        several = sum(part in names for part in PARTS.get(region, ())) > 1
        regions.append(region if several else name)
    return list(dict.fromkeys(regions))


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
    chosen = [roi] if roi in known else [part for part in PARTS.get(roi, ()) if part in known]
    if not chosen:
        raise unknown_name("ROI", roi, sorted({*known, *region_names(units)}))
    columns = units[[PREFIX + name for name in chosen]].to_numpy(dtype=bool)
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
