"""A training run in its directory: new or resumed, stopped by signals, in one process or in several ranks."""

import logging
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from microgpt.config.schema import Config, typed
from microgpt.data.loading import Data, load_data
from microgpt.data.normalisation import Normaliser
from microgpt.errors import InterruptedRunError, UserError, describe_error
from microgpt.insight.callback import Insight
from microgpt.model.device import find_device, keep_freed_memory
from microgpt.model.memory import check_sampling, check_training, readable
from microgpt.model.text_generator import TextGenerator
from microgpt.plots.losses import LiveWindow
from microgpt.runs import checkpoint
from microgpt.runs.callback import Callback, Progress
from microgpt.runs.directory import (
    BEST,
    LAST,
    PREVIOUS,
    Status,
    relative,
    remove_partial_files,
    write_config,
    write_failure,
)
from microgpt.runs.lock import locked
from microgpt.runs.opening import check_corpus
from microgpt.runs.tracking import Tracker
from microgpt.training.build import build_model, build_trainer
from microgpt.training.distributed import Ranks, process_group
from microgpt.training.finish import finish, is_complete, write_run_result
from microgpt.training.restoring import restore
from microgpt.training.trainer import Trainer

MAX_PREVIEW_SAMPLES, MAX_PREVIEW_TOKENS = 3, 100  # shown in TensorBoard at each validation

log = logging.getLogger(__name__)


def run_training(config: Config, folder: Path, gpu: int | None = None, callbacks: Sequence[Callback] = ()) -> None:
    """Train the run of `config` in `folder`; resume it if `folder` holds a checkpoint.

    Under torchrun this is rank 0; the other ranks call `run_worker`. `gpu` is the index of the GPU to use, modulo the
    number of GPUs. `callbacks` are added to those of the run. Raises `UserError` if the run cannot be trained, and
    `InterruptedRunError` if a signal stopped training early.
    """
    with process_group() as ranks:
        if is_complete(config, folder):
            ranks.broadcast(None)  # the workers return as well
            log.info("%s is complete; raise train.steps=%d to train it longer", relative(folder), config.train.steps)
            return
        device = set_up_torch(config, ranks, gpu)
        check_ranks(config, ranks, device)
        with locked(folder):
            remove_partial_files(folder)
            state = restore(folder, config)
            data = load_data(config.dataset, config.seed, Path(config.datasets_dir))
            if state:
                check_corpus(data, state["corpus"], f"resume={relative(folder)}", "start a new run")
            packed = data.mode.ends_at_bos  # several documents in a row
            memory = check_training(config, data.tokenizer.vocab_size, device, packed, ranks.world_size)
            check_sampling(config, device)
            log.info("needs about %s of memory beside torch and the corpus", readable(memory))
            ranks.broadcast((config, state))  # to `run_worker`
            run = Run(config, folder, data, device, state, callbacks, ranks)
            with stop_at_signals(run.trainer):
                run.fit()


def check_ranks(config: Config, ranks: Ranks, device: torch.device) -> None:
    """Raise `UserError` if the run cannot be trained by so many processes."""
    if config.train.batch_size < ranks.world_size:
        raise UserError(
            f"train.batch_size={config.train.batch_size}: must be at least {ranks.world_size}, one row per process"
        )
    if config.model.ngrams > 1 and ranks.world_size > 1 and device.type == "cuda":
        raise UserError(
            f"model.ngrams={config.model.ngrams}: several GPUs cannot average its sparse gradient; leave out"
            " torchrun, or set model.ngrams=0"
        )


def run_worker() -> None:
    """Train as a rank other than 0. Only rank 0 writes to the run directory."""
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
    """Set the threads and the floating-point mode of this process; returns its device."""
    if config.train.threads:
        n_cores = os.cpu_count() or 1
        if config.train.threads > n_cores:  # more only wait for each other
            log.info(
                "train.threads=%d: this machine has %d cores, so it uses %d", config.train.threads, n_cores, n_cores
            )
        torch.set_num_threads(min(config.train.threads, n_cores))
    keep_freed_memory()
    torch.set_flush_denormal(True)  # denormal numbers are slow on CPUs and too small to matter
    device = find_device(config.device, ranks.local_rank if ranks.world_size > 1 else gpu)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


class Run(Callback):
    """A run in its directory `folder`: builds its parts, and as a callback saves its metrics and checkpoints.

    `state` is the checkpoint to resume from, None for a new run.
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
        self.generator = TextGenerator(model, data.tokenizer, data.mode, Normaliser.of(config.dataset))
        for note in self.generator.notes(config.sampling.prompts):  # raises for an unknown character: before training
            log.info(note)
        step = state["progress"]["step"] if state else None
        self.saved_step = step  # of the checkpoint LAST
        self.tracker = Tracker(folder, config.train.steps, step, config.dataset.name)
        self.insight = Insight(config.insight, config.sampling, data, self.generator, self.tracker, folder, step or 0)
        windows = [open_window(folder, config.dataset.name)] if config.plot == "live" else []
        self.trainer = build_trainer(config, data, model, [self.insight, self, *windows, *callbacks], ranks)
        if state:
            self.trainer.load_state_dict(dict(state))

    def fit(self) -> None:
        """Train, then write the final files. Raises `InterruptedRunError` if a signal stopped training early."""
        try:
            write_config(self.folder, self.config)
            self.write_result(Status.RUNNING)
            with self.tracker:
                status = self.trainer.fit()
                if status.is_complete:
                    finish(self.config, self.folder, self.trainer, self.insight, self.tracker, status)
                    return
            self.write_result(status)
        except Exception as error:
            with suppress(OSError):  # the disk may be full
                write_failure(self.folder, describe_error(error))
            raise
        if status is Status.INTERRUPTED:
            step, steps = self.trainer.progress.step, self.config.train.steps
            raise InterruptedRunError(
                f"interrupted after step {step} of {steps}; resume it with: python train.py"
                f" {typed('resume', relative(self.folder))}"
            )

    def at_start(self, progress: Progress) -> None:
        """Log the corpus, the size of the model and the amount of training."""
        model, config = self.trainer.model, self.config
        log.info("%s: %s", config.dataset.name, config.dataset.note)
        card = self.data.card(model.block_size)
        entries, n_first = [f"{name} {value}" for name, value in card.items()], list(card).index("train") + 1
        log.info("  %s\n  %s", ", ".join(entries[:n_first]), ", ".join(entries[n_first:]))
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
        """Show a few samples in TensorBoard, and save the checkpoints."""
        sampling = self.config.sampling
        preview = replace(
            sampling,
            n_samples=min(MAX_PREVIEW_SAMPLES, sampling.n_samples),
            max_tokens=min(MAX_PREVIEW_TOKENS, sampling.max_tokens),
        )
        texts = self.generator.generate(preview, self.config.seed)
        self.tracker.text(progress.step, "samples", self.generator.lay_out(texts, preview))
        # BEST before LAST: a run killed in between is resumed from BEST, which is then the newer one.
        if is_best:
            self.save(BEST)
        self.save(LAST, keep=PREVIOUS)

    def at_end(self, progress: Progress, status: Status) -> None:
        if progress.step != self.saved_step:
            self.save(LAST, keep=PREVIOUS)

    def save(self, name: str, keep: str = "") -> None:
        """Write the checkpoint `name`; the old one is kept as `keep`."""
        self.saved_step = self.trainer.progress.step
        self.tracker.before_checkpoint(self.saved_step)
        state = {
            **self.trainer.state_dict(),
            "tokenizer": self.data.tokenizer.chars,
            "corpus": self.data.corpus.fingerprint,
            "config": asdict(self.config),
        }
        checkpoint.save(self.folder / name, state, self.folder / keep if keep else None)

    def write_result(self, status: Status, **values: Any) -> None:
        write_run_result(self.folder, self.config, self.trainer, status, **values)


def open_window(folder: Path, title: str) -> LiveWindow:
    """A window that draws the losses during training. Raises `UserError` if none can be opened."""
    try:
        return LiveWindow(folder, title)
    except ImportError:
        raise UserError("plot=live: there is no display, or Python lacks tkinter; use plot=true") from None


@contextmanager
def stop_at_signals(trainer: Trainer) -> Iterator[None]:
    """A context in which Ctrl-C or SIGTERM stops training after the current step, and a second one ends the process.

    With several ranks, a second signal does not end the process: torchrun repeats the signal that the terminal has
    already sent to all processes.
    """

    def stop(number: int, frame: object) -> None:
        trainer.stop()
        if trainer.ranks.world_size == 1:
            signal.signal(number, signal.SIG_DFL)  # for the second signal

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
