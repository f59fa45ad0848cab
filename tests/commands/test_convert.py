"""A run of gpt.py, read by sample.py."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from settings import ROOT, Program

from microgpt import gpt
from microgpt.commands.convert import convert
from microgpt.errors import UserError
from microgpt.runs.opening import open_run

SETTINGS = [
    "--data",
    "corpus.txt",
    "--steps",
    "60",
    "--n_embd",
    "8",
    "--n_head",
    "2",
    "--block_size",
    "6",
    "--n_layer",
    "2",
]


def samples(folder: Path, *arguments: str) -> list[str]:
    command = [sys.executable, str(ROOT / "microgpt" / "gpt.py"), *arguments, "--temperature", "0", "--n_samples", "1"]
    out = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=True).stdout
    return [line.split("  (")[0].strip() for line in out.splitlines() if line.startswith("  ")]


def test_sample_py_writes_what_gpt_py_writes(program: Program, names_file: Path, tmp_path: Path) -> None:
    text = samples(tmp_path, *SETTINGS, "--prompt", "ka")
    done = program("-m", "microgpt", "convert", "run=latest")
    (folder,) = tmp_path.glob("outputs/gpt/*")
    assert f"python {ROOT / 'sample.py'} run={folder.relative_to(tmp_path)}" in done.stdout
    assert program("sample.py", "run=latest", "prompt=ka", "sampling.n_samples=1").stdout.splitlines() == text
    assert (
        samples(tmp_path, "--resume", "--prompt", "tulin")
        == program("sample.py", f"run={folder}", "prompt=tulin", "sampling.n_samples=1").stdout.splitlines()
    )


def test_the_error_for_an_unconverted_run_names_the_command(program: Program, names_file: Path, tmp_path: Path) -> None:
    samples(tmp_path, *SETTINGS, "--steps", "2")
    (folder,) = tmp_path.glob("outputs/gpt/*")
    done = program("sample.py", f"run={folder}", status=2)
    hint = f"error: run={folder}: a run of gpt.py; first make it one of microgpt: python (-m .* run={folder})\n"
    found = re.fullmatch(hint, done.stderr)
    assert found, done.stderr
    program(*found[1].split())
    program("sample.py", f"run={folder}")


def test_the_converted_model_has_the_loss_of_the_run(names_file: Path, tmp_path: Path) -> None:
    samples(tmp_path, *SETTINGS)
    (folder,) = tmp_path.glob("outputs/gpt/*")
    convert(folder)
    converted = open_run(folder, "best", torch.device("cpu"))
    generator = converted.generator
    run, _ = gpt.open_run({}, str(folder))
    model, _, held_out, _ = gpt.prepare(run | {"settings": run["settings"] | {"data": str(names_file)}})
    assert converted.config.seed == 1337 and generator.tokenizer.chars == run["chars"]
    assert converted.corpus is None
    assert gpt.evaluate(model, held_out, run["chars"]) == pytest.approx(run["val"][-1][1], rel=1e-12)
    cache = model.empty_cache()
    ours = [[logit.data for logit in model(token, cache)] for token in (len(run["chars"]), 1, 2)]
    gpt.tape.clear()
    with torch.no_grad():
        theirs = generator.model(torch.tensor([[generator.tokenizer.bos, 1, 2]]))
    torch.testing.assert_close(torch.tensor([ours]), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", ["{", '{"weights": {}}', '{"weights": []}', "[]"])
def test_another_file_of_that_name_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "ckpt.json").write_text(text)
    with pytest.raises(UserError, match=r"its ckpt.json is not a checkpoint of gpt.py"):
        convert(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "run: must be given (the directory of a run of gpt.py, or latest); add run=latest"),
        (["outputs/gpt/x"], "outputs/gpt/x: cannot be read as key=value; use run="),
        (["run=nowhere"], "run=nowhere: not the directory of a run (it holds no ckpt.json)"),
    ],
)
def test_a_user_error_is_one_line(program: Program, arguments: list[str], message: str) -> None:
    done = program("-m", "microgpt", "convert", *arguments, status=2)
    assert done.stderr.startswith(f"error: {message}") and done.stderr.count("\n") == 1
