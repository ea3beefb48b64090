"""Dataset cards: one YAML file a dataset, under ``datasets/``, read into a checked schema."""

from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from brainkit.arrays.files import is_file, parse_yaml_text, read_text, share_folder
from brainkit.errors import InputError, unknown_name

Schema = TypeVar("Schema", bound=BaseModel)


class Strict(BaseModel):
    """A schema that refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Licence(Strict):
    """Under what terms the data are given."""

    name: str
    url: str | None = None
    note: str | None = None


class PinnedFile(Strict):
    """A public file of known content."""

    path: str = Field(description="Where it stands under the dataset's root.")
    url: str = Field(pattern=r"^https?://")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(gt=0, description="Bytes.")

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or "\\" in path:
            raise ValueError("the path has to lie under the dataset's root")
        return path


class DatasetCard(Strict):
    """What is to be known of a dataset to load and cite it."""

    name: str
    title: str
    reader: str = Field(description="Module of brainkit.data that reads it.")
    modality: str
    licence: Licence
    citation: str
    homepage: str | None = None
    access: str = Field(description="How a user gets the files.")
    files: list[PinnedFile] = []
    options: dict[str, Any] = Field(default={}, description="Default options of the reader.")
    regions: list[str] = Field(default=[], description="Regions that reports show, in order.")
    recipes: dict[str, str] = Field(default={}, description="Default recipe of each job.")


def card_names() -> list[str]:
    """Return the names of the cards that come with brainkit."""
    return sorted(path.stem for path in share_folder("datasets").glob("*.yaml"))


def read_card(name: str | Path) -> DatasetCard:
    """Read a card by its name, or from a YAML file of your own.

    Raises
    ------
    UnknownNameError
        If there is neither such a card nor such a file.
    InputError
        If the file is not a valid card.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and is_file(path):
        return parse_yaml(DatasetCard, path)
    if str(name) not in card_names():
        raise unknown_name("dataset card", str(name), card_names())
    return parse_yaml(DatasetCard, share_folder("datasets") / f"{name}.yaml")


def parse_yaml(schema: type[Schema], path: Path) -> Schema:
    """Read a YAML file into a schema; the error says which field is wrong and why."""
    text = read_text(path, f"The file of a {schema.__name__}", "mend it")
    try:
        return schema.model_validate(parse_yaml_text(text))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}"
            for fault in error.errors()
        )
        raise InputError(f"{path} is not a valid {schema.__name__}: {faults}.") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} cannot be read as YAML: {error}.") from error
