"""Files that are read: whether they are there, may be read, and are whole; and brainkit's own data.

Libraries say of a file that is missing, barred, locked or damaged what they like: nibabel calls a
file without permission no image, safetensors calls it missing, Pillow and NumPy raise the same kind
of error for both. Here the file itself is asked, so that *damaged* is said of damaged files only.

The data folders of the package, dataset cards and recipes, lie inside it in a wheel
(``brainkit/_share/``); in a checkout, installed in editable mode, beside it. Nothing else in
brainkit needs to know which.
"""

import errno
import json
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import yaml

from brainkit.errors import (
    BrainkitError,
    CorruptFileError,
    FileAccessError,
    FilePermissionError,
    MissingFileError,
    UnknownNameError,
    listed,
)

# What readers raise on a damaged file; faults in parsing and decoding are ValueErrors.
DAMAGE: tuple[type[Exception], ...] = (
    OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile
)  # fmt: skip
TEXT = "utf-8-sig"  # UTF-8, with the byte order mark that some editors begin a file with, or none
MATLAB_73 = b"MATLAB 7.3 MAT-file"
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
_BARRED = {errno.EACCES, errno.EPERM}
_LOCKED = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EBUSY, errno.ETXTBSY, errno.ENOLCK}
# Neither the file's fault nor the user's: handles and memory used up, a disk or a network in need.
_TROUBLE = {
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT,
    errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ECONNRESET,
}  # fmt: skip
_PACKAGE = Path(__file__).resolve().parent.parent
_FOLDERS = ("datasets", "models")


@dataclass(frozen=True)
class FileState:
    """What changes when a file is written, replaced, or another one is in its place.

    Attributes
    ----------
    device, inode : int
        Identity of the file, whatever its name.
    size : int
        Bytes.
    modified_ns, changed_ns : int
        Time of the last change of its content, which programs may set at will, and of its content
        or its entry, which the system alone sets.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: str | Path) -> "FileState":
        """Look at a file through an open handle, which network file systems answer afresh.

        Raises
        ------
        MissingFileError, FileAccessError
            If it is not there, or may not be read.
        """
        with reading(path), Path(path).open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )

    def as_tuple(self) -> tuple[int, ...]:
        """Return the five numbers."""
        return astuple(self)


def require_file(path: str | Path, what: str) -> Path:
    """Return the path of a file that is there.

    Parameters
    ----------
    path : path
    what : str
        What the file is, as the beginning of a sentence: "The mask".

    Raises
    ------
    MissingFileError
        If there is no such file; the message says what was looked for.
    FileAccessError
        If the system does not let it be looked at.
    """
    path = Path(path)
    mode = _mode(path)
    if not mode:
        raise _missing(path, what)
    if stat.S_ISDIR(mode):
        raise MissingFileError(f"{what} is missing: expected a file, and {path} is a folder.")
    if not stat.S_ISREG(mode):
        raise MissingFileError(f"{what} is missing: expected a file, and {path} is none.")
    return path


def is_file(path: str | Path) -> bool:
    """Return whether a file is there; raises `FileAccessError` where the system does not tell."""
    return stat.S_ISREG(_mode(path))


def is_folder(path: str | Path) -> bool:
    """Return whether a folder is there; raises `FileAccessError` where the system does not tell."""
    return stat.S_ISDIR(_mode(path))


def matching(folder: str | Path, pattern: str) -> list[Path]:
    """Return what lies in a folder under names of a pattern, sorted; nothing where it is missing.

    Raises
    ------
    FileAccessError
        If the folder may not be looked into, which `Path.glob` passes over in silence.
    """
    folder = Path(folder)
    if not is_folder(folder):
        return []
    try:
        return sorted(path for path in folder.iterdir() if path.match(pattern))
    except OSError as error:
        raise _no_access(folder, error) from error


def _mode(path: str | Path) -> int:
    """Return what kind of thing is at a place, and how it may be used; 0 where nothing is."""
    try:
        return Path(path).stat().st_mode
    except ValueError:  # a name that no file can have, such as one with a null character
        return 0
    except OSError as error:
        if error.errno in _ABSENT:
            return 0
        raise _no_access(Path(path), error) from error


@contextmanager
def reading(
    path: str | Path,
    damaged: str = "cannot be read",
    *,
    mend: str = "fetch it again",
    also: Sequence[type[Exception]] = (),
) -> Iterator[None]:
    """Turn what a library raises over a file into one error that says what is wrong with the file.

    Parameters
    ----------
    path : path
        The file, or the folder of several files, that is read in the block.
    damaged : str
        What is said of a damaged file: "cannot be read as NIfTI".
    mend : str
        What to do about a damaged file.
    also : sequence of exception classes
        What the library raises beside the usual errors.

    Raises
    ------
    MissingFileError, FileAccessError, CorruptFileError
        If the file is not there, may not be read, or is damaged. Errors of brainkit, and of too
        little memory, pass.
    """
    try:
        yield
    except (BrainkitError, MemoryError):
        raise
    except (*DAMAGE, *also) as error:
        raise unreadable(path, error, damaged, mend) from error


def unreadable(
    path: str | Path,
    error: BaseException,
    damaged: str = "cannot be read",
    mend: str = "fetch it again",
) -> BrainkitError:
    """Return the error for a file that could not be read; see `reading`."""
    path = Path(path)
    reasons = [reason for reason in _chain(error) if isinstance(reason, OSError)]
    numbers = {reason.errno for reason in reasons}
    if numbers & _LOCKED:
        return FileAccessError(
            f"{path} is locked: another program has it open for writing. Wait until that is done, "
            "or close it. (Where the file system has no locks, HDF5_USE_FILE_LOCKING=FALSE in the "
            "environment lets HDF5 read without.)"
        )
    refused = refusal(path, mend)
    if refused is not None:
        return refused
    for reason in reasons:
        if reason.errno in _BARRED | _TROUBLE:
            return _no_access(path, reason)
    detail = " ".join(str(error).split()) or type(error).__name__
    return CorruptFileError(
        f"{path} {damaged} ({detail.rstrip('.')}): it is of another kind, truncated or damaged; "
        f"{mend}."
    )


def read_mat(
    path: str | Path, what: str, names: Sequence[str] | None = None, mend: str = "fetch it again"
) -> dict[str, Any]:
    """Read variables of a MATLAB file, version 7 or earlier.

    Parameters
    ----------
    path : path
    what : str
        What the file is, as the beginning of a sentence.
    names : sequence of str, optional
        The variables that are needed; all where not given.
    mend : str
        What to do about a damaged file.

    Raises
    ------
    MissingFileError, FileAccessError, CorruptFileError
        If the file is not there, may not be read, is damaged, of version 7.3, or lacks variables.
    """
    from scipy.io import loadmat, whosmat

    require_file(path, what)
    with reading(path), Path(path).open("rb") as file:
        if file.read(len(MATLAB_73)) == MATLAB_73:
            raise CorruptFileError(
                f"{path} is a MATLAB file of version 7.3, which is HDF5; those up to 7 are read. "
                "Load it in MATLAB and save it again with save(..., '-v7')."
            )
    # The reader raises many kinds on a damaged file.
    with reading(path, "cannot be read as a MATLAB file", mend=mend, also=[Exception]):
        content: dict[str, Any] = loadmat(
            path, variable_names=None if names is None else list(names)
        )
    missing = [name for name in names or () if name not in content]
    if missing:
        here = [name for name, *_ in whosmat(path)]
        raise CorruptFileError(
            f"{path} lacks {listed(missing)}; it holds {listed(here) or 'nothing'}. It is another "
            f"file, or damaged; {mend}."
        )
    return content


def read_text(
    path: str | Path,
    what: str,
    mend: str = "fetch it again",
    damaged: str = "cannot be read as text",
) -> str:
    """Read a file of UTF-8 text, with or without a byte order mark; raises as `read_mat` does."""
    path = require_file(path, what)
    with reading(path, damaged, mend=mend):
        return path.read_text(encoding=TEXT)


def read_json(
    path: str | Path,
    what: str = "A file of settings",
    mend: str = "fetch it again",
    damaged: str = "is not readable JSON",
) -> dict[str, Any]:
    """Read a file that holds one JSON object; raises as `read_mat` does."""
    path = require_file(path, what)
    with reading(path, damaged, mend=mend, also=[RecursionError]):
        content = json.loads(path.read_text(encoding=TEXT))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}, not a JSON object")
    return content


class _Settings(yaml.SafeLoader):
    """YAML in which a setting is named once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the settings; raises where one is there twice, of which YAML keeps the last."""
        seen: set[str] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is not None and name in seen and name != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"{name!r} is set twice", key.start_mark
                )
            seen |= {name} if name is not None else set()
        return super().construct_mapping(node, deep)


def parse_yaml_text(text: str) -> Any:
    """Read YAML.

    Raises
    ------
    yaml.YAMLError
        If it is none, or sets something twice.
    """
    loader = _Settings(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def named_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object's settings, for ``json.loads(..., object_pairs_hook=named_once)``.

    Raises
    ------
    ValueError
        If one is there twice.
    """
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = listed(dict.fromkeys(name for name in names if names.count(name) > 1))
        raise ValueError(f"{twice} is set twice")
    return content


def _missing(path: Path, what: str) -> MissingFileError:
    if path.is_symlink():
        return MissingFileError(
            f"{what} is missing: {path} is a link to {path.readlink()}, which is not there."
        )
    return MissingFileError(f"{what} is missing: expected the file {path}.")


def refusal(path: str | Path, mend: str = "fetch it again") -> BrainkitError | None:
    """Ask for the beginning of a file, or of all under a folder; return why it is not given."""
    path = Path(path)
    try:
        if path.is_dir():
            refusals = (refusal(inside, mend) for inside in sorted(path.iterdir()))
            return next(filter(None, refusals), None)
        with require_file(path, f"{path.name}").open("rb") as file:
            file.read(1)
    except MissingFileError:
        return MissingFileError(f"{path} is not there; {mend}.")
    except OSError as error:
        return error if isinstance(error, FileAccessError) else _no_access(path, error)
    return None


def _no_access(path: Path, error: OSError) -> FileAccessError:
    reason = (error.strerror or str(error)).rstrip(".")
    if error.errno in _BARRED:
        return FilePermissionError(
            f"{path} may not be read ({reason}): ask its owner for the permission to read it and "
            "to enter the folders above it."
        )
    return FileAccessError(
        f"{path} could not be read ({reason}). The system says so, not the file: try again when "
        "that is mended."
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Give an error and those that it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


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
