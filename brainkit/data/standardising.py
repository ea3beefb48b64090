"""Which trials are averaged or standardised together, and with what statistics."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from brainkit.arrays.array_likes import NEAR, whole_numbers
from brainkit.arrays.devices import pick_batch
from brainkit.arrays.sources import Float, Index, Source
from brainkit.errors import InputError, SplitError

WHOLE = "recording"  # all rows as one group, where no column is called so
UNSEEN = (None, "session-unlabelled")
# Columns of trials that number something, whose values tell groups apart.
NUMBERED = ("stimulus", "session", "run", "trial", "repeat")


def with_whole_labels(trials: pd.DataFrame) -> pd.DataFrame:
    """Return trials (samples) whose stimuli, sessions and runs are rounded where nearly whole.

    A table that has gone through single precision, or MATLAB, may hold 2.9999998: another run than
    3, and no row of the stimuli. What is not nearly whole (a run called 1.5) stays as it is.
    """
    for name in (name for name in NUMBERED if name in trials):
        column = trials[name]
        if not pd.api.types.is_float_dtype(column):
            continue
        values = column.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
        there = ~np.isnan(values)
        with np.errstate(invalid="ignore"):  # infinite values stay as they are
            off = np.abs(values[there] - np.rint(values[there]))
        if off.any() and np.isfinite(off).all() and off.max() <= NEAR:
            numbers = whole_numbers(values[there], f"The column {name!r} of the trials")
            values[there] = numbers
            trials = trials.assign(**{name: values})
    return trials


def run_keys(rows: pd.DataFrame, by: str) -> pd.Series:
    """Return the column's values; runs are told apart by session where sessions are named.

    All rows are of one value where `by` is ``"recording"`` and no column is called so.

    Raises
    ------
    InputError
        If the column is not there or has missing values.
    """
    if by == WHOLE and WHOLE not in rows:
        return pd.Series(np.full(len(rows), WHOLE))
    names = ["session", "run"] if by == "run" and "session" in rows else [by]
    lacking = [name for name in names if name not in rows or rows[name].isna().any()]
    if lacking:
        raise InputError(
            f"A column {lacking[0]!r} without missing values is needed; there are "
            f"{list(rows.columns)}."
        )
    if len(names) == 1:
        return rows[by]
    pairs = zip(rows["session"], rows["run"], strict=True)
    return pd.Series([f"{run} of session {session}" for session, run in pairs])


def repeat_groups(
    trials: pd.DataFrame, by: str, within: Sequence[str] = ()
) -> tuple[list[Index], pd.DataFrame]:
    """Return the rows of each value of a column, in sorted order of the values, and their table.

    The table keeps every column that is constant within all groups, and `n_repeats` counts the
    single trials of each group. Rows that differ in a column of `within`, which sort first, are not
    put together.
    """
    if by not in trials or trials[by].isna().any():
        raise InputError(
            f"Averaging needs a column {by!r} without missing values in the trials; there are "
            f"{list(trials.columns)}."
        )
    if not len(trials):
        raise InputError("There are no trials to average.")
    numbers, _ = pd.factorize(trials[by], sort=True)
    for name in reversed(list(within)):
        outer = pd.factorize(trials[name], sort=True)[0]
        numbers = np.unique(outer * (numbers.max() + 1) + numbers, return_inverse=True)[1]
    order = np.argsort(numbers, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
    # What was averaged before brings the number of its single trials with it.
    singles = trials["n_repeats"].to_numpy() if "n_repeats" in trials else np.ones(len(trials))
    counts = [int(singles[group].sum()) for group in groups]
    trials = trials.drop(columns="n_repeats", errors="ignore")
    first = trials.iloc[[group[0] for group in groups]].reset_index(drop=True)
    # Objects (lists of key words, say) are compared by what they print as.
    plain = trials.apply(lambda column: column.map(repr) if column.dtype == object else column)
    constant = plain.groupby(numbers).nunique(dropna=False).max() == 1
    table = first.loc[:, constant.reindex(first.columns).to_numpy(dtype=bool)].copy()
    table["n_repeats"] = counts
    return groups, table


def training_members(
    keys: pd.Series, fitted: Index, by: str | None, unseen: str | None
) -> tuple[Index, list[Index], list[object]]:
    """Find the rows whose statistics each group gets.

    Returns
    -------
    group : array of int (rows,)
        Number of each row's group.
    members : list of array of int
        For each group the rows that give its mean and standard deviation.
    transductive : list
        Names of the groups that get the statistics of their own, untrained rows.

    Raises
    ------
    SplitError
        If a group has fewer than two training trials (one has no standard deviation) and
        `unseen` is not given, or fewer than two trials at all.
    """
    group, labels = pd.factorize(keys, sort=True)
    members: list[Index] = []
    transductive: list[object] = []
    for number, label in enumerate(labels):
        rows = fitted[group[fitted] == number]
        what = "The recording" if by is None else f"The {by} {label}"
        if len(rows) < 2 and unseen is None:
            raise SplitError(
                f"{what} has {'no training trials' if not len(rows) else '1 training trial'}, so "
                f"it cannot be z-scored. Split within each {by or 'group'}; or take all trials as "
                f"one group, which few of them need (zscore={WHOLE!r}); or pass "
                "unseen='session-unlabelled' to use its own unlabelled trials (transductive)."
            )
        if len(rows) < 2:
            transductive.append(label)
            rows = np.flatnonzero(group == number)
        if len(rows) < 2:
            raise SplitError(f"{what} has a single trial, so it cannot be z-scored.")
        members.append(rows)
    return group.astype(np.int64), members, transductive


def group_statistics(source: Source, members: Sequence[Index]) -> tuple[Float, Float]:
    """Mean and population sd of each group of rows, in batches of units; constant units have sd 0.

    Returns
    -------
    shift, scale : float32 arrays (groups, units, ...)
    """
    shape = source.shape
    shift = np.empty((len(members), *shape[1:]), dtype=np.float32)
    scale = np.empty_like(shift)
    batch = pick_batch(8 * shape[0] * int(np.prod(shape[2:], dtype=int)) + 1, max(shape[1], 1))
    for start in range(0, shape[1], batch):
        columns = np.arange(start, min(start + batch, shape[1]))
        values = source.read(None, columns)
        for number, rows in enumerate(members):
            part = values[rows].astype(np.float64)
            with np.errstate(invalid="ignore"):  # infinite values give NaN
                spread = part.std(axis=0)
                spread[np.ptp(part, axis=0) == 0] = 0.0
            shift[number, columns], scale[number, columns] = part.mean(axis=0), spread
    return shift, scale
