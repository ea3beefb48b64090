"""What a prior explains is seen beside the reconstructions that it explains (T26)."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from brainkit.data.stimuli import Stimuli
from brainkit.features import OrientedEnergy
from brainkit.reconstruction import (
    EmbeddingDecoder,
    ReconstructionParts,
    ReconstructionProtocol,
    assess_reconstruction,
)
from brainkit.reconstruction.nulls import (
    Condition,
    Training,
    caption_nulls,
    joined,
    mean_conditions,
    nearest_training,
)

ENERGY = OrientedEnergy(side=32, frequencies=(2.0, 4.0))
NOTHING = np.zeros((5, 4, 4), np.uint8)


def test_a_brain_that_knows_the_class_alone_is_no_better_than_the_class(
    make_recording, scenes, embeddings, generator
):
    """T26: what it reconstructs is the class mean's picture, and scores as that does."""
    classes = scenes.table["category"].to_numpy()
    train = np.arange(len(classes)) < 70
    means = {name: embeddings[train & (classes == name)].mean(axis=0) for name in set(classes)}
    recording = make_recording(seen=np.stack([means[name] for name in classes]))
    parts = ReconstructionParts(
        generator, {"energy": ENERGY}, embedding_model=EmbeddingDecoder([10.0, 1000.0], spread=None)
    )
    protocol = ReconstructionProtocol("nsd-shared1000", n_images=20, steps=2, guidance=2.0)
    result = assess_reconstruction(recording, protocol, parts)
    rows = result.items["stimulus"].to_numpy()
    decoded, mean = result.embeddings["reconstruction"], embeddings[train].mean(axis=0)
    known = np.stack([means[classes[row]] for row in rows])
    known *= np.linalg.norm(decoded, axis=1).mean() / np.linalg.norm(known, axis=1, keepdims=True)
    assert np.abs(decoded - known).mean() < 0.5 * np.abs(known - mean).mean()
    for metric in result.metrics.values():
        if "class_mean" in metric["nulls"]:
            assert metric["value"] == pytest.approx(metric["nulls"]["class_mean"], abs=0.06)
    # One image of several of a class cannot be found by its class.
    assert result.metrics["retrieval_image_from_brain_top1"]["value"] < 0.6


@pytest.fixture
def training():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"category": list("aabbb"), "caption": [f"picture {n}" for n in range(5)]})
    rows = np.array([0, 2, 3, 1])
    return Training(
        Stimuli(NOTHING, table=table),
        rows,
        rng.normal(size=(4, 6)) + 2,
        rng.normal(size=(4, 2, 3, 3)),
    )


def test_means_are_those_of_the_class_and_as_long_as_embeddings_are(training):
    made = mean_conditions(training, np.array(["b", "never seen", "a"]), 3)
    assert list(made) == ["mean_embedding", "class_mean"]
    length = np.linalg.norm(training.embeddings, axis=1).mean()
    for row, members in enumerate([[1, 2], [0, 1, 2, 3], [0, 3]]):
        mean = training.embeddings[members].mean(axis=0)
        np.testing.assert_allclose(
            made["class_mean"].image_embeds[row], mean * length / np.linalg.norm(mean), rtol=1e-5
        )
        np.testing.assert_allclose(
            made["class_mean"].init_latents[row], training.latents[members].mean(axis=0), rtol=1e-4
        )
        np.testing.assert_array_equal(
            made["mean_embedding"].image_embeds[row], made["class_mean"].image_embeds[1]
        )
    assert list(mean_conditions(training, None, 3)) == ["mean_embedding"]
    unknown = replace(training, stimuli=Stimuli(NOTHING))
    assert list(mean_conditions(unknown, np.array(["b"]), 1)) == ["mean_embedding"]


def test_sentences_come_from_training_captions(training):
    made = caption_nulls(training, np.array([3, 0, 0]), np.random.default_rng(0))
    assert made["caption_prior"] == ["picture 3", "picture 0", "picture 0"]
    distance = np.linalg.norm(training.embeddings - training.embeddings.mean(axis=0), axis=1)
    assert made["typical_caption"] == [f"picture {training.rows[np.argmin(distance)]}"] * 3
    many = caption_nulls(training, np.zeros(200, int), np.random.default_rng(0))
    assert set(many["no_brain"]) == {f"picture {row}" for row in training.rows}
    table = training.stimuli.table.copy()
    table.loc[2, "caption"] = None
    lacking = replace(training, stimuli=Stimuli(NOTHING, table=table))
    assert caption_nulls(lacking, np.array([3]), np.random.default_rng(0)) == {}


def test_the_nearest_is_found_by_direction(training):
    X = np.random.default_rng(1).normal(size=(4, 3))
    decoder = EmbeddingDecoder([1.0], cv=2).fit(X, training.embeddings)
    order = [2, 0, 3, 1]
    decoded = 0.3 * decoder.standardise(training.embeddings)[order]
    np.testing.assert_array_equal(
        nearest_training(training, decoder, decoded), training.rows[order]
    )


def test_conditions_are_cut_and_joined():
    whole = Condition(np.arange(6.0).reshape(3, 2), None, ["a", "b", "c"])
    again = joined([whole.part(np.array([0])), whole.part(np.array([2, 1]))])
    np.testing.assert_array_equal(again.image_embeds, [[0, 1], [4, 5], [2, 3]])
    assert again.text == ["a", "c", "b"]
    assert again.init_latents is None
    assert joined([Condition(), Condition()]) == Condition()
