"""Pipelines of diffusers from a folder: safetensors only, strict, in one precision, offline.

diffusers and transformers leave tensors that a file lacks at random values with a line in the log,
and load a pipeline's parts in two precisions where the files say so. Hence the parts are loaded one
by one, each with its report, and given to the pipeline.
"""

import importlib
from pathlib import Path
from typing import Any

import torch

from brainkit.arrays.files import is_file, is_folder, read_json, reading
from brainkit.errors import CorruptFileError, InputError, MissingFileError, listed, unknown_name
from brainkit.features.spec import PICKLED_SUFFIXES
from brainkit.features.weights import find_hub_file, find_model, quiet, read_state, refuse_pickle

INDEX = "model_index.json"
DEFAULTS = "generation_config.json"
# Files in a pipeline's own folder are left out: they hold all parts once more.
PIPELINE_FILES = (INDEX, DEFAULTS, "*/*.json", "*/*.txt", "*/*.safetensors")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
LIBRARIES = ("diffusers", "transformers")
HALF = "fp16"  # the name of the variant that hubs hold beside float32


def pick_dtype(name: str) -> torch.dtype:
    """Return torch's type of a name; raises `UnknownNameError`."""
    if name not in DTYPES:
        raise unknown_name("precision", name, list(DTYPES))
    return DTYPES[name]


def find_pipeline(name: str | Path, download: bool | None) -> Path:
    """Return the folder of a pipeline: ``"tiny"``, a local folder or an id on the hub."""
    wanted = "tiny/diffusion" if str(name) == "tiny" else str(name)
    return find_model(wanted, download=download, patterns=PIPELINE_FILES)


def read_index(folder: Path) -> dict[str, Any]:
    """Return a pipeline's parts, from its ``model_index.json``.

    Raises
    ------
    InputError
        If the folder holds no pipeline.
    CorruptFileError
        If the file is damaged.
    """
    path = folder / INDEX
    if not is_file(path):
        raise InputError(
            f"{folder} holds no pipeline of diffusers: there is no {INDEX} in it. Give the folder "
            "that save_pretrained wrote."
        )
    index = read_json(path)
    if not isinstance(index.get("_class_name"), str):
        raise CorruptFileError(f"{path} does not name the pipeline's class (_class_name).")
    return index


def load_pipeline(folder: Path, dtype: torch.dtype) -> Any:
    """Load a pipeline of diffusers, all its parts in one precision.

    Parameters
    ----------
    folder : path
        Folder of a pipeline, with ``model_index.json``.
    dtype : torch.dtype

    Returns
    -------
    diffusers.DiffusionPipeline
        On the CPU, its networks frozen and in evaluation mode.

    Raises
    ------
    InputError
        If weights are pickled, or a part is of a class that diffusers and transformers lack.
    MissingFileError
        If a part's weights are not there.
    CorruptFileError
        If a part cannot be read, or its weights fit it only in part.
    """
    import diffusers

    index = read_index(folder)
    with quiet(*LIBRARIES):
        parts: dict[str, Any] = {}
        for name, entry in index.items():
            if name.startswith("_") or entry == [None, None] or _is_setting(entry):
                continue
            if not isinstance(entry, list) or len(entry) != 2:
                raise CorruptFileError(
                    f"{folder} names its {name} as {entry!r}; expected a library and a class."
                )
            kind = _resolve(name, str(entry[0]), str(entry[1]))
            if not is_folder(folder / name):
                raise MissingFileError(
                    f"The pipeline in {folder} lacks its part {name}: expected the folder "
                    f"{folder / name}. Fetch the pipeline again, whole."
                )
            if isinstance(kind, type) and issubclass(kind, torch.nn.Module):
                parts[name] = load_part(kind, folder / name, dtype)
        pipeline_class = getattr(diffusers, index["_class_name"])
        with reading(folder, "cannot be loaded as a pipeline", also=[RuntimeError, KeyError]):
            pipeline = pipeline_class.from_pretrained(folder, local_files_only=True, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_part(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Load one network of a pipeline, strictly; frozen and in evaluation mode.

    Parameters
    ----------
    kind : class
        Class of diffusers or transformers.
    folder : path
        Folder with ``config.json`` and weights in safetensors format.
    dtype : torch.dtype
    """
    options: dict[str, Any] = {_dtype_option(kind): dtype, "variant": _variant(folder)}
    options |= {"output_loading_info": True, "use_safetensors": True, "local_files_only": True}
    # The libraries raise their own, safetensors' among them.
    with reading(folder, "cannot be loaded", also=[Exception]):
        part, report = kind.from_pretrained(folder, **options)
    # Positions were once saved though they are no weights.
    left = [key for key in report["unexpected_keys"] if not key.endswith("position_ids")]
    lacking, reshaped = list(report["missing_keys"]), list(report["mismatched_keys"])
    if lacking or left or reshaped:
        raise CorruptFileError(
            f"The weights in {folder} fit {kind.__name__} only in part: {len(lacking)} tensors are "
            f"missing ({listed(lacking, 3)}), {len(left)} are not known ({listed(left, 3)}), "
            f"{len(reshaped)} have another shape. Fetch or convert them again."
        )
    return part.eval().requires_grad_(False)


def adapter_file(name: str | Path, download: bool | None) -> Path:
    """Return the file of an IP-Adapter.

    Parameters
    ----------
    name : str or path
        A ``*.safetensors`` file, or a file in a repository on the hub as ``ORG/NAME:PATH``, such as
        ``"h94/IP-Adapter:sdxl_models/ip-adapter_sdxl.safetensors"``.
    download : bool, optional
        Whether it may be fetched.
    """
    path = Path(name).expanduser()
    refuse_pickle(path)
    if is_file(path):
        return path
    repository, colon, inside = str(name).partition(":")
    if not colon or "/" not in repository:
        raise MissingFileError(
            f"There is no file {path}. Give an IP-Adapter's *.safetensors file, or one on the hub "
            "as 'ORG/NAME:PATH'."
        )
    return find_hub_file(repository, inside, download=download)


def read_adapter(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Return the two groups of an IP-Adapter's tensors, as diffusers takes them.

    Raises
    ------
    InputError
        If the file is not that of an IP-Adapter.
    """
    groups: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    state = read_state(path)
    for key, value in state.items():
        group, _, name = key.partition(".")
        if group in groups:
            groups[group][name] = value
    if not all(groups.values()):
        raise InputError(
            f"{path} is no IP-Adapter: its tensors are named image_proj.* and ip_adapter.*; got "
            f"{listed(state, 4)}."
        )
    return groups


def _is_setting(entry: Any) -> bool:
    """Whether an entry of ``model_index.json`` is an argument of the pipeline, not a part."""
    return entry is None or isinstance(entry, bool | int | float)


def _resolve(part: str, library: str, name: str) -> Any:
    """Return the class of a part; only diffusers' and transformers' own run."""
    import diffusers.pipelines

    home: Any = None
    if library in ("diffusers", "transformers"):
        home = importlib.import_module(library)
    elif library.isidentifier():
        home = getattr(diffusers.pipelines, library, None)
    kind = getattr(home, name, None) if home is not None else None
    # Diffusers imports a library by the name in the file, so that no other name may get there.
    if not (isinstance(kind, type) and kind.__module__.split(".")[0] in LIBRARIES):
        raise InputError(
            f"The pipeline's {part} is a {library}.{name}, which neither diffusers nor "
            "transformers has. Classes from elsewhere are not run; update the two libraries if "
            "it is theirs."
        )
    return kind


def _dtype_option(kind: Any) -> str:
    """Return what `from_pretrained` calls the precision: diffusers renamed it in 0.42."""
    import diffusers

    if not kind.__module__.startswith("diffusers."):
        return "dtype"
    release = tuple(int(part) for part in diffusers.__version__.split(".")[:2])
    return "dtype" if release >= (0, 42) else "torch_dtype"


def _variant(folder: Path) -> str | None:
    """Return the variant that a part's weights are of, None for the plain one; raises if none."""
    files = list(folder.glob("*.safetensors"))
    if not files:
        pickled = [path for path in folder.glob("*") if path.suffix in PICKLED_SUFFIXES]
        if pickled:
            refuse_pickle(pickled[0])
        raise MissingFileError(f"There are no weights (*.safetensors) in {folder}.")
    return HALF if all(f".{HALF}." in path.name for path in files) else None
