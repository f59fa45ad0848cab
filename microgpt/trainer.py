"""The training loop: steps, validations, when to stop. Knows no files: what is to be kept goes to callbacks."""

import math
import time
from collections.abc import Callable, Container
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from microgpt.batches import PADDING, Batches, Rows
from microgpt.errors import UserError
from microgpt.evaluate import Evaluation, evaluate
from microgpt.model import GPT, cross_entropy
from microgpt.optim import Optimizers, Schedule
from microgpt.ranks import ALONE, Ranks

EMA_DECAY = 0.95


class DivergedError(UserError):
    """The loss is no longer a finite number."""


@dataclass
class Progress:
    """Where a run stands; with the weights and the optimizer's state, all that resuming needs.

    Losses are nats a token, `seconds` the wall time of training so far, `tokens` the targets it has learnt from,
    `stale` the number of validations since the best one.
    """

    step: int = 0
    loss_ema: float = math.nan
    val_loss: float = math.nan
    best_val_loss: float = math.inf
    best_step: int = 0
    stale: int = 0
    seconds: float = 0.0
    tokens: int = 0


class Trainer:
    """Trains `model` on `batches`, measuring it on the rows of `val` every `val_every` steps and at the end.

    `log(step, metrics)` is called every `log_every` steps and at validations; `after_validation(is_best)` when
    everything up to that step is known, the moment to save; `watch(step)` before the next step when the number of
    steps done is in `watch_at`. `patience` validations in a row without a new best end the run (0: never).
    `clip_grad` bounds the norm of the gradient (0: no bound). `grad_accum` is the number of parts in which a batch
    is computed; it saves memory and changes nothing else.
    """

    def __init__(
        self,
        model: GPT,
        optimizer: Optimizers,
        schedule: Schedule,
        batches: Batches,
        val: Rows,
        *,
        bos: int,
        bos_chars: int,
        steps: int,
        val_every: int,
        log_every: int = 10,
        patience: int = 0,
        clip_grad: float = 1.0,
        grad_accum: int = 1,
        bf16: bool = False,
        use_compile: bool = False,
        ranks: Ranks = ALONE,
        log: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
        after_validation: Callable[[bool], None] = lambda is_best: None,
        watch_at: Container[int] = (),
        watch: Callable[[int], None] = lambda step: None,
    ) -> None:
        self.model, self.optimizer, self.schedule = model, optimizer, schedule
        self.batches, self.val, self.bos, self.bos_chars = batches, val, bos, bos_chars
        self.steps, self.val_every, self.log_every, self.patience = steps, val_every, log_every, patience
        self.clip_grad, self.grad_accum = clip_grad or math.inf, grad_accum
        self.log, self.after_validation = log, after_validation
        self.watch_at, self.watch = watch_at, watch
        self.autocast = torch.autocast(val.idx.device.type, torch.bfloat16, enabled=bf16)
        self.ranks, self.device = ranks, val.idx.device
        self.wrapped = ranks.wrap(model)
        self.compiled = torch.compile(self.wrapped) if use_compile else self.wrapped
        self.progress = Progress()
        self.stopping = self.asked_to_stop = False
        self.unread: list[tuple[Tensor, Tensor]] = []  # losses of the steps since the last log, not yet waited for

    def stop(self) -> None:
        """Ask `fit` to return after the step it is at; all ranks do, at the next step that is logged."""
        self.asked_to_stop = True
        self.stopping = self.ranks.world == 1  # several ranks stop at the same step, or would wait for each other

    def fit(self) -> str:
        """Train to `steps`; returns "finished", "stopped early" or "interrupted". Raises `DivergedError`."""
        progress = self.progress
        began = time.perf_counter() - progress.seconds
        stepping, tokens = 0.0, progress.tokens  # seconds in steps since the last log, tokens up to it
        while progress.step < self.steps and not self.stopping:
            if progress.step in self.watch_at:
                self.watch(progress.step)
            before = time.perf_counter()
            norm = self.train_step()
            progress.step += 1
            validating = self.is_due(self.val_every)
            if not validating and not self.is_due(self.log_every):
                stepping += time.perf_counter() - before
                continue
            metrics = self.read_losses()
            self.stopping = self.ranks.any(self.asked_to_stop, self.device)
            stepping += time.perf_counter() - before
            metrics["optim/lr"] = self.optimizer.param_groups[0]["lr"]
            metrics["optim/grad_norm"] = norm.item()
            metrics["speed/tokens_per_second"] = (progress.tokens - tokens) / stepping
            stepping, tokens = 0.0, progress.tokens
            is_best = validating and self.validate(metrics)
            self.log(progress.step, metrics)
            progress.seconds = time.perf_counter() - began
            if validating:
                self.after_validation(is_best)
                if self.patience and progress.stale >= self.patience:
                    return "stopped early"
        self.read_losses()
        progress.seconds = time.perf_counter() - began
        return "finished" if progress.step >= self.steps else "interrupted"

    def is_due(self, every: int) -> bool:
        return self.progress.step % every == 0 or self.progress.step == self.steps

    def train_step(self) -> Tensor:
        """One optimizer step on the next batch; returns the norm of the gradient before clipping."""
        self.optimizer.scale_lr(self.schedule(self.progress.step))
        batch = self.batches(self.progress.step)
        n_targets = (batch.targets != PADDING).sum()
        loss = torch.zeros((), device=self.device)
        mine = batch[self.ranks.share(len(batch))]
        parts = list(mine.chunks(math.ceil(len(mine) / self.grad_accum)))
        for n, part in enumerate(parts, 1):
            with self.gradients_stay_here() if n < len(parts) else nullcontext():
                with self.autocast:
                    logits = self.compiled(part.idx, part.positions)
                part_loss = cross_entropy(logits, part.targets) / n_targets
                # The ranks' gradients are averaged, and n_targets counts those of all.
                (part_loss * self.ranks.world).backward()
            loss += part_loss.detach()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.unread.append((loss, n_targets))
        return norm

    def gradients_stay_here(self) -> AbstractContextManager[None]:
        wrapped = self.wrapped
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()

    def read_losses(self) -> dict[str, float]:
        """Take in the losses of the steps since the last call; raises `DivergedError` at one that is not finite."""
        metrics = {}
        progress = self.progress
        losses, counts = map(torch.stack, zip(*self.unread, strict=True)) if self.unread else (torch.empty(0),) * 2
        for loss, n_targets in zip(self.ranks.sum(losses).tolist(), counts.tolist(), strict=True):
            self.check(loss)
            started = not math.isnan(progress.loss_ema)
            progress.loss_ema = EMA_DECAY * progress.loss_ema + (1 - EMA_DECAY) * loss if started else loss
            progress.tokens += n_targets
            metrics = {"train/loss": loss, "train/loss_ema": progress.loss_ema}
        self.unread.clear()
        return metrics

    def check(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} by step {self.progress.step}: training diverged; lower optim.lr, or bound the"
                " gradient with optim.clip_grad=1"
            )

    def validate(self, metrics: dict[str, float]) -> bool:
        """Measure the model, add the figures to `metrics`, and say whether they are the best so far."""
        progress = self.progress
        result = self.evaluate(self.val, self.ranks)
        self.check(result.loss)
        metrics["val/loss"], metrics["val/bpc"] = result.loss, result.bpc
        progress.val_loss = result.loss
        is_best = result.loss < progress.best_val_loss
        progress.stale = 0 if is_best else progress.stale + 1
        if is_best:
            progress.best_val_loss, progress.best_step = result.loss, progress.step
        return is_best

    def evaluate(self, rows: Rows, ranks: Ranks = ALONE) -> Evaluation:
        """Measure the model on `rows`, each of `ranks` on its share; every one of them must call this."""
        with self.autocast:
            return evaluate(self.model, rows, self.bos, self.bos_chars, ranks)

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors: weights, optimizer, progress and the state of the random numbers."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": asdict(self.progress),
            "rng": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
        torch.set_rng_state(state["rng"])
