"""Seeds depend on names alone; batches come from a fixed list; bars stay off standard output."""

import numpy as np
import pytest

from brainkit.arrays import memory
from brainkit.arrays.memory import BATCH_SIZES, free_bytes, pick_batch
from brainkit.arrays.progress import track
from brainkit.arrays.seeds import rng
from brainkit.errors import InputError


def test_streams_are_stable_and_independent():
    assert rng(0, "fold").integers(1 << 62) == rng(0, "fold").integers(1 << 62)
    draws = {
        int(rng(*key).integers(1 << 62))
        for key in [(0,), (1,), (0, "a"), (0, "b"), (0, "a", "b"), (0, "b", "a"), (0, 1), (0, "1")]
    }
    assert len(draws) == 8


def test_numpy_and_python_integers_name_the_same_stream():
    assert rng(np.int64(3), np.int64(7)).random() == rng(3, 7).random()


@pytest.mark.parametrize(
    ("per_item", "n_items", "free", "expected"),
    [
        (1, 10**6, 10**9, 65536),  # all that the list offers
        (1, 300, 10**9, 512),  # not beyond what holds all items
        (1000, 10**6, 4 * 10**6, 512),  # 512 * 1000 <= 1e6 < 1024 * 1000
        (10**9, 10**6, 10**6, 128),  # nothing fits: the smallest
        (1, 1, 0, 128),
    ],
)
def test_batches(per_item, n_items, free, expected):
    assert pick_batch(per_item, n_items, free=free) == expected
    assert expected in BATCH_SIZES


def test_batches_of_nothing_are_refused():
    with pytest.raises(InputError, match="positive"):
        pick_batch(0, 5)
    with pytest.raises(InputError, match="positive"):
        pick_batch(5, 0)


def test_free_memory_is_measured_and_has_a_fallback(monkeypatch, tmp_path):
    assert 0 < free_bytes() < 1 << 50

    def unknown(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(memory.os, "sysconf", unknown)
    monkeypatch.setattr(memory, "Path", lambda _: tmp_path / "missing")
    assert free_bytes() == memory.ASSUMED_FREE


def test_a_bar_changes_nothing_and_writes_nothing_to_standard_output(capsys):
    assert list(track(range(5), "counting")) == [0, 1, 2, 3, 4]
    assert list(track((n for n in "ab"), "letters", total=2)) == ["a", "b"]
    assert capsys.readouterr().out == ""
