"""What NSD's images show, from hand-made files in COCO's layout."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest

import brainkit
from brainkit.data import nsd_annotations as reader
from brainkit.data.nsd import EXPERIMENT
from brainkit.data.nsd_annotations import (
    STIMULUS_INFO,
    area_in_crop,
    read_stimulus_info,
    read_table,
)
from brainkit.errors import CorruptFileError, InputError, MissingFileError

# Stimulus 0 is a train image of which the right half was cut off, 1 a val image with the number of
# another train image, 2 has captions only, 3 nothing but a crowd, 4 nothing at all.
INFO = pd.DataFrame(
    {
        "cocoId": [100, 200, 300, 400, 500],
        "cocoSplit": ["train2017", "val2017", "train2017", "train2017", "val2017"],
        "cropBox": ["(0, 0, 0, 0.5)", "(0.25, 0.25, 0.0, 0.0)"] + ["(0.0, 0.0, 0.0, 0.0)"] * 3,
        "loss": 0.0,
        "nsdId": range(5),
    }
)
CATEGORIES = [{"id": n, "name": name} for n, name in ((1, "person"), (18, "dog"), (62, "chair"))]


def images(*ids):
    return [{"id": number, "width": 640, "height": 320} for number in ids]


def instance(image, category, area, box, crowd=0):
    return {
        "segmentation": [[0.0, 0.0, 1.0, 1.0]], "area": area, "iscrowd": crowd,
        "image_id": image, "bbox": box, "category_id": category, "id": 1,
    }  # fmt: skip


def caption(image, text):
    return {"image_id": image, "id": 1, "caption": text}


FILES = {
    "captions_train2017.json": {
        "images": images(100, 200, 300, 400),
        "annotations": [
            caption(100, "a dog beside a chair"),
            caption(300, "an empty road\n"),
            caption(100, "an animal"),
            caption(200, "the wrong 200"),
        ],
    },
    "captions_val2017.json": {
        "images": images(200, 500),
        "annotations": [caption(200, "the right 200")],
    },
    "instances_train2017.json": {
        "images": images(100, 200, 300, 400),
        "annotations": [
            instance(100, 1, 9000.0, [400, 0, 200, 300]),  # largest, but cut off
            instance(100, 62, 2000.0, [300, 0, 200, 20]),  # a tenth is left: 200
            instance(100, 18, 1500.0, [10, 10, 50, 50]),
            instance(100, 62, 1400.0, [10, 10, 50, 50]),  # chairs are larger taken together
            instance(200, 1, 5e4, [0, 0, 640, 320]),
            instance(400, 1, 5e4, [0, 0, 640, 320], crowd=1),
        ],
        "categories": CATEGORIES,
    },
    "instances_val2017.json": {
        "images": images(200, 500),
        "annotations": [
            instance(200, 18, 800.0, [0, 0, 640, 100]),  # a fifth is left: 160
            instance(200, 62, 170.0, [0, 100, 20, 20]),
            instance(500, 1, 0.0, [10, 10, 0, 0]),
        ],
        "categories": CATEGORIES,
    },
}


@pytest.fixture
def root(tmp_path):
    """NSD's table of stimuli with COCO's files beside it."""
    path = tmp_path / STIMULUS_INFO
    path.parent.mkdir(parents=True)
    INFO.to_csv(path)
    (tmp_path / "annotations").mkdir()
    for name, content in FILES.items():
        (tmp_path / "annotations" / name).write_text(json.dumps(content))
    return tmp_path


def table_of(root, n_stimuli=5):
    folder = reader.annotation_folder(root, None)
    info = read_stimulus_info(root / STIMULUS_INFO, n_stimuli)
    files = reader.annotation_files(folder, set(info["cocoSplit"]))
    return read_table(root / STIMULUS_INFO, files, n_stimuli)


def test_captions_and_categories_of_the_crops(root):
    table = table_of(root)
    assert table["cocoId"].tolist() == [100, 200, 300, 400, 500]
    assert table["cocoSplit"].tolist() == INFO["cocoSplit"].tolist()
    assert table["cropBox"][:2].tolist() == [[0, 0, 0, 0.5], [0.25, 0.25, 0, 0]]
    assert table["caption"][:3].tolist() == [
        "a dog beside a chair", "the right 200", "an empty road",
    ]  # fmt: skip
    assert table["captions"].tolist() == [
        ["a dog beside a chair", "an animal"], ["the right 200"], ["an empty road"], [], [],
    ]  # fmt: skip
    assert table["caption"].isna().tolist() == [False, False, False, True, True]
    assert table["category"][:2].tolist() == ["dog", "chair"]
    assert table["category"].isna().tolist() == [False, False, True, True, True]


def test_parquet_and_json_carry_the_table(root, tmp_path):
    table = table_of(root)
    table.to_parquet(tmp_path / "table.parquet")
    again = pd.read_parquet(tmp_path / "table.parquet")
    assert [list(lines) for lines in again["captions"]] == table["captions"].tolist()
    assert [list(crop) for crop in again["cropBox"]] == table["cropBox"].tolist()
    pd.testing.assert_series_equal(again["category"], table["category"], check_dtype=False)
    assert json.loads(table.to_json(orient="records"))[3]["caption"] is None


def test_the_order_of_the_table_does_not_matter(root):
    expected = table_of(root)
    INFO.iloc[[3, 0, 4, 1, 2]].reset_index(drop=True).to_csv(root / STIMULUS_INFO)
    pd.testing.assert_frame_equal(table_of(root), expected)
    pd.testing.assert_frame_equal(table_of(root, 2), expected[:2])  # a part of the pictures


def test_two_crops_of_one_photograph(root):
    info = INFO.assign(cocoId=100, cocoSplit="train2017")
    info["cropBox"] = [
        "(0, 0, 0, .5)",
        "(0, 0, .5, 0)",
        "(.9, 0, 0, .9)",
        "(0, 0, 0, 0)",
        "(0, .5, 0, 0)",
    ]
    info.to_csv(root / STIMULUS_INFO)
    table = table_of(root)
    categories = table["category"].astype(object).where(table["category"].notna(), None)
    assert categories.tolist() == ["dog", "person", None, "person", "person"]
    assert {tuple(lines) for lines in table["captions"]} == {("a dog beside a chair", "an animal")}


@pytest.mark.parametrize(
    ("crop", "left_over"),
    [
        ((0, 0, 0, 0), 50),
        ((0.25, 0, 0, 0), 25),  # rows from 50 on, of 25 … 75
        ((0, 0.75, 0, 0), 25),  # rows to 50
        ((0, 0, 0.55, 0), 25),  # columns from 110 on, of 100 … 120
        ((0, 0, 0, 0.45), 25),  # columns to 110
        ((0.25, 0, 0.55, 0), 12.5),
        ((0, 0, 0.6, 0), 0),
        ((0.9, 0, 0.9, 0), 0),
    ],
)
def test_share_of_the_box_within_the_crop(crop, left_over):
    found = area_in_crop([50.0], [[100, 25, 20, 50]], [[200, 200]], [crop])
    np.testing.assert_allclose(found, [left_over])


def test_area_is_counted_by_pixels_of_the_box():
    rng = np.random.default_rng(0)
    n, width, height = 50, 40, 30
    size = np.tile([width, height], (n, 1))
    box = np.c_[rng.integers(0, 20, (n, 2)), rng.integers(0, 20, (n, 2))]
    crop = rng.integers(0, 10, (n, 4)) / np.array([height, height, width, width])
    expected = []
    for (x, y, w, h), (top, bottom, left, right) in zip(box, crop, strict=True):
        whole = np.zeros((60, 60), bool)
        whole[y : y + h, x : x + w] = True
        part = whole[
            round(top * height) : round((1 - bottom) * height),
            round(left * width) : round((1 - right) * width),
        ]
        expected.append(12.0 * part.sum() / max(whole.sum(), 1))
    found = area_in_crop(np.full(n, 12.0), box, size, crop)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_one_kind_of_files_is_enough(root):
    for split in ("train2017", "val2017"):
        (root / f"annotations/instances_{split}.json").unlink()
    table = table_of(root)
    assert "category" not in table
    assert table["caption"].notna().sum() == 3


def test_a_missing_split_is_named(root):
    (root / "annotations/instances_val2017.json").unlink()
    with pytest.raises(MissingFileError, match=r"lacks instances_val2017\.json"):
        table_of(root)
    INFO.assign(cocoSplit="train2017").to_csv(root / STIMULUS_INFO)
    assert table_of(root)["category"][0] == "dog"  # of val there is no image then
    for path in (root / "annotations").iterdir():
        path.unlink()
    with pytest.raises(MissingFileError, match=r"captions_train2017\.json, instances_train2017"):
        table_of(root)


def test_changed_files_are_read_again_and_others_are_not(root, monkeypatch):
    read = []
    original = reader.read_captions
    monkeypatch.setattr(reader, "read_captions", lambda *a: read.append(a) or original(*a))
    table = table_of(root)
    table["mine"] = 1
    assert "mine" not in table_of(root)
    assert len(read) == 2  # one a split
    path = root / "annotations/captions_val2017.json"
    path.write_text(path.read_text().replace("the right 200", "another"))
    os.utime(path, ns=(1, 1))
    assert table_of(root)["caption"][1] == "another"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda info: info.drop(columns="cropBox"), "cropBox"),
        (lambda info: info[:4], "lacks some of the 5 stimuli"),
        (lambda info: info.assign(nsdId=0), "duplicate"),
        (lambda info: info.assign(cropBox="(0, 0, 0)"), "unpack"),
        (lambda info: info.assign(cropBox="(0, 0, 0.5, 0.5)"), "leaves no image"),
        (lambda info: info.assign(cropBox=None), "attribute"),
        (lambda info: info.assign(cocoId="x"), "whole numbers"),
        (lambda info: info.assign(cocoId=info["cocoId"] + 0.4), r"whole numbers.*100\.4"),
    ],
)
def test_a_damaged_table_of_stimuli(root, change, message):
    change(INFO).to_csv(root / STIMULUS_INFO)
    with pytest.raises(CorruptFileError, match=rf"nsd_stim_info_merged\.csv .*{message}"):
        table_of(root)


def test_damaged_annotations(root):
    path = root / "annotations/instances_train2017.json"
    path.write_text(path.read_text()[:-30])
    with pytest.raises(CorruptFileError, match=r"instances_train2017\.json .*fetch it again"):
        table_of(root)


@pytest.fixture
def annotated(nsd_copy):
    """NSD's layout with annotations of its 7,300 images, one train and four val ones repeated."""
    info = pd.concat([INFO] * 1460, ignore_index=True).assign(nsdId=range(7300))
    (nsd_copy.root / STIMULUS_INFO).parent.mkdir(parents=True, exist_ok=True)
    info.to_csv(nsd_copy.root / STIMULUS_INFO)
    folder = nsd_copy.root / "annotations"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_text(json.dumps(content))
    return nsd_copy


def test_the_reader_finds_the_folder_and_waits_until_it_is_asked(annotated, tmp_path):
    path = annotated.root / "annotations/captions_val2017.json"
    whole = path.read_text()
    path.write_text("{")
    recording = brainkit.load("nsd", annotated.root, subject=1, sessions=[1])
    with pytest.raises(CorruptFileError, match="captions_val2017"):
        _ = recording.stimuli.table
    path.write_text(whole)
    table = recording.stimuli.table
    assert len(table) == len(recording.stimuli) == 7300
    assert table["caption"][6] == "the right 200"
    assert table["category"][5] == "dog"
    assert recording.stimuli.table is table
    assert brainkit.load("nsd", annotated.root, subject=1, annotations=False).stimuli.table is None
    shutil.move(annotated.root / "annotations", tmp_path / "coco")
    assert brainkit.load("nsd", annotated.root, subject=1).stimuli.table is None
    other = brainkit.load("nsd", annotated.root, subject=1, annotations=str(tmp_path / "coco"))
    pd.testing.assert_frame_equal(other.stimuli.table, table)


def test_what_is_missing_is_told_when_loading(annotated, tmp_path):
    root = annotated.root
    with pytest.raises(MissingFileError, match=r"annotations=.*nowhere does not exist"):
        brainkit.load("nsd", root, subject=1, annotations=tmp_path / "nowhere")
    with pytest.raises(InputError, match="give the folder"):
        brainkit.load("nsd", root, subject=1, annotations=root / EXPERIMENT)
    with pytest.raises(InputError, match="annotations cannot be 3"):
        brainkit.load("nsd", root, subject=1, annotations=3)
    (root / "annotations/captions_train2017.json").unlink()
    with pytest.raises(MissingFileError, match=r"lacks captions_train2017\.json"):
        brainkit.load("nsd", root, subject=1)
    (root / STIMULUS_INFO).unlink()
    with pytest.raises(MissingFileError, match="nsd_stim_info_merged"):
        brainkit.load("nsd", root, subject=1)
