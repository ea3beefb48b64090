"""Splits: named presets that say which trials train, validate, align and test.

| preset | test part |
|---|---|
| ``kfold:K`` or ``kfold:K:column`` | each of K folds in turn; groups by `column`, by default the stimulus if there is one, else the trial; where stimuli are conditions, the run; continuous data, and conditions without runs, are cut into K stretches where no column is given |
| ``stratified:K`` or ``stratified:K:column`` | as ``kfold:K``, with the labels (or the values of `column`) in equal shares in all folds |
| ``stretches:K`` | each of K stretches of consecutive rows in turn; no stimulus may stand in two |
| ``leave-one-run-out`` | each run in turn (a run is a session's run) |
| ``leave-one-session-out`` | each session in turn |
| ``nsd-shared1000`` | the images that all subjects see |
| ``nsd-515`` | the shared images whose three repeats lie in the first three quarters of the planned sessions (515 in NSD's first 30); the other shared images, in turn, are *align* and *validation* |

Instead of a preset, a split may be a splitter of scikit-learn's kind, which is given the labels (else
the stimuli) as y and what must stay together as groups; pairs of row numbers; or a `Split`.
The test part selects nothing; statistics come from the training part (`Fold.zscore`).
"""  # noqa: E501

import warnings
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.sources import Index
from brainkit.data.recording import Recording
from brainkit.data.responses import positions
from brainkit.data.standardising import run_keys
from brainkit.errors import InputError, LeakError, SplitError, listed, unknown_name
from brainkit.linear.folds import checked_folds, kfold, leave_one_group_out

# -- leak guards: what stands on one side of a split may not stand on another ----------------------
#
# They run whenever a split is made, by a preset or by hand, and raise with the offending ids.


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


# -- splits ----------------------------------------------------------------------------------------


PARTS = ("train", "validation", "align", "test")
# A preset, an object with ``split(X, y, groups)``, pairs (train, test) of rows, or a Split.
SplitLike: TypeAlias = Any


@dataclass(frozen=True, eq=False)
class Fold:
    """One train/test division of a recording.

    Attributes
    ----------
    recording : Recording
        The whole recording.
    rows : dict of str to array of int
        Row numbers of each part that exists.
    """

    recording: Recording
    rows: Mapping[str, Index]

    def part(self, name: str) -> Recording:
        """Return one part as a Recording; raises `SplitError` where the preset has none."""
        if name not in self.rows:
            raise SplitError(
                f"This split has no {name!r} part; it has {', '.join(self.rows)}. "
                "The preset 'nsd-515' has all four."
            )
        return self.recording.select(trials=self.rows[name])

    @property
    def train(self) -> Recording:
        """The part that is fitted on."""
        return self.part("train")

    @property
    def validation(self) -> Recording:
        """The part that selects."""
        return self.part("validation")

    @property
    def align(self) -> Recording:
        """The part whose stimuli all subjects saw, for aligners."""
        return self.part("align")

    @property
    def test(self) -> Recording:
        """The sealed part that is scored."""
        return self.part("test")

    def zscore(self, by: str | None = "session", *, unseen: str | None = None) -> "Fold":
        """Return the fold of the recording z-scored with the training part's statistics."""
        return replace(
            self, recording=self.recording.zscore(by, fit_on=self.rows["train"], unseen=unseen)
        )


@dataclass(frozen=True, eq=False)
class Split:
    """A recording divided by a preset: one or more folds.

    Attributes
    ----------
    preset : str
        The preset's name, or "by hand".
    seed : int
        Seed of the folds.
    folds : tuple of Fold
        The divisions; the parts of a split with one fold can be asked of the split itself.
    """

    preset: str
    seed: int
    folds: tuple[Fold, ...]

    def __iter__(self) -> Iterator[Fold]:
        return iter(self.folds)

    def __len__(self) -> int:
        return len(self.folds)

    def _only(self) -> Fold:
        if len(self.folds) != 1:
            raise SplitError(
                f"The split {self.preset!r} has {len(self.folds)} folds: go through them, as in "
                "'for fold in split: fold.train'."
            )
        return self.folds[0]

    @property
    def train(self) -> Recording:
        """The training part of a split with one fold."""
        return self._only().train

    @property
    def validation(self) -> Recording:
        """The validation part of a split with one fold."""
        return self._only().validation

    @property
    def align(self) -> Recording:
        """The align part of a split with one fold."""
        return self._only().align

    @property
    def test(self) -> Recording:
        """The test part of a split with one fold."""
        return self._only().test

    def zscore(self, by: str | None = "session", *, unseen: str | None = None) -> "Split":
        """Return the split with each fold z-scored by its own training part."""
        return replace(self, folds=tuple(fold.zscore(by, unseen=unseen) for fold in self.folds))


def split_by_hand(recording: Recording, **parts: ArrayLike) -> Split:
    """Split by masks or row numbers of your own; the leak guards run on it like on a preset.

    Parameters
    ----------
    recording : Recording
        What to split.
    **parts : array of bool or int
        Any of `train`, `validation`, `align`, `test`.
    """
    unknown = set(parts) - set(PARTS)
    if unknown:
        raise unknown_name("part of a split", sorted(unknown)[0], PARTS)
    rows = {
        name: positions(chosen, len(recording.rows), "trials") for name, chosen in parts.items()
    }
    return _guarded(recording, "by hand", 0, [rows])


def make_split(recording: Recording, split: SplitLike, *, seed: int = 0) -> Split:
    """Split a recording; the leak guards run on every split.

    Parameters
    ----------
    recording : Recording
        What to split.
    split : str, splitter, list of (train, test), or Split
        One of the presets of this module; an object with ``split(X, y, groups)``, such as
        scikit-learn's, whose ``random_state``, where it has one that is None, becomes the seed;
        pairs of row numbers or masks; or a split of a recording with the same rows.
    seed : int, default=0
        Shuffles the groups of ``kfold``.

    Raises
    ------
    UnknownNameError
        If there is no such preset.
    SplitError
        If the recording lacks what the split needs, or a part is empty.
    LeakError
        If an image or trial would stand on both sides, or a run where stimuli are conditions.
    """
    if isinstance(split, Split):
        return _again(recording, split)
    if not isinstance(split, str):
        folds = _by_splitter(recording, split, seed)
        return _guarded(recording, describe_split(split), seed, folds)
    name, *arguments = split.split(":")
    if name not in PRESETS:
        raise unknown_name(
            "split preset", split, ["kfold:K:column", "stratified:K:column", *sorted(PRESETS)]
        )
    if arguments and name not in ("kfold", "stratified", "stretches"):
        raise SplitError(f"The split {name!r} takes nothing after a colon; got {split!r}.")
    folds = PRESETS[name](recording, arguments, seed)
    return _guarded(recording, split, seed, folds)


def kept_split(split: SplitLike) -> SplitLike:
    """Return a split that can be gone through more than once: pairs from a generator as a list."""
    return list(split) if hasattr(split, "__next__") else split


def split_of_rows(split: SplitLike, kept: NDArray[np.bool_]) -> SplitLike:
    """Return a split for a recording that keeps some of its rows.

    Presets and splitters are made anew there; numbers of rows, by hand or of a `Split`, follow the
    rows.

    Parameters
    ----------
    split : SplitLike
        Of the whole recording.
    kept : array of bool (rows,)
    """
    if isinstance(split, str) or (hasattr(split, "split") and not isinstance(split, Split)):
        return split
    place = np.cumsum(kept) - 1
    pairs = [(fold.rows["train"], fold.rows["test"]) for fold in split] if isinstance(
        split, Split) else split  # fmt: skip
    moved = []
    for train, test in pairs:
        parts = [positions(rows, len(kept), "rows of a split") for rows in (train, test)]
        moved.append(tuple(place[rows[kept[rows]]] for rows in parts))
    return moved


def describe_split(split: SplitLike) -> str:
    """Say in one line what a split is, for manifests and messages."""
    if isinstance(split, Split):
        return split.preset
    if isinstance(split, str):
        return split
    return repr(split) if hasattr(split, "split") else f"by hand, {len(list(split))} folds"


def _again(recording: Recording, split: Split) -> Split:
    """Make a split of other units, or of z-scored values, of the recording that was split."""
    for fold in split:
        if len(fold.recording.rows) != len(recording.rows):
            raise SplitError(
                f"The split is of a recording of {len(fold.recording.rows)} rows; this one has "
                f"{len(recording.rows)}. Split this recording."
            )
    return _guarded(recording, split.preset, split.seed, [dict(fold.rows) for fold in split])


def _by_splitter(recording: Recording, split: SplitLike, seed: int) -> list[dict[str, Index]]:
    """Return the folds of a splitter, or those given as pairs of rows."""
    n = len(recording.rows)
    folds = split
    if hasattr(split, "split"):
        if getattr(split, "random_state", 0) is None and getattr(split, "shuffle", True):
            split = copy(split)
            split.random_state = seed
        folds = _folds_of(split, n, _labels(recording), _together(recording))
    try:
        pairs = checked_folds(folds, n)
    except (InputError, TypeError) as error:
        raise SplitError(
            "A split is a preset such as 'kfold:5', an object with split(X, y, groups), or pairs "
            f"(train, test) of rows; {error}"
        ) from error
    return [{"train": train, "test": test} for train, test in pairs]


def _labels(recording: Recording) -> NDArray[Any] | None:
    """Return what folds are stratified by: labels, else stimuli; None where there are none."""
    for name in ("label", "stimulus"):
        if name in recording.rows and not recording.rows[name].isna().any():
            return recording.rows[name].to_numpy()
    return None


def _together(recording: Recording) -> NDArray[Any] | None:
    """Return what must stay on one side: stimuli, or runs where stimuli are conditions."""
    by = _default_group(recording)
    if by == "trial":
        return trial_keys(recording.rows).to_numpy() if "trial" in recording.rows else None
    return None if by is None else _groups(recording.rows, by, "by a splitter")


def _guarded(recording: Recording, preset: str, seed: int, folds: list[dict[str, Index]]) -> Split:
    # An optional part without trials does not exist: asking for it says so.
    folds = [
        {name: part for name, part in rows.items() if name in ("train", "test") or len(part)}
        for rows in folds
    ]
    for rows in folds:
        check_split(recording.rows, rows, recording.stimuli_are)
    return Split(preset, seed, tuple(Fold(recording, rows) for rows in folds))


def _column(rows: pd.DataFrame, name: str, preset: str) -> pd.Series:
    if name not in rows or rows[name].isna().any():
        raise SplitError(
            f"The split {preset!r} needs a column {name!r} without missing values; the recording "
            f"has {list(rows.columns)}."
        )
    return rows[name]


def _kfold(recording: Recording, arguments: list[str], seed: int) -> list[dict[str, Index]]:
    if not arguments or not arguments[0].isdecimal() or len(arguments) > 2:
        raise SplitError("Write k-fold splits as 'kfold:10' or 'kfold:10:stimulus'.")
    in_time = recording.samples is not None or recording.stimuli_are == "conditions"
    rows, order = recording.rows, None if in_time else seed
    by = arguments[1] if len(arguments) > 1 else _default_group(recording)
    groups = None
    if by == "trial" and "trial" in rows:
        _column(rows, "trial", "kfold")
        groups = trial_keys(rows).to_numpy()
    elif by not in (None, "trial"):
        groups, order = _groups(rows, by, "kfold"), seed
    folds = kfold(len(rows), int(arguments[0]), groups=groups, seed=order)
    return [{"train": train, "test": test} for train, test in folds]


def _stratified(recording: Recording, arguments: list[str], seed: int) -> list[dict[str, Index]]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if not arguments or not arguments[0].isdecimal() or len(arguments) > 2:
        raise SplitError("Write stratified splits as 'stratified:5' or 'stratified:5:label'.")
    column = arguments[1] if len(arguments) > 1 else "label"
    labels = _column(recording.rows, column, "stratified").to_numpy()
    groups, n_folds = _together(recording), int(arguments[0])
    labels = pd.factorize(labels)[0]  # names of any types
    counts = np.bincount(labels)
    if n_folds < 2 or n_folds > counts.min():
        raise SplitError(
            f"{n_folds} folds cannot have all values of {column!r}, of which the rarest stands in "
            f"{counts.min()} rows: ask for 2 to that many folds."
        )
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    # Conditions without runs are neighbours in time: their folds stay in the order of the rows.
    shuffle = recording.samples is None and (
        recording.stimuli_are == "exemplars" or groups is not None
    )
    splitter = kind(n_folds, shuffle=shuffle, random_state=seed if shuffle else None)
    folds = _folds_of(splitter, len(labels), labels, groups)
    return [{"train": train, "test": test} for train, test in folds]


def _folds_of(
    splitter: Any, n: int, labels: NDArray[Any] | None, groups: NDArray[Any] | None
) -> list[Any]:
    try:
        with warnings.catch_warnings():
            # Most splitters have no use for groups; that folds keep them whole is checked later.
            warnings.filterwarnings("ignore", message="The groups parameter is ignored")
            return list(splitter.split(np.empty((n, 1)), labels, groups))
    except (TypeError, ValueError) as error:
        raise SplitError(f"{splitter} cannot split the {n} rows: {error}") from error


def _stretches(recording: Recording, arguments: list[str], seed: int) -> list[dict[str, Index]]:
    if len(arguments) != 1 or not arguments[0].isdecimal():
        raise SplitError("Write splits into stretches of consecutive rows as 'stretches:5'.")
    folds = kfold(len(recording.rows), int(arguments[0]))
    return [{"train": train, "test": test} for train, test in folds]


def _default_group(recording: Recording) -> str | None:
    """Stimuli where all trials show one, else trials; runs of conditions; none for samples."""
    if recording.samples is not None:
        return None
    rows = recording.rows
    if recording.stimuli_are == "conditions":
        return "run" if "run" in rows and not rows["run"].isna().any() else None
    return "stimulus" if "stimulus" in rows and not rows["stimulus"].isna().any() else "trial"


def _groups(rows: pd.DataFrame, name: str, preset: str) -> NDArray[Any]:
    """Return a column's values; runs of two sessions differ even where they share a number."""
    for column in ("run", "session") if name == "run" and "session" in rows else (name,):
        _column(rows, column, preset)
    return run_keys(rows, name).to_numpy()


def _leave_out(recording: Recording, by: str, preset: str) -> list[dict[str, Index]]:
    codes = pd.factorize(_groups(recording.rows, by, preset))[0]  # in the order of the recording
    return [{"train": train, "test": test} for train, test in leave_one_group_out(codes)]


def _leave_run(recording: Recording, arguments: list[str], seed: int) -> list[dict[str, Index]]:
    return _leave_out(recording, "run", "leave-one-run-out")


def _leave_session(recording: Recording, arguments: list[str], seed: int) -> list[dict[str, Index]]:
    return _leave_out(recording, "session", "leave-one-session-out")


def _nsd_shared1000(
    recording: Recording, arguments: list[str], seed: int
) -> list[dict[str, Index]]:
    rows = recording.rows
    shared = _column(rows, "shared", "nsd-shared1000").to_numpy(dtype=bool)
    return [{"train": np.flatnonzero(~shared), "test": np.flatnonzero(shared)}]


def _nsd_515(recording: Recording, arguments: list[str], seed: int) -> list[dict[str, Index]]:
    rows = recording.rows
    shared = _column(rows, "shared", "nsd-515").to_numpy(dtype=bool)
    thrice = _column(rows, "early_repeats", "nsd-515").to_numpy() >= 3
    stimulus = _column(rows, "stimulus", "nsd-515").to_numpy(dtype=np.int64)
    others = np.unique(stimulus[shared & ~thrice])
    return [
        {
            "train": np.flatnonzero(~shared),
            "validation": np.flatnonzero(np.isin(stimulus, others[1::2])),
            "align": np.flatnonzero(np.isin(stimulus, others[0::2])),
            "test": np.flatnonzero(shared & thrice),
        }
    ]


PRESETS: dict[str, Callable[[Recording, list[str], int], list[dict[str, Index]]]] = {
    "kfold": _kfold,
    "stratified": _stratified,
    "stretches": _stretches,
    "leave-one-run-out": _leave_run,
    "leave-one-session-out": _leave_session,
    "nsd-shared1000": _nsd_shared1000,
    "nsd-515": _nsd_515,
}
