"""Rank stimuli for every region of a subject, with an encoder and a judge from disjoint trials."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from brainkit.arrays.seeds import rng
from brainkit.data.preparing import AverageRepeats, Prepared, prepare, zscore_column
from brainkit.data.recording import Recording
from brainkit.data.splits import SplitLike, kept_split
from brainkit.data.stimuli import Stimuli
from brainkit.errors import InputError, SplitError, unknown_name
from brainkit.evaluation import pearson_r
from brainkit.evaluation.metrics import metric_entry
from brainkit.features import as_features, read_for
from brainkit.features.wrapped_spaces import dependent_rows
from brainkit.linear.ridge_estimator import check_model, fit_rows
from brainkit.synthesis.rank import FittedEncoder, Ranking, rank_regions

Array = NDArray[Any]


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
        (trial, unit), with stimuli.
    encoder, judge : (features, model)
        Unfitted, or features that are ready (see `brainkit.features.Precomputed`); the features
        must differ.
    protocol : RankingProtocol
        How to rank.
    regions : sequence of str, optional
        All that have units where not given.
    """
    stimuli = _shown(recording)
    if len(recording.responses.shape) != 2:
        raise InputError(
            f"assess_ranking takes (trial, unit) recordings; got {recording.responses.shape}."
        )
    fold = recording.split(protocol.split, seed=protocol.seed).folds[0]
    prepared = prepare(
        fold,
        zscore=zscore_column(recording, protocol.zscore),
        unseen=protocol.unseen,
        average_repeats=protocol.average_repeats,
        rows=dependent_rows(recording, protocol, [as_features(encoder[0]), as_features(judge[0])]),
    )
    halves = _halves(prepared.train_stimuli, protocol.seed)
    first, second = (
        _fit(recording, prepared, inside, pair)
        for inside, pair in zip(halves, (encoder, judge), strict=True)
    )
    bank = _bank(recording, prepared, protocol)
    usable = prepared.usable
    masks, against = _masks(recording, usable, regions, protocol.against)
    rankings = rank_regions(first, second, stimuli, bank, masks, against=against, n=protocol.n)
    table = _region_table(recording, prepared, (first, second), rankings, masks)
    return RankingResult(
        recording=recording,
        protocol=protocol,
        rankings=rankings,
        regions=table,
        metrics=_metrics(table, rankings, protocol.n),
        counts={"units": len(usable), "constant_or_nan": int((~usable).sum())},
        encoder=first,
        zscore=prepared.zscore,
    )


def _masks(
    recording: Recording, usable: Array, regions: Sequence[str] | None, against: str | None
) -> tuple[dict[str, Array], Array | None]:
    """Return which usable units lie in each region, and in the one that it is ranked against."""
    names = list(regions) if regions else recording.region_names
    if not names:  # of a recording that knows none, all units are one
        return {"all": np.ones(int(usable.sum()), dtype=bool)}, None
    masks = {name: recording.roi_mask(name)[usable] for name in names if name != against}
    masks = {name: inside for name, inside in masks.items() if inside.any()}
    if not masks:
        raise InputError(
            f"Stimuli are ranked by region, but no region of {recording.subject} has a usable unit."
        )
    return masks, None if against is None else recording.roi_mask(against)[usable]


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
                "units": int(inside.sum()),
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
