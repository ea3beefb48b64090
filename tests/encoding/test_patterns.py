"""Scores of response patterns by region, against the pairs counted one by one."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from brainkit import Recording
from brainkit.data.dependence import Rows
from brainkit.data.stimuli import Stimuli
from brainkit.encoding import EncodingProtocol, VoxelwiseRidge, assess_encoder
from brainkit.encoding.judging import prepare_folds
from brainkit.encoding.passes import held_out
from brainkit.encoding.score_tables import by_seed, pattern_metrics, pattern_scores
from brainkit.evaluation import two_vs_two, two_vs_two_ci
from brainkit.features import PixelPCA


def pairs_by_hand(truth, predicted, fold):
    """Each item's share of pairs won within its fold, mean over items."""

    def distance(a, b):
        return 1 - a @ b / np.sqrt((a @ a) * (b @ b))

    won = np.zeros(len(truth))
    for i in range(len(truth)):
        others = [j for j in range(len(truth)) if j != i and fold[j] == fold[i]]
        for j in others:
            own = distance(predicted[i], truth[i]) + distance(predicted[j], truth[j])
            crossed = distance(predicted[i], truth[j]) + distance(predicted[j], truth[i])
            won[i] += (own < crossed) / len(others)
    return won.mean()


@pytest.fixture
def arrays():
    rng = np.random.default_rng(5)
    truth = rng.normal(size=(23, 12))
    predicted = truth + 2 * rng.normal(size=truth.shape)
    fold = np.repeat([0, 1, 2], [9, 8, 6])
    masks = {"A": np.arange(12) < 5, "B": np.arange(12) >= 5, "one": np.arange(12) == 3}
    return masks, truth, predicted, fold


def passed(truth, predicted, fold):
    """A pass over a split whose items show one image each."""
    items = np.arange(len(truth))
    rows = Rows(items, items, items)
    return SimpleNamespace(truth=truth, predictions=predicted, fold=fold, rows=rows)


def test_scores_of_regions(arrays):
    masks, truth, predicted, fold = arrays
    found = pattern_scores(masks, passed(truth, predicted, fold))
    for name in ("A", "B"):
        t, p = truth[:, masks[name]], predicted[:, masks[name]]
        expected = pairs_by_hand(t, p, fold)
        assert found["encoding_2v2"][name].value == pytest.approx(expected, abs=1e-9)
        r = [stats.pearsonr(a, b).statistic for a, b in zip(t, p, strict=True)]
        assert found["encoding_pattern_r"][name].value == pytest.approx(np.mean(r), abs=1e-9)
    for metric in found:  # a pattern needs two units
        assert found[metric]["one"] is None
    together = pattern_scores(masks, passed(truth, predicted, np.zeros(23, int)))
    one = two_vs_two(truth[:, masks["A"]], predicted[:, masks["A"]])
    assert together["encoding_2v2"]["A"].value == pytest.approx(one, abs=1e-9)
    assert together["encoding_2v2"]["A"].value != found["encoding_2v2"]["A"].value


def test_units_without_a_prediction_are_left_out(arrays):
    masks, truth, predicted, fold = arrays
    holes, gaps = truth.copy(), predicted.copy()
    holes[:, 1] = np.nan
    gaps[:9, 7] = np.nan  # unusable in one fold
    kept = ~np.isin(np.arange(12), [1, 7])
    found = pattern_scores(masks, passed(holes, gaps, fold))
    fewer = {name: mask[kept] for name, mask in masks.items()}
    expected = pattern_scores(fewer, passed(truth[:, kept], predicted[:, kept], fold))
    for metric in found:
        for name in ("A", "B"):
            assert found[metric][name].value == expected[metric][name].value


def test_predicting_the_training_mean_is_chance(arrays):
    masks, truth, predicted, fold = arrays
    found = pattern_scores(masks, passed(truth, np.zeros_like(predicted), fold))
    assert found["encoding_2v2"]["A"].value == 0.5
    assert found["encoding_pattern_r"]["A"].value == 0.0  # constant patterns tell nothing


def test_metrics_hold_nulls_chance_and_intervals(arrays):
    masks, truth, predicted, _ = arrays
    masks = {"A": masks["A"], "one": masks["one"]}
    fold = np.zeros(23, int)
    run = pattern_scores(masks, passed(truth, predicted, fold))
    rng = np.random.default_rng(0)
    nulls = [
        pattern_scores(masks, passed(truth, predicted[rng.permutation(23)], fold)) for _ in range(3)
    ]
    metrics = pattern_metrics(by_seed([run, run]), by_seed(nulls))
    entry = metrics["encoding_2v2"]
    interval = two_vs_two_ci(truth[:, masks["A"]], predicted[:, masks["A"]])
    assert entry["value"] == pytest.approx(interval.value, abs=1e-9)
    assert entry["ci"] == pytest.approx([interval.low, interval.high], abs=1e-9)
    assert entry["ci_by_roi"]["A"] == entry["ci"]
    assert entry["chance"] == 0.5
    assert metrics["encoding_pattern_r"]["chance"] == 0
    assert entry["by_roi"]["A"] == entry["value"]
    assert np.isnan(entry["by_roi"]["one"])
    expected = np.mean([null["encoding_2v2"]["A"].value for null in nulls])
    assert entry["nulls"]["shuffled_features"] == pytest.approx(expected)
    presets = {entry["preset"] for entry in metrics.values()}
    assert len(presets) == 2


def brain(n_stimuli=90, n_units=20, noise=1.0):
    """Units linear in the pixels; the second half are noise."""
    rng = np.random.default_rng(1)
    images = rng.uniform(size=(n_stimuli, 4, 4)).astype(np.float32)
    weights = rng.normal(size=(16, n_units)) * (np.arange(n_units) < n_units // 2)
    stimulus = rng.permutation(np.repeat(np.arange(n_stimuli), 2))
    values = (images.reshape(n_stimuli, -1) @ weights)[stimulus] + 5 * rng.normal(size=n_units)
    values += noise * rng.normal(size=values.shape)
    half = np.arange(n_units) < n_units // 2
    return Recording.from_arrays(
        values,
        trials=pd.DataFrame({"stimulus": stimulus, "session": np.arange(len(stimulus)) % 2}),
        units=pd.DataFrame({"roi.signal": half, "roi.noise": ~half}),
        stimuli=Stimuli(images),
    )


MODEL = VoxelwiseRidge(alphas=(0.1, 1.0, 10.0), cv=3)
SETTINGS = {"permutations": 0, "shuffles": 2, "ceiling": None}


def test_an_encoder_is_judged_by_patterns_too():
    recording = brain()
    protocol = EncodingProtocol("kfold:3", seeds=(0, 1), pattern_scores=True, **SETTINGS)
    result = assess_encoder(recording, PixelPCA(16), MODEL, protocol)
    plain = assess_encoder(
        recording, PixelPCA(16), MODEL, EncodingProtocol("kfold:3", seeds=(0, 1), **SETTINGS)
    )
    for metric, entry in plain.metrics.items():  # the others are as they were
        np.testing.assert_equal(result.metrics[metric], entry)
    assert set(result.metrics) - set(plain.metrics) == {"encoding_2v2", "encoding_pattern_r"}
    table = result.regions.set_index("region")
    assert table.loc["signal", "2V2"] > 0.9
    assert table.loc["signal", "pattern r"] > 0.5
    assert abs(table.loc["noise", "2V2"] - 0.5) < 0.15  # 90 items
    assert abs(table.loc["noise", "pattern r"]) < 0.1
    assert (table["shuffled 2V2"] - 0.5).abs().max() < 0.15
    entry = result.metrics["encoding_2v2"]
    assert entry["by_roi"] == pytest.approx(table["2V2"].to_dict())
    assert entry["value"] == pytest.approx(table["2V2"].mean())
    scores = []
    for seed in (0, 1):
        folds = prepare_folds(recording, protocol, seed=seed)
        run = held_out(recording, folds, PixelPCA(16), MODEL)
        assert run.fold.tolist() == [n for n, part in enumerate(folds) for _ in part.test]
        inside = recording.roi_mask("signal")
        scores.append(pairs_by_hand(run.truth[:, inside], run.predicted[:, inside], run.fold))
    assert entry["by_roi"]["signal"] == pytest.approx(np.mean(scores), abs=1e-6)


def test_means_of_units_do_not_count():
    """Units whose means differ much: as they stand, any pattern would resemble any other."""
    recording = brain()
    protocol = EncodingProtocol("kfold:3", zscore=None, pattern_scores=True, **SETTINGS)
    result = assess_encoder(recording, PixelPCA(16), MODEL, protocol)
    null = result.metrics["encoding_pattern_r"]["shuffled_by_roi"]
    assert abs(null["signal"]) < 0.1
    values = recording.responses.read()[:, recording.roi_mask("signal")]
    assert np.corrcoef(values)[np.triu_indices(len(values), 1)].mean() > 0.8
