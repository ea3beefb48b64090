import numpy as np
import pandas as pd
import pytest

from brainkit.reporting.markup import (
    Html,
    flat,
    frame,
    interval,
    join,
    markup,
    number,
    table,
    tag,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.123"),
        (0.5, "0.500"),
        (-0.0846, "−0.0846"),
        (12.345, "12.3"),
        (123.45, "123"),
        (1234.5, "1,230"),
        (999.4, "999"),
        (999.9, "1,000"),
        (-999.9, "−1,000"),
        (np.float32(999.95), "1,000"),
        (772.0, "772"),
        (3092, "3,092"),
        (np.int64(-7), "−7"),
        (np.float32(0.25), "0.250"),
        (1.234e-7, "1.23 × 10⁻⁷"),
        (-6.39e-5, "−6.39 × 10⁻⁵"),
        (1e-12, "1.00 × 10⁻¹²"),
        (0.000741, "0.000741"),
        (0.0, "0"),
        (float("nan"), "–"),
        (None, "–"),
        (pd.NA, "–"),
        (float("-inf"), "−∞"),
    ],
)
def test_numbers_have_three_digits_and_nan_is_a_dash(value, text):
    assert number(value) == text


def test_interval():
    assert interval([0.1234, -0.2]) == "[0.123, −0.200]"
    assert interval(None) == "–"
    assert interval([float("nan"), 1.0]) == "–"


def test_text_is_escaped_once():
    hostile = "<script>alert('1')</script>"
    escaped = "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;"
    assert markup(hostile) == escaped
    assert markup(markup(hostile)) == escaped
    assert tag("p", hostile) == f"<p>{escaped}</p>"
    assert tag("a", "x", title='"><script>') == '<a title="&#34;&gt;&lt;script&gt;">x</a>'
    assert join(["a<b", Html("<br>"), True, 0.5]) == "a&lt;b<br>yes0.500"


def test_html_stays_safe_when_text_is_added_to_it():
    made = tag("b", "x")
    assert isinstance(made, Html)
    assert made + "<script>" == "<b>x</b>&lt;script&gt;"
    assert "<script>" + made == "&lt;script&gt;<b>x</b>"
    assert Html("<i>{}</i>").format("<script>") == "<i>&lt;script&gt;</i>"
    assert tag("p", "{0} {x} %s") == "<p>{0} {x} %s</p>"  # braces are text
    assert tag("p", title="{0}") == '<p title="{0}"></p>'


def test_what_only_claims_to_be_html_is_text():
    class Claims:
        def __html__(self):
            return "<script>"

        def __str__(self):
            return "<b>"

    assert markup(Claims()) == "&lt;b&gt;"
    assert tag("a", title=Claims()) == '<a title="&lt;b&gt;"></a>'


def test_attributes_with_and_without_value():
    assert tag("td", 1, class_="number", scope=None) == '<td class="number">1</td>'
    assert tag("nav", aria_label="Contents") == '<nav aria-label="Contents"></nav>'


def test_tables_put_numbers_to_the_right_and_head_their_rows():
    page = table(["<name>", "r"], [["a&b", 0.1], ["c", float("nan")]])
    assert '<th scope="col">&lt;name&gt;</th><th class="number" scope="col">r</th>' in page
    assert '<th scope="row">a&amp;b</th><td class="number">0.100</td>' in page
    assert '<td class="number">–</td>' in page


def test_frames_keep_column_kinds():
    page = frame(pd.DataFrame({"region": ["V1"], "units": [1200], "r": [0.25]}))
    assert '<td class="number">1,200</td><td class="number">0.250</td>' in page


def test_flat():
    given = {"a": {"b": 1, "c": []}, "d": [1, 2], "e": [{"f": 3}], "g": {}, "h": None}
    assert flat(given) == [
        ("a.b", 1),
        ("a.c", "–"),
        ("d", "1, 2"),
        ("e[0].f", 3),
        ("g", "–"),
        ("h", None),
    ]
