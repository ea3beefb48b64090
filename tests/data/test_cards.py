"""Cards are checked; loading finds the folder, the subject and the options or says what to do."""

import pytest
import yaml

import brainkit
from brainkit.data.cards import card_names, dataset_root, read_card, subjects
from brainkit.errors import InputError, MissingFileError, UnknownNameError


def test_every_card_is_valid_and_has_a_reader():
    assert {"digits69", "nsd"} <= set(card_names())
    for name in card_names():
        card = read_card(name)
        assert card.name == name
        assert card.licence.name
        assert card.citation


def write(tmp_path, **changes):
    content = {
        "name": "mine",
        "title": "t",
        "reader": "nsd",
        "modality": "fMRI",
        "licence": {"name": "CC0"},
        "citation": "c",
        "access": "Ask me.",
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    return path


def pinned(**changes):
    return [{"path": "a/b.mat", "url": "https://x/y", "sha256": "0" * 64, "size": 3, **changes}]


def test_a_card_of_ones_own(nsd, tmp_path):
    card = read_card(write(tmp_path, options={"mask": "V1", "sessions": [1]}, files=pinned()))
    recording = brainkit.load(card, nsd.root, 2)
    assert recording.info["card"] == "mine"
    assert recording.info["sessions"] == [1]
    assert brainkit.load(tmp_path / "mine.yaml", nsd.root, 2).info["card"] == "mine"
    changed = brainkit.load(card, nsd.root, 2, sessions=[2])  # the call's options go first
    assert changed.info["sessions"] == [2]
    assert subjects(card, nsd.root) == ["subj01", "subj02"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licence": None}, "licence"),
        ({"readers": "nsd"}, "readers: Extra inputs"),
        ({"files": pinned(sha256="0")}, r"files\.0\.sha256"),
        ({"files": pinned(size=0)}, r"files\.0\.size"),
        ({"files": pinned(path="../x")}, "under the dataset's root"),
        ({"files": pinned(path="/etc/x")}, "under the dataset's root"),
        ({"files": pinned(path="")}, "under the dataset's root"),
        ({"files": pinned(url="file:///etc/passwd")}, r"files\.0\.url"),
    ],
)
def test_wrong_cards(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        read_card(write(tmp_path, **changes))


def test_cards_that_cannot_be_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("a: [")
    with pytest.raises(InputError, match="cannot be read as YAML"):
        read_card(path)
    path.write_text("")
    with pytest.raises(InputError, match="not a valid DatasetCard"):
        read_card(path)
    with pytest.raises(UnknownNameError, match=r"Did you mean 'nsd'"):
        read_card("nsdd")


@pytest.mark.parametrize("reader", ["splits", "nothing_here", "world"])
def test_unknown_reader(tmp_path, reader):
    with pytest.raises(InputError, match=f"names the reader '{reader}'"):
        brainkit.load(read_card(write(tmp_path, reader=reader)), tmp_path)


def test_where_the_data_are(tmp_path, monkeypatch):
    card = read_card("digits69")
    monkeypatch.delenv("BRAINKIT_DATA", raising=False)
    with pytest.raises(MissingFileError, match=r"set BRAINKIT_DATA .*brainkit download digits69"):
        dataset_root(card)
    monkeypatch.setenv("BRAINKIT_DATA", str(tmp_path))
    with pytest.raises(MissingFileError, match="digits69 does not exist"):
        dataset_root(card)
    (tmp_path / "digits69").mkdir()
    assert dataset_root(card) == tmp_path / "digits69"
    assert dataset_root(card, tmp_path) == tmp_path
    with pytest.raises(MissingFileError, match=r"69digits\.mat"):
        brainkit.load("digits69")
