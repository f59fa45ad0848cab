"""The end of a run: evaluates its best weights and writes the samples, the figures and the result."""

import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from microgpt.config.program import relative
from microgpt.config.schema import Config, flatten
from microgpt.data.progress import progress
from microgpt.errors import UserError
from microgpt.insight.callback import Insight, insight_files
from microgpt.model.evaluation import Evaluation
from microgpt.plots.losses import save_loss_figure
from microgpt.runs import checkpoint
from microgpt.runs.callback import Progress
from microgpt.runs.directory import (
    BEST,
    FIGURE,
    JOB_KEYS,
    KEYS_WITHOUT_EFFECT,
    LAST,
    SAMPLES,
    Status,
    read_result,
    write_atomically,
    write_result,
)
from microgpt.runs.metrics import Series, read_metrics
from microgpt.runs.record import Record
from microgpt.runs.tracking import SPEED, Tracker
from microgpt.sweeps.jobs import Job, slug, swept_keys
from microgpt.training.trainer import Trainer

log = logging.getLogger(__name__)


def expected_files(config: Config) -> list[str]:
    """The files that a complete run has. `resume=` makes those that are missing."""
    figures = [FIGURE] if config.plot else []
    return [BEST, LAST, SAMPLES, *figures, *insight_files(config.insight)]


def is_complete(config: Config, folder: Path) -> bool:
    """Whether the run in `folder` has all its steps and all its files."""
    try:
        result = read_result(folder)
    except UserError as error:
        log.warning("%s", error)
        return False
    status, steps = Status(result.get("status") or Status.RUNNING), result.get("steps") or 0
    if not status.is_complete or steps < config.train.steps:
        return False
    missing = [name for name in expected_files(config) if not (folder / name).is_file()]
    if missing:
        log.warning("%s: made again, with what depends on it: %s", relative(folder), ", ".join(missing))
    return not missing


def finish(
    config: Config,
    folder: Path,
    trainer: Trainer,
    insight: Insight,
    tracker: Tracker,
    status: Status,
    record: Record | None = None,
) -> None:
    """Evaluate the best weights on the whole validation split, and write samples, figures and the result.

    The result has `status` only when all files are written, and REPORTING until then.
    """
    trainer.model.load_state_dict(checkpoint.load(folder / BEST)["model"])
    with progress("evaluating the whole validation split"):
        final = trainer.evaluate(trainer.whole_val)
    measured = {"val_loss": final.loss, "val_bpc": final.bpc, "val_tokens": final.tokens}
    write_run_result(folder, config, trainer, Status.REPORTING, record, **measured)  # now, since sampling may fail
    with progress("generating samples"):
        texts = insight.generator.generate(config.sampling, config.seed)
    with progress("searching the training set for the samples"):
        marked = insight.mark(texts)
    write_atomically(folder / SAMPLES, "".join(f"{text}\n" for text in marked))
    metrics = read_metrics(folder)
    with progress("measuring how much of the samples is new"):
        insights = insight.final_figures(final.loss, texts, metrics, config.train.steps, config.optim.lr)
    write_run_result(folder, config, trainer, Status.REPORTING, record, **measured, **insights)
    tracker.console.stop()
    report(trainer, status, final, marked, insight.sentences(final.loss, insights))
    if record and (speeds := metrics.get(SPEED, ([], []))[1]):
        log.info("  %s", record.add_throughput(trainer.model, statistics.median(speeds), config.train.precision))
    # After the report, since the first figure of a process takes a second.
    if config.plot:
        title = f"{config.dataset.name}: {final.loss:.3f} nats per token on the whole validation split"
        save_loss_figure(metrics, folder / FIGURE, title, insight.baselines)
    show_in_tensorboard(config, folder, trainer.progress, insight, tracker, metrics, {**measured, **insights})
    write_run_result(folder, config, trainer, status, record, **measured, **insights)
    files = sorted(file.name for file in folder.iterdir() if not file.name.startswith((".", "events")))
    log.info("in %s: %s", relative(folder), ", ".join(files))


def report(
    trainer: Trainer, status: Status, final: Evaluation, samples: Sequence[str], sentences: Sequence[str]
) -> None:
    """Log the samples, the final losses and the findings."""
    log.info("\n%s\n", "\n".join(samples))
    log.info(
        "%s after %.0f s: validation %.4f nats per token, %.3f bits per character (all %s tokens of the split,"
        "%s weights of step %d)",
        status,
        trainer.progress.seconds,
        final.loss,
        final.bpc,
        f"{final.tokens:,}",
        " averaged" if trainer.average is not None and trainer.average.is_best else "",
        trainer.progress.best_step,
    )
    for line in sentences:
        log.info("  %s", line)


def write_run_result(
    folder: Path, config: Config, trainer: Trainer, status: Status, record: Record | None = None, **values: Any
) -> None:
    """Write `result.json`: status, progress, `values` and the record of the run.

    Numbers of the progress that are not finite become null.
    """
    reached = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in asdict(trainer.progress).items()
    }
    result = {
        "status": status,
        "dataset": config.dataset.name,
        "parameters": trainer.model.n_parameters(),
        "steps": config.train.steps,
        "device": str(trainer.device),
        "torch": torch.__version__,
        "train_loss_ema": reached["loss_ema"],
        "last_val_loss": reached["val_loss"],
        "best_val_loss": reached["best_val_loss"],
        **({} if trainer.average is None else {"best_is_average": trainer.average.is_best}),
        **{key: reached[key] for key in ("step", "best_step", "seconds", "tokens")},
        **values,
        **(record.values(status) if record else {}),
    }
    write_result(folder, result)


def show_in_tensorboard(
    config: Config,
    folder: Path,
    progress: Progress,
    insight: Insight,
    tracker: Tracker,
    metrics: Series,
    result: Mapping[str, Any],
) -> None:
    """Show the figures of the run, and its row of the HPARAMS tab. `result` holds the final figures."""
    if config.plot:
        tracker.figure(progress.step, "loss", (folder / FIGURE).read_bytes())
        if novelty := insight.novelty_figure(metrics, result.get("novelty", {})):
            tracker.figure(progress.step, "novelty", novelty)
    insight.save_figures(progress.best_step)
    finals = {"val loss": result["val_loss"], "val bpc": result["val_bpc"]}
    if trigram := insight.baselines.get("trigram"):
        finals["trigram gain"] = trigram - result["val_loss"]
    settings, columns = hyperparameters(config, folder)
    tracker.hparams(progress.step, settings, columns, finals)
    tracker.flush()


# Settings that the HPARAMS tab knows of every run, for the columns of a sweep below the same --logdir.
COMPARED = (
    "dataset",
    "model.n_embd",
    "model.n_layer",
    "model.block_size",
    "optim.name",
    "optim.lr",
    "train.steps",
    "train.batch_size",
    "seed",
)
OVERRIDES = "overrides"  # a column of single runs: what the command line changed of the recipe


def hyperparameters(config: Config, folder: Path) -> tuple[dict[str, Any], dict[str, bool]]:
    """The settings of the run for TensorBoard's HPARAMS tab, and which have a column: True if they differ.

    In a sweep, those that the sweep varies have a column. Of single runs, the corpus and OVERRIDES, such as
    `lr0.01-seed3`: at a width of 1280 pixels, TensorBoard shows five columns, and the last three are final metrics.
    """
    known = flatten(asdict(config)) | {"dataset": config.dataset.name}
    chosen = Job(folder).overrides  # such as model=modern, which the config has as many settings
    varied = {key: known.get(key, chosen.get(key)) for key in swept_keys(folder)}
    varied = {key: value for key, value in varied.items() if value is not None}
    settings = {key: known[key] for key in COMPARED} | varied
    if varied:
        return settings, dict.fromkeys(varied, True)
    changed = [f"{key}={known.get(key, value)}" for key, value in chosen.items() if matters(key)]
    settings[OVERRIDES] = slug(",".join(changed)).removeprefix("-") or "none"
    return settings, {"dataset": False, OVERRIDES: False}


def matters(key: str) -> bool:
    """Whether the losses of a run depend on this setting, beside the corpus, which has a column."""
    group = key.partition(".")[0]
    own = ("dataset", "dataset.path", *KEYS_WITHOUT_EFFECT)
    return group in (*JOB_KEYS, "experiment") and group != "sampling" and key not in own
