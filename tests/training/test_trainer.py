"""The training loop: the loss goes down, resuming is bit-identical, and each condition for stopping."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from helpers import DOCUMENTS, HELD_OUT, Log, MetricsLog, fit, make_trainer, resumed, rows_of, weights_of

from microgpt.config.schema import OptimConfig
from microgpt.runs.callback import Callback, Progress
from microgpt.runs.directory import Status
from microgpt.training.schedules import build_schedule
from microgpt.training.trainer import DivergedError, Trainer


def progress_of(trainer: Trainer) -> dict[str, Any]:
    return {key: value for key, value in vars(trainer.progress).items() if key != "seconds"}


def losses(log: Log) -> list[float]:
    return [metrics["train/loss"] for _, metrics in log]


@pytest.mark.parametrize("optim", ["adam", "adamw", "muon"])
@pytest.mark.parametrize("pack", [True, False], ids=["packed", "unpacked"])
def test_the_loss_goes_down(optim: str, pack: bool) -> None:
    trainer = make_trainer(optim, pack=pack, log_every=1)
    status, log = fit(trainer)
    assert status is Status.FINISHED
    assert losses(log)[-1] < 0.7 * losses(log)[0]


@pytest.mark.parametrize("grad_accum", [2, 4, 6, 100])
def test_grad_accum_changes_nothing(grad_accum: int) -> None:
    """With SGD, because Adam amplifies the rounding errors of small gradients."""
    whole, parts = (make_trainer("sgd", lr=0.1, steps=20, grad_accum=n) for n in (1, grad_accum))
    (_, whole_log), (_, parts_log) = fit(whole), fit(parts)
    for (_, a), (_, b) in zip(whole_log, parts_log, strict=True):
        assert b == pytest.approx(a, rel=1e-4)
    torch.testing.assert_close(weights_of(parts), weights_of(whole), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("clip_grad", "bound"), [(0.0, math.inf), (0.1, 0.1), (1.0, 1.0), (1000.0, math.inf)])
def test_clip_grad_bounds_the_norm_of_the_gradient(clip_grad: float, bound: float) -> None:
    """A step of SGD at a learning rate of 1 has the norm of its gradient."""
    trainer = make_trainer("sgd", lr=1.0, steps=1, clip_grad=clip_grad, schedule=lambda step: 1.0)
    before = weights_of(trainer)
    _, [(_, metrics)] = fit(trainer)
    assert metrics["optim/grad_norm"] > 1, "the norm that is logged is the one before clipping"
    length = (weights_of(trainer) - before).norm().item()
    assert length == pytest.approx(min(metrics["optim/grad_norm"], bound), rel=1e-4)


@pytest.mark.parametrize("optim", ["adam", "muon"])
def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_one(optim: str) -> None:
    straight, first = make_trainer(optim, steps=100), make_trainer(optim, steps=100)
    _, log = fit(straight)
    status, first_log = fit(first, lambda step: first.stop() if step == 50 else None)
    assert (status, first.progress.step) == (Status.INTERRUPTED, 50)
    second = resumed(first, make_trainer(optim, steps=100, seed=1))
    assert torch.equal(weights_of(second), weights_of(first))
    status, second_log = fit(second)
    assert status is Status.FINISHED
    assert first_log + second_log == log
    assert torch.equal(weights_of(second), weights_of(straight))
    assert progress_of(second) == progress_of(straight)


def test_an_interruption_between_two_logs_keeps_every_loss() -> None:
    def stopping(step: int) -> float:
        if step == 26:
            first.stop()
        return 1.0

    first, straight = make_trainer(schedule=stopping), make_trainer(schedule=lambda step: 1.0)
    fit(straight)
    assert first.fit() is Status.INTERRUPTED
    assert first.progress.step == 27
    second = resumed(first, make_trainer(schedule=lambda step: 1.0))
    fit(second)
    assert progress_of(second) == progress_of(straight)


def test_training_draws_no_random_numbers() -> None:
    """Therefore a checkpoint need not hold the state of the random generator."""
    trainer = make_trainer()
    before = torch.get_rng_state()
    fit(trainer)
    assert torch.equal(torch.get_rng_state(), before)


def test_resuming_a_finished_run_takes_no_step() -> None:
    trainer = make_trainer(steps=20)
    fit(trainer)
    assert fit(resumed(trainer, make_trainer(steps=20))) == (Status.FINISHED, [])


def test_patience_stops_a_run_that_no_longer_improves() -> None:
    """With a learning rate of 0 the first validation is the best."""
    trainer = make_trainer(lr=0.0, val_every=5, patience=3)
    status, log = fit(trainer)
    assert status is Status.STOPPED_EARLY
    assert (trainer.progress.step, log[-1][0]) == (20, 20)
    assert (trainer.progress.best_step, trainer.progress.stale) == (5, 3)


def test_patience_0_never_stops() -> None:
    trainer = make_trainer(lr=0.0, val_every=5)
    assert fit(trainer)[0] is Status.FINISHED
    assert trainer.progress.stale == 9


def test_a_resumed_run_keeps_counting_the_validations_without_a_new_best() -> None:
    first = make_trainer(lr=0.0, val_every=5, patience=3)
    fit(first, lambda step: first.stop() if step == 15 else None)
    assert first.progress.stale == 2
    second = resumed(first, make_trainer(lr=0.0, val_every=5, patience=3))
    assert fit(second)[0] is Status.STOPPED_EARLY
    assert second.progress.step == 20


def test_the_best_step_and_the_validations_since_are_counted() -> None:
    """A negative learning rate in between makes validations worse, then better again."""
    seen: list[tuple[bool, int, float, int]] = []

    class Recorder(Callback):
        def after_validation(self, progress: Progress, is_best: bool) -> None:
            seen.append((is_best, progress.best_step, progress.best_val_loss, progress.stale))

    trainer = make_trainer(
        "sgd",
        lr=0.1,
        steps=36,
        val_every=2,
        schedule=lambda step: -1.0 if step in range(10, 16) or step >= 32 else 1.0,
        callbacks=[Recorder()],
    )
    trainer.val = rows_of(DOCUMENTS)
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


def test_a_far_too_large_learning_rate_gives_the_status_diverged() -> None:
    trainer = make_trainer("sgd", lr=1e30, clip_grad=0)
    with pytest.raises(DivergedError, match=r"diverged; lower optim\.lr"):
        trainer.fit()


def test_stop_ends_a_run_after_the_current_step() -> None:
    trainer = make_trainer(log_every=1)
    status, log = fit(trainer, lambda step: trainer.stop() if step == 7 else None)
    assert (status, trainer.progress.step, len(log)) == (Status.INTERRUPTED, 7, 7)


def test_stop_at_the_last_step_is_no_interruption() -> None:
    trainer = make_trainer(steps=10)
    assert fit(trainer, lambda step: trainer.stop())[0] is Status.FINISHED


def test_the_ema_includes_every_step() -> None:
    trainer = make_trainer(log_every=1)
    _, log = fit(trainer)
    emas = [metrics["train/loss_ema"] for _, metrics in log]
    assert emas[0] == losses(log)[0]
    for (before, after), loss in zip(pairwise(emas), losses(log)[1:], strict=True):
        assert after == pytest.approx(0.95 * before + 0.05 * loss, rel=1e-12)
    assert trainer.progress.loss_ema == emas[-1]


def test_log_every_does_not_change_the_training() -> None:
    often, seldom = make_trainer(log_every=1), make_trainer(log_every=37)
    (_, often_log), (_, seldom_log) = fit(often), fit(seldom)
    assert torch.equal(weights_of(often), weights_of(seldom))
    assert progress_of(often) == progress_of(seldom)
    assert all(dict(often_log)[step] == metrics for step, metrics in seldom_log)


def test_logging_and_validation_happen_at_their_steps() -> None:
    trainer = make_trainer(steps=63, log_every=10, val_every=25)
    _, log = fit(trainer)
    assert [step for step, _ in log] == [10, 20, 25, 30, 40, 50, 60, 63]
    assert [step for step, metrics in log if "val/loss" in metrics] == [25, 50, 63]


def test_the_logged_learning_rate_is_the_one_of_the_step() -> None:
    schedule = build_schedule(OptimConfig(schedule="linear", warmup_steps=5), 50)
    _, log = fit(make_trainer(lr=0.02, log_every=1, schedule=schedule))
    assert [metrics["optim/lr"] for _, metrics in log] == [0.02 * schedule(step) for step in range(50)]


def test_every_target_is_counted() -> None:
    """Fifty batches of six rows are 25 epochs of twelve."""
    trainer = make_trainer()
    fit(trainer)
    assert trainer.progress.tokens == 25 * sum(len(document) + 1 for document in DOCUMENTS)


def test_the_logged_validation_is_the_evaluation_of_the_weights() -> None:
    trainer = make_trainer(steps=20)
    _, log = fit(trainer)
    result = trainer.evaluate(trainer.val)
    assert (log[-1][1]["val/loss"], log[-1][1]["val/bpc"]) == (result.loss, result.bpc)
    assert trainer.progress.val_loss == result.loss


def test_bf16_trains_float32_weights_to_about_the_same_loss() -> None:
    full, half = make_trainer(), make_trainer(precision="bf16")
    (_, full_log), (_, half_log) = fit(full), fit(half)
    assert losses(half_log) == pytest.approx(losses(full_log), rel=0.05)
    assert losses(half_log) != losses(full_log)
    assert all(weight.dtype == torch.float32 for weight in half.model.parameters())


def test_a_callback_that_only_reads_leaves_the_losses_unchanged() -> None:
    seen: list[tuple[int, float]] = []

    class Recorder(Callback):
        def before_step(self, progress: Progress) -> None:
            seen.append((progress.step, weights_of(trainer).sum().item()))

    trainer = make_trainer(steps=6, callbacks=[Recorder()])
    _, log = fit(trainer)
    assert [step for step, _ in seen] == [0, 1, 2, 3, 4, 5]
    assert len({weights for _, weights in seen}) == 6
    assert log == fit(make_trainer(steps=6))[1]


def test_training_validates_on_the_first_tokens_of_the_split() -> None:
    trainer = make_trainer(steps=1, val_tokens=5)
    assert torch.equal(trainer.val.idx, rows_of(HELD_OUT).idx[:1])
    assert torch.equal(trainer.whole_val.idx, rows_of(HELD_OUT).idx) and len(trainer.whole_val) > 1
    _, [(_, metrics)] = fit(trainer)
    assert metrics["val/loss"] == trainer.evaluate(trainer.whole_val[:1]).loss


def test_bits_per_character_are_bits_of_the_raw_text() -> None:
    """In this test the raw text has two characters per target."""
    trainer = make_trainer(steps=1)
    one = trainer.evaluate(trainer.val)
    trainer.count_characters = lambda rows: 2 * rows.n_targets
    two = trainer.evaluate(trainer.val)
    assert (two.loss, two.bpc) == (one.loss, one.bpc / 2)


def test_a_run_without_patience_left_takes_no_step_when_it_is_resumed() -> None:
    trainer = make_trainer(patience=2)
    trainer.progress.stale = 2
    status, log = fit(trainer)
    assert (status, trainer.progress.step, log) == (Status.STOPPED_EARLY, 0, [])


def test_a_long_run_logs_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microgpt.training.trainer.MAX_LOGS", 5)
    log = MetricsLog(lambda step: None)
    make_trainer(steps=24, log_every=1, val_every=24, callbacks=[log]).fit()
    assert [step for step, _ in log.entries] == [5, 10, 15, 20, 24]
