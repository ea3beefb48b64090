"""The parts of a report that are not one subject's: what was run, headline, checks, manifest."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from brainkit.arrays.atomic import plain
from brainkit.data.from_mne import quality_said
from brainkit.data.recording import Recording
from brainkit.evaluation.intervals import FEWEST_UNITS
from brainkit.reconstruction.scores import TRUE
from brainkit.reporting.markup import (
    FEW,
    Html,
    definitions,
    flat,
    interval,
    join,
    markup,
    number,
    table,
    tag,
)
from brainkit.reporting.words import kind_name, metric_name

Entry = Mapping[str, Any]


def simulated_banner(recordings: Mapping[str, Recording]) -> Html:
    """Return a clear word on data that no brain made; nothing where all are real."""
    made = {name: part.info.get("simulated") for name, part in recordings.items()}
    made = {name: facts for name, facts in made.items() if facts}
    if not made:
        return Html("")
    who = "all subjects" if len(made) == len(recordings) else ", ".join(made)
    said = dict.fromkeys(_simulation(facts) for facts in made.values())
    return tag(
        "div",
        tag("strong", "Simulated data."),
        f" No brain was measured ({who}): ", " ".join(said),
        " A simulation shows that the code finds what was put in; it never proves that a method "
        "works on a brain.",
        class_="simulated",
        role="note",
    )  # fmt: skip


def _simulation(facts: Any) -> str:
    """Return world and brain of a simulation with versions, seeds and what was switched off."""
    if not isinstance(facts, Mapping):
        return "the recording says no more about its origin."
    parts = []
    for name in ("world", "brain"):
        given = facts.get(name)
        if isinstance(given, Mapping):
            said = f"{name} version {given.get('version', '–')}, seed {given.get('seed', '–')}"
            off = [key.replace("_", " ") for key, value in given.items() if value is False]
            parts.append(said + (f", counter-world without {', '.join(off)}" if off else ""))
    return ("; ".join(parts) or "world not stated") + "."


def what_was_run(recordings: Mapping[str, Recording], manifest: Mapping[str, Any]) -> Html:
    """Return dataset, recipe and subjects."""
    entries: dict[str, object] = {}
    for label, key in (("Job", "job"), ("Dataset", "card"), ("Licence", "licence")):
        if manifest.get(key):
            entries[label] = str(manifest[key])
    recipes = _recipe_names(manifest.get("recipe"))
    if recipes:
        entries["Recipe"] = recipes
    models = _model_names(manifest.get("recipe"))
    if models:
        entries["Models"] = models
    entries |= _encoder_parts(manifest.get("recipe"))
    network = _network_said(manifest.get("subjects"))
    if network:
        entries["Network"] = network
    entries["Subjects"] = join(
        tag("div", f"{name}: {_size(recording)}") for name, recording in recordings.items()
    )
    if manifest.get("citation"):
        entries["Citation"] = str(manifest["citation"])
    return definitions(entries)


def _recipe_names(recipe: Any) -> str:
    if isinstance(recipe, Mapping):
        if "name" in recipe:
            return str(recipe["name"])
        parts = (part for part in recipe.values() if isinstance(part, Mapping))
        return ", ".join(str(part["name"]) for part in parts if "name" in part)
    return str(recipe) if recipe else ""


def _model_names(recipe: Any) -> str:
    """Return which frozen models a recipe that reconstructs names; nothing for others."""
    if not isinstance(recipe, Mapping):
        return ""
    parts = [recipe, *(part for part in recipe.values() if isinstance(part, Mapping))]
    named = []
    for part in (part for part in parts if isinstance(part.get("embedding"), str)):
        named.append(f"embedding {part['embedding']}")
        for role in ("generator", "captioner"):
            if isinstance(part.get(role), Mapping):
                named.append(f"{role} {part[role].get('name')}")
        judges = part.get("judges")
        if isinstance(judges, Mapping):
            named += [f"{name} {spec}" for name, spec in judges.items()]
    return "; ".join(named)


def _encoder_parts(recipe: Any) -> dict[str, object]:
    """Return the features and the estimator of a recipe that encodes; nothing for others."""
    if not isinstance(recipe, Mapping) or recipe.get("job") != "encode":
        return {}
    spaces = [part for part in recipe.get("features") or [] if isinstance(part, Mapping)]
    said: dict[str, object] = {}
    if spaces:
        said["Features"] = "; ".join(_space_said(part) for part in spaces)
    model = recipe.get("model")
    if isinstance(model, Mapping):
        said["Encoder"] = str(model.get("kind"))
    return said


def _space_said(part: Mapping[str, Any]) -> str:
    settings = part.get("settings")
    model = settings.get("model") if isinstance(settings, Mapping) else None
    return f"{part.get('kind')} {model}" if model else str(part.get("kind"))


def _network_said(subjects: Any) -> str:
    """Return from whom a network learned that stood ready before the run; nothing without one."""
    facts = subjects.values() if isinstance(subjects, Mapping) else ()
    networks = [one["network"] for one in facts if isinstance(one, Mapping) and "network" in one]
    if not networks:
        return ""
    said = f"{networks[0]['checkpoint']}, trained on {len(networks[0]['trained_on'])} subjects; "
    learned = [name for network in networks for name in network["learned_from"]]
    if learned:
        return said + f"{', '.join(learned)}, predicted here, among them"
    return said + "none of those predicted here among them"


def _size(recording: Recording) -> str:
    axes = ("samples" if recording.samples is not None else "trials", "units", "times")
    sizes = zip(recording.responses.shape, axes, strict=False)
    size = " × ".join(f"{size:,} {axis}" for size, axis in sizes)
    stimuli = f", {len(recording.stimuli):,} stimuli" if recording.stimuli is not None else ""
    notes = [recording.info.get("measure"), quality_said(recording.info.get("quality"))]
    return "; ".join([f"{size}{stimuli}", *(note for note in notes if note)])


def headline(metrics: Mapping[str, Entry]) -> Html:
    """Return the metrics, at least one table a preset, so that no two presets share one (trap T13).

    Parameters
    ----------
    metrics : mapping
        As in ``metrics.json``: by metric id; several subjects under ``"by_subject"``.
    """
    groups: dict[tuple[str, str], dict[str, Entry]] = {}
    for metric, entry in metrics.items():
        key = str(entry.get("preset", "not stated")), metric if entry.get("by_subject") else ""
        groups.setdefault(key, {})[metric] = entry
    tables = [_preset_table(preset, chosen) for (preset, _), chosen in groups.items()]
    return tag("div", *tables, class_="tables")


def _lines(metrics: Mapping[str, Entry]) -> Iterator[tuple[str, str, Entry]]:
    """Give (metric, whose, entry): one line a subject, and one for their mean."""
    for metric, entry in metrics.items():
        each = entry.get("by_subject") or {}
        yield metric, f"mean of {len(each)} subjects" if each else "", entry
        for subject, part in each.items():
            yield metric, subject, part if isinstance(part, Mapping) else {"value": part}


def _preset_table(preset: str, metrics: Mapping[str, Entry]) -> Html:
    lines = list(_lines(metrics))
    nulls = list(dict.fromkeys(null for *_, entry in lines for null in entry.get("nulls") or {}))
    several = any(whose for _, whose, _ in lines)
    named = not several
    intervals = any(entry.get("ci") for *_, entry in lines)
    reached = any(entry.get(TRUE) for *_, entry in lines)
    rows = []
    for metric, whose, entry in lines:
        first = [metric_name(metric)] if named else []
        who = [whose] if several else []
        given = entry.get("nulls") or {}
        rows.append(
            [
                *first,
                *who,
                tag("span", number(entry.get("value")), class_="total"),
                *([interval(entry.get("ci"), few=entry.get("few_units"))] if intervals else []),
                *([number((entry.get(TRUE) or {}).get("value"))] if reached else []),
                *(number(given.get(null)) for null in nulls),
                number(entry.get("n")),
            ]
        )
    header = [
        *(["metric"] if named else []),
        *(["subject"] if several else []),
        "value",
        *(["95 % CI"] if intervals else []),
        *([kind_name(TRUE)] if reached else []),
        *(f"null: {kind_name(null)}" for null in nulls),
        "n",
    ]
    name = "" if named else tag("strong", metric_name(next(iter(metrics))))
    marked = any(entry.get("few_units") for *_, entry in lines)
    few = f" {FEW} Fewer than {FEWEST_UNITS} independent units: its coverage is not sure."
    caption = [name, " " if name else "", f"(preset {preset})", few if marked else ""]
    return table(header, rows, caption=join(caption))


def checks_table(checks: pd.DataFrame) -> Html:
    """Return claims with what was measured, the target, and whether it was met."""
    rows = [
        [_met(value) if _is_flag(value) else value for value in row]
        for row in checks.astype(object).itertuples(index=False, name=None)
    ]
    met = [value for row in checks.astype(object).to_numpy() for value in row if _is_flag(value)]
    caption = f"{sum(map(bool, met))} of {len(met)} checks met." if met else None
    return table(list(checks.columns), rows, caption=caption)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool | np.bool_)


def _met(value: object) -> Html:
    return tag("span", "✓ met" if value else "✗ not met", class_="met" if value else "unmet")


def manifest_section(manifest: Mapping[str, Any]) -> Html:
    """Return the manifest as a table and, folded away, as JSON."""
    given = plain(dict(manifest))
    rows = [[name, _readable(value)] for name, value in flat(given)]
    text = json.dumps(given, indent=2, ensure_ascii=False, default=str)
    return join(
        [
            tag("div", table(["setting", "value"], rows), class_="manifest"),
            tag("details", tag("summary", "The same as JSON"), tag("pre", text)),
        ]
    )


def _readable(value: object) -> Html:
    """Return a setting as it was given, all its digits."""
    return markup("–" if value is None else str(value))
