"""The settings that keep the house in order do what they are there for."""

import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest


@pytest.mark.parametrize("module", ["brainkit", "brainkit.data.nsd"])
@pytest.mark.parametrize("category", [UserWarning, DeprecationWarning, FutureWarning])
def test_a_warning_of_ours_is_an_error(module, category):
    with pytest.raises(category, match="ours"):
        warnings.warn_explicit("ours", category, "file.py", 1, module=module)


def test_a_deprecation_elsewhere_is_not_an_error():
    warnings.warn_explicit("theirs", DeprecationWarning, "file.py", 1, module="brainkitten")


def run_import_linter(folder: Path, repository: Path, lower: str) -> tuple[int, str]:
    """Check a small package of two rooms against the contract of pyproject.toml."""
    package = folder / "brainkit"
    package.mkdir()
    for name, text in {"__init__": "", "errors": "", "arrays": lower, "linear": ""}.items():
        (package / f"{name}.py").write_text(text)
    (folder / "pyproject.toml").write_text((repository / "pyproject.toml").read_text())
    result = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return result.returncode, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("lower", "kept"), [("import brainkit.errors", True), ("import brainkit.linear", False)]
)
def test_a_room_cannot_import_a_higher_one(tmp_path, repository, lower, kept):
    code, output = run_import_linter(tmp_path, repository, lower)
    assert ("1 kept, 0 broken" in output) == kept, output
    assert (code == 0) == kept


def test_the_strict_rooms_are_strict(repository):
    settings = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["mypy"]
    (strict,) = [part for part in settings["overrides"] if part.get("disallow_untyped_defs")]
    agreed = {"arrays.*", "linear.*", "evaluation.*", "data.*", "errors"}
    assert {f"brainkit.{room}" for room in agreed} <= set(strict["module"])
