"""Rank the stimuli of a bank by how much an encoder says they drive a region.

An encoder that chose the stimuli cannot judge them: it would praise its own errors. Every ranking
is judged by a second encoder, fitted on other features and other trials; that is checked, not
trusted (trap T18).
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.sources import Index
from brainkit.data.stimuli import Stimuli
from brainkit.errors import InputError, LeakError, listed
from brainkit.evaluation import pearson_r
from brainkit.features import (
    FeatureStack,
    PrincipalSpace,
    Remembered,
    SingleSpace,
    read_for,
)
from brainkit.linear.ridge_estimator import predict_rows

Array = NDArray[Any]
BATCH = 512  # stimuli read at once: a bank of photographs does not fit in memory
ROUNDING = 8 * float(np.finfo(np.float32).eps)  # relative, of predictions


@dataclass(frozen=True)
class FittedEncoder:
    """A fitted encoding model with what it was fitted on.

    Attributes
    ----------
    features : transformer
        Fitted, from stimuli to features.
    model : estimator
        Fitted, from features to the responses of all units.
    trained_on : frozenset of int
        Stimulus rows of its training trials.
    """

    features: Any
    model: Any
    trained_on: AbstractSet[int]

    def read(self, stimuli: Stimuli, rows: ArrayLike) -> Any:
        """Read what the features take of some stimuli."""
        return read_for(self.features, stimuli, rows)

    def predict(self, stimuli: Any) -> Array:
        """Predict the responses of all units, (n, units), to what `read` gives."""
        return predict_rows(self.model, self.features.transform(stimuli))


@dataclass(frozen=True)
class Ranking:
    """The stimuli of a bank that should drive a region most.

    Attributes
    ----------
    rows : array of int (n,)
        Stimulus rows, best first.
    predicted : array (n,)
        The encoder's predicted drive of each, in standard deviations over the bank.
    judged : array (n,)
        The judge's, likewise.
    judged_percentile : array (n,)
        Share of the rest of the bank, in percent, that the judge predicts to drive the region less;
        ties count one half. Chance is 50.
    bank : array of int (n_bank,)
        Stimulus rows that were ranked.
    agreement : float
        Correlation of encoder and judge over the bank; NaN if one predicts the same for all.
    """

    rows: Index
    predicted: Array
    judged: Array
    judged_percentile: Array
    bank: Index
    agreement: float


def rank_stimuli(
    encoder: FittedEncoder,
    judge: FittedEncoder,
    stimuli: Stimuli,
    bank: ArrayLike,
    units: ArrayLike,
    *,
    against: ArrayLike | None = None,
    n: int = 10,
) -> Ranking:
    r"""Rank the stimuli of a bank by the drive that an encoder predicts.

    The drive of stimulus x is :math:`d(x) = \mathrm{mean}_{v \in U} \hat y_v(x)`, less the same
    mean over `against` for a contrast of regions.

    Parameters
    ----------
    encoder : FittedEncoder
        Ranks.
    judge : FittedEncoder
        Judges what was ranked highest; fitted on other features and other stimuli than `encoder`.
    stimuli : Stimuli
        Where the bank is.
    bank : array of int (n_bank,)
        Stimulus rows to rank. None may have trained either model.
    units : array of bool (units,)
        The region.
    against : array of bool (units,), optional
        A region to be driven little.
    n : int, default=10
        How many stimuli to return.

    Returns
    -------
    Ranking

    Raises
    ------
    LeakError
        If encoder and judge share training stimuli, or the bank holds stimuli of either.
    InputError
        If encoder and judge share a feature space, the region is empty, or the bank is not rows.
    """
    regions = {"region": units}
    return rank_regions(encoder, judge, stimuli, bank, regions, against=against, n=n)["region"]


def rank_regions(
    encoder: FittedEncoder,
    judge: FittedEncoder,
    stimuli: Stimuli,
    bank: ArrayLike,
    regions: Mapping[str, ArrayLike],
    *,
    against: ArrayLike | None = None,
    n: int = 10,
) -> dict[str, Ranking]:
    """Rank the stimuli of a bank for several regions, predicting each stimulus once.

    Parameters
    ----------
    regions : mapping of str to array of bool (units,)
        The regions; the other parameters and the errors are those of `rank_stimuli`.
    """
    rows = np.unique(np.asarray(bank))
    if not np.issubdtype(rows.dtype, np.integer) or len(rows) < 2:
        raise InputError(
            f"The bank must be at least 2 stimulus rows, integers; got {len(rows)} different "
            f"values of type {rows.dtype}."
        )
    _check_judge(encoder, judge, rows)
    if not 1 <= n <= len(rows):
        raise InputError(f"n must be from 1 to the {len(rows)} stimuli of the bank; got {n}.")
    drives = _drives(encoder, stimuli, rows, regions, against)  # (n_bank, n_regions)
    judgements = _drives(judge, stimuli, rows, regions, against)
    return {
        name: _best(drives[:, place], judgements[:, place], rows, n)
        for place, name in enumerate(regions)
    }


def _best(drive: Array, judged: Array, rows: Index, n: int) -> Ranking:
    best = np.argsort(-drive, kind="stable")[:n]
    chosen = judged[best][:, None]
    others = len(judged) - 1
    below = (judged < chosen).sum(axis=1) + 0.5 * ((judged == chosen).sum(axis=1) - 1)
    return Ranking(
        rows=rows[best],
        predicted=drive[best],
        judged=judged[best],
        judged_percentile=100 * below / others,
        bank=rows,
        agreement=float(pearson_r(drive, judged)),
    )


def _drives(
    encoder: FittedEncoder,
    stimuli: Stimuli,
    rows: Index,
    regions: Mapping[str, ArrayLike],
    against: ArrayLike | None,
) -> Array:
    """Return each region's mean prediction (less the other's), standardised over the bank."""
    parts = []
    for start in range(0, len(rows), BATCH):
        predicted = encoder.predict(encoder.read(stimuli, rows[start : start + BATCH]))
        part = np.stack([_region_mean(predicted, units, "region") for units in regions.values()], 1)
        if against is not None:
            part -= _region_mean(predicted, against, "region to rank against")[:, None]
        parts.append(part)
    drive = np.concatenate(parts)
    spread = drive.std(axis=0)
    # Equal drives differ by rounding; scaled to unit variance that would look like a preference.
    varies = spread > ROUNDING * np.abs(drive).max(axis=0)
    return np.where(varies, (drive - drive.mean(axis=0)) / np.where(varies, spread, 1.0), 0.0)


def _region_mean(predicted: Array, units: ArrayLike, what: str) -> Array:
    inside = np.asarray(units)
    if inside.dtype != bool or inside.shape != predicted.shape[1:] or not inside.any():
        raise InputError(
            f"The {what} must be a mask of {predicted.shape[1]} units with at least one inside; "
            f"got {inside.dtype} of shape {inside.shape} with {int(inside.sum())} inside."
        )
    return predicted[:, inside].mean(axis=1, dtype=np.float64)


def _spaces(features: Any) -> frozenset[str]:
    """Name the feature spaces inside stacks, scalings and memories, with all their parameters."""
    if isinstance(features, FeatureStack):
        return frozenset().union(*(_spaces(space) for space in features.spaces))
    if isinstance(features, SingleSpace | Remembered | PrincipalSpace):
        return _spaces(features.space)
    settings = features.get_params() if hasattr(features, "get_params") else {"id": id(features)}
    values = ", ".join(f"{name}={settings[name]!r}" for name in sorted(settings))
    return frozenset({f"{type(features).__name__}({values})"})


def _check_judge(encoder: FittedEncoder, judge: FittedEncoder, bank: Index) -> None:
    if encoder is judge or encoder.model is judge.model:
        raise InputError("The judge must be another model than the encoder that ranks.")
    common = _spaces(encoder.features) & _spaces(judge.features)
    if common:
        raise InputError(
            "The judge must use other features than the encoder; both use "
            f"{listed(sorted(common))}."
        )
    shared = sorted(set(encoder.trained_on) & set(judge.trained_on))
    if shared:
        raise LeakError(
            f"Encoder and judge were both fitted on {len(shared)} stimuli: {listed(shared)}. "
            "Fit the judge on other trials.",
            shared,
        )
    known = sorted(set(bank.tolist()) & (set(encoder.trained_on) | set(judge.trained_on)))
    if known:
        raise LeakError(
            f"The bank holds {len(known)} stimuli that a model was fitted on: {listed(known)}.",
            known,
        )
