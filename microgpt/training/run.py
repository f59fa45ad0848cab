"""A training run in its directory: new or resumed, stopped by signals, in one process or in several ranks."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from microgpt.config.program import program, relative
from microgpt.config.schema import Config, typed
from microgpt.data.loading import Data, load_data
from microgpt.data.normalisation import Normaliser
from microgpt.errors import InterruptedRunError, UserError, describe_error
from microgpt.insight.callback import Insight
from microgpt.model.device import keep_freed_memory, restored_torch
from microgpt.model.text_generator import TextGenerator
from microgpt.plots.losses import LiveWindow
from microgpt.runs import checkpoint
from microgpt.runs.callback import Callback, Progress
from microgpt.runs.directory import (
    BEST,
    LAST,
    PREVIOUS,
    Status,
    read_result,
    remove_partial_files,
    write_config,
    write_failure,
)
from microgpt.runs.lock import locked
from microgpt.runs.opening import check_corpus
from microgpt.runs.record import Record, name_and_note
from microgpt.runs.tracking import Tracker
from microgpt.training.averaging import for_best
from microgpt.training.build import build_model, build_trainer
from microgpt.training.distributed import Ranks, process_group
from microgpt.training.finish import finish, is_complete, write_run_result
from microgpt.training.machine import check_memory, check_ranks, set_up_torch
from microgpt.training.profiling import Profiler
from microgpt.training.restoring import restore
from microgpt.training.signals import stop_at_signals

MAX_PREVIEW_SAMPLES, MAX_PREVIEW_TOKENS = 3, 100  # shown in TensorBoard at each validation

log = logging.getLogger(__name__)


def run_training(
    config: Config,
    folder: Path,
    gpu: int | None = None,
    callbacks: Sequence[Callback] = (),
    command: str | None = None,
) -> None:
    """Train the run of `config` in `folder`; resume it if `folder` holds a checkpoint.

    Under torchrun this is rank 0; the other ranks call `run_worker`. `gpu` is the index of the GPU to use, modulo the
    number of GPUs. `callbacks` are added to those of the run. `command` is what was typed, for the record of the run.
    Raises `UserError` if the run cannot be trained, and `InterruptedRunError` if a signal stopped training early.
    """
    with restored_torch(), process_group() as ranks:
        if is_complete(config, folder):
            ranks.broadcast(None)  # the workers return as well
            step = read_result(folder).get("step") or config.train.steps
            log.info("%s is complete, at step %d; train it longer with a larger train.steps", relative(folder), step)
            return
        device = set_up_torch(config, ranks, gpu)
        check_ranks(config, ranks, device)
        with locked(folder):
            remove_partial_files(folder)
            state = restore(folder, config)
            data = load_data(config.dataset, config.seed, Path(config.datasets_dir))
            if state:
                check_corpus(data, state["corpus"], f"resume={relative(folder)}", "start a new run")
            check_memory(config, data, device, ranks)
            ranks.broadcast((config, state))  # to `run_worker`
            record = Record(config, folder, data.corpus.fingerprint, device, command, ranks.world_size)
            run = Run(config, folder, data, device, state, callbacks, ranks, record)
            keep_freed_memory()  # not before: what reading a text has freed would stay beside the steps
            with stop_at_signals(run.trainer):
                run.fit()


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
        keep_freed_memory()
        with stop_at_signals(trainer):
            trainer.fit()


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
        record: Record,
    ) -> None:
        self.config, self.folder, self.data, self.record = config, folder, data, record
        model = build_model(config, data.tokenizer.vocab_size, device)
        self.generator = TextGenerator(model, data.tokenizer, data.mode, Normaliser.of(config.dataset))
        for note in self.generator.notes(config.sampling.prompts):  # raises for an unknown character: before training
            log.info(note)
        step = state["progress"]["step"] if state else None
        self.saved_step = step  # of the checkpoint LAST
        self.tracker = Tracker(folder, config.train.steps, step, config.dataset.name, config=config)
        self.insight = Insight(config.insight, config.sampling, data, self.generator, self.tracker, folder, step or 0)
        extra: list[Callback] = [open_window(folder, config.dataset.name)] if config.plot == "live" else []
        extra += [Profiler(folder, device)] if config.train.profile else []
        self.trainer = build_trainer(config, data, model, [self.insight, self, *extra, *callbacks], ranks)
        if state:
            self.trainer.load_state_dict(dict(state))

    def fit(self) -> None:
        """Train, then write the final files. Raises `InterruptedRunError` if a signal stopped training early."""
        try:
            write_config(self.folder, self.config, self.record.heading())
            self.write_result(Status.RUNNING)
            with self.tracker:
                status = self.trainer.fit()
                if status.is_complete:
                    finish(self.config, self.folder, self.trainer, self.insight, self.tracker, status, self.record)
                    return
            self.write_result(status)
        except Exception as error:
            with suppress(OSError):  # the disk may be full
                write_failure(self.folder, describe_error(error))
            raise
        if status is Status.INTERRUPTED:
            step, steps = self.trainer.progress.step, self.config.train.steps
            raise InterruptedRunError(
                f"interrupted after step {step} of {steps}; resume it with: {program('train')}"
                f" {typed('resume', relative(self.folder))}"
            )

    def at_start(self, progress: Progress) -> None:
        """Log the corpus, the size of the model and the amount of training."""
        model, config = self.trainer.model, self.config
        log.info("%s: %s", config.dataset.name, config.dataset.note)
        if described := name_and_note(config.run):
            log.info("  %s", described)
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
        if progress.step >= config.train.steps:
            log.info("train.steps=%d is reached: no step is left; a larger number trains longer", config.train.steps)

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
        state = for_best(state) if name == BEST else state
        checkpoint.save(self.folder / name, state, self.folder / keep if keep else None)

    def write_result(self, status: Status, **values: Any) -> None:
        write_run_result(self.folder, self.config, self.trainer, status, self.record, **values)


def open_window(folder: Path, title: str) -> LiveWindow:
    """A window that draws the losses during training. Raises `UserError` if none can be opened."""
    try:
        return LiveWindow(folder, title)
    except ImportError:
        raise UserError("plot=live: there is no display, or Python lacks tkinter; use plot=true") from None
