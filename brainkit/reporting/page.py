"""The report: one HTML file that holds all it shows and asks nothing of the network.

The first screen says in three sentences and up to three pictures what was run, how good it is and
against which null. Then follow one table of headline numbers, a section a person with pictures
first and full tables folded, what the numbers mean, and the manifest.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from brainkit.arrays.atomic import plain, write_text
from brainkit.errors import InputError
from brainkit.evaluation.intervals import FEWEST_UNITS
from brainkit.evaluation.metrics import one_preset
from brainkit.reporting.figures import region_scores
from brainkit.reporting.markup import (
    CSS,
    FEW,
    Html,
    definitions,
    flat,
    interval,
    join,
    markup,
    note,
    number,
    table,
    tag,
    void,
)
from brainkit.reporting.widgets import Picture, Section, Widget, kind_name, metric_name

Entry = Mapping[str, Any]
# Even were a hostile name to get past the escaping, the browser would load and run nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
READING = "How to read the numbers"
PICTURES = 3  # on the first screen
COLUMNS = 8  # people that have a column of their own in the headline table
REACHED = "true_embedding"
UNIVERSAL = {
    "interval": "95 % interval over what is independent in the claim (stimuli, runs or stretches "
    "of time; each section says which). With several folds, whose test items train the other "
    "folds, it is wider by what the choice of training items adds to the score's variance.",
}


@dataclass(frozen=True)
class PersonReport:
    """What the report shows of one person, rendered, so that it can be kept until all are done.

    Attributes
    ----------
    name : str
        Heading of the person's section.
    about : str
        How large the data are.
    simulated : mapping or None
        What simulated them, as a recording's ``info`` has it.
    metrics : dict
        As in ``metrics.json``.
    parts : list of (heading, HTML)
    highlights : list of HTML
        Pictures for the first screen.
    glossary : dict of str to str
    lines : dict of str to str
        What else there is to say of what was run, by label.
    """

    name: str
    about: str = ""
    simulated: Any = None
    metrics: dict[str, Any] = field(default_factory=dict)
    parts: list[tuple[str, str]] = field(default_factory=list)
    highlights: list[str] = field(default_factory=list)
    glossary: dict[str, str] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, name: str, sections: Sequence[Section], highlights: Sequence[Widget], **rest: Any
    ) -> Self:
        """Render a person's sections and highlights."""
        parts = [
            (section.heading, str(join(widget.html() for widget in section.widgets)))
            for section in sections
        ]
        return cls(name, parts=parts, highlights=[str(one.html()) for one in highlights], **rest)

    def kept(self) -> dict[str, Any]:
        """Return the report as JSON values; ``PersonReport(**kept)`` gives it back."""
        return plain(asdict(self))


def render_report(
    people: Mapping[str, PersonReport],
    *,
    title: str,
    manifest: Mapping[str, Any],
    metrics: Mapping[str, Any],
    summary: str | None = None,
    headline: Sequence[str] = (),
    checks: pd.DataFrame | None = None,
) -> str:
    """Return the report as HTML that needs no other file.

    Parameters
    ----------
    people : mapping of str to PersonReport
        By the name of the person.
    title : str
        Heading and title of the page.
    manifest : mapping
        As in ``manifest.json``.
    metrics : mapping
        As in ``metrics.json``: by metric id; several people under ``"by_subject"``.
    summary : str, optional
        A sentence on what was done.
    headline : sequence of str
        Metrics that the first sentences tell of, the most important first; what stands in square
        brackets may be left out.
    checks : DataFrame, optional
        A row a claim; true and false become "met" and "not met".

    Returns
    -------
    str

    Raises
    ------
    InputError
        If there is no person.
    """
    if not people:
        raise InputError("A report needs the results of at least one subject; got none.")
    first = [
        tag("h1", title),
        tag("p", summary, class_="lead") if summary else "",
        simulated_banner(people),
        tag("p", *_sentences(people, manifest, metrics, headline), class_="lead sentences"),
        _first_pictures(people),
    ]
    sections: list[tuple[str, str, Html]] = [("headline", "Headline numbers", _headline(metrics))]
    if checks is not None and len(checks):
        sections.append(("checks", "Checks", checks_table(checks)))
    inner: dict[str, list[tuple[str, str]]] = {}
    for number_, person in enumerate(people.values(), start=1):
        anchor = f"subject-{number_}"
        places = _places(anchor, [heading for heading, _ in person.parts])
        inner[anchor] = [(p, heading) for p, (heading, _) in zip(places, person.parts, strict=True)]
        content = join(
            join([tag("h3", heading, id=place), Html(html)])
            for place, (heading, html) in zip(places, person.parts, strict=True)
        )
        sections.append((anchor, person.name, content))
    glossary = {name: text for one in people.values() for name, text in one.glossary.items()}
    sections += [
        ("reading", READING, definitions(glossary | UNIVERSAL)),
        ("manifest", "What was run", _what_was_run(people, manifest)),
    ]
    body = [
        *first,
        contents(sections, inner),
        *(
            tag("section", tag("h2", heading), content, id=anchor)
            for anchor, heading, content in sections
        ),
    ]
    return document(title, tag("main", *body))


def _places(anchor: str, headings: Sequence[str]) -> list[str]:
    """Return an anchor for each heading of a person, by its first word."""
    places: list[str] = []
    for heading in headings:
        place = f"{anchor}-{re.split('[^a-z]+', heading.lower())[0]}"
        places.append(place if place not in places else f"{place}-{len(places) + 1}")
    return places


def write_report(path: str | Path, people: Mapping[str, PersonReport], **settings: Any) -> None:
    """Write the report of `render_report` to a file, whole or not at all."""
    write_text(path, render_report(people, **settings))


# -------------------------------------------------------------------------------- first screen


def simulated_banner(people: Mapping[str, PersonReport]) -> Html:
    """Return a clear word on data that no brain made; nothing where all are real."""
    simulated = {name: one.simulated for name, one in people.items() if one.simulated}
    if not simulated:
        return Html("")
    who = "all subjects" if len(simulated) == len(people) else ", ".join(simulated)
    worlds = dict.fromkeys(_simulation(facts) for facts in simulated.values())
    return tag(
        "div",
        tag("strong", "Simulated data."),
        f" No brain was measured ({who}): ", " ".join(worlds),
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
        one = facts.get(name)
        if isinstance(one, Mapping):
            text = f"{name} version {one.get('version', '–')}, seed {one.get('seed', '–')}"
            off = [key.replace("_", " ") for key, value in one.items() if value is False]
            parts.append(text + (f", counter-world without {', '.join(off)}" if off else ""))
    return ("; ".join(parts) or "world not stated") + "."


def _sentences(
    people: Mapping[str, PersonReport],
    manifest: Mapping[str, Any],
    metrics: Mapping[str, Any],
    headline: Sequence[str],
) -> list[object]:
    """Say what was run, how good it is, and what the nulls reach."""
    names = list(people)
    who = names[0] if len(names) == 1 else f"{len(names)} people"
    recipe, card = _recipe_names(manifest.get("recipe")), manifest.get("card")
    what = f"The recipe {recipe}" if recipe and "," not in recipe else "Several recipes"
    about = people[names[0]].about
    about = about.removeprefix(f"{who}, ")
    first = f"{what} on {card or 'data of your own'}: {who}{f' ({about})' if about else ''}."
    told = [name for wanted in headline for name in metrics if name.split("[")[0] == wanted]
    lines = [join([" ", _metric_sentence(name, metrics[name])]) for name in told[:2]]
    return [first, *lines]


def _metric_sentence(name: str, entry: Entry) -> Html:
    several = entry.get("by_subject") or {}
    mean = f" (mean of {len(several)} people)" if len(several) > 1 else ""
    ends = f" {interval(entry.get('ci'), few=entry.get('few_units'))}" if entry.get("ci") else ""
    nulls = {k: v for k, v in (entry.get("nulls") or {}).items() if v is not None}
    beside = ""
    if nulls:
        best = max(nulls, key=lambda null: nulls[null])
        of = f"the best of its {len(nulls)} nulls" if len(nulls) > 1 else "its null"
        beside = f"; {of}, {kind_name(best)}, gives {number(nulls[best])}"
    elif "chance" in entry:
        beside = f", where chance is {number(entry['chance'])}"
    label = metric_name(name)
    value = tag("strong", number(entry.get("value")))
    return join([label[:1].upper() + label[1:], " is ", value, ends, mean, beside, "."])


def _first_pictures(people: Mapping[str, PersonReport]) -> Html:
    """Return the highlights of the first person, which the report then has once more in place."""
    name, person = next(iter(people.items()))
    shown = person.highlights[:PICTURES]
    if not shown:
        return Html("")
    label = note(f"Pictures of {name}; all people follow below.") if len(people) > 1 else ""
    return join([tag("div", *map(Html, shown), class_="first"), label])


# ------------------------------------------------------------------------------ headline numbers


def _headline(metrics: Mapping[str, Entry]) -> Html:
    several = any(len(entry.get("by_subject", ())) > 1 for entry in metrics.values())
    people = "; there is no interval over people, being few" if several else ""
    advice = note(
        f"Nulls stand beside each value{people}. ",
        tag("a", READING, href="#reading"),
        " says what each number is.",
    )
    every = tag("details", tag("summary", "All nulls, intervals and counts"), every_number(metrics))
    pictures = [_by_region(name, entry) for name, entry in metrics.items()]
    return join([compact_table(metrics), advice, *[one for one in pictures if one][:1], every])


def compact_table(metrics: Mapping[str, Entry]) -> Html:
    """Return one line a metric: its mean, a column a person, the best null and the preset."""
    people = list(
        dict.fromkeys(who for one in metrics.values() for who in one.get("by_subject") or {})
    )
    shown = people if len(people) <= COLUMNS else []
    rows = []
    for name, entry in metrics.items():
        each = entry.get("by_subject") or {}
        nulls = {k: v for k, v in (entry.get("nulls") or {}).items() if v is not None}
        best = max(nulls, key=lambda null: nulls[null]) if nulls else None
        ends = [interval(entry.get("ci"), few=entry.get("few_units"))] if not people else []
        spread = [value.get("value") for value in each.values() if value.get("value") is not None]
        some = (
            [number(f(spread) if spread else None) for f in (min, max)]
            if people and not shown
            else []
        )
        rows.append(
            [
                metric_name(name),
                tag("span", number(entry.get("value")), class_="total"),
                *ends,
                *(number((each.get(who) or {}).get("value")) for who in shown),
                *some,
                number(nulls.get(best)) if best else number(entry.get("chance")),
                kind_name(best) if best else ("chance" if "chance" in entry else ""),
                tag("span", entry.get("preset", "not stated"), class_="preset"),
            ]
        )  # fmt: skip
    header = [
        "metric", f"mean of {len(people)}" if people else "value",
        *(["95 % CI"] if not people else []), *shown,
        *(["lowest", "highest"] if people and not shown else []), "best null", "which", "preset",
    ]  # fmt: skip
    return table(header, rows, class_="headline")


def _by_region(name: str, entry: Entry) -> Html:
    """Draw a metric by region, of several people; nothing where there are no regions."""
    each = {
        who: part for who, part in (entry.get("by_subject") or {}).items() if part.get("by_roi")
    }
    if len(each) < 2:
        return Html("")
    tables = {}
    for who, part in each.items():
        null = next(iter((part.get("nulls") or {}).values()), np.nan)
        nulls = part.get("null_by_roi") or {}
        rows = [
            (roi, v, nulls.get(roi, null)) for roi, v in part["by_roi"].items() if v is not None
        ]
        tables[who] = pd.DataFrame(rows, columns=["region", "value", "null"])
    figure = region_scores(tables, "value", "null", label=metric_name(name), null_label="null")
    alt = f"Dot plot of {metric_name(name)} by region, a colour a person."
    caption = join([tag("strong", f"{metric_name(name)} by region."), " One colour a person."])
    return Picture(figure, alt, caption).html()


def every_number(metrics: Mapping[str, Entry]) -> Html:
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
    tables = [_preset_table(chosen) for chosen in groups.values()]
    return tag("div", *tables, class_="tables")


def _lines(metrics: Mapping[str, Entry]) -> Iterator[tuple[str, str, Entry]]:
    """Give (metric, whose, entry): one line a subject, and one for their mean."""
    for metric, entry in metrics.items():
        each = entry.get("by_subject") or {}
        yield metric, f"mean of {len(each)} subjects" if each else "", entry
        for subject, part in each.items():
            yield metric, subject, part if isinstance(part, Mapping) else {"value": part}


def _preset_table(metrics: Mapping[str, Entry]) -> Html:
    preset = one_preset(metrics)
    lines = list(_lines(metrics))
    nulls = list(dict.fromkeys(null for *_, entry in lines for null in entry.get("nulls") or {}))
    several = any(whose for _, whose, _ in lines)
    intervals = any(entry.get("ci") for *_, entry in lines)
    reached = any(entry.get(REACHED) for *_, entry in lines)
    rows = [
        [
            whose if several else metric_name(metric),
            tag("span", number(entry.get("value")), class_="total"),
            *([interval(entry.get("ci"), few=entry.get("few_units"))] if intervals else []),
            *([number((entry.get(REACHED) or {}).get("value"))] if reached else []),
            *(number((entry.get("nulls") or {}).get(null)) for null in nulls),
            number(entry.get("n")),
        ]
        for metric, whose, entry in lines
    ]
    header = [
        "subject" if several else "metric",
        "value",
        *(["95 % CI"] if intervals else []),
        *([kind_name(REACHED)] if reached else []),
        *(f"null: {kind_name(null)}" for null in nulls),
        "n",
    ]
    name = tag("strong", metric_name(next(iter(metrics))), " ") if several else ""
    marked = any(entry.get("few_units") for *_, entry in lines)
    few = f" {FEW} Fewer than {FEWEST_UNITS} independent units: its coverage is not sure."
    return table(header, rows, caption=join([name, f"(preset {preset})", few if marked else ""]))


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


# ---------------------------------------------------------------------------------- what was run


def _access(manifest: Mapping[str, Any]) -> Html | None:
    """Return under which access protocol each person's own data was used, None where none is."""
    people = manifest.get("subjects")
    facts = people if isinstance(people, Mapping) else {}
    named = {who: one["access"] for who, one in facts.items() if one.get("access")}
    return join(tag("div", f"{who}: {access}") for who, access in named.items()) if named else None


def _what_was_run(people: Mapping[str, PersonReport], manifest: Mapping[str, Any]) -> Html:
    """Return dataset, recipe, models and people, then the whole manifest, folded."""
    labels = (("Job", "job"), ("Dataset", "card"), ("Licence", "licence"), ("Citation", "citation"))
    entries: dict[str, object] = {
        label: str(manifest[key]) for label, key in labels if manifest.get(key)
    }
    recipes = _recipe_names(manifest.get("recipe"))
    if recipes:
        entries["Recipe"] = recipes
    entries["Subjects"] = join(tag("div", f"{who}: {one.about}") for who, one in people.items())
    access = _access(manifest)
    if access:
        entries["Access to the tested person's data"] = access
    entries |= {str(name): str(text) for name, text in (manifest.get("parts") or {}).items()}
    entries |= {name: text for one in people.values() for name, text in one.lines.items()}
    values = plain(dict(manifest))
    rows = [[name, markup("–" if value is None else str(value))] for name, value in flat(values)]
    text = json.dumps(values, indent=2, ensure_ascii=False, default=str)
    settings = tag("div", table(["setting", "value"], rows), class_="manifest")
    return join(
        [
            definitions(entries),
            tag("details", tag("summary", "The manifest, setting by setting"), settings),
            tag("details", tag("summary", "The same as JSON"), tag("pre", text)),
        ]
    )


def _recipe_names(recipe: Any) -> str:
    if isinstance(recipe, Mapping):
        if "name" in recipe:
            return str(recipe["name"])
        parts = (part for part in recipe.values() if isinstance(part, Mapping))
        return ", ".join(str(part["name"]) for part in parts if "name" in part)
    return str(recipe) if recipe else ""


def contents(
    sections: list[tuple[str, str, Html]], inner: Mapping[str, list[tuple[str, str]]]
) -> Html:
    """Return the list of sections, (anchor, heading, content), with what stands below each."""
    items = []
    for anchor, heading, _ in sections:
        below = [
            tag("li", tag("a", name, href=f"#{place}")) for place, name in inner.get(anchor, [])
        ]
        nested = tag("ul", *below) if below else ""
        items.append(tag("li", tag("a", heading, href=f"#{anchor}"), nested))
    return tag("nav", tag("ul", *items), aria_label="Contents")


def document(title: str, body: Html) -> str:
    """Return a whole page that loads nothing and runs nothing."""
    head = join(
        [
            void("meta", charset="utf-8"),
            void("meta", name="viewport", content="width=device-width, initial-scale=1"),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
            void("link", rel="icon", href="data:,"),
            tag("title", title),
            Html(f"<style>{CSS}</style>"),
        ]
    )
    page = tag("html", tag("head", head), "\n", tag("body", body), lang="en")
    return f"<!doctype html>\n{page}\n"
