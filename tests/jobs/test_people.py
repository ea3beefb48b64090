"""Who trains and who is tested: other people's trials through an aligner, and what is refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import brainkit
from brainkit import Recording
from brainkit.alignment import ALIGNERS
from brainkit.data.splits import split_by_hand
from brainkit.data.stimuli import Stimuli
from brainkit.errors import DependenceWarning, InputError, LeakError
from brainkit.features import PixelPCA
from brainkit.jobs import JOBS, read_recipe, run_recipe
from brainkit.jobs.contract import Case
from brainkit.jobs.people import bring_together
from brainkit.jobs.pooled_models import pooled_recording

N_IMAGES, N_COMMON, N_TEST, SIDE, N_LATENT = 900, 120, 60, 8, 3
UNITS = {"a": 60, "b": 75, "c": 90}


def images():
    """Images of independent pixels, and the few sums of them that brains respond to."""
    rng = np.random.default_rng(0)
    pixels = rng.random((N_IMAGES, SIDE, SIDE)).astype(np.float32)
    latent = (pixels.reshape(N_IMAGES, -1) - 0.5) @ rng.normal(size=(SIDE**2, N_LATENT))
    return Stimuli(pixels), latent


@pytest.fixture(scope="module")
def world():
    """Three people with unequal voxels; each saw 200 images of their own and 180 common ones.

    The same few sums of pixels drive everyone's voxels, by weights of their own: which sums they
    are can be learned from others, the weights from the person's own trials alone.
    """
    rng = np.random.default_rng(1)
    stimuli, latent = images()
    people = {}
    for number, (name, n_units) in enumerate(UNITS.items()):
        own = N_COMMON + N_TEST + np.arange(200) + 200 * number
        shown = rng.permutation(np.concatenate([np.arange(N_COMMON + N_TEST), own]))
        values = latent[shown] @ rng.normal(size=(N_LATENT, n_units))
        values = values / values.std(axis=0) + 1.5 * rng.normal(size=values.shape)
        people[name] = Recording.from_arrays(
            values.astype(np.float32),
            subject=name,
            trials=pd.DataFrame({"stimulus": shown, "session": np.arange(len(shown)) % 2}),
            stimuli=stimuli,
        )
    return people


def rows_of(recording):
    """Return training and test rows; what all saw and is not tested is for alignment."""
    shown = recording.stimulus_rows()
    test = (shown >= N_COMMON) & (shown < N_COMMON + N_TEST)
    rows = {"train": shown >= N_COMMON + N_TEST, "align": shown < N_COMMON, "test": test}
    return split_by_hand(recording, **{name: np.flatnonzero(r) for name, r in rows.items()})


def recipe_of(job, *changes):
    name = {"decode": "decode-pixel-components", "encode": "encode-pixel-components"}[job]
    quick = ("features.0.settings.n_components=50", "protocol.seeds=[0]")
    more = ("protocol.permutations=0", "protocol.shuffles=1") if job == "encode" else ()
    return read_recipe(name, (*quick, *more, *changes))


def case_of(world, tested="c"):
    others = {name: one for name, one in world.items() if name != tested}
    return Case(world[tested], others)


OTHERS = ("subjects.train=a,b", "alignment.kind=procrustes")


def together_of(world, *changes, tested="c", **settings):
    """Bring people together for one fold."""
    recipe = recipe_of("decode", *changes)
    case = case_of(world, tested)
    protocol = replace(recipe.protocol.build(), split=rows_of(case.data), **settings)
    (together,) = bring_together(case, recipe, protocol)
    return together


# ---------------------------------------------------------------------------------- who takes part


def test_trials_are_counted_and_named(world):
    together = together_of(world, *OTHERS, "subjects.trials=100")
    assert together.access == "labelled-100"
    assert len(together.rows["train"]) == 100
    recording, [(train, test)] = pooled_recording([together])
    who = recording.trials["subject"].to_numpy()
    assert pd.Series(who[train]).value_counts().to_dict() == {"a": 320, "b": 320, "c": 100}
    assert set(who[test]) == {"c"}
    assert len(test) == N_TEST
    share = together_of(world, *OTHERS, "subjects.trials=0.25")
    assert len(share.rows["train"]) == 80
    everything = together_of(world, *OTHERS)
    assert everything.access == "labelled-320"
    unlabelled = together_of(
        world, "subjects.train=a,b", "alignment.kind=pca", "alignment.settings.n_components=6",
        "subjects.trials=100", "subjects.labels=false",
    )  # fmt: skip
    assert unlabelled.access == "unlabelled-100"
    assert set(pooled_recording([unlabelled])[0].trials["subject"][:-N_TEST]) == {"a", "b"}


def test_nobodys_row_of_a_test_stimulus_takes_part(world):
    together = together_of(world, *OTHERS, "subjects.trials=100")
    sealed = set(range(N_COMMON, N_COMMON + N_TEST))
    for one in together.others.values():
        assert not sealed & set(one.stimulus_rows())
        assert len(one.rows) == 320
    recording, [(train, test)] = pooled_recording([together])
    shown = recording.stimulus_rows()
    assert set(shown[test]) == sealed
    assert not sealed & set(shown[train])
    held = {name: together.standardised for name in ("c",)}
    with pytest.raises(LeakError):
        ALIGNERS["pca"](n_components=3).fit(held, forbidden=together.standardised)


# -------------------------------------------------------------------------------- what it is worth


def paired(world, job, kind, trials, shuffled=False):
    """Return the score with others and with the person's own trials alone."""
    people = dict(world)
    if shuffled:
        rng = np.random.default_rng(3)
        for name in ("a", "b"):
            trial = world[name].trials
            moved = trial.assign(stimulus=rng.permutation(trial["stimulus"].to_numpy()))
            people[name] = Recording.from_arrays(
                world[name].responses.read(), subject=name, trials=moved,
                stimuli=world[name].stimuli,
            )  # fmt: skip
    settings = [f"alignment.kind={kind}", f"subjects.trials={trials}"]
    if kind in ("pca", "shared-response"):
        settings.append("alignment.settings.n_components=3")
    case = case_of(people)
    names = {"decode": "pixel_correlation", "encode": "encoding_r"}
    scores = []
    for changes in (["subjects.train=a,b", *settings], [f"subjects.trials={trials}"]):
        recipe = recipe_of(job, *changes, "protocol.split=kfold:2")
        object.__setattr__(recipe.protocol, "split", rows_of(case.data))
        result = run_recipe(case.data, recipe, others=case.others)
        scores.append(result.metrics[names[job]]["value"])
    return scores, result


@pytest.mark.parametrize("job", ["decode", "encode"])
@pytest.mark.parametrize("kind", ["shared-response"])
def test_others_help_a_person_with_few_trials_and_not_by_a_wrong_pairing(world, job, kind):
    (aligned, own), _ = paired(world, job, kind, 60)
    (broken, _), _ = paired(world, job, kind, 60, shuffled=True)
    assert aligned > own + 0.04
    assert broken < own + 0.01


def test_an_aligned_decoder_takes_the_persons_raw_trials(world, tmp_path):
    case = case_of(world)
    recipe = recipe_of("decode", *OTHERS, "subjects.trials=100", "protocol.split=kfold:2")
    object.__setattr__(recipe.protocol, "split", rows_of(case.data))
    result = run_recipe(case.data, recipe, others=case.others)
    assert result.facts["access"] == "labelled-100"
    assert result.facts["trained_on"] == {"a": 320, "b": 320}
    brainkit.save_estimator(result.pipeline, tmp_path / "estimator")
    decoder = brainkit.load_estimator(tmp_path / "estimator")
    test = case.data.select(trials=rows_of(case.data).folds[0].rows["test"])
    order = np.argsort(test.stimulus_rows())
    predicted = decoder.predict(test)[order]
    np.testing.assert_allclose(predicted, result.arrays["predictions"], rtol=1e-6, atol=1e-6)


def test_an_aligned_encoder_is_saved_without_the_others(world, tmp_path):
    case = case_of(world)
    recipe = recipe_of("encode", *OTHERS, "subjects.trials=100", "protocol.split=kfold:2")
    object.__setattr__(recipe.protocol, "split", rows_of(case.data))
    result = run_recipe(case.data, recipe, others=case.others)
    brainkit.save_estimator(result.pipeline, tmp_path / "estimator")
    encoder = brainkit.load_estimator(tmp_path / "estimator")
    images = world["c"].stimuli.read(result.tables["items"]["stimulus"].to_numpy())
    predicted = encoder.predict(images)
    np.testing.assert_allclose(predicted, result.arrays["predictions"], rtol=1e-5, atol=1e-5)
    assert predicted.shape == (N_TEST, UNITS["c"])


CONTRASTIVE = (
    "subjects.train=a,b",
    "alignment.kind=own-units",
    "model={kind: contrastive-decoder, settings: {steps: 60, cv: 3, progress: false}}",
)


@pytest.mark.parametrize("way", ["joint", "adapter"])
def test_a_decoder_that_tells_people_apart_takes_their_own_units(world, tmp_path, way):
    case = case_of(world)
    changes = (f"model.settings.new_person={way}", "subjects.trials=100", "protocol.split=kfold:2")
    recipe = recipe_of("decode", *CONTRASTIVE, *changes)
    object.__setattr__(recipe.protocol, "split", rows_of(case.data))
    result = run_recipe(case.data, recipe, others=case.others)
    metric = result.metrics["identification_image_given_reconstruction"]
    assert metric["ci"][0] > 0.5
    assert metric["nulls"]["shuffled_brain"] == pytest.approx(0.5, abs=0.1)
    model = result.pipeline.model
    assert model.subjects_ == ("a", "b", "c")
    assert [len(model.people_[name].columns) for name in "abc"] == [*UNITS.values()]
    brainkit.save_estimator(result.pipeline, tmp_path / "estimator")
    decoder = brainkit.load_estimator(tmp_path / "estimator")
    test = case.data.select(trials=rows_of(case.data).folds[0].rows["test"])
    order = np.argsort(test.stimulus_rows())
    predicted = decoder.predict(test)[order]
    np.testing.assert_allclose(predicted, result.arrays["predictions"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("job", ["decode", "encode"])
def test_own_units_are_for_models_that_tell_people_apart(world, job):
    case = case_of(world)
    recipe = recipe_of(job, "subjects.train=a,b", "alignment.kind=own-units")
    with pytest.raises(InputError, match="for a model that aligns people itself, such as contras"):
        JOBS[job]().check(case, recipe)


# ------------------------------------------------------------------------------- folds, and labels


def test_each_fold_has_others_and_a_shared_space_of_its_own(world):
    case = case_of(world)
    recipe = recipe_of("decode", *OTHERS, "subjects.trials=0.5", "protocol.split=kfold:3")
    protocol = replace(recipe.protocol.build(), average_repeats=True)
    folds = bring_together(case, recipe, protocol)
    recording, pairs = pooled_recording(folds)
    assert len(folds) == len(pairs) == 3
    shown, who = recording.stimulus_rows(), recording.trials["subject"].to_numpy()
    tested = [set(shown[test]) for _, test in pairs]
    assert sorted(set.union(*tested)) == sorted(set(case.data.stimulus_rows()))
    assert sum(map(len, tested)) == len(set(case.data.stimulus_rows()))
    for (train, test), one, sealed in zip(pairs, folds, tested, strict=True):
        assert not set(shown[train]) & sealed
        assert set(who[test]) == {"c"}
        assert set(who[train]) == {"a", "b", "c"}
        values = recording.responses.read(test)[:, : one.n_shared]
        items = one.standardised.select(trials=one.rows["test"]).average_repeats()
        expected = one.aligner.transform(items.responses.read(), "c")
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)
        assert not recording.responses.read(test)[:, one.n_shared :].any()


@pytest.mark.parametrize("job", ["decode", "encode"])
def test_people_are_judged_over_folds(world, job):
    names = {"decode": "pixel_correlation", "encode": "encoding_r"}
    settings = (
        "alignment.settings.n_components=3", "subjects.trials=40", "protocol.split=kfold:3",
        "features.0.settings.n_components=20",
    )  # fmt: skip
    case, scores = case_of(world), {}
    for who, changes in {
        "others": ("subjects.train=a,b", "alignment.kind=shared-response", *settings),
        "own": settings[1:],
    }.items():
        result = run_recipe(case.data, recipe_of(job, *changes), others=case.others)
        scores[who] = result.metrics[names[job]]["value"]
        assert result.facts["access"] == "labelled-40"
        items = len(np.unique(case.data.stimulus_rows()))
        assert len(result.tables["items"]) == items
        if who == "others":
            told = result.learned_from
            assert told.startswith("a (")
            assert told.endswith(
                "aligned by SharedResponse, and 40 trials of its own (labelled-40), in the first "
                "of 3 folds"
            )
    assert scores["others"] > scores["own"] + 0.03


def people_of_classes(noise=2.0):
    """Epochs of three people at the same sensors, of two classes, without stimuli."""
    rng = np.random.default_rng(0)
    pattern, people = rng.normal(size=(8, 5)), {}
    for name in "abc":
        label = np.repeat(["left", "right"], 40)
        sign = np.where(label == "left", -1, 1)[:, None, None]
        values = sign * (pattern + 0.3 * rng.normal(size=pattern.shape))
        values = values + noise * rng.normal(size=(80, 8, 5)) + rng.normal(size=(8, 1))
        trials = pd.DataFrame({"answer": label, "run": np.arange(80) % 4})
        people[name] = Recording.from_arrays(
            values.astype(np.float32), subject=name, trials=trials, times=np.arange(5) / 100
        )
    return people


@pytest.mark.parametrize(
    ("trials", "access", "split"),
    [(0, "none", [(np.arange(40), np.arange(40, 80))]), (20, "labelled-20", "leave-one-run-out")],
)
def test_labels_are_decoded_across_people(trials, access, split, tmp_path):
    case = case_of(people_of_classes())
    changes = (
        "subjects.train=a,b", "alignment.kind=identity", f"subjects.trials={trials}",
        "protocol.target=answer", "protocol.seeds=[0]", "protocol.permutations=19",
    )  # fmt: skip
    scores = {}
    for kind in ("true", "exchanged"):
        others = case.others
        if kind == "exchanged":
            others = {
                name: Recording.from_arrays(
                    one.responses.read(), subject=name, times=one.times,
                    trials=one.trials.assign(answer=np.resize(["left", "right"], 80)),
                )
                for name, one in others.items()
            }  # fmt: skip
        recipe = read_recipe("labels-logistic", changes)
        object.__setattr__(recipe.protocol, "split", split)
        result = run_recipe(case.data, recipe, others=others)
        assert result.facts["access"] == access
        scores[kind] = result.metrics["decoding_balanced_accuracy"]["value"]
        if kind == "true":
            brainkit.save_estimator(result.pipeline, tmp_path / "estimator")
            decoder, items = brainkit.load_estimator(tmp_path / "estimator"), result.tables["items"]
            first = split[0][1] if trials == 0 else np.flatnonzero(case.data.trials["run"] == 0)
            predicted = decoder.predict(case.data.select(trials=first))
            expected = items.loc[items["fold"] == 0, "decoded"].to_numpy()
            np.testing.assert_array_equal(predicted, expected)
    assert scores["true"] > 0.8
    assert scores["exchanged"] < scores["true"] - 0.1


def test_trials_are_not_averaged_where_labels_are_decoded():
    """Of conditions that come back in every run, each trial is one to learn from."""
    rng, people = np.random.default_rng(0), {}
    for name in "abc":
        shown = np.tile(np.arange(4), 12)
        trials = pd.DataFrame(
            {"stimulus": shown, "label": np.array(list("wxyz"))[shown], "run": np.arange(48) // 8}
        )
        values = (
            np.eye(4)[shown] @ np.ones((4, 4)) + np.eye(4)[shown] * 3 + rng.normal(size=(48, 4))
        )
        people[name] = Recording.from_arrays(
            values.astype(np.float32), subject=name, trials=trials, stimuli_are="conditions",
            stimuli=Stimuli(np.arange(4 * 16, dtype=np.float32).reshape(4, 4, 4) / 64),
        )  # fmt: skip
    case = case_of(people)
    changes = (
        "subjects.train=a,b", "alignment.kind=identity", "protocol.seeds=[0]",
        "protocol.permutations=19", "protocol.split=leave-one-run-out",
    )  # fmt: skip
    result = run_recipe(case.data, read_recipe("labels-logistic", changes), others=case.others)
    assert result.facts["trained_on"] == {"a": 48, "b": 48}
    assert result.facts["own_trials"] == 40
    assert len(result.tables["items"]) == 48
    assert result.metrics["decoding_balanced_accuracy"]["value"] > 0.8
    assert result.metrics["decoding_balanced_accuracy"]["p"] == 0.05


def test_trials_without_a_label_are_left_out_of_everyone():
    people = people_of_classes()
    for name in "ac":
        one = people[name]
        answers = one.trials["answer"].astype(object).where(np.arange(80) % 5 != 3, None)
        people[name] = Recording.from_arrays(
            one.responses.read(), subject=name, times=one.times,
            trials=one.trials.assign(answer=answers),
        )  # fmt: skip
    case = case_of(people)
    changes = (
        "subjects.train=a,b", "alignment.kind=identity", "subjects.trials=20",
        "protocol.target=answer", "protocol.seeds=[0]", "protocol.permutations=0",
        "protocol.split=leave-one-run-out",
    )  # fmt: skip
    result = run_recipe(case.data, read_recipe("labels-logistic", changes), others=case.others)
    assert len(result.tables["items"]) == 64
    tested = result.source.recording.trials.iloc[result.tables["items"]["row"]]
    assert tested["subject"].unique().tolist() == ["c"]
    assert tested["answer"].tolist() == result.tables["items"]["answer"].tolist()
    assert result.metrics["decoding_balanced_accuracy"]["value"] > 0.8


def people_of_noise(seed, conditions):
    """Three people whose responses know nothing of the labels."""
    rng, people = np.random.default_rng([3, seed]), {}
    for name in "abc":
        shown = np.concatenate([rng.permutation(np.repeat(np.arange(4), 2)) for _ in range(5)])
        trials = pd.DataFrame({"label": np.array(list("wxyz"))[shown], "run": np.arange(40) // 8})
        known = {}
        if conditions:
            trials["stimulus"] = shown
            known = {"stimuli": images()[0].select(np.arange(4)), "stimuli_are": "conditions"}
        values = rng.normal(size=(40, 5)).astype(np.float32)
        people[name] = Recording.from_arrays(values, subject=name, trials=trials, **known)
    return people


@pytest.mark.slow
@pytest.mark.parametrize("conditions", [False, True])
def test_labels_of_noise_are_at_chance_across_people_and_folds(conditions):
    changes = (
        "subjects.train=a,b", "alignment.kind=identity", "protocol.seeds=[0]",
        "protocol.permutations=19", "protocol.shuffles=1", "protocol.split=leave-one-run-out",
    )  # fmt: skip
    n, values, p = 40, [], []
    for seed in range(n):
        case = case_of(people_of_noise(seed, conditions))
        result = run_recipe(case.data, read_recipe("labels-logistic", changes), others=case.others)
        entry = result.metrics["decoding_balanced_accuracy"]
        values.append(entry["value"])
        p.append(entry["p"])
    assert abs(np.mean(values) - 0.25) < 4 * np.std(values, ddof=1) / np.sqrt(n)
    assert abs(np.mean(p) - 0.525) < 4 * 0.29 / np.sqrt(n)  # uniform on 0.05, 0.10 ... 1
    assert np.mean(np.array(p) <= 0.1) < 0.1 + 4 * np.sqrt(0.1 * 0.9 / n)


def test_null_fits_look_at_others_stimuli_once(world, monkeypatch):
    looked = []
    true = PixelPCA.transform

    def transform(self, X):
        looked.append(len(X))
        return true(self, X)

    monkeypatch.setattr(PixelPCA, "transform", transform)
    case = case_of(world)
    changes = ("subjects.trials=60", "protocol.shuffles=4", "features.0.settings.n_components=20")
    recipe = recipe_of("encode", *OTHERS, *changes)
    object.__setattr__(recipe.protocol, "split", rows_of(case.data))
    run_recipe(case.data, recipe, others=case.others)
    assert looked.count(320) == 2  # the others' items, once each


# -------------------------------------------------------------------------------------- bad input


def test_trials_that_depend_on_their_neighbours_are_not_pooled(world):
    """Among others' trials nobody would know which training trials are near a test trial."""
    rng, people = np.random.default_rng(0), {}
    drift = np.cumsum(rng.normal(size=(N_IMAGES, SIDE**2)), axis=0).reshape(-1, SIDE, SIDE)
    images = Stimuli(((drift - drift.min()) / np.ptp(drift)).astype(np.float32))
    for name, one in world.items():
        slow = np.cumsum(rng.normal(size=(380, UNITS[name])), axis=0).astype(np.float32)
        shown = np.sort(one.stimulus_rows())
        people[name] = Recording.from_arrays(
            slow, subject=name, trials=pd.DataFrame({"stimulus": shown}), stimuli=images
        )
    case = case_of(people)
    recipe = recipe_of("decode", *OTHERS, "protocol.split=stretches:4", "protocol.zscore=recording")
    with (
        pytest.warns(DependenceWarning),
        pytest.raises(InputError, match=r"depend on their neighbours in time.*resample=stimulus"),
    ):
        run_recipe(case.data, recipe, others=case.others)


def test_a_test_part_that_shows_all_common_stimuli_leaves_none_to_align_by(world):
    """As NSD's split on all shared images does."""
    case = case_of(world)
    shown = case.data.stimulus_rows()
    common = shown < N_COMMON + N_TEST
    recipe = recipe_of("decode", *OTHERS)
    pair = [(np.flatnonzero(~common), np.flatnonzero(common))]
    protocol = replace(recipe.protocol.build(), split=pair)
    with pytest.raises(InputError, match=r"All 180 stimuli that c and the others saw.*nsd-515"):
        bring_together(case, recipe, protocol)


def test_others_need_the_labels_too():
    people = people_of_classes()
    people["b"] = Recording.from_arrays(
        people["b"].responses.read(), subject="b", times=people["b"].times,
        trials=people["b"].trials.drop(columns="answer"),
    )  # fmt: skip
    changes = ("subjects.train=a,b", "alignment.kind=identity", "protocol.target=answer")
    case = case_of(people)
    with pytest.raises(InputError, match=r"trials of b, whom subjects.train names, have no column"):
        run_recipe(case.data, read_recipe("labels-logistic", changes), others=case.others)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["subjects.train=a,b"], r"people are brought together by an aligner.*--align"),
        (["subjects.train=a,b", "alignment.kind=rotate"], "Unknown .*'rotate'"),
        (
            ["subjects.train=a", "subjects.test=a", "alignment.kind=pca"],
            "a stand in train and in test",
        ),
        (["subjects.trials=-1"], "subjects.trials"),
        (["subjects.trials=1.5"], "subjects.trials: trials are a number .* got 1.5"),
        (["subjects.trials=few"], "subjects.trials: trials are a number .* got 'few'"),
        (["subjects.who=a"], "there is no setting subjects.who"),
        (
            ["subjects.trials=40", "protocol.seeds=[0,1]"],
            r"protocol.seeds are 0, 1.*give one.*--set protocol.seeds=\[0\]",
        ),
    ],
)
def test_recipes_that_name_people_wrongly(world, changes, message):
    case = case_of(world)
    with pytest.raises(InputError, match=message):
        run_recipe(case.data, recipe_of("decode", *changes), others=case.others)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["subjects.train=a,x", OTHERS[1]], r"--train-subjects\) names x; beside c there are a, b"),
        (["subjects.train=a,c", OTHERS[1]], "c is tested and stands in subjects.train"),
    ],
)
def test_people_who_are_not_there_or_twice(world, changes, message):
    case = case_of(world)
    with pytest.raises(InputError, match=message):
        run_recipe(case.data, recipe_of("decode", *changes), others=case.others)


@pytest.mark.parametrize("changes", [["subjects.trials=40"], OTHERS])
def test_the_number_of_trials_is_said_in_one_place(world, changes):
    case = case_of(world)
    recipe = recipe_of("encode", *changes, "protocol.n_train=20")
    with pytest.raises(InputError, match=r"protocol.n_train is 20, .*subjects.trials \(--trials\)"):
        run_recipe(case.data, recipe, others=case.others)


@pytest.mark.parametrize(
    ("average_repeats", "n_train", "n_test"), [(True, 8, 4), ("test", 16, 4), (False, 16, 12)]
)
def test_repeats_are_averaged_as_the_protocol_says(average_repeats, n_train, n_test):
    shown = np.concatenate([np.repeat(np.arange(8), 2), np.repeat(np.arange(8, 12), 3)])
    trials = pd.DataFrame({"stimulus": shown})
    values = np.random.default_rng(0).normal(size=(len(shown), 5)).astype(np.float32)
    stimuli = Stimuli(np.random.default_rng(1).random((12, 4, 4)).astype(np.float32))
    person = Recording.from_arrays(values, subject="c", trials=trials, stimuli=stimuli)
    recipe = recipe_of("decode", "subjects.trials=16")
    split = split_by_hand(person, train=np.arange(16), test=np.arange(16, 28))
    protocol = replace(
        recipe.protocol.build(), split=split, zscore=None, average_repeats=average_repeats
    )
    recording, [(train, test)] = pooled_recording(bring_together(Case(person), recipe, protocol))
    assert (len(train), len(test)) == (n_train, n_test)
    expected = values[16:19].mean(axis=0) if average_repeats else values[16]
    np.testing.assert_allclose(recording.responses.read()[test[0]], expected, rtol=1e-5)


def test_the_feature_space_is_fitted_on_everyones_training_stimuli(world):
    case = case_of(world)
    changes = (*OTHERS, "subjects.trials=40", "protocol.split=kfold:2")
    recipe = recipe_of("encode", *changes, "features.0.settings.n_components=60")
    object.__setattr__(recipe.protocol, "split", rows_of(case.data))
    result = run_recipe(case.data, recipe, others=case.others)  # of 40 images there are no 60
    space = result.pipeline.features
    trained = np.unique(
        np.concatenate(
            [
                one.stimulus_rows()[(one.stimulus_rows() < N_COMMON) | (one.stimulus_rows() >= 180)]
                for one in (world["a"], world["b"])
            ]
        )
    )
    pca = getattr(space, "space", space)
    expected = world["c"].stimuli.read(trained).reshape(len(trained), -1).mean(axis=0)
    own = len(set(case.data.stimulus_rows()) - set(trained))
    assert own > 40
    assert np.abs(np.ravel(pca.mean_) - expected).max() < 0.05


def test_what_cannot_be_aligned(world):
    case = case_of(world)
    away = recipe_of("encode", OTHERS[0], "alignment.kind=ridge-to-reference")
    with pytest.raises(InputError, match=r"to the voxels of 'c': take .*reference=c"):
        run_recipe(case.data, away, others=case.others)
    with pytest.raises(InputError, match="trials=1000 are asked for, and 320 may train"):
        together_of(world, *OTHERS, "subjects.trials=1000")
    with pytest.raises(InputError, match="procrustes aligns by common stimuli, which are labels"):
        together_of(world, *OTHERS, "subjects.trials=50", "subjects.labels=false")
    with pytest.raises(InputError, match="procrustes needs some responses of c: give trials"):
        together_of(world, *OTHERS, "subjects.trials=0", zscore=None)
    with pytest.raises(InputError, match="nobody else trains"):
        together_of(world, "subjects.trials=0")
    story = Recording.from_arrays(
        np.zeros((50, 4), dtype=np.float32), subject="c",
        samples=pd.DataFrame({"run": 1, "time": np.arange(50.0)}),
    )  # fmt: skip
    recipe = recipe_of("decode", *OTHERS)
    with pytest.raises(InputError, match="c is continuous, and people are brought together in tri"):
        bring_together(Case(story, case.others), recipe, recipe.protocol.build())
    other = Recording.from_arrays(
        world["a"].responses.read(), subject="a", trials=world["a"].trials,
        stimuli=Stimuli(world["a"].stimuli.read(), ids=np.arange(N_IMAGES) + 7),
    )  # fmt: skip
    with pytest.raises(InputError, match="stimuli of a and of c are different sets"):
        together_of({**world, "a": other}, *OTHERS)


def test_people_without_common_stimuli_are_told_which_aligners_would_do(world):
    own = {
        name: one.select(trials=one.stimulus_rows() >= N_COMMON + N_TEST)
        for name, one in world.items()
    }
    split = [(np.arange(150), np.arange(150, 200))]
    recipe = recipe_of("decode", *OTHERS)
    protocol = replace(recipe.protocol.build(), split=split)
    with pytest.raises(InputError, match=r"need no stimuli in common: .*PCA.*ByFeatures"):
        bring_together(case_of(own), recipe, protocol)
