"""The network of an in-context encoder: opened by name, or trained on other subjects."""

import copy
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from torch import Tensor

from brainkit.arrays.devices import pick_device, pick_precision
from brainkit.arrays.seeds import rng
from brainkit.encoding.in_context.checkpoint import Origin, load_network, save_network
from brainkit.encoding.in_context.module import Architecture, Form, HyperWeights, InContextNetwork
from brainkit.encoding.in_context.tasks import (
    Scale,
    SubjectVoxels,
    SyntheticVoxels,
    Tasks,
    TaskSource,
)
from brainkit.errors import InputError, listed
from brainkit.evaluation import pearson_r
from brainkit.training import Report, Schedule, Step
from brainkit.training.set_networks import (
    Subject,
    check_embeddings,
    check_excluded,
    train_on_sets,
    unit_norm,
)

# -- the three stages of training: synthetic voxels, longer contexts, subjects' voxels -------------
#
# All three ask for the same thing, the responses to query images, and differ in where voxels come
# from and how many support images they have (Yu et al. 2025).


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

    return train_on_sets(
        network, loss, stage, source, validation, validate, kind="in-context", folder=folder
    )


# -- the network, opened by name or trained --------------------------------------------------------


Float = NDArray[np.float32]


class TrainableNetwork(BaseEstimator):
    """What `InContextEncoder` has of a network; see there for the parameters."""

    def __init__(  # noqa: PLR0913 - scikit-learn: one argument for each parameter
        self,
        checkpoint: str | None = "tiny",
        width: int = 560,
        layers: int = 20,
        heads: int = 10,
        hidden: int = 2048,
        registers: int = 4,
        seed: int = 0,
        device: str = "auto",
        precision: str = "auto",
        *,
        form: Form = "product",
        dropout: float = 0.0,
    ) -> None:
        self.checkpoint = checkpoint
        self.width = width
        self.layers = layers
        self.heads = heads
        self.hidden = hidden
        self.registers = registers
        self.seed = seed
        self.device = device
        self.precision = precision
        self.form = form
        self.dropout = dropout

    @classmethod
    def from_pretrained(cls, name: str | Path, *, device: str = "auto") -> Self:
        """Return an encoder with the network of a checkpoint.

        Parameters
        ----------
        name : str or path
            ``"tiny"``, or a folder that `save_pretrained` wrote.
        device : str, default="auto"

        Raises
        ------
        MissingFileError, CorruptFileError
            If there is none, or it is damaged or of another format.
        """
        encoder = cls(str(name), device=device)
        encoder.open()
        return encoder

    def save_pretrained(
        self, folder: str | Path, *, dtype: Literal["float32", "float16"] = "float32"
    ) -> Path:
        """Write the network to a folder that `from_pretrained` reads; the support set is left out.

        Parameters
        ----------
        folder : path
        dtype : {"float32", "float16"}, default="float32"
            What the weights are kept as.
        """
        network, origin = self.open()
        return save_network(network, origin, folder, dtype=dtype)

    @property
    def origin(self) -> Origin:
        """What the network learned from."""
        return self.open()[1]

    def open(self) -> tuple[InContextNetwork, Origin]:
        """Return the network and what it learned from; it is loaded once.

        Raises
        ------
        InputError
            If there is no checkpoint and nothing was trained.
        """
        if not self._is_open():
            if self.checkpoint is None:
                raise InputError(
                    "This encoder has no network yet: train one with pretrain and fit_subjects, or "
                    "name a checkpoint, such as 'tiny'. A network that was trained is kept by "
                    "save_pretrained alone."
                )
            network, origin = load_network(self.checkpoint)
            self._take(network.to(pick_device(self.device)), origin)
        return self._network, self._origin

    def _is_open(self) -> bool:
        """Tell whether there is a network, and of the checkpoint that is named now."""
        return hasattr(self, "_network") and self._opened == self.checkpoint

    def _take(self, network: InContextNetwork, origin: Origin) -> None:
        """Use a network from now on, for as long as no other checkpoint is named."""
        self._network, self._origin, self._opened = network, origin, self.checkpoint

    def pretrain(
        self,
        X: ArrayLike,
        *,
        steps: int | None = None,
        stages: Sequence[Stage] | None = None,
        embedding_model: str | None = None,
        folder: str | Path | None = None,
    ) -> Self:
        """Train a new network on synthetic voxels: the first two stages.

        Parameters
        ----------
        X : array (n_images, n_features)
            Embeddings of images, as many as there are; no responses are needed.
        steps : int, optional
            Of each stage, with contexts cut to what the images allow, for a quick trial.
        stages : sequence of Stage, optional
            Instead of the first two of `published_stages`.
        embedding_model : str, optional
            Spec of the model whose embeddings these are; kept with the network.
        folder : path, optional
            Where checkpoints are kept; an interrupted training goes on from there.

        Returns
        -------
        self
        """
        embeddings = unit_norm(X)
        self._take(self._new(embeddings), Origin(embedding_model))
        source = SyntheticVoxels(embeddings)
        chosen = published_stages()[:2] if stages is None else stages
        for stage in _shortened(chosen, steps, source.longest):
            self._train(stage, source, None, folder)
        return self

    def fit_subjects(
        self,
        X: Mapping[str, ArrayLike],
        Y: Mapping[str, ArrayLike],
        *,
        held_out: Iterable[str] = (),
        steps: int | None = None,
        stage: Stage | None = None,
        validation: float = 0.1,
        embedding_model: str | None = None,
        folder: str | Path | None = None,
    ) -> Self:
        """Train the network on subjects' voxels: the third stage.

        Parameters
        ----------
        X : mapping of str to array (n_images, n_features)
            Embeddings of the images that each subject saw.
        Y : mapping of str to array (n_images, n_voxels)
            Their responses; subjects differ in voxels.
        held_out : iterable of str
            Subjects that will be predicted as new.
        steps : int, optional
            Of the stage, with contexts cut to what the images allow, for a quick trial.
        stage : Stage, optional
            Instead of the third of `published_stages`.
        validation : float, default=0.1
            Share of each subject's images that is put aside, to watch the training and to stop it
            by where the stage's schedule has a patience.
        embedding_model : str, optional
            Spec of the model whose embeddings these are; refused if the network reads another's.
        folder : path, optional
            Where checkpoints are kept; an interrupted training goes on from there.

        Returns
        -------
        self

        Raises
        ------
        LeakError
            If a held-out subject is among those to learn from, or among those that the network
            learned from before.
        InputError
            If subjects or embeddings do not fit each other.
        """
        if set(X) != set(Y):
            raise InputError(
                f"X and Y must be of the same subjects; got {listed(sorted(X))} and "
                f"{listed(sorted(Y))}."
            )
        excluded = list(held_out)
        check_excluded(excluded, X)
        subjects = {
            name: Subject(unit_norm(X[name]), np.asarray(Y[name], dtype=np.float32)) for name in X
        }
        source = SubjectVoxels(subjects, validation, seed=self.seed)
        if self.checkpoint is None and not self._is_open():
            embeddings = np.concatenate([subject.embeddings for subject in subjects.values()])
            self._take(self._new(embeddings), Origin(embedding_model))
        network, origin = self.open()
        check_excluded(excluded, origin.subjects)
        for subject in subjects.values():
            check_embeddings(network, origin, subject.embeddings, embedding_model)
        # A copy: clones of this encoder, and what they predict, keep the network they have.
        self._network = copy.deepcopy(network).requires_grad_(True)
        (chosen,) = _shortened([stage or published_stages()[2]], steps, source.longest)
        self._train(chosen, source, source.for_validation(), folder)
        self._origin = dataclasses.replace(
            self._origin, subjects=tuple(sorted({*origin.subjects, *subjects}))
        )
        return self

    def _new(self, embeddings: Float) -> InContextNetwork:
        """Build a network with fresh weights for embeddings."""
        names = ("width", "layers", "heads", "hidden", "registers", "form", "dropout")
        architecture = Architecture(
            embeddings.shape[1], **{name: getattr(self, name) for name in names}
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = InContextNetwork(architecture)
        network.set_space(torch.from_numpy(embeddings))
        return network.to(pick_device(self.device)).eval()

    def _train(
        self,
        stage: Stage,
        source: SyntheticVoxels | SubjectVoxels,
        validation: SubjectVoxels | None,
        folder: str | Path | None,
    ) -> None:
        precision = pick_precision(self.precision, self._network.centre.device)
        schedule = dataclasses.replace(stage.schedule, precision=precision)
        report = train_stage(
            self._network,
            source,
            dataclasses.replace(stage, schedule=schedule),
            validation=validation,
            folder=None if folder is None else Path(folder),
        )
        done = {"steps": report.steps, "seconds": report.seconds, "scores": report.scores[-1:]}
        self._origin = dataclasses.replace(
            self._origin,
            context=stage.context,
            training={**self._origin.training, stage.name: done},
        )

    def __sklearn_clone__(self) -> Self:
        twin = type(self)(**self.get_params())
        if self._is_open():
            twin._take(self._network, self._origin)
        return twin


def _shortened(stages: Sequence[Stage], steps: int | None, longest: int) -> list[Stage]:
    """Return the stages, or short ones for a trial, within what the images allow."""
    if steps is None:
        return list(stages)
    return [
        dataclasses.replace(
            stage,
            schedule=dataclasses.replace(
                stage.schedule, steps=steps, warmup=min(stage.schedule.warmup, steps // 10)
            ),
            context=(min(stage.context[0], longest), min(stage.context[1], longest)),
        )
        for stage in stages
    ]
