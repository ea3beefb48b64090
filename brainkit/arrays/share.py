"""Where the data folders of the package are: dataset cards and recipes.

In a wheel they lie inside the package (``brainkit/_share/``); in a checkout, installed in editable
mode, beside it. Nothing else in brainkit needs to know which.
"""

from pathlib import Path

from brainkit.errors import MissingFileError, UnknownNameError

_PACKAGE = Path(__file__).resolve().parent.parent
_FOLDERS = ("datasets", "models")


def share_folder(name: str) -> Path:
    """Give the folder of the data that comes with brainkit.

    Parameters
    ----------
    name : str
        ``"datasets"`` (dataset cards) or ``"models"`` (recipes and the small models).

    Returns
    -------
    pathlib.Path
        The folder inside the installed package if it is there, else the one of the checkout.

    Raises
    ------
    UnknownNameError
        `name` is neither of the two.
    MissingFileError
        The installation lacks the folder.
    """
    if name not in _FOLDERS:
        raise UnknownNameError(
            f"brainkit has no data folder {name!r}; it has {' and '.join(map(repr, _FOLDERS))}."
        )
    candidates = (_PACKAGE / "_share" / name, _PACKAGE.parent / name)
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise MissingFileError(
        f"the data folder {name!r} of brainkit is missing: neither {candidates[0]} nor "
        f"{candidates[1]} exists. Install brainkit again, from a wheel or from a full checkout."
    )
