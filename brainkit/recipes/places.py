"""Places in recipes, made absolute: a manifest has to name the same files from any folder."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from brainkit.errors import InputError
from brainkit.features.spec import parse_spec


def settled_model(text: str) -> str:
    """Return a specification of a model with its folder, or its file of weights, absolute."""
    try:
        spec = parse_spec(text)
    except InputError:
        return text  # told when it is opened
    name, file = spec.name, spec.file
    if spec.place == "folder":
        name = str(Path(name).expanduser().resolve())
    if (name, file) == (spec.name, None):
        return text
    return str(replace(spec, name=name, weights=str(file.resolve()) if file else spec.weights))


def settled_folder(name: str) -> str:
    """Return what names a folder or file that is there as an absolute path; all else as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() and name != "tiny" else name


def settled_store(name: str) -> str:
    """Return a store's folder, there or not, as an absolute path."""
    return name if name == "default" else str(Path(name).expanduser().resolve())


def settled_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a feature space with the model that they may name settled."""
    settle = {"model": settled_model, "store": settled_store}
    return {
        name: settle[name](value) if name in settle and isinstance(value, str) else value
        for name, value in settings.items()
    }


ModelName = Annotated[str, AfterValidator(settled_model)]
FolderName = Annotated[str, AfterValidator(settled_folder)]
StoreName = Annotated[str, AfterValidator(settled_store)]
SpaceSettings = Annotated[dict[str, Any], AfterValidator(settled_settings)]
