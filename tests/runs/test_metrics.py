"""metrics.csv: rows with every digit, columns for new metrics, resumed and damaged files, and reading the series."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgpt.runs.metrics import COLUMNS, MAX_POINTS, MetricsWriter, read_metrics, thinned


def write(folder: Path, rows: Mapping[int, Mapping[str, float]], resumed_at: int | None = None) -> None:
    """Log these metrics at these steps."""
    writer = MetricsWriter(folder, resumed_at)
    for step, metrics in rows.items():
        writer.write(step, metrics)
    writer.close()


def write_steps(folder: Path, steps: list[int], resumed_at: int | None = None) -> None:
    """Log the step as the loss, at these steps."""
    write(folder, {step: {"train/loss": float(step), "train/loss_ema": step + 0.5} for step in steps}, resumed_at)


def read_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def logged_steps(folder: Path) -> list[int]:
    return [int(row["step"]) for row in read_rows(folder)]


# -- written -----------------------------------------------------------------------------------------------


def test_there_is_a_row_for_each_step_with_every_digit(tmp_path: Path) -> None:
    write(tmp_path, {10: {"train/loss": 0.1 + 0.2}, 20: {"train/loss": 2.0, "val/loss": 1 / 3, "val/bpc": 0.5}})
    first, second = read_rows(tmp_path)
    assert list(first) == ["step", *COLUMNS]
    assert (first["step"], second["step"]) == ("10", "20")
    assert float(first["train/loss"]) == 0.1 + 0.2
    assert float(second["val/loss"]) == 1 / 3
    assert first["val/loss"] == first["val/bpc"] == ""


def test_a_new_run_begins_a_new_file(tmp_path: Path) -> None:
    write_steps(tmp_path, [10, 20])
    write_steps(tmp_path, [5])
    assert logged_steps(tmp_path) == [5]


def test_flush_makes_rows_visible(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)
    writer.write(10, {"train/loss": 2.0})
    writer.flush()
    assert logged_steps(tmp_path) == [10]
    writer.close()


# -- new metrics -------------------------------------------------------------------------------------------


def test_a_metric_that_first_appears_later_gets_a_column(tmp_path: Path) -> None:
    """The earlier rows keep their values and are empty in the new column."""
    write_steps(tmp_path, [5, 10])
    before = read_rows(tmp_path)
    write(tmp_path, {15: {"train/loss": 1.5, "novelty/new": 0.25}, 20: {"train/loss": 1.0}}, resumed_at=10)
    *earlier, third, fourth = read_rows(tmp_path)
    assert list(third) == ["step", *COLUMNS, "novelty/new"]
    assert earlier == [{**row, "novelty/new": ""} for row in before]
    assert (third["novelty/new"], fourth["novelty/new"]) == ("0.25", "")
    assert (third["train/loss"], fourth["train/loss"]) == ("1.5", "1.0")


def test_rows_that_are_not_flushed_yet_stay_when_a_column_is_added(tmp_path: Path) -> None:
    rows = {step: {"train/loss": float(step)} for step in range(1, 100)}
    write(tmp_path, {**rows, 100: {"mine/a": 1.0}, 101: {"mine/b": 2.0, "mine/a": 3.0}})
    assert read_metrics(tmp_path) == {
        "train/loss": (list(range(1, 100)), [float(step) for step in range(1, 100)]),
        "mine/a": ([100, 101], [1.0, 3.0]),
        "mine/b": ([101], [2.0]),
    }
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_resumed_file_keeps_such_columns(tmp_path: Path) -> None:
    write(tmp_path, {5: {"train/loss": 2.0, "novelty/new": 0.5}, 10: {"train/loss": 1.5}})
    before = (tmp_path / "metrics.csv").read_bytes()
    write(tmp_path, {}, resumed_at=10)
    assert (tmp_path / "metrics.csv").read_bytes() == before
    write(tmp_path, {15: {"mine/other": 3.0, "novelty/new": 0.75}}, resumed_at=10)
    assert list(read_rows(tmp_path)[0]) == ["step", *COLUMNS, "novelty/new", "mine/other"]
    assert read_metrics(tmp_path)["novelty/new"] == ([5, 15], [0.5, 0.75])


# -- resumed -----------------------------------------------------------------------------------------------


def test_resuming_removes_the_rows_of_later_steps(tmp_path: Path) -> None:
    write_steps(tmp_path, [5, 10, 15, 20])
    write_steps(tmp_path, [12, 20], resumed_at=10)
    assert logged_steps(tmp_path) == [5, 10, 12, 20]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_resuming_keeps_the_rows_as_they_were(tmp_path: Path) -> None:
    write_steps(tmp_path, [5, 10])
    before = (tmp_path / "metrics.csv").read_bytes()
    write_steps(tmp_path, [], resumed_at=10)
    assert (tmp_path / "metrics.csv").read_bytes() == before


@pytest.mark.parametrize("half", ["1", "11", "11,2.5,3.", "\0\0\0\0"])
def test_resuming_removes_an_incomplete_last_line(tmp_path: Path, half: str) -> None:
    write_steps(tmp_path, [5, 10])
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write(half)
    write_steps(tmp_path, [15], resumed_at=12)
    assert logged_steps(tmp_path) == [5, 10, 15]


@pytest.mark.parametrize(
    "row",
    [
        *(b"12,x,1.0,,,,,", b"12,1.0", b"x,1.0,1.0,,,,,", b"12,1.0,1.0,,,,,,", b"12,\xff,1.0,,,,,"),
        *(b'12,"1.0,1.0,,,,,', b"-1,1.0,1.0,,,,,", b"", b"9" * 5000 + b",1.0,1.0,,,,,"),
        b"12," + b"1" * 200_000 + b",1.0,,,,,",
    ],
    ids=range(10),
)
def test_resuming_removes_damaged_rows_and_counts_them(
    row: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_steps(tmp_path, [5, 10])
    file = tmp_path / "metrics.csv"
    header, *rows = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([header, rows[0], row + b"\r\n", rows[1], row + b"\r\n"]))
    assert read_metrics(tmp_path)["train/loss"] == ([5, 10], [5.0, 10.0])
    write_steps(tmp_path, [15], resumed_at=12)
    assert logged_steps(tmp_path) == [5, 10, 15]
    assert "metrics.csv: 2 damaged rows removed" in caplog.text


@given(st.binary(max_size=300))
def test_any_bytes_can_be_read_and_resumed(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / "metrics.csv").write_bytes(b"step,train/loss\n1,2.0\n" + content)
        read_metrics(Path(folder))
        write_steps(Path(folder), [15], resumed_at=12)
        assert logged_steps(Path(folder))[-1] == 15


def test_resuming_from_step_0_removes_all_rows(tmp_path: Path) -> None:
    write_steps(tmp_path, [5, 10])
    write_steps(tmp_path, [4], resumed_at=0)
    assert logged_steps(tmp_path) == [4]


def test_resuming_without_a_file_begins_one(tmp_path: Path) -> None:
    write_steps(tmp_path, [15], resumed_at=10)
    assert logged_steps(tmp_path) == [15]


# -- read --------------------------------------------------------------------------------------------------


def test_a_series_has_the_steps_at_which_a_metric_has_a_value(tmp_path: Path) -> None:
    write(tmp_path, {5: {"train/loss": 2.0}, 10: {"train/loss": 1.5, "val/loss": 1 / 3}, 15: {"train/loss": 1.0}})
    assert read_metrics(tmp_path) == {
        "train/loss": ([5, 10, 15], [2.0, 1.5, 1.0]),
        "val/loss": ([10], [1 / 3]),
    }


def test_a_run_that_has_logged_nothing_has_no_series(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == {}
    write(tmp_path, {})
    assert read_metrics(tmp_path) == {}


def test_an_incomplete_line_is_not_read(tmp_path: Path) -> None:
    write_steps(tmp_path, [5, 10])
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("15,1.")
    assert read_metrics(tmp_path)["train/loss"] == ([5, 10], [5.0, 10.0])


def test_a_long_curve_keeps_its_lowest_and_highest_points() -> None:
    steps, values = list(range(63_500)), [math.sin(i / 1000) for i in range(63_500)]
    values[12_345], values[54_321] = 9.0, -9.0
    kept_steps, kept = thinned(steps, values)
    assert len(kept_steps) == len(kept) <= MAX_POINTS
    assert (12_345, 9.0) in zip(kept_steps, kept, strict=True) and (54_321, -9.0) in zip(kept_steps, kept, strict=True)
    assert kept_steps == sorted(kept_steps) and all(values[i] == y for i, y in zip(kept_steps, kept, strict=True))
    assert thinned(steps[:MAX_POINTS], values[:MAX_POINTS]) == (steps[:MAX_POINTS], values[:MAX_POINTS])
