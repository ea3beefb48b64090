"""A hand-made copy of NSD's layout, small in grid, images and sessions, real in everything else."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import h5py
import nibabel
import numpy as np
import pytest
from scipy.io import savemat

GRID = (6, 5, 4)  # x, y, z
AFFINE = np.array([[-1.8, 0, 0, 80], [0, 1.8, 0, -100], [0, 0, 1.8, -60], [0, 0, 0, 1]])
BETAS = "betas_fithrf_GLMdenoise_RR"


def make_design(path, *, n_sessions, n_images, n_shared, n_stimuli, seed):
    """Write nsd_expdesign.mat with NSD's types, shapes and 1-based numbers."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(np.repeat(np.arange(1, n_images + 1), 3))
    sharedix = np.sort(generator.choice(np.arange(1, n_stimuli + 1), n_shared, replace=False))
    rest = generator.permutation(np.setdiff1d(np.arange(1, n_stimuli + 1), sharedix))
    own = rest[: 8 * (n_images - n_shared)].reshape(8, -1)
    pattern = np.zeros((n_sessions, 12, 75), dtype=np.uint8)
    for session in range(n_sessions):
        for run in range(12):
            slots = generator.choice(75, 63 if run % 2 == 0 else 62, replace=False)
            pattern[session, run, slots] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    design = {
        "masterordering": order[None].astype(np.uint16),
        "basiccnt": np.zeros((3, n_sessions), dtype=np.uint16),
        "sharedix": sharedix[None].astype(np.int32),
        "stimpattern": pattern,
        "subjectim": np.concatenate([np.tile(sharedix, (8, 1)), own], axis=1).astype(np.int32),
    }
    savemat(path, design)
    return SimpleNamespace(**design, path=path)


def save_nifti(path, volume, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume, affine), path)


def make_nsd(root):
    generator = np.random.default_rng(7)
    design = make_design(
        root / "nsddata/experiments/nsd/nsd_expdesign.mat",
        n_sessions=4,
        n_images=1000,
        n_shared=100,
        n_stimuli=7300,
        seed=8,
    )
    stimuli = generator.integers(0, 256, (7300, 3, 3, 3), dtype=np.uint8)
    path = root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file["imgBrick"] = stimuli
    betas = {}
    visual = generator.choice([-1, 0, 1, 2, 3, 7], GRID).astype(np.int16)
    faces = generator.choice([-1, 0, 2, 3], GRID).astype(np.int16)
    for subject, sessions in (("subj01", 3), ("subj02", 2)):
        rois = root / "nsddata/ppdata" / subject / "func1pt8mm/roi"
        save_nifti(rois / "prf-visualrois.nii.gz", visual)
        save_nifti(rois / "lh.prf-visualrois.nii.gz", np.where(visual == 1, 1, -1).astype("i2"))
        save_nifti(rois / "floc-faces.nii.gz", faces)
        save_nifti(rois / "nsdgeneral.nii.gz", np.where(visual > 0, 1, visual).astype(np.int16))
        # An atlas whose labels are not the functional areas of the same names.
        save_nifti(rois / "HCP_MMP1.nii.gz", np.where(visual >= 0, 1, -1).astype(np.int16))
        label = root / "nsddata/freesurfer" / subject / "label"
        label.mkdir(parents=True)
        (label / "HCP_MMP1.mgz.ctab").write_text("0 Unknown 0 0 0 0\n1 V1 255 0 0 0\n")
        (label / "floc-faces.mgz.ctab").write_text(
            "# a table of labels\n\n0 Unknown 0 0 0 0\n1 OFA 1 0 0 0\n"
            "2 FFA-1 2 0 0 0\n3 FFA-2 3 0 0 0\n4 mTL 4 0 0 0\n"
        )
        folder = root / "nsddata_betas/ppdata" / subject / "func1pt8mm" / BETAS
        folder.mkdir(parents=True)
        save_nifti(folder / "ncsnr.nii.gz", generator.uniform(0, 1, GRID).astype(np.float32))
        for session in range(1, sessions + 1):
            values = generator.integers(-32768, 32768, (750, *reversed(GRID)), dtype=np.int16)
            betas[subject, session] = values
            with h5py.File(folder / f"betas_session{session:02d}.hdf5", "w") as file:
                file.create_dataset("betas", data=values, chunks=(750, 1, 1, 1))
    return SimpleNamespace(
        root=root, design=design, stimuli=stimuli, betas=betas, visual=visual, faces=faces
    )


@pytest.fixture(scope="session")
def nsd(tmp_path_factory):
    """NSD's layout; do not change its files."""
    return make_nsd(tmp_path_factory.mktemp("nsd"))


@pytest.fixture
def nsd_copy(nsd, tmp_path):
    """A copy of NSD's layout to damage."""
    root = tmp_path / "nsd"
    shutil.copytree(nsd.root, root)
    return SimpleNamespace(
        **{**vars(nsd), "root": root},
        betas_folder=root / "nsddata_betas/ppdata/subj01/func1pt8mm" / BETAS,
        roi_folder=root / "nsddata/ppdata/subj01/func1pt8mm/roi",
    )


@pytest.fixture(scope="session")
def full_design(tmp_path_factory):
    """An experimental design of NSD's full size."""
    return make_design(
        Path(tmp_path_factory.mktemp("design")) / "nsd_expdesign.mat",
        n_sessions=40,
        n_images=10_000,
        n_shared=1000,
        n_stimuli=73_000,
        seed=5,
    )
