"""What a training's state is kept under, and what libraries leave undone when they write files."""

import json
import os
from pathlib import Path
from typing import Any

from torch import nn

from brainkit.arrays.atomic import write_json, write_text
from brainkit.arrays.digest import content_digest


def what_decides(model: nn.Module, **data: Any) -> dict[str, str]:
    """Return a training's identity: its first weights, and by name all that it learns from."""
    weights = content_digest(model.state_dict())
    return {"first_weights": weights, **{name: content_digest(held) for name, held in data.items()}}


def declare_single(path: Path) -> None:
    """Let transformers compute in single precision from the half precision that is stored."""
    config = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, config | {"dtype": "float32"})


def finish(folder: Path) -> None:
    """Write the tokenizers compactly, and open the files to all whom the umask allows."""
    for path in folder.rglob("tokenizer.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        write_text(path, json.dumps(content, ensure_ascii=False, separators=(",", ":")))
    open_to_all(folder)


def open_to_all(folder: Path) -> None:
    """Give files the mode that the umask asks for: safetensors keeps them to their owner."""
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~mask)
