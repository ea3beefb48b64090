"""BOLD5000's release 1: a hand-made copy of its layout, of its real counts, with few voxels."""

import json
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import savemat

import brainkit
from brainkit.data.bold5000 import (
    KEYS,
    SESSIONS,
    RegionFiles,
    image_set,
    read_stimulus_list,
    stimulus_table,
)
from brainkit.errors import (
    CorruptFileError,
    InputError,
    LeakError,
    MissingFileError,
    UnknownNameError,
)

TRIALS = {"CSI1": 5254, "CSI4": 3108}
WIDTHS = dict(zip(KEYS, (3, 2, 4, 2, 2, 3, 2, 2, 5, 2), strict=True))
COCO = [f"COCO_train2014_{number:012d}.jpg" for number in (9, 25, 30, 34, 36)]
IMAGENET = ["n01930112_19568.JPEG", "n02119789_3.JPEG"]
STIMULI = "BOLD5000_Stimuli/Scene_Stimuli/Presented_Stimuli"


def image_names():
    """4,916 images, of which the first 113 are shown several times."""
    scenes = [f"homeoffice{n}.jpg" for n in range(4916 - len(COCO) - len(IMAGENET))]
    return [COCO[0], IMAGENET[0], *scenes, *COCO[1:], *IMAGENET[1:]]


def shown_by(subject):
    """112 images four times, one three times, the others once; CSI4 sees the first trials."""
    names = image_names()
    trials = np.concatenate([np.arange(4916), np.repeat(np.arange(112), 3), [112, 112]])
    order = np.random.default_rng(int(subject[-1])).permutation(trials)[: TRIALS[subject]]
    return [("rep_" if number < 113 else "") + names[number] for number in order]


def make_bold5000(root):
    rng = np.random.default_rng(3)
    values = {}
    lists = root / "ROIs/stim_lists"
    lists.mkdir(parents=True)
    for subject, n_trials in TRIALS.items():
        (lists / f"CSI0{subject[-1]}_stim_lists.txt").write_text("\n".join(shown_by(subject)))
        for tr in ("1", "2", "3", "4", "5", "34"):
            parts = {key: rng.normal(size=(n_trials, width)) for key, width in WIDTHS.items()}
            values[subject, tr] = np.concatenate(list(parts.values()), axis=1)
            kind = "h5" if subject == "CSI1" else "mat"
            path = root / f"ROIs/{subject}/{kind}/{subject}_ROIs_TR{tr}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "mat":
                savemat(path, dict(reversed(parts.items())))
                continue
            with h5py.File(path, "w") as file:
                for key, part in parts.items():
                    file[key] = part
    for number, name in enumerate([*COCO, *IMAGENET]):
        path = root / STIMULI / image_set(name) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (10 * number, 0, 0)).save(path, format="PNG")
    labels = root / "BOLD5000_Stimuli/Image_Labels"
    labels.mkdir(parents=True)
    (labels / "imagenet_final_labels.txt").write_text(
        "n01930112 nematode, roundworm\nn02119789 kit fox\n"
    )
    captions = [
        {"image_id": 9, "id": 1, "caption": " Food in boxes. "},
        {"image_id": 9, "id": 2, "caption": "A meal"},
        {"image_id": 36, "id": 3, "caption": "A woman with an umbrella"},
        {"image_id": 7, "id": 4, "caption": "Not shown"},
    ]
    annotations = root / "annotations"
    annotations.mkdir()
    content = {"images": [{"id": n} for n in (7, 9, 25, 30, 34, 36)], "annotations": captions}
    (annotations / "captions_train2017.json").write_text(json.dumps(content))
    return values


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """BOLD5000's layout, and the values by person and TR; do not change its files."""
    root = tmp_path_factory.mktemp("bold5000")
    return root, make_bold5000(root)


@pytest.fixture
def copy(tree, tmp_path):
    """A copy to damage."""
    root = tmp_path / "bold5000"
    shutil.copytree(tree[0], root)
    return root


def quick(root, subject="CSI1", **options):
    """Load the trials of the few images that have files."""
    return brainkit.load("bold5000", root, subject, **{"sets": ["COCO", "ImageNet"]} | options)


def without_stimuli(root, subject, **options):
    shutil.rmtree(root / "BOLD5000_Stimuli", ignore_errors=True)
    return brainkit.load("bold5000", root, subject, **options)


@pytest.mark.parametrize(("subject", "n_trials"), TRIALS.items())
def test_values_tables_and_regions(tree, copy, subject, n_trials):
    recording = without_stimuli(copy, subject)
    assert recording.responses.shape == (n_trials, sum(WIDTHS.values()))
    np.testing.assert_allclose(recording.responses.read(), tree[1][subject, "34"], rtol=1e-6)
    ends = np.cumsum(list(WIDTHS.values()))
    for key, end in zip(KEYS, ends, strict=True):
        expected = (np.arange(ends[-1]) >= end - WIDTHS[key]) & (np.arange(ends[-1]) < end)
        np.testing.assert_array_equal(recording.roi_mask(key), expected)
    for region in ("EarlyVis", "LOC", "OPA", "PPA", "RSC"):
        both = recording.roi_mask([f"LH{region}", f"RH{region}"])
        np.testing.assert_array_equal(recording.roi_mask(region), both)
    assert recording.stimuli is None
    assert recording.info["trs"] == ["34"]
    assert recording.info["card"] == "bold5000"
    assert "simulated" not in recording.info
    names = [name.removeprefix("rep_") for name in shown_by(subject)]
    assert list(recording.trials["image"]) == names
    rank = {name: row for row, name in enumerate(sorted(image_names()))}
    np.testing.assert_array_equal(recording.stimulus_rows(), [rank[name] for name in names])


def test_parts_are_read_as_the_whole(tree, copy):
    recording = without_stimuli(copy, "CSI4", trs=[1, 5])
    whole = (tree[1]["CSI4", "1"] + tree[1]["CSI4", "5"]) / 2
    part = recording.select(trials=[7, 3, 3000, 7], units=[20, 0, 26, 4, 5])
    expected = whole[[7, 3, 3000, 7]][:, [20, 0, 26, 4, 5]]
    np.testing.assert_allclose(part.responses.read(), expected, rtol=1e-5, atol=1e-7)
    files = recording.responses.source.base  # what is read before it is kept
    assert isinstance(files, RegionFiles)
    rows, columns = np.array([7, 3, 3000, 7]), np.array([20, 0, 26, 4, 5])
    np.testing.assert_allclose(files.read(rows, columns), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(files.read(rows), whole[rows], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(files.read(columns=columns), whole[:, columns], rtol=1e-5, atol=1e-7)
    some = recording.select(roi="PPA").responses.read()
    np.testing.assert_allclose(some, whole[:, recording.roi_mask("PPA")], rtol=1e-5, atol=1e-7)


def test_averages_of_volumes(tree):
    by_tr = {tr: values for (subject, tr), values in tree[1].items() if subject == "CSI1"}
    shown = np.isin([image_set(name.removeprefix("rep_")) for name in shown_by("CSI1")],
                    ["COCO", "ImageNet"])  # fmt: skip
    for given, weights in (
        ("peak", {"34": 1}),
        (3, {"3": 1}),
        ("3", {"3": 1}),
        ([3, 4], {"3": 0.5, "4": 0.5}),
        ([34, 1], {"34": 0.5, "1": 0.5}),
        ("oota-2022", dict.fromkeys(("1", "2", "3", "34", "4", "5"), 1 / 6)),
    ):
        expected = sum(weight * by_tr[tr][shown] for tr, weight in weights.items())
        got = quick(tree[0], trs=given).responses.read()
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("subject", "n_trials"), TRIALS.items())
def test_sessions_and_runs(copy, subject, n_trials):
    trials = without_stimuli(copy, subject).trials
    n_sessions, long = SESSIONS[subject]
    assert trials["session"].is_monotonic_increasing
    assert trials["session"].nunique() == n_sessions
    runs = trials.groupby("session")["run"].nunique()
    assert sorted(runs.index[runs == 10]) == list(long)
    assert set(runs) == {9, 10}
    assert set(trials.groupby(["session", "run"]).size()) == {37}
    assert runs.sum() * 37 == n_trials


def test_all_people_have_their_counts():
    for subject, n_trials in {"CSI1": 5254, "CSI2": 5254, "CSI3": 5254, "CSI4": 3108}.items():
        n_sessions, long = SESSIONS[subject]
        assert 37 * (9 * n_sessions + len(long)) == n_trials


def test_repeats_are_known_by_the_images_name_and_kept_together(copy):
    recording = without_stimuli(copy, "CSI1")
    trials = recording.trials
    counts = trials.groupby("stimulus").size()
    assert counts.value_counts().to_dict() == {1: 4803, 4: 112, 3: 1}
    assert trials["repeated"].sum() == 451
    np.testing.assert_array_equal(trials["repeated"], trials["stimulus"].map(counts) > 1)
    assert trials["repeat"].value_counts().to_dict() == {0: 4916, 1: 113, 2: 113, 3: 112}
    for preset in ("kfold:10", "kfold:10:stimulus"):
        for fold in recording.split(preset, seed=1):
            train, test = (set(part.trials["image"]) for part in (fold.train, fold.test))
            assert not train & test
    with pytest.raises(LeakError):  # contiguous folds over trials, as published
        recording.split("leave-one-session-out")


def test_a_row_is_the_same_image_for_everyone(tree):
    one, other = (quick(tree[0], subject) for subject in ("CSI1", 4))
    by_image = dict(zip(one.trials["image"], one.stimulus_rows(), strict=True))
    for image, row in zip(other.trials["image"], other.stimulus_rows(), strict=True):
        assert by_image[image] == row
        assert one.stimuli.ids[row] == image


def test_images_and_captions(tree):
    recording = quick(tree[0])
    stimuli = recording.stimuli
    assert list(stimuli.ids) == sorted([*COCO, *IMAGENET])
    rows = recording.stimulus_rows()
    number = {name: n for n, name in enumerate([*COCO, *IMAGENET])}
    shown = stimuli.read(rows)
    expected = [10 * number[image] for image in recording.trials["image"]]
    np.testing.assert_array_equal(shown[:, 0, 0, 0], expected)
    table = stimuli.table.set_index("image")
    assert table.loc[COCO[0], "captions"] == ["Food in boxes.", "A meal"]
    assert table.loc[COCO[0], "caption"] == "Food in boxes."
    assert table.loc[COCO[1], "captions"] == []
    assert pd.isna(table.loc[COCO[1], "caption"])
    assert table.loc[IMAGENET[0], "captions"] == ["nematode, roundworm"]
    assert list(table["set"]) == ["COCO"] * 5 + ["ImageNet"] * 2
    bare = quick(tree[0], annotations=False).stimuli.table
    assert list(bare.columns) == ["image", "set"]
    coco = quick(tree[0], sets="COCO")
    assert set(coco.trials["set"]) == {"COCO"}
    assert len(coco.trials) == 8  # one image four times, four once


def test_words_of_scenes_and_sets():
    names = ["homeoffice5.jpg", "airplanecabin12.jpg", "bar_outdoor1.jpg", "n1.jpg"]
    table = stimulus_table(names, {}, None)
    assert [lines[0] for lines in table["captions"]] == [
        "homeoffice", "airplanecabin", "bar outdoor", "n",
    ]  # fmt: skip
    assert set(table["set"]) == {"Scene"}


def test_names_of_subjects(tree):
    for given in (1, "1", "CSI1", "CSI01", "sub-CSI1"):
        assert quick(tree[0], given).subject == "CSI1"
    for given in ("CSI2", "CSI", 7):
        with pytest.raises(UnknownNameError, match="there are CSI1, CSI4"):
            quick(tree[0], given)


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"trs": 6}, UnknownNameError, "Unknown TR 6: there are 1, 2, 3, 4, 5, 34, peak, oota-"),
        ({"trs": [3, 7]}, UnknownNameError, "Unknown TR 7"),
        ({"trs": "oota"}, UnknownNameError, "Did you mean 'oota-2022'"),
        ({"trs": []}, InputError, "at least one of 1, 2, 3"),
        ({"trs": [3, 3]}, InputError, "different TRs"),
        ({"trs": 2.5}, InputError, "option trs cannot be 2.5"),
        ({"sets": "Places"}, UnknownNameError, "Unknown set of images 'Places': there are Scene"),
        ({"sets": []}, InputError, "at least one of Scene, COCO, ImageNet"),
        ({"annotations": "nowhere"}, MissingFileError, "annotations=nowhere does not exist"),
        ({"mask": "PPA"}, InputError, "no option 'mask'; it has trs, sets, annotations"),
    ],
)
def test_options_without_sense(tree, options, kind, message):
    with pytest.raises(kind, match=message):
        quick(tree[0], **options)


def test_missing_files(copy, tmp_path):
    with pytest.raises(MissingFileError, match="holds no subjects: expected ROIs/CSI1"):
        brainkit.load("bold5000", tmp_path)
    (copy / "ROIs/CSI1/h5/CSI1_ROIs_TR3.h5").unlink()
    quick(copy)  # not asked for
    with pytest.raises(MissingFileError, match=r"CSI1 in TR3 are missing: expected .*TR3\.h5 or "):
        quick(copy, trs=[3, 4])
    image = copy / STIMULI / "COCO" / COCO[2]
    image.unlink()
    with pytest.raises(MissingFileError, match=f"1 of 7 images are not in .*: {COCO[2]}"):
        quick(copy)
    quick(copy, sets="ImageNet")
    (copy / "BOLD5000_Stimuli/Image_Labels/imagenet_final_labels.txt").unlink()
    with pytest.raises(MissingFileError, match="labels of ImageNet"):
        quick(copy, sets="ImageNet").stimuli.table  # noqa: B018 - read when it is asked for
    shutil.copy(copy / STIMULI / "COCO" / COCO[0], image)
    (copy / "annotations/captions_train2017.json").unlink()
    with pytest.raises(MissingFileError, match=r"captions_train2014\.json or captions_train2017"):
        quick(copy)
    (copy / "ROIs/stim_lists/CSI01_stim_lists.txt").unlink()
    with pytest.raises(MissingFileError, match="BOLD5000's list of stimuli"):
        quick(copy)


def test_counts_that_do_not_fit(copy):
    path = copy / "ROIs/CSI1/h5/CSI1_ROIs_TR34.h5"
    with h5py.File(path, "a") as file:
        values = file["RHOPA"][:]
        del file["RHOPA"]
        file["RHOPA"] = values[:5000]
    with pytest.raises(
        CorruptFileError, match=r"RHOPA has shape \(5000, 3\), .* names 5254 trials"
    ):
        quick(copy)
    with h5py.File(path, "a") as file:
        del file["RHOPA"]
        file["RHOPA"] = values[:, :2]
    with pytest.raises(CorruptFileError, match=r"RHOPA has 2 voxels; CSI1_ROIs_TR3.h5 has 3"):
        quick(copy, trs=[3, 34])
    with h5py.File(path, "a") as file:
        del file["RHOPA"], file["LHPPA"]
    with pytest.raises(CorruptFileError, match=r"TR34\.h5 lacks RHOPA, LHPPA"):
        quick(copy)
    names = copy / "ROIs/stim_lists/CSI04_stim_lists.txt"
    names.write_text("\n".join(names.read_text().splitlines()[:3000]))
    with pytest.raises(CorruptFileError, match="names 3000 trials; CSI4 has 3108, in 84 runs"):
        quick(copy, "CSI4")


@pytest.mark.parametrize(("subject", "kind"), [("CSI1", "h5"), ("CSI4", "mat")])
def test_damaged_files(copy, subject, kind):
    path = copy / f"ROIs/{subject}/{kind}/{subject}_ROIs_TR34.{kind}"
    whole = path.read_bytes()
    for size in (0, 100, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(CorruptFileError, match=r"unpack BOLD5000_ROIs\.zip again|lacks"):
            quick(copy, subject).responses.read()
    names = copy / f"ROIs/stim_lists/CSI0{subject[-1]}_stim_lists.txt"
    names.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorruptFileError, match="cannot be read as text"):
        read_stimulus_list(names)
    names.write_text("\n\n")
    with pytest.raises(CorruptFileError, match="it is empty"):
        read_stimulus_list(names)
