"""A corpus: reading, normalising, splitting into documents; and the contents of the corpora of conf/dataset/."""

import logging
import os
import re
import shlex
import zipfile
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from settings import CORPORA, ROOT, needs_corpora

from microgpt.config.schema import DatasetConfig
from microgpt.data import decoding
from microgpt.data.corpus import Corpus, cached_file, fits_block, load_corpus, read_corpus
from microgpt.data.modes import find_mode
from microgpt.errors import UserError

either_mode = pytest.mark.parametrize("mode", ["discrete", "stream"])


def read(path: Path, content: str | bytes, mode: str = "discrete", **options: Any) -> Corpus:
    """The corpus of a text or CSV file with this content."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    reader = {".txt": "text", ".csv": "csv"}[path.suffix]
    return read_corpus(DatasetConfig(name="file", mode=mode, reader=reader, **options), [path])


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


def test_discrete_documents_are_stripped_lines_in_their_order(text: Path) -> None:
    assert read(text, "zoe\n  anna \n\n \t\nmia").documents == ["zoe", "anna", "mia"]


@either_mode
def test_crlf_and_a_bom_are_removed(text: Path, mode: str) -> None:
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


def test_a_file_in_place_of_a_download_is_noted(text: Path, caplog: pytest.LogCaptureFixture) -> None:
    text.write_text("anna\nmia\n")
    with caplog.at_level(logging.INFO):
        load_corpus(DatasetConfig(name="names", url="https://example.org/names.txt", path=str(text)), text.parent)
    assert caplog.messages == [f"note: names is read from {text}, not from its own corpus"]


def test_text_is_nfc(text: Path) -> None:
    assert read(text, "e\u0301va\n\u00e9va\nmia\n").documents == ["\u00e9va", "mia"]


def test_replace_substitutes(text: Path) -> None:
    corpus = read(text, "n’djamena\noslo\ufffd\n", replace={"’": "'", "\ufffd": ""})
    assert corpus.documents == ["n'djamena", "oslo"]


@either_mode
@pytest.mark.parametrize("old", ["\n", "b\r\nc", "\n\n"])
def test_replace_finds_what_extends_over_lines(
    text: Path, mode: str, old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "BYTES_AT_ONCE", 4)
    content = "ab\r\ncd\n\nef\n\ngh\n"
    corpus = read(text, content + "ij", mode, replace={old: "-\n"})
    seen = content if "\r" in old else content.replace("\r\n", "\n")
    changed = read(text, seen.replace(old, "-\n") + "ij", mode)
    assert corpus.documents == changed.documents


def test_min_count_drops_discrete_documents_with_rare_characters(text: Path) -> None:
    corpus = read(text, "aab\nbba\nabx\nyab\n", min_count=2)
    assert (corpus.documents, corpus.dropped) == (["aab", "bba"], 2)


def test_min_count_drops_rare_characters_of_a_stream(text: Path) -> None:
    corpus = read(text, "abxab\n\nyab yz\n\n☃\n", "stream", min_count=2)
    assert (corpus.documents, corpus.dropped) == (["abab", "yaby"], 4)


def test_a_character_that_occurs_min_count_times_is_not_rare(text: Path) -> None:
    corpus = read(text, "aa\nbb\nabc\ncab\n", min_count=2)
    assert (len(corpus.documents), corpus.dropped) == (4, 0)


@either_mode
def test_min_count_that_leaves_nothing_is_refused(text: Path, mode: str) -> None:
    refusal_of_reading(text, "ab\n\ncd\n", mode, min_count=9)


def test_a_file_without_text_is_refused(text: Path) -> None:
    for content in (b"", b"\n \n\n", b"\xef\xbb\xbf"):
        for mode in ("discrete", "stream"):
            assert "holds no text" in refusal_of_reading(text, content, mode)


def test_one_line_is_refused_as_documents_and_read_as_a_stream(text: Path) -> None:
    message = refusal_of_reading(text, "all of it in a line\n")
    assert "1 different" in message and "dataset.mode=stream" in message
    assert read(text, "all of it in a line\n", "stream").documents == ["all of it in a line"]


def test_a_single_repeated_line_is_refused_as_documents(text: Path) -> None:
    assert "1 different" in refusal_of_reading(text, "again\n" * 9)


def test_the_error_for_a_missing_file_names_it(tmp_path: Path) -> None:
    path = tmp_path / "absent.txt"
    with pytest.raises(UserError, match="no such file") as error:
        load_corpus(DatasetConfig(name="file", path=str(path)), tmp_path)
    assert f"dataset.path={path}:" in str(error.value)


def test_a_csv_row_is_a_document_and_an_empty_one_is_none(table: Path) -> None:
    content = 'id,name\r\n1,"San José, Costa Rica"\r\n2,Oslo\r\n3\r\n4,"say ""hi"""\r\n'
    assert read(table, content, column="name").documents == ["San José, Costa Rica", "Oslo", 'say "hi"']


def test_a_csv_field_of_a_stream_is_cut_at_its_blank_lines(table: Path) -> None:
    content = 'text\n"one\ntwo\n\nthree"\nfour\n'
    assert read(table, content, "stream", column="text").documents == ["one\ntwo", "three", "four"]


def test_the_files_of_a_zip_are_one_corpus(tmp_path: Path) -> None:
    path = tmp_path / "corpus.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.txt", "aa\r\nbb\r\n" * 40)
        file.writestr("b.txt", "cc\r\n")
    corpus = read_corpus(DatasetConfig(name="file", reader="zip"), [path])
    assert (corpus.documents, corpus.duplicates) == (["aa", "bb", "cc"], 78)


@either_mode
def test_a_corpus_has_a_name_and_a_mode(text: Path, mode: str) -> None:
    corpus = read(text, "anna\nmia\n", mode)
    assert (corpus.name, corpus.mode) == ("file", find_mode(mode))


def test_the_file_of_a_corpus_is_its_own_or_in_the_datasets_folder_or_embedded(tmp_path: Path) -> None:
    assert cached_file(DatasetConfig(name="a", file="a.txt"), tmp_path) == tmp_path / "a.txt"
    assert cached_file(DatasetConfig(name="a", path="~/mine.txt"), tmp_path) == Path.home() / "mine.txt"
    assert cached_file(DatasetConfig(name="colors", reader="colors"), tmp_path) is None


def test_a_user_file_replaces_the_download(text: Path, tmp_path: Path) -> None:
    text.write_text("anna\nmia\n")
    url = "http://127.0.0.1:1/unused"
    dataset = DatasetConfig(name="names", path=str(text), url=url, sha256="0" * 64, file="names.txt")
    assert load_corpus(dataset, tmp_path / "nowhere").documents == ["anna", "mia"]


def test_a_document_fits_a_block_with_the_bos_before_it() -> None:
    assert fits_block({3: 1, 4: 1, 0: 1, 5: 1}, 4) == 0.5


def test_the_fingerprint_is_of_the_text_as_it_was_read(text: Path) -> None:
    def fingerprint(content: str) -> str:
        return read(text, content).fingerprint

    assert fingerprint("anna\nmia\n") == fingerprint("anna\r\nmia\r\nmia")
    assert len({fingerprint(content) for content in ("anna\nmia\n", "mia\nanna\n", "anna\nmio\n", "an\nnamia\n")}) == 4


# -- the corpora of conf/dataset/ --------------------------------------------------------------------------


def load_shipped(name: str) -> Corpus:
    """The corpus that `conf/dataset/` describes."""
    settings: Any = OmegaConf.load(ROOT / "conf" / "dataset" / f"{name}.yaml").dataset
    return load_corpus(DatasetConfig(**settings), CORPORA)


def test_colors_are_embedded() -> None:
    corpus = load_shipped("colors")
    assert len(corpus.documents) == 949
    assert "cloudy blue" in corpus.documents
    assert not any(":" in color for color in corpus.documents)


def test_python_docs_are_embedded() -> None:
    corpus = load_shipped("python_docs")
    assert len(corpus.documents) > 1_000
    assert sum(map(len, corpus.documents)) > 300_000
    assert any("assert_stmt" in part for part in corpus.documents)


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
def test_a_discrete_corpus_has_the_expected_documents(
    name: str, n_documents: int, duplicates: int, longest: int
) -> None:
    corpus = load_shipped(name)
    assert (len(corpus.documents), corpus.duplicates) == (n_documents, duplicates)
    assert max(map(len, corpus.documents)) == longest
    assert all(document and document == document.strip() for document in corpus.documents)


@needs_corpora
@pytest.mark.parametrize(("name", "n_chars"), [("paul_graham", 2_900_000), ("shakespeare", 1_090_000)])
def test_a_stream_corpus_has_the_expected_text(name: str, n_chars: int) -> None:
    corpus = load_shipped(name)
    assert sum(map(len, corpus.documents)) == pytest.approx(n_chars, rel=0.02)
    assert len(corpus.documents) > 5_000
    assert not any("\n\n" in part or "\r" in part for part in corpus.documents)


@needs_corpora
def test_the_characters_of_the_letters_only_corpora_are_the_letters() -> None:
    for name in ("names", "english_words"):
        assert "".join(sorted(set().union(*load_shipped(name).documents))) == "abcdefghijklmnopqrstuvwxyz"


# -- files as people have them ------------------------------------------------------------------------------


def load(path: Any, mode: str = "discrete", **options: Any) -> Corpus:
    """The corpus of a file of the user's, as `dataset=file` reads it."""
    return load_corpus(DatasetConfig(name="file", mode=mode, path=str(path), **options), Path("nowhere"))


def test_a_file_in_another_encoding_has_its_characters(text: Path) -> None:
    text.write_bytes("“Ça va…”\r\nnaïve – œuvre\r\n".encode("cp1252"))
    corpus = load(text, encoding="cp1252")
    assert corpus.documents == ["“Ça va…”", "naïve – œuvre"] and "\x92" not in corpus.encoded.chars
    text.write_bytes("春眠\n不觉晓\n".encode("utf-16"))
    assert load(text).documents == ["春眠", "不觉晓"]


@either_mode
def test_a_whole_field_of_a_table_is_one_document_with_its_lines(table: Path, mode: str) -> None:
    table.write_text('id,verse\n1,"red\nrose\n\n  thorn "\n2,"red\nlily"\n3,"red\nlily"\n', newline="")
    corpus = load(table, mode, reader="csv", column="verse", document="whole")
    expected = ["red\nrose\n\n  thorn", "red\nlily", "red\nlily"]
    assert corpus.documents == (expected[:2] if mode == "discrete" else expected)
    assert (corpus.duplicates, corpus.changes) == (mode == "discrete", {"stripped": 1})


def test_records_are_documents_that_hold_newlines(text: Path) -> None:
    text.write_text("X:1\nK:C\nCDE|\n\nX:2\nK:G\nGAB|\n \n\nX:1\nK:C\nCDE|\n")
    corpus = load(text, document="record")
    assert (corpus.documents, corpus.duplicates) == (["X:1\nK:C\nCDE|", "X:2\nK:G\nGAB|"], 1)
    assert "\n" in corpus.encoded.chars and corpus.changes == {"stripped": 2}


@either_mode
def test_fasta_is_divided_at_a_separator_of_ones_own(text: Path, mode: str) -> None:
    text.write_text(">one a->b\nACG\nT\n>two\nGGA\n")
    corpus = load(text, mode, document="\\n>")
    assert corpus.documents == ["one a->b\nACG\nT", "two\nGGA"] and corpus.mode.unit == "documents"
    with pytest.raises(UserError, match=r"dataset\.document=>>: dataset\.path=\S+ does not hold this separator"):
        load(text, mode, document=">>")
    text.write_bytes(b">one\nSe\xf1or\n")
    with pytest.raises(UserError, match=r"add dataset\.encoding=cp1252"):
        load(text, mode, document=">>")


@either_mode
def test_each_file_of_a_folder_is_a_document_of_a_corpus_of_whole_files(
    tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name, song in (("b.txt", "la\n\nla\n"), ("a.txt", "\nhey\nho\n"), ("c/d.md", "na na"), (".hid", "x")):
        path = tmp_path / "songs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(song)
    with caplog.at_level("INFO"):
        assert load(tmp_path / "songs", mode, document="whole").documents == ["hey\nho", "la\n\nla", "na na"]
    assert "3 files (2 .txt, 1 .md)" in caplog.text
    assert load(tmp_path / "songs").documents == ["hey", "ho", "la", "na na"]
    several = f"[{tmp_path}/songs/b.txt,{tmp_path}/songs/a.txt]"
    assert load(several, mode, document="whole").documents == ["la\n\nla", "hey\nho"]


def test_whole_files_of_a_zip_are_documents(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("b/", "")
        file.writestr("b/one.txt", "one\nand\n".encode("cp1252"))
        file.writestr("__MACOSX/b/one.txt", bytes(9))
        file.writestr("b/two.txt", "zwö\n".encode("cp1252"))
    corpus = load(tmp_path / "a.zip", reader="zip", document="whole", encoding="cp1252")
    assert corpus.documents == ["one\nand", "zwö"]


def test_values_of_json_lines_are_whole_documents(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a\\nb"}\n{"text": "c\u2028d"}\n', encoding="utf-8")
    corpus = load(tmp_path / "a.jsonl", reader="jsonl", column="text", document="whole")
    assert corpus.documents == ["a\nb", "c\u2028d"]


@either_mode
def test_no_character_but_a_newline_is_lost_with_the_ends_of_lines(text: Path, mode: str) -> None:
    content = "g h\u2028i j\nk\x0c\n\x0b l\x85m\n\x1cn\u3000\n\n\u3000o\n"
    text.write_text(content, encoding="utf-8")
    documents = load(text, mode).documents
    lines = ["g h\u2028i j", "k\x0c", "\x0b l\x85m", "\x1cn\u3000", "\u3000o"]
    assert documents == (lines if mode == "discrete" else ["\n".join(lines[:4]), lines[4]])
    assert load(text, mode).changes == {}


def test_what_normalisation_changes_is_counted(text: Path) -> None:
    text.write_bytes("\tE\u0301 x \r\nplain\r\n\r\n\u05d1\u05bc\u05b8  \r\nPLAIN\r\n".encode())
    corpus = load(text, "stream", lowercase=True, replace={"l": "1"}, min_count=1)
    assert corpus.documents == ["\té x\np1ain", "\u05d1\u05b8\u05bc\np1ain"]
    assert corpus.changes == {"normalized": 2, "lowercased": 2, "replaced": 2, "stripped": 3}
    unchanged = load(text, "stream", normalize="none", strip="none")
    assert unchanged.documents == ["\tE\u0301 x \nplain", "\u05d1\u05bc\u05b8  \nPLAIN"] and unchanged.changes == {}
    assert load(text).changes == {"normalized": 2, "stripped": 4}  # the tab as well
    # Rare characters are counted in a first pass over the text, whose changes are not counted twice.
    assert load(text, "stream", lowercase=True, replace={"l": "1"}, min_count=2).changes["replaced"] == 2


@either_mode
def test_a_limit_ends_with_a_document(text: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text.write_text("".join(f"line {i}\n\n" for i in range(1000)))
    for size in (1, 50, 1 << 20):
        monkeypatch.setattr(decoding, "BYTES_AT_ONCE", size)
        assert load(text, mode, limit=100 + size % 2).documents == [f"line {i}" for i in range(13)]
    assert load(text, mode, limit=10**9).n_documents == 1000
    text.write_text("ab" * 500)
    assert load(text, "stream", limit=101).documents == [("ab" * 51)[:101]]


def test_a_limit_reads_no_more_of_a_file_than_it_needs(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "BYTES_AT_ONCE", 16)
    text.write_bytes(b"one\ntwo\nthree\nfour\nfive\n" * 9 + b"\xff")
    assert load(text, limit=9).documents == ["one", "two", "three"]


def test_the_documents_of_a_stream_are_shuffled_if_asked_for(text: Path) -> None:
    text.write_text("".join(f"author {i // 10}\nsong {i}\n\n" for i in range(100)))
    plain, shuffled = load(text, "stream"), load(text, "stream", shuffle=True)
    assert sorted(shuffled.documents) == sorted(plain.documents) and shuffled.documents != plain.documents
    val = [corpus.mode.split(corpus, 0)[1].text for corpus in (plain, shuffled)]
    assert [len({line for line in part.split("\n") if line.startswith("author")}) > 3 for part in val] == [False, True]
    assert load(text, "stream", shuffle=True).documents == shuffled.documents
    assert load(text, document="record", shuffle=True).documents == load(text, document="record").documents


@pytest.mark.parametrize(("name", "reader"), [("a.csv", "csv"), ("a.tsv.gz", "csv"), ("a.jsonl", "jsonl")])
def test_a_table_that_is_read_as_plain_text_gets_a_note_each_time(
    tmp_path: Path, name: str, reader: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / name).write_text("id,text\n1,a\n")
    for _ in range(2):
        caplog.clear()
        with caplog.at_level("INFO"):
            load(tmp_path / name)
        assert f"note: {tmp_path / name} is read as plain text; dataset.reader={reader}" in caplog.text
    (tmp_path / "a.txt").write_text("a\nb\n")
    caplog.clear()
    load(tmp_path / "a.txt")
    assert not caplog.records


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read_is_refused(text: Path) -> None:
    text.write_text("a\nb\n")
    text.chmod(0)
    with pytest.raises(UserError, match="Permission denied"):
        load(text)


def test_the_settings_in_the_documentation_read_what_they_are_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in {
        "my.txt": "a\nb\n",
        "tunes.abc": "X:1\nK:C\n\nX:2\nK:G\n",
        "genes.fasta": ">a\nAC\n>b\nGT\n",
        "fortunes": "a\nb\n%\nc\n%\n",
        "poems.csv": 'text\n"a\nb"\n"c\nd"\n',
        "essays/a.txt": "a\n\nb",
        "essays/b.txt": "c\n\nd",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    text = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    commands = re.findall(r"^python train.py dataset=file (.*)$", text, re.MULTILINE)
    assert len(commands) == 7
    for command in commands:
        words = [word.removeprefix("dataset.").partition("=") for word in shlex.split(command, comments=True)]
        options: dict[str, Any] = {name: value == "true" or value for name, _, value in words}
        assert load(options.pop("path"), options.pop("mode", "discrete"), **options).n_documents in (1, 2)


@pytest.mark.parametrize(
    ("lines", "mode", "is_noted"),
    [
        (
            ["the quick brown fox jumps over", "a lazy dog that sleeps in the sun", "and then runs away"] * 40,
            "discrete",
            True,
        ),
        (
            ["the quick brown fox jumps over", "a lazy dog that sleeps in the sun", "and then runs away"] * 40,
            "stream",
            False,
        ),
        ([f"a title of some length, number {i}" for i in range(50)], "discrete", False),
        (["anna", "otto", "eve"] * 40, "discrete", False),
    ],
)
def test_lines_that_look_like_running_text_get_a_note(
    lines: list[str], mode: str, is_noted: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "text.txt"
    file.write_text("\n".join(lines))
    with caplog.at_level(logging.INFO):
        load_corpus(DatasetConfig(name="x", path=str(file), mode=mode), tmp_path)
    note = "note: 117 duplicate lines dropped; if this is a running text, add dataset.mode=stream"
    assert (note in caplog.text) == is_noted
