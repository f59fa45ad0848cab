"""What the tests share: a small machine, and ways to run the entry points as a user does."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

# Two threads gain nothing on models this small, and many processes at once lose a lot by them.
os.environ["OMP_NUM_THREADS"] = "1"

# What a run keeps for the next one of the same corpus is kept away from the user's own.
os.environ["XDG_CACHE_HOME"] = mkdtemp(prefix="microgpt-cache-")

ROOT = Path(__file__).parents[1]

# Where the downloaded corpora are, for the tests that read them; without them those tests are skipped.
CORPORA = Path(os.environ.get("MICROGPT_TEST_DATASETS", ROOT / "datasets")).resolve()
needs_corpora = pytest.mark.skipif(
    not (CORPORA / "words_alpha.zip").is_file(), reason=f"no corpora in {CORPORA}; set MICROGPT_TEST_DATASETS"
)

# A run of a second: everything that a run does, little of each.
QUICK = ["train.steps=6", "train.val_every=3", "train.log_every=2", "train.batch_size=4", "model.n_embd=16"]
QUICK += [
    "model.n_layer=1",
    "model.n_head=2",
    "model.block_size=16",
    "sampling.max_tokens=12",
    "sampling.n_samples=2",
]

Program = Callable[..., subprocess.CompletedProcess[str]]
Trained = Callable[..., Path]

# A process that has imported what takes seconds, though nothing of microgpt. Each line of its input begins a program
# in a fork of it, or asks whether one has ended. The fork sets up what a fresh Python has, leaves the loop, and ends as
# any program does.
NURSERY = """
import gc, importlib, json, os, runpy, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
gc.freeze()
tell = os.dup(1)
for line in sys.stdin:
    asked = json.loads(line)
    if "argv" in asked:
        if (child := os.fork()) == 0:
            break
        answer = child
    else:
        child, status = os.waitpid(asked["pid"], os.WNOHANG)
        answer = os.waitstatus_to_exitcode(status) if child else None
    os.write(tell, json.dumps(answer).encode() + b"\\n")
else:
    sys.exit()
os.close(tell)
for number, name in enumerate((os.devnull, asked["out"], asked["err"])):
    file = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
    os.dup2(file, number)
    os.close(file)
os.chdir(asked["cwd"])
os.environ.clear()
os.environ.update(asked["env"])
sys.stdin = open(0)
sys.argv = asked["argv"]
if sys.argv[0] == "-m":
    del sys.argv[0]
    sys.path[0] = os.getcwd()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    sys.path[0] = os.path.dirname(os.path.realpath(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name="__main__")
"""

# What train.py, sample.py and the modules with an entry point of their own import of others.
HEAVY = ["torch", "torch._dynamo", "torch.distributed.fsdp", "torch.utils.tensorboard", "matplotlib.figure"]
HEAVY += ["matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "hydra.main", "hydra.core.plugins"]
HEAVY += ["rich.progress", "rich.table", "jinja2", "optuna", "joblib", "requests", "pooch"]


class Child:
    """A program that the nursery has begun: what a Popen would be."""

    def __init__(self, nursery: "Nursery", argv: list[str], folder: Path) -> None:
        self.nursery, self.argv = nursery, argv
        self.returncode: int | None = None
        self.kept = Path(mkdtemp())
        files = {"out": str(self.kept / "out"), "err": str(self.kept / "err")}
        self.pid = nursery.ask({"argv": argv, "cwd": str(folder), "env": dict(os.environ), **files})

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.nursery.ask({"pid": self.pid})
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for the end, and return what was written to stdout and stderr."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.send_signal(signal.SIGKILL)
                raise subprocess.TimeoutExpired(self.argv, timeout)
            time.sleep(0.01)
        texts = (self.kept / "out").read_text(), (self.kept / "err").read_text()
        shutil.rmtree(self.kept)
        return texts


class Nursery:
    """Begins entry points as processes of their own, which need not import torch again."""

    def __init__(self) -> None:
        # The variable keeps an import that asks for GPUs from starting CUDA, which forks would not survive.
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY, *HEAVY],
            env=os.environ | {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self, folder: Path, *arguments: str) -> Child:
        """Begin `train.py …` or `-m module …` in `folder` with the environment of this moment."""
        first, *rest = arguments
        return Child(self, [str(ROOT / first) if first.endswith(".py") else first, *rest], folder)

    def run(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        child = self.start(folder, *arguments)
        out, error = child.communicate()
        assert child.returncode is not None
        return subprocess.CompletedProcess(child.argv, child.returncode, out, error)

    def ask(self, question: dict[str, Any]) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(question).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def program(nursery: Nursery, tmp_path: Path) -> Program:
    """`program("train.py", "train.steps=5")` runs an entry point (or `-m`, a module) in an empty directory.

    It is a process of its own, with its exit status; only what it imports of others is there before it begins. For a
    Python that begins from nothing there is `fresh`.
    """

    def run(*arguments: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = nursery.run(tmp_path, *arguments)
        assert status is None or done.returncode == status, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def fresh(tmp_path: Path) -> Program:
    """`program` in a new Python: seconds slower, with a hash seed and random numbers of its own."""

    def run(*arguments: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        first, *rest = arguments
        command = [sys.executable, *([str(ROOT / first)] if first.endswith(".py") else [first]), *rest]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert status is None or done.returncode == status, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def trained_once(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    trained: dict[tuple[str, ...], Path] = {}

    def train(*settings: str) -> Path:
        if settings not in trained:
            folder = tmp_path_factory.mktemp("trained")
            done = nursery.run(folder, "train.py", "hydra.run.dir=run", *settings)
            assert done.returncode == 0, done.stdout + done.stderr
            trained[settings] = folder / "run"
        return trained[settings]

    return train


@pytest.fixture
def trained(trained_once: Callable[..., Path], tmp_path: Path) -> Trained:
    """`trained(*QUICK)`: the directory `run` of such a run, or another `at`; equal runs are trained once and copied."""

    def copy(*settings: str, at: str = "run") -> Path:
        return shutil.copytree(trained_once(*settings), tmp_path / at)

    return copy


@pytest.fixture
def names_file(tmp_path: Path) -> Path:
    """A corpus of forty documents."""
    file = tmp_path / "corpus.txt"
    file.write_text("".join(f"{a}{b}{c}\n" for a in "kmnt" for b in "aeiou" for c in ("ra", "lin")))
    return file
