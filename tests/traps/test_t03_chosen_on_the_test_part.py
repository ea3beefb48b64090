"""T03: a checkpoint, a penalty or a channel chosen on the test part."""

import numpy as np
import pandas as pd
import pytest

from brainkit import Recording
from brainkit.data.splits import split_by_hand
from brainkit.errors import LeakError, SplitError
from brainkit.jobs.contract import Case, Needs

TRIALS = pd.DataFrame({"stimulus": np.arange(20)})
RECORDING = Recording.from_arrays(np.random.default_rng(0).normal(size=(20, 3)), trials=TRIALS)
SPLIT = split_by_hand(
    RECORDING, train=np.arange(8), validation=np.arange(8, 12), test=np.arange(12, 20)
)


@pytest.mark.parametrize("parts", [("test",), ("train", "test"), ("held-out",)])
def test_a_job_that_wants_to_choose_on_what_scores_is_refused(parts):
    with pytest.raises(LeakError, match=f"asks for {parts[-1]}, which only scores"):
        Needs(selects_on=parts)


def test_what_a_job_may_choose_on_holds_no_test_row():
    (parts,) = Case(RECORDING).selection(SPLIT, Needs(selects_on=("train", "validation")))
    assert list(parts) == ["train", "validation"]
    np.testing.assert_array_equal(parts["train"].stimulus_rows(), np.arange(8))
    np.testing.assert_array_equal(parts["validation"].stimulus_rows(), np.arange(8, 12))
    for part in parts.values():  # nor can the test part be had from what is handed over
        np.testing.assert_array_less(part.rows["stimulus"].to_numpy(), 12)
        assert part.responses.shape[0] == len(part.rows)


def test_a_split_without_a_validation_part_is_no_excuse():
    two = split_by_hand(RECORDING, train=np.arange(12), test=np.arange(12, 20))
    with pytest.raises(SplitError, match="no 'validation' part"):
        Case(RECORDING).selection(two, Needs(selects_on=("validation",)))
