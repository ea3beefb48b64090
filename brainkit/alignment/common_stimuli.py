"""Which rows of several people's recordings are of the same stimulus, and who must not be seen.

A stimulus is the same for two people if its content is. Where people's stimuli are rows of one
source (the file of images that all of them saw), its rows tell; where they are not, the content of
each is compared by its digest. Recordings without stimuli name rows of a list that is not there,
taken to be one for all. Of continuous recordings the common stimulus is the clock: the same time
of the same run.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.arrays.digest import content_digest
from brainkit.arrays.sources import Averaged, Float
from brainkit.data.recording import Recording
from brainkit.data.standardising import run_keys
from brainkit.data.stimuli import Stimuli
from brainkit.errors import InputError, LeakError, listed

Keys = NDArray[np.str_]  # one a row of a recording
Recordings = Mapping[str, Recording] | Sequence[Recording] | Recording
AT_ONCE = 64  # stimuli that are read to tell their content


def as_recordings(given: Any, what: str = "recordings") -> list[Recording]:
    """Return recordings as a list, one a person.

    Raises
    ------
    InputError
        If there are none, something else is among them, or two are of one person.
    """
    if hasattr(given, "responses"):
        given = [given]
    held = list(given.values()) if hasattr(given, "values") else given
    if isinstance(held, str) or not isinstance(held, Iterable):
        raise InputError(f"{what} must be Recordings, one a person; got {held!r}.")
    people = list(held)
    wrong = [type(one).__name__ for one in people if not hasattr(one, "responses")]
    if wrong or not people:
        told = f"a {wrong[0]} among them" if wrong else "none"
        raise InputError(f"{what} must be Recordings, one a person; got {told}.")
    names = pd.Series([one.subject for one in people])
    if names.duplicated().any():
        raise InputError(
            f"{what} hold several of {listed(names[names.duplicated()].unique())}: give one "
            "Recording a person; of several sessions, readers make one."
        )
    return people


def row_keys(recordings: Sequence[Recording]) -> list[Keys]:
    """Name what each row of each recording is of; equal names are the same stimulus.

    Raises
    ------
    InputError
        If some recordings are continuous and others are not, some have stimuli and others do not,
        or rows name neither a stimulus nor a time.
    """
    in_time = {recording.samples is not None for recording in recordings}
    if len(in_time) > 1:
        raise InputError(
            "Some recordings are continuous and others are trials: what they have in common "
            "cannot be told. Cut the continuous ones into trials."
        )
    if in_time == {True}:
        return [_times(recording) for recording in recordings]
    rows = [recording.stimulus_rows() for recording in recordings]
    if all(recording.stimuli is None for recording in recordings):
        return [_numbered(part) for part in rows]
    sets = [_stimuli_of(recording) for recording in recordings]
    origins = [_origin(stimuli) for stimuli in sets]
    if all(_same_source(origins[0][0], source) for source, _ in origins[1:]):
        return [_numbered(of[part]) for (_, of), part in zip(origins, rows, strict=True)]
    return [_digests(stimuli, part) for stimuli, part in zip(sets, rows, strict=True)]


def lasting_keys(recording: Recording, rows: NDArray[np.int64] | None = None) -> Keys:
    """Name what rows are of by names that hold for recordings which are not here yet.

    Parameters
    ----------
    recording : Recording
    rows : array of int, optional
        Of the recording; all where not given. Their stimuli are read.
    """
    chosen = recording if rows is None else recording.select(trials=rows)
    if recording.samples is not None:
        return _times(chosen)
    shown = chosen.stimulus_rows()
    return _numbered(shown) if recording.stimuli is None else _digests(recording.stimuli, shown)


def _numbered(rows: NDArray[np.int64]) -> Keys:
    return np.char.add("stimulus ", rows.astype(str)) if len(rows) else np.empty(0, dtype=str)


def _times(recording: Recording) -> Keys:
    samples = recording.rows
    lacking = [name for name in ("run", "time") if name not in samples]
    if lacking:
        raise InputError(
            f"The samples of {recording.subject!r} have no column {listed(lacking)}: the clock "
            "that continuous recordings have in common is 'run' and 'time' in seconds."
        )
    runs = run_keys(samples, "run") if "session" in samples else samples["run"]
    pairs = zip(runs, samples["time"].astype(float), strict=True)
    return np.array([f"run {run}, {time:.4f} s" for run, time in pairs], dtype=str)


def _stimuli_of(recording: Recording) -> Stimuli:
    if recording.stimuli is None:
        raise InputError(
            f"The recording of {recording.subject!r} has no stimuli, and others have: what they "
            "have in common is told by the stimuli's content. Make it with stimuli=."
        )
    return recording.stimuli


def _origin(stimuli: Stimuli) -> tuple[Any, NDArray[np.int64]]:
    """Return the source that stimuli were selected from, and the row there of each."""
    source: Any = stimuli.source
    rows = np.arange(len(stimuli))
    while hasattr(source, "source") and hasattr(source, "rows"):
        rows, source = source.rows[rows], source.source
    return source, rows


def _same_source(one: Any, other: Any) -> bool:
    held = getattr(one, "array", None)
    return bool(
        one is other or one == other or (held is not None and held is getattr(other, "array", None))
    )


def _digests(stimuli: Stimuli, shown: NDArray[np.int64]) -> Keys:
    unique, place = np.unique(shown, return_inverse=True)
    names: list[str] = []
    for start in range(0, len(unique), AT_ONCE):
        names += [content_digest(one) for one in stimuli.read(unique[start : start + AT_ONCE])]
    return np.array(names, dtype=str)[place]


# -- responses to the same stimuli ------------------------------------------------------------


@dataclass(frozen=True)
class Person:
    """One person's responses to some stimuli, repeats averaged.

    Attributes
    ----------
    recording : Recording
        Where they are from.
    values : float32 array (sample, unit)
        A sample a stimulus; a stimulus and time point where trials have a time course.
    shown : array of int or None
        The row of the person's stimuli that each sample is of, of continuous recordings the sample;
        None where it is not known.
    """

    recording: Recording
    values: Float
    shown: NDArray[np.int64] | None = None

    @property
    def subject(self) -> str:
        """The person's name."""
        return self.recording.subject


def average(recording: Recording, keys: NDArray[Any], wanted: NDArray[Any]) -> Person:
    """Return a person's mean response to each of some stimuli, in their order.

    Every stimulus counts once, however often this person saw it.

    Raises
    ------
    InputError
        If a response is NaN or infinite.
    """
    order = np.argsort(keys, kind="stable")
    first = np.searchsorted(keys[order], wanted, side="left")
    last = np.searchsorted(keys[order], wanted, side="right")
    groups = [order[a:b] for a, b in zip(first, last, strict=True)]
    source = recording.responses.source
    if all(len(group) == 1 for group in groups):
        rows = np.concatenate(groups)
        as_they_stand = np.array_equal(rows, np.arange(source.shape[0]))
        return _finite(recording, source.read(None if as_they_stand else rows))
    return _finite(recording, Averaged(source, groups).read())


def _finite(recording: Recording, values: Float) -> Person:
    usable = np.isfinite(values).reshape(*values.shape[:2], -1)
    broken = np.asarray(~usable.all(axis=(0, 2)))
    if broken.any():
        raise InputError(
            f"{int(broken.sum())} of {len(broken)} units of {recording.subject!r} hold NaN or "
            f"infinity, the first of them unit {int(broken.argmax())}. A constant unit becomes NaN "
            "when it is z-scored: leave such units out with recording.select(units=...)."
        )
    if values.ndim == 3:
        values = np.moveaxis(values, 1, 2).reshape(-1, values.shape[1])
    return Person(recording, values)


def own_responses(recordings: Sequence[Recording]) -> list[Person]:
    """Return each person's responses to whatever they saw, known repeats averaged."""
    people = []
    for recording in recordings:
        table = recording.rows
        if recording.samples is not None:
            values = _finite(recording, recording.responses.read()).values
            people.append(Person(recording, values, np.arange(len(values))))
        elif "stimulus" not in table or table["stimulus"].isna().any():
            people.append(_finite(recording, recording.responses.read()))
        else:
            rows = recording.stimulus_rows()
            shown = np.unique(rows)
            values = average(recording, rows, shown).values
            people.append(Person(recording, values, shown if len(values) == len(shown) else None))
    return people


def common_responses(recordings: Sequence[Recording], advice: str) -> tuple[list[Person], Keys]:
    """Return people's responses to the stimuli that all of them saw, and lasting names of these.

    Parameters
    ----------
    recordings : sequence of Recording
    advice : str
        What to do where nothing is common, to end the message with.

    Raises
    ------
    InputError
        If fewer than two stimuli are common, or people's time courses differ in length.
    """
    keys = row_keys(recordings)
    shared = set(keys[0]).intersection(*keys[1:])
    # In the first person's order: that of time, where there is time.
    common = np.array([key for key in dict.fromkeys(keys[0]) if key in shared], dtype=str)
    if len(common) < 2:
        counts = [f"{r.subject} {len(np.unique(k))}" for r, k in zip(recordings, keys, strict=True)]
        what = "sample times" if recordings[0].samples is not None else "stimuli"
        raise InputError(
            f"{len(recordings)} people have {len(common)} {what} in common (of {listed(counts)}), "
            f"and two or more are needed. {advice}"
        )
    _refuse_other_times(recordings)
    people = [average(r, k, common) for r, k in zip(recordings, keys, strict=True)]
    first = {key: row for row, key in reversed(list(enumerate(keys[0])))}
    names = lasting_keys(recordings[0], np.array([first[key] for key in common]))
    return people, names


def _refuse_other_times(recordings: Sequence[Recording]) -> None:
    lengths = {recording.responses.shape[2:] for recording in recordings}
    if len(lengths) > 1:
        told = sorted(str(shape[0] if shape else "no") for shape in lengths)
        raise InputError(
            f"Trials have {listed(told)} time points in different people; cut all to the same "
            "times."
        )


def matching_responses(
    recording: Recording, stimuli: Keys, advice: str
) -> tuple[Person, NDArray[np.int64]]:
    """Return a new person's responses to stimuli that others were aligned by, and which those are.

    Parameters
    ----------
    recording : Recording
    stimuli : array of str
        As `common_responses` names them.
    advice : str
        What to do where nothing is common.

    Returns
    -------
    person : Person
    rows : array of int (n_matching,)
        Of `stimuli`, in their order.
    """
    keys = lasting_keys(recording)
    rows = np.flatnonzero(np.isin(stimuli, keys))
    if not len(rows):
        raise InputError(
            f"Of the {len(np.unique(keys))} stimuli of {recording.subject!r} none is among the "
            f"{len(stimuli)} that the others were aligned by. {advice}"
        )
    return average(recording, keys, stimuli[rows]), rows


# -- the guard --------------------------------------------------------------------------------


def refuse_sealed(recordings: Sequence[Recording], forbidden: Any) -> None:
    """Raise if any stimulus of a test part takes part in a fit, in whoever's recording.

    Parameters
    ----------
    recordings : sequence of Recording
        What is fitted on.
    forbidden : Recording, recordings, array of ids, or None
        The test parts, of all people; or ids of their stimuli, as in ``stimuli.ids`` (rows of the
        stimuli where a recording has none). Where stimuli are conditions, which train and test
        share, it is the runs of the same person that may not come back.

    Raises
    ------
    LeakError
        With the offending ids: of stimuli, of runs, or times of samples.
    """
    given = _as_list(forbidden)
    if not given:
        return
    if not all(hasattr(one, "responses") for one in given):
        _refuse_ids(recordings, given)
        return
    if any(recording.stimuli_are == "conditions" for recording in recordings):
        _refuse_runs(recordings, given)
        return
    keys = row_keys([*recordings, *given])
    sealed = np.unique(np.concatenate(keys[len(recordings) :]))
    for recording, part in zip(recordings, keys, strict=False):
        inside = np.isin(part, sealed)
        if inside.any():
            _leak(recording, np.flatnonzero(inside))


def _as_list(forbidden: Any) -> list[Any]:
    """Return test parts, or ids, as a list."""
    if forbidden is None:
        return []
    if hasattr(forbidden, "responses"):
        return [forbidden]
    if hasattr(forbidden, "values") and callable(forbidden.values):  # a mapping
        return list(forbidden.values())
    if isinstance(forbidden, str):
        raise InputError(
            f"forbidden are test parts or a list of ids of stimuli; got {forbidden!r}."
        )
    return list(np.asarray(forbidden).ravel()) if hasattr(forbidden, "dtype") else list(forbidden)


def _refuse_ids(recordings: Sequence[Recording], ids: list[Any]) -> None:
    sealed = {str(one) for one in ids}
    for recording in recordings:
        shown = recording.stimulus_rows()
        names = shown if recording.stimuli is None else recording.stimuli.ids[shown]
        inside = np.array([str(name) in sealed for name in names])
        if inside.any():
            _leak(recording, np.flatnonzero(inside))


def _refuse_runs(recordings: Sequence[Recording], sealed: Sequence[Recording]) -> None:
    for recording in recordings:
        if "run" not in recording.rows:
            continue
        tested: set[Any] = set()
        for part in sealed:
            if part.subject == recording.subject and "run" in part.rows:
                tested |= set(_runs(part))
        seen = sorted(tested & set(_runs(recording)), key=str)
        if seen:
            raise LeakError(
                f"{len(seen)} runs of {recording.subject!r} that are tested take part in the "
                f"alignment: {listed(seen)}. Align on the training part alone.",
                seen,
            )


def _runs(recording: Recording) -> list[Any]:
    rows = recording.rows
    return list(run_keys(rows, "run") if "session" in rows else rows["run"])


def _leak(recording: Recording, rows: NDArray[np.int64]) -> None:
    if recording.samples is not None:
        what, ids = "sample times", list(_times(recording.select(trials=rows)))
    else:
        shown = np.unique(recording.stimulus_rows()[rows])
        stimuli = recording.stimuli
        what, ids = "stimuli", (shown if stimuli is None else stimuli.ids[shown]).tolist()
    raise LeakError(
        f"{len(ids)} {what} of the test part take part in the alignment, in the recording of "
        f"{recording.subject!r}: {listed(ids)}. Align on the training part (fold.train, "
        "fold.align) alone, and leave out of it what anybody's test part holds.",
        ids,
    )
