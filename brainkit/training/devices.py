"""Where a module runs, and in which precision."""

import torch

from brainkit.errors import InputError, unknown_name

PRECISIONS = ("auto", "float32", "bfloat16")


def pick_device(name: str) -> torch.device:
    """Return a device; ``"auto"`` is a GPU if there is one.

    Raises
    ------
    InputError
        If there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"{name!r} is no device; give 'auto', 'cpu' or 'cuda'.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"There is no GPU for device={name!r}; give 'auto' or 'cpu', or start this where "
            "torch.cuda.is_available() is true."
        )
    return device


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
