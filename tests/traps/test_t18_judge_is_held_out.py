"""T18: the encoder that chose the stimuli also judges them."""

import numpy as np
import pytest

from brainkit.data.stimuli import Stimuli
from brainkit.encoding import VoxelwiseRidge
from brainkit.errors import InputError, LeakError
from brainkit.features import FeatureStack, OrientedEnergy, PixelPCA, Remembered, SingleSpace
from brainkit.synthesis import FittedEncoder, rank_stimuli

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, size=(90, 16, 16), dtype=np.uint8)
STIMULI = Stimuli(IMAGES)
FIRST, SECOND, BANK = np.arange(30), np.arange(30, 60), np.arange(60, 90)
UNITS = np.ones(4, dtype=bool)


def energy(**settings):
    return OrientedEnergy(side=16, frequencies=(3.0,), **settings)


def fitted(features, rows, responses=None):
    Y = RNG.normal(size=(len(rows), 4)) if responses is None else responses
    X = features.fit_transform(IMAGES[rows])
    return FittedEncoder(features, VoxelwiseRidge().fit(X, Y), frozenset(rows.tolist()))


def test_an_encoder_would_praise_its_own_errors():
    """On responses of noise, what it chose is at the top by its own account, and at chance."""
    own, judged = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        encoder = fitted(energy(), FIRST, rng.normal(size=(30, 4)))
        judge = fitted(PixelPCA(10), SECOND, rng.normal(size=(30, 4)))
        ranking = rank_stimuli(encoder, judge, STIMULI, BANK, UNITS, n=5)
        drive = encoder.predict(IMAGES[BANK]).mean(axis=1)
        own.append(np.mean([100 * (drive < drive[row - 60]).mean() for row in ranking.rows]))
        judged.append(ranking.judged_percentile.mean())
    assert np.mean(own) > 85
    assert np.mean(judged) == pytest.approx(50, abs=12)


def test_it_cannot_be_its_own_judge():
    encoder = fitted(energy(), FIRST)
    again = FittedEncoder(PixelPCA(3).fit(IMAGES), encoder.model, frozenset({40}))
    for judge in (encoder, again):
        with pytest.raises(InputError, match="must be another model than the encoder"):
            rank_stimuli(encoder, judge, STIMULI, BANK, UNITS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (energy(), energy()),
        (energy(), OrientedEnergy(8, (3.0,), 16, False, 1.0, 1.0, 0.5)),  # spelt out
        (energy(), Remembered(energy())),
        (SingleSpace(energy(), "feature"), SingleSpace(energy(), "space")),
        (SingleSpace(Remembered(energy())), FeatureStack([SingleSpace(energy())])),
        (FeatureStack([energy(), PixelPCA(5)]), FeatureStack([PixelPCA(5), energy()])),
        (FeatureStack([SingleSpace(energy()), SingleSpace(PixelPCA(5))]), energy()),
    ],
)
def test_the_same_features_in_other_clothes_are_refused(one, other):
    with pytest.raises(InputError, match="must use other features than the encoder; both use Orie"):
        rank_stimuli(fitted(one, FIRST), fitted(other, SECOND), STIMULI, BANK, UNITS)


def test_long_descriptions_that_begin_alike_are_told_apart():
    many = [PixelPCA(number) for number in range(1, 25)]
    judge = FeatureStack([OrientedEnergy(side=16, frequencies=(f,)) for f in (2.0, 4.0)])
    assert rank_stimuli(
        fitted(FeatureStack(many), FIRST), fitted(judge, SECOND), STIMULI, BANK, UNITS
    ).rows.size


def test_shared_training_stimuli_raise_with_their_ids():
    judge = fitted(PixelPCA(5), np.arange(25, 60))
    with pytest.raises(LeakError, match="both fitted on 5 stimuli: 25, 26, 27, 28, 29") as caught:
        rank_stimuli(fitted(energy(), FIRST), judge, STIMULI, BANK, UNITS)
    assert caught.value.ids == [25, 26, 27, 28, 29]


@pytest.mark.parametrize("row", [3, 41])
def test_a_bank_with_training_stimuli_of_either_raises_with_their_ids(row):
    bank = np.append(BANK, row)
    with pytest.raises(
        LeakError, match=f"holds 1 stimuli that a model was fitted on: {row}"
    ) as caught:
        rank_stimuli(fitted(energy(), FIRST), fitted(PixelPCA(5), SECOND), STIMULI, bank, UNITS)
    assert caught.value.ids == [row]
