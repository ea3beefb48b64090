"""Signals: what is half-written goes, what is whole stays, and nothing is printed but one line."""

# ruff: noqa: PT012 - what happens inside the blocks is what is tested

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from brainkit.arrays.atomic import output_folder, write_text
from brainkit.arrays.interruption import half_written, undisturbed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

HEAD = """
import os, signal, sys, time
from pathlib import Path
from brainkit.arrays import interruption
from brainkit.arrays.atomic import atomic_path, output_folder, write_json, write_text
place = Path(sys.argv[1])
"""


def as_from_a_shell():
    """Take signals as a program in the foreground does, whatever the tests' own process does."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def control_c():
    """Have Control-C raise here, though tests in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def python(program, place, *arguments):
    """Run a program in a process of its own, where signals are what a shell leaves them."""
    return subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(program), str(place), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=120,
        preexec_fn=as_from_a_shell,
    )  # fmt: skip


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "writing",
    [
        'with output_folder(place / "run") as run:\n    write_text(run / "a" / "b.txt", "x")\n    ',
        'with atomic_path(place / "file.txt") as partial:\n    partial.write_text("x")\n    ',
    ],
)
def test_a_program_of_ones_own_dies_of_the_signal_and_leaves_nothing(tmp_path, writing, number):
    done = python(f"{writing}signal.raise_signal({number})\n    time.sleep(60)", tmp_path)
    assert done.returncode == -number
    assert everything(tmp_path) == []


def test_handlers_of_ones_own_stay(tmp_path):
    program = """
        said = []
        mine = lambda *_: said.append("mine")
        signal.signal(signal.SIGTERM, mine)
        with output_folder(place / "run") as run:
            signal.raise_signal(signal.SIGTERM)
            write_text(run / "manifest.json", "{}")
        assert said == ["mine"] and signal.getsignal(signal.SIGTERM) is mine
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with output_folder(place / "other"):
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    """
    done = python(program, tmp_path)
    assert done.returncode == 0, done.stderr
    assert everything(tmp_path) == ["other", "run", "run/manifest.json"]


@pytest.mark.parametrize("guarded", [True, False])
def test_a_fork_that_is_ended_removes_nothing_of_its_parents(tmp_path, guarded):
    program = f"""
        if {guarded}:
            interruption.guard()
        with output_folder(place / "run") as run:
            write_text(run / "manifest.json", "{{}}")
            child = os.fork()
            if not child:
                signal.raise_signal(signal.SIGTERM)
                os._exit(0)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = python(program, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("143\n" if guarded else "-15\n")
    assert everything(tmp_path) == ["run", "run/manifest.json"]


def test_a_thread_may_write_too(tmp_path):
    """Signals are the main thread's; a folder that another writes is removed all the same."""
    program = """
        import threading
        interruption.guard()
        ready = threading.Event()
        def work():
            with output_folder(place / "run") as run:
                for number in range(10**6):
                    (run / "deep").mkdir(exist_ok=True)
                    (run / "deep" / str(number)).write_text("x")
                    ready.set()
        threading.Thread(target=work, daemon=True).start()
        ready.wait()
        time.sleep(0.05)
        signal.raise_signal(signal.SIGTERM)
    """
    done = python(program, tmp_path)
    assert done.returncode == 143
    assert everything(tmp_path) == []


STEP_BY_STEP = """
interruption.guard()
number, last, count = int(sys.argv[2]), int(sys.argv[3]), 0

def counted(real):
    def call(*arguments, **named):
        global count
        count += 1
        if count == last:
            signal.raise_signal(number)
        return real(*arguments, **named)
    return call

with output_folder(place / "run") as run:
    write_text(run / "manifest.json", "first")
for name in ("replace", "mkdir", "unlink", "touch", "open"):
    setattr(Path, name, counted(getattr(Path, name)))
os.rename, os.rmdir, os.unlink = counted(os.rename), counted(os.rmdir), counted(os.unlink)
with output_folder(place / "run", overwrite=True) as run:
    for part in ("a", "b"):
        write_json(run / part / "values.json", {"x": 1})
    write_text(run / "manifest.json", "second")
print("whole", flush=True)
"""


def test_a_signal_before_any_step_leaves_the_old_run_or_the_new_one(tmp_path):
    """A signal before the first, second, ... thing that reaches the disk, until none is left."""
    states = []
    for step in range(1, 200):
        place = tmp_path / str(step)
        place.mkdir()
        number = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[step % 3]
        done = python(STEP_BY_STEP, place, int(number), step)
        manifest = (place / "run/manifest.json").read_text()
        whole = ["run", "run/a", "run/a/values.json", "run/b", "run/b/values.json"]
        expected = {"first": ["run"], "second": whole}[manifest]
        assert everything(place) == sorted([*expected, "run/manifest.json"]), step
        if done.returncode == 0:
            break
        assert done.returncode == 128 + number, done.stderr
        assert done.stderr.count("\n") == 1
        tells = {"first": "Nothing was written", "second": "are complete"}[manifest]
        assert tells in done.stderr, step
        assert ("the earlier run there is as it was" in done.stderr) == (manifest == "first")
        states.append(manifest)
    assert done.stdout == "whole\n"
    assert states.count("first") > 15
    assert "second" in states


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_where_python_would_lose_the_exception(tmp_path, number):
    """In a finaliser Python prints an exception and goes on; in a clean-up a second one rises."""
    program = f"""
        interruption.guard()
        class Late:
            def __del__(self):
                signal.raise_signal({int(number)})
        with output_folder(place / "run") as run:
            late = Late()
            del late
            print("went on")
    """
    done = python(program, tmp_path)
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("brainkit: interrupted")
    assert everything(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_library_is_at_work(tmp_path, number):
    """Half a minute of hashing, of which Python's handlers learn nothing before its end."""
    program = f"""
        import hashlib, threading
        interruption.guard()
        with output_folder(place / "run") as run:
            write_text(run / "manifest.json", "{{}}")
            threading.Timer(0.3, lambda: os.kill(os.getpid(), {int(number)})).start()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 10**8)
            print("went on")
    """
    started = time.monotonic()
    done = python(program, tmp_path)
    assert time.monotonic() - started < 15
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert done.stderr.count("\n") == 1
    assert everything(tmp_path) == []


def test_what_was_to_be_ignored_stays_ignored(tmp_path):
    program = """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        interruption.guard()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGHUP)
        print("went on")
    """
    assert python(program, tmp_path).stdout == "went on\n"


def test_closed_streams_take_no_files_place(tmp_path):
    """The first file that is opened would else be standard output, or standard error."""
    program = """
        interruption.guard()
        with (place / "data.txt").open("w") as file:
            print(file.fileno(), file=file)
        os.write(1, b"to nobody")
        print("to nobody either", file=sys.stderr)
        assert int((place / "data.txt").read_text()) > 2
        (place / "done").touch()
    """
    text = HEAD + textwrap.dedent(program)
    command = f'{sys.executable} -c "$PROGRAM" {tmp_path} >&- 2>&-'
    subprocess.run(["bash", "-c", command], check=False, env=os.environ | {"PROGRAM": text})
    assert everything(tmp_path) == ["data.txt", "done"]


@pytest.mark.usefixtures("control_c")
def test_signals_wait_for_the_end_of_a_block():
    done = []
    with pytest.raises(KeyboardInterrupt), undisturbed():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append("whole")
    assert done == ["whole"]


@pytest.mark.usefixtures("control_c")
def test_a_run_is_whole_though_control_c_comes_while_it_takes_its_place(tmp_path, monkeypatch):
    out = tmp_path / "run"
    with output_folder(out) as folder:
        write_text(folder / "manifest.json", "first")
    rename = Path.replace

    def disturbed(self, target):
        signal.raise_signal(signal.SIGINT)
        return rename(self, target)

    with pytest.raises(KeyboardInterrupt), output_folder(out, overwrite=True) as folder:
        write_text(folder / "manifest.json", "second")
        monkeypatch.setattr(Path, "replace", disturbed)
    assert everything(tmp_path) == ["run", "run/manifest.json"]
    assert (out / "manifest.json").read_text() == "second"


def test_what_ends_well_is_left_alone(tmp_path):
    path = tmp_path / "file"
    with half_written(path):
        path.write_text("x")
    assert path.read_text() == "x"
