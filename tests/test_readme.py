"""The README: every command in it runs, every file it names is there, and it stays short."""

import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from fork_server import ForkServer
from settings import CORPORA, QUICK, ROOT, Program

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
AT_HAND = (CORPORA / "words_alpha.zip").is_file()
DOWNLOADS = ("names", "pokemon", "cities", "english_words", "paul_graham", "shakespeare", "glob")

SHELL = re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [line.partition("  #")[0].strip() for block in SHELL for line in block.splitlines()]
# What is written in a sentence counts as well: `python train.py dataset=names`.
COMMANDS += [c for c in re.findall(r"`((?:python|make|microgpt) [^`…]+)`", TEXT) if c not in COMMANDS]
PYTHON = [c.replace("microgpt ", "python -m microgpt ") if c.startswith("microgpt ") else c for c in COMMANDS]
PYTHON = [command for command in PYTHON if command.startswith("python ")]


def programs(command: str) -> tuple[str, ...]:
    """`python -m microgpt tune dataset=names` → `-m`, `microgpt`."""
    words = shlex.split(command)[1:]
    return tuple(words[: 2 if words[0] == "-m" else 1])


# The first command of each program is run by a Python that begins from nothing.
FIRST = {programs(command): command for command in reversed(PYTHON)}.values()


def test_the_readme_is_short() -> None:
    assert len(TEXT.splitlines()) <= 150


def test_the_readme_has_commands_of_every_kind() -> None:
    assert {command.split()[0] for command in COMMANDS} == {"make", "microgpt", "pip", "python", "tensorboard"}
    assert len(PYTHON) > 10


@pytest.fixture(scope="module")
def readme_folder(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the entry points and a run on the corpus that the prompts of the README use."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("train.py", "sample.py", "conf", "microgpt", "README.md"):
        (folder / name).symlink_to(ROOT / name)
    run_here(fork_server, folder, "python train.py dataset=names" if AT_HAND else "python train.py")
    return folder


def run_here(fork_server: ForkServer, folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the README with few steps and a small model."""
    words = [re.sub(r"^train\.steps=\d+$", "train.steps=9", word) for word in shlex.split(command)]
    if "train.py" in words and "--help" not in words and not any(word.startswith("resume=") for word in words):
        typed = {word.partition("=")[0] for word in words}
        words += [setting for setting in QUICK if setting.partition("=")[0] not in typed]
        words += [f"datasets_dir={CORPORA}"]
    if "microgpt/gpt.py" in words:
        words += ["--steps", "5"]
    if command not in FIRST:
        return fork_server.run(folder, *words[1:])
    words[0] = sys.executable
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("command", PYTHON)
def test_every_python_command_runs(command: str, readme_folder: Path, fork_server: ForkServer) -> None:
    if not AT_HAND and any(name in command for name in DOWNLOADS):
        pytest.skip("the corpora are not at hand")
    done = run_here(fork_server, readme_folder, command)
    # A finished run that is resumed without more steps says so; that is no failure.
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_every_make_command_has_its_rule(command: str) -> None:
    done = subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ".venv/bin" in done.stdout


def test_tensorboard_serves_the_runs(readme_folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (command,) = (c for c in COMMANDS if c.startswith("tensorboard"))
    program = [str(Path(sys.executable).parent / "tensorboard"), *shlex.split(command)[1:], f"--port={port}"]
    server = subprocess.Popen(program, cwd=readme_folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/data/runs", timeout=5) as answer:
                    runs = answer.read().decode()
            except OSError:
                runs = ""
            if "20" in runs:
                break
            assert time.monotonic() < deadline and server.poll() is None
            time.sleep(0.2)
        assert runs.count("names") + runs.count("colors") >= 1
    finally:
        server.terminate()
        server.wait()


def test_the_example_corpus_of_the_readme_trains(program: Program, tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    name = yaml.safe_load(block)["dataset"]["name"]
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / f"{name}.yaml").write_text(block)
    (tmp_path / "rivers.csv").write_text("name\n" + "".join(f"river {i}\n" for i in range(30)))
    program("train.py", "--config-dir", str(tmp_path), f"dataset={name}", *QUICK)


def test_every_file_named_in_the_readme_exists() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert link.startswith("https://") or (ROOT / link).exists(), link
    assert "@@" not in TEXT
