"""Downloads: from a server that fails in each known way, and from the cache."""

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from settings import CORPORA, ROOT, needs_corpora

from microgpt.data import download
from microgpt.data.download import fetch
from microgpt.errors import UserError

CONTENT = b"emma\nolivia\nava\n" * 500
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT below 127.0.0.1, in the manner that the path names; counts requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []
        self.released = threading.Event()

    def url(self, manner: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{manner}"


class Handler(BaseHTTPRequestHandler):
    server: Server  # type: ignore[assignment]

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        getattr(self, self.path.strip("/"))()

    def answer(self, status: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def good(self) -> None:
        self.answer(200, CONTENT)

    def redirect(self) -> None:
        self.answer(302, Location="/good")

    def missing(self) -> None:
        self.answer(404)

    def busy_once(self) -> None:
        self.answer(500) if len(self.server.requests) == 1 else self.good()

    def truncated(self) -> None:
        self.answer(200, CONTENT[:2000], length=len(CONTENT))

    def stalled(self) -> None:
        self.answer(200, CONTENT[:2000], length=len(CONTENT))
        self.wfile.flush()
        self.server.released.wait()

    def silent(self) -> None:
        self.server.released.wait()

    def redirect_for_ever(self) -> None:
        self.answer(302, Location="/redirect_for_ever")

    def redirect_to_nonsense(self) -> None:
        self.answer(302, Location="http://[::1/names.txt")

    def redirect_to_a_file(self) -> None:
        self.answer(302, Location="file:///etc/passwd")

    def redirect_to_no_name(self) -> None:
        self.answer(302, Location=f"http://{'x' * 300}/names.txt")

    def wrong_length(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "many")
        self.end_headers()
        self.wfile.write(CONTENT[:2000])

    def no_gzip(self) -> None:
        self.answer(200, CONTENT, None, **{"Content-Encoding": "gzip"})

    def endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            while True:
                self.wfile.write(CONTENT)

    def wrong(self) -> None:
        self.answer(200, b"<html>log in to the hotel's network</html>")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in http.server
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


def fetch_names(url: str, folder: Path, retries: int = 0, timeout: float = 30) -> Path:
    return fetch("names", url, SHA256, "names.txt", folder, retries=retries, timeout=timeout)


def refusal_of_fetch(url: str, folder: Path, timeout: float = 30, retries: int = 0) -> str:
    """The message with which a fetch fails; it is one line, says what and where, and leaves no file behind."""
    with pytest.raises(UserError) as error:
        fetch_names(url, folder, timeout=timeout, retries=retries)
    message = str(error.value)
    assert "\n" not in message
    for part in ("dataset=names", url, "dataset=colors", "datasets_dir="):
        assert part in message
    assert list(folder.iterdir()) == []
    return message


@pytest.mark.parametrize("manner", ["good", "redirect"])
def test_a_file_is_fetched(server: Server, tmp_path: Path, manner: str) -> None:
    folder = tmp_path / "made" / "on the way"
    path = fetch_names(server.url(manner), folder)
    assert path == folder / "names.txt"
    assert path.read_bytes() == CONTENT
    assert list(folder.iterdir()) == [path]


def test_a_cached_file_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    first = fetch_names(server.url("good"), tmp_path)
    second = fetch_names(server.url("good"), tmp_path)
    assert first == second
    assert server.requests == ["/good"]


def test_a_cached_file_needs_no_library_for_downloads(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(CONTENT)
    code = f"""
import sys
from pathlib import Path
from microgpt.data.download import fetch
fetch("names", "http://127.0.0.1:1/unused", {SHA256!r}, "names.txt", Path({str(tmp_path)!r}))
print(*(name for name in ("urllib3", "requests") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr


def test_a_download_that_fails_once_is_retried(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE", 0)
    assert fetch_names(server.url("busy_once"), tmp_path, retries=1).read_bytes() == CONTENT
    assert server.requests == ["/busy_once"] * 2


@pytest.mark.parametrize(
    ("manner", "reason"),
    [
        ("missing", "the server answers 404"),
        ("busy_once", "the server answers 500"),
        ("truncated", "broke off"),
        ("wrong", "checksum"),
    ],
)
def test_a_failed_download_is_a_one_line_error_and_leaves_no_file(
    server: Server, tmp_path: Path, manner: str, reason: str
) -> None:
    assert reason in refusal_of_fetch(server.url(manner), tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("manner", "reason", "n_requests"),
    [
        ("missing", "the server answers 404", 1),
        ("redirect_for_ever", "it redirects more than 5 times", 6),
        ("redirect_to_nonsense", "is malformed or not one of http or https", 1),
        ("redirect_to_a_file", "is malformed or not one of http or https", 1),
        ("redirect_to_no_name", "is malformed or not one of http or https", 1),
        ("no_gzip", "broke off", 4),
        ("endless", "it sends more than", 1),
    ],
)
def test_only_a_failure_that_may_pass_is_tried_again(
    server: Server, tmp_path: Path, manner: str, reason: str, n_requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PAUSE", 0)
    monkeypatch.setattr(download, "MAX_BYTES", 1 << 20)
    assert reason in refusal_of_fetch(server.url(manner), tmp_path, retries=3)
    assert len(server.requests) == n_requests


def test_a_malformed_answer_is_a_one_line_error(server: Server, tmp_path: Path) -> None:
    refusal_of_fetch(server.url("wrong_length"), tmp_path)


def test_what_a_killed_download_left_is_removed_by_the_next(server: Server, tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from microgpt.data.download import fetch
fetch("names", {server.url("stalled")!r}, {SHA256!r}, "names.txt", Path({str(tmp_path)!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)})
    while not list(tmp_path.glob(f".names.txt.*{download.PARTIAL}")):
        assert process.poll() is None
        time.sleep(0.01)
    with pytest.raises(UserError):  # the other process still downloads: what it writes stays
        fetch_names(server.url("missing"), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    process.kill()
    process.wait()
    assert len(list(tmp_path.iterdir())) == 1
    fetch_names(server.url("good"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["names.txt"]


def test_a_download_that_begins_is_not_taken_for_a_left_over(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = download.lock_if_free

    def lock_late(folder: Path) -> AbstractContextManager[bool]:
        monkeypatch.setattr(download, "lock_if_free", lock)
        download.remove_left_overs(folder.parent)  # as another process does that begins now
        return lock(folder)

    monkeypatch.setattr(download, "lock_if_free", lock_late)
    with download.partial_folder(tmp_path / "names.txt") as folder:
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_used_is_named_with_its_setting(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("x")
    (tmp_path / "folder/names.txt").mkdir(parents=True)
    for folder in (tmp_path / "a file", tmp_path / "folder", Path("/proc/nowhere"), tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match="choose another folder with datasets_dir=") as error:
            fetch_names(server.url("good"), folder)
        assert str(error.value).startswith(f"datasets_dir={folder}: ") and "hydra" not in str(error.value)


def test_a_failed_download_leaves_no_new_folder(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        fetch_names(server.url("missing"), tmp_path / "new/folder")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("manner", ["silent", "stalled"])
def test_a_server_that_sends_nothing_causes_a_timeout_error(server: Server, tmp_path: Path, manner: str) -> None:
    assert "sent nothing for 0.3 s" in refusal_of_fetch(server.url(manner), tmp_path, timeout=0.3)


def test_a_missing_connection_is_a_one_line_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert "no connection" in refusal_of_fetch(f"http://127.0.0.1:{port}/names.txt", tmp_path)


def test_after_a_failed_download_the_next_one_succeeds(server: Server, tmp_path: Path) -> None:
    refusal_of_fetch(server.url("truncated"), tmp_path)
    assert fetch_names(server.url("good"), tmp_path).read_bytes() == CONTENT


def test_a_cached_file_that_is_not_the_pinned_one_is_refused_and_kept(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(b"my own\nnames\n")
    with pytest.raises(UserError, match=r"dataset=names: .*delete it.*dataset=file") as error:
        fetch_names(server.url("good"), tmp_path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert path.read_bytes() == b"my own\nnames\n"
    assert server.requests == []


DOWNLOADED = ["names", "pokemon", "cities", "english_words", "paul_graham", "shakespeare"]


@needs_corpora
@pytest.mark.parametrize("name", DOWNLOADED)
def test_the_pinned_file_of_a_corpus_is_taken_from_the_cache(name: str) -> None:
    dataset: Any = OmegaConf.load(ROOT / "conf" / "dataset" / f"{name}.yaml").dataset
    path = fetch(name, "http://127.0.0.1:1/unused", dataset.sha256, dataset.file, CORPORA)
    assert path == CORPORA / dataset.file
    assert hashlib.sha256(path.read_bytes()).hexdigest() == dataset.sha256
