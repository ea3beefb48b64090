"""What a run leaves behind: raw trials of sessions it never saw, others' units, other versions."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import brainkit
from brainkit import Recording
from brainkit.data.stimuli import Stimuli
from brainkit.errors import InputError, MissingFileError, SplitError
from brainkit.jobs import read_recipe, run_recipe
from brainkit.jobs.runner import run_manifest

N_SESSIONS, PER_SESSION, N_UNITS, SIDE = 4, 30, 25, 8
CLOSE = {"rtol": 1e-6, "atol": 1e-6}
NEW = ("protocol.unseen=session-unlabelled", "protocol.resample=stimulus")


def recorded(repeats=1, times=None, seed=0):
    """Sessions with means and scales of their own; each shows images of its own."""
    rng = np.random.default_rng(seed)
    n_images = N_SESSIONS * PER_SESSION
    images = rng.random((n_images, 4, 4)).repeat(2, axis=1).repeat(2, axis=2).astype(np.float32)
    shown = np.repeat(np.arange(n_images), repeats)
    session = shown // PER_SESSION
    signal = images[shown].reshape(len(shown), -1) @ rng.normal(size=(SIDE**2, N_UNITS))
    values = signal / signal.std(axis=0) + 0.5 * rng.normal(size=signal.shape)
    values = values * (1 + session)[:, None] + 10 * session[:, None] + rng.normal(size=N_UNITS)
    values[:, 3] = 7.0  # a constant unit
    if times is not None:
        values = np.stack([values + rng.normal(size=values.shape) for _ in range(times)], axis=2)
    labels = np.where(images.reshape(n_images, -1).mean(axis=1) > 0.5, "bright", "dark")[shown]
    trials = pd.DataFrame({"stimulus": shown, "session": session, "label": labels})
    units = pd.DataFrame({"i": np.arange(N_UNITS), "j": 0, "k": 0})
    return Recording.from_arrays(
        values.astype(np.float32), trials=trials, units=units, stimuli=Stimuli(images),
        times=None if times is None else np.arange(times) / 10,
    )  # fmt: skip


def recipe_of(name, *changes):
    common = ("protocol.split=leave-one-session-out", "protocol.zscore=session", *NEW, *changes)
    averaged = [] if name == "labels-logistic" else ["protocol.average_repeats=true"]
    return read_recipe(name, (*common, *averaged))


def saved(result, folder):
    brainkit.save_estimator(result.pipeline, folder / "estimator")
    return brainkit.load_estimator(folder / "estimator")


def first_fold(recording, table):
    """Return the raw trials of the first held-out session, and the items that were of it."""
    new = recording.select(trials=recording.trials["session"] == 0)
    stimuli = recording.trials["stimulus"].to_numpy()[: len(new.trials)]
    return new, np.isin(table["stimulus"], stimuli)


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("back", ["inverse", "bank"])
def test_images_of_a_session_that_the_run_never_saw(tmp_path, repeats, back):
    recording = recorded(repeats)
    recipe = recipe_of(
        "decode-pixel-components", "features.0.settings.n_components=5", "protocol.seeds=[0]",
        f"protocol.back={back}",
    )  # fmt: skip
    result = run_recipe(recording, recipe)
    decoder = saved(result, tmp_path)
    new, items = first_fold(recording, result.tables["items"])
    predicted = decoder.predict(new, average_repeats=repeats > 1)
    np.testing.assert_allclose(predicted, result.arrays["predictions"][items], **CLOSE)
    assert result.facts["zscore"]["transductive"]
    # A trial alone has no statistics of its own; one of a session that is known needs none.
    known = recording.select(trials=recording.trials["session"] == 2)
    alone = decoder.predict(known.select(trials=[4]))
    np.testing.assert_allclose(alone, decoder.predict(known)[[4]], **CLOSE)
    decoder.preparation.unseen = None
    with pytest.raises(SplitError, match="The sessions 0 had no training trials in this run"):
        decoder.predict(new)


@pytest.mark.parametrize("times", [None, 4])
def test_labels_of_a_session_that_the_run_never_saw(tmp_path, times):
    recording = recorded(times=times)
    recipe = recipe_of("labels-logistic", "protocol.permutations=0", "protocol.shuffles=1")
    result = run_recipe(recording, recipe)
    decoder = saved(result, tmp_path)
    items = result.tables["items"]
    first = items[items["fold"] == 0]
    new = recording.select(trials=first["row"].to_numpy())
    np.testing.assert_array_equal(decoder.predict(new), first["decoded"])
    assert result.metrics["decoding_balanced_accuracy"]["value"] > 0.7


def test_responses_to_stimuli_that_the_run_never_saw(tmp_path):
    recording = recorded(repeats=2)
    recipe = recipe_of(
        "encode-pixel-components", "features.0.settings.n_components=5", "protocol.seeds=[0]",
        "protocol.permutations=0", "protocol.shuffles=1", "protocol.ceiling=null",
    )  # fmt: skip
    result = run_recipe(recording, recipe)
    encoder = saved(result, tmp_path)
    new, items = first_fold(recording, result.tables["items"])
    predicted = encoder.predict(new)[::2]  # both repeats alike
    np.testing.assert_allclose(predicted, result.arrays["predictions"][items], **CLOSE)
    assert np.isnan(predicted[:, 3]).all()


def test_units_that_do_not_match_the_pipelines(tmp_path):
    recording = recorded()
    recipe = recipe_of(
        "decode-pixel-components", "features.0.settings.n_components=5", "protocol.seeds=[0]"
    )
    decoder = saved(run_recipe(recording, recipe), tmp_path)
    with pytest.raises(InputError, match="has 24 units here, and this run was fitted on 25"):
        decoder.predict(recording.select(units=np.arange(24)))
    others = replace(recording, units=recording.units.assign(i=recording.units["i"] + 1))
    with pytest.raises(InputError, match="as many units as this run was fitted on, 25, but others"):
        decoder.predict(others)
    with pytest.raises(InputError, match=r"Recording, or responses \(n, 25\); got \(3, 4\)"):
        decoder.predict(np.zeros((3, 4)))


def test_a_run_folder_of_another_version_or_of_no_run(tmp_path):
    manifest = {"brainkit": "0.0.1", "job": "decode", "card": "nsd", "subjects": {"s": {}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"made by brainkit 0\.0\.1, and this is .* run it again"):
        run_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="is no run"):
        run_manifest(tmp_path)
    with pytest.raises(MissingFileError, match="is no finished run: there is no manifest"):
        run_manifest(tmp_path / "elsewhere")
