"""The comparison of encoders: where objects are, what attention on them counts, what is fitted."""

import numpy as np
import pandas as pd
import pytest
from compare_encoders import COUNTER, jobs, place
from compare_encoders_digits import ENCODERS as ON_DIGITS
from compare_encoders_digits import page, recipe_of
from encoder_comparison.encoders import ENCODERS, N_TRAIN, applies, scaled
from encoder_comparison.localisation import SIDE, localisation, object_mask
from encoder_comparison.world import CATEGORY, Subject

from brainkit.recipes.building import build_features, build_model


def subject(n_images=6):
    """One voxel a face region; each image shows a face, further right in each, beside food."""
    rows = [
        {"image": image, "category": category, "x": x, "y": 0.5, "size": 0.25}
        for image in range(n_images)
        for category, x in (("face", 0.125 + 0.125 * image), ("food", 0.875))
    ]
    empty = np.zeros((N_TRAIN + n_images, SIDE * SIDE, 1), dtype=np.float32)
    return Subject(
        train=np.zeros((2, 1), dtype=np.float32),
        test=np.zeros((n_images, 1), dtype=np.float32),
        features={"blocks.4": empty},
        units=pd.DataFrame({"group": ["faces"], "roi": ["OFA"]}),
        objects=pd.DataFrame(rows),
    )


class Looking:
    """A model that puts all attention on the face."""

    region_names_ = ("OFA",)
    global_tokens = 0

    def __init__(self, given):
        self.masks = [
            object_mask(*given.objects.loc[2 * image, ["x", "y", "size"]].astype(float))
            for image in range(len(given.test))
        ]

    def attention(self, tokens):
        return np.stack([mask / mask.sum() for mask in self.masks])[:, None]


def test_an_object_covers_the_tokens_whose_centres_are_in_its_square():
    mask = object_mask(0.25, 0.5, 0.25).reshape(SIDE, SIDE)
    rows, columns = np.nonzero(mask)
    assert (set(rows), set(columns)) == ({3, 4}, {1, 2})


def test_attention_on_the_object_is_told_from_that_of_other_images():
    given = subject()
    found = localisation(given, Looking(given))
    assert set(found) == {"faces"}
    face = found["faces"]
    assert face["images"] == 6
    assert face["attention_on_object"] == pytest.approx(1)
    assert face["area"] == pytest.approx(4 / 64)
    assert face["chance"] < 1
    assert face["difference"] == pytest.approx(1 - face["chance"])


def test_spaces_are_centred_and_of_total_variance_one_over_the_training_images():
    given = subject()
    rng = np.random.default_rng(0)
    given.features["energy"] = rng.normal(3, 2, (N_TRAIN + 6, 5)).astype(np.float32)
    train, test = scaled(given, "energy", 50)
    assert train.shape == (50, 5)
    assert test.shape == (6, 5)
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-5)
    assert float((train**2).sum() / 50) == pytest.approx(1, rel=1e-5)


def test_every_fit_has_a_file_of_its_own(tmp_path):
    found = jobs([1, 2], [100, 1600])
    assert len({place(tmp_path, job) for job in found}) == len(found) == len(set(found))
    assert not any(name == "in-context" and n == 1600 for _, _, name, n in found)
    assert {name for names in COUNTER.values() for name in names} <= set(ENCODERS)
    assert applies("in-context", 100)
    assert set(CATEGORY.values()) == {"face", "body", "place", "word", "food"}


@pytest.mark.parametrize("name", sorted(ON_DIGITS))
def test_every_encoder_of_the_digits_has_a_recipe_that_builds(name):
    recipe = recipe_of(name, slow=7)
    assert recipe.protocol.permutations in {7, 99}
    build_features(recipe.features)
    assert hasattr(build_model(recipe.model), "fit")


def test_the_digits_page_marks_the_best_of_each_region():
    rows = {
        "one": {"r": {"V1": 0.2, "V2": 0.1}, "p": {"V1": 0.01, "V2": 0.5}, "cpu_seconds": 3},
        "two": {"r": {"V1": 0.1, "V2": 0.3}, "p": {"V1": None, "V2": 0.02}, "cpu_seconds": 4},
    }
    text = page(rows)
    assert "| one | **0.200** (0.01) | 0.100 (0.5) | 3 |" in text
    assert "| two | 0.100 (–) | **0.300** (0.02) | 4 |" in text
