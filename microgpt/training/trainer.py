"""The training loop: optimizer steps, validation and stopping. It writes no files: callbacks do."""

import math
import random
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
from microgpt.training.averaging import WeightAverage, for_training
from microgpt.training.distributed import Ranks, no_gradient_sync
from microgpt.training.engine import TinyEngine, is_tiny
from microgpt.training.optimizers import build_optimizer
from microgpt.training.schedules import build_schedule
from microgpt.training.updates import clip_gradient

MAX_LOGS = 2_000  # logged steps of a run, beside its validations
EMA_DECAY = 0.95  # per step, of the moving average of the training loss


class DivergedError(UserError):
    """The loss is no longer a finite number."""


class Trainer:
    """Trains `model` on `batches`, and evaluates it on the first `train.val_tokens` tokens of `val` at each validation.

    `count_characters` returns the number of characters of raw text in the targets of some rows, for bits per character.
    `optim` and `train` are the settings of the optimizer, the schedule and the loop. `callbacks` are called in order.
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
        self.log_every = max(train.log_every, math.ceil(train.steps / MAX_LOGS))
        self.config, self.optim, self.clip_grad = train, optim, optim.clip_grad or math.inf  # 0: no clipping
        self.callbacks, self.ranks, self.device = callbacks, ranks or Ranks(), val.idx.device
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=train.precision == "bf16")
        if train.compile and self.device.type == "cpu":
            raise UserError(
                "train.compile=true: needs a GPU; on a CPU it compiles for longer than it saves (docs/performance.md),"
                " so leave it out, or add device=cuda"
            )
        self.average = WeightAverage(model, train.ema_decay) if train.ema_decay else None
        self.wrapped = self.ranks.wrap(model)
        self.compiled = torch.compile(self.wrapped) if train.compile else self.wrapped
        self.dense_weights = [weight for _, weight in model.dense_weights()]
        self.tiny = is_tiny(model, optim, train, self.ranks)
        self.engine: TinyEngine | None = None  # made when the state has been loaded; None: torch
        self.progress = Progress()
        self.stopping = self.stop_requested = False
        # Losses () and target counts () of the steps since the last log, on the device: to read them is to wait for it.
        self.pending_losses: list[tuple[Tensor, Tensor]] = []

    def stop(self) -> None:
        """Ask `fit` to return after the current step, or with several ranks after the next step that is logged."""
        self.stop_requested = True
        self.stopping = self.ranks.world_size == 1  # several ranks agree on a step in run_steps

    def fit(self) -> Status:
        """Train until step `train.steps`; returns the status at the end. Raises `DivergedError`."""
        for callback in self.callbacks:
            callback.at_start(self.progress)
        status = self.run_steps()
        for callback in self.callbacks:
            callback.at_end(self.progress, status)
        return status

    def run_steps(self) -> Status:
        """The loop of `fit`. Losses are read, and callbacks called, only at steps that are logged or validated."""
        progress, config = self.progress, self.config
        if self.out_of_patience():  # a run that was stopped early, and is resumed
            return Status.STOPPED_EARLY
        self.engine = TinyEngine(self.model, self.optimizer, self.optim) if self.tiny else None
        started = time.perf_counter() - progress.seconds  # includes the seconds before the run was resumed
        step_seconds, tokens = 0.0, progress.tokens  # seconds spent in steps since the last log; tokens at the last log
        while progress.step < config.steps and not self.stopping:
            for callback in self.callbacks:
                callback.before_step(progress)
            step_started = time.perf_counter()
            norm = self.train_step()
            progress.step += 1
            validating = self.is_due(config.val_every)
            if not validating and not self.is_due(self.log_every):
                step_seconds += time.perf_counter() - step_started
                continue
            metrics = self.read_losses()
            self.stopping = self.ranks.any(self.stop_requested, self.device)
            step_seconds += time.perf_counter() - step_started
            metrics["optim/lr"] = self.optimizer.lr
            metrics["optim/grad_norm"] = norm.item()
            metrics["speed/tokens_per_second"] = (progress.tokens - tokens) / step_seconds
            step_seconds, tokens = 0.0, progress.tokens
            is_best = validating and self.validate(metrics)
            for callback in self.callbacks:
                callback.at_log(progress, metrics)
            progress.seconds = time.perf_counter() - started
            if validating and (status := self.after_validation(is_best)):
                return status
        self.read_losses()  # those since the last log, if training was stopped
        progress.seconds = time.perf_counter() - started
        return Status.FINISHED if progress.step >= config.steps else Status.INTERRUPTED

    def is_due(self, every: int) -> bool:
        return self.progress.step % every == 0 or self.progress.step == self.config.steps

    def train_step(self) -> Tensor:
        """One optimizer step on the next batch. Returns the norm of the gradient before clipping, a scalar tensor."""
        lr_factor = self.schedule(self.progress.step)
        self.optimizer.scale_lr(lr_factor)
        batch = self.batches(self.progress.step)
        n_targets = (batch.targets != PADDING).sum()  # of the whole batch, over all ranks
        if self.engine is not None:
            loss, norm = self.engine.step(batch, lr_factor)
        else:
            loss, norm = self.torch_step(batch, n_targets)
        if self.average is not None:
            self.average.update(self.progress.step)
        self.pending_losses.append((loss, n_targets))
        return norm

    def torch_step(self, batch: Rows, n_targets: Tensor) -> tuple[Tensor, Tensor]:
        """One optimizer step. Returns the mean loss (on this rank its part of it) and the norm of the gradient."""
        if self.model.has_dropout:
            # The random numbers depend, like the batch, only on the seed and the step (and on the rank).
            numbers = random.Random(f"dropout {self.batches.seed} {self.progress.step} {self.ranks.rank}")
            torch.manual_seed(numbers.getrandbits(32))
            self.model.train()
        loss = torch.zeros((), device=self.device)
        shard = batch[self.ranks.shard(len(batch))]  # the rows of this rank
        parts = list(shard.chunks(math.ceil(len(shard) / self.config.grad_accum)))
        for n, part in enumerate(parts, 1):
            with no_gradient_sync(self.wrapped) if n < len(parts) else nullcontext():
                with self.autocast:
                    logits = self.compiled(part.idx, part.positions)  # (B, T, vocab_size)
                part_loss = cross_entropy(logits, part.targets) / n_targets
                # n_targets counts the targets of all ranks, so their gradients must be summed; they are averaged.
                (part_loss * self.ranks.world_size).backward()
            loss += part_loss.detach()
        if self.model.has_dropout:
            self.model.eval()
        norm = clip_gradient(self.dense_weights, self.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss, norm

    def read_losses(self) -> dict[str, float]:
        """Add the losses since the last call to the progress; returns the metrics of the last of these steps.

        Raises `DivergedError` if a loss is not finite.
        """
        metrics = {}
        progress, pending = self.progress, self.pending_losses
        if not pending:
            return metrics
        losses, counts = map(torch.stack, zip(*pending, strict=True))  # each (n_steps,)
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
        """Raise `DivergedError` if the loss is not finite."""
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} by step {self.progress.step}: training diverged; lower optim.lr, or bound the"
                " gradient with optim.clip_grad=1"
            )

    def validate(self, metrics: dict[str, float]) -> bool:
        """Evaluate the model, and add validation metrics to `metrics`. Returns whether the loss is the best so far."""
        progress = self.progress
        result = self.evaluate(self.val, self.ranks)
        self.check_finite(result.loss)
        metrics |= {"val/loss": result.loss, "val/bpc": result.bpc}
        progress.val_loss = best = result.loss
        if self.average is not None:
            metrics["val/ema_weights"] = averaged = self.evaluate(self.val, self.ranks, self.average.model).loss
            best = min(best, averaged)
        is_best = best < progress.best_val_loss
        progress.stale = 0 if is_best else progress.stale + 1
        if is_best:
            progress.best_val_loss, progress.best_step = best, progress.step
            if self.average is not None:
                self.average.is_best = best < result.loss
        for callback in self.callbacks:
            metrics |= callback.at_validation(progress)
        return is_best

    def after_validation(self, is_best: bool) -> Status | None:
        """Let the callbacks save; returns the status if the run ends here, else None. Rank 0 decides for all ranks."""
        statuses = [callback.after_validation(self.progress, is_best) for callback in self.callbacks]
        if self.out_of_patience():
            statuses.append(Status.STOPPED_EARLY)
        return self.ranks.broadcast(next(filter(None, statuses), None))  # the first status that is not None

    def out_of_patience(self) -> bool:
        """Whether `train.patience` validations in a row have brought no new best."""
        return 0 < self.config.patience <= self.progress.stale

    def evaluate(self, rows: Rows, ranks: Ranks | None = None, model: GPT | None = None) -> Evaluation:
        """Evaluate the model on `rows`. With `ranks`, each of them evaluates its shard, and all must call this."""
        ranks = ranks or Ranks()
        with self.autocast:
            nats = ranks.sum(total_loss(model or self.model, rows[ranks.shard(len(rows))]))
        return Evaluation.of(nats.item(), rows.n_targets, self.count_characters(rows))

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimizer state and progress, as plain data and tensors.

        There is no state of a random generator in it, since the random numbers of a step depend only on seed and step.
        """
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": asdict(self.progress),
            **({} if self.average is None else {"average": self.average.state_dict()}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(for_training(state)["model"])
        if self.average is not None:
            self.average.load_state_dict(state.get("average"))
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
