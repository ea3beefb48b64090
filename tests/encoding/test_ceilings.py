"""The noise ceilings that a recipe can name, against the truth of the simulated world."""

import numpy as np
import pandas as pd
import pytest

import brainkit
from brainkit import Recording
from brainkit.encoding import EncodingProtocol
from brainkit.encoding.judging import prepare_folds
from brainkit.encoding.unit_ceilings import CEILINGS, check_ceiling, unit_ceiling
from brainkit.errors import InputError, UnknownNameError
from brainkit.evaluation import noise_ceiling
from brainkit.world import SceneWorld, SimulatedBrain, write_nsd

SPLIT = "nsd-shared1000"
SUBJECTS = (1, 2, 3)
SLOW = pytest.mark.slow  # what needs a simulated world of a size that tells something
SIZE = {"images_per_subject": 600, "shared": 400, "trials_per_session": 180, "density": 0.1}


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Three people of the simulated world who share half of their images, by name."""
    root = write_nsd(tmp_path_factory.mktemp("nsd"), SceneWorld(seed=0), SUBJECTS, **SIZE)
    return brainkit.load_all("nsd", root)


@pytest.fixture(scope="module")
def truth(people):
    """The true ceiling of the first person's units, for means of three trials."""
    brain = SimulatedBrain(SceneWorld(seed=0), 1, density=SIZE["density"])
    table = brain.units.assign(ceiling=brain.ceiling(3)).set_index(["i", "j", "k"])
    places = pd.MultiIndex.from_frame(people["subj01"].units[["i", "j", "k"]])
    return table.loc[places, "ceiling"].to_numpy()


def estimated(people, name, who="subj01", *, split=SPLIT, **settings):
    recording = people[who]
    protocol = EncodingProtocol(split, ceiling=name, **settings)
    others = {other: one for other, one in people.items() if other != who}
    return unit_ceiling(recording, protocol, prepare_folds(recording, protocol), others)


@SLOW
@pytest.mark.parametrize("name", ["ncsnr", "split-half"])
def test_ceilings_from_repeats_are_those_of_the_world(people, truth, name):
    ceiling, facts = estimated(people, name)
    assert facts == {
        "name": name, "zscore": "session", "n_repeats": 3.0, "stimuli": 600, "subjects": ["subj01"],
    }  # fmt: skip
    assert np.mean(np.asarray(ceiling) - truth) == pytest.approx(0, abs=0.03)
    assert np.corrcoef(ceiling, truth)[0, 1] > 0.9
    trials = people["subj01"]
    expected = noise_ceiling(
        trials.responses.read(),
        trials.stimulus_rows(),
        trials.rows["session"].to_numpy(),
        definition=ceiling.definition,
        min_repeats={"ncsnr": 3, "split-half": 2}[name],
    )
    # Ours is standardised as the scores are, by the training trials of each session.
    np.testing.assert_allclose(ceiling, expected, atol=0.05)


@SLOW
def test_nsd_is_another_name(people):
    one, facts = estimated(people, "nsd")
    np.testing.assert_array_equal(one, estimated(people, "ncsnr")[0])
    assert facts["name"] == "ncsnr"
    assert one.definition == "nsd"


@SLOW
@pytest.mark.parametrize("name", ["ncsnr", "split-half"])
def test_single_trials_have_the_lower_ceiling(people, name):
    means, _ = estimated(people, name)
    single, facts = estimated(people, name, average_repeats=False)
    assert facts["n_repeats"] == 1.0
    share = np.asarray(means)
    np.testing.assert_allclose(single, share / (3 - 2 * share), rtol=1e-9, atol=1e-12)


@SLOW
@pytest.mark.parametrize("name", ["cross-subject", "cross-subject-all"])
def test_other_subjects_tell_the_shared_part(people, truth, name):
    ceiling, facts = estimated(people, name)
    assert facts == {
        "name": name, "zscore": "session", "n_repeats": 3.0, "stimuli": 400,
        "subjects": ["subj02", "subj03"],
    }  # fmt: skip
    assert ceiling.definition == name
    found = np.asarray(ceiling)
    # What is a person's own, 40 % of the explainable variance, others cannot tell.
    assert found.mean() < 0.6 * truth.mean()
    assert found[truth > 0.3].mean() > found[truth < 0.1].mean() + 0.05
    assert np.corrcoef(found, truth)[0, 1] > 0.6


@SLOW
def test_units_that_are_not_fitted_have_no_cross_subject_ceiling(people):
    whole = people["subj01"]
    values = whole.responses.read()
    values[:, 3] = 7.0
    changed = Recording.from_arrays(
        values, subject="subj01", trials=whole.trials, units=whole.units, stimuli=whole.stimuli
    )
    ceiling, _ = estimated(people | {"subj01": changed}, "cross-subject-all")
    assert np.isnan(ceiling[3])
    assert np.isfinite(np.delete(ceiling, 3)).all()


def test_what_subjects_have_in_common_is_the_cross_subject_ceiling():
    """Three people whose units weigh the same two signals, in noise of their own."""
    rng = np.random.default_rng(0)
    signals = rng.normal(size=(400, 2))
    weights = rng.normal(size=(2, 8)) / np.sqrt(2)
    weights[:, 6:] = 0
    responses = {"a": signals @ weights}
    responses |= {who: signals @ rng.normal(size=(2, 150)) for who in ("b", "c")}
    people = {}
    for who, drive in responses.items():
        responses[who] = drive + rng.normal(size=drive.shape)
        people[who] = Recording.from_arrays(
            responses[who], subject=who,
            trials=pd.DataFrame({"stimulus": np.arange(400)}),
            stimuli=np.zeros((400, 4, 4), np.uint8),
        )  # fmt: skip
    both = zip((signals @ weights[:, :6]).T, responses["a"].T, strict=False)
    share = [np.corrcoef(drive, measured)[0, 1] ** 2 for drive, measured in both] + [0, 0]
    for name in ("cross-subject", "cross-subject-all"):
        found, facts = estimated(people, name, "a", split="kfold:4", zscore=None)
        assert facts["subjects"] == ["b", "c"]
        assert facts["n_repeats"] == 1
        np.testing.assert_allclose(found, share, atol=0.05)


def shown(counts, **kwargs):
    """A recording whose stimuli were shown so many times."""
    stimulus = np.repeat(np.arange(len(counts)), counts)
    values = np.random.default_rng(0).normal(size=(len(stimulus), 4))
    trials = pd.DataFrame({"stimulus": stimulus})
    images = np.zeros((len(counts), 4, 4), np.uint8)
    return Recording.from_arrays(values, trials=trials, stimuli=images, **kwargs)


def test_what_is_missing_is_said():
    twice, once = shown([2] * 12), shown([1] * 30)
    assert check_ceiling(twice, "split-half", {}) == "split-half"
    assert check_ceiling(twice, None, {}) is None
    needs = r"'ncsnr' needs at least 10 stimuli that were shown 3 times or more; s1 has 0 \(12 "
    with pytest.raises(InputError, match=needs + r"shown 2×\)\. Choose ceiling='split-half' or No"):
        check_ceiling(twice, "ncsnr", {})
    with pytest.raises(InputError, match=r"s1 has 0 \(30 shown 1×\)\. Choose ceiling=None, or 'a"):
        check_ceiling(once, "split-half", {})
    with pytest.raises(InputError, match=r"at least 2 other .* 0 among 0 \(no other subject\)"):
        check_ceiling(once, "cross-subject", {})
    other = shown([1] * 30, subject="s2")
    with pytest.raises(InputError, match=r"there are 1 among 1 \(s2\)"):
        check_ceiling(once, "cross-subject", {"s2": other})
    assert check_ceiling(once, "cross-subject-all", {"s2": other}) == "cross-subject-all"
    with pytest.raises(InputError, match="there are 0 among 1"):
        check_ceiling(once, "cross-subject-all", {"s2": shown([1] * 9, subject="s2")})
    with pytest.raises(UnknownNameError, match="noise ceiling 'split'"):
        check_ceiling(once, "split", {})


def test_a_split_without_common_test_stimuli_is_refused():
    one = shown([1] * 40)
    other = shown([1] * 30, subject="s2")
    protocol = EncodingProtocol("kfold:4", zscore=None, ceiling="cross-subject-all")
    folds = prepare_folds(one, protocol)
    assert unit_ceiling(one, protocol, folds, {"s2": other})[1]["stimuli"] == 30
    part = [fold for fold in folds if (fold.test_stimuli < 30).sum() < 10]
    with pytest.raises(InputError, match=r"test parts of s1 and of 1 others .* kfold:4 there are"):
        unit_ceiling(one, protocol, part[:1], {"s2": other})


def test_every_name_is_in_the_schema():
    from brainkit.jobs.encode import Settings as EncodeSettings

    for name in CEILINGS:
        assert EncodeSettings(split=SPLIT, ceiling=name).ceiling == name
    assert EncodeSettings(split=SPLIT, ceiling="nsd").ceiling == "ncsnr"
    assert EncodeSettings(split=SPLIT).ceiling == EncodingProtocol(SPLIT).ceiling == "auto"


def test_the_digits_have_no_repeats(shared_data):
    digits = brainkit.load("digits69", shared_data / "digits69")
    for name in ("ncsnr", "split-half"):
        with pytest.raises(InputError, match=r"has 0 \(100 shown 1×\)"):
            check_ceiling(digits, name, {})


def test_the_default_takes_what_the_repeats_allow():
    for counts, name in (([3] * 12, "ncsnr"), ([2] * 12, "split-half"), ([1] * 30, None)):
        assert check_ceiling(shown(counts), "auto", {}) == name
    once = shown([1] * 30)
    protocol = EncodingProtocol("kfold:3", zscore=None)
    assert unit_ceiling(once, protocol, prepare_folds(once, protocol), {}) == (None, {})


@pytest.mark.parametrize("name", ["ncsnr", "split-half"])
def test_ceilings_are_standardised_as_the_scores_are(name):
    """Sessions of other means: raw responses have the lower ceiling that they score by."""
    rng = np.random.default_rng(0)
    n_stimuli, n_sessions = 150, 6
    signal, noise = rng.normal(size=(n_stimuli, 20)), rng.normal(size=(n_stimuli * 3, 20))
    stimulus = rng.permutation(np.repeat(np.arange(n_stimuli), 3))
    session = np.arange(len(stimulus)) * n_sessions // len(stimulus)
    values = signal[stimulus] + noise
    drift = 2.0 * rng.normal(size=(n_sessions, 20))
    recording = Recording.from_arrays(
        values + drift[session],
        trials=pd.DataFrame({"stimulus": stimulus, "session": session, "run": session % 2}),
        stimuli=np.zeros((n_stimuli, 4, 4), np.uint8),
    )
    found = {}
    for zscore in (None, "session"):
        protocol = EncodingProtocol("kfold:3", zscore=zscore, ceiling=name)
        folds = prepare_folds(recording, protocol)
        ceiling, facts = unit_ceiling(recording, protocol, folds, {})
        assert facts["zscore"] == zscore
        found[zscore] = np.asarray(ceiling)
        # What a model of the true signal reaches, squared, on the test items of the same folds.
        r2 = [
            np.corrcoef(signal[fold.test_stimuli, 0], fold.test[:, 0])[0, 1] ** 2 for fold in folds
        ]
        assert found[zscore][0] == pytest.approx(np.mean(r2), abs=0.12)
    np.testing.assert_allclose(found["session"], 0.75, atol=0.12)
    assert found[None].mean() < 0.55
    by_run = EncodingProtocol("kfold:3", zscore="run", ceiling=name)
    ceiling, _ = unit_ceiling(recording, by_run, prepare_folds(recording, by_run), {})
    np.testing.assert_allclose(ceiling, found["session"], atol=0.05)  # a run is a session's
