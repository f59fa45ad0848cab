"""The training loop: that it learns, resumes to the bit, and stops when and only when it should."""

import io
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from microgpt.batches import DocumentBatches, document_rows
from microgpt.model import GPT
from microgpt.optim import Optimizers, build_optimizer, build_schedule
from microgpt.tokenizer import Tokenizer
from microgpt.trainer import DivergedError, Trainer

DOCUMENTS = [
    "anna",
    "bob",
    "otto",
    "hannah",
    "ada",
    "eve",
    "noon",
    "radar",
    "level",
    "kayak",
    "civic",
    "madam",
]
HELD_OUT = ["refer", "abba", "solos"]
TOKENIZER = Tokenizer.of(DOCUMENTS + HELD_OUT)
Log = list[tuple[int, dict[str, float]]]


def make(
    optim: str = "adamw",
    lr: float = 0.01,
    seed: int = 0,
    pack: bool = False,
    steps: int = 50,
    **options: Any,
) -> Trainer:
    """A trainer of a tiny model; without packing the rows of a batch hold different numbers of targets."""
    torch.manual_seed(seed)
    model = GPT(TOKENIZER.vocab_size, block_size=8, n_embd=16, n_layer=1, n_head=2)
    if optim == "sgd":
        optimizer = Optimizers(torch.optim.SGD(model.parameters(), lr=lr))
    else:
        optimizer = build_optimizer(
            model, optim, lr, adam_lr=lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, momentum=0.95
        )
    return Trainer(
        model,
        optimizer,
        options.pop("schedule", build_schedule("cosine", steps, 10, 0.1)),
        DocumentBatches(document_rows(DOCUMENTS, TOKENIZER, 8, pack), batch_size=6, seed=0),
        document_rows(HELD_OUT, TOKENIZER, 8, pack=True),
        bos=TOKENIZER.bos,
        bos_chars=1,
        steps=steps,
        **{"val_every": 20, **options},
    )


def fit(trainer: Trainer, then: Callable[[int], None] = lambda step: None) -> tuple[str, Log]:
    """How training ended and what it logged, the speed left out; `then` is called after each log."""
    logged: Log = []

    def log(step: int, metrics: dict[str, float]) -> None:
        logged.append((step, {key: value for key, value in metrics.items() if not key.startswith("speed/")}))
        then(step)

    trainer.log = log
    return trainer.fit(), logged


def weights_of(trainer: Trainer) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()])


def progress_of(trainer: Trainer) -> dict[str, Any]:
    return {key: value for key, value in vars(trainer.progress).items() if key != "seconds"}


def resumed(trainer: Trainer, fresh: Trainer) -> Trainer:
    """`fresh` with the state of `trainer`, which goes through a file of plain data and tensors."""
    file = io.BytesIO()
    torch.save(trainer.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    return fresh


def losses(log: Log) -> list[float]:
    return [metrics["train/loss"] for _, metrics in log]


@pytest.mark.parametrize("optim", ["adam", "adamw", "muon"])
@pytest.mark.parametrize("pack", [True, False], ids=["packed", "unpacked"])
def test_the_loss_goes_down(optim: str, pack: bool) -> None:
    trainer = make(optim, pack=pack, log_every=1)
    ended, log = fit(trainer)
    assert ended == "finished"
    assert losses(log)[-1] < 0.7 * losses(log)[0]


@pytest.mark.parametrize("grad_accum", [2, 4, 6, 100])
def test_grad_accum_changes_nothing(grad_accum: int) -> None:
    """With SGD, which does not blow up the rounding of small gradients as Adam does."""
    whole, parts = (make("sgd", lr=0.1, steps=20, grad_accum=n) for n in (1, grad_accum))
    (_, whole_log), (_, parts_log) = fit(whole), fit(parts)
    for (_, a), (_, b) in zip(whole_log, parts_log, strict=True):
        assert b == pytest.approx(a, rel=1e-4)
    torch.testing.assert_close(weights_of(parts), weights_of(whole), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("clip_grad", "bound"), [(0.0, math.inf), (0.1, 0.1), (1.0, 1.0), (1000.0, math.inf)])
def test_clip_grad_bounds_the_norm_of_the_gradient(clip_grad: float, bound: float) -> None:
    """A step of SGD at a learning rate of 1 is as long as the gradient that it is given."""
    trainer = make("sgd", lr=1.0, steps=1, clip_grad=clip_grad, schedule=lambda step: 1.0)
    before = weights_of(trainer)
    _, [(_, metrics)] = fit(trainer)
    assert metrics["optim/grad_norm"] > 1, "the norm that is logged is the one before clipping"
    length = (weights_of(trainer) - before).norm().item()
    assert length == pytest.approx(min(metrics["optim/grad_norm"], bound), rel=1e-4)


@pytest.mark.parametrize("optim", ["adam", "muon"])
def test_an_interrupted_and_resumed_run_is_the_uninterrupted_one_to_the_bit(optim: str) -> None:
    straight, first = make(optim, steps=100), make(optim, steps=100)
    _, log = fit(straight)
    ended, first_log = fit(first, lambda step: first.stop() if step == 50 else None)
    assert (ended, first.progress.step) == ("interrupted", 50)
    second = resumed(first, make(optim, steps=100, seed=1))
    assert torch.equal(weights_of(second), weights_of(first))
    ended, second_log = fit(second)
    assert ended == "finished"
    assert first_log + second_log == log
    assert torch.equal(weights_of(second), weights_of(straight))
    assert progress_of(second) == progress_of(straight)


def test_an_interruption_between_two_logs_loses_no_loss() -> None:
    def stopping(step: int) -> float:
        if step == 26:
            first.stop()
        return 1.0

    first, straight = make(schedule=stopping), make(schedule=lambda step: 1.0)
    fit(straight)
    assert first.fit() == "interrupted"
    assert first.progress.step == 27
    second = resumed(first, make(schedule=lambda step: 1.0))
    fit(second)
    assert progress_of(second) == progress_of(straight)


def test_a_loaded_state_restores_the_random_numbers() -> None:
    trainer = make()
    state = trainer.state_dict()
    expected = torch.rand(3)
    make(seed=1).load_state_dict(state)
    assert torch.equal(torch.rand(3), expected)


def test_a_resumed_run_that_is_at_its_end_does_nothing() -> None:
    trainer = make(steps=20)
    fit(trainer)
    assert fit(resumed(trainer, make(steps=20))) == ("finished", [])


def test_patience_stops_a_run_that_no_longer_gets_better() -> None:
    """With a learning rate of 0 the first validation is the best."""
    trainer = make(lr=0.0, val_every=5, patience=3)
    ended, log = fit(trainer)
    assert ended == "stopped early"
    assert (trainer.progress.step, log[-1][0]) == (20, 20)
    assert (trainer.progress.best_step, trainer.progress.stale) == (5, 3)


def test_patience_0_never_stops() -> None:
    trainer = make(lr=0.0, val_every=5)
    assert fit(trainer)[0] == "finished"
    assert trainer.progress.stale == 9


def test_patience_goes_on_where_an_interrupted_run_left_it() -> None:
    first = make(lr=0.0, val_every=5, patience=3)
    fit(first, lambda step: first.stop() if step == 15 else None)
    assert first.progress.stale == 2
    second = resumed(first, make(lr=0.0, val_every=5, patience=3))
    assert fit(second)[0] == "stopped early"
    assert second.progress.step == 20


def test_the_best_step_and_the_validations_since_are_counted() -> None:
    """Uphill steps in between, by a negative learning rate, make validations worse, then better again."""
    seen: list[tuple[bool, int, float, int]] = []

    def after_validation(is_best: bool) -> None:
        progress = trainer.progress
        seen.append((is_best, progress.best_step, progress.best_val_loss, progress.stale))

    trainer = make(
        "sgd",
        lr=0.1,
        steps=36,
        val_every=2,
        schedule=lambda step: -1.0 if step in range(10, 16) or step >= 32 else 1.0,
        after_validation=after_validation,
    )
    trainer.val = document_rows(DOCUMENTS, TOKENIZER, 8, pack=True)
    _, log = fit(trainer)
    expected, best_loss, best_step = [], math.inf, 0
    for step, metrics in log:
        if "val/loss" in metrics:
            if is_best := metrics["val/loss"] < best_loss:
                best_loss, best_step = metrics["val/loss"], step
            expected.append((is_best, best_step, best_loss, (step - best_step) // 2))
    assert seen == expected
    assert any(after[0] and not before[0] for before, after in pairwise(seen))
    assert trainer.progress.stale == 2


def test_an_absurd_learning_rate_is_reported_as_diverged() -> None:
    trainer = make("sgd", lr=1e30, clip_grad=0)
    with pytest.raises(DivergedError, match=r"diverged; lower optim\.lr"):
        trainer.fit()


def test_stop_ends_a_run_after_the_step_it_is_at() -> None:
    trainer = make(log_every=1)
    ended, log = fit(trainer, lambda step: trainer.stop() if step == 7 else None)
    assert (ended, trainer.progress.step, len(log)) == ("interrupted", 7, 7)


def test_stop_at_the_last_step_is_no_interruption() -> None:
    trainer = make(steps=10)
    assert fit(trainer, lambda step: trainer.stop())[0] == "finished"


def test_the_ema_takes_in_every_step() -> None:
    trainer = make(log_every=1)
    _, log = fit(trainer)
    emas = [metrics["train/loss_ema"] for _, metrics in log]
    assert emas[0] == losses(log)[0]
    for (before, after), loss in zip(pairwise(emas), losses(log)[1:], strict=True):
        assert after == pytest.approx(0.95 * before + 0.05 * loss, rel=1e-12)
    assert trainer.progress.loss_ema == emas[-1]


def test_log_every_does_not_change_the_training() -> None:
    often, seldom = make(log_every=1), make(log_every=37)
    (_, often_log), (_, seldom_log) = fit(often), fit(seldom)
    assert torch.equal(weights_of(often), weights_of(seldom))
    assert progress_of(often) == progress_of(seldom)
    assert all(dict(often_log)[step] == metrics for step, metrics in seldom_log)


def test_what_is_logged_and_validated_when() -> None:
    trainer = make(steps=63, log_every=10, val_every=25)
    _, log = fit(trainer)
    assert [step for step, _ in log] == [10, 20, 25, 30, 40, 50, 60, 63]
    assert [step for step, metrics in log if "val/loss" in metrics] == [25, 50, 63]


def test_the_logged_learning_rate_is_the_one_of_the_step() -> None:
    schedule = build_schedule("linear", 50, 5, 0.0)
    _, log = fit(make(lr=0.02, log_every=1, schedule=schedule))
    assert [metrics["optim/lr"] for _, metrics in log] == [0.02 * schedule(step) for step in range(50)]


def test_every_target_is_counted() -> None:
    """Fifty batches of six rows are 25 epochs of twelve."""
    trainer = make()
    fit(trainer)
    assert trainer.progress.tokens == 25 * sum(len(document) + 1 for document in DOCUMENTS)


def test_the_logged_validation_is_the_evaluation_of_the_weights() -> None:
    trainer = make(steps=20)
    _, log = fit(trainer)
    result = trainer.evaluate(trainer.val)
    assert (log[-1][1]["val/loss"], log[-1][1]["val/bpc"]) == (result.loss, result.bpc)
    assert trainer.progress.val_loss == result.loss


def test_bf16_trains_float32_weights_to_about_the_same_loss() -> None:
    full, half = make(), make(bf16=True)
    (_, full_log), (_, half_log) = fit(full), fit(half)
    assert losses(half_log) == pytest.approx(losses(full_log), rel=0.05)
    assert losses(half_log) != losses(full_log)
    assert all(weight.dtype == torch.float32 for weight in half.model.parameters())


def test_it_is_watched_before_the_steps_that_were_asked_for_and_not_otherwise() -> None:
    seen: list[tuple[int, float]] = []
    trainer = make(
        steps=6, watch_at={0, 1, 4, 6}, watch=lambda step: seen.append((step, weights_of(trainer).sum().item()))
    )
    _, log = fit(trainer)
    assert [step for step, _ in seen] == [0, 1, 4]
    assert len({weights for _, weights in seen}) == 3
    assert log == fit(make(steps=6))[1]
