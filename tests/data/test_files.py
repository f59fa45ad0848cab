"""The files that dataset.path names: one, several, a folder, a pattern; and refusals of names without a file."""

import os
from pathlib import Path

import pytest

from microgpt.data.files import describe_files, find_files, split_paths
from microgpt.errors import UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `songs` with three visible files, two of them in it and one below it."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.txt", "a.txt", "old/c.md", ".hidden", ".git/config", "__MACOSX/a.txt"):
        path = tmp_path / "songs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "x,y.txt").write_text("x")
    return tmp_path


def names(path: object) -> list[str]:
    return [file.as_posix() for file in find_files(path)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("songs/a.txt", ["songs/a.txt"]),
        ("songs", ["songs/a.txt", "songs/b.txt", "songs/old/c.md"]),
        ("songs/*.txt", ["songs/a.txt", "songs/b.txt"]),
        ("songs/**/*.md", ["songs/old/c.md"]),
        ("[songs/b.txt, songs/a.txt]", ["songs/b.txt", "songs/a.txt"]),
        (["songs/b.txt", "songs/old"], ["songs/b.txt", "songs/old/c.md"]),
        ("x,y.txt", ["x,y.txt"]),
        ("['x,y.txt',songs/a.txt]", ["x,y.txt", "songs/a.txt"]),
    ],
)
def test_a_path_names_files(folder: Path, path: object, expected: list[str]) -> None:
    assert names(path) == expected


def test_a_pattern_may_be_absolute_and_a_path_begin_at_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_files(f"{folder}/songs/*.txt") == [folder / "songs/a.txt", folder / "songs/b.txt"]
    monkeypatch.setenv("HOME", str(folder))
    assert find_files("~/songs/a.txt") == [folder / "songs/a.txt"]


def test_a_file_whose_name_has_brackets_is_one_file(folder: Path) -> None:
    (folder / "[a,b]").write_text("x")
    assert split_paths("[a,b]") == ["[a,b]"] and names("[a,b]") == ["[a,b]"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("songs/c.txt", "dataset.path=songs/c.txt: no such file; did you mean dataset.path=songs/b.txt?"),
        ("nothing.csv", "dataset.path=nothing.csv: no such file; give the path of a text file"),
        (
            "songs/a.txt,songs/b.txt",
            "in brackets: dataset.path='[songs/a.txt,songs/b.txt]'; for a run with each",
        ),
        ("empty", "dataset.path=empty: is a folder without files; give a text file, or a folder of text files"),
        ("songs/*.csv", "dataset.path=songs/*.csv: no such file; no file matches this pattern"),
        ("[songs/a.txt,gone]", "dataset.path=gone: no such file"),
        ("[]", "dataset.path=[]: names no file"),
    ],
)
def test_a_name_without_a_file_is_refused_with_what_to_do(folder: Path, path: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        find_files(path)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_what_is_no_file_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(UserError, match="save it as a file first"):
        find_files("pipe")


def test_files_are_counted_by_their_suffixes(folder: Path) -> None:
    described = describe_files("songs", find_files("songs"))
    assert described == "songs: 3 files (2 .txt, 1 .md); dataset.path='songs/**/*.txt' reads some of them"
    assert names("songs/**/*.txt") == ["songs/a.txt", "songs/b.txt"]
    assert describe_files("songs/*.txt", find_files("songs/*.txt")) == "songs/*.txt: 2 files (2 .txt)"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("~nobody-here/a.txt", "dataset.path=~nobody-here/a.txt: there is no user of this name"),
        ("a\0b", "holds a null character"),
        ("[a\rb]", "dataset.path=[a\\rb]: "),
    ],
)
def test_what_is_no_path_is_refused_in_one_line(folder: Path, path: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        find_files(path)
    assert message in str(error.value) and "\n" not in str(error.value)
