"""Time the demonstration and its peak memory, in a fresh process.

    python scripts/bench/demo.py [--images 9000] [--threads 2]

Targets on two cores: under 7 minutes, under 4 GiB. The checks of the report are printed too.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from side_by_side import THREAD_VARIABLES


def main() -> None:
    """Run `brainkit demo` once and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=9000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    environment = os.environ | {name: str(chosen.threads) for name in THREAD_VARIABLES}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "demo"
        command = [sys.executable, "-m", "brainkit", "demo", "--out", str(out)]
        command += ["--images", str(chosen.images), "--seed", str(chosen.seed)]
        load, start = os.getloadavg()[0], time.perf_counter()
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        checks = pd.read_parquet(out / "checks.parquet")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(checks.to_string(), file=sys.stderr)
    found = {"load_before": load, "seconds": round(seconds, 1), "peak_gib": round(peak, 2)}
    print(json.dumps(found | {"checks_met": int(checks["met"].sum()), "checks": len(checks)}))


if __name__ == "__main__":
    main()
