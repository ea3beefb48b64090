"""Designs: the features of every row of a recording, whatever the rows are.

A model is fitted to rows. What a row's features are depends on the recording: a trial shows a
stimulus; a sample of continuous data has a time, at which a sound was so loud or a word was heard.
A `Design` says it of all rows, and knows which run, session and time each belongs to. Three ways
lead to one:

- *through the stimulus* (`Design.from_stimuli`): rows that show one stimulus share its features,
  which are computed by a space that is fitted on what the training rows show;
- *through time* (`Design.from_time`): features with a clock of their own, run by run, resampled to
  the recording's samples behind an anti-alias filter;
- *through events* (`Design.from_events`): what happened when, as impulses or boxes.

Delays put what was shown before beside what is shown now, and never reach into another run.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from brainkit.arrays.sources import Index
from brainkit.data.dependence import Rows, dependence, shown_by, shows_stimuli
from brainkit.data.recording import Recording
from brainkit.data.stimuli import Stimuli
from brainkit.errors import InputError
from brainkit.features.delay_transformer import Delays
from brainkit.features.feature_spaces import as_features, read_for
from brainkit.features.time_alignment import (
    Clock,
    event_features,
    event_weights,
    feature_table,
    known_rows,
    resample,
    usual_step,
)

Float = NDArray[np.float32]
Table = tuple[Any, Any, Any]  # a fitted space; features of training and of test items


@dataclass(frozen=True, eq=False)
class Design(ABC):
    """What a model sees for each row of a recording.

    Make one with `from_stimuli`, `from_rows`, `from_time` or `from_events`.

    Attributes
    ----------
    shown : array of int (rows,)
        What each row shows: a row of the stimuli, or its own number. Rows that show the same have
        the same features; null runs exchange it.
    runs, sessions : array (rows,) or None
        Run and session of each row; runs of different sessions are different runs.
    times : float array (rows,) or None
        Seconds from the beginning of the run.
    bands : dict of str to int
        Number of features of each feature space, in the order of their columns, delays not
        counted; of stimuli it is known once a stack of spaces is fitted.
    facts : dict
        How the features were aligned: resampling and its filter, delays.
    """

    shown: Index
    runs: NDArray[Any] | None = None
    sessions: NDArray[Any] | None = None
    times: NDArray[np.float64] | None = None
    bands: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    # -- making one --------------------------------------------------------------------------

    @staticmethod
    def from_stimuli(
        recording: Recording, space: Any, *, beside: ArrayLike | None = None
    ) -> "Design":
        """Take the features of the stimulus that each trial shows.

        Parameters
        ----------
        recording : Recording
            Trials with stimuli.
        space : transformer, or array or DataFrame (stimulus, feature)
            From stimuli to features; a clone is fitted on what the training rows show. Features
            that are ready, see `Precomputed`.
        beside : array of int, optional
            Stimuli that the space is fitted on too, such as those that other people were shown;
            never on one that a fold tests.

        Raises
        ------
        InputError
            If the recording has no stimuli, or a trial shows none.
        """
        if recording.stimuli is None:
            raise InputError(
                "An encoding model needs stimuli; this recording has none. Give its stimuli, or "
                "features of its rows: an array with one row for each, or a Design."
            )
        shown = recording.stimulus_rows()
        return _OfStimuli(
            shown, **known_rows(recording), space=as_features(space), stimuli=recording.stimuli,
            beside=None if beside is None else np.unique(np.asarray(beside)),
        )  # fmt: skip

    @staticmethod
    def from_rows(
        recording: Recording,
        features: ArrayLike | pd.DataFrame | Mapping[str, ArrayLike],
    ) -> "Design":
        """Take features that are ready, one row for each row of the recording.

        Parameters
        ----------
        recording : Recording
        features : array or DataFrame (rows, features), or mapping of str to such
            Of a mapping each value is a feature space (a band).

        Raises
        ------
        InputError
            If they have another number of rows, or are no finite numbers.
        """
        bands = features if isinstance(features, Mapping) else {"features": features}
        tables = {str(name): feature_table(values, str(name)) for name, values in bands.items()}
        n_rows = len(recording.rows)
        what = "samples" if recording.samples is not None else "trials"
        for name, values in tables.items():
            if len(values) != n_rows:
                raise InputError(
                    f"{name!r} has {len(values)} rows and {recording.subject} has {n_rows} {what}: "
                    "give one row for each. Features on a clock of their own are brought to the "
                    "recording's by Design.from_time(recording, features, sfreq=...)."
                )
        return _of_rows(recording, tables, {"aligned": "row by row"})

    @staticmethod
    def from_time(
        recording: Recording,
        features: ArrayLike | Mapping[str, ArrayLike],
        *,
        sfreq: float | None = None,
        times: ArrayLike | None = None,
        runs: ArrayLike | None = None,
    ) -> "Design":
        """Take features of continuous time, resampled to the recording's samples run by run.

        Parameters
        ----------
        recording : Recording
            Continuous: (sample, unit).
        features : array (moments, features), or mapping of str to such
            In the order of time within each run. Of a mapping each value is a band; all have the
            same clock.
        sfreq : float, optional
            Moments a second, the first of each run at 0 seconds of the recording's run.
        times : array (moments,), optional
            Instead of `sfreq`: seconds of each moment by the recording's clock, evenly apart
            within a run.
        runs : array (moments,), optional
            Run of each moment, named as the recording names its runs; one run where not given.

        Raises
        ------
        InputError
            If the recording is not continuous, neither or both clocks are given, a run of the
            recording has no features, or its samples lie outside of them.
        """
        if recording.samples is None:
            raise InputError(
                f"{recording.subject} has trials; features of time are for continuous data "
                "(sample, unit). Use Design.from_stimuli, or from_rows with one row a trial."
            )
        bands = features if isinstance(features, Mapping) else {"features": features}
        tables = {str(name): feature_table(values, str(name)) for name, values in bands.items()}
        lengths = {len(values) for values in tables.values()}
        if len(lengths) != 1:
            raise InputError(f"Bands of one clock have one number of moments; got {lengths}.")
        clock = Clock.of(recording, lengths.pop(), sfreq, times, runs)
        aligned = {name: np.empty((len(recording.rows), v.shape[1]), np.float32)
                   for name, v in tables.items()}  # fmt: skip
        facts: dict[str, Any] = {"aligned": "through time"}
        for rows, moments in clock.pairs():
            for name, values in tables.items():
                aligned[name][rows], filter_facts = resample(
                    values[moments], clock.given[moments], clock.wanted[rows]
                )
                facts |= filter_facts
        return _of_rows(recording, aligned, facts)

    @staticmethod
    def from_events(
        recording: Recording,
        columns: str | Sequence[str] | None = None,
        *,
        events: pd.DataFrame | None = None,
        values: ArrayLike | None = None,
        boxes: bool = True,
    ) -> "Design":
        """Take what happened when, as a feature for each column, or for each value of one.

        Parameters
        ----------
        recording : Recording
            Continuous: (sample, unit).
        columns : str or sequence of str, optional
            Columns of the events. Numbers are how much happened; of a column of labels each label
            is a feature of its own, 1 where it happened. One feature, 1, where not given.
        events : DataFrame, optional
            With ``onset`` (seconds by the recording's clock), ``duration`` where they last, and
            ``run`` where several runs have the same times. The recording's events where not given.
        values : array (event, feature), optional
            More features of the events, such as the embedding of a word.
        boxes : bool, default=True
            An event that lasts counts in each sample by the share of the sample's interval that it
            fills; False, and without a duration, it is an impulse at the sample nearest its onset.

        Raises
        ------
        InputError
            If there are no events, a column is missing, or an event lies outside the recording.
        """
        table = recording.events if events is None else events
        if recording.samples is None or table is None or not len(table):
            raise InputError(
                f"{recording.subject} has no events of continuous data to take features from: give "
                "events= with the columns onset and duration."
            )
        table = table.reset_index(drop=True)
        amounts = event_features(table, columns, values)
        weights = event_weights(recording, table, boxes)
        tables = {name: np.asarray(weights @ part, dtype=np.float32)
                for name, part in amounts.items()}  # fmt: skip
        facts = {"aligned": "through events", "events": len(table), "boxes": boxes}
        return _of_rows(recording, tables, facts)

    @staticmethod
    def stack(designs: "Mapping[str, Design]") -> "Design":
        """Put designs of the same rows side by side, each a band (or several of its own).

        Raises
        ------
        InputError
            If there is none, one is of stimuli (stack spaces with `FeatureStack` there), or their
            rows or delays differ.
        """
        if not designs:
            raise InputError("Nothing to stack: give at least one design.")
        first, *others = designs.values()
        return first._beside(others, list(designs))

    # -- using it ----------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.shown)

    @property
    def groups(self) -> Index:
        """Which rows have the same features and stay on one side of a fold."""
        return self.shown

    @abstractmethod
    def table(self, train: ArrayLike, test: ArrayLike) -> Table:
        """Return a space fitted on training items, and the features of both parts' items.

        Parameters
        ----------
        train, test : array of int
            Values of `shown`, each once, ascending.

        Returns
        -------
        space : transformer
            With ``widths_`` where there are several bands.
        train_features, test_features : arrays (items, features)
        """

    @abstractmethod
    def look(self, items: ArrayLike, train: ArrayLike) -> Any:
        """Return what items look like to a model, to tell how slowly that changes."""

    def delayed(self, delays: Sequence[int]) -> "Design":
        """Put delayed copies of the features side by side, never across runs.

        Parameters
        ----------
        delays : sequence of int
            In samples; with a delay d, row t holds the features of row t − d of its run, 0 where
            there is none. Negative ones look ahead.
        """
        raise InputError(
            "Features of stimuli have no time within a trial, so that they cannot be delayed: take "
            "features of time or events (Design.from_time, from_events)."
        )

    def window(self, start: float, stop: float) -> "Design":
        """Put copies side by side that are from `start` to `stop` seconds late, both included.

        Negative seconds look ahead.
        """
        if self.times is None:
            raise InputError("This design knows no times of its rows; say delays in rows: delayed.")
        if stop < start:
            raise InputError(f"A window goes from start to stop; got {start} to {stop} seconds.")
        step = usual_step(self.times, self.runs)
        return self.delayed(range(round(start / step), round(stop / step) + 1))

    def fits(self, recording: Recording) -> Self:
        """Return the design, once it is seen to be of so many rows.

        Raises
        ------
        InputError
            If the recording has another number of rows.
        """
        if len(self) != len(recording.rows):
            raise InputError(
                f"The design has {len(self)} rows and {recording.subject} has "
                f"{len(recording.rows)}: make it of this recording."
            )
        return self

    def _beside(self, others: "Sequence[Design]", names: Sequence[str]) -> "Design":
        raise InputError(
            "Feature spaces of stimuli are stacked before they are a design: "
            "Design.from_stimuli(recording, FeatureStack([...]))."
        )


@dataclass(frozen=True, eq=False)
class _OfStimuli(Design):
    """Features of what trials show, computed when they are asked for."""

    space: Any = None
    stimuli: Stimuli | None = None
    beside: Index | None = None

    def table(self, train: ArrayLike, test: ArrayLike) -> Table:
        space, stimuli = clone(self.space), self.stimuli
        assert stimuli is not None  # or it would not be one
        if self.beside is None:
            fitted = space.fit_transform(read_for(space, stimuli, train))
        else:
            everything = np.union1d(train, np.setdiff1d(self.beside, test))
            space.fit(read_for(space, stimuli, everything))
            fitted = space.transform(read_for(space, stimuli, train))
        return space, fitted, space.transform(read_for(space, stimuli, test))

    def look(self, items: ArrayLike, train: ArrayLike) -> Any:
        space, stimuli = clone(self.space), self.stimuli
        assert stimuli is not None
        space.fit(read_for(space, stimuli, train))
        return np.asarray(space.transform(read_for(space, stimuli, items)))


@dataclass(frozen=True, eq=False)
class _OfRows(Design):
    """Features of the rows themselves."""

    values: Float = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32))
    delays: tuple[int, ...] = (0,)

    @cached_property
    def _delays(self) -> Delays:
        """The delays, fitted with the runs of these rows."""
        delays = Delays(self.delays, bands=tuple(self.bands.values()))
        return delays.fit(self.values, runs=self.runs, times=self.times)

    @cached_property
    def _all(self) -> NDArray[Any]:
        if self.delays == (0,):
            return self.values
        return self._delays.transform(self.values, runs=self.runs, times=self.times)

    def table(self, train: ArrayLike, test: ArrayLike) -> Table:
        return self._delays, self._all[np.asarray(train)], self._all[np.asarray(test)]

    def look(self, items: ArrayLike, train: ArrayLike) -> Any:
        return self.values[np.asarray(items)]

    def delayed(self, delays: Sequence[int]) -> Design:
        """Put delayed copies of the features side by side, see `Design.delayed`."""
        if self.delays != (0,):
            raise InputError(f"This design is delayed already, by {list(self.delays)} rows.")
        shifts = tuple(int(shift) for shift in delays)
        design = replace(self, delays=shifts, facts={**self.facts, "delays": list(shifts)})
        _ = design._delays  # checks them
        return design

    def _beside(self, others: Sequence[Design], names: Sequence[str]) -> Design:
        parts = [self, *others]
        kinds = {getattr(part, "delays", None) for part in parts}
        if len(kinds) > 1 or any(not np.array_equal(p.shown, self.shown) for p in parts):
            raise InputError(
                f"Designs are stacked that are of the same rows and have the same delays; got "
                f"{[len(part) for part in parts]} rows and the delays {kinds}."
            )
        bands = {
            name if len(part.bands) == 1 else f"{name}.{band}": width
            for name, part in zip(names, parts, strict=True)
            for band, width in part.bands.items()
        }
        values = np.concatenate([getattr(part, "values") for part in parts], axis=1)  # noqa: B009
        return replace(self, values=values, bands=bands)


def as_design(recording: Recording, features: Any) -> Design:
    """Return what `assess_encoder` was given as the features of the recording's rows.

    Parameters
    ----------
    recording : Recording
    features : Design, transformer, array, DataFrame, or mapping of str to array
        A design as it is. With stimuli, a space or a table with a row a stimulus; without, and of
        continuous data, a table with a row a row, or a mapping of several such.

    Raises
    ------
    InputError
        If they do not fit the recording.
    """
    if hasattr(features, "fits") and hasattr(features, "look"):
        design: Design = features.fits(recording)
        return design
    space = hasattr(features, "fit") and not isinstance(features, type)
    if shows_stimuli(recording) or space:
        if isinstance(features, Mapping):
            raise InputError(
                "Several feature spaces of stimuli are given as one: FeatureStack([...])."
            )
        return Design.from_stimuli(recording, features)
    return Design.from_rows(recording, features)


def independent_rows(
    recording: Recording,
    protocol: Any,
    designs: Sequence[Design],
    *,
    among: ArrayLike | None = None,
) -> Rows:
    """Say which rows of a recording are independent, looking at what models see where needed.

    Parameters
    ----------
    recording : Recording
    protocol : object
        With ``split``, ``resample``, and ``seeds`` or ``seed``.
    designs : sequence of Design
        All that take part; they show the same.
    among : array of int, optional
        What designs may be asked for, such as the stimuli that are used at all; other rows count
        as average ones. All where not given.
    """
    shown = designs[0].shown
    seed = protocol.seeds[0] if hasattr(protocol, "seeds") else protocol.seed

    def look(design: Design, items: ArrayLike) -> Any:
        asked = np.asarray(items)
        fold = recording.split(protocol.split, seed=seed).folds[0]
        train = np.unique(shown[fold.rows["train"]])
        if among is None:
            return design.look(asked, train)
        inside = np.isin(asked, among)
        if not inside.any():
            return np.zeros((len(asked), 1))  # nothing is known to be slow
        seen = np.asarray(design.look(asked[inside], np.intersect1d(train, among)))
        values = np.repeat(seen.mean(axis=0, keepdims=True), len(asked), axis=0)
        values[inside] = seen
        return values

    looks = [partial(look, one) for one in designs]
    features = looks if protocol.resample == "auto" else None
    other_shown = None if np.array_equal(shown, shown_by(recording)) else shown
    return dependence(recording, protocol.resample, features=features, shown=other_shown)


def _of_rows(recording: Recording, tables: Mapping[str, Float], facts: Mapping[str, Any]) -> Design:
    values = np.concatenate([*tables.values()], axis=1)
    return _OfRows(
        np.arange(len(recording.rows), dtype=np.int64),
        **known_rows(recording),
        bands={name: part.shape[1] for name, part in tables.items()},
        facts=dict(facts),
        values=values,
    )
