"""T04: repeats of one image, or windows of one trial, on both sides of a split."""

import numpy as np
import pandas as pd
import pytest

from brainkit import Recording
from brainkit.data.bold5000 import read_stimulus_list
from brainkit.data.splits import split_by_hand
from brainkit.errors import LeakError
from brainkit.linear.folds import kfold


def repeats(n_images=40, n_repeats=3, seed=0):
    generator = np.random.default_rng(seed)
    stimulus = generator.permutation(np.repeat(np.arange(n_images), n_repeats))
    trials = pd.DataFrame({"stimulus": stimulus, "run": np.arange(len(stimulus)) % 6})
    return Recording.from_arrays(
        generator.normal(size=(len(stimulus), 30))
        + generator.normal(size=(n_images, 30))[stimulus],
        trials=trials,
    )


@pytest.mark.parametrize("preset", ["kfold:5:run", "leave-one-run-out", "kfold:5:trial"])
def test_a_split_that_tears_repeats_apart_raises_with_all_their_ids(preset):
    recording = repeats()
    with pytest.raises(LeakError, match="kfold:10:stimulus") as caught:
        recording.split(preset)
    if preset == "leave-one-run-out":
        run, stimulus = (recording.trials[name].to_numpy() for name in ("run", "stimulus"))
        both = set(stimulus[run == 0]) & set(stimulus[run != 0])
        assert caught.value.ids == sorted(both)


def test_any_pair_of_parts_is_guarded():
    recording = repeats(n_images=4, n_repeats=2)
    rows = {i: recording.trials.index[recording.trials["stimulus"] == i] for i in range(4)}
    whole = {
        "train": [*rows[0]], "validation": [*rows[1]], "align": [*rows[2]], "test": [*rows[3]]
    }  # fmt: skip
    split_by_hand(recording, **whole)
    for first in whole:
        for second in set(whole) - {first}:
            torn = {**whole, second: [*whole[second], whole[first][-1]]}
            torn[first] = whole[first][:-1]
            with pytest.raises(LeakError) as caught:
                split_by_hand(recording, **torn)
            assert caught.value.ids == [list(whole).index(first)]


def test_windows_of_one_trial():
    trials = pd.DataFrame({"trial": np.repeat(np.arange(10), 4), "label": 0})
    recording = Recording.from_arrays(np.ones((40, 3)), trials=trials)
    with pytest.raises(LeakError) as caught:
        split_by_hand(recording, train=range(2, 40), test=[0, 1])
    assert caught.value.ids == [0]
    assert len(recording.split("kfold:5:trial")) == 5


def test_bold5000_knows_repeats_by_the_images_name(tmp_path):
    """Published folds cut the list of trials into ten stretches, whatever was shown in them."""
    names = [*(f"scene{n}.jpg" for n in range(80)), *("rep_bar1.jpg", "rep_bar2.jpg") * 4]
    order = np.random.default_rng(0).permutation(len(names))
    path = tmp_path / "CSI01_stim_lists.txt"
    path.write_text("\n".join(names[n] for n in order))
    trials = read_stimulus_list(path)
    trials["stimulus"] = pd.factorize(trials["image"])[0]
    recording = Recording.from_arrays(np.ones((88, 3)), trials=trials)
    folds = np.array_split(np.arange(88), 10)
    torn = set()
    for fold in folds:
        rest = np.setdiff1d(np.arange(88), fold)
        try:
            split_by_hand(recording, train=rest, test=fold)
        except LeakError as error:
            torn |= set(error.ids)
    again = trials.loc[trials["repeated"], "stimulus"]
    assert torn == set(again)
    assert sorted(again.value_counts()) == [4, 4]
    assert len(recording.split("kfold:10:stimulus")) == 10


def test_torn_repeats_would_have_paid():
    """What the guard prevents: a nearest-neighbour 'decoder' of pure identities."""
    recording = repeats()
    values, stimulus = recording.responses.read(), recording.trials["stimulus"].to_numpy()

    def accuracy(folds):
        hits = []
        for train, test in folds:
            distance = ((values[test][:, None] - values[train][None]) ** 2).sum(-1)
            hits.append(stimulus[train][distance.argmin(1)] == stimulus[test])
        return np.concatenate(hits).mean()

    assert accuracy(kfold(len(values), 5, seed=0)) > 0.5
    honest = recording.split("kfold:5:stimulus")
    assert accuracy([(fold.rows["train"], fold.rows["test"]) for fold in honest]) == 0
