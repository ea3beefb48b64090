"""Where arrays are worked on, how precisely, and how many items at once.

The processor works with NumPy, a GPU with torch. Batch sizes follow from free memory, but are of a
fixed list, so that runs can be repeated exactly.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainkit.errors import InputError, unknown_name

if TYPE_CHECKING:
    import torch

BATCH_SIZES = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
ASSUMED_FREE = 2 << 30
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


def free_bytes(device: Any = None) -> int:
    """Return the memory that this process may still take, in bytes.

    Parameters
    ----------
    device : torch.device or str, optional
        Device whose memory is meant: a GPU's own, as its driver gives it. It is the machine's where
        no device is given.

    Notes
    -----
    For the machine it is the smaller of what it has available and what is left of the control
    group's limit (a container or a Slurm job); its own figure alone where no limit is set. For a
    GPU it is what is free, and what torch holds without using it.
    """
    if str(device or "cpu").startswith("cuda"):
        import torch

        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    try:
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # macOS and Windows do not say
        available = ASSUMED_FREE
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists():
        allowed = limit.read_text(encoding="ascii").strip()
        if allowed.isdigit():
            available = min(available, int(allowed) - int(used.read_text(encoding="ascii")))
    return max(int(available), 0)


def pick_batch(
    bytes_per_item: int, n_items: int, *, free: int | None = None, fraction: float = 0.25
) -> int:
    """Choose how many items (voxels, stimuli) to treat at once.

    Parameters
    ----------
    bytes_per_item : int
        Working memory that one item takes.
    n_items : int
        Number of items in all; a batch beyond it is never chosen.
    free : int, optional
        Free memory in bytes; measured when not given.
    fraction : float, default=0.25
        Share of the free memory that a batch may take.

    Returns
    -------
    int
        A member of ``BATCH_SIZES``: the largest that fits in memory, but not above the smallest
        that holds all items.
    """
    if bytes_per_item <= 0 or n_items <= 0:
        raise InputError(
            f"A batch needs positive sizes; got bytes_per_item={bytes_per_item}, n_items={n_items}."
        )
    budget = (free_bytes() if free is None else free) * fraction
    fitting = [size for size in BATCH_SIZES if size * bytes_per_item <= budget]
    largest = fitting[-1] if fitting else BATCH_SIZES[0]
    enough = next((size for size in BATCH_SIZES if size >= n_items), BATCH_SIZES[-1])
    return min(largest, enough)
