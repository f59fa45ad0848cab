"""What a run reports: read back from the table, from TensorBoard's files, and from the log."""

import csv
import logging
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[attr-defined] - made by protobuf

from microgpt.tracking import COLUMNS, ConsoleHandler, Tracker


def measured(loss: float, **others: float) -> dict[str, float]:
    """What the trainer reports at a step without a validation, and `others`, `__` for `/`."""
    metrics = {
        "train/loss": loss,
        "train/loss_ema": loss + 0.5,
        "optim/lr": 0.01,
        "optim/grad_norm": 1.0,
        "speed/tokens_per_second": 1234.5,
    }
    return metrics | {key.replace("__", "/"): value for key, value in others.items()}


def log_steps(folder: Path, steps: list[int], total: int = 100, resumed_at: int | None = None) -> None:
    """A run that reports at `steps`, with the step as its loss."""
    with Tracker(folder, total, resumed_at) as tracker:
        for step in steps:
            tracker.log(step, measured(float(step)))


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def logged_steps(folder: Path) -> list[int]:
    return [int(row["step"]) for row in rows(folder)]


def events(folder: Path) -> EventAccumulator:
    """What TensorBoard shows of a run."""
    return EventAccumulator(str(folder), size_guidance={TENSORS: 0}).Reload()


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events(folder).Scalars(tag)]


# -- metrics.csv -------------------------------------------------------------------------------------------


def test_the_table_has_a_row_a_logged_step_and_keeps_every_digit(tmp_path: Path) -> None:
    with Tracker(tmp_path, 20) as tracker:
        tracker.log(10, measured(0.1 + 0.2))
        tracker.log(20, measured(2.0, val__loss=1 / 3, val__bpc=0.5))
    first, second = rows(tmp_path)
    assert list(first) == ["step", *COLUMNS]
    assert (first["step"], second["step"]) == ("10", "20")
    assert float(first["train/loss"]) == 0.1 + 0.2
    assert float(second["val/loss"]) == 1 / 3
    assert first["val/loss"] == first["val/bpc"] == ""


def test_a_new_run_begins_a_new_table(tmp_path: Path) -> None:
    log_steps(tmp_path, [10, 20])
    log_steps(tmp_path, [5])
    assert logged_steps(tmp_path) == [5]


def test_resuming_forgets_the_rows_of_later_steps(tmp_path: Path) -> None:
    log_steps(tmp_path, [5, 10, 15, 20])
    log_steps(tmp_path, [12, 20], resumed_at=10)
    assert logged_steps(tmp_path) == [5, 10, 12, 20]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_resuming_keeps_the_rows_as_they_were(tmp_path: Path) -> None:
    log_steps(tmp_path, [5, 10])
    before = (tmp_path / "metrics.csv").read_bytes()
    log_steps(tmp_path, [], resumed_at=10)
    assert (tmp_path / "metrics.csv").read_bytes() == before


@pytest.mark.parametrize("half", ["1", "11", "11,2.5,3.", "\0\0\0\0"])
def test_resuming_forgets_the_half_of_a_line_that_a_killed_run_left(tmp_path: Path, half: str) -> None:
    log_steps(tmp_path, [5, 10])
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write(half)
    log_steps(tmp_path, [15], resumed_at=12)
    assert logged_steps(tmp_path) == [5, 10, 15]


def test_resuming_without_a_table_begins_one(tmp_path: Path) -> None:
    log_steps(tmp_path, [15], resumed_at=10)
    assert logged_steps(tmp_path) == [15]


def test_flush_makes_rows_and_scalars_visible_while_the_run_goes_on(tmp_path: Path) -> None:
    with Tracker(tmp_path, 20) as tracker:
        tracker.log(10, measured(2.0))
        tracker.flush()
        assert logged_steps(tmp_path) == [10]
        assert scalars(tmp_path, "train/loss") == [(10, 2.0)]


# -- TensorBoard -------------------------------------------------------------------------------------------


def test_tensorboard_shows_every_metric_at_its_step(tmp_path: Path) -> None:
    with Tracker(tmp_path, 20) as tracker:
        tracker.log(10, measured(2.0))
        tracker.log(20, measured(1.5, val__loss=1.75, val__bpc=2.5))
    assert set(events(tmp_path).Tags()["scalars"]) == set(COLUMNS)
    assert scalars(tmp_path, "train/loss") == [(10, 2.0), (20, 1.5)]
    assert scalars(tmp_path, "train/loss_ema") == [(10, 2.5), (20, 2.0)]
    assert scalars(tmp_path, "val/loss") == [(20, 1.75)]


def test_a_resumed_run_shows_no_step_twice(tmp_path: Path) -> None:
    log_steps(tmp_path, [5, 10, 15, 20])
    with Tracker(tmp_path, 100, resumed_at=10) as tracker:
        tracker.log(15, measured(1.5))
        tracker.log(20, measured(2.5))
    assert scalars(tmp_path, "train/loss") == [(5, 5.0), (10, 10.0), (15, 1.5), (20, 2.5)]


def test_what_came_after_the_resumed_step_is_not_shown(tmp_path: Path) -> None:
    log_steps(tmp_path, [5, 10, 15, 20])
    log_steps(tmp_path, [12], resumed_at=10)
    assert [step for step, _ in scalars(tmp_path, "train/loss")] == [5, 10, 12]


def test_a_text_is_shown_verbatim(tmp_path: Path) -> None:
    with Tracker(tmp_path, 20) as tracker:
        tracker.text(10, "samples", "# no *heading*\n\n  <b>two</b> é")
    (event,) = events(tmp_path).Tensors("samples/text_summary")
    (shown,) = event.tensor_proto.string_val
    assert event.step == 10
    # Four spaces before a line make it code in Markdown, which nothing is done to.
    assert shown.decode() == "    # no *heading*\n    \n      <b>two</b> é\n"


def test_hparams_are_in_the_run_itself(tmp_path: Path) -> None:
    settings = {"model.n_embd": 64, "optim.betas": [0.9, 0.95], "train.compile": False, "dataset": "names"}
    with Tracker(tmp_path, 20) as tracker:
        tracker.hparams(20, settings, {"final/val_loss": 2.0})
    assert all(path.is_file() for path in tmp_path.iterdir())
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1
    content = events(tmp_path).SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    shown = HParamsPluginData.FromString(content).session_start_info.hparams
    assert shown["model.n_embd"].number_value == 64
    assert shown["optim.betas"].string_value == "[0.9, 0.95]"
    assert shown["train.compile"].bool_value is False
    assert shown["dataset"].string_value == "names"
    assert scalars(tmp_path, "final/val_loss") == [(20, 2.0)]


# -- the console -------------------------------------------------------------------------------------------


def progress_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "microgpt.tracking"]


def test_outside_a_terminal_a_run_logs_ten_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log_steps(tmp_path, list(range(5, 1001, 5)), total=1000)
    lines = progress_lines(caplog)
    assert [line.split("/")[0].split()[-1] for line in lines] == [str(step) for step in range(100, 1001, 100)]
    assert "100/1000" in lines[0] and "train 100.000" in lines[0] and "EMA 100.500" in lines[0]


def test_a_line_carries_the_last_validation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Tracker(tmp_path, 30) as tracker:
        tracker.log(10, measured(2.0))
        tracker.log(20, measured(2.0, val__loss=1.75))
        tracker.log(30, measured(2.0))
    before, at, after = progress_lines(caplog)
    assert "val" not in before
    assert "val 1.750" in at and "val 1.750" in after


def test_a_resumed_run_logs_only_its_own_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log_steps(tmp_path, list(range(61, 101)), total=100, resumed_at=60)
    assert len(progress_lines(caplog)) == 4


def test_outside_a_terminal_nothing_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log_steps(tmp_path, [10, 20])
    assert capsys.readouterr() == ("", "")


def test_records_go_to_what_is_standard_output_at_that_moment(capsys: pytest.CaptureFixture[str]) -> None:
    handler = ConsoleHandler()
    for text in ("first", "second"):
        handler.emit(logging.makeLogRecord({"msg": text}))
        assert capsys.readouterr().out == f"{text}\n"
