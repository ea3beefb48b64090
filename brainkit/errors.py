"""Every exception of brainkit.

Each message says what was given, what was expected and how to mend it. All of them derive from
:class:`BrainkitError`, which the command line turns into one sentence and exit code 2; each also
derives from the built-in that a caller would expect to catch.
"""

import difflib
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

MOST_NAMES = 40  # that a message lists; of more it gives the nearest


class BrainkitError(Exception):
    """Base of all errors that a user can mend."""


class InputError(BrainkitError, ValueError):
    """An argument has a value that cannot be used."""


class UnknownNameError(InputError):
    """A name (ROI, subject, preset, card ...) does not exist; the message lists those that do."""


class PartError(InputError):
    """A part that another package registers cannot be used; the message names the package."""


class GridMismatchError(InputError):
    """Two volumes that must share a grid do not."""


class QuantityError(InputError, TypeError):
    """Two quantities of different kinds (r, r², ceiling, ncsnr ...) were mixed."""


class SplitError(InputError):
    """A split cannot be made, or lacks the part that was asked for."""


class LeakError(SplitError):
    """The same image, trial or run stands on both sides of a split.

    Attributes
    ----------
    ids : list
        The offending identifiers, all of them (the message shows the first few).
    """

    def __init__(self, message: str, ids: Iterable[object] = ()) -> None:
        super().__init__(message)
        self.ids = list(ids)


class MissingFileError(BrainkitError, FileNotFoundError):
    """A file or folder that the layout calls for is not there."""


class FileAccessError(BrainkitError, OSError):
    """A file is there, but the system does not let it be read: a lock, a disk or network fault."""


class FilePermissionError(FileAccessError, PermissionError):
    """A file or folder is there, but this user may not read it."""


class CorruptFileError(BrainkitError, OSError):
    """A file is there but truncated, unreadable or of the wrong shape."""


class DownloadError(BrainkitError, OSError):
    """A file could not be fetched, or what came is not what was pinned."""


class OutputError(BrainkitError, OSError):
    """An output folder cannot be written, or holds something that must not be overwritten."""


class DependenceWarning(UserWarning):
    """Rows that look independent are not, and are resampled in stretches."""


class PenaltyWarning(UserWarning):
    """Penalties do not suit the data: the best are at the edge of their grid, or all too large."""


class FoldsWarning(PenaltyWarning):
    """Penalties are chosen by fewer folds than a model makes by default."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line outside of brainkit that led here, which a user knows and can filter by."""
    depth, frame = 1, sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == "brainkit":
        depth, frame = depth + 1, frame.f_back  # type: ignore[assignment]
    warnings.warn(message, category, stacklevel=depth)


@contextmanager
def told_once(category: type[Warning], *, silent: bool = False) -> Iterator[None]:
    """Pass on the first warning of each kind alone, or none: folds and null runs repeat it.

    Parameters
    ----------
    category : type of Warning
    silent : bool, default=False
        Pass on none, as in null runs, where nothing can be learned.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    told = set()
    for one in caught:
        if issubclass(one.category, category):
            if not silent and one.category not in told:
                warn(str(one.message), one.category)
            told.add(one.category)
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def listed(values: Iterable[object], limit: int = 12, separator: str = ", ") -> str:
    """Join values for a message, the first `limit` of them."""
    names = [str(value) for value in values]
    shown = separator.join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def unknown_name(kind: str, given: object, known: Sequence[str]) -> UnknownNameError:
    """Build the error for a name that does not exist, with the nearest one that does.

    Parameters
    ----------
    kind : str
        What the name names, such as ``"ROI"``.
    given : object
        What was asked for.
    known : sequence of str
        The names that exist.
    """
    message = f"Unknown {kind} {given!r}: "
    close = _nearest(str(given), known)
    if len(known) > MOST_NAMES and close:
        message += f"of {len(known)} names the nearest: {listed(close)}."
    else:
        message += (
            f"there are {listed(known, MOST_NAMES)}." if len(known) else "there are none here."
        )
    if close:
        message += f" Did you mean {close[0]!r}?"
    return UnknownNameError(message)


def _nearest(given: str, known: Sequence[str]) -> list[str]:
    """Return the names that are most like the one given, capitals aside; the nearest first."""
    names = {name.casefold(): name for name in reversed(list(known))}
    return [names[name] for name in difflib.get_close_matches(given.casefold(), list(names), n=6)]
