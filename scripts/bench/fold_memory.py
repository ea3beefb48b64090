"""Peak memory of judging an encoder in K folds, beyond the responses themselves.

    python scripts/bench/fold_memory.py [--rows 4000] [--units 20000] [--folds 10] [--way trials]

A fresh process holds the responses in memory, judges a voxelwise ridge of a few features on them
(with a null run and a permutation), and says what its peak of resident memory was above that
at the start, in multiples of the responses. A generic layer that held a copy of the responses for
every fold would show the number of folds; one that holds the predictions, which the result keeps,
and a part of one fold shows little more than 1.
"""

import argparse
import json
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
from side_by_side import THREAD_VARIABLES, measured

from brainkit import Recording
from brainkit.encoding import EncodingProtocol, VoxelwiseRidge, assess_encoder

FEATURES = 16
WAYS = ("trials", "samples", "z-scored", "epochs")


def recording_of(way: str, n_rows: int, n_units: int) -> Recording:
    """Return noise of one kind: (trial, unit), (sample, unit) or (trial, unit, time)."""
    generator = np.random.default_rng(0)
    responses = np.empty((n_rows, n_units), dtype=np.float32)
    for start in range(0, n_rows, 100):
        responses[start : start + 100] = generator.standard_normal(
            (min(100, n_rows - start), n_units), dtype=np.float32
        )
    run = np.arange(n_rows) * 20 // n_rows
    if way == "samples":
        samples = pd.DataFrame({"run": np.zeros(n_rows), "time": np.arange(n_rows) * 1.5})
        return Recording.from_arrays(responses, samples=samples)
    if way == "epochs":
        times = np.arange(50) / 50
        epochs = responses.reshape(n_rows, n_units // 50, 50)
        return Recording.from_arrays(epochs, trials=pd.DataFrame({"run": run}), times=times)
    trials = pd.DataFrame({"stimulus": np.arange(n_rows), "session": run})
    return Recording.from_arrays(responses, trials=trials, stimuli=np.zeros((n_rows, 1, 1)))


def judge(way: str, n_rows: int, n_units: int, n_folds: int) -> dict[str, float]:
    """Judge an encoder once in this process."""
    recording = recording_of(way, n_rows, n_units)
    features = np.random.default_rng(1).normal(size=(n_rows, FEATURES))
    model = VoxelwiseRidge(alphas=(10.0, 1000.0), cv=3, n_targets_batch=128)
    split = {"samples": f"stretches:{n_folds}", "epochs": f"kfold:{n_folds}:run"}
    protocol = EncodingProtocol(
        split.get(way, f"kfold:{n_folds}"),
        zscore="session" if way == "z-scored" else None,
        permutations=1, shuffles=1, ceiling=None,
    )  # fmt: skip
    warm = recording.select(units=slice(0, 2))  # what is imported on the way is none of it
    assess_encoder(warm, features, model, protocol)
    result, cost = measured(lambda: assess_encoder(recording, features, model, protocol))
    size = 4 * n_rows * n_units / 2**20
    assert result.predictions.size == n_rows * n_units
    return {"responses_mib": size, **cost, "beyond_responses": cost["peak_mib"] / size}


def main() -> None:
    """Measure every way in a process of its own, or one in this."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--units", type=int, default=20000)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--way", choices=WAYS, action="append")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        warnings.simplefilter("ignore")
        print(json.dumps(judge(given.way[0], given.rows, given.units, given.folds)))
        return
    import os

    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, "1") | {"TQDM_DISABLE": "1"}
    for way in given.way or WAYS:
        command = [sys.executable, __file__, "--here", "--way", way, "--rows", str(given.rows),
                   "--units", str(given.units), "--folds", str(given.folds)]  # fmt: skip
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        found = json.loads(done.stdout.strip().splitlines()[-1])
        print(f"{way}: {json.dumps({k: round(v, 2) for k, v in found.items()})}", flush=True)


if __name__ == "__main__":
    main()
