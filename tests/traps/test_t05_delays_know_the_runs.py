"""T05: delayed features that run over a run's boundary."""

import numpy as np
import pytest

from brainkit.errors import InputError
from brainkit.features import Delays
from brainkit.linear.delays import delay

RUNS = np.repeat([11, 12, 13], [30, 50, 20])
X = np.random.default_rng(0).normal(size=(100, 3)) + 10  # no zero among the features


def test_the_first_rows_of_a_run_hold_nothing_of_the_run_before():
    delayed = delay(X, [1, 2, 3, 4], RUNS).reshape(100, 4, 3)
    for start in (0, 30, 80):
        for row in range(4):
            # Delays longer than the time since the run began are empty, the others are not.
            assert not delayed[start + row, row:].any()
            assert delayed[start + row, :row].all()


def test_looking_ahead_ends_with_the_run():
    delayed = delay(X, [-1, -2], RUNS)
    for end in (29, 79, 99):
        assert not delayed[end].any()
        assert not delayed[end - 1, 3:].any()


def test_what_one_run_holds_changes_no_other_run():
    changed = np.where(RUNS[:, None] == 12, -1e6, X)
    before, after = (delay(values, range(-5, 6), RUNS) for values in (X, changed))
    np.testing.assert_array_equal(before[RUNS != 12], after[RUNS != 12])


def test_a_run_gives_the_same_wherever_it_stands():
    order = np.concatenate([np.flatnonzero(np.equal(RUNS, run)) for run in (13, 11, 12)])
    moved = delay(X[order], [1, 4, -2], RUNS[order])
    np.testing.assert_array_equal(moved, delay(X, [1, 4, -2], RUNS)[order])


def test_delays_that_were_fitted_with_runs_do_not_forget_them():
    model = Delays().fit(X, runs=RUNS)
    with pytest.raises(InputError, match="give the runs of these rows"):
        model.transform(X)


def test_runs_that_are_named_alike_in_two_sessions_are_refused():
    with pytest.raises(InputError, match=r"stand in several places: 1, 2\..*different names"):
        delay(X[:40], [1], np.tile(np.repeat([1, 2], 10), 2))
