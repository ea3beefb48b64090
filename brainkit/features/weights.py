"""Weights: where they lie, how they are loaded in silence, and what tells them apart.

Only safetensors files are read: a pickle runs whatever its author put into it. Loading is strict
and counted, because weights that silently do not fit leave a random network behind.
"""

import contextlib
import hashlib
import importlib
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from brainkit.arrays.files import is_folder, matching, reading, require_file, share_folder
from brainkit.errors import (
    DownloadError,
    InputError,
    MissingFileError,
    listed,
    unknown_name,
)
from brainkit.features.spec import HUB, PICKLED_SUFFIXES

if TYPE_CHECKING:
    import torch

DOWNLOAD = "BRAINKIT_DOWNLOAD"
CONVERT = (
    "Get the model as *.safetensors, or write it so yourself, once: read the state in torch with "
    "weights_only=True, and pass it to safetensors.torch.save_file."
)
UNREADABLE = "cannot be read as safetensors"
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja")
PATTERNS = (*SMALL_FILES, "*.safetensors")


@contextlib.contextmanager
def quiet(*libraries: str) -> Iterator[None]:
    """Keep the logs and bars of libraries from the screen during a block; errors stay.

    Parameters
    ----------
    libraries : str
        ``"transformers"``, ``"diffusers"``; both of them have the same switches.
    """
    logs = [importlib.import_module(f"{library}.utils.logging") for library in libraries]
    before = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    try:
        for log in logs:
            log.set_verbosity_error()
            log.disable_progress_bar()
        yield
    finally:
        for log, (verbosity, bars) in zip(logs, before, strict=True):
            log.set_verbosity(verbosity)
            if bars:
                log.enable_progress_bar()


def may_download(download: bool | None = None) -> bool:
    """Tell whether files may be fetched: what is asked for, or else $BRAINKIT_DOWNLOAD=1."""
    return os.environ.get(DOWNLOAD, "") in ("1", "true", "yes") if download is None else download


def find_model(
    name: str, *, download: bool | None = None, patterns: Sequence[str] = PATTERNS
) -> Path:
    """Return the folder of a model.

    Parameters
    ----------
    name : str
        ``tiny/NAME`` for a model that comes with brainkit, a local folder, or a repository on the
        Hugging Face hub (``hf:ORG/NAME`` or ``ORG/NAME``).
    download : bool, optional
        Whether a repository may be fetched; otherwise it is looked for in the local cache only.
        The default is what the variable $BRAINKIT_DOWNLOAD says (1: yes).
    patterns : sequence of str
        Patterns of the files of a repository that are wanted.

    Raises
    ------
    UnknownNameError
        If no model of that name comes with brainkit.
    MissingFileError
        If there is no such folder.
    DownloadError
        If the repository is not in the cache, or cannot be fetched.
    """
    if name.startswith("tiny/"):
        root = share_folder("models") / "tiny"
        known = sorted(path.name for path in root.glob("*") if path.is_dir())
        short = name.removeprefix("tiny/")
        if short not in known:
            raise unknown_name("tiny model", short, known)
        return root / short
    path = Path(name).expanduser()
    if is_folder(path):
        return path.resolve()
    repository = name.removeprefix(HUB)
    if name.startswith((".", "/", "~")) or ("/" not in name and not name.startswith(HUB)):
        raise MissingFileError(
            f"There is no folder {path}. Give a model's folder, a repository on the hub as "
            f"{HUB}ORG/NAME, or 'tiny' for the one that comes with brainkit."
        )
    return _from_hub(repository, may_download(download), list(patterns))


def _from_hub(repository: str, download: bool, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(repository, allow_patterns=patterns, local_files_only=not download)
        )
    except (OSError, ValueError) as error:  # all errors of the hub are one or the other
        raise _unreachable(repository, "its snapshot", download, error) from error


def find_hub_file(repository: str, filename: str, *, download: bool | None = None) -> Path:
    """Return one file of a repository on the hub, from the local cache or fetched.

    Raises
    ------
    DownloadError
        If the file is not in the cache, or cannot be fetched.
    """
    from huggingface_hub import hf_hub_download

    allowed = may_download(download)
    try:
        return Path(hf_hub_download(repository, filename, local_files_only=not allowed))
    except (OSError, ValueError) as error:
        raise _unreachable(repository, filename, allowed, error) from error


def _unreachable(repository: str, what: str, download: bool, error: Exception) -> DownloadError:
    from huggingface_hub.constants import HF_HUB_CACHE

    reason = " ".join(str(error).split()).split(". ")[0].rstrip(".")
    tried = (
        f"could not be fetched ({type(error).__name__}: {reason})"
        if download
        else "may not be fetched unasked"
    )
    return DownloadError(
        f"{HUB}{repository} is needed: {what} was looked for in the local cache {HF_HUB_CACHE}, "
        f"and {tried}. Where there is a network, run 'hf download {repository}', or this again "
        f"with {DOWNLOAD}=1 (for a model of features also 'brainkit features MODEL --download'), "
        "and copy that cache here; or give a folder that holds the model as its name."
    )


def find_safetensors(folder: Path, preferred: Sequence[str] = ()) -> Path:
    """Return the file of weights in a model's folder.

    Parameters
    ----------
    folder : path
    preferred : sequence of str
        Names that are taken first, if they are there.

    Raises
    ------
    InputError
        If there are pickled weights only, or several files and none of the preferred ones.
    MissingFileError
        If there are no weights.
    """
    files = {path.name: path for path in matching(folder, "*.safetensors")}
    for name in preferred:
        if name in files:
            return files[name]
    if len(files) == 1:
        return next(iter(files.values()))
    if files:
        raise InputError(
            f"{folder} holds several files of weights, {listed(files)}, and none is called "
            f"{' or '.join(preferred)}. Keep the one that is meant."
        )
    pickled = [path for path in matching(folder, "*") if path.suffix in PICKLED_SUFFIXES]
    if pickled:
        refuse_pickle(pickled[0])
    raise MissingFileError(f"{folder} holds no weights (*.safetensors).")


def refuse_pickle(path: str | Path) -> None:
    """Raise `InputError` for a file whose name is that of pickled weights."""
    path = Path(path)
    if path.suffix in PICKLED_SUFFIXES:
        raise InputError(
            f"{path} holds pickled weights, which can run any code when they are read, so brainkit "
            f"does not. {CONVERT}"
        )


def read_state(path: str | Path) -> "dict[str, torch.Tensor]":
    """Read the tensors of a safetensors file.

    Raises
    ------
    InputError
        If the file is a pickle.
    MissingFileError, FileAccessError, CorruptFileError
        If it is not there, may not be read, or is damaged or truncated.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    refuse_pickle(path)
    path = require_file(path, "A file of weights")
    with reading(path, UNREADABLE, mend="fetch or convert it again", also=[SafetensorError]):
        return load_file(path)


def check_safetensors(folder: Path) -> None:
    """Raise if a file of weights in a folder may not be read or is damaged; see `read_state`."""
    from safetensors import SafetensorError, safe_open

    for path in matching(folder, "*.safetensors"):
        with (
            reading(path, UNREADABLE, mend="fetch or convert it again", also=[SafetensorError]),
            safe_open(path, framework="pt"),
        ):
            pass


def load_state(
    module: "torch.nn.Module",
    source: "str | Path | Mapping[str, torch.Tensor]",
    *,
    strict: bool = True,
) -> dict[str, int]:
    """Load weights into a module, strictly and counted.

    Parameters
    ----------
    module : torch module
        Changed in place. Values are cast to its types.
    source : path of a safetensors file, or dict of tensors
    strict : bool, default=True
        Raise if any tensor is missing, left over or of another shape; otherwise only if none fits.

    Returns
    -------
    dict
        Counts ``loaded``, ``missing`` and ``unexpected``.

    Raises
    ------
    InputError
        If the weights do not fit; the message counts and names them.
    """
    from_file = isinstance(source, str | Path)
    where = str(source) if from_file else "The given weights"
    state = read_state(source) if isinstance(source, str | Path) else source
    expected = module.state_dict()
    reshaped = {
        f"{name} {tuple(value.shape)} for {tuple(expected[name].shape)}": name
        for name, value in state.items()
        if name in expected and value.shape != expected[name].shape
    }
    fitting = {name: value for name, value in state.items() if name not in reshaped.values()}
    fitting = OrderedDict(fitting)
    if hasattr(state, "_metadata"):  # versions, where the weights were given with some
        fitting._metadata = state._metadata  # type: ignore[attr-defined]
    result = module.load_state_dict(fitting, strict=False)
    missing = [name for name in result.missing_keys if name not in reshaped.values()]
    unexpected = list(result.unexpected_keys)
    loaded = len(fitting) - len(unexpected)
    if loaded == 0 or (strict and (missing or unexpected or reshaped)):
        raise InputError(
            f"{where} fit only in part: of the {len(expected)} tensors of {type(module).__name__}, "
            f"{loaded} were found, {_counted(missing, 'missing')}, "
            f"{_counted(list(reshaped), 'of another shape')}; "
            f"{_counted(unexpected, 'that it does not have')}. The weights belong to another "
            "architecture, or their names carry another prefix."
        )
    return {
        "loaded": loaded,
        "missing": len(missing) + len(reshaped),
        "unexpected": len(unexpected),
    }


def _counted(names: list[str], what: str) -> str:
    return f"{len(names)} {what}" + (f" ({listed(names, 3)})" if names else "")


def placed(module: "torch.nn.Module") -> dict[str, str]:
    """Return where a module's weights are and in what precision, for manifests."""
    first = next(module.parameters())
    return {"device": str(first.device), "dtype": str(first.dtype).removeprefix("torch.")}


def weights_hash(module: "torch.nn.Module") -> str:
    """Return the SHA-256 of a module's weights.

    Over all parameters and persistent buffers in the order of their names: name, type, shape and
    bytes. The same values in another type have another hash.
    """
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()
