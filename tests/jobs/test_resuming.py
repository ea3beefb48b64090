"""People who are done stay done: what is kept of a run that was cut off, and used again."""

import json
import shutil
import threading

import h5py
import pytest

from brainkit.arrays.interruption import told
from brainkit.errors import InputError, OutputError
from brainkit.jobs import run_job, runner
from brainkit.jobs.decode import Decode
from brainkit.jobs.run_folder import PERSON, run_folder

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
    for name, facts in manifest["subjects"].items():  # the access protocol stands in both
        assert facts["access"].startswith("labelled-")
        assert f"{name}: {facts['access']}" in page


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


def test_other_data_in_the_same_place_begin_anew(nsd, tmp_path, started):
    names, failing = started
    root = shutil.copytree(nsd, tmp_path / "nsd")
    failing.append("subj03")
    with pytest.raises(KeyboardInterrupt):
        decode(root, tmp_path / "runs" / "out")
    betas = sorted(root.rglob("betas_session01*"))
    assert [path.parts[-4] for path in betas] == ["subj01", "subj03"]
    with h5py.File(betas[1], "r+") as file:
        file["betas"][0] = file["betas"][0] + 50
    failing.clear()
    names.clear()
    decode(root, tmp_path / "runs" / "out")
    assert names == ["subj01", "subj03"]


def test_other_code_begins_anew(nsd, tmp_path, started, monkeypatch):
    names, failing = started
    failing.append("subj03")
    with pytest.raises(KeyboardInterrupt):
        decode(nsd, tmp_path / "out")
    failing.clear()
    names.clear()
    monkeypatch.setattr(runner, "git_state", lambda: {"commit": "another", "clean": True})
    decode(nsd, tmp_path / "out")
    assert names == ["subj01", "subj03"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_second_process_waits_and_sees_what_the_first_has_done(tmp_path, overwrite):
    out, caught, written = tmp_path / "runs/out", [], []

    def second():
        try:
            with run_folder(out, {"plan": 1}, ["a"], overwrite=overwrite) as run:
                with run.person("a") as folder:
                    (folder / PERSON).write_text("{}")
                    (folder / "manifest.json").write_text('"second"')
                written.append("second")
        except OutputError as error:
            caught.append(str(error))

    thread = threading.Thread(target=second)
    with run_folder(out, {"plan": 1}, ["a"]) as run:
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        assert not written
        with run.person("a") as folder:
            (folder / PERSON).write_text("{}")
            (folder / "manifest.json").write_text('"first"')
    thread.join(30)
    assert not thread.is_alive()
    assert written == (["second"] if overwrite else [])
    assert len(caught) == (0 if overwrite else 1)
    assert all("already holds a run" in message for message in caught)
    whose = "second" if overwrite else "first"
    assert json.loads((out / "manifest.json").read_text()) == whose
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_one_who_stops_waiting_takes_nothing_from_the_one_at_work(tmp_path, monkeypatch):
    out = tmp_path / "out"

    def stopped(*_, **__):
        raise KeyboardInterrupt

    with run_folder(out, {"plan": 1}, ["a"]) as run:
        with monkeypatch.context() as patch:
            patch.setattr("brainkit.jobs.run_folder.exclusive", stopped)
            with pytest.raises(KeyboardInterrupt), run_folder(out, {"plan": 1}, ["a"]):
                pass
        with run.person("a") as folder:
            (folder / PERSON).write_text("{}")
            (folder / "first.json").write_text("{}")
    assert [path.name for path in out.iterdir()] == ["first.json"]


def test_a_person_may_be_called_as_a_file_is(tmp_path):
    with run_folder(tmp_path / "out", {}, ["maps"]) as run, run.person("maps") as folder:
        (folder / PERSON).write_text("{}")
        (folder / "maps").mkdir()
        (folder / "maps/r.txt").write_text("1")
    assert (tmp_path / "out/maps/r.txt").read_text() == "1"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["maps"]


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
