"""Dataset cards: one YAML file a dataset under ``datasets/``, and loading a dataset by its card."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, get_type_hints

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from brainkit.arrays.array_likes import whole_number
from brainkit.arrays.files import is_file, is_folder, parse_yaml_text, read_text
from brainkit.arrays.registry import FileRegistry, Registry
from brainkit.data.dissimilarities import Dissimilarities
from brainkit.data.recording import Recording
from brainkit.errors import InputError, MissingFileError, PartError, listed

Schema = TypeVar("Schema", bound=BaseModel)
# What reads a dataset; nothing else is imported because a card names it.
READERS = Registry(
    "dataset",
    "dataset reader",
    {
        "bold5000": "brainkit.data.bold5000",
        "digits69": "brainkit.data.digits69",
        "haxby": "brainkit.data.haxby",
        "nsd": "brainkit.data.nsd",
        "rsa92": "brainkit.data.rsa92",
    },
    has=("subjects", "OPTIONS"),
)
CARDS = FileRegistry("card", "dataset card", "datasets")
# What readers have to offer, by the name of the function.
_LOADERS = {"load": "recordings", "load_dissimilarities": "dissimilarities"}


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
    reader: str = Field(description="Name of the registered reader.")
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
    """Return the names of the cards that come with brainkit, and with installed packages."""
    return sorted(CARDS)


def read_card(name: str | Path) -> DatasetCard:
    """Read a card by its name, or from a YAML file of your own.

    Raises
    ------
    UnknownNameError
        If there is neither such a card nor such a file.
    InputError
        If the file is not a valid card, or has another name than it is registered by.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and is_file(path):
        return parse_yaml(DatasetCard, path)
    card = parse_yaml(DatasetCard, CARDS[str(name)])
    if card.name != str(name):
        raise InputError(
            f"{CARDS[str(name)]} is registered as the dataset card {str(name)!r}, but its name "
            f"is {card.name!r}: give both the same name."
        )
    return card


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


def dataset_root(card: DatasetCard, root: str | Path | None = None) -> Path:
    """Return the folder of a dataset: `root`, or ``$BRAINKIT_DATA/<card>``.

    Raises
    ------
    MissingFileError
        If no folder is given or the folder is not there.
    """
    base = os.environ.get("BRAINKIT_DATA") or None
    if root is None and base is None:
        raise MissingFileError(
            f"Where is {card.name}? Give its folder with root= (--root), or set BRAINKIT_DATA to "
            f"the folder that holds {card.name}/. {card.access}"
        )
    folder = Path(root) if root is not None else Path(str(base)) / card.name
    if not is_folder(folder):
        raise MissingFileError(f"The folder {folder} does not exist. {card.access}")
    return folder


def _reader(card: DatasetCard, loader: str = "load") -> Any:
    if card.reader not in READERS:
        raise InputError(
            f"The card {card.name} names the reader {card.reader!r}, which neither brainkit nor an "
            f"installed package has; there are {listed(READERS)}."
        )
    reader = READERS[card.reader]
    offered = [part for part in _LOADERS if hasattr(reader, part)]
    if not offered:
        raise PartError(
            f"The dataset reader {card.reader!r} of {listed(READERS.owners(card.reader))} has "
            f"none of {listed(_LOADERS)}."
        )
    if loader not in offered:
        raise InputError(
            f"{card.name} holds {_LOADERS[offered[0]]}, no {_LOADERS[loader]}; read it with "
            f"brainkit.data.cards.{offered[0]}."
        )
    return reader


def subjects(card: str | Path | DatasetCard, root: str | Path | None = None) -> list[str]:
    """Return the subjects whose files are under the dataset's root."""
    card = card if isinstance(card, DatasetCard) else read_card(card)
    names: list[str] = _reader(card).subjects(dataset_root(card, root))
    return names


def load(
    card: str | Path | DatasetCard,
    root: str | Path | None = None,
    subject: str | int | None = None,
    **options: Any,
) -> Recording:
    """Load one subject of a dataset, lazily.

    Parameters
    ----------
    card : str, path or DatasetCard
        Name of a card, such as ``"nsd"`` (see ``brainkit datasets``), or a YAML file of your own.
    root : path, optional
        The dataset's folder; ``$BRAINKIT_DATA/<card>`` where not given.
    subject : str or int, optional
        The subject, which is needed where there are several.
    **options
        Options of the reader, such as ``sessions`` and ``mask`` of ``nsd``.

    Returns
    -------
    Recording

    Examples
    --------
    >>> recording = brainkit.load("nsd", root, subject="subj01", mask="V1")  # doctest: +SKIP
    """
    card = card if isinstance(card, DatasetCard) else read_card(card)
    folder = dataset_root(card, root)
    reader = _reader(card)
    if subject is None:
        known = reader.subjects(folder)
        if len(known) != 1:
            raise InputError(
                f"{card.name} has {len(known)} subjects here ({listed(known)}): say which with "
                "subject= (--subject), or use load_all."
            )
        subject = known[0]
    recording: Recording = reader.load(folder, subject, **_settings(card, reader, "load", options))
    about = {"card": card.name, "regions": list(card.regions)}
    return replace(recording, info={**recording.info, **about})


def load_dissimilarities(
    card: str | Path | DatasetCard, root: str | Path | None = None, **options: Any
) -> Dissimilarities:
    """Load a dataset of representational dissimilarity matrices, all subjects at once.

    Parameters
    ----------
    card : str, path or DatasetCard
        Name of a card, such as ``"rsa92"``, or a YAML file of your own.
    root : path, optional
        The dataset's folder; ``$BRAINKIT_DATA/<card>`` where not given.
    **options
        Options of the reader, such as ``ground`` of ``rsa92``.

    Returns
    -------
    Dissimilarities
    """
    card = card if isinstance(card, DatasetCard) else read_card(card)
    folder = dataset_root(card, root)
    reader = _reader(card, "load_dissimilarities")
    settings = _settings(card, reader, "load_dissimilarities", options)
    dissimilarities: Dissimilarities = reader.load_dissimilarities(folder, **settings)
    return replace(dissimilarities, info={**dissimilarities.info, "card": card.name})


def _settings(
    card: DatasetCard, reader: Any, loader: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the options of the card and of the caller, each as the type that the reader takes."""
    known = reader.OPTIONS
    settings = {**card.options, **options}
    for name in settings:
        if name not in known:
            raise InputError(
                f"The reader of {card.name} has no option {name!r}; it has {listed(known)}."
            )
    hints = get_type_hints(getattr(reader, loader))
    return {name: _checked(hints.get(name, Any), name, value) for name, value in settings.items()}


def _checked(hint: Any, name: str, value: Any) -> Any:
    """Return an option as the type that the reader takes."""
    plain = list(value) if isinstance(value, range | set) else value
    plain = plain.tolist() if isinstance(plain, np.ndarray | np.generic) else plain
    try:
        checked = TypeAdapter(hint).validate_python(plain)
    except ValidationError as error:
        faults = listed(dict.fromkeys(fault["msg"] for fault in error.errors()))
        raise InputError(f"The option {name} cannot be {value!r}: {faults}.") from error
    _check_counted(name, plain, checked)
    return checked


def _check_counted(name: str, asked: Any, checked: Any) -> None:
    """Raise where a number came of what is none: true, text, or a real number."""
    if isinstance(checked, list | tuple) and isinstance(asked, list | tuple):
        for one, other in zip(asked, checked, strict=True):
            _check_counted(name, one, other)
    elif isinstance(checked, int) and not isinstance(checked, bool):
        whole_number(asked, name)


def load_all(
    card: str | Path | DatasetCard, root: str | Path | None = None, **options: Any
) -> dict[str, Recording]:
    """Load all subjects of a dataset, lazily, by name; see `load`."""
    return {name: load(card, root, name, **options) for name in subjects(card, root)}
