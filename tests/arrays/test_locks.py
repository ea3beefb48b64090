"""Locks between processes: exclusive, let go of by the dead, refused in clear words."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from brainkit.arrays.locks import exclusive
from brainkit.errors import OutputError

HOLDS = """
import sys, time
from brainkit.arrays.locks import exclusive
with exclusive(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


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
from brainkit.arrays.locks import exclusive
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
