"""Shared by all tests: paths, the settings of a quick run, types of fixtures, a reader of pages."""

import importlib.util
import os
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Where the downloaded corpora are, for the tests that read them; without them those tests are skipped.
CORPORA = Path(os.environ.get("MICROGPT_TEST_DATASETS", ROOT / "datasets")).resolve()
needs_corpora = pytest.mark.skipif(
    not (CORPORA / "words_alpha.zip").is_file(), reason=f"no corpora in {CORPORA}; set MICROGPT_TEST_DATASETS"
)

# How many inputs each test of tests/test_fuzz_*.py tries, new ones in each run; if it is not set, the same few.
FUZZ_EXAMPLES = int(os.environ.get("MICROGPT_FUZZ_EXAMPLES", 0))

# A run of a second: it does everything that a run does, but little of each.
QUICK = ["train.steps=6", "train.val_every=3", "train.log_every=2", "train.batch_size=4", "model.n_embd=16"]
QUICK += [
    "model.n_layer=1",
    "model.n_head=2",
    "model.block_size=16",
    "sampling.max_tokens=12",
    "sampling.n_samples=2",
]

# For a run of which only the training matters: nothing is measured beside the losses, and no figure is drawn.
LEAN = ["insight=off", "plot=false"]

Program = Callable[..., subprocess.CompletedProcess[str]]
Trained = Callable[..., Path]


def installed(launcher: str) -> bool:
    """Whether the plugin of one of Hydra's launchers is installed."""
    name = f"hydra_plugins.hydra_{launcher}_launcher"
    return bool(importlib.util.find_spec("hydra_plugins") and importlib.util.find_spec(name))


class Page(HTMLParser):
    """A page of HTML: the tags in it, and the addresses it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
