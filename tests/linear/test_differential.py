"""Every linear estimator and every kind of cross-validation beside plain double-precision code.

Problems are drawn from a seed, which stands in every message: 5 to 60 samples, 1 to 80 features and
now and then thousands, features and targets in units from 1e-8 to 1e8 and with means up to 1e4 of
their standard deviations, columns that are constant, copies, sums of others, or nonzero in one row,
samples in groups, single and double precision. The plain code here takes the numbers as they are
given (single precision is widened, not rounded anew), refits every fold, and shares nothing with
the package.

What may differ. A held-out error e is compared as a length, √e: rounding to a relative ε moves
predictions by ε times what they are made of. Where the spectrum is wide, the engine goes over to
double precision at a ratio of 10⁶ between its largest eigenvalue and the penalty, of which
predictions feel the root: 10³ · 6e-8, so that single precision is held to 2e-4 of the larger one of
√e and the targets' own length, and double precision to 1e-7. Chosen penalties may differ where the
plain code's own errors differ by no more than that.
"""

from dataclasses import dataclass

import numpy as np
import pytest

from brainkit.decoding import RidgeDecoder
from brainkit.encoding import BandedRidge, KernelRidge, ReducedRankRidge, VoxelwiseRidge
from brainkit.linear.banded_solver import RacingRule, banded_ridge_cv, solve_banded_ridge
from brainkit.linear.folds import kfold
from brainkit.linear.kernel_solver import (
    Kernel,
    kernel_predict,
    kernel_ridge_cv,
    solve_kernel_ridge,
)
from brainkit.linear.ridge_solver import ridge_cv, solve_ridge, validation_errors

ALWAYS, ALL, AT_ONCE = 100, 1000, 20
LENGTH = {np.float32: 2e-4, np.float64: 1e-7}
N_NEW = 7

# ------------------------------------------------------------------------------ random problems


@dataclass
class Problem:
    seed: int
    X: np.ndarray
    Y: np.ndarray
    new: np.ndarray  # rows to predict
    alphas: np.ndarray
    folds: object
    groups: np.ndarray | None
    cv: str
    fit_intercept: bool

    def __repr__(self):
        n, p = self.X.shape
        return (
            f"seed {self.seed}: {n} × {p}, {self.X.dtype}, cv={self.cv}, intercept "
            f"{self.fit_intercept}, alphas {self.alphas.min():.3g} to {self.alphas.max():.3g}"
        )


def draw_problem(seed, *, features=None):
    rng = np.random.default_rng([2026, seed])
    n = int(rng.integers(5, 61))
    p = int(rng.integers(1, 81)) if rng.random() > 0.03 else int(rng.integers(500, 3000))
    fit_intercept = bool(rng.random() < 0.85)
    dtype = np.float32 if rng.random() < 0.5 else np.float64
    total = n + N_NEW
    rank = int(rng.integers(1, min(n, p) + 1))
    kind = rng.integers(3)
    if kind == 0:
        F = rng.normal(size=(total, p))
    elif kind == 1:  # fewer directions than features
        F = rng.normal(size=(total, rank)) @ rng.normal(size=(rank, p)) / rank**0.5
    else:  # a falling spectrum
        F = rng.normal(size=(total, p)) * np.geomspace(1, 10 ** rng.uniform(-4, 0), p)
    F = spoil_columns(F, rng)
    W = rng.normal(size=(p, int(rng.integers(1, 7))))
    signal = F @ W
    signal /= signal.std(axis=0) + (signal.std(axis=0) == 0)
    Y = signal + rng.normal(size=signal.shape) * 10 ** rng.uniform(-3, 1, signal.shape[1])
    if fit_intercept:
        spread = F.std(axis=0)
        F = F + far(rng, p) * (spread + (spread == 0))
        Y = Y + far(rng, Y.shape[1]) * Y.std(axis=0)
    F, Y = F * 10 ** rng.uniform(-8, 8), Y * 10 ** rng.uniform(-8, 8)
    X, Y = F.astype(dtype), Y.astype(dtype)
    X, new, Y = X[:n], X[n:], Y[:n]
    scale = spectrum_scale(X, fit_intercept)
    low = rng.choice([-8, -5, -3])
    alphas = scale * np.geomspace(10.0**low, 100, int(rng.integers(2, 9)))
    if rng.random() < 0.2:
        alphas = rng.permutation(alphas)
    cv, folds, groups = draw_folds(seed, n, rng)
    return Problem(seed, X, Y, new, alphas, folds, groups, cv, fit_intercept)


def far(rng, size):
    return rng.normal(size=size) * rng.choice([0, 1, 100, 1e4])


def spoil_columns(F, rng):
    p = F.shape[1]
    for column in range(1, p):
        what, other = rng.random(), int(rng.integers(column))
        if what < 0.05:
            F[:, column] = F[:, other]
        elif what < 0.08:
            F[:, column] = rng.normal()
        elif what < 0.11:
            F[:, column] = F[:, other] + F[:, int(rng.integers(column))]
        elif what < 0.13:
            F[:, column] = np.arange(len(F)) == rng.integers(len(F))
    return F


def spectrum_scale(X, centred):
    X = X.astype(np.float64)
    s = np.linalg.svd(X - X.mean(axis=0) * centred, compute_uv=False)
    return s.max() ** 2 or 1.0


def draw_folds(seed, n, rng):
    cv = ("kfold", "groups", "loo", "gcv", "given")[seed % 5]
    if cv == "kfold":
        return cv, kfold(n, int(rng.integers(2, min(n, 6)))), None
    if cv == "groups":
        groups = rng.integers(0, max(3, n // 3), n)
        groups[:3] = [0, 1, 2]
        return cv, kfold(n, int(rng.integers(2, 4)), groups=groups, seed=seed), groups
    if cv == "given":  # not every sample is held out, nor in training
        order = rng.permutation(n)
        a, b = max(1, n // 4), max(2, n // 2)
        return cv, [(order[a:], order[: a - 1 or 1]), (order[: b + 1], order[b + 1 :])], None
    return cv, cv, None


# -------------------------------------------------------------------------------- plain solutions


def plain_ridge(X, Y, alphas, centred):
    """Coefficients for one penalty a target, by the singular values of X."""
    x_mean, y_mean = X.mean(axis=0) * centred, Y.mean(axis=0) * centred
    U, s, V = np.linalg.svd(X - x_mean, full_matrices=False)
    kept = s > s.max(initial=0) * max(X.shape) * np.finfo(float).eps
    U, s, V = U[:, kept], s[kept], V[kept]
    coef = V.T @ (
        (s / (s**2 + np.broadcast_to(alphas, Y.shape[1])[:, None])).T * (U.T @ (Y - y_mean))
    )
    return coef, x_mean, y_mean


def linear(X, Y, new, alpha, centred):
    coef, x_mean, y_mean = plain_ridge(X, Y, alpha, centred)
    return (new - x_mean) @ coef + y_mean


def by_kernel(function):
    """Ridge in a kernel's feature space, centred there, by one linear system."""

    def predict(X, Y, new, alpha, centred):
        K, crossed = function(X, X), function(new, X)
        y_mean = Y.mean(axis=0) * centred
        if centred:
            crossed = crossed - K.mean(axis=0)
            crossed = crossed - crossed.mean(axis=1, keepdims=True)
            K = K - K.mean(axis=0)
            K = K - K.mean(axis=1, keepdims=True)
        dual = np.column_stack(
            [
                np.linalg.solve(K + a * np.eye(len(K)), y)
                for a, y in zip(np.broadcast_to(alpha, Y.shape[1]), (Y - y_mean).T, strict=True)
            ]
        )
        return crossed @ dual + y_mean

    return predict


def plain_errors(predict, X, Y, alphas, folds, centred):
    """Squared held-out errors (n_alphas, n_targets), and those of the training mean."""
    if folds == "loo":
        folds = [(np.delete(np.arange(len(X)), row), [row]) for row in range(len(X))]
    errors, total = np.zeros((len(alphas), Y.shape[1])), np.zeros(Y.shape[1])
    for train, test in folds:
        for number, alpha in enumerate(alphas):
            residual = Y[test] - predict(X[train], Y[train], X[test], alpha, centred)
            errors[number] += (residual**2).sum(axis=0)
        total += ((Y[test] - Y[train].mean(axis=0) * centred) ** 2).sum(axis=0)
    return errors, total


def plain_gcv(K, Y, alphas, centred):
    """N · |(I - H) y|² / (trace(I - H) / N)² / N, H of ridge and of the mean, by XX'."""
    n = len(Y)
    Y = Y - Y.mean(axis=0) * centred
    # Rows without their mean have n - 1 coordinates.
    rest = (
        np.linalg.qr(np.column_stack([np.ones(n), np.eye(n)[:, 1:]]))[0][:, 1:]
        if centred
        else np.eye(n)
    )
    values, vectors = np.linalg.eigh(rest.T @ K @ rest)
    values = np.where(values > values.max(initial=0) * n * np.finfo(float).eps, values, 0)
    kept = alphas[:, None] / (values + alphas[:, None])  # I - H in its eigenbasis
    inside = vectors.T @ (rest.T @ Y)
    residual = (kept[:, :, None] ** 2 * inside**2).sum(axis=1)
    trace = kept.sum(axis=1) / n
    total = (Y**2).sum(axis=0) / (1 - centred / n) ** 2
    return residual / trace[:, None] ** 2, total


def expected_errors(problem, predict=linear, gram=None):
    X, Y = problem.X.astype(float), problem.Y.astype(float)
    if problem.cv == "gcv":
        centred = X - X.mean(axis=0) * problem.fit_intercept
        K = centred @ centred.T if gram is None else gram(X, X)
        return plain_gcv(K, Y, problem.alphas, problem.fit_intercept)
    return plain_errors(predict, X, Y, problem.alphas, problem.folds, problem.fit_intercept)


# ------------------------------------------------------------------------------------ comparisons


def size_of(problem):
    """Lengths of the targets' deviations."""
    Y = problem.Y.astype(float)
    return np.linalg.norm(Y - Y.mean(axis=0) * problem.fit_intercept, axis=0)


def same_errors(problem, found, expected, what, slack=1.0):
    (errors, total), (true, true_total) = found, expected
    tolerance = LENGTH[problem.X.dtype.type] * slack
    limit = tolerance * np.maximum(np.sqrt(true), size_of(problem))
    off = np.abs(np.sqrt(np.asarray(errors)) - np.sqrt(true))
    assert (off <= limit).all(), (
        f"{what}: errors off by {(off / limit).max():.3g} of what is allowed, {problem!r}"
    )
    off = np.abs(np.sqrt(np.asarray(total)) - np.sqrt(true_total))
    assert (off <= limit[0]).all(), f"{what}: totals off, {problem!r}"
    return limit


def good_choice(problem, chosen, true, limit, what):
    """The chosen candidates' plain errors are the least, within what the errors may be off by."""
    chosen = np.asarray(chosen)
    roots, targets = np.sqrt(true), np.arange(true.shape[1])
    place = np.abs(np.log(problem.alphas)[:, None] - np.log(chosen)).argmin(axis=0)
    np.testing.assert_allclose(problem.alphas[place], chosen, rtol=1e-12)
    gap = roots[place, targets] - roots.min(axis=0)
    assert (gap <= 2 * limit[place, targets]).all(), f"{what}: another penalty, {problem!r}"


def same_predictions(problem, found, expected, what, slack=1.0):
    """Within the tolerance of the targets' standard deviation, and their own last digit."""
    dtype = problem.X.dtype.type
    n = len(problem.Y)
    expected = expected.astype(float)
    far = np.maximum(np.abs(expected), np.abs(problem.Y.astype(float)).max(axis=0))
    # New rows may lie further out than the training rows did.
    reach = np.maximum(
        size_of(problem) / n**0.5,
        np.abs(expected - problem.Y.mean(axis=0, dtype=float) * problem.fit_intercept),
    )
    limit = 5 * slack * LENGTH[dtype] * reach + 2 * np.finfo(dtype).eps * far
    off = np.abs(np.asarray(found, dtype=float) - expected)
    assert (off <= limit).all(), (
        f"{what}: predictions off by {(off / limit).max():.3g} of what is allowed, {problem!r}"
    )


def wide(problem):
    return problem.X.astype(float), problem.Y.astype(float), problem.new.astype(float)


# ------------------------------------------------------------------------------------- estimators


def check_ridge(problem):
    expected = expected_errors(problem)
    given = problem.X, problem.Y, problem.alphas, problem.folds
    same_errors(
        problem,
        validation_errors(*given, fit_intercept=problem.fit_intercept),
        expected,
        "validation_errors",
    )
    fit = ridge_cv(*given, fit_intercept=problem.fit_intercept, n_targets_batch=4)
    limit = same_errors(problem, (fit.errors, fit.total), expected, "ridge_cv")
    good_choice(problem, fit.alpha, expected[0], limit, "ridge_cv")
    model = VoxelwiseRidge(
        alphas=problem.alphas, cv=problem.folds, fit_intercept=problem.fit_intercept
    ).fit(problem.X, problem.Y)
    good_choice(problem, model.alpha_, expected[0], limit, "VoxelwiseRidge")
    X, Y, new = wide(problem)
    plain = linear(X, Y, new, model.alpha_, problem.fit_intercept)
    same_predictions(problem, model.predict(problem.new), plain, "VoxelwiseRidge")
    same_coef(problem, model, model.alpha_)
    pooled = ridge_cv(*given, fit_intercept=problem.fit_intercept, alpha_per_target=False)
    assert len(np.unique(pooled.alpha)) == 1
    return expected, limit


def same_coef(problem, model, alpha):
    X, Y, _ = wide(problem)
    coef, _, _ = plain_ridge(X, Y, alpha, problem.fit_intercept)
    length = np.linalg.norm(coef, axis=0)
    # A direction of the least eigenvalue takes what rounding leaves in the targets, so divided.
    reach = size_of(problem) / (2 * np.sqrt(alpha))
    limit = 5 * LENGTH[problem.X.dtype.type] * np.maximum(length, reach)
    off = np.linalg.norm(np.asarray(model.coef_, dtype=float).T - coef, axis=0)
    assert (off <= limit).all(), (
        f"coefficients off by {(off / limit).max():.3g} of what is allowed, {problem!r}"
    )


def check_solve(problem):
    X, Y, new = wide(problem)
    rng = np.random.default_rng(problem.seed)
    for alphas in (rng.choice(problem.alphas, Y.shape[1]), 0.0):
        coef, intercept = solve_ridge(
            problem.X, problem.Y, alphas, fit_intercept=problem.fit_intercept
        )
        plain, x_mean, y_mean = plain_ridge(X, Y, alphas, problem.fit_intercept)
        if np.ndim(alphas) == 0:
            continue  # least squares through noise: compared in its own test
        # By coefficients and intercept, whose last digits the means multiply.
        found = (new - x_mean) @ coef.T.astype(float) + (x_mean @ coef.T.astype(float) + intercept)
        eps = np.finfo(problem.X.dtype).eps
        loss = eps * (np.abs(x_mean) @ np.abs(coef.T.astype(float)) + np.abs(y_mean))
        expected = (new - x_mean) @ plain + y_mean
        reach = np.maximum(size_of(problem) / len(Y) ** 0.5, np.abs(expected - y_mean))
        limit = 5 * LENGTH[problem.X.dtype.type] * reach + 4 * loss
        assert (np.abs(found - expected) <= limit).all(), f"solve_ridge: {problem!r}"


def check_decoder(problem):
    if isinstance(problem.folds, str) and problem.cv == "gcv":
        return
    X, Y, new = wide(problem)
    scale = X.std(axis=0)
    scale[(np.ptp(X, axis=0) == 0)] = 1
    alphas = np.geomspace(1e-3, 1e3, 7) * len(X)
    standard = Problem(**{**vars(problem), "X": X / scale, "Y": Y, "alphas": alphas})
    expected = expected_errors(standard)
    model = RidgeDecoder(alphas=alphas, cv=problem.folds, fit_intercept=problem.fit_intercept)
    model.fit(problem.X, problem.Y)
    summed = expected[0].sum(axis=1, keepdims=True)
    own = Problem(**{**vars(problem), "alphas": alphas})
    limit = LENGTH[problem.X.dtype.type] * np.sqrt(
        np.maximum(summed, (size_of(problem) ** 2).sum())
    )
    good_choice(own, model.alpha_[:1], summed, limit, "RidgeDecoder")
    plain = linear(X / scale, Y, new / scale, model.alpha_, problem.fit_intercept)
    same_predictions(own, model.predict(problem.new), plain, "RidgeDecoder")
    if problem.cv == "kfold" and problem.fit_intercept:
        order = np.random.default_rng(problem.seed).permutation(len(X))
        shared = RidgeDecoder(alphas=alphas, cv=len(problem.folds))
        null = shared.fit_with_null(problem.X, problem.Y, order)
        same_predictions(own, shared.predict(problem.new), plain, "fit_with_null") if (
            shared.alpha_[0] == model.alpha_[0]
        ) else good_choice(own, shared.alpha_[:1], summed, limit, "fit_with_null")
        plain = linear(X / scale, Y[order], new / scale, null.alpha_, True)
        same_predictions(own, null.predict(problem.new), plain, "the null of fit_with_null")


def plain_kernel(name, X):
    spread = float(((X - X.mean(axis=0)) ** 2).mean(axis=0).sum()) or 1.0
    size = float((X**2).mean(axis=0).sum()) or 1.0
    if name == "rbf":
        gamma = 1 / spread
        return gamma, lambda A, B: np.exp(
            -gamma * np.stack([((a - B) ** 2).sum(axis=1) for a in A])
        )
    gamma = 1 / size
    return gamma, lambda A, B: (gamma * A @ B.T + 1) ** 2


def check_kernels(problem, expected, limit):
    X, Y, new = wide(problem)
    settings = {"cv": problem.folds, "fit_intercept": problem.fit_intercept}
    model = KernelRidge("linear", alphas=problem.alphas, **settings).fit(problem.X, problem.Y)
    fit = kernel_ridge_cv(
        problem.X, problem.Y, problem.alphas, problem.folds, fit_intercept=problem.fit_intercept
    )
    same_errors(problem, (fit.errors, fit.total), expected, "linear kernel")
    good_choice(problem, model.alpha_, expected[0], limit, "linear kernel")
    plain = linear(X, Y, new, model.alpha_, problem.fit_intercept)
    same_predictions(problem, model.predict(problem.new), plain, "linear kernel")
    same_coef(problem, model, model.alpha_)
    for name in ("rbf", "poly"):
        gamma, function = plain_kernel(name, X)
        K = function(X, X)
        if problem.fit_intercept:
            K = K - K.mean(axis=0)
            K = K - K.mean(axis=1, keepdims=True)
        varied = np.trace(K)
        # What the kernel's own values are rounded to must be little beside the penalties.
        low = max(1e-6 * varied, 1e5 * len(X) * np.finfo(float).eps * function(X, X).max())
        if name == "poly" and low > varied:
            continue
        own = Problem(**{**vars(problem), "alphas": np.geomspace(low, 100 * max(varied, low), 5)})
        predict = by_kernel(function)
        true = expected_errors(own, predict, function)
        kernel = Kernel(name, gamma, degree=2)
        fit = kernel_ridge_cv(
            own.X, own.Y, own.alphas, own.folds, kernel=kernel, fit_intercept=own.fit_intercept
        )
        # A kernel's values, rounded to 2e-16 of themselves, are divided by the penalty.
        slack = 1.0 if own.X.dtype == np.float32 else 100.0
        around = same_errors(own, (fit.errors, fit.total), true, f"{name} kernel", slack)
        model = KernelRidge(name, gamma, 2, alphas=own.alphas, **settings).fit(own.X, own.Y)
        good_choice(own, model.alpha_, true[0], around, f"{name} kernel")
        plain = predict(X, Y, new, model.alpha_, own.fit_intercept)
        same_predictions(own, model.predict(own.new), plain, f"{name} kernel", slack)
        solved = solve_kernel_ridge(
            own.X, own.Y, model.alpha_, kernel=kernel, fit_intercept=own.fit_intercept
        )
        again = kernel_predict(own.new, own.X, solved, kernel=kernel)
        same_predictions(own, again, plain, f"solve_kernel_ridge, {name}", slack)


def check_banded(problem):
    if isinstance(problem.folds, str) or problem.X.shape[1] < 2:
        return
    X, Y, new = wide(problem)
    p = X.shape[1]
    rng = np.random.default_rng(problem.seed)
    sizes = [p // 2, p - p // 2]
    draws = np.array([[0.5, 0.5], [1, 0], [0, 1], [0.9, 0.1]])[: int(rng.integers(2, 5))]
    roots = [np.sqrt(np.repeat(draw, sizes)) for draw in draws]
    alphas, centred = problem.alphas, problem.fit_intercept
    true = np.stack(
        [plain_errors(linear, X * root, Y, alphas, problem.folds, centred)[0] for root in roots]
    )  # (draw, alpha, target)
    total = plain_errors(linear, X, Y, alphas[:1], problem.folds, centred)[1]
    bands = [np.arange(sizes[0]), np.arange(sizes[0], p)]
    given = problem.X, problem.Y, bands, alphas, problem.folds
    least = true.min(axis=1)
    limit = LENGTH[problem.X.dtype.type] * np.maximum(np.sqrt(least), size_of(problem))
    targets = np.arange(Y.shape[1])
    for racing in (None, RacingRule()):
        fit = banded_ridge_cv(*given, draws=draws, fit_intercept=centred, racing=racing)
        left = np.isfinite(fit.errors)
        off = np.abs(np.sqrt(np.where(left, fit.errors, least)) - np.sqrt(least))
        assert (off <= limit).all(), (
            f"banded ridge, racing {racing}: off by {(off / limit).max():.3g}, {problem!r}"
        )
        np.testing.assert_array_less(np.abs(np.sqrt(fit.total) - np.sqrt(total)), limit[0] + 1e-300)
        among = np.where(left, np.sqrt(least), np.inf)
        gap = np.sqrt(least)[fit.chosen, targets] - among.min(axis=0)
        assert (gap <= 2 * limit.max(axis=0)).all(), f"banded ridge: another draw, {problem!r}"
        place = np.searchsorted(np.sort(alphas), fit.alpha * (1 - 1e-9))
        own = np.sqrt(true[:, np.argsort(alphas)])[fit.chosen, place, targets]
        gap = own - np.sqrt(least)[fit.chosen, targets]
        assert (gap <= 2 * limit.max(axis=0)).all(), f"banded ridge: another penalty, {problem!r}"
    model = BandedRidge(bands, draws, alphas=alphas, cv=problem.folds, fit_intercept=centred).fit(
        problem.X, problem.Y
    )
    root = np.sqrt(np.repeat(model.band_weights_, sizes, axis=1))
    plain = np.column_stack(
        [linear(X * root[t], Y[:, [t]], new * root[t], model.alpha_[t], centred) for t in targets]
    )
    same_predictions(problem, model.predict(problem.new), plain, "BandedRidge")
    coef, _ = solve_banded_ridge(
        problem.X, problem.Y, bands, model.band_weights_, model.alpha_, fit_intercept=centred
    )
    assert np.linalg.norm(coef - model.coef_) <= 5 * LENGTH[problem.X.dtype.type] * (
        np.linalg.norm(coef) + (size_of(problem) / (2 * np.sqrt(model.alpha_))).max()
    ), f"solve_banded_ridge, {problem!r}"


def check_reduced_rank(problem):
    if problem.cv not in ("kfold", "groups"):
        return
    X, Y, new = wide(problem)
    ranks, n_folds = (1, 2, 6), len(problem.folds)
    alphas, centred = np.sort(problem.alphas)[-4:], problem.fit_intercept
    folds = kfold(len(X), n_folds, groups=problem.groups)
    plain, total = plain_errors(linear, X, Y, alphas, folds, centred)
    explained = 1 - plain.min(axis=0) / total
    weights = np.sqrt(np.where(explained > 0.01, explained, 0.01))
    true = np.zeros((len(alphas), len(ranks), Y.shape[1]))
    clear = True
    for train, test in folds:
        for number, alpha in enumerate(alphas):
            for place, rank in enumerate(ranks):
                predicted, gap = reduced(X[train], Y[train], X[test], alpha, rank, weights, centred)
                true[number, place] += ((Y[test] - predicted) ** 2).sum(axis=0)
                clear &= gap
    model = ReducedRankRidge(alphas=alphas, ranks=ranks, cv=n_folds, fit_intercept=centred)
    model.fit(problem.X, problem.Y, groups=problem.groups)
    if not clear:  # two directions explain as much: either may come first
        return
    roots, targets = np.sqrt(true), np.arange(Y.shape[1])
    limit = 20 * LENGTH[problem.X.dtype.type] * np.maximum(roots.min(axis=(0, 1)), size_of(problem))
    rows = np.abs(np.log(alphas)[:, None] - np.log(model.alpha_)).argmin(axis=0)
    columns = np.searchsorted(ranks, model.rank_)
    gap = roots[rows, columns, targets] - roots.min(axis=(0, 1))
    assert (gap <= 2 * limit).all(), f"reduced rank: another choice, {problem!r}"
    error = np.sqrt((1 - model.cv_r2_) * total)
    off = np.abs(error - roots[rows, columns, targets])
    assert (off <= limit).all(), (
        f"reduced rank: errors off by {(off / limit).max():.3g}, {problem!r}"
    )
    expected = np.empty((len(new), Y.shape[1]))
    for target in targets:
        predicted, gap = reduced(
            X, Y, new, model.alpha_[target], model.rank_[target], weights, centred
        )
        clear &= gap
        expected[:, target] = predicted[:, target]
    if clear:
        same_predictions(problem, model.predict(problem.new), expected, "reduced rank", 20)


def reduced(X, Y, new, alpha, rank, weights, centred):
    """Predictions of rank k in the metric diag(weights), and if the k-th direction is clear."""
    coef, x_mean, y_mean = plain_ridge(X, Y, alpha, centred)
    X = X - x_mean
    own = coef * weights
    inner = own.T @ (X.T @ (X @ own)) + alpha * own.T @ own
    values, vectors = np.linalg.eigh(inner)
    kept = vectors[:, -rank:]
    clear = rank >= len(values) or values[-rank] - values[-rank - 1] > 1e-2 * values[-1]
    return (new - x_mean) @ (own @ kept @ kept.T / weights) + y_mean, clear


def check(seed):
    problem = draw_problem(seed)
    if np.ptp(problem.Y, axis=0).min() == 0 or np.ptp(problem.X) == 0:
        return
    expected, limit = check_ridge(problem)
    check_solve(problem)
    check_decoder(problem)
    check_kernels(problem, expected, limit)
    check_banded(problem)
    check_reduced_rank(problem)


def batches(start, stop):
    return [range(first, first + AT_ONCE) for first in range(start, stop, AT_ONCE)]


@pytest.mark.parametrize("seeds", batches(0, ALWAYS), ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_random_problems_are_solved_as_plain_code_solves_them(seeds):
    for seed in seeds:
        check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", batches(ALWAYS, ALL), ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_many_more_random_problems(seeds):
    for seed in seeds:
        check(seed)
