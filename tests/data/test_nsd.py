"""The NSD reader on NSD's layout, value by value, and on damaged copies of it.

`read_design` against loops that follow the description of nsd_expdesign.mat word by word.
"""

import os
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat, savemat

import brainkit
from brainkit.data import nsd as reader
from brainkit.data.nsd import read_design
from brainkit.errors import (
    CorruptFileError,
    GridMismatchError,
    InputError,
    MissingFileError,
    UnknownNameError,
)

GRID = (6, 5, 4)


def expected_betas(nsd, subject, sessions, inside):
    """Percent signal change of the voxels inside a mask, by plain loops over the raw arrays."""
    voxels = [xyz for xyz in np.ndindex(*GRID) if inside[xyz]]
    columns = [
        np.concatenate([nsd.betas[subject, s][:, z, y, x] / 300 for s in sessions])
        for x, y, z in voxels
    ]
    return np.stack(columns, axis=1)


def test_values_trials_and_units(nsd):
    recording = brainkit.load("nsd", nsd.root, subject="subj01")
    inside = nsd.visual > 0
    expected = expected_betas(nsd, "subj01", [1, 2, 3], inside)
    assert recording.responses.shape == expected.shape
    np.testing.assert_allclose(recording.responses.read(), expected, rtol=1e-6)
    assert np.abs(expected).max() > 109  # int16 at its limit
    design = nsd.design
    images = design.subjectim[0, design.masterordering[0, :2250].astype(int) - 1] - 1
    np.testing.assert_array_equal(recording.trials["stimulus"], images)
    np.testing.assert_array_equal(recording.units[["i", "j", "k"]], np.argwhere(inside))
    np.testing.assert_array_equal(
        recording.stimuli.read(recording.stimulus_rows()[:5]), nsd.stimuli[images[:5]]
    )
    assert recording.info["measure"] == "percent signal change"
    assert recording.info["card"] == "nsd"
    assert recording.subject == "subj01"
    ncsnr = nibabel.load(
        nsd.root / "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR/ncsnr.nii.gz"
    )
    np.testing.assert_allclose(recording.units["ncsnr"], ncsnr.get_fdata()[inside], rtol=1e-6)


def test_regions(nsd):
    recording = brainkit.load("nsd", nsd.root, subject=1)
    labels = nsd.visual[nsd.visual > 0]
    np.testing.assert_array_equal(recording.roi_mask("V1v"), labels == 1)
    np.testing.assert_array_equal(recording.roi_mask("V1"), labels <= 2)
    np.testing.assert_array_equal(recording.roi_mask("hV4"), labels == 7)
    np.testing.assert_array_equal(recording.roi_mask(["V1v", "hV4"]), np.isin(labels, [1, 7]))
    faces = nsd.faces[nsd.visual > 0]
    np.testing.assert_array_equal(recording.roi_mask("FFA"), np.isin(faces, [2, 3]))
    assert "V1" in recording.region_names
    assert "FFA" in recording.region_names
    assert "OFA" not in recording.region_names  # has no voxel here
    assert "OFA" in recording.roi_names
    with pytest.raises(UnknownNameError, match=r"V1d.*V1v"):
        recording.select(roi="V9")


@pytest.mark.parametrize(
    ("mask", "rule"),
    [
        ("V1", lambda visual, faces: (visual == 1) | (visual == 2)),  # not the atlas's "V1"
        ("V1d", lambda visual, faces: visual == 2),
        ("prf-visualrois", lambda visual, faces: visual >= 1),
        ("FFA", lambda visual, faces: faces >= 2),
        ("FFA-2", lambda visual, faces: faces == 3),
        ("lh.prf-visualrois", lambda visual, faces: visual == 1),
        ("HCP_MMP1", lambda visual, faces: visual >= 0),
        (None, lambda visual, faces: (visual >= 0) | (faces >= 0)),
    ],
)
def test_masks_by_name(nsd, mask, rule):
    recording = brainkit.load("nsd", nsd.root, subject="1", mask=mask, sessions=[2])
    inside = rule(nsd.visual, nsd.faces)
    np.testing.assert_array_equal(recording.units[["i", "j", "k"]], np.argwhere(inside))
    np.testing.assert_allclose(
        recording.responses.read(), expected_betas(nsd, "subj01", [2], inside), rtol=1e-6
    )


def test_atlases_that_share_names_and_endings(nsd_copy):
    """The HCP's areas 6d and 6v are no parts of a 6, and its V1 is not that of prf-visualrois."""
    label = nsd_copy.root / "nsddata/freesurfer/subj01/label"
    affine = nibabel.load(nsd_copy.roi_folder / "nsdgeneral.nii.gz").affine
    volume = np.where(nsd_copy.visual > 0, np.arange(np.prod(GRID)).reshape(GRID) % 3 + 1, 0)
    nibabel.save(
        nibabel.Nifti1Image(volume.astype("i2"), affine), nsd_copy.roi_folder / "HCP.nii.gz"
    )
    (label / "HCP.mgz.ctab").write_text("0 Unknown\n1 6d\n2 6v\n3 V1v\n")
    rois = ["prf-visualrois", "HCP"]
    recording = brainkit.load("nsd", nsd_copy.root, subject=1, rois=rois)
    assert recording.region_names == ["V1", "V2v", "hV4", "6d", "6v", "HCP.V1v"]
    inside = nsd_copy.visual > 0
    np.testing.assert_array_equal(recording.roi_mask("V1v"), nsd_copy.visual[inside] == 1)
    np.testing.assert_array_equal(recording.roi_mask("HCP.V1v"), volume[inside] == 3)
    with pytest.raises(UnknownNameError, match="6d, 6v"):
        recording.roi_mask("6")
    with pytest.raises(UnknownNameError, match="6d, 6v"):
        brainkit.load("nsd", nsd_copy.root, subject=1, mask="6")
    part = brainkit.load("nsd", nsd_copy.root, subject=1, mask="HCP.V1v", rois=rois)
    np.testing.assert_array_equal(part.units[["i", "j", "k"]], np.argwhere(volume == 3))


def test_region_files_whose_labels_are_nearly_whole(nsd, nsd_copy):
    """Scaled int16, as tools save labels that they hold as real numbers: −0.99997, 1.00003."""
    for path in sorted(nsd_copy.roi_folder.glob("*.nii.gz")):
        image = nibabel.load(path)
        noisy = nibabel.Nifti1Image(image.get_fdata() * (1 + 3e-5) + 1e-6, image.affine)
        nibabel.save(noisy, path)
    for mask in ("nsdgeneral", "V1", "FFA-2", "prf-visualrois", None):
        expected = brainkit.load("nsd", nsd.root, subject=1, mask=mask)
        with pytest.warns(UserWarning, match=r"A ROI file .* were rounded to whole numbers"):
            found = brainkit.load("nsd", nsd_copy.root, subject=1, mask=mask)
        pd.testing.assert_frame_equal(found.units, expected.units)
        assert found.roi_mask("V1").any()


def test_a_region_file_of_probabilities(nsd_copy):
    path = nsd_copy.roi_folder / "prf-visualrois.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(image.get_fdata() * 0.3, image.affine), path)
    with pytest.raises(InputError, match=r"A ROI file .*prf-visualrois.* whole numbers"):
        brainkit.load("nsd", nsd_copy.root, subject=1)


def test_sessions_are_whole_numbers(nsd):
    part = brainkit.load("nsd", nsd.root, subject=1, sessions=[1, 2])
    for sessions in (np.array([2, 1]), (np.int64(1), np.int16(2)), range(1, 3), {1, 2}):
        same = brainkit.load("nsd", nsd.root, subject=1, sessions=sessions)
        assert same.info["sessions"] == [1, 2]
        np.testing.assert_array_equal(part.responses.read(), same.responses.read())
    for sessions in ([0], [-1], [9]):
        with pytest.raises(MissingFileError, match="Sessions here: 1, 2, 3"):
            brainkit.load("nsd", nsd.root, subject=1, sessions=sessions)
    for sessions in (2, True, 2.0, "2", [True], [1.5], [1.0], ["1"], np.array([1.0])):
        with pytest.raises(InputError, match=r"sessions"):
            brainkit.load("nsd", nsd.root, subject=1, sessions=sessions)
    with pytest.raises(InputError, match="must be a whole number"):
        reader.load(nsd.root, 1, sessions=[1.7])


def test_a_mask_of_ones_own(nsd, tmp_path):
    inside = np.zeros(GRID, dtype=np.uint8)
    inside[[1, 4, 5], [0, 4, 2], [3, 1, 0]] = 1
    affine = nibabel.load(next(nsd.root.rglob("nsdgeneral.nii.gz"))).affine
    nibabel.save(nibabel.Nifti1Image(inside, affine), tmp_path / "mine.nii.gz")
    recording = brainkit.load("nsd", nsd.root, subject=2, mask=tmp_path / "mine.nii.gz")
    np.testing.assert_allclose(
        recording.responses.read(), expected_betas(nsd, "subj02", [1, 2], inside), rtol=1e-6
    )
    # A region of the part reads the part of the part.
    unit = recording.select(units=[1]).responses.read()[:, 0]
    np.testing.assert_allclose(unit, expected_betas(nsd, "subj02", [1, 2], inside)[:, 1])
    shifted = affine.copy()
    shifted[0, 3] += 1.8
    nibabel.save(nibabel.Nifti1Image(inside, shifted), tmp_path / "moved.nii.gz")
    with pytest.raises(GridMismatchError, match="another affine"):
        brainkit.load("nsd", nsd.root, subject=2, mask=tmp_path / "moved.nii.gz")
    nibabel.save(nibabel.Nifti1Image(inside[:5], affine), tmp_path / "small.nii.gz")
    with pytest.raises(GridMismatchError, match=r"\(5, 5, 4\).*\(6, 5, 4\)"):
        brainkit.load("nsd", nsd.root, subject=2, mask=tmp_path / "small.nii.gz")
    nibabel.save(nibabel.Nifti1Image(0 * inside, affine), tmp_path / "empty.nii.gz")
    with pytest.raises(InputError, match="no voxel inside"):
        brainkit.load("nsd", nsd.root, subject=2, mask=tmp_path / "empty.nii.gz")


@pytest.mark.parametrize("sessions", [[3, 1], (1, 3), [1, 3, 3], np.array([3, 1])])
def test_some_sessions_come_in_the_order_of_the_experiment(nsd, sessions):
    recording = brainkit.load("nsd", nsd.root, subject=1, sessions=sessions)
    expected = expected_betas(nsd, "subj01", [1, 3], nsd.visual > 0)
    np.testing.assert_allclose(recording.responses.read(), expected, rtol=1e-6)
    assert recording.trials["session"].tolist() == [1] * 750 + [3] * 750


@pytest.mark.parametrize("suffix", ["nii.gz", "nii"])
def test_betas_in_nifti_files(nsd_copy, suffix):
    expected = brainkit.load("nsd", nsd_copy.root, subject=1).responses.read()
    for session in (1, 2, 3):
        (nsd_copy.betas_folder / f"betas_session{session:02d}.hdf5").unlink()
        volume = nsd_copy.betas["subj01", session].transpose(3, 2, 1, 0)  # (X, Y, Z, 750)
        image = nibabel.Nifti1Image(volume, np.eye(4))
        nibabel.save(image, nsd_copy.betas_folder / f"betas_session{session:02d}.{suffix}")
    recording = brainkit.load("nsd", nsd_copy.root, subject=1)
    rows = [2249, 3, 3, 800]
    np.testing.assert_allclose(recording.responses.read(trials=rows), expected[rows], rtol=1e-6)


def test_presets(nsd):
    recording = brainkit.load("nsd", nsd.root, subject=1)
    split = recording.split("nsd-shared1000")
    shared = set(nsd.design.sharedix.ravel() - 1)
    assert set(split.test.trials["stimulus"]) <= shared
    assert not set(split.train.trials["stimulus"]) & shared
    assert len(split.test.trials) + len(split.train.trials) == 2250
    split = recording.split("nsd-515")
    order = nsd.design.masterordering[0].astype(int)
    thrice = {i for i in range(1, 101) if (order[:2250] == i).sum() == 3}  # 3 of 4 sessions
    images = nsd.design.subjectim[0]
    assert set(split.test.trials["stimulus"]) == {int(images[i - 1]) - 1 for i in thrice}
    others = set(split.align.trials["stimulus"]) | set(split.validation.trials["stimulus"])
    seen = {i for i in range(1, 101) if i in order[:2250]}
    assert others == {int(images[i - 1]) - 1 for i in seen - thrice}
    sizes = [part.trials["stimulus"].nunique() for part in (split.align, split.validation)]
    assert abs(sizes[0] - sizes[1]) <= 1


def test_subjects(nsd):
    assert reader.subjects(nsd.root) == ["subj01", "subj02"]
    both = brainkit.load_all("nsd", nsd.root, mask="V1v")
    assert list(both) == ["subj01", "subj02"]
    assert [r.responses.shape[0] for r in both.values()] == [2250, 1500]
    with pytest.raises(InputError, match=r"2 subjects here \(subj01, subj02\)"):
        brainkit.load("nsd", nsd.root)
    for wrong in (3, "subj03", "0", "nobody"):
        with pytest.raises(UnknownNameError, match="subj01, subj02"):
            brainkit.load("nsd", nsd.root, subject=wrong)


def test_region_by_name_lists_what_exists(nsd):
    with pytest.raises(UnknownNameError, match=r"FFA-1.*V1v.*nsdgeneral"):
        brainkit.load("nsd", nsd.root, subject=1, mask="FFB")


def test_missing_files(nsd_copy, tmp_path):
    root, betas = nsd_copy.root, nsd_copy.betas_folder
    with pytest.raises(MissingFileError, match=r"session 4 .*betas_session04.*1, 2, 3"):
        brainkit.load("nsd", root, subject=1, sessions=[1, 4])
    with pytest.raises(MissingFileError, match="betas_fithrf_GLMdenoise_RR"):
        brainkit.load("nsd", root, subject=1, betas="betas_assumehrf")
    (betas / "betas_session02.hdf5").unlink()
    for sessions in ([1, 2], None):  # a gap does not pass unseen
        with pytest.raises(MissingFileError, match=r"betas_session02.*Sessions here: 1, 3"):
            brainkit.load("nsd", root, subject=1, sessions=sessions)
    assert brainkit.load("nsd", root, subject=1, sessions=[1, 3]).responses.shape[0] == 1500
    with pytest.raises(MissingFileError, match="holds no subjects"):
        brainkit.load("nsd", tmp_path, subject=1)
    with pytest.raises(MissingFileError, match="does not exist"):
        brainkit.load("nsd", tmp_path / "nowhere", subject=1)
    (root / reader.EXPERIMENT).unlink()
    with pytest.raises(MissingFileError, match="nsd_expdesign"):
        brainkit.load("nsd", root, subject=1, sessions=[1])
    for path in nsd_copy.roi_folder.iterdir():
        path.unlink()
    with pytest.raises(MissingFileError, match="no ROI files"):
        brainkit.load("nsd", root, subject=1, sessions=[1])


def test_truncated_sessions(nsd_copy):
    path = nsd_copy.betas_folder / "betas_session02.hdf5"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptFileError, match=r"betas_session02.*truncated"):
        brainkit.load("nsd", nsd_copy.root, subject=1)
    with h5py.File(path, "w") as file:  # a session that was broken off
        file["betas"] = nsd_copy.betas["subj01", 2][:700]
    with pytest.raises(CorruptFileError, match=r"700 trials; the design has 750 in session 2"):
        brainkit.load("nsd", nsd_copy.root, subject=1)
    with h5py.File(path, "w") as file:  # another subject's grid
        file["betas"] = nsd_copy.betas["subj01", 2][:, :, :, :5]
    with pytest.raises(CorruptFileError, match="grid"):
        brainkit.load("nsd", nsd_copy.root, subject=1)


def test_a_region_file_of_another_grid(nsd_copy):
    image = nibabel.Nifti1Image(np.ones((6, 5, 5), dtype=np.int16), np.eye(4))
    nibabel.save(image, nsd_copy.roi_folder / "floc-places.nii.gz")
    with pytest.raises(GridMismatchError, match="floc-places"):
        brainkit.load("nsd", nsd_copy.root, subject=1, sessions=[1])
    nibabel.save(image, nsd_copy.roi_folder / "mine.nii.gz")
    with pytest.raises(GridMismatchError, match="mine"):
        brainkit.load("nsd", nsd_copy.root, subject=1, sessions=[1], mask="mine", rois=[])


def test_an_image_number_out_of_range(nsd_copy):
    path = nsd_copy.root / reader.STIMULI
    path.unlink()
    with h5py.File(path, "w") as file:
        file["imgBrick"] = nsd_copy.stimuli[:100]
    with pytest.raises(InputError, match=r"there are 100 stimuli"):
        brainkit.load("nsd", nsd_copy.root, subject=1)
    path.write_bytes(b"")
    with pytest.raises(CorruptFileError, match="nsd_stimuli"):
        brainkit.load("nsd", nsd_copy.root, subject=1)
    path.unlink()  # stimuli are not needed to read the brain
    assert brainkit.load("nsd", nsd_copy.root, subject=1).stimuli is None


def test_unknown_option(nsd):
    with pytest.raises(InputError, match=r"no option 'roi'.*betas, sessions, mask, rois"):
        brainkit.load("nsd", nsd.root, subject=1, roi="V1")


def test_maps_go_back_to_the_grid(nsd, tmp_path):
    recording = brainkit.load("nsd", nsd.root, subject=1, mask="V1")
    part = recording.select(roi="V1d")
    values = np.arange(1.0, part.responses.shape[1] + 1)
    nibabel.save(part.to_image(values), tmp_path / "map.nii.gz")
    image = nibabel.load(tmp_path / "map.nii.gz")
    assert image.shape == GRID
    np.testing.assert_allclose(image.affine[0, 0], -1.8)
    got = image.get_fdata()
    np.testing.assert_array_equal(got[nsd.visual == 2], values)
    assert np.isnan(got[nsd.visual != 2]).all()


def test_only_the_chosen_voxels_are_read(nsd, monkeypatch):
    recording = brainkit.load("nsd", nsd.root, subject=1)
    chosen, places = np.argwhere(nsd.visual == 7)[:2], []
    for path in sorted(nsd.root.glob("nsddata_betas/ppdata/subj01/*/*/betas_session*.hdf5")):
        with h5py.File(path) as file:
            info = file["betas"].id.get_chunk_info_by_coord
            places += [(path, info((0, z, y, x)).byte_offset) for x, y, z in chosen]
            size = file["betas"].shape[0] * 2
    asked, pread = [], os.pread

    def watch(file, count, offset):
        if count == size:  # a chunk; other reads are of its index
            asked.append((Path(f"/proc/self/fd/{file}").resolve(), offset))
        return pread(file, count, offset)

    monkeypatch.setattr(os, "pread", watch)
    split = recording.select(roi="hV4").split("nsd-515")
    assert asked == []
    part = split.test.select(units=[1, 0])
    part.responses.read()
    assert sorted(asked) == sorted(places)  # each voxel once a session
    assert len(asked) == 2 * 3


def test_tables_are_plain(nsd):
    trials = brainkit.load("nsd", nsd.root, subject=1).trials
    assert isinstance(trials.index, pd.RangeIndex)
    assert trials["run"].between(1, 12).all()


def test_simulated_data_say_so_and_are_whole(nsd_copy):
    path = nsd_copy.root / "SIMULATED.json"
    for content in ("{", "[1]"):
        path.write_text(content)
        with pytest.raises(CorruptFileError, match=r"SIMULATED\.json is damaged"):
            brainkit.load("nsd", nsd_copy.root, subject=1)
    path.write_text('{"complete": false}')
    with pytest.raises(CorruptFileError, match="not written to their end"):
        brainkit.load("nsd", nsd_copy.root, subject=1)
    path.write_text('{"complete": true, "seed": 3}')
    recording = brainkit.load("nsd", nsd_copy.root, subject=1)
    assert recording.info["simulated"]["seed"] == 3
    assert "simulated" in repr(recording.select(roi="V1"))


def test_tables_of_labels_with_a_byte_order_mark(nsd_copy):
    path = nsd_copy.root / "nsddata/freesurfer/subj01/label/prf-visualrois.mgz.ctab"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("1 V1v\n2 V1d\n", encoding="utf-8-sig")
    recording = brainkit.load("nsd", nsd_copy.root, subject=1, rois=["prf-visualrois"])
    inside = nsd_copy.visual > 0
    np.testing.assert_array_equal(recording.roi_mask("V1v"), nsd_copy.visual[inside] == 1)
    np.testing.assert_array_equal(
        recording.roi_mask("V1"), np.isin(nsd_copy.visual[inside], [1, 2])
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no label: expected lines of a number"),
        ("# nothing\n0 Unknown\n", "names no label"),
        ("1,V1v\n", "names no label"),
        ("1.0 V1v\n", "names no label"),
        ("1 V1v\n1 V1d\n", "names the label 1 twice: V1v and V1d"),
    ],
)
def test_tables_of_labels_that_name_none_or_one_twice(nsd_copy, text, message):
    path = nsd_copy.root / "nsddata/freesurfer/subj01/label/prf-visualrois.mgz.ctab"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    with pytest.raises(CorruptFileError, match=message):
        brainkit.load("nsd", nsd_copy.root, subject=1, rois=["prf-visualrois"])


@pytest.mark.parametrize("sessions", [10**30, 41])
def test_more_sessions_than_there_are(nsd, sessions):
    with pytest.raises(UnknownNameError, match=f"Unknown session {sessions}"):
        reader.read_design(nsd.root / reader.EXPERIMENT, 1, sessions)


def by_hand(design, subject, n_sessions):
    """Trial by trial: subjectim[s, masterordering[t] - 1] - 1, sessions and runs by stimpattern."""
    rows, seen, t = [], {}, 0
    for session in range(n_sessions):
        within = 0
        for run in range(12):
            for slot in range(75):
                if not design.stimpattern[session, run, slot]:
                    continue
                image = int(design.masterordering[0, t])  # 1 ... 10000
                stimulus = int(design.subjectim[subject - 1, image - 1]) - 1
                rows.append(
                    (stimulus, session + 1, run + 1, within, seen.get(image, 0), image <= 1000)
                )
                seen[image] = seen.get(image, 0) + 1
                within, t = within + 1, t + 1
    return pd.DataFrame(rows, columns=["stimulus", "session", "run", "trial", "repeat", "shared"])


@pytest.mark.parametrize(("subject", "name"), [(1, "subj01"), (1, 1), (1, "1"), (8, "subj08")])
def test_equals_the_description(full_design, subject, name):
    trials = read_design(full_design.path, name)
    expected = by_hand(full_design, subject, 40)
    assert len(trials) == 30_000
    pd.testing.assert_frame_equal(trials[expected.columns.tolist()], expected, check_dtype=False)
    assert trials.groupby(["session", "run"]).size().tolist() == [63, 62] * 240
    assert trials["stimulus"].between(0, 72_999).all()


def test_shared_images_are_those_that_all_subjects_see(full_design):
    sets = [set(read_design(full_design.path, s)["stimulus"]) for s in range(1, 9)]
    common = set.intersection(*sets)
    assert common == set(full_design.sharedix.ravel() - 1)
    trials = read_design(full_design.path, 3)
    assert set(trials.loc[trials["shared"], "stimulus"]) == common
    assert not set(trials.loc[~trials["shared"], "stimulus"]) & common


def test_sessions_are_a_part_of_the_whole(full_design):
    whole = read_design(full_design.path, 2)
    part = read_design(full_design.path, 2, sessions=[7, 3])
    expected = whole[whole["session"].isin([3, 7])].reset_index(drop=True)
    pd.testing.assert_frame_equal(part, expected)  # in the order of the experiment
    # `repeat` counts all showings, those in sessions left out too.
    assert part["repeat"].max() > part.groupby("stimulus").cumcount().max()
    assert len(read_design(full_design.path, 2, sessions=[])) == 0


def test_a_number_of_sessions_means_the_first(full_design):
    first = read_design(full_design.path, 1, sessions=30)
    pd.testing.assert_frame_equal(first, read_design(full_design.path, 1, range(1, 31)))
    with pytest.raises(UnknownNameError, match=r"session '?41"):
        read_design(full_design.path, 1, sessions=41)


@pytest.mark.parametrize(
    "sessions",
    [np.int64(30), np.uint8(30), np.array(30), np.arange(1, 31), pd.Series(range(1, 31))],
)
def test_numpys_numbers_are_numbers(full_design, sessions):
    first = read_design(full_design.path, np.int64(1), sessions=sessions)
    pd.testing.assert_frame_equal(first, read_design(full_design.path, 1, sessions=30))


@pytest.mark.parametrize("sessions", [0, -1, np.int64(0), 41, np.int64(-5)])
def test_no_such_number_of_sessions(full_design, sessions):
    with pytest.raises(UnknownNameError, match=f"session {sessions}"):
        read_design(full_design.path, 1, sessions=sessions)


@pytest.mark.parametrize(
    "sessions", [True, 30.0, np.float64(30), "30", b"30", [True], [1.0], ["1"], [None]], ids=repr
)
def test_what_is_no_number_of_sessions(full_design, sessions):
    with pytest.raises(InputError, match="sessions must be a whole number"):
        read_design(full_design.path, 1, sessions=sessions)


def counts(trials, n_sessions):
    """Shared images with three repeats, and seen at least once, in the first sessions."""
    early = trials[(trials["session"] <= n_sessions) & trials["shared"]]
    shown = early["stimulus"].value_counts()
    return int((shown >= 3).sum()), len(shown)


@pytest.mark.parametrize("n_sessions", [30, 32, 37, 40])
def test_counts_of_shared_images(full_design, n_sessions):
    """On NSD's own file these are 515, 614, 839 and 1000, and 907 seen at least once at 30."""
    trials = read_design(full_design.path, "subj05", sessions=range(1, n_sessions + 1))
    shown = np.zeros(10_001, dtype=int)
    for image in full_design.masterordering[0, : 750 * n_sessions]:
        shown[image] += 1
    assert counts(trials, n_sessions) == ((shown[:1001] == 3).sum(), (shown[:1001] > 0).sum())
    if n_sessions == 40:
        assert counts(trials, 40) == (1000, 1000)


def test_early_repeats_count_the_first_three_quarters(full_design):
    trials = read_design(full_design.path, 1)
    early = trials[trials["session"] <= 30]["stimulus"].value_counts()
    expected = trials["stimulus"].map(early).fillna(0)
    np.testing.assert_array_equal(trials["early_repeats"], expected)
    test = trials[trials["shared"] & (trials["early_repeats"] == 3)]
    assert test["stimulus"].nunique() == counts(trials, 30)[0]
    # The count is the same whichever sessions are read.
    part = read_design(full_design.path, 1, sessions=[2])
    np.testing.assert_array_equal(
        part["early_repeats"], trials.loc[trials["session"] == 2, "early_repeats"]
    )


@pytest.mark.parametrize("subject", [0, 9, "subj09", "subj00", "bob", "", -1, "1.5"])
def test_wrong_subject(full_design, subject):
    with pytest.raises(UnknownNameError, match="subj08"):
        read_design(full_design.path, subject)


@pytest.mark.parametrize("session", [0, 41, -1])
def test_wrong_session(full_design, session):
    with pytest.raises(UnknownNameError, match="session"):
        read_design(full_design.path, 1, sessions=[1, session])


def test_bad_files(full_design, tmp_path):
    path = tmp_path / "nsd_expdesign.mat"
    with pytest.raises(MissingFileError, match="nsd_expdesign"):
        read_design(path, 1)
    whole = full_design.path.read_bytes()
    for size in (0, 50, 200, 10_000, len(whole) // 2, len(whole) - 100):
        path.write_bytes(whole[:size])
        with pytest.raises(CorruptFileError, match="nsd_expdesign"):
            read_design(path, 1)
    savemat(path, {"sharedix": np.arange(3)})
    with pytest.raises(CorruptFileError, match="lacks masterordering, stimpattern, subjectim"):
        read_design(path, 1)
    design = {k: v for k, v in loadmat(full_design.path).items() if not k.startswith("__")}
    savemat(path, {**design, "stimpattern": design["stimpattern"][:39]})
    with pytest.raises(CorruptFileError, match="do not fit"):
        read_design(path, 1)
    savemat(path, {**design, "masterordering": design["masterordering"] + 0.4})
    with pytest.raises(CorruptFileError, match="masterordering must hold whole numbers"):
        read_design(path, 1)


def test_numbers_that_went_through_single_precision(full_design, tmp_path):
    """3.99997 is image 4: it was cut to 3."""
    path = tmp_path / "nsd_expdesign.mat"
    design = {k: v for k, v in loadmat(full_design.path).items() if not k.startswith("__")}
    noisy = {name: design[name] - 3e-5 for name in ("masterordering", "subjectim")}
    savemat(path, {**design, **noisy, "stimpattern": design["stimpattern"] + 7e-15})
    with pytest.warns(UserWarning, match="were rounded") as caught:
        found = read_design(path, 3)
    assert len(caught) == 3  # once for each array that is not whole
    pd.testing.assert_frame_equal(found, read_design(full_design.path, 3))
