"""HTML by small functions: every value is escaped unless it is `Html` already.

`Html` is markupsafe's ``Markup``: joined to, formatted with or added to text, it escapes the text.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup as Html
from markupsafe import escape

MISSING = "–"
MINUS = "−"

FEW = "†"  # marks intervals that rest on few independent units
NUMERIC = re.compile(rf"[{MINUS}0-9.,e+∞]*|{MISSING}|\[[^a-z]*\]{FEW}?")


def markup(value: object) -> Html:
    """Return a value as HTML: numbers by `number`, true and false in words, other text escaped."""
    if isinstance(value, Html):
        return value
    if isinstance(value, bool | np.bool_):
        return Html("yes" if value else "no")
    if value is None or isinstance(value, int | float | np.number):
        return Html(number(value))
    return escape(str(value))  # text even of what claims to be HTML itself


RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: object) -> str:
    """Write a number with three significant digits, integers in full, NaN and None as "–"."""
    if value is None or value is pd.NA:
        return MISSING
    if isinstance(value, int | np.integer):
        return f"{int(value):,}".replace("-", MINUS)
    given = float(value)  # type: ignore[arg-type]
    if np.isnan(given):
        return MISSING
    if np.isinf(given):
        return "∞" if given > 0 else f"{MINUS}∞"
    if given.is_integer() and abs(given) < 1e6:
        return f"{int(given):,}".replace("-", MINUS)
    rounded = float(f"{given:.3g}")  # 999.9 is 1,000, not 1.00e+03
    text = f"{given:#.3g}" if abs(rounded) < 1000 else f"{rounded:,.0f}"
    digits, _, power = text.removesuffix(".").partition("e")
    if power:
        digits += f" × 10{str(int(power)).translate(RAISED)}"
    return digits.replace("-", MINUS)


def interval(ends: Sequence[object] | None, *, few: object = False) -> str:
    """Write an interval, "–" where there is none, with a mark where it rests on few units."""
    if ends is None or any(number(end) == MISSING for end in ends):
        return MISSING
    return f"[{number(ends[0])}, {number(ends[1])}]{FEW if few else ''}"


def tag(name: str, /, *content: object, **attributes: object) -> Html:
    """Return an element; ``class_`` stands for ``class``, and None leaves an attribute out."""
    return Html("<{0}{1}>{2}</{0}>").format(name, _attributes(attributes), join(content))


def void(name: str, /, **attributes: object) -> Html:
    """Return an element that has no content, such as an image."""
    return Html("<{}{}>").format(name, _attributes(attributes))


def _attributes(given: Mapping[str, object]) -> Html:
    return join(
        Html(' {}="{}"').format(key.rstrip("_").replace("_", "-"), str(value))
        for key, value in given.items()
        if value is not None
    )


def join(parts: Iterable[object]) -> Html:
    """Put parts one after the other."""
    return Html("").join(markup(part) for part in parts)


def table(
    header: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    caption: object = None,
    class_: str | None = None,
) -> Html:
    """Return a table that scrolls sideways where the window is narrow.

    Parameters
    ----------
    header : sequence
        Names of the columns.
    rows : iterable of sequence
        Cells; numbers stand to the right. The first cell heads its row.
    caption : object, optional
        What the table shows.
    class_ : str, optional
        CSS class.
    """
    rows = [list(row) for row in rows]
    numeric = [i > 0 and all(_is_numeric(row[i]) for row in rows) for i in range(len(header))]
    head = tag("tr", *(_cell("th", name, numeric[i], "col") for i, name in enumerate(header)))
    body = [
        tag("tr", *(_cell("td" if i else "th", cell, numeric[i], "row" if not i else None)
                    for i, cell in enumerate(row)))
        for row in rows
    ]  # fmt: skip
    top = tag("caption", caption) if caption is not None else ""
    inner = tag("table", top, tag("thead", head), tag("tbody", *body), class_=class_)
    return tag("div", inner, class_="scroll")


def _cell(name: str, value: object, numeric: bool, scope: str | None) -> Html:
    return tag(name, value, class_="number" if numeric else None, scope=scope)


def _is_numeric(value: object) -> bool:
    if isinstance(value, bool | np.bool_):
        return False
    if value is None or isinstance(value, int | float | np.number):
        return True
    text = value.striptags() if isinstance(value, Html) else value
    return isinstance(text, str) and bool(NUMERIC.fullmatch(text))


def frame(data: pd.DataFrame, *, caption: object = None) -> Html:
    """Return a DataFrame as a table, without its index."""
    rows = data.astype(object).itertuples(index=False, name=None)
    return table(list(data.columns), rows, caption=caption)


def definitions(entries: Mapping[str, object]) -> Html:
    """Return names with their explanations."""
    pairs = [join((tag("dt", name), tag("dd", text))) for name, text in entries.items()]
    return tag("dl", *pairs)


def note(*content: object, kind: str = "note") -> Html:
    """Return a paragraph of explanation, or a ``"warning"``."""
    return tag("p", *content, class_=kind)


def flat(value: Any, name: str = "") -> list[tuple[str, object]]:
    """Flatten nested mappings to (dotted name, value); lists become one line of text."""
    if isinstance(value, Mapping):
        if not value:
            return [(name, MISSING)] if name else []
        return [
            pair
            for key, part in value.items()
            for pair in flat(part, f"{name}.{key}" if name else str(key))
        ]
    if isinstance(value, list | tuple) and any(isinstance(part, Mapping) for part in value):
        return [pair for i, part in enumerate(value) for pair in flat(part, f"{name}[{i}]")]
    if isinstance(value, list | tuple | np.ndarray):
        return [(name, ", ".join(str(part) for part in value) or MISSING)]
    return [(name, value)]


# -- the style sheet of the report; part of the page, so that nothing is fetched -------------------


CSS = """
:root { color-scheme: light; --ink: #1c2128; --faint: #5b6470; --line: #d9dee4; --soft: #f5f7f9;
  --accent: #24507f; }
* { box-sizing: border-box; }
html { background: #fff; color: var(--ink); }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
  max-width: 1200px; margin: 0 auto; padding: 28px 28px 80px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.45rem; margin: 3rem 0 .6rem; padding-bottom: .3rem;
  border-bottom: 2px solid var(--ink); }
h3 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; }
h4 { font-size: 1rem; margin: 1.3rem 0 .3rem; }
p { max-width: 76ch; margin: .5rem 0; }
a { color: var(--accent); }
h1, h2, h3, h4, p, dd, dt, li, figcaption, .manifest td, .manifest th { overflow-wrap: anywhere; }
td, th, caption { overflow-wrap: break-word; }
.lead { font-size: 1.08rem; }
.note, figcaption, caption { color: var(--faint); font-size: .88rem; }
.warning, .simulated { border-left: 5px solid #b45f06; background: #fff5e6; padding: .7rem 1rem;
  max-width: none; border-radius: 3px; }
.simulated { margin: 1.2rem 0; }
.simulated strong { font-size: 1.1rem; }
nav { background: var(--soft); border: 1px solid var(--line); border-radius: 5px;
  padding: .7rem 1.1rem; margin: 1.4rem 0; font-size: .93rem; }
nav ul { margin: .2rem 0; padding-left: 1.2rem; columns: 2; }
nav ul ul { columns: 1; }
nav > ul > li { break-inside: avoid; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0 0 .35rem; caption-side: top; }
caption strong, figcaption strong { color: var(--ink); }
th, td { padding: .26rem .7rem .26rem 0; text-align: left; vertical-align: top; }
th + td, td + td, th + th { padding-left: .5rem; }
thead th { border-bottom: 1.5px solid var(--ink); font-weight: 600; vertical-align: bottom;
  }
tbody th { font-weight: 500; }
tbody tr { border-bottom: 1px solid var(--line); }
.number { text-align: right; }
td.number { white-space: nowrap; }
.total { font-weight: 650; }
.met { color: #17692f; font-weight: 600; white-space: nowrap; }
.unmet { color: #a3211b; font-weight: 600; white-space: nowrap; }
.tables { display: flex; flex-wrap: wrap; gap: 0 2rem; align-items: flex-start; }
.tables > .scroll { max-width: 100%; }
figure { margin: 1.2rem 0; }
.first { columns: 2 460px; column-gap: 1.4rem; }
.first > figure { break-inside: avoid; margin: .6rem 0; }
.first > figure:only-child, .first > .scroll, .first > .strip { column-span: all; }
.first figcaption, .first caption { font-size: .8rem; }
.preset { color: var(--faint); font-size: .8rem; }
figure > img { display: block; max-width: 100%; height: auto; }
figcaption { max-width: 92ch; margin-top: .3rem; }
img.stimulus { width: 96px; height: auto; display: block; image-rendering: pixelated;
  border: 1px solid var(--line); }
.pairs td, .pairs th { padding: .3rem .9rem .3rem 0; border: 0; }
.pairs tbody tr { border: 0; }
.pairs td { font-size: .8rem; color: var(--faint); }
.pairs thead th { font-size: .82rem; width: 106px; }
.pairs thead th:nth-child(3), .strip h4 { color: var(--ink); }
.pairs.wide img.stimulus { width: 84px; }
.pairs.wide td, .pairs.wide th { padding-right: .55rem; font-size: .76rem; }
.pairs.wide thead th { width: 93px; }
.sentences td, .sentences th { width: 8.5rem; min-width: 6.5rem; font-size: .78rem; }
.sentences thead th:nth-child(3) { color: var(--accent); }
.sentences img.stimulus { width: 66px; }
.strip ul { list-style: none; display: flex; flex-wrap: wrap; gap: .5rem; margin: .3rem 0 .9rem;
  padding: 0; }
.strip li { font-size: .74rem; color: var(--faint); width: 92px; line-height: 1.3; }
.strip img.stimulus { width: 92px; }
.strip h4 span { font-weight: 400; color: var(--faint); font-size: .88rem; }
dl { margin: .6rem 0; display: grid; grid-template-columns: minmax(9rem, 15rem) 1fr;
  gap: .35rem 1.2rem; font-size: .93rem; }
dt { font-weight: 600; }
dd { margin: 0; max-width: 80ch; }
details { margin: .8rem 0; }
summary { cursor: pointer; color: var(--accent); }
pre { background: var(--soft); border: 1px solid var(--line); padding: .8rem; overflow-x: auto;
  font-size: .78rem; line-height: 1.4; }
.manifest th { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .8rem;
  font-weight: 500; }
@media (max-width: 760px) {
  body { padding: 16px 14px 60px; font-size: 15px; }
  nav ul { columns: 1; }
  dl { grid-template-columns: 1fr; gap: .1rem; }
  dd { margin-bottom: .6rem; }
  img.stimulus { width: 66px; }
  .pairs td, .pairs th { padding: .2rem .3rem .2rem 0; }
  .pairs thead th { width: 68px; font-size: .7rem; }
  .pairs tbody th { font-size: .75rem; width: 50px; }
}
@media print {
  nav { display: none; }
  h2 { break-before: page; }
  h2, h3, h4 { break-after: avoid; }
  figure, tr { break-inside: avoid; }
}
"""
