"""`microgpt.train`, `load` and `sweep`: the runs of the commands, and a process that is left as it was."""

import gc
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import LONG, assert_same_run
from hydra import compose, initialize
from hydra.core.global_hydra import GlobalHydra
from settings import LEAN, QUICK, ROOT, Program

import microgpt
from microgpt import InterruptedRunError, UserError
from microgpt.model.device import flushes_denormals


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_is_that_of_the_same_command_line(program: Program, folder: Path) -> None:
    program("train.py", *QUICK, "seed=3", "model=small", "model.n_embd=16", "hydra.run.dir=command")
    run = microgpt.train(*QUICK, model="small", n_embd=16, seed=3, **{"hydra.run.dir": "here"})
    here, command = folder / "here", folder / "command"
    assert_same_run(here, command)
    assert {path.relative_to(here) for path in here.rglob("*") if "tfevents" not in path.name} == {
        path.relative_to(command) for path in command.rglob("*") if "tfevents" not in path.name
    }
    own = {"seconds": 0, "sessions": []}
    words = shlex.split(run.result["sessions"][0]["command"])
    program(words[1], *[word for word in words[2:] if "run.dir" not in word], "hydra.run.dir=typed")
    assert words[0] == "python" and microgpt.load(folder / "typed").val_loss == run.val_loss, "it can be typed again"
    assert {**run.result, **own} == {**microgpt.load(command).result, **own}
    assert run.folder == folder / "here" and (folder / "here/train.log").is_file()
    expected = [line.partition(" INFO ")[2] for line in (folder / "command/train.log").read_text().splitlines()]
    logged = [line.partition(" INFO ")[2] for line in (folder / "here/train.log").read_text().splitlines()]
    assert len(logged) == len(expected) and logged[:2] == expected[:2]
    assert logged[1] == "colors: " + run.config.dataset.note


def test_settings_are_words_or_keywords(folder: Path) -> None:
    run = microgpt.train(*QUICK, *LEAN, "seed=5", steps=4, sampling={"n_samples": 1, "prompts": ["red ${seed}"[:4]]})
    assert run.folder.parent == folder / "outputs/colors"
    assert (run.config.seed, run.config.train.steps, run.config.sampling.prompts) == (5, 4, ["red "])
    (folder / "mine/optim").mkdir(parents=True)
    (folder / "mine/optim/slow.yaml").write_text("lr: 0.001\n")
    run = microgpt.train(*QUICK, *LEAN, config_dir="mine", optim="slow")
    assert run.config.optim.lr == 0.001


def test_several_runs_in_one_process_are_the_same(folder: Path) -> None:
    runs = [microgpt.train(*QUICK) for _ in range(2)]
    assert len({run.folder for run in runs}) == 2
    assert_same_run(runs[0].folder, runs[1].folder)


def test_a_run_can_be_resumed_for_longer(folder: Path) -> None:
    run = microgpt.train(*QUICK, *LEAN)
    longer = microgpt.train(resume="latest", steps=8)
    assert longer.folder == run.folder and run.result["step"] == 8 and run.status == "finished"


class State:
    """What a notebook may notice of the global state of its process."""

    def __init__(self) -> None:
        self.values = [
            sys.argv[:],
            dict(os.environ),
            [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
            *[self.of_logger(logging.getLogger(name)) for name in ("", "microgpt", "matplotlib", "hydra")],
            logging.raiseExceptions,
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.get_rng_state().tolist(),
            flushes_denormals(),
            GlobalHydra.instance().hydra,
            warnings.filters[:],
            gc.isenabled(),
            gc.get_freeze_count(),
            Path.cwd(),
            sys.stdout,
        ]

    def of_logger(self, logger: logging.Logger) -> list[object]:
        return [logger.handlers[:], logger.level, logger.propagate, logger.disabled]


@pytest.fixture
def user_logs(folder: Path) -> Iterator[Path]:
    """A log of the user's own, in a file that is open."""
    handler = logging.FileHandler(folder / "own.log", mode="w")
    logging.getLogger("own").addHandler(handler)
    yield folder / "own.log"
    logging.getLogger("own").removeHandler(handler)
    handler.close()


@pytest.mark.parametrize("settings", [["train.threads=2"], ["model.n_embd=30"], ["sampling.prompts=[É]"]])
def test_the_process_is_left_as_it_was(settings: list[str], user_logs: Path) -> None:
    torch.manual_seed(11)
    with initialize(None, version_base="1.2"):
        before = State()
        try:
            microgpt.train(*QUICK, *settings)
        except UserError:
            assert settings != ["train.threads=2"]
        assert State().values == before.values
        compose(overrides=["+a=1"])
    GlobalHydra.instance().clear()
    logging.getLogger("own").warning("still written")
    assert user_logs.read_text() == "still written\n"


def test_matplotlib_keeps_its_backend(folder: Path) -> None:
    import matplotlib

    with matplotlib.rc_context({"backend": "svg"}):
        before = dict(matplotlib.rcParams)
        microgpt.train(*QUICK)
        assert matplotlib.rcParams == before


@pytest.mark.parametrize(
    ("words", "keywords", "message"),
    [
        (["model.n_embd=30"], {}, "model.n_embd=30: not divisible by model.n_head=4; try model.n_embd=32"),
        (["dataset=name"], {}, "did you mean dataset=names?"),
        (["--help"], {}, "--help: is an option of the command line; settings are written as key=value"),
        ([], {"resume": "latest"}, "latest: there is no run in outputs/ yet"),
        ([], {"n_embed": 3}, "n_embed: there is no such key; did you mean"),
        ([], {"plot": "live"}, "plot=live"),
    ],
)
def test_a_mistake_is_an_exception_with_one_line_and_leaves_no_files(
    words: list[str], keywords: dict[str, Any], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError) as caught:
        microgpt.train(*words, **keywords)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert capsys.readouterr() == ("", "")
    assert not list(folder.glob("*/*"))


def test_a_bug_is_raised_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microgpt.training.run.load_data", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        microgpt.train(*QUICK)


def interrupt_when(file: str) -> threading.Thread:
    """Send Ctrl-C to this process when a run has written such a file."""

    def wait() -> None:
        deadline = time.monotonic() + 60
        while not list(Path().glob(file)) and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_ctrl_c_keeps_the_run(folder: Path) -> None:
    thread = interrupt_when("outputs/*/*/best.pt")
    message = r"interrupted after step \d+ of 4000; resume it with: python \S*train\.py resume="
    with pytest.raises(InterruptedRunError, match=message):
        microgpt.train(*LONG, *LEAN, steps=4000)
    thread.join()
    run = microgpt.load("latest", "last")
    assert run.status == "interrupted" and 20 <= run.result["step"] < 4000 and run.sample(n=1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_is_trained_in_a_thread_that_cannot_handle_signals(folder: Path) -> None:
    thread = threading.Thread(target=lambda: microgpt.train(*QUICK, *LEAN))
    thread.start()
    thread.join()
    assert microgpt.load().status == "finished"


# -- loading and sweeps --------------------------------------------------------------------------------------


def test_a_run_is_loaded_by_what_run_takes_on_the_command_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = microgpt.train(*QUICK, *LEAN)
    capsys.readouterr()
    for name in ("latest", "colors/latest", "best", "outputs/colors", run.folder):
        assert microgpt.load(name).folder == run.folder
    place = run.folder.relative_to(folder)
    assert capsys.readouterr().err == f"from {place} (colors, val {run.val_loss:.3f})\n" * 4
    with pytest.raises(UserError, match="run=nowhere: not the directory of a run"):
        microgpt.load("nowhere")
    with pytest.raises(UserError, match="checkpoint=first: must be one of best, last"):
        microgpt.load("latest", "first")


def test_a_sweep_is_that_of_the_command(program: Program, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = microgpt.sweep(*QUICK, *LEAN, seed=[1, 2], n_layer=1)
    assert "2 jobs: 2 finished" in capsys.readouterr().out
    (directory,) = (folder / "multirun").iterdir()
    assert sweep.folder == directory
    program("train.py", "-m", "seed=1,2", *QUICK, *LEAN, "hydra.sweep.dir=command")
    for job in ("0-seed1", "1-seed2"):
        assert_same_run(directory / job, folder / "command" / job)
    names = {path.name for path in (folder / "command").iterdir()}
    assert {path.name for path in directory.iterdir()} == names
    assert sweep.best.val_loss == min(run.val_loss or 0 for run in sweep.runs)
    # The same sweep again, and resumed: all is there already.
    again = microgpt.sweep(resume=sweep.folder)
    assert again.best.folder == sweep.best.folder


def test_a_sweep_that_fails_raises_the_message_of_the_command(folder: Path) -> None:
    with pytest.raises(UserError, match=r"dataset=nmes: there is no such dataset.*did you mean dataset=names\?"):
        microgpt.sweep("dataset=colors,nmes", *QUICK)
    assert not list(folder.glob("multirun/*"))
    (folder / "words.txt").write_text("".join(f"{a}{b}\n" for a in "abcd" for b in "efgh"))
    with pytest.raises(UserError, match=r"1 of 2 jobs did not end; resume the sweep with: python \S*train\.py resume="):
        microgpt.sweep(*QUICK, *LEAN, dataset="file", path=["words.txt", "later.txt"])
    (sweep,) = folder.glob("multirun/*")
    assert microgpt.load(sweep).config.dataset.name == "words"
    with pytest.raises(UserError, match=r"not the directory of a sweep; resume a run with microgpt\.train"):
        microgpt.sweep(resume="outputs")
    with pytest.raises(UserError, match=r"resumes a sweep; use microgpt\.sweep"):
        microgpt.train(resume=sweep)


def test_ctrl_c_stops_a_sweep_which_can_be_resumed(folder: Path) -> None:
    thread = interrupt_when("multirun/*/0*/best.pt")
    with pytest.raises(InterruptedRunError, match=r"resume the sweep with: python \S*train\.py resume=multirun/"):
        microgpt.sweep(*LONG, *LEAN, steps=4000, seed=[1, 2])
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# -- importing -----------------------------------------------------------------------------------------------


def test_importing_the_package_imports_nothing() -> None:
    code = "import sys; import microgpt; dir(microgpt); print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not set(run.stdout.split()) & {"torch", "hydra", "omegaconf", "numpy", "matplotlib", "yaml"}
    code = "import sys; from microgpt import Run, Sweep, UserError, load, sweep, train; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout == "False\n"


def test_the_names_of_the_package_are_listed_and_others_refused() -> None:
    assert set(microgpt.__all__) <= set(dir(microgpt))
    assert all(hasattr(microgpt, name) for name in microgpt.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        microgpt.__getattr__("trian")
    assert (ROOT / "microgpt/py.typed").is_file()
