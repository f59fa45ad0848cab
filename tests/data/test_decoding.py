"""Bytes → text: byte order marks, encodings and their guess, compressed files, and what is no text."""

import bz2
import gzip
import io
import lzma
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from microgpt.data import decoding
from microgpt.data.decoding import likely_encodings, read_file, read_parts
from microgpt.errors import UserError


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def refusal(path: Path, data: bytes, encoding: str = "utf-8") -> str:
    with pytest.raises(UserError) as error:
        read_file(write(path, data), encoding)
    message = str(error.value)
    assert "\n" not in message and message.startswith(("dataset.path=", "dataset.encoding="))
    return message


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a text.txt"


@pytest.mark.parametrize("size", [1, 5, 1 << 20])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "gb18030", "cp932"])
def test_a_text_is_read_in_its_encoding_in_blocks_of_any_size(
    file: Path, encoding: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "BYTES_AT_ONCE", size)
    text = "春はあけぼの。\r\nやうやう白くなりゆく\u3000山ぎは\n" * 3
    assert read_file(write(file, text.encode(encoding)), encoding) == text


@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("name", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_goes_before_the_setting(file: Path, name: str, order: str) -> None:
    data = "héllo\n".encode(name) if name == "utf-8-sig" else ("\ufeffhéllo\n").encode(f"{name}-{order}")
    for encoding in ("utf-8", "cp1252", name):
        assert read_file(write(file, data), encoding) == "héllo\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("it’s a… b\nok then\n", "cp1252"),
        ("Señor Núñez\n", "cp1252"),
        ("Příliš žluťoučký kůň\n", "cp1250"),
        ("Белеет парус одинокий\nВ тумане моря голубом\n", "cp1251"),
        ("Белеет парус одинокий\nВ тумане моря голубом\n", "koi8-r"),
        ("春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。\n床前明月光，疑是地上霜。\n", "gb18030"),
        ("春眠不覺曉，處處聞啼鳥。夜來風雨聲，花落知多少。\n床前明月光，疑是地上霜。\n", "big5"),
        ("春はあけぼの。やうやう白くなりゆく\n", "cp932"),
        ("春はあけぼの。やうやう白くなりゆく山ぎは、すこしあかりて、紫だちたる雲のほそくたなびきたる。\n", "euc-jp"),
        ("나 보기가 역겨워 가실 때에는\n", "euc-kr"),
        ("plain\ntext\n", "utf-16-le"),
        ("plain\ntext\n", "utf-16-be"),
        ("plain\ntext\n", "utf-32-be"),
        ("春はあけぼの。\n", "utf-16-le"),
    ],
)
def test_a_refusal_names_the_likeliest_encoding_and_what_to_type_works(file: Path, text: str, encoding: str) -> None:
    message = refusal(file, text.encode(encoding))
    found = re.search(r"add dataset\.encoding=([\w-]+)", message)
    assert found and found[1] == encoding
    assert read_file(file, found[1]) == text


def test_a_refusal_shows_the_place_as_it_would_read_there(file: Path) -> None:
    message = refusal(file, "one\ntwo\nJosé and\nmore\n".encode("cp1252"))
    assert "not UTF-8 at byte 11; likeliest it is cp1252, which reads 'José and' there" in message
    assert "would be possible as well" in message


@pytest.mark.parametrize("size", [1, 4, 100])
def test_the_place_is_counted_from_the_beginning_of_the_file(
    file: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "BYTES_AT_ONCE", size)
    write(file, "name\nzoé\nsome more lines\nJos".encode() + b"\xe9\n")
    with pytest.raises(UserError, match=r"not UTF-8 at byte 29[ ;]"):
        list(read_parts(file))


def test_a_few_damaged_bytes_of_utf8_are_no_other_encoding(file: Path) -> None:
    message = refusal(file, ("naïve – ünïted\n" * 50).encode() + b"caf\xe9\n")
    assert f"iconv -c -f utf-8 -t utf-8 '{file}' > repaired.txt" in message and "dataset.encoding" not in message


def test_the_encoding_that_was_given_is_not_suggested_again(file: Path) -> None:
    message = refusal(file, b"caf\xe9 \x81 bar\n", "cp1252")
    assert "not CP1252 at byte 5" in message and "encoding=cp1252" not in message


def test_bytes_that_are_no_text_in_any_encoding_are_refused(file: Path) -> None:
    assert "give a text file" in refusal(file, bytes(range(256)) * 8)
    assert "2,000 zero bytes" in refusal(file, bytes(2000))


@pytest.mark.parametrize("name", ["utf9", "rot13", "hex", "no such"])
def test_what_is_no_encoding_of_text_is_refused(file: Path, name: str) -> None:
    message = refusal(file, b"abc", name)
    assert f"dataset.encoding={name}: Python knows no such encoding" in message
    assert ("did you mean utf-8?" in message) == (name == "utf9")


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
def test_compressed_text_is_read(file: Path, module: object, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = module.compress("zoë\nmia\n".encode() * 99)  # type: ignore[attr-defined]
    assert read_file(write(file, packed)) == "zoë\nmia\n" * 99
    assert "not UTF-8 at byte 3" in refusal(file, module.compress("José\n".encode("cp1252")))  # type: ignore[attr-defined]
    assert "damaged or cut off" in refusal(file, packed[:-9])


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
def test_a_compressed_file_that_unpacks_to_too_much_is_refused(
    file: Path, module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "ANY_RATIO", 1 << 20)
    packed = module.compress(b"the same line\n" * 200_000)  # type: ignore[attr-defined]
    read = 0
    with pytest.raises(UserError, match=r"unpacks to more than 1 MB, .*if you trust it, unpack it"):
        for part in read_parts(write(file, packed)):
            read += len(part)
    assert read <= 1 << 20
    monkeypatch.setattr(decoding, "MAX_RATIO", 1 << 20)
    assert len(read_file(file)) == 14 * 200_000
    monkeypatch.setattr(decoding, "MAX_UNPACKED", 1 << 21)
    with pytest.raises(UserError, match="unpacks to more than 2 MB"):
        read_file(file)


@pytest.mark.parametrize("name", ["idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "a\0b"])
def test_what_decodes_something_else_than_text_is_no_encoding(file: Path, name: str) -> None:
    assert "Python knows no such encoding of text" in refusal(file, b"abc", name)


def archive(name: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as packed:
        packed.writestr(name, "application/epub+zip" if name == "mimetype" else "x")
    return data.getvalue()


def tar() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as packed:
        packed.addfile(tarfile.TarInfo("a.txt"))
    return data.getvalue()


@pytest.mark.parametrize(
    ("data", "kind", "advice"),
    [
        (b"%PDF-1.7\n", "a PDF", "pdftotext 'PATH'"),
        (b"SQLite format 3\0" + bytes(99), "an SQLite database", "sqlite3 'PATH'"),
        (archive("a.txt"), "a ZIP archive", "dataset.reader=zip"),
        (archive("[Content_Types].xml"), "an Office document", "save it as plain text"),
        (archive("mimetype"), "an EPUB", "pandoc"),
        (tar(), "a tar archive", "unpack it"),
        (b"{\\rtf1 hello", "a document in RTF", "save it as plain text"),
        (b"PAR1abcdefgh", "a Parquet table", "CSV"),
    ],
    ids=lambda value: "bytes" if isinstance(value, bytes) else None,  # an archive holds the time
)
def test_what_is_no_text_is_named_with_what_to_do(file: Path, data: bytes, kind: str, advice: str) -> None:
    for encoding in ("utf-8", "cp1252"):
        message = refusal(file, data, encoding)
        assert f"is {kind}, no text; " in message and advice.replace("PATH", str(file)) in message


def test_encodings_that_fit_equally_well_are_ordered_by_how_frequent_they_are() -> None:
    first, *others = likely_encodings("Müller\nKöln\n".encode("cp1252"))
    assert first == "cp1252" and "cp1250" in others
