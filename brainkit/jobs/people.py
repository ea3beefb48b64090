"""Who trains and who is tested: other people's trials beside the tested person's own.

A recipe's ``subjects`` and ``alignment`` say whose responses a model learns from. Everyone's
training trials are standardised with their own statistics, repeats are averaged person by person,
and an aligner that is fitted on them maps all into one shared space. A decoder is then trained on
everyone's shared responses; an encoder predicts shared responses, which the aligner leads back to
the tested person's units. No row of any person whose stimulus stands in the tested person's test
part takes part, and the aligner refuses one that does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator
from sklearn.base import BaseEstimator, TransformerMixin, clone

from brainkit.alignment import ALIGNERS, Aligner
from brainkit.alignment.common_stimuli import row_keys
from brainkit.arrays.seeds import rng
from brainkit.data.cards import Strict
from brainkit.data.preparing import AverageRepeats
from brainkit.data.recording import Recording
from brainkit.data.splits import SplitLike, describe_split
from brainkit.data.stimuli import Stimuli
from brainkit.errors import InputError, SplitError, listed
from brainkit.features import read_for
from brainkit.features.wrapped_spaces import reads
from brainkit.jobs.contract import Case, Job, Needs, Shortcut, access_protocol
from brainkit.linear.ridge_estimator import fit_rows, predict_rows
from brainkit.recipes.specs import FeatureRecipe, build_features, build_part

Array = NDArray[Any]


def _as_names(given: Any) -> Any:
    """Take ``subj01,subj02`` for a list of names."""
    return [name.strip() for name in given.split(",")] if isinstance(given, str) else given


def _as_trials(given: Any) -> Any:
    """Take a number of trials, or a share of them; raises `ValueError` for anything else."""
    if given is None:
        return None
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if number and given >= 0 and (given < 1 or float(given).is_integer()):
        return given if 0 < given < 1 else int(given)
    raise ValueError(
        f"trials are a number (0, 1, 2 ...) or a share of them between 0 and 1; got {given!r}"
    )


Names = Annotated[tuple[str, ...], BeforeValidator(_as_names)]


class SubjectsSpec(Strict):
    """Who trains, who is tested, and how much of the tested person's own data is used.

    Attributes
    ----------
    train : names
        The others whose trials train; none for models within a person.
    test : names
        Who is tested; all that are there where empty (or those of ``--subject``).
    trials : int, float or None
        Of the tested person's own training trials: how many, or (below 1) which share; all where
        None, none where 0. Those whose stimuli the others saw too come first.
    labels : bool
        Whether the tested person's trials train the model; else they fit the aligner alone, which
        then may not need common stimuli.
    """

    train: Names = ()
    test: Names = ()
    trials: Annotated[Any, BeforeValidator(_as_trials)] = None
    labels: bool = True

    @model_validator(mode="after")
    def _apart(self) -> Self:
        both = sorted({*self.train} & {*self.test})
        if both:
            raise ValueError(
                f"{listed(both)} stand in train and in test; train names the others, and how many "
                "of the tested person's own trials are used is said by trials"
            )
        return self


class AlignmentSpec(Strict):
    """An aligner and its parameters; see `brainkit.alignment`."""

    kind: str
    settings: dict[str, Any] = Field(default_factory=dict)


class PeopleRecipe(FeatureRecipe):
    """A recipe whose model may learn from several people."""

    subjects: SubjectsSpec = SubjectsSpec()
    alignment: AlignmentSpec | None = None

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if self.subjects.train and self.alignment is None:
            raise ValueError(
                "people are brought together by an aligner: name one with alignment.kind "
                f"(--align), of {listed(ALIGNERS)}"
            )
        return self


SHORTCUTS = (
    Shortcut(
        "train-subjects",
        "subjects.train",
        "Others whose trials train the model too, as in subj01,subj02. Needs --align.",
    ),
    Shortcut(
        "trials",
        "subjects.trials",
        "How many of the tested person's own training trials are used, or (below 1) which share. "
        "Default: all.",
    ),
    Shortcut("align", "alignment.kind", f"How people are aligned: {listed(ALIGNERS)}."),
)


@dataclass(frozen=True)
class Together:
    """A tested person's data, and the others', ready for a model.

    Attributes
    ----------
    person : Recording
        The tested person's raw recording.
    standardised : Recording
        The same z-scored with the chosen trials' statistics, usable units alone.
    usable : array of bool (units,)
    rows : dict of str to array of int
        Rows of the recording that train and that test.
    aligner : Aligner or None
    others : dict of str to Recording
        The others' averaged training items in the shared space.
    by : str or None
        What is z-scored.
    access : str
        ``"none"``, ``"unlabelled-N"``, ``"labelled-N"`` or ``"transductive"``.
    """

    person: Recording
    standardised: Recording
    usable: Array
    rows: Mapping[str, Array]
    aligner: Aligner | None
    others: Mapping[str, Recording]
    by: str | None
    access: str
    labels: bool = True


class PeopleJob(Job):
    """A job whose model may learn from several people."""

    shortcuts: ClassVar[tuple[Shortcut, ...]] = SHORTCUTS

    def needs(self, recipe: Any) -> Needs:
        """Ask for the other people where they train."""
        return Needs(others=bool(recipe.subjects.train))

    def tested(self, recipe: Any, available: Sequence[str]) -> list[str]:
        """Return who is tested: those the recipe names, or all who do not train others."""
        lacking = sorted({*recipe.subjects.test} - {*available})
        if lacking:
            raise InputError(
                f"subjects.test names {listed(lacking)}; there are {listed(available)}."
            )
        if recipe.subjects.test:
            return list(recipe.subjects.test)
        return [name for name in available if name not in recipe.subjects.train]


def is_plain(recipe: Any) -> bool:
    """Tell whether a recipe asks for the tested person's own trials alone, and for all of them."""
    return not recipe.subjects.train and recipe.subjects.trials is None


def check_people(case: Case, recipe: Any) -> None:
    """Raise where a recipe names people who are not there, or a person twice."""
    name, train = case.data.subject, recipe.subjects.train
    if name in train:
        raise InputError(
            f"{name} is tested and stands in subjects.train (--train-subjects) too: name the "
            "others there, and with subjects.trials (--trials) how many of the tested person's "
            "own trials are used."
        )
    if not is_plain(recipe):
        _check_protocol(recipe.protocol)
    lacking = [one for one in train if one not in case.others]
    if lacking:
        raise InputError(
            f"subjects.train (--train-subjects) names {listed(lacking)}; beside {name} there are "
            f"{listed(case.others)}."
        )
    if recipe.alignment is not None:
        build_aligner(recipe)


def _check_protocol(protocol: Any) -> None:
    """Raise where a protocol asks for what is not done over people, or with a number of trials."""
    if len(protocol.seeds) > 1:
        raise InputError(
            f"protocol.seeds are {listed(map(str, protocol.seeds))}, and trials of people are "
            "chosen and brought together once: give one, as in --set protocol.seeds=[0]."
        )
    if getattr(protocol, "n_train", None) is not None:
        raise InputError(
            f"protocol.n_train is {protocol.n_train}, and with subjects.train or subjects.trials "
            "the number of the tested person's trials is said by subjects.trials (--trials)."
        )


def build_aligner(recipe: PeopleRecipe) -> Aligner:
    """Return the aligner that a recipe names; one by features has the recipe's own."""
    spec = recipe.alignment
    if spec is None:
        raise InputError("The recipe names no aligner: give alignment.kind (--align).")
    aligner: Aligner = build_part(ALIGNERS, spec.kind, spec.settings)
    if "features" in aligner.get_params(deep=False) and "features" not in spec.settings:
        aligner.set_params(features=build_features(recipe.features, recipe.components))
    return aligner


def bring_together(
    case: Case, recipe: PeopleRecipe, split: SplitLike, *, seed: int, by: str | None,
    unseen: str | None,
) -> Together:  # fmt: skip
    """Choose the tested person's trials, and align the others with them.

    Parameters
    ----------
    case : Case
    recipe : PeopleRecipe
    split : str, splitter, ...
        Of one fold.
    seed : int
        Of the choice of trials.
    by, unseen
        See `Recording.zscore`.

    Raises
    ------
    SplitError
        If the split has several folds.
    InputError, LeakError
        If people cannot be aligned, or a test stimulus would take part.
    """
    person, subjects = case.data, recipe.subjects
    folds = person.split(split, seed=seed).folds
    if len(folds) != 1:
        raise SplitError(
            f"People are brought together over one test part; the split {describe_split(split)} "
            f"has {len(folds)} folds. Take 'nsd-515', or pairs of rows of your own."
        )
    rows = folds[0].rows
    own = _chosen(rows, subjects.trials, seed)
    if not len(own) and not subjects.train:
        raise InputError(f"Of {person.subject} no trial is used, and nobody else trains: trials=0.")
    by = by if by in person.rows else None
    unsealed = _away_from(rows["test"], [person, *(case.others[n] for n in subjects.train)])
    fitted = own if len(own) else None
    standardised, usable = _standardised(person, fitted, by, unseen, rows["test"])
    zscore = standardised.info.get("zscore", {})
    access = access_protocol(len(own), zscore, labels=subjects.labels)
    aligner, others = None, {}
    if recipe.alignment is not None and subjects.train:
        aligner = build_aligner(recipe)
        if not subjects.labels and aligner.needs_common_stimuli:
            raise InputError(
                f"{recipe.alignment.kind} aligns by common stimuli, which are labels, and "
                "subjects.labels is false: take one that needs none, such as pca."
            )
        # Of somebody of whom no trial may be used, an aligner sees where the units are.
        seen = own if len(own) else rows["train"]
        if not len(own) and aligner.needs_responses:
            raise InputError(
                f"{recipe.alignment.kind} needs some responses of {person.subject}: give trials "
                "(--trials), or align by anatomy ('coordinates', 'resample', 'pooled')."
            )
        held = {person.subject: _averaged(standardised.select(trials=seen))}
        for name, kept in zip(subjects.train, unsealed[1:], strict=True):
            one, _ = _standardised(case.others[name], kept, by, unseen)
            held[name] = _averaged(one.select(trials=kept))
        aligner.fit(held, forbidden=standardised.select(trials=rows["test"]))
        others = {name: aligner.align(one) for name, one in held.items() if name != person.subject}
        _check_stimuli(person, held)
    chosen = {"train": own, "test": np.asarray(rows["test"])}
    return Together(
        person, standardised, usable, chosen, aligner, others, by, access, subjects.labels
    )


def _chosen(rows: Mapping[str, Array], trials: int | float | None, seed: int) -> Array:
    """Return the tested person's training rows: those of the align part first, in random order."""
    generator = rng(seed, "trials of the tested person")
    parts = [generator.permutation(rows[name]) for name in ("align", "train") if name in rows]
    every = np.concatenate(parts).astype(np.int64)
    n_kept = len(every) if trials is None else trials
    if isinstance(n_kept, float):
        n_kept = max(1, round(n_kept * len(every)))
    if n_kept > len(every):
        raise InputError(f"trials={trials} are asked for, and {len(every)} may train.")
    return np.sort(every[:n_kept])


def _away_from(test: Array, recordings: list[Recording]) -> list[Array]:
    """Return the rows of each recording whose stimuli the first one's test part does not show."""
    keys = row_keys(recordings)
    sealed = np.unique(keys[0][test])
    return [np.flatnonzero(~np.isin(one, sealed)) for one in keys]


def _standardised(
    recording: Recording, fitted: Array | None, by: str | None, unseen: str | None,
    test: Array | None = None,
) -> tuple[Recording, Array]:  # fmt: skip
    """Z-score a recording, and leave units out that its training (or test) rows make useless."""
    if by is not None:
        none = np.empty(0, dtype=np.int64)
        recording = recording.zscore(by, fit_on=none if fitted is None else fitted, unseen=unseen)
    values = recording.responses.read(fitted)  # (rows, units)
    usable = np.isfinite(values).all(axis=0) & (np.ptp(values, axis=0) > 0)
    if test is not None:
        usable &= np.isfinite(recording.responses.read(test)).all(axis=0)
    if not usable.any():
        raise InputError(f"No unit of {recording.subject} can be used: all are constant or NaN.")
    return recording.select(units=usable), usable


def _averaged(recording: Recording) -> Recording:
    return recording.average_repeats() if recording.trials is not None else recording


def _check_stimuli(person: Recording, held: Mapping[str, Recording]) -> None:
    """Raise where the others' stimuli are not rows of the tested person's."""
    if person.stimuli is None:
        return
    for name, one in held.items():
        if one.stimuli is None or not np.array_equal(one.stimuli.ids, person.stimuli.ids):
            raise InputError(
                f"The stimuli of {name} and of {person.subject} are different sets; a model over "
                "people needs one set for all, as NSD's images are."
            )


def people_facts(together: Together) -> dict[str, Any]:
    """Return what the manifest says of who trained, and of the access to the tested person."""
    return {
        "access": together.access,
        "trained_on": {name: len(one.rows) for name, one in together.others.items()},
        "own_trials": len(together.rows["train"]),
        "aligner": None if together.aligner is None else type(together.aligner).__name__,
    }


def people_lines(together: Together) -> dict[str, str]:
    """Return the same for readers of the report."""
    facts = people_facts(together)
    others = ", ".join(f"{name} ({n:,} items)" for name, n in facts["trained_on"].items())
    aligned = f", aligned by {facts['aligner']}" if facts["aligner"] else ""
    return {
        f"Trained on, for {together.person.subject}": f"{others or 'nobody else'}{aligned}; "
        f"{facts['own_trials']:,} trials of its own ({together.access})"
    }


# --------------------------------------------------------------------------- for decoders


def pooled_recording(
    together: Together, *, average_repeats: AverageRepeats = True
) -> tuple[Recording, list[tuple[Array, Array]]]:
    """Return everyone's training items and the tested person's test items as one recording.

    The units are the dimensions of the shared space.

    Parameters
    ----------
    together : Together
    average_repeats : bool or "test", default=True
        Average the tested person's repeats, in both parts or in the test part alone. The others'
        are averaged person by person in any case, as they were for the aligner.

    Returns
    -------
    recording : Recording
    split : list of (train, test)
    """
    aligned = together.standardised
    if together.aligner is not None:
        aligned = together.aligner.align(together.standardised)
    parts: list[tuple[str, Recording]] = [*together.others.items()]
    if together.labels and len(together.rows["train"]):
        own = aligned.select(trials=together.rows["train"])
        parts.append((aligned.subject, _averaged(own) if average_repeats is True else own))
    test = aligned.select(trials=together.rows["test"])
    test = _averaged(test) if average_repeats else test
    parts.append((aligned.subject, test))
    values = np.concatenate([one.responses.read() for _, one in parts])  # (items, dimensions)
    tables = [one.rows.assign(subject=name) for name, one in parts]
    # A session's number means another session in every person.
    columns = [name for name in ("stimulus", "label", "subject") if name in tables[-1]]
    trials = pd.concat([table[columns] for table in tables], ignore_index=True)
    n_train = len(values) - len(test.rows)
    recording = Recording.from_arrays(
        values,
        subject=aligned.subject,
        trials=trials,
        stimuli=together.person.stimuli,
        stimuli_are=together.person.stimuli_are,
        info={**aligned.info, "order": "people side by side"},
    )
    return recording, [(np.arange(n_train), np.arange(n_train, len(values)))]


# --------------------------------------------------------------------------- for encoders


class PooledSpace(TransformerMixin, BaseEstimator):
    """A feature space that is fitted on what everyone was shown in training.

    Parameters
    ----------
    space : transformer
    together : Together
    """

    def __init__(self, space: Any, together: Any) -> None:
        self.space = space
        self.together = together

    def __sklearn_clone__(self) -> "PooledSpace":
        """Return one that is not fitted; what others have shown is shared, not copied."""
        return PooledSpace(clone(self.space), self.together)

    @property
    def reads(self) -> str:
        """What the space reads of stimuli."""
        return reads(self.space)

    def read(self, stimuli: Stimuli, rows: Any) -> Any:
        """Read what the space takes of some stimuli."""
        return read_for(self.space, stimuli, rows)

    def fit(self, X: Any, y: Any = None) -> "PooledSpace":
        """Fit to the stimuli of everyone's training items; those that are given are among them."""
        together = self.together
        shown = [one.stimulus_rows() for one in together.others.values()]
        shown.append(together.standardised.stimulus_rows()[together.rows["train"]])
        rows = np.unique(np.concatenate(shown))
        self.space_ = clone(self.space).fit(self.read(together.person.stimuli, rows))
        return self

    def transform(self, X: Any) -> Any:
        """Return the features of stimuli, as `read` gives them."""
        return self.space_.transform(X)


class PooledEncoder(BaseEstimator):
    """An encoder of shared responses that learns from several people, for one of them.

    Parameters
    ----------
    model : estimator
        From features to shared responses.
    together : Together
        Whose others' items are learned from beside the rows that `fit` is given.
    """

    def __init__(self, model: Any, together: Any) -> None:
        self.model = model
        self.together = together

    def __sklearn_clone__(self) -> "PooledEncoder":
        """Return one that is not fitted; what others have shown is shared, not copied."""
        return PooledEncoder(clone(self.model), self.together)

    def set_context(self, context: Any) -> None:
        """Take the fitted feature space, in which the others' stimuli are looked at."""
        self._space = context.space

    def fit(self, X: Any, Y: Any, groups: Any = None) -> "PooledEncoder":
        """Fit to the others' items, and to the person's (features, responses of usable units)."""
        together = self.together
        stimuli, subject = together.person.stimuli, together.person.subject
        features, shared, shown = [], [], []
        for one in together.others.values():
            rows, item = np.unique(one.stimulus_rows(), return_inverse=True)
            known = self._space.transform(read_for(self._space, stimuli, rows))
            features.append(np.asarray(known)[item])
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

    def predict(self, X: Any) -> Array:
        """Predict the tested person's usable units, (n, units)."""
        shared = predict_rows(self.model_, X, self.together.aligner.n_shared_)
        return np.asarray(
            self.together.aligner.inverse_transform(shared, self.together.person.subject)
        )

    def kept(self) -> "AlignedEncoder":
        """Return what is saved of it: the model and the way back, without the others' items."""
        return AlignedEncoder(self.model_, self.together.aligner, self.together.person.subject)


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
