"""What a job is: its settings, what it needs, how it is run, and what it gives.

A job is one class in one module, registered by name in `brainkit.jobs`. The runner
(`brainkit.jobs.runner`) knows none of them: it loads what a job reads, lets it check its inputs,
runs it person by person, writes down what the `Result` holds and has the report rendered from the
result's sections.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pandas as pd
from numpy.typing import NDArray

from brainkit.data.preparing import Prepared
from brainkit.data.recording import Recording
from brainkit.data.splits import Split, SplitLike
from brainkit.data.stimuli import Stimuli
from brainkit.errors import InputError, LeakError
from brainkit.recipes.specs import Known, Recipe
from brainkit.reporting import Section, Widget

Array = NDArray[Any]
SELECTING = ("train", "validation", "align")  # the parts of a split that may choose something


@dataclass(frozen=True)
class Shortcut:
    """An option of a job's command that sets one setting of its recipe.

    Attributes
    ----------
    flag : str
        The option's name, such as ``"ceiling"`` for ``--ceiling``.
    setting : str
        The setting, such as ``"protocol.ceiling"``.
    help : str
        What the option's help says.
    also : tuple of str
        Changes of the recipe that go before, such as ``"layers={}"``.
    """

    flag: str
    setting: str
    help: str
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Needs:
    """What a job needs of the data.

    Attributes
    ----------
    others : bool
        Whether the recordings of the other people are needed, for a ceiling or for training.
    selects_on : tuple of str
        Parts of the split that choose something: a checkpoint, a penalty, a layer. The test part
        never does.
    """

    others: bool = False
    selects_on: tuple[str, ...] = ("train",)

    def __post_init__(self) -> None:
        barred = [part for part in self.selects_on if part not in SELECTING]
        if barred:
            raise LeakError(
                f"A job may select on {', '.join(SELECTING)}; this one asks for "
                f"{', '.join(barred)}, which only scores. Ask for 'validation' instead.",
                barred,
            )


@dataclass(frozen=True)
class Case:
    """One person whose responses are modelled, and what else is known.

    Attributes
    ----------
    data : Recording, or what the job `reads`
    others : mapping of str to Recording
        The other people of the study, where the job needs them.
    regions : list of str or None
        Regions to sum up; None for all that have units.
    known : dict or None
        Features that the jobs of one person share.
    """

    data: Any
    others: Mapping[str, Recording] = field(default_factory=dict)
    regions: Sequence[str] | None = None
    known: Known | None = None

    def in_roi(self, roi: str) -> "Case":
        """Return the case with everyone's units of a region alone."""
        others = {name: one.select(roi=roi) for name, one in self.others.items()}
        return replace(self, data=self.data.select(roi=roi), others=others)

    def selection(
        self, split: SplitLike, needs: Needs, seed: int = 0
    ) -> list[dict[str, Recording]]:
        """Return, fold by fold, the parts of a split that the job may select on, by name.

        The test part is not among them, nor can it be reached through them: each is a recording
        of its own rows alone.

        Raises
        ------
        SplitError
            If the split has no such part.
        """
        folds: Split = self.data.split(split, seed=seed)
        return [{name: fold.part(name) for name in needs.selects_on} for fold in folds]


@dataclass(frozen=True)
class Result:
    """What a job gives of one person, for the run folder and for the report.

    Attributes
    ----------
    metrics : dict
        By metric id, each as `brainkit.evaluation.metrics.metric_entry` writes it.
    sections : sequence of Section
        What the report shows, pictures first.
    highlights : sequence of Widget
        Up to three pictures for the report's first screen.
    tables : mapping of str to DataFrame
        Written as ``NAME.parquet``.
    arrays : mapping of str to array
        Written as ``NAME.npy``.
    images : mapping of str to (mapping of str to array)
        Written as ``NAME.npz``, images in [0, 1] as 8 bits.
    documents : mapping of str to JSON values
        Written as ``NAME.json``.
    maps : mapping of str to array (units,)
        Written in the file type of the recording's space, under ``maps/``; all-NaN ones are not.
    pipeline : estimator or None
        What was fitted, saved as ``estimator/``.
    facts : dict
        For the manifest: ``counts``, ``zscore``, ``resampling`` and what else there is to say.
    fitted : sequence
        Estimators that say in which device and precision they ran.
    glossary : mapping of str to str
        What the numbers mean, a plain sentence or two each.
    lines : mapping of str to str
        What else the report says of what was run, by label.
    learned_from : str
        Whose trials trained, where not the person's own alone; for the report's first sentence.
    source : object
        What the job's ``assess_...`` function returned, for those who call the job from Python.
    """

    metrics: dict[str, Any]
    sections: Sequence[Section]
    highlights: Sequence[Widget] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)
    images: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    documents: Mapping[str, Any] = field(default_factory=dict)
    maps: Mapping[str, Array] = field(default_factory=dict)
    pipeline: Any = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    fitted: Sequence[Any] = ()
    glossary: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, str] = field(default_factory=dict)
    learned_from: str = ""
    source: Any = None


class Job(ABC):
    """The contract: subclass it, and register the subclass under its `name`.

    Attributes
    ----------
    name : str
        The job's name: that of its command, and the ``job`` of its recipes.
    schema : type of Recipe
        Its settings.
    reads : {"recordings", "dissimilarities"}
        What a dataset has to offer; of dissimilarities all people are one case.
    headline : tuple of str
        The metrics that the report's first sentences tell of, the most important first; what
        stands in square brackets in a metric's id may be left out.
    shortcuts : tuple of Shortcut
        Options of its command beside those of all jobs.
    example : str
        A call of the command, for its help.
    """

    name: ClassVar[str]
    schema: ClassVar[type[Recipe]]
    reads: ClassVar[str] = "recordings"
    headline: ClassVar[tuple[str, ...]] = ()
    shortcuts: ClassVar[tuple[Shortcut, ...]] = ()
    example: ClassVar[str] = ""

    def needs(self, recipe: Any) -> Needs:
        """Return what the job needs of the data with these settings."""
        return Needs()

    def tested(self, recipe: Any, available: Sequence[str]) -> list[str]:
        """Return who of the people that are there is a case of its own; all, mostly."""
        return list(available)

    def describe(self, recipe: Any) -> dict[str, str]:
        """Return what the report says of the recipe's parts, by label."""
        return {}

    def tools(self, recipe: Any) -> Any:
        """Load what all people share, such as frozen networks, so that wrong names fail at once."""
        return None

    def describe_tools(self, tools: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return what the manifest says of the tools, and of how they ran."""
        return {}, []

    def check(self, case: Case, recipe: Any) -> None:  # noqa: B027 - a job may suit all
        """Raise where a case does not suit the job; called for all people before the first fit.

        Raises
        ------
        InputError
            If the job decodes or predicts stimuli and the recording has none, say.
        """

    @abstractmethod
    def run(self, case: Case, recipe: Any, tools: Any) -> Result:
        """Fit, predict and score one case, beside its nulls.

        Parameters
        ----------
        case : Case
        recipe : instance of the job's `schema`
        tools : what `tools` returned

        Returns
        -------
        Result
        """


def access_protocol(n_trials: int, zscore: Mapping[str, Any], *, labels: bool = True) -> str:
    """Name the access that a model had to the data of the person it is tested on.

    Parameters
    ----------
    n_trials : int
        Of the person's own trials, how many were used outside the test part.
    zscore : mapping
        What z-scoring did, see `Recording.zscore`.
    labels : bool, default=True
        Whether it was known what they show.

    Returns
    -------
    str
        ``"none"``, ``"unlabelled-N"``, ``"labelled-N"``, or ``"transductive"`` where test trials
        were standardised with their own statistics.
    """
    if zscore.get("transductive"):
        return "transductive"
    if not n_trials:
        return "none"
    return f"{'labelled' if labels else 'unlabelled'}-{n_trials}"


def access_within(prepared: Prepared | None) -> str | None:
    """Return the access of a model of one person's own trials, of the first fold; None of none."""
    if prepared is None:
        return None
    return access_protocol(len(prepared.fold.rows["train"]), prepared.zscore)


def judged_facts(judged: Any) -> dict[str, Any]:
    """Return what the manifest says of every judged model: access, z-scoring, units, dependence."""
    facts = {name: getattr(judged, name) for name in ("zscore", "counts", "resampling")}
    return {"access": access_within(judged.prepared), **facts}


def stimuli_needed(case: Case, purpose: str) -> Stimuli:
    """Return a recording's stimuli; raises `InputError` where there are none, or none are named."""
    stimuli: Stimuli | None = case.data.stimuli
    if stimuli is None:
        raise InputError(f"{purpose} needs stimuli; this recording has none.")
    case.data.stimulus_rows()
    return stimuli
