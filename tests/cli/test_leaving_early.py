"""Signals, a full disk and a closed output: one line that tells what stands, in real processes."""

import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from brainkit.data.cards import card_names

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

PROGRAM = [sys.executable, "-m", "brainkit"]
SLOW = pytest.mark.slow
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def as_from_a_shell():
    """Take signals as a program in the foreground does, whatever the tests' own process does."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def start(arguments):
    """Start the program in a neutral folder."""
    return subprocess.Popen(
        arguments,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=as_from_a_shell,  # noqa: PLW1509
        cwd="/",
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def driven(program, *arguments):
    """Start the command line after a few lines of Python, as `python -m brainkit` does."""
    text = textwrap.dedent(program) + "\nfrom brainkit.__main__ import main\nmain()\n"
    return start([sys.executable, "-c", text, *map(str, arguments)])


def check_left_early(process, number, folder):
    """Check code and message of an interrupted process, and that no trace of its work is left."""
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 128 + number, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    assert "Exception ignored" not in stderr
    last = stderr.splitlines()[-1]
    assert last.startswith("brainkit: interrupted")
    assert (number.name in last) == (number is not signal.SIGINT)
    assert list(folder.iterdir()) == []
    return last


# ------------------------------------------------------------------------------------- signals

WHILE_IMPORTING = """
import importlib.abc, signal, sys
from brainkit.arrays import interruption

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {name!r}:
            signal.raise_signal({number})
            print("went on")

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (signal.SIGINT, "typer"),
        (signal.SIGTERM, "brainkit.errors"),
        (signal.SIGINT, "brainkit.cli.job_commands"),
        (signal.SIGHUP, "numpy"),
        (signal.SIGINT, "h5py"),
        (signal.SIGTERM, "brainkit.jobs.runner"),
    ],
)
def test_during_imports(base, tmp_path, number, name):
    program = WHILE_IMPORTING.format(name=name, number=int(number))
    said = check_left_early(driven(program, *base("encode")), number, tmp_path)
    assert "Nothing had been written" in said


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (signal.SIGTERM, "brainkit.jobs.runner:_run_person"),
        pytest.param(signal.SIGINT, "brainkit.jobs.runner:save_result", marks=SLOW),
        pytest.param(signal.SIGTERM, "brainkit.arrays.persistence:_encode", marks=SLOW),
        pytest.param(signal.SIGHUP, "brainkit.jobs.runner:write_report", marks=SLOW),
        (signal.SIGINT, "brainkit.arrays.atomic:_put_in_place"),
    ],
)
def test_at_a_step_of_a_run(base, tmp_path, number, step):
    module, name = step.split(":")
    program = f"""
        import importlib, signal
        place = importlib.import_module({module!r})
        real = place.{name}
        def disturbed(*arguments, **named):
            if {name!r} != "_put_in_place" or arguments[1].name == "out":
                signal.raise_signal({int(number)})
            return real(*arguments, **named)
        place.{name} = disturbed
    """
    process = driven(program, *base("encode"))
    if name == "_put_in_place":  # which is not to be parted: the run is whole
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 130
        assert "are complete" in stderr.splitlines()[-1]
        assert (tmp_path / "out" / "report.html").is_file()
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        return
    if name == "write_report":  # the person is done, and stays
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 128 + number
        assert "What is done of 1 of 1 people is kept in" in stderr.splitlines()[-1]
        assert [path.suffix for path in tmp_path.iterdir()] == [".unfinished"]
        return
    said = check_left_early(process, number, tmp_path)
    assert f"Nothing was written to {tmp_path / 'out'}" in said
    assert "The same command begins anew" in said


@pytest.mark.slow
def test_at_any_moment(base, tmp_path):
    """Eight moments of a run that takes some seconds, the first of them while Python starts."""
    chance = random.Random(0)
    out = tmp_path / "out"
    for turn in range(8):
        number = SIGNALS[turn % 3]
        process = start([*PROGRAM, *map(str, base("encode"))])
        time.sleep(chance.uniform(0.5, 5))
        process.send_signal(number)
        _, stderr = process.communicate(timeout=120)
        assert "Traceback" not in stderr
        assert "Exception ignored" not in stderr
        whole = (out / "manifest.json").is_file()
        left = [path for path in tmp_path.iterdir() if path != out]
        # Of a person who was done before the report was, what is done is kept.
        assert all((path / "subj01" / "person.json").is_file() for path in left)
        assert not (whole and left)
        for path in tmp_path.iterdir():
            shutil.rmtree(path)
        # A signal may also come when all is done, while Python itself is ending.
        assert process.returncode == 128 + number or (whole and process.returncode in (0, -number))


def test_a_second_control_c_does_not_break_the_tidying_off(base, tmp_path):
    program = """
        import shutil, signal
        import brainkit.jobs.runner as running
        real = shutil.rmtree
        def slow(*arguments, **named):
            for _ in range(3):
                signal.raise_signal(signal.SIGINT)
            return real(*arguments, **named)
        shutil.rmtree = slow
        running._run_person = lambda *_, **__: signal.raise_signal(signal.SIGINT)
    """
    check_left_early(driven(program, *base("encode")), signal.SIGINT, tmp_path)


def test_an_earlier_run_stays_as_it_was(call, contents, base, tmp_path):
    assert call(*base("encode")).exit_code == 0
    before = contents(tmp_path)
    program = """
        import signal
        import brainkit.jobs.runner as running
        running.write_report = lambda *_, **__: signal.raise_signal(signal.SIGTERM)
    """
    process = driven(program, *base("encode"), "--overwrite")
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 143
    last = stderr.splitlines()[-1]
    assert "the earlier run there is as it was" in last
    assert "What is done of 1 of 1 people is kept in" in last
    kept = [path for path in tmp_path.iterdir() if path.name.endswith(".unfinished")]
    assert len(kept) == 1  # the person is done; only the report was missing
    assert contents(tmp_path / "out") == {
        name.removeprefix("out/"): content for name, content in before.items()
    }
    assert call(*base("encode"), "--overwrite").exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# ----------------------------------------------------------------------------------- full disks


@pytest.mark.parametrize("kilobytes", [2, 40, 120])
def test_files_that_cannot_grow(base, tmp_path, kilobytes):
    """The report has 200 KB, tables and predictions 3 to 50."""
    limit = kilobytes * 1024

    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        [*PROGRAM, *map(str, base("encode"))],
        capture_output=True, text=True, check=False, timeout=120, preexec_fn=small, cwd="/",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("brainkit: File too large")
    assert f"Nothing was written to {tmp_path / 'out'}" in last
    assert "Free some space" in last
    assert list(tmp_path.iterdir()) == []


FULL = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, FULL, "x"),
        OSError("60000 requested and 8192 written"),  # NumPy
        OSError(f"[Errno 28] Error writing bytes to file. Detail: [errno 28] {FULL}"),  # Arrow
        OSError(f"Unable to write (file write failed: errno = 28, error message = '{FULL}')"),
    ],
    ids=["plain", "numpy", "arrow", "hdf5"],
)
def test_every_library_tells_of_a_full_disk_in_the_same_words(
    refused, base, contents, tmp_path, monkeypatch, error
):
    from brainkit.jobs import runner as running

    def broken(*_, **__):
        raise error

    monkeypatch.setattr(running, "save_result", broken)
    said = refused(*base("encode"))
    assert said.startswith(f"brainkit: {FULL}")
    assert "Nothing was written" in said
    assert "Free some space" in said
    assert contents(tmp_path) == {}


def test_a_command_tells_nothing_of_an_earlier_one(call, refused, base, monkeypatch):
    from brainkit.jobs import runner as running

    assert call(*base("encode")).exit_code == 0

    def broken(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(running, "read_card", broken)
    assert refused(*base("encode")) == (
        "brainkit: Input/output error. Nothing half-written is left in its place."
    )


# --------------------------------------------------------------------------------- closed output


def shell(line, *arguments):
    """Run the program in a line of bash, where it stands as $RUN."""
    words = " ".join(f"'{word}'" for word in [*PROGRAM, *map(str, arguments)])
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line.replace('$RUN', words)}"],
        capture_output=True, text=True, check=False, timeout=120, cwd="/",
    )  # fmt: skip


@pytest.mark.parametrize("command", [["datasets"], ["datasets", "nsd"], ["--help"], ["--version"]])
def test_a_reader_that_has_seen_enough(command):
    done = shell("$RUN | head -c 0", *command)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("line", ["$RUN >&-", "$RUN >/dev/full"])
def test_output_that_goes_nowhere(line):
    done = shell(line, "datasets")
    assert done.returncode == 1
    assert done.stderr.startswith("brainkit: Standard output could not be written")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("line", ["$RUN 2>&-", "$RUN 2>/dev/full", "$RUN 2> >(true)"])
def test_messages_that_go_nowhere(line):
    assert shell(line, "datasets").stdout.count("\n") == len(card_names())
    assert shell(line, "datasets", "nope").returncode == 2


@pytest.mark.parametrize(
    "line",
    [
        "$RUN >&-",
        pytest.param("$RUN >/dev/full", marks=SLOW),
        "$RUN | head -c 0",
        pytest.param("$RUN --json | head -c 0", marks=SLOW),
    ],
)
def test_a_run_is_whole_though_its_numbers_cannot_be_printed(base, tmp_path, line):
    done = shell(line, *base("encode"))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("brainkit: Standard output could not be written")
    assert f"The results in {tmp_path / 'out'} are complete" in last
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["card"] == "nsd"


def test_text_that_standard_output_cannot_encode():
    done = subprocess.run(
        [*PROGRAM, "datasets"], capture_output=True, check=False, timeout=60, cwd="/",
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.count(b"\n") == len(card_names())


# ------------------------------------------------------------------------------ foreign manifests


@pytest.fixture
def foreign(call, base, tmp_path):
    """The manifest of a run, as if it came from another machine."""
    assert call(*base("encode")).exit_code == 0
    path = tmp_path / "out" / "manifest.json"

    def changed(**changes):
        content = json.loads(path.read_text())
        content.update(changes)
        (tmp_path / "foreign.json").write_text(json.dumps(content))
        return tmp_path / "foreign.json"

    return changed


def test_a_manifest_with_a_foreign_root(call, refused, foreign, nsd, tmp_path):
    manifest = foreign(root="/elsewhere/nsd")
    again = ["encode", "nsd", "--recipe", manifest, "--out", tmp_path / "again"]
    said = refused(*again)
    assert "/elsewhere/nsd" in said
    assert "--root" in said
    assert call(*again, "--root", nsd).exit_code == 0


def test_a_manifest_with_a_foreign_file_among_its_options(call, refused, foreign, tmp_path):
    manifest = foreign(options={"mask": "/elsewhere/mask.nii.gz"})
    again = ["encode", "nsd", "--recipe", manifest, "--out", tmp_path / "again"]
    said = refused(*again)
    assert "/elsewhere/mask.nii.gz" in said
    assert "--option mask=PATH" in said
    assert call(*again, "--option", "mask=V1").exit_code == 0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("model.settings.network", "/elsewhere/net"),
        ("features.0.settings.model", "timm:/elsewhere/model@stem"),
        ("features.0.settings.model", "torchvision:resnet18//elsewhere/w.safetensors"),
    ],
)
def test_a_manifest_with_a_foreign_model(refused, foreign, tmp_path, setting, value):
    recipe = json.loads((tmp_path / "out" / "manifest.json").read_text())["recipe"]
    place = recipe
    *path, last = setting.split(".")
    for step in path:
        place = place[int(step)] if step.isdecimal() else place.setdefault(step, {})
    place[last] = value
    said = refused("encode", "nsd", "--recipe", foreign(recipe=recipe), "--out", tmp_path / "again")
    assert "/elsewhere/" in said
    assert f"--set {setting}=" in said
    assert "not on this machine" in said
    assert not Path(tmp_path / "again").exists()
