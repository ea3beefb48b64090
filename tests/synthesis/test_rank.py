"""Ranking on a brain whose true drive is known, and the conditions on the judge."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin

from brainkit.data.stimuli import Stimuli
from brainkit.encoding import VoxelwiseRidge
from brainkit.errors import InputError
from brainkit.features import OrientedEnergy, PixelPCA
from brainkit.synthesis import FittedEncoder, rank_stimuli
from brainkit.synthesis.ranking import rank_regions

N, SIDE, UNITS = 700, 8, 6
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(N, SIDE, SIDE)).astype(np.float32)
COARSE = RNG.normal(size=(UNITS, SIDE // 2, SIDE // 2))
WEIGHTS = COARSE.repeat(2, axis=1).repeat(2, axis=2)  # so that blocks of pixels know all
TRUTH = np.tensordot(IMAGES - 0.5, WEIGHTS, ([1, 2], [1, 2]))  # (N, UNITS)
STIMULI = Stimuli(IMAGES)
BANK = np.arange(600, N)
FIRST, SECOND = np.arange(300), np.arange(300, 600)
REGION = np.array([True, True, True, False, False, False])


class Pixels(TransformerMixin, BaseEstimator):
    def fit(self, images, y=None):
        return self

    def transform(self, images):
        return images.reshape(len(images), -1)

    def __sklearn_is_fitted__(self):
        return True


class Blocks(Pixels):
    """Means of 2 × 2 pixels."""

    def transform(self, images):
        half = SIDE // 2
        return (
            images.reshape(len(images), half, 2, half, 2).mean(axis=(2, 4)).reshape(len(images), -1)
        )


def fitted(features, rows, noise=0.0, seed=0):
    X = features.fit_transform(IMAGES[rows])
    Y = TRUTH[rows] + noise * np.random.default_rng(seed).normal(size=(len(rows), UNITS))
    model = VoxelwiseRidge(alphas=np.geomspace(1e-3, 1e4, 15)).fit(X, Y)
    return FittedEncoder(features, model, frozenset(rows.tolist()))


ENCODER, JUDGE = fitted(Pixels(), FIRST), fitted(Blocks(), SECOND)


def test_the_top_stimuli_are_the_true_best():
    ranking = rank_stimuli(ENCODER, JUDGE, STIMULI, BANK, REGION, n=12)
    drive = TRUTH[600:, :3].mean(axis=1)
    assert ranking.rows.tolist() == (600 + np.argsort(-drive)[:12]).tolist()
    standard = (drive - drive.mean()) / drive.std()
    np.testing.assert_allclose(ranking.predicted, np.sort(standard)[::-1][:12], atol=1e-2)
    np.testing.assert_allclose(ranking.judged, ranking.predicted, atol=1e-2)
    np.testing.assert_allclose(ranking.judged_percentile, 100 * np.arange(99, 87, -1) / 99)
    assert ranking.agreement > 0.9999
    assert ranking.bank.tolist() == BANK.tolist()


def test_a_contrast_drives_one_region_and_not_the_other():
    ranking = rank_stimuli(ENCODER, JUDGE, STIMULI, BANK, REGION, against=~REGION, n=10)
    drive = TRUTH[600:, :3].mean(axis=1) - TRUTH[600:, 3:].mean(axis=1)
    assert ranking.rows.tolist() == (600 + np.argsort(-drive)[:10]).tolist()
    assert (
        ranking.rows.tolist() != rank_stimuli(ENCODER, JUDGE, STIMULI, BANK, REGION).rows.tolist()
    )


def test_with_noise_the_choice_is_good_and_the_judge_says_how_good():
    encoder, judge = fitted(Pixels(), FIRST, noise=4, seed=1), fitted(Blocks(), SECOND, 4, seed=2)
    ranking = rank_stimuli(encoder, judge, STIMULI, BANK, REGION, n=10)
    drive = TRUTH[600:, :3].mean(axis=1)
    true_percentile = 100 * np.mean([(drive < drive[row - 600]).mean() for row in ranking.rows])
    assert true_percentile > 80
    assert ranking.judged_percentile.mean() == pytest.approx(true_percentile, abs=12)
    # The encoder's own opinion of its choice is 94.5 on average, whatever the truth.
    assert ranking.judged_percentile.mean() < 94.5
    assert 0.4 < ranking.agreement < 0.99


def test_a_judge_of_noise_gives_chance():
    nothing = fitted(Blocks(), SECOND)
    shuffled = FittedEncoder(
        nothing.features,
        VoxelwiseRidge(alphas=[1.0]).fit(
            nothing.features.transform(IMAGES[SECOND]), RNG.normal(size=(300, UNITS))
        ),
        nothing.trained_on,
    )
    percentiles = [
        rank_stimuli(
            ENCODER, shuffled, STIMULI, BANK, np.arange(UNITS) == unit, n=30
        ).judged_percentile.mean()
        for unit in range(UNITS)
    ]
    assert np.mean(percentiles) == pytest.approx(49.5, abs=15)


def test_order_and_repeats_of_the_bank_and_batches_change_nothing(monkeypatch):
    import brainkit.synthesis.ranking as module

    first = rank_stimuli(ENCODER, JUDGE, STIMULI, BANK, REGION)
    messy = rank_stimuli(ENCODER, JUDGE, STIMULI, [*BANK[::-1], *BANK[:9]], REGION)
    monkeypatch.setattr(module, "BATCH", 7)
    batched = rank_stimuli(ENCODER, JUDGE, STIMULI, BANK, REGION)
    for other in (messy, batched):
        assert other.rows.tolist() == first.rows.tolist()
        np.testing.assert_allclose(other.predicted, first.predicted, rtol=1e-4)
        np.testing.assert_allclose(other.judged_percentile, first.judged_percentile)


@pytest.mark.parametrize("against", [None, np.arange(UNITS) == 5], ids=["alone", "contrast"])
def test_several_regions_are_ranked_as_each_alone(against):
    regions = {"A": REGION, "B": ~REGION, "one unit": np.arange(UNITS) == 2, "A again": REGION}
    together = rank_regions(ENCODER, JUDGE, STIMULI, BANK, regions, against=against, n=7)
    assert list(together) == list(regions)
    for name, units in regions.items():
        alone = rank_stimuli(ENCODER, JUDGE, STIMULI, BANK, units, against=against, n=7)
        for field in ("rows", "judged_percentile", "bank"):
            np.testing.assert_array_equal(getattr(together[name], field), getattr(alone, field))
        for field in ("predicted", "judged", "agreement"):  # summed in another order
            both = getattr(together[name], field), getattr(alone, field)
            np.testing.assert_allclose(*both, rtol=1e-12)
    assert together["A"].rows.tolist() != together["B"].rows.tolist()
    drive = TRUTH[600:, 2] - (0 if against is None else TRUTH[600:, 5])
    assert together["one unit"].rows.tolist() == (600 + np.argsort(-drive)[:7]).tolist()


def test_every_region_is_checked():
    regions = {"A": REGION, "B": np.zeros(UNITS, bool)}
    with pytest.raises(InputError, match=r"The region must be a mask of 6 units.*0 inside"):
        rank_regions(ENCODER, JUDGE, STIMULI, BANK, regions)


def test_equal_drives_keep_the_order_of_rows():
    flat = Stimuli(np.full((N, SIDE, SIDE), 0.5, np.float32))
    ranking = rank_stimuli(ENCODER, JUDGE, flat, BANK, REGION, n=4)
    assert ranking.rows.tolist() == [600, 601, 602, 603]
    assert not ranking.predicted.any()
    assert (ranking.judged_percentile == 50).all()  # ties count one half
    assert np.isnan(ranking.agreement)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, "n must be from 1 to the 100 stimuli of the bank; got 0"),
        ({"n": 101}, "n must be from 1 to the 100 stimuli of the bank; got 101"),
        (
            {"bank": np.arange(N) >= 600},
            "stimulus rows, integers; got 2 different values of type bool",
        ),
        ({"bank": [600.5, 601]}, "integers; got 2 different values of type float64"),
        ({"bank": [600]}, "at least 2 stimulus rows, integers; got 1"),
        ({"bank": []}, "at least 2 stimulus rows"),
        ({"bank": [*range(600, 610), N]}, "Stimulus rows out of range: 700"),
        ({"units": np.zeros(UNITS, bool)}, "The region must be a mask of 6 units.*0 inside"),
        ({"units": REGION[:4]}, r"mask of 6 units.*got bool of shape \(4,\)"),
        ({"units": [0, 1, 2, 0, 0, 0]}, "mask of 6 units.*got int64"),
        (
            {"against": np.zeros(UNITS, bool)},
            "The region to rank against must be a mask of 6 units",
        ),
    ],
    ids=repr,
)
def test_bad_input(changes, message):
    settings = {"bank": BANK, "units": REGION, "n": 5, **changes}
    with pytest.raises(InputError, match=message):
        rank_stimuli(ENCODER, JUDGE, STIMULI, **settings)


def test_features_of_one_kind_and_other_settings_are_other_features():
    energy = fitted(OrientedEnergy(side=8, frequencies=(2.0,)), FIRST)
    other = fitted(OrientedEnergy(side=8, frequencies=(2.5,)), SECOND)
    assert rank_stimuli(energy, other, STIMULI, BANK, REGION, n=3).rows.shape == (3,)
    assert rank_stimuli(fitted(PixelPCA(5), FIRST), energy_on_second(), STIMULI, BANK, REGION, n=1)


def energy_on_second():
    return fitted(OrientedEnergy(side=8, frequencies=(2.0,)), SECOND)
