"""Classes and numbers decoded from responses whose truth is known, and from noise."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.covariance import oas
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from brainkit import Recording, load_estimator, save_estimator
from brainkit.data.splits import split_by_hand
from brainkit.decoding import LabelDecoder, LabelProtocol, RidgeDecoder, assess_labels
from brainkit.decoding.epoch_features import covariances, in_bins, tangent
from brainkit.errors import DependenceWarning, InputError, SplitError

QUICK = {"permutations": 0, "shuffles": 1}


def trials(seed=0, n_runs=6, n_each=8, n_units=20, signal=1.0, names=("face", "house", "shoe")):
    """Patterns of three classes in every run."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(99).normal(size=(len(names), n_units))
    codes = np.concatenate(
        [rng.permutation(np.repeat(np.arange(len(names)), n_each)) for _ in range(n_runs)]
    )
    values = signal * means[codes] + rng.normal(size=(len(codes), n_units))
    table = pd.DataFrame(
        {"label": np.array(names)[codes], "run": np.repeat(np.arange(n_runs), n_each * len(names))}
    )
    return Recording.from_arrays(values.astype(np.float32), trials=table)


def test_scores_are_those_of_a_plain_loop():
    recording = trials(signal=0.4)
    result = assess_labels(
        recording, LabelDecoder("lda"), LabelProtocol("leave-one-run-out", **QUICK)
    )
    X, y, run = recording.responses.read(), recording.trials["label"], recording.trials["run"]
    recalls, hits = [], 0
    for one in range(6):
        model = make_pipeline(
            StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        ).fit(X[run != one], y[run != one])
        told = model.predict(X[run == one])
        recalls.append(np.mean([(told[y[run == one] == c] == c).mean() for c in np.unique(y)]))
        hits += (told == y[run == one]).sum()
    entry = result.metrics["decoding_balanced_accuracy"]
    assert entry["value"] == pytest.approx(np.mean(recalls))
    assert entry["chance"] == pytest.approx(1 / 3)
    assert np.diag(result.confusion).sum() == hits
    assert list(result.confusion.index) == ["face", "house", "shoe"]
    assert result.by_fold["balanced_accuracy"].to_list() == pytest.approx(recalls)
    assert result.items["row"].to_list() == list(range(len(y)))  # in the order of the folds' rows
    assert (result.items["label"] == y.to_numpy()).all()
    assert result.resampling["independent"] == "run"
    assert 0.5 < result.metrics["decoding_auc"]["value"] < 1


@pytest.mark.parametrize("model", ["logistic", "lda", "svm", "ridge_classifier"])
def test_models_by_name_find_classes_and_say_p(model):
    result = assess_labels(
        trials(signal=0.8), LabelDecoder(model), LabelProtocol("leave-one-run-out", permutations=19)
    )
    entry = result.metrics["decoding_balanced_accuracy"]
    assert entry["value"] > 0.9
    assert entry["p"] == 0.05
    assert entry["nulls"]["exchanged_labels"] < 0.6
    assert entry["ci"][0] > 1 / 3


@pytest.mark.parametrize(
    "decoder",
    [
        RandomForestClassifier(50, random_state=0),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ],
)
def test_classifiers_of_scikit_learn(decoder):
    result = assess_labels(trials(), decoder, LabelProtocol("stratified:4", **QUICK))
    assert result.metrics["decoding_balanced_accuracy"]["value"] > 0.9
    assert result.metrics["decoding_auc"]["value"] > 0.95


def test_numbers_are_decoded_by_regression():
    rng = np.random.default_rng(0)
    weights, n = rng.normal(size=15), 200
    number = rng.normal(size=n) * 3 + 40
    X = (number[:, None] - 40) * weights * 0.3 + rng.normal(size=(n, 15))
    recording = Recording.from_arrays(X, trials=pd.DataFrame({"contrast": number}))
    protocol = LabelProtocol("kfold:5", target="contrast", permutations=19)
    for decoder in (LabelDecoder("ridge"), Ridge(), RidgeDecoder()):
        result = assess_labels(recording, decoder, protocol)
        r, share = (result.metrics[name] for name in ("decoding_r", "decoding_r2"))
        assert r["value"] > 0.8
        assert share["value"] == pytest.approx(r["value"] ** 2, abs=0.05)
        assert r["p"] == share["p"] == 0.05
        assert abs(r["nulls"]["exchanged_labels"]) < 0.25
        assert share["ci"][0] < share["value"] < share["ci"][1]
        assert result.confusion is None


def test_noise_is_at_chance_two_sided_and_covered():
    found, covered, p = [], [], []
    for seed in range(40):
        recording = trials(seed, n_runs=1, n_each=20, n_units=8, signal=0.0)
        result = assess_labels(
            recording, LabelDecoder("lda"), LabelProtocol("stratified:5", permutations=9)
        )
        entries = result.metrics
        found.append([entry["value"] for entry in entries.values()])
        covered.append([e["ci"][0] <= e["chance"] <= e["ci"][1] for e in entries.values()])
        p.append(entries["decoding_balanced_accuracy"]["p"])
    means, errors = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(40)
    assert np.all(np.abs(means - [1 / 3, 0.5]) < 3.5 * errors)
    assert np.mean(covered) > 0.88
    assert np.mean(np.array(p) <= 0.1) < 0.1 + 3 * np.sqrt(0.1 * 0.9 / 40)


def slow(rng, n, width, phi=0.95):
    values = rng.normal(size=(n, width))
    for row in range(1, n):
        values[row] = phi * values[row - 1] + np.sqrt(1 - phi**2) * values[row]
    return values


def test_continuous_numbers_keep_their_order_and_slow_noise_is_at_chance():
    values, p = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        samples = pd.DataFrame({"time": np.arange(300.0), "loudness": slow(rng, 300, 1)[:, 0]})
        recording = Recording.from_arrays(slow(rng, 300, 6), samples=samples)
        result = assess_labels(
            recording, LabelDecoder("ridge"),
            LabelProtocol("stretches:3", target="loudness", permutations=9),
        )  # fmt: skip
        assert result.resampling["independent"].startswith("block:")
        assert result.items["row"].is_monotonic_increasing
        values.append(result.metrics["decoding_r"]["value"])
        p.append(result.metrics["decoding_r"]["p"])
    assert abs(np.mean(values)) < 3.5 * np.std(values) / np.sqrt(30)
    assert np.mean(np.array(p) <= 0.1) < 0.1 + 3 * np.sqrt(0.1 * 0.9 / 30)


def test_windows_of_a_trial_are_exchanged_together():
    """Ten windows a trial share what no label tells: row by row they would seem to be told."""
    p = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        shared = np.repeat(rng.normal(size=(24, 10)), 10, axis=0)
        table = pd.DataFrame({
            "trial": np.repeat(np.arange(24), 10),
            "label": np.repeat(rng.permutation(np.repeat(["a", "b"], 12)), 10),
            "run": np.repeat(np.arange(4), 60),
        })  # fmt: skip
        values = shared + 0.3 * rng.normal(size=shared.shape)
        result = assess_labels(
            Recording.from_arrays(values, trials=table), LabelDecoder("lda"),
            LabelProtocol("leave-one-run-out", permutations=9),
        )  # fmt: skip
        p.append(result.metrics["decoding_balanced_accuracy"]["p"])
    assert np.mean(np.array(p) <= 0.1) < 0.1 + 3 * np.sqrt(0.1 * 0.9 / 20)


def epochs(seed=0, n=80, kind="power"):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(["left", "right"], n // 2))
    sources = rng.normal(size=(n, 6, 60))
    second = (y == "right")[:, None]
    if kind == "power":
        sources[:, 0] *= np.where(second, 3.0, 1.0)
    else:
        sources[:, 0] += second * 1.5 * np.sin(np.linspace(0, np.pi, 60))
    mixing = np.random.default_rng(5).normal(size=(6, 6))
    return np.einsum("us,nst->nut", mixing, sources) * 1e-6, y  # microvolts in volts


@pytest.mark.parametrize(
    ("kind", "features"),
    [("power", "csp"), ("power", "covariance"), ("evoked", "xdawn"), ("evoked", "erp_covariance"),
     ("evoked", "flat")],
)  # fmt: skip
def test_epochs_are_told_by_power_or_time_course(kind, features, tmp_path):
    X, y = epochs(kind=kind)
    table = pd.DataFrame({"label": y, "run": np.arange(80) // 20})
    recording = Recording.from_arrays(X, trials=table, times=np.arange(60) / 100)
    decoder = LabelDecoder("lda", features=features, bins=6, n_components=2)
    result = assess_labels(recording, decoder, LabelProtocol("leave-one-run-out", **QUICK))
    assert result.metrics["decoding_auc"]["value"] > 0.9
    fitted = result.fitted
    save_estimator(fitted, tmp_path / "decoder")
    again = load_estimator(tmp_path / "decoder")
    np.testing.assert_array_equal(again.decision_function(X), fitted.decision_function(X))
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))


def test_pipelines_of_mne_take_epochs():
    import mne

    X, y = epochs()
    recording = Recording.from_arrays(
        X * 1e6, trials=pd.DataFrame({"label": y, "run": np.arange(80) // 20})
    )
    with mne.utils.use_log_level("ERROR"):
        csp = mne.decoding.CSP(4)
        result = assess_labels(
            recording, make_pipeline(csp, LinearDiscriminantAnalysis()),
            LabelProtocol("leave-one-run-out", **QUICK),
        )  # fmt: skip
        own = assess_labels(
            recording, LabelDecoder("lda", features="csp", settings={"shrinkage": None}),
            LabelProtocol("leave-one-run-out", **QUICK),
        )  # fmt: skip
    auc = [one.metrics["decoding_auc"]["value"] for one in (result, own)]
    assert auc[0] == pytest.approx(auc[1], abs=1e-6)


def test_covariances_are_shrunk_as_by_scikit_learn():
    X = np.random.default_rng(0).normal(size=(5, 6, 12)) + 3
    expected = [oas(epoch.T)[0] for epoch in X]
    np.testing.assert_allclose(covariances(X), expected, rtol=1e-10)


def test_tangent_vectors_keep_distances_at_their_point():
    matrices = covariances(np.random.default_rng(0).normal(size=(6, 4, 200)))
    vectors = tangent(matrices, np.eye(4))
    values, axes = np.linalg.eigh(matrices[0])
    log = (axes * np.log(values)) @ axes.T
    assert np.linalg.norm(vectors[0]) == pytest.approx(np.linalg.norm(log))
    binned = in_bins(np.arange(24.0).reshape(2, 2, 6), 4)
    assert binned[:, :, 0].tolist() == [[1.5, 7.5], [13.5, 19.5]]
    with pytest.raises(InputError, match="bins=9 is more than the 6 time points"):
        in_bins(np.zeros((2, 2, 6)), 9)


def test_broken_units_are_left_out_and_counted():
    recording = trials(signal=0.5)
    values = recording.responses.read()
    values[:, 3], values[7, 5] = 2.0, np.nan
    broken = Recording.from_arrays(values, trials=recording.trials)
    keep = np.setdiff1d(np.arange(20), [3, 5])
    protocol = LabelProtocol("leave-one-run-out", **QUICK)
    first = assess_labels(broken, LabelDecoder("lda"), protocol)
    second = assess_labels(recording.select(units=keep), LabelDecoder("lda"), protocol)
    assert first.counts == {"units": 20, "constant_or_nan": 2, "without_label": 0}
    assert first.metrics == second.metrics


def test_rows_without_a_label_are_left_out():
    recording = trials()
    table = recording.trials.copy()
    table.loc[[1, 5, 30], "label"] = None
    some = Recording.from_arrays(recording.responses.read(), trials=table)
    result = assess_labels(some, LabelDecoder(), LabelProtocol("leave-one-run-out", **QUICK))
    assert result.counts["without_label"] == 3
    assert len(result.items) == len(table) - 3


@pytest.mark.parametrize("form", ["pairs", "masks", "split"])
def test_rows_by_hand_follow_those_that_have_a_label(form):
    rng = np.random.default_rng(0)
    labels = np.resize(["a", "b"], 60).astype(object)
    labels[:20:3] = None
    trials = pd.DataFrame({"label": labels, "name": np.arange(60)})
    recording = Recording.from_arrays(rng.normal(size=(60, 4)), trials=trials)
    rows = np.arange(40), np.arange(40, 60)
    split = {
        "pairs": [rows],
        "masks": [tuple(np.isin(np.arange(60), part) for part in rows)],
        "split": split_by_hand(recording, train=rows[0], test=rows[1]),
    }[form]
    protocol = LabelProtocol(split, permutations=0, shuffles=1)
    result = assess_labels(recording, LabelDecoder("logistic"), protocol)
    assert result.counts["without_label"] == 7
    tested = result.recording.trials.iloc[result.items["row"]]
    assert tested["name"].tolist() == list(range(40, 60))
    assert result.prepared.n_train == 33


def test_labels_in_long_blocks_are_told_by_stretches_of_time():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"label": np.repeat(np.tile(["rest", "task"], 10), 20)})
    recording = Recording.from_arrays(slow(rng, 400, 8), trials=table)
    with pytest.warns(DependenceWarning, match="change slowly"):
        result = assess_labels(
            recording, LabelDecoder("lda"), LabelProtocol("stretches:4", **QUICK)
        )
    assert result.resampling["independent"].startswith("block:")


def test_bad_labels():
    recording, decoder = trials(), LabelDecoder()
    protocol = LabelProtocol("stratified:5", **QUICK)
    with pytest.raises(InputError, match="have no column 'category' to decode; they have"):
        assess_labels(recording, decoder, LabelProtocol("kfold:5", target="category"))
    values = recording.responses.read()

    def with_labels(labels, **columns):
        return Recording.from_arrays(values, trials=pd.DataFrame({"label": labels, **columns}))

    with pytest.raises(InputError, match="No trial of s1 has a 'label'"):
        assess_labels(with_labels([None] * 144), decoder, protocol)
    with pytest.raises(InputError, match="holds 1 class, 'one'"):
        assess_labels(with_labels(["one"] * 144), decoder, protocol)
    with pytest.raises(InputError, match="different real numbers, which are no classes"):
        assess_labels(with_labels(np.linspace(0, 1, 144)), decoder, LabelProtocol("kfold:5"))
    with pytest.raises(InputError, match="constant number cannot be decoded"):
        assess_labels(with_labels([3.0] * 144), LabelDecoder("ridge"), LabelProtocol("kfold:5"))
    with pytest.raises(InputError, match="a regressor decodes numbers"):
        assess_labels(recording, LabelDecoder("ridge"), LabelProtocol("kfold:5"))
    run = np.arange(144) // 24
    odd = np.where(run == 2, "only here", recording.trials["label"])
    with pytest.raises(SplitError, match=r"Fold 3 .* tests the classes only here, which its"):
        assess_labels(with_labels(odd, run=run), decoder, LabelProtocol("leave-one-run-out"))
    rare = recording.trials["label"].to_numpy(dtype=object)
    rare[0] = "once"
    with pytest.raises(SplitError, match="cannot have all values"):
        assess_labels(with_labels(rare), decoder, protocol)
    with pytest.raises(InputError, match="must be a classifier or a regressor"):
        assess_labels(recording, _Neither(), protocol)


class _Neither:
    def fit(self, X, y):
        return self

    def predict(self, X):
        return np.zeros(len(X))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "deep"}, "model of a LabelDecoder"),
        ({"features": "wavelets"}, "kind of features"),
        ({"features": "csp"}, "are of epochs"),
    ],
)
def test_decoders_without_sense(settings, message):
    with pytest.raises(InputError, match=message):
        LabelDecoder(**settings).fit(np.random.default_rng(0).normal(size=(8, 3)), [0, 1] * 4)
    with pytest.raises(InputError, match="at least one seed and one shuffle"):
        LabelProtocol("kfold:5", seeds=())


def test_balanced_classes_count_alike():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [180, 20])
    X = rng.normal(size=(200, 5)) + 0.8 * y[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in ("lda", "logistic"):
            plain = LabelDecoder(model, balanced=False).fit(X, y)
            even = LabelDecoder(model).fit(X, y)
            assert (even.predict(X)[y == 1] == 1).mean() > (plain.predict(X)[y == 1] == 1).mean()
            assert even.score(X, y) > plain.score(X, y)
