"""Rules of the house that no linter checks."""

import re
import subprocess
from pathlib import Path

import pytest

LONGEST_FILE = 700
LOCK_FILES = {
    "Pipfile.lock",
    "conda-lock.yml",
    "pdm.lock",
    "pixi.lock",
    "poetry.lock",
    "pylock.toml",
    "uv.lock",
}
# Each of these can run code that is hidden in the file it reads.
UNSAFE_LOADING = {
    "pickle": r"^\s*(import|from)\s+(pickle|dill|cloudpickle|shelve)\b|\bpickle\.(load|Unpickler)",
    "pandas pickle": r"\bread_pickle\(",
    "numpy pickle": r"\ballow_pickle\s*=\s*True",
    "joblib": r"\bjoblib\.load\(",
    "torch": r"\btorch\.load\(",
    "yaml": r"\byaml\.(load|load_all|full_load|unsafe_load)\(",
}
UNFINISHED = r"\b(TODO|FIXME|XXX)\b|\braise NotImplementedError\b"


def python_files(repository: Path, *folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((repository / folder).rglob("*.py"))]


def offences(paths: list[Path], pattern: str) -> list[str]:
    """Lines of the files that match the pattern, as ``path:number: line``."""
    wanted = re.compile(pattern)
    return [
        f"{path}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if wanted.search(line)
    ]


@pytest.mark.parametrize("what", UNSAFE_LOADING)
def test_nothing_is_loaded_that_could_run_code(what, repository):
    paths = python_files(repository, "brainkit", "scripts")
    assert paths
    assert offences(paths, UNSAFE_LOADING[what]) == []


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("pickle", "import pickle"),
        ("pickle", "x = pickle.loads(b)"),
        ("pandas pickle", "pd.read_pickle(path)"),
        ("numpy pickle", "np.load(path, allow_pickle = True)"),
        ("joblib", "joblib.load(path)"),
        ("torch", "torch.load(path)"),
        ("yaml", "yaml.load(text, Loader=yaml.Loader)"),
    ],
)
def test_the_patterns_find_what_they_are_for(what, line, tmp_path):
    path = tmp_path / "module.py"
    path.write_text(f"yaml.safe_load(text)\nnp.load(path, allow_pickle=False)\n{line}\n")
    assert len(offences([path], UNSAFE_LOADING[what])) == 1


def test_nothing_is_left_unfinished(repository):
    assert offences(python_files(repository, "brainkit", "scripts"), UNFINISHED) == []


def test_files_stay_short(repository):
    lengths = {
        str(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files(repository, "brainkit")
    }
    assert {path: n for path, n in lengths.items() if n > LONGEST_FILE} == {}


def test_no_two_files_of_the_package_share_a_name(repository):
    names = [path.name for path in python_files(repository, "brainkit")]
    assert {name for name in names if names.count(name) > 1} == {"__init__.py"}


def test_every_folder_of_modules_is_a_package(repository):
    folders = {path.parent for path in python_files(repository, "brainkit")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def tracked_files(repository: Path) -> list[Path]:
    """Files that git tracks, or that it would if everything not ignored were added."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=repository,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = [repository / name for name in listing.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_no_lock_file_and_no_registry_host(repository):
    files = tracked_files(repository)
    assert [path for path in files if path.name in LOCK_FILES] == []
    settings = [
        path
        for path in files
        if path.suffix in {".toml", ".cfg", ".ini", ".lock"}
        or path.name in {"Makefile", "run"}
        or path.match("*requirements*.txt")
    ]
    assert settings
    hosts = r"files\.pythonhosted\.org|pypi\.org/simple|--(extra-)?index-url|index-url\s*="
    assert offences(settings, hosts) == []


def test_nothing_large_is_tracked(repository):
    limit = 20 * 2**20
    files = tracked_files(repository)
    assert [str(path) for path in files if path.stat().st_size > limit] == []
