"""What a run reports: read back from TensorBoard's files and from the log. For metrics.csv there is test_metrics."""

import logging
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[attr-defined] - made by protobuf

from microgpt.config.schema import Config, DatasetConfig, TrainConfig
from microgpt.runs.metrics import COLUMNS, read_metrics
from microgpt.runs.tracking import ConsoleHandler, Tracker, logging_to


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


def events(folder: Path) -> EventAccumulator:
    """What TensorBoard shows of a run."""
    return EventAccumulator(str(folder), size_guidance={TENSORS: 0}).Reload()


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events(folder).Scalars(tag)]


def test_files_are_opened_on_entry(tmp_path: Path) -> None:
    """Therefore a run whose parts cannot be built leaves no files."""
    tracker = Tracker(tmp_path, 20)
    assert list(tmp_path.iterdir()) == []
    with tracker:
        tracker.log(10, measured(2.0))
    assert len(list(tmp_path.iterdir())) == 2
    assert read_metrics(tmp_path)["train/loss"] == ([10], [2.0])


# -- TensorBoard -------------------------------------------------------------------------------------------


def test_tensorboard_shows_every_metric_at_its_step(tmp_path: Path) -> None:
    with Tracker(tmp_path, 20) as tracker:
        tracker.log(10, measured(2.0))
        tracker.log(20, measured(1.5, val__loss=1.75, val__bpc=2.5))
    assert set(events(tmp_path).Tags()["scalars"]) == set(COLUMNS)
    assert scalars(tmp_path, "train/loss") == [(10, 2.0), (20, 1.5)]
    assert scalars(tmp_path, "train/loss_ema") == [(10, 2.5), (20, 2.0)]
    assert scalars(tmp_path, "val/loss") == [(20, 1.75)]


def test_tensorboard_shows_the_losses_under_the_name_of_the_corpus_as_well(tmp_path: Path) -> None:
    with Tracker(tmp_path, 20, corpus="names") as tracker:
        tracker.log(10, measured(2.0))
        tracker.log(20, measured(1.5, val__loss=1.75))
    assert scalars(tmp_path, "loss/names/train") == scalars(tmp_path, "train/loss_ema") == [(10, 2.5), (20, 2.0)]
    assert scalars(tmp_path, "loss/names/val") == [(20, 1.75)]
    assert not any(name.startswith("loss/") for name in read_metrics(tmp_path))


def test_flush_makes_rows_and_scalars_visible_before_the_run_ends(tmp_path: Path) -> None:
    with Tracker(tmp_path, 20) as tracker:
        tracker.log(10, measured(2.0))
        tracker.flush()
        assert read_metrics(tmp_path)["train/loss"] == ([10], [2.0])
        assert scalars(tmp_path, "train/loss") == [(10, 2.0)]


def test_details_are_written_to_tensorboard_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Tracker(tmp_path, 20) as tracker:
        tracker.details(20, {"novelty/training": 0.5})
        tracker.layers(20, {"weights/head": 2.5})
    assert scalars(tmp_path, "novelty/training") == [(20, 0.5)]
    assert scalars(tmp_path, "z_layers/weights/head") == [(20, 2.5)]
    assert read_metrics(tmp_path) == {} and progress_lines(caplog) == []


def test_a_resumed_run_shows_no_step_twice(tmp_path: Path) -> None:
    log_steps(tmp_path, [5, 10, 15, 20])
    with Tracker(tmp_path, 100, resumed_at=10) as tracker:
        tracker.log(15, measured(1.5))
        tracker.log(20, measured(2.5))
    assert scalars(tmp_path, "train/loss") == [(5, 5.0), (10, 10.0), (15, 1.5), (20, 2.5)]


def test_steps_after_the_resumed_one_are_not_shown(tmp_path: Path) -> None:
    log_steps(tmp_path, [5, 10, 15, 20])
    log_steps(tmp_path, [12], resumed_at=10)
    assert [step for step, _ in scalars(tmp_path, "train/loss")] == [5, 10, 12]


def test_a_text_is_shown_verbatim(tmp_path: Path) -> None:
    with Tracker(tmp_path, 20) as tracker:
        tracker.text(10, "samples", "# no *heading*\n\n  <b>two</b> é")
    (event,) = events(tmp_path).Tensors("samples/text_summary")
    (shown,) = event.tensor_proto.string_val
    assert event.step == 10
    # Four spaces before a line make it code in Markdown, which is shown as it is.
    assert shown.decode() == "    # no *heading*\n    \n      <b>two</b> é\n"


def test_hparams_are_in_the_run_itself(tmp_path: Path) -> None:
    settings = {"model.n_embd": 64, "optim.betas": [0.9, 0.95], "train.compile": False, "dataset": "names"}
    with Tracker(tmp_path, 20) as tracker:
        tracker.hparams(20, settings, dict.fromkeys(settings, False), {"val loss": 2.0})
    assert all(path.is_file() for path in tmp_path.iterdir())
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1
    content = events(tmp_path).SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    shown = HParamsPluginData.FromString(content).session_start_info.hparams
    assert shown["model.n_embd"].string_value == "64"
    assert shown["optim.betas"].string_value == "[0.9, 0.95]"
    assert shown["train.compile"].WhichOneof("kind") == "bool_value" and shown["train.compile"].bool_value is False
    assert shown["dataset"].string_value == "names"
    assert scalars(tmp_path, "z_final/val_loss") == [(20, 2.0)]


# -- the console -------------------------------------------------------------------------------------------


def progress_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "microgpt.runs.tracking"]


def test_outside_a_terminal_a_run_logs_ten_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log_steps(tmp_path, list(range(5, 1001, 5)), total=1000)
    lines = progress_lines(caplog)
    assert [line.split("/")[0].split()[-1] for line in lines] == [str(step) for step in range(100, 1001, 100)]
    assert "100/1000" in lines[0] and "train 100.000" in lines[0] and "EMA 100.500" in lines[0]


def test_a_line_has_a_validation_of_its_own_step_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Tracker(tmp_path, 30) as tracker:
        tracker.log(10, measured(2.0))
        tracker.log(20, measured(2.0, val__loss=1.75))
        tracker.log(30, measured(2.0))
    before, at, after = progress_lines(caplog)
    assert "val 1.750" in at and "val" not in before + after


@pytest.mark.parametrize(
    ("val_every", "expected"),
    [
        (5, [*range(15, 151, 15)]),
        (20, [*range(20, 141, 20)]),
        (50, [15, 30, 45, 50, 60, 75, 90, 100, 105, 120, 135, 150]),
    ],
)
def test_there_is_a_line_for_each_validation_up_to_one_in_a_tenth_of_the_steps(
    val_every: int, expected: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = Config(DatasetConfig(name="x"), train=TrainConfig(steps=150, val_every=val_every))
    with Tracker(tmp_path, 150, config=config) as tracker:
        for step in range(5, 151, 5):
            tracker.log(step, measured(2.0, **({} if step % val_every else {"val__loss": 1.75})))
    lines = {int(line.split("/")[0].split()[-1]): line for line in progress_lines(caplog)}
    assert list(lines) == expected
    assert all(("val " in line) == (step % val_every == 0) for step, line in lines.items())


def test_a_line_has_every_metric_but_those_of_the_optimizer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A metric of a callback is shown by the last part of its name; the speed is last."""
    caplog.set_level(logging.INFO)
    with Tracker(tmp_path, 10) as tracker:
        tracker.log(10, measured(2.0, val__loss=1.75, val__bpc=2.5, novelty__new=0.875))
    (line,) = progress_lines(caplog)
    figures = line.split("  ")[1:-1]
    assert figures == ["train 2.000", "EMA 2.500", "val 1.750", "bits/char 2.500", "new 0.875", "1,234 tokens/s"]


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


def test_the_log_goes_to_the_console_and_a_file_and_then_where_it_went_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("microgpt")
    before = logger.handlers, logger.level, logger.propagate
    with logging_to(tmp_path / "train.log"):
        logging.getLogger("microgpt.runs.tracking").info("step %d é", 3)
    assert capsys.readouterr().out == "step 3 é\n" and not caplog.records
    assert (tmp_path / "train.log").read_text(encoding="utf-8").endswith(" INFO step 3 é\n")
    assert (logger.handlers, logger.level, logger.propagate) == before


def test_training_that_becomes_many_times_slower_is_noted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    speeds = [900.0, 1000.0, 100.0, 1000.0, *[100.0] * 12]  # one slow moment is not worth a line
    with caplog.at_level(logging.WARNING), Tracker(tmp_path, 100) as tracker:
        for step, speed in enumerate(speeds, 1):
            tracker.log(step, measured(1.0, speed__tokens_per_second=speed))
    assert caplog.text.count("times slower") == 1
    assert "step 9: training is 10 times slower than before (100 tokens/s instead of 1,000)" in caplog.text


def test_a_terminal_shows_long_lines_divided_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    handler = ConsoleHandler()
    for text in (
        "  a line of more than thirty characters-in-all",
        "short",
        "\na sample of more than thirty characters",
    ):
        handler.emit(logging.makeLogRecord({"msg": text}))
    lines = [
        "  a line of more than thirty",
        "    characters-in-all",
        "short",
        "",
        "a sample of more than thirty characters",
    ]
    assert capsys.readouterr().out.splitlines() == lines
