"""Every score that a report shows is at chance on noise: `scripts/calibrate.py` in small.

Two-sided for every metric of the registry, over folds, items, fold seeds and kinds of dependence;
p values and intervals keep what they promise there.
"""

import pytest
from calibrate import NOISE, Case, measure, summarise
from joblib import Parallel, delayed

from brainkit.evaluation.metrics import METRICS, metric_of

ERRORS = 4.5  # standard errors; among so many rows, three would be exceeded by luck
RUNS = {
    Case("encode", 1, 30): 24,
    Case("encode", 1, 1000): 10,
    Case("encode", 2, 20): 24,
    Case("encode", 5, 20): 16,
    Case("encode", 20, 40): 8,
    Case("encode", 5, 100, seeds=3): 10,
    Case("encode", 5, 60, "single trials"): 16,
    Case("encode", 5, 600, "time"): 10,
    Case("encode", 8, 5, "conditions"): 16,
    Case("samples", 5, 300, "samples"): 16,
    Case("samples", 8, 320, "runs"): 10,
    Case("classes", 5, 60): 40,
    Case("classes", 1, 90): 40,
    Case("classes", 8, 192, "runs"): 16,
    Case("numbers", 5, 60): 40,
    Case("numbers", 5, 300, "samples"): 16,
    Case("spaces", 1, 60): 40,
    Case("spaces", 1, 60, "single trials"): 40,
    Case("decode", 1, 60): 40,
    Case("decode", 2, 40): 40,
    Case("decode", 20, 100): 16,
    Case("decode", 5, 100, seeds=3): 16,
    Case("decode", 5, 60, "single trials"): 40,
    Case("rank", 1, 90): 40,
    Case("rsa", 1, 20): 30,
    Case("reconstruct", 3, 60): 6,
    Case("presets", 1, 12): 10,
}
PIECES = [(case, seed) for case, n in RUNS.items() for seed in range(n)]

# One fixture measures all scores: minutes, more of them where other work runs beside.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def rows():
    readings = dict.fromkeys(RUNS)
    measured = Parallel(n_jobs=2)(delayed(measure)(*piece) for piece in PIECES)
    for (case, _), reading in zip(PIECES, measured, strict=True):
        readings[case] = [*(readings[case] or []), reading]
    return [row for case, runs in readings.items() for row in summarise(case, runs)]


def of_metric(rows, metric):
    """Return the rows of a metric; what a colon follows are its p values and lesser intervals."""
    plain = [row for row in rows if ":" not in row["metric"]]
    return [row for row in plain if metric_of(row["metric"]).id == metric]


@pytest.mark.parametrize("metric", METRICS.builtin)
def test_a_score_is_at_chance_on_noise(rows, metric):
    means = of_metric(rows, metric)
    assert means, "no case measures it"
    for row in means:
        assert abs(row["mean"]) <= ERRORS * row["error"] + 1e-9, row


def test_lesser_scores_are_at_chance_on_noise(rows):
    lesser = [row for row in rows if ":" in row["metric"] and "mean" in row]
    assert {row["metric"] for row in lesser} >= {"encoding_r: by region", "rsa: a layer"}
    for row in lesser:
        assert abs(row["mean"]) <= ERRORS * row["error"] + 1e-9, row


def test_intervals_cover_chance_on_noise(rows):
    covered = [row for row in rows if "coverage" in row and not row["few"]]
    assert len(covered) > 60
    for row in covered:
        assert row["coverage"] >= 0.95 - ERRORS * row["coverage error"], row


def test_p_values_reach_their_rate(rows):
    rates = [row for row in rows if "type I" in row]
    assert {row["metric"] for row in rates} >= {
        "encoding_r: units' p", "encoding_r: regions' p", "rsa: layers' p", "rsa: family-wise p"
    }  # fmt: skip
    for row in rates:
        assert row["type I"] - 0.05 <= ERRORS * row["type I error"], row
        if row["items"] > 2 * row["folds"]:  # r of two items is 1 or -1, and ties count against it
            assert row["type I"] - 0.05 >= -ERRORS * row["type I error"], row


def test_the_large_table_has_every_kind_of_case():
    assert set(RUNS) <= set(NOISE)
    assert {case.dependence for case in NOISE} == {
        "none", "repeats", "single trials", "time", "conditions", "samples", "runs"
    }  # fmt: skip
    assert {2, 5, 10, 20} <= {case.folds for case in NOISE}
    assert {20, 1000} <= {case.items for case in NOISE}
