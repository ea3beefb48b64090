"""T13: numbers of different metric presets in one table."""

import re

import pytest

from brainkit.reporting.page import every_number


def entry(value, preset, **more):
    return {"value": value, "ci": [value - 0.1, value + 0.1], "n": 20, "preset": preset} | more


def tables(metrics):
    return str(every_number(metrics)).split("<table>")[1:]


@pytest.mark.parametrize("people", [None, ("a", "b")])
def test_each_table_is_of_one_preset_and_names_it(people):
    def of(value, preset):
        each = {who: entry(value, preset) for who in people or ()}
        return entry(value, preset, **({"by_subject": each} if people else {}))

    metrics = {
        "ssim": of(0.511, "gaussian/grey"),
        "identification_a": of(0.622, "pearson/ties-half"),
        "identification_b": of(0.633, "pearson/ties-half"),
        "retrieval": of(0.744, "cosine/1-of-50"),
    }
    values = {"0.511": "gaussian/grey", "0.744": "cosine/1-of-50"}
    values |= dict.fromkeys(("0.622", "0.633"), "pearson/ties-half")
    shown = tables(metrics)
    assert len(shown) == (4 if people else 3)  # people stand side by side, a table a metric
    for table in shown:
        caption = re.search(r"<caption>(.*?)</caption>", table).group(1)
        (preset,) = {preset for value, preset in values.items() if value in table}
        assert preset in caption
        assert not [other for other in values.values() if other != preset and other in table]
    assert all(sum(value in table for table in shown) == 1 for value in values)
