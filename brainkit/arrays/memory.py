"""Batch sizes from free memory: a fixed list, so that runs can be repeated exactly."""

import os
from pathlib import Path
from typing import Any

from brainkit.errors import InputError

BATCH_SIZES = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
ASSUMED_FREE = 2 << 30


def free_bytes(device: Any = None) -> int:
    """Return the memory that this process may still take, in bytes.

    Parameters
    ----------
    device : torch.device or str, optional
        Whose memory: a GPU's own, as its driver gives it. The machine's where not given.

    Notes
    -----
    Of the machine it is the smaller of what it has available and what is left of the control
    group's limit (a container or a Slurm job); its own figure alone where no limit is set. Of a GPU
    it is what is free, and what torch holds without using it.
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
