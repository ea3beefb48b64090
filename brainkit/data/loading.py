"""Load a dataset by its card."""

import importlib
import os
from pathlib import Path
from typing import Any

from brainkit.data.cards import DatasetCard, read_card
from brainkit.data.recording import Recording
from brainkit.errors import InputError, MissingFileError, listed


def dataset_root(card: DatasetCard, root: str | Path | None = None) -> Path:
    """Return the folder of a dataset: `root`, or ``$BRAINKIT_DATA/<card>``.

    Raises
    ------
    MissingFileError
        If no folder is given or the folder is not there.
    """
    base = os.environ.get("BRAINKIT_DATA")
    if root is None and base is None:
        raise MissingFileError(
            f"Where is {card.name}? Give its folder with root= (--root), or set BRAINKIT_DATA to "
            f"the folder that holds {card.name}/. {card.access}"
        )
    folder = Path(root) if root is not None else Path(str(base)) / card.name
    if not folder.is_dir():
        raise MissingFileError(f"The folder {folder} does not exist. {card.access}")
    return folder


def _reader(card: DatasetCard) -> Any:
    return importlib.import_module(f"brainkit.data.{card.reader}")


def subjects(card: str | DatasetCard, root: str | Path | None = None) -> list[str]:
    """Return the subjects whose files are under the dataset's root."""
    card = read_card(card) if isinstance(card, str) else card
    found: list[str] = _reader(card).subjects(dataset_root(card, root))
    return found


def load(
    card: str | DatasetCard,
    root: str | Path | None = None,
    subject: str | int | None = None,
    **options: Any,
) -> Recording:
    """Load one subject of a dataset, lazily.

    Parameters
    ----------
    card : str
        Name of a card, such as ``"nsd"``; see ``brainkit datasets``.
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
    card = read_card(card) if isinstance(card, str) else card
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
    settings = {**card.options, **options}
    known = reader.OPTIONS
    for name in settings:
        if name not in known:
            raise InputError(
                f"The reader of {card.name} has no option {name!r}; it has {listed(known)}."
            )
    recording: Recording = reader.load(folder, subject, **settings)
    recording.info.update(card=card.name, regions=list(card.regions))
    return recording


def load_all(
    card: str | DatasetCard, root: str | Path | None = None, **options: Any
) -> dict[str, Recording]:
    """Load all subjects of a dataset, lazily, by name; see `load`."""
    return {name: load(card, root, name, **options) for name in subjects(card, root)}
