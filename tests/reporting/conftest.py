"""A recording with known numbers, and hand-made results for it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from brainkit.data.dependence import Rows
from brainkit.data.recording import Recording
from brainkit.data.stimuli import Stimuli
from brainkit.data.units import VolumeSpace, roi_table
from brainkit.decoding import DecodingProtocol, DecodingResult
from brainkit.decoding.image_decoding import decoding_metrics, item_scores
from brainkit.encoding import EncodingProtocol, EncodingResult
from brainkit.jobs.decode import decoding_result
from brainkit.jobs.encode import encoding_result
from brainkit.jobs.reconstruct import reconstruction_result
from brainkit.jobs.runner import person_report
from brainkit.jobs.synthesize import ranking_result
from brainkit.synthesis import FittedEncoder, Ranking, RankingProtocol, RankingResult

GRID = (6, 7, 5)
N_UNITS, N_TRIALS, N_ITEMS = 24, 40, 20
KINDS = (
    "reconstruction",
    "nearest_training_image",
    "mean_image",
    "no_brain",
    "class_mean",
    "shuffled_brain",
)


@dataclass
class Judged:
    """What the jobs' functions found of one subject, and the report of it."""

    encoding: object = None
    decoding: object = None
    reconstruction: object = None
    ranking: object = None

    @property
    def results(self):
        made = {
            "encode": self.encoding and encoding_result(self.encoding),
            "decode": self.decoding and decoding_result(self.decoding),
            "reconstruct": self.reconstruction and reconstruction_result(self.reconstruction),
            "synthesize": self.ranking and ranking_result(self.ranking),
        }
        return {label: one for label, one in made.items() if one}

    @property
    def recording(self):
        return next(iter(self.results.values())).source.recording

    @property
    def report(self):
        return person_report(self.recording.subject, self.recording, self.results)


@pytest.fixture
def judged():
    """Put what the jobs' functions found of one subject together."""
    return Judged


@pytest.fixture
def make_recording():
    """Make a recording; names, space and info can be given."""

    def make(*, subject="s1", regions=("V1", "V2"), space="volume", info=None, colour=False):
        generator = np.random.default_rng(0)
        voxels = np.sort(generator.choice(np.prod(GRID), N_UNITS, replace=False))
        half = np.arange(N_UNITS) < N_UNITS // 2
        masks = dict(zip(regions, (half, ~half), strict=True))
        shape = (N_TRIALS, 12, 12, 3) if colour else (N_TRIALS, 12, 12)
        volume = VolumeSpace(GRID, np.diag([2.0, 2, 2, 1]), voxels, np.ones(GRID))
        return Recording.from_arrays(
            generator.normal(size=(N_TRIALS, N_UNITS)),
            subject=subject,
            stimuli=Stimuli(generator.random(shape).astype(np.float32)),
            units=roi_table(masks),
            space=volume if space == "volume" else space,
            info=info,
        )

    return make


@pytest.fixture
def make_encoding():
    """Make an encoding result with round numbers."""

    def make(recording, *, ceilings=True, zscore=None):
        r = np.linspace(0.1, 0.4, N_UNITS)
        r[0] = np.nan
        names = recording.roi_names
        regions = pd.DataFrame(
            {
                "region": names,
                "units": [12, 12],
                "r": [0.1234, 0.3456],
                "units r > 0.3": [0.0, 8.0],
                "ceiling": [0.21, 0.22] if ceilings else np.nan,
                "ceiling fraction": [0.8123, 0.7654] if ceilings else np.nan,
                "shuffled r": [-0.0321, 0.0012],
                "shuffled fraction": [0.00123, -0.00456] if ceilings else np.nan,
                "p": [0.04761, np.nan],
            }
        )
        units = recording.units.copy()
        units["r"] = r
        units["shuffled r"] = np.linspace(-0.1, 0.1, N_UNITS)
        units["ceiling"] = 0.25 if ceilings else np.nan
        units["p"] = np.nan
        return EncodingResult(
            recording=recording,
            protocol=EncodingProtocol("kfold:5", permutations=20),
            units=units,
            regions=regions,
            metrics={
                "encoding_r": {
                    "value": 0.23456,
                    "ci": [0.2, 0.27],
                    "n": 23,
                    "nulls": {"shuffled_features": -0.0154},
                    "preset": "pearson-r/within-folds/mean-over-units",
                },
                "encoding_r2": {
                    "value": float("nan"),
                    "n": 23,
                    "preset": "r2/training-mean/mean-over-units",
                },
            },
            predictions=np.zeros((N_ITEMS, N_UNITS)),
            test_stimuli=np.arange(N_ITEMS),
            place=np.arange(N_ITEMS),
            first=None,
            fold=np.arange(N_ITEMS) % 5,
            counts={"units": N_UNITS, "constant_or_nan": 1},
            fitted=(None, None),
            zscore=zscore or {},
        )

    return make


@pytest.fixture
def make_decoding():
    """Make a decoding result whose images are noisy copies of what was shown."""

    def make(recording):
        generator = np.random.default_rng(1)
        shown = recording.stimuli.read(np.arange(N_ITEMS))
        images = {
            kind: np.clip(0.5 * shown + 0.5 * generator.random(shown.shape), 0, 1)
            if kind == "reconstruction"
            else generator.random(shown.shape)
            for kind in KINDS
        }
        items = np.arange(N_ITEMS)
        scores = item_scores(shown, images, np.zeros(N_ITEMS, int), Rows(items, items, items))
        return DecodingResult(
            recording=recording,
            protocol=DecodingProtocol("kfold:5", seeds=(0, 1)),
            items=pd.DataFrame({"stimulus": np.arange(N_ITEMS)}),
            images={"shown": shown} | images,
            metrics=decoding_metrics(scores),
            by_seed=pd.DataFrame({"seed": [0, 1], "pixel_correlation": [0.7111, 0.7222]}),
            counts={"units": N_UNITS, "constant_or_nan": 0},
            fitted=(None, None),
            zscore={},
        )

    return make


@pytest.fixture
def make_ranking():
    """Make a ranking result of three stimuli a region."""

    def make(recording):
        ranking = Ranking(
            rows=np.array([3, 1, 2]),
            predicted=np.array([2.0, 1.5, 1.0]),
            judged=np.array([1.9, 1.2, -0.3]),
            judged_percentile=np.array([97.53, 91.0, 40.0]),
            bank=np.arange(N_TRIALS),
            agreement=0.512,
        )
        names = recording.roi_names
        regions = pd.DataFrame(
            {
                "region": names,
                "units": [12, 12],
                "judged percentile": [76.18, 76.18],
                "random percentile": [48.75, 48.75],
                "agreement": [0.512, 0.512],
                "encoder r": [0.4, 0.4],
                "judge r": [0.31, 0.31],
            }
        )
        return RankingResult(
            recording=recording,
            protocol=RankingProtocol("kfold:3", n=3, bank="test"),
            rankings=dict.fromkeys(names, ranking),
            regions=regions,
            metrics={
                "ranked_judged_percentile_top3": {
                    "value": 76.18,
                    "n": 2,
                    "nulls": {"random_stimuli": 48.75},
                    "preset": "held-out-judge/bank-percentile",
                }
            },
            counts={"units": N_UNITS, "constant_or_nan": 0},
            encoder=FittedEncoder(None, None, frozenset()),
            zscore={},
        )

    return make


@pytest.fixture
def make_results(make_recording, make_encoding, make_decoding, make_ranking):
    """Make all three results of one subject."""

    def make(**options):
        recording = make_recording(**options)
        return Judged(
            encoding=make_encoding(recording),
            decoding=make_decoding(recording),
            ranking=make_ranking(recording),
        )

    return make
