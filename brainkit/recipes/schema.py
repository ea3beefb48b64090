"""The schema of recipes: one YAML file each, under ``models/``."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from brainkit.arrays.share import share_folder
from brainkit.data.cards import Strict
from brainkit.errors import InputError, unknown_name


class Alphas(Strict):
    """Penalties on a logarithmic scale."""

    low: float = Field(gt=0)
    high: float = Field(gt=0)
    count: int = Field(ge=1, le=100)


class FeatureSpec(Strict):
    """A feature space and its scale among others (see `brainkit.features.SingleSpace`)."""

    kind: str
    scale: Literal["feature", "space"] | None = None
    settings: dict[str, Any] = Field(default_factory=dict)


class ModelSpec(Strict):
    """An estimator and its penalties."""

    kind: str
    alphas: Alphas
    cv: int = Field(default=5, ge=2)
    settings: dict[str, Any] = Field(default_factory=dict)


class Shared(Strict):
    """What all protocols say of the data."""

    split: str
    zscore: str | None = "session"
    unseen: Literal["session-unlabelled"] | None = None
    average_repeats: bool = True


class EncodeSettings(Shared):
    """See `brainkit.encoding.EncodingProtocol`."""

    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    ceiling: Literal["nsd"] | None = "nsd"
    permutations: int = Field(default=200, ge=0)
    shuffles: int = Field(default=3, ge=1)


class DecodeSettings(Shared):
    """See `brainkit.decoding.DecodingProtocol`."""

    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    back: Literal["inverse", "bank"] = "inverse"
    roi: str | None = None


class RankSettings(Shared):
    """See `brainkit.synthesis.RankingProtocol`."""

    n: int = Field(default=10, ge=1)
    bank: Literal["unseen", "test"] = "unseen"
    against: str | None = None
    seed: int = 0


class BaseRecipe(Strict):
    """What all recipes have."""

    name: str
    about: str
    features: list[FeatureSpec] = Field(min_length=1)
    model: ModelSpec


class EncodeRecipe(BaseRecipe):
    """Features → responses."""

    job: Literal["encode"]
    protocol: EncodeSettings


class DecodeRecipe(BaseRecipe):
    """Responses → features → images."""

    job: Literal["decode"]
    protocol: DecodeSettings


class SynthesizeRecipe(BaseRecipe):
    """Stimuli that should drive a region, and the judge of them."""

    job: Literal["synthesize"]
    judge_features: list[FeatureSpec] = Field(min_length=1)
    judge_model: ModelSpec
    protocol: RankSettings


Recipe = EncodeRecipe | DecodeRecipe | SynthesizeRecipe
_ADAPTER: TypeAdapter[Recipe] = TypeAdapter(Annotated[Recipe, Field(discriminator="job")])


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
        Settings to change, such as ``"protocol.permutations=20"``; values are YAML.

    Raises
    ------
    UnknownNameError, InputError
        If there is no such recipe, or it is not valid.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml", ".json") and path.is_file():
        content = _read(path)
    elif str(name) in recipe_names():
        content = _read(share_folder("models") / f"{name}.yaml")
    else:
        raise unknown_name("recipe", str(name), recipe_names())
    if path.suffix == ".json" and isinstance(content, dict):
        content = content.get("recipe", content)
    for change in changes:
        _apply(content, change)
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()
        )
        raise InputError(f"The recipe {name} is not valid: {faults}.") from error


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as a recipe: {error}.") from error


def _apply(content: Any, change: str) -> None:
    key, equals, value = change.partition("=")
    *path, last = key.split(".")
    place = content
    for step in path:
        place = place.get(step) if isinstance(place, Mapping) else None
    if not equals or not isinstance(place, dict):
        raise InputError(
            f"Cannot set {change!r}: write a setting of the recipe as in protocol.permutations=20."
        )
    place[last] = yaml.safe_load(value)
