import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainkit.errors import InputError, QuantityError
from brainkit.evaluation import (
    Correlation,
    ExplainableVariance,
    NoiseCeiling,
    explainable_variance,
    noise_ceiling,
    reliability,
    spearman_brown,
    split_half_ceiling,
)


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
        reliability, "column_batches", lambda n, m: [slice(i, i + 1) for i in range(m)]
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
