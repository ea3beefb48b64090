"""Eight categories decoded in runs left out, from the volumes as they were measured."""

import numpy as np
import pytest

import brainkit
from brainkit.data.block_averages import average_events, clean_runs
from brainkit.data.haxby import load_series
from brainkit.decoding import LabelDecoder, LabelProtocol, assess_labels

pytestmark = pytest.mark.slow
BALANCED = "decoding_balanced_accuracy"
SEEN = {"slice": 0.646, "whole-brain": 0.240}


@pytest.mark.parametrize("form", SEEN)
def test_categories_are_told_in_runs_left_out(shared_data, form):
    """The settings of the recipe labels-blocks, with fewer permutations."""
    recording = brainkit.load("haxby", shared_data / "haxby", form=form)
    protocol = LabelProtocol("leave-one-run-out", permutations=19, shuffles=3)
    result = assess_labels(recording, LabelDecoder("lda"), protocol)
    entry = result.metrics[BALANCED]
    assert entry["value"] >= SEEN[form]
    assert entry["chance"] == 0.125
    assert entry["p"] == 0.05
    assert entry["ci"][0] > 0.125
    assert abs(entry["nulls"]["exchanged_labels"] - 0.125) < 0.08
    assert result.confusion.shape == (8, 8)
    assert result.resampling["independent"] == "run"
    assert entry["n_units"] == 12
    assert result.zscore["transductive"]


@pytest.mark.parametrize("delay", [0.0, 2.5, 5.0])
@pytest.mark.parametrize("model", ["lda", "ridge_classifier", "logistic"])
def test_the_slice_tells_categories_at_any_delay_and_by_any_decoder(shared_data, delay, model):
    recording = brainkit.load("haxby", shared_data / "haxby", delay=delay)
    protocol = LabelProtocol("leave-one-run-out", permutations=0, shuffles=1)
    result = assess_labels(recording, LabelDecoder(model), protocol)
    assert result.metrics[BALANCED]["value"] >= SEEN["slice"]


def test_before_the_blocks_there_is_nothing_to_tell(shared_data):
    """The 7.5 s before each block are rest, or the one before: no category of its own."""
    series = clean_runs(load_series(shared_data / "haxby"))
    recording = average_events(series, delay=-7.5, duration=7.5)
    protocol = LabelProtocol("leave-one-run-out", permutations=0, shuffles=1)
    result = assess_labels(recording, LabelDecoder("lda"), protocol)
    assert result.metrics[BALANCED]["value"] < 0.25
    assert np.isfinite(result.metrics[BALANCED]["value"])
