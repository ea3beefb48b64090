"""Labels: classes or numbers from responses of any kind, beside labels that are exchanged."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from brainkit.data.splits import describe_split
from brainkit.decoding import LabelProtocol, LabelResult, assess_labels
from brainkit.decoding.label_decoding import CLASSES
from brainkit.errors import InputError, listed
from brainkit.jobs.contract import Case, Result, Shortcut, judged_facts
from brainkit.jobs.encode import Unseen
from brainkit.jobs.people import SHORTCUTS, PeopleJob, PeopleRecipe, check_people, is_plain
from brainkit.jobs.pipeline import LabelPipeline, Preparation
from brainkit.jobs.pooled_models import of_people, pool_people
from brainkit.recipes.specs import Count, ModelSpec, Seeds, build_model, settings_of
from brainkit.reporting import Folded, Picture, Section, Table, Text, Widget
from brainkit.reporting.figures import literal
from brainkit.reporting.markup import interval, join, number, tag
from brainkit.reporting.widgets import left_out, metric_name, resampled, standardised

Settings = settings_of(
    LabelProtocol,
    seeds=Seeds,
    unseen=Unseen,
    permutations=Annotated[int, Field(ge=0)],
    shuffles=Count,
)
GLOSSARY = {
    "balanced accuracy": "Share of rows whose class was decoded, the mean over classes, so that a "
    "decoder that always says the commonest class is at chance, 1 / (number of classes).",
    "AUC": "Share of pairs of rows, one of the class and one of another, in which the score for "
    "the class is higher for the first; the mean over classes, within folds. Chance is .5.",
    "decoding r, R²": "Correlation of decoded and true numbers within folds, and share of their "
    "variance that is explained, against the training mean.",
    "exchanged labels": "Null: the whole decoder fitted again on labels exchanged as chance might "
    "have dealt them: within runs, together for the rows of one trial, shifted in time for "
    "continuous data.",
    "p": "Share of null runs with a score at least as high, counting the observed run as one.",
}


class LabelsRecipe(PeopleRecipe):
    """Responses → classes or numbers, learned from the tested person, or from others too."""

    job: Literal["labels"]
    model: ModelSpec
    protocol: Settings  # type: ignore[valid-type]


class Labels(PeopleJob):
    """Decode classes or numbers from brain responses, beside exchanged labels."""

    name = "labels"
    schema = LabelsRecipe
    headline = ("decoding_balanced_accuracy", "decoding_auc", "decoding_r")
    shortcuts = (
        Shortcut("target", "protocol.target", "Column of the trials to decode. Default: label."),
        *SHORTCUTS,
    )
    example = "brainkit labels CARD --recipe labels-logistic --target label"

    def describe(self, recipe: Any) -> dict[str, str]:
        """Name the decoder and what it decodes."""
        settings = ", ".join(f"{name} {value}" for name, value in recipe.model.settings.items())
        return {"Model": f"{recipe.model.kind} ({settings})", "Target": recipe.protocol.target}

    def check(self, case: Case, recipe: Any) -> None:
        """Raise where the trials have no such column, or there is no such region."""
        build_model(recipe.model)
        check_people(case, recipe)
        if recipe.protocol.target not in case.data.rows:
            raise InputError(
                f"The trials of {case.data.subject} have no column {recipe.protocol.target!r} to "
                f"decode; they have {list(case.data.rows.columns)}. Say which with --target (--set "
                "protocol.target=)."
            )
        unlabelled = [
            name for name in recipe.subjects.train
            if recipe.protocol.target not in case.others[name].rows
        ]  # fmt: skip
        if unlabelled:
            raise InputError(
                f"The trials of {listed(unlabelled)}, whom subjects.train names, have no column "
                f"{recipe.protocol.target!r} to learn from."
            )
        if recipe.protocol.roi is not None:
            case.data.roi_mask(recipe.protocol.roi)

    def run(self, case: Case, recipe: Any, tools: Any) -> Result:
        """Judge the decoder; see `brainkit.decoding.assess_labels`."""
        decoder, protocol = build_model(recipe.model), recipe.protocol.build()
        if is_plain(recipe):
            return label_result(assess_labels(case.data, decoder, protocol))
        unseen, columns = protocol.unseen, (protocol.target, "run", "session", "trial")
        recording, protocol, folds = pool_people(case, recipe, protocol, columns=columns)
        return of_people(label_result(assess_labels(recording, decoder, protocol)), folds, unseen)


def label_result(judged: LabelResult) -> Result:
    """Return what is written down and shown of a decoder of labels that was judged."""
    confusion = {} if judged.confusion is None else {"confusion": judged.confusion}
    return Result(
        metrics=judged.metrics,
        sections=[Section("Labels: decoded and true", _widgets(judged))],
        highlights=_pictures(judged),
        tables={"items": judged.items, "folds": judged.by_fold, **confusion},
        pipeline=_pipeline(judged),
        facts=judged_facts(judged),
        fitted=[judged.fitted],
        glossary=GLOSSARY,
        source=judged,
    )


def _pipeline(judged: LabelResult) -> LabelPipeline | None:
    """Return the decoder of the first fold; scikit-learn's own estimators are not saved."""
    fold = judged.prepared
    if fold is None or not type(judged.fitted).__module__.startswith("brainkit."):
        return None
    n_times = fold.n_targets // len(judged.recording.units)
    epochs = len(judged.recording.responses.shape) == 3
    usable = np.repeat(fold.usable_units, n_times) if epochs else fold.usable
    preparation = Preparation.of(fold, judged.protocol.unseen, usable=usable)
    return LabelPipeline(judged.fitted, preparation, epochs=epochs)


# ------------------------------------------------------------------------------- what is shown


def _widgets(judged: LabelResult) -> list[Widget]:
    protocol, n_seeds = judged.protocol, len(judged.protocol.seeds)
    where = f" in {protocol.roi}" if protocol.roi else ""
    about = (
        f"{len(judged.items):,} held-out rows (split {describe_split(protocol.split)}), {n_seeds} "
        f"fold seed{'s' * (n_seeds != 1)}: {protocol.target!r} decoded from the units{where}; "
        f"shuffled fits: {protocol.shuffles}, permutation runs: {protocol.permutations}."
    )
    scores = [
        [
            metric_name(name),
            number(entry["value"]),
            interval(entry.get("ci"), few=entry.get("few_units")),
            number(entry.get("chance")),
            number(next(iter(entry["nulls"].values()), None)),
            number(entry.get("p")),
        ]
        for name, entry in judged.metrics.items()
    ]
    header = ["metric", "value", "95 % CI", "chance", "exchanged labels", "p"]
    tables = [Table(judged.by_fold, caption="Fold by fold, of the first seed.")]
    if judged.confusion is not None:
        table = judged.confusion.rename_axis("true").reset_index()
        tables.append(Table(table, caption="How often each class was taken for each."))
    return [
        *_pictures(judged),
        Table(scores, header),
        Text([about], kind="note"),
        left_out({name: judged.counts[name] for name in ("units", "constant_or_nan")}),
        standardised(judged.zscore),
        resampled(judged.resampling),
        Folded("Fold by fold, and every confusion", tables),
    ]


def _pictures(judged: LabelResult) -> list[Widget]:
    """Draw which classes were taken for which, or decoded numbers against true ones."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    if judged.kind == CLASSES and judged.confusion is not None:
        counts = judged.confusion.to_numpy(dtype=float)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        names = [literal(name) for name in judged.confusion.index]
        if len(names) <= 12:
            for row, column in np.ndindex(*shares.shape):
                ink = "white" if shares[row, column] > 0.6 else "black"
                text = f"{shares[row, column]:.2f}".lstrip("0")
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_xlabel("decoded", fontsize=9)
        axes.set_ylabel("true", fontsize=9)
        caption = join([tag("strong", "Confusions."), " Share of each true class (rows) that was "
                        "decoded as each (columns), of the first fold seed."])  # fmt: skip
        return [Picture(figure, "Confusion matrix, each row as shares of one.", caption)]
    target = judged.protocol.target
    axes.plot(judged.items[target], judged.items["decoded"], "o", ms=3, alpha=0.6, mew=0)
    axes.set_xlabel(f"true {literal(target)}, less the training mean", fontsize=9)
    axes.set_ylabel("decoded", fontsize=9)
    caption = join([tag("strong", "Decoded against true."), " One dot a held-out row."])
    return [Picture(figure, "Scatter of decoded against true numbers.", caption)]
