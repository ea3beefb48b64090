"""Learn the filters of the simulated brain, version 2, from four photographs (see docs/world.md).

    python scripts/learn_photograph_filters.py --out FILE

The photographs come with scikit-image and may be used freely: ``astronaut`` (NASA, public domain),
``chelsea`` (S. van der Walt, CC0), ``coffee`` (R. Michetti, CC0) and ``rocket`` (SpaceX, public
domain). What the package holds was learned once, with scikit-learn 1.9 and scikit-image 0.26, and
stays: a version of the brain never changes, while another release of these libraries may learn
other filters. It takes two minutes.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from brainkit.arrays.atomic import atomic_path
from brainkit.world.eye import N_POOLS, PATCH, SHARPNESS, inner, retina

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
N_FILTERS, PATCHES, PASSES = 64, 20_000, 12
SPARSITY = 0.15

Single = NDArray[np.float32]


def photograph(name: str) -> Single:
    """Return a photograph at half its resolution, in 0..1, (height, width, 3)."""
    from skimage import data

    whole = getattr(data, name)().astype(np.float32) / 255
    height, width = (side // 2 for side in whole.shape[:2])
    halves = whole[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3)
    return np.asarray(halves.mean(axis=(1, 3)))


def patches(seed: int, count: int) -> Single:
    """Return patches of all photographs as the eye sees them, in random order, (n, 432)."""
    rng = np.random.default_rng(seed)
    parts = []
    for name in PHOTOGRAPHS:
        seen = inner(retina(photograph(name)[None]))[0]
        seen -= seen.mean(axis=(1, 2), keepdims=True)
        seen /= seen.std(axis=(1, 2), keepdims=True)
        windows = sliding_window_view(seen, (PATCH, PATCH), axis=(1, 2))
        rows, columns = np.unravel_index(
            rng.permutation(windows.shape[1] * windows.shape[2])[:count], windows.shape[1:3]
        )
        parts.append(windows[:, rows, columns].transpose(1, 0, 2, 3).reshape(len(rows), -1))
    joined = np.concatenate(parts)
    return joined[rng.permutation(len(joined))] / np.float32(np.sqrt(joined.shape[1]))


def learn(samples: Single, n_filters: int, passes: int) -> Single:
    """Return filters of unit norm (n_filters, 3, 12, 12), by sparse coding of patches."""
    from sklearn.decomposition import MiniBatchDictionaryLearning

    coder = MiniBatchDictionaryLearning(
        n_filters, alpha=SPARSITY, batch_size=512, max_iter=passes, fit_algorithm="cd",
        tol=0, max_no_improvement=None, random_state=0,
    )  # fmt: skip
    atoms = coder.fit(samples.astype(np.float64)).components_
    atoms = atoms / np.linalg.norm(atoms, axis=1, keepdims=True)
    return np.asarray(atoms.reshape(n_filters, 3, PATCH, PATCH), dtype=np.float32)


def likeness(filters: Single) -> NDArray[np.float64]:
    """Return the largest cross-correlation over shifts of rectified channels, (2n, 2n).

    The channels are the filters, and then the filters with the other sign.
    """
    size = 2 * PATCH
    spectrum = np.fft.rfft2(filters, s=(size, size))
    cross = np.einsum("achw,bchw->abhw", spectrum, spectrum.conj())
    correlation = np.fft.irfft2(cross, s=(size, size))
    same, opposite = correlation.max(axis=(2, 3)), -correlation.min(axis=(2, 3))
    return np.block([[same, opposite], [opposite, same]])


def pool(filters: Single, n_pools: int) -> Single:
    """Return the weights of channels in pools, (2n, n_pools), sums 1.

    A pool forms round a channel; each next one is the least like those that have a pool.
    """
    alike = likeness(filters)
    centres = [0]
    while len(centres) < n_pools:
        nearest = np.round(alike[:, centres].max(axis=1), 6)
        centres.append(int(nearest.argmin()))
    weights = np.exp((alike[:, centres] - 1) / SHARPNESS)
    return np.asarray(weights / weights.sum(axis=0), dtype=np.float32)


def main() -> None:
    """Learn filters and pools, and write them."""
    from safetensors.numpy import save_file

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    filters = learn(patches(0, PATCHES), N_FILTERS, PASSES).astype(np.float16)
    pools = pool(filters.astype(np.float32), N_POOLS).astype(np.float16)
    # Safetensors writes memory as it lies, so the arrays have to lie row by row.
    tensors = {"filters": np.ascontiguousarray(filters), "pools": np.ascontiguousarray(pools)}
    with atomic_path(chosen.out) as path:
        save_file(tensors, path)
    print(f"{N_FILTERS} filters and {N_POOLS} pools are in {chosen.out}.")


if __name__ == "__main__":
    main()
