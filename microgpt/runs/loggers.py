"""Loggers beside `metrics.csv` and TensorBoard, each with the same interface (`logger=wandb`, `logger=mlflow`).

To add one, register a class here, and give it a field of `LoggerConfig` and a file in `conf/logger/`:
docs/extending.md. A logger that fails is left out with a warning: training goes on. Their packages are imported when
they are used.
"""

import hashlib
import html
import logging
import os
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from microgpt.config.program import install
from microgpt.config.registry import LOGGERS
from microgpt.config.schema import Config, flatten
from microgpt.errors import UserError
from microgpt.runs.directory import METRICS, Status
from microgpt.runs.metrics import read_table
from microgpt.runs.wandb_files import logged_steps

MAX_VALUE_CHARACTERS, MAX_BATCH = 500, 100  # of a setting, and of metrics or settings in a call of MLflow

log = logging.getLogger(__name__)


class Logger:
    """A logger of the run of `config` in `folder`; a resumed run goes on with what was logged. `name`: as in `logger=`.

    TensorBoard's `EventFile` has these methods as well, but for `results`, and more.
    """

    name: str
    package = ""  # that it needs, an extra of the same name as the logger

    def __init__(self, folder: Path, config: Config) -> None:
        """Begin to log. Raises what the package of the logger raises."""

    def logged(self, tag: str) -> Container[int] | None:
        """The steps at which earlier sessions of this run have logged `tag`; None if the logger cannot tell."""
        return None

    def new(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        """The values, by tag, that have not been logged at this step: a run that is resumed measures some again."""
        return {tag: value for tag, value in values.items() if step not in (self.logged(tag) or ())}

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write scalars, by tag, that were measured after `step` steps."""

    def text(self, step: int, tag: str, text: str) -> None:
        """Write a text of that step."""

    def results(self, values: Mapping[str, float]) -> None:
        """Write the final figures of the run."""

    def flush(self) -> None:
        """Write what is buffered."""

    def close(self, status: Status) -> None:
        """The session of the run ends: it is FINISHED, or it was INTERRUPTED, or it has FAILED."""


def title(folder: Path, config: Config) -> str:
    """The name of the run, else the last two parts of its path."""
    return config.run.name or "/".join(folder.resolve().parts[-2:])


class Wandb(Logger):
    """Weights & Biases. Files in the run directory; a resumed run has the same id, by which `wandb sync` joins them."""

    name = package = "wandb"

    def __init__(self, folder: Path, config: Config) -> None:
        import wandb  # pyright: ignore[reportMissingImports] - an optional extra

        run_id = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
        self.steps = logged_steps(folder, run_id)
        self.wandb, self.step = wandb, 0
        self.run: Any = wandb.init(
            project=config.logger.project,
            dir=str(folder),
            mode=config.logger.wandb_mode,  # pyright: ignore[reportArgumentType] - the schema knows the choices
            id=run_id,
            resume="allow",
            name=title(folder, config),
            tags=config.run.tags,
            notes=config.run.note,
            config=flatten(asdict(config)),
            settings=wandb.Settings(silent=True, console="off", disable_git=True),
        )

        # Online, the server knows the next step, and takes none before it.
        self.next_step: int = self.run.step if self.run.resumed else 0

    def logged(self, tag: str) -> Container[int]:
        return range(self.next_step) if self.next_step else self.steps.get(tag, ())

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if new := self.new(step, values):
            self.step = max(self.step, step)  # an earlier step would be dropped
            self.run.log(new, step=self.step)

    def text(self, step: int, tag: str, text: str) -> None:
        if step not in self.logged(tag):
            self.step = max(self.step, step)
            self.run.log({tag: self.wandb.Html(f"<pre>{html.escape(text)}</pre>", inject=False)}, step=self.step)

    def results(self, values: Mapping[str, float]) -> None:
        self.run.summary.update(dict(values))

    def close(self, status: Status) -> None:
        self.run.finish(exit_code=0 if status is Status.FINISHED else 1)


LOGGERS.register(Wandb, Wandb.name)


class MLflow(Logger):
    """MLflow. A resumed run goes on with the run of MLflow that has the path of its directory as a tag."""

    name = package = "mlflow"
    FOLDER_TAG = "microgpt.folder"

    def __init__(self, folder: Path, config: Config) -> None:
        # A store of files is one of MLflow's that gets no new features, and must be allowed.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient  # pyright: ignore[reportMissingImports] - an optional extra
        from mlflow.entities import Metric, Param  # pyright: ignore[reportMissingImports]

        self.metric: Callable[..., Any] = Metric
        self.steps: dict[str, set[int]] = {}
        uri = config.logger.mlflow_uri or Path("mlruns").absolute().as_uri()
        self.client: Any = MlflowClient(tracking_uri=uri)
        experiment = self.client.get_experiment_by_name(config.logger.project)
        number = experiment.experiment_id if experiment else self.client.create_experiment(config.logger.project)
        place = str(folder.resolve())
        found = self.client.search_runs([number], f"tags.`{self.FOLDER_TAG}` = '{place.replace(chr(39), '')}'")
        self.is_resumed = bool(found)
        if found:
            self.id = found[0].info.run_id
            self.client.update_run(self.id, status="RUNNING")
            return
        tags = {self.FOLDER_TAG: place.replace("'", ""), "mlflow.note.content": config.run.note}
        tags |= dict.fromkeys(config.run.tags, "")
        self.id = self.client.create_run(number, tags=tags, run_name=title(folder, config)).info.run_id
        settings = flatten(asdict(config)).items()
        params = [Param(key, str(value)[:MAX_VALUE_CHARACTERS]) for key, value in settings]
        for start in range(0, len(params), MAX_BATCH):
            self.client.log_batch(self.id, params=params[start : start + MAX_BATCH])

    def logged(self, tag: str) -> Container[int]:
        if self.is_resumed and tag not in self.steps:
            self.steps[tag] = {metric.step for metric in self.client.get_metric_history(self.id, tag)}
        return self.steps.get(tag, ())

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if new := self.new(step, values):
            now = int(1000 * time.time())
            self.client.log_batch(self.id, metrics=[self.metric(tag, value, now, step) for tag, value in new.items()])

    def text(self, step: int, tag: str, text: str) -> None:
        self.client.log_text(self.id, text, f"{tag}/{step:09}.txt")

    def results(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.client.set_tag(self.id, name, str(value))

    def close(self, status: Status) -> None:
        names = {Status.FINISHED: "FINISHED", Status.INTERRUPTED: "KILLED", Status.FAILED: "FAILED"}
        self.client.set_terminated(self.id, names[status])


LOGGERS.register(MLflow, MLflow.name)


class Loggers:
    """The loggers that `config.logger` names, as one. Raises `UserError` if the package of one is not installed."""

    def __init__(self, folder: Path, config: Config | None) -> None:
        self.folder, self.config, self.opened = folder, config or Config(), list[Logger]()
        wanted = [logger for logger in LOGGERS.values() if config and getattr(config.logger, logger.name)]
        self.wanted: list[type[Logger]] = wanted
        for logger in wanted:
            if logger.package and find_spec(logger.package) is None:
                raise UserError(f"logger={logger.name}: is not installed; add it with: {install(logger.package)}")

    def open(self) -> None:
        for logger in self.wanted:
            self.attempt(logger.name, partial(self.begin, logger))

    def begin(self, kind: type[Logger]) -> None:
        """Open a logger. In a resumed run it gets what `metrics.csv` has and it lacks: a kill may have lost some."""
        logger = kind(self.folder, self.config)
        try:
            _, rows, _ = read_table(self.folder / METRICS)
            for row in rows if logger.logged("val/loss") is not None else []:
                logger.scalars(int(row.pop("step")), {tag: float(value) for tag, value in row.items() if value})
        except Exception:
            logger.close(Status.FAILED)
            raise
        self.opened.append(logger)

    def call(self, method: str, *values: Any) -> None:
        """Call a method of each logger; leave out one that fails."""
        self.opened = [
            logger for logger in self.opened if self.attempt(logger.name, partial(getattr(logger, method), *values))
        ]

    def attempt(self, name: str, action: Callable[[], object]) -> bool:
        """Whether the action succeeds; otherwise log why."""
        try:
            action()
        except Exception as error:  # whatever the package of a logger raises, training goes on
            reason = (str(error).splitlines() or [""])[0]
            log.warning("logger=%s: left out (%s: %s)", name, type(error).__name__, reason)
            return False
        return True
