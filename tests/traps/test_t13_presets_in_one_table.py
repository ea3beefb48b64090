"""T13: numbers of different metric presets in one table."""

import re
from dataclasses import replace

import numpy as np
import pytest

from brainkit.errors import InputError, QuantityError
from brainkit.evaluation.metrics import one_preset
from brainkit.evaluation.preset_scores import comparison
from brainkit.evaluation.presets import PRESETS
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


@pytest.fixture
def images():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (4, 30, 30, 3), dtype=np.uint8)
    return images, generator.integers(0, 256, images.shape, dtype=np.uint8)


def test_systems_of_two_presets_are_not_compared(images):
    first = PRESETS["low_level"]
    second = replace(PRESETS["braindiffuser"], images=PRESETS["braindiffuser"].images[:2])
    systems = {"theirs": second.score(*images, any_number=True), "ours": first.score(*images)}
    with pytest.raises(QuantityError) as raised:
        comparison(systems)
    for words in ("theirs", "ours", first.name, second.name, "by one preset"):
        assert words in str(raised.value)


def test_a_preset_that_was_changed_is_another_one(images):
    preset = PRESETS["low_level"]
    same_name = replace(preset, first_resize=replace(preset.first_resize, antialias=True))
    assert (same_name.id, same_name.hash != preset.hash) == (preset.id, True)
    with pytest.raises(QuantityError, match="2 presets"):
        comparison({"a": preset.score(*images), "b": same_name.score(*images)})


def test_systems_of_other_images_are_not_compared(images):
    preset = PRESETS["low_level"]
    fewer = preset.score(images[0][:3], images[1][:3])
    with pytest.raises(QuantityError, match="scored on 4 and 3 images"):
        comparison({"a": preset.score(*images), "b": fewer})
    with pytest.raises(InputError, match="no system"):
        comparison({})


def test_entries_of_two_presets_have_no_table(images):
    entries = PRESETS["low_level"].score(*images).entries()
    assert one_preset(entries) == PRESETS["low_level"].name
    assert one_preset({}) == one_preset({"x": {"value": 1}}) == "not stated"
    with pytest.raises(QuantityError, match=r"low_level@.*pearson/ties-half: identification_a"):
        one_preset(entries | {"identification_a": entry(0.6, "pearson/ties-half")})


def test_the_same_column_of_two_presets_is_two_metrics():
    names = [list(preset.metrics) for preset in PRESETS.values()]
    assert len({name for some in names for name in some}) == sum(len(some) for some in names)
