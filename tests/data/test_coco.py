"""COCO's files read item by item, held against the json module reading them whole."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainkit.data.coco import LONGEST_TEXT, read_captions, read_instances, stream_lists
from brainkit.errors import CorruptFileError, MissingFileError

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)


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
