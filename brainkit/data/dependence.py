"""Which rows of a recording depend on each other, for every p value, interval and inner fold.

- *Exemplars* in random order: the trials of one stimulus belong together; different stimuli are
  exchangeable, since chance decided which was shown when.
- *Conditions* that come back in every run: runs are independent; within a run chance decided which
  condition came when.
- *Stretches* of time: where both what was shown and what was measured change slowly, neighbours are
  alike on both sides. Only stretches longer than that are independent; chance runs shift what was
  shown in time, since that leaves both sides as slow as they are; and training rows so near to a
  test row are left out, as their likeness would pass for prediction.
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
        Stimulus of each row.
    groups : array of int (rows,)
        Rows of one group are not independent: they stay on one side of inner folds and are drawn
        together. Numbers are the same in all parts of a recording.
    place : array of int (rows,)
        Row of the recording; the first of those that an item averages.
    strata : array of int (rows,) or None
        Where given, what was shown is exchanged within each stratum alone.
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
        parts[0].facts,
    )


def dependence(
    recording: Recording,
    resample: str = "auto",
    *,
    features: ArrayLike | Sequence[Callable[[Index], ArrayLike]] | None = None,
) -> Rows:
    """Say which rows of a recording are independent of each other.

    Parameters
    ----------
    recording : Recording
        Of trials with stimuli, not averaged.
    resample : str, default "auto"
        What is independent: ``"stimulus"``, ``"run"``, ``"session"``, another column of the trials,
        or ``"block:N"``, stretches of N trials within runs. ``"auto"`` takes runs where stimuli are
        conditions, the column ``block`` where there is one, stretches where `features` and
        responses both change slowly from trial to trial, and stimuli else; where the recording's
        ``info["order"]`` says that rows do not stand in the order of time, nothing is slow.
    features : array_like of shape (rows, n_features), or functions, optional
        What the stimulus of each of the first rows, at most `ROWS_LOOKED_AT`, looks like to a
        model, for ``"auto"``; or functions that give it for stimulus rows, one for each space that
        takes part, called only where the responses change slowly. The slowest space counts.

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
        If ``"auto"`` takes stretches of time.
    """
    if not isinstance(resample, str):
        raise InputError(
            "resample is 'auto', 'stimulus', a column of the trials or 'block:N'; got "
            f"{resample!r}."
        )
    shown = recording.stimulus_rows()
    rows = recording.rows
    because = "asked for"
    if resample == "auto":
        because = "stimuli in random order"
        resample = "stimulus"
        if recording.stimuli_are == "conditions" and "run" in rows:
            resample, because = "run", "stimuli are conditions"
        elif "block" in rows and not rows["block"].isna().any():
            resample, because = "block", "the trials have a column 'block'"
        elif features is not None and "order" not in recording.info:
            looks: Any = features if _are_functions(features) else [np.asarray(features)]
            length = _length(recording, shown, looks)
            if length > 1:
                resample = f"block:{length}"
                because = "features and responses change slowly"
                warnings.warn(_slow(recording, length), DependenceWarning, stacklevel=3)
    place = np.arange(len(shown))
    facts = {"independent": resample, "because": because}
    if resample == "stimulus":
        return Rows(shown, shown, place, facts=facts)
    stretch = re.fullmatch(r"block:(\d+)", resample)
    if stretch:
        if int(stretch[1]) < 1:
            raise InputError(f"resample={resample!r}: a block holds at least 1 trial.")
        runs, length = _runs(recording), int(stretch[1])
        blocks = time_blocks(runs, length).astype(np.int64)
        return Rows(shown, blocks, place, series=runs, reach=length, facts=facts)
    if resample not in rows:
        raise InputError(
            f"resample={resample!r} names no column of the trials, which are {list(rows.columns)}; "
            "it may also be 'auto', 'stimulus' or 'block:N'."
        )
    codes = _codes(recording, resample)
    if recording.stimuli_are == "conditions":
        # Which condition came when was drawn within the run, whatever else is grouped.
        strata = _codes(recording, "run") if "run" in rows else None
        return Rows(shown, codes, place, strata=strata, facts=facts)
    return Rows(shown, codes, place, blocks=codes, facts=facts)


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
    units = np.linspace(0, recording.responses.shape[1] - 1, _UNITS_LOOKED_AT).astype(int)
    responses = recording.responses.read(rows, np.unique(units)).reshape(len(rows), -1)
    of_responses = correlation_length(responses, runs[rows])
    if of_responses == 1:
        return 1
    of_features = 1
    for look in looks:
        if callable(look):
            distinct, item = np.unique(shown[rows], return_inverse=True)
            values = np.asarray(look(distinct))[item]
        else:
            values = look[: len(rows)]
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
