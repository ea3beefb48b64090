"""Which rows of a recording depend on each other, for every p value, interval and inner fold.

- *Exemplars* in random order: the trials of one stimulus belong together; different stimuli are
  exchangeable, since chance decided which was shown when.
- *Conditions* that come back in every run: runs are independent; within a run chance decided which
  condition came when.
- *Stretches* of time: where both what was shown and what was measured change slowly, neighbours are
  alike on both sides. Only stretches longer than that are independent; chance runs shift what was
  shown in time, since that leaves both sides as slow as they are; and training rows so near to a
  test row are left out, as their likeness would pass for prediction.
- *Continuous data* are always of the last kind: their rows keep their order in every chance run.
- *Trials without stimuli* (epochs of a task) show what they are labelled: runs are independent, and
  within a run chance decided which label came when. Rows of one `trial` change places together.
"""

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.seeds import rng
from brainkit.arrays.sources import Index
from brainkit.data.recording import Recording
from brainkit.data.standardising import run_keys
from brainkit.errors import DependenceWarning, InputError
from brainkit.evaluation import correlation_length, exchanged_rows, time_blocks

_UNITS_LOOKED_AT = 500
# Features and responses of the first rows tell how slowly they change; more would be read twice.
ROWS_LOOKED_AT = 1000
_FEWEST_STRETCHES = 10


@dataclass(frozen=True)
class Rows:
    """What rows show, and which of them belong together.

    Attributes
    ----------
    shown : array of int (rows,)
        Stimulus of each row; of rows without stimuli their trial, or their own number.
    groups : array of int (rows,)
        Rows of one group are not independent: they stay on one side of inner folds and are drawn
        together. Numbers are the same in all parts of a recording.
    place : array of int (rows,)
        Row of the recording; the first of those that an item averages.
    strata : array of int (rows,) or None
        Where given, what was shown is exchanged within each stratum alone, row by row.
    together : bool
        Whether rows that show the same are exchanged together within their stratum, as the windows
        of one trial are.
    blocks : array of int (rows,) or None
        Where given, stretches of rows change places as wholes, in the order of the rows.
    series : array of int (rows,) or None
        Where given, rows of one series that are fewer than `reach` apart are alike, and what was
        shown is shifted in time.
    reach : int
    facts : dict
        What a manifest says: what is independent, and why.
    """

    shown: Index
    groups: Index
    place: Index
    strata: Index | None = None
    blocks: Index | None = None
    series: Index | None = None
    reach: int = 0
    together: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    def take(self, rows: NDArray[Any]) -> "Rows":
        """Return some of the rows, by mask or number."""
        strata, blocks, series = (
            None if one is None else one[rows] for one in (self.strata, self.blocks, self.series)
        )
        return replace(
            self, shown=self.shown[rows], groups=self.groups[rows], place=self.place[rows],
            strata=strata, blocks=blocks, series=series,
        )  # fmt: skip

    def near(self, others: "Rows") -> NDArray[np.bool_]:
        """Tell of each row whether another of `others` is too near in time to be independent."""
        near = np.zeros(len(self.place), dtype=bool)
        if self.series is None or others.series is None:
            return near
        for series in np.unique(others.series):
            here = self.series == series
            there = np.sort(others.place[others.series == series])
            after = np.searchsorted(there, self.place[here])
            ahead = there[np.minimum(after, len(there) - 1)] - self.place[here]
            behind = self.place[here] - there[np.maximum(after - 1, 0)]
            near[here] = np.minimum(np.abs(ahead), np.abs(behind)) < self.reach
        return near

    def exchanged(self, generator: np.random.Generator) -> Index:
        """Return for each row another one, whose stimulus chance might as well have shown here."""
        if self.series is not None:
            n = len(self.series)
            least = min(self.reach, n // 4)  # as far as rows are alike, so that no truth is left
            return _shifted(n, int(generator.integers(least, max(n - least, least + 1))))
        if self.together:
            return _exchanged_trials(self.shown, self.strata, generator)
        order = exchanged_rows(self.shown, generator, strata=self.strata, blocks=self.blocks)
        return order.astype(np.int64)

    def permuted(self, number: int, n_permutations: int) -> Index:
        """Return one of the exchanges that a p value counts among.

        Random ones; in time, shifts by equal steps, which with none at all are a group, so that p
        is exact where what was measured might have begun anywhere.

        Parameters
        ----------
        number : int
            From 0 to `n_permutations` - 1.
        n_permutations : int
        """
        if self.series is not None:
            n = len(self.series)
            return _shifted(n, round((number + 1) * n / (n_permutations + 1)))
        return self.exchanged(rng(number, "permuted items"))


def _shifted(n: int, rows: int) -> Index:
    """Follow n rows from another one on, round from the last to the first."""
    return np.roll(np.arange(n, dtype=np.int64), rows)


def _exchanged_trials(shown: Index, strata: Index | None, generator: np.random.Generator) -> Index:
    """Give all rows of a trial the first row of another one of its stratum, or of any."""
    _, first, trial = np.unique(shown, return_index=True, return_inverse=True)
    stratum = np.zeros(len(first), dtype=np.int64) if strata is None else strata[first]
    moved = np.empty_like(first)
    for one in np.unique(stratum):
        here = np.flatnonzero(stratum == one)
        moved[here] = first[generator.permutation(here)]
    return moved[trial].astype(np.int64)


def joined(parts: Sequence[Rows]) -> Rows:
    """Put the rows of several parts one after the other."""

    def one(values: Sequence[Index | None]) -> Index | None:
        known = [value for value in values if value is not None]
        return np.concatenate(known) if known else None

    return Rows(
        np.concatenate([part.shown for part in parts]),
        np.concatenate([part.groups for part in parts]),
        np.concatenate([part.place for part in parts]),
        one([part.strata for part in parts]),
        one([part.blocks for part in parts]),
        one([part.series for part in parts]),
        parts[0].reach,
        parts[0].together,
        parts[0].facts,
    )


def dependence(
    recording: Recording,
    resample: str = "auto",
    *,
    features: ArrayLike | Sequence[Callable[[Index], ArrayLike]] | None = None,
    shown: ArrayLike | None = None,
) -> Rows:
    """Say of every row what it shows and which others it is not independent of.

    Parameters
    ----------
    recording : Recording
        Its trials may have a column `block`, for what is known to belong together.
    resample : str
        ``"auto"``: runs where stimuli are conditions; the column `block` where there is one;
        stretches of time of continuous data, and where features and responses change slowly; runs
        of trials without stimuli; else stimuli. Or what to take as independent: ``"stimulus"``,
        ``"trial"``, a column (``"run"``, ``"session"``), ``"block:N"`` for stretches of N rows.
    features : array (rows, n) or (rows,), or sequence of callables, optional
        What is shown in the first rows, at most `ROWS_LOOKED_AT`, looks like to a model, for
        ``"auto"``; or functions that give it for values of `shown`, one for each space that
        takes part, called only where the responses change slowly. The slowest space counts. Of
        continuous data the responses alone count where it is not given.
    shown : array of int (rows,), optional
        What each row shows. Where not given, its stimulus; in continuous data, and in trials
        without stimuli, its own number, or that of its `trial`.

    Returns
    -------
    Rows

    Raises
    ------
    InputError
        If `resample` names no column, or a number of rows below 1.

    Warns
    -----
    DependenceWarning
        If ``"auto"`` takes stretches of time of trials.
    """
    if not isinstance(resample, str):
        raise InputError(
            "resample is 'auto', 'stimulus', a column of the trials or 'block:N'; got "
            f"{resample!r}."
        )
    free = shown is None and not shows_stimuli(recording)
    seen = shown_by(recording) if shown is None else np.asarray(shown, dtype=np.int64)
    because = "asked for"
    if resample == "auto":
        resample, because = _independent(recording, seen, features, free)
    elif recording.samples is not None and resample in ("stimulus", "trial"):
        raise InputError(
            f"resample={resample!r}: neighbours in continuous data are not independent. Say "
            "'block:N' for stretches of N samples, 'run', or 'auto'."
        )
    place = np.arange(len(seen))
    facts = {"independent": resample, "because": because}
    stretch = re.fullmatch(r"block:(\d+)", resample)
    if stretch:
        if int(stretch[1]) < 1:
            raise InputError(f"resample={resample!r}: a block holds at least 1 trial.")
        runs, length = _runs(recording), int(stretch[1])
        blocks = time_blocks(runs, length).astype(np.int64)
        return Rows(seen, blocks, place, series=runs, reach=length, facts=facts)
    if resample in ("stimulus", "trial"):
        # Without stimuli a trial is what chance labelled, within its run.
        strata = _runs(recording) if free else None
        return Rows(seen, seen, place, strata=strata, together=free, facts=facts)
    rows = recording.rows
    if resample not in rows:
        raise InputError(
            f"resample={resample!r} names no column of the trials, which are {list(rows.columns)}; "
            "it may also be 'auto', 'stimulus' or 'block:N'."
        )
    codes = _codes(recording, resample)
    if recording.samples is not None:
        return Rows(seen, codes, place, series=_runs(recording), reach=1, facts=facts)
    if free and resample in ("run", "session"):
        strata = _runs(recording)
        return Rows(seen, codes, place, strata=strata, together=True, facts=facts)
    if recording.stimuli_are == "conditions":
        # Which condition came when was drawn within the run, whatever else is grouped.
        strata = _codes(recording, "run") if "run" in rows else None
        return Rows(seen, codes, place, strata=strata, facts=facts)
    return Rows(seen, codes, place, blocks=codes, facts=facts)


def shows_stimuli(recording: Recording) -> bool:
    """Whether every row is a trial that shows a stimulus."""
    rows = recording.rows
    return recording.samples is None and "stimulus" in rows and not rows["stimulus"].isna().any()


def shown_by(recording: Recording) -> Index:
    """Return the stimulus of each row; without stimuli its trial, or its own number."""
    if shows_stimuli(recording):
        return recording.stimulus_rows()
    rows = recording.rows
    if recording.samples is None and "trial" in rows and not rows["trial"].isna().any():
        return _codes(recording, "trial")
    return np.arange(len(rows), dtype=np.int64)


def _independent(recording: Recording, shown: Index, features: Any, free: bool) -> tuple[str, str]:
    """Return what is independent where nothing is asked for, and why.

    Parameters
    ----------
    recording : Recording
    shown : array of int (rows,)
    features : array, sequence of callables, or None
        See `dependence`.
    free : bool
        Whether rows show no stimuli.
    """
    rows = recording.rows
    if recording.stimuli_are == "conditions" and "run" in rows:
        return "run", "stimuli are conditions"
    if "block" in rows and not rows["block"].isna().any():
        return "block", "the trials have a column 'block'"
    in_time = recording.samples is not None
    trials = free and "trial" in rows
    if (features is not None or in_time) and "order" not in recording.info and not trials:
        looks: Any = features if _are_functions(features) else [features]
        length = _length(recording, shown, looks)
        if in_time:
            return f"block:{length}", "continuous data keep their order in time"
        if length > 1:
            warnings.warn(_slow(recording, length), DependenceWarning, stacklevel=4)
            return f"block:{length}", "features and responses change slowly"
    if not free:
        return "stimulus", "stimuli in random order"
    several = len(np.unique(_runs(recording))) > 1
    candidates = ("run", "labels were drawn within runs"), ("trial", "labels in random order")
    return candidates[0] if several else candidates[1]


def _codes(recording: Recording, column: str) -> Index:
    """Return a number for each value of a column; blocks and runs are numbered within sessions."""
    rows = recording.rows
    if column in ("run", "session") or not {"run", "session"} & set(rows):
        keys = run_keys(rows, column)
    else:
        within = [name for name in ("session", "run", column) if name in rows]
        keys = rows[within].astype(str).agg("/".join, axis=1)
    return pd.factorize(keys.to_numpy())[0].astype(np.int64)  # names of any types


def _runs(recording: Recording) -> Index:
    """Return the run of each row, the session where there are no runs, or one for all."""
    for name in ("run", "session"):
        if name in recording.rows and not recording.rows[name].isna().any():
            return _codes(recording, name)
    return np.zeros(len(recording.rows), dtype=np.int64)


def _are_functions(features: Any) -> bool:
    return isinstance(features, list | tuple) and all(callable(one) for one in features)


def _length(recording: Recording, shown: Index, looks: Sequence[Any]) -> int:
    """Return how long stretches are that are independent; 1 if each trial is.

    Twice as many trials as features and responses are both alike over, since the ends of longer
    stretches still are.
    """
    rows = np.arange(min(len(shown), ROWS_LOOKED_AT))
    runs = _runs(recording)
    # Of epochs so many units that units × times are no more.
    n_looked = max(1, _UNITS_LOOKED_AT // int(np.prod(recording.responses.shape[2:], dtype=int)))
    units = np.linspace(0, recording.responses.shape[1] - 1, n_looked).astype(int)
    responses = recording.responses.read(rows, np.unique(units)).reshape(len(rows), -1)
    of_responses = correlation_length(responses, runs[rows])
    if of_responses == 1:
        return 1
    of_features = 1
    for look in looks:
        if look is None:  # of continuous data nothing more is known
            of_features = of_responses
            continue
        if callable(look):
            distinct, item = np.unique(shown[rows], return_inverse=True)
            values = np.asarray(look(distinct))[item]
        else:
            values = np.asarray(look)[: len(rows)]
        length = correlation_length(values.reshape(len(values), -1), runs[: len(values)])
        of_features = max(of_features, length)
    return 1 if of_features == 1 else 2 * min(of_features, of_responses)


def _slow(recording: Recording, length: int) -> str:
    few = ""
    if len(recording.rows) < _FEWEST_STRETCHES * length:
        few = f" There are only {len(recording.rows) // length} of them."
    return (
        f"What {recording.subject} was shown and what was measured both change slowly, over about "
        f"{length // 2} trials: p values and intervals take stretches of {length} trials as "
        f"independent (resample='block:{length}'), and training trials fewer than {length} from a "
        f"test trial are left out, as neighbours would look like prediction.{few} Split by runs or "
        "stretches (split='stretches:5'), which leaves most of them. If trials are independent in "
        "spite of it, or do not stand in the order of time, say resample='stimulus'."
    )
