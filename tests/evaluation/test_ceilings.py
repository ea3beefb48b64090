import numpy as np
import pytest

from brainkit.errors import InputError, UnknownNameError
from brainkit.evaluation import NCSNR, NoiseCeiling, _columns, ncsnr, noise_ceiling, pearson_r


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
    monkeypatch.setattr(_columns, "BATCH_BYTES", 8 * len(stimuli) * 3)
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
