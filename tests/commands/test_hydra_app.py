"""What train and sample share: help without torch, near misses, and stack traces on request."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from settings import LEAN, QUICK, ROOT, Program


@pytest.mark.parametrize("entry", ["train.py", "sample.py"])
@pytest.mark.parametrize("flag", ["--help", "--cfg=job"])
def test_help_and_cfg_do_not_import_torch(entry: str, flag: str, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    done = subprocess.run(
        [sys.executable, str(ROOT / entry), *flag.split("="), *(["run=x"] if entry == "sample.py" else [])],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "sampling" in done.stdout
    assert list(tmp_path.glob("outputs/*/*")) == []


def test_the_help_of_sampling_names_every_choice(program: Program) -> None:
    text = program("sample.py", "--help").stdout
    assert all(path.stem in text for path in (ROOT / "conf/sampling").glob("*.yaml") if path.stem != "tuned")


def test_help_lists_choices_and_options_of_ones_own(program: Program, tmp_path: Path) -> None:
    (tmp_path / "mine/dataset").mkdir(parents=True)
    (tmp_path / "mine/dataset/haiku.yaml").write_text("# @package _global_\nmodel: {dropout: 0.1}\n")
    (tmp_path / "mine/sampling").mkdir()
    (tmp_path / "mine/sampling/calm.yaml").write_text("temperature: 0.1\n")
    text = program("train.py", "--help", "--config-dir", "mine").stdout
    assert "file, haiku, names" in text and "greedy, safe" in text
    (dropout,) = re.findall(r"^  model\.dropout .*\n.*\n", text, re.MULTILINE)
    assert "default by recipe" in " ".join(dropout.split())
    assert "sampling=calm" in program("sample.py", "--config-dir=mine", "-h").stdout
    assert "haiku" not in program("train.py", "--help").stdout
    done = program("train.py", "--help", "--config-dir", "nowhere", status=2)
    assert done.stderr.startswith("error: --config-dir nowhere: there is no such folder; leave it out, or give")


def test_a_sweep_of_a_corpus_of_ones_own_is_resumed_without_the_folder(program: Program, tmp_path: Path) -> None:
    (tmp_path / "mine/dataset").mkdir(parents=True)
    (tmp_path / "mine/dataset/haiku.yaml").write_text("# @package _global_\ndataset: {name: haiku, path: my.txt}\n")
    (tmp_path / "my.txt").write_text("".join(f"old pond {i}\n" for i in range(30)))
    words = ["dataset=haiku", "seed=1,2", *QUICK, *LEAN, "hydra.sweep.dir=sweep"]
    program("train.py", "--config-dir", "mine", "-m", *words)
    command = json.loads((tmp_path / "sweep/0-seed1/result.json").read_text())["sessions"][0]["command"]
    assert f"--config-dir={tmp_path / 'mine'} dataset=haiku" in command
    shutil.rmtree(tmp_path / "sweep/1-seed2")
    assert "2 jobs: 2 finished" in program("train.py", "resume=sweep").stdout


def test_hydra_full_error_shows_the_stack_trace(fresh: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fresh("train.py", "model.n_embd=30", status=2).stderr.count("\n") == 1
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert "Traceback" in fresh("train.py", "model.n_embd=30", status=1).stderr


def test_the_help_of_training_says_which_defaults_a_recipe_sets(program: Program) -> None:
    text = " ".join(program("train.py", "--help").stdout.split())
    assert "width: channels of the residual stream (integer from 1; default by recipe)" in text
    assert "rotary positions in place of learned ones (true or false; default false)" in text
    assert "model=tuned, optim=tuned and sampling=tuned, the defaults, keep what the recipe says" in text


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["lr=0.1"], "lr: there is no such key; did you mean optim.lr?"),
        (["name=3"], "did you mean dataset.name or optim.name or run.name?"),
        (["--dataset", "names"], "--dataset: there is no such flag; type dataset=names, and"),
        (["--lr=0.1"], "--lr: there is no such flag; type optim.lr=0.1, and"),
        (["dataset=my.txt"], "if it is a file, type dataset=file dataset.path=my.txt"),
        (["dataset=texts/my poems.txt"], "if it is a file, type dataset=file dataset.path='texts/my poems.txt'"),
    ],
)
def test_what_is_nearly_right_gets_what_to_type(words: list[str], hint: str, program: Program) -> None:
    error = program("train.py", *words, status=2).stderr
    assert hint in error and error.count("\n") == 1
