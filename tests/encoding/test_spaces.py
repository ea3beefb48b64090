"""Comparing feature spaces: each region prefers the space that drives it."""

import warnings
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin

from brainkit import Recording, Stimuli
from brainkit.encoding import (
    EncodingProtocol,
    VoxelwiseRidge,
    compare_spaces,
    stimuli_in_use,
)
from brainkit.errors import DependenceWarning, InputError, SplitError
from brainkit.features import Precomputed

N, SIDE = 240, 6


class Quadrant(TransformerMixin, BaseEstimator):
    """The pixels of one half of the image."""

    def __init__(self, left=True):
        self.left = left

    def fit(self, stimuli, y=None):
        return self

    def transform(self, stimuli):
        half = stimuli[:, :, :3] if self.left else stimuli[:, :, 3:]
        return half.reshape(len(half), -1).astype(np.float32)


@pytest.fixture(scope="module")
def recording():
    generator = np.random.default_rng(0)
    images = generator.random((N, SIDE, SIDE)).astype(np.float32)
    left = images[:, :, :3].reshape(N, -1) @ generator.normal(size=(18, 10))
    right = images[:, :, 3:].reshape(N, -1) @ generator.normal(size=(18, 15))
    responses = np.concatenate([left, right], axis=1)
    responses += 0.5 * generator.normal(size=responses.shape)
    units = pd.DataFrame({"side": ["L"] * 10 + ["R"] * 15})
    units["roi.L"], units["roi.R"] = units["side"] == "L", units["side"] == "R"
    trials = pd.DataFrame({"stimulus": np.arange(N), "shared": np.arange(N) < 60})
    return Recording.from_arrays(
        responses.astype(np.float32),
        trials=trials,
        units=units.drop(columns="side"),
        stimuli=Stimuli(images),
    )


PROTOCOL = EncodingProtocol(
    split="nsd-shared1000", zscore=None, average_repeats=False, ceiling=None, permutations=0
)
SPACES = {"left": Quadrant(True), "right": Quadrant(False)}
MODEL = VoxelwiseRidge(alphas=(0.1, 1.0, 10.0), cv=3)


def test_each_region_prefers_what_drives_it(recording):
    found = compare_spaces(recording, SPACES, MODEL, PROTOCOL, regions=["L", "R"])
    assert found.preferred() == {"L": "left", "R": "right"}
    table = found.regions.set_index(["region", "space"])
    for region, space in (("L", "left"), ("R", "right")):
        assert table.loc[(region, space), "r"] > 0.6
        assert table.loc[(region, space), "share"] == 1.0
        assert abs(table.loc[(region, space), "shuffled r"]) < 0.15
    for region, space in (("L", "right"), ("R", "left")):
        assert abs(table.loc[(region, space), "r"]) < 0.25
    assert found.depth() == {"L": 0.0, "R": 1.0}
    assert found.n_train == 144


def test_epochs_are_compared_unit_by_unit_and_time_by_time(recording):
    """Early in a trial units follow one half of the image, late the other."""
    values = recording.responses.read()
    late = np.concatenate([values[:, 10:20], values[:, :10], values[:, 20:]], axis=1)
    late[:, 24] = 1.0  # of no use at that time
    epochs = Recording.from_arrays(
        np.stack([values, late], axis=2), trials=recording.trials, units=recording.units,
        stimuli=recording.stimuli, times=[0.1, 0.2],
    )  # fmt: skip
    both = compare_spaces(epochs, SPACES, MODEL, PROTOCOL, regions=["L", "R"])
    assert both.units["time"].tolist() == [0.1, 0.2] * 24 + [0.1]
    assert both.counts == {"units": 25, "constant_or_nan": 0}
    for time, part in ((0.1, values), (0.2, late)):
        flat = Recording.from_arrays(
            part, trials=recording.trials, units=recording.units, stimuli=recording.stimuli
        )
        alone = compare_spaces(flat, SPACES, MODEL, PROTOCOL, regions=["L", "R"]).units
        here = both.units[both.units["time"] == time].set_index("unit")
        np.testing.assert_allclose(here[list(SPACES)], alone[list(SPACES)], atol=1e-5)
        assert here["preferred"].tolist() == alone["preferred"].tolist()
    shares = both.regions.set_index(["region", "space"])["share"]
    assert shares["L", "left"] == shares["L", "right"] == 0.5


def test_models_that_ask_for_it_know_the_spaces_and_the_fold(recording):
    class Asking(VoxelwiseRidge):
        known: ClassVar[list] = []

        def set_context(self, context):
            self.known.append(context)

    compare_spaces(recording, SPACES, Asking(alphas=(1.0,)), PROTOCOL)
    for context, side in zip(Asking.known, (True, False), strict=True):
        assert context.space.left is side
        assert context.held_out.tolist() == list(range(60))
        assert list(context.regions) == ["L", "R"]


def test_shares_add_up_and_the_interval_holds_the_mean(recording):
    found = compare_spaces(recording, SPACES, MODEL, PROTOCOL, regions=["L", "R"], n_train=80)
    assert found.n_train == 80
    np.testing.assert_allclose(found.regions.groupby("region")["share"].sum(), 1.0)
    assert (found.regions["low"] <= found.regions["r"]).all()
    assert (found.regions["r"] <= found.regions["high"]).all()


def test_the_test_part_chooses_nothing(recording):
    changed = recording.responses.read().copy()
    changed[:60] = np.random.default_rng(1).normal(size=changed[:60].shape)
    other = Recording.from_arrays(
        changed, trials=recording.trials, units=recording.units, stimuli=recording.stimuli
    )
    first, second = (
        compare_spaces(r, SPACES, MODEL, PROTOCOL, regions=["L", "R"]) for r in (recording, other)
    )
    assert (first.units["preferred"] == second.units["preferred"]).all()
    assert not np.allclose(first.regions["r"], second.regions["r"])


def test_features_computed_before_give_the_same(recording):
    images = recording.stimuli.read()
    tables = {name: space.transform(images) for name, space in SPACES.items()}
    first = compare_spaces(recording, SPACES, MODEL, PROTOCOL, regions=["L", "R"], n_train=90)
    second = compare_spaces(recording, tables, MODEL, PROTOCOL, regions=["L", "R"], n_train=90)
    pd.testing.assert_frame_equal(first.regions, second.regions)
    lacking = {"left": Precomputed(tables["left"][:100], ids=np.arange(100))}
    with pytest.raises(InputError, match="no features for"):
        compare_spaces(recording, lacking, MODEL, PROTOCOL)


def test_stimuli_that_choose_are_apart_from_those_fitted_on(recording):
    fit, aside, test = stimuli_in_use(recording, PROTOCOL, 20, seed=3)
    assert (len(fit), len(aside)) == (20, 5)
    assert not set(fit) & set(aside)
    np.testing.assert_array_equal(test, np.arange(60))
    whole = stimuli_in_use(recording, PROTOCOL)
    assert sorted(np.concatenate(whole)) == list(range(N))
    assert stimuli_in_use(recording, PROTOCOL, 20, seed=4)[0].tolist() != fit.tolist()
    with pytest.raises(SplitError, match="too few"):
        stimuli_in_use(recording.select(trials=np.arange(68)), PROTOCOL)


@pytest.mark.parametrize("slow_features", [False, True])
def test_slow_responses_ask_for_no_features_that_are_not_there(slow_features):
    """Features of the stimuli in use are enough, wherever it is looked for slowness."""
    rng = np.random.default_rng(5)

    def slow(width):
        series = rng.normal(size=(N, width))
        for row in range(1, N):
            series[row] = 0.9 * series[row - 1] + 0.4 * series[row]
        return series.astype(np.float32)

    trials = pd.DataFrame({"stimulus": np.arange(N), "shared": np.arange(N) < 60})
    drifting = Recording.from_arrays(
        slow(8), trials=trials, stimuli=np.zeros((N, 4, 4), np.uint8),
        units=pd.DataFrame({"roi.L": np.ones(8, bool)}),
    )  # fmt: skip
    values = slow(5) if slow_features else rng.normal(size=(N, 5)).astype(np.float32)
    used = np.unique(np.concatenate(stimuli_in_use(drifting, PROTOCOL, 100)))
    assert len(used) < N
    part = Precomputed(values[used], ids=used)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = compare_spaces(drifting, {"part": part}, MODEL, PROTOCOL, n_train=100)
    slowness = [one for one in caught if one.category is DependenceWarning]
    assert bool(slowness) == slow_features
    assert found.metrics["encoding_r[part]"]["few_units"] == slow_features


def test_several_folds_are_refused(recording):
    folds = EncodingProtocol(split="kfold:3", zscore=None, ceiling=None)
    with pytest.raises(SplitError, match="kfold:3"):
        compare_spaces(recording, SPACES, MODEL, folds)


def test_no_spaces_are_refused(recording):
    with pytest.raises(InputError, match="at least one space"):
        compare_spaces(recording, {}, MODEL, PROTOCOL)
