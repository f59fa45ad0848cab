"""Models compared on texts and on each other's corpora: posteriors, tables, files, and errors."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from settings import Program

from microgpt.config.schema import Config, DatasetConfig, ModelConfig
from microgpt.data.modes import find_mode
from microgpt.data.tokenizer import Tokenizer
from microgpt.errors import UserError
from microgpt.insight.comparison import Matrix, describe_likeliest, describe_matrix, find_runs, posterior, score_matrix
from microgpt.insight.scoring import LabelledRun, Score
from microgpt.model.text_generator import TextGenerator
from microgpt.model.transformer import GPT
from microgpt.runs import directory
from microgpt.runs.opening import OpenRun


@pytest.fixture
def labelled(compared_runs: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, LabelledRun]:
    monkeypatch.chdir(compared_runs)
    return {run.label: run for run in find_runs([])}


def test_without_runs_the_latest_complete_one_of_each_dataset_is_taken(
    program: Program, compared_runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for place, status, age in (("outputs/codes/1", "finished", 9), ("multirun/2/0-x", "stopped early", 5)):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        os.link(compared_runs / "outputs/codes/1/best.pt", folder / "best.pt")
        directory.write_result(folder, {"status": status, "dataset": "codes"})
        os.utime(folder / "result.json", (1e9 - age, 1e9 - age))
    unfinished = tmp_path / "outputs/codes/3"
    unfinished.mkdir()
    directory.write_result(unfinished, {"status": "interrupted", "dataset": "codes"})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^runs=: there must be two finished runs to compare"):
        find_runs([])
    (tmp_path / "outputs/verses").symlink_to(compared_runs / "outputs/verses")
    assert [(labelled.label, labelled.run.folder) for labelled in find_runs([])] == [
        ("codes", tmp_path / "multirun/2/0-x"),
        ("verses", compared_runs / "outputs/verses/1"),
    ]
    both = find_runs(["multirun/2/0-x", "outputs/codes/1", "./multirun/2/0-x"])
    assert [labelled.label for labelled in both] == ["multirun/2/0-x", "outputs/codes/1"]


def test_a_model_s_own_split_has_its_val_bpc_or_less_for_texts_longer_than_a_block(
    labelled: dict[str, LabelledRun],
) -> None:
    """All codes fit a block, so their value is exact; the longer texts have more context than in validation."""
    matrix = score_matrix(list(labelled.values()), all_needed=True)
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
    matrix = score_matrix([codes, replace(codes, label="twin"), other], all_needed=True)
    assert matrix.splits == ["codes", "other"] and matrix.own == [0, 0, 1]


def found(bits: float, label: str = "") -> Score:
    """A score of one character."""
    model = GPT(2, ModelConfig(n_embd=2, n_layer=1, n_head=1, block_size=1))
    generator = TextGenerator(model, Tokenizer("a"), find_mode("stream"))
    return Score(label, OpenRun(Path(), generator, Config(DatasetConfig(name=label)), None), bits, 1, 0, False)


def test_a_table_brackets_a_model_s_own_and_stars_the_best() -> None:
    rows = [[found(1.0), found(2.0)], [found(3.0), found(4.0)]]
    table, conclusion = describe_matrix(Matrix(["a", "b"], ["left", "right"], rows, [0, 1], []))
    assert table == [
        {"model": "a", "left": "[1.000]*", "right": " 2.000 *"},
        {"model": "b", "left": " 3.000  ", "right": "[4.000] "},
    ]
    assert conclusion.endswith("1 of 2 splits have the lowest bits per character under their own model.")


@pytest.mark.parametrize(("bits", "times"), [(13.0, "8"), (9010.0, "1.86e+2709"), (10.0, "1")])
def test_the_odds_of_the_likeliest_are_printed_at_any_size(bits: float, times: str) -> None:
    table, conclusion = describe_likeliest([found(10.0, "a"), found(bits, "b"), found(1e6, "c")], "'x'")
    assert conclusion == f"'x' is most likely under a: {times} times as likely as under b, the second."
    assert [(row["corpus"], row["bits"]) for row in table[:2]] == [("a", "10.0"), ("b", f"{bits:.1f}")]


def test_the_posterior_has_a_uniform_prior() -> None:
    assert posterior([10.0, 11.0, 12.0]) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert posterior([1e6, 1e6 + 1]) == pytest.approx([2 / 3, 1 / 3])
    assert sum(posterior([3.0, 700.0, 20.5, 3.25])) == pytest.approx(1)
