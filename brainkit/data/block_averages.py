"""From a BOLD series to trials: runs that are detrended and standardised, and means over events.

`clean_runs` takes slow drifts off each run and brings its units to one scale, by
`nilearn.signal.clean`. It looks at the volumes of the run itself, whichever part of a split they
come to, and at no label: what is decoded afterwards is transductive in the sense of
`Recording.zscore`, and the recording says so.

`average_events` makes a trial of each event: the mean of the volumes that lie in its window, which
begins and ends later than the event by a stated delay, as blood flow follows. It suits blocks, and
events so far apart that windows do not overlap; what overlaps takes a general linear model
(`nilearn.glm`).
"""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from brainkit.arrays.sources import Averaged, Index, Memory
from brainkit.data.recording import ROUNDING, Recording
from brainkit.data.responses import Responses
from brainkit.data.standardising import run_keys
from brainkit.errors import InputError, listed

FEWEST_VOLUMES = 3  # a line through two takes all that they say


def clean_runs(
    recording: Recording, *, detrend: bool = True, high_pass: float | None = None
) -> Recording:
    """Take slow drifts off each unit of each run, then its mean, and divide by its deviation.

    Parameters
    ----------
    recording : Recording
        A series of volumes, with a column `run` where there are several runs. It is read into
        memory.
    detrend : bool, default=True
        Take a straight line off each run.
    high_pass : float, optional
        Cut-off in hertz of a Butterworth filter, below which all is taken off.

    Returns
    -------
    Recording
        The same series; each unit of each run has mean 0 and deviation 1 (n - 1), and is 0 where
        it did not vary. ``info["zscore"]`` says that runs were standardised by themselves.

    Raises
    ------
    InputError
        If the recording is no series, a run has too few volumes, a value is not finite, or there
        is no such frequency.
    """
    from nilearn.signal import clean

    samples = _samples(recording)
    nyquist = None if recording.sfreq is None else recording.sfreq / 2
    if high_pass is not None and (nyquist is None or not 0 < high_pass < nyquist):
        limit = "unknown, as there is no sfreq" if nyquist is None else f"{nyquist:g} Hz"
        raise InputError(
            f"high_pass is a frequency in Hz above 0 and below half the sampling rate ({limit}); "
            f"got {high_pass!r}."
        )
    values = recording.responses.read()
    if not np.isfinite(values).all():
        unit = int(np.flatnonzero(~np.isfinite(values).all(axis=0))[0])
        raise InputError(
            f"Runs with NaN or infinite values cannot be cleaned; unit {unit} has some. Select the "
            "units that are finite first."
        )
    cleaned = np.empty_like(values)
    keys = _runs(samples)
    for run in pd.unique(keys):
        rows = np.flatnonzero(keys == run)
        if len(rows) < FEWEST_VOLUMES:
            raise InputError(
                f"The run {run} has {len(rows)} volumes; {FEWEST_VOLUMES} are needed to clean it."
            )
        part = values[rows].astype(np.float64)
        varies = np.ptp(part, axis=0) > 0
        cleaned[rows] = 0.0
        if varies.any():
            cleaned[np.ix_(rows, varies)] = clean(
                part[:, varies], detrend=detrend, standardize="zscore_sample",
                high_pass=high_pass, t_r=None if recording.sfreq is None else 1 / recording.sfreq,
            )  # fmt: skip
    record = {"by": "run", "transductive": True, "unseen": [str(run) for run in pd.unique(keys)]}
    facts: dict[str, Any] = {"by": "run", "detrend": detrend, "high_pass": high_pass}
    info = {**recording.info, "zscore": record, "cleaned": facts, "measure": "standard deviations"}
    return replace(recording, responses=Responses(Memory(cleaned)), info=info)


def average_events(
    recording: Recording,
    events: pd.DataFrame | None = None,
    *,
    delay: float = 5.0,
    duration: float | None = None,
    label: str = "trial_type",
) -> Recording:
    """Make a trial of each event: the mean of the volumes in its window, later by a delay.

    A volume at time t belongs to an event where
    ``onset + delay <= t < onset + duration + delay``.

    Parameters
    ----------
    recording : Recording
        A series, whose samples have times in seconds by the clock of their run.
    events : DataFrame, optional
        With `onset` and `duration` in seconds, a column of labels, and `run` where the series has
        several runs; the recording's events where not given. Events without a label are left out.
    delay : float, default=5.0
        Seconds by which the response follows, as the haemodynamic response peaks five to six
        seconds after what evokes it.
    duration : float, optional
        Length of every window in seconds; that of the events where not given.
    label : str, default="trial_type"
        Column of the events that names what happened.

    Returns
    -------
    Recording
        Trials in the order of the series, lazy, with `label`, `run` (and `session`), `trial`,
        `onset`, `duration` and `n_volumes`.

    Raises
    ------
    InputError
        If the recording is no series with times, a column is missing, or an event names no run of
        the series, lasts no time, has no volume in its window, or shares one with another event.
    """
    samples = _samples(recording)
    if "time" not in samples:
        raise InputError(
            "Events are found by time, and the samples have no column 'time' (seconds in the run)."
        )
    table = recording.events if events is None else events
    table = _checked_events(table, label, duration, several="run" in samples)
    if not np.isfinite(delay):
        raise InputError(f"delay is in seconds; got {delay!r}.")
    keys, times = _runs(samples), samples["time"].to_numpy(dtype=np.float64)
    event_keys = _runs(table) if "run" in table else pd.Series([keys.iloc[0]] * len(table))
    strange = sorted({str(key) for key in event_keys} - {str(key) for key in keys})
    if strange:
        raise InputError(f"Events name the runs {listed(strange)}, which the series lacks.")
    rows_of: list[Index] = []
    onsets, lengths = (table[name].to_numpy(dtype=np.float64) for name in ("onset", "duration"))
    for onset, length, key in zip(onsets, lengths, event_keys, strict=True):
        start = onset + delay - ROUNDING
        inside = (keys == key).to_numpy() & (times >= start) & (times < start + length)
        if not inside.any():
            raise InputError(
                f"No volume lies in the window of the event at {onset:g} s of run {key}, "
                f"{onset + delay:g} to {onset + delay + length:g} s. Is its onset by the run's "
                f"clock, and is delay={delay:g} in seconds?"
            )
        rows_of.append(np.flatnonzero(inside))
    order = np.argsort([rows[0] for rows in rows_of], kind="stable")
    _check_apart([rows_of[k] for k in order], table.iloc[order], delay)
    first = samples.iloc[[rows_of[k][0] for k in order]].reset_index(drop=True)
    table = table.iloc[order].reset_index(drop=True)
    trials = pd.DataFrame({"label": table[label].astype(str)})
    for name in ("session", "run"):
        if name in first:
            trials[name] = first[name]
    trials["trial"] = np.arange(len(trials))
    trials["onset"], trials["duration"] = table["onset"], table["duration"]
    trials["n_volumes"] = [len(rows_of[k]) for k in order]
    source = Averaged(recording.responses.source, [rows_of[k] for k in order])
    info = {**recording.info, "averaged": {"over": "events", "delay": float(delay)}}
    return Recording.from_source(
        source,
        subject=recording.subject,
        trials=trials,
        units=recording.units,
        space=recording.space,
        info=info,
    )


def _samples(recording: Recording) -> pd.DataFrame:
    """Return the table of a series; raises `InputError` where the recording is none."""
    if recording.samples is None:
        raise InputError(
            f"A series of volumes is needed (samples=, or tr= of Recording.from_nifti); "
            f"{recording.subject} has trials."
        )
    return recording.samples


def _runs(table: pd.DataFrame) -> pd.Series:
    """Return each row's run, the same for all where none are named."""
    return run_keys(table, "run") if "run" in table else pd.Series(np.ones(len(table), dtype=int))


def _checked_events(
    events: pd.DataFrame | None, label: str, duration: float | None, *, several: bool
) -> pd.DataFrame:
    """Return the events that have a label, with an onset and a duration each."""
    if not isinstance(events, pd.DataFrame):
        raise InputError(
            "Events are a table with onset, duration and trial_type: give events=, here or when "
            "the recording is made."
        )
    if duration is not None:
        events = events.assign(duration=float(duration))
    needed = ["onset", "duration", label, *(["run"] if several else [])]
    lacking = [name for name in needed if name not in events]
    if lacking:
        raise InputError(f"The events have no column {lacking[0]!r}; they have {list(events)}.")
    known = events[events[label].notna()].reset_index(drop=True)
    if not len(known):
        raise InputError(f"No event has a {label!r}.")
    for name in ("onset", "duration"):
        values = pd.to_numeric(known[name], errors="coerce").to_numpy(dtype=np.float64)
        known[name] = values
        wrong = ~np.isfinite(values) | ((values <= 0) if name == "duration" else False)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InputError(
                f"Event {row} has the {name} {values[row]:g}: a window needs an onset and a "
                "duration above 0, in seconds (duration= gives all the same)."
            )
    return known


def _check_apart(rows_of: list[Index], events: pd.DataFrame, delay: float) -> None:
    """Raise if two events' windows share a volume."""
    for number, (one, other) in enumerate(pairwise(rows_of)):
        if other[0] <= one[-1]:
            onsets = events["onset"].iloc[number : number + 2].to_numpy()
            raise InputError(
                f"The windows of the events at {onsets[0]:g} and {onsets[1]:g} s (delay "
                f"{delay:g} s) share a volume, whose response cannot be told apart by means: give "
                "shorter windows (duration=), or fit a general linear model (nilearn.glm)."
            )
