"""Callbacks: the order of their hooks, and the effect of what they return."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from helpers import fit, make_trainer

from microgpt.runs.callback import Callback, Progress
from microgpt.runs.directory import Status
from microgpt.training.trainer import DivergedError

Call = tuple[str, Progress, object]


class Recorder(Callback):
    """Records each call: the hook, a copy of the progress, and the further argument. Returns what it is given."""

    def __init__(self, metrics: Mapping[str, float] | None = None, ends: Mapping[int, Status] | None = None) -> None:
        self.calls: list[Call] = []
        self.metrics, self.ends = metrics or {}, ends or {}

    def record(self, hook: str, progress: Progress, argument: object = None) -> None:
        self.calls.append((hook, replace(progress), argument))

    def at_start(self, progress: Progress) -> None:
        self.record("at_start", progress)

    def before_step(self, progress: Progress) -> None:
        self.record("before_step", progress)

    def at_validation(self, progress: Progress) -> Mapping[str, float]:
        self.record("at_validation", progress)
        return self.metrics

    def at_log(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        self.record("at_log", progress, dict(metrics))

    def after_validation(self, progress: Progress, is_best: bool) -> Status | None:
        self.record("after_validation", progress, is_best)
        return self.ends.get(progress.step)

    def at_end(self, progress: Progress, status: Status) -> None:
        self.record("at_end", progress, status)

    def hooks(self) -> list[tuple[str, int]]:
        """The hooks that were called, and the steps that were done then."""
        return [(hook, progress.step) for hook, progress, _ in self.calls]

    def arguments(self, hook: str) -> list[object]:
        return [argument for name, _, argument in self.calls if name == hook]


def test_the_hooks_are_called_in_order() -> None:
    recorder = Recorder()
    make_trainer(steps=5, log_every=2, val_every=4, callbacks=[recorder]).fit()
    assert recorder.hooks() == [
        ("at_start", 0),
        ("before_step", 0),
        ("before_step", 1),
        ("at_log", 2),
        ("before_step", 2),
        ("before_step", 3),
        ("at_validation", 4),
        ("at_log", 4),
        ("after_validation", 4),
        ("before_step", 4),
        ("at_validation", 5),
        ("at_log", 5),
        ("after_validation", 5),
        ("at_end", 5),
    ]
    assert recorder.arguments("at_end") == [Status.FINISHED]


def test_the_progress_of_a_hook_includes_the_validation() -> None:
    recorder = Recorder()
    make_trainer(lr=0.0, steps=4, val_every=2, callbacks=[recorder]).fit()  # so that the second is not better
    losses = [metrics["val/loss"] for metrics in recorder.arguments("at_log") if isinstance(metrics, dict)]
    for hook in ("at_validation", "at_log", "after_validation"):
        seen = [progress for name, progress, _ in recorder.calls if name == hook]
        assert [progress.val_loss for progress in seen] == losses
        assert [(progress.best_step, progress.stale) for progress in seen] == [(2, 0), (2, 1)]
    assert recorder.arguments("after_validation") == [True, False]


def test_every_callback_is_called_in_the_order_given() -> None:
    calls: list[tuple[str, str]] = []

    class Named(Recorder):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def record(self, hook: str, progress: Progress, argument: object = None) -> None:
            calls.append((hook, self.name))

    make_trainer(steps=1, callbacks=[Named("first"), Named("second")]).fit()
    hooks = ["at_start", "before_step", "at_validation", "at_log", "after_validation", "at_end"]
    assert calls == [(hook, name) for hook in hooks for name in ("first", "second")]


def test_a_metric_returned_at_a_validation_is_logged() -> None:
    """Every callback receives the metric, in any order of callbacks; a log without a validation lacks it."""
    before, after = Recorder(), Recorder()
    callbacks = [before, Recorder({"mine/metric": 0.25}), Recorder({"mine/other": 3.0}), after]
    make_trainer(steps=4, log_every=2, val_every=4, callbacks=callbacks).fit()
    for recorder in (before, after):
        first, second = recorder.arguments("at_log")
        assert isinstance(first, dict) and isinstance(second, dict)
        assert not {"val/loss", "mine/metric", "mine/other"} & set(first)
        assert (second["mine/metric"], second["mine/other"]) == (0.25, 3.0)


@pytest.mark.parametrize("status", [Status.PRUNED, Status.STOPPED_EARLY])
def test_a_status_returned_after_a_validation_ends_the_run(status: Status) -> None:
    """The other callbacks are called for that validation as well, so that they can save."""
    ending, other = Recorder(ends={4: status}), Recorder()
    trainer = make_trainer(steps=8, val_every=2, callbacks=[ending, other])
    assert trainer.fit() is status
    assert trainer.progress.step == 4
    for recorder in (ending, other):
        assert recorder.hooks()[-2:] == [("after_validation", 4), ("at_end", 4)]
        assert recorder.arguments("at_end") == [status]


def test_the_first_status_is_that_of_the_run() -> None:
    callbacks = [Callback(), Recorder(ends={2: Status.PRUNED}), Recorder(ends={2: Status.STOPPED_EARLY})]
    assert make_trainer(steps=8, val_every=2, callbacks=callbacks).fit() is Status.PRUNED


def test_an_interrupted_run_ends_with_that_status() -> None:
    recorder = Recorder()
    trainer = make_trainer(log_every=1, callbacks=[recorder])
    fit(trainer, lambda step: trainer.stop() if step == 3 else None)
    assert recorder.hooks()[-1] == ("at_end", 3)
    assert recorder.arguments("at_end") == [Status.INTERRUPTED]


def test_a_resumed_run_starts_at_its_step() -> None:
    first = make_trainer(steps=4, val_every=2)
    first.fit()
    recorder = Recorder()
    resumed = make_trainer(steps=6, val_every=2, callbacks=[recorder])
    resumed.load_state_dict(first.state_dict())
    resumed.fit()
    assert recorder.hooks()[:3] == [("at_start", 4), ("before_step", 4), ("before_step", 5)]


def test_at_end_is_not_called_after_an_exception() -> None:
    recorder = Recorder()
    with pytest.raises(DivergedError):
        make_trainer("sgd", lr=1e30, clip_grad=0, callbacks=[recorder]).fit()
    assert "at_start" in dict(recorder.hooks()) and "at_end" not in dict(recorder.hooks())


def test_a_callback_without_hooks_changes_nothing() -> None:
    assert fit(make_trainer(steps=6, callbacks=[Callback()])) == fit(make_trainer(steps=6))
