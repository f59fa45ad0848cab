"""The table of commands: one entry point, one line of help per command, and a suggestion for an unknown name."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from settings import QUICK, ROOT, Program

import microgpt
from microgpt.__main__ import COMMANDS


def test_help_lists_every_command_with_its_description(program: Program) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        out = program("-m", "microgpt", *arguments).stdout
        for name, line in COMMANDS.items():
            assert f"  {name:<12} {line}\n" in out


@pytest.mark.parametrize(
    ("name", "hint"), [("explan", "did you mean explain?"), ("tran", "did you mean train?"), ("xyz", "microgpt --help")]
)
def test_the_error_for_an_unknown_command_suggests_the_nearest(name: str, hint: str, program: Program) -> None:
    done = program("-m", "microgpt", name, "run=latest", status=2)
    assert done.stderr.startswith(f"error: {name}: there is no such command; {hint}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_rejects_a_misspelt_setting(command: str, program: Program) -> None:
    assert program("-m", "microgpt", command, "--help").stdout.count("\n") > 4
    done = program("-m", "microgpt", command, "devise=x", status=2)
    assert done.stderr.startswith("error: devise") and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [["-m", "microgpt"], ["train.py"], ["sample.py", "run=latest"]])
def test_a_python_without_the_packages_says_what_to_type(words: list[str]) -> None:
    without_site = [sys.executable, "-S", *words]
    done = subprocess.run(without_site, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert " is not installed for " in done.stderr and "type . .venv/bin/activate first" in done.stderr


@pytest.mark.parametrize("words", [["-m", "microgpt"], ["train.py"], ["sample.py"]])
def test_the_versions_in_use_are_printed(words: list[str], program: Program) -> None:
    (line,) = program(*words, "--version").stdout.splitlines()
    assert line.startswith(f"microgpt {microgpt.__version__}, Python 3.")
    assert f"torch {metadata.version('torch')}" in line and "hydra-core 1.3" in line


def test_train_and_sample_are_the_entry_points(program: Program, tmp_path: Path) -> None:
    program("-m", "microgpt", "train", "hydra.run.dir=outputs/colors/a", *QUICK)
    texts = program("-m", "microgpt", "sample", "run=latest").stdout
    assert texts == program("sample.py", "run=latest").stdout
    assert (tmp_path / "outputs/colors/a/train.log").is_file()


def test_the_console_script_is_installed() -> None:
    script = Path(sys.executable).parent / "microgpt"
    done = subprocess.run([str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "microgpt <command>" in done.stdout
