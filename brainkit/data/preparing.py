"""From the fold of a split to the arrays that a model is fitted and judged on.

The order is fixed: z-score by session with training statistics, then average repeats (the other
way round would mix the sessions' statistics, trap T24), then leave out units that cannot be used.

Folds are prepared when they are asked for: of K folds one is in memory, not K copies of the
responses, and a model that takes targets a block at a time needs not even one.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.arrays.array_likes import whole_number
from brainkit.arrays.seeds import rng
from brainkit.arrays.sources import Averaged, Float, Index, Kept, Source, Standardised, View
from brainkit.data.dependence import Rows, dependence, shows_stimuli
from brainkit.data.recording import Recording
from brainkit.data.responses import Responses, positions
from brainkit.data.splits import Fold, SplitLike, describe_split
from brainkit.data.standardising import (
    UNSEEN,
    WHOLE,
    group_statistics,
    run_keys,
    training_members,
)
from brainkit.errors import InputError, PenaltyWarning, SplitError, told_once
from brainkit.evaluation import training_share

AverageRepeats = bool | Literal["test"]
Part = Literal["train", "test"]
# Of the training groups, what is left out to see how much predictions depend on which they are;
# of test items, how many are enough to see it.
LEFT_OUT, ITEMS_LOOKED_AT = 1 / 3, 20
# Responses are read, standardised and averaged so many bytes of units at a time.
BLOCK_BYTES = 8 * 2**20


class Slot:
    """Room for the responses of one fold, which the next one's take the place of."""

    def __init__(self) -> None:
        self.owner: object = None
        self.parts: dict[str, Float] = {}

    def part(self, owner: object, name: str, read: Callable[[], Float]) -> Float:
        """Return what an owner keeps by a name; it is read where another fold's is kept."""
        if self.owner is not owner:
            self.parts, self.owner = {}, owner
        if name not in self.parts:
            self.parts[name] = read()
        return self.parts[name]

    def forget(self) -> None:
        """Let go of what is kept."""
        self.parts, self.owner = {}, None


@dataclass(frozen=True)
class Standardising:
    """Which rows are standardised together.

    Attributes
    ----------
    of_row : array of int (rows,)
        Group of each row of the recording.
    members : list of array of int
        Rows that give each group's mean and standard deviation.
    """

    of_row: Index
    members: list[Index]


@dataclass(frozen=True, eq=False)
class Prepared:
    """Training and test responses of one fold, read when they are asked for.

    Attributes
    ----------
    fold : Fold
        Of the recording as it is, before anything is standardised or averaged.
    train_rows, test_rows : Rows
        What each item shows, and which items belong together, see `brainkit.data.dependence`.
    train_trials, test_trials : DataFrame
        The items' rows of the trial (or sample) table.
    zscore : dict
        What z-scoring is done, see `Recording.zscore`.
    """

    fold: Fold
    train_rows: Rows
    test_rows: Rows
    train_trials: pd.DataFrame
    test_trials: pd.DataFrame
    zscore: dict[str, Any]
    _groups: Standardising | None = field(default=None, repr=False)
    _repeats: Mapping[str, list[Index]] = field(default_factory=dict, repr=False)
    _items: NDArray[Any] | None = None
    _slot: Slot = field(default_factory=Slot, repr=False)
    _masks: dict[str, NDArray[np.bool_]] = field(default_factory=dict, repr=False)

    @property
    def train(self) -> Float:
        """Training responses, (items, units × time), the unusable targets included."""
        return self._slot.part(self, "train", lambda: self._whole("train"))

    @property
    def test(self) -> Float:
        """Test responses, (items, units × time)."""
        return self._slot.part(self, "test", lambda: self._whole("test"))

    @property
    def train_stimuli(self) -> Index:
        """What each training item shows: its stimulus row, where there are stimuli."""
        return self.train_rows.shown

    @property
    def test_stimuli(self) -> Index:
        """What each test item shows."""
        return self.test_rows.shown

    @property
    def train_people(self) -> NDArray[Any] | None:
        """Whose each training item is, where people stand side by side; None where all are one's.

        The person that is tested comes last.
        """
        names = self.train_trials.get("subject")
        return None if names is None else np.asarray(names.astype(str))

    @property
    def n_train(self) -> int:
        """Number of training items."""
        return len(self.train_rows.place)

    @property
    def n_test(self) -> int:
        """Number of test items."""
        return len(self.test_rows.place)

    @property
    def n_targets(self) -> int:
        """Units × time points."""
        return int(np.prod(self.fold.recording.responses.shape[1:]))

    @property
    def n_times(self) -> int:
        """Time points of each unit; 1 of responses without time."""
        return int(np.prod(self.fold.recording.responses.shape[2:], dtype=int))

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Targets that are finite everywhere and not constant in the training part.

        Raises `InputError` if there is none.
        """
        return self._mask("finite") & self._mask("varies")

    @property
    def usable_units(self) -> NDArray[np.bool_]:
        """Units that are finite everywhere and vary in the training part, at some time at least."""
        inner = self.fold.recording.responses.shape[1:]
        finite, varies = (self._mask(name).reshape(inner[0], -1) for name in ("finite", "varies"))
        return np.asarray(finite.all(axis=1) & varies.any(axis=1))

    def usable_of(self, units: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Tell which of the usable targets are of some units, (usable targets,)."""
        return np.repeat(units, self.n_times)[self.usable]

    @property
    def counts(self) -> dict[str, int]:
        """How many units there are, and of how many no target can be used."""
        useful: NDArray[np.bool_] = self.usable.reshape(-1, self.n_times).max(axis=1)
        return {"units": len(useful), "constant_or_nan": int((~useful).sum())}

    def read(self, part: Part, units: slice | Index) -> Float:
        """Read some units of a part, (items, units × time); nothing is kept.

        Parameters
        ----------
        part : {"train", "test"}
        units : slice or array of int
            Units, all of whose time points are read.
        """
        recording = self.fold.recording
        if not recording.responses.source.held:  # what lies in files is read once, and kept
            responses = self.train if part == "train" else self.test
            shape = (len(responses), recording.responses.shape[1], -1)
            return responses.reshape(shape)[:, units].reshape(len(responses), -1)
        return self._filled(part, positions(units, recording.responses.shape[1], "units"))

    def forget(self) -> None:
        """Let go of the responses that are kept."""
        self._slot.forget()

    def statistics(self) -> tuple[list[str], Float, Float] | None:
        """Return what the fold's training rows are z-scored by; None where they are not.

        Groups without training rows, whose own statistics are taken, are left out.

        Returns
        -------
        names : list of str
            Of the groups, such as sessions, as text.
        shift, scale : float32 arrays (groups, units, ...)
            Means and standard deviations of each group's training rows.
        """
        if self._groups is None:
            return None
        recording = self.fold.recording
        keys = run_keys(recording.rows, str(self.zscore["by"]))
        unseen = {str(name) for name in self.zscore.get("unseen", ())}
        members = {
            str(name): rows
            for name, rows in zip(
                pd.factorize(keys, sort=True)[1], self._groups.members, strict=True
            )
            if str(name) not in unseen
        }
        return list(members), *group_statistics(recording.responses.source, [*members.values()])

    def _filled(self, part: Part, units: Index) -> Float:
        """Read units of a part a block at a time, so that what is made on the way stays small."""
        blocks = [units[block] for block in self.blocks(len(units))]
        if len(blocks) == 1:
            return self._read(part, units)
        n_items = self.n_train if part == "train" else self.n_test
        values = np.empty((n_items, len(units) * self.n_times), dtype=np.float32)
        start = 0
        for block in blocks:
            stop = start + len(block) * self.n_times
            values[:, start:stop] = self._read(part, block)
            start = stop
        return values

    def _read(self, part: Part, units: Index) -> Float:
        source: Source = View(self.fold.recording.responses.source, None, units)
        if self._groups is not None:
            shift, scale = group_statistics(source, self._groups.members)
            source = Standardised(source, self._groups.of_row, shift, scale)
        source = View(source, np.asarray(self.fold.rows[part]))
        if part in self._repeats:
            source = Averaged(source, self._repeats[part])
        wanted = self._items if part == "train" else None
        values = source.read(wanted)
        return values.reshape(len(values), -1)

    def blocks(self, n_units: int | None = None) -> Iterator[slice]:
        """Cut (so many of) the units into slices of `BLOCK_BYTES`; what lies in files into one."""
        responses = self.fold.recording.responses
        n_units = responses.shape[1] if n_units is None else n_units
        width = max(1, BLOCK_BYTES // max(4 * len(self.fold.recording.rows) * self.n_times, 1))
        if not responses.source.held:
            width = max(n_units, 1)
        for start in range(0, n_units, width):
            yield slice(start, min(start + width, n_units))

    def targets_of(self, units: slice) -> slice:
        """Return the targets that belong to consecutive units."""
        return slice(units.start * self.n_times, units.stop * self.n_times)

    def _whole(self, part: Part) -> Float:
        return self._filled(part, np.arange(self.fold.recording.responses.shape[1]))

    def _mask(self, name: str) -> NDArray[np.bool_]:
        """Return which targets are finite, or vary in training; looked for once."""
        if not self._masks:
            finite, varies = (np.empty(self.n_targets, dtype=bool) for _ in range(2))
            for units in self.blocks():
                # Extremes carry NaN and infinity on, and need no array of the block's size.
                train, test = self.read("train", units), self.read("test", units)
                low, high = train.min(axis=0), train.max(axis=0)
                ends = [low, high, test.min(axis=0), test.max(axis=0)]
                here = self.targets_of(units)
                finite[here], varies[here] = np.isfinite(ends).all(axis=0), high > low
            if not (finite & varies).any():
                raise InputError(
                    f"None of the {self.fold.recording.responses.shape[1]} units of "
                    f"{self.fold.recording.subject} can be used: all are constant or hold NaN."
                )
            self._masks.update(finite=finite, varies=varies)
        return self._masks[name]

    def without(self, share: float, generator: np.random.Generator) -> "Prepared":
        """Return the fold without a share of the training part's groups, drawn at random."""
        groups = np.unique(self.train_rows.groups)
        n_kept = max(1, len(groups) - round(share * len(groups)))
        kept = generator.choice(groups, n_kept, replace=False)
        return self._keeping(np.isin(self.train_rows.groups, kept))

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

    def _keeping(self, kept: NDArray[np.bool_]) -> "Prepared":
        """Return the fold with some of the training items."""
        items = np.flatnonzero(kept) if self._items is None else self._items[kept]
        return replace(
            self,
            train_rows=self.train_rows.take(kept),
            train_trials=self.train_trials[kept],
            _items=items,
        )


class PreparedFolds(Sequence[Prepared]):
    """The folds of a split, of which one at a time has its responses in memory.

    Parameters
    ----------
    folds : sequence of Prepared
    slot : Slot
        That they share.
    """

    def __init__(self, folds: Sequence[Prepared], slot: Slot) -> None:
        self._folds, self._slot = list(folds), slot

    def __len__(self) -> int:
        return len(self._folds)

    @overload
    def __getitem__(self, which: int) -> Prepared: ...
    @overload
    def __getitem__(self, which: slice) -> "PreparedFolds": ...
    def __getitem__(self, which: int | slice) -> "Prepared | PreparedFolds":
        if isinstance(which, slice):
            return PreparedFolds(self._folds[which], self._slot)
        return self._folds[which]

    def forget(self) -> None:
        """Let go of the responses that are kept, unless there is a single fold to come back to."""
        if len(self) > 1:
            self._slot.forget()


def zscore_column(recording: Recording, zscore: str | None) -> str | None:
    """Return the column to z-score by, None where the recording has no such groups.

    ``"recording"``, without a column of that name, takes all rows as one group.

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
    if zscore in (None, WHOLE) or zscore in recording.rows:
        return zscore
    if zscore not in ("session", "run"):
        raise InputError(
            f"zscore={zscore!r} names no column of the trials, which are "
            f"{list(recording.rows.columns)}; {WHOLE!r} takes all trials as one group, and None "
            "leaves values as they are."
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
    slot: Slot | None = None,
) -> PreparedFolds:
    """Split a recording and say how every fold is prepared, see `prepare`.

    No responses are held but those of one fold, and those of the recording where they have to be
    read from files.

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
    slot : Slot, optional
        Where the responses of one fold are kept; of one's own where not given.
    """
    rows = dependence(recording) if rows is None else rows
    if n_train is not None:
        n_train = whole_number(n_train, "n_train")
    if n_train is not None and (n_train < 2 or recording.stimuli_are == "conditions"):
        raise InputError(
            f"n_train={n_train} asks for so many training stimuli: give 2 or more, and none where "
            "stimuli are conditions, all of which are trained to be found again."
        )
    slot = Slot() if slot is None else slot
    folds = recording.split(split, seed=seed).folds
    if len(folds) > 1:
        held = in_memory(recording)
        folds = tuple(replace(fold, recording=held) for fold in folds)
    return PreparedFolds(
        [
            prepare(
                fold, zscore=zscore, unseen=unseen, average_repeats=average_repeats, rows=rows,
                slot=slot,
            ).fewer(n_train, rng(seed, "training stimuli", number))
            for number, fold in enumerate(folds)
        ],
        slot,
    )  # fmt: skip


def in_memory(recording: Recording) -> Recording:
    """Return a recording whose responses are read once, when they are first needed, and kept."""
    if recording.responses.source.held:
        return recording
    return replace(recording, responses=Responses(Kept(recording.responses.source)))


def prepare(
    fold: Fold,
    *,
    zscore: str | None,
    unseen: str | None = None,
    average_repeats: AverageRepeats,
    rows: Rows | None = None,
    slot: Slot | None = None,
) -> Prepared:
    """Say how one fold is standardised, averaged and read.

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
    slot : Slot, optional
        Where its responses are kept once they are read as a whole.

    Raises
    ------
    InputError
        If there is nothing to average by.
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
    train, place, train_repeats = _items(fold, "train", everywhere)
    test, test_place, test_repeats = _items(fold, "test", everywhere or average_repeats == "test")
    repeats = {"train": train_repeats, "test": test_repeats}
    groups, facts = _standardising(fold, zscore, unseen)
    return Prepared(
        fold=fold,
        train_rows=rows.take(place),
        test_rows=rows.take(test_place),
        train_trials=train,
        test_trials=test,
        zscore=facts,
        _groups=groups,
        _repeats={name: found for name, found in repeats.items() if found is not None},
        _slot=Slot() if slot is None else slot,
    )


def _standardising(
    fold: Fold, by: str | None, unseen: str | None
) -> tuple[Standardising | None, dict[str, Any]]:
    """Return which rows are standardised together, and what a manifest says of it.

    Raises
    ------
    SplitError
        If a group has too few training trials.
    """
    before = dict(fold.recording.info.get("zscore", {}))
    if by is None:
        return None, before
    if unseen not in UNSEEN:
        raise InputError(f"unseen must be None or 'session-unlabelled'; got {unseen!r}.")
    keys = run_keys(fold.recording.rows, by)
    group, members, transductive = training_members(
        keys, np.asarray(fold.rows["train"]), by, unseen
    )
    # Test rows that have met their own statistics once stay transductive.
    itself = bool(transductive) or bool(before.get("transductive"))
    facts = {"by": by, "transductive": itself, "unseen": transductive}
    return Standardising(group, members), facts


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


def _items(fold: Fold, name: str, average: bool) -> tuple[pd.DataFrame, Index, list[Index] | None]:
    """Return a part's items: their table, their first rows of the recording, what is averaged."""
    place = np.asarray(fold.rows[name])
    if not average or not shows_stimuli(fold.recording):  # nothing repeats
        return fold.recording.rows.iloc[place].reset_index(drop=True), place, None
    groups, table = fold.part(name).repeats()
    return table, place[[group[0] for group in groups]], groups


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
    most = max(fold.n_test for fold in folds)
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
        number = [np.repeat(np.arange(len(one)), [f.n_test for f in one]) for one in folds[:2]]
        both = np.stack([n[o] for n, o in zip(number, order, strict=True)])
        pairs, counts = np.unique(both, axis=1, return_counts=True)
        each = np.array([_apart(first[a], folds[1][b]) for a, b in pairs.T])
        apart = float(each @ counts / counts.sum())
        if apart > 0:  # as it is unless a split has no seed
            first_order, second_order = order
            return _shares(predictions[0], predictions[1], apart, rows=(first_order, second_order))
    few = [first[0]]
    while sum(fold.n_test for fold in few) < ITEMS_LOOKED_AT and len(few) < len(first):
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
    return _shares(predictions[0][: len(again)], again, apart)


def _shares(
    first: NDArray[Any],
    second: NDArray[Any],
    apart: float,
    rows: tuple[Index, Index] | None = None,
) -> NDArray[np.float64]:
    """Return `training_share` of predictions of the same items, some targets at a time."""
    one, two = (slice(None), slice(None)) if rows is None else rows
    width = max(1, BLOCK_BYTES // (8 * max(len(first), 1)))
    return np.concatenate(
        [
            training_share(
                first[one, start : start + width], second[two, start : start + width], apart=apart
            )
            for start in range(0, first.shape[1], width)
        ]
    )


def _n_groups(fold: Prepared) -> int:
    return len(np.unique(fold.train_rows.groups))


def _apart(first: Prepared, second: Prepared) -> float:
    """Return which share of one fold's training items another does not train on."""
    return 1.0 - float(np.isin(first.train_rows.place, second.train_rows.place).mean())
