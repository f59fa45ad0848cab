"""gpt.py as a program: what it prints and writes, that it stops and resumes, and what it says about mistakes."""

import json
import math
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from settings import ROOT

from microgpt import gpt
from microgpt.training.trainer import EMA_DECAY

PROGRAM = str(ROOT / "microgpt" / "gpt.py")
SMALL = ["--n_embd", "4", "--n_head", "2", "--block_size", "8"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "words.txt").write_text("\n".join(f"{a}{b}{c}" for a in "kmnt" for b in "aeiou" for c in ("ra", "lin")))
    return tmp_path


def run_gpt(folder: Path, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, PROGRAM, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def saved(folder: Path) -> dict[str, Any]:
    (file,) = folder.glob("outputs/gpt/*/ckpt.json")
    return json.loads(file.read_text())


def test_every_step_prints_loss_and_ema_and_every_hundredth_a_validation(corpus: Path) -> None:
    out = run_gpt(corpus, "--data", "words.txt", "--steps", "250", *SMALL).stdout
    found = re.findall(r"^step +(\d+)/250  loss (\S+)  EMA (\S+)(?:  val (\S+)  (\S+))?$", out, re.MULTILINE)
    assert [int(step) for step, *_ in found] == list(range(1, 251))
    assert [int(step) for step, _, _, val, _ in found if val] == [100, 200, 250]
    ema = float(found[0][1])
    for _, loss, shown, _, _ in found[1:]:
        ema = EMA_DECAY * ema + (1 - EMA_DECAY) * float(loss)
        assert float(shown) == pytest.approx(ema, abs=2e-3)
    assert float(found[-1][2]) < float(found[0][1]) - 0.3
    samples = [line for line in out.splitlines() if line.startswith("  ")]
    assert len(samples) == 10
    known = set((corpus / "words.txt").read_text().splitlines())
    for sample in samples:
        assert sample.endswith("(in the corpus)") == (sample.removesuffix("  (in the corpus)").strip() in known)


@pytest.mark.parametrize("how", [["microgpt/gpt.py"], ["-m", "microgpt.gpt"]], ids=["as a file", "as a module"])
def test_it_needs_no_package(corpus: Path, how: list[str]) -> None:
    (corpus / "microgpt").mkdir()
    for name in ("__init__.py", "gpt.py"):
        shutil.copy(ROOT / "microgpt" / name, corpus / "microgpt")
    without_packages = [sys.executable, "-S", "-E"]
    command = [*without_packages, *how, "--data", "words.txt", "--steps", "3", *SMALL]
    done = subprocess.run(command, cwd=corpus, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(saved(corpus)["losses"]) == 3 and not list(corpus.glob("outputs/gpt/*/*.png"))


def test_it_draws_its_losses_if_matplotlib_is_installed(corpus: Path) -> None:
    run_gpt(corpus, "--data", "words.txt", "--steps", "3", *SMALL)
    (picture,) = corpus.glob("outputs/gpt/*/loss.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_it_trains_on_names_if_they_are_cached_and_on_emoji_otherwise(corpus: Path) -> None:
    assert run_gpt(corpus, "--steps", "1", "--n_samples", "0", *SMALL).stdout.startswith(
        "names of emoji: 445 documents"
    )
    (corpus / "datasets").mkdir()
    (corpus / "datasets" / "names.txt").write_text("ann\nbob\neve\n")
    assert run_gpt(corpus, "--steps", "1", *SMALL).stdout.startswith("datasets/names.txt: 2 documents")


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_and_resumed_has_the_losses_of_one_that_was_not(
    corpus: Path, kind: signal.Signals
) -> None:
    arguments = ["--data", "../words.txt", "--steps", "330", *SMALL]
    whole, broken = corpus / "whole", corpus / "broken"
    whole.mkdir()
    broken.mkdir()
    out = run_gpt(whole, *arguments).stdout
    with subprocess.Popen(
        [sys.executable, PROGRAM, *arguments], cwd=broken, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step  123/"):
                process.send_signal(kind)
                break
        process.stdout.read()
    assert process.returncode == (130 if kind == signal.SIGINT else -signal.SIGKILL)
    steps = len(saved(broken)["losses"])
    assert steps >= 123 if kind == signal.SIGINT else steps == 100 or steps == 200
    assert steps < 330
    again = run_gpt(broken, "--resume").stdout
    assert f"step  {steps + 1}/330" in again
    assert saved(broken) == saved(whole)
    assert out.splitlines()[-11:] == again.splitlines()[-11:]  # the last step and the samples


def test_a_run_that_has_ended_can_be_made_longer_or_only_sampled(corpus: Path) -> None:
    run_gpt(corpus, "--data", "words.txt", "--steps", "20", *SMALL)
    (folder,) = corpus.glob("outputs/gpt/*")
    done = run_gpt(corpus, "--resume", str(folder), "--prompt", "ka", "--n_samples", "3", "--topk", "2")
    assert "step" not in done.stdout
    assert [line[:4] for line in done.stdout.splitlines() if line.startswith("  ")] == ["  ka"] * 3
    run_gpt(corpus, "--resume", "--steps", "30")
    assert len(saved(corpus)["losses"]) == 30


def test_a_checkpoint_that_cannot_be_written_keeps_the_previous_one(tmp_path: Path) -> None:
    file = tmp_path / "ckpt.json"
    model = gpt.GPT(6, 4, 6, 1, 2, random.Random(1))
    gpt.save({"losses": [1.0]}, model, file)
    before = file.read_text()
    (tmp_path / "ckpt.partial").mkdir()
    with pytest.raises(OSError):
        gpt.save({"losses": [1.0, 2.0]}, model, file)
    assert file.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n_embed", "32"], "unrecognized arguments: --n_embed 32"),
        (["--n_embd", "large"], "argument --n_embd: invalid int value: 'large'"),
        (["--n_embd", "0"], "--n_embd 0: must be a number of at least 1"),
        (["--n_embd", "10"], "--n_head 4: does not divide --n_embd 10"),
        (["--steps"], "argument --steps: expected one argument"),
        (["--lr", "nan"], "--lr nan: must be a number of at least 0.0"),
        (["--temperature=-1"], "--temperature -1.0: must be a number of at least 0.0"),
        (["--prompt", "kå"], "--prompt 'kå': the corpus holds no 'å'; use characters of: aeiklmnortu"),
        (["--data", "nowhere.txt"], "--data nowhere.txt: [Errno 2] No such file or directory"),
        (["--data", "latin1.txt"], "--data latin1.txt: 'utf-8' codec can't decode byte 0xe9"),
        (["--data", "one.txt"], "--data one.txt: holds fewer than 2 different lines"),
        (["--resume"], "--resume latest: no checkpoint of a run; outputs/gpt/ holds"),
        (["--resume", "damaged"], "--resume damaged: no checkpoint of a run"),
        (["--resume", "partial"], "--resume partial: no checkpoint of a run"),
        (["--resume", "list"], "--resume list: no checkpoint of a run"),
        (["--resume", ""], "--resume : no checkpoint of a run"),
        (["--lr", "inf"], "--lr inf: must be a number of at least 0.0"),
        (["--resume", "x", "--seed", "3"], "--seed 3: a resumed run keeps its own seed; leave it out"),
    ],
)
def test_a_user_error_is_one_line_and_leaves_no_files(corpus: Path, arguments: list[str], message: str) -> None:
    (corpus / "latin1.txt").write_bytes(b"caf\xe9\n")
    (corpus / "one.txt").write_text("one\none\n")
    for name, text in {"damaged": '{"settings": ', "partial": '{"settings": {}, "losses": []}', "list": "[1]"}.items():
        (corpus / name).mkdir()
        (corpus / name / "ckpt.json").write_text(text)
    if not {"--data", "--resume"} & set(arguments):
        arguments = [*arguments, "--data", "words.txt"]
    command = [sys.executable, PROGRAM, *arguments]
    done = subprocess.run(command, cwd=corpus, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}") and done.stderr.count("\n") == 1
    assert not done.stdout and not (corpus / "outputs").exists()


def test_a_run_whose_corpus_has_changed_is_not_resumed(corpus: Path) -> None:
    run_gpt(corpus, "--data", "words.txt", "--steps", "2", *SMALL)
    before = saved(corpus)
    (corpus / "words.txt").write_text("other\nwords\n")
    assert "words.txt is not what it was when the run began" in run_gpt(corpus, "--resume", status=2).stderr
    assert saved(corpus) == before


def test_divergence_is_a_one_line_error_and_keeps_the_last_checkpoint(corpus: Path) -> None:
    run_gpt(corpus, "--data", "words.txt", "--steps", "2", *SMALL)
    (file,) = corpus.glob("outputs/gpt/*/ckpt.json")
    run = json.loads(file.read_text())
    run["weights"]["head"][0][0] = math.nan
    file.write_text(json.dumps(run))
    done = run_gpt(corpus, "--resume", "--steps", "50", status=2)
    assert done.stderr == "error: --lr 0.01: the loss is nan at step 3; start again with a smaller one\n"
    assert len(saved(corpus)["losses"]) == 2


def test_a_closed_pipe_stops_the_run_as_ctrl_c_does(corpus: Path) -> None:
    command = f"{sys.executable} {PROGRAM} --data words.txt --steps 5000 --n_embd 4 | head -n 5"
    subprocess.run(command, shell=True, cwd=corpus, capture_output=True, timeout=60, check=True)
    assert 2 <= len(saved(corpus)["losses"]) < 100


def test_the_commands_of_its_documentation_run(corpus: Path) -> None:
    page = (ROOT / "docs" / "gpt.md").read_text(encoding="utf-8")
    (corpus / "README.md").write_text("\n".join(f"{a}{b}" for a in "kmnta" for b in "aeiou"))
    commands = re.findall(r"^python (microgpt/gpt.py.*)$", page, re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        short = [] if "help" in command else ["--steps", "5" if "--resume" in command else "3"]
        run_gpt(corpus, *command.split()[1:], *short)


def test_help_lists_every_setting() -> None:
    out = run_gpt(ROOT, "--help").stdout
    assert all(f"--{name} " in out for name in (*gpt.SETTINGS, "resume"))
