"""`import brainkit` and `brainkit --help` answer at once: heavy libraries are loaded when used."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

# Wall time on a busy machine varies; the best of a few tries does not.
TRIES = 5
HEAVY = {
    "diffusers",
    "h5py",
    "matplotlib",
    "mne",
    "nibabel",
    "nilearn",
    "open_clip",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "torch",
    "transformers",
}
LOADED_AFTER_IMPORT = "import sys, brainkit; print(*sys.modules)"
LOADED_AFTER_HELP = """
import sys
from brainkit.cli import main
sys.argv = ["brainkit", "--help"]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print("MODULES", *sys.modules)
"""


def best_seconds(command: Sequence[str], folder: Path) -> float:
    """Shortest wall time of a command over a few tries, started in a neutral folder."""
    seconds = []
    for _ in range(TRIES):
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def loaded_modules(program: str, folder: Path) -> set[str]:
    """Top-level modules loaded when a program ends; they are the words of its last line."""
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return {name.partition(".")[0] for name in result.stdout.splitlines()[-1].split()}


def test_import_is_fast(tmp_path):
    bare = best_seconds([sys.executable, "-c", "pass"], tmp_path)
    whole = best_seconds([sys.executable, "-c", "import brainkit"], tmp_path)
    assert whole < 1.0
    assert whole - bare < 0.3


def test_help_is_fast(tmp_path):
    brainkit = Path(sys.executable).with_name("brainkit")
    assert best_seconds([str(brainkit), "--help"], tmp_path) < 1.0


@pytest.mark.parametrize("program", [LOADED_AFTER_IMPORT, LOADED_AFTER_HELP])
def test_no_heavy_library_is_loaded(program, tmp_path):
    assert not loaded_modules(program, tmp_path) & HEAVY


def test_every_public_name_can_be_had():
    import brainkit

    for name in brainkit.__all__:
        assert getattr(brainkit, name) is not None
        assert name in dir(brainkit)


def test_rooms_are_attributes_of_the_package(tmp_path):
    program = "import brainkit; print(brainkit.errors.InputError.__name__)"
    assert "InputError" in loaded_modules(program, tmp_path)


def test_unknown_name_raises_attribute_error():
    import brainkit

    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = brainkit.no_such_name
