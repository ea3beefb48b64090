"""Which stimuli people have in common: by content, whatever file, row or name they have."""

import h5py
import numpy as np
import pandas as pd
import pytest

from brainkit import Recording, Stimuli
from brainkit.alignment import SharedResponse
from brainkit.alignment.common_stimuli import common_responses, lasting_keys, row_keys
from brainkit.data.stimuli import HDF5Stimuli
from brainkit.errors import InputError, LeakError

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 5, 5, 3), dtype=np.uint8)


def person(subject, shown, stimuli, n_units=12):
    rng = np.random.default_rng(len(subject))
    values = rng.standard_normal((len(shown), n_units))
    trials = pd.DataFrame({"stimulus": shown})
    return Recording.from_arrays(values, subject=subject, trials=trials, stimuli=stimuli)


@pytest.fixture
def brick(tmp_path):
    path = tmp_path / "stimuli.hdf5"
    with h5py.File(path, "w") as file:
        file["imgBrick"] = IMAGES
    return path


class Unread:
    """A source of stimuli that must not be read."""

    def __len__(self):
        return len(IMAGES)

    def read(self, rows):
        raise AssertionError("stimuli of one source are told apart by their rows")


def test_rows_of_one_source_are_not_read():
    source = Unread()
    a = person("a", [3, 4, 5], Stimuli(source))
    b = person("b", [0, 1], Stimuli(source).select(np.array([5, 7])))
    keys = row_keys([a, b])
    assert keys[0][2] == keys[1][0]
    assert len(set(keys[0]) & set(keys[1])) == 1


def test_one_file_opened_twice_is_one_source(brick):
    a, b = (
        person(name, np.arange(10 * k, 10 * k + 20), Stimuli(HDF5Stimuli.open(brick, "imgBrick")))
        for k, name in enumerate("ab")
    )
    assert len(common_responses([a, b], "")[1]) == 10


def test_a_file_and_an_array_of_the_same_pictures_are_the_same(brick):
    a = person("a", np.arange(30), Stimuli(HDF5Stimuli.open(brick, "imgBrick")))
    b = person("b", np.arange(20), Stimuli(IMAGES[::-1][:20], ids=[f"x{k}" for k in range(20)]))
    _, names = common_responses([a, b], "")
    assert len(names) == 10  # pictures 20 to 29
    assert set(names) == set(lasting_keys(person("c", np.arange(10), Stimuli(IMAGES[20:30]))))


def test_the_same_names_of_other_pictures_are_not_the_same():
    a = person("a", np.arange(20), Stimuli(IMAGES[:20]))
    b = person("b", np.arange(20), Stimuli(IMAGES[20:]))
    with pytest.raises(InputError, match="0 stimuli in common"):
        common_responses([a, b], "")


def test_means_are_of_the_same_stimuli_in_the_same_order():
    a = person("a", [4, 2, 2, 9], None)
    b = person("b", [9, 9, 2, 7, 4], None)
    people, names = common_responses([a, b], "")
    assert names.tolist() == ["stimulus 4", "stimulus 2", "stimulus 9"]
    values = a.responses.read()
    expected = [values[0], values[1:3].mean(axis=0), values[3]]
    np.testing.assert_allclose(people[0].values, expected, rtol=1e-6)
    values = b.responses.read()
    expected = [values[4], values[2], values[:2].mean(axis=0)]
    np.testing.assert_allclose(people[1].values, expected, rtol=1e-6)


def test_times_of_two_runs_and_sessions_are_not_the_same():
    samples = pd.DataFrame({"session": [1, 1, 2], "run": [1, 2, 1], "time": [0.0, 0.0, 0.0]})
    one = Recording.from_arrays(np.zeros((3, 2)), subject="a", samples=samples)
    (keys,) = row_keys([one])
    assert len(set(keys)) == 3
    other = Recording.from_arrays(np.ones((3, 2)), subject="b", samples=samples[::-1])
    assert set(row_keys([one, other])[1]) == set(keys)


def test_a_recording_with_stimuli_and_one_without_cannot_be_compared():
    with pytest.raises(InputError, match="recording of 'b' has no stimuli, and others have"):
        row_keys([person("a", [0, 1], Stimuli(IMAGES)), person("b", [0, 1], None)])


def test_a_new_person_is_found_by_pictures_from_elsewhere(brick, tmp_path):
    source = Stimuli(HDF5Stimuli.open(brick, "imgBrick"))
    aligner = SharedResponse(3).fit([person(name, np.arange(30), source) for name in ("a", "bb")])
    new = person("ccc", np.arange(15), Stimuli(IMAGES[::-1][:15]), n_units=20)
    aligner.add_subject(new)  # pictures 39 to 25, of which 29 to 25 are known
    assert aligner.n_samples_["ccc"] == 5
    with pytest.raises(LeakError, match="2 stimuli of the test part"):
        SharedResponse(3).fit(
            [person(name, np.arange(30), source) for name in ("a", "bb")],
            forbidden=new.select(trials=new.trials["stimulus"].between(13, 14)),
        )
