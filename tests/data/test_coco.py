"""COCO's files read item by item, held against the json module reading them whole.

What NSD's images show, from hand-made files in COCO's layout.
"""

import json
import os
import shutil
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brainkit
from brainkit.data import coco as reader
from brainkit.data.coco import (
    LONGEST_TEXT,
    STIMULUS_INFO,
    area_in_crop,
    read_captions,
    read_instances,
    read_stimulus_info,
    read_table,
    stream_lists,
)
from brainkit.data.nsd import EXPERIMENT
from brainkit.errors import CorruptFileError, InputError, MissingFileError

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)
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


@settings(max_examples=60, deadline=None)
@given(
    content=st.dictionaries(st.text(), values | st.lists(values), max_size=5),
    chunk=st.integers(1, 50),
    indent=st.none() | st.integers(0, 3),
    plain=st.booleans(),
)
def test_items_are_those_of_the_whole_file(tmp_path_factory, content, chunk, indent, plain):
    path = tmp_path_factory.getbasetemp() / "stream.json"
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=plain), encoding="utf-8")
    expected = [
        (key, item) for key, value in content.items() if isinstance(value, list) for item in value
    ]
    assert list(stream_lists(path, chunk=chunk)) == expected


@pytest.mark.parametrize("size", [7, 1 << 22])
def test_a_file_that_was_cut_off_is_told_wherever_the_cut_is(tmp_path, size):
    whole = json.dumps({"images": [{"id": 1}, {"id": 2}], "annotations": [[1.5, "é"]], "n": 12})
    path = tmp_path / "cut.json"
    for end in range(len(whole)):
        path.write_text(whole[:end], encoding="utf-8")
        with pytest.raises(CorruptFileError, match=r"cut\.json cannot be read .*fetch it again"):
            list(stream_lists(path, chunk=size))


@pytest.mark.parametrize(
    "content",
    [b"", b"[1]", b'{"a": [1 2]}', b'{"a" [1]}', b'{"a": [1]]', b'{"a": ["\xff"]}', b"{1"],
)
def test_what_is_no_such_file(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"broken\.json"):
        list(stream_lists(path))


def test_a_fault_is_placed_and_does_not_make_the_rest_be_read(tmp_path):
    path = tmp_path / "fault.json"
    start = '{"annotations": [{"id": 1}, {"id": @'
    path.write_text(start + " " * (3 * LONGEST_TEXT), encoding="utf-8")
    with pytest.raises(CorruptFileError, match=f"character {len(start) - 1}"):
        list(stream_lists(path, chunk=1 << 16))


def test_time_grows_with_the_items_and_not_with_what_follows_each(tmp_path):
    """Copying the rest of a 2 MB file for each of its items took seconds."""
    path = tmp_path / "many.json"
    path.write_text(json.dumps({"annotations": [{"id": n, "box": [n] * 20} for n in range(15000)]}))
    started = time.process_time()
    assert sum(1 for _ in stream_lists(path)) == 15000
    assert time.process_time() - started < 1


CAPTIONS = {
    "info": {"year": 2017},
    "images": [{"id": 9}, {"id": 25}, {"id": 30}],
    "licenses": [],
    "annotations": [
        {"image_id": 25, "id": 5, "caption": "A second image.\n"},
        {"image_id": 9, "id": 7, "caption": " First come"},
        {"image_id": 9, "id": 6, "caption": "then this"},
        {"image_id": 30, "id": 8, "caption": "not asked for"},
    ],
}


def written(path, content):
    path.write_text(json.dumps(content))
    return path


def test_captions_of_some_images_in_the_order_of_the_file(tmp_path):
    path = written(tmp_path / "captions.json", CAPTIONS)
    found = read_captions(path, {9, 25, 77})
    assert found == {25: ["A second image."], 9: ["First come", "then this"]}


def test_instances_of_some_images(tmp_path):
    def instance(image, category, area, box, crowd=0):
        return {
            "segmentation": [[0, 0, 1, 1]], "area": area, "iscrowd": crowd, "image_id": image,
            "bbox": box, "category_id": category, "id": 1,
        }  # fmt: skip

    content = {
        "annotations": [
            instance(9, 18, 30.5, [1, 2, 3, 4.5]),
            instance(30, 1, 10.0, [0, 0, 5, 5]),
            instance(25, 1, 900.0, [0, 0, 50, 50], crowd=1),
            instance(9, 1, 7.0, [0, 1, 2, 3]),
        ],
        "images": [{"id": 9, "width": 640, "height": 480}, {"id": 25, "width": 5, "height": 6}],
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
    }
    path = written(tmp_path / "instances.json", content)
    found = read_instances(path, {9, 25})
    assert found.to_dict("list") == {
        "image": [9, 9], "category": ["dog", "person"], "area": [30.5, 7.0],
        "x": [1.0, 0.0], "y": [2.0, 1.0], "width": [3.0, 2.0], "height": [4.5, 3.0],
        "image_width": [640.0, 640.0], "image_height": [480.0, 480.0],
    }  # fmt: skip
    content["categories"][0]["synonyms"] = ["human", "man"]
    found = read_instances(written(path, content), {9, 25})
    assert found["synonyms"].tolist() == [[], ["human", "man"]]
    content["categories"][0]["synonyms"] = ["human", 3]
    with pytest.raises(CorruptFileError, match="does not hold instances"):
        read_instances(written(path, content), {9})
    content["categories"][0]["synonyms"] = []
    del content["categories"][1]
    with pytest.raises(CorruptFileError, match="names no category 18"):
        read_instances(written(path, content), {9})


def test_files_of_another_kind_or_split(tmp_path):
    path = written(tmp_path / "captions.json", CAPTIONS)
    with pytest.raises(CorruptFileError, match=r"does not hold instances .*'width'"):
        read_instances(path, {9})
    with pytest.raises(CorruptFileError, match="knows none of the 2 images"):
        read_captions(path, {1, 2})
    objects = {"images": [{"id": 9}], "annotations": [{"image_id": 9, "bbox": [1, 2]}]}
    with pytest.raises(CorruptFileError, match=r"does not hold captions .*'caption'"):
        read_captions(written(path, objects), {9})
    with pytest.raises(MissingFileError, match="nowhere"):
        read_captions(tmp_path / "nowhere.json", {9})


@pytest.mark.parametrize("name", [None, 5, float("nan"), ["dog"], {"a": 1}, "", " ", True])
def test_names_of_categories_are_text(tmp_path, name):
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": name}]}
    with pytest.raises(CorruptFileError, match="does not hold instances as COCO's"):
        read_instances(written(tmp_path / "instances.json", content), set())


def test_numbers_of_images_and_boxes_are_numbers(tmp_path):
    path = tmp_path / "x.json"
    captions = [{**one, "image_id": str(one["image_id"])} for one in CAPTIONS["annotations"]]
    with pytest.raises(CorruptFileError, match="image_id is the text '25', not a number"):
        read_captions(written(path, {**CAPTIONS, "annotations": captions}), {25})
    box = {"image_id": 9, "category_id": 1, "area": 1.0, "bbox": [float("nan")] * 4}
    content = {
        "images": [{"id": 9, "width": 5, "height": 6}],
        "annotations": [box],
        "categories": [{"id": 1, "name": "dog"}],
    }
    with pytest.raises(CorruptFileError, match="box or area is no finite number"):
        read_instances(written(path, content), {9})


def test_a_byte_order_mark_is_no_damage(tmp_path):
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(CAPTIONS), encoding="utf-8-sig")
    assert read_captions(path, {25}) == {25: ["A second image."]}


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
