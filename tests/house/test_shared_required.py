"""Tests on real recordings skip with a reason where the data are missing, or fail if required."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = """
def test_reads_the_real_recordings(shared_data):
    assert shared_data.name == "data"
"""


def run_probe(folder: Path, tests: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one test that asks for `shared_data` in a pytest of its own, with our conftest."""
    (folder / "test_probe.py").write_text(PROBE)
    (folder / "pytest.ini").write_text("[pytest]\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BRAINKIT_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:xdist", "-rs", "-q", "."],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(tests), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def tests_folder(repository: Path) -> Path:
    return repository / "tests"


@pytest.mark.parametrize("required", [{}, {"BRAINKIT_REQUIRE_SHARED": "0"}])
def test_missing_recordings_skip_with_a_reason(tmp_path, tests_folder, required):
    result = run_probe(
        tmp_path, tests_folder, BRAINKIT_SHARED=str(tmp_path / "nowhere"), **required
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 skipped" in result.stdout
    assert "the real recordings are not there" in result.stdout
    assert "nowhere" in result.stdout


def test_missing_recordings_fail_where_required(tmp_path, tests_folder):
    result = run_probe(
        tmp_path,
        tests_folder,
        BRAINKIT_SHARED=str(tmp_path / "nowhere"),
        BRAINKIT_REQUIRE_SHARED="1",
    )
    assert result.returncode == 1, result.stdout + result.stderr
    assert "the real recordings are not there" in result.stdout
    assert "skipped" not in result.stdout


def test_recordings_are_found_where_the_variable_points(tmp_path, tests_folder):
    (tmp_path / "elsewhere" / "data").mkdir(parents=True)
    result = run_probe(
        tmp_path,
        tests_folder,
        BRAINKIT_SHARED=str(tmp_path / "elsewhere"),
        BRAINKIT_REQUIRE_SHARED="1",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 passed" in result.stdout
