"""Metric presets: what they state, and that scores are formed so."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import correlation
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from brainkit.errors import InputError, QuantityError, UnknownNameError
from brainkit.evaluation import retrieval
from brainkit.evaluation.caption_scores import CAPTION_SETTINGS
from brainkit.evaluation.image_scores import SSIM_SETTINGS
from brainkit.evaluation.metrics import METRICS, metric_of
from brainkit.evaluation.preset_scores import comparison, resized
from brainkit.evaluation.presets import PRESETS, Judge, Preset, Resize, get_preset

# A preset never changes: another way to score is another preset, with another id.
HASHES = {
    "mindeye2": "04715bed90f6910a",
    "mindeye1": "870591fd8947b047",
    "braindiffuser": "f3f71f1c4b674afc",
    "brainhub": "f1cfa52ba1caf1ae",
    "things_eeg2": "d65cd01e6860f020",
    "low_level": "d87f7205edf169e9",
    "tiny": "b6f0abe05e8a7744",
}
SSIM = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}


@pytest.fixture
def pairs():
    """Six smooth images and worse versions of them, of 8 bits, 40 by 40."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (6, 5, 5, 3), dtype=np.uint8)
    images = np.stack(
        [
            np.asarray(Image.fromarray(one).resize((40, 40), Image.Resampling.BICUBIC))
            for one in coarse
        ]
    )
    noise = generator.normal(scale=40, size=images.shape)
    return images, np.clip(images + noise, 0, 255).astype(np.uint8)


class Watched:
    """A network that projects what it sees, and keeps it."""

    def __init__(self):
        self.seen = []

    def __call__(self, images, layers):
        self.seen.append((images, tuple(layers)))
        coarse = images[:, :, ::16, ::16].reshape(len(images), -1).astype(float)
        return {
            layer: np.tanh(
                coarse @ np.random.default_rng(len(layer)).normal(size=(coarse.shape[1], 30)) / 9
            )
            for layer in layers
        }


def watched(preset):
    return {name: Watched() for name in preset.networks}


# -- what is stated --------------------------------------------------------------------------------


def test_the_presets_are_these():
    assert list(PRESETS) == [
        "mindeye2", "mindeye1", "braindiffuser", "brainhub", "things_eeg2", "low_level", "tiny"
    ]  # fmt: skip
    assert {name: preset.hash[:16] for name, preset in PRESETS.items()} == HASHES


def test_the_hash_is_that_of_the_canonical_json():
    preset = PRESETS["low_level"]
    content = dataclasses.asdict(preset) | {"ssim": SSIM_SETTINGS, "text": CAPTION_SETTINGS}
    del content["source"]  # words about it change nothing
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert preset.hash == hashlib.sha256(text.encode()).hexdigest()
    assert preset.name == f"low_level@{preset.hash[:12]}"


def test_a_preset_is_frozen_and_every_detail_counts():
    preset = PRESETS["mindeye2"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset.n_test = 300
    pixels = preset.images[0]
    for change in ({"side": 424}, {"filter": "bicubic"}, {"antialias": True}):
        other = dataclasses.replace(pixels, resize=dataclasses.replace(pixels.resize, **change))
        changed = dataclasses.replace(preset, images=(other, *preset.images[1:]))
        assert changed.hash != preset.hash
    assert hash(preset) == hash(PRESETS["mindeye2"])


def test_the_medarc_protocol():
    preset = PRESETS["mindeye2"]
    assert (preset.n_test, preset.first_resize) == (1000, Resize(256))
    stated = {
        one.column: (one.judge.network, one.judge.weights, one.judge.layer, one.judge.resize.side)
        for one in preset.images
        if one.judge is not None
    }
    assert stated == {
        "AlexNet(2)": ("alexnet", "IMAGENET1K_V1", "features.4", 256),
        "AlexNet(5)": ("alexnet", "IMAGENET1K_V1", "features.11", 256),
        "Inception": ("inception_v3", "IMAGENET1K_V1", "avgpool", 342),
        "CLIP": ("clip_vit_l_14", "openai", "embedding", 224),
        "EffNet-B": ("efficientnet_b1", "IMAGENET1K_V2", "avgpool", 255),
        "SwAV": ("swav_resnet50", "swav_800ep", "avgpool", 224),
    }
    assert all(
        one.judge.resize == Resize(one.judge.resize.side, "bilinear", antialias=False)
        for one in preset.images
        if one.judge is not None
    )
    assert [one.variant for one in preset.images if one.kind == "ssim"] == ["gaussian-2d"]
    directions = {one.direction for one in preset.images if one.kind == "identification"}
    assert directions == {"image_given_reconstruction"}
    drawn = [(one.direction, one.column, one.drawn, one.draws) for one in preset.retrieval]
    assert drawn == [("image_from_brain", "Brain", 300, 30), ("brain_from_image", "Image", 300, 30)]


def test_brain_diffuser_resizes_otherwise():
    preset = PRESETS["braindiffuser"]
    assert preset.first_resize is None
    sides = {one.judge.resize for one in preset.images if one.judge is not None}
    assert sides == {Resize(224, "bilinear", antialias=True, pixels="uint8")}
    assert preset.images[1].variant == "gaussian-columns"
    # torchvision's builders took weights=True for their first weights.
    weights = {one.judge.network: one.judge.weights for one in preset.images if one.judge}
    assert weights["efficientnet_b1"] == "IMAGENET1K_V1"


def test_every_metric_is_registered_with_preset_and_direction():
    for preset in PRESETS.values():
        for name, score in preset.metrics.items():
            metric = metric_of(name)
            assert name.startswith(f"{preset.id}_")
            assert metric.preset == preset.name
            assert metric.direction == score.better
            assert metric.id in METRICS.builtin


def test_get_preset():
    assert get_preset("tiny") is PRESETS["tiny"]
    with pytest.raises(UnknownNameError, match="mindeye2"):
        get_preset("mindeye3")


def test_pillow_cannot_resize_without_antialiasing():
    with pytest.raises(InputError, match="antialias=True"):
        Resize(64, "bilinear", antialias=False, pixels="uint8")


# -- pixels ----------------------------------------------------------------------------------------


def by_torch(images, side):
    tensor = torch.from_numpy(images.astype(np.float32) / 255).permute(0, 3, 1, 2)
    options = {"mode": "bilinear", "align_corners": False}
    return torch.nn.functional.interpolate(tensor, (side, side), **options)


def test_mindeye_scores_pixels_of_tensors_resized_twice(pairs):
    images, made = pairs
    scores = PRESETS["low_level"].score(images, made, batch_size=4)
    sides = []
    for one in pairs:
        first = by_torch(one, 256)
        options = {"mode": "bilinear", "align_corners": False}
        second = torch.nn.functional.interpolate(first, (425, 425), **options)
        sides.append(second.permute(0, 2, 3, 1).numpy().astype(np.float64))
    r = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(*sides, strict=True)]
    found = scores.scores["low_level_pixel_correlation"]
    np.testing.assert_allclose(found.scores, r, atol=1e-6)
    assert found.estimate.value == pytest.approx(np.mean(r))
    similar = [
        structural_similarity(rgb2gray(a), rgb2gray(b), **SSIM) for a, b in zip(*sides, strict=True)
    ]
    np.testing.assert_allclose(
        scores.scores["low_level_ssim_gaussian-2d"].scores, similar, atol=1e-6
    )


def test_brain_diffuser_scores_pixels_of_pillow_and_columns(pairs):
    images, made = pairs
    preset = dataclasses.replace(
        PRESETS["braindiffuser"], images=PRESETS["braindiffuser"].images[:2]
    )
    scores = preset.score(images, made, any_number=True)
    sides = [
        [np.array(Image.fromarray(one).resize((425, 425))) / 255.0 for one in side]
        for side in pairs
    ]
    r = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(*sides, strict=True)]
    found = scores.scores["braindiffuser_pixel_correlation"].scores
    np.testing.assert_allclose(found, r, atol=1e-6)
    similar = [
        structural_similarity(rgb2gray(a), rgb2gray(b), channel_axis=-1, **SSIM)
        for a, b in zip(*sides, strict=True)
    ]
    found = scores.scores["braindiffuser_ssim_gaussian-columns"].scores
    np.testing.assert_allclose(found, similar, atol=1e-6)


def test_negative_correlations_stay_negative(pairs):
    images, _ = pairs
    scores = PRESETS["low_level"].score(images, 255 - images)
    np.testing.assert_allclose(scores.scores["low_level_pixel_correlation"].scores, -1, atol=1e-6)


def test_a_black_reconstruction_is_unrelated_and_stays_in_the_mean(pairs):
    images, made = pairs
    made = made.copy()
    made[2] = 0
    found = PRESETS["low_level"].score(images, made).scores["low_level_pixel_correlation"]
    assert found.scores[2] == 0
    assert found.estimate.n == 6
    assert found.estimate.value == pytest.approx(found.scores.mean())


def test_floats_and_bytes_are_the_same_images(pairs):
    images, made = pairs
    for name in ("low_level", "tiny"):
        preset = dataclasses.replace(PRESETS[name], images=PRESETS[name].images[:2])
        of_bytes = preset.score(images, made).values
        of_floats = preset.score(images / 255.0, (made / 255).astype(np.float32)).values
        assert of_bytes == pytest.approx(of_floats, abs=1e-6)


def test_resizing_with_and_without_antialiasing(pairs):
    images = pairs[0]
    plain, smooth = (resized(images, Resize(13, antialias=flag)) for flag in (False, True))
    np.testing.assert_allclose(plain, by_torch(images, 13).permute(0, 2, 3, 1).numpy(), atol=1e-6)
    assert np.abs(plain - smooth).max() > 0.01
    by_pillow = resized(images, Resize(13, "bicubic", True, "uint8"))
    expected = Image.fromarray(images[0]).resize((13, 13), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(by_pillow[0], np.asarray(expected) / 255, atol=1e-7)


# -- judges ----------------------------------------------------------------------------------------


def test_networks_see_what_the_protocol_says(pairs):
    images, made = pairs
    preset = PRESETS["mindeye2"]
    networks = watched(preset)
    preset.score(images, made, networks, any_number=True, batch_size=4)
    mean, std = ([[[m]] for m in three] for three in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    options = {"mode": "bilinear", "align_corners": False, "antialias": False}
    first = by_torch(images, 256)
    for network, side in (("inception_v3", 342), ("efficientnet_b1", 255), ("alexnet", 256)):
        seen = networks[network].seen
        assert [one.shape for one, _ in seen] == 2 * [(4, 3, side, side), (2, 3, side, side)]
        expected = torch.nn.functional.interpolate(first[:4], (side, side), **options)
        expected = (expected - torch.tensor(mean)) / torch.tensor(std)
        np.testing.assert_allclose(seen[0][0], expected.numpy(), atol=1e-5)
    # Both layers of AlexNet by one pass of each image.
    assert {layers for _, layers in networks["alexnet"].seen} == {("features.4", "features.11")}
    clip = networks["clip_vit_l_14"].seen[0][0]
    assert clip.shape[-1] == 224
    expected = torch.nn.functional.interpolate(first[:4], (224, 224), **options)[:, 0]
    np.testing.assert_allclose(clip[:, 0], (expected.numpy() - 0.48145466) / 0.26862954, atol=1e-5)


def test_identification_and_distances_are_those_of_the_published_code(pairs):
    images, made = pairs
    preset = PRESETS["mindeye2"]
    networks = watched(preset)
    scores = preset.score(images, made, networks, any_number=True)

    def features(network, layer):
        judge = networks[network]
        seen = [batch for batch, _ in judge.seen]
        return [judge(one, [layer])[layer] for one in seen[: len(seen)]][:2]

    for network, layer in (("alexnet", "features.4"), ("clip_vit_l_14", "embedding")):
        real, drawn = features(network, layer)
        r = np.corrcoef(real, drawn)[:6, 6:]  # rows images, columns reconstructions
        expected = (r < np.diag(r)).sum(axis=0) / 5
        name = f"mindeye2_identification_image_given_reconstruction[{network}_{layer}]"
        np.testing.assert_allclose(scores.scores[name].scores, expected)
    real, drawn = features("swav_resnet50", "avgpool")
    expected = [correlation(a, b) for a, b in zip(real, drawn, strict=True)]
    name = "mindeye2_correlation_distance[swav_resnet50_avgpool]"
    np.testing.assert_allclose(scores.scores[name].scores, expected, atol=1e-6)


def test_one_reconstruction_for_all_fails_by_ties(pairs):
    images, made = pairs
    preset = PRESETS["tiny"]
    same = np.repeat(made[:1], 6, axis=0)
    values = preset.score(images, same, watched(preset)).values
    # The reconstruction is given: it is nearest to one image, farthest from another.
    name = "tiny_identification_image_given_reconstruction[judge-a]"
    assert values[name] == pytest.approx(0.5)
    values = preset.score(np.repeat(images[:1], 6, axis=0), same, watched(preset)).values
    assert values[name] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"networks": None}, "mindeye2 judges by .* networks has no alexnet, inception_v3"),
        ({"any_number": False}, "defined on 1000 test images; 6 were given"),
        ({"images": np.zeros((5, 9, 9, 3))}, "6 reconstructions and 5 images"),
        ({"images": np.zeros((6, 9, 9))}, "expected RGB images"),
        ({"images": np.full((6, 9, 9, 3), 255.0)}, r"spans 255 to 255, expected \[0, 1\]"),
        ({"images": np.full((6, 9, 9, 3), np.nan)}, "leave no NaN"),
        ({"images": np.zeros((6, 9, 9, 3), int)}, "expected uint8, or floats"),
        ({"networks": "short"}, "gave 1 rows"),
    ],
)
def test_bad_images(pairs, change, message):
    preset = PRESETS["mindeye2"]
    arguments = {"images": pairs[0], "reconstructions": pairs[1], "networks": watched(preset)}
    arguments |= {"any_number": True} | change
    if change.get("networks") == "short":
        judge = Watched()
        first = lambda images, layers: {k: v[:1] for k, v in judge(images, layers).items()}  # noqa: E731
        arguments["networks"] = dict.fromkeys(preset.networks, first)
    with pytest.raises(InputError, match=message):
        preset.score(**arguments)


def test_a_preset_says_what_it_does_not_score(pairs):
    with pytest.raises(InputError, match="brainhub scores no reconstructions; it scores captions"):
        PRESETS["brainhub"].score(*pairs)
    with pytest.raises(InputError, match="scores no captions; it scores images, retrieval"):
        PRESETS["mindeye1"].score_captions({}, {})
    with pytest.raises(InputError, match="scores no retrieval"):
        PRESETS["tiny"].score_retrieval(np.eye(3), np.eye(3), "test-images")


# -- retrieval and captions ------------------------------------------------------------------------


def test_things_eeg2_names_its_galleries():
    generator = np.random.default_rng(0)
    gallery = generator.normal(size=(200, 20))
    brain = gallery + 2 * generator.normal(size=gallery.shape)
    preset = PRESETS["things_eeg2"]
    found = preset.score_retrieval(brain, gallery, "test-images")
    options = {"direction": "image_from_brain", "gallery_name": "test-images"}
    start = "things_eeg2_retrieval_image_from_brain_"
    five = retrieval(brain, gallery, k=5, **options)
    assert found.values == {
        f"{start}top1[test-images]": retrieval(brain, gallery, **options).value,
        f"{start}top5[test-images]": five.value,
        f"{start}median_rank[test-images]": five.median_rank,
    }
    centroids = preset.score_retrieval(brain, gallery, "class-centroids")
    assert not set(centroids.values) & set(found.values)
    entries = found.entries()
    assert entries[f"{start}top1[test-images]"]["chance"] == 1 / 200
    assert entries[f"{start}top5[test-images]"]["chance"] == 5 / 200
    assert entries[f"{start}median_rank[test-images]"]["direction"] == "lower"
    with pytest.raises(UnknownNameError, match="class-centroids"):
        preset.score_retrieval(brain, gallery, "centroids")
    with pytest.raises(InputError, match="200 test images; 150"):
        preset.score_retrieval(brain[:150], gallery[:150], "test-images")


def test_mindeye_draws_galleries_of_300():
    generator = np.random.default_rng(0)
    images = generator.normal(size=(1000, 12))
    brain = images + 1.5 * generator.normal(size=images.shape)
    found = PRESETS["mindeye2"].score_retrieval(brain, images, "test-images")
    whole = retrieval(brain, images, direction="image_from_brain", gallery_name="test-images").value
    name = "mindeye2_retrieval_image_from_brain_top1[test-images]"
    assert found.values[name] > whole + 0.02  # 300 candidates are easier than 1,000
    assert found.entries()[name]["chance"] == 1 / 300
    again = PRESETS["mindeye2"].score_retrieval(brain, images, "test-images")
    assert again.values == found.values
    other = PRESETS["mindeye2"].score_retrieval(brain, images, "test-images", seed=1)
    assert other.values[name] == pytest.approx(found.values[name], abs=0.03)
    with pytest.raises(InputError, match="no truth"):
        PRESETS["mindeye2"].score_retrieval(brain, images, "test-images", truth=np.arange(1000))


def test_captions_of_brainhub():
    captions = {"a": "a cat on a mat", "b": "two dogs run in the park"}
    references = {"a": ["a cat on a mat"], "b": ["two dogs run in the park", "dogs"]}
    found = PRESETS["brainhub"].score_captions(captions, references, any_number=True)
    assert found.values["brainhub_bleu_4"] == 1
    assert set(found.values) == set(PRESETS["brainhub"].metrics)
    with pytest.raises(InputError, match="982 test images; 2"):
        PRESETS["brainhub"].score_captions(captions, references)


# -- tables ----------------------------------------------------------------------------------------


def test_a_table_of_systems_knows_which_direction_is_better(pairs):
    images, made = pairs
    preset = PRESETS["tiny"]
    worse = np.roll(made, 1, axis=0)
    systems = {"good": preset.score(images, made, watched(preset))}
    systems["bad"] = preset.score(images, worse, watched(preset))
    table = comparison(systems)
    assert [row["metric"] for row in table] == list(preset.metrics)
    assert all(row["best"] == ["good"] for row in table)
    distance = next(row for row in table if "distance" in row["metric"])
    assert distance["better"] == "lower"
    assert distance["values"]["good"] < distance["values"]["bad"]
    for row in systems["good"].rows():
        assert row["low"] <= row["value"] <= row["high"]
        assert row["preset"] == preset.name


def test_entries_carry_nulls_of_the_same_preset_alone(pairs):
    images, made = pairs
    scores = PRESETS["low_level"].score(images, made)
    null = PRESETS["low_level"].score(images, np.roll(made, 1, axis=0))
    entry = scores.entries({"shuffled_brain": null})["low_level_pixel_correlation"]
    assert entry["preset"] == PRESETS["low_level"].name
    assert entry["nulls"]["shuffled_brain"] == null.values["low_level_pixel_correlation"]
    gap = entry["value"] - entry["nulls"]["shuffled_brain"]
    assert entry["above_nulls"]["shuffled_brain"]["value"] == pytest.approx(gap)
    tiny = dataclasses.replace(PRESETS["tiny"], images=PRESETS["tiny"].images[:2])
    with pytest.raises(QuantityError, match="low_level@"):
        scores.entries({"shuffled_brain": tiny.score(images, made)})


def test_judges_are_named_by_network_and_layer():
    judge = Judge("alexnet", "IMAGENET1K_V1", "features.4", Resize(256), (0, 0, 0), (1, 1, 1))
    assert judge.name == "alexnet_features.4"
    assert Preset("mine", "nobody").metrics == {}
