"""The recipes of docs/extending.md: each is applied to a copy of the project, and its effect is checked."""

import csv
import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from fork_server import ForkServer
from helpers import read_scalars
from settings import LEAN, QUICK, ROOT, installed

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
    "A logger": 3,
    "A command": 2,
}
WORDS_ONLY = {"A setting"}
WITH_INSIGHT = {"A mode", "A reader", "A metric at each validation", "How samples are marked"}


@dataclass
class Edit:
    """An edit of `file`: `new` replaces `old`; if `old` is empty, `new` is appended."""

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


class Project:
    """A copy of the project in `folder`, whose commands run in processes of their own."""

    def __init__(self, folder: Path, server: ForkServer) -> None:
        self.folder, self.server = folder, server

    def run(self, command: str, *settings: str) -> str:
        """What `python …` prints in the copy, with the package of the copy."""
        first, *rest = [*shlex.split(command)[1:], *settings]
        done = self.server.run(self.folder, str(self.folder / first) if first.endswith(".py") else first, *rest)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def run_directory(self) -> Path:
        (folder,) = self.folder.glob("outputs/*/*")
        return folder


def check_corpus(project: Project, out: str) -> None:
    assert "rivers of the world" in out and "documents 30" in out


def check_reader(project: Project, out: str) -> None:
    assert "documents 20" in out
    assert "subtitles" in project.run("python train.py --help")
    assert r"\nsaid a voice" in (project.run_directory / "samples.txt").read_text()


def check_mode(project: Project, out: str) -> None:
    assert "mode sentences, sentences 20" in out
    assert "sentences" in project.run("python train.py --help")
    assert "[" in (project.run_directory / "samples.txt").read_text()


def check_choice(name: str) -> Callable[[Project, str], None]:
    def check(project: Project, out: str) -> None:
        assert name in (project.run_directory / "config.yaml").read_text()
        assert name in project.run("python train.py --help")

    return check


def check_metric(project: Project, out: str) -> None:
    with (project.run_directory / "metrics.csv").open(newline="") as file:
        values = [float(row["embeddings/norm"]) for row in csv.DictReader(file) if row["embeddings/norm"]]
    assert read_scalars(project.run_directory, "embeddings/norm") == [
        (step, pytest.approx(value)) for step, value in zip((3, 6), values, strict=True)
    ]
    assert f"norm {values[-1]:.3f}" in out


def check_column(project: Project, out: str) -> None:
    (sweep,) = project.folder.glob("multirun/*")
    with (sweep / "summary.csv").open(newline="") as file:
        (first, _) = (f"{float(row['best_val_loss']):.4f}" for row in csv.DictReader(file))
    for name in ("summary.md", "report.html"):
        text = (sweep / name).read_text(encoding="utf-8")
        assert "best val" in text and first in text
    assert "best val" in out


def check_marks(project: Project, out: str) -> None:
    assert re.search(r"\[(new; like |in the training set|cut off)", (project.run_directory / "samples.txt").read_text())
    assert not re.search(r"new; \d", out)


def check_launcher(project: Project, out: str) -> None:
    assert "2 jobs: 2 finished" in out


def check_logger(project: Project, out: str) -> None:
    lines = [json.loads(line) for line in (project.run_directory / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "val/loss" in line] == [3, 6]
    assert not list(project.run_directory.glob("events*"))


def check_command(project: Project, out: str) -> None:
    assert re.fullmatch(r"[\d,]+ weights\n", out)
    assert "print how many weights a run has" in project.run("python -m microgpt --help")
    assert "a run: its directory, latest" in project.run("python -m microgpt size --help")


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
    "A logger": check_logger,
    "A command": check_command,
}


@pytest.fixture
def project(fork_server: ForkServer, tmp_path: Path) -> Project:
    """A copy of the project, with the files that the recipes read."""
    for name in ("conf", "microgpt"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "sample.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "rivers.csv").write_text("name\n" + "".join(f"river {i}\n" for i in range(30)))
    film = "".join(f"{i}\n00:00:{i:02},0 --> 00:00:{i:02},9\nHello {i},\nsaid a voice\n\n" for i in range(20))
    (tmp_path / "film.srt").write_text(film)
    (tmp_path / "my.txt").write_text("".join(f"Here is sentence {i}. " for i in range(20)))
    return Project(tmp_path, fork_server)


def test_every_section_is_tested() -> None:
    assert set(SECTIONS) == set(CHECKS) | WORDS_ONLY
    assert set(CHECKS) == set(MAX_FILES)


@pytest.mark.parametrize("task", CHECKS)
def test_a_recipe_works_and_touches_few_files(task: str, project: Project) -> None:
    if task == "A launcher" and not installed("joblib"):
        pytest.skip("needs hydra-joblib-launcher")
    edits = read_edits(SECTIONS[task])
    assert 0 < len({edit.file for edit in edits}) <= MAX_FILES[task]
    apply(edits, project.folder)
    (block,) = re.findall(r"^```sh\n(.*?)^```", SECTIONS[task], re.MULTILINE | re.DOTALL)
    if task == "A command":
        project.run("python train.py", *QUICK)
        out = project.run(block)
    else:
        out = project.run(block, *QUICK, *([] if task in WITH_INSIGHT else LEAN))
    CHECKS[task](project, out)
