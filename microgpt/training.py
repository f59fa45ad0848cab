"""Training as a run: what the trainer does is kept in a directory, from which it can go on."""

import logging
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from microgpt import checkpoint, plots
from microgpt.build import Data, build_trainer, data_card, find_device, load_data
from microgpt.config import Config
from microgpt.errors import InterruptedRunError, UserError
from microgpt.evaluate import Evaluation
from microgpt.insight import Insight
from microgpt.ranks import ALONE, Ranks, join, leave
from microgpt.runs import (
    BEST,
    CONFIG,
    FIGURE,
    LAST,
    METRICS,
    SAMPLES,
    has_ended,
    relative,
    write_atomically,
    write_result,
)
from microgpt.samples import Writer, draw_texts
from microgpt.tracking import Tracker
from microgpt.trainer import Trainer

Watch = Callable[[int, float], bool]

log = logging.getLogger(__name__)


def train(config: Config, folder: Path, gpu: int | None = None, watch: Watch | None = None) -> None:
    """Train the run of `config` in `folder`, or go on with it if it has begun there.

    Under torchrun this is rank 0, and the other ranks `follow`. `gpu` is the number of the GPU to take, counted
    round; `watch(step, validation loss)` is asked after each validation whether to give the run up.
    Raises `UserError` for what cannot be trained, `InterruptedRunError` when a signal ended it early.
    """
    ranks = join()
    if has_ended(folder, config.train.steps):
        ranks.tell(None)
        log.info("%s has ended; raise train.steps=%d to extend it", relative(folder), config.train.steps)
        return
    if config.train.batch_size < ranks.world:
        raise UserError(
            f"train.batch_size={config.train.batch_size}: a row at least for each of {ranks.world} processes"
        )
    state = checkpoint.load(folder / LAST) if (folder / LAST).exists() else None
    device = prepare(config, ranks, gpu)
    data = load_data(config, device)
    if state and state["corpus"] != data.corpus.fingerprint:
        raise UserError(
            f"resume={relative(folder)}: the corpus is not the one that the run has seen (a changed file, or for"
            " dataset=python_docs another version of Python); start a new run"
        )
    ranks.tell((config, state))
    run = Run(config, folder, data, device, state, ranks, watch)
    with run.tracker, stop_at_signals(run.trainer):
        run.fit()
    leave()


def follow() -> None:
    """Be another rank than the first: train along with it, and leave the run's directory to it."""
    ranks = join()
    if (told := ranks.tell()) is None:
        return
    config, state = told
    device = prepare(config, ranks)
    trainer = build_trainer(config, load_data(config, device), device, ranks=ranks)
    if state:
        trainer.load_state_dict(state)
    with stop_at_signals(trainer):
        trainer.fit()
    leave()


def prepare(config: Config, ranks: Ranks, gpu: int | None = None) -> torch.device:
    """Set up torch in this process, and find its device."""
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    torch.set_flush_denormal(True)  # numbers that small are slow on CPUs and change nothing
    device = find_device(config.device, ranks.local if ranks.world > 1 else gpu)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


class Run:
    """A training run in its directory: what the trainer does is kept there."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        data: Data,
        device: torch.device,
        state: dict[str, Any] | None,
        ranks: Ranks = ALONE,
        watch: Watch | None = None,
    ) -> None:
        self.config, self.folder, self.data, self.watch = config, folder, data, watch
        self.trainer = build_trainer(config, data, device, self.log_metrics, self.after_validation, ranks)
        self.given_up = False
        self.writer = Writer(self.trainer.model, data.tokenizer, data.corpus.mode)
        for prompt in config.sampling.prompts:
            self.writer.prompt_ids(prompt)  # an unknown character is better found before training than after
        if state:
            self.trainer.load_state_dict(state)
        self.window = open_window(config.dataset.name) if config.plot == "live" else None
        # It may have been killed before its first checkpoint: then it goes on from step 0.
        resumed_at = self.trainer.progress.step if (folder / CONFIG).exists() else None
        write_atomically(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.structured(config)))
        self.tracker = Tracker(folder, config.train.steps, resumed_at)
        self.insight = Insight(config, data, self.writer, folder, self.trainer.progress.step)
        if self.insight.losses:
            lines = [f"baselines/{name}" for name in self.insight.losses]
            self.tracker.one_chart("losses beside those of counting models", ["val/loss", "train/loss_ema", *lines])
        self.trainer.watch_at = self.insight.watched_steps()
        self.trainer.watch = lambda step: self.insight.watch(step, self.tracker)
        self.write_result("running")

    def log_metrics(self, step: int, metrics: dict[str, float]) -> None:
        self.tracker.log(step, metrics)

    def fit(self) -> None:
        self.introduce()
        try:
            status = self.trainer.fit()
        except UserError as error:
            self.write_result("failed", error=str(error))
            raise
        self.save(LAST)
        if status == "interrupted" and self.given_up:
            self.write_result("pruned")
            return
        if status == "interrupted":
            self.write_result(status)
            step, steps = self.trainer.progress.step, self.trainer.steps
            raise InterruptedRunError(
                f"interrupted after step {step} of {steps}; go on with: python train.py resume={relative(self.folder)}"
            )
        self.finish(status)

    def introduce(self) -> None:
        model = self.trainer.model
        log.info("%s: %s", self.config.dataset.name, self.config.dataset.note)
        card = [f"{name} {value}" for name, value in data_card(self.config, self.data.corpus).items()]
        log.info("  %s\n  %s", ", ".join(card[:5]), ", ".join(card[5:]))
        log.info(
            "%s weights, %d steps of %d x %d tokens on %s",
            f"{model.n_parameters():,}",
            self.trainer.steps,
            self.config.train.batch_size,
            model.block_size,
            model.head.weight.device,
        )
        if self.trainer.progress.step:
            log.info("going on from step %d", self.trainer.progress.step)

    def save(self, name: str) -> None:
        self.tracker.flush()
        state = {
            **self.trainer.state_dict(),
            "tokenizer": self.data.tokenizer.chars,
            "corpus": self.data.corpus.fingerprint,
            "config": asdict(self.config),
        }
        checkpoint.save(self.folder / name, state)

    def after_validation(self, is_best: bool) -> None:
        if is_best:
            self.save(BEST)  # first: a run that is killed between the two goes back and comes here again
        self.save(LAST)
        sampling = self.config.sampling
        few = replace(sampling, n_samples=min(3, sampling.n_samples), max_tokens=min(100, sampling.max_tokens))
        texts = draw_texts(self.writer, few, self.config.seed)
        self.tracker.text(self.trainer.progress.step, "samples", "\n\n".join(texts))
        self.tracker.scalars(self.trainer.progress.step, self.insight.at_validation())
        if self.window:
            self.window.redraw(self.folder / METRICS)
        progress = self.trainer.progress
        if self.watch and progress.step < self.trainer.steps and self.watch(progress.step, progress.val_loss):
            self.given_up = True
            self.trainer.stop()

    def finish(self, status: str) -> None:
        """Measure the best weights on the whole validation split, and leave figures, samples and result."""
        progress = self.trainer.progress
        self.trainer.model.load_state_dict(checkpoint.load(self.folder / BEST)["model"])
        final = self.trainer.evaluate(self.data.val)
        figures = {"final/val_loss": final.loss, "final/val_bpc": final.bpc}
        self.tracker.hparams(progress.step, flat_settings(self.config), figures)
        measured = {"val_loss": final.loss, "val_bpc": final.bpc, "val_tokens": final.tokens}
        self.write_result(status, **measured)  # before all that could still go wrong
        texts = draw_texts(self.writer, self.config.sampling, self.config.seed)
        marked = self.insight.marked(texts)
        write_atomically(self.folder / SAMPLES, "".join(f"{text}\n" for text in marked))
        self.tracker.flush()
        if self.config.plot:
            title = f"{self.config.dataset.name}: {final.loss:.3f} nats a token on the whole validation split"
            plots.save_loss_figure(self.folder / METRICS, self.folder / FIGURE, title, self.insight.losses)
        insight = self.insight.at_end(final.loss, texts, plots.read_metrics(self.folder / METRICS))
        self.insight.look(self.tracker, progress.best_step)
        self.write_result(status, **measured, **insight)
        self.tracker.console.stop()
        self.report(status, final, marked, insight)

    def report(self, status: str, final: Evaluation, texts: list[str], insight: dict[str, Any]) -> None:
        progress = self.trainer.progress
        log.info("\n%s\n", "\n".join(texts))
        log.info(
            "%s after %.0f s: validation %.4f nats a token, %.3f bits a character (all %s tokens of the split,"
            " weights of step %d)",
            status,
            progress.seconds,
            final.loss,
            final.bpc,
            f"{final.tokens:,}",
            progress.best_step,
        )
        for line in self.insight.said(final.loss, insight):
            log.info("  %s", line)
        files = sorted(file.name for file in self.folder.iterdir() if not file.name.startswith((".", "events")))
        log.info("in %s: %s", relative(self.folder), ", ".join(files))

    def write_result(self, status: str, **figures: Any) -> None:
        progress = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self.trainer.progress).items()
        }
        result = {
            "status": status,
            "dataset": self.config.dataset.name,
            "parameters": self.trainer.model.n_parameters(),
            "steps": self.trainer.steps,
            "device": str(self.trainer.model.head.weight.device),
            "torch": torch.__version__,
            "train_loss_ema": progress["loss_ema"],
            "last_val_loss": progress["val_loss"],
            "best_val_loss": progress["best_val_loss"],
            **{key: progress[key] for key in ("step", "best_step", "seconds", "tokens")},
            **figures,
        }
        write_result(self.folder, result)


def open_window(title: str) -> plots.LiveWindow:
    try:
        return plots.LiveWindow(title)
    except ImportError:
        raise UserError("plot=live: there is no display, or Python lacks tkinter; use plot=true") from None


def flat_settings(config: Config) -> dict[str, Any]:
    """What is worth comparing between runs, as `group.key: value`."""
    groups = {name: getattr(config, name) for name in ("model", "optim", "train")}
    flat = {f"{name}.{key}": value for name, group in groups.items() for key, value in asdict(group).items()}
    return {"dataset": config.dataset.name, "seed": config.seed, **flat}


@contextmanager
def stop_at_signals(trainer: Trainer) -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM end training at the next step; a second one ends the process at once.

    Not so under torchrun, which sends on to its processes what the terminal has sent them already.
    """

    def stop(number: int, frame: object) -> None:
        trainer.stop()
        if trainer.ranks.world == 1:
            signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
