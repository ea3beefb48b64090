"""Retrieval from a whole gallery and two-way identification, beside what they are built on.

    python scripts/bench/decoding_metrics.py [--repeats 3]

In fresh processes, of noise in float32:

- retrieval: `brainkit.evaluation.retrieval`, 10,000 queries in a gallery of 10,000 by 1,024
  numbers, beside the plain matrix product of the same arrays (`numpy`, float32), which alone holds
  400 MB of similarities;
- identification: `brainkit.evaluation.identification`, 1,000 images by 4,096 features, beside the
  loop in common use, a `numpy.corrcoef` for every pair, and beside one `numpy.corrcoef` of both
  sides stacked, in which three quarters of the products are not needed. Brainkit's also gives what
  each image adds to the mean, for its interval.

Printed: medians at one thread, peak memory beyond the inputs, ratios, and the scores, which have to
be the same.
"""

import argparse
import json
import sys

import numpy as np
from side_by_side import compare, measured


def inputs(n: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return brain embeddings and what they belong to, alike by a little."""
    generator = np.random.default_rng(0)
    first = generator.standard_normal((n, width), dtype=np.float32)
    noise = generator.standard_normal((n, width), dtype=np.float32)
    return first, 0.1 * first + noise


def retrieved(brain: np.ndarray, images: np.ndarray) -> float:
    """Retrieve each image from the whole gallery."""
    from brainkit.evaluation import retrieval

    names = {"direction": "image_from_brain", "gallery_name": "test-images"}
    return retrieval(brain, images, **names).value


def product(brain: np.ndarray, images: np.ndarray) -> float:
    """Multiply, and nothing else."""
    return float((brain @ images.T)[0, 0])


def identified(made: np.ndarray, images: np.ndarray) -> float:
    """Identify each reconstruction's image, by brainkit."""
    from brainkit.evaluation import identification

    return float(identification(made, images, "image_given_reconstruction").mean())


def identified_in_a_loop(made: np.ndarray, images: np.ndarray) -> float:
    """Identify each reconstruction's image, a pair at a time."""
    wins = 0
    for i, one in enumerate(made):
        right = np.corrcoef(one, images[i])[0, 1]
        for j, other in enumerate(images):
            wins += i != j and np.corrcoef(one, other)[0, 1] < right
    return wins / len(made) / (len(made) - 1)


def identified_stacked(made: np.ndarray, images: np.ndarray) -> float:
    """Identify each reconstruction's image by one matrix of correlations of all with all."""
    r = np.corrcoef(images, made)[: len(images), len(images) :]
    return float((r < np.diag(r)).sum(axis=0).mean() / (len(images) - 1))


WAYS = {
    "retrieval brainkit": (retrieved, 10_000, 1024),
    "retrieval product": (product, 10_000, 1024),
    "identification brainkit": (identified, 1000, 4096),
    "identification loop": (identified_in_a_loop, 1000, 4096),
    "identification stacked": (identified_stacked, 1000, 4096),
}


def run_once(way: str) -> None:
    """Score in one way and print what it took."""
    score_of, n, width = WAYS[way]
    few = inputs(16, width)
    score_of(*few)  # imports what it needs
    both = inputs(n, width)
    score, found = measured(lambda: score_of(*both))
    print(json.dumps(found | {"score": score}))


def main() -> None:
    """Compare, or run one way in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    if chosen.way:
        run_once(chosen.way)
        return
    commands = {way: [sys.executable, __file__, "--way", way] for way in WAYS}
    report = compare(commands, repeats=chosen.repeats, threads=(1,))
    for runs in report.values():
        if isinstance(runs, dict):
            whole, plain, ours, loop, stacked = (runs[way]["seconds"] for way in WAYS)
            runs["ratios"] = {
                "retrieval over product": whole / plain,
                "loop over identification": loop / ours,
                "stacked over identification": stacked / ours,
            }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
