"""Measurements of a run beside its losses: they are in the files of the run and do not change the losses."""

import csv
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout  # type: ignore[attr-defined] - made by protobuf

from microgpt.config.schema import Config, DatasetConfig, ModelConfig, SamplingConfig, TrainConfig
from microgpt.errors import InterruptedRunError
from microgpt.insight import callback
from microgpt.insight.baselines import NAMES
from microgpt.insight.samples_over_time import FILE, read_samples
from microgpt.runs import directory
from microgpt.runs.callback import Callback, Progress
from microgpt.runs.metrics import read_metrics
from microgpt.training.run import run_training

NAMES_CORPUS = "".join(f"{a}{b}{c}\n" for a in "kmnt" for b in "aeiou" for c in ("ra", "lin"))
VERSES = "Speak.\n\nBefore we proceed any further, hear me speak.\nAll of it!\n\n" * 20


def make_config(folder: Path, mode: str = "discrete", **settings: bool | int) -> Config:
    """A run of 24 steps with validations at 8, 16 and 24; `settings` are those of insight."""
    file = folder / f"{mode}.txt"
    file.write_text(NAMES_CORPUS if mode == "discrete" else VERSES)
    config = Config(
        dataset=DatasetConfig(name="file", mode=mode, path=str(file)),
        model=ModelConfig(n_embd=16, n_layer=1, n_head=2, block_size=16),
        train=TrainConfig(steps=24, val_every=8, batch_size=4, log_every=4),
        sampling=SamplingConfig(n_samples=3, max_tokens=30),
        device="cpu",
    )
    for name, value in settings.items():
        setattr(config.insight, name, value)
    return config


def train(folder: Path, config: Config, callbacks: Sequence[Callback] = ()) -> Path:
    folder.mkdir(exist_ok=True)
    run_training(config, folder, callbacks=callbacks)
    return folder


@pytest.fixture(scope="module")
def discrete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("discrete")
    return train(folder / "run", make_config(folder))


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream")
    return train(folder / "run", make_config(folder, "stream"))


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()


def test_the_baselines_are_in_the_result_and_in_tensorboard(discrete: Path) -> None:
    losses = directory.read_result(discrete)["baselines"]
    assert list(losses) == list(NAMES)
    seen = events(discrete)
    for name, loss in losses.items():
        scalars = seen.Scalars(f"z_baselines/file/{name}")
        assert [scalar.step for scalar in scalars] == [8, 16, 24]
        assert scalars[0].value == pytest.approx(loss)
    # One chart for a corpus, with the validation loss and the best baseline.
    (layout,) = seen.Tensors("custom_scalars__config__")
    (category,) = Layout.FromString(layout.tensor_proto.string_val[0]).category
    (chart,) = category.chart
    assert chart.title == "file" and category.title.endswith("flat: that of a 5-gram model")
    shown = [[tag for tag in seen.Tags()["scalars"] if re.match(line, tag)] for line in chart.multiline.tag]
    assert shown == [["loss/file/val"], ["z_baselines/file/5-gram"]]


def test_the_share_of_new_samples_is_logged_at_each_validation_and_at_the_end(discrete: Path) -> None:
    seen = events(discrete)
    for name in ("new", "training", "held_out", "repeated"):
        assert [scalar.step for scalar in seen.Scalars(f"novelty/{name}")] == [8, 16, 24]
    final = directory.read_result(discrete)["novelty"]
    assert final["samples"] == 1000
    assert final["new"] + final["training"] + final["held_out"] == pytest.approx(1)


def test_samples_of_a_stream_are_measured_by_their_spans(stream: Path) -> None:
    assert [scalar.step for scalar in events(stream).Scalars("novelty/new_8grams")] == [8, 16, 24]
    final = directory.read_result(stream)["novelty"]
    assert final["samples"] == 3 and 0 <= final["new_8grams"] <= 1 and final["longest_copy"] >= 1


@pytest.mark.parametrize(("mode", "name"), [("discrete", "novelty/new"), ("stream", "novelty/new_8grams")])
def test_the_share_of_new_samples_is_the_only_metric_of_insight_in_the_table(
    mode: str, name: str, discrete: Path, stream: Path
) -> None:
    """The other shares and the baselines are in TensorBoard only."""
    folder = discrete if mode == "discrete" else stream
    metrics, seen = read_metrics(folder), events(folder)
    assert [key for key in metrics if key.startswith(("novelty/", "baselines/"))] == [name]
    steps, values = metrics[name]
    scalars = seen.Scalars(name)
    assert steps == [scalar.step for scalar in scalars] == [8, 16, 24]
    assert values == pytest.approx([scalar.value for scalar in scalars])


class LineHandler(logging.Handler):
    """Keeps the lines that are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += record.getMessage().splitlines()


@contextmanager
def logged() -> Iterator[list[str]]:
    """The lines that microgpt logs inside the context."""
    handler, logger = LineHandler(), logging.getLogger("microgpt")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class ThirdOfStep(Callback):
    """Returns a metric at each validation: a third of the step."""

    def at_validation(self, progress: Progress) -> Mapping[str, float]:
        return {"mine/third": progress.step / 3}


def test_a_metric_of_a_callback_is_in_the_table_in_tensorboard_and_on_the_console(tmp_path: Path) -> None:
    with logged() as lines:
        folder = train(tmp_path / "run", make_config(tmp_path, novelty=50), [ThirdOfStep()])
    expected = {8: 8 / 3, 16: 16 / 3, 24: 8.0}
    assert read_metrics(folder)["mine/third"] == (list(expected), list(expected.values()))  # every digit
    scalars = events(folder).Scalars("mine/third")
    assert {scalar.step: scalar.value for scalar in scalars} == pytest.approx(expected)
    rows = list(csv.DictReader((folder / directory.METRICS).read_text().splitlines()))
    assert [row["mine/third"] != "" for row in rows] == [int(row["step"]) in expected for row in rows]
    shares = dict(zip(*read_metrics(folder)["novelty/new"], strict=True))
    printed = {int(line.split()[1].partition("/")[0]): line for line in lines if line.startswith("step ")}
    assert set(expected) < set(printed)
    for step, line in printed.items():
        assert ("third" in line) == (step in expected)
        if step in expected:
            assert f"  new {shares[step]:.3f}  third {expected[step]:.3f}  " in line


def test_the_log_ends_with_the_verdict_the_novelty_and_the_findings(tmp_path: Path) -> None:
    with logged() as lines:
        folder = train(tmp_path / "run", make_config(tmp_path))
    result = directory.read_result(folder)
    sentences = [line.removeprefix("  ") for line in lines[:-1] if line.startswith("  ") and "peak memory" not in line]
    findings = [f"warning: {finding}" for finding in result["findings"]]
    assert findings and sentences[-len(findings) :] == findings
    verdict, novelty = sentences[-len(findings) - 2 : -len(findings)]
    assert "baseline" in verdict and verdict.startswith(("better than", "not as good as"))
    assert novelty.startswith(f"of 1,000 samples, {result['novelty']['new']:.0%} are new, ")


def test_samples_have_their_marks_in_the_file(discrete: Path, stream: Path) -> None:
    lines = (discrete / directory.SAMPLES).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3 and all(line.endswith("]") for line in lines)
    known = set(NAMES_CORPUS.split())
    for line in lines:
        text, _, mark = line.partition("  [")
        assert mark.startswith("new; " if text.strip() not in known else "in the ")
    text = (stream / directory.SAMPLES).read_text(encoding="utf-8")
    assert text.count("[longest copied span, ") == 3


def test_samples_over_time_are_drawn_at_powers_of_two_and_differ(discrete: Path) -> None:
    samples = read_samples(discrete)
    assert list(samples) == [0, 1, 2, 4, 8, 16, 24]
    assert len({tuple(texts) for texts in samples.values()}) > 4
    seen = events(discrete)
    assert [tensor.step for tensor in seen.Tensors("samples_over_time/text_summary")] == list(samples)


@pytest.mark.parametrize("mode", ["discrete", "stream"])
def test_measurements_do_not_change_the_losses(tmp_path: Path, mode: str, discrete: Path, stream: Path) -> None:
    off = train(tmp_path / "off", make_config(tmp_path, mode, baselines=False, novelty=0, over_time=False))
    full = train(tmp_path / "full", make_config(tmp_path, mode, layers=True, embeddings=True, attention=True))
    default = discrete if mode == "discrete" else stream
    losses = [{tag: read_metrics(folder)[tag] for tag in ("train/loss", "val/loss")} for folder in (off, default, full)]
    assert losses[0] == losses[1] == losses[2]
    result = directory.read_result(off)
    assert result["baselines"] is None and "novelty" not in result and result["findings"] == []
    assert not (off / FILE).exists()
    samples = (off / directory.SAMPLES).read_text(encoding="utf-8")
    assert not any(mark in samples for mark in ("[new", "[in the", "[longest"))


def test_figures_and_layer_statistics_are_written_only_if_requested(tmp_path: Path, discrete: Path) -> None:
    folder = train(tmp_path / "run", make_config(tmp_path, layers=True, embeddings=True, attention=True))
    for name in (callback.EMBEDDINGS, callback.ATTENTION):
        assert (folder / name).read_bytes().startswith(b"\x89PNG") and not (discrete / name).exists()
    tags = events(folder).Tags()["scalars"]
    for tag in ("z_layers/weights/head", "z_layers/gradients/head", "z_layers/activations/blocks.0.mlp/silent"):
        assert tag in tags and tag not in events(discrete).Tags()["scalars"]


def test_the_losses_are_the_first_group_in_tensorboard(tmp_path: Path) -> None:
    """TensorBoard sorts the groups by name, those of scalars and images together."""
    folder = train(tmp_path / "run", make_config(tmp_path, layers=True, embeddings=True, attention=True))
    tags = events(folder).Tags()
    groups = sorted({tag.partition("/")[0] for tag in [*tags["scalars"], *tags["images"]]})
    last = ["z_baselines", "z_final", "z_layers"]
    assert groups == ["loss", "novelty", "optim", "plots", "speed", "train", "val", *last]
    assert [tag for tag in tags["scalars"] if tag.startswith("loss/")] == ["loss/file/train", "loss/file/val"]
    for tag, known in (("loss/file/train", "train/loss_ema"), ("loss/file/val", "val/loss")):
        losses = [[(event.step, event.value) for event in events(folder).Scalars(name)] for name in (tag, known)]
        assert losses[0] == losses[1] != []


def test_the_figures_are_images_in_tensorboard(tmp_path: Path, discrete: Path, stream: Path) -> None:
    folder = train(tmp_path / "run", make_config(tmp_path, layers=True, embeddings=True, attention=True))
    names = {"plots/loss", "plots/novelty"}
    assert set(events(stream).Tags()["images"]) == set(events(discrete).Tags()["images"]) == names
    assert set(events(folder).Tags()["images"]) == names | {"plots/embeddings", "plots/attention"}
    (image,) = events(folder).Images("plots/loss")
    assert image.encoded_image_string == (folder / directory.FIGURE).read_bytes()
    assert (image.width, image.height) == imread(folder / directory.FIGURE).shape[1::-1]


class Stop(Callback):
    """Interrupts the run at step 16."""

    def after_validation(self, progress: Progress, is_best: bool) -> directory.Status | None:
        return directory.Status.INTERRUPTED if progress.step == 16 else None


def test_a_resumed_run_has_the_measurements_of_an_uninterrupted_one(tmp_path: Path, discrete: Path) -> None:
    config = make_config(tmp_path)
    with pytest.raises(InterruptedRunError):
        train(tmp_path / "run", config, [Stop()])
    assert list(read_samples(tmp_path / "run")) == [0, 1, 2, 4, 8]
    train(tmp_path / "run", config)
    assert (tmp_path / "run" / FILE).read_text() == (discrete / FILE).read_text()
    assert directory.read_result(tmp_path / "run")["novelty"] == directory.read_result(discrete)["novelty"]
    assert read_metrics(tmp_path / "run")["novelty/new"] == read_metrics(discrete)["novelty/new"]


def test_the_findings_are_in_the_result(discrete: Path) -> None:
    findings = directory.read_result(discrete)["findings"]
    assert any(finding.startswith("more weights than characters") for finding in findings)


def test_the_findings_do_not_count_n_gram_embeddings(tmp_path: Path, discrete: Path) -> None:
    config = make_config(tmp_path)
    config.model.ngrams = 3
    plain, ngram = (directory.read_result(folder) for folder in (discrete, train(tmp_path / "run", config)))
    assert ngram["parameters"] > plain["parameters"]
    assert any(f"{plain['parameters']:,} weights learn from" in finding for finding in ngram["findings"])


def test_a_sample_that_was_cut_off_is_marked_neither_memorised_nor_new(tmp_path: Path) -> None:
    config = make_config(tmp_path, over_time=False, baselines=False)
    config.sampling = SamplingConfig(n_samples=20, max_tokens=2, prompts=["", "ka"])
    lines = (train(tmp_path / "run", config) / directory.SAMPLES).read_text().splitlines()
    assert len(lines) == 40
    for line, prompt in zip(lines, [""] * 20 + ["ka"] * 20, strict=True):
        text, _, mark = line.partition("  [")
        assert mark == "cut off after 2]" if len(text.rstrip()) == 2 + len(prompt) else "cut off" not in mark
    assert sum("cut off" in line for line in lines) > 5
    # Novelty is measured on samples long enough to end.
    assert directory.read_result(tmp_path / "run")["novelty"]["length_mean"] > 2.5


def test_prompts_are_not_counted_as_copied_text(tmp_path: Path) -> None:
    config = make_config(tmp_path, "stream")
    config.sampling = SamplingConfig(n_samples=3, max_tokens=4, prompts=["Before we proceed any further"])
    train(tmp_path / "run", config)
    assert (
        directory.read_result(tmp_path / "run")["novelty"]["longest_copy"] <= 4 + 1
    )  # a paragraph's end is two characters


def test_a_run_whose_figures_fail_keeps_its_result_and_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(callback.Insight, "save_figures", fail)
    with pytest.raises(OSError):
        train(tmp_path / "run", make_config(tmp_path))
    assert directory.read_result(tmp_path / "run")["val_loss"] > 0
    assert (tmp_path / "run" / directory.SAMPLES).is_file() and (tmp_path / "run" / directory.FIGURE).is_file()


@pytest.mark.parametrize("mode", ["discrete", "stream"])
def test_a_model_of_width_1_on_a_tiny_corpus_can_be_measured(tmp_path: Path, mode: str) -> None:
    config = make_config(tmp_path, mode, layers=True, embeddings=True, attention=True, novelty=1)
    Path(str(config.dataset.path)).write_text("a\nb\n" if mode == "discrete" else "ab\tc\n\n" * 5)
    config.model = ModelConfig(n_embd=1, n_layer=1, n_head=1, block_size=1)
    config.sampling = SamplingConfig(n_samples=1, max_tokens=3)
    assert (train(tmp_path / "run", config) / callback.EMBEDDINGS).is_file()
