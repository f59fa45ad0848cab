"""The profile of a run: a trace that Perfetto reads, a table of ten operations, and the same training."""

import json
from pathlib import Path

import pytest
from helpers import assert_same_run
from settings import LEAN, QUICK, Program, Trained

from microgpt.training.profiling import MAX_OPERATIONS, PROFILED_STEPS, SKIPPED_STEPS, TABLE, TRACE


def rows_of(folder: Path) -> list[list[str]]:
    head, _, *rows = (folder / TABLE).read_text().splitlines()
    assert "operation" in head
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


@pytest.mark.parametrize("steps", [SKIPPED_STEPS + PROFILED_STEPS + 2, SKIPPED_STEPS + 2])
def test_a_profile_is_a_trace_and_the_ten_longest_operations(steps: int, trained: Trained) -> None:
    run = trained(*QUICK, *LEAN, f"train.steps={steps}", "train.profile=true")
    events = json.loads((run / TRACE).read_text())["traceEvents"]
    assert {"ph", "name", "ts"} <= events[-1].keys() or len(events) > 100
    assert any(event["name"] == "aten::mm" and event["ph"] == "X" and event["dur"] > 0 for event in events)
    rows = rows_of(run)
    assert len(rows) == MAX_OPERATIONS
    shares = [float(row[2]) for row in rows]
    assert shares == sorted(shares, reverse=True) and sum(shares) <= 100.5
    n_steps = min(PROFILED_STEPS, steps - SKIPPED_STEPS)
    assert f"in {n_steps} steps" in (run / "train.log").read_text() and rows[0][0] in (run / "train.log").read_text()


def test_a_profile_does_not_change_training(trained: Trained) -> None:
    settings = [*QUICK, *LEAN, "train.steps=16"]
    assert_same_run(trained(*settings, "train.profile=true", at="profiled"), trained(*settings))


def test_a_run_too_short_for_a_profile_says_so(program: Program, tmp_path: Path) -> None:
    out = program("train.py", *QUICK, *LEAN, "train.steps=3", "train.profile=true", "hydra.run.dir=run").stdout
    assert "nothing to profile" in out and not (tmp_path / "run" / TRACE).exists()
