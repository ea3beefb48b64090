"""Rankings of all regions: disjoint halves, banks, what the table says."""

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin

from brainkit import Recording
from brainkit.data.stimuli import Stimuli
from brainkit.encoding import VoxelwiseRidge
from brainkit.errors import InputError, SplitError
from brainkit.features import PixelPCA
from brainkit.synthesis import RankingProtocol, assess_ranking

SIDE = 6


class Pixels(TransformerMixin, BaseEstimator):
    fitted_on: ClassVar[list] = []

    def fit(self, images, y=None):
        type(self).fitted_on.append(images)
        return self

    def transform(self, images):
        return np.asarray(images, np.float32).reshape(len(images), -1)

    def __sklearn_is_fitted__(self):
        return True


def linear_brain(n_seen=300, n_unseen=80, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    n = n_seen + n_unseen
    images = rng.uniform(size=(n, SIDE, SIDE)).astype(np.float32)
    drive = rng.normal(size=(2, SIDE * SIDE))  # what each of two regions likes
    weights = drive.repeat(8, axis=0) + 0.3 * rng.normal(size=(16, SIDE * SIDE))
    signal = (images.reshape(n, -1) - 0.5) @ weights.T
    stimulus = np.repeat(np.arange(n_seen), 2)
    trials = pd.DataFrame(
        {"stimulus": stimulus, "session": np.arange(2 * n_seen) % 2, "shared": stimulus < 60}
    )
    values = signal[stimulus] + noise * rng.normal(size=(2 * n_seen, 16))
    units = pd.DataFrame({"roi.A": np.arange(16) < 8, "roi.B": np.arange(16) >= 8})
    recording = Recording.from_arrays(values, trials=trials, units=units, stimuli=Stimuli(images))
    return recording, signal


ENCODER = Pixels(), VoxelwiseRidge(alphas=np.geomspace(0.01, 1e3, 11))
JUDGE = PixelPCA(35), VoxelwiseRidge(alphas=np.geomspace(0.01, 1e3, 11))


@pytest.fixture(scope="module")
def world():
    return linear_brain()


@pytest.fixture(scope="module")
def result(world):
    return assess_ranking(world[0], ENCODER, JUDGE, RankingProtocol("nsd-shared1000", n=8))


def test_each_region_gets_the_stimuli_that_truly_drive_it(world, result):
    _, signal = world
    assert list(result.rankings) == ["A", "B"]
    for name, units in (("A", slice(8)), ("B", slice(8, 16))):
        ranking = result.rankings[name]
        assert ranking.bank.tolist() == list(range(300, 380))
        drive = signal[:, units].mean(axis=1)
        true = [100 * (drive[300:] < drive[row]).mean() for row in ranking.rows]
        assert np.mean(true) > 85
        other = signal[:, 8:].mean(axis=1) if name == "A" else signal[:, :8].mean(axis=1)
        assert np.mean(true) > np.mean(
            [100 * (other[300:] < other[r]).mean() for r in ranking.rows]
        )


def test_a_regions_drive_in_epochs_is_the_mean_over_its_times(world, result):
    recording, _ = world
    values = recording.responses.read()
    epochs = Recording.from_arrays(
        np.stack([values, values], axis=2), trials=recording.trials, units=recording.units,
        stimuli=recording.stimuli, times=[0.1, 0.2],
    )  # fmt: skip
    twice = assess_ranking(epochs, ENCODER, JUDGE, RankingProtocol("nsd-shared1000", n=8))
    assert twice.counts == result.counts
    assert twice.regions["units"].tolist() == [8, 8]
    for name, ranking in result.rankings.items():
        assert twice.rankings[name].rows.tolist() == ranking.rows.tolist()
        np.testing.assert_allclose(twice.rankings[name].predicted, ranking.predicted, rtol=1e-4)


def test_table_and_metrics(result):
    table = result.regions.set_index("region")
    assert table["units"].tolist() == [8, 8]
    assert (table["judged percentile"] > 85).all()
    assert (table["random percentile"] == 50).all()
    assert (table[["agreement", "encoder r", "judge r"]] > 0.8).all(axis=None)
    metric = result.metrics["ranked_judged_percentile_top8"]
    assert metric["value"] == pytest.approx(table["judged percentile"].mean())
    assert metric["nulls"]["random_stimuli"] == 50
    assert metric["n_bank"] == 80
    assert result.counts == {"units": 16, "constant_or_nan": 0}


def test_a_contrast_leaves_the_other_region_low(world):
    recording, signal = world
    protocol = RankingProtocol("nsd-shared1000", n=8, against="B")
    result = assess_ranking(recording, ENCODER, JUDGE, protocol)
    assert list(result.rankings) == ["A"]
    gap = signal[:, :8].mean(axis=1) - signal[:, 8:].mean(axis=1)
    rows = result.rankings["A"].rows
    assert np.mean([100 * (gap[300:] < gap[row]).mean() for row in rows]) > 85


def test_encoder_judge_and_bank_are_disjoint(world):
    recording, _ = world
    Pixels.fitted_on.clear()
    result = assess_ranking(
        recording, ENCODER, (PixelPCA(10), JUDGE[1]), RankingProtocol("nsd-shared1000", bank="test")
    )
    trained = result.encoder.trained_on
    assert len(trained) == 120
    assert min(trained) >= 60
    assert result.rankings["A"].bank.tolist() == list(range(60))
    np.testing.assert_array_equal(Pixels.fitted_on[0], recording.stimuli.read(sorted(trained)))


def test_a_part_of_the_bank(world, result):
    """A random part, the same with the same seed; models and their scores stay as they were."""

    def ranked(size, bank="unseen", seed=0):
        protocol = RankingProtocol("nsd-shared1000", n=8, bank=bank, bank_size=size, seed=seed)
        return assess_ranking(world[0], ENCODER, JUDGE, protocol)

    part = ranked(30)
    bank = part.rankings["A"].bank
    assert len(np.unique(bank)) == 30
    assert set(bank) < set(range(300, 380))
    assert bank.tolist() != list(range(300, 330))
    assert part.rankings["B"].bank.tolist() == bank.tolist()
    assert ranked(30).rankings["A"].bank.tolist() == bank.tolist()
    assert ranked(30, seed=1).rankings["A"].bank.tolist() != bank.tolist()
    assert part.metrics["ranked_judged_percentile_top8"]["n_bank"] == 30
    assert (part.regions["random percentile"] == 50).all()
    kept = ["region", "units", "encoder r", "judge r"]
    pd.testing.assert_frame_equal(part.regions[kept], result.regions[kept])
    drive = world[1][:, :8].mean(axis=1)
    top = [100 * (drive[bank] < drive[row]).mean() for row in part.rankings["A"].rows]
    assert np.mean(top) > 75  # the best 8 of 30 have 85 on average
    for size in (80, 1000, None):
        assert ranked(size).rankings["A"].bank.tolist() == list(range(300, 380))
    assert set(ranked(20, bank="test").rankings["A"].bank) < set(range(60))


def test_the_same_seed_gives_the_same_and_another_seed_other_halves(world, result):
    again = assess_ranking(world[0], ENCODER, JUDGE, RankingProtocol("nsd-shared1000", n=8))
    pd.testing.assert_frame_equal(result.regions, again.regions)
    assert again.rankings["A"].rows.tolist() == result.rankings["A"].rows.tolist()
    other = assess_ranking(world[0], ENCODER, JUDGE, RankingProtocol("nsd-shared1000", seed=1))
    assert other.encoder.trained_on != result.encoder.trained_on


def test_broken_units_are_left_out_of_their_region(world):
    recording, _ = world
    values = recording.responses.read()
    values[:, 0], values[3, 8:] = 1.0, np.nan
    broken = Recording.from_arrays(
        values, trials=recording.trials, units=recording.units, stimuli=recording.stimuli
    )
    result = assess_ranking(broken, ENCODER, JUDGE, RankingProtocol("nsd-shared1000"))
    assert result.counts == {"units": 16, "constant_or_nan": 9}
    assert list(result.rankings) == ["A"]  # nothing of B is left
    assert result.regions["units"].tolist() == [7]
    with pytest.raises(InputError, match="region to rank against must be a mask"):
        assess_ranking(broken, ENCODER, JUDGE, RankingProtocol("nsd-shared1000", against="B"))


def test_bad_input(world):
    recording, _ = world
    with pytest.raises(InputError, match="Unknown bank 'seen'"):
        RankingProtocol("kfold:3", bank="seen")
    with pytest.raises(InputError, match="must be positive: 0"):
        RankingProtocol("kfold:3", n=0)
    with pytest.raises(InputError, match="must use other features than the encoder"):
        assess_ranking(recording, ENCODER, ENCODER, RankingProtocol("nsd-shared1000"))
    with pytest.raises(InputError, match="n must be from 1 to the 80 stimuli of the bank; got 81"):
        assess_ranking(recording, ENCODER, JUDGE, RankingProtocol("nsd-shared1000", n=81))
    with pytest.raises(InputError, match=r"saw all 300 stimuli, so none is unseen.*bank=.test"):
        assess_ranking(
            linear_brain(n_unseen=0)[0], ENCODER, JUDGE, RankingProtocol("nsd-shared1000")
        )
    with pytest.raises(InputError, match="Unknown ROI 'C'"):
        assess_ranking(recording, ENCODER, JUDGE, RankingProtocol("nsd-shared1000", against="C"))
    with pytest.raises(InputError, match="Ranking needs stimuli"):
        assess_ranking(
            Recording.from_arrays(np.ones((9, 2))), ENCODER, JUDGE, RankingProtocol("kfold:3")
        )
    with pytest.raises(InputError, match=r"None of the 2 units .* all are constant"):
        assess_ranking(
            Recording.from_arrays(np.ones((9, 2, 4)), stimuli=np.zeros((9, 4, 4), np.uint8)),
            ENCODER, JUDGE, RankingProtocol("kfold:3"),
        )  # fmt: skip
    few = recording.select(trials=np.r_[:20, 120:126])
    with pytest.raises(SplitError, match="need training stimuli of their own; there are 3"):
        assess_ranking(few, ENCODER, JUDGE, RankingProtocol("nsd-shared1000"))
