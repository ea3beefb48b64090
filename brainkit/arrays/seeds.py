"""Random generators that depend only on a seed and names, never on call order."""

import hashlib

import numpy as np


def rng(seed: int, *keys: str | int) -> np.random.Generator:
    """Return a generator for one purpose of one seed.

    Parameters
    ----------
    seed : int
        The run's seed.
    *keys : str or int
        What the numbers are for; other keys give an independent stream.

    Returns
    -------
    numpy.random.Generator
        The same generator for the same arguments on every machine.
    """
    words = [int(seed)]
    for key in keys:
        name = key if isinstance(key, str) else int(key)  # numpy's integers count as integers
        digest = hashlib.sha256(repr(name).encode()).digest()
        words.append(int.from_bytes(digest[:8], "little"))
    return np.random.default_rng(words)
