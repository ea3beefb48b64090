import numpy as np
import pandas as pd
import pytest

from brainkit.data.units import VolumeSpace
from brainkit.reporting.figures import (
    region_colours,
    region_scores,
    score_against_ceiling,
    score_histograms,
)
from brainkit.reporting.maps import region_map, score_map

TABLE = pd.DataFrame({"region": ["V1", "V2"], "r": [0.25, np.nan], "null": [0.01, -0.02]})


@pytest.fixture(autouse=True)
def no_open_figures():
    """Figures belong to the caller; pyplot must not know of them."""
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    yield
    assert plt.get_fignums() == before


def drawn(axes):
    return [line.get_xydata() for line in axes.lines if line.get_marker() == "o"]


def test_region_scores_draw_value_and_null():
    figure = region_scores({"s1": TABLE}, "r", "null", label="r", null_label="shuffled")
    null, value = drawn(figure.axes[0])
    np.testing.assert_allclose(null, [[0.01, 0], [-0.02, 1]])
    np.testing.assert_allclose(value, [[0.25, 0], [np.nan, 1]])


def test_region_scores_of_subjects_with_other_regions():
    other = pd.DataFrame({"region": ["V3", "V2"], "r": [0.1, 0.2], "null": [0.0, 0.0]})
    figure = region_scores({"a": TABLE, "b": other}, "r", "null", label="r", null_label="n")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["V1", "V2", "V3"]
    np.testing.assert_allclose(drawn(figure.axes[0])[3][:, 1], [2.28, 1.28])


def test_units_stand_at_the_square_root_of_their_ceiling():
    figure = score_against_ceiling(
        [0.3, 0.1, np.nan, 0.2], [0.25, 0.04, 0.5, np.nan], ["V1", None, "V1", "V1"], ["V1", "V2"]
    )
    points = [line.get_xydata() for line in figure.axes[0].lines if line.get_marker() == "o"]
    np.testing.assert_allclose(np.concatenate(points), [[0.2, 0.1], [0.5, 0.3]])


def test_histograms_count_finite_units():
    figure = score_histograms({"V1": [0.1, 0.2, np.nan], "V2": []}, {"V1": [0.0], "V2": np.nan})
    bars = figure.axes[0].containers[0]
    assert sum(bar.get_height() for bar in bars) == 2


def space(affine, grid=(9, 8, 7), background=None):
    return VolumeSpace(grid, np.asarray(affine), np.arange(0, np.prod(grid), 3), background)


@pytest.mark.parametrize(
    "affine",
    [
        np.eye(4),
        np.diag([-2.0, 2, 3, 1]),
        [[1.9, 0.3, 0, -10], [-0.3, 1.9, 0.2, 5], [0, -0.2, 2, 0], [0, 0, 0, 1]],
    ],
)
@pytest.mark.parametrize("background", [None, np.zeros((9, 8, 7)), np.arange(504).reshape(9, 8, 7)])
def test_maps_draw_all_slices_in_any_orientation(affine, background):
    place = space(affine, background=background)
    values = np.linspace(-1, 1, place.n_units)
    figure, limit = score_map(place, values, label="r")
    assert limit == pytest.approx(np.percentile(np.abs(values), 99))
    assert sum(bool(axes.images) for axes in figure.axes) >= 7


def test_a_single_unit_has_a_map():
    place = VolumeSpace((5, 5, 5), np.eye(4), np.array([62]))
    figure, limit = score_map(place, [0.0], label="r", oriented=False)
    assert limit == 1.0
    assert figure.axes


def test_region_maps_name_regions_and_the_rest():
    place = space(np.eye(4))
    region = np.full(place.n_units, None, dtype=object)
    region[:20] = "V1"
    figure = region_map(place, region, ["V1", "V2"])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["V1", "V2", "in no region"]


def test_many_regions_have_colours_of_their_own_and_a_legend_that_fits():
    place = space(np.eye(4))
    names = [f"R{number}" for number in range(16)]
    assert len(set(region_colours(names).values())) == 16
    region = np.full(place.n_units, None, dtype=object)
    region[:16] = names
    figure = region_map(place, region, names)
    figure.canvas.draw()
    box, whole = figure.legends[0].get_window_extent(), figure.bbox
    assert whole.y0 <= box.y0 < box.y1 <= whole.y1
    assert box.x1 <= whole.x1
