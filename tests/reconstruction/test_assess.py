"""Whole reconstructions of painted scenes from a linear brain, through real tiny models."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin

from brainkit import Recording
from brainkit.arrays.atomic import plain
from brainkit.data.stimuli import Stimuli
from brainkit.errors import InputError
from brainkit.features import OrientedEnergy
from brainkit.features.model_layer import ModelLayer
from brainkit.reconstruction import (
    EmbeddingDecoder,
    ReconstructionParts,
    ReconstructionProtocol,
    assess_reconstruction,
    names_category,
    words_for,
)
from brainkit.reconstruction.drawing import item_seeds, to_size
from brainkit.reconstruction.embeddings import to_length
from brainkit.reconstruction.nulls import CAPTION_NULLS, IMAGE_NULLS
from brainkit.reconstruction.parts import GeneratorEmbedding, _network

N_TRAIN, N_TEST = 70, 20
ENERGY = OrientedEnergy(side=32, frequencies=(2.0, 4.0))
PROTOCOL = ReconstructionProtocol(
    "nsd-shared1000", n_images=8, steps=2, guidance=2.0, seed=3, max_new_tokens=8
)
DECODER = EmbeddingDecoder(alphas=[0.01, 1.0, 100.0])


@pytest.fixture(scope="module")
def parts(generator, captioners):
    return ReconstructionParts(
        generator, {"energy": ENERGY}, captioner=captioners.prefix, embedding_model=DECODER
    )


@pytest.fixture(scope="module")
def recording(make_recording):
    return make_recording()


@pytest.fixture(scope="module")
def result(recording, parts):
    return assess_reconstruction(recording, PROTOCOL, parts)


def drawn(generator, result, **condition):
    return generator.generate(
        seeds=result.items["seed"].tolist(), steps=2, guidance=2.0, **condition
    )


def test_decoded_embeddings_are_nearly_the_true_ones(result, embeddings, generator):
    rows = result.items["stimulus"].to_numpy()
    assert rows.tolist() == sorted(set(rows))
    assert set(rows) <= set(range(N_TRAIN, N_TRAIN + N_TEST))
    np.testing.assert_allclose(result.embeddings["true_embedding"], embeddings[rows], atol=1e-4)
    spread = embeddings.std(axis=0).mean()
    gap = result.embeddings["reconstruction"] - embeddings[rows]
    assert np.abs(gap).mean() < 0.3 * spread
    made = result.images
    near = np.abs(made["reconstruction"] - made["true_embedding"]).mean()
    assert near < 0.3 * np.abs(made["no_brain"] - made["true_embedding"]).mean()
    expected = drawn(generator, result, image_embeds=result.embeddings["reconstruction"])
    np.testing.assert_allclose(made["reconstruction"], expected, atol=1e-5)


def test_retrieval_finds_nearly_all_and_nothing_from_an_exchanged_brain(result):
    for name in ("retrieval_image_from_brain_top1", "retrieval_brain_from_image_top1"):
        metric = result.metrics[name]
        assert metric["value"] > 0.9
        assert metric["nulls"]["shuffled_brain"] < 0.3
        assert metric["chance"] == 1 / N_TEST
        assert metric["n"] == N_TEST
        assert metric["preset"] == (
            "cosine/standardised/1-of-20/others-of-the-fold/all-draws/ties-at-random"
        )
    assert result.retrieval_items["stimulus"].tolist() == list(range(70, 90))


def test_nulls_are_drawn_from_what_they_say(result, scenes, embeddings, generator):
    images, train = result.images, embeddings[:N_TRAIN]
    length = np.linalg.norm(train, axis=1).mean()
    mean = to_length(train.mean(axis=0, keepdims=True), length)
    np.testing.assert_allclose(
        images["mean_embedding"],
        drawn(generator, result, image_embeds=np.repeat(mean, 8, axis=0)),
        atol=1e-4,
    )
    classes = scenes.table["category"].to_numpy()
    rows = result.items["stimulus"].to_numpy()
    means = [train[classes[:N_TRAIN] == classes[row]].mean(axis=0) for row in rows]
    np.testing.assert_allclose(
        images["class_mean"],
        drawn(generator, result, image_embeds=to_length(np.stack(means), length)),
        atol=1e-4,
    )
    np.testing.assert_allclose(images["no_brain"], drawn(generator, result), atol=1e-5)
    np.testing.assert_allclose(
        images["caption_prior"],
        drawn(generator, result, text=result.captions["caption_prior"]),
        atol=1e-5,
    )
    np.testing.assert_allclose(images["shown"], to_size(scenes.read(rows), (32, 32)))
    known = to_size(scenes.read(np.arange(N_TRAIN)), (32, 32))
    for number, image in enumerate(images["nearest_training_image"]):
        at = np.flatnonzero((known == image).all(axis=(1, 2, 3)))
        assert len(at) == 1
        assert scenes.table["caption"][at[0]] == result.captions["caption_prior"][number]


def test_every_metric_of_images_has_every_null(result):
    """T26, for generators: what a class, a caption or the generator alone explains."""
    judged = [name for name in result.metrics if name.startswith("identification_")]
    assert {
        "identification_image_given_reconstruction_top1[energy]",
        "identification_reconstruction_given_image_top1[energy]",
        "identification_image_given_reconstruction",
        "identification_reconstruction_given_image",
    } == set(judged)
    for name in ("pixel_correlation", "ssim_gaussian-2d", *judged):
        metric = result.metrics[name]
        # The mean image is one for all items: nothing identifies it.
        nulls = set(IMAGE_NULLS) - ({"mean_image"} if name in judged else set())
        for field in ("nulls", "null_ci", "above_nulls"):
            assert set(metric[field]) == nulls, name
        assert set(metric["true_embedding"]) == {"value", "ci", "n"}
    naming = result.metrics["caption_names_category"]
    assert set(naming["nulls"]) == set(CAPTION_NULLS)


def test_metrics_sum_up_the_items(result):
    for name, metric in result.metrics.items():
        table = result.retrieval_items if name.startswith("retrieval") else result.items
        assert metric["value"] == pytest.approx(table[name].mean())
        low, high = metric["ci"]
        assert low <= metric["value"] <= high
        for null, value in metric["nulls"].items():
            assert value == pytest.approx(table[f"{name}/{null}"].mean())
            gap = metric["above_nulls"][null]
            assert gap["value"] == pytest.approx(metric["value"] - value)
            assert metric["null_ci"][null][0] <= value <= metric["null_ci"][null][1]
    judged = result.metrics["identification_image_given_reconstruction_top1[energy]"]
    assert judged["chance"] == 1 / 8
    assert judged["preset"] == "pearson/1-of-8/others-of-the-fold/all-draws/ties-at-random"
    json.dumps(plain(result.metrics), allow_nan=False)
    assert result.counts == {
        "units": 80,
        "constant_or_nan": 0,
        "images_tested": N_TEST,
        "images_drawn": 8,
    }


def test_sentences_are_the_captioners(result, parts, scenes):
    rows = result.items["stimulus"].to_numpy()
    captions = result.captions
    assert set(captions) == {"shown", "reconstruction", "true_embedding", *CAPTION_NULLS}
    assert captions["shown"] == scenes.table["caption"].iloc[rows].tolist()
    for kind in ("reconstruction", "true_embedding"):
        expected = parts.captioner.caption(image_embeds=result.embeddings[kind], max_new_tokens=8)
        assert captions[kind] == expected
    assert result.items["caption"].tolist() == captions["reconstruction"]
    training = set(scenes.table["caption"][:N_TRAIN])
    for kind in ("caption_prior", "typical_caption", "no_brain"):
        assert set(captions[kind]) <= training
    assert len(set(captions["typical_caption"])) == 1
    categories = scenes.table["category"].iloc[rows].tolist()
    naming = result.metrics["caption_names_category"]
    words = words_for(list(scenes.table["category"]), list(scenes.table["synonyms"]))
    for null in ("caption_prior", "no_brain", "typical_caption"):
        expected = names_category(captions[null], categories, words).mean()
        assert naming["nulls"][null] == pytest.approx(expected)


def test_an_image_depends_on_its_own_row_and_seed_only(recording, parts, result):
    more = assess_reconstruction(recording, replace(PROTOCOL, n_images=13), parts)
    where = np.searchsorted(more.items["stimulus"], result.items["stimulus"])
    assert more.items["stimulus"].to_numpy()[where].tolist() == result.items["stimulus"].tolist()
    for kind in ("reconstruction", "no_brain", "class_mean", "shuffled_brain"):
        np.testing.assert_allclose(more.images[kind][where], result.images[kind], atol=1e-5)
    assert [more.captions["reconstruction"][n] for n in where] == result.captions["reconstruction"]
    assert item_seeds([3, 9], 0) == item_seeds([9, 3], 0)[::-1]
    assert item_seeds([3], 0) != item_seeds([3], 1)


def test_test_images_never_reach_the_reconstruction(make_recording, scenes, parts, result):
    images = scenes.read()
    images[N_TRAIN:] = np.random.default_rng(9).integers(0, 256, images[N_TRAIN:].shape)
    table = scenes.table.copy()
    table.loc[N_TRAIN:, "caption"] = "a made-up caption"
    garbage = make_recording(stimuli=Stimuli(images, table=table))
    other = assess_reconstruction(garbage, PROTOCOL, parts)
    for kind in ("reconstruction", *IMAGE_NULLS):
        np.testing.assert_allclose(other.images[kind], result.images[kind], atol=1e-6)
    for kind in ("reconstruction", *CAPTION_NULLS):
        assert other.captions[kind] == result.captions[kind]


def test_drawing_starts_from_decoded_latents(recording, generator):
    latent = EmbeddingDecoder(alphas=[1.0], spread=None, renormalise=False)
    parts = ReconstructionParts(generator, {}, embedding_model=DECODER, latent_model=latent)
    kept = assess_reconstruction(recording, replace(PROTOCOL, strength=0.0), parts)
    assert kept.captions == {}
    np.testing.assert_allclose(kept.images["reconstruction"], kept.images["low_level"], atol=1e-5)
    assert "low_level" not in kept.metrics["pixel_correlation"]["nulls"]
    # The latents of nearly the same images, blurred: nearer to the shown than the mean's.
    scores = kept.metrics["pixel_correlation"]
    assert scores["value"] > scores["nulls"]["mean_embedding"]
    drawn_on = assess_reconstruction(recording, replace(PROTOCOL, strength=0.5), parts)
    np.testing.assert_array_equal(drawn_on.images["low_level"], kept.images["low_level"])
    assert np.abs(drawn_on.images["reconstruction"] - kept.images["reconstruction"]).mean() > 0.01
    assert drawn_on.fitted[1].coef_.shape == (4 * 8 * 8, 80)


def test_a_captioner_of_images_is_given_the_images(recording, parts, captioners, result):
    git = assess_reconstruction(recording, PROTOCOL, replace(parts, captioner=captioners.git))
    expected = captioners.git.caption(images=result.images["reconstruction"], max_new_tokens=8)
    assert git.captions["reconstruction"] == expected


def test_words_need_categories(generator):
    parts = ReconstructionParts(generator, {"energy": ENERGY})
    images = np.zeros((2, 4, 4), np.float32)
    captions = pd.DataFrame({"caption": ["a dog", "a cup"]})
    assert parts.words_of(Stimuli(images, table=captions)) == {}
    assert parts.words_of(Stimuli(images)) == {}


def test_folds_regions_and_unlabelled_stimuli(recording, generator, scenes):
    bare = Recording.from_arrays(
        recording.responses.read(),
        trials=recording.trials,
        units=recording.units,
        stimuli=Stimuli(scenes.read()),
    )
    parts = ReconstructionParts(generator, {"energy": ENERGY}, embedding_model=DECODER)
    protocol = replace(PROTOCOL, split="kfold:3", roi="V1")
    result = assess_reconstruction(bare, protocol, parts)
    assert result.retrieval_items["stimulus"].tolist() == list(range(90))
    assert result.counts["units"] == 60
    assert set(result.metrics["pixel_correlation"]["nulls"]) == {
        "shuffled_brain",
        "mean_image",
        "mean_embedding",
        "nearest_training_image",
        "no_brain",
    }
    assert result.metrics["retrieval_image_from_brain_top1"]["value"] > 0.7
    again = assess_reconstruction(bare, protocol, parts)
    for kind, values in result.images.items():
        np.testing.assert_array_equal(values, again.images[kind])


@pytest.mark.parametrize("average_repeats", [True, "test"])
def test_repeats_are_averaged_before_or_after_they_are_decoded(
    recording, generator, scenes, average_repeats
):
    """Of a linear decoder that is the same for what images are retrieved by."""
    rng = np.random.default_rng(2)
    values = recording.responses.read()
    repeats = [values + 0.5 * rng.normal(size=values.shape) for _ in range(3)]
    repeated = Recording.from_arrays(
        np.concatenate(repeats).astype(np.float32),
        trials=pd.concat([recording.trials] * 3, ignore_index=True),
        units=recording.units,
        stimuli=recording.stimuli,
    )
    embed = GeneratorEmbedding(generator)
    parts = ReconstructionParts(embed=embed, embedding_model=DECODER)
    before, after = (
        assess_reconstruction(
            repeated,
            replace(PROTOCOL, repeats=repeats_of, average_repeats=average_repeats),
            parts,
        )
        for repeats_of in ("voxels", "embeddings")
    )
    columns = list(before.retrieval_items.columns)
    pd.testing.assert_frame_equal(before.retrieval_items[columns], after.retrieval_items[columns])
    assert after.counts["images_tested"] == N_TEST
    a, b = (one.embeddings["reconstruction"] for one in (before, after))
    assert np.abs(a - b).max() > 1e-3  # they are brought to length trial by trial
    cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() > 0.98


class Flattened(TransformerMixin, BaseEstimator):
    """Pixels as embeddings: of another model, or of another width."""

    def __init__(self, width=24):
        self.width = width

    def transform(self, images):
        return np.asarray(images, np.float32).reshape(len(images), -1)[:, : self.width]


def test_bad_input_is_named(recording, parts):
    with pytest.raises(InputError, match=r"16 wide.*24 wide"):
        assess_reconstruction(recording, PROTOCOL, replace(parts, embed=Flattened(16)))
    with pytest.raises(InputError, match="come from another model"):
        assess_reconstruction(recording, PROTOCOL, replace(parts, embed=Flattened()))
    blind = Recording.from_arrays(recording.responses.read(), trials=recording.trials)
    with pytest.raises(InputError, match="needs image stimuli"):
        assess_reconstruction(blind, PROTOCOL, parts)
    with pytest.raises(InputError, match="average_repeats"):
        replace(PROTOCOL, average_repeats=False)
    with pytest.raises(InputError, match="strength is a share"):
        replace(PROTOCOL, strength=1.5)
    with pytest.raises(InputError, match="n_images must be at least 2"):
        replace(PROTOCOL, n_images=1)


class Turned(GeneratorEmbedding):
    """The generator's embeddings, longer and all about another point: still the same model's."""

    def transform(self, images):
        return 3 * super().transform(images)


def test_the_model_that_is_decoded_is_no_judge(recording, parts, generator):
    """T18, for reconstructions."""
    layer = ModelLayer("torchvision:squeezenet1_0/random@features.3")
    other_layer = ModelLayer("torchvision:squeezenet1_0/random@features.5")
    other_seed = ModelLayer("torchvision:squeezenet1_0/random:1@features.3")
    rows = np.arange(12)
    cases = [
        (replace(parts, judges={"ours": ENERGY, "own": GeneratorEmbedding(generator)}), True),
        (replace(parts, judges={"own": Turned(generator)}), True),
        (replace(parts, judges={"ours": other_seed}), False),
    ]
    for one, same in cases:
        if same:
            with pytest.raises(InputError, match="judge own is the model"):
                one.check_judges(recording.stimuli, rows)
        else:
            one.check_judges(recording.stimuli, rows)
    assert _network(layer) == _network(other_layer) != _network(other_seed)


def test_images_are_brought_to_a_size():
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (2, 16, 24), dtype=np.uint8)
    made = to_size(grey, (8, 8))
    assert made.shape == (2, 8, 8, 3)
    middle = grey[:, :, 4:20] / 255
    # Triangle filters of two pixels' width, away from the edges.
    weights = np.array([1, 3, 3, 1]) / 8
    expected = np.einsum("i,nij,j->n", weights, middle[:, 3:7, 5:9], weights)
    np.testing.assert_allclose(made[:, 2, 3, 0], expected, atol=1e-5)
    same = rng.uniform(size=(2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(to_size(same, (8, 8)), same)
    assert to_size(np.full((1, 9, 7, 3), 0.5), (12, 12)) == pytest.approx(0.5)


def test_sentences_need_no_generator(recording, captioners, generator, result):
    embed = GeneratorEmbedding(generator)
    parts = ReconstructionParts(embed=embed, captioner=captioners.prefix, embedding_model=DECODER)
    spoken = assess_reconstruction(recording, PROTOCOL, parts)
    assert set(spoken.images) == {"shown", "nearest_training_image", "mean_image"}
    assert spoken.captions == result.captions
    assert set(spoken.metrics) == {
        "caption_names_category",
        "retrieval_image_from_brain_top1",
        "retrieval_brain_from_image_top1",
    }
    for name, metric in spoken.metrics.items():
        assert metric["value"] == result.metrics[name]["value"]
    with pytest.raises(InputError, match="Without a generator"):
        ReconstructionParts(captioner=captioners.prefix)


def test_images_of_unknown_category_are_left_out_of_naming(make_recording, scenes, parts, result):
    table = scenes.table.copy()
    unknown = result.items["stimulus"].to_numpy()[[0, 5]]
    table.loc[unknown, "category"] = None
    partly = make_recording(stimuli=Stimuli(scenes.read(), table=table))
    other = assess_reconstruction(partly, PROTOCOL, parts)
    assert other.metrics["caption_names_category"]["n"] == 6
    kept = result.items["caption_names_category/no_brain"].drop([0, 5])
    assert other.metrics["caption_names_category"]["nulls"]["no_brain"] == kept.mean()
