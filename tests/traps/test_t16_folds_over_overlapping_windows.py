"""T16: shuffled folds over overlapping windows make a score of nothing."""

import numpy as np
import pandas as pd
import pytest

from brainkit import Recording
from brainkit.decoding import LabelDecoder, LabelProtocol, assess_labels
from brainkit.errors import LeakError

N_TRIALS, N_WINDOWS, WIDTH, STEP = 24, 6, 20, 5


def windows(seed: int) -> Recording:
    """Windows of noise that overlap by three quarters, labelled by trial at random."""
    rng = np.random.default_rng([16, seed])
    trial = np.repeat(np.arange(N_TRIALS), N_WINDOWS)
    noise = rng.normal(size=(N_TRIALS, 4, WIDTH + STEP * N_WINDOWS))
    values = [
        noise[one, :, STEP * k : STEP * k + WIDTH].mean(axis=1)
        for one in range(N_TRIALS) for k in range(N_WINDOWS)
    ]  # fmt: skip
    label = rng.permutation(np.repeat(["a", "b"], N_TRIALS // 2))[trial]
    trials = pd.DataFrame({"trial": trial, "label": label, "run": trial % 4})
    return Recording.from_arrays(np.stack(values).astype(np.float32), trials=trials)


def test_folds_that_tear_windows_of_a_trial_apart_are_refused():
    recording = windows(0)
    pairs = [(np.arange(0, 144, 2), np.arange(1, 144, 2))]
    with pytest.raises(LeakError, match="Split by trial"):
        recording.split(pairs)


def test_windows_of_noise_are_decoded_at_chance():
    protocol = LabelProtocol("kfold:6:trial", permutations=0, shuffles=1)
    decoder = LabelDecoder("logistic")
    scores = [
        assess_labels(windows(seed), decoder, protocol).metrics["decoding_balanced_accuracy"]
        for seed in range(30)
    ]
    values = np.array([one["value"] for one in scores])
    assert abs(values.mean() - 0.5) < 4 * values.std(ddof=1) / np.sqrt(len(values))
    # Torn apart the same windows would seem to tell.
    torn = []
    for seed in range(30):
        recording = windows(seed)
        X, y = recording.responses.read(), recording.trials["label"].to_numpy()
        learned = LabelDecoder("logistic").fit(X[::2], y[::2])
        torn.append(np.mean(learned.predict(X[1::2]) == y[1::2]))
    assert np.mean(torn) > values.mean() + 0.05
