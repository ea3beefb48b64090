"""Judge an encoding model on held-out stimuli: scores, ceilings, shuffled features, permutations.

The pass over the folds of `brainkit.encoding.held_out` is repeated over fold seeds and with
shuffled stimuli, and summed up by unit and by region.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.arrays.progress import track
from brainkit.arrays.seeds import rng
from brainkit.data.preparing import Prepared
from brainkit.data.recording import Recording
from brainkit.encoding.ceilings import check_ceiling, unit_ceiling
from brainkit.encoding.held_out import HeldOut, Tables, held_out, stimuli_of
from brainkit.encoding.patterns import PatternScores, pattern_scores, with_patterns
from brainkit.encoding.protocol import EncodingProtocol, prepare_folds
from brainkit.encoding.summary import Scores, region_table, summarise, unit_table
from brainkit.errors import InputError
from brainkit.evaluation import pearson_r

Array = NDArray[Any]


@dataclass(frozen=True)
class EncodingResult:
    """What `assess_encoder` found.

    Attributes
    ----------
    recording : Recording
        What was encoded.
    units : DataFrame
        The recording's units with r, r2, ceiling, alpha, p, q and status.
    regions : DataFrame
        A row a region: units, mean r, ceiling fraction, the same for shuffled stimuli, p.
    metrics : dict
        By metric id, as in ``metrics.json``.
    predictions, truth : arrays (items, units)
        Held-out predictions and responses of the first seed, see `HeldOut`.
    test_stimuli : array of int (items,)
        Stimulus row of each item.
    counts : dict
        How many units there are, and how many were left out and why.
    fitted : (features, model)
        Fitted on the first fold's training part.
    zscore : dict
        How the responses were z-scored, see `Recording.zscore`.
    ceiling : dict
        Which noise ceiling it is and what it rests on, see `brainkit.encoding.ceilings`; empty
        without one.
    """

    recording: Recording
    protocol: EncodingProtocol
    units: pd.DataFrame
    regions: pd.DataFrame
    metrics: dict[str, Any]
    predictions: Array
    truth: Array
    test_stimuli: Array
    counts: dict[str, int]
    fitted: tuple[Any, Any]
    zscore: dict[str, Any]
    ceiling: dict[str, Any] = field(default_factory=dict)


def assess_encoder(
    recording: Recording,
    features: Any,
    model: Any,
    protocol: EncodingProtocol,
    *,
    regions: Sequence[str] | None = None,
    others: Mapping[str, Recording] | None = None,
) -> EncodingResult:
    """Judge an encoder on held-out stimuli, by unit and by region, beside its nulls.

    Parameters
    ----------
    recording : Recording
        (trial, unit), with stimuli.
    features, model : transformer, estimator
        See `held_out`.
    protocol : EncodingProtocol
        How to judge.
    regions : sequence of str, optional
        Regions to sum up; all that have units where not given.
    others : mapping of str to Recording, optional
        Other subjects who saw the same stimuli, for the cross-subject ceilings.

    Returns
    -------
    EncodingResult

    Raises
    ------
    InputError, SplitError, LeakError
        If the recording does not fit the protocol.
    """
    if len(recording.responses.shape) != 2:
        raise InputError(
            "assess_encoder takes (trial, unit) recordings; got shape "
            f"{recording.responses.shape}. For epochs, fit an estimator on recording.targets()."
        )
    who = recording.subject
    folds = prepare_folds(recording, protocol, seed=protocol.seeds[0])
    stimuli_of(recording)
    check_ceiling(recording, protocol.ceiling, others or {})  # before hours of fits
    tables: Tables | None = {} if len(folds) == 1 else None
    names = list(regions) if regions else recording.region_names
    masks = {name: recording.roi_mask(name) for name in names}
    patterned = masks if protocol.pattern_scores else None
    first = held_out(recording, folds, features, model, tables=tables)
    observed, shuffled = [_scored(first, patterned)], []
    for seed in track(protocol.seeds[1:], f"{who}: encode"):
        # Of the other seeds only the scores are kept: each has the whole recording in its folds.
        again = prepare_folds(recording, protocol, seed=seed)
        run = held_out(recording, again, features, model)
        observed.append(_scored(run, patterned))
    for number in track(range(protocol.shuffles), f"{who}: shuffled stimuli"):
        run = held_out(recording, folds, features, model, exchange=number, tables=tables)
        shuffled.append(_scored(run, patterned))
    ceiling, said = unit_ceiling(recording, protocol, folds, others or {})
    scores = Scores(
        r=np.stack([run.r for run in observed]),
        r2=np.stack([run.r2 for run in observed]),
        shuffled_r=np.stack([run.r for run in shuffled]),
        shuffled_r2=np.stack([run.r2 for run in shuffled]),
        permuted_r=_permuted(recording, folds, features, model, protocol, first),
        ceiling=ceiling,
    )
    usable = np.all([fold.usable for fold in folds], axis=0)
    shown = np.concatenate([fold.test_stimuli for fold in folds])
    table = region_table(masks, scores)
    metrics = summarise(masks, scores, first.truth, first.predicted)
    if patterned:
        seen, null = ([run.patterns for run in runs] for runs in (observed, shuffled))
        table, metrics = with_patterns(table, metrics, seen, null, shown)
    return EncodingResult(
        recording=recording,
        protocol=protocol,
        units=unit_table(recording.units, scores, first.alpha, usable),
        regions=table,
        metrics=metrics,
        predictions=first.predicted,
        truth=first.truth,
        test_stimuli=shown,
        counts={"units": len(usable), "constant_or_nan": int((~usable).sum())},
        fitted=first.fitted,
        zscore=folds[0].zscore,
        ceiling=said,
    )


@dataclass(frozen=True)
class _Scored:
    """What is kept of one pass over a split."""

    r: Array
    r2: Array
    patterns: PatternScores


def _scored(run: HeldOut, masks: dict[str, Array] | None) -> _Scored:
    """Score a pass over a split by unit and, where regions are given, by pattern."""
    return _Scored(
        run.r(), run.r2(), pattern_scores(masks or {}, run.truth, run.predicted, run.fold)
    )


def _permuted(
    recording: Recording,
    folds: Sequence[Prepared],
    features: Any,
    model: Any,
    protocol: EncodingProtocol,
    first: HeldOut,
) -> Array:
    """Return r of each unit in null runs, (permutations, units); no row if none is asked for."""
    rows = []
    for number in track(range(protocol.permutations), f"{recording.subject}: permutations"):
        if len(folds) > 1:
            run = held_out(recording, folds, features, model, exchange=1000 + number)
            rows.append(run.r())
        else:
            order = rng(number, "permuted test items").permutation(len(first.truth))
            rows.append(np.asarray(pearson_r(first.truth[order], first.predicted)))
    return np.stack(rows) if rows else np.empty((0, first.truth.shape[1]))
