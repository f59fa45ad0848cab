"""A process that has imported what is slow to import, and forks whenever a test needs one of our programs.

Importing torch, TensorBoard and matplotlib takes seconds; most tests need not wait for it again. A fork is a real
process: exit status, signals and output are those of the program.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from settings import ROOT

# The server imports what takes seconds, and of microgpt only what it is told to. Each line of its input starts a
# program in a fork of it, or asks whether one has ended. The fork sets up what a new Python has, leaves the loop, and
# ends as any program does, but does not free the modules one by one, which takes a quarter of a second.
SERVER = """
import atexit, gc, importlib, json, os, runpy, sys, threading
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
gc.freeze()
answers = os.dup(1)
for line in sys.stdin:
    request = json.loads(line)
    if "argv" in request:
        if (pid := os.fork()) == 0:
            break
        answer = pid
    else:
        pid, status = os.waitpid(request["pid"], os.WNOHANG)
        answer = os.waitstatus_to_exitcode(status) if pid else None
    os.write(answers, json.dumps(answer).encode() + b"\\n")
else:
    sys.exit()
os.close(answers)
for number, name in enumerate((os.devnull, request["out"], request["err"])):
    file = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
    os.dup2(file, number)
    os.close(file)
if request["memory"] and os.path.exists("/proc/self/statm"):
    import resource
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (used + request["memory"],) * 2)
os.chdir(request["cwd"])
os.environ.clear()
os.environ.update(request["env"])
if request["kill_at"] is not None:
    sys.path.append(request["tests"])
    import faults
    kill = faults.KillAt(request["kill_at"]) if request["kill_at"] >= 0 else faults.Count(os.open("operations", 577))
    faults.install(request["cwd"], kill)
if "PYTHONIOENCODING" in os.environ:
    sys.stdout.reconfigure(encoding=os.environ["PYTHONIOENCODING"])
sys.stdin = open(0)
sys.argv = request["argv"]
status = 0
try:
    if sys.argv[0] == "-m":
        del sys.argv[0]
        sys.path[0] = os.getcwd()
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(os.path.realpath(sys.argv[0]))
        runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    if isinstance(end.code, str):
        raise
    status = end.code or 0
threading._shutdown()
atexit._run_exitfuncs()
sys.stdout.flush()
sys.stderr.flush()
os._exit(status)
"""

# What train.py, sample.py and the modules with an entry point of their own import of other packages.
HEAVY = ["torch", "torch._dynamo", "torch.distributed.fsdp", "tensorboard.compat.proto.event_pb2", "matplotlib.figure"]
HEAVY += ["matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "hydra.main", "hydra.core.plugins"]
HEAVY += ["rich.progress", "rich.table", "jinja2", "optuna", "joblib", "requests", "rapidfuzz.process"]


class Process:
    """A program that the server has started, with the methods of a Popen."""

    def __init__(
        self,
        server: "ForkServer",
        argv: list[str],
        folder: Path,
        memory: int | None = None,
        kill_at: int | None = None,
    ) -> None:
        self.server, self.argv = server, argv
        self.returncode: int | None = None
        self.folder = Path(mkdtemp())
        files = {"out": str(self.folder / "out"), "err": str(self.folder / "err")}
        request = {"argv": argv, "cwd": str(folder), "env": dict(os.environ), "memory": memory, **files}
        self.pid = server.request({**request, "kill_at": kill_at, "tests": str(Path(__file__).parent)})

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.server.request({"pid": self.pid})
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for the end, and return what was written to stdout and stderr."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.send_signal(signal.SIGKILL)
                raise subprocess.TimeoutExpired(self.argv, timeout)
            time.sleep(0.01)
        texts = (self.folder / "out").read_text(), (self.folder / "err").read_text()
        shutil.rmtree(self.folder)
        return texts


class ForkServer:
    """Starts entry points as separate processes, which need not import torch again, nor the modules `preloaded`.

    What a module does when it is imported is then done once for all programs.
    """

    def __init__(self, *preloaded: str) -> None:
        # The variable keeps an import that looks for GPUs from starting CUDA, which does not work after a fork.
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, *HEAVY, *preloaded],
            env=os.environ | {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self, folder: Path, *arguments: str, memory: int | None = None, kill_at: int | None = None) -> Process:
        """Start `train.py …` or `-m module …` in `folder`, with the current environment.

        On Linux the process may take `memory` bytes more than the server; beyond them it gets a `MemoryError`. It is
        killed at its `kill_at`-th operation on a file in `folder` (`faults.KillAt`); with -1 it notes them all in the
        file `operations`.
        """
        first, *rest = arguments
        return Process(self, [str(ROOT / first) if first.endswith(".py") else first, *rest], folder, memory, kill_at)

    def run(
        self, folder: Path, *arguments: str, memory: int | None = None, kill_at: int | None = None
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(folder, *arguments, memory=memory, kill_at=kill_at)
        out, error = process.communicate()
        assert process.returncode is not None
        return subprocess.CompletedProcess(process.argv, process.returncode, out, error)

    def request(self, message: dict[str, Any]) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
