"""The table of a sweep: its columns, its order, and the means over seeds."""

import csv
import io
import json
import statistics
from pathlib import Path

import pytest
from helpers import make_job
from hypothesis import given
from hypothesis import strategies as st

from microgpt.plots.tables import to_csv
from microgpt.sweeps import summary
from microgpt.sweeps.jobs import Job, read_jobs


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    for n, (lr, seed) in enumerate([(0.1, 1), (0.1, 2), (0.3, 1), (0.3, 2), (0.9, 1)]):
        overrides = {"dataset": "names", "optim.lr": lr, "seed": seed, "train.steps": 60}
        if lr == 0.9:
            make_job(tmp_path / f"{n}-bad", overrides, status="failed", error="the loss is nan", step=7)
        else:
            make_job(tmp_path / f"{n}-good", overrides, val_loss=round(2.0 + lr + seed / 100, 2))
    make_job(tmp_path / "10-killed", {"dataset": "names", "optim.lr": 0.9, "seed": 2, "train.steps": 60})
    (tmp_path / "10-killed/metrics.csv").write_text("step,train/loss\n10,3.0\n20,2.9\n")
    return read_jobs(tmp_path)


def test_the_best_job_is_first_and_jobs_without_a_loss_are_last(jobs: list[Job]) -> None:
    rows = summary.csv_rows(jobs)
    assert [row["val_loss"] for row in rows] == [2.11, 2.12, 2.31, 2.32, None, None]
    assert [row["status"] for row in rows[4:]] == ["failed", "unfinished"]
    assert [row["step"] for row in rows[4:]] == [7, 20]
    assert rows[0]["tokens_per_second"] == 2500


def test_a_setting_that_the_sweep_varies_has_a_column_and_no_other(jobs: list[Job]) -> None:
    first = summary.csv_rows(jobs)[0]
    assert list(first)[:5] == ["job", "dataset", "optim.lr", "seed", "status"]
    assert (first["optim.lr"], first["seed"]) == ("0.1", "1")
    assert "train.steps" not in first
    assert list(summary.table_rows(jobs)[0])[:6] == ["job", "val", "dataset", "lr", "seed", "status"]
    assert list(summary.csv_rows(jobs[:1])[0])[:3] == ["job", "dataset", "status"]


def test_settings_with_the_same_last_word_have_columns_of_their_own() -> None:
    keys = ["optim.name", "dataset.name", "train.steps", "optim.lr"]
    assert list(summary.setting_headings(keys).values()) == [*keys[:3], "lr"]  # steps: there is such a column


def test_a_column_that_is_the_same_in_all_jobs_is_a_sentence(jobs: list[Job]) -> None:
    rows, same = summary.varied_rows(jobs[:4])
    assert list(rows[0]) == ["job", "val", "lr", "seed"]
    for words in ("dataset names", "status finished", "steps 60", "parameters 1,234"):
        assert words in same
    assert [row["job"] for row in rows] == ["0", "1", "2", "3"]
    alone, nothing = summary.varied_rows(jobs[:1])
    assert alone[0]["status"] == "finished" and nothing == ""


def test_names_tags_and_notes_have_columns_if_a_job_has_them(tmp_path: Path) -> None:
    for n, run in enumerate([{"name": "wide", "tags": ["a", "b"], "note": ""}, {"name": "", "tags": [], "note": ""}]):
        make_job(tmp_path / str(n), {"dataset": "names", "run.name": run["name"]}, val_loss=2.0 + n)
        (tmp_path / str(n) / "config.yaml").write_text(json.dumps({"dataset": {"name": "names"}, "run": run}))
    jobs = read_jobs(tmp_path)
    assert [(row["name"], row["tags"]) for row in summary.table_rows(jobs)] == [("wide", "a, b"), ("", "")]
    assert list(summary.csv_rows(jobs)[0])[:5] == ["job", "dataset", "name", "tags", "status"]
    assert "| wide | a, b |" in summary.markdown_page(jobs, "title")
    assert "name" not in summary.table_rows(jobs[1:])[0]


def test_both_tables_have_the_same_jobs_and_figures(jobs: list[Job]) -> None:
    values, texts = summary.csv_rows(jobs), summary.table_rows(jobs)
    assert [row["job"].partition("-")[0] for row in values] == [row["job"] for row in texts]
    assert [row["val"] for row in texts] == ["2.1100", "2.1200", "2.3100", "2.3200", "", ""]
    assert [row["steps"] for row in texts] == ["60", "60", "60", "60", "7/60", "20"]
    assert texts[0]["parameters"] == "1,234" and texts[4]["status"] == "failed"


def test_seeds_are_averaged_with_a_standard_deviation(jobs: list[Job]) -> None:
    groups = summary.group_rows(jobs)
    assert [(group["lr"], group["val"]) for group in groups] == [
        ("0.1", f"2.1150 ± {statistics.stdev([2.11, 2.12]):.4f}"),
        ("0.3", f"2.3150 ± {statistics.stdev([2.31, 2.32]):.4f}"),
    ]
    assert "over 2 seeds" in summary.group_note(jobs)
    rows = list(csv.DictReader(io.StringIO(to_csv(summary.csv_rows(jobs)))))
    assert [row["val_loss_mean"] and round(float(row["val_loss_mean"]), 4) for row in rows] == [
        *[2.115, 2.115, 2.315, 2.315],
        *["", ""],
    ]


def test_without_several_seeds_there_are_no_means(tmp_path: Path) -> None:
    for n, lr in enumerate([0.1, 0.3]):
        make_job(tmp_path / f"{n}-x", {"optim.lr": lr, "seed": 1}, val_loss=2.0 + lr)
    jobs = read_jobs(tmp_path)
    assert summary.seed_groups(jobs) == [] and summary.group_rows(jobs) == []
    assert "Over the seeds" not in summary.markdown_page(jobs, "sweep")


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=5))
def test_the_standard_deviation_is_that_of_a_sample(
    tmp_path_factory: pytest.TempPathFactory, losses: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("sweep")
    for seed, loss in enumerate(losses):
        make_job(folder / f"{seed}-x", {"seed": seed}, val_loss=loss)
    (group,) = summary.seed_groups(read_jobs(folder))
    mean = sum(losses) / len(losses)
    assert group.mean == pytest.approx(mean)
    assert group.sd == pytest.approx((sum((x - mean) ** 2 for x in losses) / (len(losses) - 1)) ** 0.5, abs=1e-9)


def test_the_markdown_page_lists_failed_jobs_with_their_errors(jobs: list[Job]) -> None:
    text = summary.markdown_page(jobs, "sweep")
    assert "6 jobs: 4 finished, 1 failed, 1 unfinished" in text
    assert "- `4-bad`: the loss is nan" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines[:8]} == {lines[0].count("|")}
    assert "| 7/60 |" in text and "| 20 |" in text  # of how many steps the killed one cannot say
