"""A run meets a full disk, a directory that cannot be written, and a second process: one line, and no damage."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fork_server import ForkServer
from helpers import LONG, assert_same_run, wait_for
from settings import LEAN, QUICK, ROOT, Program, Trained

from microgpt.runs.lock import locked


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def run_limited(folder: Path, kilobytes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`train.py` in `folder`, where no file can grow over a size: `write` fails half-way, as on a full disk."""
    limited = f"ulimit -f {kilobytes}; trap '' XFSZ; exec {sys.executable} {ROOT / 'train.py'} {' '.join(arguments)}"
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        ["bash", "-c", limited], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_a_full_disk_is_named_and_the_status_is_true(program: Program, trained: Trained, tmp_path: Path) -> None:
    run, unbroken = trained(*QUICK), trained(*QUICK, at="unbroken")
    before = (run / "ckpt.pt").read_bytes()
    done = run_limited(tmp_path, len(before) // 1024 // 2, "resume=run", "train.steps=20")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1 and "run/best.pt: File too large" in done.stderr
    result = json.loads((run / "result.json").read_text())
    assert result["status"] == "failed" and "best.pt" in result["error"]
    assert (run / "ckpt.pt").read_bytes() == before
    assert not list(run.glob(".*.partial"))
    for folder in ("run", "unbroken"):
        program("train.py", f"resume={folder}", "train.steps=20")
    assert_same_run(run, unbroken)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own, with the errors of a real one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if mount("-t", "tmpfs", "-o", "size=512k", "tmpfs", folder):
        pytest.skip("only root can mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def mount(*arguments: str | Path) -> int:
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, check=False).returncode


def test_a_disk_that_is_full_from_the_start_is_one_line(program: Program, disk: Path) -> None:
    (disk / "other").write_bytes(bytes(480_000))
    done = program("train.py", "hydra.run.dir=disk/run", *QUICK, *LEAN, status=2)
    assert len(done.stderr.splitlines()) == 1 and "disk/run" in done.stderr, done.stderr
    assert "No space left on device; free some space" in done.stderr
    assert not list(disk.rglob(".*.partial"))


@pytest.mark.parametrize("arguments", [["resume=disk/run"], ["hydra.run.dir=disk/run", *QUICK]], ids=["resume", "dir"])
def test_a_run_directory_that_cannot_be_written_is_one_line(
    arguments: list[str], program: Program, trained: Trained, disk: Path
) -> None:
    run = trained(*QUICK, at="disk/run")
    before = files_of(run)
    assert mount("-o", "remount,ro", disk) == 0
    done = program("train.py", *arguments, "train.steps=9", status=2)
    assert len(done.stderr.splitlines()) == 1 and "disk/run" in done.stderr, done.stderr
    assert "Read-only file system" in done.stderr
    assert files_of(run) == before


def test_a_second_process_is_refused_until_the_first_has_ended(
    program: Program, fork_server: ForkServer, tmp_path: Path
) -> None:
    process = fork_server.start(tmp_path, "train.py", "hydra.run.dir=run", *LONG, *LEAN, "train.steps=3000")
    wait_for((tmp_path / "run/ckpt.pt").exists, process)
    done = program("train.py", "resume=run", status=2)
    assert (
        done.stderr == f"error: run: is being trained by process {process.pid} on {os.uname().nodename}; wait until"
        " it ends, or end it\n"
    )
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = program("train.py", "resume=run", "train.steps=3000", "train.patience=1")
    assert "resumed from step" in done.stdout


def test_a_complete_run_needs_no_lock(program: Program, trained: Trained) -> None:
    with locked(trained(*QUICK)):
        assert "is complete" in program("train.py", "resume=run").stdout


@pytest.mark.parametrize(
    "word", ["resume=", "resume=''", "hydra.run.dir=", 'hydra.run.dir=""', "hydra.sweep.dir=", "datasets_dir="]
)
def test_an_empty_value_of_an_unset_variable_is_refused(word: str, program: Program, tmp_path: Path) -> None:
    done = program("train.py", word, *QUICK, status=2)
    assert len(done.stderr.splitlines()) == 1 and "is empty (an unset variable of the shell?)" in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_run_whose_output_nobody_reads_any_more_ends_and_can_be_resumed(program: Program, tmp_path: Path) -> None:
    words = [*QUICK, *LEAN, "train.steps=5000", "train.val_every=5", "hydra.run.dir=run"]
    command = [sys.executable, str(ROOT / "train.py"), *words]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()  # as `head -1` does
        assert process.stderr.read() == b"" and process.wait() == 1
    error = json.loads((tmp_path / "run/result.json").read_text())["error"]
    assert error == "stopped, since nothing reads its output any more (as after | head); resume= goes on"
    program("train.py", "resume=run", "train.steps=5")


def test_a_deleted_figure_is_made_again(program: Program, trained: Trained) -> None:
    run = trained(*QUICK)
    (run / "loss.png").unlink()
    done = program("train.py", "resume=run")
    assert "made again, with what depends on it: loss.png" in done.stdout
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "is complete" in program("train.py", "resume=run").stdout


def test_interpolations_in_the_config_of_a_run_are_not_resolved(
    program: Program, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(*QUICK)
    monkeypatch.setenv("SECRET", "datasets")
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("datasets_dir: datasets", "datasets_dir: ${oc.env:SECRET}"))
    program("train.py", "resume=run", "train.steps=7")
    assert "datasets_dir: ${oc.env:SECRET}" in (run / "config.yaml").read_text()


def test_a_path_with_what_hydra_reads_as_a_template_is_a_path(
    fork_server: ForkServer, trained: Trained, program: Program, tmp_path: Path
) -> None:
    run = trained(*QUICK, at="a ${b}/run")
    record = (run / ".hydra/overrides.yaml").read_text()
    done = program("train.py", "resume=a ${b}/run", "train.steps=9")
    assert f"in a ${{b}}{os.sep}run: " in done.stdout
    assert json.loads((run / "result.json").read_text())["step"] == 9
    assert (run / ".hydra/overrides.yaml").read_text() == record
    for words in (QUICK, ["-m", *QUICK, "seed=1,2"]):
        done = fork_server.run(tmp_path / "a ${b}", "train.py", *words, *LEAN)
        assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "a ${b}/multirun").iterdir()
    assert (sweep / "report.html").is_file()
    shutil.rmtree(sweep / "1-seed2")
    done = program("train.py", f"resume={sweep}")
    assert (sweep / "1-seed2/ckpt.pt").is_file()
    assert {path.name for path in (tmp_path / "a ${b}").iterdir()} == {"run", "outputs", "multirun"}
