"""The judgement of encoders on a linear brain whose truth is known."""

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, TransformerMixin

from brainkit import Recording
from brainkit.data.dependence import dependence
from brainkit.data.stimuli import Stimuli
from brainkit.encoding import EncodingProtocol, VoxelwiseRidge, assess_encoder
from brainkit.encoding.judging import prepare_folds
from brainkit.encoding.passes import exchanged_stimuli, held_out
from brainkit.errors import InputError, LeakError, SplitError

SIDE = 6


class Pixels(TransformerMixin, BaseEstimator):
    """The truth's own features."""

    def fit(self, images, y=None):
        return self

    def transform(self, images):
        return np.asarray(images, np.float32).reshape(len(images), -1)

    def __sklearn_is_fitted__(self):
        return True


def linear_brain(n_train=400, n_test=150, n_units=60, n_repeats=3, seed=0, noise=None):
    """Voxels that are linear in pixels, plus noise; the last third are noise alone.

    Returns the recording and each unit's share of explainable variance in means of repeats.
    """
    rng = np.random.default_rng(seed)
    n_stimuli = n_train + n_test
    images = rng.uniform(size=(n_stimuli, SIDE, SIDE)).astype(np.float32)
    weights = rng.normal(size=(SIDE * SIDE, n_units))
    weights[:, n_units - n_units // 3 :] = 0
    signal = (images.reshape(n_stimuli, -1) - 0.5) @ weights
    variance = (weights**2).sum(axis=0) / 12
    noise = rng.uniform(0.5, 4, n_units) * np.sqrt(SIDE * SIDE / 12) if noise is None else noise
    stimulus = rng.permutation(np.repeat(np.arange(n_stimuli), n_repeats))
    values = signal[stimulus] + noise * rng.normal(size=(len(stimulus), n_units))
    trials = pd.DataFrame(
        {
            "stimulus": stimulus,
            "session": np.arange(len(stimulus)) % 4,
            "shared": stimulus >= n_train,
        }
    )
    half = np.arange(n_units) < n_units // 3
    units = pd.DataFrame({"roi.A": half, "roi.B": ~half})
    recording = Recording.from_arrays(
        values + 7, trials=trials, units=units, stimuli=Stimuli(images)
    )
    return recording, variance / (variance + noise**2 / n_repeats)


MODEL = VoxelwiseRidge(alphas=np.geomspace(0.1, 1e4, 11))
PROTOCOL = EncodingProtocol("nsd-shared1000", permutations=99, shuffles=2)


@pytest.fixture(scope="module")
def world():
    return linear_brain(n_train=1500, n_test=300)


@pytest.fixture(scope="module")
def result(world):
    return assess_encoder(world[0], Pixels(), MODEL, PROTOCOL)


def test_true_features_reach_the_ceiling(world, result):
    r, ceiling = result.units["r"].to_numpy(), world[1]
    signal = ceiling > 0
    # Least squares from n items and p features adds p / (n - p) of the noise to its predictions.
    noise = (1 - ceiling[signal]) * 36 / (1500 - 36)
    expected = ceiling[signal] / np.sqrt(ceiling[signal] + noise)
    gap = r[signal] - expected
    assert abs(gap.mean()) < 0.015
    assert np.abs(gap).max() < 0.12
    assert np.mean(r[signal] - np.sqrt(ceiling[signal])) < 0
    np.testing.assert_allclose(result.units["ceiling"][signal], ceiling[signal], atol=0.1)
    fraction = result.metrics["encoding_ceiling_fraction_pooled"]
    assert 0.92 < fraction["value"] < 1.04
    assert abs(fraction["nulls"]["shuffled_features"]) < 0.03
    assert fraction["by_roi"]["A"] > 0.92


def test_shuffled_features_score_nothing(result):
    assert abs(result.metrics["encoding_r"]["nulls"]["shuffled_features"]) < 0.05
    assert abs(result.units["shuffled r"].mean()) < 0.05
    assert (result.regions["shuffled fraction"].abs() < 0.05).all()


def test_r2_is_that_of_the_truth(world, result):
    signal = world[1] > 0
    np.testing.assert_allclose(result.units["r2"][signal], world[1][signal], atol=0.15)
    assert (result.units["r2"][~signal] < 0.03).all()


def test_p_is_small_for_signal_and_uniform_for_noise():
    recording, ceiling = linear_brain(n_units=180, seed=3)
    result = assess_encoder(recording, Pixels(), MODEL, PROTOCOL)
    p, signal = result.units["p"].to_numpy(), ceiling > 0
    assert (p[signal] == 0.01).mean() > 0.95  # the least that 99 permutations can give
    assert stats.kstest(p[~signal], "uniform").pvalue > 0.01
    # 60 noise units that share the test items: .05 within three binomial errors.
    assert (p[~signal] <= 0.05).mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)
    assert (result.units["q"][signal] < 0.05).mean() > 0.95
    assert (result.units["q"][~signal] < 0.05).mean() < 0.1
    assert result.metrics["encoding_r"]["p_by_roi"]["A"] == 0.01


def test_tables_and_metrics_agree(world, result):
    metrics, units = result.metrics, result.units
    assert list(result.regions["region"]) == ["A", "B"]
    assert metrics["encoding_r"]["value"] == pytest.approx(units["r"].mean())
    assert metrics["encoding_r"]["by_roi"]["A"] == pytest.approx(units["r"][:20].mean())
    low, high = metrics["encoding_r"]["ci"]
    assert low < metrics["encoding_r"]["value"] < high
    assert metrics["encoding_units_r_above_0.3"]["value"] == (units["r"] > 0.3).sum()
    assert result.counts == {"units": 60, "constant_or_nan": 0}
    assert result.predictions.shape == result.truth.shape == (300, 60)
    assert result.test_stimuli.tolist() == list(range(1500, 1800))
    assert result.zscore == {"by": "session", "transductive": False, "unseen": []}
    features, model = result.fitted
    shown = world[0].stimuli.read(result.test_stimuli)
    predicted = model.predict(features.transform(shown))
    r = [np.corrcoef(predicted[:, u], result.truth[:, u])[0, 1] for u in range(60)]
    np.testing.assert_allclose(r, units["r"], atol=1e-5)


def test_repeats_are_averaged_and_raise_the_scores():
    recording, _ = linear_brain(n_train=1000, n_test=100)
    averaged = EncodingProtocol("nsd-shared1000", permutations=0, shuffles=1)
    single = EncodingProtocol("nsd-shared1000", permutations=0, shuffles=1, average_repeats=False)
    means = assess_encoder(recording, Pixels(), MODEL, averaged)
    trials = assess_encoder(recording, Pixels(), MODEL, single)
    assert len(means.truth) == 100
    assert len(trials.truth) == 300
    assert means.units["r"][:40].mean() > trials.units["r"][:40].mean() + 0.1
    # The ceiling is that of the responses in use, so both are explained as fully.
    for result in (means, trials):
        assert 0.85 < result.metrics["encoding_ceiling_fraction_pooled"]["value"] < 1.1
    np.testing.assert_array_equal(np.isnan(means.units["p"]), True)


def test_broken_units_score_nan_are_counted_and_change_nothing_else():
    recording, _ = linear_brain(n_train=120, n_test=60, n_units=12)
    protocol = EncodingProtocol("nsd-shared1000", permutations=19, shuffles=1)
    whole = assess_encoder(recording, Pixels(), MODEL, protocol)
    values = recording.responses.read()
    values[:, 0] = 3.0
    values[5, 1] = np.nan
    values[9, 2] = np.inf
    broken = Recording.from_arrays(
        values, trials=recording.trials, units=recording.units, stimuli=recording.stimuli
    )
    result = assess_encoder(broken, Pixels(), MODEL, protocol)
    assert result.counts == {"units": 12, "constant_or_nan": 3}
    assert result.units["status"].tolist() == ["constant or NaN"] * 3 + ["fitted"] * 9
    for column in ("r", "r2", "ceiling", "alpha", "p", "q", "shuffled r"):
        assert result.units[column][:3].isna().all(), column
        if column != "q":  # which depends on how many units are tested
            np.testing.assert_allclose(
                result.units[column][3:], whole.units[column][3:], rtol=1e-5, atol=1e-6
            )
    assert np.isnan(result.predictions[:, :3]).all()
    assert result.metrics["encoding_r"]["n"] == 9
    assert result.metrics["encoding_r"]["value"] == pytest.approx(
        whole.units["r"][3:].mean(), rel=1e-4
    )


def test_folds_predict_every_stimulus_once_and_refit_for_p():
    recording, ceiling = linear_brain(n_train=100, n_test=20, n_units=15, n_repeats=2)
    protocol = EncodingProtocol("kfold:4", seeds=(0, 1), ceiling=None, permutations=19, shuffles=2)
    result = assess_encoder(recording, Pixels(), MODEL, protocol)
    assert sorted(result.test_stimuli) == list(range(120))
    assert result.metrics["encoding_units_r_above_0.3"]["by_seed"]
    assert "encoding_ceiling_fraction_pooled" not in result.metrics
    assert result.units["ceiling"].isna().all()
    signal = ceiling > 0.3
    assert (result.units["p"][signal] == 0.05).all()
    assert result.units["r"][signal].min() - abs(result.units["r"][ceiling == 0]).max() > 0
    assert result.regions["p"][0] == 0.05
    again = assess_encoder(recording, Pixels(), MODEL, protocol)
    pd.testing.assert_frame_equal(result.units, again.units)


def test_truth_and_predictions_are_deviations_from_each_folds_training_mean():
    recording, _ = linear_brain(n_train=40, n_test=10, n_units=4, n_repeats=1)
    protocol = EncodingProtocol("kfold:5", zscore=None, average_repeats=False)
    folds = prepare_folds(recording, protocol)
    run = held_out(recording, folds, Pixels(), MODEL)
    start = 0
    for fold in folds:
        X = recording.stimuli.read(fold.train_stimuli).reshape(len(fold.train), -1)
        peer = VoxelwiseRidge(alphas=MODEL.alphas).fit(X, fold.train, groups=fold.train_stimuli)
        X_test = recording.stimuli.read(fold.test_stimuli).reshape(len(fold.test), -1)
        rows = slice(start, start + len(fold.test))
        mean = fold.train.mean(axis=0)
        np.testing.assert_allclose(run.truth[rows], fold.test - mean, atol=1e-5)
        np.testing.assert_allclose(run.predicted[rows], peer.predict(X_test) - mean, atol=1e-4)
        start += len(fold.test)


def test_exchange_keeps_repeats_together_and_parts_apart():
    recording, _ = linear_brain(n_train=30, n_test=10, n_units=3)
    protocol = EncodingProtocol("nsd-shared1000", average_repeats=False)
    folds = prepare_folds(recording, protocol)

    def exchange(part, number):
        return part.exchanged(np.random.default_rng([5, number]))

    ((train, test),) = exchanged_stimuli(folds, dependence(recording), exchange)
    for shown, given, part in (
        (train, folds[0].train_stimuli, range(30)),
        (test, folds[0].test_stimuli, range(30, 40)),
    ):
        pairs = set(zip(given.tolist(), shown.tolist(), strict=True))
        assert len(pairs) == len(part)
        assert {other for _, other in pairs} == set(part)
    assert (train != folds[0].train_stimuli).mean() > 0.8
    many = prepare_folds(recording, EncodingProtocol("kfold:4", average_repeats=False))
    moved = {}
    exchanged = exchanged_stimuli(many, dependence(recording), exchange)
    for fold, (train, test) in zip(many, exchanged, strict=True):
        given = [*fold.train_stimuli, *fold.test_stimuli]
        for one, other in zip(given, [*train, *test], strict=True):
            assert moved.setdefault(one, other) == other
    assert sorted(moved.values()) == list(range(40))


class Spy(VoxelwiseRidge):
    """Remembers what groups it was given."""

    given: ClassVar[list] = []

    def fit(self, X, y, groups=None, runs=None):
        type(self).given.append((np.asarray(X), np.asarray(groups)))
        return super().fit(X, y, groups=groups)


@pytest.mark.parametrize("split", ["nsd-shared1000", "kfold:3"])
def test_inner_folds_get_the_stimuli_as_groups(split):
    recording, _ = linear_brain(n_train=30, n_test=10, n_units=3)
    Spy.given.clear()
    protocol = EncodingProtocol(
        split, average_repeats=False, permutations=0, shuffles=1, ceiling=None
    )
    assess_encoder(recording, Pixels(), Spy(), protocol)
    assert Spy.given
    for X, groups in Spy.given:  # in null runs too, repeats of a stimulus are one group
        for group in np.unique(groups):
            rows = X[groups == group]
            assert (rows == rows[0]).all()
        assert len(np.unique(X, axis=0)) == len(np.unique(groups)) < len(groups)


class Careful(Pixels):
    """Remembers what it was fitted on."""

    fitted_on: ClassVar[list] = []

    def fit(self, images, y=None):
        type(self).fitted_on.append(np.asarray(images))
        return self


def test_features_are_fitted_on_training_stimuli_once_each():
    recording, _ = linear_brain(n_train=30, n_test=10, n_units=3)
    Careful.fitted_on.clear()
    protocol = EncodingProtocol("nsd-shared1000", permutations=5, shuffles=1, ceiling=None)
    assess_encoder(recording, Careful(), MODEL, protocol)
    for images in Careful.fitted_on:
        np.testing.assert_array_equal(images, recording.stimuli.read(np.arange(30)))


def test_transductive_standardising_is_recorded():
    recording, _ = linear_brain(n_train=60, n_test=30, n_units=6)
    trials = recording.trials.copy()
    trials.loc[trials["shared"], "session"] = 9
    moved = Recording.from_arrays(
        recording.responses.read(), trials=trials, units=recording.units, stimuli=recording.stimuli
    )
    settings = {"permutations": 0, "shuffles": 1, "ceiling": None}
    with pytest.raises(SplitError, match="session 9 has no training trials"):
        assess_encoder(moved, Pixels(), MODEL, EncodingProtocol("nsd-shared1000", **settings))
    protocol = EncodingProtocol("nsd-shared1000", unseen="session-unlabelled", **settings)
    result = assess_encoder(moved, Pixels(), MODEL, protocol)
    assert result.zscore == {"by": "session", "transductive": True, "unseen": [9]}


@pytest.mark.parametrize(
    "settings", [{"seeds": ()}, {"shuffles": 0}, {"permutations": -1}], ids=repr
)
def test_protocols_without_sense(settings):
    with pytest.raises(InputError, match="at least one seed and one shuffle, and 0 or more"):
        EncodingProtocol("kfold:5", **settings)


def test_recordings_that_do_not_fit(world):
    recording, _ = world
    values = np.zeros((20, 3))
    with pytest.raises(InputError, match="An encoding model needs stimuli; this recording has no"):
        assess_encoder(
            Recording.from_arrays(
                np.random.default_rng(0).normal(size=(20, 3)),
                trials=pd.DataFrame({"stimulus": np.arange(20)}),
            ),
            Pixels(), MODEL, EncodingProtocol("kfold:5", zscore=None),
        )  # fmt: skip
    with pytest.raises(InputError, match="features of its rows: an array with one row for each"):
        assess_encoder(
            Recording.from_arrays(np.zeros((20, 3, 4))),
            Pixels(),
            MODEL,
            EncodingProtocol("kfold:5"),
        )
    with pytest.raises(InputError, match="None of the 3 units of s1 can be used"):
        assess_encoder(
            Recording.from_arrays(values, stimuli=np.zeros((20, 4, 4), np.uint8)),
            Pixels(), MODEL, EncodingProtocol("kfold:5", zscore=None),
        )  # fmt: skip
    with pytest.raises(LeakError, match="stand in both the 'train' and the 'test' part"):
        assess_encoder(recording, Pixels(), MODEL, EncodingProtocol("kfold:4:session"))
    with pytest.raises(SplitError, match="needs a column 'run'"):
        assess_encoder(recording, Pixels(), MODEL, EncodingProtocol("leave-one-run-out"))
    once, repeats = linear_brain(30, 10, 3, n_repeats=1)[0], "ncsnr"
    with pytest.raises(InputError, match="stimuli that were shown 3 times or more; s1 has 0"):
        assess_encoder(once, Pixels(), MODEL, EncodingProtocol("kfold:4", ceiling=repeats))
    with pytest.raises(SplitError, match="leaves 1 test item in each of its 40 folds"):
        assess_encoder(once, Pixels(), MODEL, EncodingProtocol("kfold:40"))
    with pytest.raises(InputError, match="noise ceiling 'best'"):
        assess_encoder(
            recording, Pixels(), MODEL,
            EncodingProtocol("nsd-shared1000", ceiling="best", permutations=0, shuffles=1),
        )  # fmt: skip
    with pytest.raises(InputError, match="Unknown ROI 'V9'"):
        assess_encoder(recording, Pixels(), MODEL, PROTOCOL, regions=["V9"])
