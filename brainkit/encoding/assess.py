"""Judge an encoding model on held-out stimuli: scores, ceilings, shuffled features, permutations.

The pass over the folds of `brainkit.encoding.held_out` is repeated over fold seeds and with
shuffled stimuli, and summed up by unit and by region.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.arrays.progress import track
from brainkit.arrays.seeds import rng
from brainkit.data.dependence import Rows
from brainkit.data.preparing import (
    Prepared,
    check_folds,
    check_seeds,
    training_shares,
    zscore_column,
)
from brainkit.data.recording import Recording
from brainkit.encoding.ceilings import check_ceiling, unit_ceiling
from brainkit.encoding.held_out import (
    HeldOut,
    Tables,
    exchanged_stimuli,
    held_out,
    stimuli_of,
)
from brainkit.encoding.patterns import (
    PatternScores,
    by_seed,
    pattern_columns,
    pattern_metrics,
    pattern_scores,
)
from brainkit.encoding.protocol import EncodingProtocol, prepare_folds
from brainkit.encoding.summary import Scores, Sums, region_table, summarise, unit_table
from brainkit.errors import InputError, PenaltyWarning, told_once
from brainkit.evaluation import pearson_r
from brainkit.features import as_features
from brainkit.features.wrapped_spaces import dependent_rows
from brainkit.linear.ridge_estimator import check_model

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
    fold : array of int (items,)
        Fold that each item was held out in.
    counts : dict
        How many units there are, and how many were left out and why.
    fitted : (features, model)
        Fitted on the first fold's training part.
    zscore : dict
        How the responses were z-scored, see `Recording.zscore`.
    ceiling : dict
        Which noise ceiling it is and what it rests on, see `brainkit.encoding.ceilings`; empty
        without one.
    resampling : dict
        What p values and intervals take as independent, and why; and the share of the predictions'
        variance that comes from the training items.
    grid : dict
        How well the penalties suit the data, see `HeldOut`.
    """

    recording: Recording
    protocol: EncodingProtocol
    units: pd.DataFrame
    regions: pd.DataFrame
    metrics: dict[str, Any]
    predictions: Array
    truth: Array
    test_stimuli: Array
    fold: Array
    counts: dict[str, int]
    fitted: tuple[Any, Any]
    zscore: dict[str, Any]
    ceiling: dict[str, Any] = field(default_factory=dict)
    resampling: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, float] = field(default_factory=dict)


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
    features : transformer, or array or DataFrame (stimulus, feature)
        From stimuli to features, see `held_out`; or features that are ready, a row a stimulus (see
        `brainkit.features.Precomputed`).
    model : estimator
        From features to responses, see `held_out`.
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
        If the recording does not fit the protocol, or features or model are none.
    """
    if len(recording.responses.shape) != 2:
        raise InputError(
            "assess_encoder takes (trial, unit) recordings; got shape "
            f"{recording.responses.shape}. For epochs, fit an estimator on recording.targets()."
        )
    who = recording.subject
    stimuli_of(recording)
    features = as_features(features)
    check_model(model)
    protocol = replace(protocol, zscore=zscore_column(recording, protocol.zscore))
    check_ceiling(recording, protocol.ceiling, others or {})  # before hours of fits
    names = list(regions) if regions else recording.region_names
    masks = {name: recording.roi_mask(name) for name in names}
    tables: Tables = {}
    rows = dependent_rows(recording, protocol, [features])
    folds = [prepare_folds(recording, protocol, seed=seed, rows=rows) for seed in protocol.seeds]
    check_folds(folds[0], protocol.split)
    check_seeds(folds, protocol.split)
    known = tables if len(folds[0]) == 1 else None
    ceiling, ceiling_facts = unit_ceiling(recording, protocol, folds[0], others or {})

    def run(
        parts: Sequence[Prepared],
        shown: Sequence[tuple[Array, Array]] | None = None,
        silent: bool = True,
    ) -> HeldOut:
        # Of penalties that do not suit the data the first pass tells; null runs learn nothing.
        with told_once(PenaltyWarning, silent=silent):
            return held_out(recording, parts, features, model, shown=shown, tables=known)

    first = run(folds[0], silent=False)
    second = [run(folds[1])] if len(folds) > 1 else []
    training = training_shares(
        folds[:2],
        [one.predicted for one in (first, *second)],
        lambda few: run(few).predicted,
    )
    sums = Sums(masks, ceiling)
    patterned = masks if protocol.pattern_scores else {}
    observed = []
    for number in track(range(len(folds)), f"{who}: encode"):
        # Of the later seeds only the scores are kept: each has the whole recording in its folds.
        one = [first, *second][number] if number < 2 else run(folds[number])
        sums.add(one, training)
        observed.append(pattern_scores(patterned, one, training))
    del second

    def null(seed: int) -> tuple[Array, Array, PatternScores]:
        """Return r, R² and pattern scores of fits to exchanged stimuli, over all fold seeds."""

        def exchange(part: Rows, number: int) -> Array:
            return part.exchanged(rng(seed, "exchanged stimuli", number))

        runs = [run(parts, exchanged_stimuli(parts, rows, exchange)) for parts in folds]
        return (
            np.mean([one.r() for one in runs], axis=0),
            np.mean([one.r2() for one in runs], axis=0),
            by_seed([pattern_scores(patterned, one) for one in runs]),
        )

    shuffled = [
        null(number) for number in track(range(protocol.shuffles), f"{who}: shuffled stimuli")
    ]

    def permuted_r(number: int) -> Array:
        """Return r of fits to permuted stimuli; with one fold those of the test part change."""
        if len(folds[0]) > 1:
            moved = exchanged_stimuli(
                folds[0], rows, lambda part, _: part.permuted(number, protocol.permutations)
            )
            return run(folds[0], moved).r()
        order = first.rows.permuted(number, protocol.permutations)
        return np.asarray(pearson_r(first.truth, first.predicted[order], fold=first.fold))

    permuted = [
        permuted_r(number) for number in track(range(protocol.permutations), f"{who}: permutations")
    ]
    scores = Scores(
        r=np.mean(sums.r, axis=0),
        r2=np.mean(sums.r2, axis=0),
        by_seed=np.stack(sums.r),
        shuffled_r=np.stack([r for r, *_ in shuffled]),
        shuffled_r2=np.stack([r2 for _, r2, _ in shuffled]),
        permuted_r=np.stack(permuted) if permuted else np.empty((0, len(training))),
        ceiling=ceiling,
    )
    usable = np.all([fold.usable for fold in folds[0]], axis=0)
    table = region_table(sums, scores)
    metrics = summarise(sums, scores)
    if protocol.pattern_scores:
        patterns, by_chance = by_seed(observed), by_seed([one for *_, one in shuffled])
        table = pd.concat([table, pattern_columns(patterns, by_chance)], axis=1)
        metrics |= pattern_metrics(patterns, by_chance)
    return EncodingResult(
        recording=recording,
        protocol=protocol,
        units=unit_table(recording.units, scores, first.alpha, usable),
        regions=table,
        metrics=metrics,
        predictions=first.predicted,
        truth=first.truth,
        test_stimuli=first.rows.shown,
        fold=first.fold,
        counts={"units": len(usable), "constant_or_nan": int((~usable).sum())},
        fitted=first.fitted,
        zscore=folds[0][0].zscore,
        ceiling=ceiling_facts,
        resampling={**rows.facts, "training_share": float(training[usable].mean())},
        grid=first.grid,
    )
