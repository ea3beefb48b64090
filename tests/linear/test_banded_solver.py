"""Banded ridge against refits, scikit-learn, both solvers of himalaya, and our ridge.

Racing in banded ridge: what it saves, what it loses, and what it leaves exact.

Banded ridge with given weights: normal equations, our search and our ridge, bad input.
"""

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV

from brainkit.errors import InputError
from brainkit.linear.banded_solver import RacingRule, banded_ridge_cv, solve_banded_ridge
from brainkit.linear.bands import BandFold, band_columns, design, draw_errors, simplex_draws
from brainkit.linear.folds import kfold
from brainkit.linear.ridge_solver import ridge_cv, solve_ridge

ALPHAS = [0.1, 1.0, 10.0, 100.0]
# Fewer features than held-out rows, than training rows, than rows, and more than rows.
SHAPES = {"tall": (90, 9), "primal": (60, 24), "edge": (30, 28), "dual": (24, 60)}
BANDS = [4, 6]
WEIGHTS = np.array([[0.2, 0.8], [1.0, 0.0], [0.2, 0.8], [0.0, 1.0], [3.0, 0.5]])
PENALTIES = np.array([0.5, 2.0, 30.0, 1.0, 7.0])


def problem(n_samples, n_features, n_targets=6, seed=0, noise=1.0):
    """Bands of a third and two thirds of the columns, of which each target follows the first."""
    rng = np.random.default_rng([seed, n_samples, n_features])
    X = rng.normal(size=(n_samples, n_features)) * rng.uniform(0.3, 2, n_features)
    W = rng.normal(size=(n_features, n_targets)) / np.sqrt(n_features)
    W[n_features // 3 :] *= np.linspace(0, 1, n_targets)
    Y = X @ W + noise * rng.normal(size=(n_samples, n_targets)) + 10 * rng.normal(size=n_targets)
    third = n_features // 3
    return X + 3 * rng.normal(size=n_features), Y, [third, n_features - third]


def scaled(X, bands, weights):
    """Features times the roots of their bands' weights, and those roots."""
    scale = np.empty(X.shape[1])
    for columns, weight in zip(band_columns(bands, X.shape[1]), weights, strict=True):
        scale[columns] = weight**0.5
    return X * scale, scale


def refit_errors(X, Y, bands, weights, folds, fit_intercept=True, alphas=ALPHAS):
    """Squared held-out errors (n_alphas, n_targets) of scikit-learn's ridge, fold by fold."""
    Z, _ = scaled(X, bands, weights)
    errors = np.zeros((len(alphas), Y.shape[1]))
    for place, alpha in enumerate(alphas):
        for train, test in folds:
            model = Ridge(alpha=alpha, fit_intercept=fit_intercept).fit(Z[train], Y[train])
            errors[place] += ((Y[test] - model.predict(Z[test])) ** 2).sum(axis=0)
    return errors


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_one_band_is_ridge(shape, fit_intercept):
    X, Y, _ = problem(*SHAPES[shape])
    folds = kfold(len(X), 5)
    expected = ridge_cv(X, Y, ALPHAS, folds, fit_intercept=fit_intercept)
    found = banded_ridge_cv(X, Y, None, ALPHAS, folds, fit_intercept=fit_intercept)
    np.testing.assert_array_equal(found.alpha, expected.alpha)
    np.testing.assert_allclose(found.errors, expected.errors.min(axis=0)[None], rtol=1e-9)
    np.testing.assert_allclose(found.total, expected.total, rtol=1e-12)
    np.testing.assert_allclose(found.coef, expected.coef, rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(found.intercept, expected.intercept, rtol=1e-8, atol=1e-9)
    np.testing.assert_array_equal(found.weights, np.ones((6, 1)))
    assert found.skipped == 0


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_errors_and_solution_are_those_of_refits(shape, fit_intercept):
    X, Y, bands = problem(*SHAPES[shape])
    folds = kfold(len(X), 5)
    fit = banded_ridge_cv(X, Y, bands, ALPHAS, folds, n_draws=9, fit_intercept=fit_intercept)
    errors = np.stack([refit_errors(X, Y, bands, w, folds, fit_intercept) for w in fit.draws])
    np.testing.assert_allclose(fit.errors, errors.min(axis=1), rtol=1e-8)
    np.testing.assert_array_equal(fit.chosen, errors.min(axis=1).argmin(axis=0))
    np.testing.assert_array_equal(fit.weights, fit.draws[fit.chosen])
    for target in range(6):
        at = errors[fit.chosen[target], :, target]
        assert fit.alpha[target] == ALPHAS[at.argmin()]
        # The normal equations of the problem in the module's first lines.
        Z, scale = scaled(X, bands, fit.weights[target])
        mean, y_mean = Z.mean(axis=0) * fit_intercept, Y[:, target].mean() * fit_intercept
        inner = (Z - mean).T @ (Z - mean) + fit.alpha[target] * np.eye(Z.shape[1])
        coef = scale * np.linalg.solve(inner, (Z - mean).T @ (Y[:, target] - y_mean))
        np.testing.assert_allclose(fit.coef[target], coef, rtol=1e-7, atol=1e-10)
        offset = y_mean - coef @ X.mean(axis=0) * fit_intercept
        np.testing.assert_allclose(fit.intercept[target], offset, rtol=1e-7, atol=1e-8)


def test_a_draw_is_a_penalty_for_each_band():
    """γ and α stand for penalties α / γ on the bands' own coefficients."""
    X, Y, bands = problem(60, 12)
    fit = banded_ridge_cv(X, Y, bands, [5.0], kfold(60, 5), draws=[[0.2, 0.8]])
    penalty = np.diag(np.repeat([5 / 0.2, 5 / 0.8], bands))
    Xc = X - X.mean(axis=0)
    coef = np.linalg.solve(Xc.T @ Xc + penalty, Xc.T @ (Y - Y.mean(axis=0))).T
    np.testing.assert_allclose(fit.coef, coef, rtol=1e-9)


def test_choice_is_scikit_learns_grid_search():
    X, Y, bands = problem(50, 9, n_targets=2)
    draws, folds = simplex_draws(6, 2, seed=2), kfold(50, 5)
    fit = banded_ridge_cv(X, Y, bands, ALPHAS, folds, draws=draws)
    for target in range(2):
        searches = [
            GridSearchCV(
                Ridge(), {"alpha": ALPHAS}, cv=folds, scoring="neg_mean_squared_error"
            ).fit(scaled(X, bands, weights)[0], Y[:, target])
            for weights in draws
        ]
        best = int(np.argmax([search.best_score_ for search in searches]))
        assert fit.chosen[target] == best
        assert fit.alpha[target] == searches[best].best_params_["alpha"]
        predicted = searches[best].predict(scaled(X, bands, draws[best])[0])
        np.testing.assert_allclose(
            X @ fit.coef[target] + fit.intercept[target], predicted, rtol=1e-9
        )


@pytest.mark.parametrize("solver", ["group", "kernel"])
@pytest.mark.parametrize("shape", SHAPES)
def test_himalaya_finds_the_same_with_the_same_draws(shape, solver):
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import MultipleKernelRidgeCV
    from himalaya.ridge import GroupRidgeCV
    from sklearn.model_selection import KFold

    set_backend("numpy")
    X, Y, bands = problem(*SHAPES[shape])
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    draws = np.random.default_rng(0).dirichlet(np.ones(2), 7)
    Xs = [X[:, columns] for columns in band_columns(bands, X.shape[1])]
    search = {"n_iter": draws, "alphas": np.array(ALPHAS), "progress_bar": False}
    if solver == "group":
        peer = GroupRidgeCV("input", cv=KFold(5), fit_intercept=True,
                            solver_params={**search, "warn": False}).fit(Xs, Y)  # fmt: skip
        predicted = peer.predict(Xs)
    else:
        kernels = np.stack([part @ part.T for part in Xs])
        peer = MultipleKernelRidgeCV(kernels="precomputed", cv=KFold(5), fit_intercept=True,
                                     solver_params=search).fit(kernels, Y)  # fmt: skip
        predicted = peer.predict(kernels)
    fold_size = len(X) / 5  # its score is the mean of folds' means, here of equal sizes
    fit = banded_ridge_cv(X, Y, bands, ALPHAS, kfold(len(X), 5), draws=draws)
    if len(X) % 5 == 0:
        np.testing.assert_allclose(fit.errors, -peer.cv_scores_ * 5 * fold_size, rtol=1e-6)
        np.testing.assert_allclose(fit.weights, np.exp(peer.deltas_.T) * fit.alpha[:, None])
        np.testing.assert_allclose(X @ fit.coef.T + fit.intercept, predicted, rtol=1e-6, atol=1e-6)
    else:
        # Folds of unequal sizes weigh otherwise; the solution for the peer's choice is the same.
        alpha = 1 / np.exp(peer.deltas_).sum(axis=0)
        for target in range(6):
            weights = np.exp(peer.deltas_[:, target]) * alpha[target]
            one = banded_ridge_cv(
                X, Y[:, [target]], bands, [alpha[target]], kfold(len(X), 5), draws=weights[None]
            )
            np.testing.assert_allclose(
                (X @ one.coef.T + one.intercept)[:, 0], predicted[:, target], rtol=1e-5, atol=1e-5
            )


@pytest.mark.parametrize("shape", ["primal", "dual"])
def test_a_band_that_is_switched_off_has_coefficients_of_zero(shape):
    X, Y, bands = problem(*SHAPES[shape])
    folds = kfold(len(X), 4)
    fit = banded_ridge_cv(X, Y, bands, ALPHAS, folds, draws=[[0.0, 1.0]])
    first, second = band_columns(bands, X.shape[1])
    assert (fit.coef[:, first] == 0).all()
    alone = ridge_cv(X[:, second], Y, ALPHAS, folds)
    np.testing.assert_allclose(fit.coef[:, second], alone.coef, rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(fit.errors[0], alone.errors.min(axis=0), rtol=1e-9)


def test_bands_of_scattered_columns_are_those_of_sorted_ones():
    X, Y, _ = problem(50, 12)
    order = np.random.default_rng(1).permutation(12)
    folds, draws = kfold(50, 5), simplex_draws(12, 3)
    sorted_ = banded_ridge_cv(X[:, order], Y, [3, 4, 5], ALPHAS, folds, draws=draws)
    bands = [order[:3], order[3:7], order[7:]]
    scattered = banded_ridge_cv(X, Y, bands, ALPHAS, folds, draws=draws)
    np.testing.assert_array_equal(sorted_.chosen, scattered.chosen)
    np.testing.assert_allclose(sorted_.coef, scattered.coef[:, order], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_rotation_and_operators_give_the_same_errors(shape, monkeypatch):
    """Both ways to the errors of all penalties, whichever the count of products would take."""
    X, Y, bands = problem(*SHAPES[shape])
    shared = design(X - X.mean(axis=0), band_columns(bands, X.shape[1]), X.shape[1] <= len(X), True)
    Yc = Y - Y.mean(axis=0)
    seen = set()
    for n_targets in (1, 10**9):
        for train, test in kfold(len(X), 5):
            fold = BandFold(shared, train, test)
            given = fold.targets(Yc, shared.cross(Yc))
            for weights in ([0.3, 0.7], [0.0, 1.0]):
                prepared = draw_errors(fold, np.array(weights), ALPHAS, n_targets)
                seen.add(type(prepared.way).__name__)
                found = prepared.errors(*given)
                expected = refit_errors(X, Y, bands, weights, [(train, test)])
                np.testing.assert_allclose(found, expected, rtol=1e-7)
    if shape == "primal":
        assert seen == {"FoldErrors", "ndarray"}


@pytest.mark.parametrize("shape", ["primal", "dual"])
def test_folds_need_not_be_a_partition(shape):
    X, Y, bands = problem(*SHAPES[shape])
    rows = np.random.default_rng(0).permutation(len(X))
    few = len(X) // 4
    folds = [(rows[few:], rows[:few]), (rows[:few], rows[few:]), (rows[5:], rows[2:5])]
    fit = banded_ridge_cv(X, Y, bands, ALPHAS, folds, n_draws=4)
    errors = [refit_errors(X, Y, bands, w, folds).min(axis=0) for w in fit.draws]
    np.testing.assert_allclose(fit.errors, errors, rtol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", ["tall", "primal", "dual"])
def test_torch_tensors_give_what_arrays_give(shape, dtype):
    X, Y, bands = problem(*SHAPES[shape])
    folds = kfold(len(X), 5)
    expected = banded_ridge_cv(X, Y, bands, ALPHAS, folds, n_draws=8)
    tensors = torch.as_tensor(X.astype(dtype)), torch.as_tensor(Y.astype(dtype))
    tensor_folds = [(torch.as_tensor(train), torch.as_tensor(test)) for train, test in folds]
    draws = torch.as_tensor(expected.draws)
    found = banded_ridge_cv(*tensors, bands, ALPHAS, tensor_folds, draws=draws)
    single = dtype == np.float32
    assert isinstance(found.coef, torch.Tensor)
    assert found.coef.dtype == tensors[0].dtype
    assert found.errors.dtype == torch.float64
    rtol = 1e-4 if single else 1e-9
    np.testing.assert_allclose(found.errors.numpy(), expected.errors, rtol=rtol)
    np.testing.assert_array_equal(found.chosen.numpy(), expected.chosen)
    tolerance = {"rtol": 1e-3, "atol": 1e-3} if single else {"rtol": 1e-8, "atol": 1e-10}
    np.testing.assert_allclose(found.coef.numpy(), expected.coef, **tolerance)


def test_single_precision_is_given_up_where_it_would_blur():
    """A tiny penalty beside features of very different spread."""
    X, Y, bands = problem(60, 24)
    X = (X - X.mean(axis=0)) * np.geomspace(1e-3, 30, 24)
    alphas = [1e-4, 1.0]
    double = banded_ridge_cv(X, Y, bands, alphas, kfold(60, 5), n_draws=5)
    single = banded_ridge_cv(
        X.astype(np.float32), Y.astype(np.float32), bands, alphas, kfold(60, 5), n_draws=5
    )
    assert single.coef.dtype == np.float32
    np.testing.assert_allclose(single.errors, double.errors, rtol=1e-4)


@pytest.mark.parametrize("shape", ["primal", "dual"])
def test_batches_of_targets_and_lazy_targets_change_nothing(shape):
    class Lazy:
        """Reads columns alone, as files larger than memory are."""

        def __init__(self, values):
            self.values, self.shape, self.reads = values, values.shape, []

        def read(self, rows, columns):
            assert rows is None
            self.reads.extend(columns.tolist())
            return self.values[:, columns]

    X, Y, bands = problem(*SHAPES[shape])
    folds, lazy = kfold(len(X), 4), Lazy(Y)
    whole = banded_ridge_cv(X, Y, bands, ALPHAS, folds, n_draws=6)
    parts = banded_ridge_cv(X, lazy, bands, ALPHAS, folds, n_draws=6, n_targets_batch=4)
    assert (whole.batch_size, parts.batch_size) == (128, 4)
    assert lazy.reads == list(range(6))
    np.testing.assert_array_equal(whole.chosen, parts.chosen)
    np.testing.assert_allclose(whole.coef, parts.coef, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(whole.errors, parts.errors, rtol=1e-9)


@pytest.mark.parametrize("size", [None, 4])
def test_shared_weights_and_penalty_minimise_the_summed_error(size):
    X, Y, bands = problem(60, 24)
    folds = kfold(60, 5)
    fit = banded_ridge_cv(
        X, Y, bands, ALPHAS, folds, n_draws=6, alpha_per_target=False, n_targets_batch=size
    )
    errors = np.stack([refit_errors(X, Y, bands, w, folds) for w in fit.draws])
    places = errors.sum(axis=2).argmin(axis=1)
    np.testing.assert_allclose(fit.errors, errors[np.arange(6), places], rtol=1e-8)
    best = errors.sum(axis=2).min(axis=1).argmin()
    assert (errors.min(axis=1).argmin(axis=0) != best).any()  # which some would not take alone
    assert set(fit.chosen) == {best}
    assert set(fit.alpha) == {ALPHAS[places[best]]}
    np.testing.assert_array_equal(fit.weights, np.tile(fit.draws[best], (6, 1)))
    expected = Ridge(alpha=fit.alpha[0]).fit(scaled(X, bands, fit.draws[best])[0], Y)
    np.testing.assert_allclose(
        X @ fit.coef.T + fit.intercept,
        expected.predict(scaled(X, bands, fit.draws[best])[0]),
        rtol=1e-7,
    )


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sampled_from(["tall", "primal", "dual"]))
def test_more_draws_never_choose_a_larger_error(seed, shape):
    X, Y, bands = problem(*SHAPES[shape], seed=seed)
    folds, draws = kfold(len(X), 3), simplex_draws(8, 2, seed=seed)
    few = banded_ridge_cv(X, Y, bands, ALPHAS, folds, draws=draws[:4])
    many = banded_ridge_cv(X, Y, bands, ALPHAS, folds, draws=draws)
    assert (many.errors.min(axis=0) <= few.errors.min(axis=0) * (1 + 1e-12)).all()
    np.testing.assert_allclose(many.errors[:4], few.errors, rtol=1e-10)
    np.testing.assert_allclose(many.weights.sum(axis=1), 1, rtol=1e-12)


def test_of_equal_draws_the_first_is_chosen():
    X, Y, bands = problem(40, 9)
    fit = banded_ridge_cv(X, Y, bands, ALPHAS, kfold(40, 4), draws=[[0.5, 0.5]] * 3)
    assert not fit.chosen.any()


def test_arguments_are_left_alone():
    X, Y, bands = problem(40, 9)
    draws = simplex_draws(5, 2)
    before = X.copy(), Y.copy(), draws.copy()
    banded_ridge_cv(X, Y, bands, ALPHAS, kfold(40, 4), draws=draws, racing=RacingRule())
    for now, then in zip((X, Y, draws), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_penalties_must_be_positive(bad_penalties):
    X, Y, bands = problem(40, 9)
    with pytest.raises(InputError, match=r"alphas must be .*positive numbers, at least one"):
        banded_ridge_cv(X, Y, bands, bad_penalties, kfold(40, 4))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"Y": np.zeros((39, 2))}, r"Features \(40, 9\) and targets \(39, 2\)"),
        ({"Y": np.zeros(40)}, r"got shapes \(40, 9\) and \(40,\)"),
        ({"bands": [3, 5]}, "2 sizes with a sum of 8 for 9 features"),
        ({"draws": [[0.5, 0.6]]}, "those of draws 0 do not"),
        ({"draws": np.ones((2, 3)) / 3}, "each of the 2 bands"),
        ({"folds": []}, "No folds were given"),
        ({"folds": [(np.arange(40), np.arange(0))]}, "40 training and 0 held-out rows"),
        ({"folds": [(np.arange(0), np.arange(40))]}, "0 training and 40 held-out rows"),
        ({"folds": [(np.arange(39), np.arange(39, 41))]}, "some of the rows 0 to 39"),
        ({"folds": [(np.arange(-1, 30), np.arange(30, 40))]}, "some of the rows 0 to 39"),
        ({"folds": [(np.arange(30), np.arange(28, 40))]}, "trains on 2 of the rows"),
        ({"n_draws": 0}, "At least 1 draw"),
        ({"n_targets_batch": 0}, "n_targets_batch must be at least 1"),
        ({"racing": RacingRule(), "alpha_per_target": False}, "Racing gives draws up"),
    ],
)
def test_bad_input_is_refused(changed, said):
    X, Y, bands = problem(40, 9)
    given = {"X": X, "Y": Y, "bands": bands, "alphas": ALPHAS, "folds": kfold(40, 4)} | changed
    with pytest.raises(InputError, match=said):
        banded_ridge_cv(**given)


def simulation(n_targets=300, seed=0):
    """Three bands, targets that mix them by weights of their own, 300 training and test rows."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(600, 60))
    shares = rng.dirichlet(np.full(3, 0.5), n_targets) * rng.uniform(0, 0.7, (n_targets, 1))
    W = rng.normal(size=(3, 20, n_targets)) * np.sqrt(shares.T[:, None] / 20)
    noise = rng.normal(size=(600, n_targets)) * np.sqrt(1 - shares.sum(axis=1))
    return X, X @ W.reshape(60, n_targets) + noise, [20] * 3


def r2_of(fit, X, Y):
    residual = ((Y - X @ fit.coef.T - fit.intercept) ** 2).sum(axis=0)
    return 1 - residual / ((Y - Y.mean(axis=0)) ** 2).sum(axis=0)


@pytest.mark.parametrize("seed", range(3))
def test_racing_saves_much_and_loses_little(seed):
    X, Y, bands = simulation(seed=seed)
    alphas, folds = np.geomspace(1, 1e3, 7), kfold(300, 5)
    arguments = X[:300], Y[:300], bands, alphas, folds
    exact = banded_ridge_cv(*arguments, n_draws=30)
    raced = banded_ridge_cv(*arguments, n_draws=30, racing=RacingRule())
    loss = (r2_of(exact, X[300:], Y[300:]) - r2_of(raced, X[300:], Y[300:])).mean()
    assert abs(loss) < 0.002
    assert raced.skipped > 0.3 * exact.errors.size * 5
    # What is left is exact, and the choice is the best of it.
    left = np.isfinite(raced.errors)
    np.testing.assert_allclose(raced.errors[left], exact.errors[left], rtol=1e-9)
    np.testing.assert_array_equal(raced.chosen, np.nanargmin(raced.errors, axis=0))
    assert left[raced.chosen, np.arange(300)].all()
    same = raced.chosen == exact.chosen
    np.testing.assert_allclose(raced.coef[same], exact.coef[same], rtol=1e-8, atol=1e-10)


def test_racing_with_much_slack_gives_nothing_up():
    X, Y, bands = simulation(n_targets=30)
    Y = Y + 5 * X[:, [0]]  # so that every draw predicts something
    arguments = X, Y, bands, ALPHAS, kfold(600, 5)
    exact = banded_ridge_cv(*arguments, n_draws=9)
    raced = banded_ridge_cv(*arguments, n_draws=9, racing=RacingRule(slack=1e6))
    assert raced.skipped == 0
    np.testing.assert_allclose(raced.errors, exact.errors, rtol=1e-12)


def test_racing_counts_what_it_saves():
    X, Y, bands = simulation(n_targets=6)
    fit = banded_ridge_cv(
        X, Y, bands, ALPHAS, kfold(600, 5), n_draws=9, racing=RacingRule(slack=0.0)
    )
    assert fit.skipped == 9 * 6 * 4 - 6 * 4  # after one fold one draw is left to each target
    late = banded_ridge_cv(
        X, Y, bands, ALPHAS, kfold(600, 5), n_draws=9, racing=RacingRule(0.0, first_folds=4)
    )
    assert late.skipped == 9 * 6 - 6
    assert np.isfinite(late.errors).sum() == 6


@pytest.mark.parametrize("n_samples", [300, 50])  # more samples than features, and fewer
def test_racing_is_rough_only_where_that_does_no_harm(n_samples):
    X, Y, bands = simulation(n_targets=40)
    X, Y = X[:n_samples].astype(np.float32), Y[:n_samples].astype(np.float32)
    folds = kfold(n_samples, 5)
    made = design(X, band_columns(bands, 60), n_samples > 60, True)
    largest = np.linalg.eigvalsh(X.T.astype(float) @ X)[-1]
    least = 1e-4 if made.primal else 1e-2
    assert made.may_be_rough([1.01 * least * largest, largest])
    assert not made.may_be_rough([0.99 * least * largest, largest])
    assert not design(X.astype(float), band_columns(bands, 60), True, True).may_be_rough([largest])
    alphas = [1.0, 10.0, 100.0, 1000.0]
    wide = banded_ridge_cv(X.astype(float), Y.astype(float), bands, alphas, folds, n_draws=12)
    raced = banded_ridge_cv(X, Y, bands, alphas, folds, n_draws=12, racing=RacingRule())
    left = np.isfinite(raced.errors)
    np.testing.assert_allclose(raced.errors[left], wide.errors[left], rtol=1e-4)


def solve_problem(n_samples=30, dtype=np.float64):
    rng = np.random.default_rng(n_samples)
    X = rng.normal(size=(n_samples, 10)) + 2
    Y = X @ rng.normal(size=(10, 5)) + rng.normal(size=(n_samples, 5)) - 4
    return X.astype(dtype), Y.astype(dtype)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("n_samples", [30, 8])
def test_each_target_meets_the_normal_equations_of_its_own_penalties(n_samples, fit_intercept):
    X, Y = solve_problem(n_samples)
    coef, intercept = solve_banded_ridge(
        X, Y, BANDS, WEIGHTS, PENALTIES, fit_intercept=fit_intercept, n_targets_batch=1
    )
    x_mean = X.mean(axis=0) * fit_intercept
    for target in range(5):
        y_mean = Y[:, target].mean() * fit_intercept
        weight = np.repeat(WEIGHTS[target], BANDS)
        on = weight > 0
        Z = (X - x_mean)[:, on]
        inner = Z.T @ Z + np.diag(PENALTIES[target] / weight[on])
        expected = np.linalg.solve(inner, Z.T @ (Y[:, target] - y_mean))
        np.testing.assert_allclose(coef[target, on], expected, rtol=1e-8, atol=1e-10)
        assert (coef[target, ~on] == 0).all()
        np.testing.assert_allclose(intercept[target], y_mean - coef[target] @ x_mean, rtol=1e-8)


@pytest.mark.parametrize("n_samples", [30, 8])
def test_what_a_search_found_gives_its_solution_again(n_samples):
    X, Y = solve_problem(n_samples)
    fit = banded_ridge_cv(X, Y, BANDS, [0.1, 1.0, 10.0], kfold(n_samples, 4), n_draws=9)
    coef, intercept = solve_banded_ridge(X, Y, BANDS, fit.weights, fit.alpha)
    np.testing.assert_allclose(coef, fit.coef, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(intercept, fit.intercept, rtol=1e-7, atol=1e-9)


def test_equal_weights_are_ridge_and_their_sum_divides_the_penalty():
    X, Y = solve_problem()
    expected = solve_ridge(X, Y, 2.0)
    one = solve_banded_ridge(X, Y, BANDS, [1.0, 1.0], 2.0)
    half = solve_banded_ridge(X, Y, BANDS, [0.5, 0.5], 1.0)
    for found in (one, half):
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-9)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-9)


def test_without_any_band_the_mean_is_predicted():
    X, Y = solve_problem()
    coef, intercept = solve_banded_ridge(X, Y, BANDS, [0.0, 0.0], 1.0)
    assert not coef.any()
    np.testing.assert_allclose(intercept, Y.mean(axis=0))
    assert not solve_banded_ridge(X, Y, BANDS, [0.0, 0.0], 1.0, fit_intercept=False)[1].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tensors_and_files_give_what_arrays_give(dtype, tmp_path):
    expected = solve_banded_ridge(*solve_problem(), BANDS, WEIGHTS, PENALTIES)
    X, Y = solve_problem(dtype=dtype)
    tolerance = {"rtol": 2e-4, "atol": 2e-4} if dtype == np.float32 else {"rtol": 1e-8}
    tensors = [torch.as_tensor(values) for values in (X, Y, WEIGHTS, PENALTIES)]
    found = solve_banded_ridge(*tensors[:2], BANDS, *tensors[2:])
    assert isinstance(found[0], torch.Tensor)
    assert found[0].dtype == tensors[0].dtype
    with h5py.File(tmp_path / "y.h5", "w") as file:
        lazy = file.create_dataset("responses", data=Y)
        streamed = solve_banded_ridge(X, lazy, BANDS, WEIGHTS, PENALTIES, n_targets_batch=1)
    for part in range(2):
        np.testing.assert_allclose(found[part].numpy(), expected[part], **tolerance)
        np.testing.assert_allclose(streamed[part], expected[part], **tolerance)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"weights": np.ones(3)}, r"one for each of the 2 bands, \(2,\), or .* got \(3,\)"),
        ({"weights": np.ones((4, 2))}, r"the 5 targets, \(5, 2\); got \(4, 2\)"),
        ({"weights": [1.0, -0.5]}, "must be finite and not negative; got -0.5 to 1.0"),
        ({"weights": [1.0, np.inf]}, "must be finite"),
        (
            {"alphas": -1.0},
            "one penalty that is not negative for each of the 5 targets, or one for all",
        ),
        ({"alphas": np.ones(4)}, "one penalty that is not negative for each of the 5 targets"),
        ({"bands": [4, 5]}, "sum of 9 for 10 features"),
        ({"Y": np.zeros((29, 5))}, "same number of samples"),
    ],
)
def test_bad_weights_and_penalties_are_refused(changed, said):
    X, Y = solve_problem()
    given = {"X": X, "Y": Y, "bands": BANDS, "weights": WEIGHTS, "alphas": PENALTIES} | changed
    with pytest.raises(InputError, match=said):
        solve_banded_ridge(**given)
