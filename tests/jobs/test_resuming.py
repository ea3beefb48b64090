"""People who are done stay done: what is kept of a run that was cut off, and used again."""

import json

import pytest

from brainkit.arrays.interruption import told
from brainkit.errors import InputError, OutputError
from brainkit.jobs import run_job
from brainkit.jobs.decode import Decode

QUICK = ("features.0.settings.n_components=5", "protocol.seeds=[0]", "model.cv=3")
TRUE_RUN = Decode.run


@pytest.fixture
def started(monkeypatch):
    """Who was run, in order; people named in the second list fail."""
    names, failing = [], []

    def run(self, case, recipe, tools):
        names.append(case.data.subject)
        if case.data.subject in failing:
            raise KeyboardInterrupt
        return TRUE_RUN(self, case, recipe, tools)

    monkeypatch.setattr(Decode, "run", run)
    return names, failing


def decode(nsd, out, *changes, **settings):
    return run_job("decode", "nsd", out=out, root=nsd, changes=(*QUICK, *changes), **settings)


def test_a_rerun_goes_on_with_the_people_who_are_missing(nsd, tmp_path, started):
    names, failing = started
    failing.append("subj03")
    with pytest.raises(KeyboardInterrupt):
        decode(nsd, tmp_path / "out")
    assert names == ["subj01", "subj03"]
    assert not (tmp_path / "out").exists()
    (kept,) = tmp_path.iterdir()
    assert kept.name.endswith(".unfinished")
    assert {path.name for path in kept.iterdir()} == {"subj01"}
    assert f"1 of 2 people is kept in {kept}" in told()
    failing.clear()
    names.clear()
    metrics = decode(nsd, tmp_path / "out")
    assert names == ["subj03"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    whole = decode(nsd, tmp_path / "whole")
    assert metrics == whole
    files, others = (
        {str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*")}
        for name in ("out", "whole")
    )
    assert files == others
    assert not [name for name in files if "person.json" in name]
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("Subject subj01") == (tmp_path / "whole/report.html").read_text().count(
        "Subject subj01"
    )
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert list(manifest["subjects"]) == ["subj01", "subj03"]


def test_other_settings_begin_anew(nsd, tmp_path, started):
    names, failing = started
    failing.append("subj03")
    with pytest.raises(KeyboardInterrupt):
        decode(nsd, tmp_path / "out")
    failing.clear()
    names.clear()
    decode(nsd, tmp_path / "out", "features.0.settings.n_components=4")
    assert names == ["subj01", "subj03"]
    kept = [path.name for path in tmp_path.iterdir() if path.name != "out"]
    assert len(kept) == 1  # the other run's person is still there to go on with
    with pytest.raises(OutputError, match="already holds a run"):
        decode(nsd, tmp_path / "out")


def test_nothing_is_left_where_nobody_is_done(nsd, tmp_path, started):
    _, failing = started
    failing.append("subj01")
    with pytest.raises(KeyboardInterrupt):
        decode(nsd, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_all_people_are_checked_before_the_first_is_run(nsd, tmp_path, started, monkeypatch):
    names, _ = started
    true_check = Decode.check

    def check(self, case, recipe):
        if case.data.subject == "subj03":
            raise InputError("not this one.")
        true_check(self, case, recipe)

    monkeypatch.setattr(Decode, "check", check)
    with pytest.raises(InputError, match="not this one"):
        decode(nsd, tmp_path / "out")
    assert names == []
    assert list(tmp_path.iterdir()) == []
