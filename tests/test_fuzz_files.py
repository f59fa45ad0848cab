"""Files of a user, and their paths: read, or refused in one line (`fuzz`)."""

import bz2
import csv
import functools
import gzip
import io
import json
import lzma
import re
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fuzz import BYTES, ENCODINGS, JSON, MANY, TEXT, damaged, fuzzed, options, read_or_refused, write
from hypothesis import example, given
from hypothesis import strategies as st

from microgpt.commands.failure import user_errors
from microgpt.config.registry import READERS
from microgpt.data import decoding
from microgpt.data.corpus import load_corpus
from microgpt.data.loading import load_data
from microgpt.data.readers import read_text_in_parts
from microgpt.data.tables import read_csv, read_jsonl


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "corpus"


@fuzzed(MANY)
@given(data=BYTES, encoding=st.sampled_from(ENCODINGS) | st.text(max_size=12), size=st.sampled_from([1, 7, 1 << 20]))
@example(data=b"\0\0", encoding="utf-16", size=1 << 20)
def test_a_text(file: Path, data: bytes, encoding: str, size: int) -> None:
    write(file, data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "BYTES_AT_ONCE", size)
        with read_or_refused():
            decoding.read_file(file, encoding)
        with read_or_refused():
            list(read_text_in_parts(file, options(encoding=encoding), ("\n\n", "\n\r\n")))


PLAIN = b"the same line, again and again\n" * 40


@fuzzed(MANY)
@given(
    data=st.sampled_from([gzip.compress(PLAIN, mtime=0), bz2.compress(PLAIN), lzma.compress(PLAIN)]).flatmap(damaged)
)
def test_a_compressed_text(file: Path, data: bytes) -> None:
    write(file, data)
    with read_or_refused():
        decoding.read_file(file)


@fuzzed(MANY)
@given(
    text=TEXT | st.lists(st.lists(TEXT, max_size=4), max_size=6).map(lambda rows: as_csv(rows)),
    column=st.none() | st.sampled_from(["a", "", "id"]) | TEXT,
    delimiter=st.none() | st.sampled_from([",", "\\t", "\n", '"', "\0", "é"]) | st.text(max_size=2),
)
def test_a_table(file: Path, text: str, column: str | None, delimiter: str | None) -> None:
    write(file, text.encode("utf-8", "replace"))
    with read_or_refused():
        read_csv(file, options(column=column, delimiter=delimiter))


def as_csv(rows: list[list[str]]) -> str:
    output = io.StringIO()
    with suppress(csv.Error):
        csv.writer(output).writerows([["a", "id"], *rows])
    return output.getvalue()


@fuzzed(MANY)
@given(
    text=TEXT
    | st.lists(JSON, max_size=4).map(lambda values: "\n".join(map(json.dumps, values)))
    | JSON.map(json.dumps),
    column=st.none() | TEXT,
)
@example(text="[" * 100_000, column=None)
@example(text='{"a":' * 100_000, column="a")
@example(text="1" * 5000, column=None)
@example(text='{"": "a"}', column="")
def test_lines_of_json(file: Path, text: str, column: str | None) -> None:
    write(file, text.encode("utf-8", "replace"))
    with read_or_refused():
        read_jsonl(file, options(column=column))


# -- archives ----------------------------------------------------------------------------------------------


@functools.cache
def archive(*other_names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in ("a.txt", "ü/b.txt", ".hidden", *other_names):
            packed.writestr(zipfile.ZipInfo(name), PLAIN, zipfile.ZIP_DEFLATED)
        packed.writestr(zipfile.ZipInfo("stored"), PLAIN)
    return file.getvalue()


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """An archive whose directory says anything about its members."""
    file = io.BytesIO()
    with suppress(Exception), zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for _ in range(draw(st.integers(0, 3))):
            member = zipfile.ZipInfo(draw(TEXT))
            packed.writestr(member, draw(BYTES), draw(st.sampled_from([0, 8, 12, 14])))
            for name, value in draw(
                st.dictionaries(
                    st.sampled_from(["file_size", "compress_size", "CRC", "header_offset", "flag_bits"]),
                    st.sampled_from([0, 1, 8, 0x801, 2**16 - 1, 2**32 - 1, 2**32 + 1, 2**40])
                    | st.integers(0, 2**16 - 1),
                    max_size=2,
                )
            ).items():
                setattr(packed.infolist()[-1], name, value)
    return file.getvalue()


@fuzzed(MANY)
@given(data=st.deferred(lambda: damaged(archive())) | archives() | st.binary(max_size=60))
@example(data=archive(""))
def test_an_archive(file: Path, data: bytes) -> None:
    write(file, data)
    with read_or_refused():
        list(READERS["zip"].read(file, options()))


# -- a whole corpus ----------------------------------------------------------------------------------------


@fuzzed(MANY)
@given(
    text=TEXT | st.lists(TEXT, max_size=12).map("\n".join),
    fields=st.fixed_dictionaries(
        {},
        optional={
            "mode": st.sampled_from(["discrete", "stream"]),
            "reader": st.sampled_from(["text", "csv", "jsonl"]),
            "column": st.sampled_from(["a", "id"]),
            "document": st.sampled_from(["line", "record", "whole", "auto", "\\n", "a", "\\n>", "⏎", "\x1e"]) | TEXT,
            "strip": st.sampled_from(["auto", "both", "right", "none"]),
            "normalize": st.sampled_from(["NFC", "NFD", "NFKC", "NFKD", "none"]),
            "lowercase": st.booleans(),
            "replace": st.dictionaries(TEXT.filter(bool), TEXT, max_size=3),
            "min_count": st.integers(1, 4),
            "limit": st.integers(0, 60),
            "shuffle": st.booleans(),
            "encoding": st.sampled_from(ENCODINGS),
        },
    ),
)
def test_a_corpus(file: Path, text: str, fields: dict[str, Any]) -> None:
    write(file, text.encode("utf-8", "replace"))
    with read_or_refused():
        data = load_data(options(path=str(file), **fields), 1, Path())
        data.card(8)
        data.batches(4, 2)


@fuzzed(MANY)
@given(path=TEXT)
@example(path="a**b")
@example(path="~nobody-here/x")
@example(path="\0")
@example(path="[\r0]")
@example(path="[" * 2000)
@example(path="x" * 5000)
def test_a_path_of_a_corpus(path: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file.parent / "empty").mkdir(exist_ok=True)
    monkeypatch.chdir(file.parent / "empty")
    if path != "~nobody-here/x":
        path = re.sub(r"[/~]|\.\.", "", path)  # no folders of this machine
    with read_or_refused(), user_errors():
        load_corpus(options(path=path), Path())
