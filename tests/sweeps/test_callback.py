"""Sweeps from the command line: summarised, resumed, in parallel, and with failed or killed jobs."""

import csv
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fork_server import ForkServer
from helpers import LONG, assert_same_run, wait_for
from settings import LEAN, QUICK, ROOT, Program, installed

from microgpt.runs.lock import locked

FILES = ("summary.csv", "summary.md", "all_losses.png", "report.html")


def summary_of(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def statuses(sweep: Path) -> dict[str, str]:
    return {row["job"]: row["status"] for row in summary_of(sweep)}


def losses(sweep: Path) -> dict[str, str]:
    return {row["job"]: row["val_loss"] for row in summary_of(sweep)}


def needs(launcher: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not installed(launcher), reason=f"needs hydra-{launcher}-launcher")


@pytest.fixture(scope="module")
def swept_once(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("swept")
    done = fork_server.run(folder, "train.py", "-m", "seed=1,2", *QUICK, "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stderr
    return folder / "sweep"


@pytest.fixture
def swept(swept_once: Path, tmp_path: Path) -> Path:
    """A finished sweep of seeds 1 and 2, in `sweep`."""
    return shutil.copytree(swept_once, tmp_path / "sweep")


def test_a_sweep_is_summarised_and_can_be_summarised_again(program: Program, tmp_path: Path) -> None:
    done = program("train.py", "-m", "seed=1,2", "optim.lr=0.01,0.03", *QUICK)
    (sweep,) = (tmp_path / "multirun").iterdir()
    assert all((sweep / name).is_file() for name in FILES)
    table = summary_of(sweep)
    assert {row["job"] for row in table} == {
        "0-lr0.01-seed1",
        "1-lr0.03-seed1",
        "2-lr0.01-seed2",
        "3-lr0.03-seed2",
    }
    assert [float(row["val_loss"]) for row in table] == sorted(float(row["val_loss"]) for row in table)
    assert {row["seeds"] for row in table} == {"2"}
    assert "4 jobs: 4 finished" in done.stdout and "±" in done.stdout
    # The lines at its end work as they stand.
    lines = [line.partition(": ")[2].split() for line in done.stdout.splitlines()[-4:]]
    assert lines[2][-1] == (sweep / "report.html").as_uri() and lines[3][-1] == f"multirun/{sweep.name}"
    best = max(summary_of(sweep), key=lambda row: -float(row["val_loss"]))["job"]
    assert lines[0][-1] == f"run=multirun/{sweep.name}/{best}"
    samples = program(*lines[0][1:]).stdout
    chosen = program("sample.py", f"run={sweep.relative_to(tmp_path)}")
    assert samples == chosen.stdout and chosen.stderr.startswith(f"from multirun/{sweep.name}/{best} (colors, val ")
    assert "resumed from step 6" in program(*lines[1][1:]).stdout
    program("-m", "microgpt", "summarize", f"folder={sweep}")
    assert [(row["seed"], row["optim.lr"]) for row in summary_of(sweep) if row["job"] == best] == [
        (row["seed"], row["optim.lr"]) for row in table if row["job"] == best
    ]
    before = (sweep / "summary.csv").read_text()
    for name in FILES:
        (sweep / name).unlink()
    again = program("-m", "microgpt", "summarize", f"folder={sweep}")
    assert "4 jobs: 4 finished" in again.stdout
    assert (sweep / "summary.csv").read_text() == before
    assert all((sweep / name).is_file() for name in FILES)


def test_every_job_of_a_sweep_over_corpora_has_the_settings_of_its_corpus(program: Program, tmp_path: Path) -> None:
    few = ["train.steps=2", "train.val_every=2", "sampling.max_tokens=5", "model.n_layer=1", "model.n_embd=16"]
    program("train.py", "dataset=colors,python_docs", "-m", *few)
    jobs = sorted(path.parent.name for path in tmp_path.glob("multirun/*/*/result.json"))
    assert jobs == ["0-colors", "1-python_docs"]
    configs = [path.read_text() for path in sorted(tmp_path.glob("multirun/*/*/config.yaml"))]
    assert "mode: discrete" in configs[0] and "mode: stream" in configs[1]


def test_a_failed_job_does_not_stop_the_sweep_and_is_trained_again_when_it_is_resumed(
    program: Program, tmp_path: Path, names_file: Path
) -> None:
    # One job finds its corpus, the other does not; then it is there.
    data = ["dataset=file", "dataset.path=corpus.txt,later.txt"]
    done = program("train.py", "-m", *data, *QUICK, "hydra.sweep.dir=sweep", status=2)
    assert "1 of 2 jobs did not end" in done.stderr and "resume=sweep" in done.stderr
    assert sorted(statuses(tmp_path / "sweep").values()) == ["failed", "finished"]
    (failed,) = tmp_path.glob("sweep/1-*")
    assert "later.txt: no such file" in (failed / "train.log").read_text()
    result = json.loads((failed / "result.json").read_text())
    assert result["status"] == "failed" and "later.txt: no such file" in result["error"]
    assert "later.txt: no such file" in (tmp_path / "sweep/report.html").read_text()
    finished = next(tmp_path.glob("sweep/0-*/ckpt.pt")).stat().st_mtime_ns
    (tmp_path / "later.txt").write_text(names_file.read_text())
    program("train.py", "resume=sweep")
    assert set(statuses(tmp_path / "sweep").values()) == {"finished"}
    assert next(tmp_path.glob("sweep/0-*/ckpt.pt")).stat().st_mtime_ns == finished


BUGGY = """
import sys
from microgpt.commands import train
from microgpt.training import run

def run_training(config, folder, gpu=None, command=None):
    real(config, folder, gpu) if config.seed == 2 else 1 / 0

real, run.run_training = run.run_training, run_training
train.main(sys.argv[1:])
"""


def test_a_bug_in_a_job_is_logged_with_its_stack_trace_and_stops_no_other_job(program: Program, swept: Path) -> None:
    (swept / "1-seed2/result.json").write_text("{}")
    (swept.parent / "buggy.py").write_text(BUGGY)
    program(str(swept.parent / "buggy.py"), "resume=sweep", status=2)
    assert json.loads((swept / "0-seed1/result.json").read_text())["error"] == "ZeroDivisionError: division by zero"
    assert "Traceback" in (swept / "0-seed1/train.log").read_text()
    assert statuses(swept) == {"0-seed1": "failed", "1-seed2": "finished"}


def test_a_damaged_job_is_repaired_or_unreadable_and_stops_no_other_job(program: Program, swept: Path) -> None:
    (swept / "0-seed1/config.yaml").write_bytes(b"\xff")
    (swept / "1-seed2/result.json").write_text("[1]")
    done = program("train.py", "resume=sweep", status=2)
    assert statuses(swept) == {"0-seed1": "unreadable", "1-seed2": "finished"}
    assert "0-seed1/config.yaml: damaged" in done.stdout and "unreadable" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_damaged_record_of_a_sweep_is_named(program: Program, swept: Path) -> None:
    (swept / "multirun.yaml").write_text("hydra: 3")
    done = program("train.py", "resume=sweep", status=2)
    assert done.stderr == "error: sweep/multirun.yaml: damaged (no overrides); restore it\n"


def test_a_job_that_another_process_trains_is_left_alone(program: Program, swept: Path) -> None:
    result = swept / "0-seed1/result.json"
    result.write_text('{"status": "running"}')
    with locked(swept / "0-seed1"):
        done = program("train.py", "resume=sweep", status=2)
    assert "0-seed1: is being trained by process" in done.stdout
    assert result.read_text() == '{"status": "running"}'


def test_a_job_that_cannot_be_resumed_is_a_failure(program: Program, swept: Path) -> None:
    result = swept / "1-seed2/result.json"
    result.write_text("{}")
    for name in ("ckpt.pt", "ckpt.previous.pt", "best.pt"):
        (swept / "1-seed2" / name).unlink()
        (swept / "1-seed2" / name).mkdir()
    program("train.py", "resume=sweep", status=2)
    assert json.loads(result.read_text())["status"] == "failed"
    assert statuses(swept) == {"0-seed1": "finished", "1-seed2": "failed"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dataset=colors,nmes"], ["dataset=nmes", "did you mean dataset=names?"]),
        (["dataset=glob(x*)"], ["dataset=glob(x*)", "matches nothing"]),
        (["seed=range(3,3)"], ["seed=range(3,3)", "matches nothing"]),
        (["seed=1,2", "resume=latest"], ["resume=latest", "leave out -m"]),
        (["seed=1,2", "hydra/launcher=none"], ["none"]),
    ],
)
def test_a_sweep_that_cannot_start_is_refused_before_any_job_and_leaves_nothing(
    arguments: list[str], words: list[str], program: Program, tmp_path: Path
) -> None:
    done = program("train.py", "-m", *arguments, *QUICK, status=2)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert not list(tmp_path.glob("multirun/*"))


def test_the_directory_of_another_sweep_is_refused(program: Program, swept: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = program("train.py", "-m", "seed=3,4", *QUICK, "hydra.sweep.dir=sweep", status=2)
    assert "belongs to another sweep" in done.stderr and "seed=1,2" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = program("train.py", "resume=sweep", "seed=3", status=2)
    assert "seed=3" in done.stderr and "keeps its own settings" in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_sweep_is_not_resumed_when_its_files_in_conf_have_changed(program: Program, tmp_path: Path) -> None:
    def write(lr: float) -> None:
        (tmp_path / "mine/optim").mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine/optim/mine.yaml").write_text(f"lr: {lr}\n")

    write(0.01)
    sweep = ["-m", "seed=1,2", "optim=mine", *QUICK, "hydra.sweep.dir=sweep", "--config-dir", str(tmp_path / "mine")]
    program("train.py", *sweep)
    write(0.02)
    done = program("train.py", *sweep, status=2)
    assert "0-seed1 was trained with optim.lr=0.01" in done.stderr


def test_an_interrupted_sweep_ends_with_its_job_and_can_be_resumed_in_parallel(
    program: Program, fork_server: ForkServer, tmp_path: Path
) -> None:
    long = [*LONG, *LEAN]
    process = fork_server.start(tmp_path, "train.py", "-m", "seed=1,2", *long, "hydra.sweep.dir=sweep")
    wait_for((tmp_path / "sweep/0-seed1/ckpt.pt").exists, process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    hint = f"resume the sweep with: python {ROOT / 'train.py'} resume=sweep"
    assert f"1 of 2 jobs did not end, 1 did not start; {hint}" in error
    assert statuses(tmp_path / "sweep") == {"0-seed1": "interrupted"}
    assert not (tmp_path / "sweep/1-seed2").exists()
    program("train.py", "resume=sweep", *(["hydra/launcher=joblib"] if has_joblib() else []))
    program("train.py", "hydra.run.dir=uninterrupted", *long, "seed=1")
    assert_same_run(tmp_path / "sweep/0-seed1", tmp_path / "uninterrupted")
    assert set(statuses(tmp_path / "sweep").values()) == {"finished"}


def is_worker(process: Path, folder: Path) -> bool:
    """Whether a process of /proc trains for the sweep in `folder`."""
    try:
        return b"popen_loky" in (process / "cmdline").read_bytes() and (process / "cwd").resolve() == folder
    except OSError:
        return False


def has_joblib() -> bool:
    return importlib.util.find_spec("joblib") is not None


@needs("joblib")
def test_parallel_jobs_print_one_line_each_and_have_the_same_losses(program: Program, tmp_path: Path) -> None:
    jobs = ["model.n_embd=16,30,8", *(q for q in QUICK if "n_embd" not in q and "n_head" not in q)]
    jobs += ["model.n_head=4"]
    done = program("train.py", "-m", *jobs, "hydra/launcher=joblib", "hydra.sweep.dir=parallel", status=2)
    lines = [line for line in done.stdout.splitlines() if not line.startswith("[")]
    before_table = [line for line in lines[: lines.index("")] if line]
    assert sorted(line.split(":")[0] for line in before_table) == ["0-n_embd16", "1-n_embd30", "2-n_embd8"]
    assert "finished, validation" in done.stdout and "failed model.n_embd=30" in done.stdout
    assert "step 6/6" in (tmp_path / "parallel/0-n_embd16/train.log").read_text()
    program("train.py", "-m", *jobs, "hydra.sweep.dir=serial", status=2)
    assert losses(tmp_path / "parallel") == losses(tmp_path / "serial")


@needs("joblib")
def test_a_killed_job_is_unfinished_and_the_same_command_finishes_it(
    program: Program, fork_server: ForkServer, tmp_path: Path
) -> None:
    long = [*LONG, *LEAN, "train.steps=1500", "train.val_every=100"]
    sweep = ["-m", "seed=1,2", *long, "hydra/launcher=joblib", "hydra.sweep.dir=sweep"]
    process = fork_server.start(tmp_path, "train.py", *sweep)
    wait_for(lambda: len(list(tmp_path.glob("sweep/*/ckpt.pt"))) == 2, process)
    workers = [int(path.name) for path in Path("/proc").glob("[0-9]*") if is_worker(path, tmp_path)]
    os.kill(workers[0], signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "2 of 2 jobs did not end" in error and "Traceback" not in error
    assert set(statuses(tmp_path / "sweep").values()) == {"unfinished"}
    program("train.py", *sweep)
    assert set(statuses(tmp_path / "sweep").values()) == {"finished"}


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param("submitit_local", marks=needs("submitit")),
        pytest.param("ray", marks=needs("ray")),
    ],
)
def test_other_launchers_give_the_same_losses(launcher: str, program: Program, swept: Path, tmp_path: Path) -> None:
    program("train.py", "-m", "seed=1,2", *QUICK, f"hydra/launcher={launcher}", "hydra.sweep.dir=other")
    assert losses(tmp_path / "other") == losses(swept)
    assert set(statuses(tmp_path / "other").values()) == {"finished"}


def test_a_launcher_that_is_not_installed_is_reported(tmp_path: Path) -> None:
    (tmp_path / "hydra_plugins.py").write_text("__path__ = []\n")  # hides the plugins that are installed
    for launcher, extra in [("joblib", "parallel"), ("submitit_slurm", "cluster"), ("ray", "ray")]:
        done = subprocess.run(
            [sys.executable, str(ROOT / "train.py"), "-m", "seed=1,2", f"hydra/launcher={launcher}"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            f"error: hydra/launcher={launcher}: is not installed; add it with:"
            f" pip install -c {ROOT}/constraints.txt -e '{ROOT}[{extra}]'"
        ]


def test_a_sweep_over_files_has_a_job_for_each(program: Program, tmp_path: Path, names_file: Path) -> None:
    for name in ("one, two.txt", "${seed}.txt"):
        (tmp_path / name).write_text(names_file.read_text())
    sweep = ["-m", "dataset=file", "dataset.path=${seed}.txt,one, two.txt", *QUICK, *LEAN, "hydra.sweep.dir=sweep"]
    program("train.py", *sweep)
    assert statuses(tmp_path / "sweep") == {"0-seed_.txt": "finished", "1-one_two.txt": "finished"}
    assert {row["dataset.path"] for row in summary_of(tmp_path / "sweep")} == {"${seed}.txt", "one, two.txt"}
    done = program("train.py", "resume=sweep")
    assert done.stdout.count("is complete") == 2


def test_on_a_terminal_that_lacks_characters_a_finished_job_is_finished(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    (tmp_path / "moods.txt").write_text("".join(f"{a}{b}😀\n" for a in "яжщ" for b in "αβγδ"), encoding="utf-8")
    sweep = ["-m", "dataset=file", "dataset.path=moods.txt", "seed=1,2", *QUICK, "hydra.sweep.dir=sweep"]
    done = program("train.py", *sweep)
    assert set(statuses(tmp_path / "sweep").values()) == {"finished"}
    assert "\\u" in done.stdout and "2 jobs: 2 finished" in done.stdout
    assert done.stdout.isascii() and "|job" in done.stdout  # the lines of the table as well
    assert "\\u" not in (tmp_path / "sweep/0-seed1/samples.txt").read_text(encoding="utf-8")


def test_a_sweep_with_more_jobs_than_its_command_now_has_is_refused(program: Program, tmp_path: Path) -> None:
    (tmp_path / "mine/dataset").mkdir(parents=True)
    for name in ("xa", "xb"):
        (tmp_path / f"mine/dataset/{name}.yaml").write_text("defaults: [colors]\n")
    sweep = ["-m", "dataset=glob(x*)", *QUICK, *LEAN, "hydra.sweep.dir=sweep", "--config-dir", str(tmp_path / "mine")]
    program("train.py", *sweep)
    (tmp_path / "mine/dataset/xb.yaml").unlink()
    done = program("train.py", *sweep, status=2)
    assert "belongs to another sweep, of more jobs: 1-xb is none of the 1 of now" in done.stderr
    assert not list(tmp_path.glob("sweep/0-xa-*"))
