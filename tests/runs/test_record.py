"""The record of a run: the commit, the machine and the command of each session."""

import shlex
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from settings import LEAN, QUICK, ROOT, Program, Trained

import microgpt
from microgpt.config.schema import Config, DatasetConfig, ModelConfig, RunConfig
from microgpt.model.throughput import flops_per_token, peak_flops
from microgpt.model.transformer import GPT
from microgpt.runs.directory import Status, read_config, read_result, write_config, write_result
from microgpt.runs.record import Record, git_state, name_and_note, processor_name

CPU = torch.device("cpu")


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a package, whose settings lie beside it."""
    for file in ("microgpt/__init__.py", "conf/config.yaml"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return tmp_path


def state(checkout: Path) -> tuple[str | None, bool | None]:
    git_state.cache_clear()
    return git_state(checkout / "microgpt", checkout / "conf")


def test_the_commit_is_clean_until_the_code_or_a_setting_changes(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    (checkout / "notes.txt").write_text("beside the code")
    assert state(checkout) == (commit, True)
    (checkout / "conf/mine.yaml").write_text("a: 1")  # not known to git
    assert state(checkout) == (commit, False)
    (checkout / "conf/mine.yaml").unlink()
    (checkout / "microgpt/__init__.py").write_text("changed")
    assert state(checkout) == (commit, False)


def test_an_installed_package_has_no_commit(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment may lie in the checkout of another project, whose commit is not its own."""
    installed = checkout / ".venv/microgpt"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    git_state.cache_clear()
    assert git_state(installed, installed / "conf") == (None, None)
    monkeypatch.setenv("PATH", "")  # no git
    assert state(checkout) == (None, None)


def test_a_session_says_what_made_it(tmp_path: Path) -> None:
    config = Config(run=RunConfig(name="wide", tags=["a", "b"], note="a try"))
    record = Record(config, tmp_path, "0123", CPU, "python train.py dataset=names")
    running = record.values(Status.RUNNING)
    assert running["run"] == {"name": "wide", "tags": ["a", "b"], "note": "a try"} and running["corpus"] == "0123"
    (session,) = running["sessions"]
    assert session["command"] == "python train.py dataset=names" and session["ended"] is None
    assert (session["microgpt"], session["torch"]) == (microgpt.__version__, torch.__version__)
    assert session["python"] == ".".join(map(str, sys.version_info[:3]))
    assert session["threads"] == torch.get_num_threads() and session["processes"] == 1
    assert session["processor"] == processor_name() != "" and session["gpu"] is None
    assert 10**7 < session["peak_memory"] < 10**12
    ended = record.values(Status.FINISHED)["sessions"][0]
    assert datetime.fromisoformat(ended["ended"]) >= datetime.fromisoformat(ended["started"])


def test_the_throughput_is_a_share_of_the_measured_peak(tmp_path: Path) -> None:
    record = Record(Config(), tmp_path, "0123", CPU, None, processes=2)
    model = GPT(10, ModelConfig(n_embd=8, n_layer=1, n_head=2, block_size=8))
    sentence = record.add_throughput(model, 1e6, "fp32")
    session = record.values(Status.FINISHED)["sessions"][0]
    assert session["flops_per_second"] == 1e6 * flops_per_token(model)
    assert session["peak_flops_per_second"] == 2 * peak_flops(CPU, torch.float32, torch.get_num_threads())
    assert session["share_of_peak"] == session["flops_per_second"] / session["peak_flops_per_second"]
    assert f"{session['share_of_peak']:.1%} of a large matrix product" in sentence and "peak memory" in sentence


def test_a_resumed_run_keeps_its_first_session_and_a_damaged_result_costs_it(tmp_path: Path) -> None:
    first = Record(Config(), tmp_path, "0123", CPU, "first")
    write_result(tmp_path, {"status": "interrupted", **first.values(Status.INTERRUPTED)})
    second = Record(Config(), tmp_path, "0123", CPU, "second")
    values = second.values(Status.FINISHED)
    assert [session["command"] for session in values["sessions"]] == ["first", "second"]
    assert values["sessions"][0]["started"] == first.session["started"]
    assert "first" in second.heading() and "second" not in second.heading()
    (tmp_path / "result.json").write_text('{"sessions": 3}')
    assert len(Record(Config(), tmp_path, "0123", CPU, "third").sessions) == 1


def test_the_head_of_the_config_is_read_as_comments_whatever_was_typed(tmp_path: Path) -> None:
    command = shlex.join(["python", "train.py", "run.note=two\nlines: *a\x1b\udcff"])
    record = Record(Config(), tmp_path, "0123", CPU, command)
    config = Config(dataset=DatasetConfig(name="names"))
    write_config(tmp_path, config, record.heading())
    text = (tmp_path / "config.yaml").read_text()
    assert read_config(tmp_path) == config
    head = text.partition("dataset:")[0]
    assert all(line.startswith("# ") for line in head.splitlines())
    assert f"torch {torch.__version__}" in head and "0123" in head and "lines: *a\\x1b" in head


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep the peak of a process")
def test_the_peak_of_the_memory_is_that_of_the_run() -> None:
    """The jobs of a sweep share a process: a small one after a large one has its own peak."""
    code = """
    import torch
    from microgpt.runs.record import peak_memory, reset_peaks
    block = bytearray(200_000_000)
    large = peak_memory()
    del block
    reset_peaks(torch.device("cpu"))
    print(large - peak_memory())
    """
    done = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(done.stdout) > 10**8


@pytest.mark.parametrize(
    ("run", "line"),
    [
        (RunConfig(), ""),
        (RunConfig(name="wide"), "wide"),
        (RunConfig(tags=["a", "b"]), "[a, b]"),
        (RunConfig(name="wide", tags=["a"], note="two\nlines"), "wide [a]: two lines"),
        (RunConfig(note="a try"), "a try"),
    ],
)
def test_a_run_is_described_in_one_line(run: RunConfig, line: str) -> None:
    assert name_and_note(run) == line


def test_a_run_records_what_was_typed_and_its_sessions(program: Program, trained: Trained) -> None:
    note = "a try, with 'quotes' & (brackets): ${seed}"
    run = trained(*QUICK, *LEAN, "run.name=first one", "run.tags=[wide, 'low lr']", f"run.note={note}")
    result = read_result(run)
    assert result["run"] == {"name": "first one", "tags": ["wide", "low lr"], "note": note}
    words = shlex.split(result["sessions"][0]["command"])
    assert words[:3] == ["python", str(ROOT / "train.py"), "hydra.run.dir=run"] and words[-1] == f"run.note={note}"
    assert f"first one [wide, low lr]: {note}" in (run / "train.log").read_text()
    program("train.py", "resume=run", "train.steps=8", "run.note=another")
    result = read_result(run)
    commands = [session["command"] for session in result["sessions"]]
    assert commands[1:] == [f"python {ROOT / 'train.py'} resume=run train.steps=8 run.note=another"]
    assert result["run"]["note"] == read_config(run).run.note == "another"
    assert all(session["ended"] for session in result["sessions"])


def test_the_command_of_a_job_trains_that_job_alone(program: Program, tmp_path: Path) -> None:
    program("train.py", "-m", *QUICK, *LEAN, "hydra.sweep.dir=sweep", "seed=1,2", "run.note='a, b'")
    for job in (tmp_path / "sweep").glob("*-seed*"):
        words = shlex.split(read_result(job)["sessions"][0]["command"])
        assert "-m" not in words
        program(*words[1:], f"hydra.run.dir={job.name}")
        assert read_result(tmp_path / job.name)["val_loss"] == read_result(job)["val_loss"]
        assert read_config(tmp_path / job.name) == read_config(job)


def test_a_run_is_opened_by_the_other_commands_and_named_in_training(program: Program, trained: Trained) -> None:
    trained(*QUICK, *LEAN)
    assert program("sample.py", "run=run").stdout.strip()
    error = program("train.py", "run=run", status=2).stderr
    assert "run=run: is for sample and" in error and "training has run.name, run.tags, run.note" in error
