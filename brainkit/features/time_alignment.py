r"""Rows of a recording in time: their clocks, features resampled to them, and what events fill.

**Resampling.** Features at times :math:`t_k`, every :math:`1/f` seconds, are taken at a time t as

.. math:: x(t) = \frac{\sum_k h(t - t_k) x_k}{\sum_k h(t - t_k)}, \qquad
    h(s) = \operatorname{sinc}(2 f_c s) \, w(s),

a low-pass filter of finite length with cut-off :math:`f_c`, half the lower of the two rates
(Crochiere and Rabiner, 1983, Multirate Digital Signal Processing): what the recording is too slow
to follow is taken away before it can pass for something slower. w is Kaiser's window. The sum in
the denominator keeps constants constant, up to the ends of a run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.sources import Index
from brainkit.data.recording import Recording
from brainkit.data.standardising import run_keys
from brainkit.errors import InputError, listed
from brainkit.features.reduction import feature_array

Float = NDArray[np.float32]
KAISER, CROSSINGS = 6.0, 16  # shape of the filter's window, and its half length in zero crossings
# Of a step between samples: by how much clocks may differ, and jitter, and still be the same.
SAME_CLOCK, JITTER = 0.01, 0.1


# ------------------------------------------------------------------------------- what rows are


def known_rows(recording: Recording) -> dict[str, Any]:
    """Return the runs, sessions and times of a recording's rows, as far as they are known."""
    rows = recording.rows

    def column(name: str) -> NDArray[Any] | None:
        there = name in rows and not rows[name].isna().any()
        return run_keys(rows, name).to_numpy() if there else None

    runs, sessions = column("run"), column("session")
    if sessions is None and runs is not None and "session" in rows:
        runs = rows["run"].to_numpy()
    times = rows["time"].to_numpy(dtype=np.float64) if "time" in rows else None
    if times is None and recording.samples is not None and recording.sfreq:
        times = _since_start(runs, len(rows)) / recording.sfreq
    return {"runs": runs, "sessions": sessions, "times": times}


def _since_start(runs: NDArray[Any] | None, n_rows: int) -> NDArray[np.float64]:
    """Return how many rows after the first of its run each one is."""
    numbers = np.arange(n_rows, dtype=np.float64)
    if runs is None:
        return numbers
    codes, _ = pd.factorize(runs)
    first = np.full(codes.max() + 1, n_rows)
    np.minimum.at(first, codes, np.arange(n_rows))
    return numbers - first[codes]


def feature_table(values: Any, name: str) -> Float:
    """Return features as finite numbers (n, features) in single precision."""
    given = values if hasattr(values, "shape") else np.asarray(values)
    if getattr(given, "ndim", 0) == 1 or len(getattr(given, "shape", ())) == 1:
        given = np.asarray(given)[:, None]
    with np.errstate(over="ignore"):
        array = np.asarray(feature_array(given), dtype=np.float32)
    array = array.reshape(len(array), -1)
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise InputError(
            f"Features are finite numbers; {name!r} holds NaN, infinity, or what exceeds single "
            f"precision, first in row {row}."
        )
    return array


# ---------------------------------------------------------------------------------------- time


def usual_step(times: NDArray[np.float64], runs: NDArray[Any] | None) -> float:
    """Return the seconds between neighbouring rows of a run."""
    steps = np.diff(times)
    if runs is not None:
        steps = steps[runs[1:] == runs[:-1]]
    if not len(steps) or np.median(steps) <= 0:
        raise InputError("No two rows of a run follow each other in time; times must rise.")
    return float(np.median(steps))


@dataclass(frozen=True)
class Clock:
    """Times of a recording's samples and of features, and which run each lies in."""

    wanted: NDArray[np.float64]
    given: NDArray[np.float64]
    runs: NDArray[Any]
    runs_given: NDArray[Any]

    @classmethod
    def of(
        cls, recording: Recording, n: int, sfreq: float | None, times: Any, runs: Any
    ) -> "Clock":
        """Return the clocks of a recording and of `n` moments, see `Design.from_time`.

        Raises
        ------
        InputError
            If a clock is not known, or told twice, or does not fit.
        """
        known = known_rows(recording)
        if known["times"] is None:
            raise InputError(
                f"{recording.subject} knows no times: its samples need a column 'time' in seconds, "
                "or the recording a sampling rate (sfreq=)."
            )
        if (sfreq is None) == (times is None):
            raise InputError(
                "Features have one clock: give sfreq= (moments a second) or times= (seconds of "
                "each moment)."
            )
        row_runs = np.zeros(len(recording.rows)) if known["runs"] is None else known["runs"]
        if runs is None and len(pd.unique(row_runs)) > 1:
            raise InputError(
                f"{recording.subject} has the runs {listed(pd.unique(row_runs))}, and the features "
                "come without: say the run of each moment (runs=)."
            )
        theirs = (
            np.full(n, row_runs[0] if len(row_runs) else 0) if runs is None else np.asarray(runs)
        )
        if theirs.shape != (n,):
            raise InputError(f"runs has shape {theirs.shape}; there are {n} moments.")
        if sfreq is not None and not (np.isfinite(sfreq) and sfreq > 0):
            raise InputError(f"sfreq is moments a second, above 0; got {sfreq}.")
        if sfreq is not None:
            seconds = _since_start(theirs, n) / sfreq
        else:
            seconds = np.asarray(times, dtype=np.float64)
        if seconds.shape != (n,) or not np.isfinite(seconds).all():
            raise InputError(f"times must be {n} finite seconds; got shape {seconds.shape}.")
        return cls(known["times"], seconds, row_runs, theirs)

    def pairs(self) -> "list[tuple[Index, Index]]":
        """Return the rows and the moments of each run."""
        pairs = []
        for run in pd.unique(self.runs):
            rows = np.flatnonzero(self.runs == run)
            moments = np.flatnonzero(self.runs_given == run)
            if len(moments) < 2:
                raise InputError(
                    f"The features have {len(moments)} moments in run {run} of the recording; "
                    f"they name the runs {listed(pd.unique(self.runs_given))}."
                )
            pairs.append((rows, moments))
        return pairs


def resample(
    values: ArrayLike, times: ArrayLike, wanted: ArrayLike
) -> tuple[Float, dict[str, Any]]:
    """Take features at other times, behind a low-pass filter where these are further apart.

    The equation is that of this module.

    Parameters
    ----------
    values : array (moments, features)
    times : array (moments,)
        Seconds, evenly apart.
    wanted : array (rows,)
        Seconds, in rising order; neighbours usually evenly apart.

    Returns
    -------
    features : float32 array (rows, features)
    facts : dict
        ``filter``: what was done, in words; ``rates``: moments a second before and after.

    Raises
    ------
    InputError
        If times are not evenly apart, or a wanted time is more than half a step outside of them.
    """
    from scipy.sparse import csr_array

    x = np.asarray(values)
    t, at = np.asarray(times, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    step = _even_step(t)
    step_wanted = float(np.median(np.diff(at))) if len(at) > 1 else step
    _check_inside(t, at, step)
    place = (at - t[0]) / step
    rates = [1 / step, 1 / step_wanted]
    nearest = np.rint(place)
    if np.abs(place - nearest).max() <= SAME_CLOCK and step_wanted <= (1 + SAME_CLOCK) * step:
        rows = np.clip(nearest.astype(np.int64), 0, len(t) - 1)
        return np.array(x[rows], dtype=np.float32), {"filter": "none", "rates": rates}
    cutoff = min(1.0, step / step_wanted)  # of half the features' own rate
    half = int(np.ceil(CROSSINGS / cutoff))
    reach = np.arange(-half, half + 1)
    columns = np.rint(place).astype(np.int64)[:, None] + reach  # (rows, 2 half + 1)
    apart = place[:, None] - columns
    inside = (columns >= 0) & (columns < len(t)) & (np.abs(apart) <= half)
    shape = np.sqrt(np.clip(1 - (apart / half) ** 2, 0, None))
    weights = np.sinc(cutoff * apart) * np.i0(KAISER * shape) / np.i0(KAISER) * inside
    weights /= weights.sum(axis=1, keepdims=True)
    row = np.broadcast_to(np.arange(len(at))[:, None], columns.shape)
    taps = csr_array((weights[inside], (row[inside], columns[inside])), shape=(len(at), len(t)))
    facts = (
        f"windowed sinc, Kaiser {KAISER:g}, {CROSSINGS} zero crossings a side, cut-off "
        f"{cutoff / (2 * step):.6g} Hz"
    )
    return np.asarray(taps @ x, dtype=np.float32), {"filter": facts, "rates": rates}


def _even_step(times: NDArray[np.float64]) -> float:
    """Return the step of times that are evenly apart."""
    steps = np.diff(times)
    step = float((times[-1] - times[0]) / max(len(steps), 1)) if len(times) > 1 else 0.0
    if step <= 0 or np.abs(steps - step).max() > JITTER * step:
        raise InputError(
            "Features that are resampled are evenly apart in time within a run; theirs are "
            f"{steps.min() if len(steps) else 0:.4g} to {steps.max() if len(steps) else 0:.4g} "
            "seconds apart. Give moments in order and without holes, or take them as events "
            "(Design.from_events)."
        )
    return step


def _check_inside(times: NDArray[np.float64], wanted: NDArray[np.float64], step: float) -> None:
    outside = (wanted < times[0] - step / 2) | (wanted > times[-1] + step / 2)
    if outside.any():
        raise InputError(
            f"{int(outside.sum())} of {len(wanted)} samples lie outside the features' time, which "
            f"is {times[0]:.4g} to {times[-1]:.4g} s; the samples' is {wanted.min():.4g} to "
            f"{wanted.max():.4g} s. Are both clocks in seconds from the same moment? Select the "
            "samples that have features, or say times=."
        )


# -------------------------------------------------------------------------------------- events


def event_features(
    events: pd.DataFrame, columns: str | Sequence[str] | None, values: ArrayLike | None
) -> dict[str, NDArray[np.float64]]:
    """Return what each event amounts to, (events, features), by band."""
    names = [columns] if isinstance(columns, str) else list(columns or ())
    lacking = [name for name in names if name not in events]
    if lacking:
        raise InputError(f"The events have no column {lacking[0]!r}; they have {list(events)}.")
    features: dict[str, NDArray[np.float64]] = {}
    for name in names:
        column = events[name]
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            features[name] = feature_table(column.to_numpy(dtype=np.float64), name).astype(
                np.float64
            )
        else:
            features[name] = pd.get_dummies(column.astype(str)).to_numpy(dtype=np.float64)
    if values is not None:
        amounts = feature_table(values, "values").astype(np.float64)
        if len(amounts) != len(events):
            raise InputError(f"values has {len(amounts)} rows; there are {len(events)} events.")
        features["values"] = amounts
    return features or {"events": np.ones((len(events), 1))}


def event_weights(recording: Recording, events: pd.DataFrame, boxes: bool) -> Any:
    """Return how much each event counts in each sample, a sparse (samples, events)."""
    from scipy.sparse import csr_array

    known = known_rows(recording)
    times, runs = known["times"], known["runs"]
    if times is None or "onset" not in events:
        raise InputError(
            "Events need a column 'onset' in seconds, and samples a column 'time' (or the "
            "recording a sampling rate, sfreq=)."
        )
    if runs is None:
        runs = np.zeros(len(times))
    step = usual_step(times, runs)
    onset = events["onset"].to_numpy(dtype=np.float64)
    lasts = events["duration"].fillna(0.0).to_numpy(dtype=np.float64) if (
        boxes and "duration" in events) else np.zeros(len(events))  # fmt: skip
    rows, numbers, weights = [], [], []
    placed = np.zeros(len(events), dtype=bool)
    for run, mine in _events_of_runs(events, onset, times, runs, step):
        here = np.flatnonzero(runs == run)
        run_times = times[here]
        for number in mine:
            if not run_times[0] - step / 2 <= onset[number] <= run_times[-1] + step / 2:
                continue
            placed[number] = True
            # Share of each sample's interval that the event fills.
            low = np.maximum(run_times - step / 2, onset[number])
            high = np.minimum(run_times + step / 2, onset[number] + lasts[number])
            share = np.clip((high - low) / step, 0, None)
            inside = np.flatnonzero(share > 0)
            if not len(inside) or lasts[number] <= 0:
                inside, share = (
                    np.array([np.abs(run_times - onset[number]).argmin()]),
                    np.ones(len(run_times)),
                )
            rows.append(here[inside])
            numbers.append(np.full(len(inside), number))
            weights.append(share[inside])
    if not placed.all():
        lost = np.flatnonzero(~placed)
        raise InputError(
            f"{len(lost)} of {len(events)} events lie outside the recording, whose samples are "
            f"from {times.min():.4g} to {times.max():.4g} s; the first of them are numbers "
            f"{listed(lost, 5)}, at {listed([f'{onset[n]:.4g}' for n in lost], 5)} s. Are onsets "
            "in seconds (not samples), by the recording's clock? Leave them out if they are meant "
            "to be."
        )
    return csr_array(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(numbers))),
        shape=(len(times), len(events)),
    )


def _events_of_runs(
    events: pd.DataFrame,
    onset: NDArray[np.float64],
    times: NDArray[np.float64],
    runs: NDArray[Any],
    step: float,
) -> list[tuple[Any, Index]]:
    """Return the events of each run: those that name it, or that lie in its time."""
    names = pd.unique(runs)
    if "run" in events:
        keys = run_keys(events, "run").to_numpy()
        unknown = sorted({str(one) for one in keys} - {str(one) for one in names})
        if unknown:
            raise InputError(
                f"Events name the runs {listed(unknown)}; the recording has {listed(names)}."
            )
        return [(run, np.flatnonzero(keys == run)) for run in names]
    spans = [(times[runs == run].min(), times[runs == run].max()) for run in names]
    order = np.argsort([low for low, _ in spans])
    for one, other in pairwise(order):
        if spans[other][0] < spans[one][1]:
            raise InputError(
                f"The runs {listed(names)} have the same times, so that events need a column 'run' "
                "that says in which they were."
            )
    return [
        (run, np.flatnonzero((onset >= low - step / 2) & (onset <= high + step / 2)))
        for run, (low, high) in zip(names, spans, strict=True)
    ]
