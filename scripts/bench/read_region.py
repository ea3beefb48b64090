"""Read a region of 5,000 voxels from two sessions at NSD's grid: brainkit beside nibabel.

    python scripts/bench/read_region.py FOLDER

writes two simulated sessions (81 x 104 x 83 voxels, 750 trials, int16) in NSD's layout as HDF5
(chunk (750, 1, 1, 1)), .nii and .nii.gz into FOLDER (about 6 GB, kept for the next run), then
reads the region in fresh processes:

- brainkit: `recording.responses.read()`, which opens and reads the HDF5 files;
- brainkit, library: the same, each chunk looked up by the HDF5 library instead of by
  `brainkit.arrays.volumes`;
- nibabel: `nibabel.load(file).get_fdata(dtype=float32)[mask]`, uncompressed and gz;
- nibabel, mapped: `numpy.asanyarray(image.dataobj)[mask]`, uncompressed, the fastest plain way.

What comes before is timed for none of them: the peers have the mask, brainkit its recording. What
`brainkit.load("nsd", ...)` took for that (design, masks, checks of the files) is `load_seconds`.

Printed: medians of 5, at one thread and at two, and ratios. Peak memory is that of the reading,
beside the size of the result. File caches are warm: each way reads once before any counts.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from side_by_side import compare, measured

GRID = (81, 104, 83)
TRIALS = 750
N_VOXELS = 5000
SESSIONS = (1, 2)
BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
ROI = "nsddata/ppdata/subj01/func1pt8mm/roi"


def brain_mask() -> np.ndarray:
    """Return an ellipsoid of about the size of a brain in the grid."""
    axes = [(np.arange(n) - n / 2) / (n / 2.4) for n in GRID]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return x**2 + y**2 + z**2 < 1


def region_mask() -> np.ndarray:
    """Return 5,000 voxels at the back of the brain, as visual cortex is: a thin folded sheet."""
    inside = brain_mask()
    x, y, z = np.indices(GRID)
    sheet = inside & ((x + 2 * y + 3 * z) % 5 < 2) & (y < 45)
    chosen = np.flatnonzero(sheet)[:: max(int(sheet.sum()) // N_VOXELS, 1)][:N_VOXELS]
    region = np.zeros(GRID, dtype=bool)
    region.ravel()[chosen] = True
    return region


def prepare(folder: Path) -> None:
    """Write the two sessions, once."""
    import h5py
    import nibabel

    if (folder / "ready").exists():
        return
    (folder / BETAS).mkdir(parents=True, exist_ok=True)
    (folder / ROI).mkdir(parents=True, exist_ok=True)
    affine = np.diag([1.8, 1.8, 1.8, 1.0])
    labels = np.where(region_mask(), 1, np.where(brain_mask(), 0, -1)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(labels, affine), folder / ROI / "region.nii.gz")
    _write_design(folder)
    inside = np.flatnonzero(brain_mask())
    for session in SESSIONS:
        volume = np.zeros((int(np.prod(GRID)), TRIALS), dtype=np.int16)
        noise = np.random.default_rng(session).normal(0, 600, (len(inside), TRIALS))
        volume[inside] = noise.astype(np.int16)
        path = folder / BETAS / f"betas_session{session:02d}"
        with h5py.File(path.with_suffix(".hdf5"), "w") as file:
            data = file.create_dataset(
                "betas", (TRIALS, *GRID[::-1]), "int16", chunks=(TRIALS, 1, 1, 1)
            )
            for voxel, (x, y, z) in enumerate(np.ndindex(*GRID)):
                data.id.write_direct_chunk((0, z, y, x), volume[voxel].tobytes())
        image = nibabel.Nifti1Image(volume.reshape(*GRID, TRIALS), affine)
        nibabel.save(image, folder / f"session{session:02d}.nii")
        nibabel.save(image, folder / f"session{session:02d}.nii.gz")
        print(f"wrote session {session}", file=sys.stderr)
    (folder / "ready").touch()


def _write_design(folder: Path) -> None:
    from scipy.io import savemat

    pattern = np.zeros((len(SESSIONS), 12, 75), dtype=np.uint8)
    for run in range(12):
        pattern[:, run, : 63 - run % 2] = 1
    trials = int(pattern.sum())
    path = folder / "nsddata/experiments/nsd"
    path.mkdir(parents=True, exist_ok=True)
    images = np.arange(1, trials // 3 + 1)
    savemat(
        path / "nsd_expdesign.mat",
        {
            "masterordering": np.tile(images, 3)[None].astype(np.uint16),
            "sharedix": images[None, :100].astype(np.int32),
            "stimpattern": pattern,
            "subjectim": images[None].astype(np.int32),
        },
    )


def read_once(how: str, folder: Path) -> None:
    """Read the region in one way and print what it took."""
    if how.startswith("brainkit"):
        import brainkit
        import brainkit.data.nsd  # imports are not part of the reading

        if how == "brainkit library":
            _leave_lookups_to_the_library()
        start = time.perf_counter()
        recording = brainkit.load("nsd", folder, "subj01", mask="region")
        load_seconds = time.perf_counter() - start
        work = recording.responses.read
    else:
        import nibabel

        mask = region_mask()
        suffix = ".nii.gz" if how == "nibabel gz" else ".nii"

        def one(session: int) -> np.ndarray:
            image = nibabel.load(folder / f"session{session:02d}{suffix}")
            mapped = how == "nibabel mapped"
            data = np.asanyarray(image.dataobj) if mapped else image.get_fdata(dtype=np.float32)
            return data[mask].T.astype(np.float32) / 300

        def work() -> np.ndarray:
            return np.concatenate([one(session) for session in SESSIONS])

    values, found = measured(work)
    if how.startswith("brainkit"):
        found["load_seconds"] = load_seconds
    found["result_mib"] = values.nbytes / 2**20
    found["checksum"] = float(np.abs(values).mean(dtype=np.float64))
    print(json.dumps(found))


def _leave_lookups_to_the_library() -> None:
    """Find no address, so that every chunk is asked of the HDF5 library."""
    from brainkit.arrays import volumes

    volumes.chunk_addresses = lambda data, offsets: np.full(len(offsets), volumes.UNKNOWN)


def main() -> None:
    """Prepare the files and compare, or read once in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--how", help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    if chosen.how:
        read_once(chosen.how, chosen.folder)
        return
    prepare(chosen.folder)
    ways = ("brainkit", "brainkit library", "nibabel", "nibabel gz", "nibabel mapped")
    commands = {way: [sys.executable, __file__, str(chosen.folder), "--how", way] for way in ways}
    compare(commands, repeats=1, threads=(1,))  # warms the file caches
    report = compare(commands, repeats=chosen.repeats)
    for runs in report.values():
        if isinstance(runs, dict):
            ours = runs["brainkit"]["seconds"]
            for found in runs.values():
                found["times_brainkit"] = found["seconds"] / ours
                found["peak_over_result"] = found["peak_mib"] / found["result_mib"]
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
