"""The comparison of encoders: where objects are, what attention on them counts, what is fitted."""

import numpy as np
import pandas as pd
import pytest
from compare_encoders import COUNTER, jobs, main, place
from compare_encoders_digits import ENCODERS as ON_DIGITS
from compare_encoders_digits import page, recipe_of
from encoder_comparison.encoders import (
    ENCODERS,
    LIKE_ROUTING,
    N_SEEDS,
    N_TRAIN,
    add_network,
    applies,
    patches_and_class,
    scaled,
)
from encoder_comparison.localisation import SIDE, localisation, object_mask
from encoder_comparison.table import write_table
from encoder_comparison.world import (
    CATEGORY,
    GROUPS,
    REPEATS,
    WORLDS,
    Subject,
    load_subject,
    world_name,
)

from brainkit.encoding.in_context import InContextEncoder
from brainkit.encoding.readouts import FactorizedReadout
from brainkit.evaluation import pearson_r
from brainkit.recipes.specs import build_features, build_model


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
    assert {world for _, world, *_ in found} == set(WORLDS)
    only = jobs([1], [100], [2])
    assert {world for _, world, *_ in only} == {name for name in WORLDS if "brain 2" in name}
    assert not any(name.startswith("in-context") and n == 1600 for _, _, name, n in found)
    assert {name for names in COUNTER.values() for name in names} <= set(ENCODERS)
    assert applies("in-context", 100)
    assert set(CATEGORY.values()) == {"face", "body", "place", "word", "food"}


@pytest.fixture(scope="module")
def tokens():
    """A subject of few images whose tokens are small, and of regions of its own."""
    rng = np.random.default_rng(0)
    n = N_TRAIN + 20
    drive = rng.normal(size=(n, 16)).astype(np.float32)
    responses = drive @ rng.normal(size=(16, 6)) + 0.3 * rng.normal(size=(n, 6))
    return Subject(
        train=responses[:N_TRAIN].astype(np.float32),
        test=responses[N_TRAIN:].astype(np.float32),
        features={
            "blocks.4": rng.normal(size=(n, 4, 16)).astype(np.float32),
            "class": drive,  # the class token alone knows
            "embedding": drive,
        },
        units=pd.DataFrame({"group": ["faces"] * 6, "roi": ["OFA"] * 3 + ["FFA-1"] * 3}),
        objects=pd.DataFrame(),
    )


def mean_r(subject, predicted):
    return float(np.mean(np.asarray(pearson_r(subject.test, predicted))))


@pytest.mark.parametrize("name", [*LIKE_ROUTING, "routing, one training"])
def test_rivals_of_routing_read_the_class_token(tokens, name):
    predicted, model = ENCODERS[name](tokens, 400)
    assert predicted.shape == tokens.test.shape
    assert mean_r(tokens, predicted) > 0.5
    assert getattr(model, "global_tokens", 1) == 1


def test_without_the_class_token_nothing_is_known(tokens):
    for name in ("ridge, tokens", "factorized readout"):
        assert abs(mean_r(tokens, ENCODERS[name](tokens, 200)[0])) < 0.25


def test_readouts_are_trained_as_often_as_routing(tokens):
    values = patches_and_class(tokens)
    assert values.shape[1:] == (4, 32)
    np.testing.assert_array_equal(values[3, 2, 16:], tokens.features["class"][3])
    np.testing.assert_array_equal(values[3, 2, :16], tokens.features["blocks.4"][3, 2])
    seeds = [
        FactorizedReadout(seed=seed, progress=False)
        .fit(values[:60], tokens.train[:60])
        .predict(values[N_TRAIN:])
        for seed in range(N_SEEDS)
    ]
    predicted, _ = ENCODERS["factorized readout, as routing"](tokens, 60)
    np.testing.assert_allclose(predicted, np.mean(seeds, axis=0), rtol=1e-5)
    assert not np.allclose(seeds[0], seeds[1])
    _, twin = ENCODERS["routing, static twin, as routing"](tokens, 60)
    _, whole = ENCODERS["routing"](tokens, 60)
    same = {name: value for name, value in whole.get_params().items() if name != "content"}
    assert {name: twin.get_params()[name] for name in same} == same
    assert (whole.content, twin.content) == (True, False)
    assert len(whole.members_) == len(twin.members_) == N_SEEDS


def test_a_further_network_is_a_row(tokens, tmp_path):
    images = tokens.features["embedding"]
    network = InContextEncoder(None, width=8, layers=1, heads=2, hidden=8)
    folder = network.pretrain(images[:100], steps=2).save_pretrained(tmp_path / "network")
    name = add_network("brain 2", str(folder))
    try:
        assert name == "in-context, brain 2"
        assert not applies(name, 1600)
        found, _ = ENCODERS[name](tokens, 30)
        own = InContextEncoder(str(folder)).fit(images[:30], tokens.train[:30])
        np.testing.assert_array_equal(found, own.predict(images[N_TRAIN:]))
        assert (1, "brain 1", name, 100) in jobs([1], [100])
    finally:
        del ENCODERS[name]


def test_worlds_are_versions_and_what_they_switch_off():
    assert WORLDS["brain 1"] == {"version": 1}
    assert WORLDS[world_name(2, "gate")] == {"version": 2, "gate": False}
    assert WORLDS["brain 2, shared tuning off"] == {"version": 2, "shared_tuning": False}
    assert len(WORLDS) == 6


def test_brains_and_counter_worlds_are_chosen_on_the_command_line(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("compare_encoders.fit", lambda folder, job: asked.append(job))
    command = ["compare_encoders.py", str(tmp_path), "--seeds", "5", "--sizes", "100"]
    for options, worlds in (
        ([], set(WORLDS)),
        (["--brain", "2"], {name for name in WORLDS if "brain 2" in name}),
        (["--brain", "2", "--counter", "gate"], {"brain 2, gate off"}),
        (
            ["--brain", "1", "--counter", "none", "tuning"],
            {"brain 1", "brain 1, shared tuning off"},
        ),
    ):
        asked.clear()
        monkeypatch.setattr("sys.argv", command + options)
        main()
        assert {world for _, world, *_ in asked} == worlds


@pytest.mark.slow
@pytest.mark.parametrize("name", ["brain 1", "brain 2, gate off"])
def test_a_subject_is_measured_as_its_world_says(tmp_path, monkeypatch, name):
    """Three trials of each image, z-scored by session; noise is what is left of the response."""
    monkeypatch.setattr("encoder_comparison.world.N_TRAIN", 180)
    monkeypatch.setattr("encoder_comparison.world.N_TEST", 20)
    monkeypatch.setattr("encoder_comparison.world.SESSIONS", 2)
    monkeypatch.setattr("encoder_comparison.world._extract", lambda path, seed: None)
    (tmp_path / "features-3").mkdir()
    for part in ("blocks.0", "blocks.2", "blocks.4", "embedding", "class", "energy"):
        np.save(tmp_path / f"features-3/{part}.npy", np.zeros((200, 1), np.float32))
    given = load_subject(tmp_path, 3, name)
    again = load_subject(tmp_path, 3, name)
    np.testing.assert_array_equal(given.train, again.train)
    assert given.train.shape[0] == 180
    assert given.test.shape[0] == 20
    assert set(given.units["group"]) == set(GROUPS)
    np.testing.assert_allclose(given.train.mean(axis=0), 0, atol=0.02)
    # The variance of a mean of three: signal and a third of the noise.
    ceiling_1 = 1 / (1 + 3 * (1 / given.units["ceiling_3"] - 1))
    expected = ceiling_1 + (1 - ceiling_1) / REPEATS
    assert np.median(given.train.var(axis=0) / expected) == pytest.approx(1, abs=0.15)


def test_the_page_shows_every_brain_and_its_counter_worlds(tmp_path, monkeypatch):
    units = pd.DataFrame({"group": list(GROUPS), "roi": [rois[0] for rois in GROUPS.values()]})
    rng = np.random.default_rng(0)
    test = rng.normal(size=(40, len(units))).astype(np.float32)
    person = Subject(test, test, {}, units, pd.DataFrame())
    monkeypatch.setattr("encoder_comparison.table.load_subject", lambda *given: person)
    places = {}
    for world in ("brain 1", "brain 2", "brain 2, shared tuning off"):
        for name, noise in (("ridge, embedding", 2.0), ("in-context", 1.0)):
            job = (5, world, name, 100)
            places[job] = place(tmp_path, job)
            places[job].parent.mkdir(exist_ok=True)
            predicted = test + noise * rng.normal(size=test.shape).astype(np.float32)
            np.savez(places[job], predicted=predicted, r=np.full(len(units), 0.3),
                     extra='{"cpu_seconds": 1, "prf_error": {"V1": 0.5}}')  # fmt: skip
    write_table(tmp_path / "page.md", tmp_path, places)
    page = (tmp_path / "page.md").read_text()
    assert page.count("## Simulated brain") == 2
    assert "## Simulated brain 2, 100 training images" in page
    assert page.count("| in-context − ridge, embedding |") == 3
    assert "| brain 2, shared tuning off | 100 | category | +0." in page
    assert "| 2 | in-context | 5 | 100 | 0.50 |" in page


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
