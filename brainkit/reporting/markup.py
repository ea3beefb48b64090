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
    return text.removesuffix(".").replace("-", MINUS)


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
