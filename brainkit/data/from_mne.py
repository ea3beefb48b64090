"""Recordings from MNE's Epochs and Raw: trials × channels × time, or samples × channels.

What MNE knows of the quality of its data stays known. Bad channels, bad spans and dropped epochs
are left out, as MNE's own analyses leave them out, and ``info["quality"]`` of the recording counts
them; ``bads="mark"`` keeps bad channels and spans, in a column `bad` of the units and the samples.
"""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from brainkit.arrays.sources import Memory
from brainkit.data.stimuli import Stimuli
from brainkit.data.units import SensorSpace
from brainkit.errors import InputError, listed, unknown_name

RUN_EDGE = "EDGE boundary"  # what mne.concatenate_raws leaves where two runs meet
NO_EVENTS = ("bad", "edge")  # how annotations begin that mark data rather than events
BADS = ("exclude", "mark")
# Columns of trials whose meaning is brainkit's; metadata of such a name get a prefix.
RESERVED = ("label", "selection", "bad", "bad_span", "n_repeats")
PREFIX = "metadata."


def read_mne(
    data: Any,
    *,
    subject: str = "s1",
    picks: str | Sequence[str] | Sequence[int] = "data",
    bads: Literal["exclude", "mark"] = "exclude",
    stimuli: Stimuli | None = None,
    trials: pd.DataFrame | None = None,
    stimuli_are: Literal["exemplars", "conditions"] = "exemplars",
) -> dict[str, Any]:
    """Return the parts of a `Recording` from MNE data, in MNE's SI units (volts, tesla).

    Parameters
    ----------
    data : mne.Epochs or mne.io.Raw
        Loaded or not; it is not changed. Epochs give (trial, channel, time): those that MNE keeps,
        after rejection by all channels, whichever are picked. Raw gives (sample, channel) with its
        annotations as events, their onsets in seconds from the first sample, and a run for each of
        those that `mne.concatenate_raws` joined.
    subject : str, default="s1"
        Name of the subject.
    picks : str or sequence of str or int, default="data"
        Channels, as MNE's picks.
    bads : {"exclude", "mark"}, default="exclude"
        What to do with the channels in ``info["bads"]`` and, in Raw, the samples that an annotation
        whose description begins with "bad" covers: leave them out, or keep them and say so in
        the column `bad` (and, of samples, the description in `bad_span`). A bad channel that
        `picks` names, rather than its kind, is kept and marked in any case.
    stimuli : Stimuli, optional
        What was shown; the trials then need a column `stimulus`.
    trials : DataFrame, optional
        More columns for the trials of Epochs, such as session, run or stimulus.
    stimuli_are : {"exemplars", "conditions"}, default="exemplars"
        See `Recording`.

    Returns
    -------
    dict
        Trials of Epochs have `label` (the event's name), `selection` (the event's place among all
        events, as MNE's attribute), the columns of the metadata and of `trials`, and `bad` and
        `bad_span` where MNE kept an epoch that a bad span touches. Columns of the metadata that
        are called as one of those are renamed, ``metadata.label`` for instance; `stimulus`
        too, unless it holds rows, or ids, of stimuli; numbers that could be both are refused.
        Samples of Raw have `run`, `time`, and `stretch`, which numbers the stretches without a
        hole. ``info["quality"]`` counts what is bad.

    Raises
    ------
    InputError
        If `data` is neither, `picks` finds no channel, no epoch is left, all samples are bad, or
        `trials` does not fit.
    """
    import mne

    if not isinstance(data, mne.BaseEpochs | mne.io.BaseRaw):
        raise InputError(f"from_mne takes mne.Epochs or mne.io.Raw; got {type(data).__name__}.")
    if bads not in BADS:
        raise unknown_name("way to treat what is bad (bads)", bads, BADS)
    unpicked = data.copy()
    if isinstance(unpicked, mne.BaseEpochs):
        # Before channels are picked, since others may be what epochs are rejected by.
        unpicked.drop_bad(verbose="error").load_data()
        if not len(unpicked):
            raise InputError(f"No epoch is left: {_dropped_said(_dropped(unpicked))}.")
    picked, quality = _pick(unpicked, picks, bads)
    space = SensorSpace(tuple(picked.ch_names), picked.info)
    units = pd.DataFrame({"name": picked.ch_names, "kind": picked.get_channel_types()})
    positions = np.array([channel["loc"][:3] for channel in picked.info["chs"]])
    units[["x", "y", "z"]] = np.where(np.any(positions, axis=1, keepdims=True), positions, np.nan)
    units["bad"] = units["name"].isin(picked.info["bads"])
    common = {
        "subject": subject,
        "units": units,
        "space": space,
        "sfreq": float(picked.info["sfreq"]),
        "stimuli": stimuli,
        "stimuli_are": stimuli_are,
        "info": {"measure": "SI units of the channel kind (V, T, T/m)", "quality": quality},
    }
    if isinstance(picked, mne.BaseEpochs):
        quality["epochs"] = _dropped(picked)
        table = _epoch_table(picked, trials, stimuli)
        quality["epochs"]["kept_in_bad_spans"] = int(table["bad"].sum())
        return {
            **common,
            "source": Memory(
                picked.get_data(copy=False, verbose="error")
            ),  # (trial, channel, time)
            "trials": table,
            "times": np.asarray(picked.times, dtype=np.float64),
        }
    if trials is not None:
        raise InputError("Continuous data (Raw) have samples, not trials: leave trials= out.")
    samples, events, quality["samples"] = _continuous_tables(picked)
    values = picked.get_data(verbose="error").T  # (sample, channel)
    if bads == "exclude" and samples["bad"].any():
        good = ~samples["bad"].to_numpy()
        if not good.any():
            raise InputError("All samples lie in bad spans; bads='mark' keeps them.")
        values, samples = values[good], samples[good].drop(columns="bad_span")
    # A hole, or the first sample of a run; the first row opens a stretch in any case.
    opens = (np.diff(samples.index) > 1) | (np.diff(samples["run"]) > 0)
    samples.insert(2, "stretch", 1 + np.cumsum(np.concatenate([[False], opens])))
    return {**common, "source": Memory(values), "samples": samples, "events": events}


def quality_said(quality: Mapping[str, Any] | None) -> str:
    """Say what a recording's ``info["quality"]`` counts; nothing where all is good."""
    marks = []
    channels = (quality or {}).get("channels", {})
    for what in ("excluded", "marked"):
        if channels.get(what):
            marks.append(f"bad channels {what}: {listed(channels[what])}")
    samples = (quality or {}).get("samples", {})
    if samples.get("bad"):
        what = "excluded" if quality and quality["bads"] == "exclude" else "marked"
        share = samples["bad"] / samples["all"]
        marks.append(
            f"{share:.1%} of the samples in bad spans {what} ({_counted(samples['spans'])})"
        )
    epochs = (quality or {}).get("epochs", {})
    if epochs.get("dropped"):
        marks.append(_dropped_said(epochs))
    if epochs.get("kept_in_bad_spans"):
        marks.append(f"{epochs['kept_in_bad_spans']} epochs kept in bad spans")
    return "; ".join(marks)


def _counted(counts: Mapping[str, int]) -> str:
    return listed([f"{name} {count}" for name, count in counts.items()])


def _dropped_said(epochs: Mapping[str, Any]) -> str:
    reasons = f" ({_counted(epochs['reasons'])})" if epochs["reasons"] else ""
    return f"{epochs['dropped']} of {epochs['all']} epochs dropped{reasons}"


# ------------------------------------------------------------------------------------- channels


def _pick(unpicked: Any, picks: Any, bads: str) -> tuple[Any, dict[str, Any]]:
    """Return the data of the picked channels, and what is known of their quality."""
    bad = set(unpicked.info["bads"])
    kinds = Counter(unpicked.get_channel_types())
    try:
        picked = unpicked.copy().pick(picks, verbose="error")
    except (ValueError, TypeError, IndexError) as error:
        raise _no_channel(picks, unpicked, kinds) from error
    if not picked.ch_names:
        raise _no_channel(picks, unpicked, kinds)
    named = _named(picks, unpicked.ch_names)
    excluded = [
        name for name in picked.ch_names if bads == "exclude" and name in bad and name not in named
    ]
    if len(excluded) == len(picked.ch_names):
        raise InputError(
            f"All {len(excluded)} channels of picks={picks!r} are bad ({listed(excluded)}); "
            "bads='mark' keeps them."
        )
    if excluded:
        picked = picked.drop_channels(excluded)
    channels = {"excluded": excluded, "marked": [n for n in picked.ch_names if n in bad]}
    return picked, {"bads": bads, "channels": channels}


def _named(picks: Any, names: Sequence[str]) -> set[str]:
    """Return the channels that are picked one by one, by name or number, not by their kind."""
    if picks is None:
        return set()
    if isinstance(picks, slice):
        return set(names[picks])
    chosen = np.atleast_1d(np.asarray(picks, dtype=object))
    if len(chosen) and all(isinstance(one, bool | np.bool_) for one in chosen):
        return {name for name, one in zip(names, chosen, strict=False) if one}
    numbers = [int(one) for one in chosen if isinstance(one, int | np.integer)]
    return ({str(one) for one in chosen} & set(names)) | {names[number] for number in numbers}


def _no_channel(picks: Any, unpicked: Any, kinds: Mapping[str, int]) -> InputError:
    """Build the error for picks that find nothing, with what there is to be found."""
    there = listed([f"{count} {kind}" for kind, count in kinds.items()])
    message = f"picks={picks!r} finds no channel; there are {there}"
    asked = [picks] if isinstance(picks, str) or not np.iterable(picks) else list(picks)
    unknown = [one for one in asked if isinstance(one, str)]
    unknown = [one for one in unknown if one not in unpicked.ch_names and one not in kinds]
    if asked == ["data"]:
        kind = max(kinds, key=lambda name: kinds[name])
        return InputError(
            f"{message}, none of which MNE counts among data. Say what they are with "
            f"set_channel_types, or pick them by kind: picks={kind!r}."
        )
    if unknown:
        return InputError(
            f"{message}, and none called {listed(unknown)}: {listed(unpicked.ch_names)}."
        )
    return InputError(f"{message}.")


# --------------------------------------------------------------------------------------- epochs


def _dropped(epochs: Any) -> dict[str, Any]:
    """Count the events that made no epoch, and why; one can have several reasons."""
    logs = [log for log in epochs.drop_log if "IGNORED" not in log]
    reasons = Counter(str(reason) for log in logs for reason in log)
    return {
        "all": len(logs),
        "dropped": sum(bool(log) for log in logs),
        "reasons": dict(reasons.most_common()),
    }


def _epoch_table(epochs: Any, extra: pd.DataFrame | None, stimuli: Stimuli | None) -> pd.DataFrame:
    names: dict[int, list[str]] = {}
    for name, code in epochs.event_id.items():
        names.setdefault(code, []).append(name)
    spans = _spans_of_epochs(epochs)
    table = pd.DataFrame(
        {
            "label": ["/".join(names[code]) for code in epochs.events[:, 2]],
            "selection": np.asarray(epochs.selection, dtype=np.int64),
            "bad": [bool(span) for span in spans],
            "bad_span": spans,
        }
    )
    if not table["bad"].any():
        table = table.drop(columns="bad_span")
    if epochs.metadata is not None:
        # Stimuli that the caller names take the place of the metadata's.
        known = None if extra is not None and "stimulus" in extra else stimuli
        table = table.assign(**_metadata_columns(epochs.metadata, known))
    if extra is not None:
        if len(extra) != len(table):
            raise InputError(
                f"There are {len(table)} epochs (after rejection) but {len(extra)} rows of trials."
            )
        table = table.assign(**{str(n): extra[n].reset_index(drop=True) for n in extra})
    if "stimulus" not in table:
        table["stimulus"] = pd.array([pd.NA] * len(table), dtype="Int64")
    return table


def _spans_of_epochs(epochs: Any) -> list[str]:
    """Return the bad spans that touch each epoch, which MNE was told to keep."""
    if getattr(epochs, "annotations", None) is None or not len(epochs.annotations):
        return [""] * len(epochs)
    return [
        ", ".join(dict.fromkeys(str(mark[2]) for mark in marks if _begins(str(mark[2]), "bad")))
        for marks in epochs.get_annotations_per_epoch()
    ]


def _metadata_columns(metadata: pd.DataFrame, stimuli: Stimuli | None) -> dict[str, pd.Series]:
    """Return the metadata's columns under names that do not stand for something else here."""
    columns, renamed = {}, []
    for metadata_column in metadata:
        name, column = str(metadata_column), metadata[metadata_column].reset_index(drop=True)
        rows = _stimulus_rows(column, stimuli) if name == "stimulus" else column
        if name in RESERVED or rows is None:
            renamed.append(name)
            columns[PREFIX + name] = column
        else:
            columns[name] = rows if rows is not None else column
    if renamed:
        warnings.warn(
            f"The metadata's columns {listed(renamed)} are kept as "
            f"{listed([PREFIX + name for name in renamed])}: in a recording's trials these names "
            "mean something else. Give a column as trials= to have it taken for that.",
            stacklevel=2,
        )
    return columns


def _stimulus_rows(column: pd.Series, stimuli: Stimuli | None) -> pd.Series | None:
    """Return a column that names stimuli as rows of them; None where it means something else.

    Numbers may be rows or, where the stimuli's ids do not merely count them, ids.

    Raises
    ------
    InputError
        If numbers are rows and ids, of different stimuli.
    """
    numbers = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if stimuli is None:
        return column if numbers else None
    rows = {_as_id(name): row for row, name in enumerate(stimuli.ids.tolist())}
    by_id = column.map(lambda name: rows.get(_as_id(name), pd.NA)).astype("Int64")
    named = bool(by_id[column.notna()].notna().all())
    if not numbers:
        return by_id if named else None
    shown = column.dropna()
    counted = bool(((shown >= 0) & (shown < len(stimuli)) & (shown % 1 == 0)).all())
    if not named:
        return column  # rows, or numbers that no stimulus has, which the recording refuses
    if counted and (shown != by_id[shown.index]).any():
        raise InputError(
            f"The metadata's column 'stimulus' holds {listed(shown.unique(), 5)}: rows of the "
            "stimuli, counted from 0, and ids of other stimuli. For ids give them as text "
            "(metadata['stimulus'].astype(str)); for rows give trials= with a column 'stimulus'."
        )
    return by_id


def _as_id(name: Any) -> str:
    """Return an id as text, by which numbers are the same whether whole or real."""
    integral = isinstance(name, float | np.floating) and float(name).is_integer()
    return str(int(name)) if integral else str(name)


# ----------------------------------------------------------------------------------- continuous


def _continuous_tables(raw: Any) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Return samples, events, and what is bad of the samples."""
    marks = raw.annotations
    # Annotations count from the start of the measurement, `times` from the first sample kept.
    onsets = marks.onset - raw.first_time
    texts = marks.description
    bad = np.array([_begins(text, "bad") for text in texts], dtype=bool)
    spans = np.full(len(raw.times), "", dtype=object)
    for number in np.flatnonzero(bad):
        inside, text = _covered(raw, onsets[number], marks.duration[number]), str(texts[number])
        spans[inside] = [f"{there}, {text}" if there else text for there in spans[inside]]
    edges = np.sort(onsets[texts == RUN_EDGE])
    half = 0.5 / float(raw.info["sfreq"])  # an edge falls on the first sample of its run
    runs = 1 + np.searchsorted(edges, raw.times + half)
    is_bad = spans != ""
    samples = pd.DataFrame({"run": runs, "time": raw.times, "bad": is_bad, "bad_span": spans})
    if not is_bad.any():
        samples = samples.drop(columns="bad_span")
    is_event = np.array([not _begins(text, *NO_EVENTS) for text in texts], dtype=bool)
    events = pd.DataFrame({"onset": onsets, "duration": marks.duration, "label": texts})
    events = events[is_event].reset_index(drop=True)
    place = np.searchsorted(raw.times, events["onset"].to_numpy() + half, side="right") - 1
    events["bad"] = is_bad[np.clip(place, 0, len(is_bad) - 1)]
    counts = Counter(str(text) for text in texts[bad & (marks.duration > 0)])
    facts = {"all": len(samples), "bad": int(is_bad.sum()), "spans": dict(counts)}
    return samples, events, facts


def _covered(raw: Any, onset: float, duration: float) -> slice:
    """Return the samples of a span as MNE rounds them."""
    start, stop = raw.time_as_index([onset, onset + duration], use_rounding=True)
    return slice(max(int(start), 0), max(int(stop), 0))


def _begins(text: str, *beginnings: str) -> bool:
    return text.lower().startswith(beginnings)
