"""Fixtures and settings of all tests: runs of a second, and the entry points run as a user runs them."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from fork_server import ForkServer
from settings import ROOT, Program, Trained

pytest.register_assert_rewrite("helpers", "page_scripts")  # their assertions are then explained too

# Two threads gain nothing on models this small, and many processes at once lose a lot by them.
os.environ["OMP_NUM_THREADS"] = "1"

# Each of our modules is compiled once, not by each program of a test.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell that starts the tests in the background has Ctrl-C ignored, and all their programs would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A run caches its corpus and the baselines of it: here not in the user's own cache.
os.environ["XDG_CACHE_HOME"] = mkdtemp(prefix="microgpt-cache-")


@pytest.fixture(autouse=True)
def denormals() -> Iterator[None]:
    """Training in this process flushes tiny numbers to zero; undone after each test."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture
def program(fork_server: ForkServer, tmp_path: Path) -> Program:
    """`program("train.py", "train.steps=5")` runs an entry point (or `-m`, a module) in an empty directory.

    It is a process of its own, with its exit status, but other packages are imported before it starts. `fresh` starts
    a new Python.
    """

    def run(*arguments: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = fork_server.run(tmp_path, *arguments)
        assert status is None or done.returncode == status, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def fresh(tmp_path: Path) -> Program:
    """`program` in a new Python: seconds slower, with its own hash seed and random state."""

    def run(*arguments: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        first, *rest = arguments
        command = [sys.executable, *([str(ROOT / first)] if first.endswith(".py") else [first]), *rest]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert status is None or done.returncode == status, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def trained_once(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    trained: dict[tuple[str, ...], Path] = {}

    def train(*settings: str) -> Path:
        if settings not in trained:
            folder = tmp_path_factory.mktemp("trained")
            done = fork_server.run(folder, "train.py", "hydra.run.dir=run", *settings)
            assert done.returncode == 0, done.stdout + done.stderr
            trained[settings] = folder / "run"
        return trained[settings]

    return train


@pytest.fixture
def trained(trained_once: Callable[..., Path], tmp_path: Path) -> Trained:
    """`trained(*QUICK)`: the run directory `run` of such a run, or `at`; equal runs are trained once and copied."""

    def copy(*settings: str, at: str = "run") -> Path:
        return shutil.copytree(trained_once(*settings), tmp_path / at)

    return copy


@pytest.fixture
def names_file(tmp_path: Path) -> Path:
    """A corpus of forty documents."""
    file = tmp_path / "corpus.txt"
    file.write_text("".join(f"{a}{b}{c}\n" for a in "kmnt" for b in "aeiou" for c in ("ra", "lin")))
    return file


CODES = "".join(f"{a}{b}-{n}\n" for a in "KQX" for b in "JVZ" for n in range(100, 130))
VERSES = "".join(
    f"the {a} is {b},\nand so it is.\n\n" for a in ("sea", "sky", "sun") * 4 for b in ("old", "new", "far")
)


@pytest.fixture(scope="session")
def compared_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with runs on three corpora: documents in lower case, documents in capitals, a stream."""
    from microgpt.config.schema import Config, DatasetConfig, ModelConfig, TrainConfig
    from microgpt.training.run import run_training

    root = tmp_path_factory.mktemp("compare")
    (root / "codes.txt").write_text(CODES)
    (root / "verses.txt").write_text(VERSES)
    corpora = [
        DatasetConfig(name="colors", reader="colors"),
        DatasetConfig(name="codes", path=str(root / "codes.txt")),
        DatasetConfig(name="verses", path=str(root / "verses.txt"), mode="stream"),
    ]
    for dataset in corpora:
        folder = root / "outputs" / dataset.name / "1"
        folder.mkdir(parents=True)
        model = ModelConfig(n_embd=16, n_layer=1, n_head=2, block_size=16)
        train = TrainConfig(steps=150, val_every=50, batch_size=8)
        run_training(Config(dataset, model, train=train, plot=False, device="cpu"), folder)
    return root
