"""Bars: only for what takes long, on standard error; few whole lines in a log."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time

import pytest

from brainkit.arrays import progress
from brainkit.arrays.progress import is_live, track, waiting

PROGRAM = """
import time
from brainkit.arrays import progress
progress.DELAY = 0.2
for subject in progress.track(range(2), "subjects"):
    with progress.waiting("loading"):
        for step in progress.track(range(20), "steps"):
            time.sleep(0.03)
print("done")
"""


@pytest.fixture
def brief(monkeypatch):
    """Bars after a tenth of a second."""
    monkeypatch.setattr(progress, "DELAY", 0.1)


def test_short_work_shows_nothing(capsys):
    assert list(track(range(5), "counting")) == [0, 1, 2, 3, 4]
    with waiting("a moment"):
        pass
    assert capsys.readouterr() == ("", "")


def test_a_log_gets_few_whole_lines(brief, capsys):
    assert not is_live()
    for _ in track(range(60), "counting"):
        time.sleep(0.01)
    out, err = capsys.readouterr()
    assert out == ""
    first, last = err.splitlines()  # half a minute to the next, and the work is done before
    assert first.startswith("counting:")
    assert "100%" not in first
    assert last.startswith("counting: 100%")
    assert "| 60/60 [" in last
    assert "\r" not in err
    assert err.isascii()


def test_a_log_counts_right(brief, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LOG_INTERVAL", 0.3)
    for _ in track(range(80), "counting"):
        time.sleep(0.01)
    counts = [
        int(line.split("|")[2].split("/")[0]) for line in capsys.readouterr().err.splitlines()
    ]
    assert len(counts) > 1
    assert counts == sorted(counts)
    assert counts[-1] <= 80


def test_a_log_has_room_for_how_it_stands(brief, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LOG_INTERVAL", 0.3)
    said = "loss 0.8963, score 0.3421"
    for _ in track(range(80), "SemanticReadout", state=lambda: said):
        time.sleep(0.01)
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_waiting_says_what_for(brief, capsys):
    with waiting("report"):
        time.sleep(0.3)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "report … 00:00\n"


def test_an_error_inside_goes_through(brief, capsys):
    def fail(around):
        with around:
            time.sleep(0.2)
            raise KeyError

    with pytest.raises(KeyError):
        fail(waiting("report"))
    assert capsys.readouterr().err == "report … 00:00\n"
    assert list(track((n for n in "ab"), "letters", total=2)) == ["a", "b"]


def test_a_notebook_counts_as_live(monkeypatch):
    notebook = type("OutStream", (), {"__module__": "ipykernel.iostream", "isatty": bool})
    monkeypatch.setattr(sys, "stderr", notebook())
    assert is_live()


def test_nested_bars_on_a_terminal_are_cleared():
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=follower
    )
    os.close(follower)
    stdout, _ = process.communicate(timeout=60)
    written = b""
    try:
        while chunk := os.read(leader, 65536):
            written += chunk
    except OSError:  # how a terminal ends on Linux
        pass
    os.close(leader)
    assert stdout == b"done\n"
    text = written.decode()
    assert "subjects" in text
    assert "steps" in text
    assert "loading … 00:0" in text
    # Every step down is taken back, and the last thing left on the line is blank.
    assert text.count("\n") == text.count("\x1b[A")
    assert text.rstrip("\r").rsplit("\r", 1)[-1].strip() == ""


def test_bars_can_be_turned_off():
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "TQDM_DISABLE": "1"}, capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    assert (process.stdout, process.stderr) == ("done\n", "")


def test_a_bar_changes_nothing_and_writes_nothing_to_standard_output(capsys):
    assert list(track(range(5), "counting")) == [0, 1, 2, 3, 4]
    assert list(track((n for n in "ab"), "letters", total=2)) == ["a", "b"]
    assert capsys.readouterr().out == ""
