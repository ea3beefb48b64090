"""The design of a simulated experiment in the form of the Natural Scenes Dataset's.

All numbers in the design are 1-based, as in the dataset's own files.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from brainkit.errors import InputError
from brainkit.world.nsd_coco import SPLIT

N_SUBJECTS: Final = 8
N_REPEATS: Final = 3
N_RUNS: Final = 12
N_SLOTS: Final = 75
_LEAD, _TAIL = 3, 4
_DESIGN_KEY: Final = 707


@dataclass(frozen=True, slots=True)
class Design:
    """Who sees what when.

    Attributes
    ----------
    masterordering : uint16 array (1, n_trials)
        For each trial, the number of the image within the subject's list.
    basiccnt : uint16 array (3, n_sessions)
        How many images have been shown at least once, twice, three times by the session's end.
    sharedix : int32 array (1, n_shared)
        Numbers of the shared images among all, ascending.
    stimpattern : uint8 array (n_sessions, 12, 75)
        1 where a slot of a run holds an image.
    subjectim : int32 array (8, n_images)
        For each subject, the numbers of the images in the list; the shared ones first. 0 from there
        on for subjects who are not simulated.
    subjects : tuple of int
    n_stimuli : int
    trials_per_session : int
    """

    masterordering: npt.NDArray[np.uint16]
    basiccnt: npt.NDArray[np.uint16]
    sharedix: npt.NDArray[np.int32]
    stimpattern: npt.NDArray[np.uint8]
    subjectim: npt.NDArray[np.int32]
    subjects: tuple[int, ...]
    n_stimuli: int
    trials_per_session: int

    def shown(self, subject: int) -> npt.NDArray[np.int64]:
        """Give the 0-based stimulus row of each trial of a subject, all designed trials."""
        places = self.masterordering[0].astype(np.int64) - 1
        return np.asarray(self.subjectim[subject - 1, places], dtype=np.int64) - 1

    def runs(self) -> npt.NDArray[np.int64]:
        """Give the run of each designed trial, counted through all sessions from 0."""
        n_sessions = self.masterordering.shape[1] // self.trials_per_session
        lengths = np.tile(trials_by_run(self.trials_per_session), n_sessions)
        return np.repeat(np.arange(N_RUNS * n_sessions), lengths)

    def as_mat(self) -> dict[str, npt.NDArray[Any]]:
        """Give the variables of ``nsd_expdesign.mat``."""
        return {
            "masterordering": self.masterordering,
            "basiccnt": self.basiccnt,
            "sharedix": self.sharedix,
            "stimpattern": self.stimpattern,
            "subjectim": self.subjectim,
        }


def draw_design(
    subjects: tuple[int, ...],
    images_per_subject: int,
    shared: int,
    trials_per_session: int,
    seed: int,
) -> Design:
    """Draw a design in which every image comes three times, in random order.

    Parameters
    ----------
    subjects : tuple of int
        The simulated subjects, of 1..8.
    images_per_subject, shared : int
        Images each subject sees, and how many of these all see.
    trials_per_session : int
        12 to 900; it must divide three times `images_per_subject`.
    seed : int

    Raises
    ------
    InputError
        If the counts do not fit together.
    """
    _check_counts(subjects, images_per_subject, shared, trials_per_session)
    rng = np.random.default_rng([seed, _DESIGN_KEY])
    own = images_per_subject - shared
    n_stimuli = shared + own * len(subjects)
    order = rng.permutation(n_stimuli) + 1
    sharedix = np.sort(order[:shared]).astype(np.int32)
    subjectim = np.zeros((N_SUBJECTS, images_per_subject), dtype=np.int32)
    subjectim[:, :shared] = sharedix
    for number, subject in enumerate(subjects):
        start = shared + own * number
        subjectim[subject - 1, shared:] = order[start : start + own]
    numbers = np.repeat(np.arange(1, images_per_subject + 1), N_REPEATS)
    ordering = rng.permutation(numbers).astype(np.uint16)
    return Design(
        masterordering=ordering[None],
        basiccnt=_count_seen(ordering, trials_per_session),
        sharedix=sharedix[None],
        stimpattern=_draw_pattern(len(ordering) // trials_per_session, trials_per_session, rng),
        subjectim=subjectim,
        subjects=subjects,
        n_stimuli=n_stimuli,
        trials_per_session=trials_per_session,
    )


def trials_by_run(trials_per_session: int) -> npt.NDArray[np.int64]:
    """Divide a session's trials over its twelve runs; 750 give 63 and 62 in turn."""
    counts = np.full(N_RUNS, trials_per_session // N_RUNS, dtype=np.int64)
    turn = np.r_[np.arange(0, N_RUNS, 2), np.arange(1, N_RUNS, 2)]
    counts[turn[: trials_per_session % N_RUNS]] += 1
    return counts


def stimulus_info(design: Design) -> pd.DataFrame:
    """Give the table ``nsd_stim_info_merged.csv``, with the row number as its unnamed index.

    Parameters
    ----------
    design : Design

    Returns
    -------
    table : DataFrame
        40 columns. What only photographs of COCO have is filled with neutral values: ``cocoId``
        repeats ``nsdId``, ``cocoSplit`` is ``simulated``, nothing is cropped.
    """
    rows = np.arange(design.n_stimuli)
    shared = np.isin(rows + 1, design.sharedix[0])
    columns: dict[str, Any] = {
        "cocoId": rows,
        "cocoSplit": SPLIT,
        "cropBox": "(0.0, 0.0, 0.0, 0.0)",
        "loss": 0.0,
        "nsdId": rows,
        "flagged": False,
        "BOLD5000": False,
        "shared1000": shared,
    }
    repeats: dict[str, npt.NDArray[np.int64]] = {}
    for subject in range(1, N_SUBJECTS + 1):
        times = np.zeros((design.n_stimuli, N_REPEATS), dtype=np.int64)
        if subject in design.subjects:
            shown = design.shown(subject)
            order = np.argsort(shown, kind="stable")
            times[shown[order[::N_REPEATS]]] = order.reshape(-1, N_REPEATS) + 1
        columns[f"subject{subject}"] = (times[:, 0] > 0).astype(np.int64)
        for repeat in range(N_REPEATS):
            repeats[f"subject{subject}_rep{repeat}"] = times[:, repeat]
    return pd.DataFrame({**columns, **repeats})


def _check_counts(
    subjects: tuple[int, ...], images_per_subject: int, shared: int, trials_per_session: int
) -> None:
    known = range(1, N_SUBJECTS + 1)
    if not subjects or len(set(subjects)) < len(subjects) or not set(subjects) <= set(known):
        raise InputError(f"Subjects must be different ones of 1..8, but {subjects} were given.")
    if not 1 <= shared <= images_per_subject:
        raise InputError(
            f"Of {images_per_subject} images a subject, 1 to {images_per_subject} can be shared, "
            f"but shared={shared} was given."
        )
    if images_per_subject > np.iinfo(np.uint16).max:
        raise InputError(f"A subject can see at most 65535 images, not {images_per_subject}.")
    most = N_RUNS * (N_SLOTS - _LEAD - _TAIL)
    if not N_RUNS <= trials_per_session <= most:
        raise InputError(
            f"A session has {N_RUNS} to {most} trials, but {trials_per_session} were given."
        )
    if N_REPEATS * images_per_subject % trials_per_session:
        raise InputError(
            f"{images_per_subject} images shown three times do not fill sessions of "
            f"{trials_per_session} trials; choose trials_per_session so that it divides "
            f"{N_REPEATS * images_per_subject}."
        )


def _count_seen(
    ordering: npt.NDArray[np.uint16], trials_per_session: int
) -> npt.NDArray[np.uint16]:
    counts = np.zeros(int(ordering.max()) + 1, dtype=np.int64)
    seen = []
    for session in ordering.reshape(-1, trials_per_session):
        counts += np.bincount(session, minlength=len(counts))
        seen.append([(counts >= times).sum() for times in range(1, N_REPEATS + 1)])
    return np.asarray(seen, dtype=np.uint16).T


def _draw_pattern(
    n_sessions: int, trials_per_session: int, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Put the images into slots; the first three and last four of a run are always blank."""
    pattern = np.zeros((n_sessions, N_RUNS, N_SLOTS), dtype=np.uint8)
    for session in range(n_sessions):
        for run, count in enumerate(trials_by_run(trials_per_session)):
            free = np.arange(_LEAD, N_SLOTS - _TAIL)
            pattern[session, run, rng.choice(free, size=count, replace=False)] = 1
    return pattern
