"""`read_design` against loops that follow the description of nsd_expdesign.mat word by word."""

import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat, savemat

from brainkit.data.nsd import read_design
from brainkit.errors import CorruptFileError, InputError, MissingFileError, UnknownNameError


def by_hand(design, subject, n_sessions):
    """Trial by trial: subjectim[s, masterordering[t] - 1] - 1, sessions and runs by stimpattern."""
    rows, seen, t = [], {}, 0
    for session in range(n_sessions):
        within = 0
        for run in range(12):
            for slot in range(75):
                if not design.stimpattern[session, run, slot]:
                    continue
                image = int(design.masterordering[0, t])  # 1 ... 10000
                stimulus = int(design.subjectim[subject - 1, image - 1]) - 1
                rows.append(
                    (stimulus, session + 1, run + 1, within, seen.get(image, 0), image <= 1000)
                )
                seen[image] = seen.get(image, 0) + 1
                within, t = within + 1, t + 1
    return pd.DataFrame(rows, columns=["stimulus", "session", "run", "trial", "repeat", "shared"])


@pytest.mark.parametrize(("subject", "name"), [(1, "subj01"), (1, 1), (1, "1"), (8, "subj08")])
def test_equals_the_description(full_design, subject, name):
    trials = read_design(full_design.path, name)
    expected = by_hand(full_design, subject, 40)
    assert len(trials) == 30_000
    pd.testing.assert_frame_equal(trials[expected.columns.tolist()], expected, check_dtype=False)
    assert trials.groupby(["session", "run"]).size().tolist() == [63, 62] * 240
    assert trials["stimulus"].between(0, 72_999).all()


def test_shared_images_are_those_that_all_subjects_see(full_design):
    sets = [set(read_design(full_design.path, s)["stimulus"]) for s in range(1, 9)]
    common = set.intersection(*sets)
    assert common == set(full_design.sharedix.ravel() - 1)
    trials = read_design(full_design.path, 3)
    assert set(trials.loc[trials["shared"], "stimulus"]) == common
    assert not set(trials.loc[~trials["shared"], "stimulus"]) & common


def test_sessions_are_a_part_of_the_whole(full_design):
    whole = read_design(full_design.path, 2)
    part = read_design(full_design.path, 2, sessions=[7, 3])
    expected = whole[whole["session"].isin([3, 7])].reset_index(drop=True)
    pd.testing.assert_frame_equal(part, expected)  # in the order of the experiment
    # `repeat` counts all showings, those in sessions left out too.
    assert part["repeat"].max() > part.groupby("stimulus").cumcount().max()
    assert len(read_design(full_design.path, 2, sessions=[])) == 0


def test_a_number_of_sessions_means_the_first(full_design):
    first = read_design(full_design.path, 1, sessions=30)
    pd.testing.assert_frame_equal(first, read_design(full_design.path, 1, range(1, 31)))
    with pytest.raises(UnknownNameError, match=r"session '?41"):
        read_design(full_design.path, 1, sessions=41)


@pytest.mark.parametrize(
    "sessions",
    [np.int64(30), np.uint8(30), np.array(30), np.arange(1, 31), pd.Series(range(1, 31))],
)
def test_numpys_numbers_are_numbers(full_design, sessions):
    first = read_design(full_design.path, np.int64(1), sessions=sessions)
    pd.testing.assert_frame_equal(first, read_design(full_design.path, 1, sessions=30))


@pytest.mark.parametrize("sessions", [0, -1, np.int64(0), 41, np.int64(-5)])
def test_no_such_number_of_sessions(full_design, sessions):
    with pytest.raises(UnknownNameError, match=f"session {sessions}"):
        read_design(full_design.path, 1, sessions=sessions)


@pytest.mark.parametrize(
    "sessions", [True, 30.0, np.float64(30), "30", b"30", [True], [1.0], ["1"], [None]], ids=repr
)
def test_what_is_no_number_of_sessions(full_design, sessions):
    with pytest.raises(InputError, match="sessions must be a whole number"):
        read_design(full_design.path, 1, sessions=sessions)


def counts(trials, n_sessions):
    """Shared images with three repeats, and seen at least once, in the first sessions."""
    early = trials[(trials["session"] <= n_sessions) & trials["shared"]]
    shown = early["stimulus"].value_counts()
    return int((shown >= 3).sum()), len(shown)


@pytest.mark.parametrize("n_sessions", [30, 32, 37, 40])
def test_counts_of_shared_images(full_design, n_sessions):
    """On NSD's own file these are 515, 614, 839 and 1000, and 907 seen at least once at 30."""
    trials = read_design(full_design.path, "subj05", sessions=range(1, n_sessions + 1))
    shown = np.zeros(10_001, dtype=int)
    for image in full_design.masterordering[0, : 750 * n_sessions]:
        shown[image] += 1
    assert counts(trials, n_sessions) == ((shown[:1001] == 3).sum(), (shown[:1001] > 0).sum())
    if n_sessions == 40:
        assert counts(trials, 40) == (1000, 1000)


def test_early_repeats_count_the_first_three_quarters(full_design):
    trials = read_design(full_design.path, 1)
    early = trials[trials["session"] <= 30]["stimulus"].value_counts()
    expected = trials["stimulus"].map(early).fillna(0)
    np.testing.assert_array_equal(trials["early_repeats"], expected)
    test = trials[trials["shared"] & (trials["early_repeats"] == 3)]
    assert test["stimulus"].nunique() == counts(trials, 30)[0]
    # The count is the same whichever sessions are read.
    part = read_design(full_design.path, 1, sessions=[2])
    np.testing.assert_array_equal(
        part["early_repeats"], trials.loc[trials["session"] == 2, "early_repeats"]
    )


@pytest.mark.parametrize("subject", [0, 9, "subj09", "subj00", "bob", "", -1, "1.5"])
def test_wrong_subject(full_design, subject):
    with pytest.raises(UnknownNameError, match="subj08"):
        read_design(full_design.path, subject)


@pytest.mark.parametrize("session", [0, 41, -1])
def test_wrong_session(full_design, session):
    with pytest.raises(UnknownNameError, match="session"):
        read_design(full_design.path, 1, sessions=[1, session])


def test_bad_files(full_design, tmp_path):
    path = tmp_path / "nsd_expdesign.mat"
    with pytest.raises(MissingFileError, match="nsd_expdesign"):
        read_design(path, 1)
    whole = full_design.path.read_bytes()
    for size in (0, 50, 200, 10_000, len(whole) // 2, len(whole) - 100):
        path.write_bytes(whole[:size])
        with pytest.raises(CorruptFileError, match="nsd_expdesign"):
            read_design(path, 1)
    savemat(path, {"sharedix": np.arange(3)})
    with pytest.raises(CorruptFileError, match="lacks masterordering, stimpattern, subjectim"):
        read_design(path, 1)
    design = {k: v for k, v in loadmat(full_design.path).items() if not k.startswith("__")}
    savemat(path, {**design, "stimpattern": design["stimpattern"][:39]})
    with pytest.raises(CorruptFileError, match="do not fit"):
        read_design(path, 1)
    savemat(path, {**design, "masterordering": design["masterordering"] + 0.4})
    with pytest.raises(CorruptFileError, match="masterordering must hold whole numbers"):
        read_design(path, 1)


def test_numbers_that_went_through_single_precision(full_design, tmp_path):
    """3.99997 is image 4: it was cut to 3."""
    path = tmp_path / "nsd_expdesign.mat"
    design = {k: v for k, v in loadmat(full_design.path).items() if not k.startswith("__")}
    noisy = {name: design[name] - 3e-5 for name in ("masterordering", "subjectim")}
    savemat(path, {**design, **noisy, "stimpattern": design["stimpattern"] + 7e-15})
    with pytest.warns(UserWarning, match="were rounded") as caught:
        found = read_design(path, 3)
    assert len(caught) == 3  # once for each array that is not whole
    pd.testing.assert_frame_equal(found, read_design(full_design.path, 3))
