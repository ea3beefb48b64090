"""In which precision a module runs; where, `brainkit.arrays.devices` says."""

import torch

from brainkit.errors import unknown_name

PRECISIONS = ("auto", "float32", "bfloat16")


def pick_precision(name: str, device: torch.device) -> str:
    """Return the precision of matrix products; ``"auto"`` is bfloat16 on a GPU only.

    Raises
    ------
    UnknownNameError
        If there is no such precision.
    """
    if name not in PRECISIONS:
        raise unknown_name("precision", name, PRECISIONS)
    if name == "auto":
        return "bfloat16" if device.type == "cuda" else "float32"
    return name
