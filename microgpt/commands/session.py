"""Trains in a process that goes on afterwards, such as a notebook's kernel: its global state stays as it was."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.version import VersionBase
from omegaconf import DictConfig

from microgpt.commands.hydra_app import call_hydra, expand_resume, register
from microgpt.commands.resolvers import new_folder, remove_unused_folders
from microgpt.commands.train import train_in, typed_command
from microgpt.config.checks import as_path
from microgpt.config.groups import PACKAGE
from microgpt.config.schema import Config
from microgpt.errors import InterruptedRunError, UserError
from microgpt.runs.finding import MULTIRUN
from microgpt.runs.tracking import logging_to
from microgpt.sweeps.callback import RECORD

SWEEP_DIR = "hydra.sweep.dir"
NOTEBOOK_WIDTH = 100  # characters per line of a cell's output, where it is no terminal

# Hydra would replace the handlers of all loggers. `logging_to` writes the same log.
NO_LOGGING = ["hydra/job_logging=none", "hydra/hydra_logging=none"]


def train_here(words: Sequence[str]) -> Path:
    """Train as `python train.py` does with these words; returns the run directory. Raises `UserError`."""
    if expand_resume(list(words)) != list(words):
        raise UserError(f"{' '.join(words)}: resumes a sweep; use microgpt.sweep")
    import torch  # noqa: F401 - before `train_in`, whose first import of torch takes all objects from the collector

    folders: list[Path] = []
    errors: list[BaseException] = []

    def task(cfg: DictConfig) -> None:
        folder = Path(HydraConfig.get().runtime.output_dir)
        folders.append(folder)
        try:
            if cfg.plot == "live":
                raise UserError("plot=live: opens a window, which a notebook has no use for; use plot=true")
            with logging_to(folder / "train.log"):
                train_in(folder, cfg, command=typed_command(words))
        except BaseException as error:  # Hydra would print lines of its own about it
            errors.append(error)

    with restored_process():
        register()
        try:
            call_hydra(task, "config", Config, [*words, *NO_LOGGING])
        finally:
            remove_unused_folders()
    if errors:
        raise errors[0]
    return folders[0]


@contextmanager
def restored_process() -> Iterator[None]:
    """A context in which Hydra can be called as by a new process, and after which the process is as it was."""
    argv, variable = sys.argv[:], os.environ.get("HYDRA_FULL_ERROR")
    instances: dict[Any, Any] = Singleton._instances  # one for each class; a new one is made when it is asked for
    own = (GlobalHydra, HydraConfig, JobRuntime, VersionBase)
    saved = {kind: instances.pop(kind) for kind in own if kind in instances}
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises errors, and does not exit
    try:
        yield
    finally:
        sys.argv[:] = argv
        for kind in own:
            instances.pop(kind, None)
        instances.update(saved)
        os.environ.pop("HYDRA_FULL_ERROR")
        if variable is not None:
            os.environ["HYDRA_FULL_ERROR"] = variable


def sweep_apart(words: Sequence[str]) -> Path:
    """Run a sweep in a process of its own, as `python train.py -m` does with these words; returns its directory.

    What it prints is printed here as well. Raises `UserError` with its message if it fails, also if one of its jobs
    does. Ctrl-C stops it as it would stop the command, and raises `InterruptedRunError`.
    """
    pairs = [word.partition("=") for word in words]
    given = {key: as_path(key, v.strip("'\"")) for key, _, v in pairs if key in ("resume", SWEEP_DIR)}
    if "resume" in given:
        folder, command = given["resume"], [*words]
        if not (folder / RECORD).is_file():
            raise UserError(f"resume={folder}: not the directory of a sweep; resume a run with microgpt.train")
    elif SWEEP_DIR in given:
        folder, command = given[SWEEP_DIR], ["-m", *words]
    else:
        folder = Path(new_folder(MULTIRUN))
        command = ["-m", *words, f"{SWEEP_DIR}={folder}"]
    try:
        run_command(["train", *command])
    finally:
        remove_unused_folders()
    return folder


def run_command(words: Sequence[str]) -> None:
    """Run `microgpt` with these words in a new process, and print what it prints. Raises `UserError` if it fails."""
    # A kernel sets the variables that are left out for the commands in its cells, which have a terminal.
    environment = {key: value for key, value in os.environ.items() if key not in ("FORCE_COLOR", "CLICOLOR_FORCE")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGE.parent), environment.get("PYTHONPATH")]))
    environment |= {"PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else NOTEBOOK_WIDTH
    environment.setdefault("COLUMNS", str(width))
    with TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "microgpt", *words],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            start_new_session=True,  # so that it gets Ctrl-C from here alone, and only once
        )
        with process, ctrl_c_sent_to(process) as interrupts:
            for line in process.stdout or ():
                print(line, end="", flush=True)
            process.wait()
        errors.seek(0)
        *notes, last = errors.read().splitlines() or [""]
    print("".join(f"{note}\n" for note in notes), end="", file=sys.stderr)
    if process.returncode:
        message = last.removeprefix("error: ") or f"the sweep ended with status {process.returncode}"
        raise (InterruptedRunError if interrupts else UserError)(message)


@contextmanager
def ctrl_c_sent_to(process: subprocess.Popen[str]) -> Iterator[list[int]]:
    """A context in which Ctrl-C is passed on to `process`, and does nothing here; what was passed on is in the list."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # which cannot handle signals
        yield received
        return

    def send(number: int, frame: object) -> None:
        received.append(number)
        process.send_signal(number)

    previous = signal.signal(signal.SIGINT, send)
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, previous)
