"""Recording: what one subject's brain did, in one of three shapes.

- trials × units: fMRI single-trial betas;
- trials × units × time: epochs of EEG, MEG or sEEG;
- samples × units: continuous data.

Responses are lazy: selecting, splitting, averaging and z-scoring return a new Recording that
reads through the old one, and copy nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.array_likes import as_array
from brainkit.arrays.digest import content_digest
from brainkit.arrays.sources import (
    Averaged,
    Float,
    Index,
    Memory,
    Source,
    Standardised,
    View,
    Window,
)
from brainkit.data.responses import Responses, positions
from brainkit.data.standardising import (
    UNSEEN,
    WHOLE,
    group_statistics,
    repeat_groups,
    run_keys,
    training_members,
    with_whole_labels,
)
from brainkit.data.stimuli import Stimuli, stimulus_numbers
from brainkit.data.text import as_texts, text_columns
from brainkit.data.units import (
    Space,
    check_space,
    region_names,
    roi_mask,
    roi_names,
    with_boolean_rois,
)
from brainkit.errors import InputError, unknown_name, warn

if TYPE_CHECKING:
    from brainkit.data.splits import Split, SplitLike

StimuliAre = Literal["exemplars", "conditions"]
ROUNDING = 1e-9  # seconds


@dataclass(frozen=True, eq=False)
class Recording:
    """What one subject's brain did.

    Make one with `from_arrays`, `from_nifti`, `from_mne`, or `brainkit.load`.

    Attributes
    ----------
    subject : str
        Name of the subject.
    responses : Responses
        Lazy, (trial, unit), (trial, unit, time) or (sample, unit).
    units : DataFrame
        A row a voxel, vertex, sensor or electrode; boolean columns ``roi.<name>``.
    trials : DataFrame or None
        A row a trial: `stimulus` (nullable row of the stimuli), `label`, session, run, repeat.
    samples : DataFrame or None
        For continuous data instead of trials: a row a sample, with run and time in seconds.
    events : DataFrame or None
        For continuous data: what happened when.
    stimuli : Stimuli or None
        What was shown or played.
    space : Space or None
        Where the units are.
    times : array (time,) or None
        Seconds from the trial's onset, for (trial, unit, time).
    sfreq : float or None
        Samples a second, for time series.
    stimuli_are : {"exemplars", "conditions"}
        Exemplars are what a model must generalise over: all repeats of an image stay on one side of
        a split. Conditions, the same few in every run (fingers, categories in a block design), are
        to be found again in other runs: runs stay on one side.
    info : dict
        Provenance and conversions: card, unit of measurement, z-scoring, simulated or not.
    """

    subject: str
    responses: Responses
    units: pd.DataFrame
    trials: pd.DataFrame | None = None
    samples: pd.DataFrame | None = None
    events: pd.DataFrame | None = None
    stimuli: Stimuli | None = None
    space: Space | None = None
    times: NDArray[np.float64] | None = None
    sfreq: float | None = None
    stimuli_are: StimuliAre = "exemplars"
    info: dict[str, Any] = field(default_factory=dict)

    # -- making one --------------------------------------------------------------------------

    @classmethod
    def from_source(cls, source: Source, **parts: Any) -> Self:
        """Make a recording of a lazy source; the parts are the attributes of the class.

        Raises
        ------
        InputError
            If a table is no DataFrame, text in it is no text, or parts do not fit each other.
        """
        for name in ("trials", "samples", "events", "units"):
            table = parts.get(name)
            if table is None:
                continue
            if not isinstance(table, pd.DataFrame):
                raise InputError(f"{name} must be a DataFrame; got a {type(table).__name__}.")
            # Rows are counted from 0, whatever the caller's index.
            parts[name] = text_columns(
                table.reset_index(drop=True), f"The column {{!r}} of {name} holds text"
            )
        parts["subject"] = as_texts([parts["subject"]], "subject is a name")[0]
        parts["units"] = with_boolean_rois(parts["units"])
        for name in ("trials", "samples"):
            if parts.get(name) is not None:
                parts[name] = with_whole_labels(parts[name])
        recording = cls(responses=Responses(source), **parts)
        recording._check()
        return recording

    def _with(self, **changes: Any) -> Self:
        """Return a recording with some parts changed, and tables and info of its own."""
        parts: dict[str, Any] = {"info": dict(self.info), "units": self.units.copy(deep=False)}
        for name in ("trials", "samples", "events"):
            table = getattr(self, name)
            parts[name] = None if table is None else table.copy(deep=False)
        return replace(self, **{**parts, **changes})

    @classmethod
    def from_arrays(  # noqa: PLR0913 - the parts of a recording, all by name
        cls,
        responses: ArrayLike,
        *,
        subject: str = "s1",
        trials: pd.DataFrame | None = None,
        samples: pd.DataFrame | None = None,
        events: pd.DataFrame | None = None,
        units: pd.DataFrame | None = None,
        stimuli: Stimuli | ArrayLike | None = None,
        space: Space | None = None,
        times: ArrayLike | None = None,
        sfreq: float | None = None,
        stimuli_are: StimuliAre = "exemplars",
        info: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make a recording of arrays of your own.

        Parameters
        ----------
        responses : array (trial, unit), (trial, unit, time) or (sample, unit)
            May be a memory map; it is not copied.
        trials, samples : DataFrame, optional
            A row for each row of `responses`. Where neither is given the rows are trials, and
            trial i shows stimulus i if there are as many stimuli; of arrays of stimuli those that
            are the same are one, shown several times.
        units : DataFrame, optional
            A row for each unit.
        stimuli : Stimuli or array (stimulus, ...), optional
            What was shown.
        stimuli_are : {"exemplars", "conditions"}, default="exemplars"
            ``"conditions"`` where the same few stimuli come back in every run and are to be found
            again, as in block designs; the trials then need a column ``run``.

        Raises
        ------
        InputError
            If tables and arrays do not fit each other.
        """
        array = as_array(responses, "responses")
        real = np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)
        if array.ndim not in (2, 3) or not real:
            raise InputError(
                "responses must be real numbers, (trial, unit), (trial, unit, time) or "
                f"(sample, unit); got {array.dtype} of shape {array.shape}."
            )
        if stimuli is not None and not isinstance(stimuli, Stimuli):
            stimuli = Stimuli(stimuli)
        if trials is None and samples is None:
            trials = pd.DataFrame(index=range(len(array)))
            if stimuli is not None and len(stimuli) == len(array):
                trials["stimulus"] = _first_alike(stimuli)
        return cls.from_source(
            Memory(array),
            subject=subject,
            trials=trials,
            samples=samples,
            events=events,
            units=pd.DataFrame(index=range(array.shape[1])) if units is None else units,
            stimuli=stimuli,
            space=space,
            times=None if times is None else _seconds(times),
            sfreq=sfreq,
            stimuli_are=stimuli_are,
            info=dict(info or {}),
        )

    @classmethod
    def from_mne(cls, data: Any, **options: Any) -> Self:
        """Make a recording of MNE's Epochs (labels from the event names) or Raw.

        Bad channels, bad spans and dropped epochs are left out, and counted in
        ``info["quality"]``; ``bads="mark"`` keeps what can be kept.

        See `brainkit.data.from_mne.read_mne` for the options.
        """
        from brainkit.data.from_mne import read_mne

        return cls.from_source(**read_mne(data, **options))

    @classmethod
    def from_nifti(
        cls,
        images: str | Path | Sequence[str | Path],
        mask: str | Path | ArrayLike,
        trials: pd.DataFrame | None = None,
        **options: Any,
    ) -> Self:
        """Make a recording of NIfTI volumes and a mask on the same grid.

        A volume is a trial's response (trials=), or a moment of a BOLD series (samples=, or tr=).
        See `brainkit.data.from_nifti.read_nifti` for the options.
        """
        from brainkit.data.from_nifti import read_nifti

        return cls.from_source(**read_nifti(images, mask, trials, **options))

    def _check(self) -> None:
        shape = self.responses.shape
        if (self.trials is None) == (self.samples is None):
            raise InputError("A recording has either trials or samples (continuous data).")
        if len(self.rows) != shape[0]:
            raise InputError(
                f"The table has {len(self.rows)} rows but responses have {shape[0]} "
                f"{'trials' if self.samples is None else 'samples'}."
            )
        if len(self.units) != shape[1]:
            raise InputError(f"units has {len(self.units)} rows; responses have {shape[1]} units.")
        if self.times is not None and (len(shape) != 3 or len(self.times) != shape[2]):
            raise InputError(f"times has {len(self.times)} values; responses have shape {shape}.")
        if self.samples is not None and len(shape) != 2:
            raise InputError(f"Continuous data are (sample, unit); got shape {shape}.")
        if self.stimuli_are not in get_args(StimuliAre):
            raise unknown_name("stimuli_are", self.stimuli_are, get_args(StimuliAre))
        check_space(self.space, self.units)
        if self.stimuli is not None and self.trials is not None and "stimulus" in self.trials:
            stimulus_numbers(self.trials["stimulus"], len(self.stimuli))

    # -- looking at it -----------------------------------------------------------------------

    @property
    def rows(self) -> pd.DataFrame:
        """The table of the first axis: trials, or samples for continuous data."""
        table = self.trials if self.samples is None else self.samples
        return pd.DataFrame() if table is None else table

    @property
    def roi_names(self) -> list[str]:
        """The ROIs that the units list."""
        return roi_names(self.units)

    @property
    def region_names(self) -> list[str]:
        """The ROIs that have units, parts of one region under their common name."""
        return region_names(self.units)

    def __repr__(self) -> str:
        axes = ("sample" if self.samples is not None else "trial", "unit", "time")
        shape = " x ".join(
            f"{size} {axis}s" if size != 1 else f"1 {axis}"
            for size, axis in zip(self.responses.shape, axes, strict=False)
        )
        shape += f", {len(self.stimuli)} stimuli" if self.stimuli is not None else ""
        shape += ", simulated" if self.info.get("simulated") else ""
        return f"Recording({self.subject!r}: {shape})"

    @property
    def described(self) -> str:
        """How large the recording is, what it measures and what was left out, in a few words."""
        from brainkit.data.from_mne import quality_said

        axes = ("samples" if self.samples is not None else "trials", "units", "times")
        sizes = zip(self.responses.shape, axes, strict=False)
        size = " × ".join(f"{size:,} {axis}" for size, axis in sizes)
        stimuli = f", {len(self.stimuli):,} stimuli" if self.stimuli is not None else ""
        notes = [self.info.get("measure"), quality_said(self.info.get("quality"))]
        return "; ".join([f"{size}{stimuli}", *(note for note in notes if note)])

    def roi_mask(self, roi: str | Sequence[str]) -> NDArray[np.bool_]:
        """Return which units belong to a ROI, or to any of several."""
        return roi_mask(self.units, roi)

    def stimulus_rows(self) -> Index:
        """Return the stimulus row of each trial.

        Raises
        ------
        InputError
            If the recording has no stimuli, a trial shows none, or what it shows is no row.
        """
        if self.trials is None or "stimulus" not in self.trials:
            raise InputError(
                "This recording names no stimuli: its trials need a column 'stimulus' with rows "
                "of the stimuli."
            )
        rows = self.trials["stimulus"]
        if rows.isna().any():
            raise InputError(
                f"{int(rows.isna().sum())} trials show no stimulus: select those that do first."
            )
        return stimulus_numbers(rows, None if self.stimuli is None else len(self.stimuli))

    # -- selecting ---------------------------------------------------------------------------

    def select(
        self,
        trials: ArrayLike | slice | None = None,
        units: ArrayLike | slice | None = None,
        roi: str | Sequence[str] | None = None,
        times: tuple[float, float] | None = None,
    ) -> Self:
        """Return some trials (samples), units and times; copies nothing.

        Parameters
        ----------
        trials : array of bool or int, or slice, optional
            Rows to keep, in this order.
        units : array of bool or int, or slice, optional
            Units to keep, in this order.
        roi : str or sequence of str, optional
            Keep the units of a ROI, or of any of several. With `units`, both must hold.
        times : (float, float), optional
            Keep what lies between two times in seconds, both included: of epochs time points from
            the trial's onset, of continuous data samples by the clock of their run.

        Raises
        ------
        InputError
            If a row, unit or ROI does not exist, or nothing lies between the times.
        """
        rows = None if trials is None else positions(trials, self.responses.shape[0], "trials")
        columns = None if units is None else positions(units, self.responses.shape[1], "units")
        if roi is not None:
            inside = self.roi_mask(roi)
            columns = np.flatnonzero(inside) if columns is None else columns[inside[columns]]
        window = None if times is None else self._between(*_ends(times))
        if window is not None and self.samples is not None:
            rows = window if rows is None else rows[np.isin(rows, window)]
        source: Source = View(self.responses.source, rows, columns)
        changes: dict[str, Any] = {}
        if window is not None and self.times is not None:
            source = Window(source, int(window[0]), int(window[-1]) + 1)
            changes["times"] = self.times[window]
        changes["responses"] = Responses(source)
        if rows is not None:
            table = self.rows.iloc[rows].reset_index(drop=True)
            changes["trials" if self.samples is None else "samples"] = table
        if columns is not None:
            changes["units"] = self.units.iloc[columns].reset_index(drop=True)
            changes["space"] = None if self.space is None else self.space.select(columns)
        return self._with(**changes)

    def _between(self, start: float, stop: float) -> Index:
        """Return the time points, or samples, between two times."""
        known = self.times
        if self.samples is not None and "time" in self.samples:
            known = self.samples["time"].to_numpy(dtype=np.float64)
        if known is None:
            raise InputError(
                "This recording knows no times to select by: epochs need times= when they are "
                "made, samples a column 'time'."
            )
        # Times that are sums of steps miss round numbers by rounding.
        inside = np.flatnonzero((known >= start - ROUNDING) & (known <= stop + ROUNDING))
        if not len(inside):
            raise InputError(
                f"Nothing lies between {start:g} and {stop:g} s; the recording has "
                f"{known.min():g} to {known.max():g} s."
            )
        return inside

    def split(self, split: "SplitLike", *, seed: int = 0) -> "Split":
        """Split by a preset, a splitter of scikit-learn's kind, or rows of your own.

        Parameters
        ----------
        split : str, splitter, list of (train, test), or Split
            A preset such as ``"kfold:10:stimulus"``, see `brainkit.data.splits`; anything with
            ``split(X, y, groups)``; pairs of row numbers or masks; or a split made before, see
            `brainkit.data.splits.split_by_hand`.
        seed : int, default=0
            Of presets and splitters that shuffle.
        """
        from brainkit.data.splits import make_split

        return make_split(self, split, seed=seed)

    # -- changing it -------------------------------------------------------------------------

    def average_repeats(self, by: str = "stimulus") -> Self:
        """Average the trials of each stimulus (or of each value of another column).

        Where stimuli are conditions, the trials of each condition are averaged within each run. The
        new trials keep every column that is constant within all groups, and gain `n_repeats`.
        Z-score first: session statistics have no meaning afterwards.
        """
        groups, trials = self.repeats(by)
        source = Averaged(self.responses.source, groups)
        return self._with(responses=Responses(source), trials=trials)

    def repeats(self, by: str = "stimulus") -> tuple[list[Index], pd.DataFrame]:
        """Return the rows that `average_repeats` puts together, and the table of what results."""
        if self.trials is None:
            raise InputError("Only trials have repeats; this recording is continuous.")
        within = [name for name in ("session", "run") if name in self.trials]
        return repeat_groups(self.trials, by, within if self.stimuli_are == "conditions" else ())

    def zscore(
        self,
        by: str | None = "session",
        *,
        fit_on: ArrayLike | None = None,
        unseen: str | None = None,
    ) -> Self:
        """Standardise each unit, by session, with the statistics of the training trials.

        Parameters
        ----------
        by : str or None, default="session"
            Column that names the groups with statistics of their own; None (or ``"recording"``)
            for one group. Runs of different sessions are different runs.
        fit_on : array of bool or int, optional
            The training trials, which alone give mean and standard deviation; all where not given.
        unseen : {None, "session-unlabelled"}
            What to do with a group that has fewer than two training trials: raise, or use the
            group's own statistics (without labels). The latter is *transductive*, and `info`
            says so.

        Returns
        -------
        Recording
            ``(x − mean_g) / sd_g``, population standard deviation; a constant unit becomes NaN.

        Raises
        ------
        SplitError
            If a group has fewer than two training trials and `unseen` is not given.
        """
        if unseen not in UNSEEN:
            raise InputError(f"unseen must be None or 'session-unlabelled'; got {unseen!r}.")
        n_rows = len(self.rows)
        fitted = np.arange(n_rows) if fit_on is None else positions(fit_on, n_rows, "trials")
        if by not in (None, WHOLE) and by not in self.rows:
            raise InputError(
                f"There is no column {by!r} to z-score by; there are {list(self.rows.columns)}. "
                "Pass by=None to standardise over all trials."
            )
        keys = pd.Series(np.zeros(n_rows)) if by is None else run_keys(self.rows, by)
        group, members, transductive = training_members(keys, fitted, by, unseen)
        shift, scale = group_statistics(self.responses.source, members)
        source = Standardised(self.responses.source, group, shift, scale)
        # Rows that have met their own statistics once stay transductive.
        itself = bool(transductive) or bool(self.info.get("zscore", {}).get("transductive"))
        record = {"by": by, "transductive": itself, "unseen": transductive}
        info = {**self.info, "zscore": record, "measure": "standard deviations"}
        return self._with(responses=Responses(source), info=info)

    # -- to estimators and back ----------------------------------------------------------------

    def targets(self) -> Float:
        """Read all responses as (sample, unit × time) for estimators, time running fastest."""
        values = self.responses.read()
        return values.reshape(len(values), int(np.prod(values.shape[1:])))

    def unflatten(self, values: ArrayLike) -> NDArray[Any]:
        """Put values by target, (..., unit × time), back as (..., unit) or (..., unit, time)."""
        array = np.asarray(values)
        inner = self.responses.shape[1:]
        if array.shape[-1:] != (int(np.prod(inner)),):
            raise InputError(
                f"unflatten takes {int(np.prod(inner))} values on the last axis (units x time); "
                f"got shape {array.shape}."
            )
        return array.reshape(*array.shape[:-1], *inner)

    def to_image(self, values: ArrayLike, fill: float = np.nan) -> Any:
        """Put one value a unit back into the recording's space: NIfTI, GIFTI or sensors."""
        if self.space is None:
            raise InputError("This recording has no space, so its values cannot be put on a map.")
        return self.space.to_image(values, fill)


def _seconds(times: ArrayLike) -> NDArray[np.float64]:
    values = as_array(times, "times")
    if values.dtype.kind not in "iuf" or values.ndim != 1:
        raise InputError(
            f"times are seconds, real numbers (time,); got {values.dtype} of shape {values.shape}."
        )
    return np.asarray(values, dtype=np.float64)


def _ends(times: Any) -> tuple[float, float]:
    """Return a window of time as two numbers in order."""
    try:
        start, stop = (float(one) for one in times)
    except (TypeError, ValueError):
        raise InputError(f"times is a window (start, stop) in seconds; got {times!r}.") from None
    if not start <= stop:
        raise InputError(f"times is a window (start, stop), in order; got {times!r}.")
    return start, stop


def _first_alike(stimuli: Stimuli) -> NDArray[np.int64]:
    """Return for each stimulus the first one that is the same, by content, and say if any is.

    Repeats that come as a picture for every trial would stand on both sides of a split. Stimuli
    that are all alike tell nothing and are taken as they stand, as are files and memory maps, which
    are not read.
    """
    rows = np.arange(len(stimuli))
    held = getattr(stimuli.source, "array", None)
    if not isinstance(held, np.ndarray) or isinstance(held, np.memmap):
        return rows
    first: dict[str, int] = {}
    alike = np.array([first.setdefault(content_digest(held[row]), int(row)) for row in rows])
    if len(first) in (1, len(rows)):
        return rows
    warn(
        f"Of {len(rows)} stimuli, one for each trial, {len(first)} are distinct: trials with the "
        "same content show one stimulus, its repeats. A column 'stimulus' in trials= says "
        "otherwise."
    )
    return alike
