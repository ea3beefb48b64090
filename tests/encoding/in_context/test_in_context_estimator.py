"""The estimator: reads a support set, predicts in the responses' unit, and refuses what it must."""

import json
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone

from brainkit.arrays.persistence import load_estimator, save_estimator
from brainkit.arrays.seeds import rng
from brainkit.encoding.fit_context import FitContext
from brainkit.encoding.in_context import InContextEncoder, Stage, load_network
from brainkit.encoding.in_context.module import hyper_weights
from brainkit.errors import CorruptFileError, InputError, LeakError, MissingFileError
from brainkit.features.weights import weights_hash
from brainkit.training import Schedule
from brainkit.training.set_networks import unit_norm

SIZE = {"width": 32, "layers": 2, "heads": 4, "hidden": 32}


def images(n=80, width=6, seed=0):
    return rng(seed, "images").standard_normal((n, width)) + 0.5


def responses(X, n=4, seed=0):
    generator = rng(seed, "responses")
    return X @ generator.standard_normal((X.shape[1], n)) + 0.2 * generator.standard_normal(
        (len(X), n)
    )


@pytest.fixture(scope="module")
def encoder():
    return InContextEncoder(None, **SIZE).pretrain(images(120), steps=3, embedding_model="test:a")


def test_fit_writes_weights_without_a_gradient_step_and_in_the_unit_of_the_responses(encoder):
    X = images(30, seed=1)
    Y = 50 * responses(X) + 1000
    network, _ = encoder.open()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fitted = clone(encoder).fit(X, Y)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert fitted.coef_.shape == (4, 6)
    assert fitted.intercept_.shape == (4,)
    z = (Y - Y.mean(axis=0)) / Y.std(axis=0)
    unit = torch.from_numpy(unit_norm(X))
    written = hyper_weights(network, unit, torch.from_numpy(z.astype(np.float32)))
    expected = (unit @ written.coef.T + written.intercept).numpy() * Y.std(axis=0) + Y.mean(axis=0)
    np.testing.assert_allclose(fitted.predict(X), expected, rtol=1e-4)
    np.testing.assert_allclose(fitted.predict(3 * X[:2]), fitted.predict(X)[:2], rtol=1e-5)


def test_neither_the_order_of_images_nor_the_arrays_of_the_caller_change(encoder):
    X = images(30, seed=2)
    Y = responses(X)
    kept = X.copy(), Y.copy()
    order = rng(0).permutation(30)
    first, second = clone(encoder).fit(X, Y), clone(encoder).fit(X[order], Y[order])
    np.testing.assert_allclose(first.coef_, second.coef_, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(first.attention()[:, order], second.attention(), atol=1e-5)
    np.testing.assert_array_equal(X, kept[0])
    np.testing.assert_array_equal(Y, kept[1])


def test_attention_is_a_share(encoder):
    X = images(25, seed=3)
    fitted = clone(encoder).fit(X, responses(X))
    attention = fitted.attention()
    assert attention.shape == (4, 25)
    assert (attention >= 0).all()
    assert (attention.sum(axis=1) < 1).all()
    np.testing.assert_allclose(fitted.attention([2]), attention[2:3], atol=1e-6)


def test_one_target(encoder):
    X = images(25, seed=4)
    y = responses(X)[:, 0]
    fitted = clone(encoder).fit(X, y)
    assert fitted.predict(X).shape == (25,)
    assert fitted.score(X, y) == pytest.approx(fitted.score_targets(X, y)[0])


def test_scores_are_r2(encoder):
    X = images(40, seed=5)
    Y = responses(X)
    fitted = clone(encoder).fit(X[:30], Y[:30])
    left = ((Y[30:] - fitted.predict(X[30:])) ** 2).sum(axis=0)
    expected = 1 - left / ((Y[30:] - Y[30:].mean(axis=0)) ** 2).sum(axis=0)
    np.testing.assert_allclose(fitted.score_targets(X[30:], Y[30:]), expected, rtol=1e-5)
    assert fitted.score(X[30:], Y[30:]) == pytest.approx(expected.mean(), rel=1e-5)
    with pytest.raises(InputError, match="Y has shape"):
        fitted.score_targets(X[30:], Y[30:, :2])


def test_a_context_beyond_the_trained_warns_once_and_runs(encoder):
    X = images(150, seed=6)
    with pytest.warns(UserWarning, match="150 images; the network was trained with") as caught:
        fitted = clone(encoder).fit(X, responses(X))
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(fitted.predict(X[:5])).all()


def test_third_stage_excludes_the_subject_to_be_predicted(encoder, tmp_path):
    X = {name: images(40, seed=number) for number, name in enumerate("abc")}
    Y = {name: responses(X[name], 3 + number) for number, name in enumerate("abc")}
    with pytest.raises(LeakError, match="b is to be predicted") as caught:
        clone(encoder).fit_subjects(X, Y, held_out=["b"], steps=1)
    assert caught.value.ids == ["b"]
    learned = clone(encoder).fit_subjects(
        {name: X[name] for name in "ac"}, {name: Y[name] for name in "ac"}, held_out=["b"], steps=2
    )
    assert learned.origin.subjects == ("a", "c")
    assert set(learned.origin.training) == {"synthetic", "context", "subjects"}
    assert learned.origin.embedding_model == "test:a"
    learned.fit(X["b"][:30], Y["b"][:30], subject="b")
    with pytest.raises(LeakError, match="a is to be predicted"):
        learned.fit(X["a"], Y["a"], subject="a")
    with pytest.raises(LeakError, match="a is to be predicted"):
        learned.fit_subjects({"b": X["b"]}, {"b": Y["b"]}, held_out=["a"], steps=1)
    assert encoder.origin.subjects == ()  # the one it was cloned from is as it was
    assert not np.allclose(learned.coef_, clone(encoder).fit(X["b"][:30], Y["b"][:30]).coef_)


def test_subjects_alone_train_a_new_network_and_stop_early():
    X, Y = {"a": images(60)}, {"a": responses(images(60))}
    schedule = Schedule(6, learning_rate=0.0, warmup=0, validate_every=1, patience=2)
    stage = Stage("subjects", schedule, (10, 20), n_voxels=4)
    learned = InContextEncoder(None, **SIZE).fit_subjects(X, Y, stage=stage)
    assert learned.origin.training["subjects"]["steps"] == 3
    assert learned.origin.context == (10, 20)


def test_a_network_goes_to_disk_and_back(encoder, tmp_path):
    X = images(30, seed=7)
    Y = responses(X)
    fitted = clone(encoder).fit(X, Y)
    folder = encoder.save_pretrained(tmp_path / "network")
    back = InContextEncoder.from_pretrained(folder).fit(X, Y)
    np.testing.assert_array_equal(back.coef_, fitted.coef_)
    assert back.origin == encoder.origin
    half = encoder.save_pretrained(tmp_path / "half", dtype="float16")
    near = InContextEncoder.from_pretrained(half).fit(X, Y)
    np.testing.assert_allclose(near.predict(X), fitted.predict(X), rtol=0.02, atol=0.02)
    sizes = [(path / "model.safetensors").stat().st_size for path in (folder, half)]
    assert sizes[1] < 0.55 * sizes[0]


def test_a_fitted_encoder_goes_to_disk_and_back(encoder, tmp_path):
    X = images(30, seed=8)
    folder = encoder.save_pretrained(tmp_path / "network")
    fitted = InContextEncoder.from_pretrained(folder).fit(X, responses(X))
    save_estimator(fitted, tmp_path / "estimator")
    back = load_estimator(tmp_path / "estimator")
    np.testing.assert_array_equal(back.predict(X), fitted.predict(X))
    np.testing.assert_array_equal(back.attention(), fitted.attention())
    other = InContextEncoder(None, **SIZE, seed=1).pretrain(images(120), steps=1)
    other.save_pretrained(folder)
    back = load_estimator(tmp_path / "estimator")
    with pytest.raises(InputError, match="not the one that this encoder was fitted with"):
        back.attention()


def test_seeds_decide_the_weights():
    first, second, third = (
        InContextEncoder(None, **SIZE, seed=seed).pretrain(images(), steps=1).open()[0]
        for seed in (0, 0, 1)
    )
    assert torch.equal(first.registers, second.registers)
    assert not torch.equal(first.registers, third.registers)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"format": 2}, CorruptFileError, "has format 2; this brainkit reads 1"),
        ({"kind": "prefix"}, CorruptFileError, "is that of a 'prefix'"),
        ({"architecture": {"embedding": 6, "depth": 1}}, CorruptFileError, "not the configuration"),
        ({"architecture": {"embedding": 7, **SIZE}}, InputError, "fit only in part"),
    ],
)
def test_checkpoints_that_are_not_ours(encoder, tmp_path, change, error, message):
    folder = encoder.save_pretrained(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(error, match=message):
        load_network(folder)


def test_checkpoints_that_are_damaged_or_missing(encoder, tmp_path):
    with pytest.raises(MissingFileError):
        InContextEncoder.from_pretrained(tmp_path / "nowhere")
    folder = encoder.save_pretrained(tmp_path / "network")
    (folder / "config.json").write_text("{")
    with pytest.raises(CorruptFileError, match="not the configuration"):
        load_network(folder)
    (folder / "config.json").unlink()
    with pytest.raises(MissingFileError, match="configuration"):
        load_network(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, Y: (X[:, :4], Y), "reads embeddings of 6 numbers, those of test:a; got 4"),
        (lambda X, Y: (X, Y[:-1]), "30 images but responses of shape"),
        (lambda X, Y: (X, np.where(Y[0, 1] == Y, np.nan, Y)), "1 of 4 targets hold NaN"),
        (lambda X, Y: (X, Y * [1, 1, 0, 1]), "1 of 4 targets are constant.*number 2"),
        (lambda X, Y: (X[:1], Y[:1]), "at least 2 images"),
        (lambda X, Y: (X * 0, Y), "embeddings are zero"),
        (lambda X, Y: (X, Y[:, :0]), "responses of shape"),
    ],
)
def test_bad_support(encoder, change, message):
    X = images(30, seed=9)
    X, Y = change(X, responses(X))
    with pytest.raises(InputError, match=message):
        clone(encoder).fit(X, Y)


def test_embeddings_of_another_model_are_refused():
    axes = np.diag(np.geomspace(1, 0.01, 12))
    seen = rng(0).standard_normal((500, 12)) @ axes + 1
    encoder = InContextEncoder(None, **SIZE).pretrain(seen, steps=1, embedding_model="test:a")
    other = rng(1).standard_normal((30, 12))
    Y = responses(other)
    with pytest.raises(InputError, match="do not look like those of test:a"):
        encoder.fit(other, Y)
    with pytest.raises(InputError, match="reads the embeddings of test:a; got those of test:b"):
        encoder.fit(seen[:30], Y, embedding_model="test:b")
    encoder.fit(other, Y, embedding_model="test:a")


def test_prediction_of_another_width(encoder):
    X = images(30, seed=10)
    fitted = clone(encoder).fit(X, responses(X))
    with pytest.raises(InputError, match="embeddings of 6 numbers; got 5"):
        fitted.predict(X[:, :5])


def test_an_encoder_without_a_network_says_so():
    with pytest.raises(InputError, match="has no network yet"):
        InContextEncoder(None).fit(images(), responses(images()))


def test_training_in_half_precision_comes_near_that_in_single():
    half, single = (
        InContextEncoder(None, **SIZE, precision=precision).pretrain(images(60), steps=3)
        for precision in ("bfloat16", "float32")
    )
    found = [one.open()[0].registers for one in (half, single)]
    assert found[0].dtype == torch.float32
    torch.testing.assert_close(found[0], found[1], atol=0.01, rtol=0.01)
    assert not torch.equal(found[0], found[1])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there():
    with pytest.raises(InputError, match="no GPU for device='cuda'"):
        InContextEncoder(None, **SIZE, device="cuda").pretrain(images(), steps=1)


def test_subjects_that_do_not_fit():
    with pytest.raises(InputError, match="same subjects"):
        InContextEncoder(None, **SIZE).fit_subjects({"a": images()}, {"b": responses(images())})


def test_a_subject_that_the_network_learned_from_is_warned_of_once(encoder):
    X, Y = {"set/a": images(40)}, {"set/a": responses(images(40))}
    learned = clone(encoder).fit_subjects(X, Y, steps=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):  # as in folds and null runs
            clone(learned).set_context(FitContext(known_as=("set/a", "a")))
    assert [str(one.message) for one in caught] == [
        "The network of checkpoint=None learned from set/a, which is predicted here: the scores "
        "are not those of a new subject. Take a network that was trained without it."
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clone(learned).set_context(FitContext(known_as=("set/b", "b")))
        clone(learned).set_context(FitContext(known_as=("other/a", "a")))
    said = learned.describe_network(["set/a", "a"])
    assert said["trained_on"] == said["learned_from"] == ["set/a"]
    assert said["embedding_model"] == "test:a"
    assert said["sha256"] == weights_hash(learned.open()[0])


@pytest.mark.slow
def test_the_published_size_trains_and_predicts():
    X = images(12, width=512)
    stages = [Stage("synthetic", Schedule(1, warmup=0), (6, 6), n_voxels=1, n_draws=1, n_query=4)]
    encoder = InContextEncoder(None, device="cpu").pretrain(X, stages=stages)
    assert encoder.origin.training["synthetic"]["steps"] == 1
    assert np.isfinite(encoder.fit(X[:6], responses(X[:6], 1)).predict(X[6:])).all()
