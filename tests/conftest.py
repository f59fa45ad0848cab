"""What the tests share: a small machine, and ways to run the entry points as a user does."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Two threads gain nothing on models this small, and many processes at once lose a lot by them.
os.environ["OMP_NUM_THREADS"] = "1"

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


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """`program("train.py", "train.steps=5")` runs an entry point (or `-m`, a module) in an empty directory."""

    def run(*arguments: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        first, *rest = arguments
        command = [sys.executable, *([str(ROOT / first)] if first.endswith(".py") else [first]), *rest]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert status is None or done.returncode == status, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def names_file(tmp_path: Path) -> Path:
    """A corpus of forty documents."""
    file = tmp_path / "corpus.txt"
    file.write_text("".join(f"{a}{b}{c}\n" for a in "kmnt" for b in "aeiou" for c in ("ra", "lin")))
    return file
