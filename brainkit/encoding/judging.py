"""Judge an encoding model on held-out rows: scores, ceilings, shuffled features, permutations.

The pass over the folds of `brainkit.encoding.passes` is repeated over fold seeds and with
exchanged stimuli, and summed up by unit and by region. What rows are makes no difference: trials
that show stimuli, epochs (each unit and time point a target), or samples of continuous data, whose
null runs shift the features in time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.arrays.array_likes import whole_number
from brainkit.arrays.progress import track
from brainkit.arrays.seeds import rng
from brainkit.data.dependence import Rows
from brainkit.data.preparing import (
    AverageRepeats,
    Prepared,
    PreparedFolds,
    Slot,
    check_folds,
    check_seeds,
    prepare_split,
    training_shares,
    zscore_column,
)
from brainkit.data.recording import Recording
from brainkit.data.splits import SplitLike, kept_split
from brainkit.encoding.passes import HeldOut, Shown, Tables, exchanged_stimuli, held_out
from brainkit.encoding.score_tables import (
    PatternScores,
    Scores,
    Sums,
    by_seed,
    pattern_columns,
    pattern_metrics,
    pattern_scores,
    region_table,
    summarise,
    time_table,
    unit_table,
)
from brainkit.encoding.unit_ceilings import check_ceiling, unit_ceiling
from brainkit.errors import InputError, PenaltyWarning, told_once
from brainkit.evaluation import pearson_r
from brainkit.features.design import Design, as_design, independent_rows
from brainkit.linear.ridge_estimator import check_model

Array = NDArray[Any]


@dataclass(frozen=True)
class EncodingProtocol:
    """How an encoder is judged.

    Parameters
    ----------
    split : str, splitter, list of (train, test), or Split
        See `Recording.split`.
    seeds : tuple of int
        Seeds of the folds; scores are averaged over them.
    zscore : str or None
        Column whose groups are z-scored with training statistics, usually "session"; values stay
        as they are where the trials name no sessions.
    unseen : {None, "session-unlabelled"}
        See `Recording.zscore`.
    average_repeats : bool or "test"
        Average the trials of each stimulus within each part, or within the test part alone.
    ceiling : {"auto", "ncsnr", "split-half", "cross-subject", "cross-subject-all", None}
        Noise ceiling, see `brainkit.encoding.unit_ceilings`; None for none. "auto" is NSD's where
        enough stimuli were shown three times, that of split halves where they were shown twice,
        else none.
    permutations : int
        Null runs for p values, which are those of the first fold seed's scores. With several folds
        the whole pipeline is fitted again on exchanged stimuli; with one fold the stimuli of the
        fixed predictions are exchanged.
    shuffles : int
        Null refits on exchanged stimuli, beside every score.
    n_train : int, optional
        Training stimuli to learn from, drawn by the seed of the folds; all where not given.
    pattern_scores : bool
        Score the pattern over each region's units too, by 2V2 and pattern correlation (see
        `brainkit.encoding.patterns`).
    resample : str
        What is independent, for p values, intervals and inner folds; see
        `brainkit.data.dependence.dependence`.
    """

    split: SplitLike
    seeds: tuple[int, ...] = (0,)
    zscore: str | None = "session"
    unseen: str | None = None
    average_repeats: AverageRepeats = True
    ceiling: str | None = "auto"
    permutations: int = 200
    shuffles: int = 3
    n_train: int | None = None
    pattern_scores: bool = False
    resample: str = "auto"

    def __post_init__(self) -> None:
        for name in ("permutations", "shuffles"):
            object.__setattr__(self, name, whole_number(getattr(self, name), name))
        if not self.seeds or self.shuffles < 1 or self.permutations < 0:
            raise InputError(
                "An encoder is judged with at least one seed and one shuffle, and 0 or more "
                f"permutations; got seeds={self.seeds}, shuffles={self.shuffles}, "
                f"permutations={self.permutations}."
            )
        object.__setattr__(self, "split", kept_split(self.split))


def prepare_folds(
    recording: Recording,
    protocol: EncodingProtocol,
    *,
    seed: int = 0,
    rows: Rows | None = None,
    slot: Slot | None = None,
) -> PreparedFolds:
    """Split a recording by a protocol, to be z-scored, averaged and read fold by fold.

    Parameters
    ----------
    recording : Recording
    protocol : EncodingProtocol
        Its `zscore` is a column that there is, see `brainkit.data.preparing.zscore_column`.
    seed : int, default=0
        Of the split.
    rows, slot
        See `brainkit.data.preparing.prepare_split`.
    """
    return prepare_split(
        recording,
        protocol.split,
        seed=seed,
        zscore=protocol.zscore,
        unseen=protocol.unseen,
        average_repeats=protocol.average_repeats,
        n_train=protocol.n_train,
        rows=rows,
        slot=slot,
    )


@dataclass(frozen=True)
class EncodingResult:
    """What `assess_encoder` found.

    Attributes
    ----------
    recording : Recording
        What was encoded.
    units : DataFrame
        The recording's units with r, r2, ceiling, alpha, p, q and status; of epochs means over
        their time points, and p of these.
    time_courses : DataFrame or None
        Of epochs: a row a unit and time point, with the same columns.
    regions : DataFrame
        A row a region: units, mean r, ceiling fraction, the same for shuffled stimuli, p.
    metrics : dict
        By metric id, as in ``metrics.json``.
    predictions : array (items, units) or (items, units, times)
        Held-out predictions of the first seed, see `HeldOut`.
    truth : array like `predictions`
        What was measured, less the same means; read anew when it is asked for.
    test_stimuli : array of int (items,)
        Stimulus row of each item; without stimuli its row of the recording.
    place : array of int (items,)
        Row of the recording of each item, the first of those that it averages.
    fold : array of int (items,)
        Fold that each item was held out in.
    counts : dict
        How many units there are, and how many were left out and why.
    fitted : (features, model)
        Fitted on the first fold's training part.
    zscore : dict
        How the responses were z-scored, see `Recording.zscore`.
    ceiling : dict
        Which noise ceiling it is and what it rests on, see `brainkit.encoding.unit_ceilings`; empty
        without one.
    resampling : dict
        What p values and intervals take as independent, and why; and the share of the predictions'
        variance that comes from the training items.
    grid : dict
        How well the penalties suit the data, see `HeldOut`.
    design : dict
        How features were aligned to rows: resampling and its filter, delays.
    """

    recording: Recording
    protocol: EncodingProtocol
    units: pd.DataFrame
    regions: pd.DataFrame
    metrics: dict[str, Any]
    predictions: Array
    test_stimuli: Array
    place: Array
    fold: Array
    counts: dict[str, int]
    fitted: tuple[Any, Any]
    zscore: dict[str, Any]
    first: HeldOut = field(repr=False)
    time_courses: pd.DataFrame | None = None
    ceiling: dict[str, Any] = field(default_factory=dict)
    resampling: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, float] = field(default_factory=dict)
    design: dict[str, Any] = field(default_factory=dict)

    @property
    def truth(self) -> Array:
        """Measured responses of the first seed, deviations from the folds' training means."""
        return self.recording.unflatten(self.first.truth)


def assess_encoder(
    recording: Recording,
    features: Any,
    model: Any,
    protocol: EncodingProtocol,
    *,
    regions: Sequence[str] | None = None,
    others: Mapping[str, Recording] | None = None,
) -> EncodingResult:
    """Judge an encoder on held-out rows, by unit and by region, beside its nulls.

    Parameters
    ----------
    recording : Recording
        (trial, unit), (trial, unit, time) or (sample, unit).
    features : Design, transformer, array or DataFrame
        What the model sees for each row, see `brainkit.features.Design`. Where trials show stimuli:
        from stimuli to features, see `held_out`, or features that are ready, a row a stimulus (see
        `brainkit.features.Precomputed`). Else features with a row for each row of the recording, or
        a mapping of several such by the names of their feature spaces.
    model : estimator
        From features to responses, see `held_out`.
    protocol : EncodingProtocol
        How to judge.
    regions : sequence of str, optional
        Regions to sum up; all that have units where not given.
    others : mapping of str to Recording, optional
        Other subjects who saw the same stimuli, or whose continuous data have the same clock, for
        the cross-subject ceilings.

    Returns
    -------
    EncodingResult

    Raises
    ------
    InputError, SplitError, LeakError
        If the recording does not fit the protocol, or features or model are none.
    """
    design = as_design(recording, features)
    check_model(model)
    protocol = replace(protocol, zscore=zscore_column(recording, protocol.zscore))
    check_ceiling(recording, protocol.ceiling, others or {})  # before hours of fits
    names = list(regions) if regions else recording.region_names
    masks = {name: recording.roi_mask(name) for name in names}
    rows = independent_rows(recording, protocol, [design])
    slot = Slot()
    folds = [
        prepare_folds(recording, protocol, seed=seed, rows=rows, slot=slot)
        for seed in protocol.seeds
    ]
    check_folds(folds[0], protocol.split)
    check_seeds(folds, protocol.split)
    ceiling, ceiling_facts = unit_ceiling(recording, protocol, folds[0], others or {})
    judge = _Judge(recording, design, model, protocol, rows, folds)
    first, sums, patterns = judge.observed(masks, ceiling)
    shuffled = [
        judge.null(number, masks)
        for number in track(range(protocol.shuffles), f"{recording.subject}: shuffled stimuli")
    ]
    scores = Scores(
        r=np.mean(sums.r, axis=0),
        r2=np.mean(sums.r2, axis=0),
        by_seed=np.stack(sums.r),
        shuffled_r=np.stack([r for r, *_ in shuffled]),
        shuffled_r2=np.stack([r2 for _, r2, _ in shuffled]),
        permuted_r=judge.permuted(first),
        ceiling=ceiling,
    )
    usable = np.all([fold.usable for fold in folds[0]], axis=0)
    table, metrics = region_table(sums, scores), summarise(sums, scores, recording.times)
    if protocol.pattern_scores:
        by_chance = by_seed([one for *_, one in shuffled])
        table = pd.concat([table, pattern_columns(patterns, by_chance)], axis=1)
        metrics |= pattern_metrics(patterns, by_chance)
    n_units = len(recording.units)
    broken = ~usable.reshape(n_units, -1).any(axis=1)
    return EncodingResult(
        recording=recording,
        protocol=protocol,
        units=unit_table(recording.units, scores, first.alpha, usable),
        time_courses=time_table(recording, scores, first.alpha, usable),
        regions=table,
        metrics=metrics,
        predictions=recording.unflatten(first.predictions),
        test_stimuli=first.rows.shown,
        place=first.rows.place,
        fold=first.fold,
        counts={"units": n_units, "constant_or_nan": int(broken.sum())},
        fitted=first.fitted,
        zscore=folds[0][0].zscore,
        first=first,
        ceiling=ceiling_facts,
        resampling={**rows.facts, "training_share": float(judge.training[usable].mean())},
        grid=first.grid,
        design=dict(design.facts),
    )


class _Judge:
    """One recording, design and model, passed over the folds again and again."""

    def __init__(
        self,
        recording: Recording,
        design: Design,
        model: Any,
        protocol: EncodingProtocol,
        rows: Rows,
        folds: Sequence[PreparedFolds],
    ) -> None:
        self.recording, self.design, self.model = recording, design, model
        self.protocol, self.rows, self.folds = protocol, rows, folds
        self.tables: Tables | None = {} if len(folds[0]) == 1 else None
        self.training: Array = np.empty(0)

    def run(
        self,
        folds: Sequence[Prepared],
        shown: Shown | None = None,
        *,
        first: bool = False,
        keep: bool = True,
    ) -> HeldOut:
        """Pass over the folds; of penalties that do not suit the data the first pass tells."""
        with told_once(PenaltyWarning, silent=not first):
            return held_out(
                self.recording, folds, self.design, self.model,
                shown=shown, tables=self.tables, keep=keep, at_once=first,
            )  # fmt: skip

    def observed(
        self, masks: Mapping[str, Array], ceiling: Any
    ) -> tuple[HeldOut, Sums, PatternScores]:
        """Return the first seed's pass, and what the passes of all seeds sum up to."""
        folds = self.folds
        first = self.run(folds[0], first=True)
        # Of the later seeds only the scores are kept: each has the whole recording in its folds.
        later = [self.run(folds[1])] if len(folds) > 1 else []
        self.training = training_shares(
            folds[:2],
            [one.predictions for one in (first, *later)],
            lambda few: self.run(few).predictions,
        )
        sums = Sums(masks, ceiling)
        patterned = masks if self.protocol.pattern_scores else {}
        patterns = []
        for number in track(range(len(folds)), f"{self.recording.subject}: encode"):
            one = [first, *later][number] if number < 2 else self.run(folds[number])
            sums.add(one, self.training)
            patterns.append(pattern_scores(patterned, one, self.training))
        return first, sums, by_seed(patterns)

    def null(self, seed: int, masks: Mapping[str, Array]) -> tuple[Array, Array, PatternScores]:
        """Return r, R² and pattern scores of fits to exchanged stimuli, over all fold seeds."""

        def exchange(part: Rows, number: int) -> Array:
            return part.exchanged(rng(seed, "exchanged stimuli", number))

        patterned = masks if self.protocol.pattern_scores else {}
        r, r2, patterns = [], [], []
        for folds in self.folds:
            moved = exchanged_stimuli(folds, self.rows, exchange)
            one = self.run(folds, moved, keep=bool(patterned))
            r.append(one.r())
            r2.append(one.r2())
            patterns.append(pattern_scores(patterned, one))
        return np.mean(r, axis=0), np.mean(r2, axis=0), by_seed(patterns)

    def permuted(self, first: HeldOut) -> Array:
        """Return r of fits to permuted stimuli, (permutations, targets), for p values.

        With one fold those of the test part change, and the predictions stay.
        """
        n, (folds, *_) = self.protocol.permutations, self.folds
        r = np.empty((n, folds[0].n_targets), dtype=np.float64)
        description = f"{self.recording.subject}: permutations"
        if len(folds) == 1:
            orders = [first.rows.permuted(number, n) for number in range(n)]
            for targets, truth, predicted in track(list(first.blocks()) if n else [], description):
                for number, order in enumerate(orders):
                    r[number, targets] = pearson_r(truth, predicted[order], fold=first.fold)
            return r
        for number in track(range(n), description):
            moved = exchanged_stimuli(folds, self.rows, partial(_permuted, number=number, n=n))
            r[number] = self.run(folds, moved, keep=False).r()
        return r


def _permuted(part: Rows, _: int, *, number: int, n: int) -> Array:
    return part.permuted(number, n)
