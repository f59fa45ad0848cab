"""Readers: a text file, a CSV table or a ZIP archive as texts, and one-line errors for files that cannot be read."""

import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from microgpt.config.registry import READERS
from microgpt.config.schema import DatasetConfig
from microgpt.data import decoding
from microgpt.data.modes import find_mode
from microgpt.data.normalisation import Normaliser
from microgpt.data.readers import read_text_in_parts, read_zip_in_parts
from microgpt.errors import UserError

SUFFIXES = {".txt": "text", ".csv": "csv", ".zip": "zip"}


def read(path: Path, content: str | bytes, **options: Any) -> list[str]:
    """The texts of a file with this content; the reader is the one that its suffix names."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(READERS[SUFFIXES[path.suffix]].read(path, DatasetConfig(name="file", **options)))


def refusal(path: Path, content: str | bytes, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        read(path, content, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def refusal_of_file(path: Path, content: str | bytes, **options: Any) -> str:
    message = refusal(path, content, **options)
    assert str(path) in message
    return message


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


def test_a_text_file_is_one_text_without_its_byte_order_mark(tmp_path: Path) -> None:
    assert read(tmp_path / "corpus.txt", b"\xef\xbb\xbfzo\xc3\xab\r\n\n anna") == ["zoë\r\n\n anna"]


@pytest.mark.parametrize("mode", ["discrete", "stream"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("size", [1, 7, 40])
def test_a_text_file_is_read_in_parts_that_have_the_documents_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, end: str, size: int
) -> None:
    text = end.join(["\ufeffzoë", "", "", "  anna ", "mia é", " ", "", "éva", "ΟΔΟΣ", "", "e\u0301", ""])
    [whole] = read(tmp_path / "corpus.txt", text)
    monkeypatch.setattr(decoding, "BYTES_AT_ONCE", size)
    dataset, division = DatasetConfig(name="file"), find_mode(mode).division
    parts = list(read_text_in_parts(tmp_path / "corpus.txt", dataset, division.gaps))
    assert len(parts) > 1 and "".join(parts) == whole

    def divided(texts: list[str]) -> tuple[list[str], Counter[str]]:
        changes = Counter[str]()
        return [document for text in texts for document in division.divide(Normaliser()(text), changes)], changes

    assert divided(parts) == divided([whole])


def test_the_place_of_what_is_not_utf8_is_counted_from_the_beginning_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "BYTES_AT_ONCE", 4)
    (tmp_path / "a.txt").write_bytes("name\nzoé\nJos".encode() + b"\xe9\n")
    with pytest.raises(UserError, match="not UTF-8 at byte 13;"):
        list(read_text_in_parts(tmp_path / "a.txt", DatasetConfig(name="file"), ["\n"]))


@pytest.mark.parametrize("suffix", ["txt", "csv"])
def test_a_file_that_is_not_utf8_is_refused_with_the_place(tmp_path: Path, suffix: str) -> None:
    message = refusal_of_file(tmp_path / f"latin.{suffix}", "name\nJosé\n".encode("latin1"), column="name")
    assert "byte 8" in message and "add dataset.encoding=cp1252" in message


def test_a_zip_archive_of_a_file_that_is_not_utf8_is_refused(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("c.txt", "José".encode("latin1"))
    assert "not UTF-8 at byte 3" in refusal_of_file(archive, archive.read_bytes())


def test_a_csv_column_is_read(table: Path) -> None:
    content = '\ufeffid,name\r\n1,"San José, Costa Rica"\r\n2,Oslo\r\n3\r\n4,"say ""hi"""\r\n'
    assert read(table, content, column="name") == ["San José, Costa Rica", "Oslo", "", 'say "hi"']


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_csv_may_have_any_line_endings(table: Path, end: str) -> None:
    content = end.join(["id,name", "1,Oslo", "2,Rome", ""])
    assert read(table, content, column="name") == ["Oslo", "Rome"]


def test_lines_within_a_csv_field_are_kept(table: Path) -> None:
    assert read(table, 'text\n"one\ntwo\n\nthree"\nfour\n', column="text") == ["one\ntwo\n\nthree", "four"]


def test_a_csv_field_may_be_longer_than_the_default_limit_of_csv(table: Path) -> None:
    essay = "long " * 40_000
    assert read(table, f"text\n{essay}\n", column="text") == [essay]


def test_a_missing_csv_column_lists_those_there_are(table: Path) -> None:
    message = refusal_of_file(table, "id,name\n1,Oslo\n", column="title")
    assert "dataset.column=title" in message and "id, name" in message


@pytest.mark.parametrize("column", [None, ""])
def test_a_csv_file_needs_the_name_of_a_column(table: Path, column: str | None) -> None:
    assert "add dataset.column=name" in refusal(table, "id,name\n1,Oslo\n", column=column)


def test_an_empty_csv_is_refused(table: Path) -> None:
    refusal_of_file(table, b"", column="name")


def test_every_file_of_a_zip_is_read(archive: Path) -> None:
    assert read(archive, archive.read_bytes()) == ["aa\r\nbb\r\n" * 40, "cc\r\n"]


def test_a_file_of_a_zip_is_read_in_parts(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "BYTES_AT_ONCE", 7)
    parts = list(read_zip_in_parts(archive, DatasetConfig(name="file"), ["\n"]))
    assert "".join(parts) == "aa\r\nbb\r\n" * 40 + "cc\r\n" and all(part.endswith("\n") for part in parts)
    assert len(parts) > 40


def test_a_file_that_is_not_a_zip_is_refused(tmp_path: Path) -> None:
    assert "no readable ZIP" in refusal_of_file(tmp_path / "corpus.zip", b"just text\n")


def test_a_damaged_zip_is_refused(archive: Path) -> None:
    whole = archive.read_bytes()
    data = 30 + len("a.txt")  # after the header of the first file
    for damaged in (whole[: len(whole) // 2], whole[:data] + b"\xff\xff" + whole[data + 2 :]):
        refusal_of_file(archive, damaged)


def test_an_encrypted_zip_is_refused(archive: Path) -> None:
    whole = bytearray(archive.read_bytes())
    whole[6] |= 1  # the flag in the header of the first file, and in the archive's directory
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    assert "a.txt in it is encrypted; unpack it" in refusal_of_file(archive, bytes(whole))


def with_member(path: Path, content: bytes, **changes: Any) -> bytes:
    """An archive whose directory says something else about its member than its local header."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.txt", content)
        for name, value in changes.items():
            setattr(file.infolist()[0], name, value)
    return path.read_bytes()


def test_a_zip_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for i in range(25):
            file.writestr(f"{i}.txt", b"a line of text\n" * (1 << 16))
    message = refusal_of_file(archive, archive.read_bytes())
    assert "unpacks to more than 17 MB, " in message and "unpack it, and give what was in it" in message


def test_a_member_holds_no_more_than_it_says(archive: Path) -> None:
    line = b"one line\n"
    for declared in (len(line), 2**40):
        refusal_of_file(archive, with_member(archive, line * 4000, file_size=declared))
    assert read(archive, with_member(archive, line * 4000, file_size=5000 * len(line))) == [line.decode() * 4000]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_whose_blocks_unpack_to_any_size_is_refused(archive: Path, method: int) -> None:
    with zipfile.ZipFile(archive, "w", method) as file:
        file.writestr("a.txt", "text\n" * 99)
    assert "another method than deflate; unpack it" in refusal_of_file(archive, archive.read_bytes())


def test_names_of_members_may_be_in_any_encoding_but_what_says_utf8_and_is_not_is_refused(archive: Path) -> None:
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("folder/in/folder/café.txt", "one")
    whole = archive.read_bytes()
    assert read(archive, whole) == ["one"]
    refusal_of_file(archive, whole.replace("é".encode(), b"\xe9\xff"))
    old = bytearray(whole.replace("é".encode(), b"\x82\x82"))
    for flags in (old.index(b"PK\3\4") + 7, old.index(b"PK\1\2") + 9):
        old[flags] &= ~8  # the names are in an old encoding, says this bit
    assert read(archive, bytes(old)) == ["one"]


def test_a_member_that_is_no_text_is_refused_with_what_to_do_about_the_archive(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("folder/c.pdf", "%PDF-1.7 …")
    message = refusal_of_file(archive, archive.read_bytes())
    assert "folder/c.pdf in it: is a PDF, no text; unpack the archive" in message and "pdftotext" not in message


def test_embedded_readers_need_no_file() -> None:
    embedded = [name for name, reader in READERS.items() if reader.embedded]
    assert embedded == ["colors", "python_docs"]
    for name in embedded:
        texts = READERS[name].read(None, DatasetConfig(name=name))
        assert len(texts) > 50 and all(isinstance(text, str) for text in texts)
