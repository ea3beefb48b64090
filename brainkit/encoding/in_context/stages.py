"""The three stages of training: synthetic voxels, longer contexts, subjects' voxels.

All three ask for the same thing, the responses to query images, and differ in where voxels come
from and how many support images they have (Yu et al. 2025).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from brainkit.arrays.digest import content_digest
from brainkit.arrays.seeds import rng
from brainkit.encoding.in_context.module import HyperWeights, InContextNetwork
from brainkit.encoding.in_context.tasks import Scale, Tasks, TaskSource
from brainkit.errors import InputError
from brainkit.evaluation import pearson_r
from brainkit.training import Report, Schedule, Step, train

VALIDATION_DRAWS = 4


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Parameters
    ----------
    name : str
        Also that of its folder.
    schedule : Schedule
    context : (int, int)
        Fewest and most support images; uniform between them.
    n_voxels : int, default=32
        Voxels of one draw; they share their images.
    n_draws : int, default=2
        Draws in a step.
    n_query : int, default=100
        Query images of a draw, at most.
    """

    name: str
    schedule: Schedule
    context: tuple[int, int]
    n_voxels: int = 32
    n_draws: int = 2
    n_query: int = 100

    def __post_init__(self) -> None:
        low, high = self.context
        if not 2 <= low <= high:
            raise InputError(
                f"Stage {self.name!r}: a context has at least 2 images and the fewest come first; "
                f"got {self.context}."
            )


def published_stages(steps: Sequence[int] = (60_000, 30_000, 60_000)) -> tuple[Stage, ...]:
    """Return the three stages with the published contexts and learning rates.

    Parameters
    ----------
    steps : three ints
        Of the stages; batches of 80 voxels. The paper trains for 100 epochs.
    """
    first = Schedule(steps=steps[0], learning_rate=1e-3, final=0.01, warmup=1000, weight_decay=0.1)
    later = replace(first, learning_rate=1e-4, final=0.1)
    return (
        Stage("synthetic", first, (500, 500), n_voxels=40),
        Stage("context", replace(later, steps=steps[1]), (30, 500), n_voxels=40),
        Stage("subjects", replace(later, steps=steps[2]), (30, 500), n_voxels=40),
    )


def forward(network: InContextNetwork, tasks: Tasks) -> tuple[HyperWeights, Scale]:
    """Read tasks, with gradients; give the hyper-weights and the scale of the responses."""
    device = network.centre.device
    scale = Scale.of(tasks.responses)
    responses = torch.from_numpy(scale.apply(tasks.responses)).to(device)
    images = network.encode_images(torch.from_numpy(tasks.support).to(device))
    return network(images, responses), scale


def task_loss(network: InContextNetwork, tasks: Tasks) -> Tensor:
    """Return the mean squared error of query responses, z-scored with the support's statistics."""
    written, scale = forward(network, tasks)
    device = network.centre.device
    asked = torch.from_numpy(tasks.query).to(device)
    answers = torch.from_numpy(scale.apply(tasks.answers)).to(device)
    with torch.autocast(device.type, enabled=False):  # small differences of large products
        predicted = asked @ written.coef.T + written.intercept
        return torch.mean((predicted - answers).square())


def validation_score(
    network: InContextNetwork, source: TaskSource, stage: Stage, n_voxels: int = 200
) -> float:
    """Return the mean Pearson r over voxels of fixed tasks, at the middle of the stage's contexts.

    Parameters
    ----------
    network : InContextNetwork
    source : TaskSource
        Of tasks that training does not draw.
    stage : Stage
    n_voxels : int, default=200
        In each of four draws.
    """
    middle = min(sum(stage.context) // 2, source.longest)
    scores = []
    for draw in range(VALIDATION_DRAWS):
        generator = rng(stage.schedule.seed, "validation", draw)
        tasks = source.draw(generator, middle, stage.n_query, n_voxels)
        written, _ = forward(network, tasks)
        predicted = tasks.query @ written.coef.cpu().numpy().T
        scores.append(np.asarray(pearson_r(tasks.answers, predicted)))
    return float(np.nanmean(np.concatenate(scores)))


def train_stage(
    network: InContextNetwork,
    source: TaskSource,
    stage: Stage,
    *,
    validation: TaskSource | None = None,
    folder: Path | None = None,
) -> Report:
    """Train the network in place, for one stage.

    Parameters
    ----------
    network : InContextNetwork
        With its space set (`set_space`).
    source : TaskSource
    stage : Stage
    validation : TaskSource, optional
        Tasks to watch, and to stop by where the schedule has a patience.
    folder : path, optional
        Where states are kept, in a sub-folder of the stage's name and, in that, one for each
        training: told apart by the network's first weights, the content of the sources and the
        stage. A training that was interrupted goes on from there; another begins anew.

    Raises
    ------
    InputError
        If the source has too few images for the contexts, or states are to be kept of a training on
        a source whose content cannot be told (see `brainkit.arrays.digest.content_digest`).
    """
    watched = source if validation is None else validation
    low, high = stage.context
    if source.longest < high:
        raise InputError(
            f"Stage {stage.name!r} has up to {high} support images and one to ask for, but there "
            f"are images for {source.longest} at most. Give more images or a shorter context."
        )

    def loss(_: torch.nn.Module, step: Step) -> Tensor:
        total = torch.zeros((), device=network.centre.device)
        for draw in range(stage.n_draws):
            generator = step.rng("tasks", draw)
            n_support = int(generator.integers(low, high + 1))
            tasks = source.draw(generator, n_support, stage.n_query, stage.n_voxels)
            total = total + task_loss(network, tasks) / stage.n_draws
        return total

    def validate(_: torch.nn.Module) -> float:
        return validation_score(network, watched, stage)

    identity = None
    if folder is not None:
        settings = {k: v for k, v in asdict(stage).items() if k != "schedule"}
        identity = {
            "stage": settings,
            "first_weights": content_digest(network.state_dict()),
            "source": content_digest(source),
            "validation": content_digest(validation),
        }
    return train(
        network,
        loss,
        stage.schedule,
        folder=None if folder is None else folder / stage.name,
        identity=identity,
        validate=None if validation is None else validate,
        description=f"in-context, {stage.name}",
    )
