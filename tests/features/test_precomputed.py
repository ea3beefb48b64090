"""Features that are ready go in as they are."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone

from brainkit import Recording, Stimuli
from brainkit.decoding import DecodingProtocol, RidgeDecoder, assess_decoder
from brainkit.encoding import EncodingProtocol, VoxelwiseRidge, assess_encoder, compare_spaces
from brainkit.errors import InputError
from brainkit.features import (
    FeatureStack,
    PixelPCA,
    Precomputed,
    SingleSpace,
    as_features,
    read_for,
)

N = 60
HALVES = (slice(0, 2), slice(2, 5))
FEATURES = np.random.default_rng(0).normal(size=(N, 5))


@pytest.fixture
def recording():
    rng = np.random.default_rng(1)
    responses = FEATURES @ rng.normal(size=(5, 8)) + 0.1 * rng.normal(size=(N, 8))
    images = rng.integers(0, 256, size=(N, 12, 12), dtype=np.uint8)
    return Recording.from_arrays(
        responses, stimuli=Stimuli(images, ids=[f"i{n}" for n in range(N)])
    )


PROTOCOL = EncodingProtocol("kfold:3", zscore=None, ceiling=None, permutations=0, shuffles=1)


@pytest.mark.parametrize(
    "given",
    [
        FEATURES,
        FEATURES.tolist(),
        pd.DataFrame(FEATURES),
        pd.DataFrame(FEATURES, index=[f"i{n}" for n in range(N)]).sample(frac=1, random_state=0),
        Precomputed(FEATURES[::-1], ids=[f"i{n}" for n in reversed(range(N))]),
        FeatureStack([SingleSpace(Precomputed(FEATURES[:, cut])) for cut in HALVES]),
    ],
    ids=["array", "list", "table", "table with ids", "ids", "stack"],
)  # fmt: skip
def test_arrays_and_tables_are_features(recording, given):
    result = assess_encoder(recording, given, VoxelwiseRidge(), PROTOCOL)
    assert result.metrics["encoding_r"]["value"] > 0.95


def test_decoders_take_them_too(recording):
    protocol = DecodingProtocol("kfold:3", zscore=None, back="bank")
    result = assess_decoder(recording, FEATURES, RidgeDecoder(), protocol)
    assert result.metrics["identification_reconstruction_given_image"]["n"] == N
    with pytest.raises(InputError, match="has no inverse"):
        assess_decoder(
            recording, FEATURES, RidgeDecoder(), DecodingProtocol("kfold:3", zscore=None)
        )


def test_what_is_no_table_stays_what_it_is():
    space = Precomputed(FEATURES)
    assert as_features(space) is space
    assert isinstance(as_features(FEATURES), Precomputed)
    twin = clone(space)
    assert twin is not space
    assert twin.values is space.values


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Precomputed(FEATURES[:50]), r"features of 50 stimuli and 60 stimuli"),
        (Precomputed(FEATURES[:50], ids=[f"i{n}" for n in range(50)]), "10 stimuli, with ids i50"),
        (Precomputed(FEATURES, ids=["a"] * N), "60, 1 of them different"),
        (Precomputed(FEATURES[:, 0]), r"one row a stimulus; got shape \(60,\)"),
        (Precomputed(FEATURES.astype(str)), "real numbers"),
        (Precomputed(np.where(FEATURES > 2, np.nan, FEATURES)), "NaN or infinity"),
        (Precomputed(FEATURES.astype(complex)), "real numbers"),
        (Precomputed(np.full((N, 1), 1e39)), r"exceed single precision \(3.4e38\)"),
        (Precomputed([[1.0]] * (N - 1) + [[1.0, 2.0]]), "rows of equal lengths"),
        (Precomputed([[1.0]] * (N - 1) + [[None]]), "NaN or infinity"),
        (Precomputed(pd.DataFrame({"a": pd.array([None] * N, "Float64")})), "NaN or infinity"),
        (Precomputed(np.ma.masked_greater(FEATURES, 2)), "masked array with .* of 300 values"),
    ],
)
def test_bad_input(recording, space, message):
    with pytest.raises(InputError, match=message):
        read_for(space, recording.stimuli, np.arange(N))


@pytest.mark.parametrize(
    "form",
    [
        torch.tensor(FEATURES, requires_grad=True),
        torch.tensor(FEATURES, dtype=torch.bfloat16),
        pd.DataFrame(FEATURES).astype("Float64"),
        pd.DataFrame(FEATURES > 0).astype("boolean"),
        tuple(map(tuple, FEATURES)),
        np.ma.masked_array(FEATURES, mask=False),
    ],
    ids=["gradients", "bfloat16", "nullable", "nullable booleans", "tuple", "nothing masked"],
)
def test_forms_of_one_table(recording, form):
    known = FEATURES > 0 if isinstance(form, pd.DataFrame) and form[0].dtype == "boolean" else form
    expected = np.asarray(FEATURES if known is form else known, dtype=np.float32)
    values = as_features(form).read(recording.stimuli, np.arange(N))
    np.testing.assert_allclose(values, expected, rtol=0.01)  # bfloat16 has 8 bits


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (sparse.csr_array(FEATURES), "is a sparse array"),
        ({"a": FEATURES}, "Several feature spaces of stimuli are given as one"),
        (None, "got None"),
        ("pixels", "got 'pixels'"),
        (PixelPCA, "is the class PixelPCA"),
        (np.ma.masked_greater(FEATURES, 2), "is a masked array"),
        (object(), "got a object"),
    ],
)
def test_what_is_no_feature_space(recording, features, message):
    with pytest.raises(InputError, match=message):
        assess_encoder(recording, features, VoxelwiseRidge(), PROTOCOL)


@pytest.mark.parametrize("model", [VoxelwiseRidge, None, "ridge", PixelPCA(2)])
def test_what_is_no_model(recording, model):
    spaces = {"a": FEATURES, "b": FEATURES[::-1]}
    for judge in (
        lambda: assess_encoder(recording, FEATURES, model, PROTOCOL),
        lambda: assess_decoder(
            recording, FEATURES, model, DecodingProtocol("kfold:3", zscore=None, back="bank")
        ),
        lambda: compare_spaces(recording, spaces, model, PROTOCOL),
    ):
        with pytest.raises(InputError, match=r"model must be .* with fit and predict"):
            judge()


def test_ids_are_text_whatever_they_come_as():
    """As HDF5 gives names: bytes; the stimuli's are decoded too."""
    stimuli = Stimuli(np.zeros((2, 4, 4)), ids=[b"face", "Häuser".encode()])
    space = Precomputed(np.array([[1.0], [2.0]]), ids=np.array(["Häuser".encode(), b"face"], "O"))
    np.testing.assert_array_equal(space.read(stimuli, [0, 1]), [[2.0], [1.0]])
    with pytest.raises(InputError, match="some are missing"):
        Precomputed(np.ones((2, 1)), ids=["a", None]).read(stimuli, [0])


@pytest.mark.parametrize("index", [pd.RangeIndex(29, -1, -1), pd.RangeIndex(0, 60, 2)])
def test_only_an_index_that_counts_the_rows_says_nothing(index):
    """A table that was turned round names its stimuli in another order."""
    values = np.arange(60.0).reshape(30, 2)
    table = pd.DataFrame(values, index=index)
    space = as_features(table)
    stimuli = Stimuli(np.zeros((30, 4, 4), np.uint8), ids=sorted(index))
    read = space.read(stimuli, np.arange(30))
    np.testing.assert_array_equal(read, table.sort_index().to_numpy())
