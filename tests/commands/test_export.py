"""`microgpt export`: the four files, in the run directory or elsewhere."""

from pathlib import Path

from settings import LEAN, QUICK, Program, Trained

FILES = {"model.safetensors", "config.json", "tokenizer.json", "README.md"}


def test_a_model_is_exported_to_its_run_or_to_a_folder(program: Program, trained: Trained, tmp_path: Path) -> None:
    run = trained(*QUICK, *LEAN)
    out = program("-m", "microgpt", "export", "run=run").stdout
    assert {file.name for file in (run / "export").iterdir()} == FILES
    assert out.startswith("in run/export: ") and all(name in out for name in FILES)
    program("-m", "microgpt", "export", "run=run", "out=my model")
    assert {file.name for file in (tmp_path / "my model").iterdir()} == FILES


def test_a_directory_without_a_run_is_refused_in_one_line(program: Program) -> None:
    error = program("-m", "microgpt", "export", "run=nowhere", status=2).stderr
    assert error.startswith("error: run=nowhere: ") and len(error.splitlines()) == 1
