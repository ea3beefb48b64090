"""What a run was: enough to run it again, and to tell why numbers differ.

What ran is measured, not assumed: parts say after their work which device and precision it ran in
and how much they took at once, and the manifest collects what they say.
"""

import dataclasses
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import brainkit
from brainkit.arrays.registry import part_packages
from brainkit.data.cards import DatasetCard
from brainkit.data.simulation import names_of
from brainkit.encoding.passes import grid_facts

# Distributions whose code makes numbers or reads what they are made from.
LIBRARIES = (
    "numpy", "scipy", "scikit-learn", "pandas", "h5py", "nibabel", "nilearn", "mne", "pyarrow",
    "pillow", "torch", "torchvision", "timm", "open_clip_torch", "transformers", "tokenizers",
    "diffusers", "safetensors", "rsatoolbox",
)  # fmt: skip
# What a fitted part says of how it ran, and by which name the manifest has it.
TOLD = {
    "device_": "device",
    "dtype_": "dtype",
    "precision_": "precision",
    "batch_size_": "batch_size",
    "primal_": "primal",
    "checkpoint_": "checkpoint",
}


def describe_run(
    *,
    job: str,
    card: DatasetCard,
    root: Path,
    recipe: dict[str, Any],
    options: dict[str, Any],
    subjects: dict[str, Any],
    ran: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the manifest of a run.

    Parameters
    ----------
    subjects : dict
        For each subject what was loaded, how it was z-scored, what was left out, and as ``ran``
        what `what_ran` tells of the parts that were fitted.
    ran : sequence of mappings
        The same of parts that are of no subject.

    Returns
    -------
    dict
        JSON values. ``device`` and ``dtype`` name all in which parts ran, as they say; None where
        no part says. Each part stands under its subject's ``ran``.
    """
    told = [*ran, *(entry for facts in subjects.values() for entry in facts.get("ran", ()))]
    return {
        "brainkit": brainkit.__version__,
        "job": job,
        "command": command_line(),
        "card": card.name,
        "licence": card.licence.name,
        "citation": card.citation,
        "root": str(root),
        "options": options,
        "recipe": recipe,
        "subjects": subjects,
        "ran": list(ran),
        "dtype": _all_of(told, "dtype"),
        "device": _all_of(told, "device"),
        "accelerator": accelerator(told),
        "versions": versions(),
        "platform": platform.platform(),
        "git": git_state(),
    }


def versions() -> dict[str, str | None]:
    """Return the versions of Python, brainkit, all libraries and packages that register parts.

    That of a library which is not there is None.
    """
    installed: dict[str, str | None] = {
        "python": platform.python_version(),
        "brainkit": brainkit.__version__,
    }
    for name in LIBRARIES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = None
    return installed | part_packages()


def what_ran(*parts: Any) -> list[dict[str, Any]]:
    """Return what fitted parts, and all parts within them, say of how they ran.

    Parameters
    ----------
    *parts : estimators, results, or lists and mappings of them
        A part is looked into through its parameters and attributes, a data class through its
        fields.

    Returns
    -------
    list of dict
        ``part``, its class, and of ``device``, ``dtype``, ``precision``, ``batch_size``,
        ``primal`` and ``checkpoint`` (which weights of a training were kept) what it says;
        ``trained_on`` where steps of a training ran (how many on which kind of device). Parts that
        say nothing, as they have no choice, are left out; what several say alike stands there once.
    """
    ran: list[dict[str, Any]] = []
    for part in parts_within(parts):
        for told in _told(part):
            if told not in ran:
                ran.append(told)
    return ran


def _told(part: Any) -> Iterator[dict[str, Any]]:
    name = {"part": type(part).__name__}
    for told in getattr(part, "ran_", ()):
        yield name | told
    facts = {key: getattr(part, source) for source, key in TOLD.items() if hasattr(part, source)}
    devices = getattr(getattr(part, "report_", None), "devices", None)
    if devices:
        facts["trained_on"] = dict(devices)
    if facts:
        yield name | facts


def parts_within(value: Any) -> Iterator[Any]:
    """Give all estimators in a value, such as a result, from the outside in, each once."""
    return _within(value, set())


def _within(value: Any, seen: set[int]) -> Iterator[Any]:
    if id(value) in seen:
        return
    if hasattr(value, "get_params") and not isinstance(value, type):
        seen.add(id(value))
        yield value
        held = {**value.get_params(deep=False), **vars(value)}
        yield from _within([part for name, part in held.items() if name[:1] != "_"], seen)
    elif isinstance(value, Mapping):
        yield from _within(list(value.values()), seen)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _within(item, seen)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        seen.add(id(value))
        yield from _within(
            [getattr(value, field.name) for field in dataclasses.fields(value)], seen
        )


def part_facts(parts: Iterable[Any], recording: Any) -> dict[str, Any]:
    """Return what fitted parts say of their solver, their penalties and whom they learned from.

    Parameters
    ----------
    parts : iterable of estimators, or of containers of them
    recording : Recording
        A network that stood ready says whether it learned from its subject.
    """
    facts: dict[str, Any] = {}
    for part in parts_within(list(parts)):
        if hasattr(part, "describe_network"):
            facts.setdefault("network", part.describe_network(names_of(recording)))
        if hasattr(part, "n_targets_batch") and hasattr(part, "batch_size_"):
            facts.setdefault("n_targets_batch", part.batch_size_)
        if hasattr(part, "primal_"):
            facts.setdefault("solver_side", "primal" if part.primal_ else "dual")
        if grid_facts(part):
            facts.setdefault("penalties", grid_facts(part))
    return facts


def _all_of(told: Iterable[Mapping[str, Any]], key: str) -> str | None:
    """Return what parts say under a name, each once, in one text; None if none says anything."""
    distinct = dict.fromkeys(str(entry[key]) for entry in told if entry.get(key) is not None)
    return ", ".join(distinct) or None


def accelerator(told: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the GPUs that parts ran on, with the version of their library; None without one."""
    named = {str(entry.get("device")) for entry in told}
    used = sorted(name for name in named if name.startswith("cuda"))
    if not used:
        return None
    import torch

    return {
        "devices": {name: torch.cuda.get_device_name(name) for name in used},
        "cuda": torch.version.cuda,
    }


def command_line() -> list[str] | None:
    """Return the command that was given; None where brainkit is used from Python."""
    program = Path(sys.argv[0]).stem if sys.argv else ""
    return ["brainkit", *sys.argv[1:]] if program == "brainkit" else None


def git_state() -> dict[str, Any] | None:
    """Return commit and cleanliness of the checkout that brainkit runs from, or None."""
    folder = Path(brainkit.__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        commit, status = (
            subprocess.run(
                ["git", "-C", str(folder), *arguments],
                capture_output=True, text=True, check=True, timeout=10,
            ).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "clean": not status}
