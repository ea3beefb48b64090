"""Any regressor is a model, and penalties that do not suit the data are told of once."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from brainkit import Recording
from brainkit.decoding import DecodingProtocol, assess_decoder
from brainkit.encoding import EncodingProtocol, VoxelwiseRidge, assess_encoder, compare_spaces
from brainkit.errors import PenaltyWarning
from brainkit.features import PixelPCA
from brainkit.synthesis import RankingProtocol, assess_ranking

N = 80
PROTOCOL = EncodingProtocol("kfold:4", zscore=None, ceiling=None, permutations=5, shuffles=2)


@pytest.fixture(scope="module")
def features():
    return np.random.default_rng(0).normal(size=(N, 6))


@pytest.fixture(scope="module")
def recording(features):
    rng = np.random.default_rng(1)
    values = features @ rng.normal(size=(6, 10)) + 0.3 * rng.normal(size=(N, 10))
    images = rng.integers(0, 256, size=(N, 8, 8), dtype=np.uint8)
    recording = Recording.from_arrays(values, stimuli=images)
    recording.trials["shared"] = np.arange(N) % 4 == 0
    recording.units["roi.all"] = True
    return recording


@pytest.mark.parametrize(
    "model", [Ridge(), LinearRegression(), make_pipeline(StandardScaler(), Ridge())], ids=str
)
def test_regressors_that_know_no_groups_are_models(recording, features, model):
    result = assess_encoder(recording, features, model, PROTOCOL)
    assert result.metrics["encoding_r"]["value"] > 0.9
    assert result.units["alpha"].isna().all()
    one = EncodingProtocol("nsd-shared1000", zscore=None)
    spaces = {"true": features, "other": features[::-1]}
    assert compare_spaces(recording, spaces, model, one).preferred() == {"all": "true"}
    decoded = DecodingProtocol("kfold:4", zscore=None)
    assert assess_decoder(recording, PixelPCA(4), model, decoded).by_seed.shape[0] == 1
    ranked = RankingProtocol("nsd-shared1000", bank="test", n=3, zscore=None)
    other = (PixelPCA(4), Ridge())
    assert len(assess_ranking(recording, (features, model), other, ranked).regions) == 1


def test_penalties_that_do_not_suit_are_told_of_once(recording, features):
    with pytest.warns(PenaltyWarning, match="smallest one") as caught:
        result = assess_encoder(
            recording, features, VoxelwiseRidge(alphas=(100.0, 1000.0)), PROTOCOL
        )
    assert len([one for one in caught if one.category is PenaltyWarning]) == 1
    assert result.grid["at_smallest_alpha"] > 0.8
    assert result.grid["at_largest_alpha"] == 0
    volts = assess_encoder(recording, 1e-7 * features, VoxelwiseRidge(), PROTOCOL)
    assert volts.metrics["encoding_r"]["value"] > 0.9
    with pytest.warns(PenaltyWarning, match="predicted to be constant"):
        flat = assess_encoder(
            recording, 1e-7 * features, VoxelwiseRidge(alphas=np.geomspace(1, 1e6, 7)), PROTOCOL
        )
    assert flat.grid["constant_predictions"] == 1


def test_null_runs_say_nothing_of_their_penalties(recording, features):
    with warnings.catch_warnings():
        warnings.simplefilter("error", PenaltyWarning)  # null runs would choose the largest
        assess_encoder(
            recording, features, VoxelwiseRidge(alphas=np.geomspace(1e-4, 1e6, 15)), PROTOCOL
        )
