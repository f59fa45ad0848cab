"""`train`: a user error is one line and leaves no files."""

from pathlib import Path

import pytest
from settings import QUICK, ROOT, Program


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dataset=name"], ["dataset=name", "choose from", "did you mean dataset=names?"]),
        (["datset=names"], ["datset", "did you mean dataset?"]),
        (["model.n_embed=64"], ["model.n_embed", "did you mean model.n_embd?"]),
        (["+model.n_embed=64"], ["model.n_embed", "did you mean model.n_embd?"]),
        (["model.n_embd=wide"], ["model.n_embd=wide"]),
        (["model.n_embd=30"], ["model.n_embd=30", "model.n_head=4", "model.n_embd=32"]),
        (["model.n_layer=0"], ["model.n_layer=0", "at least 1"]),
        (["train.batch_size=-1"], ["train.batch_size=-1", "at least 1"]),
        (["train.steps"], ["train.steps", "key=value"]),
        (["model=null"], ["group"]),
        (["dataset=file"], ["dataset.path"]),
        (["dataset=file", "dataset.path=none.txt"], ["none.txt", "no such file"]),
        (["resume=nowhere"], ["resume=nowhere", "resume=latest"]),
        (["resume=latest"], [f"python {ROOT / 'train.py'}"]),
        (['sampling.prompts=["É"]'], ["'É'"]),
        (["dataset=python_docs", "model.block_size=100000"], ["model.block_size=100000", "at most"]),
        (["hydra.run.dir=/proc/run"], ["/proc/run", "hydra.run.dir="]),
        (["dataset=shakespeare", "dataset.url=http://127.0.0.1:9/x"], ["could not fetch", "dataset=colors"]),
        (["plot=live", "hydra.run.dir=x"], ["plot=live"]),
        (["dataset=names", "datasets_dir=/proc/nowhere"], ["/proc/nowhere"]),
    ],
)
def test_a_user_error_is_one_line_and_leaves_no_files(
    arguments: list[str], words: list[str], program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    done = program("train.py", *arguments, status=2)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert all(word in done.stderr for word in words), done.stderr
    assert not list(tmp_path.glob("outputs/*"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no text"),
        (b"\n \n", "holds no text"),
        (b"only one\n", "1 different documents"),
        (b"one\none\none\n", "1 different documents"),
        (b"caf\xe9\nbar\n", "not UTF-8 at byte 3"),
    ],
)
def test_a_file_that_cannot_be_trained_on_is_an_error(
    content: bytes, words: str, program: Program, tmp_path: Path
) -> None:
    (tmp_path / "my file, (1).txt").write_bytes(content)
    done = program("train.py", "dataset=file", "dataset.path=my file, (1).txt", status=2)
    assert words in done.stderr and "my file, (1).txt" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("outputs/*"))


def test_the_error_for_a_missing_column_lists_the_existing_ones(program: Program, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,title\n1,one\n2,two\n")
    read = ["dataset=file", "dataset.path=a.csv", "dataset.reader=csv"]
    done = program("train.py", *read, "dataset.column=text", status=2)
    assert "dataset.column=text" in done.stderr and "id, title" in done.stderr
    program("train.py", *read, "dataset.column=title", *QUICK)
