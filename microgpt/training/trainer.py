"""The training loop: steps, validations, when to stop. Knows no files: callbacks keep what is to be kept."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from microgpt.config.schema import OptimConfig, TrainConfig
from microgpt.data.batches import PADDING, Batches, Rows
from microgpt.errors import UserError
from microgpt.model.evaluation import Evaluation, total_loss
from microgpt.model.transformer import GPT, cross_entropy
from microgpt.runs.callback import Callback, Progress
from microgpt.runs.directory import Status
from microgpt.training.distributed import Ranks, no_gradient_sync
from microgpt.training.optimizers import build_optimizer
from microgpt.training.schedules import build_schedule

EMA_DECAY = 0.95


class DivergedError(UserError):
    """The loss is no longer a finite number."""


class Trainer:
    """Trains `model` on `batches`, and measures it on `val_tokens` tokens of `val` at each validation.

    `count_characters` gives the characters of raw text that the targets of some rows stand for, for bits per character.
    What optimizer, schedule and loop do is in `optim` and `train`; `callbacks` are told of each moment, in their order.
    """

    def __init__(
        self,
        model: GPT,
        batches: Batches,
        val: Rows,
        count_characters: Callable[[Rows], int],
        optim: OptimConfig,
        train: TrainConfig,
        *,
        callbacks: Sequence[Callback] = (),
        ranks: Ranks | None = None,
    ) -> None:
        self.model, self.batches, self.count_characters = model, batches, count_characters
        self.val, self.whole_val = val.first_tokens(train.val_tokens), val
        self.optimizer, self.schedule = build_optimizer(model, optim), build_schedule(optim, train.steps)
        self.config, self.clip_grad = train, optim.clip_grad or math.inf
        self.callbacks, self.ranks, self.device = callbacks, ranks or Ranks(), val.idx.device
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=train.precision == "bf16")
        self.wrapped = self.ranks.wrap(model)
        self.compiled = torch.compile(self.wrapped) if train.compile else self.wrapped
        self.progress = Progress()
        self.stopping = self.stop_requested = False
        # Losses and target counts of the steps since the last log: reading them at once would wait for the device.
        self.pending_losses: list[tuple[Tensor, Tensor]] = []

    def stop(self) -> None:
        """Ask `fit` to return after the current step; several ranks stop at the next step that is logged."""
        self.stop_requested = True
        self.stopping = self.ranks.world_size == 1  # several ranks must stop at the same step, or wait for each other

    def fit(self) -> Status:
        """Train to `steps`; returns how it ended. Raises `DivergedError`."""
        for callback in self.callbacks:
            callback.at_start(self.progress)
        status = self.run_steps()
        for callback in self.callbacks:
            callback.at_end(self.progress, status)
        return status

    def run_steps(self) -> Status:
        progress, config = self.progress, self.config
        started = time.perf_counter() - progress.seconds
        step_seconds, tokens = 0.0, progress.tokens  # seconds in steps since the last log, tokens up to it
        while progress.step < config.steps and not self.stopping:
            for callback in self.callbacks:
                callback.before_step(progress)
            step_started = time.perf_counter()
            norm = self.train_step()
            progress.step += 1
            validating = self.is_due(config.val_every)
            if not validating and not self.is_due(config.log_every):
                step_seconds += time.perf_counter() - step_started
                continue
            metrics = self.read_losses()
            self.stopping = self.ranks.any(self.stop_requested, self.device)
            step_seconds += time.perf_counter() - step_started
            metrics["optim/lr"] = self.optimizer.param_groups[0]["lr"]
            metrics["optim/grad_norm"] = norm.item()
            metrics["speed/tokens_per_second"] = (progress.tokens - tokens) / step_seconds
            step_seconds, tokens = 0.0, progress.tokens
            is_best = validating and self.validate(metrics)
            for callback in self.callbacks:
                callback.at_log(progress, metrics)
            progress.seconds = time.perf_counter() - started
            if validating and (status := self.after_validation(is_best)):
                return status
        self.read_losses()
        progress.seconds = time.perf_counter() - started
        return Status.FINISHED if progress.step >= config.steps else Status.INTERRUPTED

    def is_due(self, every: int) -> bool:
        return self.progress.step % every == 0 or self.progress.step == self.config.steps

    def train_step(self) -> Tensor:
        """One optimizer step on the next batch; returns the norm of the gradient before clipping."""
        self.optimizer.scale_lr(self.schedule(self.progress.step))
        batch = self.batches(self.progress.step)
        n_targets = (batch.targets != PADDING).sum()
        loss = torch.zeros((), device=self.device)
        shard = batch[self.ranks.shard(len(batch))]
        parts = list(shard.chunks(math.ceil(len(shard) / self.config.grad_accum)))
        for n, part in enumerate(parts, 1):
            with no_gradient_sync(self.wrapped) if n < len(parts) else nullcontext():
                with self.autocast:
                    logits = self.compiled(part.idx, part.positions)
                part_loss = cross_entropy(logits, part.targets) / n_targets
                # The ranks' gradients are averaged, and n_targets counts those of all.
                (part_loss * self.ranks.world_size).backward()
            loss += part_loss.detach()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.pending_losses.append((loss, n_targets))
        return norm

    def read_losses(self) -> dict[str, float]:
        """Add the pending losses to the progress; raises `DivergedError` at one that is not finite."""
        metrics = {}
        progress, pending = self.progress, self.pending_losses
        losses, counts = map(torch.stack, zip(*pending, strict=True)) if pending else (torch.empty(0),) * 2
        for loss, n_targets in zip(self.ranks.sum(losses).tolist(), counts.tolist(), strict=True):
            self.check_finite(loss)
            if math.isnan(progress.loss_ema):  # the first loss of the run
                progress.loss_ema = loss
            else:
                progress.loss_ema = EMA_DECAY * progress.loss_ema + (1 - EMA_DECAY) * loss
            progress.tokens += n_targets
            metrics = {"train/loss": loss, "train/loss_ema": progress.loss_ema}
        pending.clear()
        return metrics

    def check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} by step {self.progress.step}: training diverged; lower optim.lr, or bound the"
                " gradient with optim.clip_grad=1"
            )

    def validate(self, metrics: dict[str, float]) -> bool:
        """Measure the model, add its metrics and the callbacks' own; returns whether the loss is the best so far."""
        progress = self.progress
        result = self.evaluate(self.val, self.ranks)
        self.check_finite(result.loss)
        metrics |= {"val/loss": result.loss, "val/bpc": result.bpc}
        progress.val_loss = result.loss
        is_best = result.loss < progress.best_val_loss
        progress.stale = 0 if is_best else progress.stale + 1
        if is_best:
            progress.best_val_loss, progress.best_step = result.loss, progress.step
        for callback in self.callbacks:
            metrics |= callback.at_validation(progress)
        return is_best

    def after_validation(self, is_best: bool) -> Status | None:
        """Let the callbacks save; returns how the run ends here, if it does. All ranks end with rank 0, which saves."""
        statuses = [callback.after_validation(self.progress, is_best) for callback in self.callbacks]
        if self.config.patience and self.progress.stale >= self.config.patience:
            statuses.append(Status.STOPPED_EARLY)
        return self.ranks.broadcast(next(filter(None, statuses), None))

    def evaluate(self, rows: Rows, ranks: Ranks | None = None) -> Evaluation:
        """Measure the model on `rows`, each of `ranks` on its shard; then every one of them must call this."""
        ranks = ranks or Ranks()
        with self.autocast:
            nats = ranks.sum(total_loss(self.model, rows[ranks.shard(len(rows))]))
        return Evaluation.of(nats.item(), rows.n_targets, self.count_characters(rows))

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors: weights, optimizer and progress. Nothing draws random numbers between two steps."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": asdict(self.progress),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
