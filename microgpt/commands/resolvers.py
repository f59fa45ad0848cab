"""The functions that the files in `conf/` call, most of them for the directory of a run."""

import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from microgpt.config.free_text import unescape
from microgpt.data.files import split_paths
from microgpt.errors import UserError
from microgpt.runs import directory
from microgpt.runs.finding import OUTPUTS, find_run
from microgpt.sweeps import callback as sweep
from microgpt.sweeps.jobs import slug


def register_resolvers() -> None:
    """Register the functions with OmegaConf, by the names that `conf/` uses."""
    OmegaConf.register_new_resolver("run_dir", run_dir, use_cache=True, replace=True)
    for resolver in (record_dir, slug, file_name, by_dataset):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)


def run_dir(resume: str | None, root: str) -> str:
    """The directory of the run to resume, else a new one below `root`. Raises `UserError`."""
    if resume is None:
        name = unescape(root).removeprefix(f"{OUTPUTS}/")
        if name in ("", ".", "..") or set(name) & set("/\\\0"):
            raise UserError(f"dataset.name={name}: names the folder of the runs; give a name that is no path")
        return sweep.nameable(Path(new_folder(root)))
    return sweep.nameable(find_run(unescape(resume), "resume", directory.CONFIG, in_folders=False))


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
        parents = sweep.missing_parents(folder)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            n += 1
        else:
            sweep.new_folders[folder.absolute()] = parents
            return str(folder)


def remove_unused_folders() -> None:
    """Remove the new directories in which no run began: they hold only a log of the error that was printed."""
    while sweep.new_folders:
        folder, parents = sweep.new_folders.popitem()
        with suppress(OSError):  # of a parent in which something else has been made, for example
            jobs = [child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]
            if not jobs and not (folder / directory.CONFIG).exists():
                shutil.rmtree(folder)
                for parent in parents:
                    parent.rmdir()


def file_name(path: Any) -> str:
    """The name of a corpus of one's own, from `dataset.path`: `poems` of `texts/poems.txt.gz`, `texts` of `texts/*`."""
    if not path:
        return "file"
    first, *others = split_paths(unescape(path)) or ["file"]
    file = Path(first)
    while any(char in "*?[" for char in file.name) and not file.exists():
        file = file.parent
    words = re.findall(r"\w+", file.name.lstrip(".").split(".")[0])
    return "_".join([*words, *(["and", f"{len(others)}", "more"] if others else [])])[:60] or "file"


def by_dataset(values: DictConfig, *, _root_: DictConfig) -> Any:
    """The value for the chosen corpus, for experiments whose settings depend on the corpus."""
    if (name := _root_.dataset.name) not in values:
        raise UserError(f"dataset={name}: the experiment has no settings for it; choose from {', '.join(values)}")
    return values[name]
