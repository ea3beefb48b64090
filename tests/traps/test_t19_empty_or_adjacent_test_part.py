"""T19: an empty test part, or one whose neighbours in time trained."""

import numpy as np
import pandas as pd
import pytest

from brainkit import Recording
from brainkit.data.dependence import dependence
from brainkit.data.preparing import prepare_split
from brainkit.errors import SplitError


def story(reach: int = 12) -> Recording:
    """Two runs of slow noise."""
    rng = np.random.default_rng(19)
    values = rng.normal(size=(2, 400, 6))
    kernel = np.ones(reach) / reach
    slow = np.stack([[np.convolve(unit, kernel, "same") for unit in run.T] for run in values])
    samples = pd.DataFrame({"run": np.repeat([1, 2], 400), "time": np.tile(np.arange(400.0), 2)})
    data = slow.transpose(0, 2, 1).reshape(800, 6).astype(np.float32)
    return Recording.from_arrays(data, samples=samples)


@pytest.mark.parametrize("pair", [(np.arange(400), []), ([], np.arange(400))])
def test_an_empty_part_raises(pair):
    with pytest.raises(SplitError, match=r"Fold 1 .* 0 (held-out|training)|empty|0 training"):
        story().split([pair])


def test_training_samples_near_a_test_sample_are_left_out():
    recording = story()
    rows = dependence(recording)
    (fold,) = prepare_split(
        recording, [(np.r_[0:100, 200:800], np.arange(100, 200))], zscore=None,
        average_repeats=False, rows=rows,
    )  # fmt: skip
    train = fold.fold.rows["train"]
    assert rows.reach > 5
    before, after = train[train < 100].max(), train[(train >= 200) & (train < 400)].min()
    assert 100 - before >= rows.reach
    assert after - 199 >= rows.reach
    assert np.isin(np.arange(400, 800), train).all()  # the other run is not near
