"""Models compared on texts and on each other's corpora: posteriors, tables, files, and messages about mistakes."""

import csv
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from settings import Program

from microgpt import compare
from microgpt.compare import Matrix, describe, find_likeliest, find_runs, measure, posterior
from microgpt.config.schema import Config, DatasetConfig, ModelConfig, TrainConfig
from microgpt.data.modes import find_mode
from microgpt.data.tokenizer import Tokenizer
from microgpt.errors import UserError
from microgpt.insight.scoring import LabelledRun, Passage, Score, score
from microgpt.model.text_generator import TextGenerator
from microgpt.model.transformer import GPT
from microgpt.runs import directory
from microgpt.runs.opening import OpenRun
from microgpt.training.run import run_training

CODES = "".join(f"{a}{b}-{n}\n" for a in "KQX" for b in "JVZ" for n in range(100, 130))
VERSES = "".join(
    f"the {a} is {b},\nand so it is.\n\n" for a in ("sea", "sky", "sun") * 4 for b in ("old", "new", "far")
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with runs on three corpora: documents in lower case, documents in capitals, a stream."""
    root = tmp_path_factory.mktemp("compare")
    (root / "codes.txt").write_text(CODES)
    (root / "verses.txt").write_text(VERSES)
    corpora = [
        DatasetConfig(name="colors", reader="colors"),
        DatasetConfig(name="codes", path=str(root / "codes.txt")),
        DatasetConfig(name="verses", path=str(root / "verses.txt"), mode="stream"),
    ]
    for dataset in corpora:
        folder = root / "outputs" / dataset.name / "1"
        folder.mkdir(parents=True)
        model = ModelConfig(n_embd=16, n_layer=1, n_head=2, block_size=16)
        train = TrainConfig(steps=150, val_every=50, batch_size=8)
        run_training(Config(dataset, model, train=train, plot=False, device="cpu"), folder)
    return root


@pytest.fixture
def labelled(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, LabelledRun]:
    monkeypatch.chdir(root)
    return {run.label: run for run in find_runs("")}


def test_without_runs_the_latest_complete_one_of_each_dataset_is_taken(
    program: Program, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for place, status, age in (("outputs/codes/1", "finished", 9), ("multirun/2/0-x", "stopped early", 5)):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        os.link(root / "outputs/codes/1/best.pt", folder / "best.pt")
        directory.write_result(folder, {"status": status, "dataset": "codes"})
        os.utime(folder / "result.json", (1e9 - age, 1e9 - age))
    unfinished = tmp_path / "outputs/codes/3"
    unfinished.mkdir()
    directory.write_result(unfinished, {"status": "interrupted", "dataset": "codes"})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^runs=: there must be two finished runs to compare"):
        find_runs("")
    (tmp_path / "outputs/verses").symlink_to(root / "outputs/verses")
    assert [(labelled.label, labelled.run.folder) for labelled in find_runs("")] == [
        ("codes", tmp_path / "multirun/2/0-x"),
        ("verses", root / "outputs/verses/1"),
    ]
    both = find_runs("[multirun/2/0-x, outputs/codes/1,./multirun/2/0-x]")
    assert [labelled.label for labelled in both] == ["multirun/2/0-x", "outputs/codes/1"]


def test_a_model_s_own_split_costs_its_val_bpc_or_less_where_texts_are_longer_than_a_block(
    labelled: dict[str, LabelledRun],
) -> None:
    """All codes fit a block, so that their figure is exact; the longer texts are read here with more context."""
    matrix = measure(list(labelled.values()))
    assert matrix.models == matrix.splits == ["codes", "colors", "verses"] and matrix.own == [0, 1, 2]
    for i, run in enumerate(labelled.values()):
        val_bpc = directory.read_result(run.run.folder)["val_bpc"]
        if run.label == "codes":
            assert matrix.bpc[i][i] == pytest.approx(val_bpc, rel=1e-6)
        else:
            assert 0.9 * val_bpc < matrix.bpc[i][i] < val_bpc
        assert matrix.bpc[i][i] == min(row[i] for row in matrix.bpc)
    assert len({row[0].chars for row in matrix.scores}) == 1


def test_runs_of_one_split_share_a_column_and_another_seed_has_its_own(labelled: dict[str, LabelledRun]) -> None:
    codes = labelled["codes"]
    other = LabelledRun("other", replace(codes.run, config=replace(codes.run.config, seed=7)))
    matrix = measure([codes, replace(codes, label="twin"), other])
    assert matrix.splits == ["codes", "other"] and matrix.own == [0, 0, 1]


def found(bits: float, label: str = "") -> Score:
    """A score of one character."""
    model = GPT(2, ModelConfig(n_embd=2, n_layer=1, n_head=1, block_size=1))
    generator = TextGenerator(model, Tokenizer("a"), find_mode("stream"))
    return Score(label, OpenRun(Path(), generator, Config(DatasetConfig(name=label)), None), bits, 1, 0, False)


def test_a_table_brackets_a_model_s_own_and_stars_the_best() -> None:
    rows = [[found(1.0), found(2.0)], [found(3.0), found(4.0)]]
    table, conclusion = describe(Matrix(["a", "b"], ["left", "right"], rows, [0, 1]))
    assert table == [
        {"model": "a", "left": "[1.000]*", "right": " 2.000 *"},
        {"model": "b", "left": " 3.000  ", "right": "[4.000] "},
    ]
    assert conclusion.endswith("1 of 2 corpora are read best by a model of their own.")


@pytest.mark.parametrize(("bits", "times"), [(13.0, "8"), (9010.0, "1.86e+2709"), (10.0, "1")])
def test_the_lead_of_the_likeliest_is_stated_however_large(bits: float, times: str) -> None:
    table, conclusion = find_likeliest([found(10.0, "a"), found(bits, "b"), found(1e6, "c")], "'x'")
    assert conclusion == f"'x' is likeliest to a, {times} times as likely as to b, the next."
    assert [(row["corpus"], row["bits"]) for row in table[:2]] == [("a", "10.0"), ("b", f"{bits:.1f}")]


def test_the_posterior_is_that_of_models_as_likely_beforehand() -> None:
    assert posterior([10.0, 11.0, 12.0]) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert posterior([1e6, 1e6 + 1]) == pytest.approx([2 / 3, 1 / 3])
    assert sum(posterior([3.0, 700.0, 20.5, 3.25])) == pytest.approx(1)


@pytest.mark.parametrize(("text", "corpus"), [("dark green", "colors"), ("QZ-117", "codes"), ("the sun is", "verses")])
def test_guess_names_the_corpus_that_a_text_is_from(
    text: str,
    corpus: str,
    labelled: dict[str, LabelledRun],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["compare", "guess", f"text={text}"])
    compare.main()
    out = capsys.readouterr().out
    assert f"{text!r} sounds like {corpus} (" in out
    printed = [
        float(line.split()[1].rstrip("%"))
        for line in out.splitlines()
        if line.split()[:1] in [[label] for label in labelled]
    ]
    assert len(printed) == 3 and sum(printed) == pytest.approx(100, abs=0.2) and printed[0] > 60


def test_a_text_is_shown_with_what_it_costs_each_run(program: Program, root: Path) -> None:
    listed = ",".join(f"{root}/outputs/{name}/1" for name in ("verses", "codes", "colors"))
    out = program("-m", "microgpt.compare", f"runs=[{listed}]", "text=KJ-☃1").stdout
    rows = [line.split() for line in out.splitlines() if str(root) in line]
    assert rows[0][1] == "codes" and rows[0][-1] == "1" and {row[1] for row in rows} == {"codes", "colors", "verses"}
    costs = [float(row[2]) for row in rows]
    assert costs == sorted(costs)
    codes = next(labelled for labelled in find_runs(listed) if labelled.label == "codes")
    assert costs[0] == pytest.approx(score(codes, Passage("KJ-☃1")).bits, abs=0.06)
    assert "'KJ-☃1' is likeliest to codes, " in out and "never seen costs 20.09 bits" in out
    assert "Normalised as their corpora were" in out and "the end of a text costs bits" in out


def test_the_matrix_is_printed_and_saved(program: Program, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outputs").symlink_to(root / "outputs")
    out = program("-m", "microgpt.compare", "out=kept/here").stdout
    assert "3 of 3 corpora are read best by a model of their own." in out and "costs 20.09 bits" in out
    (codes,) = [line.split() for line in out.splitlines() if line.startswith(" codes ")]
    with (tmp_path / "kept/here/compare.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["model"] for row in table] == list(table[0])[1:] == ["codes", "colors", "verses"]
    assert codes[1] == f"[{float(table[0]['codes']):.3f}]*" and codes[2] == f"{float(table[0]['colors']):.3f}"
    assert (tmp_path / "kept/here/compare.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").touch()
    done = program("-m", "microgpt.compare", "out=file", status=2)
    assert done.stderr == "error: out=file: File exists; name another folder with out=\n" and "3 of 3" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Bulbaton"], "Bulbaton: there is no such setting; use runs=, text=, out="),
        (["txt=x"], "txt=x: there is no such setting; use runs=, text=, out="),
        (["runs=nowhere", "text=x"], "runs=nowhere: not the directory of a run (it holds no best.pt); try runs=latest"),
        (["text=x"], "runs=: there must be two finished runs to compare; list two, or train some with: python train"),
        (["guess"], 'text=: needs a text to read; add text="Bulbaton"'),
        (["text="], 'text=: needs a text to read; add text="Bulbaton"'),
        (["text=x", "out=y"], "out=y: is for the matrix of models and corpora; leave it out, or text="),
    ],
)
def test_a_mistake_gets_a_message(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["compare", *words])
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        compare.main()


def test_a_mistake_gets_one_line_and_help_shows_the_commands(program: Program) -> None:
    done = program("-m", "microgpt.compare", "txt=x", status=2)
    assert done.stderr == "error: txt=x: there is no such setting; use runs=, text=, out=\n"
    usage = program("-m", "microgpt.compare", "--help").stdout
    assert "python -m microgpt.compare guess text=" in usage and "1,114,112" in usage
