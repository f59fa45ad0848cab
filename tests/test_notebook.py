"""Runs and sweeps as objects: the same as their files and commands say, and at home in a notebook's kernel."""

import csv
import json
import os
import queue
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import make_job
from settings import LEAN, QUICK, ROOT, Program, Trained

from microgpt import Run, Sweep, UserError
from microgpt.plots.inline import InlineFigure


def test_a_run_is_what_its_files_say(trained: Trained) -> None:
    folder = trained(*QUICK)
    run, result = Run(folder), json.loads((folder / "result.json").read_text())
    assert run.result == result and (run.val_loss, run.val_bpc) == (result["val_loss"], result["val_bpc"])
    assert run.status == "finished" and run.config.model.n_embd == 16
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [(int(row["step"]), float(row["val/loss"])) for row in csv.DictReader(file) if row["val/loss"]]
    assert list(zip(*run.metrics["val/loss"], strict=True)) == rows and len(rows) == 2
    assert "\n".join(run.samples) == (folder / "samples.txt").read_text().rstrip("\n")
    assert repr(run).endswith(f"run (colors, val {run.val_loss:.3f}))") and repr(run).startswith("Run(")
    (folder / "result.json").unlink()
    (folder / "samples.txt").unlink()
    assert (run.status, run.val_loss, run.samples) == ("running", None, [])
    assert run._repr_html_() and isinstance(run.plot(), InlineFigure)


def test_samples_are_those_of_the_command(trained: Trained, program: Program) -> None:
    run = Run(trained(*QUICK))
    assert "\n".join(run.sample()) + "\n" == program("sample.py", "run=run").stdout
    words = ["prompt=dark ", "sampling.n_samples=3", "sampling.temperature=0.5", "sampling.top_k=5", "seed=4"]
    expected = program("sample.py", "run=run", *words).stdout.splitlines()
    assert run.sample("dark ", n=3, temperature=0.5, top_k=5, seed=4) == expected
    assert len(run.sample("dark ", 1, max_tokens=2)[0]) <= len("dark ") + 2


def test_a_mistake_in_sampling_is_one_line(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(trained(*QUICK))
    with pytest.raises(UserError, match="prompt='É': the corpus holds no 'É'"):
        run.sample("É")
    with pytest.raises(UserError, match=r"temperature=-1.*: must be at least 0"):
        run.sample(temperature=-1)
    with pytest.raises(UserError, match="text='É': the corpus holds no 'É'"):
        run.explain("É")
    assert run.sample("Dark ", n=1) == run.sample("dark ", n=1)
    assert capsys.readouterr().err.startswith("note: the prompt 'Dark ' is read as 'dark '")


def test_model_and_tokenizer_are_those_of_the_checkpoint(trained: Trained) -> None:
    run = Run(trained(*QUICK), "last", "cpu")
    idx = torch.tensor([[run.tokenizer.bos, *run.tokenizer.encode("red")]])
    logits = run.model(idx)
    assert logits.shape == (1, 4, run.tokenizer.vocab_size) and not run.model.training
    explanation = run.explain("red")
    logprobs = logits[0].log_softmax(-1)
    bits = [-logprobs[i, token].item() / torch.tensor(2.0).log().item() for i, token in enumerate(idx[0, 1:])]
    assert explanation.bits[:3] == pytest.approx(bits, rel=1e-4) and len(explanation.bits) == 4
    html = explanation._repr_html_()
    assert html.count("<td") == 4 and explanation.summary() in html and explanation.summary() in repr(explanation)


def test_what_a_notebook_shows_is_escaped(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "tags.txt").write_text("".join(f"<b>{a}{b}&\n" for a in "abcd" for b in "xyz"))
    folder = trained("dataset=file", f"dataset.path={tmp_path / 'tags.txt'}", *QUICK)
    (folder / "samples.txt").write_text("<script>\n")
    run = Run(folder)
    assert "<script>" not in run._repr_html_() and "&lt;script&gt;" in run._repr_html_()
    assert "<b>" not in run.explain("<b>")._repr_html_()


def test_a_sweep_is_what_its_summary_says(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    make_job(folder / "0-names-lr1", {"dataset": "names", "optim.lr": 1}, val_loss=2.5)
    make_job(folder / "1-names-lr2", {"dataset": "names", "optim.lr": 2}, val_loss=2.0)
    make_job(folder / "2-cities-lr1", {"dataset": "cities", "optim.lr": 1}, val_loss=1.0)
    make_job(folder / "3-cities-lr2", {"dataset": "cities", "optim.lr": 2}, status="failed", error="<no>")
    sweep = Sweep(folder)
    assert [run.folder.name[0] for run in sweep.runs] == ["2", "1", "0", "3"] and sweep.best.folder.name[0] == "2"
    assert {name: run.folder.name for name, run in sweep.best_of_each.items()} == {
        "names": "1-names-lr2",
        "cities": "2-cities-lr1",
    }
    assert [row["val_loss"] for row in sweep.table] == [1.0, 2.0, 2.5, None]
    assert repr(sweep).endswith("sweep: 4 jobs: 3 finished, 1 failed)")
    assert sweep._repr_html_().count("<tr>") == 5 and isinstance(sweep.plot(), InlineFigure)
    for name in ("0-names-lr1", "1-names-lr2", "2-cities-lr1"):
        shutil.rmtree(folder / name)
    with pytest.raises(UserError, match="no run is complete yet"):
        _ = Sweep(folder).best
    with pytest.raises(UserError, match="holds no runs"):
        Sweep(tmp_path / "nowhere")


# -- in a kernel ---------------------------------------------------------------------------------------------

Execute = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A kernel in an empty folder that has imported microgpt, and a client of it."""
    pytest.importorskip("ipykernel")
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(
        cwd=str(tmp_path_factory.mktemp("kernel")), env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    run_cell((manager, client), "import microgpt")  # each worker has a kernel of its own, and some of the tests
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def run_cell(kernel: Any, code: str, at_output: Callable[[dict[str, Any]], None] = lambda content: None) -> list[Any]:
    """The messages (type, content) that a cell makes a notebook show; `at_output` is called with each."""
    _, client = kernel
    request = client.execute(code)
    messages = []
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            message = client.get_iopub_msg(timeout=5)
        except queue.Empty:
            continue
        if message["parent_header"].get("msg_id") != request:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "status" and content["execution_state"] == "idle":
            return messages
        if kind not in ("status", "execute_input"):
            messages.append((kind, content))
            at_output(content)
    raise TimeoutError(code)


def printed(messages: list[Any]) -> str:
    return "".join(content["text"] for kind, content in messages if kind == "stream")


def test_a_cell_shows_a_bar_figures_and_errors_in_one_line(kernel: Any) -> None:
    messages = run_cell(kernel, f"run = microgpt.train(*{[*QUICK, *LEAN]})\nrun")
    bars = [content["data"]["text/html"] for kind, content in messages if "display_data" in kind]
    assert len(bars) >= 2 and "step 0/6" in bars[0] and "step 6/6" in bars[-1] and "<progress" in bars[-1]
    assert "finished after" in printed(messages) and "\r" not in printed(messages)
    (html,) = [content["data"]["text/html"] for kind, content in messages if kind == "execute_result"]
    assert "validation loss" in html
    ((_, content),) = run_cell(kernel, "run.plot()")
    assert set(content["data"]) == {"text/plain", "image/png"}
    ((_, content),) = run_cell(kernel, "run.explain('red')")
    assert "bits" in content["data"]["text/html"]
    ((kind, content),) = run_cell(kernel, "microgpt.train(n_embd=30)")
    assert kind == "error" and content["ename"] == "UserError"
    assert content["traceback"] == [f"UserError: {content['evalue']}"] and "not divisible" in content["evalue"]


def test_the_stop_button_keeps_the_run_and_the_kernel(kernel: Any) -> None:
    manager, _ = kernel
    pressed: list[bool] = []

    def press(content: dict[str, Any]) -> None:
        if "step" in content.get("text", "") and not pressed:
            pressed.append(True)
            manager.interrupt_kernel()

    messages = run_cell(kernel, f"microgpt.train(*{[*QUICK, *LEAN]}, steps=100_000, val_every=100)", press)
    kind, content = messages[-1]
    assert kind == "error" and content["ename"] == "InterruptedRunError"
    assert "interrupted after step" in content["evalue"]
    messages = run_cell(kernel, "microgpt.load('latest', 'last').status")
    assert messages[-1][1]["data"]["text/plain"] == "'interrupted'"


def test_the_command_works_in_a_cell(kernel: Any) -> None:
    words = " ".join([*QUICK, "hydra.run.dir=command"])
    command = f"!{{sys.executable}} -m microgpt train {words}"
    messages = run_cell(kernel, f"import os, sys\nprint(os.environ['MPLBACKEND'])\n{command}")
    assert "matplotlib_inline" in printed(messages) and "loss.png" in printed(messages)
    assert "Traceback" not in printed(messages)
