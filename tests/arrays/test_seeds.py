"""Streams of random numbers depend on seeds and names alone."""

import numpy as np

from brainkit.arrays.seeds import rng


def test_streams_are_stable_and_independent():
    assert rng(0, "fold").integers(1 << 62) == rng(0, "fold").integers(1 << 62)
    draws = {
        int(rng(*key).integers(1 << 62))
        for key in [(0,), (1,), (0, "a"), (0, "b"), (0, "a", "b"), (0, "b", "a"), (0, 1), (0, "1")]
    }
    assert len(draws) == 8


def test_numpy_and_python_integers_name_the_same_stream():
    assert rng(np.int64(3), np.int64(7)).random() == rng(3, 7).random()
