"""Fetching from a server that misbehaves in every known way, and reading what a corpus can look like."""

import hashlib
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import CORPORA, ROOT, needs_corpora
from omegaconf import OmegaConf

from microgpt.datasets import Corpus, fetch, paragraphs, read_corpus
from microgpt.errors import UserError

CONTENT = b"emma\nolivia\nava\n" * 500
SHA256 = hashlib.sha256(CONTENT).hexdigest()


# -- fetching ----------------------------------------------------------------------------------------------


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


def refusal_of_fetch(url: str, folder: Path, timeout: float = 30) -> str:
    """The message with which a fetch fails; it is one line, says what and where, and leaves no file behind."""
    with pytest.raises(UserError) as error:
        fetch_names(url, folder, timeout=timeout)
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
from microgpt.datasets import fetch
fetch("names", "http://127.0.0.1:1/unused", {SHA256!r}, "names.txt", Path({str(tmp_path)!r}))
print(*(name for name in ("pooch", "requests") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr


def test_a_download_that_fails_once_is_tried_again(server: Server, tmp_path: Path) -> None:
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
def test_a_failed_download_is_one_line_and_leaves_nothing(
    server: Server, tmp_path: Path, manner: str, reason: str
) -> None:
    assert reason in refusal_of_fetch(server.url(manner), tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize("manner", ["silent", "stalled"])
def test_a_server_that_sends_nothing_is_given_up(server: Server, tmp_path: Path, manner: str) -> None:
    assert "nothing came for 0.3 s" in refusal_of_fetch(server.url(manner), tmp_path, timeout=0.3)


def test_no_connection_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


# -- reading -----------------------------------------------------------------------------------------------


def read(path: Path, content: str | bytes, mode: str = "discrete", **options: Any) -> Corpus:
    """The corpus of a file with this content; the reader is the one that its suffix names."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    reader = {".txt": "text", ".csv": "csv", ".zip": "zip"}[path.suffix]
    return read_corpus("file", mode, reader=reader, path=path, **options)


def refusal_of_reading(path: Path, content: str | bytes, mode: str = "discrete", **options: Any) -> str:
    with pytest.raises(UserError) as error:
        read(path, content, mode, **options)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return tmp_path / "corpus.txt"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "corpus.csv"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A ZIP archive with two files in it."""
    path = tmp_path / "corpus.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.txt", "aa\r\nbb\r\n" * 40)
        file.writestr("b.txt", "cc\r\n")
    return path


def test_discrete_documents_are_stripped_lines_in_their_order(text: Path) -> None:
    assert read(text, "zoe\n  anna \n\n \t\nmia").documents == ["zoe", "anna", "mia"]


@pytest.mark.parametrize("mode", ["discrete", "stream"])
def test_crlf_and_a_bom_leave_no_trace(text: Path, mode: str) -> None:
    corpus = read(text, b"\xef\xbb\xbfone\r\ntwo\r\n\r\nthree\r\n", mode)
    assert corpus.documents == (["one", "two", "three"] if mode == "discrete" else ["one\ntwo", "three"])


def test_duplicates_are_removed_and_counted(text: Path) -> None:
    corpus = read(text, "a\nb\na \nc\na\n")
    assert (corpus.documents, corpus.duplicates) == (["a", "b", "c"], 2)


def test_a_stream_keeps_its_repeated_paragraphs(text: Path) -> None:
    corpus = read(text, "a\n\nb\n\na\n", "stream")
    assert (corpus.documents, corpus.duplicates) == (["a", "b", "a"], 0)


def test_lowercase_makes_duplicates_of_what_differed_in_case(text: Path) -> None:
    corpus = read(text, "Anna\nanna\nÉVA\n", lowercase=True)
    assert (corpus.documents, corpus.duplicates) == (["anna", "éva"], 1)


def test_text_is_nfc(text: Path) -> None:
    assert read(text, "e\u0301va\n\u00e9va\nmia\n").documents == ["\u00e9va", "mia"]


def test_replace_substitutes(text: Path) -> None:
    corpus = read(text, "n’djamena\noslo\ufffd\n", replace={"’": "'", "\ufffd": ""})
    assert corpus.documents == ["n'djamena", "oslo"]


def test_min_count_drops_discrete_documents_with_rare_characters(text: Path) -> None:
    corpus = read(text, "aab\nbba\nabx\nyab\n", min_count=2)
    assert (corpus.documents, corpus.dropped) == (["aab", "bba"], 2)


def test_min_count_drops_rare_characters_of_a_stream(text: Path) -> None:
    corpus = read(text, "abxab\n\nyab yz\n\n☃\n", "stream", min_count=2)
    assert (corpus.documents, corpus.dropped) == (["abab", "yaby"], 4)


def test_a_character_that_occurs_min_count_times_is_not_rare(text: Path) -> None:
    corpus = read(text, "aa\nbb\nabc\ncab\n", min_count=2)
    assert (len(corpus.documents), corpus.dropped) == (4, 0)


@pytest.mark.parametrize("mode", ["discrete", "stream"])
def test_min_count_that_leaves_nothing_is_refused(text: Path, mode: str) -> None:
    refusal_of_reading(text, "ab\n\ncd\n", mode, min_count=9)


def test_a_paragraph_ends_at_a_blank_line() -> None:
    assert paragraphs("\n\none \ntwo\t\n\n\n \n  three\n\n") == ["one\ntwo", "  three"]
    assert paragraphs(" \n\n") == []


def test_a_file_without_text_is_refused(text: Path) -> None:
    for content in (b"", b"\n \n\n", b"\xef\xbb\xbf"):
        for mode in ("discrete", "stream"):
            assert "holds no text" in refusal_of_reading(text, content, mode)


def test_one_line_is_refused_as_documents_and_read_as_a_stream(text: Path) -> None:
    message = refusal_of_reading(text, "all of it in a line\n")
    assert "1 different" in message and "dataset.mode=stream" in message
    assert read(text, "all of it in a line\n", "stream").documents == ["all of it in a line"]


def test_the_same_line_again_and_again_is_refused_as_documents(text: Path) -> None:
    assert "1 different" in refusal_of_reading(text, "again\n" * 9)


@pytest.mark.parametrize("suffix", ["txt", "csv"])
def test_a_file_that_is_not_utf8_is_refused_with_the_place(tmp_path: Path, suffix: str) -> None:
    message = refusal_of_reading(tmp_path / f"latin.{suffix}", "name\nJosé\n".encode("latin1"), column="name")
    assert "byte 8" in message and "iconv" in message


def test_no_such_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.txt", tmp_path):
        with pytest.raises(UserError, match="no such file") as error:
            read_corpus("file", "discrete", reader="text", path=path)
        assert f"dataset.path={path}:" in str(error.value)


def test_a_csv_column_is_read(table: Path) -> None:
    content = '\ufeffid,name\r\n1,"San José, Costa Rica"\r\n2,Oslo\r\n3\r\n4,"say ""hi"""\r\n'
    assert read(table, content, column="name").documents == ["San José, Costa Rica", "Oslo", 'say "hi"']


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_csv_may_have_any_line_endings(table: Path, end: str) -> None:
    content = end.join(["id,name", "1,Oslo", "2,Rome", ""])
    assert read(table, content, column="name").documents == ["Oslo", "Rome"]


def test_lines_within_a_csv_field_survive_in_a_stream(table: Path) -> None:
    content = 'text\n"one\ntwo\n\nthree"\nfour\n'
    assert read(table, content, "stream", column="text").documents == ["one\ntwo", "three", "four"]


def test_a_csv_field_may_be_longer_than_the_default_limit_of_csv(table: Path) -> None:
    essay = "long " * 40_000
    assert read(table, f"text\n{essay}\n", "stream", column="text").documents == [essay.strip()]


@pytest.mark.parametrize("column", ["title", None])
def test_a_missing_csv_column_lists_those_there_are(table: Path, column: str | None) -> None:
    message = refusal_of_reading(table, "id,name\n1,Oslo\n", column=column)
    assert f"dataset.column={column}" in message and "id, name" in message


def test_an_empty_csv_is_refused(table: Path) -> None:
    refusal_of_reading(table, b"", column="name")


def test_every_file_of_a_zip_is_read(archive: Path) -> None:
    corpus = read(archive, archive.read_bytes())
    assert (corpus.documents, corpus.duplicates) == (["aa", "bb", "cc"], 78)


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    assert "no readable ZIP" in refusal_of_reading(tmp_path / "corpus.zip", b"just text\n")


def test_a_damaged_zip_is_refused(archive: Path) -> None:
    whole = archive.read_bytes()
    data = 30 + len("a.txt")  # after the header of the first file
    for damaged in (whole[: len(whole) // 2], whole[:data] + b"\xff\xff" + whole[data + 2 :]):
        refusal_of_reading(archive, damaged)


def test_an_encrypted_zip_is_refused(archive: Path) -> None:
    whole = bytearray(archive.read_bytes())
    whole[6] |= 1  # the flag in the header of the first file, and in the archive's directory
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    refusal_of_reading(archive, bytes(whole))


def test_the_fingerprint_is_of_the_text_as_it_was_read(text: Path) -> None:
    def fingerprint(content: str) -> str:
        return read(text, content).fingerprint

    assert fingerprint("anna\nmia\n") == fingerprint("anna\r\nmia\r\nmia")
    assert len({fingerprint(content) for content in ("anna\nmia\n", "mia\nanna\n", "anna\nmio\n", "an\nnamia\n")}) == 4


# -- the corpora of conf/dataset/ --------------------------------------------------------------------------


def shipped(name: str) -> Any:
    """What `conf/dataset/` says of a corpus."""
    return OmegaConf.load(ROOT / "conf" / "dataset" / f"{name}.yaml").dataset


def read_shipped(name: str) -> Corpus:
    dataset = shipped(name)
    return read_corpus(
        dataset.name,
        dataset.mode,
        reader=dataset.reader,
        path=CORPORA / dataset.file if "file" in dataset else None,
        column=dataset.get("column"),
        lowercase=dataset.get("lowercase", False),
        replace=dataset.get("replace"),
        min_count=dataset.get("min_count", 1),
    )


def test_colors_are_embedded() -> None:
    corpus = read_shipped("colors")
    assert len(corpus.documents) == 949
    assert "cloudy blue" in corpus.documents
    assert not any(":" in color for color in corpus.documents)


def test_python_docs_are_embedded() -> None:
    corpus = read_shipped("python_docs")
    assert len(corpus.documents) > 1_000
    assert sum(map(len, corpus.documents)) > 300_000
    assert any("assert_stmt" in part for part in corpus.documents)


DOWNLOADED = ["names", "pokemon", "cities", "english_words", "paul_graham", "shakespeare"]


@needs_corpora
@pytest.mark.parametrize("name", DOWNLOADED)
def test_the_pinned_file_of_a_corpus_is_taken_from_the_cache(name: str) -> None:
    dataset = shipped(name)
    path = fetch(name, "http://127.0.0.1:1/unused", dataset.sha256, dataset.file, CORPORA)
    assert path == CORPORA / dataset.file
    assert hashlib.sha256(path.read_bytes()).hexdigest() == dataset.sha256


@needs_corpora
@pytest.mark.parametrize(
    ("name", "n_documents", "duplicates", "longest"),
    [
        ("names", 29_494, 2_539, 15),
        ("pokemon", 1_092, 0, 26),
        ("cities", 31_517, 1_860, 57),
        ("english_words", 370_099, 0, 31),
    ],
)
def test_a_discrete_corpus_has_the_documents_that_it_should(
    name: str, n_documents: int, duplicates: int, longest: int
) -> None:
    corpus = read_shipped(name)
    assert (len(corpus.documents), corpus.duplicates) == (n_documents, duplicates)
    assert max(map(len, corpus.documents)) == longest
    assert all(document and document == document.strip() for document in corpus.documents)


@needs_corpora
@pytest.mark.parametrize(("name", "n_chars"), [("paul_graham", 2_900_000), ("shakespeare", 1_090_000)])
def test_a_stream_corpus_has_the_text_that_it_should(name: str, n_chars: int) -> None:
    corpus = read_shipped(name)
    assert sum(map(len, corpus.documents)) == pytest.approx(n_chars, rel=0.02)
    assert len(corpus.documents) > 5_000
    assert not any("\n\n" in part or "\r" in part for part in corpus.documents)


@needs_corpora
def test_the_characters_of_the_letters_only_corpora_are_the_letters() -> None:
    for name in ("names", "english_words"):
        assert "".join(sorted(set().union(*read_shipped(name).documents))) == "abcdefghijklmnopqrstuvwxyz"
