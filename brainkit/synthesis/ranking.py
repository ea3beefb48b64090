"""Rank the stimuli of a bank by how much an encoder says they drive a region.

An encoder that chose the stimuli cannot judge them: it would praise its own errors. Every ranking
is judged by a second encoder, fitted on other features and other trials; that is checked, not
trusted (trap T18). `assess_ranking` does it for every region of a person, with an encoder and a
judge from disjoint trials.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from brainkit.arrays.seeds import rng
from brainkit.arrays.sources import Index
from brainkit.data.preparing import AverageRepeats, Prepared, prepare, zscore_column
from brainkit.data.recording import Recording
from brainkit.data.splits import SplitLike, kept_split
from brainkit.data.stimuli import Stimuli
from brainkit.errors import InputError, LeakError, SplitError, listed, unknown_name
from brainkit.evaluation import pearson_r
from brainkit.evaluation.metrics import metric_entry
from brainkit.features import (
    as_features,
    read_for,
)
from brainkit.features.design import Design, independent_rows
from brainkit.linear.ridge_estimator import check_model, fit_rows, predict_rows

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
    inner = getattr(features, "spaces", None)
    if inner is None and hasattr(features, "space"):
        inner = [features.space]
    if inner is not None:
        return frozenset().union(*(_spaces(space) for space in inner))
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


# ------------------------------------------------------------------- all regions of a person


@dataclass(frozen=True)
class RankingProtocol:
    """How stimuli are ranked.

    Parameters
    ----------
    split : str, splitter, list of (train, test), or Split
        See `Recording.split`. Half of the training stimuli fit the encoder, the other half the
        judge; the test part tells how well each predicts. With several folds the first is used.
    n : int
        Stimuli to show for each region.
    bank : {"unseen", "test"}
        Rank the stimuli that this subject never saw, or those of the test part.
    bank_size : int, optional
        Rank a random part of the bank, of this size.
    against : str, optional
        Rank for the contrast with this region.
    seed : int
        Of the halves.
    zscore, unseen, average_repeats
        See `brainkit.data.preparing.prepare`.
    resample : str
        What is independent, for inner folds; see `brainkit.data.dependence.dependence`.
    """

    split: SplitLike
    n: int = 10
    bank: str = "unseen"
    bank_size: int | None = None
    against: str | None = None
    seed: int = 0
    zscore: str | None = "session"
    unseen: str | None = None
    average_repeats: AverageRepeats = True
    resample: str = "auto"

    def __post_init__(self) -> None:
        if self.bank not in ("unseen", "test"):
            raise unknown_name("bank", self.bank, ("unseen", "test"))
        if self.n < 1:
            raise InputError(f"n, the stimuli to show for each region, must be positive: {self.n}.")
        object.__setattr__(self, "split", kept_split(self.split))


@dataclass(frozen=True)
class RankingResult:
    """The rankings of all regions.

    Attributes
    ----------
    rankings : dict of str to Ranking
        By region.
    regions : DataFrame
        A row a region: units, the judge's percentile of the chosen stimuli, a null with stimuli
        drawn at random, agreement, and how well encoder and judge predict the test responses.
    metrics : dict
        By metric id.
    """

    recording: Recording
    protocol: RankingProtocol
    rankings: dict[str, Ranking]
    regions: pd.DataFrame
    metrics: dict[str, Any]
    counts: dict[str, int]
    encoder: FittedEncoder
    zscore: dict[str, Any]
    prepared: Prepared | None = field(default=None, repr=False)


def assess_ranking(
    recording: Recording,
    encoder: tuple[Any, Any],
    judge: tuple[Any, Any],
    protocol: RankingProtocol,
    *,
    regions: Sequence[str] | None = None,
) -> RankingResult:
    """Rank the bank for every region and let the judge say how good the choice is.

    Parameters
    ----------
    recording : Recording
        (trial, unit) or (trial, unit, time), with stimuli; of epochs a region's drive is the mean
        over its units and all times, of which ``recording.select(times=...)`` leaves a window.
    encoder, judge : (features, model)
        Unfitted, or features that are ready (see `brainkit.features.Precomputed`); the features
        must differ.
    protocol : RankingProtocol
        How to rank.
    regions : sequence of str, optional
        All that have units where not given.
    """
    stimuli = _shown(recording)
    fold = recording.split(protocol.split, seed=protocol.seed).folds[0]
    designs = [Design.from_stimuli(recording, features) for features, _ in (encoder, judge)]
    prepared = prepare(
        fold,
        zscore=zscore_column(recording, protocol.zscore),
        unseen=protocol.unseen,
        average_repeats=protocol.average_repeats,
        rows=independent_rows(recording, protocol, designs),
    )
    halves = _halves(prepared.train_stimuli, protocol.seed)
    first, second = (
        _fit(recording, prepared, inside, pair)
        for inside, pair in zip(halves, (encoder, judge), strict=True)
    )
    bank = _bank(recording, prepared, protocol)
    masks, against = _masks(recording, prepared, regions, protocol.against)
    rankings = rank_regions(first, second, stimuli, bank, masks, against=against, n=protocol.n)
    table = _region_table(recording, prepared, (first, second), rankings, masks)
    return RankingResult(
        recording=recording,
        protocol=protocol,
        rankings=rankings,
        regions=table,
        metrics=_metrics(table, rankings, protocol.n),
        counts=prepared.counts,
        encoder=first,
        zscore=prepared.zscore,
        prepared=prepared,
    )


def _masks(
    recording: Recording, prepared: Prepared, regions: Sequence[str] | None, against: str | None
) -> tuple[dict[str, Array], Array | None]:
    """Return which usable targets lie in each region, and in the one that it is ranked against."""
    names = list(regions) if regions else recording.region_names
    if not names:  # of a recording that knows none, all units are one
        return {"all": np.ones(int(prepared.usable.sum()), dtype=bool)}, None
    masks = {
        name: prepared.usable_of(recording.roi_mask(name)) for name in names if name != against
    }
    masks = {name: inside for name, inside in masks.items() if inside.any()}
    if not masks:
        raise InputError(
            f"Stimuli are ranked by region, but no region of {recording.subject} has a usable unit."
        )
    return masks, None if against is None else prepared.usable_of(recording.roi_mask(against))


def _halves(stimuli: Array, seed: int) -> tuple[Array, Array]:
    """Mask the items of two random halves of the stimuli."""
    unique = np.unique(stimuli)
    if len(unique) < 4:
        raise SplitError(
            f"Encoder and judge need training stimuli of their own; there are {len(unique)}."
        )
    chosen = rng(seed, "encoder and judge").permutation(unique)[: len(unique) // 2]
    inside = np.isin(stimuli, chosen)
    return inside, ~inside


def _shown(recording: Recording) -> Stimuli:
    """Return the recording's stimuli, or raise where it has none."""
    if recording.stimuli is None:
        raise InputError("Ranking needs stimuli; this recording has none.")
    return recording.stimuli


def _fit(
    recording: Recording, prepared: Prepared, inside: Array, pair: tuple[Any, Any]
) -> FittedEncoder:
    check_model(pair[1])
    features, model = clone(as_features(pair[0])), clone(pair[1])
    rows = prepared.train_stimuli[inside]
    unique, items = np.unique(rows, return_inverse=True)
    stimuli = _shown(recording)
    X = features.fit_transform(read_for(features, stimuli, unique))[items]
    Y = prepared.train[inside][:, prepared.usable]
    fit_rows(model, X, Y, groups=prepared.train_rows.groups[inside])
    return FittedEncoder(features, model, frozenset(unique.tolist()))


def _bank(recording: Recording, prepared: Prepared, protocol: RankingProtocol) -> Array:
    """Return the stimulus rows to rank."""
    if protocol.bank == "test":
        bank = np.unique(prepared.test_stimuli)
    else:
        n_stimuli = len(recording.stimuli or ())
        bank = np.setdiff1d(np.arange(n_stimuli), recording.stimulus_rows())
        if not len(bank):
            raise InputError(
                f"{recording.subject} saw all {n_stimuli} stimuli, so none is unseen; rank the "
                "test part instead (bank='test')."
            )
    if protocol.bank_size is None or protocol.bank_size >= len(bank):
        return bank
    return np.sort(rng(protocol.seed, "bank").permutation(bank)[: protocol.bank_size])


def _region_table(
    recording: Recording,
    prepared: Prepared,
    pair: tuple[FittedEncoder, FittedEncoder],
    rankings: dict[str, Ranking],
    masks: dict[str, Array],
) -> pd.DataFrame:
    stimuli = _shown(recording)
    truth = prepared.test[:, prepared.usable]
    predicted = [model.predict(model.read(stimuli, prepared.test_stimuli)) for model in pair]
    unit = np.flatnonzero(prepared.usable) // prepared.n_times  # of each target
    rows = []
    for name, ranking in rankings.items():
        inside = masks[name]
        target = truth[:, inside].mean(axis=1)
        encoder_r, judge_r = (
            float(pearson_r(target, part[:, inside].mean(axis=1))) for part in predicted
        )
        rows.append(
            {
                "region": name,
                "units": len(np.unique(unit[inside])),
                "judged percentile": float(ranking.judged_percentile.mean()),
                "random percentile": 50.0,
                "agreement": ranking.agreement,
                "encoder r": encoder_r,
                "judge r": judge_r,
            }
        )
    return pd.DataFrame(rows)


def _metrics(table: pd.DataFrame, rankings: dict[str, Ranking], n: int) -> dict[str, Any]:
    if table.empty:
        return {}
    by_region = table.set_index("region")
    name = f"ranked_judged_percentile_top{n}"
    entry = metric_entry(
        name,
        float(by_region["judged percentile"].mean()),
        n=len(table),
        nulls={"random_stimuli": float(by_region["random percentile"].mean())},
        by_roi=by_region["judged percentile"].to_dict(),
        judge_r_by_roi=by_region["judge r"].to_dict(),
        n_bank=len(next(iter(rankings.values())).bank),
    )
    return {name: entry}
