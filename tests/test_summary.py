"""The figures of many runs as tables: what is compared, in which order, over which seeds."""

import csv
import io
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from microgpt import summary
from microgpt.errors import UserError


def make_job(folder: Path, overrides: dict[str, Any], **result: Any) -> None:
    """A job's directory, without a training."""
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create([f"{k}={v}" for k, v in overrides.items()]), folder / ".hydra/overrides.yaml")
    config = {"dataset": {"name": overrides.get("dataset", "names")}, "optim": {"lr": overrides.get("optim.lr", 0.5)}}
    OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
    if result:
        figures = {"status": "finished", "dataset": config["dataset"]["name"], "parameters": 1234, "steps": 60}
        figures |= {"step": 60, "best_step": 40, "seconds": 2.0, "tokens": 5000, "train_loss_ema": 2.5, "val_bpc": 3.0}
        (folder / "result.json").write_text(json.dumps(figures | result))


@pytest.fixture
def jobs(tmp_path: Path) -> list[summary.Job]:
    for n, (lr, seed) in enumerate([(0.1, 1), (0.1, 2), (0.3, 1), (0.3, 2), (0.9, 1)]):
        overrides = {"dataset": "names", "optim.lr": lr, "seed": seed, "train.steps": 60}
        if lr == 0.9:
            make_job(tmp_path / f"{n}-bad", overrides, status="failed", error="the loss is nan", step=7)
        else:
            make_job(tmp_path / f"{n}-good", overrides, val_loss=round(2.0 + lr + seed / 100, 2))
    make_job(tmp_path / "10-killed", {"dataset": "names", "optim.lr": 0.9, "seed": 2, "train.steps": 60})
    (tmp_path / "10-killed/metrics.csv").write_text("step,train/loss\n10,3.0\n20,2.9\n")
    return summary.read_jobs(tmp_path)


def test_jobs_come_in_the_order_of_their_numbers(jobs: list[summary.Job]) -> None:
    assert [job.name.partition("-")[0] for job in jobs] == ["0", "1", "2", "3", "4", "10"]


def test_the_best_stands_first_and_what_has_no_loss_last(jobs: list[summary.Job]) -> None:
    rows = summary.rows(jobs)
    assert [row["val_loss"] for row in rows] == [2.11, 2.12, 2.31, 2.32, None, None]
    assert [row["status"] for row in rows[4:]] == ["failed", "unfinished"]
    assert [row["step"] for row in rows[4:]] == [7, 20]
    assert rows[0]["tokens_per_second"] == 2500


def test_what_was_swept_has_a_column_and_what_was_the_same_has_none(jobs: list[summary.Job]) -> None:
    assert summary.swept(jobs) == ["optim.lr", "seed"]
    assert summary.swept(jobs[:1]) == []
    assert summary.differing(jobs) == ["optim.lr"]


def test_seeds_become_a_mean_and_a_deviation(jobs: list[summary.Job]) -> None:
    groups = summary.shown_groups(jobs)
    assert [(group["lr"], group["seeds"], group["val"]) for group in groups] == [
        ("0.1", "2", f"2.1150 ± {statistics.stdev([2.11, 2.12]):.4f}"),
        ("0.3", "2", f"2.3150 ± {statistics.stdev([2.31, 2.32]):.4f}"),
    ]
    rows = list(csv.DictReader(io.StringIO(summary.to_csv(jobs))))
    assert [row["val_loss_mean"] and round(float(row["val_loss_mean"]), 4) for row in rows] == [
        *[2.115, 2.115, 2.315, 2.315],
        *["", ""],
    ]


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=5))
def test_the_deviation_is_that_of_a_sample(tmp_path_factory: pytest.TempPathFactory, losses: list[float]) -> None:
    folder = tmp_path_factory.mktemp("sweep")
    for seed, loss in enumerate(losses):
        make_job(folder / f"{seed}-x", {"seed": seed}, val_loss=loss)
    (group,) = summary.seed_groups(summary.read_jobs(folder))
    mean = sum(losses) / len(losses)
    assert group["mean"] == pytest.approx(mean)
    assert group["sd"] == pytest.approx((sum((x - mean) ** 2 for x in losses) / (len(losses) - 1)) ** 0.5, abs=1e-9)


def test_the_table_of_markdown_says_what_failed_and_why(jobs: list[summary.Job]) -> None:
    text = summary.to_markdown(jobs, "sweep")
    assert "6 jobs: 4 finished, 1 failed, 1 unfinished" in text
    assert "- `4-bad`: the loss is nan" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines[:8]} == {lines[0].count("|")}
    assert "| 7/60 |" in text and "| 20 |" in text  # of how many steps the killed one cannot say


def test_a_directory_without_runs_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no runs"):
        summary.read_jobs(tmp_path)
