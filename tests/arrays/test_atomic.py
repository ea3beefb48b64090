"""Files and folders are whole or not there; nothing of the user's is lost.

Locks between processes: exclusive, let go of by the dead, refused in clear words.
"""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from brainkit.arrays.atomic import (
    atomic_path,
    check_output,
    exclusive,
    output_folder,
    plain,
    write_json,
    write_npy,
    write_text,
)
from brainkit.errors import OutputError

# ruff: noqa: PT012 - what happens inside the blocks is what is tested
HOLDS = """
import sys, time
from brainkit.arrays.atomic import exclusive
with exclusive(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_file_replaces_the_old_one_only_when_whole(tmp_path):
    target = tmp_path / "deep" / "table.csv.gz"
    write_text(target, "old")
    with pytest.raises(RuntimeError, match="crash"), atomic_path(target) as partial:
        assert partial.parent == target.parent
        assert partial.suffixes[-2:] == [".csv", ".gz"]
        partial.write_text("half")
        raise RuntimeError("crash")
    assert contents(tmp_path) == {"deep/table.csv.gz": "old"}
    with atomic_path(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
    assert contents(tmp_path) == {"deep/table.csv.gz": "new"}


@pytest.mark.parametrize("name", ["x.npy", "x", "x.dat"])
def test_an_array_takes_exactly_the_name_given(tmp_path, name):
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    write_npy(tmp_path / name, array)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    loaded = np.load(tmp_path / name)
    np.testing.assert_array_equal(loaded, array)
    assert loaded.dtype == np.int16


def test_objects_are_not_pickled(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        write_npy(tmp_path / "x.npy", np.array([{}], dtype=object))
    assert list(tmp_path.iterdir()) == []


def test_json_holds_no_nan_and_no_numpy(tmp_path):
    value = {
        1: np.float32(0.5),
        "nan": np.nan,
        "inf": [np.inf, -np.inf],
        "array": np.array([[1.0, np.nan]]),
        "flag": np.bool_(True),
        "count": np.int64(3),
        "path": Path("a/b"),
        "pair": (1, 2),
        "names": {"b", "a"},
        "zero": np.array(2.0),
    }
    write_json(tmp_path / "x.json", value)
    assert json.loads((tmp_path / "x.json").read_text()) == {
        "1": 0.5,
        "nan": None,
        "inf": [None, None],
        "array": [[1.0, None]],
        "flag": True,
        "count": 3,
        "path": "a/b",
        "pair": [1, 2],
        "names": ["a", "b"],
        "zero": 2.0,
    }
    assert plain({"a": {"b": np.array([np.inf])}}) == {"a": {"b": [None]}}


def test_a_file_cannot_be_written_under_a_file_or_onto_a_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="cannot be written"):
        write_text(tmp_path / "file" / "x.json", "{}")
    with pytest.raises(OutputError, match="is a folder"):
        write_text(tmp_path, "{}")
    assert contents(tmp_path) == {"file": "mine"}


def test_a_run_appears_whole(tmp_path):
    out = tmp_path / "runs" / "first"
    with output_folder(out) as folder:
        (folder / "manifest.json").write_text("{}")
        (folder / "maps").mkdir()
        (folder / "maps" / "r.txt").write_text("1")
        assert not out.exists()
    assert contents(tmp_path) == {
        "runs/first/manifest.json": "{}",
        "runs/first/maps/r.txt": "1",
    }


def test_a_failed_run_leaves_nothing_and_keeps_the_earlier_one(tmp_path):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt), output_folder(out) as folder:
        (folder / "manifest.json").write_text("{}")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with output_folder(out) as folder:
        (folder / "manifest.json").write_text("first")
    with pytest.raises(ZeroDivisionError), output_folder(out, overwrite=True) as folder:
        (folder / "manifest.json").write_text("second")
        raise ZeroDivisionError
    assert contents(tmp_path) == {"run/manifest.json": "first"}


def test_a_run_is_replaced_only_on_request(tmp_path):
    out = tmp_path / "run"
    with output_folder(out) as folder:
        (folder / "manifest.json").write_text("first")
        (folder / "only-in-first").write_text("x")
    with pytest.raises(OutputError, match="--overwrite"), output_folder(out):
        pytest.fail("the block must not run")
    with output_folder(out, overwrite=True) as folder:
        (folder / "manifest.json").write_text("second")
        assert (out / "manifest.json").read_text() == "first"
    assert contents(tmp_path) == {"run/manifest.json": "second"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_half_written_or_foreign_folder_is_left_alone(tmp_path, overwrite):
    out = tmp_path / "run"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    message = "holds files but no manifest"
    with pytest.raises(OutputError, match=message), output_folder(out, overwrite=overwrite):
        pytest.fail("the block must not run")
    assert contents(tmp_path) == {"run/thesis.txt": "mine"}


def test_an_empty_folder_is_used(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    with output_folder(out) as folder:
        (folder / "manifest.json").write_text("{}")
    assert contents(tmp_path) == {"run/manifest.json": "{}"}


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    out = tmp_path / "run"
    out.symlink_to(scratch)
    for number in ("first", "second"):
        with output_folder(out, overwrite=True) as folder:
            (folder / "manifest.json").write_text(number)
        assert out.is_symlink()
        assert (scratch / "manifest.json").read_text() == number


def test_what_cannot_be_written_is_said_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run"), Path("/proc")):
        with pytest.raises(OutputError, match=r"cannot be|is a file"), output_folder(out):
            pytest.fail("the block must not run")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(OutputError, match="working folder"):
        check_output(".")
    monkeypatch.setattr(os, "access", lambda *_: False)  # a read-only parent
    with pytest.raises(OutputError, match="cannot be written"):
        check_output(tmp_path / "new")
    assert contents(tmp_path) == {"file": "mine"}


def test_results_are_kept_where_the_place_was_taken_meanwhile(tmp_path):
    out = tmp_path / "run"
    with pytest.raises(OutputError, match="kept in") as caught, output_folder(out) as folder:
        (folder / "manifest.json").write_text("an hour of work")
        out.mkdir()
        (out / "other").write_text("another program's")
    assert (out / "other").read_text() == "another program's"
    kept = Path(str(caught.value).split("kept in ")[1].rstrip("."))
    assert (kept / "manifest.json").read_text() == "an hour of work"


def test_an_earlier_run_that_cannot_be_removed_is_named(tmp_path, monkeypatch):
    out = tmp_path / "run"
    for number in ("first", "second"):
        if number == "second":
            monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
            with pytest.warns(UserWarning, match="could not be removed whole") as caught:
                write_run(out, number)
        else:
            write_run(out, number)
    assert (out / "manifest.json").read_text() == "second"
    left = Path(str(caught[0].message).split("is in ")[1].rstrip("."))
    assert (left / "manifest.json").read_text() == "first"


def write_run(out, text):
    with output_folder(out, overwrite=True) as folder:
        (folder / "manifest.json").write_text(text)


def test_the_earlier_run_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    out = tmp_path / "run"
    with output_folder(out) as folder:
        (folder / "manifest.json").write_text("first")
    rename = Path.replace

    def fail(self, target):
        if self.name.endswith(".partial"):
            raise OSError(16, "Device or resource busy")
        return rename(self, target)

    with pytest.raises(OutputError, match="busy"), output_folder(out, overwrite=True) as folder:
        (folder / "manifest.json").write_text("second")
        monkeypatch.setattr(Path, "replace", fail)
    assert (out / "manifest.json").read_text() == "first"
    assert (folder / "manifest.json").read_text() == "second"


def test_one_process_after_the_other_and_none_after_a_kill(tmp_path):
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    started = time.monotonic()
    second = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE, text=True
    )
    time.sleep(0.7)
    assert second.poll() is None
    os.kill(holder.pid, signal.SIGKILL)
    assert second.stdout.readline() == "held\n"  # after the first, and because it is gone
    assert time.monotonic() - started > 0.7
    second.kill()
    for process in (holder, second):
        process.wait()
        process.stdout.close()
    with exclusive(path):
        assert [entry.name for entry in tmp_path.iterdir()] == ["lock"]
    assert path.is_file()  # a file that is removed would let two hold locks of one name


def test_the_lock_is_let_go_of_after_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), exclusive(tmp_path / "lock"):
            raise ZeroDivisionError


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OutputError, match="has no file locks"), exclusive(tmp_path / "lock"):
        pytest.fail("nothing is locked")
    done = []
    with exclusive(tmp_path / "lock", required=False):
        done.append("without")
    assert done == ["without"]


@pytest.mark.parametrize("path", ["/proc/no/lock", "folder"])
def test_a_lock_that_cannot_be_opened(tmp_path, path):
    (tmp_path / "folder").mkdir()
    place = tmp_path / path if not Path(path).is_absolute() else Path(path)
    with pytest.raises(OutputError, match="cannot be opened for writing"), exclusive(place):
        pytest.fail("nothing is locked")


TAKES_TURNS = """
import sys, time
from pathlib import Path
from brainkit.arrays.atomic import exclusive
place, lock = Path(sys.argv[1]), Path(sys.argv[1]).with_name("lock")
for _ in range(40):
    with exclusive(lock, keep=False):
        value = int(place.read_text())
        time.sleep(0.001)
        place.write_text(str(value + 1))
"""


def test_a_lock_whose_file_is_removed_holds_one_at_a_time(tmp_path):
    place = tmp_path / "count"
    place.write_text("0")
    several = [subprocess.Popen([sys.executable, "-c", TAKES_TURNS, str(place)]) for _ in range(4)]
    assert [process.wait(timeout=60) for process in several] == [0] * 4
    assert place.read_text() == "160"
    assert [entry.name for entry in tmp_path.iterdir()] == ["count"]
