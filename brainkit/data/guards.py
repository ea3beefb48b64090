"""Leak guards: what stands on one side of a split may not stand on another.

They run whenever a split is made, by a preset or by hand, and raise with the offending ids.
"""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from brainkit.arrays.sources import Index
from brainkit.errors import LeakError, SplitError, listed

# Columns whose values may not be shared between parts, and what to do about it. A `trial` column
# marks rows that are windows of one trial.
GUARDED = {
    "stimulus": "Split by stimulus (for example 'kfold:10:stimulus'), so that all repeats of an "
    "image fall on one side.",
    "trial": "Split by trial, so that all windows of a trial fall on one side.",
}


def check_split(rows: pd.DataFrame, parts: Mapping[str, Index]) -> None:
    """Raise if parts of a split share rows, stimuli or trials, or if one that must not be is empty.

    Parameters
    ----------
    rows : DataFrame
        The recording's trials or samples.
    parts : mapping of str to array of int
        Row numbers of each part.

    Raises
    ------
    LeakError
        With all offending ids in ``ids``.
    SplitError
        If the training or test part is empty.
    """
    for name in ("train", "test"):
        if name in parts and len(parts[name]) == 0:
            raise SplitError(f"The {name} part of the split is empty; choose another split.")
    guarded = {name: _identities(rows, name) for name in GUARDED if name in rows}
    for first, second in combinations(parts, 2):
        shared = np.intersect1d(parts[first], parts[second])
        if shared.size:
            raise LeakError(
                f"The parts {first!r} and {second!r} share {shared.size} rows: {listed(shared)}.",
                shared.tolist(),
            )
        for column, values in guarded.items():
            _check_column(values, first, second, parts, GUARDED[column])


def _identities(rows: pd.DataFrame, column: str) -> pd.Series:
    """Return what tells one value from another: trials are numbered within a session or run."""
    within = [name for name in ("session", "run") if name in rows]
    if column != "trial" or not within:
        return rows[column]
    return trial_keys(rows)


def trial_keys(rows: pd.DataFrame) -> pd.Series:
    """Name each row's trial by session, run and trial, as far as they are given."""
    names = [name for name in ("session", "run", "trial") if name in rows]
    keys = [
        "/".join(f"{name} {value}" for name, value in zip(names, values, strict=True))
        for values in rows[names].itertuples(index=False)
    ]
    return pd.Series(keys, name="trial").where(rows["trial"].notna().to_numpy())


def _check_column(
    values: pd.Series, first: str, second: str, parts: Mapping[str, Index], advice: str
) -> None:
    one = values.iloc[parts[first]].dropna().unique()
    other = values.iloc[parts[second]].dropna().unique()
    shared = sorted(set(one) & set(other))
    if shared:
        raise LeakError(
            f"{len(shared)} values of {values.name!r} stand in both the {first!r} and the "
            f"{second!r} part: {listed(shared)}. {advice}",
            shared,
        )
