"""What train and sample share: new directories, help without torch, and stack traces on request."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fork_server import ForkServer
from omegaconf import OmegaConf
from settings import LEAN, QUICK, ROOT, Program

from microgpt.commands.hydra_app import file_name, new_folder
from microgpt.config.free_text import escape
from microgpt.runs.directory import read_result


def test_no_two_runs_share_a_directory(tmp_path: Path) -> None:
    folders = [new_folder(str(tmp_path / "outputs")) for _ in range(5)]
    assert len(set(folders)) == 5
    assert all(Path(folder).is_dir() for folder in folders)


def test_runs_started_in_the_same_second_have_their_own_directories(fork_server: ForkServer, tmp_path: Path) -> None:
    processes = [fork_server.start(tmp_path, "train.py", *QUICK) for _ in range(3)]
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(list(tmp_path.glob("outputs/colors/*/ckpt.pt"))) == 3


@pytest.mark.parametrize("entry", ["train.py", "sample.py"])
@pytest.mark.parametrize("flag", ["--help", "--cfg=job"])
def test_help_and_cfg_do_not_import_torch(entry: str, flag: str, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    done = subprocess.run(
        [sys.executable, str(ROOT / entry), *flag.split("="), *(["run=x"] if entry == "sample.py" else [])],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "sampling" in done.stdout
    assert list(tmp_path.glob("outputs/*/*")) == []


def test_the_help_of_sampling_names_every_choice(program: Program) -> None:
    text = program("sample.py", "--help").stdout
    assert all(path.stem in text for path in (ROOT / "conf/sampling").glob("*.yaml") if path.stem != "tuned")


def test_hydra_full_error_shows_the_stack_trace(fresh: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fresh("train.py", "model.n_embd=30", status=2).stderr.count("\n") == 1
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert "Traceback" in fresh("train.py", "model.n_embd=30", status=1).stderr


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


def test_the_runs_of_a_file_are_in_a_folder_of_its_name(program: Program, tmp_path: Path) -> None:
    (tmp_path / "my colours.txt").write_text("".join(f"{a}{b}\n" for a in "abcd" for b in "efgh"))
    program("train.py", "dataset=file", "dataset.path=my colours.txt", *QUICK, *LEAN)
    (run,) = tmp_path.glob("outputs/my_colours/*")
    assert read_result(run)["dataset"] == "my_colours"
    assert "my_colours/" in program("sample.py", "run=my_colours/latest").stderr


def test_the_help_of_training_says_which_defaults_a_recipe_sets(program: Program) -> None:
    text = " ".join(program("train.py", "--help").stdout.split())
    assert "width: channels of the residual stream (integer from 1; default by recipe)" in text
    assert "rotary positions in place of learned ones (true or false; default false)" in text
    assert "model=tuned, optim=tuned and sampling=tuned, the defaults, keep what the recipe says" in text


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["lr=0.1"], "lr: there is no such key; did you mean optim.lr?"),
        (["name=3"], "did you mean dataset.name or optim.name or run.name?"),
        (["--dataset", "names"], "--dataset: there is no such flag; type dataset=names, and"),
        (["--lr=0.1"], "--lr: there is no such flag; type optim.lr=0.1, and"),
        (["dataset=my.txt"], "if it is a file, type dataset=file dataset.path=my.txt"),
        (["dataset=texts/my poems.txt"], "if it is a file, type dataset=file dataset.path='texts/my poems.txt'"),
    ],
)
def test_what_is_nearly_right_gets_what_to_type(words: list[str], hint: str, program: Program) -> None:
    error = program("train.py", *words, status=2).stderr
    assert hint in error and error.count("\n") == 1
