"""The compiled step: losses, norms and weights are those of torch, in float64 where rounding errors would grow."""

from typing import Any

import pytest
import torch
from helpers import DOCUMENTS, HELD_OUT, TOKENIZER, fit, rows_of, weights_of

from microgpt.config.schema import ModelConfig, OptimConfig, TrainConfig
from microgpt.data.batches import Batches, DocumentBatches, StreamBatches
from microgpt.model.transformer import GPT
from microgpt.training.trainer import Trainer

pytest.importorskip("numba")


def make(engine: str, batches: Batches, n_layer: int = 1, dtype: torch.dtype = torch.float32, **optim: Any) -> Trainer:
    torch.manual_seed(0)
    model = GPT(TOKENIZER.vocab_size, ModelConfig(n_embd=16, n_layer=n_layer, n_head=4, block_size=8)).to(dtype)
    settings = OptimConfig(**{"name": "adam", "lr": 0.01, "weight_decay": 0.1, "warmup_steps": 5, **optim})
    train = TrainConfig(steps=100, batch_size=batches.batch_size, val_every=50, log_every=1, engine=engine)
    return Trainer(model, batches, rows_of(HELD_OUT), lambda rows: rows.n_targets, settings, train)


def document_batches(pack: bool, batch_size: int) -> Batches:
    return DocumentBatches(rows_of(DOCUMENTS, pack), batch_size, seed=0)


@pytest.mark.parametrize(
    "optim", [{"name": "adam"}, {"name": "adamw"}, {"clip_grad": 0.0}, {"clip_grad": 0.1}], ids=str
)
def test_100_steps_of_one_document_are_those_of_torch(optim: dict[str, Any]) -> None:
    torch_run, tiny_run = (make(engine, document_batches(False, 1), **optim) for engine in ("torch", "tiny"))
    (_, expected), (_, log) = fit(torch_run), fit(tiny_run)
    assert tiny_run.engine is not None and torch_run.engine is None
    for (step, a), (other, b) in zip(expected, log, strict=True):
        assert step == other
        assert b == pytest.approx(a, rel=1e-4, abs=1e-5)
        assert b["train/loss"] == pytest.approx(a["train/loss"], abs=1e-5)


@pytest.mark.parametrize(
    "batches",
    [
        document_batches(pack=True, batch_size=3),
        document_batches(pack=False, batch_size=5),
        StreamBatches(torch.tensor(TOKENIZER.encode_documents(DOCUMENTS)), 8, batch_size=2, seed=0),
    ],
    ids=["packed", "padded", "stream"],
)
def test_100_steps_of_two_layers_are_those_of_torch_in_float64(batches: Batches) -> None:
    """In float32, rounding can make a unit of a ReLU 0 in one of two runs, and Adam makes that a visible difference."""
    exact, tiny = make("torch", batches, 2, torch.float64), make("tiny", batches, 2)
    (_, expected), (_, log) = fit(exact), fit(tiny)
    for (_, a), (_, b) in zip(expected, log, strict=True):
        assert b["train/loss"] == pytest.approx(a["train/loss"], abs=1e-5)
        assert b["optim/grad_norm"] == pytest.approx(a["optim/grad_norm"], rel=1e-3)
    torch.testing.assert_close(weights_of(tiny).double(), weights_of(exact), rtol=0, atol=1e-3)
