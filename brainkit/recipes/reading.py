"""Recipes from their names, files or the manifests of earlier runs, with settings changed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from brainkit.arrays.files import named_once, parse_yaml_text, read_text
from brainkit.arrays.registry import FileRegistry
from brainkit.data.cards import DatasetCard
from brainkit.errors import InputError, MissingFileError, unknown_name
from brainkit.features.spec import parse_spec

FILES = (".yaml", ".yml", ".json")
OPEN = ("settings", "subjects", "alignment")  # parts of a recipe that may be left out
RECIPES = FileRegistry("recipe", "recipe", "models")


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with brainkit, and with installed packages."""
    return sorted(RECIPES)


def recipe_content(name: str | Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """Read a recipe's settings, as they stand, by name, from a file or from a run's manifest.

    Parameters
    ----------
    name : str or path
        A recipe of brainkit or of an installed package, a YAML file, or the ``manifest.json`` of
        an earlier run. ``NAME@PROFILE`` changes what the recipe's ``profiles`` have under that
        name, settings and their values, as in ``mindeye2@published``.
    changes : sequence of str
        Settings to change, such as ``"protocol.permutations=20"`` or, for the first of several
        feature spaces, ``"features.0.settings.n_components=30"``; values are YAML.

    Raises
    ------
    UnknownNameError, MissingFileError, InputError
        If there is no such recipe, it cannot be read, or a change names no setting.
    """
    place, _, profile = str(name).rpartition("@") if "@" in Path(name).name else (str(name), "", "")
    if is_file_name(place):
        content = read_content(Path(place))
        if Path(place).suffix == ".json" and "recipe" in content:
            content = content["recipe"]
            if not isinstance(content, dict) or "job" not in content:
                raise InputError(
                    f"{place} does not hold one recipe, as the manifest of a run of one job does."
                )
    else:
        content = read_content(RECIPES[place])
    profiles = content.pop("profiles", None) or {}
    if profile:
        _take_profile(content, profiles, place, profile)
    for change in changes:
        _apply(content, change)
    return content


def recipe_profiles(name: str) -> list[str]:
    """Return the names of a recipe's profiles, such as its published size."""
    return list(read_content(RECIPES[name]).get("profiles") or {})


def _take_profile(
    content: dict[str, Any], profiles: Mapping[str, Any], recipe: str, profile: str
) -> None:
    """Change the settings that a profile names, in place."""
    if profile not in profiles:
        raise unknown_name(f"profile of the recipe {recipe}", profile, list(profiles))
    for setting, value in dict(profiles[profile]).items():
        _apply(content, f"{setting}={json.dumps(value)}")


def checked_recipe(schema: type[BaseModel], name: str | Path, content: Mapping[str, Any]) -> Any:
    """Return settings as a schema has them; the error names each wrong setting and why."""
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            place = ".".join(str(step) for step in fault["loc"])
            if fault["type"] == "extra_forbidden":
                faults.append(f"there is no setting {place}")
            else:
                reason = fault["msg"].removeprefix("Value error, ")
                faults.append(f"{place}: {reason}" if place else reason)
        raise InputError(f"The recipe {name} is not valid: {'; '.join(faults)}.") from error


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


def earlier_run(
    card: DatasetCard,
    recipe_name: str | Path | None,
    *,
    root: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the manifest that a run on this dataset shall repeat; nothing if there is none.

    Parameters
    ----------
    card : DatasetCard
    recipe_name : str, optional
        Where it ends in ``.json``, the manifest of an earlier run.
    root : path, optional
    options : mapping, optional
        What is given beside the manifest, and taken in place of what it says.

    Raises
    ------
    MissingFileError
        If the manifest names a folder of the dataset, or a file among the reader's options, that
        is not on this machine, and nothing is given in its place.
    """
    if recipe_name is None or Path(recipe_name).suffix != ".json":
        return {}
    content = read_content(Path(recipe_name))
    if content.get("card") != card.name:
        return {}  # the recipe alone is taken to another dataset
    kinds = {"options": dict, "subjects": dict, "root": str}
    kept = {name: content[name] for name, kind in kinds.items() if type(content.get(name)) is kind}
    if root is None and "root" in kept and not Path(kept["root"]).is_dir():
        raise MissingFileError(
            f"{recipe_name} was made from {kept['root']}, which is not on this machine: give the "
            f"folder of {card.name} with --root (root=)."
        )
    for name, value in kept.get("options", {}).items():
        foreign = isinstance(value, str) and Path(value).is_absolute() and not Path(value).exists()
        if foreign and name not in (options or {}):
            raise MissingFileError(
                f"{recipe_name} was made with {name}={value}, which is not on this machine: give "
                f"another with --option {name}=PATH (options={{{name!r}: PATH}})."
            )
    return kept


def checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a reader so that a rerun from any folder reads the same."""
    for name in ("card", "root", "subject"):
        if name in options:
            raise InputError(
                f"{name!r} is not an option of a reader; give it as an argument of its own."
            )
    return {name: _absolute(value) for name, value in options.items()}


def _absolute(value: Any) -> Any:
    """Return a file's name so that a rerun finds it from any folder; all else as it is."""
    is_file = isinstance(value, str) and Path(value).suffix and Path(value).is_file()
    return str(Path(value).resolve()) if is_file else value


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
        return place.setdefault(step, {}) if step in OPEN else place.get(step)
    return place[int(step)] if _is_item(place, step) else None


def _is_item(place: Any, step: str) -> bool:
    return isinstance(place, list) and step.isdecimal() and int(step) < len(place)
