"""Devices, precisions and batch sizes: what "auto" is, and what is not there."""

import pytest
import torch

from brainkit.arrays import devices
from brainkit.arrays.devices import BATCH_SIZES, free_bytes, pick_batch, pick_device, pick_precision
from brainkit.errors import InputError, UnknownNameError


def test_auto_is_a_gpu_if_there_is_one():
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu").type == "cpu"


def test_auto_precision_is_short_on_a_gpu_only():
    assert pick_precision("auto", torch.device("cuda")) == "bfloat16"
    assert pick_precision("auto", torch.device("cpu")) == "float32"
    assert pick_precision("float32", torch.device("cuda")) == "float32"
    with pytest.raises(UnknownNameError, match="Did you mean 'bfloat16'"):
        pick_precision("bfloat", torch.device("cpu"))


def test_no_device_of_that_name():
    with pytest.raises(InputError, match="'gpu' is no device; give 'auto', 'cpu' or 'cuda'"):
        pick_device("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there():
    with pytest.raises(InputError, match="There is no GPU for device='cuda:0'; give 'auto' or"):
        pick_device("cuda:0")


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

    monkeypatch.setattr(devices.os, "sysconf", unknown)
    monkeypatch.setattr(devices, "Path", lambda _: tmp_path / "missing")
    assert free_bytes() == devices.ASSUMED_FREE
