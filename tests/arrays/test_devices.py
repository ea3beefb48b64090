"""Devices and precisions: what "auto" is, and what is not there."""

import pytest
import torch

from brainkit.arrays.devices import pick_device, pick_precision
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
