"""Ridge to very many targets: the numbers of plain ridge, from files, in parts, and resumed."""

import json
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import KFold, LeaveOneGroupOut

import brainkit
from brainkit.arrays.sources import Memory
from brainkit.decoding import DECODERS, MassiveRidge
from brainkit.decoding import target_streams as streams
from brainkit.decoding.massive_solver import KernelInverses, held_out_map, map_of_inverse
from brainkit.decoding.target_streams import TargetColumns
from brainkit.errors import (
    CorruptFileError,
    InputError,
    MissingFileError,
    OutputError,
    UnknownNameError,
)
from brainkit.linear.spectrum import decompose

DUAL, PRIMAL = (60, 150), (90, 30)  # samples, units
TOKENS, WIDTH = 3, 20


def data(shape=DUAL, n_test=12, dtype=np.float64, seed=0):
    """Responses of unequal units, tokens (n, 3, 20) that depend on them, and test responses."""
    rng = np.random.default_rng(seed)
    n, v = shape
    X = rng.normal(size=(n + n_test, v)) * np.geomspace(0.5, 3, v) + 4
    Y = X[:, :9] @ rng.normal(size=(9, TOKENS * WIDTH)) + 4 * rng.normal(size=(n + n_test, 60)) + 30
    Y = Y.reshape(-1, TOKENS, WIDTH)
    return X[:n].astype(dtype), Y[:n].astype(dtype), X[n:].astype(dtype)


def plain(**settings):
    """Ridge as other packages have it: units as they are, predictions as they come."""
    return MassiveRidge(**{"standardise": False, "spread": None, "n_targets_batch": 16, **settings})


def same(one, other):
    np.testing.assert_array_equal(one, other, strict=True)


# ------------------------------------------------------------------------------- the solution


@pytest.mark.parametrize("shape", [DUAL, PRIMAL])
@pytest.mark.parametrize(("dtype", "limit"), [(np.float64, 1e-10), (np.float32, 1e-5)])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_it_is_scikit_learns_ridge_for_every_token(shape, dtype, limit, fit_intercept):
    X, Y, new = data(shape, dtype=dtype)
    alphas = {"a": 60.0, "b": 100.0, "c": 60.0}
    blocks = {name: Y[:, token] for token, name in enumerate(alphas)}
    model = plain(alphas=alphas, fit_intercept=fit_intercept).fit(X, blocks)
    predicted = model.predict(new)
    assert predicted.dtype == dtype
    once = plain(alphas=alphas, fit_intercept=fit_intercept).fit_predict(X, blocks, new)
    coef, intercept = model.primal()
    for token, (name, alpha) in enumerate(alphas.items()):
        peer = Ridge(alpha, fit_intercept=fit_intercept)
        peer.fit(X.astype(float), Y[:, token].astype(float))
        expected = peer.predict(new.astype(float))
        size = np.abs(expected).max()
        assert np.abs(model.predict(new, name) - expected).max() < limit * size
        assert np.abs(once[:, slice(*model.blocks_[name])] - expected).max() < limit * size
        part = slice(*model.blocks_[name])
        largest = np.abs(peer.coef_).max()
        np.testing.assert_allclose(coef[part], peer.coef_, atol=10 * limit * largest)
        np.testing.assert_allclose(intercept[part], peer.intercept_, rtol=1e3 * limit, atol=1e-3)
        same(model.predict(new, name), predicted[:, part])


def test_inverses_and_a_decomposition_give_the_same(monkeypatch):
    X, Y, _ = data()
    used, groups = [], np.arange(60) // 2
    suits = KernelInverses.suits

    def noted(self, alphas):
        used.append(suits(self, alphas))
        return used[-1]

    monkeypatch.setattr(KernelInverses, "suits", noted)
    by_inverse = MassiveRidge(60.0).fit(X, Y, groups=groups)
    monkeypatch.setattr(KernelInverses, "suits", lambda *_: False)
    by_spectrum = MassiveRidge(60.0).fit(X, Y, groups=groups)
    assert used == [True]
    np.testing.assert_allclose(by_inverse.weights_, by_spectrum.weights_, atol=1e-12)
    for name in ("cv_r2_", "predicted_mean_", "gain_"):
        np.testing.assert_allclose(
            getattr(by_inverse, name), getattr(by_spectrum, name), rtol=1e-9, atol=1e-12
        )
    inverses = KernelInverses(X, np.zeros(150), X @ X.T, centred=False)
    largest = np.linalg.eigvalsh(X @ X.T)[-1]
    assert inverses.values[1] == pytest.approx(largest, rel=1e-2)
    assert not suits(inverses, [[1.0], [2.0, 3.0]])
    assert not suits(inverses, [[largest * 1e-6]])  # too little for an inverse to be exact
    assert suits(inverses, [[900.0]] * 200)
    assert not suits(inverses, [[900.0 + number] for number in range(9)])


@pytest.mark.parametrize("shape", [DUAL, PRIMAL])
def test_many_targets_that_share_a_penalty_are_solved_by_a_map_to_the_same_numbers(shape):
    X, Y, new = data(shape)
    many = np.tile(Y.reshape(len(Y), -1), (1, 8))  # 480 targets, above twice any number of rows
    few = plain(alphas=30.0).fit(X, Y)
    np.testing.assert_allclose(
        plain(alphas=30.0).fit(X, many).predict(new)[:, :60], few.predict(new), rtol=1e-10
    )
    np.testing.assert_allclose(  # by eigenvectors, as there was a choice to be made
        plain(alphas=[1e-2, 30.0]).fit(X, many).predict(new)[:, :60], few.predict(new), rtol=1e-10
    )
    np.testing.assert_allclose(
        plain(alphas=30.0).fit_predict(X, many, new)[:, 60:120], few.predict(new), rtol=1e-10
    )


def test_scaled_units_are_those_of_ridge_after_a_scaler():
    X, Y, new = data()
    X[:, 3] = 7.0  # a dead voxel
    model = MassiveRidge(alphas=50.0, spread=None).fit(X, Y)
    scale = np.where(X.std(axis=0) > 0, X.std(axis=0), 1)
    peer = Ridge(50.0).fit(X / scale, Y.reshape(len(Y), -1))
    np.testing.assert_allclose(model.predict(new), peer.predict(new / scale), rtol=1e-9)
    np.testing.assert_allclose(model.primal("targets")[0], peer.coef_ / scale, atol=1e-10)


# --------------------------------------------------------------------------------- held out


def left_out(X, Y, folds, alpha, fit_intercept=True):
    predicted = np.empty_like(Y)
    for train, test in folds:
        fit = Ridge(alpha, fit_intercept=fit_intercept, solver="svd").fit(X[train], Y[train])
        predicted[test] = fit.predict(X[test])
    return predicted


@settings(max_examples=40, deadline=None)
@given(
    st.integers(4, 16), st.integers(1, 24), st.integers(2, 6), st.booleans(),
    st.floats(0.05, 200), st.integers(0, 10**6),
)  # fmt: skip
def test_held_out_residuals_are_those_of_refits(n, v, n_groups, centred, alpha, seed):
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(n, v)) + 1, rng.normal(size=(n, 3)) + 2
    groups = rng.permutation(np.arange(n) % n_groups) if n_groups < 6 else rng.permutation(n)
    codes = np.unique(groups, return_inverse=True)[1]
    rows = np.sort(rng.permutation(n)[: max(1, n // 2)])
    spectrum = decompose(X, [alpha], centred=centred)
    mapped = held_out_map(spectrum.left, spectrum.values, alpha, codes, rows, centred=centred)
    folds = LeaveOneGroupOut().split(X, groups=groups)
    expected = (Y - left_out(X, Y, folds, alpha, centred))[rows]
    centred_targets = Y - Y.mean(axis=0) * centred
    np.testing.assert_allclose(mapped @ centred_targets, expected, atol=1e-7)
    mean = X.mean(axis=0) * centred
    inverses = KernelInverses(X, mean, (X - mean) @ (X - mean).T, centred=centred)
    mapped = map_of_inverse(inverses.inverse(alpha), codes, rows)
    np.testing.assert_allclose(mapped @ centred_targets, expected, atol=1e-7)


@pytest.mark.parametrize("shape", [DUAL, PRIMAL])
def test_penalties_of_targets_are_those_of_scikit_learns_leave_one_out(shape):
    X, Y, _ = data(shape)
    flat, alphas = Y.reshape(len(Y), -1), np.geomspace(1, 3e4, 9)
    flat = flat * 1.0
    flat[:, ::4] = np.random.default_rng(1).normal(size=flat[:, ::4].shape)  # nothing to learn
    model = plain(alphas=alphas, alpha_per_target=True).fit(X, flat)
    peer = RidgeCV(alphas, alpha_per_target=True).fit(X, flat)
    same(model.alpha_, peer.alpha_)
    assert len(set(model.alpha_)) > 3
    errors = -peer.best_score_ * len(X)
    total = np.square((flat - flat.mean(axis=0)) * len(X) / (len(X) - 1)).sum(axis=0)
    np.testing.assert_allclose(model.cv_r2_, 1 - errors / total, atol=1e-9)
    np.testing.assert_allclose(model.predict(X), peer.predict(X), rtol=1e-8)
    once = plain(alphas=alphas, alpha_per_target=True).fit_predict(X, flat, X)
    np.testing.assert_allclose(once, peer.predict(X), rtol=1e-8)


@pytest.mark.parametrize("shape", [DUAL, PRIMAL])
@pytest.mark.parametrize("way", ["loo", "groups", 4, KFold(5, shuffle=True, random_state=0), "gcv"])
def test_one_penalty_a_block_and_the_spread_of_its_held_out_predictions(shape, way):
    X, Y, new = data(shape)
    groups = None
    cv = way
    if way == "groups":  # three repeats of each image
        cv, groups = "loo", np.random.default_rng(2).permutation(np.arange(len(X)) // 3)
    folds = KFold(len(X) if way in ("loo", "gcv") else way if way == 4 else 5)
    folds = list(way.split(X) if isinstance(way, KFold) else folds.split(X))
    if groups is not None:
        folds = list(LeaveOneGroupOut().split(X, groups=groups))
    alphas = [3.0, 100.0, 1e6]
    blocks = {"first": Y[:, 0], "others": Y[:, 1:]}
    model = MassiveRidge(alphas, cv, standardise=False, n_targets_batch=16)
    model.fit(X, blocks, groups=groups)
    assert model.left_out_ == {"loo": "samples", "gcv": "samples"}.get(
        way, "groups" if way == "groups" else "folds"
    )
    for name, (start, stop) in model.blocks_.items():
        flat = blocks[name].reshape(len(X), -1)
        candidates = [left_out(X, flat, folds, alpha) for alpha in alphas]
        errors = [np.square(flat - one).sum() for one in candidates]
        best = int(np.argmin(errors))
        assert set(model.alpha_[start:stop]) == {alphas[best]}
        mean, scale = flat.mean(axis=0), flat.std(axis=0)
        held = (candidates[best] - mean) / scale
        np.testing.assert_allclose(model.predicted_mean_[start:stop], held.mean(0), atol=1e-8)
        np.testing.assert_allclose(model.predicted_scale_[start:stop], held.std(0), rtol=1e-8)
        raw = Ridge(alphas[best]).fit(X, flat).predict(new)
        expected = mean + (raw - mean - held.mean(0) * scale) / held.std(0)
        np.testing.assert_allclose(model.predict(new, name), expected, rtol=1e-8)
        np.testing.assert_allclose(
            model.predict_standardised(new, name), (raw - mean) / scale, atol=1e-8
        )
    once = model.fit_predict(X, blocks, new, groups=groups)
    np.testing.assert_allclose(once, model.predict(new) if model.weights_ is not None else once)
    np.testing.assert_allclose(
        once, MassiveRidge(alphas, cv, standardise=False).fit(X, blocks, groups).predict(new),
        rtol=1e-8,
    )  # fmt: skip


def test_some_held_out_samples_tell_nearly_what_all_do():
    X, Y, _ = data((400, 90))
    some, every = (MassiveRidge(200.0, n_held_out=n).fit(X, Y) for n in (100, None))
    assert (some.n_held_out_, every.n_held_out_) == (100, 400)
    ratio = some.predicted_scale_ / every.predicted_scale_
    assert 0.02 < ratio.std() < 0.12
    assert ratio.mean() == pytest.approx(1, abs=0.03)
    none = MassiveRidge(200.0, n_held_out=0, spread=None).fit(X, Y)
    assert np.isnan(none.cv_r2_).all()
    np.testing.assert_allclose(none.predict(X), every.set_params(spread=None).predict(X))


def test_restored_spread_is_that_of_the_targets():
    X, Y, _ = data((600, 80), n_test=600)
    X, Y, new, truth = X[:300], Y[:300], X[300:], Y[300:].reshape(300, -1)
    model = MassiveRidge(2000.0).fit(X, Y)
    shrunken = (model.predict_standardised(new) * model.scale_).std(axis=0) / truth.std(axis=0)
    restored = model.predict(new).std(axis=0) / truth.std(axis=0)
    assert shrunken.mean() < 0.75
    assert restored.mean() == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("shape", [DUAL, PRIMAL])
def test_a_row_alone_is_predicted_as_among_others(shape):
    X, Y, new = data(shape, dtype=np.float32)
    model = MassiveRidge(alphas=[10.0, 100.0]).fit(X, Y)
    together = model.predict(new)
    for row in range(len(new)):
        np.testing.assert_allclose(model.predict(new[row : row + 1])[0], together[row], rtol=1e-5)
        alone = MassiveRidge(alphas=[10.0, 100.0]).fit_predict(X, Y, new[row : row + 1])
        np.testing.assert_allclose(alone[0], together[row], rtol=2e-5)
    far = np.concatenate([new[:1], 50 * new[1:]])
    np.testing.assert_allclose(model.predict(far)[0], together[0], rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("alphas", [10.0, [1.0, 10.0]])
def test_constant_targets_are_predicted_as_what_they_are(dtype, alphas):
    X, Y, new = data(dtype=dtype)
    Y = Y.reshape(len(Y), -1)
    plain_choice = MassiveRidge(alphas).fit(X, np.delete(Y, [4, 17], axis=1))
    Y[:, 4], Y[:, 17] = 0.1, -3e4  # which their means in single precision are not
    model = MassiveRidge(alphas).fit(X, Y)
    for predicted in (model.predict(new), model.fit_predict(X, Y, new)):
        same(predicted[:, [4, 17]], np.tile(np.array([0.1, -3e4], dtype=dtype), (12, 1)))
        assert np.isfinite(predicted).all()
    assert np.flatnonzero(np.isnan(model.cv_r2_)).tolist() == [4, 17]
    same(np.delete(model.alpha_, [4, 17]), plain_choice.alpha_)


# ------------------------------------------------------------------------ files and resuming


def sources(folder, Y):
    """Give the same targets from everywhere that they may lie."""
    np.save(folder / "y.npy", Y)
    with h5py.File(folder / "y.h5", "w") as file:
        file["y"] = Y
    yield "path", folder / "y.npy"
    yield "text", str(folder / "y.npy")
    yield "map", np.load(folder / "y.npy", mmap_mode="r")
    yield "private map", np.load(folder / "y.npy", mmap_mode="c")
    yield "lazy", Memory(Y)
    with h5py.File(folder / "y.h5") as file:
        yield "hdf5", file["y"]


@pytest.mark.parametrize("alphas", [40.0, [10.0, 100.0]])
def test_targets_in_files_give_the_bits_of_targets_in_memory(tmp_path, alphas):
    X, Y, new = data(dtype=np.float32)
    settings = {"alphas": alphas, "n_targets_batch": 16}
    model = MassiveRidge(**settings).fit(X, Y)
    for name, source in sources(tmp_path, Y):
        other = MassiveRidge(**settings).fit(X, {"targets": source}, folder=tmp_path / name)
        same(other.predict(new), model.predict(new))
        streamed = other.predict(new, out=tmp_path / "predicted" / f"{name}.npy")
        same(np.asarray(streamed), model.predict(new))
        once = MassiveRidge(**settings).fit_predict(X, source, new, out=tmp_path / "once.npy")
        same(np.asarray(once), MassiveRidge(**settings).fit_predict(X, Y, new))
        same(np.load(tmp_path / name / "weights.npy"), model.weights_)


def test_every_stretch_of_columns_is_read_from_any_number_of_axes(tmp_path):
    values = np.arange(4 * 3 * 5 * 2, dtype=np.float32).reshape(4, 3, 5, 2)
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["y"] = values
        for source in (values, file["y"], Memory(values)):
            columns = TargetColumns(source, "y")
            assert columns.shape == (4, 30)
            for start, stop in ((0, 30), (3, 4), (9, 11), (7, 29), (20, 30)):
                got = columns[:, slice(start, stop)]
                same(got, values.reshape(4, -1)[:, start:stop])


def test_blocks_of_one_array_are_blocks_by_name():
    X, Y, new = data()
    alphas = {"latents": 5.0, "tokens": [50.0, 500.0]}
    one = MassiveRidge(alphas, blocks={"latents": 20, "tokens": 40}).fit(X, Y)
    named = MassiveRidge(alphas).fit(X, {"latents": Y[:, 0], "tokens": Y[:, 1:]})
    same(one.predict(new), named.predict(new))
    assert one.blocks_ == {"latents": (0, 20), "tokens": (20, 60)}
    same(one.predict(new, "tokens"), one.predict(new, slice(20, 60)))
    assert set(one.alpha_[:20]) == {5.0}
    same(one.alphas_, np.array([5.0, 50.0, 500.0]))


def test_half_precision_takes_half_the_room_and_little_of_the_predictions(tmp_path):
    X, Y, new = data(dtype=np.float32)
    Y = Y * np.float32(1e-6)  # weights that half precision alone would round to nothing
    full = plain(alphas=60.0).fit(X, Y)
    half = plain(alphas=60.0, weight_dtype="float16").fit(X, Y, folder=tmp_path / "half")
    assert np.load(tmp_path / "half" / "weights.npy").dtype == np.float16
    assert np.corrcoef(half.predict(new).ravel(), full.predict(new).ravel())[0, 1] > 0.99999
    gap = np.abs(half.predict(new) - full.predict(new)) / full.scale_
    assert gap.max() < 5e-3
    same(np.abs(half.predict(new) - full.predict(new)).max() > 0, np.True_)


KILLED = """
    import os, sys
    import numpy as np
    from brainkit.decoding import MassiveRidge, target_streams

    folder, after, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    X, Y = np.load(folder + "/x.npy"), folder + "/y.npy"
    put, count = target_streams.FitFolder.put, 0

    def put_and_die(self, name, number, values):
        global count
        put(self, name, number, values)
        count += name == kind
        if count == after:
            os.kill(os.getpid(), 9)

    target_streams.FitFolder.put = put_and_die
    MassiveRidge(eval(sys.argv[4]), n_targets_batch=16).fit(X, Y, folder=folder + "/fit")
"""


@pytest.mark.parametrize(
    ("alphas", "kind", "after"), [("40.0", "solved", 2), ("[10., 99.]", "measured", 3)]
)
def test_a_killed_fit_goes_on_where_it_stopped_to_the_same_bits(
    tmp_path, monkeypatch, alphas, kind, after
):
    X, Y, new = data(dtype=np.float32)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), str(after), kind]
    done = subprocess.run([*command, alphas], capture_output=True, check=False)
    assert done.returncode == -9, done.stderr.decode()
    folder = tmp_path / "fit"
    assert not (folder / "manifest.json").exists()
    assert len(list((folder / "notes").glob(f"{kind}-*.npy"))) == after
    (folder / "notes" / f"{kind}-000000.npy").write_bytes(b"half a no")  # torn by a crash
    asked = []
    measure = streams.FitFolder.put
    monkeypatch.setattr(
        streams.FitFolder, "put",
        lambda self, name, number, values: (
            asked.append((name, number)), measure(self, name, number, values)
        ),
    )  # fmt: skip
    settings = {"alphas": json.loads(alphas.replace(".,", ".0,").replace(".]", ".0]"))}
    # Free memory may differ now: the batches are those of the first fit.
    resumed = MassiveRidge(**settings).fit(X, tmp_path / "y.npy", folder=folder)
    again = [number for name, number in asked if name == kind]
    assert again == [0, *range(after, 4)]
    whole = MassiveRidge(**settings, n_targets_batch=16).fit(X, Y)
    same(np.load(folder / "weights.npy"), whole.weights_)
    same(resumed.predict(new), whole.predict(new))
    assert resumed.batch_size_ == 16
    for name in ("alpha_", "cv_r2_", "gain_", "mean_"):
        same(getattr(resumed, name), getattr(whole, name))
    assert not (folder / "spectrum.safetensors").exists()
    asked.clear()
    same(MassiveRidge(**settings).fit(X, Y, folder=folder).predict(new), whole.predict(new))
    assert not asked  # a complete fit is taken as it is


def test_a_folder_of_another_fit_is_left_as_it_is(tmp_path):
    X, Y, _ = data(dtype=np.float32)
    folder = tmp_path / "fit"
    MassiveRidge(10.0).fit(X, Y, folder=folder)
    before = (folder / "weights.npy").read_bytes()
    for model, responses, targets, what in (
        (MassiveRidge(11.0), X, Y, "alphas"),
        (MassiveRidge(10.0), X + np.eye(*X.shape, dtype=np.float32), Y, "responses"),
        (MassiveRidge(10.0), X, Y + 1, "targets"),
        (MassiveRidge(10.0, weight_dtype="float16"), X, Y, "settings"),
    ):
        with pytest.raises(OutputError, match=f"differs in .*{what}"):
            model.fit(responses, targets, folder=folder)
    assert (folder / "weights.npy").read_bytes() == before
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("dear reader")
    with pytest.raises(OutputError, match=r"holds chapter\.txt, and is no folder of a fit"):
        MassiveRidge(10.0).fit(X, Y, folder=tmp_path / "thesis")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        MassiveRidge(10.0).fit(X, Y, folder=tmp_path / "file" / "inside")


@pytest.mark.parametrize("shape", [DUAL, PRIMAL])
@pytest.mark.parametrize("kept", ["memory", "folder"])
def test_a_saved_fit_predicts_bit_for_bit(tmp_path, shape, kept):
    X, Y, new = data(shape, dtype=np.float32)
    model = MassiveRidge({"a": 1.0, "b": [2.0, 3.0]}, blocks={"a": 20, "b": 40})
    model.fit(X, Y, folder=tmp_path / "fit" if kept == "folder" else None)
    loaded = brainkit.load_estimator(brainkit.save_estimator(model, tmp_path / "saved"))
    same(loaded.predict(new), model.predict(new))
    same(loaded.primal("b")[0], model.primal("b")[0])
    assert loaded.blocks_ == model.blocks_
    assert vars(loaded).keys() == vars(model).keys()
    if kept == "memory":
        return
    (tmp_path / "fit").rename(tmp_path / "elsewhere")
    with pytest.raises(MissingFileError, match="set folder_ to where it is now"):
        loaded.predict(new)
    loaded.folder_ = str(tmp_path / "elsewhere")
    before = model.folder_
    model.folder_ = loaded.folder_
    same(loaded.predict(new), model.predict(new))
    assert before != model.folder_
    np.save(tmp_path / "elsewhere" / "weights.npy", np.zeros((59, 60), dtype=np.float32))
    with pytest.raises(CorruptFileError, match="59 targets, this fit has 60"):
        loaded.predict(new)


MEMORY = """
    import sys
    from pathlib import Path
    import numpy as np
    from brainkit.decoding import MassiveRidge

    def field(name):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(name + ":")).split()[1])

    folder = Path(sys.argv[1])
    X = np.load(folder / "x.npy")
    MassiveRidge(50.0).fit(X[:, :50], X)  # what is imported on the way is none of it
    Path("/proc/self/clear_refs").write_text("5")
    before = field("VmRSS")
    model = MassiveRidge(50.0, n_targets_batch=1024)
    model.fit(X, folder / "y.npy", folder=folder / "fit")
    model.predict(X[:50], out=folder / "p.npy")
    model.fit_predict(X, folder / "y.npy", X[:50], out=folder / "q.npy")
    print((field("VmHWM") - before) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux' /proc")
def test_memory_is_that_of_the_responses_not_of_the_targets(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(size=(400, 600)).astype(np.float32))
    targets = np.lib.format.open_memmap(
        tmp_path / "y.npy", mode="w+", dtype=np.float32, shape=(400, 60_000)
    )
    targets[:] = rng.normal(size=(400, 1000)).astype(np.float32).repeat(60, axis=1)
    targets.flush()
    size = 400 * 60_000 * 4 / 2**20  # 92 MiB of targets, and as many of coefficients
    command = [sys.executable, "-c", textwrap.dedent(MEMORY), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.75 * size


# -------------------------------------------------------------------------------- bad input


def test_bad_input_is_refused_by_name(tmp_path):
    X, Y, new = data()
    flat = Y.reshape(len(Y), -1)
    hole = flat.copy()
    hole[5, 33] = np.nan
    np.save(tmp_path / "hole.npy", hole)
    np.save(tmp_path / "short.npy", flat[:-1])
    np.save(tmp_path / "text.npy", np.full((60, 3), "a"))
    np.save(tmp_path / "objects.npy", np.array([[1, None]] * 60), allow_pickle=True)
    (tmp_path / "torn.npy").write_bytes((tmp_path / "hole.npy").read_bytes()[:5000])
    two = {"a": Y[:, 0], "b": Y[:, 1]}
    for given_settings, y, error, message in (
        ({"n_targets_batch": 16}, tmp_path / "hole.npy", InputError, "Target 33 .* NaN"),
        ({}, tmp_path / "short.npy", InputError, "60 responses, and block 'targets' has 59"),
        ({}, tmp_path / "text.npy", InputError, "real numbers; they are of type <U1"),
        ({}, tmp_path / "objects.npy", CorruptFileError, "cannot be read as .npy"),
        ({}, tmp_path / "torn.npy", CorruptFileError, "cannot be read as .npy"),
        ({}, tmp_path / "none.npy", MissingFileError, "targets 'targets' is missing"),
        ({}, __file__, InputError, r"from a \.npy file"),
        ({}, {}, InputError, "no targets"),
        ({}, {"a": Y[:, 0, 0]}, InputError, r"got shape \(60,\)"),
        ({"alphas": {"a": 1.0, "c": 2.0}}, two, UnknownNameError, "block of targets 'c'"),
        ({"alphas": {"a": 1.0}}, two, InputError, "no penalty for the blocks b"),
        ({"alphas": [0.0, 1.0]}, flat, InputError, "above 0 here; block 'targets' has 0"),
        ({"alphas": "large"}, flat, InputError, "the text 'large'"),
        ({"blocks": {"a": 59}}, flat, InputError, "59 targets in all"),
        ({"blocks": {"a": 60}}, two, InputError, "leave out blocks="),
        ({"cv": "loocv"}, flat, UnknownNameError, "cv 'loocv'"),
        ({"cv": [(np.arange(30), np.arange(30, 60))]}, flat, InputError, "every sample out once"),
        ({"spread": "whole"}, flat, UnknownNameError, "spread 'whole'"),
        ({"weight_dtype": "int8"}, flat, UnknownNameError, "weight_dtype 'int8'"),
        ({"n_held_out": 0}, flat, InputError, "spread=None"),
        ({"n_held_out": 0, "spread": None}, flat, InputError, "Nothing can be chosen"),
        ({"n_held_out": -1}, flat, InputError, "n_held_out must be a whole number from 0"),
        ({"n_targets_batch": 0}, flat, InputError, "n_targets_batch must be"),
    ):
        with pytest.raises(error, match=message):
            MassiveRidge(**given_settings).fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        MassiveRidge().fit(X, hole)
    with pytest.raises(ValueError, match="minimum of 2"):
        MassiveRidge().fit(X[:1], {"a": Y[:1, 0]})
    with pytest.raises(InputError, match="leaves groups out"):
        MassiveRidge(cv="gcv").fit(X, flat, groups=np.arange(60) // 2)
    with pytest.raises(InputError, match="one group"):
        MassiveRidge().fit(X, flat, groups=np.zeros(60))
    model = MassiveRidge(10.0)
    model.fit_predict(X, two, new)
    with pytest.raises(InputError, match="No coefficients were kept"):
        model.predict(new)
    model.fit(X, two)
    with pytest.raises(UnknownNameError, match="block of targets 'c'"):
        model.predict(new, "c")
    with pytest.raises(InputError, match="must hold one at least"):
        model.primal(slice(40, 60))


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    X, Y, new = data()
    usage = streams.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(streams.shutil, "disk_usage", lambda _: usage._replace(free=4 * 60 * 150))
    with pytest.raises(OutputError, match=r"No room .* 2\.8.e-05 GB are needed.* 3\.6e-05|No room"):
        MassiveRidge(10.0).fit(X, np.tile(Y, (1, 20, 1)), folder=tmp_path / "fit")
    assert not (tmp_path / "fit" / "weights.npy").exists()
    with pytest.raises(OutputError, match="12 predictions of 1200 targets"):
        MassiveRidge(10.0).fit_predict(X, np.tile(Y, (1, 20, 1)), new, out=tmp_path / "p.npy")
    assert not (tmp_path / "p.npy").exists()
    assert not list(tmp_path.glob(".p.npy*"))


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit of file sizes")
def test_a_write_that_fails_says_so(tmp_path, monkeypatch):
    X, Y, _ = data()

    def full(*_):
        raise OSError(streams.errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(streams.os, "fsync", full)
    with pytest.raises(OutputError, match=r"is full .* make room and run again"):
        MassiveRidge(10.0).fit(X, Y, folder=tmp_path / "fit")


def test_it_is_registered():
    assert DECODERS["massive-ridge"] == "brainkit.decoding:MassiveRidge"
    assert MassiveRidge(10.0).fit(*data()[:2]).batch_size_ == 128
