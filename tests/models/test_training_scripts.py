"""Each tiny model is built, trained for some steps, written, loaded again and trained further."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import autoencoder, captioner, clip, diffusion, judges

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
BRIEF = {"steps": 2, "warmup": 1, "checkpoint_every": 1, "validate_every": 2}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return folder / "out", folder / "work"


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    for module in (autoencoder, captioner, clip, diffusion):
        monkeypatch.setattr(module, "SCHEDULE", replace(module.SCHEDULE, **BRIEF))
        monkeypatch.setattr(module, "BATCH", 4)
    monkeypatch.setattr(diffusion, "AGAIN", replace(diffusion.AGAIN, **BRIEF))
    for module in (captioner, diffusion):
        monkeypatch.setattr(module, "SCENES", 60)
    for name in ("SUPERVISED", "CONTRASTIVE"):
        monkeypatch.setattr(judges, name, replace(getattr(judges, name), **BRIEF))
    monkeypatch.setattr(judges, "POOL", 200)


@pytest.mark.slow
def test_all_are_trained_in_order(folders):
    out, work = folders
    names = {"clip": clip, "autoencoder": autoencoder, "judge-a": judges, "judge-b": judges}
    names |= {"captioner": captioner, "diffusion": diffusion}
    for name, module in names.items():
        report = module.make(name, out, work, 200)
        assert report.steps == (4 if name == "diffusion" else 2)  # trained again, once
        assert sum(report.trained.values()) > 1e5
        again = module.make(name, out, work, 200)  # finished: nothing is trained again
        assert again.seconds == report.seconds
    assert {path.name for path in out.iterdir()} == {
        "clip", "clip-transformers", "judge-a", "judge-b", "captioner", "diffusion",
    }  # fmt: skip


def test_an_unknown_model_is_told():
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "train_tiny_models.py"), "clop"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "there is no model 'clop'" in done.stderr
