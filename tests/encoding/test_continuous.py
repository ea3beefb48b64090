"""Continuous data and epochs judged as trials are: order, runs, nulls, and a real story."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat

from brainkit import Recording
from brainkit.encoding import BandedRidge, EncodingProtocol, VoxelwiseRidge, assess_encoder
from brainkit.encoding.judging import prepare_folds
from brainkit.encoding.passes import held_out
from brainkit.errors import InputError
from brainkit.evaluation import pearson_r, r2
from brainkit.features import Design

MODEL = VoxelwiseRidge(alphas=np.geomspace(1, 1e4, 5))


def slow(rng, n, width, phi=0.9):
    values = rng.normal(size=(n, width))
    for row in range(1, n):
        values[row] = phi * values[row - 1] + np.sqrt(1 - phi**2) * values[row]
    return values


def listening(seed=0, n_runs=4, n_each=100, n_units=8, signal=1.0):
    """Slow features, which half of the units follow two samples late; slow noise in all."""
    rng = np.random.default_rng(seed)
    features = np.concatenate([slow(rng, n_each, 3) for _ in range(n_runs)])
    noise = np.concatenate([slow(rng, n_each, n_units, 0.6) for _ in range(n_runs)])
    weights = np.random.default_rng(9).normal(size=(3, n_units)) * (np.arange(n_units) < 4)
    late = np.zeros_like(features)
    for run in range(n_runs):
        rows = np.arange(run * n_each, (run + 1) * n_each)
        late[rows[2:]] = features[rows[:-2]]
    samples = pd.DataFrame(
        {"run": np.repeat(np.arange(1, n_runs + 1), n_each),
         "time": np.tile(np.arange(n_each) * 1.5, n_runs)}
    )  # fmt: skip
    units = pd.DataFrame({"roi.auditory": np.arange(n_units) < 4,
                          "roi.other": np.arange(n_units) >= 4})  # fmt: skip
    values = signal * late @ weights + noise
    return Recording.from_arrays(values, samples=samples, units=units), features


class Spy(VoxelwiseRidge):
    """Remembers the rows that it was told of."""

    told: list = []  # noqa: RUF012

    def fit(self, X, y, groups=None, runs=None):
        type(self).told.append((np.asarray(groups), np.asarray(runs)))
        return super().fit(X, y, groups=groups)


def test_a_delayed_response_is_found_in_runs_left_out():
    recording, features = listening()
    protocol = EncodingProtocol("leave-one-run-out", zscore=None, permutations=19, shuffles=4)
    design = Design.from_rows(recording, features).delayed([0, 1, 2, 3])
    result = assess_encoder(recording, design, MODEL, protocol)
    now = assess_encoder(recording, features, MODEL, protocol)
    r = result.units["r"].to_numpy()
    assert r[:4].min() > 0.5
    assert np.abs(r[4:]).max() < 0.3
    assert r[:4].mean() > now.units["r"][:4].mean() + 0.1
    assert (result.units["p"][:4] == 0.05).all()
    assert result.regions.set_index("region").loc["auditory", "p"] == 0.05
    assert abs(result.metrics["encoding_r"]["nulls"]["shuffled_features"]) < 0.1
    assert result.design == {"aligned": "row by row", "delays": [0, 1, 2, 3]}
    assert result.ceiling == {}
    # In the order of the recording, run by run.
    np.testing.assert_array_equal(result.place, np.arange(400))
    np.testing.assert_array_equal(result.fold, np.repeat(np.arange(4), 100))
    assert result.predictions.shape == result.truth.shape == (400, 8)


def test_predictions_are_those_of_a_plain_loop_and_runs_are_handed_on():
    recording, features = listening()
    Spy.told.clear()
    protocol = EncodingProtocol(
        "leave-one-run-out", zscore=None, permutations=0, shuffles=1, resample="run"
    )
    result = assess_encoder(recording, features, Spy(alphas=[10.0], cv=3), protocol)
    values, run = recording.responses.read(), recording.samples["run"].to_numpy()
    for number, one in enumerate(np.unique(run)):
        train, test = run != one, run == one
        model = VoxelwiseRidge(alphas=[10.0], cv=3).fit(
            features[train].astype(np.float32), values[train], groups=run[train]
        )
        mean = values[train].mean(axis=0)
        expected = model.predict(features[test].astype(np.float32)) - mean
        rows = result.fold == number
        np.testing.assert_allclose(result.predictions[rows], expected, atol=1e-4)
        np.testing.assert_allclose(result.truth[rows], values[test] - mean, atol=1e-5)
        groups, runs = Spy.told[number]
        np.testing.assert_array_equal(runs, run[train])
        assert len(np.unique(groups)) == 3


def test_scores_gathered_fold_by_fold_are_those_of_all_items():
    recording, features = listening(n_units=30)
    values = recording.responses.read()
    values[:, 3] = 1.0
    values[7, 5] = np.nan
    broken = Recording.from_arrays(values, samples=recording.samples)
    for split in ("stretches:5", "leave-one-run-out"):
        folds = prepare_folds(broken, EncodingProtocol(split, zscore=None))
        one = held_out(broken, folds, features, MODEL)
        bare = held_out(broken, folds, features, MODEL, keep=False)
        expected = pearson_r(one.truth, one.predicted, fold=one.fold)
        np.testing.assert_allclose(one.r(), np.asarray(expected), atol=1e-9)
        expected = r2(one.truth, one.predicted, baseline=0.0)
        np.testing.assert_allclose(one.r2(), np.asarray(expected), atol=1e-9)
        np.testing.assert_allclose(bare.r(), one.r(), atol=1e-12)
        assert bare.predicted is None
        assert np.flatnonzero(np.isnan(one.r())).tolist() == [3, 5]
        assert np.isnan(one.predicted[:, [3, 5]]).all()


def test_large_responses_are_fitted_in_parts_with_the_same_result(monkeypatch):
    recording, features = listening(n_units=40)
    protocol = EncodingProtocol("stretches:4", zscore="run", unseen="session-unlabelled",
                                permutations=3, shuffles=1)  # fmt: skip
    whole = assess_encoder(recording, features, MODEL, protocol)
    monkeypatch.setattr("brainkit.encoding.passes.LARGE", 100)
    monkeypatch.setattr("brainkit.data.preparing.BLOCK_BYTES", 5000)
    parts = assess_encoder(recording, features, MODEL, protocol)
    np.testing.assert_allclose(parts.predictions, whole.predictions, atol=1e-5)
    np.testing.assert_allclose(parts.truth, whole.truth, atol=1e-5)
    pd.testing.assert_frame_equal(parts.units, whole.units, rtol=1e-4)
    assert parts.metrics["encoding_r"]["ci"] == pytest.approx(
        whole.metrics["encoding_r"]["ci"], abs=1e-4
    )


def test_bands_reach_banded_models():
    recording, features = listening(n_each=50)
    rng = np.random.default_rng(1)
    design = Design.from_rows(
        recording, {"sound": features, "chance": rng.normal(size=(200, 5))}
    ).delayed([1, 2])
    protocol = EncodingProtocol("leave-one-run-out", zscore=None, permutations=0, shuffles=1)
    result = assess_encoder(recording, design, BandedRidge(draws=15), protocol)
    assert result.fitted[0].widths_ == [6, 10]
    assert result.units["r"][:4].min() > 0.4


@pytest.mark.slow
@pytest.mark.parametrize("split", ["stretches:4", "leave-one-run-out"])
def test_slow_noise_is_at_chance_and_p_keeps_its_rate(split):
    values, nulls, covered, p = [], [], [], []
    for seed in range(40):
        recording, features = listening(seed, n_units=6, signal=0.0)
        protocol = EncodingProtocol(split, zscore=None, permutations=9, shuffles=1)
        metric = assess_encoder(recording, features, MODEL, protocol).metrics["encoding_r"]
        values.append(metric["value"])
        nulls.append(metric["nulls"]["shuffled_features"])
        covered.append(metric["ci"][0] <= 0 <= metric["ci"][1])
        p.append(metric["p_by_roi"]["auditory"])
    for found in (values, nulls):
        assert np.mean(found) == pytest.approx(0, abs=3.5 * np.std(found) / np.sqrt(40))
    assert np.mean(covered) > 0.85
    assert np.mean(np.array(p) <= 0.1) < 0.1 + 3 * np.sqrt(0.1 * 0.9 / 40)


def evoked(seed=0, n=160, signal=1.0):
    """Two classes whose responses differ in half of the units, between .1 and .2 s."""
    rng = np.random.default_rng(seed)
    contrast = rng.normal(size=n)
    values = rng.normal(size=(n, 6, 30))
    values[:, :3, 10:20] += signal * contrast[:, None, None]
    trials = pd.DataFrame({"run": np.repeat(np.arange(8), n // 8)})
    units = pd.DataFrame({"name": list("abcdef"), "roi.back": np.arange(6) < 3})
    recording = Recording.from_arrays(values, trials=trials, units=units, times=np.arange(30) / 100)
    return recording, contrast


def test_epochs_have_a_score_for_every_unit_and_time():
    recording, contrast = evoked()
    protocol = EncodingProtocol(
        "leave-one-run-out", zscore=None, permutations=19, shuffles=2, pattern_scores=True
    )
    result = assess_encoder(recording, contrast, MODEL, protocol)
    assert result.predictions.shape == result.truth.shape == (160, 6, 30)
    table = result.time_courses
    assert list(table.columns[:3]) == ["unit", "name", "time"]
    assert len(table) == 180
    during = table["time"].between(0.1, 0.19) & (table["unit"] < 3)
    assert table["r"][during].min() > 0.4
    assert abs(table["r"][~during].mean()) < 0.03
    assert (table["p"][during] == 0.05).all()
    by_hand = pearson_r(result.truth[:, 2, 12], result.predictions[:, 2, 12], fold=result.fold)
    assert table["r"][2 * 30 + 12] == pytest.approx(float(by_hand))
    assert len(result.units) == 6
    np.testing.assert_allclose(
        result.units["r"], table.groupby("unit")["r"].mean().to_numpy(), rtol=1e-9
    )
    entry = result.metrics["encoding_r"]
    assert entry["times"] == pytest.approx(np.arange(30) / 100)
    course = np.array(entry["by_time"])
    assert course.argmax() in range(10, 20)
    assert entry["value"] == pytest.approx(course.mean())
    ends = np.array(entry["ci_by_time"])
    assert (ends[10:20, 0] > 0).all()
    regions = result.regions.set_index("region")
    assert regions.loc["back", "units"] == 3
    assert regions.loc["back", "2V2"] > 0.6
    assert result.counts == {"units": 6, "constant_or_nan": 0}


def test_epochs_of_noise_are_at_chance():
    found = []
    for seed in range(30):
        recording, contrast = evoked(seed, signal=0.0)
        protocol = EncodingProtocol("leave-one-run-out", zscore=None, permutations=0, shuffles=1)
        found.append(
            assess_encoder(recording, contrast, MODEL, protocol).metrics["encoding_r"]["value"]
        )
    assert np.mean(found) == pytest.approx(0, abs=3.5 * np.std(found) / np.sqrt(30))


def test_features_that_do_not_fit():
    recording, features = listening()
    protocol = EncodingProtocol("stretches:4", zscore=None)
    with pytest.raises(InputError, match=r"has 399 rows and s1 has 400 samples.*Design.from_time"):
        assess_encoder(recording, features[:-1], MODEL, protocol)
    features[3, 1] = np.nan
    with pytest.raises(InputError, match=r"holds NaN, infinity, .* first in row 3"):
        assess_encoder(recording, features, MODEL, protocol)
    other = recording.select(trials=np.arange(300))
    design = Design.from_rows(recording, np.nan_to_num(features))
    with pytest.raises(InputError, match="design has 400 rows and s1 has 300"):
        assess_encoder(other, design, MODEL, protocol)
    with pytest.raises(InputError, match="rests on repeats of stimuli"):
        assess_encoder(
            recording, np.nan_to_num(features), MODEL,
            EncodingProtocol("stretches:4", zscore=None, ceiling="ncsnr"),
        )  # fmt: skip
    with pytest.raises(InputError, match="neighbours in continuous data are not independent"):
        assess_encoder(
            recording, np.nan_to_num(features), MODEL,
            EncodingProtocol("stretches:4", zscore=None, resample="stimulus"),
        )  # fmt: skip


@pytest.fixture(scope="module")
def listeners(shared_data):
    """36 people who hear one story: 300 moments of 100 factors each."""
    cells = loadmat(shared_data / "pieman" / "weights.mat")["weights"][0]
    samples = pd.DataFrame({"run": 1, "time": np.arange(300) * 1.5})
    return {
        f"person {number}": Recording.from_arrays(
            np.asarray(cell, dtype=np.float32), samples=samples, subject=f"person {number}",
            sfreq=1 / 1.5,
        )
        for number, cell in enumerate(cells)
    }  # fmt: skip


@pytest.mark.slow
def test_a_person_is_predicted_from_others_who_hear_the_same_story(listeners):
    values = {name: one.responses.read() for name, one in listeners.items()}
    protocol = EncodingProtocol("stretches:5", zscore=None, permutations=19, shuffles=4)
    found, nulls, p = [], [], []
    for name in itertools.islice(listeners, 4):
        others = np.mean([one for who, one in values.items() if who != name], axis=0)
        result = assess_encoder(listeners[name], others, VoxelwiseRidge(), protocol)
        entry = result.metrics["encoding_r"]
        assert result.resampling["independent"].startswith("block:")
        found.append(entry["value"])
        nulls.append(entry["nulls"]["shuffled_features"])
        p.append(np.mean(result.units["p"] == 0.05))
    assert np.mean(found) > 0.12  # ridge from all factors: what the data's notes report too
    assert min(found) > 0.08
    assert abs(np.mean(nulls)) < 0.02
    assert np.mean(p) > 0.2  # of noise .05 would be


@pytest.mark.slow
def test_a_ceiling_by_others_of_the_same_clock(listeners):
    name, *rest = itertools.islice(listeners, 4)
    others = {who: listeners[who] for who in rest}
    mean = np.mean([one.responses.read() for one in others.values()], axis=0)
    protocol = EncodingProtocol(
        "stretches:5", zscore=None, permutations=0, shuffles=1, ceiling="cross-subject-all"
    )
    result = assess_encoder(listeners[name], mean, VoxelwiseRidge(), protocol, others=others)
    assert result.ceiling["name"] == "cross-subject-all"
    assert result.ceiling["subjects"] == rest
    assert result.ceiling["stimuli"] == 300
    assert 0 < result.units["ceiling"].mean() < 0.5
    shifted = {
        who: Recording.from_arrays(one.responses.read(),
                                   samples=one.samples.assign(time=one.samples["time"] + 0.7))
        for who, one in others.items()
    }  # fmt: skip
    with pytest.raises(InputError, match="samples at the same moments of the same runs"):
        assess_encoder(listeners[name], mean, VoxelwiseRidge(), protocol, others=shifted)
