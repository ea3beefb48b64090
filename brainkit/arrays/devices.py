"""Where arrays are worked on, the processor with NumPy or a GPU with torch, and how precisely."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainkit.errors import InputError, unknown_name

if TYPE_CHECKING:
    import torch

# Nodes of Linux (NVIDIA, AMD, a GPU under Windows' subsystem): where there is none there is no GPU.
GPU_NODES = ("nvidiactl", "kfd", "dxg")
PRECISIONS = ("auto", "float32", "bfloat16")


def pick_device(name: str) -> "torch.device":
    """Return a device; ``"auto"`` is a GPU if there is one.

    Raises
    ------
    InputError
        If there is no such device here.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"{name!r} is no device; give 'auto', 'cpu' or 'cuda'.") from error
    if device.type == "cuda":
        _check_gpu(name, device, torch.cuda.device_count() if torch.cuda.is_available() else 0)
    return device


def pick_precision(name: str, device: "torch.device") -> str:
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


def _check_gpu(name: str, device: "torch.device", count: int) -> None:
    """Raise unless there are enough GPUs."""
    if not count:
        raise InputError(
            f"There is no GPU for device={name!r}; give 'auto' or 'cpu', or start this where "
            "torch.cuda.is_available() is true."
        )
    if device.index is not None and device.index >= count:
        raise InputError(
            f"There are {count} GPUs, numbered from 0; device={name!r} is not one of them."
        )


def solver_device(name: str) -> "torch.device | None":
    """Return the device of a linear solver; None stands for NumPy on the processor.

    torch is not even loaded where there is no GPU to be found.

    Parameters
    ----------
    name : str
        "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:0", or another device of torch.

    Raises
    ------
    InputError
        If there is no such device here, or it has no double precision.
    """
    if not isinstance(name, str):
        raise InputError(f"device must be a name such as 'auto', 'cpu' or 'cuda:0'; got {name!r}.")
    if name == "cpu" or (name == "auto" and not _may_have_gpu()):
        return None
    device = pick_device(name)
    if device.type == "cpu":
        return None
    if device.type == "mps":
        raise InputError(
            "Apple's GPUs ('mps') have no double precision, which decompositions need; give 'cpu', "
            "which is the default there."
        )
    import torch

    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (RuntimeError, TypeError) as error:  # of what is there, or cannot do it
        raise InputError(f"device={name!r} cannot be used here: {error}") from error
    return device


def _may_have_gpu() -> bool:
    """Tell whether it is worth asking torch for a GPU."""
    if "torch" in sys.modules or not sys.platform.startswith("linux"):
        return True
    return any(Path("/dev", node).exists() for node in GPU_NODES)


def to_device(values: Any, device: "torch.device | None") -> Any:
    """Return a NumPy array as it is, or as a tensor on a device."""
    if device is None:
        return values
    import torch

    return torch.as_tensor(values, device=device)


def to_numpy(values: Any) -> Any:
    """Return an array or tensor of any device as a NumPy array."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values


def device_name(device: "torch.device | None") -> str:
    """Return the name of a device that work ran on, with its number: ``"cpu"``, ``"cuda:0"``."""
    if device is None:
        return "cpu"
    import torch

    if device.type == "cuda" and device.index is None:
        return f"cuda:{torch.cuda.current_device()}"
    return str(device)
