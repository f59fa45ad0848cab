"""The record of a run: which code, machine and command made it, for `result.json` and the head of `config.yaml`.

A session is one process that trains or resumes the run. A run that was resumed elsewhere, or by other code, has the
facts of each of its sessions.
"""

import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch

import microgpt
from microgpt.config.groups import CONF, PACKAGE
from microgpt.config.schema import Config, RunConfig
from microgpt.errors import UserError
from microgpt.model.memory import format_bytes
from microgpt.model.throughput import flops_per_token, peak_flops
from microgpt.model.transformer import GPT
from microgpt.runs.directory import Status, read_result

GIT_SECONDS = 10  # after which git is not waited for

Session = dict[str, Any]  # the facts of a session, as in `result.json`


class Record:
    """The record of the run in `folder`, to which this process adds a session.

    `corpus` is the fingerprint of the corpus (the start of a SHA-256), and `command` what was typed; None if no command
    started this session. The peak of the memory is measured from here on.
    """

    def __init__(
        self, config: Config, folder: Path, corpus: str, device: torch.device, command: str | None, processes: int = 1
    ) -> None:
        self.run, self.corpus, self.device = asdict(config.run), corpus, device
        self.session: Session = {
            "started": now(),
            "ended": None,
            "command": command,
            "microgpt": microgpt.__version__,
            **dict(zip(("commit", "clean"), git_state(), strict=True)),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "processor": processor_name(),
            "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "processes": processes,
        }
        self.sessions = [*earlier_sessions(folder), self.session]
        reset_peaks(device)

    def values(self, status: Status) -> dict[str, Any]:
        """What `result.json` holds of the record when the run has this status."""
        self.session |= peaks(self.device)
        self.session["ended"] = None if status in (Status.RUNNING, Status.REPORTING) else now()
        return {"run": self.run, "corpus": self.corpus, "sessions": self.sessions}

    def add_throughput(self, model: GPT, tokens_per_second: float, precision: str) -> str:
        """Add how well training at this speed uses the machine; returns this and the peak of the memory as a sentence.

        The peak of a process is measured now, and taken for each of them.
        """
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        used = flops_per_token(model) * tokens_per_second
        peak = self.session["processes"] * peak_flops(self.device, dtype, torch.get_num_threads())
        self.session |= {"flops_per_second": used, "peak_flops_per_second": peak, "share_of_peak": used / peak}
        memory = peaks(self.device)
        return (
            f"{used / 1e9:.3g} GFLOP/s, {used / peak:.1%} of a large matrix product ({peak / 1e9:,.0f} GFLOP/s here);"
            f" peak memory {format_bytes(memory['gpu_peak_memory'] or memory['peak_memory'])}"
        )

    def heading(self) -> str:
        """The first session as comments of YAML, with all that repeating the run needs."""
        first = self.sessions[0]
        state = " (with changes that are not committed)" if first.get("clean") is False else ""
        lines = [
            f"Made by microgpt {first.get('microgpt')}, commit {first.get('commit') or 'unknown'}{state},",
            f"with Python {first.get('python')} and torch {first.get('torch')}, on the corpus {self.corpus},",
            f"on {first.get('gpu') or first.get('processor')}, {first.get('threads')} threads.",
            *str(first.get("command") or "").splitlines(),
        ]
        return "".join(f"# {printable(line)}\n" for line in lines)


def name_and_note(run: RunConfig) -> str:
    """The name, the tags and the note of a run in one line: `wide [sweep, n_embd]: a try`. Empty if it has none."""
    tags = f"[{', '.join(run.tags)}]" if run.tags else ""
    return ": ".join(filter(None, (" ".join(filter(None, (run.name, tags))), " ".join(run.note.split()))))


def printable(text: str) -> str:
    """The text with an escape sequence for each character that YAML refuses."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def earlier_sessions(folder: Path) -> list[Session]:
    """The sessions in the `result.json` of the run; none if it is damaged or missing."""
    try:
        return read_result(folder).get("sessions") or []
    except UserError:
        return []


def now() -> str:
    """The local time with its offset from UTC: `2026-01-31T12:00:00+01:00`."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


@cache
def git_state(package: Path = PACKAGE, conf: Path = CONF) -> tuple[str | None, bool | None]:
    """The commit of the checkout that holds the package, and whether package and settings are as committed.

    (None, None) where there is no git, and for an installed package, also if its environment lies in a checkout.
    """

    def git(*words: str) -> str:
        command = ["git", "-C", str(package), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_SECONDS)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD"), not git("status", "--porcelain", "--", str(package), str(conf))
    except (OSError, subprocess.SubprocessError):
        return None, None


@cache
def processor_name() -> str:
    """The name of the CPU, as its maker gives it."""
    with suppress(OSError, subprocess.SubprocessError):
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
        if found := re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return found[1]
    return platform.processor() or platform.machine()


def reset_peaks(device: torch.device) -> None:
    """Measure peaks from now on: the jobs of a sweep share a process. On macOS and Windows that of a process stays."""
    if sys.platform == "linux":
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # man proc_pid_clear_refs
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peaks(device: torch.device) -> Session:
    """The peak of the memory of this process, and of its tensors on the GPU, in bytes."""
    on_gpu = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {"peak_memory": peak_memory(), "gpu_peak_memory": on_gpu}


def peak_memory() -> int:
    """The most memory that this process has had, on Linux since `reset_peaks`, in bytes."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    with suppress(OSError):  # the resource usage below has a peak that cannot be reset
        if found := re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE):
            return 1024 * int(found[1])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # kilobytes, but on macOS bytes
