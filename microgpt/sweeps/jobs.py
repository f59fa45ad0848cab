"""The jobs of a sweep, read from their run directories. Any directory that holds runs can be read in the same way."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import yaml

from microgpt.config.free_text import unescape
from microgpt.config.groups import groups
from microgpt.config.schema import flatten
from microgpt.errors import UserError, describe_error
from microgpt.runs import directory
from microgpt.runs.directory import Status
from microgpt.runs.metrics import Series, read_metrics

RECORD = "multirun.yaml"  # in which Hydra records the command line of a sweep
EXCLUDE_KEYS = "hydra.job.config.override_dirname.exclude_keys"  # settings left out of job names

MAX_SLUG_CHARACTERS, MAX_PATH_CHARACTERS = 48, 24  # of the name of a job, and of a path in it

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """A run of a sweep, read from its run directory. What cannot be read is taken as missing; `unreadable` says why."""

    folder: Path
    problems: list[str] = field(default_factory=list, compare=False)  # one line for each file that cannot be read

    def read(self, reader: Callable[[], T], default: T) -> T:
        """What `reader` returns; `default` if it raises an error, which is kept in `problems`."""
        try:
            return reader()
        except (UserError, OSError) as error:
            self.problems.append(describe_error(error))
            return default

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def label(self) -> str:
        """The number of a job in its sweep, 3 for `3-lr0.01`; of any other run its name."""
        match = re.match(r"(?!\d{4}-\d\d-\d\d)(\d+)-", self.name)  # not a date
        return match[1] if match else self.name

    @cached_property
    def result(self) -> dict[str, Any]:
        return self.read(lambda: directory.read_result(self.folder), {})

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config by dotted keys, such as `optim.lr`. If the job never started, the config of Hydra."""
        files = [self.folder / directory.CONFIG, self.folder / ".hydra" / "config.yaml"]
        found = [file for file in files if file.is_file()]
        return self.read(lambda: flatten(unescape(read_yaml_of(found[0], dict))), {}) if found else {}

    @cached_property
    def overrides(self) -> dict[str, str]:
        """The settings on the command line of this job: value by key."""
        file = self.folder / ".hydra" / "overrides.yaml"
        recorded = self.read(lambda: read_yaml_of(file, list), []) if file.is_file() else []
        return dict(key_and_value(str(item)) for item in recorded)

    @cached_property
    def metrics(self) -> Series:
        return self.read(lambda: read_metrics(self.folder), {})

    @cached_property
    def samples(self) -> list[str]:
        file = self.folder / directory.SAMPLES
        if not file.is_file():
            return []
        return self.read(lambda: file.read_text(encoding="utf-8", errors="replace").removesuffix("\n").split("\n"), [])

    @cached_property
    def unreadable(self) -> str:
        """Why files of the job cannot be read; empty if all can."""
        for part in ("result", "config", "overrides", "metrics", "samples"):
            getattr(self, part)
        return "; ".join(self.problems)

    @property
    def dataset(self) -> str:
        return str(self.result.get("dataset") or self.config.get("dataset.name") or "")

    @cached_property
    def status(self) -> Status:
        return Status(self.result.get("status") or Status.RUNNING)

    @property
    def status_text(self) -> str:
        """The status as text; `unfinished` for a job that was killed or is still running."""
        if self.unreadable:
            return "unreadable"
        return "unfinished" if self.status is Status.RUNNING else str(self.status)

    @property
    def error(self) -> str:
        return self.unreadable or self.result.get("error") or ""

    @property
    def val_loss(self) -> float | None:
        """The loss in nats per token on the whole validation split; None until the job has ended."""
        return self.result.get("val_loss")

    def described(self, key: str) -> str | None:
        """`run.name`, `run.tags` or `run.note` in one line; None if it is empty."""
        value = self.config.get(f"run.{key}")
        return ", ".join(map(str, value)) if isinstance(value, list) else " ".join(str(value or "").split()) or None

    @property
    def gain_over_trigram(self) -> float | None:
        """The loss of the trigram baseline minus that of the run, in nats per token; None if one is missing."""
        trigram = (self.result.get("baselines") or {}).get("trigram")
        return None if self.val_loss is None or trigram is None else trigram - self.val_loss

    @property
    def step(self) -> int | None:
        """The last step in the result; for a job that was killed or is still running, the last in its metrics."""
        if self.status is not Status.RUNNING or not self.metrics:
            return self.result.get("step")
        return max(steps[-1] for steps, _ in self.metrics.values())

    @property
    def steps(self) -> int | None:
        """The number of steps that the run should have."""
        steps = self.result.get("steps") or self.config.get("train.steps")
        return steps if isinstance(steps, int) else None

    @property
    def tokens_per_second(self) -> float | None:
        seconds = self.result.get("seconds")
        tokens = self.result.get("tokens")
        return tokens / seconds if seconds and tokens else None

    def line(self) -> str:
        """One line with status, validation loss and time, or with the error."""
        if self.val_loss is None or self.unreadable:
            return f"{self.name}: {self.status_text} {self.error}".strip()
        seconds = self.result.get("seconds") or 0
        return f"{self.name}: {self.status_text}, validation {self.val_loss:.4f} nats per token, {seconds:.0f} s"


def read_yaml_of(path: Path, kind: type) -> Any:
    """The content of a YAML file. Raises `UserError` if it is not of the type `kind`."""
    data = directory.read_yaml(path)
    if not isinstance(data, kind):
        raise UserError(f"{path}: damaged (no {kind.__name__}); restore it")
    return data


def key_and_value(override: str) -> tuple[str, str]:
    """The key of an override as it is recorded, and its value without quotes."""
    key, _, value = unescape(override).partition("=")
    if re.fullmatch(r"(['\"]).*\1", value, re.DOTALL):
        value = re.sub(r"\\(['\"])", r"\1", value[1:-1])
    return key.lstrip("+"), value


def swept_keys(folder: Path) -> list[str]:
    """The settings that the sweep varies to which the run in `folder` belongs; empty if it belongs to none."""
    try:
        overrides = directory.read_yaml(folder.absolute().parent / RECORD)["hydra"]["overrides"]
        keys = [key_and_value(str(override))[0] for override in overrides["task"]]
        (constant,) = [o for o in overrides["hydra"] if o.startswith(f"{EXCLUDE_KEYS}=")] or ["=[]"]
        excluded = yaml.safe_load(constant.partition("=")[2])
        return [key for key in dict.fromkeys(keys) if key not in excluded]
    except (UserError, OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        return []


def slug(overrides: str) -> str:
    """A short name for a job, valid on any file system: `dataset=names,optim.lr=0.01` → `-names-lr0.01`."""
    parts = []
    # At each comma, but not within quotes, [ ] or { }.
    for override in re.findall(r"""(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\[[^]]*\]|\{[^}]*\}|[^,])+""", overrides):
        name, value = key_and_value(override)
        if name == "dataset.path":
            parts.append(short_path(value))
        else:
            # The choice of a group, such as `names`, needs no key. Any other value is shown with the last part of its.
            parts.append(portable(value if name in groups() else name.rpartition(".")[2] + value.lstrip("[{'\"")))
    return "".join(f"-{part}" for part in parts)[:MAX_SLUG_CHARACTERS]


def portable(text: str) -> str:
    """The text with an underscore for each run of characters that a file system may refuse, but at its ends none."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_")


def short_path(path: str) -> str:
    """The end of a path, from as many folders as fit: `/home/me/songs/a.txt` → `home_me_songs_a.txt`."""
    *folders, file = [name for part in Path(path).parts if (name := portable(part))] or [""]
    while folders and len(file) + len(folders[-1]) < MAX_PATH_CHARACTERS:
        file = f"{folders.pop()}_{file}"
    half = MAX_PATH_CHARACTERS // 2
    return file if len(file) <= MAX_PATH_CHARACTERS else f"{file[: half - 1]}_{file[-half:]}"


def read_jobs(folder: Path) -> list[Job]:
    """The jobs in `folder`, in the order of their numbers. Raises `UserError` if there are none."""

    def number(path: Path) -> tuple[int, str]:
        digits = path.name.partition("-")[0]
        return int(digits) if digits.isdecimal() else 0, path.name

    found = sorted((path.parent for path in folder.glob("*/.hydra")), key=number)
    if not found:
        raise UserError(f"{folder}: holds no runs; give the directory of a sweep, multirun/…, or a folder in outputs/")
    return [Job(path) for path in found]


def best_first(jobs: Sequence[Job]) -> list[Job]:
    """The jobs sorted by validation loss, lowest first; jobs without one are last."""
    return sorted(jobs, key=lambda job: float("inf") if job.val_loss is None else job.val_loss)


def varied_overrides(jobs: Sequence[Job]) -> list[str]:
    """The keys on the command line in which the jobs differ, except `dataset` and `run.`, which have own columns."""
    own = ("dataset", "resume", "run.name", "run.tags", "run.note")
    keys = dict.fromkeys(key for job in jobs for key in job.overrides if key not in own)
    return [key for key in keys if len({job.overrides.get(key) for job in jobs}) > 1]


def varied_settings(jobs: Sequence[Job]) -> list[str]:
    """The keys in which the resolved configs of the jobs differ, with those that a recipe of a corpus sets."""
    keys = dict.fromkeys(key for job in jobs for key in job.config if not key.startswith(("dataset.", "run.")))
    return [key for key in keys if len({str(job.config.get(key)) for job in jobs if job.config}) > 1]
