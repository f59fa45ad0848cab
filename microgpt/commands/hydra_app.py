"""Runs `train` and `sample` with Hydra: registers schemas and resolvers, and passes the command line on."""

import gc
import logging
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from microgpt.commands.arguments import print_help_if_asked, quote
from microgpt.commands.failure import SHOW_TRACE, report_errors, user_errors
from microgpt.config.free_text import unescape
from microgpt.config.groups import CONF
from microgpt.config.schema import Config
from microgpt.errors import UserError
from microgpt.runs import directory
from microgpt.runs.finding import find_run
from microgpt.sweeps import callback as sweep
from microgpt.sweeps.jobs import slug

# With these, a rank other than 0 makes no directory and no log.
WORKER_OVERRIDES = [
    "hydra.run.dir=.",
    "hydra.output_subdir=null",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
]

new_folders: set[Path] = set()  # made by this process for runs and sweeps


def run_app(task: Callable[[DictConfig], None], config_name: str, schema: Any, words: Sequence[str], doc: str) -> None:
    """Compose `conf/<config_name>.yaml` with the words of a command line, and call `task` with the result.

    With -h or --help, `doc` and the settings of the schema are printed instead: Hydra's own help takes a second.
    A user's mistake ends the program with one line and exit status 2, Ctrl-C with status 130. The summary of a sweep is
    written however the sweep ends; if jobs failed, the status is 2.
    """
    logging.raiseExceptions = SHOW_TRACE  # a full disk under train.log is reported by what fails next
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises what is reported here
    # Without defaults: they are those of a dataset or of a run, not those of the schema.
    report_errors(lambda: print_help_if_asked(words, doc, schema, defaults=False))
    register(schema)
    try:
        report_errors(lambda: call_hydra(task, config_name, schema, words))
    finally:
        logging.shutdown()
        remove_unused_folders()
        unfinished = sweep.finish()
        if unfinished:
            print(f"error: {unfinished}", file=sys.stderr)
    if unfinished:
        sys.exit(UserError.exit_status)


def register(schema: Any = Config) -> None:
    """Register with Hydra the schema and the resolvers that the files in `conf/` refer to."""
    name = {"Config": "base_config", "SampleConfig": "base_sample"}[schema.__name__]
    ConfigStore.instance().store(name=name, node=schema)
    OmegaConf.register_new_resolver("run_dir", run_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("record_dir", record_dir, replace=True)
    OmegaConf.register_new_resolver("slug", slug, replace=True)
    OmegaConf.register_new_resolver("by_dataset", by_dataset, replace=True)


def call_hydra(task: Callable[[DictConfig], None], config_name: str, schema: Any, words: Sequence[str]) -> None:
    """Pass the command line to Hydra, which calls `task`. Raises `UserError` for a user's mistake."""
    refuse_empty(words)
    words = expand_resume(list(words))
    sweep_wanted = bool({"-m", "--multirun"} & set(words))
    sys.argv[1:] = [quote(word, schema, sweep_wanted) for word in words]
    if "RANK" in os.environ and sweep_wanted:
        raise UserError("-m: torchrun trains one model; give a sweep hydra/launcher=joblib, or leave out -m")
    if is_worker():
        sys.argv += WORKER_OVERRIDES
    try:
        with user_errors(), warnings.catch_warnings():
            # Hydra warns that the launcher configs in conf/ have the same names as those of its plugins. That is
            # intended: they take types and defaults from them.
            warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/")
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(task)()
    except UserError:
        raise
    except Exception as error:
        if "Unknown plugin class" in str(error):
            raise UserError(missing_launcher()) from None
        if sweep.started_sweeps and not SHOW_TRACE:  # jobs raise nothing, so the launcher did
            reason = str(error).strip().splitlines() or [""]
            raise UserError(f"the launcher failed: {type(error).__name__}: {reason[0]}") from None
        raise


@contextmanager
def first_import_of_torch() -> Iterator[None]:
    """A context without garbage collection. What is alive at its end is never searched for garbage.

    Torch makes 270,000 objects that stay. While they are searched again and again, a third of a second passes.
    """
    if "torch" in sys.modules:  # in a later job of a sweep, what is alive may be garbage of the earlier ones
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def is_worker() -> bool:
    """Whether torchrun has started this process as a rank other than 0."""
    return os.environ.get("RANK", "0") != "0"


def expand_resume(words: list[str]) -> list[str]:
    """The words; if `resume=` names the directory of a sweep, those of the command line of that sweep instead."""
    for word in words:
        name, _, value = word.partition("=")
        folder = Path(value.strip("'\"")).expanduser()
        if name == "resume" and value and (folder / sweep.RECORD).is_file():
            return sweep.resume_arguments(folder, [other for other in words if other != word])
    return words


def refuse_empty(words: Sequence[str]) -> None:
    """Raise `UserError` for a setting of Hydra's without a value: `hydra.run.dir=` would be the working directory."""
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name.startswith("hydra.") and not value.strip("'\" "):
            raise UserError(f"{word}: is empty (an unset variable of the shell?); give a value, or leave it out")


def missing_launcher() -> str:
    """The error message for a launcher whose plugin is not installed."""
    launcher = next((word for word in sys.argv if word.startswith("hydra/launcher=")), "hydra/launcher")
    extra = {"joblib": "parallel", "ray": "ray"}.get(launcher.partition("=")[2], "cluster")
    return f"{launcher}: is not installed; add it with: pip install -c constraints.txt -e '.[{extra}]'"


# -- resolvers: functions that the files in conf/ call -------------------------------------------------------


def run_dir(resume: str | None, root: str) -> str:
    """The directory of the run to resume, else a new one below `root`."""
    if resume is None:
        return new_folder(root)
    folder = str(find_run(unescape(resume), "resume", directory.CONFIG, in_folders=False))
    if "${" in str(Path(folder).absolute()):  # Hydra reads the path of a run as a template
        raise UserError(f"resume={folder}: a run cannot be resumed in a folder with ${{ in its path; rename the folder")
    return folder


def record_dir(resume: str | None) -> str | None:
    """The folder in a run directory for Hydra's record, the command line among it; none for a resumed run.

    Otherwise the settings by which a job differs from those of its sweep would be lost when it is trained for longer.
    """
    return ".hydra" if resume is None else None


def new_folder(root: str) -> str:
    """Make a directory below `root` that did not exist, named by date and time; returns its path."""
    stamp, n = time.strftime("%Y-%m-%d_%H-%M-%S"), 1
    while True:
        folder = Path(root) / (stamp if n == 1 else f"{stamp}_{n}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            n += 1
        else:
            new_folders.add(folder.resolve())
            return str(folder)


def remove_unused_folders() -> None:
    """Remove the new directories in which no run began: they hold only a log of the error that was printed."""
    while new_folders:
        folder = new_folders.pop()
        jobs = [child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]
        if not jobs and not (folder / directory.CONFIG).exists():
            shutil.rmtree(folder)
            if not any(folder.parent.iterdir()):
                folder.parent.rmdir()


def by_dataset(values: DictConfig, *, _root_: DictConfig) -> Any:
    """The value for the chosen corpus, for experiments whose settings depend on the corpus."""
    if (name := _root_.dataset.name) not in values:
        raise UserError(f"dataset={name}: the experiment has no settings for it; choose from {', '.join(values)}")
    return values[name]
