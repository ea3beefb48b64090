"""The base of deep encoders: held-out images, standardising, resuming, saving, bad input."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

import brainkit
from brainkit.arrays.persistence import ARRAYS, STRUCTURE
from brainkit.encoding.deep import DeepEncoder
from brainkit.encoding.deep.rows import (
    Epochs,
    as_targets,
    as_tokens,
    fit_scale,
    hold_out,
    resolve_grid,
)
from brainkit.encoding.readouts import GaussianReadout, LinearReadout
from brainkit.errors import CorruptFileError, InputError, UnknownNameError
from brainkit.evaluation.response_scores import pearson_r

RNG = np.random.default_rng(0)
X = (3 + 2 * RNG.normal(size=(120, 9, 4))).astype(np.float32)
WEIGHTS = RNG.normal(size=(9, 4, 3))
Y = (np.einsum("ntc,tcv->nv", X, WEIGHTS) + RNG.normal(size=(120, 3)) + 50).astype(np.float32)
QUICK = {"epochs": 6, "batch_size": 16, "device": "cpu"}


def quick(**parameters):
    return LinearReadout(**{**QUICK, "learning_rate": 0.05, **parameters})


def same_weights(one, other):
    first, second = one.module_.state_dict(), other.module_.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


# ------------------------------------------------------------------------------------------- fit


def test_it_learns_and_scores_in_the_units_of_the_data():
    model = quick(epochs=60).fit(X[:100], Y[:100])
    predicted = model.predict(X[100:])
    assert predicted.dtype == np.float32
    residual = ((Y[100:] - predicted) ** 2).sum(axis=0)
    expected = 1 - residual / ((Y[100:] - Y[100:].mean(axis=0)) ** 2).sum(axis=0)
    np.testing.assert_allclose(model.score_targets(X[100:], Y[100:]), expected, rtol=1e-4)
    assert model.score(X[100:], Y[100:]) == pytest.approx(expected.mean(), rel=1e-4)
    assert model.score(X[100:], Y[100:]) > 0.8
    assert (model.n_tokens_, model.n_features_in_, model.n_targets_) == (9, 4, 3)
    assert model.grid_ == (3, 3)


def test_what_is_kept_is_the_best_epoch_on_the_images_held_out():
    model = quick(epochs=10).fit(X, Y)
    held = hold_out(len(X), 0.1, None, model.seed)
    r = pearson_r(Y[held], model.predict(X[held]))
    np.testing.assert_allclose(model.validation_r_, np.asarray(r), atol=1e-5)
    scores = [score for _, score in model.report_.scores]
    assert max(scores) == pytest.approx(model.validation_r_.mean(), abs=1e-6)
    assert model.best_epoch_ == 1 + int(np.argmax(scores))
    assert model.report_.trained == {"readout": 9 * 4 * 3 + 3}
    assert model.report_.frozen == {}


def test_training_stops_when_the_score_does_not_rise():
    noise = np.random.default_rng(3).normal(size=(120, 3))
    model = quick(epochs=200, patience=2, learning_rate=0.2).fit(X, noise)
    epochs = len(model.report_.scores)
    assert epochs == model.best_epoch_ + 2 < 200


def test_without_validation_all_epochs_are_trained():
    model = quick(validation=0.0, epochs=4).fit(X, Y)
    assert model.report_.scores == []
    assert model.best_epoch_ == 4
    assert np.isnan(model.validation_r_).all()


def test_statistics_are_those_of_the_training_rows():
    held = hold_out(len(X), 0.1, None, 0)
    training = np.setdiff1d(np.arange(len(X)), held)
    other_x, other_y = X.copy(), Y.copy()
    other_x[held] += 100
    other_y[held] *= 7
    for features, targets in ((X, Y), (other_x, other_y)):
        scale = quick(epochs=1).fit(features, targets).scale_
        tokens = X[training].reshape(-1, 4).astype(np.float64)
        np.testing.assert_allclose(scale["x_mean"], tokens.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(scale["x_scale"], tokens.std(axis=0), rtol=1e-6)
        np.testing.assert_allclose(scale["y_mean"], Y[training].mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(scale["y_scale"], Y[training].std(axis=0), rtol=1e-5)


def test_statistics_in_chunks_are_those_of_the_whole(monkeypatch):
    rows, held = np.arange(100), np.arange(100, 120)
    whole = fit_scale(X, Y, rows, held)
    monkeypatch.setattr("brainkit.encoding.deep.rows.CHUNK_BYTES", 4 * 36 * 7)
    pieces = fit_scale(X, Y, rows, held)
    np.testing.assert_allclose(whole.x_mean, pieces.x_mean, rtol=1e-6)
    np.testing.assert_allclose(whole.x_scale, pieces.x_scale, rtol=1e-6)


def test_a_constant_feature_is_only_centred():
    constant = X.copy()
    constant[:, :, 2] = 0.1
    model = quick().fit(constant, Y)
    assert model.scale_["x_scale"][2] == 1
    assert np.isfinite(model.predict(constant)).all()


def test_lazy_features_give_the_same_bits_and_nothing_is_changed(tmp_path):
    np.save(tmp_path / "x.npy", X)
    lazy = np.load(tmp_path / "x.npy", mmap_mode="r")
    before = X.copy(), Y.copy()
    first, second = quick().fit(X, Y), quick().fit(lazy, Y)
    assert same_weights(first, second)
    np.testing.assert_array_equal(first.predict(X), second.predict(lazy))
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(Y, before[1])


def test_the_seed_alone_decides():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = GaussianReadout(start="none", **QUICK).fit(X, Y)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    assert same_weights(first, GaussianReadout(start="none", **QUICK).fit(X, Y))
    assert not same_weights(first, GaussianReadout(start="none", seed=1, **QUICK).fit(X, Y))


def test_a_prediction_does_not_depend_on_the_rest_of_the_batch():
    model = quick().fit(X, Y)
    whole = model.predict(X)
    np.testing.assert_allclose(model.predict(X[5:6]), whole[5:6], rtol=1e-5)
    np.testing.assert_allclose(model.predict(X[::-1])[::-1], whole, rtol=1e-5)


def test_one_target_as_a_vector():
    model = quick().fit(X, Y[:, 0])
    assert model.predict(X).shape == (120,)
    assert model.score_targets(X, Y[:, 0]).shape == (1,)


def test_bfloat16_trains_near_to_float32():
    scores = [
        quick(precision=precision, epochs=60).fit(X[:100], Y[:100]).score(X[100:], Y[100:])
        for precision in ("float32", "bfloat16")
    ]
    assert scores[0] == pytest.approx(scores[1], abs=0.02)


@given(st.integers(5, 60), st.floats(0.05, 0.6), st.integers(1, 4), st.integers(0, 3))
def test_groups_are_held_out_whole(n_groups, share, repeats, seed):
    groups = np.repeat(np.arange(n_groups), repeats)[::-1]
    held = hold_out(len(groups), share, groups, seed)
    chosen = np.unique(groups[held])
    assert len(held) == repeats * len(chosen)
    assert len(chosen) == max(2, round(share * n_groups))
    np.testing.assert_array_equal(held, np.sort(held))


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 5))
def test_an_epoch_sees_each_row_once(n_rows, batch_size, seed):
    drawn = Epochs(n_rows, batch_size, seed)
    for epoch in (0, 3):
        steps = range(epoch * drawn.steps, (epoch + 1) * drawn.steps)
        rows = np.concatenate([drawn.numbers(step) for step in steps])
        np.testing.assert_array_equal(np.sort(rows), np.arange(n_rows))
    again = Epochs(n_rows, batch_size, seed).numbers(3 * drawn.steps)  # after no other step
    np.testing.assert_array_equal(again, drawn.numbers(3 * drawn.steps))


# ---------------------------------------------------------------------------------------- resume


class StopError(Exception):
    """The process is killed here."""


def test_an_interrupted_fit_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    whole = quick().fit(X, Y)
    true_loss, seen = LinearReadout._loss, []

    def killed(self, module, x, y):
        seen.append(1)
        if len(seen) == 30:
            raise StopError
        return true_loss(self, module, x, y)

    with monkeypatch.context() as patched:
        patched.setattr(LinearReadout, "_loss", killed)
        with pytest.raises(StopError):
            quick(folder=tmp_path).fit(X, Y)
    assert list(tmp_path.iterdir())
    resumed = quick(folder=tmp_path).fit(X, Y)
    assert same_weights(whole, resumed)
    assert resumed.report_.scores == whole.report_.scores
    np.testing.assert_array_equal(resumed.predict(X), whole.predict(X))


PERMUTED = np.random.default_rng(5).permutation(len(X))
GROUPS = np.repeat(np.arange(60), 2)


@pytest.mark.parametrize(
    "other",
    [
        (X[PERMUTED], Y, GROUPS, {}),  # a null: every statistic is that of the true model
        (X, Y[PERMUTED], GROUPS, {}),
        (X[PERMUTED], Y[PERMUTED], GROUPS[PERMUTED], {}),  # in another order: other batches
        (X, Y, GROUPS[PERMUTED], {}),
        (X, Y, None, {}),
        (X[:119], Y[:119], GROUPS[:119], {}),
        (X, Y, GROUPS, {"seed": 1}),
        (X, Y, GROUPS, {"side": 2}),
        (X, Y, GROUPS, {"learning_rate": 0.1}),
        (X, Y, GROUPS, {"epochs": 7}),
        (X, Y, GROUPS, {"validation": 0.2}),
        (X, Y, GROUPS, {"loss": "ccc"}),
    ],
    ids=[
        "X exchanged", "Y exchanged", "another order", "groups exchanged", "no groups",
        "a row less", "seed", "size", "learning rate", "epochs", "held out", "loss",
    ],
)  # fmt: skip
@pytest.mark.parametrize("validation", [0.0, 0.1])
def test_another_fit_in_the_same_folder_begins_anew(tmp_path, validation, other):
    features, targets, groups, change = other
    if groups is None or not np.array_equal(groups, GROUPS):
        validation = 0.1  # without validation, groups have no effect
    given = {"epochs": 3, "validation": validation}
    first = quick(folder=tmp_path, **given).fit(X, Y, groups=GROUPS)
    alone = quick(**(given | change)).fit(features, targets, groups=groups)
    beside = quick(folder=tmp_path, **(given | change)).fit(features, targets, groups=groups)
    assert same_weights(beside, alone)
    assert not same_weights(beside, first)
    again = quick(folder=tmp_path, **given).fit(X, Y, groups=GROUPS)
    assert same_weights(again, first)
    assert again.report_.seconds == first.report_.seconds  # taken up, not trained again
    assert len(list(tmp_path.iterdir())) == 2


def test_names_of_groups_do_not_matter_and_what_cannot_be_told_is_refused(tmp_path):
    first = quick(folder=tmp_path, epochs=1).fit(X, Y, groups=GROUPS)
    names = np.array([f"image-{number:02d}" for number in GROUPS])
    again = quick(folder=tmp_path, epochs=1).fit(X, Y, groups=names)
    assert again.report_.seconds == first.report_.seconds
    model = quick(folder=tmp_path, epochs=1).set_params(average=lambda: 0.9)
    with pytest.raises(InputError, match="cannot be told"):
        model.fit(X, Y)


def test_what_ran_is_kept(tmp_path):
    model = quick(epochs=2, precision="bfloat16").fit(X, Y)
    told = (model.device_, model.dtype_, model.precision_, model.batch_size_)
    assert told == ("cpu", "float32", "bfloat16", 16)
    assert model.report_.devices == {"cpu": model.report_.steps}
    loaded = brainkit.load_estimator(brainkit.save_estimator(model, tmp_path / "model"))
    assert loaded.report_ == model.report_
    assert (loaded.device_, loaded.precision_, loaded.batch_size_) == ("cpu", "bfloat16", 16)


@pytest.mark.parametrize("loss", ["ccc", "mse+ccc"])
def test_concordance_trains_and_gives_predictions_their_spread(loss):
    train, test = slice(0, 100), slice(100, 120)
    noisy = Y + 3 * Y.std(axis=0) * np.random.default_rng(6).normal(size=Y.shape)
    found = {
        name: quick(epochs=60, loss=name, validation=0).fit(X[train], noisy[train])
        for name in ("mse", loss)
    }
    r = {name: np.mean(pearson_r(Y[test], one.predict(X[test]))) for name, one in found.items()}
    assert r[loss] > 0.3
    spread = {name: one.predict(X[test]).std(axis=0).mean() for name, one in found.items()}
    assert spread[loss] > spread["mse"]


# ----------------------------------------------------------------------------------------- files


def test_a_fitted_encoder_comes_back_bit_for_bit(tmp_path):
    model = GaussianReadout(field_of_view=8.4, grid=(3, 3), **QUICK).fit(X, Y)
    loaded = brainkit.load_estimator(brainkit.save_estimator(model, tmp_path / "model"))
    assert loaded.get_params() == model.get_params()
    assert loaded.predict(X).tobytes() == model.predict(X).tobytes()
    assert loaded.report_ == model.report_
    assert loaded.grid_ == (3, 3)
    assert not loaded.module_.training
    np.testing.assert_array_equal(loaded.validation_r_, model.validation_r_, strict=True)
    np.testing.assert_array_equal(loaded.prf_x_, model.prf_x_, strict=True)
    assert set(vars(loaded)) == set(vars(model))
    unfitted = brainkit.save_estimator(clone(model), tmp_path / "unfitted")
    again = brainkit.load_estimator(unfitted)
    assert again.get_params() == model.get_params()
    assert not hasattr(again, "module_")


def test_another_format_and_other_weights_are_refused(tmp_path):
    folder = brainkit.save_estimator(quick().fit(X, Y), tmp_path / "model")
    text = (folder / STRUCTURE).read_text()
    structure = json.loads(text)
    state = dict(structure["estimator"]["state"]["$dict"])
    state["format"] = 7
    structure["estimator"]["state"]["$dict"] = list(state.items())
    (folder / STRUCTURE).write_text(json.dumps(structure))
    with pytest.raises(CorruptFileError, match="saved in format 7; this brainkit reads 1"):
        brainkit.load_estimator(folder)
    (folder / STRUCTURE).write_text(text.replace('"n_tokens_",\n', '"n_tokens",\n'))
    with pytest.raises(CorruptFileError, match="n_tokens is not the name of a fitted"):
        brainkit.load_estimator(folder)
    other = brainkit.save_estimator(quick(side=2).fit(X, Y), tmp_path / "other")
    (folder / STRUCTURE).write_text(text)
    (folder / ARRAYS).write_bytes((other / ARRAYS).read_bytes())
    with pytest.raises(CorruptFileError, match="weights of this LinearReadout are not those"):
        brainkit.load_estimator(folder)


def test_scikit_learn_sees_all_parameters():
    model = GaussianReadout(start="none", epochs=3, seed=4)
    names = set(model.get_params())
    assert {"start", "field_of_view", "epochs", "seed", "device", "grid", "folder"} <= names
    assert "training" not in names
    copy = clone(model.set_params(epochs=5))
    assert copy.get_params() == model.get_params()
    assert "epochs=5" in repr(model)


# ------------------------------------------------------------------------------------- bad input

NAN_Y, NAN_X, CONSTANT = Y.copy(), X.copy(), Y.copy()
NAN_Y[3, 1] = np.nan
NAN_X[7, 2, 1] = np.inf
CONSTANT[:, 2] = 4
BAD = {
    "NaN targets": (X, NAN_Y, {}, r"1 of 3 targets hold NaN or infinity.*columns 1\. Drop"),
    "NaN features": (NAN_X, Y, {}, "X holds NaN or infinity in rows 7"),
    "constant targets": (X, CONSTANT, {}, "1 of 3 targets are constant.*columns 2"),
    "other rows": (X, Y[:100], {}, r"X has 120, Y has shape \(100, 3\)"),
    "pooled features": (X[:, 0], Y, {}, r"X must be \(n, token, feature\); got \(120, 4\)"),
    "text": (X.astype(str), Y, {}, "real numbers"),
    "targets of three axes": (X, Y[:, None], {}, r"Y must be numbers \(n, target\)"),
    "tokens not square": (X[:, :8], Y, {}, "8 tokens make no square map. Give grid"),
    "another grid": (X, Y, {"grid": (2, 4)}, "2 × 4 does not hold 9 tokens"),
    "groups of another length": (X, Y, {"groups": np.arange(4)}, "one value for each of the 120"),
    "one group": (X, Y, {"groups": np.zeros(120)}, "leaves 0 of 120 rows to train on"),
    "share of all": (X, Y, {"validation": 1.0}, "from 0 to below 1"),
    "no epochs": (X, Y, {"epochs": 0}, "epochs must be a whole number from 1"),
    "half a row": (X, Y, {"batch_size": 0.5}, "batch_size must be a whole number"),
    "no steps": (X, Y, {"learning_rate": 0.0}, "learning_rate must be above 0"),
    "another loss": (X, Y, {"loss": "mae"}, "loss 'mae': there are mse, ccc, mse\\+ccc"),
    "a rate that grows": (X, Y, {"final_rate": 2.0}, "final_rate is a share from 0 to 1"),
    "no gradient": (X, Y, {"clip": 0.0}, "clip is above 0"),
    "no device": (X, Y, {"device": "gpu"}, "'gpu' is no device"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    features, targets, options, message = BAD[case]
    groups = options.get("groups")
    model = quick(**{name: value for name, value in options.items() if name != "groups"})
    with pytest.raises(InputError, match=message):
        model.fit(features, targets, groups=groups)


def test_an_unknown_precision_names_those_there_are():
    with pytest.raises(UnknownNameError, match="bfloat16"):
        quick(precision="float16").fit(X, Y)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there():
    with pytest.raises(InputError, match=r"no GPU for device='cuda'; give 'auto' or 'cpu'"):
        quick(device="cuda").fit(X, Y)
    assert quick(device="auto").fit(X, Y).device_ == "cpu"


def test_other_features_than_were_fitted():
    model = quick().fit(X, Y)
    with pytest.raises(InputError, match=r"fitted to 9 tokens of 4 features; X has shape"):
        model.predict(X[:, :4])
    with pytest.raises(InputError, match="NaN or infinity in rows 7"):
        model.predict(NAN_X)


def test_a_class_without_a_module_says_so():
    with pytest.raises(TypeError, match="DeepEncoder does not say which module"):
        DeepEncoder(device="cpu").fit(X, Y)


def test_what_is_read_from_arrays():
    assert as_tokens(X.tolist()).shape == X.shape
    assert as_targets(Y.astype(np.float64), 120).dtype == np.float32
    assert np.shares_memory(as_targets(Y, 120), Y)
    assert resolve_grid(None, 16) == (4, 4)
    assert resolve_grid((2, 8), 16) == (2, 8)
