"""Models of several people: everyone's items as one recording, and encoders that learn from all.

What is done with people who were brought together (`brainkit.jobs.people`). A decoder is trained on
everyone's shared responses, one recording whose rows say whose they are; an encoder predicts shared
responses, which the aligner leads back to the tested person's units.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from brainkit.data.recording import Recording
from brainkit.features import read_for
from brainkit.jobs.contract import Case, Result
from brainkit.jobs.people import PeopleRecipe, Together, bring_together
from brainkit.jobs.pipeline import Preparation
from brainkit.linear.ridge_estimator import fit_rows, predict_rows

Array = NDArray[Any]


def of_people(result: Result, folds: Sequence[Together], unseen: str | None = None) -> Result:
    """Say of a result whose trials trained; its pipeline takes the tested person's raw trials.

    Parameters
    ----------
    result : Result
        Of a decoder of `pooled_recording`.
    folds : sequence of Together
    unseen : str, optional
        See `Recording.zscore`.
    """
    pipeline = result.pipeline
    if pipeline is not None:
        pipeline = pipeline.set_params(preparation=Preparation.of_people(folds[0], unseen))
    return replace(result, pipeline=pipeline, **said_of_people(result, folds))


def said_of_people(result: Result, folds: Sequence[Together]) -> dict[str, Any]:
    """Return a result's facts with who trained in the first fold, and the same in words."""
    first = folds[0]
    facts: dict[str, Any] = {
        "access": first.access,
        "trained_on": {name: len(one.rows) for name, one in first.others.items()},
        "own_trials": len(first.rows["train"]),
        "aligner": None if first.aligner is None else type(first.aligner).__name__,
    }
    others = ", ".join(f"{name} ({n:,} items)" for name, n in facts["trained_on"].items())
    aligner = first.aligner
    by = "each by their own units" if aligner and not aligner.aligns else None
    aligned = f"{others}, {by or 'aligned by ' + str(facts['aligner'])}, and " if others else ""
    more = f", in the first of {len(folds)} folds" if len(folds) > 1 else ""
    told = f"{aligned}{facts['own_trials']:,} trials of its own ({first.access}){more}"
    return {"facts": {**result.facts, **facts}, "learned_from": told}


# --------------------------------------------------------------------------- for decoders


def pool_people(
    case: Case,
    recipe: PeopleRecipe,
    protocol: Any,
    features: Any = None,
    columns: Sequence[str] = (),
) -> tuple[Recording, Any, list[Together]]:
    """Return everyone's items in the shared space as one recording, and the protocol for it.

    Parameters
    ----------
    case, recipe, protocol, features
        See `bring_together`; the protocol may name a region.
    columns : sequence of str
        Of the trials, to keep beside the stimulus and the label.

    Returns
    -------
    recording : Recording
        See `pooled_recording`.
    protocol : object
        With the pairs of rows as its split; what is done already is not asked for again.
    folds : list of Together
    """
    if protocol.roi is not None:  # of everyone's units, before they are aligned
        case = case.in_roi(protocol.roi)
    folds = bring_together(case, recipe, protocol, features)
    recording, pairs = pooled_recording(folds, columns)
    done: dict[str, Any] = {"split": pairs, "zscore": None, "roi": None}
    if hasattr(protocol, "average_repeats"):
        # Training items are averaged person by person. Of test items there is one a stimulus, if
        # they are to be averaged, so that nothing happens to them again.
        done["average_repeats"] = "test" if protocol.average_repeats else False
    return recording, replace(protocol, **done), folds


def with_positions(model: Any, folds: Sequence[Together]) -> Any:
    """Return a model that is told where everyone's units are, if it asks and the aligner knows."""
    positions = getattr(folds[0].aligner, "positions_", None)
    if positions is None or "positions" not in model.get_params(deep=False):
        return model
    return clone(model).set_params(positions=dict(positions))


def pooled_recording(
    folds: Sequence[Together], columns: Sequence[str] = ()
) -> tuple[Recording, list[tuple[Array, Array]]]:
    """Return everyone's training items and the tested person's test items as one recording.

    The units are the dimensions of the shared space. Each fold has rows of its own, since it has a
    shared space of its own; where those have fewer dimensions than others' the rest is 0.

    Parameters
    ----------
    folds : sequence of Together
    columns : sequence of str
        Of the trials, to keep beside the stimulus and the label.

    Returns
    -------
    recording : Recording
    split : list of (train, test)
    """
    width = max(one.n_shared for one in folds)
    values, tables, pairs, start = [], [], [], 0
    conditions = folds[0].person.stimuli_are == "conditions"
    for number, together in enumerate(folds):
        parts, n_test = _items_of(together)
        for name, one, rows in parts:
            values.append(_widened(one.responses.read(), width))  # (items, dimensions, ...)
            # Conditions are exchanged within runs, row by row: those of each fold by themselves.
            prefix = f"{name} fold {number}" if conditions else name
            tables.append(_named_apart(one.rows.assign(subject=name), prefix, rows))
        stop = start + sum(len(one.rows) for _, one, _ in parts)
        pairs.append((np.arange(start, stop - n_test), np.arange(stop - n_test, stop)))
        start = stop
    kept = [
        name
        for name in dict.fromkeys(("stimulus", "label", "subject", *columns))
        if all(name in table for table in tables)
    ]
    person, standardised = folds[0].person, folds[0].standardised
    recording = Recording.from_arrays(
        np.concatenate(values),
        subject=person.subject,
        trials=pd.concat([table[kept] for table in tables], ignore_index=True),
        stimuli=person.stimuli,
        stimuli_are=person.stimuli_are,
        times=person.times,
        sfreq=person.sfreq,
        info={**standardised.info, "order": "people side by side"},
    )
    return recording, pairs


def _items_of(together: Together) -> tuple[list[tuple[str, Recording, Array]], int]:
    """Return everyone's items in the shared space and the rows that they are, the test items last.

    The second value is how many test items there are.
    """
    aligned = together.standardised
    if together.aligner is not None:
        aligned = together.aligner.align(aligned)
    parts = [(name, one, np.arange(len(one.rows))) for name, one in together.others.items()]
    trained_rows, test = together.rows["train"], together.rows["test"]
    if together.labels and len(trained_rows):
        trained = aligned.select(trials=trained_rows)
        averaged = together.average_repeats is True
        parts.append(
            (aligned.subject, trained.average_repeats() if averaged else trained, trained_rows)
        )
    tested = aligned.select(trials=test)
    tested = tested.average_repeats() if together.average_repeats else tested
    return [*parts, (aligned.subject, tested, test)], len(tested.rows)


def _widened(values: Array, width: int) -> Array:
    lacking = width - values.shape[1]
    return np.pad(values, [(0, 0), (0, lacking), *[(0, 0)] * (values.ndim - 2)])


def _named_apart(table: pd.DataFrame, name: str, rows: Array) -> pd.DataFrame:
    """Return a table of trials whose runs, sessions and trials are told apart from others'.

    Where no stimulus tells which rows are the same, their trial does: a row is a row of several
    folds, and null runs exchange it in all of them alike.
    """
    if "stimulus" not in table and "trial" not in table:
        table = table.assign(trial=rows)
    named = [column for column in ("session", "run", "trial") if column in table]
    return table.assign(**{column: f"{name} " + table[column].astype(str) for column in named})


# --------------------------------------------------------------------------- for encoders


class PooledEncoder(BaseEstimator):
    """An encoder of shared responses that learns from several people, for one of them.

    Parameters
    ----------
    model : estimator
        From features to shared responses.
    folds : sequence of Together
        Whose others' items are learned from beside the rows that `fit` is given, in each fold.
    """

    def __init__(self, model: Any, folds: Any) -> None:
        self.model = model
        self.folds = folds
        self._known: dict[int, tuple[Any, list[Array]]] = {}

    def __sklearn_clone__(self) -> "PooledEncoder":
        """Return one that is not fitted; what others have shown is shared, not copied."""
        copy = PooledEncoder(clone(self.model), self.folds)
        copy._known = self._known
        return copy

    def set_context(self, context: Any) -> None:
        """Take the fitted feature space, for the others' stimuli, and which fold it is."""
        self._space = context.space
        self._fold = next(
            one for one in self.folds if np.array_equal(one.rows["test"], context.held_out)
        )

    def fit(self, X: Any, Y: Any, groups: Any = None) -> "PooledEncoder":
        """Fit to the others' items, and to the person's (features, responses of usable units)."""
        together = self._fold
        stimuli, subject = together.person.stimuli, together.person.subject
        features, shared, shown = [*self._features_of_others(stimuli)], [], []
        for one in together.others.values():
            shared.append(one.responses.read())
            shown.append(one.stimulus_rows())
        if together.labels:
            features.append(np.asarray(X))
            shared.append(together.aligner.transform(Y, subject))
            shown.append(np.arange(len(Y)) if groups is None else np.asarray(groups))
        self.model_ = fit_rows(
            self.model,
            np.concatenate(features),
            np.concatenate(shared).astype(np.float32),
            groups=np.concatenate(shown),
        )
        return self

    def _features_of_others(self, stimuli: Any) -> list[Array]:
        """Return the features of each of the others' items; null runs with the same space share."""
        place = next(n for n, one in enumerate(self.folds) if one is self._fold)
        space, features = self._known.get(place, (None, []))
        if space is not self._space:
            features = []
            for one in self._fold.others.values():
                rows, item = np.unique(one.stimulus_rows(), return_inverse=True)
                values = self._space.transform(read_for(self._space, stimuli, rows))
                features.append(np.asarray(values)[item])
            self._known[place] = self._space, features
        return features

    def predict(self, X: Any) -> Array:
        """Predict the tested person's usable units, (n, units)."""
        return self.kept().predict(X)

    def kept(self) -> "AlignedEncoder":
        """Return what is saved of it: the model and the way back, without the others' items."""
        return AlignedEncoder(self.model_, self._fold.aligner, self._fold.person.subject)


class AlignedEncoder(BaseEstimator):
    """From features to shared responses, and from these to a person's units.

    Parameters
    ----------
    model : fitted estimator
    aligner : fitted Aligner
    subject : str
        To whose units.
    """

    def __init__(self, model: Any, aligner: Any, subject: str) -> None:
        self.model = model
        self.aligner = aligner
        self.subject = subject

    def predict(self, X: Any) -> Array:
        """Predict the person's usable units, (n, units)."""
        shared = predict_rows(self.model, X, self.aligner.n_shared_)
        return np.asarray(self.aligner.inverse_transform(shared, self.subject))
