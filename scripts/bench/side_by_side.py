"""Time commands in fresh processes, side by side: medians of repeats, peak memory of each."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
IDLE_LOAD = 0.3


def measured(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Run some work in this process; give its result, seconds, and peak memory above the start."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
    before = _memory("VmRSS")
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    return result, {"seconds": seconds, "peak_mib": (_memory("VmHWM") - before) / 1024}


def _memory(field: str) -> int:
    """Return a field of this process's status in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise RuntimeError(f"no {field} in /proc/self/status")


def compare(
    commands: Mapping[str, Sequence[str]], *, repeats: int = 5, threads: Sequence[int] = (1, 2)
) -> dict[str, Any]:
    """Run each command `repeats` times in fresh processes, in turn, and give medians.

    A command prints one JSON object with its measurements on its last line.
    """
    load = os.getloadavg()[0]
    if load > IDLE_LOAD:
        print(f"warning: load is {load:.2f}, above {IDLE_LOAD}", file=sys.stderr)
    report: dict[str, Any] = {"load_before": load, "repeats": repeats}
    for count in threads:
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
        for _ in range(repeats):
            for name, command in commands.items():
                runs[name].append(_run(command, count))
        report[f"{count} thread" + "s" * (count > 1)] = {
            name: {key: statistics.median(run[key] for run in done) for key in done[0]}
            for name, done in runs.items()
        }
    return report


def _run(command: Sequence[str], threads: int) -> dict[str, float]:
    environment = os.environ | {name: str(threads) for name in THREAD_VARIABLES}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
