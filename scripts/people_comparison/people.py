"""Four simulated people of unequal voxel counts, and features that are the same for every model.

The feature spaces are components of the pictures that no test shows, of all four people. So a model
of few trials is asked for the same features as one of many, and what others add is their brains,
not a better basis of pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit import Recording, load
from brainkit.arrays.atomic import atomic_path
from brainkit.arrays.seeds import rng
from brainkit.data.rgb import as_float
from brainkit.data.stimuli import Stimuli
from brainkit.features import ModelLayer, OrientedEnergy, Precomputed
from brainkit.world import SceneWorld, write_nsd

Float = NDArray[np.float32]
TESTED = "subj04"
OTHERS = ("subj01", "subj02", "subj03")
PARTS = ("align", "train")  # of the tested person; those of the align part are drawn first
STREAMS = ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal")
STIMULI_AT_ONCE = 1000


@dataclass(frozen=True)
class Study:
    """How large the simulated experiment is.

    Attributes
    ----------
    images : int
        Images that each person sees, three times each.
    shared : int
        How many of these all four see.
    session : int
        Trials a session.
    pixel_components, components : int
        Dimensions that are decoded, and that are encoded from.
    """

    images: int = 3000
    shared: int = 450
    session: int = 750
    pixel_components: int = 60
    components: int = 200


class SceneComponents(Precomputed):
    """Ready scores on fixed components of pictures, with the way back to pictures.

    Parameters
    ----------
    values : array (n_stimuli, n_components)
        Scores of every stimulus.
    mean : array (height, width, 3)
        In [0, 1].
    axes : array (n_components, height * width * 3)
        Orthonormal.
    """

    def __init__(self, values: Any, mean: Any, axes: Any) -> None:
        super().__init__(values)
        self.mean, self.axes = mean, axes

    def inverse_transform(self, scores: ArrayLike) -> Float:
        """Return the pictures of given scores, (n, height, width, 3); about [0, 1]."""
        flat = np.asarray(scores, dtype=np.float32) @ self.axes  # (n, height * width * 3)
        return flat.reshape(-1, *self.mean.shape) + self.mean

    def components_of(self, images: ArrayLike) -> Float:
        """Return the scores of pictures (n, height, width, 3) in [0, 1], (n, n_components)."""
        deviations = (np.asarray(images) - self.mean).reshape(len(np.asarray(images)), -1)
        return np.asarray(deviations @ self.axes.T, dtype=np.float32)

    def __sklearn_clone__(self) -> "SceneComponents":
        return SceneComponents(self.values, self.mean, self.axes)


@dataclass(frozen=True)
class People:
    """Everyone's recording, held in memory, and the two feature spaces.

    Attributes
    ----------
    recordings : dict of str to Recording
    spaces : dict of str to transformer
        By job, ``"decode"`` and ``"encode"``.
    """

    recordings: Mapping[str, Recording]
    spaces: Mapping[str, Any]

    def n_trials(self) -> int:
        """Return how many trials of the tested person may train."""
        rows = self.recordings[TESTED].split("nsd-515").folds[0].rows
        return sum(len(rows[part]) for part in PARTS)

    def facts(self) -> dict[str, Any]:
        """Return the sizes: units of everyone, test images and all trials of the tested person."""
        units = {name: one.responses.shape[1] for name, one in self.recordings.items()}
        n_tested = len(tested_stimuli(self.recordings[TESTED]))
        return {"units": units, "test_images": n_tested, "all_trials": self.n_trials()}

    def others(self, pairing: str) -> dict[str, Recording]:
        """Return the others, as they are (``"right"``) or with stimuli exchanged."""
        others = {name: self.recordings[name] for name in OTHERS}
        if pairing == "right":
            return others
        sealed = tested_stimuli(self.recordings[TESTED])
        return {name: exchanged(one, sealed) for name, one in others.items()}


def tested_stimuli(recording: Recording) -> NDArray[np.int64]:
    """Return the stimuli of a recording's test part."""
    test = recording.split("nsd-515").folds[0].rows["test"]
    return np.unique(recording.stimulus_rows()[test])


def exchanged(recording: Recording, sealed: NDArray[np.int64]) -> Recording:
    """Return a recording whose trials are said to show another stimulus that this person saw.

    The repeats of a stimulus stay together, so that averaging them is worth as much as before.
    Stimuli in `sealed` are exchanged among themselves: none comes back under another's name.
    """
    shown = recording.stimulus_rows()
    said = np.arange(shown.max() + 1)
    generator = rng(0, "exchanged stimuli", recording.subject)
    for inside in (True, False):
        seen = np.unique(shown[np.isin(shown, sealed) == inside])
        said[seen] = generator.permutation(seen)
    return in_memory(recording, stimulus=said[shown])


def in_memory(recording: Recording, stimuli: Stimuli | None = None, /, **columns: Any) -> Recording:
    """Return a copy of a recording's trials in memory, with columns of them replaced or added."""
    assert recording.trials is not None
    return Recording.from_arrays(
        recording.responses.read(),
        subject=recording.subject,
        trials=recording.trials.assign(**columns),
        stimuli=recording.stimuli if stimuli is None else stimuli,
        units=recording.units.assign(
            region=region_of_units(recording), stream=label_of_units(recording, STREAMS)
        ),
        space=recording.space,
        info=recording.info,
    )


def region_of_units(recording: Recording) -> NDArray[Any]:
    """Return the name of each unit's visual region; ``"rest"`` of units in none."""
    wider = (*STREAMS, "nsdgeneral")
    return label_of_units(recording, [name for name in recording.roi_names if name not in wider])


def label_of_units(recording: Recording, names: Sequence[str]) -> NDArray[Any]:
    """Return the name of the ROI that each unit is in; ``"rest"`` of units in none."""
    labels = np.full(len(recording.units), "rest", dtype=object)
    for name in names:
        labels[recording.roi_mask(name)] = name
    return labels


def load_people(root: Path, seed: int, brain: int, study: Study) -> People:
    """Simulate the experiment where it is not there, and read it."""
    folder = root / f"nsd-{brain}-{seed}-{study.images}"
    write_nsd(
        folder,
        SceneWorld(seed),
        (1, 2, 3, 4),
        images_per_subject=study.images,
        shared=study.shared,
        trials_per_session=study.session,
        brain_version=brain,
    )
    recordings = {name: load("nsd", folder, name) for name in (*OTHERS, TESTED)}
    first = recordings[TESTED]
    assert first.stimuli is not None
    stimuli = Stimuli(first.stimuli.read())
    people = {name: in_memory(one, stimuli) for name, one in recordings.items()}
    return People(people, feature_spaces(folder, people, study))


def feature_spaces(folder: Path, people: Mapping[str, Recording], study: Study) -> dict[str, Any]:
    """Return the spaces that are decoded and encoded from, computed when first asked for."""
    stimuli = people[TESTED].stimuli
    assert stimuli is not None
    path = folder / f"features-{study.pixel_components}-{study.components}.npz"
    if not path.exists():
        shown = np.unique(np.concatenate([one.stimulus_rows() for one in people.values()]))
        fitted = np.setdiff1d(shown, tested_stimuli(people[TESTED]))
        pixels = as_float(stimuli.read()).reshape(len(stimuli), -1)
        mean, axes = principal(pixels, fitted, study.pixel_components)
        known = computed(stimuli)
        centre, known_axes = principal(known, fitted, study.components)
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(
                file,
                decode=(pixels - mean) @ axes.T,
                mean=mean.reshape(stimuli.read([0]).shape[1:]),
                axes=axes,
                encode=(known - centre) @ known_axes.T,
            )
    held = np.load(path)
    decode = SceneComponents(held["decode"], held["mean"], held["axes"])
    return {"decode": decode, "encode": Precomputed(held["encode"])}


def computed(stimuli: Stimuli) -> Float:
    """Return oriented energy and the tiny CLIP's embedding, each of total variance 1."""
    parts = []
    for space in (OrientedEnergy(), ModelLayer(model="open_clip:tiny", pool=None)):
        starts = range(0, len(stimuli), STIMULI_AT_ONCE)
        rows = [np.arange(k, min(k + STIMULI_AT_ONCE, len(stimuli))) for k in starts]
        values = np.concatenate([np.asarray(space.fit_transform(stimuli.read(r))) for r in rows])
        parts.append(values / np.sqrt(values.var(axis=0, dtype=np.float64).sum()))
    return np.concatenate(parts, axis=1).astype(np.float32)


def principal(values: Float, fitted: NDArray[np.int64], n_components: int) -> tuple[Float, Float]:
    """Return the mean and the leading principal axes of some rows, by subspace iteration."""
    from sklearn.utils.extmath import randomized_svd

    mean = values[fitted].mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = values[fitted] - mean  # (n_fitted, n_values)
    most = min(n_components, len(centred) - 1)
    _, _, axes = randomized_svd(centred, most, n_iter=3, random_state=0)
    return mean, np.asarray(axes, dtype=np.float32)
