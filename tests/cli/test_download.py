"""``brainkit download`` against a local server: licence, verified file, no second transfer."""

import functools
import hashlib
import http.server
import json
import signal
import subprocess
import sys
import textwrap
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from brainkit.data.cards import read_card

CONTENT = np.random.default_rng(1).bytes(200_000)


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Serve a file, and a card of one's own that pins it."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "69digits.mat").write_bytes(CONTENT)
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        content = read_card("digits69").model_dump(mode="json")
        (file,) = content["files"]
        file |= {"sha256": hashlib.sha256(CONTENT).hexdigest(), "size": len(CONTENT)}

        def card(path="69digits.mat"):
            file["url"] = f"http://127.0.0.1:{server.server_address[1]}/{path}"
            (tmp_path / "digits69.yaml").write_text(yaml.safe_dump(content))
            return tmp_path / "digits69.yaml"

        yield SimpleNamespace(card=card, asked=server.asked, file=folder / "69digits.mat")
        server.shutdown()
        thread.join()


def test_licence_file_and_no_second_transfer(call, served, tmp_path):
    arguments = ["download", served.card(), "--root", tmp_path / "root"]
    result = call(*arguments)
    assert result.exit_code == 0
    target = tmp_path / "root" / "69digits.mat"
    assert target.read_bytes() == CONTENT
    assert result.stdout == f"{target}\n"
    card = read_card("digits69")
    assert card.title in result.stderr
    assert f"Licence: {card.licence.name}" in result.stderr
    assert card.citation in result.stderr
    assert f"--root {tmp_path / 'root'}" in result.stderr.splitlines()[-1]
    stamp = target.stat().st_mtime_ns
    again = call(*arguments, "--json")
    assert json.loads(again.stdout) == [str(target)]
    assert served.asked == ["/69digits.mat"]
    assert target.stat().st_mtime_ns == stamp


@pytest.mark.parametrize(("given", "folder"), [(True, "base/digits69"), (False, "data/digits69")])
def test_where_files_go_without_a_root(call, served, tmp_path, monkeypatch, given, folder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BRAINKIT_DATA", str(tmp_path / "base") if given else "")
    assert call("download", served.card()).exit_code == 0
    assert (tmp_path / folder / "69digits.mat").read_bytes() == CONTENT


def last(result):
    """Give the sentence; the licence stands before it."""
    assert result.exit_code == 2
    assert result.stdout == ""
    sentence = result.stderr.splitlines()[-1]
    assert sentence.startswith("brainkit: ")
    return sentence


def test_not_found(call, contents, served, tmp_path):
    result = call("download", served.card("other.mat"), "--root", tmp_path / "root")
    assert "the server answered 404" in last(result)
    assert contents(tmp_path / "root") == {}


def test_another_content(call, contents, served, tmp_path):
    served.file.write_bytes(CONTENT[::-1])
    result = call("download", served.card(), "--root", tmp_path / "root")
    assert "is not the pinned file" in last(result)
    assert contents(tmp_path / "root") == {}


def test_what_is_in_the_way(call, served, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "69digits.mat").write_text("mine")
    result = call("download", served.card(), "--root", tmp_path / "root")
    assert "Move it away" in last(result)
    assert (tmp_path / "root" / "69digits.mat").read_text() == "mine"
    result = call("download", served.card(), "--root", tmp_path / "root" / "69digits.mat")
    assert "is a file" in last(result)
    assert served.asked == []


def test_data_by_agreement(refused, tmp_path):
    said = refused("download", "nsd", "--root", tmp_path / "nsd")
    assert "NSD Terms" in said
    assert "Sign the agreement" in said
    assert not (tmp_path / "nsd").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_download_that_is_interrupted_says_how_to_go_on(call, served, tmp_path, number):
    """What has arrived stays, and the same command fetches the rest."""
    root = tmp_path / "root"
    program = f"""
        import signal
        from brainkit.data import download
        real = download.sha256
        def disturbed(path):
            if path.name.endswith(".part"):
                with path.open("r+b") as file:
                    file.truncate(50_000)
                signal.raise_signal({int(number)})
            return real(path)
        download.sha256 = disturbed
        from brainkit.__main__ import main
        main()
    """
    arguments = ["download", served.card(), "--root", root]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert "0 of 1 files of digits69 are complete" in last
    assert "the same command goes on from there" in last
    assert [path.name for path in root.iterdir()] == ["69digits.mat.part"]
    assert call(*arguments).exit_code == 0
    assert [path.name for path in root.iterdir()] == ["69digits.mat"]
    assert (root / "69digits.mat").read_bytes() == CONTENT
