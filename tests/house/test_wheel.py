"""The wheel: what is in it, and that it works away from the checkout, beside other packages."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pytest

pytestmark = [pytest.mark.install, pytest.mark.timeout(600)]


def succeed(command: Sequence[str | Path], folder: Path) -> str:
    """Run a command that has to succeed; give what it printed."""
    result = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from an sdist, as a release is built."""
    folder = tmp_path_factory.mktemp("dist")
    succeed(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, repository], folder
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def content(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of a fresh environment that holds the wheel.

    It borrows the libraries of the environment that runs the tests, so that nothing large is
    installed twice. A path line is not followed into further .pth files: the editable brainkit of
    the test environment stays out of reach.
    """
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(folder, with_pip=False)
    interpreter = folder / "bin" / "python"
    site_packages = Path(
        succeed(
            [interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder
        ).strip()
    )
    (site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [interpreter, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    succeed([*install, "--ignore-installed", wheel], folder)
    return interpreter


def test_wheel_carries_the_data_folders_inside_the_package(content, repository):
    for name in ("datasets", "models"):
        files = [path for path in (repository / name).rglob("*") if path.is_file()]
        assert files
        for path in files:
            assert f"brainkit/_share/{path.relative_to(repository)}" in content


def test_wheel_has_cards_types_and_licence(content):
    assert "brainkit/py.typed" in content
    assert any(
        name.startswith("brainkit/_share/datasets/") and name.endswith(".yaml") for name in content
    )
    assert any(name.endswith("/licenses/LICENSE") for name in content)


def test_wheel_has_one_top_level_package(content):
    tops = {name.partition("/")[0] for name in content}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"brainkit"}
    assert not any("__pycache__" in name for name in content)


def test_wheel_shares_no_file_with_hugging_face_datasets(content):
    theirs = {str(path) for path in metadata.files("datasets") or []}
    assert "datasets/__init__.py" in theirs
    assert not content & theirs


def test_installed_wheel_works_in_another_folder(python, repository, tmp_path):
    program = (
        "import brainkit, brainkit.arrays.files as share\n"
        "print(brainkit.__file__)\n"
        "print(share.share_folder('datasets'))\n"
        "print(share.share_folder('models'))\n"
    )
    lines = succeed([python, "-c", program], tmp_path).splitlines()
    package = Path(lines[0]).parent
    assert python.parents[1] in package.parents
    assert repository not in package.parents
    assert lines[1:] == [str(package / "_share" / name) for name in ("datasets", "models")]


def test_hugging_face_datasets_is_importable_beside_the_wheel(python, tmp_path):
    program = "import brainkit, datasets; print(datasets.__file__, datasets.__version__)"
    path, version = succeed([python, "-c", program], tmp_path).split()
    assert version == metadata.version("datasets")
    assert "brainkit" not in Path(path).parts[-3:]


def test_datasets_of_hugging_face_is_not_shadowed_by_an_editable_install(tmp_path):
    program = "import datasets; print(datasets.__version__)"
    assert succeed([sys.executable, "-c", program], tmp_path).strip() == metadata.version(
        "datasets"
    )


def test_installed_command_answers(python, tmp_path):
    assert "demo" in succeed([python.with_name("brainkit"), "--help"], tmp_path)


def test_installed_command_lists_its_cards(python, tmp_path):
    assert "digits69" in succeed([python.with_name("brainkit"), "datasets"], tmp_path)
