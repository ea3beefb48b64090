"""Fetch a dataset's pinned public files: asked for, checked, resumable.

A file arrives under a ``.part`` name. A broken transfer leaves it there and the next call goes on
from its end, if the server can. Only a file whose SHA-256 is the pinned one takes its final name.
Of several processes that want one file, the first fetches it and the others wait for it. (pooch,
which has the checksums and the bars too, begins a broken transfer anew and knows no other process.)
"""

import hashlib
import http.client
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from brainkit.arrays.atomic import exclusive
from brainkit.arrays.interruption import tell
from brainkit.arrays.progress import bar, waiting
from brainkit.data.cards import DatasetCard, PinnedFile
from brainkit.errors import BrainkitError, DownloadError, OutputError

BLOCK = 1 << 18
TIMEOUT = 30.0


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(card: DatasetCard, root: str | Path) -> list[Path]:
    """Fetch all pinned files of a dataset into `root`.

    Parameters
    ----------
    card : DatasetCard
        The dataset.
    root : path
        Folder of the dataset, made if needed.

    Returns
    -------
    list of Path
        The files, each verified. What is already there and correct is not fetched again.

    Raises
    ------
    DownloadError
        If the card has no public files, a transfer fails, or a checksum differs.
    OutputError
        If the folder cannot be written, or holds another file under a pinned name.
    """
    if not card.files:
        raise DownloadError(
            f"{card.name} cannot be fetched by brainkit: its licence is {card.licence.name}. "
            f"{card.access}"
        )
    folder = Path(root)
    fetched: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in card.files:
            tell(
                f"{len(fetched)} of {len(card.files)} files of {card.name} are complete; what has "
                f"arrived of {file.path} is kept, and the same command goes on from there."
            )
            fetched.append(fetch(file, folder / file.path))
        tell(f"The files of {card.name} in {folder} are complete.")
        return fetched
    except BrainkitError:
        raise
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(f"{folder} is a file; give a folder to download into.") from error
    except OSError as error:
        raise OutputError(
            f"The folder {folder} cannot be written ({error.strerror}). What has arrived is kept; "
            "the same command goes on from there."
        ) from error


def fetch(file: PinnedFile, target: Path) -> Path:
    """Fetch one pinned file to `target`, going on from an earlier partial transfer.

    Raises
    ------
    DownloadError
        If the transfer fails (the partial file stays) or the checksum differs (it is removed).
    OutputError
        If `target` exists with another content; it is left as it is.
    """
    if _is_there(file, target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # Without locks (Lustre may have none) the checksum still tells what two have spoilt.
    lock = exclusive(target.with_name(f".{target.name}.lock"), keep=False, required=False)
    with ExitStack() as held:
        with waiting(f"another download of {file.path}"):
            held.enter_context(lock)
        if _is_there(file, target):  # the other one fetched it
            return target
        part = target.with_name(target.name + ".part")
        _transfer(file, part)
        digest = sha256(part)
        if digest != file.sha256:
            part.unlink()
            raise DownloadError(
                f"What {file.url} sent is not the pinned file: expected SHA-256 {file.sha256}, got "
                f"{digest}. It was removed; try again, or fetch the file by hand to {target}."
            )
        part.replace(target)
    return target


def _is_there(file: PinnedFile, target: Path) -> bool:
    """Whether the file has been fetched; raises where another stands in its place."""
    if not target.exists():
        return False
    if sha256(target) != file.sha256:
        raise OutputError(
            f"{target} exists but is not the pinned file (its SHA-256 differs). Move it away and "
            "run the download again."
        )
    return True


def _transfer(file: PinnedFile, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have > file.size:
        part.unlink()
        have = 0
    if have == file.size:
        return
    try:
        _receive(file, part, have)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()  # the server's file is shorter than what is here: begin anew
            raise DownloadError(
                f"{file.url} cannot go on after {have:,} bytes, so the partial file was removed; "
                "run the same command again."
            ) from error
        raise DownloadError(
            f"{file.url} could not be fetched: the server answered {error.code} {error.reason}."
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as err:
        raise DownloadError(
            f"{file.url} could not be fetched ({err}). What arrived is kept; run the same command "
            "again to go on."
        ) from err
    if part.stat().st_size < file.size:
        raise DownloadError(
            f"{file.url} broke off after {part.stat().st_size:,} of {file.size:,} bytes. What "
            "arrived is kept; run the same command again to go on."
        )


def _receive(file: PinnedFile, part: Path, have: int) -> None:
    headers = {"Range": f"bytes={have}-"} if have else {}
    request = urllib.request.Request(file.url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        # 206 goes on; 200 means that the server sends the whole file again.
        resumed = answer.status == http.client.PARTIAL_CONTENT
        received = have if resumed else 0
        with (
            part.open("ab" if resumed else "wb") as out,
            bar(file.path, total=file.size, initial=received, unit="B", unit_scale=True) as shown,
        ):
            # One byte too many is enough to know that it is another file.
            while received <= file.size and (block := answer.read(BLOCK)):
                out.write(block)
                received += len(block)
                shown.update(len(block))
