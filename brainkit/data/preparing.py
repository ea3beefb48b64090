"""From the fold of a split to the arrays that a model is fitted and judged on.

The order is fixed: z-score by session with training statistics, then average repeats (the other
way round would mix the sessions' statistics, trap T24), then leave out units that cannot be used.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.arrays.array_likes import whole_number
from brainkit.arrays.seeds import rng
from brainkit.arrays.sources import Float, Index
from brainkit.data.dependence import Rows, dependence
from brainkit.data.recording import Recording
from brainkit.data.splits import Fold, SplitLike, describe_split
from brainkit.errors import InputError, PenaltyWarning, SplitError, told_once
from brainkit.evaluation import training_share

AverageRepeats = bool | Literal["test"]
# Of the training groups, what is left out to see how much predictions depend on which they are;
# of test items, how many are enough to see it.
LEFT_OUT, ITEMS_LOOKED_AT = 1 / 3, 20


@dataclass(frozen=True)
class Prepared:
    """Training and test responses of one fold.

    Attributes
    ----------
    train, test : float32 arrays (items, units × time)
        All targets, the unusable ones included.
    train_stimuli, test_stimuli : arrays of int
        Stimulus row of each item.
    train_rows, test_rows : Rows
        Which items belong together, see `brainkit.data.dependence`.
    train_trials, test_trials : DataFrame
        The items' rows of the trial table.
    usable : array of bool (units × time,)
        Targets that are finite everywhere and not constant in the training part.
    zscore : dict
        What z-scoring was done, see `Recording.zscore`.
    """

    train: Float
    test: Float
    train_stimuli: Index
    test_stimuli: Index
    train_rows: Rows
    test_rows: Rows
    train_trials: pd.DataFrame
    test_trials: pd.DataFrame
    usable: NDArray[np.bool_]
    zscore: dict[str, Any]

    def without(self, share: float, generator: np.random.Generator) -> "Prepared":
        """Return the fold without a share of the training part's groups, drawn at random."""
        groups = np.unique(self.train_rows.groups)
        n_kept = max(1, len(groups) - round(share * len(groups)))
        kept = generator.choice(groups, n_kept, replace=False)
        return self._keeping(np.isin(self.train_rows.groups, kept))

    def _keeping(self, kept: NDArray[np.bool_]) -> "Prepared":
        """Return the fold with some of the training items."""
        return replace(
            self,
            train=self.train[kept],
            train_stimuli=self.train_stimuli[kept],
            train_rows=self.train_rows.take(kept),
            train_trials=self.train_trials[kept],
        )

    def fewer(self, n_stimuli: int | None, generator: np.random.Generator) -> "Prepared":
        """Return the fold with the training items of some stimuli, drawn at random.

        Parameters
        ----------
        n_stimuli : int or None
            All where None, or where there are no more.
        generator : numpy.random.Generator
        """
        known = np.unique(self.train_stimuli)
        if n_stimuli is None or n_stimuli >= len(known):
            return self
        return self._keeping(
            np.isin(self.train_stimuli, generator.choice(known, n_stimuli, replace=False))
        )


def zscore_column(recording: Recording, zscore: str | None) -> str | None:
    """Return the column to z-score by, None where the recording has no such groups.

    Parameters
    ----------
    recording : Recording
    zscore : str or None
        As a protocol has it.

    Raises
    ------
    InputError
        If there is no such column, unless it is one that a recording may do without.

    Warns
    -----
    UserWarning
        If trials name no sessions (or runs) to z-score by: values stay as they are.
    """
    if zscore is None or zscore in recording.rows:
        return zscore
    if zscore not in ("session", "run"):
        raise InputError(
            f"zscore={zscore!r} names no column of the trials, which are "
            f"{list(recording.rows.columns)}; None leaves values as they are."
        )
    warnings.warn(
        f"The trials of {recording.subject} name no {zscore}s, so responses are not z-scored "
        f"(zscore=None says so; a column {zscore!r} in the trials would be used).",
        stacklevel=3,
    )
    return None


def prepare_split(
    recording: Recording,
    split: SplitLike,
    *,
    seed: int = 0,
    zscore: str | None,
    unseen: str | None = None,
    average_repeats: AverageRepeats,
    n_train: int | None = None,
    rows: Rows | None = None,
) -> list[Prepared]:
    """Split a recording and prepare every fold, see `prepare`.

    Parameters
    ----------
    recording : Recording
    split : str, splitter, list of (train, test), or Split
        See `Recording.split`.
    seed : int, default=0
        Of the split, and of the choice of `n_train` training stimuli.
    zscore, unseen, average_repeats, rows
        See `prepare`.
    n_train : int, optional
        Training stimuli to keep; all where not given.
    """
    rows = dependence(recording) if rows is None else rows
    if n_train is not None:
        n_train = whole_number(n_train, "n_train")
    if n_train is not None and (n_train < 2 or recording.stimuli_are == "conditions"):
        raise InputError(
            f"n_train={n_train} asks for so many training stimuli: give 2 or more, and none where "
            "stimuli are conditions, all of which are trained to be found again."
        )
    return [
        prepare(
            fold, zscore=zscore, unseen=unseen, average_repeats=average_repeats, rows=rows
        ).fewer(n_train, rng(seed, "training stimuli", number))
        for number, fold in enumerate(recording.split(split, seed=seed))
    ]


def prepare(
    fold: Fold,
    *,
    zscore: str | None,
    unseen: str | None = None,
    average_repeats: AverageRepeats,
    rows: Rows | None = None,
) -> Prepared:
    """Standardise, average and read one fold.

    Parameters
    ----------
    fold : Fold
        Of a split.
    zscore : str or None
        Column whose groups are z-scored (usually "session"); None leaves the values as they are.
    unseen : {None, "session-unlabelled"}
        See `Recording.zscore`.
    average_repeats : bool or "test"
        Average the trials of each stimulus within each part, or within the test part alone, for
        models that learn from the repeats.
    rows : Rows, optional
        Which rows of the recording belong together; by stimulus (by run where stimuli are
        conditions) where not given.

    Raises
    ------
    InputError
        If no unit can be used, or there is nothing to average by.
    SplitError
        If a group has too few training trials to be z-scored, or no training trial is far enough
        from the test trials where neighbours in time are alike.
    """
    if not isinstance(average_repeats, bool | np.bool_) and average_repeats != "test":
        raise InputError(
            f"average_repeats is True, False or 'test'; got {average_repeats!r} "
            f"({type(average_repeats).__name__})."
        )
    everywhere = average_repeats != "test" and bool(average_repeats)
    rows = dependence(fold.recording) if rows is None else rows
    fold = _apart_in_time(fold, rows)
    standardised = fold if zscore is None else fold.zscore(zscore, unseen=unseen)
    train, place = _items(standardised, "train", everywhere)
    test, test_place = _items(standardised, "test", everywhere or average_repeats == "test")
    y_train, y_test = train.targets(), test.targets()
    # Extremes carry NaN and infinity on, and need no array of the responses' size.
    low, high = y_train.min(axis=0), y_train.max(axis=0)
    usable = np.isfinite([low, high, y_test.min(axis=0), y_test.max(axis=0)]).all(axis=0)
    usable &= high > low
    if not usable.any():
        raise InputError(
            f"None of the {len(usable)} units of {train.subject} can be used: all are constant or "
            "hold NaN."
        )
    return Prepared(
        train=y_train,
        test=y_test,
        train_stimuli=train.stimulus_rows(),
        test_stimuli=test.stimulus_rows(),
        train_rows=rows.take(place),
        test_rows=rows.take(test_place),
        train_trials=train.rows,
        test_trials=test.rows,
        usable=usable,
        zscore=dict(standardised.recording.info.get("zscore", {})),
    )


def _apart_in_time(fold: Fold, rows: Rows) -> Fold:
    """Leave training rows out that are too near to a test row in time."""
    train = np.asarray(fold.rows["train"])
    kept = train[~rows.take(train).near(rows.take(fold.rows["test"]))]
    if len(kept) < 2:
        raise SplitError(
            f"All {len(train)} training trials of a fold are fewer than {rows.reach} from a test "
            "trial, and what was shown and measured changes that slowly. Split by runs or "
            "stretches (split='stretches:5'); if trials are independent in spite of it, say "
            "resample='stimulus'."
        )
    return replace(fold, rows={**fold.rows, "train": kept})


def _items(fold: Fold, name: str, average: bool) -> tuple[Recording, Index]:
    """Return a part, averaged or not, and for each item its first row of the recording."""
    part, place = fold.part(name), np.asarray(fold.rows[name])
    if not average:
        return part, place
    groups, _ = part.repeats()
    return part.average_repeats(), place[[group[0] for group in groups]]


def check_seeds(folds: Sequence[Sequence[Prepared]], split: SplitLike) -> None:
    """Raise if fold seeds test other items, whose scores cannot be averaged item by item."""
    tested = [np.sort(np.concatenate([fold.test_rows.place for fold in one])) for one in folds]
    if any(not np.array_equal(tested[0], other) for other in tested[1:]):
        raise InputError(
            f"The split {describe_split(split)} tests other items with every seed, and scores are "
            "averaged over seeds item by item: give one seed (seeds=(0,)), with more folds, or a "
            "split that tests each item once, such as 'kfold:5'."
        )


def check_folds(folds: Sequence[Prepared], split: SplitLike) -> None:
    """Raise if no fold has two test items, so that no score can be formed within folds."""
    most = max(len(fold.test) for fold in folds)
    if most < 2:
        raise SplitError(
            f"The split {describe_split(split)} leaves 1 test item in each of its "
            f"{len(folds)} folds, and scores are formed within folds: make folds of two items at "
            "least, better of ten."
        )


def training_shares(
    folds: Sequence[Sequence[Prepared]],
    predictions: Sequence[NDArray[Any]],
    refit: Callable[[Sequence[Prepared]], NDArray[Any]],
) -> NDArray[np.float64]:
    """Return which share of predictions' variance comes from the training items, by target.

    See `brainkit.evaluation.training_share`. It is 0 with one fold, whose test items train nothing.
    With several fold seeds the first two passes are compared; with one seed the first folds are
    fitted once more without a third of their training groups.

    Parameters
    ----------
    folds : sequence of sequence of Prepared
        Of the first two fold seeds, or of one.
    predictions : sequence of array (items, targets)
        Of their test items in the order of the folds, less the training means.
    refit : callable
        ``refit(folds)`` fits to the training parts of some folds and gives the same of them.

    Returns
    -------
    array (targets,)
        1, which makes the widest intervals, where a model cannot be fitted to fewer groups.
    """
    first = folds[0]
    if len(first) == 1:
        return np.zeros(predictions[0].shape[1])
    if len(folds) > 1:
        place = [np.concatenate([fold.test_rows.place for fold in one]) for one in folds[:2]]
        order = [np.argsort(rows, kind="stable") for rows in place]
        number = [np.repeat(np.arange(len(one)), [len(f.test) for f in one]) for one in folds[:2]]
        both = np.stack([n[o] for n, o in zip(number, order, strict=True)])
        pairs, counts = np.unique(both, axis=1, return_counts=True)
        each = np.array([_apart(first[a], folds[1][b]) for a, b in pairs.T])
        apart = float(each @ counts / counts.sum())
        if apart > 0:  # as it is unless a split has no seed
            one, two = (p[o] for p, o in zip(predictions[:2], order, strict=True))
            return training_share(one, two, apart=apart)
    few = [first[0]]
    while sum(len(fold.test) for fold in few) < ITEMS_LOOKED_AT and len(few) < len(first):
        few.append(first[len(few)])
    thinner = [
        fold.without(LEFT_OUT, rng(0, "without a third", number)) for number, fold in enumerate(few)
    ]
    try:
        with told_once(PenaltyWarning, silent=True):
            again = refit(thinner)
    except InputError:  # too few groups are left for the model's own folds
        return np.ones(predictions[0].shape[1])
    # A mean over n items and one over a share s of them differ by (1 / s - 1) / n in variance.
    kept = np.mean([_n_groups(part) / _n_groups(fold) for part, fold in zip(
        thinner, few, strict=True)])  # fmt: skip
    apart = min(0.5 * (1 / float(kept) - 1), 1.0)
    if apart == 0:  # a single group trains, and all hangs on it
        return np.ones(predictions[0].shape[1])
    return training_share(predictions[0][: len(again)], again, apart=apart)


def _n_groups(fold: Prepared) -> int:
    return len(np.unique(fold.train_rows.groups))


def _apart(first: Prepared, second: Prepared) -> float:
    """Return which share of one fold's training items another does not train on."""
    return 1.0 - float(np.isin(first.train_rows.place, second.train_rows.place).mean())
