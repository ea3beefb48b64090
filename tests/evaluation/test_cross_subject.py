import numpy as np
import pytest
from scipy.optimize import curve_fit

from brainkit.errors import InputError, UnknownNameError
from brainkit.evaluation import cross_subject_ceiling, noise_ceiling
from brainkit.evaluation.cross_subject import saturation


def ridge(X_train, Y_train, X_test, penalty=10.0):
    """A voxelwise encoder: ridge regression with an intercept."""
    mean_x, mean_y = X_train.mean(axis=0), Y_train.mean(axis=0)
    X = X_train - mean_x
    coef = np.linalg.solve(X.T @ X + penalty * np.eye(X.shape[1]), X.T @ (Y_train - mean_y))
    return (X_test - mean_x) @ coef + mean_y


def subjects(n_others=4, n=400, n_units=20, noise=2.0, seed=0):
    """Subjects that share one signal in their first half of units and have none in the other."""
    generator = np.random.default_rng(seed)
    shared = generator.normal(size=(n, 3))
    responses = {}
    for subject in range(n_others + 1):
        signal = shared @ generator.normal(size=(3, n_units)) / np.sqrt(3)
        signal[:, n_units // 2 :] = 0
        size = 1.0 if subject == 0 else noise
        responses[f"s{subject}"] = signal + size * generator.normal(size=signal.shape)
    return responses


def test_the_fit_equals_least_squares_by_scipy():
    sizes = np.repeat([1, 2, 3, 4, 5], [5, 8, 8, 5, 1])
    generator = np.random.default_rng(0)
    truth = [(0.4, 1.0), (0.6, 2.5), (0.2, 0.6)]
    scores = np.stack([v * (1 - np.exp(-sizes / t)) for v, t in truth], axis=1)
    v0, tau = saturation(sizes, scores, 100, 0)
    np.testing.assert_allclose(v0, [v for v, _ in truth], rtol=0.02)
    np.testing.assert_allclose(tau, [t for _, t in truth], rtol=0.06)
    noisy = scores + 0.02 * generator.normal(size=scores.shape)
    v0, _ = saturation(sizes, noisy, 200, 0)
    for unit in range(3):
        (expected, _), _ = curve_fit(
            lambda x, v, t: v * (1 - np.exp(-x / t)), sizes, noisy[:, unit], [0.3, 1.0],
            bounds=([-1, 0.1], [1, 10]),
        )  # fmt: skip
        assert v0[unit] == pytest.approx(expected, abs=0.02)


def test_no_signal_averages_nothing_and_stays_within_bounds():
    sizes = np.repeat([1, 2, 3], [5, 5, 1])
    scores = 0.1 * np.random.default_rng(0).normal(size=(11, 4000))
    v0, _ = saturation(sizes, scores, 50, 0)
    assert v0.mean() == pytest.approx(0, abs=0.01)
    steep = saturation(sizes, np.outer(sizes, [0.3, -0.3]), 20, 0)[0]
    np.testing.assert_allclose(steep, [1.0, -1.0])
    with_nan = np.column_stack([scores[:, 0], np.full(11, np.nan)])
    v0, tau = saturation(sizes, with_nan, 20, 0)
    assert np.isnan(v0).tolist() == [False, True]
    assert np.isnan(tau).tolist() == [False, True]


def test_more_subjects_predict_better_and_the_ceiling_lies_beyond():
    responses = subjects(n=2000, noise=3.0)
    result = cross_subject_ceiling(responses, "s0", ridge, n_repeats=2)
    np.testing.assert_array_equal(result.sizes, np.repeat([1, 2, 3, 4], [4, 6, 4, 1]))
    assert result.scores.shape == (15, 20)
    by_size = [np.asarray(result.scores)[result.sizes == x, :10].mean() for x in (1, 2, 3, 4)]
    assert (np.diff(by_size) > 0).all()
    v0 = np.asarray(result.v0)
    clean = cross_subject_ceiling(
        {"s0": responses["s0"]} | {"s1": subjects(n=2000, noise=0.01)["s1"]},
        "s0", ridge, extrapolate=False,
    )  # fmt: skip
    assert by_size[2] < v0[:10].mean() < np.asarray(clean.v0)[:10].mean()
    assert v0[10:].mean() == pytest.approx(0, abs=0.05)
    np.testing.assert_allclose(np.asarray(result.ceiling), np.maximum(v0, 0) ** 2)
    assert (result.ceiling.definition, result.ceiling.n_repeats) == ("cross-subject", 2.0)
    assert (result.tau[:10] > 0).all()


def test_the_variant_of_one_size_is_the_prediction_from_all_others():
    responses = subjects()
    result = cross_subject_ceiling(responses, "s0", ridge, extrapolate=False)
    others = np.concatenate([responses[f"s{i}"] for i in (1, 2, 3, 4)], axis=1)
    r = np.zeros(20)
    for fold in range(5):
        test = np.arange(80 * fold, 80 * fold + 80)
        train = np.setdiff1d(np.arange(400), test)
        predicted = ridge(others[train], responses["s0"][train], others[test])
        r += [
            np.corrcoef(*pair)[0, 1]
            for pair in zip(predicted.T, responses["s0"][test].T, strict=True)
        ]
    np.testing.assert_allclose(np.asarray(result.v0), r / 5)
    assert result.ceiling.definition == "cross-subject-all"
    assert result.sizes.tolist() == [4]
    assert np.isnan(result.tau).all()


def test_by_name():
    responses = subjects(n_others=3)
    options = {"target": "s2", "predict": ridge, "seed": 2}
    named = noise_ceiling(responses, definition="cross-subject", n_repeats=3, **options)
    full = cross_subject_ceiling(responses, "s2", ridge, n_repeats=3, seed=2)
    np.testing.assert_array_equal(np.asarray(named), np.asarray(full.ceiling))
    assert (named.definition, named.n_repeats) == ("cross-subject", 3.0)
    one = noise_ceiling(responses, definition="cross-subject-all", **options)
    assert (one.definition, one.n_repeats) == ("cross-subject-all", 1.0)


def test_groups_are_not_torn_and_the_target_is_not_shown():
    responses = subjects(n_others=2, n=60)
    images = np.random.default_rng(0).permutation(np.repeat(np.arange(20), 3))
    coded = {name: np.column_stack([images, values]) for name, values in responses.items()}

    def spy(X_train, Y_train, X_test):
        assert not set(Y_train[:, 0]) & set(X_test[:, 0])
        assert X_train.shape[1] in (21, 42)
        return ridge(X_train, Y_train, X_test)

    cross_subject_ceiling(coded, "s1", spy, groups=images)
    noise_ceiling(coded, images, definition="cross-subject", target="s1", predict=spy)


def test_subsets_are_drawn_once_each():
    responses = subjects(n_others=6, n=50, n_units=2)
    result = cross_subject_ceiling(responses, "s3", ridge, max_subsets=5, folds=2)
    sizes, counts = np.unique(result.sizes, return_counts=True)
    assert sizes.tolist() == [1, 2, 3, 4, 5, 6]
    assert counts.tolist() == [5, 5, 5, 5, 5, 1]
    rows = np.asarray(result.scores)
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_constant_units_are_nan():
    responses = subjects(n_others=2, n=60)
    responses["s0"][:, 4] = 1.0
    result = cross_subject_ceiling(responses, "s0", ridge)
    assert np.flatnonzero(np.isnan(result.ceiling)).tolist() == [4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_subsets": 0}, "max_subsets=0"),
        ({"n_bootstraps": 0}, "n_bootstraps=0"),
        ({"folds": 1}, "1 folds"),
        ({"n_repeats": 0}, "at least 1 trial"),
        ({"predict": lambda X, Y, Z: np.zeros((1, 1))}, r"shape \(1, 1\), expected \(80, 20\)"),
        ({"responses": dict(list(subjects().items())[:2])}, "2 subjects.*extrapolate=False"),
        ({"responses": subjects() | {"s1": np.zeros((9, 4))}}, r"s1 \(9, 4\)"),
        ({"responses": subjects() | {"s1": np.zeros(400)}}, r"s1 \(400,\)"),
    ],
)
def test_bad_input(options, message):
    arguments = {"responses": subjects(), "target": "s0", "predict": ridge} | options
    with pytest.raises(InputError, match=message):
        cross_subject_ceiling(**arguments)


def test_unknown_target():
    with pytest.raises(UnknownNameError, match="'s0'"):
        cross_subject_ceiling(subjects(), "s00", ridge)


@pytest.mark.parametrize(
    "arguments",
    [
        {"responses": np.zeros((30, 2)), "target": "s0", "predict": ridge},
        {"responses": subjects(), "predict": ridge},
        {"responses": subjects(), "target": "s0"},
        {"responses": subjects(), "target": "s0", "predict": ridge, "sessions": np.zeros(400)},
    ],
)
def test_what_the_cross_subject_definitions_need(arguments):
    with pytest.raises(InputError, match="needs responses as"):
        noise_ceiling(**arguments, definition="cross-subject")


@pytest.mark.parametrize(
    "arguments",
    [
        {"responses": subjects(), "stimuli": np.arange(400)},
        {"responses": np.zeros((30, 2))},
        {"responses": np.zeros((30, 2)), "stimuli": np.arange(30), "target": "s0"},
        {"responses": np.zeros((30, 2)), "stimuli": np.arange(30), "predict": ridge},
    ],
)
@pytest.mark.parametrize("definition", ["nsd", "split-half"])
def test_what_the_definitions_from_repeats_need(arguments, definition):
    with pytest.raises(InputError, match="needs the trials of one subject"):
        noise_ceiling(**arguments, definition=definition)
