"""`sample`: it follows its settings, and a user error is one line."""

from pathlib import Path

import pytest
from settings import QUICK, Program, Trained


@pytest.fixture
def program_with_run(trained: Trained, program: Program) -> Program:
    """`program`, in a directory that holds a run."""
    trained(*QUICK, at="outputs/colors/run")
    return program


def test_sampling_follows_its_settings(program_with_run: Program, tmp_path: Path) -> None:
    program, run = program_with_run, "run=outputs/colors/run"
    assert len(program("sample.py", run).stdout.splitlines()) == 2
    assert len(program("sample.py", "run=latest", "sampling.n_samples=5").stdout.splitlines()) == 5
    dark = program("sample.py", run, "prompt=dark ", "sampling.temperature=0.5", "sampling.top_k=5").stdout
    assert all(line.startswith("dark ") for line in dark.splitlines())
    capital = program("sample.py", run, "prompt=Dark ", "sampling.temperature=0.5", "sampling.top_k=5")
    assert capital.stdout == dark and capital.stderr.startswith("note: the prompt 'Dark ' is read as 'dark '")
    assert program("sample.py", run, "seed=1").stdout == program("sample.py", run, "seed=1").stdout
    assert program("sample.py", run, "seed=1").stdout != program("sample.py", run, "seed=2").stdout
    whole = program("sample.py", run, "sampling=safe").stdout
    assert program("sample.py", run, "sampling=safe", "sampling.stream=true").stdout == whole
    greedy = program("sample.py", run, "sampling=greedy", "checkpoint=last", "seed=9").stdout
    assert greedy == program("sample.py", run, "sampling=greedy", "checkpoint=last").stdout
    assert not (tmp_path / ".hydra").exists() and not (tmp_path / "sample.log").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["run=latest"]),
        (["run=nowhere"], ["run=nowhere", "run=latest"]),
        (["run=latest", "prompt=É"], ["'É'", "abc"]),
        (["run=latest", "sampling.temprature=1"], ["did you mean sampling.temperature?"]),
        (["run=latest", "sampling.temperature=hot"], ["sampling.temperature", "hot"]),
        (["run=latest", "sampling.temperature=-1"], ["sampling.temperature=-1"]),
        (["run=latest", "sampling.top_p=2"], ["sampling.top_p=2"]),
        (["run=latest", "checkpoint=first"], ["checkpoint=first", "best, last"]),
        (["run=latest", "steps=3"], ["steps"]),
    ],
)
def test_a_user_error_is_one_line(arguments: list[str], words: list[str], program_with_run: Program) -> None:
    done = program_with_run("sample.py", *arguments, status=2)
    *chosen, error = done.stderr.splitlines()
    assert all(line.startswith("from outputs/colors/run (colors, val ") for line in chosen), done.stderr
    assert error.startswith("error: ") and all(word in error for word in words), done.stderr


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a file"])
def test_a_corrupt_checkpoint_is_a_one_line_error(content: bytes, program_with_run: Program, tmp_path: Path) -> None:
    for name in ("best.pt", "ckpt.pt", "ckpt.previous.pt"):
        (tmp_path / "outputs/colors/run" / name).write_bytes(content)
    for command in (["sample.py", "run=outputs/colors/run"], ["train.py", "resume=latest", "train.steps=9"]):
        done = program_with_run(*command, status=2)
        assert "corrupt" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_prompt_is_taken_as_it_stands(trained: Trained, program: Program, tmp_path: Path) -> None:
    (tmp_path / "shell.txt").write_text("".join(f"${{{a}}} ??? = '{b}'\n" for a in ("seed", "p") for b in "abcdefgh"))
    trained("dataset=file", f"dataset.path={tmp_path / 'shell.txt'}", *QUICK)
    for prompt in ("${seed}", "${p} = ", "???", "$", "' = ${"):
        lines = program("sample.py", "run=run", f"prompt={prompt}").stdout.splitlines()
        assert lines and all(line.startswith(prompt) for line in lines)
    line = program("sample.py", "run=run", 'sampling.prompts=["${p}"]', "sampling.n_samples=1").stdout
    assert line.startswith("${p}")
    error = program("sample.py", "run=run", "prompt=X${seed}", status=2).stderr
    assert "prompt='X${seed}': the corpus holds no 'X'" in error


@pytest.mark.parametrize(
    "words",
    [
        ["sample.py", "run=run"],
        ["sample.py", "run=run", "sampling.stream=true"],
        ["-m", "microgpt", "explain", "run=run", "text=щα"],
        ["-m", "microgpt", "explain", "--help"],
        ["-m", "microgpt", "compare", "--help"],
        ["-m", "microgpt", "corpora"],
        ["train.py", "resume=run", "train.steps=7"],
        ["train.py", "--help"],
    ],
    ids=" ".join,
)
def test_a_terminal_that_lacks_characters_shows_their_escapes(
    words: list[str], trained: Trained, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moods = tmp_path.parent / "moods.txt"
    moods.write_text("".join(f"{a}{b}😀\n" for a in "яжщ" for b in "αβγδ"), encoding="utf-8")
    if "run" in " ".join(words):
        trained("dataset=file", f"dataset.path={moods}", *QUICK)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = program(*words)
    assert done.stdout.isascii() and "Traceback" not in done.stderr
