"""The recipes of docs/extending.md: each is applied to a copy of the project, and what it promises is looked for."""

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import read_scalars
from settings import QUICK, ROOT, installed

TEXT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))

# How many files each may touch, tests aside.
MAX_FILES = {
    "A corpus": 1,
    "A reader": 2,
    "A mode": 1,
    "An activation": 1,
    "A schedule": 1,
    "An optimizer": 2,
    "A metric at each validation": 1,
    "A column of the sweep's table": 1,
    "How samples are marked": 1,
    "A launcher": 1,
    "A command": 2,
}
WORDS_ONLY = {"A setting"}


@dataclass
class Edit:
    """Of `file`: `new` text for the place of `old`, at the end if that is empty."""

    file: str
    old: str
    new: str


def read_edits(section: str) -> list[Edit]:
    """The edits that a section describes, by the words before its blocks."""
    edits, file, old = [], "", ""
    for words, kind, block in re.findall(r"(.*?)^```(\w+)\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
        if kind == "sh":
            continue
        if named := re.findall(r"`((?:conf|microgpt)/[\w/.]+)`", words):
            file = named[-1]
        if words.strip().endswith("replace"):
            old = block
            continue
        edits.append(Edit(file, old, block))
        old = ""
    return edits


def apply(edits: list[Edit], copy: Path) -> None:
    for edit in edits:
        file = copy / edit.file
        if not file.exists():
            file.write_text(edit.new, encoding="utf-8")
        elif edit.old:
            text = file.read_text(encoding="utf-8")
            assert text.count(edit.old) == 1, f"{edit.file} holds this {text.count(edit.old)} times:\n{edit.old}"
            file.write_text(text.replace(edit.old, edit.new), encoding="utf-8")
        else:
            file.write_text(file.read_text(encoding="utf-8") + "\n\n" + edit.new, encoding="utf-8")


def run(copy: Path, command: str, *settings: str) -> str:
    """Run `python …` in the copy, with its package; returns what it prints."""
    words = [sys.executable, *shlex.split(command)[1:], *settings]
    environment = os.environ | {"PYTHONPATH": str(copy)}
    done = subprocess.run(words, cwd=copy, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def the_run(copy: Path) -> Path:
    (folder,) = copy.glob("outputs/*/*")
    return folder


def check_corpus(copy: Path, out: str) -> None:
    assert "rivers of the world" in out and "documents 30" in out


def check_reader(copy: Path, out: str) -> None:
    assert "documents 20" in out
    assert "jsonl" in run(copy, "python train.py --help")


def check_mode(copy: Path, out: str) -> None:
    assert "mode sentences, sentences 20" in out
    assert "sentences" in run(copy, "python train.py --help")
    assert "[" in (the_run(copy) / "samples.txt").read_text()


def check_choice(name: str) -> Callable[[Path, str], None]:
    def check(copy: Path, out: str) -> None:
        assert name in (the_run(copy) / "config.yaml").read_text()
        assert name in run(copy, "python train.py --help")

    return check


def check_metric(copy: Path, out: str) -> None:
    with (the_run(copy) / "metrics.csv").open(newline="") as file:
        values = [float(row["embeddings/norm"]) for row in csv.DictReader(file) if row["embeddings/norm"]]
    assert read_scalars(the_run(copy), "embeddings/norm") == [
        (step, pytest.approx(value)) for step, value in zip((3, 6), values, strict=True)
    ]
    assert f"norm {values[-1]:.3f}" in out


def check_column(copy: Path, out: str) -> None:
    (sweep,) = copy.glob("multirun/*")
    with (sweep / "summary.csv").open(newline="") as file:
        (first, _) = (f"{float(row['best_val_loss']):.4f}" for row in csv.DictReader(file))
    for name in ("summary.md", "report.html"):
        text = (sweep / name).read_text(encoding="utf-8")
        assert "best val" in text and first in text
    assert "best val" in out


def check_marks(copy: Path, out: str) -> None:
    assert re.search(r"\[(new; like |in the training set|cut off)", (the_run(copy) / "samples.txt").read_text())
    assert not re.search(r"new; \d", out)


def check_launcher(copy: Path, out: str) -> None:
    assert "2 jobs: 2 finished" in out


def check_command(copy: Path, out: str) -> None:
    assert re.fullmatch(r"[\d,]+ weights\n", out)
    assert "print how many weights a run has" in run(copy, "python -m microgpt --help")
    assert "the directory of a run" in run(copy, "python -m microgpt size --help")


CHECKS = {
    "A corpus": check_corpus,
    "A reader": check_reader,
    "A mode": check_mode,
    "An activation": check_choice("tanh"),
    "A schedule": check_choice("square_root"),
    "An optimizer": check_choice("sgd"),
    "A metric at each validation": check_metric,
    "A column of the sweep's table": check_column,
    "How samples are marked": check_marks,
    "A launcher": check_launcher,
    "A command": check_command,
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project, with the files that the recipes read."""
    for name in ("conf", "microgpt"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "sample.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "rivers.csv").write_text("name\n" + "".join(f"river {i}\n" for i in range(30)))
    (tmp_path / "tweets.jsonl").write_text("".join(f'{{"text": "tweet {i}"}}\n' for i in range(20)))
    (tmp_path / "my.txt").write_text("".join(f"Here is sentence {i}. " for i in range(20)))
    return tmp_path


def test_every_section_is_tested() -> None:
    assert set(SECTIONS) == set(CHECKS) | WORDS_ONLY
    assert set(CHECKS) == set(MAX_FILES)


@pytest.mark.parametrize("task", CHECKS)
def test_a_recipe_works_and_touches_few_files(task: str, copy: Path) -> None:
    if task == "A launcher" and not installed("joblib"):
        pytest.skip("needs hydra-joblib-launcher")
    edits = read_edits(SECTIONS[task])
    assert 0 < len({edit.file for edit in edits}) <= MAX_FILES[task]
    apply(edits, copy)
    (block,) = re.findall(r"^```sh\n(.*?)^```", SECTIONS[task], re.MULTILINE | re.DOTALL)
    if task == "A command":
        run(copy, "python train.py", *QUICK)
        out = run(copy, block)
    else:
        out = run(copy, block, *QUICK)
    CHECKS[task](copy, out)
