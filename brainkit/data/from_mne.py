"""Recordings from MNE's Epochs and Raw: trials × channels × time, or samples × channels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from brainkit.arrays.sources import Memory
from brainkit.data.spaces import SensorSpace
from brainkit.data.stimuli import Stimuli
from brainkit.errors import InputError

RUN_EDGE = "EDGE boundary"  # what mne.concatenate_raws leaves where two runs meet


def read_mne(
    data: Any,
    *,
    subject: str = "s1",
    picks: str | Sequence[str] = "data",
    stimuli: Stimuli | None = None,
    trials: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """Return the parts of a `Recording` from MNE data, in MNE's SI units (volts, tesla).

    Parameters
    ----------
    data : mne.Epochs or mne.io.Raw
        Epochs give (trial, channel, time) with a `label` from the event names and the columns of
        the metadata; Raw gives (sample, channel) with its annotations as events,
        their onsets in seconds from the first sample, and a run for each of those that
        `mne.concatenate_raws` joined.
    subject : str, default="s1"
        Name of the subject.
    picks : str or sequence of str, default="data"
        Channels, as MNE's picks.
    stimuli : Stimuli, optional
        What was shown; the trials then need a column `stimulus`.
    trials : DataFrame, optional
        More columns for the trials of Epochs, such as session, run or stimulus.

    Raises
    ------
    InputError
        If `data` is neither, or `trials` does not fit.
    """
    import mne

    if not isinstance(data, mne.BaseEpochs | mne.io.BaseRaw):
        raise InputError(f"from_mne takes mne.Epochs or mne.io.Raw; got {type(data).__name__}.")
    picked = data.copy().pick(picks, verbose=False)
    space = SensorSpace(tuple(picked.ch_names), picked.info)
    units = pd.DataFrame({"name": picked.ch_names, "kind": picked.get_channel_types()})
    positions = np.array([channel["loc"][:3] for channel in picked.info["chs"]])
    units[["x", "y", "z"]] = np.where(np.any(positions, axis=1, keepdims=True), positions, np.nan)
    common = {
        "subject": subject,
        "units": units,
        "space": space,
        "sfreq": float(picked.info["sfreq"]),
        "stimuli": stimuli,
        "info": {"measure": "SI units of the channel kind (V, T, T/m)"},
    }
    if isinstance(picked, mne.BaseEpochs):
        values = picked.get_data(copy=False)  # (trial, channel, time)
        return {
            **common,
            "source": Memory(values),
            "trials": _epoch_table(picked, trials),
            "times": np.asarray(picked.times, dtype=np.float64),
        }
    marks = picked.annotations
    # Annotations count from the start of the measurement, `times` from the first sample kept.
    onsets = marks.onset - picked.first_time
    events = pd.DataFrame({"onset": onsets, "duration": marks.duration, "label": marks.description})
    edges = np.sort(onsets[marks.description == RUN_EDGE])
    half = 0.5 / float(
        picked.info["sfreq"]
    )  # an edge falls on the first sample of the run that it opens
    runs = 1 + np.searchsorted(edges, picked.times + half)
    samples = pd.DataFrame({"run": runs, "time": picked.times})
    return {**common, "source": Memory(picked.get_data().T), "samples": samples, "events": events}


def _epoch_table(epochs: Any, extra: pd.DataFrame | None) -> pd.DataFrame:
    names = {code: name for name, code in epochs.event_id.items()}
    table = pd.DataFrame({"label": [names[code] for code in epochs.events[:, 2]]})
    for more in (epochs.metadata, extra):
        if more is None:
            continue
        if len(more) != len(table):
            raise InputError(
                f"There are {len(table)} epochs (after rejection) but {len(more)} rows of trials."
            )
        table = table.assign(**{str(name): more[name].to_numpy() for name in more})
    if "stimulus" not in table:
        table["stimulus"] = pd.array([pd.NA] * len(table), dtype="Int64")
    return table
