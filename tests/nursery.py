"""A process that has imported what is slow to import, and forks a program of ours whenever a test wants one.

Importing torch, TensorBoard and matplotlib takes seconds, which most tests need not pay again. A fork is a real
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

ROOT = Path(__file__).parents[1]

# A process that has imported what takes seconds, though nothing of microgpt. Each line of its input begins a program
# in a fork of it, or asks whether one has ended. The fork sets up what a fresh Python has, leaves the loop, and ends as
# any program does.
NURSERY = """
import gc, importlib, json, os, runpy, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
gc.freeze()
tell = os.dup(1)
for line in sys.stdin:
    asked = json.loads(line)
    if "argv" in asked:
        if (child := os.fork()) == 0:
            break
        answer = child
    else:
        child, status = os.waitpid(asked["pid"], os.WNOHANG)
        answer = os.waitstatus_to_exitcode(status) if child else None
    os.write(tell, json.dumps(answer).encode() + b"\\n")
else:
    sys.exit()
os.close(tell)
for number, name in enumerate((os.devnull, asked["out"], asked["err"])):
    file = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
    os.dup2(file, number)
    os.close(file)
os.chdir(asked["cwd"])
os.environ.clear()
os.environ.update(asked["env"])
sys.stdin = open(0)
sys.argv = asked["argv"]
if sys.argv[0] == "-m":
    del sys.argv[0]
    sys.path[0] = os.getcwd()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    sys.path[0] = os.path.dirname(os.path.realpath(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name="__main__")
"""

# What train.py, sample.py and the modules with an entry point of their own import of others.
HEAVY = ["torch", "torch._dynamo", "torch.distributed.fsdp", "torch.utils.tensorboard", "matplotlib.figure"]
HEAVY += ["matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "hydra.main", "hydra.core.plugins"]
HEAVY += ["rich.progress", "rich.table", "jinja2", "optuna", "joblib", "requests", "pooch", "rapidfuzz.process"]


class Child:
    """A program that the nursery has begun: what a Popen would be."""

    def __init__(self, nursery: "Nursery", argv: list[str], folder: Path) -> None:
        self.nursery, self.argv = nursery, argv
        self.returncode: int | None = None
        self.kept = Path(mkdtemp())
        files = {"out": str(self.kept / "out"), "err": str(self.kept / "err")}
        self.pid = nursery.ask({"argv": argv, "cwd": str(folder), "env": dict(os.environ), **files})

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.nursery.ask({"pid": self.pid})
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
        texts = (self.kept / "out").read_text(), (self.kept / "err").read_text()
        shutil.rmtree(self.kept)
        return texts


class Nursery:
    """Begins entry points as processes of their own, which need not import torch again."""

    def __init__(self) -> None:
        # The variable keeps an import that asks for GPUs from starting CUDA, which forks would not survive.
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY, *HEAVY],
            env=os.environ | {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self, folder: Path, *arguments: str) -> Child:
        """Begin `train.py …` or `-m module …` in `folder` with the environment of this moment."""
        first, *rest = arguments
        return Child(self, [str(ROOT / first) if first.endswith(".py") else first, *rest], folder)

    def run(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        child = self.start(folder, *arguments)
        out, error = child.communicate()
        assert child.returncode is not None
        return subprocess.CompletedProcess(child.argv, child.returncode, out, error)

    def ask(self, question: dict[str, Any]) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(question).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
