"""What holds for all commands: help with an example, version, JSON alone on stdout, interrupts."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import brainkit
from brainkit.cli import app
from brainkit.data.cards import card_names, read_card
from brainkit.jobs import runner as running

COMMANDS = [command.callback.__name__ for command in app.registered_commands]
NO_FOLDER = {"download", "datasets", "features", "parts"}  # commands that make no run folder
PROGRAM = Path(sys.executable).with_name("brainkit")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(call, command):
    result = call(command, "--help")
    assert result.exit_code == 0
    assert f"Example: brainkit {command}" in result.stdout
    assert "--json" in result.stdout
    assert ("--out" in result.stdout) == (command not in NO_FOLDER)


def test_help_lists_the_commands(call):
    result = call("--help")
    assert result.exit_code == 0
    assert all(command in result.stdout for command in COMMANDS)
    nothing = call()
    assert nothing.exit_code == 2
    assert "Usage" in nothing.output


def test_version(call):
    result = call("--version")
    assert result.exit_code == 0
    assert result.stdout == f"brainkit {brainkit.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["encode"], "brainkit: Missing argument 'CARD'. See 'brainkit encode --help'."),
        (["encod"], "No such command 'encod'"),
        (["--nope"], "No such option: --nope"),
        (["encode", "nsd", "--nope"], "No such option: --nope"),
        (["encode", "nsd", "--root"], "'--root' requires an argument"),
        (["demo", "--subjects", "9"], "Invalid value for '--subjects'"),
        (["demo", "--subjects", "1"], "Invalid value for '--subjects'"),
        (["demo", "--images", "499"], "Invalid value for '--images'"),
        (["demo", "--seed", "x"], "Invalid value for '--seed'"),
    ],
)
def test_a_mistyped_command_line(refused, arguments, said):
    assert said in refused(*arguments)


def test_datasets(call, refused):
    lines = call("datasets").stdout.splitlines()
    assert [line.split()[0] for line in lines] == card_names()
    whole = call("datasets", "nsd").stdout
    card = read_card("nsd")
    assert card.title in whole
    assert card.licence.name in whole
    assert card.citation in whole
    assert "encode: encode-energy" in whole
    (given,) = json.loads(call("datasets", "nsd", "--json").stdout)
    assert given == card.model_dump(mode="json")
    assert [c["name"] for c in json.loads(call("datasets", "--json").stdout)] == card_names()
    assert "there are bold5000, digits69, haxby, nsd" in refused("datasets", "nope")


def test_a_card_of_ones_own(call, nsd, recipes, tmp_path, monkeypatch):
    """Given as a file: its options are used and the default run folder has its name."""
    content = read_card("nsd").model_dump(mode="json")
    content |= {"name": "mine", "options": {"mask": "V1"}, "recipes": {}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    arguments = ["mine.yaml", "--root", nsd, "--subject", "1", "--recipe", recipes["encode"]]
    assert call("encode", *arguments).exit_code == 0
    manifest = json.loads((tmp_path / "runs" / "encode-mine" / "manifest.json").read_text())
    assert manifest["card"] == "mine"
    units = manifest["subjects"]["subj01"]["counts"]["units"]
    assert units == brainkit.load("nsd", nsd, 1, mask="V1").responses.shape[1]


def test_a_card_without_a_default_recipe(refused, nsd, tmp_path):
    content = {**read_card("nsd").model_dump(mode="json"), "recipes": {}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    said = refused("encode", tmp_path / "mine.yaml", "--root", nsd)
    assert "no default recipe to encode: give one with --recipe, of" in said


FULL = OSError(28, "No space left on device", "x")


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("load", KeyboardInterrupt),
        ("_run_person", KeyboardInterrupt),
        ("write_json", KeyboardInterrupt),
        ("save_result", FULL),
        ("write_json", FULL),
    ],
)
def test_what_breaks_off_leaves_nothing(call, contents, base, tmp_path, monkeypatch, step, error):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr(running, step, broken)
    result = call(*base("encode"))
    assert result.exit_code == (130 if error is KeyboardInterrupt else 2)
    expected = "interrupted" if error is KeyboardInterrupt else "No space left on device: x"
    assert expected in result.stderr
    assert result.stderr.splitlines()[-1].startswith("brainkit: ")
    assert contents(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_process(base, tmp_path, contents):
    """Control-C in the middle of a real process, with nothing replaced."""
    slow = ["--set", "protocol.permutations=100000000", "--set", "protocol.split=kfold:5"]
    command = [str(PROGRAM), *map(str, base("encode")), *slow]
    # A test run in the background ignores Control-C, and its children would inherit that.
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    deadline = time.monotonic() + 60
    while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert any(path.name.endswith(".unfinished") for path in tmp_path.iterdir())
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    try:
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert stdout == ""
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1].startswith("brainkit: interrupted")
    assert contents(tmp_path) == {}


def test_a_fault_of_our_own_is_not_hidden(call, base, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(running, "_run_person", broken)
    with pytest.raises(ZeroDivisionError, match="ours"):
        call(*base("encode"))


def test_too_little_memory(refused, base, monkeypatch):
    def broken(*_, **__):
        raise MemoryError

    monkeypatch.setattr(running, "_run_person", broken)
    assert "not enough memory" in refused(*base("encode"))
