"""What the tests share: a small machine, and ways to run the entry points as a user does."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from tempfile import mkdtemp

import pytest
from nursery import ROOT, Nursery

# Two threads gain nothing on models this small, and many processes at once lose a lot by them.
os.environ["OMP_NUM_THREADS"] = "1"

# What a run keeps for the next one of the same corpus is kept away from the user's own.
os.environ["XDG_CACHE_HOME"] = mkdtemp(prefix="microgpt-cache-")

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


@pytest.fixture(autouse=True)
def denormals() -> Iterator[None]:
    """Training in this process flushes tiny numbers to zero; the tests after it have them again."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


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
