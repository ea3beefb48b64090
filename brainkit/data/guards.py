"""Leak guards: what stands on one side of a split may not stand on another.

They run whenever a split is made, by a preset or by hand, and raise with the offending ids.
"""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from brainkit.arrays.sources import Index
from brainkit.data.standardising import run_keys
from brainkit.errors import LeakError, SplitError, listed

_TRIAL = "Split by trial, so that all windows of a trial fall on one side."
# Columns whose values may not be shared between parts, and what to do about it. A `trial` column
# marks rows that are windows of one trial.
GUARDED = {
    "exemplars": {
        "stimulus": "Split by stimulus (for example 'kfold:10:stimulus'), so that all repeats of "
        "an image fall on one side.",
        "trial": _TRIAL,
    },
    "conditions": {
        "run": "Split by run (for example 'leave-one-run-out'): a run's trials are neighbours in "
        "time, whose noise is alike.",
        "trial": _TRIAL,
    },
}
_REPEATED = (
    " If these are conditions that come back in every run and are to be found again (as in a block "
    "design), say so when the recording is made (stimuli_are='conditions') and leave runs out."
)


def check_split(
    rows: pd.DataFrame, parts: Mapping[str, Index], stimuli_are: str = "exemplars"
) -> None:
    """Raise if parts of a split share what they must not, or if one that must not be is empty.

    Exemplars must not be shared: a model that saw an image cannot be asked to generalise to it.
    Conditions must be shared, or they could not be found again; what must not be shared are runs,
    and without runs the stretches of time that the parts are made of.

    Parameters
    ----------
    rows : DataFrame
        The recording's trials or samples.
    parts : mapping of str to array of int
        Row numbers of each part.
    stimuli_are : {"exemplars", "conditions"}
        See `Recording`.

    Raises
    ------
    LeakError
        If images, groups or runs stand on both sides; all offending ids are in ``ids``.
    SplitError
        If the training or test part is empty.
    """
    for name in ("train", "test"):
        if name in parts and len(parts[name]) == 0:
            raise SplitError(f"The {name} part of the split is empty; choose another split.")
    advice = GUARDED[stimuli_are]
    guarded = {name: _identities(rows, name) for name in advice if name in rows}
    if stimuli_are == "conditions":
        _check_conditions(rows, parts)
    for first, second in combinations(parts, 2):
        shared = np.intersect1d(parts[first], parts[second])
        if shared.size:
            raise LeakError(
                f"The parts {first!r} and {second!r} share {shared.size} rows: {listed(shared)}.",
                shared.tolist(),
            )
        for column, values in guarded.items():
            more = _REPEATED if column == "stimulus" and _in_every_run(rows) else ""
            _check_column(values, first, second, parts, advice[column] + more)


def _identities(rows: pd.DataFrame, column: str) -> pd.Series:
    """Return what tells one value from another: trials and runs are numbered within sessions."""
    if column == "run":
        return run_keys(rows, "run").rename("run") if "session" in rows else rows["run"]
    within = [name for name in ("session", "run") if name in rows]
    if column != "trial" or not within:
        return rows[column]
    return trial_keys(rows)


def _in_every_run(rows: pd.DataFrame) -> bool:
    """Whether the same stimuli come back in every run, as conditions do."""
    if "run" not in rows or rows[["run", "stimulus"]].isna().any().any():
        return False
    runs = run_keys(rows, "run").to_numpy() if "session" in rows else rows["run"].to_numpy()
    table = pd.crosstab(rows["stimulus"].to_numpy(), runs)
    return table.shape[1] > 1 and bool((table > 0).all().all())


def _check_conditions(rows: pd.DataFrame, parts: Mapping[str, Index]) -> None:
    """Raise if a condition is tested that was never trained, or neighbours in time are parted."""
    if "stimulus" in rows and {"train", "test"} <= set(parts):
        known = set(rows["stimulus"].iloc[parts["train"]].dropna())
        new = sorted(set(rows["stimulus"].iloc[parts["test"]].dropna()) - known)
        if new:
            raise SplitError(
                f"{len(new)} conditions are tested but not trained on, so that they cannot be "
                f"found again: stimuli {listed(new)}. Leave runs out that have all of them, or "
                "make the recording with stimuli_are='exemplars'."
            )
    if "run" in rows:
        return
    side = np.full(len(rows), -1)
    for number, part in enumerate(parts.values()):
        side[part] = number
    used = side[side >= 0]
    # Each part but the first may begin once; a shuffled split changes sides all the time.
    changes = int((used[1:] != used[:-1]).sum())
    if changes > 2 * (len(parts) - 1):
        raise LeakError(
            f"The parts change sides {changes} times from trial to trial: neighbours in time, "
            "whose noise is alike, stand on both. Give the trials a column 'run' and leave runs "
            "out, or split by stretches ('stretches:5')."
        )


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
