"""Which category a sentence names first."""

import pytest

from brainkit.errors import InputError
from brainkit.reconstruction import first_named, names_category, words_for
from brainkit.world import SceneWorld
from brainkit.world.scenes import SYNONYMS


def test_captions_of_the_world_name_their_largest_object_first():
    table = SceneWorld().table(range(600))
    assert set(table["category"]) == {"face", "body", "place", "food", "word"}
    words = words_for(list(table["category"]), list(table["synonyms"]))
    assert names_category(list(table["caption"]), list(table["category"]), words).all()
    lower = [text.lower() for text in table["caption"]]
    assert names_category(lower, list(table["category"]), words).all()
    # By their own names alone few are found: a person is not called a body.
    assert names_category(lower, list(table["category"])).mean() < 0.5


@pytest.mark.parametrize(
    ("sentence", "category"),
    [
        ("a red house behind a small pale calm face, on a grey street", "place"),
        ("a calm face and a sign that says OPEN", "face"),
        ("a Plate of brown pizza", "food"),
        ("a smiling, walking thing on a beach", None),
        ("a housecoat", None),  # whole words only
        ("", None),
        ("person", "body"),
    ],
)
def test_first_named(sentence, category):
    assert first_named(sentence, words_for(list(SYNONYMS), list(SYNONYMS.values()))) == category


def test_the_first_counts_not_any():
    words = {"face": ["face"], "place": ["place", "house"]}
    assert names_category(["a face and a house"], ["place"], words).tolist() == [0]
    assert names_category(["a face and a house"], ["face"], words).tolist() == [1]


def test_other_categories_are_named_by_their_own_names():
    words = words_for(["Dog", "hot dog", "Dog"])
    assert words == {"Dog": ("dog",), "hot dog": ("hot dog",)}
    called = words_for(["Dog", "cat", "Dog"], [["puppy", "DOG"], [], ["puppy"]])
    assert called == {"Dog": ("dog", "puppy"), "cat": ("cat",)}
    assert first_named("a hot dog on a plate", words) == "hot dog"  # the longer word
    assert first_named("a dog eats a hot dog", words) == "Dog"
    assert names_category(["two hot dogs", "a dog"], ["Dog", "Dog"], words).tolist() == [0, 1]


def test_bad_words_are_refused():
    with pytest.raises(InputError, match="'sign' names both"):
        first_named("a sign", {"a": ["sign"], "b": ["sign"]})
    with pytest.raises(InputError, match="no words"):
        first_named("a sign", {})
    with pytest.raises(InputError, match="2 sentences and 1 categories"):
        names_category(["a", "b"], ["face"])
    with pytest.raises(InputError, match="no words for the categories boat"):
        names_category(["a"], ["boat"], {"face": ["face"]})
