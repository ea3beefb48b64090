"""The judgement of decoders on a linear brain that sees pixels."""

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from brainkit import Recording
from brainkit.data.preparing import prepare
from brainkit.data.stimuli import Stimuli
from brainkit.decoding import DecodingProtocol, RetrievalBank, RidgeDecoder, assess_decoder
from brainkit.decoding.image_decoding import fit_spaces, invert, reconstruct
from brainkit.errors import InputError
from brainkit.features import OrientedEnergy, PixelPCA

SIDE = 12
LANDMARKS = np.arange(5)


def pictures(n, seed=0, colour=False):
    """Blurred blobs, two classes: bright at the top or at the bottom."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    classes = rng.integers(2, size=n)
    images = np.zeros((n, SIDE, SIDE))
    for number in range(n):
        for _ in range(3):
            cx, cy = rng.uniform(0, SIDE), rng.uniform(0, SIDE / 2) + classes[number] * SIDE / 2
            images[number] += np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 6)
    images = np.clip(0.2 + 0.5 * images, 0, 1)
    if colour:
        images = images[..., None] * rng.uniform(0.3, 1, (n, 1, 1, 3))
    return (images * 255).astype(np.uint8), np.array(["top", "bottom"])[classes]


def seeing_brain(n_train=240, n_test=60, n_units=150, noise=0.5, seed=0, colour=False):
    """Voxels that are linear in pixels, two noisy trials an image; images of two classes."""
    rng = np.random.default_rng([seed, 1])
    n = n_train + n_test
    images, classes = pictures(n, seed, colour)
    flat = images.reshape(n, -1) / 255
    signal = (flat - flat.mean(axis=0)) @ rng.normal(size=(flat.shape[1], n_units))
    signal /= signal.std(axis=0)
    stimulus = rng.permutation(np.repeat(np.arange(n), 2))
    values = signal[stimulus] + noise * rng.normal(size=(2 * n, n_units))
    trials = pd.DataFrame(
        {"stimulus": stimulus, "session": np.arange(2 * n) % 2, "shared": stimulus >= n_train}
    )
    units = pd.DataFrame({"roi.V1": np.arange(n_units) < 100})
    stimuli = Stimuli(images, table=pd.DataFrame({"category": classes}))
    return Recording.from_arrays(values, trials=trials, units=units, stimuli=stimuli)


PROTOCOL = DecodingProtocol("nsd-shared1000")
NULLS = {"mean_image", "class_mean", "nearest_training_image", "no_brain", "shuffled_brain"}


@pytest.fixture(scope="module")
def recording():
    return seeing_brain()


@pytest.fixture(scope="module")
def result(recording):
    return assess_decoder(recording, PixelPCA(40), RidgeDecoder(), PROTOCOL)


def test_reconstructions_approach_the_images(result):
    assert result.metrics["pixel_correlation"]["value"] > 0.93
    assert result.metrics["identification_reconstruction_given_image"]["value"] > 0.99
    assert result.metrics["identification_image_given_reconstruction"]["value"] > 0.99
    assert result.metrics["ssim_gaussian-2d"]["value"] > 0.75
    noiseless = assess_decoder(
        seeing_brain(noise=0.0), PixelPCA(40), RidgeDecoder(alphas=[1e-3]), PROTOCOL
    )
    assert noiseless.metrics["pixel_correlation"]["value"] > 0.995


def test_reconstructions_are_above_every_null(result):
    for metric in result.metrics.values():
        for null, gap in metric["above_nulls"].items():
            assert gap["ci"][0] > 0, null
            assert gap["value"] == pytest.approx(metric["value"] - metric["nulls"][null])


def test_nulls_are_what_they_say(recording, result):
    images = recording.stimuli.read() / np.float32(255)
    classes = recording.stimuli.table["category"].to_numpy()
    train, test = np.arange(240), result.items["stimulus"].to_numpy()
    assert test.tolist() == list(range(240, 300))
    made = result.images
    assert made.keys() == {"shown", "reconstruction", *NULLS}
    np.testing.assert_allclose(made["shown"], images[test])
    np.testing.assert_allclose(
        made["mean_image"], np.broadcast_to(images[:240].mean(axis=0), (60, SIDE, SIDE)), atol=1e-5
    )
    for number, row in enumerate(test):
        mean = images[train[classes[train] == classes[row]]].mean(axis=0)
        np.testing.assert_allclose(made["class_mean"][number], mean, atol=1e-5)
    known = {image.tobytes() for image in images[:240]}
    for name in ("no_brain", "nearest_training_image"):
        assert all(image.tobytes() in known for image in made[name])
    assert len({image.tobytes() for image in made["no_brain"]}) > 30
    # The nearest training image is picked by the brain, so it is more like the image.
    null = result.metrics["pixel_correlation"]["nulls"]
    assert null["nearest_training_image"] > null["no_brain"] + 0.2
    assert null["class_mean"] > null["mean_image"] + 0.1


def test_shuffled_brain_knows_no_more_than_the_mean_image(result):
    metric = result.metrics["pixel_correlation"]
    assert metric["nulls"]["shuffled_brain"] == pytest.approx(
        metric["nulls"]["mean_image"], abs=0.05
    )
    for direction in ("reconstruction_given_image", "image_given_reconstruction"):
        nulls = result.metrics[f"identification_{direction}"]["nulls"]
        assert nulls["shuffled_brain"] == pytest.approx(0.5, abs=0.12)
        assert nulls["no_brain"] == pytest.approx(0.5, abs=0.12)


def test_equal_null_images_count_half(result):
    """Test images of one class have one class mean: neither found nor lost among themselves."""
    nulls = result.metrics["identification_reconstruction_given_image"]["nulls"]
    classes = result.recording.stimuli.table["category"].to_numpy()[240:]
    share = np.mean([(classes == name).sum() - 1 for name in classes]) / 59
    assert nulls["class_mean"] == pytest.approx(1 - share / 2, abs=0.03)


def test_bank_gives_back_training_images_only(recording):
    protocol = DecodingProtocol("nsd-shared1000", back="bank")
    result = assess_decoder(recording, PixelPCA(20), RidgeDecoder(), protocol)
    known = {image.tobytes() for image in recording.stimuli.read(np.arange(240)) / np.float32(255)}
    assert all(image.tobytes() in known for image in result.images["reconstruction"])
    np.testing.assert_array_equal(
        result.images["reconstruction"], result.images["nearest_training_image"]
    )
    metric = result.metrics["pixel_correlation"]
    assert metric["value"] > metric["nulls"]["no_brain"] + 0.2
    assert metric["nulls"].keys() == NULLS


def test_bank_needs_no_inverse(recording):
    energy = OrientedEnergy(side=12, frequencies=(2.0, 4.0))
    result = assess_decoder(
        recording, energy, RidgeDecoder(), DecodingProtocol("nsd-shared1000", back="bank")
    )
    assert result.metrics["pixel_correlation"]["value"] > 0.4
    with pytest.raises(InputError, match=r"OrientedEnergy has no inverse.*retrieval bank"):
        assess_decoder(recording, energy, RidgeDecoder(), PROTOCOL)


def test_test_images_never_enter_a_fit(recording):
    """Garbage for test images gives the same models, predictions and brainless nulls."""
    images = recording.stimuli.read()
    images[240:] = np.random.default_rng(9).integers(0, 256, images[240:].shape)
    garbage = Recording.from_arrays(
        recording.responses.read(),
        trials=recording.trials,
        stimuli=Stimuli(images, table=recording.stimuli.table),
    )
    runs = []
    for one in (recording, garbage):
        folds = [
            prepare(fold, zscore="session", average_repeats=True)
            for fold in one.split("nsd-shared1000")
        ]
        spaces = fit_spaces(one.stimuli, folds, PixelPCA(20))
        runs.append(reconstruct(one.stimuli, folds, spaces, RidgeDecoder(), "inverse", LANDMARKS))
    for name in runs[0].images:
        np.testing.assert_array_equal(runs[0].images[name], runs[1].images[name], err_msg=name)
    for part, names in enumerate((("mean_", "components_"), ("coef_", "intercept_", "alpha_"))):
        for name in names:
            np.testing.assert_array_equal(*(getattr(run.fitted[part], name) for run in runs))


def test_test_responses_never_enter_a_fit(recording):
    values = recording.responses.read()
    values[recording.trials["shared"]] = np.random.default_rng(0).normal(size=150)
    other = Recording.from_arrays(values, trials=recording.trials, stimuli=recording.stimuli)
    models = []
    for one in (recording, other):
        fold = prepare(one.split("nsd-shared1000").folds[0], zscore="session", average_repeats=True)
        spaces = fit_spaces(one.stimuli, [fold], PixelPCA(20))
        run = reconstruct(one.stimuli, [fold], spaces, RidgeDecoder(), "inverse", LANDMARKS)
        models.append(run.fitted[1])
    np.testing.assert_array_equal(models[0].coef_, models[1].coef_)


class Spy(RidgeDecoder):
    """Remembers what groups it was given."""

    given: ClassVar[list] = []

    def fit(self, X, y, groups=None, runs=None):
        type(self).given.append((np.asarray(y), np.asarray(groups)))
        return super().fit(X, y, groups=groups)


@pytest.mark.parametrize("split", ["nsd-shared1000", "kfold:3"])
def test_inner_folds_get_the_stimuli_as_groups(recording, split):
    small = recording.select(trials=np.flatnonzero(recording.trials["stimulus"] % 5 == 0))
    Spy.given.clear()
    assess_decoder(small, PixelPCA(5), Spy(), DecodingProtocol(split, average_repeats=False))
    assert Spy.given
    for Z, groups in Spy.given:  # in the shuffled run too: its targets still repeat
        for group in np.unique(groups):
            rows = Z[groups == group]
            assert len(rows) == 2
            np.testing.assert_array_equal(rows[0], rows[1])


def test_folds_hold_out_every_image_and_seeds_are_averaged(recording):
    small = recording.select(trials=np.flatnonzero(recording.trials["stimulus"] < 80))
    protocol = DecodingProtocol("kfold:5", seeds=(0, 3))
    result = assess_decoder(small, PixelPCA(15), RidgeDecoder(), protocol)
    assert result.items["stimulus"].tolist() == list(range(80))
    assert result.by_seed["seed"].tolist() == [0, 3]
    each = [
        assess_decoder(
            small, PixelPCA(15), RidgeDecoder(), DecodingProtocol("kfold:5", seeds=(seed,))
        )
        for seed in (0, 3)
    ]
    for column in ("pixel_correlation", "pixel_correlation/shuffled_brain"):
        expected = np.mean([one.items[column] for one in each], axis=0)
        np.testing.assert_allclose(result.items[column], expected)
        means = [one.items[column].mean() for one in each]
        np.testing.assert_allclose(result.by_seed[column], means)
    np.testing.assert_array_equal(result.images["reconstruction"], each[0].images["reconstruction"])
    assert result.metrics["pixel_correlation"]["value"] == pytest.approx(
        result.by_seed["pixel_correlation"].mean()
    )


def test_colour_images_regions_and_epochs():
    recording = seeing_brain(n_train=90, n_test=30, colour=True)
    result = assess_decoder(
        recording, PixelPCA(20), RidgeDecoder(), DecodingProtocol("nsd-shared1000", roi="V1")
    )
    assert result.images["reconstruction"].shape == (30, SIDE, SIDE, 3)
    assert result.counts == {"units": 100, "constant_or_nan": 0}
    assert result.metrics["pixel_correlation"]["value"] > 0.8
    assert result.images["reconstruction"].min() >= 0
    assert result.images["reconstruction"].max() <= 1
    values = recording.responses.read().reshape(240, 50, 3)
    epochs = Recording.from_arrays(values, trials=recording.trials, stimuli=recording.stimuli)
    result = assess_decoder(epochs, PixelPCA(20), RidgeDecoder(), PROTOCOL)
    assert result.counts["units"] == 150
    assert result.metrics["pixel_correlation"]["value"] > 0.8


def test_broken_voxels_are_left_out_and_counted(recording):
    values = recording.responses.read()
    broken = np.concatenate([values, np.ones((600, 1)), np.full((600, 1), np.nan)], axis=1)
    made = [
        assess_decoder(
            Recording.from_arrays(v, trials=recording.trials, stimuli=recording.stimuli),
            PixelPCA(20), RidgeDecoder(), PROTOCOL,
        )
        for v in (values, broken)
    ]  # fmt: skip
    assert made[1].counts == {"units": 152, "constant_or_nan": 2}
    np.testing.assert_allclose(
        made[0].images["reconstruction"], made[1].images["reconstruction"], atol=1e-5
    )


def test_without_categories_there_is_no_class_mean(recording):
    plain = Recording.from_arrays(
        recording.responses.read(), trials=recording.trials, stimuli=recording.stimuli.read()
    )
    result = assess_decoder(plain, PixelPCA(20), RidgeDecoder(), PROTOCOL)
    assert result.metrics["pixel_correlation"]["nulls"].keys() == NULLS - {"class_mean"}


def test_items_of_no_known_category_get_the_mean_image(recording):
    """As NSD's images in which COCO marks no object."""
    table = recording.stimuli.table.copy()
    known = np.random.default_rng(0).random(300) < 0.8
    table["category"] = table["category"].where(known)
    images = recording.stimuli.read()
    partly = Recording.from_arrays(
        recording.responses.read(), trials=recording.trials, stimuli=Stimuli(images, table=table)
    )
    made = assess_decoder(partly, PixelPCA(20), RidgeDecoder(), PROTOCOL).images
    classes, shown = table["category"].to_numpy(), images[:240] / 255
    for number, row in enumerate(range(240, 300)):
        alike = classes[:240] == classes[row] if known[row] else np.ones(240, dtype=bool)
        np.testing.assert_allclose(made["class_mean"][number], shown[alike].mean(axis=0), atol=1e-5)


def test_results_are_repeatable(recording, result):
    again = assess_decoder(recording, PixelPCA(40), RidgeDecoder(), PROTOCOL)
    pd.testing.assert_frame_equal(result.items, again.items)
    for name, images in result.images.items():
        np.testing.assert_array_equal(images, again.images[name])


def test_bank_finds_the_image_whose_features_correlate_most():
    images = np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((1, 3, 3), np.uint8)
    features = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    bank = RetrievalBank(Stimuli(images), np.array([3, 1, 2]), features)
    decoded = np.array([[5.0, 1, 0], [0.1, 0.1, 0.9], [100, 101, 100]])
    assert bank.nearest(decoded).tolist() == [3, 2, 1]
    np.testing.assert_allclose(bank.images(decoded)[:, 0, 0] * 255, [3, 2, 1], rtol=1e-6)
    with pytest.raises(InputError, match=r"features for each of its images.*3 rows and 2 features"):
        RetrievalBank(Stimuli(images), np.arange(3), features[:2])
    with pytest.raises(InputError, match="at least one; got 0 rows"):
        RetrievalBank(Stimuli(images), np.arange(0), features[:0])


def test_inverse_is_clipped_to_images():
    space = PixelPCA(3).fit(pictures(10)[0])
    wild = invert(space, np.array([[1e3, -1e3, 0]]))
    assert wild.min() == 0
    assert wild.max() == 1


def test_bad_input(recording):
    with pytest.raises(InputError, match=r"Unknown way back to images 'banks'.*'bank'"):
        DecodingProtocol("kfold:5", back="banks")
    with pytest.raises(InputError, match="at least one seed"):
        DecodingProtocol("kfold:5", seeds=())
    with pytest.raises(InputError, match="Decoding needs image stimuli; this recording has none"):
        assess_decoder(
            Recording.from_arrays(np.ones((10, 2))), PixelPCA(2), RidgeDecoder(), PROTOCOL
        )
    with pytest.raises(InputError, match="Unknown ROI 'V7'"):
        assess_decoder(
            recording, PixelPCA(2), RidgeDecoder(), DecodingProtocol("kfold:5", roi="V7")
        )
    with pytest.raises(InputError, match="n_components must be from 1 to 144"):
        assess_decoder(recording, PixelPCA(500), RidgeDecoder(), PROTOCOL)
    few = recording.select(
        trials=np.flatnonzero(np.isin(recording.trials["stimulus"], [1, 2, 250, 251]))
    )
    with pytest.raises(InputError, match="5 folds cannot be made of 2 groups"):
        assess_decoder(
            few, PixelPCA(1), RidgeDecoder(), DecodingProtocol("nsd-shared1000", zscore=None)
        )
