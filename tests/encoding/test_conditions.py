"""Conditions that come back in every run: found again in other runs, within the runs' own noise."""

import numpy as np
import pandas as pd
import pytest

from brainkit import Recording
from brainkit.encoding import EncodingProtocol, VoxelwiseRidge, assess_encoder
from brainkit.errors import LeakError
from brainkit.evaluation import pearson_r

MODEL = VoxelwiseRidge(alphas=np.geomspace(0.01, 1e4, 7))


def moving_fingers(seed, strength, n_units=30, n_runs=8, n_trials=2):
    """A person who moves five fingers in each of eight runs; a run's trials share slow noise."""
    rng = np.random.default_rng(seed)
    order = [rng.permutation(np.repeat(np.arange(5), n_trials)) for _ in range(n_runs)]
    stimulus, run = np.concatenate(order), np.repeat(np.arange(n_runs), 5 * n_trials)
    tuning = rng.normal(size=(5, n_units))
    slow = np.zeros((len(run), n_units))
    for row in range(1, len(run)):
        slow[row] = rng.normal(size=n_units) + (
            0.8 * slow[row - 1] if run[row] == run[row - 1] else 0
        )
    values = strength * tuning[stimulus] + slow
    half = np.arange(n_units) < n_units // 2
    return Recording.from_arrays(
        values,
        trials=pd.DataFrame({"stimulus": stimulus, "run": run}),
        units=pd.DataFrame({"roi.first": half, "roi.second": ~half}),
        stimuli=np.zeros((5, 4, 4), np.uint8),
        stimuli_are="conditions",
    )


def judged(recording, **settings):
    given = {"zscore": None, "ceiling": None, "permutations": 19, "shuffles": 1} | settings
    return assess_encoder(
        recording, np.eye(5), MODEL, EncodingProtocol("leave-one-run-out", **given)
    )


def test_fingers_are_found_again_in_other_runs():
    """Seven simulated people, five conditions in each of eight runs."""
    people = [judged(moving_fingers(seed, strength=1.0)) for seed in range(7)]
    r = [result.metrics["encoding_r"] for result in people]
    assert np.mean([entry["value"] for entry in r]) > 0.5
    assert all(entry["ci"][0] > 0 for entry in r)
    assert all(entry["n_units"] == 8 for entry in r)  # runs, of which eight are few
    assert all(entry["few_units"] for entry in r)
    assert np.mean([result.metrics["encoding_r"]["p_by_roi"]["first"] for result in people]) < 0.06
    assert people[0].resampling["independent"] == "run"


@pytest.mark.slow
def test_noise_is_at_chance_and_covered():
    values, nulls, covered, p = [], [], [], []
    for seed in range(60):
        metric = judged(moving_fingers(100 + seed, strength=0.0)).metrics["encoding_r"]
        values.append(metric["value"])
        nulls.append(metric["nulls"]["shuffled_features"])
        covered.append(metric["ci"][0] <= 0 <= metric["ci"][1])
        p.append(metric["p_by_roi"]["first"])
    for found in (values, nulls):
        assert np.mean(found) == pytest.approx(0, abs=3 * np.std(found) / np.sqrt(60))
    assert np.mean(covered) > 0.87
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)


def test_pooled_over_runs_the_score_would_be_biased():
    """What this design gives where the folds are pooled: below 0 on noise, too low on signal."""
    pooled, within = [], []
    for seed in range(20):
        result = judged(moving_fingers(200 + seed, strength=0.0), permutations=0)
        pooled.append(np.nanmean(pearson_r(result.truth, result.predictions)))
        within.append(result.metrics["encoding_r"]["value"])
    assert np.mean(pooled) < -0.03
    assert abs(np.mean(within)) < 3 * np.std(within) / np.sqrt(20)


def test_exemplars_of_every_run_need_to_be_called_conditions():
    fingers = moving_fingers(0, 1.0)
    images = Recording.from_arrays(
        fingers.responses.read(), trials=fingers.trials, stimuli=fingers.stimuli
    )
    with pytest.raises(LeakError, match="stimuli_are='conditions'"):
        judged(images)


@pytest.fixture(scope="module")
def haxby(shared_data):
    """Eight categories in each of twelve runs; one slice of one person."""
    folder = shared_data / "haxby"
    table = pd.read_csv(folder / "attributes.txt", sep=" ", names=["label", "run"])
    volumes = Recording.from_nifti(folder / "bold.nii.gz", folder / "mask.nii.gz", trials=table)
    shown = np.flatnonzero(table["label"] > 0)
    trials = table.iloc[shown].assign(stimulus=table["label"].iloc[shown] - 1)
    return Recording.from_arrays(
        volumes.responses.read(trials=shown),
        trials=trials,
        stimuli=np.zeros((8, 4, 4), np.uint8),
        stimuli_are="conditions",
    )


def test_a_real_persons_categories_are_found_again(haxby):
    protocol = EncodingProtocol(
        "leave-one-run-out", zscore="run", unseen="session-unlabelled", permutations=19, shuffles=2
    )
    result = assess_encoder(haxby, np.eye(8), MODEL, protocol)
    metric = result.metrics["encoding_r"]
    assert len(result.truth) == 96  # a mean a category and run
    assert 0.15 < metric["value"] < 0.20
    assert metric["ci"][0] > 0.1
    assert abs(metric["nulls"]["shuffled_features"]) < 0.03
    assert np.nanmean(pearson_r(result.truth, result.predictions)) < 0.1
    assert (result.units["p"] <= 0.05).mean() > 0.25
