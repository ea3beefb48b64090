"""Downloads against a local HTTP server: whole, resumed, broken off, wrong, refused."""

import hashlib
import http.server
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from brainkit.data import download as module
from brainkit.data.cards import DatasetCard, read_card
from brainkit.data.download import download
from brainkit.errors import DownloadError, OutputError

CONTENT = np.random.default_rng(0).bytes(600_000)


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        state = self.server.state
        state.asked.append(self.headers.get("Range"))
        if self.path != "/69digits.mat":
            self.send_error(404, "Not Found")
            return
        start = 0
        if state.ranges and "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(state.content):
                self.send_error(416, "Range Not Satisfiable")
                return
            self.send_response(206)
            total = len(state.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        body = state.content[start:]
        if state.announce:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        half = len(body) // 2 if state.pause else len(body)
        self.wfile.write(body[:half][: state.breaks_after])
        self.wfile.flush()
        time.sleep(state.pause)
        self.wfile.write(body[half : state.breaks_after])
        while state.endless:
            self.wfile.write(CONTENT)
        if state.breaks_after is not None:
            self.wfile.flush()
            self.connection.close()


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.state = SimpleNamespace(
            content=CONTENT, ranges=True, breaks_after=None, announce=True, endless=False, pause=0,
            asked=[],
        )  # fmt: skip
        running.state.url = f"http://127.0.0.1:{running.server_address[1]}/69digits.mat"
        running.handle_error = lambda *_: None  # a client that hangs up is part of the tests
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running.state
        running.shutdown()
        thread.join()


def card(url, content=CONTENT, path="69digits.mat"):
    file = {
        "path": path,
        "url": url,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
    }
    whole = read_card("digits69").model_dump()
    return DatasetCard.model_validate({**whole, "files": [file]})


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("path", ["69digits.mat", "deep/er/69digits.mat"])
def test_fresh(server, tmp_path, ranges, path):
    server.ranges = ranges
    (target,) = download(card(server.url, path=path), tmp_path / "new" / "folder")
    assert target == tmp_path / "new" / "folder" / path
    assert target.read_bytes() == CONTENT
    assert names(tmp_path) == [f"new/folder/{path}"]
    assert server.asked == [None]
    download(card(server.url, path=path), tmp_path / "new" / "folder")
    assert server.asked == [None]  # already there: nothing is asked


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("announce", [True, False])
def test_broken_off_then_resumed(server, tmp_path, ranges, announce):
    server.ranges, server.announce, server.breaks_after = ranges, announce, 100_000
    with pytest.raises(DownloadError, match=r"run the same command again|broke off"):
        download(card(server.url), tmp_path)
    assert names(tmp_path) == ["69digits.mat.part"]
    part = (tmp_path / "69digits.mat.part").read_bytes()
    assert part == CONTENT[: len(part)]
    assert len(part) <= 100_000
    server.breaks_after = None
    (target,) = download(card(server.url), tmp_path)
    assert target.read_bytes() == CONTENT
    assert names(tmp_path) == ["69digits.mat"]
    assert server.asked == [None, f"bytes={len(part)}-" if len(part) else None]


DOWNLOADS = """
import sys
from brainkit.data.cards import read_card
from brainkit.data.download import download
print(download(read_card(sys.argv[1]), sys.argv[2])[0].stat().st_size)
"""


def test_several_processes_fetch_a_file_once(server, tmp_path):
    """The transfer takes half a second, in which the others come."""
    server.pause = 0.5
    (tmp_path / "card.yaml").write_text(
        yaml.safe_dump(card(server.url).model_dump(mode="json")), encoding="utf-8"
    )
    command = [sys.executable, "-c", DOWNLOADS, str(tmp_path / "card.yaml"), str(tmp_path / "root")]
    several = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate(timeout=60)[0] for process in several]
    assert said == [f"{len(CONTENT)}\n"] * 4
    assert server.asked == [None]
    assert (tmp_path / "root" / "69digits.mat").read_bytes() == CONTENT
    assert names(tmp_path / "root") == ["69digits.mat"]


def test_a_transfer_goes_on_where_another_process_was_killed(server, tmp_path):
    server.pause, server.breaks_after = 30, 100_000
    (tmp_path / "card.yaml").write_text(
        yaml.safe_dump(card(server.url).model_dump(mode="json")), encoding="utf-8"
    )
    root = tmp_path / "root"
    command = [sys.executable, "-c", DOWNLOADS, str(tmp_path / "card.yaml"), str(root)]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (root / "69digits.mat.part").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    first.kill()
    first.wait()
    server.pause, server.breaks_after = 0, None
    (target,) = download(card(server.url), root)
    assert target.read_bytes() == CONTENT
    assert names(root) == ["69digits.mat"]


def test_a_folder_with_all_files_is_only_read(server, tmp_path, monkeypatch):
    (tmp_path / "69digits.mat").write_bytes(CONTENT)

    def never(*_, **__):
        raise AssertionError("locked though nothing is to be written")

    monkeypatch.setattr(module, "exclusive", never)
    download(card(server.url), tmp_path)
    assert server.asked == []


def test_a_complete_part_is_only_checked(server, tmp_path):
    (tmp_path / "69digits.mat.part").write_bytes(CONTENT)
    download(card(server.url), tmp_path)
    assert server.asked == []
    assert (tmp_path / "69digits.mat").read_bytes() == CONTENT


@pytest.mark.parametrize("size", [10, 600_000, 700_000])
def test_a_part_of_another_file(server, tmp_path, size):
    """Removed when found out; the next call begins anew and succeeds."""
    (tmp_path / "69digits.mat.part").write_bytes(b"x" * size)
    if size <= len(CONTENT):
        with pytest.raises(DownloadError, match="removed"):
            download(card(server.url), tmp_path)
        assert names(tmp_path) == []
    download(card(server.url), tmp_path)
    assert (tmp_path / "69digits.mat").read_bytes() == CONTENT


def test_wrong_content_never_takes_the_name(server, tmp_path):
    wanted = card(server.url)
    server.content = CONTENT[::-1]
    with pytest.raises(DownloadError, match=r"not the pinned file: expected SHA-256"):
        download(wanted, tmp_path)
    assert names(tmp_path) == []


def test_an_endless_answer_is_broken_off(server, tmp_path):
    wanted = card(server.url, CONTENT[:1000])
    server.announce, server.endless = False, True
    with pytest.raises(DownloadError, match="not the pinned file"):
        download(wanted, tmp_path)
    assert names(tmp_path) == []


def test_a_part_longer_than_the_servers_file(server, tmp_path):
    """The server answers 416; the part must not stand in the way for ever."""
    server.content = CONTENT[:5000]
    (tmp_path / "69digits.mat.part").write_bytes(CONTENT[:6000])
    with pytest.raises(DownloadError, match="partial file was removed"):
        download(card(server.url), tmp_path)
    assert names(tmp_path) == []
    server.content = CONTENT
    download(card(server.url), tmp_path)
    assert (tmp_path / "69digits.mat").read_bytes() == CONTENT


def test_another_file_of_that_name_is_not_overwritten(server, tmp_path):
    (tmp_path / "69digits.mat").write_text("mine")
    with pytest.raises(OutputError, match="Move it away"):
        download(card(server.url), tmp_path)
    assert (tmp_path / "69digits.mat").read_text() == "mine"
    assert server.asked == []


def test_not_found(server, tmp_path):
    with pytest.raises(DownloadError, match="the server answered 404"):
        download(card(server.url.replace("69digits", "70digits")), tmp_path)
    assert names(tmp_path) == []


def test_unreachable(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as closed:
        port = closed.server_address[1]
    monkeypatch.setattr(module, "TIMEOUT", 2.0)
    with pytest.raises(DownloadError, match="could not be fetched"):
        download(card(f"http://127.0.0.1:{port}/69digits.mat"), tmp_path)
    assert names(tmp_path) == []


def test_folders_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "x", "/proc/x", "/sys/x"):
        with pytest.raises(OutputError, match=r"is a file|cannot be written"):
            download(card(server.url), folder)
    (tmp_path / "69digits.mat").mkdir()
    with pytest.raises(OutputError):
        download(card(server.url), tmp_path)
    assert names(tmp_path) == ["file"]
    assert server.asked == []


def test_data_that_are_not_public_say_how_to_get_them(tmp_path):
    with pytest.raises(DownloadError, match=r"NSD Terms.*agreement"):
        download(read_card("nsd"), tmp_path / "nsd")
    assert not (tmp_path / "nsd").exists()


def test_the_pinned_file_is_the_real_one(shared_data):
    (file,) = read_card("digits69").files
    real = shared_data / "digits69" / "69digits.mat"
    assert real.stat().st_size == file.size
    assert module.sha256(real) == file.sha256
    assert module.fetch(file, real) == real  # there and correct: nothing to do
