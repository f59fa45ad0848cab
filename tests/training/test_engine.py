"""Which engine takes the steps, and that a run may change between them."""

import importlib.util
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import fit, make_trainer, resumed, weights_of

from microgpt.config.schema import ModelConfig, OptimConfig, TrainConfig
from microgpt.errors import UserError
from microgpt.model.transformer import GPT
from microgpt.training import engine
from microgpt.training.distributed import Ranks
from microgpt.training.engine import MAX_WORK, MIN_STEPS, is_tiny

needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="Numba is not installed")

SIZES = ModelConfig(n_embd=8, n_layer=1, n_head=2, block_size=8)


def chosen(model: dict[str, Any] | None = None, ranks: Ranks | None = None, **settings: Any) -> bool:
    """Whether the compiled step is chosen."""
    optim = OptimConfig(name=settings.pop("name", "adam"))
    train = TrainConfig(**{"steps": MIN_STEPS, "batch_size": 1, **settings})
    gpt = GPT(10, replace(SIZES, **(model or {})))
    return is_tiny(gpt, optim, train, ranks or Ranks())


@needs_numba
def test_auto_chooses_the_compiled_step_where_it_is_faster() -> None:
    assert chosen() and chosen({"zero_init": True}) and chosen(name="adamw")
    assert chosen({"ngram_rows": 32, "ngram_dropout": 0.5}), "without effect, since ngrams is 0"
    assert not chosen(steps=MIN_STEPS - 1)
    assert not chosen(batch_size=MAX_WORK)
    assert not chosen(engine="torch")
    assert chosen(engine="tiny", steps=1), "the user's choice"


OBSTACLES: list[tuple[str, dict[str, Any]]] = [
    ("plain model", {"model": {"rotary": True}}),
    ("plain model", {"model": {"activation": "gelu"}}),
    ("plain model", {"model": {"final_norm": True}}),
    ("plain model", {"model": {"ngrams": 3}}),
    ("plain model", {"model": {"dropout": 0.1}}),
    ("optim.name", {"name": "muon"}),
    ("one process", {"ranks": Ranks(0, 2)}),
    ("precision", {"precision": "bf16"}),
    ("compile", {"compile": True}),
    ("profile", {"profile": True}),
]


@needs_numba
@pytest.mark.parametrize(("reason", "settings"), OBSTACLES, ids=str)
def test_torch_takes_the_steps_of_what_is_not_plain(reason: str, settings: dict[str, Any]) -> None:
    assert not chosen(**settings)
    with pytest.raises(UserError, match=reason):
        chosen(engine="tiny", **settings)


def test_torch_takes_the_steps_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    assert not chosen()
    with pytest.raises(UserError, match=r"Numba is not installed.*\[fast\]"):
        chosen(engine="tiny")


@needs_numba
def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_one() -> None:
    straight, first = (make_trainer("adamw", steps=60, engine="tiny") for _ in range(2))
    _, log = fit(straight)
    _, first_log = fit(first, lambda step: first.stop() if step == 30 else None)
    second = resumed(first, make_trainer("adamw", steps=60, seed=1, engine="tiny"))
    _, second_log = fit(second)
    assert first_log + second_log == log
    assert torch.equal(weights_of(second), weights_of(straight))


@needs_numba
@pytest.mark.parametrize("engines", [("torch", "tiny"), ("tiny", "torch")], ids=str)
def test_a_run_may_be_resumed_with_the_other_engine(engines: tuple[str, str]) -> None:
    straight, first = make_trainer("adam", steps=20), make_trainer("adam", steps=20, log_every=1, engine=engines[0])
    fit(straight)
    fit(first, lambda step: first.stop() if step == 10 else None)
    second = resumed(first, make_trainer("adam", steps=20, seed=1, engine=engines[1]))
    fit(second)
    assert second.progress.step == 20
    torch.testing.assert_close(weights_of(second), weights_of(straight), rtol=0, atol=1e-5)
