"""Load a dataset by its card."""

import importlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from pydantic import TypeAdapter, ValidationError

from brainkit.arrays.array_likes import whole_number
from brainkit.arrays.files import is_folder
from brainkit.data.cards import DatasetCard, read_card
from brainkit.data.dissimilarities import Dissimilarities
from brainkit.data.recording import Recording
from brainkit.errors import InputError, MissingFileError, listed

# Modules of brainkit.data that read a dataset; no other is imported because a card names it.
READERS = ("bold5000", "digits69", "nsd", "rsa92")
# What readers have to offer, by the name of the function.
_LOADERS = {"load": "recordings", "load_dissimilarities": "dissimilarities"}


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
            f"The card {card.name} names the reader {card.reader!r}, which brainkit does not have; "
            f"it has {listed(READERS)}."
        )
    reader = importlib.import_module(f"brainkit.data.{card.reader}")
    found = [part for part in _LOADERS if hasattr(reader, part)]
    if loader not in found:
        raise InputError(
            f"{card.name} holds {_LOADERS[found[0]]}, no {_LOADERS[loader]}; read it with "
            f"brainkit.data.loading.{found[0]}."
        )
    return reader


def subjects(card: str | Path | DatasetCard, root: str | Path | None = None) -> list[str]:
    """Return the subjects whose files are under the dataset's root."""
    card = card if isinstance(card, DatasetCard) else read_card(card)
    found: list[str] = _reader(card).subjects(dataset_root(card, root))
    return found


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
        Which subject; needed where there are several.
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
        found = reader.subjects(folder)
        if len(found) != 1:
            raise InputError(
                f"{card.name} has {len(found)} subjects here ({listed(found)}): say which with "
                "subject= (--subject), or use load_all."
            )
        subject = found[0]
    recording: Recording = reader.load(folder, subject, **_settings(card, reader.load, options))
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
    loader = _reader(card, "load_dissimilarities").load_dissimilarities
    found: Dissimilarities = loader(folder, **_settings(card, loader, options))
    return replace(found, info={**found.info, "card": card.name})


def _settings(card: DatasetCard, loader: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the card and of the caller, each as the type that the reader takes."""
    known = importlib.import_module(loader.__module__).OPTIONS
    settings = {**card.options, **options}
    for name in settings:
        if name not in known:
            raise InputError(
                f"The reader of {card.name} has no option {name!r}; it has {listed(known)}."
            )
    return {name: _checked(loader, name, value) for name, value in settings.items()}


def _checked(loader: Any, name: str, value: Any) -> Any:
    """Return an option as the type that the reader takes."""
    given = list(value) if isinstance(value, range | set) else value
    given = given.tolist() if isinstance(given, np.ndarray | np.generic) else given
    try:
        checked = TypeAdapter(get_type_hints(loader)[name]).validate_python(given)
    except ValidationError as error:
        faults = listed(dict.fromkeys(fault["msg"] for fault in error.errors()))
        raise InputError(f"The option {name} cannot be {value!r}: {faults}.") from error
    _check_counted(name, given, checked)
    return checked


def _check_counted(name: str, given: Any, checked: Any) -> None:
    """Raise where a number came of what is none: true, text, or a real number."""
    if isinstance(checked, list | tuple) and isinstance(given, list | tuple):
        for one, other in zip(given, checked, strict=True):
            _check_counted(name, one, other)
    elif isinstance(checked, int) and not isinstance(checked, bool):
        whole_number(given, name)


def load_all(
    card: str | Path | DatasetCard, root: str | Path | None = None, **options: Any
) -> dict[str, Recording]:
    """Load all subjects of a dataset, lazily, by name; see `load`."""
    return {name: load(card, root, name, **options) for name in subjects(card, root)}
