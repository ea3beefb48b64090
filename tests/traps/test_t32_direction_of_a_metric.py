"""T32: distances reported inverted, correlations without their sign, lower-is-better forgotten."""

import numpy as np
import pytest

from brainkit.evaluation import correlation_distance, kernel_distance, pixel_correlation
from brainkit.evaluation.metrics import METRICS, metric_of
from brainkit.evaluation.preset_scores import comparison
from brainkit.evaluation.presets import PRESETS

SMALL = PRESETS["tiny"]


def judge(images, layers):
    return dict.fromkeys(layers, images[:, :, ::9, ::9].reshape(len(images), -1))


@pytest.fixture
def images():
    generator = np.random.default_rng(0)
    coarse = generator.random((8, 8, 8, 3))
    images = np.kron(coarse, np.ones((1, 8, 8, 1)))
    near = np.clip(images + 0.1 * generator.normal(size=images.shape), 0, 1)
    far = np.clip(images + 0.6 * generator.normal(size=images.shape), 0, 1)
    return images, near, far


def test_every_metric_states_its_direction():
    lower = {name for name in METRICS if METRICS[name].direction == "lower"}
    assert {name for name in METRICS if METRICS[name].direction not in ("higher", "lower")} == set()
    assert lower == {
        "mindeye2_correlation_distance",
        "mindeye1_correlation_distance",
        "braindiffuser_correlation_distance",
        "tiny_correlation_distance",
        "things_eeg2_retrieval_image_from_brain_median_rank",
    }


def test_a_better_system_wins_in_every_direction(images):
    truth, near, far = images
    networks = dict.fromkeys(SMALL.networks, judge)
    systems = {name: SMALL.score(truth, made, networks) for name, made in
               (("far", far), ("near", near))}  # fmt: skip
    table = comparison(systems)
    assert {row["better"] for row in table} == {"higher", "lower"}
    for row in table:
        assert "near" in row["best"]
        values = row["values"]
        assert values["near"] != values["far"] or "identification" in row["metric"]
        if "distance" in row["metric"]:
            assert values["near"] < values["far"]
            assert row["best"] == ["near"]


def test_the_direction_reaches_metrics_json(images):
    networks = dict.fromkeys(SMALL.networks, judge)
    entries = SMALL.score(images[0], images[1], networks).entries()
    for name, entry in entries.items():
        assert entry["direction"] == metric_of(name).direction
    assert entries["tiny_correlation_distance[judge-a]"]["direction"] == "lower"
    assert entries["tiny_pixel_correlation"]["direction"] == "higher"


def test_a_distance_is_0_for_the_image_itself_and_2_for_its_negative():
    features = np.random.default_rng(0).normal(size=(3, 20))
    np.testing.assert_allclose(correlation_distance(features, features), 0, atol=1e-12)
    np.testing.assert_allclose(correlation_distance(features, -features), 2)
    assert kernel_distance(features, features + 3) > kernel_distance(features, features)


def test_a_negative_is_not_as_good_as_the_image(images):
    truth = images[0]
    np.testing.assert_allclose(pixel_correlation(truth, 1 - truth), -1)
    values = PRESETS["low_level"].score(truth, 1 - truth).values
    assert values["low_level_pixel_correlation"] == pytest.approx(-1, abs=1e-6)
