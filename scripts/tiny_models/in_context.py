"""The in-context encoder: three stages, on voxels of simulated subjects of worlds of their own.

Worlds are told apart by their seeds: those below train, one is looked at on the way, three are for
the card. The seeds 0 to 9 and 31 to 39, on which encoders are compared, are in none of them. A
network may be of either form, and learn from people of any version of the simulated brain; from
which it learned stands in the names of the people.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from brainkit.arrays.atomic import write_json, write_npy
from brainkit.arrays.progress import track
from brainkit.data.simulation import simulated_name
from brainkit.encoding.in_context.checkpoint import Origin, save_network
from brainkit.encoding.in_context.module import Architecture, Form, InContextNetwork
from brainkit.encoding.in_context.tasks import (
    Subject,
    SubjectVoxels,
    SyntheticVoxels,
)
from brainkit.encoding.in_context.trainable import Stage, train_stage
from brainkit.features import ModelLayer, extract
from brainkit.training import Report, Schedule
from brainkit.training.set_networks import check_excluded, unit_norm
from brainkit.world import Population, SceneWorld, SimulatedBrain
from brainkit.world.versions import VERSIONS

EMBEDDING_MODEL = "open_clip:tiny"
TRAINING, VALIDATION, TEST = tuple(range(101, 107)), 111, (121, 122, 123)
LEARNED, WATCHED = range(1, 9), range(1, 3)  # subjects of the training worlds, and of the others
SCENES, DENSITY = 1200, 1.0  # painted scenes of each world; share of its voxels
ARCHITECTURE = Architecture(embedding=256, width=128, layers=4, heads=4, hidden=256, registers=4)
DROPOUT: dict[Form, float] = {"product": 0.0, "published": 0.5}
FIRST = Schedule(
    steps=250,
    learning_rate=1.5e-3,
    final=0.1,
    warmup=100,
    weight_decay=0.02,
    average=0.99,
    seed=41,
    checkpoint_every=50,
    validate_every=200,
)
STAGES = (
    Stage("synthetic", FIRST, (100, 100)),
    Stage("context", replace(FIRST, steps=100, learning_rate=7e-4), (20, 200)),
    Stage(
        "subjects", replace(FIRST, steps=2000, average=0.995, final=0.02), (20, 200), n_voxels=16
    ),
)


@dataclass(frozen=True)
class Variant:
    """Which network is trained, and on whom.

    Parameters
    ----------
    form : {"product", "published"}
        See `brainkit.encoding.in_context.module`.
    brain : int, default=1
        Version of the simulated brain.
    """

    form: Form = "product"
    brain: int = 1

    @property
    def name(self) -> str:
        """The folder's."""
        form = "" if self.form == "product" else f"-{self.form}"
        return f"in-context{form}{'' if self.brain == 1 else f'-brain-{self.brain}'}"

    @property
    def reports(self) -> str:
        """The file of the stages' reports."""
        return f"{self.name}.json"

    @property
    def architecture(self) -> Architecture:
        """The network's."""
        return replace(ARCHITECTURE, form=self.form, dropout=DROPOUT[self.form])


DEFAULT = Variant()


def known_versions() -> list[int]:
    """Return the versions of the simulated brain."""
    return list(VERSIONS)


@dataclass(frozen=True)
class Person:
    """A simulated subject: its name, what it contributes, and where its voxels are.

    Attributes
    ----------
    name : str
    subject : Subject
        Noise-free responses, z-scored, of the voxels of nsdgeneral; noise of one trial.
    roi, kind : str arrays (n_voxels,)
        See `SimulatedBrain.truth`.
    """

    name: str
    subject: Subject
    roi: NDArray[np.str_]
    kind: NDArray[np.str_]


def people(
    work: Path,
    seed: int,
    subjects: Sequence[int],
    scenes: int = SCENES,
    *,
    brain: int = 1,
    shared_tuning: bool = True,
) -> list[Person]:
    """Return the subjects of a world, measured once and kept in `work`."""
    version = "" if brain == 1 else f"-brain-{brain}"
    alone = "" if shared_tuning else "-alone"
    folder = work / f"world-{seed}-{scenes}-{DENSITY:g}{version}{alone}"
    wanted = [number for number in subjects if not (folder / f"{number}-noise.npy").is_file()]
    # Embeddings are those of the network that is there now, not of one before it.
    weights = str(ModelLayer(EMBEDDING_MODEL).identity()["weights"])[:8]
    embedded = folder / f"embeddings-{weights}.npy"
    if wanted or not embedded.is_file():
        settings = {"density": DENSITY, "shared_tuning": shared_tuning}
        _measure(folder, embedded, seed, scenes, wanted, brain, settings)
    embeddings = np.load(embedded, allow_pickle=False)
    found = []
    for number in subjects:
        parts = {
            part: np.load(folder / f"{number}-{part}.npy", allow_pickle=False)
            for part in ("responses", "noise", "roi", "kind")
        }
        subject = Subject(embeddings, parts["responses"], parts["noise"])
        name = simulated_name(seed, number, brain)
        found.append(Person(name, subject, parts["roi"], parts["kind"]))
    return found


def _measure(
    folder: Path,
    embedded: Path,
    seed: int,
    scenes: int,
    subjects: list[int],
    version: int,
    settings: dict[str, Any],
) -> None:
    """Paint a world's scenes, embed them, and ask its subjects."""
    world = SceneWorld(seed)
    images = world.paint(range(scenes))
    write_npy(embedded, unit_norm(extract(EMBEDDING_MODEL, images)))
    population = Population(world, seed, version=version)  # whose version is that of its people
    for number in track(subjects, f"world {seed}"):
        brain = SimulatedBrain(world, number, population=population, **settings)
        inside = np.flatnonzero(brain.units["nsdgeneral"] == 1)
        truth = brain.truth.iloc[inside]
        responses = brain.response(range(scenes), images=lambda ids: images[ids])[:, inside]
        signal = (responses - truth["mean"].to_numpy()) / truth["signal_sd"].to_numpy()
        write_npy(folder / f"{number}-responses.npy", signal.astype(np.float16))
        for part in ("roi", "kind"):
            write_npy(folder / f"{number}-{part}.npy", truth[part].to_numpy().astype(str))
        noise = truth["noise_sd"] / truth["signal_sd"]
        write_npy(folder / f"{number}-noise.npy", noise.to_numpy(dtype=np.float32))


def stages(longer: float = 1.0) -> list[Stage]:
    """Return the stages with so many times their steps."""
    return [
        replace(stage, schedule=replace(stage.schedule, steps=round(longer * stage.schedule.steps)))
        for stage in STAGES
    ]


def fit(
    work: Path, scenes: int = SCENES, longer: float = 1.0, variant: Variant = DEFAULT
) -> tuple[InContextNetwork, Origin, list[Report]]:
    """Train the network in its three stages; an interrupted run goes on where it was."""
    version = {"brain": variant.brain}
    training = [
        person for seed in TRAINING for person in people(work, seed, LEARNED, scenes, **version)
    ]
    validation = people(work, VALIDATION, WATCHED, scenes, **version)
    check_excluded([person.name for person in validation], [person.name for person in training])
    learned = SubjectVoxels({person.name: person.subject for person in training})
    watched = SubjectVoxels({person.name: person.subject for person in validation})
    embeddings = np.concatenate([person.subject.embeddings for person in training[:: len(LEARNED)]])
    torch.manual_seed(FIRST.seed)
    network = InContextNetwork(variant.architecture)
    network.set_space(torch.from_numpy(embeddings))
    synthetic = SyntheticVoxels(embeddings)
    reports = []
    for stage in stages(longer):
        source = learned if stage.name == "subjects" else synthetic
        seen, states = watched.for_validation(), work / "states"
        reports.append(train_stage(network, source, stage, validation=seen, folder=states))
    origin = Origin(
        EMBEDDING_MODEL,
        STAGES[-1].context,
        tuple(person.name for person in training),
        {
            stage.name: {"steps": report.steps, "validation_r": report.scores[-1][1]}
            for stage, report in zip(STAGES, reports, strict=True)
        },
    )
    return network, origin, reports


def make(
    out: Path,
    work: Path,
    scenes: int = SCENES,
    longer: float = 1.0,
    variant: Variant = DEFAULT,
) -> list[Report]:
    """Train the network, write it, and keep the stages' reports in `work`."""
    network, origin, reports = fit(work, scenes, longer, variant)
    save_network(network, origin, out / variant.name, dtype="float16")
    write_json(work / variant.reports, [asdict(report) for report in reports])
    return reports
