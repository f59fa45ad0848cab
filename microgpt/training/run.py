"""A training run in its directory: begun or resumed, stopped by signals, alone or with other ranks."""

import logging
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from microgpt.config.schema import Config
from microgpt.data.loading import Data, load_data
from microgpt.errors import InterruptedRunError, UserError
from microgpt.insight.callback import Insight
from microgpt.model.device import find_device
from microgpt.model.text_generator import TextGenerator
from microgpt.plots.losses import LiveWindow
from microgpt.runs import checkpoint
from microgpt.runs.callback import Callback, Progress
from microgpt.runs.directory import BEST, CONFIG, LAST, Status, is_complete, relative, write_config
from microgpt.runs.opening import check_corpus
from microgpt.runs.tracking import Tracker
from microgpt.training.build import build_model, build_trainer
from microgpt.training.distributed import Ranks, process_group
from microgpt.training.finish import finish, write_run_result
from microgpt.training.trainer import Trainer

PREVIEW_SAMPLES, PREVIEW_TOKENS = 3, 100  # the most that TensorBoard shows at a validation

log = logging.getLogger(__name__)


def run_training(config: Config, folder: Path, gpu: int | None = None, callbacks: Sequence[Callback] = ()) -> None:
    """Train the run of `config` in `folder`, or resume it if it has begun there.

    Under torchrun this is rank 0; the other ranks call `run_worker`. `gpu` is the number of the GPU to take, modulo
    their count; `callbacks` are added to those of the run. Raises `UserError` for what cannot be trained, and
    `InterruptedRunError` when a signal ended training early.
    """
    with process_group() as ranks:
        if is_complete(folder, config.train.steps):
            ranks.broadcast(None)
            log.info("%s has ended; raise train.steps=%d to extend it", relative(folder), config.train.steps)
            return
        if config.train.batch_size < ranks.world_size:
            raise UserError(
                f"train.batch_size={config.train.batch_size}: needs at least a row for each of {ranks.world_size}"
                " processes"
            )
        state = checkpoint.load(folder / LAST) if (folder / LAST).exists() else None
        device = set_up_torch(config, ranks, gpu)
        data = load_data(config.dataset, config.seed, Path(config.datasets_dir))
        if state:
            check_corpus(data, state["corpus"], f"resume={relative(folder)}", "start a new run")
        ranks.broadcast((config, state))
        run = Run(config, folder, data, device, state, callbacks, ranks)
        with stop_at_signals(run.trainer):
            run.fit()


def run_worker() -> None:
    """Train along as another rank than the first, which alone writes the run's directory."""
    with process_group() as ranks:
        if (received := ranks.broadcast()) is None:
            return
        config, state = received
        device = set_up_torch(config, ranks)
        data = load_data(config.dataset, config.seed, Path(config.datasets_dir))
        model = build_model(config, data.tokenizer.vocab_size, device)
        trainer = build_trainer(config, data, model, ranks=ranks)
        if state:
            trainer.load_state_dict(state)
        with stop_at_signals(trainer):
            trainer.fit()


def set_up_torch(config: Config, ranks: Ranks, gpu: int | None = None) -> torch.device:
    """Set threads and the like in this process, and find its device."""
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    torch.set_flush_denormal(True)  # numbers that small are slow on CPUs and change nothing
    device = find_device(config.device, ranks.local_rank if ranks.world_size > 1 else gpu)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


class Run(Callback):
    """A run in its directory `folder`: builds its parts, and as their callback keeps what the trainer does.

    `state` is the checkpoint that it is resumed from.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        data: Data,
        device: torch.device,
        state: Mapping[str, Any] | None,
        callbacks: Sequence[Callback],
        ranks: Ranks,
    ) -> None:
        self.config, self.folder, self.data = config, folder, data
        model = build_model(config, data.tokenizer.vocab_size, device)
        self.generator = TextGenerator(model, data.tokenizer, data.mode)
        for prompt in config.sampling.prompts:
            self.generator.prompt_ids(prompt)  # an unknown character is better found before training than after
        step = state["progress"]["step"] if state else 0
        # A run that was killed before its first checkpoint is resumed from step 0.
        self.tracker = Tracker(folder, config.train.steps, step if (folder / CONFIG).exists() else None)
        self.insight = Insight(config.insight, config.sampling, data, self.generator, self.tracker, folder, step)
        windows = [open_window(folder, config.dataset.name)] if config.plot == "live" else []
        self.trainer = build_trainer(config, data, model, [self.insight, self, *windows, *callbacks], ranks)
        if state:
            self.trainer.load_state_dict(dict(state))

    def fit(self) -> None:
        """Train, and leave what a run promises. Raises `InterruptedRunError` if it was stopped early."""
        write_config(self.folder, self.config)
        self.write_result(Status.RUNNING)
        with self.tracker:
            try:
                status = self.trainer.fit()
            except UserError as error:
                self.write_result(Status.FAILED, error=str(error))
                raise
            if status.is_complete:
                finish(self.config, self.folder, self.trainer, self.insight, self.tracker, status)
                return
        self.write_result(status)
        if status is Status.INTERRUPTED:
            step, steps = self.trainer.progress.step, self.config.train.steps
            raise InterruptedRunError(
                f"interrupted after step {step} of {steps}; resume it with: python train.py"
                f" resume={relative(self.folder)}"
            )

    def at_start(self, progress: Progress) -> None:
        """Tell what is trained on what."""
        model, config = self.trainer.model, self.config
        log.info("%s: %s", config.dataset.name, config.dataset.note)
        card = [f"{name} {value}" for name, value in self.data.card(model.block_size).items()]
        log.info("  %s\n  %s", ", ".join(card[:5]), ", ".join(card[5:]))
        log.info(
            "%s weights, %d steps of %d x %d tokens on %s",
            f"{model.n_parameters():,}",
            config.train.steps,
            config.train.batch_size,
            model.block_size,
            self.trainer.device,
        )
        if progress.step:
            log.info("resumed from step %d", progress.step)

    def at_log(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        self.tracker.log(progress.step, metrics)

    def after_validation(self, progress: Progress, is_best: bool) -> None:
        sampling = self.config.sampling
        n_samples, max_tokens = min(PREVIEW_SAMPLES, sampling.n_samples), min(PREVIEW_TOKENS, sampling.max_tokens)
        preview = replace(sampling, n_samples=n_samples, max_tokens=max_tokens)
        texts = self.generator.generate(preview, self.config.seed)
        self.tracker.text(progress.step, "samples", "\n\n".join(texts))
        if is_best:
            self.save(BEST)  # first: a run that is killed between the two is resumed from before, and comes here again
        self.save(LAST)

    def at_end(self, progress: Progress, status: Status) -> None:
        self.save(LAST)

    def save(self, name: str) -> None:
        """Write the checkpoint `name`, after all that was logged up to it."""
        self.tracker.flush()
        state = {
            **self.trainer.state_dict(),
            "tokenizer": self.data.tokenizer.chars,
            "corpus": self.data.corpus.fingerprint,
            "config": asdict(self.config),
        }
        checkpoint.save(self.folder / name, state)

    def write_result(self, status: Status, **figures: Any) -> None:
        write_run_result(self.folder, self.config, self.trainer, status, **figures)


def open_window(folder: Path, title: str) -> LiveWindow:
    try:
        return LiveWindow(folder, title)
    except ImportError:
        raise UserError("plot=live: there is no display, or Python lacks tkinter; use plot=true") from None


@contextmanager
def stop_at_signals(trainer: Trainer) -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM end training at the next step; a second one ends the process at once.

    Not so under torchrun, which sends its processes a second time what the terminal has sent them already.
    """

    def stop(number: int, frame: object) -> None:
        trainer.stop()
        if trainer.ranks.world_size == 1:
            signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
