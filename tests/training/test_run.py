"""A run in its directory: the files it writes, and that a stopped run can always be resumed."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch
from fork_server import ForkServer
from helpers import LONG, assert_same_run, make_trainer, read_rows, wait_for
from settings import QUICK, ROOT, Program, Trained
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from microgpt.config.schema import Config, DatasetConfig, InsightConfig, ModelConfig, TrainConfig
from microgpt.runs import checkpoint
from microgpt.runs.callback import Callback, Progress
from microgpt.runs.directory import Status
from microgpt.runs.metrics import read_metrics
from microgpt.runs.opening import open_run
from microgpt.training.run import run_training
from microgpt.training.signals import stop_at_signals


def test_a_run_writes_every_file_with_its_content(fresh: Program, tmp_path: Path) -> None:
    fresh("train.py", "hydra.run.dir=run", *QUICK)
    run = tmp_path / "run"
    names = {file.name for file in run.iterdir()}
    assert names >= {
        "config.yaml",
        "ckpt.pt",
        "best.pt",
        "metrics.csv",
        "loss.png",
        "samples.txt",
        "train.log",
    }
    result = json.loads((run / "result.json").read_text())
    assert result["status"] == "finished"
    assert result["step"] == result["steps"] == 6
    assert result["val_loss"] > 0 and result["val_tokens"] > 1000
    assert [row["step"] for row in read_rows(run)] == ["2", "3", "4", "6"]
    assert len((run / "samples.txt").read_text().splitlines()) == 2
    assert not [name for name in names if name.endswith(".partial")]


def test_tensorboard_shows_a_resumed_run_as_one_with_all_its_metrics(
    program: Program, trained: Trained, tmp_path: Path
) -> None:
    trained(*QUICK, at="logs/run")
    program("train.py", "resume=logs/run", "train.steps=9")
    shown = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "logs"))
    shown.Reload()
    assert list(shown.Runs()) == ["run"]
    events = shown.GetAccumulator("run")
    assert [event.step for event in events.Scalars("val/loss")] == [3, 6, 9]
    tags = set(events.Tags()["scalars"])
    assert tags >= {"train/loss", "train/loss_ema", "val/loss", "val/bpc", "optim/lr", "optim/grad_norm"}
    assert "samples/text_summary" in events.Tags()["tensors"]


NGRAM = ["model=ngram", "model.ngram_rows=500", "model.dropout=0.1"]


@pytest.mark.parametrize("data", [["dataset=colors"], ["dataset=python_docs", "train.val_tokens=2000", *NGRAM]])
def test_a_killed_and_resumed_run_has_exactly_the_losses_of_an_uninterrupted_one(
    data: list[str], program: Program, fork_server: ForkServer, tmp_path: Path
) -> None:
    arguments = [*data, *LONG, "train.steps=200"]
    program("train.py", "hydra.run.dir=uninterrupted", *arguments)
    process = fork_server.start(tmp_path, "train.py", "hydra.run.dir=run", *arguments)
    run = tmp_path / "run"
    wait_for((run / "ckpt.pt").exists, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert json.loads((run / "result.json").read_text())["status"] == "running"
    assert checkpoint.load(run / "ckpt.pt")["progress"]["step"] < 200
    program("train.py", "resume=run")
    assert_same_run(run, tmp_path / "uninterrupted")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_after_a_step_and_says_how_to_resume_it(
    number: signal.Signals, program: Program, fork_server: ForkServer, trained: Trained, tmp_path: Path
) -> None:
    process = fork_server.start(tmp_path, "train.py", *LONG, "train.steps=700", "train.val_every=700")
    files: list[Path] = []

    def logged() -> bool:
        files[:] = tmp_path.glob("outputs/colors/*/train.log")
        return bool(files) and "210/700" in files[0].read_text()

    wait_for(logged, process)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    run = files[0].parent
    state = checkpoint.load(run / "ckpt.pt")
    step = state["progress"]["step"]
    assert process.returncode == 130
    assert 210 <= step < 700
    last = error.strip().splitlines()[-1]
    assert last.endswith(f"resume it with: python {ROOT / 'train.py'} resume={run.relative_to(tmp_path)}")
    assert json.loads((run / "result.json").read_text())["status"] == "interrupted"
    program("train.py", f"resume={run}")
    assert_same_run(run, trained(*LONG, "train.steps=700", "train.val_every=700", at="uninterrupted"))


def test_a_run_killed_before_its_first_checkpoint_is_resumed_from_step_0(
    program: Program, fork_server: ForkServer, tmp_path: Path
) -> None:
    program("train.py", "hydra.run.dir=uninterrupted", *LONG, "train.steps=60", "train.val_every=60")
    process = fork_server.start(
        tmp_path, "train.py", "hydra.run.dir=run", *LONG, "train.steps=60", "train.val_every=60"
    )
    wait_for((tmp_path / "run/result.json").exists, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "run/ckpt.pt").exists()
    program("train.py", "resume=run")
    assert_same_run(tmp_path / "run", tmp_path / "uninterrupted")


def test_resuming_a_run_killed_after_its_last_step_writes_its_result(
    program: Program, trained: Trained, tmp_path: Path
) -> None:
    trained(*QUICK)
    expected = (tmp_path / "run/samples.txt").read_text()
    result = json.loads((tmp_path / "run/result.json").read_text())
    (tmp_path / "run/samples.txt").unlink()
    (tmp_path / "run/result.json").write_text(json.dumps({"status": "running"}))
    program("train.py", "resume=run")
    assert (tmp_path / "run/samples.txt").read_text() == expected
    assert json.loads((tmp_path / "run/result.json").read_text())["val_loss"] == result["val_loss"]


def test_more_steps_extend_a_finished_run(program: Program, trained: Trained, tmp_path: Path) -> None:
    trained(*QUICK, at="outputs/x/run")
    done = program("train.py", "resume=latest")
    assert "is complete, at step 6; train it longer with a larger train.steps" in done.stdout
    program("train.py", "resume=latest", "train.steps=10")
    assert [row["step"] for row in read_rows(tmp_path / "outputs/x/run")][-1] == "10"
    assert "steps: 10" in (tmp_path / "outputs/x/run/config.yaml").read_text()


def test_resuming_does_not_read_conf(program: Program, tmp_path: Path) -> None:
    """The settings are those of the run's own config: the files in conf/ may have changed since."""
    program("train.py", "hydra.run.dir=run", *QUICK, "optim.lr=0.0123")
    program("train.py", "resume=run", "train.steps=8")
    assert "lr: 0.0123" in (tmp_path / "run/config.yaml").read_text()


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("model.n_embd=32", "model.n_embd=16, which cannot change"),
        ("seed=1", "seed=1337, which cannot change"),
        ("dataset=names", "keeps its own dataset"),
        ("+model.n_embed=3", "did you mean model.n_embd"),
    ],
)
def test_a_setting_that_identifies_a_run_cannot_change_when_it_is_resumed(
    argument: str, words: str, program: Program, trained: Trained, tmp_path: Path
) -> None:
    trained(*QUICK)
    before = (tmp_path / "run/config.yaml").read_text()
    done = program("train.py", "resume=run", argument, status=2)
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (tmp_path / "run/config.yaml").read_text() == before


def test_the_directory_of_another_run_is_refused(program: Program, trained: Trained, tmp_path: Path) -> None:
    trained(*QUICK)
    before = (tmp_path / "run/ckpt.pt").read_bytes()
    done = program("train.py", "hydra.run.dir=run", *QUICK, "model.n_embd=32", status=2)
    assert "holds another run" in done.stderr
    assert (tmp_path / "run/ckpt.pt").read_bytes() == before


def test_a_run_is_not_resumed_on_a_changed_corpus(program: Program, names_file: Path) -> None:
    program("train.py", "hydra.run.dir=run", *QUICK, "dataset=file", f"dataset.path={names_file}")
    names_file.write_text(names_file.read_text() + "more\n")
    done = program("train.py", "resume=run", "train.steps=9", status=2)
    assert "the corpus is not the one" in done.stderr


def test_a_run_is_resumed_where_its_corpus_has_moved(
    program: Program, names_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("train.py", "hydra.run.dir=run", *QUICK, "dataset=file", f"dataset.path={names_file}")
    moved = names_file.rename(tmp_path / "moved.txt")
    assert "no such file" in program("train.py", "resume=run", "train.steps=9", status=2).stderr
    out = program("train.py", "resume=run", "train.steps=9", "dataset.path=moved.txt").stdout
    assert "resumed from step 6" in out and "path: moved.txt" in (tmp_path / "run/config.yaml").read_text()
    monkeypatch.chdir(tmp_path)
    best = open_run(tmp_path / "run", "best", torch.device("cpu"))
    best.config.dataset.path = str(names_file)  # as if it had been saved before the corpus was moved
    assert best.load_data("run").corpus.n_documents == 40
    moved.write_text(moved.read_text() + "more\n")
    assert "the corpus is not the one" in program("train.py", "resume=run", "train.steps=12", status=2).stderr


def test_the_same_seed_gives_the_same_losses(
    program: Program, fresh: Program, trained: Trained, tmp_path: Path
) -> None:
    trained(*QUICK, at="a")
    fresh("train.py", "hydra.run.dir=b", *QUICK)  # with another order of sets, and other numbers of `random`
    assert_same_run(tmp_path / "a", tmp_path / "b")
    program("train.py", "hydra.run.dir=c", *QUICK, "seed=2")
    assert read_rows(tmp_path / "a") != read_rows(tmp_path / "c")


def test_a_callback_can_end_a_run_that_can_then_be_resumed(names_file: Path, tmp_path: Path) -> None:
    """The ended run has a checkpoint but no samples."""

    class Prune(Callback):
        def after_validation(self, progress: Progress, is_best: bool) -> Status:
            return Status.PRUNED

    config = Config(
        dataset=DatasetConfig(name="file", path=str(names_file)),
        model=ModelConfig(n_embd=8, n_layer=1, n_head=2, block_size=8),
        train=TrainConfig(steps=6, batch_size=4, val_every=3),
        insight=InsightConfig(baselines=False, novelty=0),
    )
    folder = tmp_path / "run"
    folder.mkdir()
    run_training(config, folder, callbacks=[Prune()])
    assert json.loads((folder / "result.json").read_text())["status"] == "pruned"
    assert checkpoint.load(folder / "ckpt.pt")["progress"]["step"] == 3
    assert not (folder / "samples.txt").exists()
    run_training(config, folder)
    assert json.loads((folder / "result.json").read_text())["status"] == "finished"
    assert [row["step"] for row in read_rows(folder)] == ["3", "6"]


def test_a_run_that_diverges_prints_an_error_and_has_the_status_failed(program: Program, tmp_path: Path) -> None:
    wild = ["optim.name=adam", "optim.lr=1000", "optim.clip_grad=0", "train.steps=50"]
    done = program("train.py", "hydra.run.dir=run", *QUICK, *wild, status=2)
    assert "diverged" in done.stderr and "optim.lr" in done.stderr
    assert json.loads((tmp_path / "run/result.json").read_text())["status"] == "failed"


def test_a_run_of_the_previous_version_is_read_and_resumed(program: Program, tmp_path: Path) -> None:
    """`old_run` was made by commit 692a4b5, before the library was rearranged; its figures and logs were deleted.

    python train.py dataset=colors model.n_embd=8 model.n_layer=1 model.n_head=2 model.block_size=16 train.steps=6
    train.val_every=3 train.log_every=2 train.batch_size=4 sampling.n_samples=2 sampling.max_tokens=12
    """
    run = shutil.copytree(ROOT / "tests/old_run", tmp_path / "run")
    texts = [line.partition("  [")[0] for line in (run / "samples.txt").read_text().splitlines()]
    opened = open_run(run, "best", torch.device("cpu"))
    assert opened.generator.generate(opened.config.sampling, opened.config.seed) == texts
    assert opened.load_data("run").corpus.name == "colors"
    assert program("sample.py", "run=run").stdout.splitlines() == texts
    before = read_metrics(run)
    program("train.py", "resume=run", "train.steps=9")
    after = read_metrics(run)
    assert after["train/loss"][0] == [2, 3, 4, 6, 8, 9] and after["val/loss"][0] == [3, 6, 9]
    for name, (steps, values) in before.items():
        assert (after[name][0][: len(steps)], after[name][1][: len(steps)]) == (steps, values)
    assert all(min(after[name][0]) > 6 for name in after.keys() - before.keys())
    result = json.loads((run / "result.json").read_text())
    assert (result["status"], result["step"]) == ("finished", 9)
    assert len((run / "samples.txt").read_text().splitlines()) == 2


def test_a_run_with_n_gram_embeddings_is_sampled_and_explained(program: Program, trained: Trained) -> None:
    run, _ = trained(*QUICK, *NGRAM), trained(*QUICK, at="plain")
    model = open_run(run, "best", torch.device("cpu")).generator.model
    assert model.ngram_embedding is not None and model.ngram_embedding.weight.shape[0] == 4 * 500
    samples = program("sample.py", "run=run", "prompt=bl", "sampling.n_samples=3").stdout
    assert samples == program("sample.py", "run=run", "prompt=bl", "sampling.n_samples=3").stdout
    explained = program("-m", "microgpt", "explain", "run=run", "text=blue").stdout
    compared = program("-m", "microgpt", "compare", "runs=[run,plain]", "text=blue").stdout
    (bits,) = re.findall(r"([\d.]+) bits in all", explained)
    assert bits in compared


def test_a_second_ctrl_c_does_what_it_did_before() -> None:
    trainer, handler = make_trainer(), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stop_at_signals(trainer):
        os.kill(os.getpid(), signal.SIGINT)
        assert trainer.stop_requested
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is handler
