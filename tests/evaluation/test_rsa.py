"""Comparison of RDMs, ceilings, intervals and nulls: closed forms, scipy and rsatoolbox."""

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rsatoolbox.inference import boot_noise_ceiling
from rsatoolbox.rdm import RDMs, compare
from scipy import stats
from scipy.stats import kendalltau, pearsonr, rankdata, spearmanr

from brainkit.errors import InputError, QuantityError, UnknownNameError
from brainkit.evaluation.rsa import (
    COMPARISONS,
    RDMSimilarity,
    bootstrap_rdms,
    compare_rdms,
    condensed,
    held_out_best,
    held_out_interval,
    peak_difference,
    permute_rdms,
    rdm,
    rdm_noise_ceiling,
)
from brainkit.evaluation.rsa.comparison import TOOLBOX_NAMES, Resampled, as_directions

N = 12


def matrices(count, n=N, seed=0, common=None, noise=1.0, p=30):
    """RDMs of patterns that share `common` and have noise of their own."""
    generator = np.random.default_rng(seed)
    base = np.zeros((n, p)) if common is None else common
    return np.stack(
        [
            rdm(base + noise * generator.normal(size=(n, p)), "squared-euclidean")
            for _ in range(count)
        ]
    )


@pytest.fixture(scope="module")
def truth():
    return np.random.default_rng(42).normal(size=(N, 30))


@pytest.fixture(scope="module")
def people(truth):
    return matrices(8, seed=1, common=truth, noise=1.5)


@pytest.fixture(scope="module")
def models(truth):
    """The truth, half of it, and nothing of it."""
    right = rdm(truth, "squared-euclidean")
    return np.stack([right, 0.5 * right + 0.5 * matrices(1, seed=5)[0], matrices(1, seed=6)[0]])


# ------------------------------------------------------------------------------------ comparison


def test_comparisons_equal_scipys(models, people):
    one, two = condensed(models), condensed(people)
    for name, function in (("spearman", spearmanr), ("pearson", pearsonr)):
        expected = [[function(a, b)[0] for b in two] for a in one]
        np.testing.assert_allclose(compare_rdms(models, people, name), expected, atol=1e-12)
    tau = [[kendalltau(a, b)[0] for b in two] for a in one]  # no ties, so τ-a is τ-b
    np.testing.assert_allclose(compare_rdms(models, people, "kendall-tau-a"), tau, atol=1e-12)
    cosine = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in two] for a in one]
    np.testing.assert_allclose(compare_rdms(models, people, "cosine"), cosine, atol=1e-12)


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_comparisons_equal_rsatoolboxs(models, people, comparison):
    expected = compare(RDMs(condensed(models)), RDMs(condensed(people)), TOOLBOX_NAMES[comparison])
    found = compare_rdms(models, people, comparison)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found.comparison == comparison


@pytest.mark.parametrize("comparison", [name for name in COMPARISONS if name != "kendall-tau-a"])
def test_similarities_are_sums_of_products(models, people, comparison):
    products = np.einsum(
        "lij,sij->ls", as_directions(models, comparison), as_directions(people, comparison)
    )
    np.testing.assert_allclose(products, compare_rdms(models, people, comparison), atol=1e-10)


def test_ties_count_as_each_comparison_says():
    """A two-class model: 9 pairs across of 15, and data that order them perfectly."""
    classes = np.array([0, 0, 0, 1, 1, 1])
    model = (classes[:, None] != classes[None]).astype(float)
    rows, columns = np.triu_indices(6, 1)
    data = np.zeros((6, 6))
    data[rows, columns] = rankdata(model[rows, columns] + 0.01 * np.arange(15))
    data += data.T
    # τ-a: of 105 pairs of pairs, 9 · 6 differ in the model, and all of those agree.
    assert compare_rdms(model, data, "kendall-tau-a").item() == pytest.approx(54 / 105)
    # ρ-a: Spearman's with the variance of untied ranks in both denominators.
    ranks = rankdata(model[rows, columns])
    ratio = np.sqrt(((ranks - ranks.mean()) ** 2).sum() / ((15**3 - 15) / 12))
    spearman = compare_rdms(model, data, "spearman").item()
    assert compare_rdms(model, data, "rho-a").item() == pytest.approx(spearman * ratio)
    assert spearman < 1


def test_whitened_cosine_is_linear_cka():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(N, 20)), generator.normal(size=(N, 9))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    cka = np.sum((x.T @ y) ** 2) / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)
    found = compare_rdms(
        rdm(x, "squared-euclidean"), rdm(y, "squared-euclidean"), "whitened-cosine"
    )
    assert found.item() == pytest.approx(cka)


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_an_rdm_is_like_itself_and_relabelling_both_changes_nothing(people, comparison):
    alike = compare_rdms(people, people, comparison)
    np.testing.assert_allclose(np.diag(alike), 1.0, atol=1e-12)
    order = np.random.default_rng(0).permutation(N)
    moved = people[:, order][:, :, order]
    np.testing.assert_allclose(compare_rdms(moved, moved, comparison), alike, atol=1e-10)


def test_similarities_of_different_kinds_do_not_mix(models, people):
    spearman, pearson = (compare_rdms(models, people, name) for name in ("spearman", "pearson"))
    with pytest.raises(QuantityError, match="spearman"):
        spearman - pearson
    with pytest.raises(QuantityError, match="lies in"):
        RDMSimilarity([1.5], "spearman")


# -------------------------------------------------------------------------------------- ceilings


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_matched_ceilings_equal_rsatoolboxs(people, comparison):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = boot_noise_ceiling(RDMs(condensed(people)), TOOLBOX_NAMES[comparison])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ceiling = rdm_noise_ceiling(people, comparison)
    assert (ceiling.lower, ceiling.upper) == pytest.approx(expected)
    assert (ceiling.comparison, ceiling.pool, ceiling.n_subjects) == (comparison, "matched", 8)


def test_ceilings_equal_a_loop_over_people(people):
    ranks = rankdata(condensed(people), axis=1)
    low = [spearmanr(np.delete(ranks, i, 0).mean(axis=0), ranks[i])[0] for i in range(8)]
    high = [spearmanr(ranks.mean(axis=0), own)[0] for own in ranks]
    matched = rdm_noise_ceiling(people)
    assert (matched.lower, matched.upper) == pytest.approx((np.mean(low), np.mean(high)))
    pairs = condensed(people)
    low = [spearmanr(np.delete(pairs, i, 0).mean(axis=0), pairs[i])[0] for i in range(8)]
    high = [spearmanr(pairs.mean(axis=0), own)[0] for own in pairs]
    plain = rdm_noise_ceiling(people, pool="mean")
    assert (plain.lower, plain.upper) == pytest.approx((np.mean(low), np.mean(high)))


def test_the_true_model_lies_within_the_ceiling_and_none_above(truth, models):
    people = matrices(30, seed=3, common=truth, noise=1.5)
    ceiling = rdm_noise_ceiling(people, "pearson")
    right, _, wrong = np.asarray(compare_rdms(models, people, "pearson")).mean(axis=1)
    assert ceiling.lower - 0.01 < right < ceiling.upper
    assert wrong < 0.1
    tried = matrices(200, seed=8, common=truth, noise=0.7)
    best = np.asarray(compare_rdms(tried, people, "pearson")).mean(axis=1).max()
    assert best < ceiling.upper


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_the_bound_is_that_of_the_comparison_whatever_the_pool(people, comparison):
    bounds = [
        rdm_noise_ceiling(people, comparison, pool=pool).bound for pool in ("matched", "mean")
    ]
    assert bounds[0] == bounds[1]


def tied_models(people, generator, count=60):
    """RDMs with few different values: random ones, and people's mean ranks cut into levels."""
    n = people.shape[1]
    rows, columns = np.triu_indices(n, 1)
    ranks = rankdata(condensed(people), axis=1).mean(axis=0)
    made = []
    for number in range(count):
        levels = int(generator.integers(2, 8))
        values = ranks + (number % 2) * generator.normal(0, ranks.std(), ranks.shape)
        cuts = np.sort(generator.choice(values, levels - 1, replace=False))
        model = np.zeros((n, n))
        model[rows, columns] = np.searchsorted(cuts, values) + 1.0
        made.append(model + model.T)
    return np.stack([model for model in made if np.ptp(condensed(model)) > 0])


@pytest.mark.parametrize("comparison", COMPARISONS)
@given(
    n_people=st.integers(2, 5),
    n=st.integers(4, 7),
    levels=st.sampled_from([3, 6, 1000]),
    common=st.floats(0, 3),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=25)
def test_no_model_is_above_the_bound_tied_or_not(comparison, n_people, n, levels, common, seed):
    """People with and without ties, alike or not; models that are tied, plain, or one of them."""
    generator = np.random.default_rng(seed)
    base = generator.normal(size=(n, n))
    people = np.stack([common * base + generator.normal(size=(n, n)) for _ in range(n_people)])
    people = np.ceil(levels * np.argsort(np.argsort(people.reshape(n_people, -1))) / n**2)
    people = np.triu(people.reshape(n_people, n, n), 1)
    people = people + people.transpose(0, 2, 1)
    assume((np.ptp(condensed(people), axis=1) > 0).all())
    ceiling = rdm_noise_ceiling(people, comparison)
    plain = np.abs(generator.normal(size=(20, n, n)))
    models = np.concatenate(
        [people, plain + plain.transpose(0, 2, 1), tied_models(people, generator)]
    )
    models[:, np.arange(n), np.arange(n)] = 0
    best = np.asarray(compare_rdms(models, people, comparison)).mean(axis=1).max()
    assert best <= ceiling.bound + 1e-9
    assert ceiling.upper <= ceiling.bound + 1e-9
    if comparison in ("pearson", "cosine", "rho-a"):
        assert ceiling.upper == pytest.approx(ceiling.bound)


def test_a_tied_model_is_above_the_estimate_for_spearman_and_only_there():
    """Two classes, which many people follow but for noise: nearer to them than their pooled RDM."""
    generator = np.random.default_rng(0)
    classes = np.arange(10) % 2
    model = (classes[:, None] != classes[None]).astype(float)
    people = np.stack([model + 0.05 * np.abs(generator.normal(size=(10, 10))) for _ in range(60)])
    people = np.triu(people, 1) + np.triu(people, 1).transpose(0, 2, 1)
    spearman = rdm_noise_ceiling(people, "spearman")
    similarity = compare_rdms(model, people, "spearman").mean()
    assert spearman.upper < similarity <= spearman.bound
    rho_a = rdm_noise_ceiling(people, "rho-a")
    assert compare_rdms(model, people, "rho-a").mean() < rho_a.upper


def test_people_who_agree_have_a_ceiling_of_one(people):
    ceiling = rdm_noise_ceiling(np.repeat(people[:1], 4, axis=0))
    assert (ceiling.lower, ceiling.upper) == pytest.approx((1, 1))


# ------------------------------------------------------------------------------------- inference


def test_permutation_finds_the_true_model_alone(models, people):
    found = permute_rdms(models, people, n=999, seed=0)
    expected = np.asarray(compare_rdms(models, people)).mean(axis=1)
    np.testing.assert_allclose(found.observed[:, 0], expected, atol=1e-12)
    assert found.p[0, 0] == found.p_familywise[0, 0] == pytest.approx(0.001)
    assert found.p[2, 0] > 0.05
    assert (found.p_familywise >= found.p).all()
    assert found.null.shape == (999, 3, 1)
    assert found.null.mean() == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_permuting_equals_relabelling_the_models(models, people, comparison):
    """The null from products is the one that comes of comparing relabelled RDMs anew."""
    data = np.stack([people[:4], people[4:]])
    found = permute_rdms(models, data, comparison, n=3, seed=4)
    again = permute_rdms(models, data, comparison, n=3, seed=4)
    assert (found.null == again.null).all()
    from brainkit.arrays.seeds import rng

    generator = rng(4, "rsa", "permutation")
    for draw in found.null:
        order = generator.permutation(N)
        moved = models[:, order][:, :, order]
        for group in (0, 1):
            expected = np.asarray(compare_rdms(moved, data[group], comparison)).mean(axis=1)
            np.testing.assert_allclose(draw[:, group], expected, atol=1e-10)


def test_permutation_p_is_uniform_where_nothing_is_shared():
    people = matrices(5, seed=11)
    p = [permute_rdms(matrices(1, seed=s), people, n=99).p.item() for s in range(100, 220)]
    assert np.mean(p) == pytest.approx(0.5, abs=0.09)
    assert np.mean(np.array(p) <= 0.05) < 0.12


def test_bootstrap_shares_its_draws_and_leaves_copies_out(models, people):
    data = np.stack([people, people])
    found = bootstrap_rdms(models, data, n=40, seed=2)
    assert (found.n_subjects, found.n_conditions) == (8, N)
    np.testing.assert_array_equal(found.both[:, :, 0], found.both[:, :, 1])
    np.testing.assert_array_equal(found.observed[:, 0], found.observed[:, 1])
    # Copies would be equal in model and data alike, and would lift the wrong model too.
    assert np.median(found.conditions[:, 2]) == pytest.approx(found.observed[2, 0], abs=0.06)
    again = bootstrap_rdms(models, data, n=40, seed=2)
    np.testing.assert_array_equal(found.both, again.both)
    assert (bootstrap_rdms(models, data, n=40, seed=3).both != found.both).any()


@pytest.mark.parametrize("comparison", COMPARISONS)
@pytest.mark.parametrize("tied", [False, True])
def test_a_resample_of_conditions_equals_rsatoolboxs(models, people, comparison, tied):
    one, two = (np.round(part, 1) if tied else part for part in (models, people))
    resampled = Resampled(one, two, comparison)
    for seed in range(3):
        which = np.sort(np.random.default_rng(seed).integers(N, size=N))
        parts = [RDMs(condensed(p)).subsample_pattern("index", which) for p in (one, two)]
        expected = compare(*parts, TOOLBOX_NAMES[comparison])
        np.testing.assert_allclose(resampled(which), expected, atol=1e-10)


def test_variances_are_combined_as_published(models, people):
    found = bootstrap_rdms(models, people, n=200, seed=0)
    both, one, two = (
        part[:, 0, 0].var(ddof=1) for part in (found.both, found.subjects, found.conditions)
    )
    s, c = 8 / 7, N / (N - 1)
    variance = s * one + c * two - s * c * (both - one - two)
    variance = min(max(variance, s * one, c * two), both)
    from scipy.stats import t

    interval = found.cell(0)
    half = t.ppf(0.975, 7) * np.sqrt(variance)
    assert interval.value == pytest.approx(found.observed[0, 0])
    assert (interval.low, interval.high) == pytest.approx(
        (interval.value - half, interval.value + half)
    )
    assert interval.n == 8
    difference = found.interval([[1], [0], [-1]])
    assert difference.value == pytest.approx(found.observed[0, 0] - found.observed[2, 0])
    assert found.interval([[1], [0], [-1]], level=0.9).excludes_zero
    assert found.cell(0, level=0.5).high < interval.high


@pytest.mark.slow
def test_intervals_cover_new_people_and_new_conditions(truth):
    """95 % intervals hold the expectation over draws of people and of conditions."""
    model, generator = np.random.default_rng(9).normal(size=(400, 30)), np.random.default_rng(10)
    mixed = 0.6 * model + 0.8 * np.random.default_rng(11).normal(size=(400, 30))

    def draw(n):
        chosen = generator.choice(400, size=n, replace=False)
        people = [
            rdm(mixed[chosen] + generator.normal(size=(n, 30)), "squared-euclidean")
            for _ in range(8)
        ]
        return rdm(model[chosen], "squared-euclidean"), np.stack(people)

    # The size of a sample does not shift Pearson's r of distances noticeably at these sizes.
    expectation = np.mean([np.mean(compare_rdms(*draw(24), "pearson")) for _ in range(400)])
    held = []
    for seed in range(60):
        interval = bootstrap_rdms(*draw(24), "pearson", n=150, seed=seed).cell(0)
        held.append(interval.low <= expectation <= interval.high)
    assert np.mean(held) > 0.85


def test_the_best_model_is_chosen_by_other_people():
    similarity = RDMSimilarity([[0.3, 0.3, 0.0], [0.2, 0.2, 0.9]], "spearman")
    scores, chosen = held_out_best(similarity)
    # The third person alone makes the second model best; without them the first is.
    assert chosen.tolist() == [1, 1, 0]
    np.testing.assert_allclose(scores, [0.2, 0.2, 0.0])
    assert scores.comparison == "spearman"


def test_held_out_best_does_not_flatter_noise():
    noise = np.clip(0.1 * np.random.default_rng(0).normal(size=(50, 20)), -1, 1)
    similarity = RDMSimilarity(noise, "spearman")
    assert noise.mean(axis=1).max() > 0.03
    assert abs(np.asarray(held_out_best(similarity)[0]).mean()) < 0.05


def test_the_interval_of_a_chosen_model_covers_what_it_should():
    """Of its scores alone it would cover 0 in .71 to .81 of these runs."""
    generator = np.random.default_rng(0)
    for n_models in (4, 12):
        held = []
        for _ in range(300):
            values = np.clip(0.1 * generator.normal(size=(n_models, 12)), -1, 1)
            interval = held_out_interval(RDMSimilarity(values, "spearman"))
            held.append(interval.low <= 0 <= interval.high)
        assert 0.92 <= np.mean(held) <= 0.985


def test_the_interval_of_a_clear_best_model_is_students():
    """Whoever is left out, the others choose the same model: its scores are independent."""
    one = np.array([0.4, 0.5, 0.45, 0.6])
    interval = held_out_interval(RDMSimilarity(np.stack([one, one - 0.3]), "spearman"))
    reach = stats.t.ppf(0.975, 3) * one.std(ddof=1) / 2
    assert interval.value == pytest.approx(one.mean())
    assert (interval.low, interval.high) == pytest.approx((one.mean() - reach, one.mean() + reach))
    assert np.isnan(held_out_interval(RDMSimilarity(np.full((2, 2), 0.1), "spearman")).low)
    with pytest.raises(InputError, match="level=1"):
        held_out_interval(RDMSimilarity(np.stack([one, one]), "spearman"), level=1)


def test_intervals_of_two_people_are_marked_and_end_at_the_limits():
    noise = np.random.default_rng(0)
    people = [np.stack([rdm_of(noise, 12) for _ in range(2)]) for _ in range(2)]
    found = bootstrap_rdms(np.stack([rdm_of(noise, 12) for _ in range(3)]), np.stack(people), n=50)
    cell = found.cell(0)
    assert cell.few_units
    assert cell.n_units == 2
    assert -1 <= cell.low <= cell.high <= 1
    rise = found.interval([[-1, 1], [0, 0], [1, -1]])
    assert rise.few_units


def rdm_of(generator, n):
    points = generator.normal(size=(n, 5))
    return np.linalg.norm(points[:, None] - points[None], axis=2)


def test_peaks_are_told_apart(models, people):
    early = people
    late = matrices(8, seed=20, common=None, noise=0.3) + 20 * models[2]
    found = bootstrap_rdms(models, np.stack([early, late]), n=100)
    gap = peak_difference(found, 0, 1)
    assert gap.value == 2
    assert gap.low > 0
    assert gap.later > 0.9
    back = peak_difference(found, 1, 0)
    assert back.value == -2
    assert back.later < 0.05
    same = peak_difference(found, 0, 0)
    assert (same.value, same.low, same.high, same.later) == (0, 0, 0, 0)


# ------------------------------------------------------------------------------------- bad input

CALLS = [compare_rdms, bootstrap_rdms, permute_rdms]


@pytest.mark.parametrize("call", CALLS)
def test_rdms_that_do_not_fit_are_refused(call, models, people):
    with pytest.raises(InputError, match="models is of 12 conditions and data of 10"):
        call(models, people[:, :10, :10])
    with pytest.raises(UnknownNameError, match="Did you mean 'spearman'"):
        call(models, people, "spearmann")
    with pytest.raises(InputError, match="has 2 conditions"):
        call(models[:, :2, :2], people[:, :2, :2])
    broken = people.copy()
    broken[3, 1, 2] = broken[3, 2, 1] = np.nan
    with pytest.raises(InputError, match="2 values that are NaN or infinite, in RDM 3"):
        call(models, broken)
    constant = models.copy()
    constant[1] = 1 - np.eye(N)
    with pytest.raises(InputError, match="RDM 1 of models is constant"):
        call(constant, people)
    assert np.isfinite(np.asarray(compare_rdms(constant, people, "cosine"))).all()
    constant[1] = 0
    with pytest.raises(InputError, match="RDM 1 of models is zero everywhere"):
        call(constant, people, "cosine")


def test_too_little_is_refused(models, people):
    with pytest.raises(InputError, match="at least 2 people"):
        rdm_noise_ceiling(people[:1])
    with pytest.raises(UnknownNameError, match="way to pool"):
        rdm_noise_ceiling(people, pool="median")
    with pytest.raises(UnknownNameError, match="comparison"):
        rdm_noise_ceiling(people, "r")
    with pytest.raises(InputError, match="at least 2 of each"):
        bootstrap_rdms(models, people[:1])
    with pytest.raises(InputError, match="at least 2 of each"):
        bootstrap_rdms(models, people, n=1)
    with pytest.raises(InputError, match="at least 1 permutation"):
        permute_rdms(models, people, n=0)
    with pytest.raises(InputError, match="no group"):
        permute_rdms(models, np.empty((0, 4, N, N)))
    with pytest.raises(InputError, match="n_models, n_subjects"):
        held_out_best(RDMSimilarity([[0.1]], "spearman"))
    found = bootstrap_rdms(models, people, n=3)
    with pytest.raises(InputError, match="weights have shape"):
        found.interval([1, 2])
    with pytest.raises(InputError, match="0 < level < 1"):
        peak_difference(found, 0, 0, level=1.0)
