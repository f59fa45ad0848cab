"""Tables: CSV with any separator, TSV, JSON lines; and one line about what cannot be read."""

import csv
import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgpt.config.schema import DatasetConfig
from microgpt.data import decoding, tables
from microgpt.data.tables import read_csv, read_jsonl
from microgpt.errors import UserError


def read(path: Path, content: str, column: str | None = "text", **options: Any) -> list[str]:
    path.write_text(content, encoding="utf-8", newline="")
    reader = read_jsonl if path.suffix == ".jsonl" else read_csv
    return list(reader(path, DatasetConfig(name="file", column=column, **options)))


def refusal(path: Path, content: str, column: str | None = "text", **options: Any) -> str:
    with pytest.raises(UserError) as error:
        read(path, content, column, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "a.csv"


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_the_one_that_finds_the_column(table: Path, separator: str) -> None:
    content = f'id{separator}text\r\n1{separator}"a; b, c\nd"\r\n2{separator}e\r\n'
    assert read(table, content) == ["a; b, c\nd", "e"]


def test_a_table_of_one_column_may_hold_any_separator_but_a_comma(table: Path) -> None:
    assert read(table, "text\na;b|c\td\n") == ["a;b|c\td"]


@pytest.mark.parametrize("delimiter", [":", "\\t"])
def test_the_separator_is_a_setting(table: Path, delimiter: str) -> None:
    char = delimiter.replace("\\t", "\t")
    assert read(table, f"id{char}text\n1{char}a,b\n", delimiter=delimiter) == ["a,b"]
    assert "dataset.delimiter=ab: must be one character" in refusal(table, "id,text\n", delimiter="ab")


def test_quotes_of_a_tsv_are_text_unless_they_enclose_fields(table: Path) -> None:
    assert read(table, 'id\ttext\n1\t"Hello," she said.\n2\t"open\n3\tb\n') == ['"Hello," she said.', '"open', "b"]
    assert read(table, 'id\ttext\n1\t"two\nlines"\n2\tb\n') == ["two\nlines", "b"]


def test_a_missing_column_names_those_there_are_and_the_separator(table: Path) -> None:
    message = refusal(table, "id;body\n1;some text\n", "text")
    assert "dataset.column=text" in message and "id, body (read with ; between columns)" in message
    assert read(table, "id;body\n1;some text\n", message.rpartition("add dataset.column=")[2]) == ["some text"]
    assert "read with \\t between columns" in refusal(table, "id\tbody\n1\tx\n")
    assert "or another dataset.delimiter" in refusal(table, "id:body\n1:x\n")
    assert "add dataset.column=body" in refusal(table, "id,body\n1,x y\n", None)


def test_the_header_may_stand_below_blank_lines(table: Path) -> None:
    assert read(table, "\n ; \nid;text\n1;a,b\n") == ["a,b"]


def test_text_beyond_the_columns_is_reported(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert read(table, "id,text\n1,a\n2,b, and more\n3,c, d\n") == ["a", "b", "c"]
    (record,) = caplog.records
    assert "2 rows have more than the 2 columns of the header, the first of them is row 2" in record.getMessage()


def test_json_lines_are_read_with_all_characters_in_them(lines: Path) -> None:
    texts = ["a\nb\n\nc", "d\u2028e\x85f", "", "g"]
    content = "".join(json.dumps({"id": 1, "text": text}, ensure_ascii=False) + "\n" for text in texts)
    assert read(lines, content + '\n{"text": null}\n') == ["a\nb\n\nc", "d\u2028e\x85f", "g"]


def test_a_list_of_values_and_lines_of_strings_are_read(lines: Path) -> None:
    assert read(lines, json.dumps([{"text": "a"}, {"text": "b"}], indent=2)) == ["a", "b"]
    assert read(lines, '"a"\n"b"\n', None) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "column", "message"),
    [
        ('{"text": "a"}\nplain\n', "text", "line 2 is no JSON"),
        (
            '{"id": "x", "body": "long text"}\n',
            "text",
            "it has: id, body (the texts in line 1); add dataset.column=body",
        ),
        ('{"id": "x", "body": "long text"}\n', None, "which key holds the text must be given"),
        ('{"text": 3}\n', "text", "line 1 of PATH holds 3, no text"),
        ("3\n", "text", "line 1 holds no text and no object"),
    ],
)
def test_json_without_the_text_is_refused(lines: Path, content: str, column: str | None, message: str) -> None:
    assert message.replace("PATH", str(lines)) in refusal(lines, content, column)


def test_a_table_without_text_is_refused(table: Path, lines: Path) -> None:
    assert "holds no text" in refusal(table, "")
    assert read(lines, "\n") == []


cells = st.lists(st.text(st.sampled_from('ab",;\t\n\r é'), max_size=12), max_size=6)
sizes = st.integers(1, 40)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, limit in ((decoding, "BYTES_AT_ONCE"), (decoding, "HEAD"), (tables, "PREVIEW")):
        monkeypatch.setattr(module, limit, getattr(module, limit))  # so that it is restored after the test


def set_parts(size: int) -> None:
    decoding.BYTES_AT_ONCE, decoding.HEAD, tables.PREVIEW = size, 1, 20


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", "\t"])
@given(values=cells, size=sizes)
def test_a_table_read_in_parts_has_the_cells_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, end: str, delimiter: str, values: list[str], size: int
) -> None:
    set_parts(size)
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([["id", "text"], *([1, value] for value in values)])
    path = tmp_path_factory.getbasetemp() / "parts.csv"
    assert read(path, text.getvalue(), delimiter=delimiter) == values


@pytest.mark.usefixtures("small_parts")
@given(content=st.text(st.sampled_from('ab",\n\r'), max_size=30), size=sizes)
def test_any_table_read_in_parts_has_the_rows_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, content: str, size: int
) -> None:
    set_parts(size)
    content = "id,text\n" + content
    rows = list(csv.reader(io.StringIO(content, newline="")))
    path = tmp_path_factory.getbasetemp() / "any.csv"
    expected = [row[1] if len(row) > 1 else "" for row in rows[1:] if row]
    assert read(path, content, delimiter=",") == expected


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@given(values=cells, size=sizes)
def test_json_lines_read_in_parts_have_the_values_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, end: str, values: list[str], size: int
) -> None:
    set_parts(size)
    content = end.join(json.dumps({"text": value}, ensure_ascii=False) for value in values)
    path = tmp_path_factory.getbasetemp() / "parts.jsonl"
    assert read(path, content) == [value for value in values if value]
