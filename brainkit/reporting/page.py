"""The report: one HTML file that holds all it shows and asks nothing of the network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from brainkit.arrays.atomic import write_text
from brainkit.data.recording import Recording
from brainkit.decoding import DecodingResult
from brainkit.encoding import EncodingResult, SpaceComparison
from brainkit.errors import InputError
from brainkit.reconstruction import ReconstructionResult
from brainkit.reporting import words
from brainkit.reporting.decoding import decoding_section
from brainkit.reporting.encoding import encoding_section, maps_section, region_picture
from brainkit.reporting.markup import Html, definitions, join, note, tag, void
from brainkit.reporting.overview import (
    checks_table,
    headline,
    manifest_section,
    simulated_banner,
    what_was_run,
)
from brainkit.reporting.ranking import ranking_section
from brainkit.reporting.reconstruction import reconstruction_section
from brainkit.reporting.spaces import spaces_section
from brainkit.reporting.style import CSS
from brainkit.synthesis import RankingResult

# Even were a hostile name to get past the escaping, the browser would load and run nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class SubjectResults:
    """What there is to report of one subject; what is None has no section.

    Attributes
    ----------
    encoding : EncodingResult or None
    spaces : SpaceComparison or None
    decoding : DecodingResult or None
    reconstruction : ReconstructionResult or None
    ranking : RankingResult or None
    """

    encoding: EncodingResult | None = None
    spaces: SpaceComparison | None = None
    decoding: DecodingResult | None = None
    reconstruction: ReconstructionResult | None = None
    ranking: RankingResult | None = None

    @property
    def recording(self) -> Recording:
        """The recording of the first result there is."""
        for result in (
            self.encoding,
            self.spaces,
            self.decoding,
            self.reconstruction,
            self.ranking,
        ):
            if result is not None:
                return result.recording
        raise InputError(
            "SubjectResults holds no result: give encoding, spaces, decoding, reconstruction or "
            "ranking."
        )


READING = "How to read the numbers"

PARTS: tuple[tuple[str, str, str, Callable[[Any, object], Html]], ...] = (
    ("encoding", "encoding", "Encoding: scores against ceilings", encoding_section),
    ("encoding", "maps", "Maps in the person's own space", maps_section),
    ("spaces", "layers", "Feature spaces by region", spaces_section),
    ("decoding", "decoding", "Decoding: shown and reconstructed", decoding_section),
    (
        "reconstruction",
        "reconstruction",
        "Reconstruction: drawn and said from decoded embeddings",
        reconstruction_section,
    ),
    ("ranking", "ranking", "Ranked stimuli by region", ranking_section),
)


def render_report(
    results: Mapping[str, SubjectResults],
    *,
    title: str,
    manifest: Mapping[str, Any],
    metrics: Mapping[str, Any],
    summary: str | None = None,
    checks: pd.DataFrame | None = None,
) -> str:
    """Return the report as HTML that needs no other file.

    Parameters
    ----------
    results : mapping of str to SubjectResults
        By subject.
    title : str
        Heading and title of the page.
    manifest : mapping
        As in ``manifest.json``.
    metrics : mapping
        As in ``metrics.json``: by metric id; several subjects under ``"by_subject"``.
    summary : str, optional
        A sentence on what was done.
    checks : DataFrame, optional
        A row a claim; true and false become "met" and "not met".

    Returns
    -------
    str

    Raises
    ------
    InputError
        If there is no subject, or one without any result.
    """
    if not results:
        raise InputError("A report needs the results of at least one subject; got none.")
    recordings = {name: part.recording for name, part in results.items()}
    opening = [
        tag("h1", title),
        tag("p", summary, class_="lead") if summary else "",
        simulated_banner(recordings),
        what_was_run(recordings, manifest),
    ]
    sections: list[tuple[str, str, Html]] = [
        ("headline", "Headline numbers", _headline(results, metrics))
    ]
    if checks is not None and len(checks):
        sections.append(("checks", "Checks", checks_table(checks)))
    inner: dict[str, list[tuple[str, str]]] = {}
    for i, (name, part) in enumerate(results.items(), start=1):
        anchor = f"subject-{i}"
        content, inner[anchor] = _subject(anchor, part)
        sections.append((anchor, f"Subject {name}", content))
    sections.append(("reading", READING, definitions(_explanations(results))))
    sections.append(("manifest", "Manifest", manifest_section(manifest)))
    body = [
        *opening,
        contents(sections, inner),
        *(
            tag("section", tag("h2", heading), content, id=anchor)
            for anchor, heading, content in sections
        ),
    ]
    return document(title, tag("main", *body))


def write_report(
    path: str | Path,
    results: Mapping[str, SubjectResults],
    *,
    title: str,
    manifest: Mapping[str, Any],
    metrics: Mapping[str, Any],
    summary: str | None = None,
    checks: pd.DataFrame | None = None,
) -> None:
    """Write the report of `render_report` to a file, whole or not at all."""
    page = render_report(
        results, title=title, manifest=manifest, metrics=metrics, summary=summary, checks=checks
    )
    write_text(path, page)


def _headline(results: Mapping[str, SubjectResults], metrics: Mapping[str, Any]) -> Html:
    encoded = {name: r.encoding.regions for name, r in results.items() if r.encoding is not None}
    picture = region_picture(encoded) if len(encoded) > 1 else ""
    advice = note(
        "Nulls stand beside each value; 95 % intervals are over held-out items; there is none over "
        "subjects, being few. n counts what the value is a mean of. ",
        tag("a", READING, href="#reading"),
        " says what each number is.",
    )
    return join([advice, headline(metrics), picture])


def _explanations(results: Mapping[str, SubjectResults]) -> dict[str, object]:
    """Return the explanations of what this report shows."""
    chosen: dict[str, object] = {}
    for job, entries in (
        ("encoding", words.ENCODING),
        ("decoding", words.DECODING),
        ("reconstruction", words.RECONSTRUCTION),
        ("ranking", words.RANKING),
    ):
        if any(getattr(part, job) is not None for part in results.values()):
            chosen |= entries
    true = any(
        part.ranking is not None and "true percentile" in part.ranking.regions
        for part in results.values()
    )
    if not true:
        chosen.pop("true percentile", None)
    encoded = [part.encoding for part in results.values() if part.encoding is not None]
    if encoded and not any(result.ceiling for result in encoded):
        for name in ("noise ceiling", "pooled ceiling fraction"):
            chosen.pop(name, None)
    if not any("2V2" in result.regions for result in encoded):
        for name in ("2V2", "pattern r"):
            chosen.pop(name, None)
    return chosen


def _subject(anchor: str, part: SubjectResults) -> tuple[Html, list[tuple[str, str]]]:
    """Return a subject's parts, and (anchor, heading) of each."""
    parts, headings = [], []
    for attribute, name, heading, render in PARTS:
        result = getattr(part, attribute)
        if result is not None:
            place = f"{anchor}-{name}"
            parts.append(render(result, tag("h3", heading, id=place)))
            headings.append((place, heading))
    return join(parts), headings


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
