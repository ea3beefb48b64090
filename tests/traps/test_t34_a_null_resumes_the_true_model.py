"""T34: a null that takes up the state of the true model, as all its statistics are the same."""

import numpy as np
import pytest
import torch

from brainkit.encoding.in_context import InContextEncoder, Stage
from brainkit.encoding.readouts import (
    FactorizedReadout,
    GaussianReadout,
    LinearReadout,
    SemanticReadout,
)
from brainkit.encoding.routing import RoutingEncoder
from brainkit.training import Schedule

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 9, 4)).astype(np.float32)
Y = (X[:, :3].sum(axis=2) + RNG.normal(size=(48, 3))).astype(np.float32)
ORDER = RNG.permutation(48)
QUICK = {"epochs": 2, "batch_size": 16, "device": "cpu", "progress": False}
SMALL = QUICK | {"width": 8, "n_heads": 2, "hidden": 8}
REGIONS = {"a": np.array([1, 1, 0]), "b": np.array([0, 1, 1])}
ENCODERS = {
    "linear": lambda **given: LinearReadout(**QUICK, **given),
    "gaussian": lambda **given: GaussianReadout(**QUICK, **given),
    "factorized": lambda **given: FactorizedReadout(**QUICK, **given),
    "semantic": lambda **given: SemanticReadout(**QUICK, **given),
    "routing": lambda **given: RoutingEncoder(REGIONS, **SMALL, **given),
    "routing, seeds": lambda **given: RoutingEncoder(REGIONS, n_seeds=2, **SMALL, **given),
}


@pytest.mark.parametrize("validation", [0.0, 0.2])
@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_a_null_in_the_folder_of_the_true_model_is_trained(tmp_path, name, validation) -> None:
    def fit(features, **given):
        return ENCODERS[name](validation=validation, **given).fit(features, Y).predict(X)

    true, null = fit(X, folder=tmp_path), fit(X[ORDER], folder=tmp_path)
    np.testing.assert_array_equal(true, fit(X))
    np.testing.assert_array_equal(null, fit(X[ORDER]))
    assert not np.allclose(true, null)
    np.testing.assert_array_equal(fit(X, folder=tmp_path), true)  # and is still known


def test_layers_of_a_null_are_trained(tmp_path) -> None:
    layers = {"early": X, "late": X[:, ::-1] ** 3}
    null = {name: tokens[ORDER] for name, tokens in layers.items()}

    def fit(given, **settings):
        return RoutingEncoder(REGIONS, **SMALL, **settings).fit(given, Y).predict(layers)

    true = fit(layers, folder=tmp_path)
    np.testing.assert_array_equal(true, fit(layers))
    np.testing.assert_array_equal(fit(null, folder=tmp_path), fit(null))
    assert len(list(tmp_path.glob("*/run-*"))) == 4


def test_regions_of_a_long_table_are_told_apart(tmp_path) -> None:
    wide = np.tile(Y, (1, 400))  # what is printed of so many labels is the same
    given = {"folder": tmp_path, **SMALL, "epochs": 1}
    labels = np.repeat(["a", "b"], 600)
    other = labels.copy()
    other[600:602] = "a"
    for regions in (labels, other):
        model = RoutingEncoder(regions, **given).fit(X, wide)
        plain = RoutingEncoder(regions, **(given | {"folder": None})).fit(X, wide)
        np.testing.assert_array_equal(model.predict(X), plain.predict(X))
    assert len(list(tmp_path.iterdir())) == 2


SIZE = {"width": 8, "layers": 1, "heads": 2, "hidden": 8, "device": "cpu"}
STAGE = Stage("subjects", Schedule(2, warmup=0, checkpoint_every=1), (5, 8), n_voxels=3, n_draws=1)


def in_context_weights(X, Y, folder=None, seed=0, stage=STAGE):
    encoder = InContextEncoder(None, **SIZE, seed=seed)
    encoder.fit_subjects({"s": X}, {"s": Y}, stage=stage, folder=folder)
    return encoder.open()[0].state_dict()


def same(one, other) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_null_in_the_folder_of_the_true_network_is_trained(tmp_path) -> None:
    embeddings, permuted = X[:, 0], X[ORDER][:, 0]
    longer = Stage("subjects", STAGE.schedule, (5, 9), n_voxels=3, n_draws=1)
    true = in_context_weights(embeddings, Y, tmp_path)
    assert same(true, in_context_weights(embeddings, Y))
    others = {
        "null": ((permuted, Y), {}),
        "order": ((permuted, Y[ORDER]), {}),
        "first weights": ((embeddings, Y), {"seed": 1}),
        "contexts": ((embeddings, Y), {"stage": longer}),
    }
    for name, (data, given) in others.items():
        found = in_context_weights(*data, tmp_path, **given)
        assert same(found, in_context_weights(*data, **given)), name
        assert not same(found, true), name
    assert same(true, in_context_weights(embeddings, Y, tmp_path))
    assert len(list((tmp_path / "subjects").iterdir())) == 5


def test_synthetic_voxels_on_other_images_are_trained(tmp_path) -> None:
    stage = [Stage("synthetic", STAGE.schedule, (5, 8), n_voxels=3, n_draws=1)]
    found = [
        InContextEncoder(None, **SIZE)
        .pretrain(images, stages=stage, folder=folder)
        .open()[0]
        .state_dict()
        for images, folder in (
            (X[:, 0], tmp_path), (X[:, 1], tmp_path), (X[:, 1], None), (X[:, 0], tmp_path),
        )
    ]  # fmt: skip
    assert same(found[1], found[2])
    assert not same(found[0], found[1])
    assert same(found[0], found[3])
