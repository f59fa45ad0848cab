"""The directories of runs, and the name of a corpus of one's own."""

from pathlib import Path
from typing import Any

import pytest
from fork_server import ForkServer
from omegaconf import OmegaConf
from settings import LEAN, QUICK, Program

from microgpt.commands.resolvers import file_name, new_folder
from microgpt.config.free_text import escape
from microgpt.runs.directory import read_result


def test_no_two_runs_share_a_directory(tmp_path: Path) -> None:
    folders = [new_folder(str(tmp_path / "outputs")) for _ in range(5)]
    assert len(set(folders)) == 5
    assert all(Path(folder).is_dir() for folder in folders)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (None, "file"),
        ("my poems.txt", "my_poems"),
        ("~/texts/poems.txt.gz", "poems"),
        ("texts/*.txt", "texts"),
        ("*.txt", "file"),
        ("texts/", "texts"),
        ("[a.txt,'b, c.txt',d.txt]", "a_and_2_more"),
        (["a.txt", "b.txt"], "a_and_1_more"),
        ("日本.txt", "日本"),
        (".hidden", "hidden"),
        (escape("${seed}.txt"), "seed"),
        ("x" * 300, "x" * 60),
    ],
)
def test_a_corpus_of_ones_own_is_named_after_its_file(path: Any, name: str) -> None:
    assert file_name(OmegaConf.create(path) if isinstance(path, list) else path) == name


def test_a_file_whose_name_looks_like_a_pattern_gives_its_name(tmp_path: Path) -> None:
    (tmp_path / "poems[1].txt").touch()
    assert file_name(str(tmp_path / "poems[1].txt")) == "poems_1"


def test_the_runs_of_a_file_are_in_a_folder_of_its_name(program: Program, tmp_path: Path) -> None:
    (tmp_path / "my colours.txt").write_text("".join(f"{a}{b}\n" for a in "abcd" for b in "efgh"))
    program("train.py", "dataset=file", "dataset.path=my colours.txt", *QUICK, *LEAN)
    (run,) = tmp_path.glob("outputs/my_colours/*")
    assert read_result(run)["dataset"] == "my_colours"
    assert "my_colours/" in program("sample.py", "run=my_colours/latest").stderr


def test_runs_started_in_the_same_second_have_their_own_directories(fork_server: ForkServer, tmp_path: Path) -> None:
    processes = [fork_server.start(tmp_path, "train.py", *QUICK) for _ in range(3)]
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(list(tmp_path.glob("outputs/colors/*/ckpt.pt"))) == 3
