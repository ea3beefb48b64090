"""One simulated subject's responses and the features of what it saw, kept on disk."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.world import SceneWorld, SimulatedBrain
from brainkit.world.versions import VERSIONS

N_TRAIN, N_TEST, REPEATS = 4800, 300, 3
SESSIONS, TRIALS_PER_RUN = 24, 63
VOXELS_PER_REGION = 50
LAYERS = ("blocks.0", "blocks.2", "blocks.4", "embedding")
LAYER = "blocks.4"  # whose tokens are read; chosen on the world of seed 0
# What --counter names, what it is called in tables, and what it switches off.
COUNTERS: dict[str, tuple[str, dict[str, bool]]] = {
    "none": ("", {}),
    "gate": ("gate off", {"gate": False}),
    "tuning": ("shared tuning off", {"shared_tuning": False}),
}


def world_name(brain: int, counter: str = "none") -> str:
    """Name a version of the simulated brain, or one of its counter-worlds."""
    called = COUNTERS[counter][0]
    return f"brain {brain}, {called}" if called else f"brain {brain}"


WORLDS: dict[str, dict[str, Any]] = {
    world_name(brain, counter): {"version": brain, **switches}
    for brain in VERSIONS
    for counter, (_, switches) in COUNTERS.items()
}
GROUPS = {
    "V1": ("V1v", "V1d"),
    "V2": ("V2v", "V2d"),
    "V3": ("V3v", "V3d"),
    "hV4": ("hV4",),
    "faces": ("OFA", "FFA-1", "FFA-2"),
    "bodies": ("EBA", "FBA-1", "FBA-2"),
    "places": ("OPA", "PPA", "RSC"),
    "words": ("OWFA", "VWFA-1", "VWFA-2"),
    "food": ("food",),
}
CATEGORY = {"faces": "face", "bodies": "body", "places": "place", "words": "word", "food": "food"}


@dataclass(frozen=True)
class Subject:
    """What encoders are given, and what they are judged by.

    Attributes
    ----------
    train, test : float32 arrays (n_images, n_voxels)
        Means of three trials, z-scored within sessions by the training images' statistics.
    features : dict of str to float32 array (n_train + n_test, ...)
        Tokens (image, token, feature) of layers, the class token of the last as ``class``, the
        embedding, and oriented energy.
    units : DataFrame
        ``group``, ``roi``, the true pRF and ceiling of each voxel.
    objects : DataFrame
        A row an object of a test image: ``image``, ``category``, ``x``, ``y``, ``size``.
    """

    train: NDArray[np.float32]
    test: NDArray[np.float32]
    features: dict[str, NDArray[np.float32]]
    units: pd.DataFrame
    objects: pd.DataFrame

    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """Return the voxels of each group of regions, and of all category regions together."""
        group = self.units["group"].to_numpy()
        found = {name: group == name for name in GROUPS if (group == name).any()}
        category = np.isin(group, list(CATEGORY))
        early = np.isin(group, ["V1", "V2", "V3"])
        return {**found, "V1-V3": early, "category": category}


def file_name(text: str) -> str:
    """Return a world's or an encoder's name as a part of a file's."""
    return text.replace(", ", "-").replace(" ", "-")


def load_subject(folder: Path, seed: int, world: str) -> Subject:
    """Return subject 1 of a world (see `WORLDS`), simulated when first asked for."""
    path = folder / f"{file_name(world)}-{seed}"
    if not (path / "done").exists():
        path.mkdir(parents=True, exist_ok=True)
        _simulate(path, seed, world)
        (path / "done").touch()
    responses = np.load(path / "responses.npz")
    shared = folder / f"features-{seed}"
    if not (shared / "done").exists():
        shared.mkdir(parents=True, exist_ok=True)
        _extract(shared, seed)
        (shared / "done").touch()
    names = (*LAYERS, "class", "energy")
    return Subject(
        train=responses["train"],
        test=responses["test"],
        features={name: np.load(shared / f"{name}.npy", mmap_mode="r") for name in names},
        units=pd.read_json(path / "units.json", orient="table"),
        objects=_objects(SceneWorld(seed)),
    )


def _simulate(path: Path, seed: int, world: str) -> None:
    """Measure every image three times and keep a part of each region's voxels."""
    brain = SimulatedBrain(SceneWorld(seed), 1, density=0.3, **WORLDS[world])
    truth = brain.truth.reset_index(drop=True)
    kept, groups = [], []
    generator = np.random.default_rng([seed, 17])
    for group, rois in GROUPS.items():
        rows = np.flatnonzero(truth["roi"].isin(rois).to_numpy())
        chosen = np.sort(generator.permutation(rows)[:VOXELS_PER_REGION])
        kept.append(chosen)
        groups += [group] * len(chosen)
    voxels = np.concatenate(kept)
    n_images = N_TRAIN + N_TEST
    scenes = np.arange(n_images)
    response = brain.response(scenes)
    total = np.zeros((n_images, len(voxels)))
    for repeat in range(REPEATS):
        order = np.random.default_rng([seed, repeat]).permutation(n_images)
        place = np.empty(n_images, dtype=int)  # of each image among those of this repeat
        place[order] = np.arange(n_images)
        trials = place + repeat * n_images
        sessions = place * SESSIONS // n_images + repeat * SESSIONS + 1
        runs = sessions * n_images + trials // TRIALS_PER_RUN  # none goes on in the next session
        betas = brain.measure(scenes, sessions, trials, runs=runs, response=response)[:, voxels]
        for session in np.unique(sessions):
            here = sessions == session
            training = betas[here & (scenes < N_TRAIN)]
            total[here] += (betas[here] - training.mean(axis=0)) / training.std(axis=0)
    mean = (total / REPEATS).astype(np.float32)
    np.savez(path / "responses.npz", train=mean[:N_TRAIN], test=mean[N_TRAIN:])
    columns = ["roi", "prf_x", "prf_y", "prf_size", "ceiling_3"]
    units = truth.loc[voxels, columns].reset_index(drop=True).assign(group=groups)
    units.to_json(path / "units.json", orient="table")


def _extract(path: Path, seed: int) -> None:
    """Paint the scenes and keep the features of the tiny CLIP and of oriented energy."""
    from brainkit.features import OrientedEnergy, extract

    images = SceneWorld(seed).paint(np.arange(N_TRAIN + N_TEST))
    spec = f"open_clip:tiny@{','.join(name for name in LAYERS if name != 'embedding')}"
    found = extract(spec, images, tokens="patch", progress=False)
    for name, values in found.items():
        np.save(path / f"{name}.npy", np.asarray(values, dtype=np.float32))
    whole = extract(f"open_clip:tiny@{LAYER}", images, tokens="class", progress=False)
    np.save(path / "class.npy", np.asarray(whole, dtype=np.float32))
    embedding = extract("open_clip:tiny", images, progress=False)
    np.save(path / "embedding.npy", np.asarray(embedding, dtype=np.float32))
    energy = OrientedEnergy().fit(images[:N_TRAIN])
    np.save(path / "energy.npy", np.asarray(energy.transform(images), dtype=np.float32))


def _objects(world: SceneWorld) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for image in range(N_TEST):
        for thing in world.scene(N_TRAIN + image).objects:
            rows.append(
                {"image": image, "category": thing.category, "x": thing.x, "y": thing.y}
                | {"size": thing.size}
            )
    return pd.DataFrame(rows)
