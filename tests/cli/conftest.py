"""The commands as a user calls them, on a small simulated dataset in NSD's layout."""

import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from brainkit.cli import app
from brainkit.world import SceneWorld, write_nsd

MODEL = {"kind": "voxelwise-ridge", "alphas": {"low": 1, "high": 1e4, "count": 3}, "cv": 3}
PIXELS = {"kind": "pixel-pca", "scale": "space", "settings": {"n_components": 5}}
ENERGY = {
    "kind": "oriented-energy",
    "scale": "feature",
    "settings": {"side": 16, "n_orientations": 4, "frequencies": [2.0, 4.0]},
}
RECIPES = {
    "encode": {
        "features": [PIXELS],
        "model": MODEL,
        "protocol": {"split": "nsd-shared1000", "permutations": 4, "shuffles": 1},
    },
    "decode": {
        "features": [{**PIXELS, "scale": None}],
        "model": {**MODEL, "kind": "ridge-decoder"},
        "protocol": {"split": "nsd-shared1000"},
    },
    "synthesize": {
        "features": [PIXELS],
        "model": MODEL,
        "judge_features": [ENERGY],
        "judge_model": MODEL,
        "protocol": {"split": "nsd-shared1000", "n": 3},
    },
}


def invoke(*arguments):
    """Call a command in this process; gives exit_code, stdout and stderr."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def invoke_refused(*arguments):
    """Call a command that must fail; return its one sentence.

    Warnings may precede it, and on a slow machine progress.
    """
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    *before, sentence = result.stderr.splitlines()
    before = [line for line in before if " … " not in line and "%|" not in line]
    assert all(line.startswith("brainkit: Warning: ") for line in before)
    assert sentence.startswith("brainkit: ")
    assert sentence.endswith((".", "?"))
    return sentence


def read_all(folder):
    """Return every file under a folder, hidden ones too, with its bytes."""
    files = (path for path in sorted(Path(folder).rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="session")
def call():
    """Call a command in this process; gives exit_code, stdout and stderr."""
    return invoke


@pytest.fixture(scope="session")
def refused():
    """Call a command that must fail with one sentence and exit code 2; gives the sentence."""
    return invoke_refused


@pytest.fixture(scope="session")
def contents():
    """Read every file under a folder, hidden ones too, into a dict of bytes."""
    return read_all


@pytest.fixture(scope="session")
def recipes(tmp_path_factory):
    """A small recipe file for each job."""
    folder = tmp_path_factory.mktemp("recipes")
    files = {}
    for job, content in RECIPES.items():
        files[job] = folder / f"{job}.yaml"
        text = yaml.safe_dump({"name": f"small-{job}", "about": "Small.", "job": job, **content})
        files[job].write_text(text)
    return files


@pytest.fixture(scope="session")
def nsd(tmp_path_factory):
    """Two simulated people in NSD's layout; do not change its files."""
    return write_nsd(
        tmp_path_factory.mktemp("nsd"),
        SceneWorld(seed=0),
        (1, 3),
        images_per_subject=40,
        shared=10,
        trials_per_session=24,
        density=0.1,
    )


@pytest.fixture
def nsd_copy(nsd, tmp_path):
    """A copy to damage."""
    return Path(shutil.copytree(nsd, tmp_path / "nsd"))


@pytest.fixture
def base(nsd, recipes, tmp_path):
    """Arguments of a small run of one subject: base("encode", root=...)."""

    def make(job, root=nsd, out=tmp_path / "out", subject="1"):
        return [job, "nsd", "--root", root, "--recipe", recipes[job], "--out", out] + (
            ["--subject", subject] if subject else []
        )

    return make
