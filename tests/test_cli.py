"""The command line: quoting, names of directories, errors in one line, nothing left behind by a failed start."""

import os
import string
import subprocess
import sys
from pathlib import Path

import pytest
from fork_server import ForkServer
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from settings import QUICK, ROOT, Program, Trained

from microgpt import cli

# -- before Hydra ------------------------------------------------------------------------------------------


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_a_prompt_reaches_the_program_as_it_was_typed(text: str) -> None:
    argument = cli.quote(f"prompt={text}")
    if argument != f"prompt={text}":  # neither quoted by the user nor null
        (override,) = OverridesParser.create().parse_overrides([argument])
        assert override.value() == text


@pytest.mark.parametrize(
    ("typed", "quoted"),
    [
        ("prompt=The ", "prompt='The '"),
        ("prompt=it's", r"prompt='it\'s'"),
        ("run=outputs/a,b=c", "run='outputs/a,b=c'"),
        ("prompt='as is'", "prompt='as is'"),
        ("resume=null", "resume=null"),
        ("model.n_embd=3", "model.n_embd=3"),
        ("--help", "--help"),
    ],
)
def test_free_text_is_quoted_and_nothing_else(typed: str, quoted: str) -> None:
    assert cli.quote(typed) == quoted


def test_no_two_runs_share_a_directory(tmp_path: Path) -> None:
    folders = [cli.new_folder(str(tmp_path / "outputs")) for _ in range(5)]
    assert len(set(folders)) == 5
    assert all(Path(folder).is_dir() for folder in folders)


def test_runs_started_in_the_same_second_have_their_own_directories(fork_server: ForkServer, tmp_path: Path) -> None:
    processes = [fork_server.start(tmp_path, "train.py", *QUICK) for _ in range(3)]
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(list(tmp_path.glob("outputs/colors/*/ckpt.pt"))) == 3


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ("", ""),
        ("dataset=names", "-names"),
        ("dataset=names,optim.lr=0.01,model.n_embd=64", "-names-lr0.01-n_embd64"),
        ("dataset=names,optim=adam,seed=3", "-names-adam-seed3"),
        ("sampling.prompts=['a/b c']", "-prompts_a_b_c_"),
    ],
)
def test_a_sweeps_job_has_a_short_name(overrides: str, name: str) -> None:
    assert cli.slug(overrides) == name


@given(st.text(string.printable, max_size=200))
def test_a_name_fits_every_file_system(text: str) -> None:
    slug = cli.slug(f"dataset={text}")
    assert len(slug) <= 48
    assert set(slug) <= set(string.ascii_letters + string.digits + "_.-")


# -- as a user types it ------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ["train.py", "sample.py"])
@pytest.mark.parametrize("flag", ["--help", "--cfg=job"])
def test_questions_are_answered_without_torch(entry: str, flag: str, tmp_path: Path) -> None:
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
        (["resume=latest"], ["python train.py"]),
        (["sampling.prompts=[Q]"], ["'Q'"]),
        (["dataset=python_docs", "model.block_size=100000"], ["model.block_size=100000", "at most"]),
        (["hydra.run.dir=/proc/run"], ["/proc/run", "hydra.run.dir="]),
        (["dataset=shakespeare", "dataset.url=http://127.0.0.1:9/x"], ["could not fetch", "dataset=colors"]),
        (["plot=live", "hydra.run.dir=x"], ["plot=live"]),
        (["dataset=names", "datasets_dir=/proc/nowhere"], ["/proc/nowhere"]),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_nothing(
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
def test_a_file_that_cannot_be_trained_on_is_told(content: bytes, words: str, program: Program, tmp_path: Path) -> None:
    (tmp_path / "my file, (1).txt").write_bytes(content)
    done = program("train.py", "dataset=file", "dataset.path=my file, (1).txt", status=2)
    assert words in done.stderr and "my file, (1).txt" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("outputs/*"))


def test_a_column_that_is_missing_is_told_with_those_there_are(program: Program, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,title\n1,one\n2,two\n")
    read = ["dataset=file", "dataset.path=a.csv", "dataset.reader=csv"]
    done = program("train.py", *read, "dataset.column=text", status=2)
    assert "dataset.column=text" in done.stderr and "id, title" in done.stderr
    program("train.py", *read, "dataset.column=title", *QUICK)


@pytest.fixture
def beside_a_run(trained: Trained, program: Program) -> Program:
    """`program`, where there is a run already."""
    trained(*QUICK, at="outputs/colors/run")
    return program


def test_sampling_answers_to_its_settings(beside_a_run: Program, tmp_path: Path) -> None:
    program, run = beside_a_run, "run=outputs/colors/run"
    assert len(program("sample.py", run).stdout.splitlines()) == 2
    assert len(program("sample.py", "run=latest", "sampling.n_samples=5").stdout.splitlines()) == 5
    dark = program("sample.py", run, "prompt=dark ", "sampling.temperature=0.5", "sampling.top_k=5").stdout
    assert all(line.startswith("dark ") for line in dark.splitlines())
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
def test_a_mistake_in_sampling_gets_one_line(arguments: list[str], words: list[str], beside_a_run: Program) -> None:
    done = beside_a_run("sample.py", *arguments, status=2)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a file"])
def test_a_corrupt_checkpoint_is_told(content: bytes, beside_a_run: Program, tmp_path: Path) -> None:
    for name in ("best.pt", "ckpt.pt"):
        (tmp_path / "outputs/colors/run" / name).write_bytes(content)
    for command in (["sample.py", "run=latest"], ["train.py", "resume=latest", "train.steps=9"]):
        done = beside_a_run(*command, status=2)
        assert "corrupt" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_whoever_wants_it_gets_the_stack_trace(fresh: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fresh("train.py", "model.n_embd=30", status=2).stderr.count("\n") == 1
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert "Traceback" in fresh("train.py", "model.n_embd=30", status=1).stderr
