"""Fixtures and settings of all tests: runs of a second, and the entry points run as a user runs them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from tempfile import mkdtemp

import pytest
from fork_server import ROOT, ForkServer

pytest.register_assert_rewrite("helpers")  # so that its assertions are explained as those of the tests are

# Two threads gain nothing on models this small, and many processes at once lose a lot by them.
os.environ["OMP_NUM_THREADS"] = "1"

# A run caches baselines of its corpus: here not in the user's own cache.
os.environ["XDG_CACHE_HOME"] = mkdtemp(prefix="microgpt-cache-")

# Where the downloaded corpora are, for the tests that read them; without them those tests are skipped.
CORPORA = Path(os.environ.get("MICROGPT_TEST_DATASETS", ROOT / "datasets")).resolve()
needs_corpora = pytest.mark.skipif(
    not (CORPORA / "words_alpha.zip").is_file(), reason=f"no corpora in {CORPORA}; set MICROGPT_TEST_DATASETS"
)

# A run of a second: it does everything that a run does, but little of each.
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
    """`program` in a new Python: seconds slower, with a hash seed and random numbers of its own."""

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


class Page(HTMLParser):
    """A page of HTML: the tags in it, and what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
