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
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.memory import pick_batch
from brainkit.arrays.sources import Averaged, Float, Index, Memory, Source, Standardised, View
from brainkit.data.rois import region_names, roi_mask, roi_names
from brainkit.data.spaces import Space, check_space
from brainkit.data.stimuli import Stimuli
from brainkit.errors import InputError, SplitError, listed

if TYPE_CHECKING:
    from brainkit.data.splits import Split


@dataclass(frozen=True)
class Responses:
    """Lazily read responses; `shape` is (trials, units) or (trials, units, time)."""

    source: Source

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole, without reading it."""
        return self.source.shape

    def read(self, trials: ArrayLike | None = None, units: ArrayLike | None = None) -> Float:
        """Read some trials (samples) of some units as a new float32 array.

        Parameters
        ----------
        trials, units : array of int or bool, optional
            Positions or a mask; all where not given.
        """
        rows = None if trials is None else positions(trials, self.shape[0], "trials")
        columns = None if units is None else positions(units, self.shape[1], "units")
        return self.source.read(rows, columns)


def positions(chosen: ArrayLike | slice, size: int, what: str) -> Index:
    """Turn a mask, a slice or positions into positions; raises where one does not exist."""
    if isinstance(chosen, slice):
        return np.arange(size)[chosen]
    array = np.asarray(chosen)
    if array.dtype == bool:
        if array.shape != (size,):
            raise InputError(f"A mask of {what} needs {size} values; got shape {array.shape}.")
        return np.flatnonzero(array)
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise InputError(
            f"Choose {what} by a mask, a slice or integer positions; got {array.dtype} of shape "
            f"{array.shape}."
        )
    outside = array[(array < 0) | (array >= size)]
    if outside.size:
        raise InputError(
            f"{what} out of range: {listed(np.unique(outside))}; there are {size}, from 0."
        )
    return array.astype(np.int64)


@dataclass(frozen=True)
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
    info: dict[str, Any] = field(default_factory=dict)

    # -- making one --------------------------------------------------------------------------

    @classmethod
    def from_source(cls, source: Source, **parts: Any) -> Self:
        """Make a recording of a lazy source; the parts are the attributes of the class."""
        recording = cls(responses=Responses(source), **parts)
        recording._check()
        return recording

    @classmethod
    def from_arrays(
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
        info: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make a recording of arrays of your own.

        Parameters
        ----------
        responses : array (trial, unit), (trial, unit, time) or (sample, unit)
            May be a memory map; it is not copied.
        trials, samples : DataFrame, optional
            A row for each row of `responses`. Where neither is given the rows are trials, and
            trial i shows stimulus i if there are as many stimuli.
        units : DataFrame, optional
            A row for each unit.
        stimuli : Stimuli or array (stimulus, ...), optional
            What was shown.

        Raises
        ------
        InputError
            If tables and arrays do not fit each other.
        """
        array = np.asanyarray(responses)
        if array.ndim not in (2, 3) or not np.issubdtype(array.dtype, np.number):
            raise InputError(
                "responses must be numbers, (trial, unit), (trial, unit, time) or (sample, unit); "
                f"got {array.dtype} of shape {array.shape}."
            )
        if stimuli is not None and not isinstance(stimuli, Stimuli):
            stimuli = Stimuli(stimuli)
        if trials is None and samples is None:
            trials = pd.DataFrame(index=range(len(array)))
            if stimuli is not None and len(stimuli) == len(array):
                trials["stimulus"] = np.arange(len(array))
        return cls.from_source(
            Memory(array),
            subject=subject,
            trials=trials,
            samples=samples,
            events=events,
            units=pd.DataFrame(index=range(array.shape[1])) if units is None else units,
            stimuli=stimuli,
            space=space,
            times=None if times is None else np.asarray(times, dtype=np.float64),
            sfreq=sfreq,
            info=dict(info or {}),
        )

    @classmethod
    def from_mne(cls, data: Any, **options: Any) -> Self:
        """Make a recording of MNE's Epochs (labels from the event names) or Raw.

        See `brainkit.data.from_mne.read_mne` for the options.
        """
        from brainkit.data.from_mne import read_mne

        return cls.from_source(**read_mne(data, **options))

    @classmethod
    def from_nifti(
        cls,
        images: str | Path | Sequence[str | Path],
        mask: str | Path,
        trials: pd.DataFrame | None = None,
        **options: Any,
    ) -> Self:
        """Make a recording of NIfTI volumes, a volume a trial, and a mask on the same grid.

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
        check_space(self.space, self.units)
        if self.stimuli is not None and self.trials is not None and "stimulus" in self.trials:
            rows = self.trials["stimulus"].dropna().to_numpy(dtype=np.int64)
            outside = rows[(rows < 0) | (rows >= len(self.stimuli))]
            if outside.size:
                raise InputError(
                    f"Trials show stimulus rows {listed(np.unique(outside))}, but there are "
                    f"{len(self.stimuli)} stimuli, numbered from 0."
                )

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
        shown = f", {len(self.stimuli)} stimuli" if self.stimuli is not None else ""
        simulated = ", simulated" if self.info.get("simulated") else ""
        return f"Recording({self.subject!r}: {shape}{shown}{simulated})"

    def roi_mask(self, roi: str | Sequence[str]) -> NDArray[np.bool_]:
        """Return which units belong to a ROI, or to any of several."""
        return roi_mask(self.units, roi)

    def stimulus_rows(self) -> Index:
        """Return the stimulus row of each trial.

        Raises
        ------
        InputError
            If the recording has no stimuli, or a trial shows none.
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
        return rows.to_numpy(dtype=np.int64)

    # -- selecting ---------------------------------------------------------------------------

    def select(
        self,
        trials: ArrayLike | slice | None = None,
        units: ArrayLike | slice | None = None,
        roi: str | Sequence[str] | None = None,
    ) -> Self:
        """Return some trials (samples) and units; copies nothing.

        Parameters
        ----------
        trials : array of bool or int, or slice, optional
            Rows to keep, in this order.
        units : array of bool or int, or slice, optional
            Units to keep, in this order.
        roi : str or sequence of str, optional
            Keep the units of a ROI, or of any of several. With `units`, both must hold.
        """
        rows = None if trials is None else positions(trials, self.responses.shape[0], "trials")
        columns = None if units is None else positions(units, self.responses.shape[1], "units")
        if roi is not None:
            inside = self.roi_mask(roi)
            columns = np.flatnonzero(inside) if columns is None else columns[inside[columns]]
        changes: dict[str, Any] = {"responses": Responses(View(self.responses.source, rows, columns))}
        if rows is not None:
            name = "trials" if self.samples is None else "samples"
            changes[name] = self.rows.iloc[rows].reset_index(drop=True)
        if columns is not None:
            changes["units"] = self.units.iloc[columns].reset_index(drop=True)
            changes["space"] = None if self.space is None else self.space.select(columns)
        return replace(self, **changes)

    def split(self, preset: str, *, seed: int = 0) -> "Split":
        """Split by a named preset, such as ``kfold:10:stimulus``; see `brainkit.data.splits`."""
        from brainkit.data.splits import make_split

        return make_split(self, preset, seed=seed)

    # -- changing it -------------------------------------------------------------------------

    def average_repeats(self, by: str = "stimulus") -> Self:
        """Average the trials of each stimulus (or of each value of another column).

        The new trials keep every column that is constant within all groups, and gain
        `n_repeats`. Z-score first: session statistics have no meaning afterwards.
        """
        if self.trials is None:
            raise InputError("Only trials have repeats; this recording is continuous.")
        if by not in self.trials or self.trials[by].isna().any():
            raise InputError(
                f"Averaging needs a column {by!r} without missing values in the trials; there are "
                f"{list(self.trials.columns)}."
            )
        numbers, _ = pd.factorize(self.trials[by], sort=True)
        order = np.argsort(numbers, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
        first = self.trials.iloc[[group[0] for group in groups]].reset_index(drop=True)
        spread = self.trials.groupby(numbers).nunique(dropna=False).max()
        trials = first.loc[:, (spread == 1).reindex(first.columns).to_numpy()].copy()
        trials["n_repeats"] = [len(group) for group in groups]
        source = Averaged(self.responses.source, groups)
        return replace(self, responses=Responses(source), trials=trials)

    def zscore(
        self, by: str | None = "session", *, fit_on: ArrayLike | None = None,
        unseen: str | None = None,
    ) -> Self:
        """Standardise each unit, by session, with the statistics of the training trials.

        Parameters
        ----------
        by : str or None, default="session"
            Column that names the groups with statistics of their own; None for one group.
        fit_on : array of bool or int, optional
            The training trials, which alone give mean and standard deviation; all where not given.
        unseen : {None, "session-unlabelled"}
            What to do with a group that has no training trials: raise, or use the group's own
            statistics (without labels). The latter is *transductive*, and `info` says so.

        Returns
        -------
        Recording
            ``(x − mean_g) / sd_g``, population standard deviation; a constant unit becomes NaN.

        Raises
        ------
        SplitError
            If a group has no training trials and `unseen` is not given.
        """
        if unseen not in (None, "session-unlabelled"):
            raise InputError(f"unseen must be None or 'session-unlabelled'; got {unseen!r}.")
        if by is not None and by not in self.rows:
            raise InputError(
                f"There is no column {by!r} to z-score by; there are {list(self.rows.columns)}. "
                "Pass by=None to standardise over all trials."
            )
        n_rows = len(self.rows)
        fitted = np.arange(n_rows) if fit_on is None else positions(fit_on, n_rows, "trials")
        names = pd.Series(np.zeros(n_rows)) if by is None else self.rows[by]
        group, labels = pd.factorize(names, sort=True)
        members = []
        transductive = []
        for number, label in enumerate(labels):
            rows = fitted[group[fitted] == number]
            if len(rows) == 0 and unseen is None:
                raise SplitError(
                    f"The {by} {label} has no training trials, so it cannot be z-scored. Split "
                    f"within each {by}, or pass unseen='session-unlabelled' to use its own "
                    "unlabelled trials (transductive)."
                )
            if len(rows) == 0:
                transductive.append(label)
                rows = np.flatnonzero(group == number)
            members.append(rows)
        shift, scale = self._statistics(members)
        source = Standardised(self.responses.source, group, shift, scale)
        record = {"by": by, "transductive": bool(transductive), "unseen": transductive}
        info = {**self.info, "zscore": record, "measure": "standard deviations"}
        return replace(self, responses=Responses(source), info=info)

    def _statistics(self, members: Sequence[Index]) -> tuple[Float, Float]:
        """Mean and sd of each group of rows, in batches of units; a constant unit has sd 0."""
        shape = self.responses.shape
        shift = np.empty((len(members), *shape[1:]), dtype=np.float32)
        scale = np.empty_like(shift)
        batch = pick_batch(8 * shape[0] * int(np.prod(shape[2:], dtype=int)), max(shape[1], 1))
        for start in range(0, shape[1], batch):
            columns = np.arange(start, min(start + batch, shape[1]))
            values = self.responses.source.read(None, columns)
            for number, rows in enumerate(members):
                part = values[rows].astype(np.float64)
                centre = part.mean(axis=0)
                spread = part.std(axis=0)
                spread[np.ptp(part, axis=0) == 0] = 0.0
                shift[number, columns], scale[number, columns] = centre, spread
        return shift, scale

    # -- to estimators and back ----------------------------------------------------------------

    def targets(self) -> Float:
        """Read all responses as (sample, unit × time) for estimators, time running fastest."""
        values = self.responses.read()
        return values.reshape(len(values), -1)

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
