"""Who trains and who is tested: other people's trials beside the tested person's own.

A recipe's ``subjects`` and ``alignment`` say whose responses a model learns from. Everyone's
training trials are standardised with their own statistics, repeats are averaged person by person,
and an aligner that is fitted on them maps all into one shared space; what models make of that is in
`brainkit.jobs.pooled_models`. No row of any person whose stimulus stands in the tested person's
test part takes part, and the aligner refuses one that does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from brainkit.alignment import ALIGNERS, Aligner
from brainkit.alignment.common_stimuli import row_keys
from brainkit.arrays.seeds import rng
from brainkit.data.cards import Strict
from brainkit.data.dependence import dependence, shows_stimuli
from brainkit.data.preparing import AverageRepeats, prepare_split, zscore_column
from brainkit.data.recording import Recording
from brainkit.errors import InputError, listed
from brainkit.features import Design
from brainkit.features.design import independent_rows
from brainkit.jobs.contract import Case, Job, Needs, Shortcut, access_protocol
from brainkit.recipes.specs import Recipe, build_model, build_part

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


class PeopleRecipe(Recipe):
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
    """A tested person's data in one fold, and the others', ready for a model.

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
        The others' training items in the shared space.
    by : str or None
        What is z-scored.
    average_repeats : bool, "test" or None
        Whether the tested person's repeats are averaged. The others' are, but in jobs that know no
        averaging (None), such as those of labels.
    access : str
        ``"none"``, ``"unlabelled-N"``, ``"labelled-N"`` or ``"transductive"``.
    labels : bool
        Whether the tested person's own trials train the model.
    """

    person: Recording
    standardised: Recording
    usable: Array
    rows: Mapping[str, Array]
    aligner: Aligner | None
    others: Mapping[str, Recording]
    by: str | None
    average_repeats: AverageRepeats | None
    access: str
    labels: bool = True

    @property
    def n_shared(self) -> int:
        """Number of dimensions of the shared space; of the person's units without an aligner."""
        if self.aligner is None:
            return int(self.standardised.responses.shape[1])
        return int(self.aligner.n_shared_)


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
    if recipe.alignment is not None and train:
        _check_model(recipe, build_aligner(recipe))


def _check_model(recipe: Any, aligner: Aligner) -> None:
    """Raise where everyone's own units stand side by side for a model that cannot tell whose."""
    specs = [getattr(recipe, "model", None)]
    specs.append(getattr(getattr(recipe, "generator", None), "latents", None))
    models = [build_model(spec) for spec in specs if spec is not None]
    if aligner.aligns or (
        models and all("people" in signature(model.fit).parameters for model in models)
    ):
        return
    aligning = [name for name, kind in ALIGNERS.builtin.items() if kind.aligns]
    raise InputError(
        f"{recipe.alignment.kind} leaves everyone their own units, for a model that aligns people "
        f"itself, such as contrastive-decoder; a model of {recipe.name} does not. Take an aligner "
        f"(--align) of {listed(aligning)}."
    )


def _check_protocol(protocol: Any) -> None:
    """Raise where a protocol asks for what is not done over people, or with a number of trials."""
    if len(getattr(protocol, "seeds", ())) > 1:
        raise InputError(
            f"protocol.seeds are {listed(map(str, protocol.seeds))}, and trials of people are "
            "chosen and brought together once: give one, as in --set protocol.seeds=[0]."
        )
    if getattr(protocol, "n_train", None) is not None:
        raise InputError(
            f"protocol.n_train is {protocol.n_train}, and with subjects.train or subjects.trials "
            "the number of the tested person's trials is said by subjects.trials (--trials)."
        )


def build_aligner(recipe: PeopleRecipe, features: Any = None) -> Aligner:
    """Return the aligner that a recipe names; one by features has the job's own where not given."""
    spec = recipe.alignment
    if spec is None:
        raise InputError("The recipe names no aligner: give alignment.kind (--align).")
    aligner: Aligner = build_part(ALIGNERS, spec.kind, spec.settings)
    if "features" in aligner.get_params(deep=False) and "features" not in spec.settings:
        aligner.set_params(features=features)
    return aligner


def bring_together(
    case: Case, recipe: PeopleRecipe, protocol: Any, features: Any = None
) -> list[Together]:
    """Choose the tested person's trials and align the others with them, fold by fold.

    Parameters
    ----------
    case : Case
    recipe : PeopleRecipe
    protocol : object
        A job's protocol: its split, its seed (the first of several), and how responses are read
        (`zscore`, `unseen` and, where it has such a setting, `average_repeats`).
    features : transformer, optional
        Feature space of aligners by features.

    Returns
    -------
    list of Together
        One a fold.

    Raises
    ------
    InputError, LeakError, SplitError
        If people cannot be aligned, or a test stimulus would take part.
    """
    if case.data.trials is None:
        raise InputError(
            f"{case.data.subject} is continuous, and people are brought together in trials: cut "
            "it into trials, or align the recordings with brainkit.alignment before."
        )
    _refuse_slow(case.data, protocol, features)
    by = zscore_column(case.data, protocol.zscore)
    average_repeats = getattr(protocol, "average_repeats", None)
    study = _Study(case, recipe, by, protocol.unseen, average_repeats, features, seed_of(protocol))
    folds = case.data.split(protocol.split, seed=study.seed).folds
    return [study.fold(fold.rows, number) for number, fold in enumerate(folds)]


def _refuse_slow(recording: Recording, protocol: Any, features: Any) -> None:
    """Raise where trials depend on their neighbours in time, which pooled trials no longer have.

    A person's own model leaves training trials out that are near a test trial; among trials of
    several people nobody would know which those are.
    """
    if features is not None and shows_stimuli(recording):
        rows = independent_rows(recording, protocol, [Design.from_stimuli(recording, features)])
    else:
        rows = dependence(recording, protocol.resample)
    if rows.series is not None:
        raise InputError(
            f"The trials of {recording.subject} depend on their neighbours in time "
            f"({rows.facts['independent']}: {rows.facts['because']}), and people are brought "
            "together as trials in random order. If they are independent in spite of it, say "
            "protocol.resample=stimulus."
        )


def seed_of(protocol: Any) -> int:
    """Return the (first) seed of a protocol's folds."""
    return int(protocol.seeds[0] if hasattr(protocol, "seeds") else protocol.seed)


@dataclass(frozen=True)
class _Study:
    """What is the same in all folds of people who are brought together."""

    case: Case
    recipe: PeopleRecipe
    by: str | None
    unseen: str | None
    average_repeats: AverageRepeats | None
    features: Any
    seed: int

    def fold(self, rows: Mapping[str, Array], number: int) -> Together:
        """Choose the tested person's trials of a fold, and align the others with them."""
        person, subjects = self.case.data, self.recipe.subjects
        chosen = _chosen(rows, subjects.trials, self.seed, number)
        if not len(chosen) and not subjects.train:
            raise InputError(
                f"Of {person.subject} no trial is used, and nobody else trains: trials=0."
            )
        standardised, usable = self._tested(chosen, rows["test"])
        zscore = standardised.info.get("zscore", {})
        aligner, others = None, {}
        if self.recipe.alignment is not None and subjects.train:
            # Of somebody of whom no trial may be used, an aligner sees where the units are.
            seen = chosen if len(chosen) else rows["train"]
            aligner = self._aligner(with_trials=bool(len(chosen)))
            if aligner.needs_common_stimuli:
                self._refuse_sealed_ones(rows["test"])
            held = {person.subject: self._averaged(standardised.select(trials=seen))}
            held |= self._others(rows["test"])
            test = standardised.select(trials=rows["test"])
            aligner.fit(held, forbidden=test if shows_stimuli(person) else None)
            others = {
                name: aligner.align(one) for name, one in held.items() if name != person.subject
            }
            _check_stimuli(person, held)
        return Together(
            person=person,
            standardised=standardised,
            usable=usable,
            rows={"train": chosen, "test": np.asarray(rows["test"])},
            aligner=aligner,
            others=others,
            by=self.by,
            average_repeats=self.average_repeats,
            access=access_protocol(len(chosen), zscore, labels=subjects.labels),
            labels=subjects.labels,
        )

    def _refuse_sealed_ones(self, test: Array) -> None:
        """Raise where the test part shows all that people have in common."""
        person = self.case.data
        if not shows_stimuli(person) or person.stimuli_are == "conditions":
            return
        people = [person, *(self.case.others[name] for name in self.recipe.subjects.train)]
        keys = row_keys(people)
        common = set(keys[0]).intersection(*keys[1:])
        if common and common <= set(keys[0][test]):
            raise InputError(
                f"All {len(common)} stimuli that {person.subject} and the others saw are in the "
                "test part, so that none is left to align people by. Take a split that keeps some "
                "of them for it, as protocol.split=nsd-515 does, or an aligner that needs none: "
                "by-features, pca, coordinates."
            )

    def _aligner(self, *, with_trials: bool) -> Aligner:
        """Return the aligner, if it suits what may be known of the tested person."""
        aligner = build_aligner(self.recipe, self.features)
        kind = "" if self.recipe.alignment is None else self.recipe.alignment.kind
        if not self.recipe.subjects.labels and aligner.needs_common_stimuli:
            raise InputError(
                f"{kind} aligns by common stimuli, which are labels, and subjects.labels is false: "
                "take one that needs none, such as pca."
            )
        if not with_trials and aligner.needs_responses:
            raise InputError(
                f"{kind} needs some responses of {self.case.data.subject}: give trials (--trials), "
                "or align by anatomy ('coordinates', 'resample', 'pooled')."
            )
        return aligner

    def _tested(self, chosen: Array, test: Array) -> tuple[Recording, Array]:
        """Return the tested person's recording as a fold's model sees it, and its usable units.

        They are those of `brainkit.data.preparing`, so that a job which prepares the person's raw
        trials for itself fits the same.
        """
        person = self.case.data
        if not len(chosen):
            person = self._zscored(person, np.empty(0, dtype=np.int64))
            values = person.responses.read()
            flat = values.reshape(len(values), values.shape[1], -1)
            usable = np.asarray(np.isfinite(flat).all(axis=(0, 2)))
        else:
            (fold,) = prepare_split(
                person, [(chosen, test)], zscore=self.by, unseen=self.unseen,
                average_repeats=self.average_repeats or False,
            )  # fmt: skip
            usable, person = fold.usable_units, self._zscored(person, chosen)
        if not usable.any():
            raise _no_unit(person)
        return person.select(units=usable), usable

    def _zscored(self, recording: Recording, fitted: Array) -> Recording:
        if self.by is None:
            return recording
        return recording.zscore(self.by, fit_on=fitted, unseen=self.unseen)

    def _others(self, test: Array) -> dict[str, Recording]:
        """Return the others' items, z-scored, whose stimuli the test part does not show."""
        names = self.recipe.subjects.train
        people = [self.case.others[name] for name in names]
        others = {}
        for name, one, kept in zip(names, people, _away(self.case.data, test, people), strict=True):
            zscored = self._zscored(one, kept)
            values = zscored.responses.read(kept)  # (rows, units, ...)
            ends = values.min(axis=0), values.max(axis=0)
            finite = np.isfinite(ends).all(axis=0).reshape(values.shape[1], -1).all(axis=1)
            varies = (ends[1] > ends[0]).reshape(values.shape[1], -1).any(axis=1)
            if not (finite & varies).any():
                raise _no_unit(one)
            others[name] = self._averaged(zscored.select(units=finite & varies, trials=kept))
        return others

    def _averaged(self, recording: Recording) -> Recording:
        """Return the mean response to each stimulus; of jobs that never average, the trials."""
        if self.average_repeats is None or "stimulus" not in recording.rows:
            return recording
        return recording.average_repeats()


def _no_unit(recording: Recording) -> InputError:
    return InputError(f"No unit of {recording.subject} can be used: all are constant or NaN.")


def _chosen(rows: Mapping[str, Array], trials: int | float | None, seed: int, number: int) -> Array:
    """Return the tested person's training rows: those of the align part first, in random order."""
    fold = (number,) if number else ()
    generator = rng(seed, "trials of the tested person", *fold)
    parts = [generator.permutation(rows[name]) for name in ("align", "train") if name in rows]
    every = np.concatenate(parts).astype(np.int64)
    n_kept = len(every) if trials is None else trials
    if isinstance(n_kept, float):
        n_kept = max(1, round(n_kept * len(every)))
    if n_kept > len(every):
        raise InputError(f"trials={trials} are asked for, and {len(every)} may train.")
    return np.sort(every[:n_kept])


def _away(person: Recording, test: Array, others: list[Recording]) -> list[Array]:
    """Return the rows of others whose stimuli a person's test rows do not show.

    All of them where stimuli are not known, or are conditions, which training and test share.
    """
    if not shows_stimuli(person) or person.stimuli_are == "conditions":
        return [np.arange(len(one.rows)) for one in others]
    keys, *theirs = row_keys([person, *others])
    sealed = np.unique(keys[test])
    return [np.flatnonzero(~np.isin(one, sealed)) for one in theirs]


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
