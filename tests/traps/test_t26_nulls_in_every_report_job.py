"""T26: reconstructions that a category, the training set or no brain at all explains.

Every job puts what needs no brain beside its result; a decoder of nothing but the category is
shown up by it.
"""

import importlib.util

import numpy as np
import pandas as pd
import pytest

from brainkit import Recording
from brainkit.data.stimuli import Stimuli
from brainkit.decoding import DecodingProtocol, RidgeDecoder, assess_decoder
from brainkit.encoding import EncodingProtocol, VoxelwiseRidge, assess_encoder
from brainkit.features import OrientedEnergy, PixelPCA
from brainkit.jobs.reconstruct import reconstruction_result
from brainkit.jobs.runner import person_report
from brainkit.reconstruction import (
    ReconstructionParts,
    ReconstructionProtocol,
    assess_reconstruction,
)
from brainkit.reporting import render_report
from brainkit.synthesis import RankingProtocol, assess_ranking

SIDE = 12
NULLS = {"shuffled_brain", "mean_image", "class_mean", "nearest_training_image", "no_brain"}


def recorded(kind, n=300, seed=0):
    """Voxels that follow the pixels, or the category alone; three categories of images."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(3, size=n)
    prototypes = rng.uniform(0.2, 0.8, size=(3, 4, 4))
    own = rng.uniform(-0.2, 0.2, size=(n, 4, 4))
    images = (prototypes[classes] + own).repeat(3, axis=1).repeat(3, axis=2)
    source = images.reshape(n, -1) if kind == "pixels" else np.eye(3)[classes]
    signal = source @ rng.normal(size=(source.shape[1], 60))
    values = signal / signal.std(axis=0) + 0.3 * rng.normal(size=(n, 60))
    trials = pd.DataFrame({"stimulus": np.arange(n), "shared": np.arange(n) >= 240, "session": 1})
    names = np.array(["face", "place", "word"])[classes]
    captions = [f"a {name} number {row}" for row, name in enumerate(names)]
    table = pd.DataFrame({"category": names, "caption": captions})
    return Recording.from_arrays(
        values,
        trials=trials,
        units=pd.DataFrame({"roi.V1": np.ones(60, bool)}),
        stimuli=Stimuli(images.astype(np.float32), table=table),
    )


def decoded(kind, **settings):
    return assess_decoder(
        recorded(kind), PixelPCA(15), RidgeDecoder(), DecodingProtocol("nsd-shared1000", **settings)
    )


@pytest.mark.parametrize("back", ["inverse", "bank"])
def test_every_decoding_metric_carries_every_null_with_its_paired_interval(back):
    result = decoded("pixels", back=back)
    assert len(result.metrics) == 4
    for name, metric in result.metrics.items():
        # Of equal images none can be identified, so this one null has no such score.
        expected = NULLS - {"mean_image"} if name.startswith("identification") else NULLS
        assert metric["nulls"].keys() == metric["above_nulls"].keys() == expected
        for null in expected:
            assert np.isfinite(metric["nulls"][null])
            assert np.isfinite(metric["above_nulls"][null]["ci"]).all()
    assert result.images.keys() == {"shown", "reconstruction", *NULLS}


def test_a_decoder_of_pixels_is_above_the_class_mean_and_one_of_categories_is_not():
    pixels, category = decoded("pixels"), decoded("category")
    gap = pixels.metrics["pixel_correlation"]["above_nulls"]["class_mean"]
    assert gap["ci"][0] > 0.1
    impostor = category.metrics["pixel_correlation"]
    # It looks well beside the mean image, and its secret is out beside the class mean.
    assert impostor["above_nulls"]["mean_image"]["ci"][0] > 0.05
    assert impostor["above_nulls"]["shuffled_brain"]["ci"][0] > 0.05
    assert impostor["above_nulls"]["class_mean"]["value"] < 0.01
    assert impostor["above_nulls"]["class_mean"]["ci"][0] < 0


def test_every_encoding_metric_of_prediction_carries_shuffled_features():
    protocol = EncodingProtocol(
        "nsd-shared1000", ceiling=None, permutations=19, shuffles=2, average_repeats=False
    )
    result = assess_encoder(recorded("pixels"), PixelPCA(15), VoxelwiseRidge(), protocol)
    for metric in ("encoding_r", "encoding_r2", "encoding_units_r_above_0.3"):
        null = result.metrics[metric]["nulls"]["shuffled_features"]
        assert null < result.metrics[metric]["value"] - 0.3
    assert "shuffled r" in result.units
    assert "shuffled r" in result.regions


def test_every_ranking_carries_random_stimuli():
    energy = OrientedEnergy(side=12, frequencies=(2.0, 4.0))
    result = assess_ranking(
        recorded("pixels"), (PixelPCA(15), VoxelwiseRidge()), (energy, VoxelwiseRidge()),
        RankingProtocol("nsd-shared1000", bank="test", n=5, average_repeats=False),
    )  # fmt: skip
    for metric in result.metrics.values():
        assert metric["nulls"].keys() == {"random_stimuli"}
        assert metric["nulls"]["random_stimuli"] == pytest.approx(50, abs=1)
    assert "random percentile" in result.regions


@pytest.fixture(scope="module")
def parts(repository, tmp_path_factory):
    """A generator, a captioner and a judge: real classes at tiny sizes, with random weights."""
    from brainkit.generators import Generator

    built = {}
    for name in ("conftest", "test_captioner"):
        path = repository / "tests" / "generators" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"trap_builders_{name}", path)
        built[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(built[name])
    folder = tmp_path_factory.mktemp("pipeline") / "unclip"
    built["conftest"].unclip_pipeline(24, text_length=256).save_pretrained(folder)
    return ReconstructionParts(
        Generator.from_pretrained(folder, device="cpu"),
        {"energy": OrientedEnergy(side=12, frequencies=(2.0, 4.0))},
        captioner=built["test_captioner"].build(embedding_width=24),
    )


def page_of(result):
    report = person_report("s1", result.recording, {"x": reconstruction_result(result)})
    return render_report({"s1": report}, title="T", manifest={}, metrics={})


def test_every_reconstruction_and_its_report_carry_what_needs_no_brain(parts):
    protocol = ReconstructionProtocol("nsd-shared1000", n_images=6, steps=1, max_new_tokens=4)
    result = assess_reconstruction(recorded("pixels"), protocol, parts)
    drawn = {
        "shuffled_brain", "mean_image", "mean_embedding", "class_mean", "nearest_training_image",
        "caption_prior", "no_brain",
    }  # fmt: skip
    said = {"shuffled_brain", "mean_embedding", "caption_prior", "typical_caption", "no_brain"}
    assert drawn < result.images.keys()
    assert said < result.captions.keys()
    for name, metric in result.metrics.items():
        expected = drawn
        if name.startswith("retrieval"):
            expected = {"shuffled_brain"}
        elif name.startswith("caption"):
            expected = said
        elif name.startswith("identification"):
            expected = drawn - {"mean_image"}  # which is one for all items
        assert metric["nulls"].keys() == metric["above_nulls"].keys() == expected, name
        for null in expected:
            assert np.isfinite(metric["above_nulls"][null]["ci"]).all()
    page = page_of(result)
    for kind in drawn | said:
        assert f">{kind.replace('_', ' ')}" in page
    assert "Nulls are missing." not in page


def test_a_report_without_the_caption_prior_says_so(parts):
    recording = recorded("pixels")
    bare = Recording.from_arrays(
        recording.responses.read(), trials=recording.trials, stimuli=recording.stimuli.read()
    )
    protocol = ReconstructionProtocol("nsd-shared1000", n_images=6, steps=1, max_new_tokens=4)
    result = assess_reconstruction(bare, protocol, parts)
    page = page_of(result)
    assert "Nulls are missing." in page
    for what in ("the caption prior", "the class mean", "any score of the sentences"):
        assert what in page
