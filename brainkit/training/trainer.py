"""Train a torch module: one loop for every deep part, its schedule, and what a run did.

What a step sees depends on the seed and the step's number alone, so that a run that was stopped
and taken up again ends with the same weights, bit for bit, as one that never stopped. Which run it
is, is told by all that its weights depend on: each has a sub-folder of its own, named by a hash of
that, so that runs that share a folder, such as those of several folds or of a null beside the true
model, never take up each other's state.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from brainkit.arrays.atomic import atomic_path, under_umask
from brainkit.arrays.digest import content_digest
from brainkit.arrays.files import is_file, reading, require_file
from brainkit.arrays.progress import track
from brainkit.arrays.seeds import rng
from brainkit.errors import CorruptFileError, InputError, listed, unknown_name

CHECKPOINT, FORMAT = "checkpoint.safetensors", 2
DIGITS = 16  # of a run's digest, in the name of its folder


@dataclass(frozen=True)
class Schedule:
    """How a module is trained.

    Parameters
    ----------
    steps : int
        Optimiser steps.
    learning_rate : float, default=1e-3
        Reached after `warmup` steps, then falling to `final` of it along a cosine.
    final : float, default=0.02
    warmup : int, default=100
    weight_decay : float, default=0.05
        Decay of matrices and kernels; vectors (biases, gains) do not decay.
    betas : (float, float), default=(0.9, 0.98)
        Decay rates of AdamW's moments (Loshchilov and Hutter 2019).
    clip : float, default=1.0
        Largest norm of the gradient.
    average : float, optional
        Decay of a running average of the weights, which the trained module is left with.
    precision : {"float32", "bfloat16"}
        Precision of matrix products; weights and optimiser stay in float32.
    seed : int, default=0
    checkpoint_every, validate_every : int
        Numbers of steps between checkpoints, and between validations.
    patience : int, optional
        Validations without a better score before training stops.
    """

    steps: int
    learning_rate: float = 1e-3
    final: float = 0.02
    warmup: int = 100
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    average: float | None = None
    precision: str = "float32"
    seed: int = 0
    checkpoint_every: int = 200
    validate_every: int = 200
    patience: int | None = None

    def __post_init__(self) -> None:
        if self.steps < 1 or self.checkpoint_every < 1 or self.validate_every < 1:
            raise InputError("steps, checkpoint_every and validate_every are 1 or more.")
        if self.precision not in ("float32", "bfloat16"):
            raise InputError(f"precision is 'float32' or 'bfloat16'; got {self.precision!r}.")

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(self.steps - self.warmup, 1)
        cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        return self.learning_rate * (self.final + (1 - self.final) * cosine)


@dataclass(frozen=True)
class Step:
    """What a step may draw its batch and its noise from.

    Attributes
    ----------
    number : int
        Counted from 0.
    seed : int
        The schedule's.
    generator : torch.Generator
        On the CPU, for this step alone.
    """

    number: int
    seed: int
    generator: torch.Generator

    def rng(self, *keys: str | int) -> Any:
        """Return a numpy generator for one purpose of this step."""
        return rng(self.seed, "step", self.number, *keys)


@dataclass
class Report:
    """What a training run did.

    Attributes
    ----------
    trained, frozen : dict of str to int
        Parameters by the first part of their name.
    steps : int
        Steps done.
    losses : list of (int, float)
        Mean loss since the entry before.
    scores : list of (int, float)
        Validation scores, higher is better.
    best_step : int or None
        Step of the best validation score, whose weights the module has where `patience` is set.
    seconds : float
        Time spent, over all runs that led here.
    devices : dict of str to int
        Number of steps that ran on which kind of device, over all runs that led here.
    """

    trained: dict[str, int]
    frozen: dict[str, int]
    steps: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)
    best_step: int | None = None
    seconds: float = 0.0
    devices: dict[str, int] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the report that `dataclasses.asdict` was given, also after a trip through JSON."""
        pairs = {key: [tuple(entry) for entry in values[key]] for key in ("losses", "scores")}
        return cls(**{**values, **pairs})

    def state(self) -> str:
        """Say the last loss and score, in a few words."""
        states = [f"loss {self.losses[-1][1]:.4g}"] if self.losses else []
        states += [f"score {self.scores[-1][1]:.4g}"] if self.scores else []
        return ", ".join(states)


def train(
    module: nn.Module,
    loss: Callable[[nn.Module, Step], Tensor],
    schedule: Schedule,
    *,
    folder: str | Path | None = None,
    validate: Callable[[nn.Module], float] | None = None,
    description: str = "training",
    parts: Sequence[str] = (),
    identity: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Report:
    """Train a module in place.

    Parameters
    ----------
    module : Module
        Module whose parameters that require a gradient are trained; a part in which none does is
        kept in evaluation mode, so that its running statistics do not drift.
    loss : callable
        Function from the module and the `Step` to a scalar; it draws all that is random from the
        step.
    schedule : Schedule
    folder : path, optional
        Folder in which states are kept, each run's in a sub-folder that its identity names
        (`run_folder`). An interrupted run goes on from there; a run that differs in anything begins
        anew beside it.
    validate : callable, optional
        Score of the module in evaluation mode, higher is better.
    description : str
        Text of the progress bar.
    parts : sequence of str
        Names of parts of the module (or of parameters) all of which have to be trained.
    identity : mapping, optional
        All that the weights depend on beside the schedule, the module's structure and its frozen
        parameters: the data in their order, the first weights or what they are made from, the
        settings of the loss. JSON values; `brainkit.arrays.digest.content_digest` makes one of
        whatever is large. Needed with `folder`.
    progress : bool, default=True
        Show loss and score while it takes longer than two seconds.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        If nothing is to be trained, one of `parts` is missing or frozen, a parameter gets no
        gradient, the loss is not finite, or there is a folder without an identity.
    CorruptFileError
        If the run's state is damaged, of another format, or was put there from another run.
    """
    check_parts(module, parts)
    if folder is not None and not identity:
        raise InputError(
            f"The state of this training is to be kept in {folder}, where it may be taken up "
            "again: say by `identity` what the weights depend on (the data, in their order, by "
            "brainkit.arrays.digest.content_digest), or another run would be taken for this one."
        )
    run = _Run(module, schedule, None if folder is None else Path(folder), identity or {})
    run.resume()
    started, before = time.monotonic(), run.report.seconds
    first = run.report.steps
    total, counted = 0.0, 0
    steps = range(first, schedule.steps)
    shown = track(steps, description, state=run.report.state) if progress else steps
    for number in shown:
        if run.stopped:
            break
        total += run.step(loss, number, check=number == first)
        counted += 1
        done = number + 1
        last = done == schedule.steps
        if validate is not None and (done % schedule.validate_every == 0 or last):
            run.judge(validate, done)
        if done % schedule.checkpoint_every == 0 or last or run.stopped:
            run.report.losses.append((done, total / counted))
            total, counted = 0.0, 0
            run.report.seconds = before + time.monotonic() - started
            run.save()
    run.finish()
    return run.report


def run_folder(
    folder: str | Path, module: nn.Module, schedule: Schedule, identity: Mapping[str, Any]
) -> Path:
    """Return the sub-folder of one run: that of no other data, settings, module or schedule.

    Parameters
    ----------
    folder : path
    module : Module
        The module that is given to `train`: counted are the names and shapes of its parameters and
        buffers, which of them are trained, and the values of those parameters that are not.
    schedule : Schedule
    identity : mapping
        See `train`.
    """
    trained = {name: p.requires_grad for name, p in module.named_parameters()}
    structure = [
        [name, list(value.shape), trained.get(name)] for name, value in module.state_dict().items()
    ]
    frozen = {name: p for name, p in module.named_parameters() if not p.requires_grad}
    digest = content_digest(asdict(schedule), _as_json(identity), structure, frozen)
    return Path(folder) / f"run-{digest[:DIGITS]}"


def _as_json(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return an identity as it comes back from a file, whatever the order it was given in."""
    return dict(json.loads(json.dumps(dict(identity), sort_keys=True)))


class _Run:
    """The state of one training run."""

    def __init__(
        self,
        module: nn.Module,
        schedule: Schedule,
        folder: Path | None,
        identity: Mapping[str, Any],
    ) -> None:
        self.module, self.schedule = module, schedule
        self.identity = _as_json(identity)
        self.folder = None if folder is None else run_folder(folder, module, schedule, identity)
        self.trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
        if not self.trained:
            raise InputError("No parameter of the module requires a gradient: nothing to train.")
        # Running statistics belong to the weights that they were taken with.
        self.values = {**self.trained, **dict(module.named_buffers())}
        frozen = {n: p for n, p in module.named_parameters() if not p.requires_grad}
        self.report = Report(_count(self.trained), _count(frozen))
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.trained.values() if p.ndim > 1]},
            {"params": [p for p in self.trained.values() if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(
            groups,
            lr=schedule.learning_rate,
            betas=schedule.betas,
            weight_decay=schedule.weight_decay,
            fused=True,  # one pass over a parameter's memory instead of a dozen
        )
        averaged = schedule.average is not None
        self.average = {n: p.detach().clone() for n, p in self.trained.items()} if averaged else {}
        self.best: dict[str, Tensor] = {}

    @property
    def stopped(self) -> bool:
        """Tell whether validation has waited long enough for a better score."""
        report, patience = self.report, self.schedule.patience
        if patience is None:
            return False
        waited = [step for step, _ in report.scores if step > (report.best_step or 0)]
        return len(waited) >= patience

    def step(self, loss: Callable[[nn.Module, Step], Tensor], number: int, *, check: bool) -> float:
        schedule = self.schedule
        set_training(self.module)
        seed = int(rng(schedule.seed, "torch", number).integers(2**62))
        drawn = Step(number, schedule.seed, torch.Generator().manual_seed(seed))
        for group in self.optimiser.param_groups:
            group["lr"] = schedule.rate(number)
        self.optimiser.zero_grad(set_to_none=True)
        device = next(iter(self.trained.values())).device
        with (
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            torch.autocast(device.type, torch.bfloat16, enabled=schedule.precision == "bfloat16"),
        ):
            torch.manual_seed(seed)  # for dropout, which takes no generator
            value = loss(self.module, drawn)
        value.backward()
        if check:
            self._check_gradients()
        if not torch.isfinite(value):
            raise InputError(
                f"The loss is {value.item()} at step {number}. Lower the learning rate "
                f"({schedule.learning_rate:g}) or warm up longer ({schedule.warmup} steps)."
            )
        nn.utils.clip_grad_norm_(list(self.trained.values()), schedule.clip)
        self.optimiser.step()
        if schedule.average is not None:
            # A young average must not remember the first weights for long.
            decay = min(schedule.average, (1 + number) / (10 + number))
            with torch.no_grad():
                for name, parameter in self.trained.items():
                    self.average[name].lerp_(parameter, 1 - decay)
        self.report.steps = number + 1
        self.report.devices[device.type] = self.report.devices.get(device.type, 0) + 1
        return value.item()

    def _check_gradients(self) -> None:
        without = [name for name, parameter in self.trained.items() if parameter.grad is None]
        if without:
            raise InputError(
                f"{len(without)} parameters are to be trained but the loss does not depend on "
                f"them, such as {without[0]}. Freeze them (requires_grad_(False)) or use them."
            )

    def judge(self, validate: Callable[[nn.Module], float], done: int) -> None:
        kept = self._swap_in(self.average) if self.average else {}
        self.module.eval()
        with torch.no_grad():
            score = float(validate(self.module))
        best = max((s for _, s in self.report.scores), default=-math.inf)
        self.report.scores.append((done, score))
        if self.schedule.patience is not None and score > best:
            self.report.best_step = done
            self.best = {n: v.detach().clone() for n, v in self.values.items()}
        self._swap_in(kept)

    def _swap_in(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Give the module other weights and return those it had."""
        kept = {name: self.values[name].detach().clone() for name in values}
        with torch.no_grad():
            for name, value in values.items():
                self.values[name].copy_(value)
        return kept

    def finish(self) -> None:
        self._swap_in(self.best or self.average)
        self.module.eval()

    def save(self) -> None:
        """Keep everything that the next step depends on, in one file that is there or not."""
        if self.folder is None:
            return
        tensors = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        for prefix, group in (("average", self.average), ("best", self.best)):
            tensors |= {f"{prefix}.{name}": value for name, value in group.items()}
        for name, parameter in self.trained.items():
            for key, value in self.optimiser.state[parameter].items():
                tensors[f"optimiser.{name}.{key}"] = torch.as_tensor(value)
        header = {
            "format": FORMAT,
            "schedule": asdict(self.schedule),
            "report": asdict(self.report),
            "identity": self.identity,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        on_cpu = {
            name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()
        }
        with atomic_path(self.folder / CHECKPOINT) as path:
            save_file(on_cpu, path, metadata={"brainkit": json.dumps(header)})
            under_umask(path)

    def resume(self) -> None:
        path = self.folder / CHECKPOINT if self.folder else None
        if path is None or not is_file(path):
            return
        header = read_header(path)
        mine = json.loads(json.dumps(asdict(self.schedule)))
        if header.get("format") != FORMAT:
            raise CorruptFileError(
                f"{path} is a checkpoint of format {header.get('format')}; this brainkit reads "
                f"{FORMAT}. Give another folder, or delete it to begin again."
            )
        if header.get("schedule") != mine or header.get("identity", {}) != self.identity:
            raise CorruptFileError(
                f"{path} lies where the state of another run belongs: it differs from this one "
                f"in {self._difference(header)}. Delete it to begin again."
            )
        tensors = load_file(path)
        self.module.load_state_dict(_under(tensors, "module."), strict=True)
        for prefix, group in (("average.", self.average), ("best.", self.best)):
            for name, value in _under(tensors, prefix).items():
                group[name] = value.to(self.values[name].device)
        state = _under(tensors, "optimiser.")
        for name, parameter in self.trained.items():
            moments = {key: state[f"{name}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
            self.optimiser.state[parameter] = {
                key: value if key == "step" else value.to(parameter.device)
                for key, value in moments.items()
            }
        self.report = Report.from_dict(header["report"])

    def _difference(self, header: dict[str, Any]) -> str:
        """Name what a checkpoint's settings differ in."""
        mine = {**asdict(self.schedule), **self.identity}
        theirs = {**header.get("schedule", {}), **header.get("identity", {})}
        mine = json.loads(json.dumps(mine))
        return listed(key for key in {**theirs, **mine} if mine.get(key) != theirs.get(key))


def check_parts(module: nn.Module, parts: Sequence[str]) -> None:
    """Raise unless the module has all these parts and trains every parameter of them.

    Raises
    ------
    UnknownNameError
        If a part is not registered with the module, as when it is kept in a plain list.
    InputError
        If a part has no parameters, or one that requires no gradient.
    """
    parameters = dict(module.named_parameters())
    for part in parts:
        of_part = {n: p for n, p in parameters.items() if n == part or n.startswith(f"{part}.")}
        if not of_part:
            known = [*(n for n, _ in module.named_modules() if n), *parameters]
            if part not in known:
                raise unknown_name("part to be trained", part, known)
            raise InputError(f"The part {part} is to be trained but has no parameters.")
        frozen = [name for name, parameter in of_part.items() if not parameter.requires_grad]
        if frozen:
            raise InputError(
                f"The part {part} is to be trained, but {len(frozen)} of its parameters require "
                f"no gradient: {listed(frozen, 5)}. Call requires_grad_(True) on it, or do not "
                "name it."
            )


def set_training(module: nn.Module) -> None:
    """Put what is trained into training mode, and parts without a trained parameter into eval."""
    module.train()
    for part in module.modules():
        parameters = list(part.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            part.eval()


def read_header(path: str | Path) -> dict[str, Any]:
    """Return what a checkpoint says of itself: its format, schedule and report.

    Raises
    ------
    CorruptFileError
        If it is no checkpoint of this trainer.
    """
    from safetensors import SafetensorError, safe_open

    with (
        reading(
            path,
            "is not a whole checkpoint",
            mend="delete it to begin again",
            also=[SafetensorError, KeyError],
        ),
        safe_open(require_file(path, "A checkpoint"), framework="pt") as opened,
    ):
        header = json.loads((opened.metadata() or {})["brainkit"])
    return dict(header)


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: v for name, v in tensors.items() if name.startswith(prefix)}


def _count(parameters: dict[str, nn.Parameter]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, parameter in parameters.items():
        top = name.split(".")[0]
        counts[top] = counts.get(top, 0) + parameter.numel()
    return counts
