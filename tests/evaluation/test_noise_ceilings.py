""""""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainkit.errors import InputError, QuantityError, UnknownNameError
from brainkit.evaluation import (
    NCSNR,
    CeilingFraction,
    Correlation,
    CorrelationFraction,
    ExplainableVariance,
    NoiseCeiling,
    RSquared,
    checked_arrays,
    explainable_variance,
    ncsnr,
    noise_ceiling,
    noise_ceilings,
    pearson_r,
    pooled_ceiling_fraction,
    pooled_correlation_fraction,
    spearman_brown,
    split_half_ceiling,
    thresholded_ceiling_fraction,
    thresholded_correlation_fraction,
)


def simulate(signal_to_noise, n_images=600, n_repeats=3, n_sessions=4, seed=0):
    """Trials with a known ncsnr per unit, in sessions that differ in gain and offset."""
    generator = np.random.default_rng(seed)
    wanted = np.asarray(signal_to_noise, dtype=float)
    stimuli = generator.permutation(np.repeat(np.arange(n_images), n_repeats))
    sessions = np.sort(np.arange(len(stimuli)) % n_sessions)
    signal = generator.normal(size=(n_images, len(wanted))) * wanted
    responses = signal[stimuli] + generator.normal(size=(len(stimuli), len(wanted)))
    responses = responses * (1 + sessions[:, None]) + 10 * sessions[:, None]
    return responses, stimuli, sessions, signal


def naive_ncsnr(responses, stimuli, sessions):
    """The recipe, one unit and one image at a time."""
    ratios = []
    for unit in responses.T:
        z = np.empty(len(unit))
        for session in np.unique(sessions):
            values = unit[sessions == session]
            z[sessions == session] = (values - values.mean()) / values.std(ddof=1)
        images = [z[stimuli == image] for image in np.unique(stimuli)]
        noise_sd = np.sqrt(np.mean([np.var(image, ddof=1) for image in images if len(image) == 3]))
        ratios.append(np.sqrt(max(0.0, 1 - noise_sd**2)) / noise_sd)
    return np.array(ratios)


def test_equals_the_recipe_step_by_step():
    responses, stimuli, sessions, _ = simulate([0.0, 0.3, 1.0], n_images=40)
    keep = np.ones(len(stimuli), dtype=bool)
    keep[[np.flatnonzero(stimuli == image)[0] for image in range(5)]] = False
    trials = (responses[keep], stimuli[keep], sessions[keep])
    np.testing.assert_allclose(np.asarray(ncsnr(*trials)), naive_ncsnr(*trials), rtol=1e-10)


def test_recovers_the_simulated_truth():
    wanted = np.array([0.2, 0.5, 1.0, 2.0])
    responses, stimuli, sessions, _ = simulate(wanted, n_images=4000)
    estimated = ncsnr(responses, stimuli, sessions)
    assert isinstance(estimated, NCSNR)
    np.testing.assert_allclose(np.asarray(estimated), wanted, rtol=0.08)


def test_the_true_signal_reaches_the_ceiling():
    responses, stimuli, sessions, signal = simulate([0.5] * 40, n_images=2000, n_sessions=1)
    ceiling = noise_ceiling(responses, stimuli, sessions, n_repeats=3)
    means = np.stack([responses[stimuli == image].mean(axis=0) for image in range(2000)])
    explained = pearson_r(means, signal).signed_square()
    assert explained.mean() == pytest.approx(ceiling.mean(), abs=0.01)
    assert ceiling.mean() == pytest.approx(0.25 / (0.25 + 1 / 3), abs=0.01)


def test_the_ceiling_says_what_it_is():
    responses, stimuli, sessions, _ = simulate([0.5], n_images=30)
    ceiling = noise_ceiling(responses, stimuli, sessions, {3: 20, 1: 10})
    assert isinstance(ceiling, NoiseCeiling)
    assert ceiling.definition == "nsd"
    assert ceiling.n_repeats == pytest.approx(30 / (20 / 3 + 10))


def test_session_offsets_are_no_signal():
    responses, stimuli, sessions, _ = simulate([0.0] * 50, n_images=300)
    assert np.asarray(ncsnr(responses, stimuli, sessions)).mean() < 0.15


def test_constant_and_nan_units_are_nan():
    responses, stimuli, sessions, _ = simulate([0.5] * 4, n_images=30)
    responses[:, 1] = 0.1
    responses[7, 2] = np.nan
    responses[sessions == 2, 3] = 5.0
    ceiling = np.asarray(noise_ceiling(responses.astype(np.float32), stimuli, sessions))
    assert np.isnan(ceiling).tolist() == [False, True, True, True]


def test_exact_repeats_have_a_ceiling_of_one():
    pattern = np.random.default_rng(0).normal(size=(20, 2))
    ceiling = noise_ceiling(np.tile(pattern, (3, 1)), np.tile(np.arange(20), 3))
    np.testing.assert_allclose(np.asarray(ceiling), 1.0)


def test_batches_labels_and_trial_order_do_not_matter(monkeypatch):
    responses, stimuli, sessions, _ = simulate([0.5] * 7, n_images=30)
    whole = np.asarray(ncsnr(responses, stimuli, sessions))
    names = np.array([f"image-{image}" for image in stimuli], dtype=object)
    np.testing.assert_allclose(np.asarray(ncsnr(responses, names, sessions)), whole)
    order = np.random.default_rng(3).permutation(len(stimuli))
    moved = ncsnr(responses[order], stimuli[order], sessions[order])
    np.testing.assert_allclose(np.asarray(moved), whole)
    monkeypatch.setattr(checked_arrays, "BATCH_BYTES", 8 * len(stimuli) * 3)
    np.testing.assert_allclose(np.asarray(ncsnr(responses, stimuli, sessions)), whole)


def test_too_few_repeats_tell_the_counts():
    responses = np.random.default_rng(0).normal(size=(11, 2))
    stimuli = [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4]
    message = r"2 images .* at least 3 times, expected at least 10 .*1 shown 1×, 2 shown 2×, 2 sho"
    with pytest.raises(InputError, match=message):
        noise_ceiling(responses, stimuli)
    assert noise_ceiling(responses, stimuli, min_repeats=2, min_images=4).shape == (2,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"responses": np.zeros(90)}, "n_units"),
        ({"stimuli": np.arange(5)}, r"stimuli has shape \(5,\)"),
        ({"sessions": np.arange(5)}, r"sessions has shape \(5,\)"),
        ({"sessions": np.r_[np.zeros(89), 7]}, r"Sessions 7\.0 have a single trial"),
        ({"stimuli": np.r_[np.nan, np.arange(89)]}, "missing labels"),
        ({"stimuli": np.array([None, *["a"] * 89], dtype=object)}, "missing labels"),
        ({"min_repeats": 1}, "at least 2"),
        ({"n_repeats": 0}, "at least 1 trial"),
    ],
)
def test_bad_input(change, message):
    responses, stimuli, sessions, _ = simulate([0.5], n_images=30)
    arguments = {"responses": responses, "stimuli": stimuli, "sessions": sessions} | change
    with pytest.raises(InputError, match=message):
        noise_ceiling(**arguments)


def test_unknown_definition():
    responses, stimuli, sessions, _ = simulate([0.5], n_images=30)
    with pytest.raises(UnknownNameError, match="nsd"):
        noise_ceiling(responses, stimuli, sessions, definition="nds")


def repeats(share, n_repeats=4, n_samples=500, seed=0):
    """Repeats whose signal has the given share of each trial's variance."""
    generator = np.random.default_rng(seed)
    wanted = np.asarray(share, dtype=float)
    signal = generator.normal(size=(n_samples, len(wanted))) * np.sqrt(wanted)
    noise = generator.normal(size=(n_repeats, *signal.shape)) * np.sqrt(1 - wanted)
    return signal + noise


def as_trials(responses):
    n_repeats, n_samples, n_units = responses.shape
    return responses.reshape(-1, n_units), np.tile(np.arange(n_samples), n_repeats)


def by_the_published_formula(responses, *, bias_correction=True, zscore=True):
    data = responses
    if zscore:
        data = (data - data.mean(axis=1, keepdims=True)) / data.std(axis=1, ddof=1, keepdims=True)
    ratio = data.mean(axis=0).var(axis=0, ddof=1) / data.var(axis=1, ddof=1).mean(axis=0)
    return ratio - (1 - ratio) / (len(data) - 1) if bias_correction else ratio


@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize("zscore", [True, False])
def test_explainable_variance_step_by_step(bias_correction, zscore):
    responses = repeats([0.0, 0.4, 0.9], n_samples=30) * np.array([1.0, 5.0, 0.1]) + 7.0
    options = {"bias_correction": bias_correction, "zscore": zscore}
    share = explainable_variance(responses, **options)
    assert isinstance(share, ExplainableVariance)
    assert share.bias_corrected is bias_correction
    expected = by_the_published_formula(responses, **options)
    np.testing.assert_allclose(np.asarray(share), expected, rtol=1e-10)


def test_explainable_variance_recovers_the_truth_and_its_correction_is_unbiased():
    wanted = np.repeat([0.0, 0.2, 0.6], 200)
    responses = repeats(wanted)
    means = np.asarray(explainable_variance(responses)).reshape(3, 200).mean(axis=1)
    np.testing.assert_allclose(means, [0.0, 0.2, 0.6], atol=0.005)
    raw = np.asarray(explainable_variance(responses, bias_correction=False))
    expected = np.array([0.0, 0.2, 0.6]) * 0.75 + 0.25
    np.testing.assert_allclose(raw.reshape(3, 200).mean(axis=1), expected, atol=0.005)
    exact = np.tile(responses[:1], (4, 1, 1))
    np.testing.assert_allclose(np.asarray(explainable_variance(exact)), 1.0)


def test_the_ceiling_of_explainable_variance():
    ceiling = ExplainableVariance([-0.1, 0.0, 0.2, 1.0]).ceiling(4)
    assert isinstance(ceiling, NoiseCeiling)
    np.testing.assert_allclose(np.asarray(ceiling), [0.0, 0.0, 0.5, 1.0])
    assert (ceiling.definition, ceiling.n_repeats) == ("explainable-variance", 4.0)
    with pytest.raises(QuantityError, match="bias_correction=True"):
        ExplainableVariance([0.2], bias_corrected=False).ceiling(4)


def test_units_without_variance_are_nan():
    responses = repeats([0.3] * 4, n_samples=20)
    responses[2, :, 1] = 5.0
    responses[0, 3, 2] = np.nan
    for zscore in (True, False):
        share = explainable_variance(responses.astype(np.float32), zscore=zscore)
        assert np.isnan(share).tolist() == [False, True, True, False]


@pytest.mark.parametrize("shape", [(5, 3), (1, 5, 3), (3, 1, 3)])
def test_explainable_variance_bad_shapes(shape):
    with pytest.raises(InputError, match="n_repeats, n_samples, n_units"):
        explainable_variance(np.zeros(shape))


def test_spearman_brown_by_hand():
    stepped = spearman_brown(Correlation([0.5, 0.0, 1.0, -0.3, np.nan]), 2)
    np.testing.assert_allclose(np.asarray(stepped), [2 / 3, 0, 1, 0, np.nan])
    for factor in (0, -1, np.nan):
        with pytest.raises(InputError, match="positive length"):
            spearman_brown(Correlation([0.5]), factor)
    with pytest.raises(QuantityError, match="expected Correlation"):
        spearman_brown(np.array([0.5]), 2)


@given(st.floats(0.0, 1.0), st.floats(0.1, 20.0), st.floats(0.1, 20.0))
def test_spearman_brown_composes(r, first, second):
    twice = spearman_brown(spearman_brown(Correlation(r), first), second)
    np.testing.assert_allclose(
        np.asarray(twice), np.asarray(spearman_brown(Correlation(r), first * second)), atol=1e-9
    )


@pytest.mark.parametrize(("n_repeats", "min_repeats"), [(2, 2), (3, 3), (6, 6), (6, 2)])
def test_split_halves_recover_the_ceiling(n_repeats, min_repeats):
    wanted = np.repeat([0.1, 0.3, 0.7], 30)
    trials, stimuli = as_trials(repeats(wanted, n_repeats, n_samples=1000))
    ceiling = split_half_ceiling(trials, stimuli, None, 3, min_repeats=min_repeats, n_splits=10)
    assert (ceiling.definition, ceiling.n_repeats) == ("split-half", 3.0)
    means = np.asarray(ceiling).reshape(3, 30).mean(axis=1)
    share = np.array([0.1, 0.3, 0.7])
    np.testing.assert_allclose(means, 3 * share / (1 + 2 * share), atol=0.025)


def test_two_repeats_are_one_split():
    trials, stimuli = as_trials(repeats([0.2, 0.8], n_repeats=2, n_samples=400))
    ceiling = split_half_ceiling(trials, stimuli, None, 2)
    z = (trials - trials.mean(axis=0)) / trials.std(axis=0, ddof=1)
    r = [np.corrcoef(z[:400, unit], z[400:, unit])[0, 1] for unit in range(2)]
    expected = 2 * np.array(r) / (1 + np.array(r))
    np.testing.assert_allclose(np.asarray(ceiling), expected, atol=0.01)


def test_the_definitions_agree_where_their_assumptions_hold():
    wanted = np.repeat([0.2, 0.5], 40)
    responses = repeats(wanted, n_repeats=3, n_samples=1500)
    trials, stimuli = as_trials(responses)
    mixed = {3: 100, 2: 50, 1: 10}
    by_name = [
        noise_ceiling(trials, stimuli, n_repeats=mixed, definition=definition)
        for definition in ("nsd", "split-half")
    ]
    by_name.append(explainable_variance(responses).ceiling(mixed))
    norm = (100 / 3 + 50 / 2 + 10) / 160
    for ceiling in by_name:
        assert ceiling.n_repeats == pytest.approx(1 / norm)
        means = np.asarray(ceiling).reshape(2, 40).mean(axis=1)
        share = np.array([0.2, 0.5])
        np.testing.assert_allclose(means, share / (share + (1 - share) * norm), atol=0.01)


def test_images_with_unequal_repeats_sessions_and_batches(monkeypatch):
    trials, stimuli = as_trials(repeats([0.4] * 5, n_repeats=4, n_samples=300))
    keep = np.ones(len(stimuli), dtype=bool)
    keep[:100] = False  # a hundred images keep 3 of their 4 trials
    sessions = np.arange(len(stimuli)) // 300
    trials = trials * (1 + sessions[:, None]) + 9.0 * sessions[:, None]
    arguments = (trials[keep], stimuli[keep], sessions[keep])
    ceiling = noise_ceiling(*arguments, definition="split-half", seed=3)
    assert np.asarray(ceiling).mean() == pytest.approx(1.2 / 1.8, abs=0.04)
    monkeypatch.setattr(
        noise_ceilings, "column_batches", lambda n, m: [slice(i, i + 1) for i in range(m)]
    )
    again = noise_ceiling(*arguments, definition="split-half", seed=3)
    np.testing.assert_allclose(np.asarray(again), np.asarray(ceiling))
    other = noise_ceiling(*arguments, definition="split-half", seed=4)
    assert (np.asarray(other) != np.asarray(ceiling)).all()


def test_noise_and_lost_units():
    trials, stimuli = as_trials(repeats([0.0] * 100, n_repeats=3, n_samples=200))
    trials[:, 0] = 1.0
    trials[5, 1] = np.nan
    ceiling = np.asarray(split_half_ceiling(trials, stimuli))
    assert np.isnan(ceiling).tolist() == [True, True] + [False] * 98
    assert np.nanmean(ceiling) < 0.1
    assert np.nanmin(ceiling) == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_splits": 0}, "n_splits=0"),
        ({"min_repeats": 1}, "at least 2"),
        ({"min_repeats": 4}, "0 images were shown at least 4 times"),
        ({"n_repeats": {}}, "counts no image"),
        ({"stimuli": [1, 2]}, r"stimuli has shape \(2,\)"),
    ],
)
def test_split_half_bad_input(options, message):
    trials, stimuli = as_trials(repeats([0.5], n_repeats=3, n_samples=20))
    with pytest.raises(InputError, match=message):
        split_half_ceiling(**({"responses": trials, "stimuli": stimuli} | options))


def ceilings(values):
    return NoiseCeiling(values, definition="nsd", n_repeats=3)


def test_pooled_by_hand():
    scores = Correlation([0.6, -0.2, 0.5, np.nan, 0.9])
    ceiling = ceilings([0.5, 0.1, 0.0, 0.4, np.nan])
    fraction = pooled_ceiling_fraction(scores, ceiling)
    assert isinstance(fraction, CeilingFraction)
    assert float(fraction) == pytest.approx((0.36 - 0.04 + 0.25) / 0.6)
    assert (fraction.normalisation, fraction.definition) == ("pooled", "nsd")


def test_pooled_takes_fractions_of_variance_as_they_are():
    fraction = pooled_ceiling_fraction(RSquared([0.3, -0.1]), ceilings([0.5, 0.3]))
    assert float(fraction) == pytest.approx(0.2 / 0.8)


def test_thresholded_by_hand_without_clamping():
    scores = Correlation([0.6, -0.6, 0.9, 0.5, np.nan])
    ceiling = ceilings([0.4, 0.4, 0.1, np.nan, 0.5])
    fractions = thresholded_ceiling_fraction(scores, ceiling, above=0.1)
    np.testing.assert_allclose(np.asarray(fractions), [0.9, -0.9, np.nan, np.nan, np.nan])
    assert fractions.normalisation == "above 0.1"
    beyond = thresholded_ceiling_fraction(Correlation([0.9]), ceilings([0.2]), above=0.1)
    assert float(beyond[0]) == pytest.approx(4.05)


def test_nothing_to_explain_is_nan():
    assert np.isnan(float(pooled_ceiling_fraction(Correlation([0.1]), ceilings([0.0]))))
    assert np.isnan(float(pooled_ceiling_fraction(Correlation([np.nan]), ceilings([0.3]))))


@pytest.mark.parametrize("above", [0, 1, -0.1, 10, np.nan])
def test_the_threshold_is_a_fraction(above):
    with pytest.raises(InputError, match="between 0 and 1"):
        thresholded_ceiling_fraction(Correlation([0.1]), ceilings([0.1]), above=above)


def test_shapes_have_to_agree():
    with pytest.raises(InputError, match=r"\(2,\) and ceiling \(1,\)"):
        pooled_ceiling_fraction(Correlation([0.1, 0.2]), ceilings([0.1]))


def test_the_perfect_model_scores_one():
    generator = np.random.default_rng(0)
    truth = generator.uniform(0.05, 0.8, size=2000)
    scores = Correlation(np.sqrt(truth))
    assert float(pooled_ceiling_fraction(scores, ceilings(truth))) == pytest.approx(1)


def test_kinds_are_required():
    with pytest.raises(QuantityError, match=r"plain ndarray.*Correlation\(values\)"):
        pooled_ceiling_fraction(np.array([0.1]), ceilings([0.1]))
    with pytest.raises(QuantityError, match=r"NoiseCeiling\(values\)"):
        pooled_ceiling_fraction(Correlation([0.1]), np.array([0.1]))
    with pytest.raises(QuantityError, match="fraction"):
        pooled_ceiling_fraction(Correlation([0.1]), ceilings([0.1]).percent())


def test_correlation_fractions_by_hand():
    scores = Correlation([0.3, -0.1, 0.2, np.nan])
    ceiling = ceilings([0.36, 0.01, 0.0, 0.25])
    pooled = pooled_correlation_fraction(scores, ceiling)
    assert isinstance(pooled, CorrelationFraction)
    assert float(pooled) == pytest.approx(0.4 / 0.7)
    assert (pooled.normalisation, pooled.definition) == ("pooled", "nsd")
    fractions = thresholded_correlation_fraction(scores, ceiling, above=0.05)
    np.testing.assert_allclose(np.asarray(fractions), [0.5, -1.0, np.nan, np.nan])
    assert fractions.normalisation == "above 0.05"
    assert np.isnan(float(pooled_correlation_fraction(Correlation([0.1]), ceilings([0.0]))))
    with pytest.raises(InputError, match="state a correlation between 0 and 1"):
        thresholded_correlation_fraction(scores, ceiling, above=0)
    with pytest.raises(QuantityError, match="expected Correlation"):
        pooled_correlation_fraction(RSquared([0.1] * 4), ceiling)
