"""What a run asks of the machine is refused, or reduced to what there is, before the run begins."""

import logging
import os

import pytest
import torch
from settings import QUICK, Program

from microgpt.config.schema import Config, DatasetConfig, TrainConfig
from microgpt.training.distributed import Ranks
from microgpt.training.machine import set_up_torch


def test_threads_beyond_the_cores_are_not_used(caplog: pytest.LogCaptureFixture) -> None:
    before = torch.get_num_threads()
    try:
        with caplog.at_level(logging.INFO):
            set_up_torch(
                Config(dataset=DatasetConfig(name="x"), train=TrainConfig(threads=1000), device="cpu"), Ranks()
            )
        assert torch.get_num_threads() == os.cpu_count()
        assert f"this machine has {os.cpu_count()} cores, so it uses {os.cpu_count()}" in caplog.text
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("train.batch_size=1000000000", "training"),
        ("model.n_embd=100000", "training"),
        ("model.block_size=10000000", "training"),
        ("model.ngrams=5 model.ngram_rows=2000000000", "training"),
        ("sampling.max_tokens=100000000000", "sampling"),
        ("sampling.n_samples=1000000000", "sampling"),
    ],
)
def test_a_run_that_the_memory_cannot_hold_is_one_line(setting: str, what: str, program: Program) -> None:
    done = program("train.py", "hydra.run.dir=run", *QUICK, *setting.split(), status=2)
    name, _, value = setting.split()[-1].partition("=")
    assert done.stderr.startswith(f"error: {name}={value}: {what} needs about ")
    assert f"the largest value that fits is {name}=" in done.stderr and done.stderr.count("\n") == 1
    assert "of memory beside torch" not in done.stdout


def test_a_run_says_what_it_needs(program: Program) -> None:
    done = program("train.py", "hydra.run.dir=run", *QUICK)
    assert " MB of memory beside torch and the corpus" in done.stdout
