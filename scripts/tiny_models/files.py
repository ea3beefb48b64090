"""What the libraries leave undone when they write a model's files."""

import json
import os
from pathlib import Path

from brainkit.arrays.atomic import write_json, write_text


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
