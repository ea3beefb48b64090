"""Recipes from their names, files or the manifests of earlier runs, with settings changed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from brainkit.arrays.files import named_once, parse_yaml_text, read_text, share_folder
from brainkit.errors import InputError, MissingFileError, listed, unknown_name
from brainkit.features.spec import parse_spec
from brainkit.recipes.schema import ADAPTER, JOBS, SCHEMAS, Recipe

FILES = (".yaml", ".yml", ".json")


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with brainkit."""
    return sorted(path.stem for path in share_folder("models").glob("*.yaml"))


def read_recipe(name: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe by name, from a YAML file, or from the ``manifest.json`` of an earlier run.

    Parameters
    ----------
    name : str or path
        Which.
    changes : sequence of str
        Settings to change, such as ``"protocol.permutations=20"`` or, for the first of several
        feature spaces, ``"features.0.settings.n_components=30"``; values are YAML.

    Raises
    ------
    UnknownNameError, MissingFileError, InputError
        If there is no such recipe, or it is not valid.
    """
    content = _content(name)
    for change in changes:
        _apply(content, change)
    try:
        return ADAPTER.validate_python(content)
    except ValidationError as error:
        raise InputError(f"The recipe {name} is not valid: {_faults(error)}.") from error


def is_file_name(name: str | Path) -> bool:
    """Tell whether a recipe is given as a file rather than by its name."""
    return Path(name).suffix in FILES


def read_content(path: Path) -> dict[str, Any]:
    """Read a recipe's YAML file or a run's ``manifest.json``, as it stands."""
    text = read_text(path, "The recipe file", "mend it", "cannot be read as a recipe")
    try:
        content = (
            json.loads(text, object_pairs_hook=named_once)
            if path.suffix == ".json"
            else parse_yaml_text(text)
        )
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as a recipe: {error}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a recipe: it holds no settings by name.")
    return content


def parse_value(text: str, what: str) -> Any:
    """Read the value of ``name=value`` as YAML."""
    try:
        return parse_yaml_text(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"The value of {what!r} is not valid YAML: {error}.") from error


def _content(name: str | Path) -> dict[str, Any]:
    if is_file_name(name):
        path = Path(name)
        content = read_content(path)
        if path.suffix == ".json" and "recipe" in content:
            content = content["recipe"]
            if not isinstance(content, dict) or "job" not in content:
                raise InputError(
                    f"{path} does not hold one recipe: only the manifests of {listed(JOBS)} do."
                )
        return content
    if str(name) not in recipe_names():
        raise unknown_name("recipe", str(name), recipe_names())
    return read_content(share_folder("models") / f"{name}.yaml")


def check_places(manifest: str | Path, content: Any, place: str = "") -> None:
    """Raise where an earlier run's recipe names a model's folder or file that is not here.

    Parameters
    ----------
    manifest : path
        Where the recipe was read.
    content : dict, list or plain value
        The recipe, or the part of it at `place`.
    place : str
        Dotted, as for ``--set``.

    Raises
    ------
    MissingFileError
        Names the setting that has to be changed.
    """
    if isinstance(content, dict | list):
        for key, part in content.items() if isinstance(content, dict) else enumerate(content):
            if key != "store":  # is made where there is none
                check_places(manifest, part, f"{place}.{key}" if place else str(key))
        return
    path = content if isinstance(content, str) and Path(content).is_absolute() else _place(content)
    if path is not None and not Path(path).exists():
        raise MissingFileError(
            f"{manifest} was made with {path}, which is not on this machine: say where it is here "
            f"with --set {place}={content}."
        )


def _place(content: Any) -> str | None:
    """Return the folder or file of a model's specification, if it names one."""
    try:
        spec = parse_spec(content) if isinstance(content, str) else None
    except InputError:
        return None
    if spec is None:
        return None
    return spec.name if spec.place == "folder" else str(spec.file) if spec.file else None


def _faults(error: ValidationError) -> str:
    """Say which settings are wrong and why, by the names under which they can be set."""
    faults = []
    for fault in error.errors():
        # The first step of a place is which job's schema was held against it.
        place = ".".join(str(step) for step in fault["loc"] if step not in SCHEMAS)
        if fault["type"] == "extra_forbidden":
            faults.append(f"there is no setting {place}")
        else:
            said = fault["msg"].removeprefix("Value error, ")
            faults.append(f"{place}: {said}" if place else said)
    return "; ".join(faults)


def _apply(content: dict[str, Any], change: str) -> None:
    key, equals, value = change.partition("=")
    *path, last = key.strip().split(".")
    place: Any = content
    for step in path:
        place = _inside(place, step)
    if not equals or not last or not (isinstance(place, dict) or _is_item(place, last)):
        raise InputError(
            f"Cannot set {change!r}: write a setting of the recipe as in protocol.permutations=20 "
            "or features.0.settings.n_components=30."
        )
    parsed = parse_value(value, change)
    if isinstance(place, dict):
        place[last] = parsed
    else:
        place[int(last)] = parsed


def _inside(place: Any, step: str) -> Any:
    if isinstance(place, dict):
        # Settings that a recipe leaves out have their defaults; one of them may be set.
        return place.setdefault(step, {}) if step == "settings" else place.get(step)
    return place[int(step)] if _is_item(place, step) else None


def _is_item(place: Any, step: str) -> bool:
    return isinstance(place, list) and step.isdecimal() and int(step) < len(place)
