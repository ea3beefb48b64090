"""Any regressor is a model, and penalties that do not suit the data are told of once."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import BayesianRidge, LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from brainkit import Recording
from brainkit.decoding import DecodingProtocol, assess_decoder
from brainkit.encoding import EncodingProtocol, VoxelwiseRidge, assess_encoder, compare_spaces
from brainkit.errors import DependenceWarning, FoldsWarning, InputError, PenaltyWarning
from brainkit.features import PixelPCA
from brainkit.linear.ridge_estimator import penalties_of, predict_rows
from brainkit.synthesis import RankingProtocol, assess_ranking

N = 80
PROTOCOL = EncodingProtocol("kfold:4", zscore=None, ceiling=None, permutations=5, shuffles=2)


@pytest.fixture(scope="module")
def features():
    return np.random.default_rng(0).normal(size=(N, 6))


@pytest.fixture(scope="module")
def recording(features):
    rng = np.random.default_rng(1)
    values = features @ rng.normal(size=(6, 10)) + 0.3 * rng.normal(size=(N, 10))
    images = rng.integers(0, 256, size=(N, 8, 8), dtype=np.uint8)
    recording = Recording.from_arrays(values, stimuli=images)
    recording.trials["shared"] = np.arange(N) % 4 == 0
    recording.units["roi.all"] = True
    return recording


@pytest.mark.parametrize(
    "model", [Ridge(), LinearRegression(), make_pipeline(StandardScaler(), Ridge())], ids=str
)
def test_regressors_that_know_no_groups_are_models(recording, features, model):
    result = assess_encoder(recording, features, model, PROTOCOL)
    assert result.metrics["encoding_r"]["value"] > 0.9
    assert result.units["alpha"].isna().all()
    one = EncodingProtocol("nsd-shared1000", zscore=None)
    spaces = {"true": features, "other": features[::-1]}
    assert compare_spaces(recording, spaces, model, one).preferred() == {"all": "true"}
    decoded = DecodingProtocol("kfold:4", zscore=None)
    assert assess_decoder(recording, PixelPCA(4), model, decoded).by_seed.shape[0] == 1
    ranked = RankingProtocol("nsd-shared1000", bank="test", n=3, zscore=None)
    other = (PixelPCA(4), Ridge())
    assert len(assess_ranking(recording, (features, model), other, ranked).regions) == 1


def test_penalties_that_do_not_suit_are_told_of_once(recording, features):
    with pytest.warns(PenaltyWarning, match="smallest one") as caught:
        result = assess_encoder(
            recording, features, VoxelwiseRidge(alphas=(100.0, 1000.0)), PROTOCOL
        )
    assert len([one for one in caught if one.category is PenaltyWarning]) == 1
    assert result.grid["at_smallest_alpha"] > 0.8
    assert result.grid["at_largest_alpha"] == 0
    volts = assess_encoder(recording, 1e-7 * features, VoxelwiseRidge(), PROTOCOL)
    assert volts.metrics["encoding_r"]["value"] > 0.9
    with pytest.warns(PenaltyWarning, match="predicted to be constant"):
        flat = assess_encoder(
            recording, 1e-7 * features, VoxelwiseRidge(alphas=np.geomspace(1, 1e6, 7)), PROTOCOL
        )
    assert flat.grid["constant_predictions"] == 1


def test_null_runs_say_nothing_of_their_penalties(recording, features):
    with warnings.catch_warnings():
        warnings.simplefilter("error", PenaltyWarning)  # null runs would choose the largest
        assess_encoder(
            recording, features, VoxelwiseRidge(alphas=np.geomspace(1e-4, 1e6, 15)), PROTOCOL
        )


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(Ridge()),
        SVR(),
        GridSearchCV(Ridge(), {"alpha": [1.0, 10.0]}, cv=GroupKFold(3)),
        BayesianRidge(),
    ],
    ids=lambda model: type(model).__name__,
)
def test_one_unit_is_enough_for_a_regressor(recording, features, model):
    one = Recording.from_arrays(
        recording.responses.read(np.arange(N), [0]), stimuli=recording.stimuli
    )
    result = assess_encoder(one, features, model, PROTOCOL)
    assert result.metrics["encoding_r"]["value"] > 0.8
    assert np.isnan(result.units["alpha"]).all()  # none of them is a penalty of ours


def test_what_is_no_penalty_is_not_told_as_one(recording, features):
    model = GaussianProcessRegressor(alpha=0.1)  # whose alpha_ are weights of samples
    result = assess_encoder(recording, features, model, PROTOCOL)
    assert result.units["alpha"].isna().all()
    assert penalties_of(Ridge(), 3).shape == (3,)
    fitted = VoxelwiseRidge(alphas=(1.0,)).fit(features, np.ones((N, 2)) * features[:, :1])
    np.testing.assert_array_equal(penalties_of(fitted, 2), [1, 1])


def test_predictions_of_another_shape_are_refused(features):
    model = Ridge().fit(features, features[:, 0])
    assert predict_rows(model, features, 1).shape == (N, 1)
    assert predict_rows(model, features).shape == (N, 1)
    with pytest.raises(InputError, match=r"Ridge predicts \(80,\) of 80 samples and 2 targets"):
        predict_rows(model, features, 2)


@pytest.mark.parametrize(("n_runs", "told"), [(3, True), (4, True), (6, False), (7, False)])
def test_few_runs_are_enough_for_default_folds(n_runs, told):
    """Of six runs five train, and a refit without a third of them has fewer than five folds."""
    rng = np.random.default_rng(0)
    shown = np.tile(np.arange(5), 2 * n_runs)
    trials = pd.DataFrame({"stimulus": shown, "run": np.repeat(np.arange(n_runs), 10)})
    drive = rng.normal(size=(5, 4))
    recording = Recording.from_arrays(
        drive[shown] + rng.normal(size=(10 * n_runs, 4)), trials=trials,
        stimuli=np.zeros((5, 4, 4), np.uint8), stimuli_are="conditions",
    )  # fmt: skip
    protocol = EncodingProtocol(
        "leave-one-run-out", zscore=None, average_repeats=False, permutations=3
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = assess_encoder(recording, np.eye(5), VoxelwiseRidge(), protocol)
    said = [str(one.message) for one in caught if one.category is FoldsWarning]
    assert len(said) == told
    low, high = result.metrics["encoding_r"]["ci"]
    assert low < result.metrics["encoding_r"]["value"] < high
    with pytest.raises(InputError, match="4 folds cannot be made of"):
        assess_encoder(
            recording.select(trials=trials["run"] < 3), np.eye(5), VoxelwiseRidge(cv=4), protocol
        )


@pytest.mark.parametrize("average", ["yes", None, "tests", 2])
def test_averaging_is_a_choice_of_three(recording, features, average):
    protocol = EncodingProtocol("kfold:4", zscore=None, average_repeats=average)
    with pytest.raises(InputError, match="average_repeats is True, False or 'test'"):
        assess_encoder(recording, features, Ridge(), protocol)


def test_numpys_truth_is_truth():
    shown = np.tile(np.arange(20), 3)
    rng = np.random.default_rng(0)
    recording = Recording.from_arrays(
        rng.normal(size=(60, 3)), trials=pd.DataFrame({"stimulus": shown}),
        stimuli=np.zeros((20, 4, 4), np.uint8),
    )  # fmt: skip
    sizes = [
        len(assess_encoder(
            recording, rng.normal(size=(20, 3)), Ridge(),
            EncodingProtocol("kfold:4", zscore=None, average_repeats=average, permutations=0),
        ).predictions)
        for average in (True, np.True_, False, np.False_)
    ]  # fmt: skip
    assert sizes == [20, 20, 60, 60]


def test_names_of_runs_may_be_of_several_types(recording, features):
    trials = pd.DataFrame(
        {
            "stimulus": np.arange(N),
            "run": np.repeat(np.array([1, "2", "a", 3.5], dtype=object), N // 4),
        }
    )
    mixed = Recording.from_arrays(
        recording.responses.read(np.arange(N), np.arange(10)), trials=trials,
        stimuli=recording.stimuli,
    )  # fmt: skip
    whole = assess_encoder(mixed, features, Ridge(), PROTOCOL).metrics["encoding_r"]["value"]
    plain = assess_encoder(recording, features, Ridge(), PROTOCOL).metrics["encoding_r"]["value"]
    assert whole == pytest.approx(plain)


def test_seeds_that_test_other_items_are_refused(recording, features):
    """Averaged item by item, the scores of one stimulus would be those of two."""
    split, said = ShuffleSplit(2, test_size=0.25), r"tests other items with every.*seeds=\(0,\)"
    encoding = EncodingProtocol(split, zscore=None, seeds=(0, 1))
    with pytest.raises(InputError, match=said):
        assess_encoder(recording, features, Ridge(), encoding)
    decoding = DecodingProtocol(split, zscore=None, seeds=(0, 1))
    with pytest.raises(InputError, match=said):
        assess_decoder(recording, PixelPCA(4), Ridge(), decoding)


def test_slow_data_are_noticed_in_every_job():
    """What changes slowly on both sides gives r of .3 on noise where neighbours train."""
    rng, n = np.random.default_rng(3), 300

    def slow(width):
        series = rng.normal(size=(n, width))
        for row in range(1, n):
            series[row] = 0.9 * series[row - 1] + 0.4 * series[row]
        return series

    test = np.arange(n) >= 200
    noise = Recording.from_arrays(
        slow(8), trials=pd.DataFrame({"stimulus": np.arange(n), "shared": test}),
        stimuli=rng.integers(0, 256, (n, 4, 4), dtype=np.uint8),
    )  # fmt: skip
    spaces = {"a": slow(6), "b": slow(6)}
    protocol = EncodingProtocol("nsd-shared1000", zscore=None)
    with pytest.warns(DependenceWarning):
        compared = compare_spaces(noise, spaces, Ridge(), protocol)
    assert compared.metrics["encoding_r[a]"]["n_units"] < 10
    ranked = RankingProtocol("stretches:5", bank="test", n=3, zscore=None)
    with pytest.warns(DependenceWarning):
        found = assess_ranking(noise, (spaces["a"], Ridge()), (spaces["b"], Ridge()), ranked)
    assert list(found.regions["region"]) == ["all"]  # a recording without regions is one


def test_blocks_of_any_size_change_places():
    """Blocks that are alone of their size stayed, so that the null was the true pairing."""
    rng = np.random.default_rng(1)
    F = rng.normal(size=(240, 6))
    block = np.repeat(np.arange(8), [27, 28, 29, 30, 31, 32, 33, 30])
    recording = Recording.from_arrays(
        F @ rng.normal(size=(6, 8)) + 3 * rng.normal(size=(240, 8)),
        trials=pd.DataFrame({"stimulus": np.arange(240), "block": block}),
        stimuli=np.zeros((240, 4, 4), np.uint8), units=pd.DataFrame({"roi.a": np.ones(8, bool)}),
    )  # fmt: skip
    for split in ("kfold:5", [(np.flatnonzero(block < 5), np.flatnonzero(block >= 5))]):
        protocol = EncodingProtocol(split, zscore=None, permutations=19)
        entry = assess_encoder(recording, F, Ridge(), protocol).metrics["encoding_r"]
        assert entry["value"] > 0.5
        assert abs(entry["nulls"]["shuffled_features"]) < 0.2
        assert entry["p_by_roi"]["a"] < 0.5  # of three blocks there are six orders


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"permutations": 2.5}, "permutations must be a whole number; got 2.5"),
        ({"permutations": True}, "permutations must be a whole number; got True"),
        ({"shuffles": "3"}, "shuffles must be a whole number; got '3'"),
        ({"n_train": 2.5}, "n_train must be a whole number; got 2.5"),
        ({"resample": 5}, "resample is 'auto', 'stimulus'.*got 5"),
    ],
)
def test_settings_of_another_type_are_named(recording, features, settings, said):
    given = dict({"permutations": 3, "zscore": None}, **settings)
    with pytest.raises(InputError, match=said):
        assess_encoder(recording, features, Ridge(), EncodingProtocol("kfold:4", **given))
