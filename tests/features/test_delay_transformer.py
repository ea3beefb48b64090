"""The delaying transformer: scikit-learn's contract, runs by keyword and by routing."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import brainkit
from brainkit.encoding import VoxelwiseRidge
from brainkit.errors import InputError
from brainkit.features import Delays
from brainkit.linear.delays import delay

NEIGHBOURS = "a row of delayed features is made of the rows before it"


def failing(estimator):
    return {
        "check_methods_subset_invariance": NEIGHBOURS,
        "check_methods_sample_order_invariance": NEIGHBOURS,
    }


@parametrize_with_checks([Delays()], expected_failed_checks=failing)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X, runs = rng.normal(size=(120, 4)), np.repeat([1, 2, 3, 4], 30)
    weights = rng.normal(size=(12, 5))
    Y = delay(X, [1, 2, 3], runs) @ weights + 0.1 * rng.normal(size=(120, 5))
    return X, Y, runs


def test_transform_is_the_function(data):
    X, _, runs = data
    model = Delays([0, 2, -1])
    np.testing.assert_array_equal(model.fit_transform(X), delay(X, [0, 2, -1]))
    assert not model.runs_given_
    np.testing.assert_array_equal(model.fit_transform(X, runs=runs), delay(X, [0, 2, -1], runs))
    np.testing.assert_array_equal(
        model.transform(X[:40], runs=runs[:40]), delay(X[:40], [0, 2, -1], runs[:40])
    )
    assert model.transform(X.astype(np.float32), runs=runs).dtype == np.float32


def test_fitted_with_runs_it_does_not_delay_rows_without(data):
    X, _, runs = data
    model = Delays().fit(X, runs=runs)
    with pytest.raises(InputError, match=r"fitted with runs, and 120 rows came without: .*zeros"):
        model.transform(X)
    np.testing.assert_array_equal(model.transform(X, runs=np.zeros(120)), delay(X, [1, 2, 3, 4]))


def test_runs_reach_it_through_a_pipeline(data):
    X, Y, runs = data
    with config_context(enable_metadata_routing=True):
        model = make_pipeline(
            Delays([1, 2, 3]).set_fit_request(runs=True).set_transform_request(runs=True),
            VoxelwiseRidge(cv=4, alphas=[1e-2, 1.0]).set_fit_request(runs=True, groups=False),
        ).fit(X, Y, runs=runs)
        predicted = model.predict(X, runs=runs)
    by_hand = VoxelwiseRidge(cv=4, alphas=[1e-2, 1.0]).fit(delay(X, [1, 2, 3], runs), Y, runs=runs)
    np.testing.assert_allclose(predicted, by_hand.predict(delay(X, [1, 2, 3], runs)), rtol=1e-10)
    with pytest.raises(InputError, match="fitted with runs"):
        model.predict(X)


def test_it_is_saved_and_loaded(tmp_path, data):
    X, _, runs = data
    model = Delays((2, 3)).fit(X, runs=runs)
    loaded = brainkit.load_estimator(brainkit.save_estimator(model, tmp_path / "delays"))
    np.testing.assert_array_equal(loaded.transform(X, runs=runs), model.transform(X, runs=runs))
    with pytest.raises(InputError, match="fitted with runs"):
        loaded.transform(X)


def test_bad_delays_and_runs_are_found_in_fit(data):
    X, _, runs = data
    with pytest.raises(InputError, match="delays must be whole numbers"):
        Delays([0.5]).fit(X)
    with pytest.raises(InputError, match="runs must have one value for each of the 120 samples"):
        Delays().fit(X, runs=runs[1:])
    with pytest.raises(InputError, match="stand in several places: 0, 1"):
        Delays().fit(X, runs=np.arange(120) % 2)


def test_times_tell_of_holes_and_have_to_come_again():
    X, runs = np.arange(1.0, 13.0)[:, None], np.repeat([1, 2], 6)
    train = np.r_[0:2, 4:12]
    model = Delays([1])
    found = model.fit_transform(X[train], runs=runs[train], times=train)
    np.testing.assert_array_equal(found, delay(X[train], [1], runs[train], train))
    assert found[:4].ravel().tolist() == [0, 1, 0, 5]
    with pytest.raises(InputError, match="fitted with times, and 3 rows came without"):
        model.transform(X[:3], runs=runs[:3])


def test_a_fold_with_a_hole_learns_as_the_whole_run_does(data):
    """By metadata routing, in a cross-validation that holds out the middle of a run."""
    X, Y, runs = data
    train = np.r_[0:40, 50:120]
    with config_context(enable_metadata_routing=True):
        delays = Delays([1, 2, 3]).set_fit_request(runs=True, times=True)
        delays = delays.set_transform_request(runs=True, times=True)
        ridge = VoxelwiseRidge(cv=3).set_fit_request(runs=False, groups=False)
        model = make_pipeline(delays, ridge)
        model.fit(X[train], Y[train], runs=runs[train], times=train)
        seen = model[0].transform(X[train], runs=runs[train], times=train)
    whole = delay(X, [1, 2, 3], runs)[train]
    wrong = np.any(seen != whole, axis=1)
    assert train[wrong].tolist() == [50, 51, 52]
    assert (seen[wrong] == 0).any(axis=1).all()
