"""From the fold of a split to the arrays that a model is fitted and judged on.

The order is fixed: z-score by session with training statistics, then average repeats (the other
way round would mix the sessions' statistics, trap T24), then leave out units that cannot be used.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.arrays.sources import Float, Index
from brainkit.data.recording import Recording
from brainkit.data.splits import Fold
from brainkit.errors import InputError

AverageRepeats = bool | Literal["test"]


@dataclass(frozen=True)
class Prepared:
    """Training and test responses of one fold.

    Attributes
    ----------
    train, test : float32 arrays (items, units × time)
        All targets, the unusable ones included.
    train_stimuli, test_stimuli : arrays of int
        Stimulus row of each item.
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
    train_trials: pd.DataFrame
    test_trials: pd.DataFrame
    usable: NDArray[np.bool_]
    zscore: dict[str, Any]

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
        kept = np.isin(self.train_stimuli, generator.choice(known, n_stimuli, replace=False))
        return replace(
            self,
            train=self.train[kept],
            train_stimuli=self.train_stimuli[kept],
            train_trials=self.train_trials[kept],
        )


def prepare(
    fold: Fold, *, zscore: str | None, unseen: str | None = None, average_repeats: AverageRepeats
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

    Raises
    ------
    InputError
        If no unit can be used, or there is nothing to average by.
    SplitError
        If a group has too few training trials to be z-scored.
    """
    standardised = fold if zscore is None else fold.zscore(zscore, unseen=unseen)
    parts: list[Recording] = [standardised.train, standardised.test]
    if average_repeats is True:
        parts = [part.average_repeats() for part in parts]
    elif average_repeats == "test":
        parts[1] = parts[1].average_repeats()
    train, test = parts
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
        train_trials=train.rows,
        test_trials=test.rows,
        usable=usable,
        zscore=dict(standardised.recording.info.get("zscore", {})),
    )
