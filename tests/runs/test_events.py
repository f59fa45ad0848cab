"""TensorBoard's event file: the same messages as those of torch's writer, in files that TensorBoard reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[attr-defined] - made by protobuf
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig  # type: ignore[attr-defined] - made by protobuf
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from microgpt.plots.style import draw
from microgpt.runs.events import PROJECTOR, EventFile, events_until, masked_crc

PNG = draw(Figure(figsize=(0.04, 0.02), dpi=100))


def summaries(folder: Path) -> list[tuple[int, str]]:
    """The step and the content of each event of a folder, as TensorBoard's loader returns them."""
    (file,) = folder.glob("events.out.tfevents.*")
    return [
        (event.step, str(event.summary)) for event in EventFileLoader(str(file)).Load() if event.HasField("summary")
    ]


@given(st.binary(max_size=100))
def test_the_checksum_is_that_of_tensorboard(data: bytes) -> None:
    assert int.from_bytes(masked_crc(data), "little") == masked_crc32c(data)


def test_the_messages_are_those_of_torch(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"model.n_embd": 64, "optim.lr": 0.02, "dataset": "names"}
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    file = EventFile(ours)
    file.scalars(10, {"train/loss": 1.5})
    file.scalars(20, {"train/loss": float("nan")})
    file.text(20, "samples", "    é\n")
    file.chart("microgpt", "losses", ["train/loss", "val/loss"])
    file.hparams(settings, dict.fromkeys(settings, False), {"z_final/val_loss": ""})
    file.close()
    writer = SummaryWriter(str(theirs))
    writer.add_scalar("train/loss", 1.5, 10)
    writer.add_scalar("train/loss", float("nan"), 20)
    writer.add_text("samples", "    é\n", 20)
    writer.add_custom_scalars({"microgpt": {"losses": ["Multiline", ["train/loss$", "val/loss$"]]}})
    assert writer.file_writer is not None
    # An integer is a text, so that TensorBoard does not show 64 as 64.000.
    for summary in hparams(settings | {"model.n_embd": "64"}, {"z_final/val_loss": 0.0}):
        for value in summary.value:  # torch writes the settings, a map, in any order
            plugin = value.metadata.plugin_data
            plugin.content = HParamsPluginData.FromString(plugin.content).SerializeToString(deterministic=True)
        writer.file_writer.add_summary(summary)
    writer.close()
    assert sorted(summaries(ours)) == sorted(summaries(theirs))
    assert len(summaries(ours)) == 7


def scalars(folder: Path) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in EventAccumulator(str(folder)).Reload().Scalars("loss")]


def write(folder: Path, steps: Sequence[int], resumed_at: int | None = None, saved: Sequence[int] = ()) -> EventFile:
    """A file that logs the step as the loss, and marks the checkpoints `saved`."""
    file = EventFile(folder, resumed_at)
    for step in steps:
        file.scalars(step, {"loss": step})
        if step in saved:
            file.checkpoint(step)
    file.close()
    return file


def test_a_resumed_run_has_one_file_that_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    file = write(tmp_path, [2, 4, 6], saved=[4])
    with file.path.open("ab") as torn:
        torn.write(b"half a record")
    write(tmp_path, [5, 6, 8], resumed_at=4)
    assert scalars(tmp_path) == [(2, 2.0), (4, 4.0), (5, 5.0), (6, 6.0), (8, 8.0)]
    assert len(list(tmp_path.iterdir())) == 1


def test_what_was_written_after_the_checkpoint_is_left_out_even_if_it_is_of_the_same_step(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    file.scalars(4, {"loss": 1.0})
    file.checkpoint(4)
    file.checkpoint(4)  # best.pt and ckpt.pt
    file.scalars(4, {"loss": 2.0})
    file.image(4, "plots/loss", PNG)
    file.hparams({"seed": 1}, {"seed": False}, {"z_final/val_loss": "val loss"})
    file.close()
    for _ in range(2):  # killed again before the next checkpoint
        file = EventFile(tmp_path, 4)
        file.scalars(4, {"loss": 3.0})
        file.close()
        assert scalars(tmp_path) == [(4, 1.0), (4, 3.0)]
        assert not any("hparams" in content or "image" in content for _, content in summaries(tmp_path))


def test_a_run_that_begins_anew_shows_nothing_of_before(tmp_path: Path) -> None:
    write(tmp_path, [2, 4])
    write(tmp_path, [3])
    assert scalars(tmp_path) == [(3, 3.0)]


def test_the_files_of_a_run_killed_while_it_was_resumed_are_read_as_tensorboard_shows_them(tmp_path: Path) -> None:
    old = write(tmp_path, [2, 4, 6], saved=[4]).path
    content = old.read_bytes()
    write(tmp_path, [5], resumed_at=4, saved=[5])
    old.write_bytes(content)  # killed before it was removed
    write(tmp_path, [7], resumed_at=5)
    assert scalars(tmp_path) == [(2, 2.0), (4, 4.0), (5, 5.0), (7, 7.0)]


def test_a_file_of_other_programs_is_cut_at_the_step(tmp_path: Path) -> None:
    writer = SummaryWriter(str(tmp_path))
    for step in (2, 4, 6):
        writer.add_scalar("loss", step, step)
    writer.close()
    write(tmp_path, [5], resumed_at=4)
    assert scalars(tmp_path) == [(2, 2.0), (4, 4.0), (5, 5.0)]


def test_damaged_records_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, [2, 4, 6, 8], saved=[8]).path
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        kept = events_until(tmp_path, 8)
        assert len(kept) <= 5 and all(record in whole for record in kept)
    assert caplog.text.count("1 damaged records left out") == len(range(0, len(whole), 3))


def test_the_projector_finds_the_vectors_and_their_names(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    for last in (7.0, 1e-9):  # of an earlier end of the run, and of this one
        file.embeddings("characters", [[0.25, -1.0], [3.0, last]], ["a", "␣"], PNG, 2)
    file.close()
    (shown,) = text_format.Parse((tmp_path / PROJECTOR).read_text(), ProjectorConfig()).embeddings
    assert shown.tensor_name == "characters"
    assert sorted(path.name for path in tmp_path.iterdir() if path != file.path) == ["projector", PROJECTOR]
    vectors = [line.split("\t") for line in (tmp_path / shown.tensor_path).read_text().splitlines()]
    assert [[float(x) for x in vector] for vector in vectors] == [[0.25, -1.0], [3.0, 1e-9]]
    assert (tmp_path / shown.metadata_path).read_text(encoding="utf-8") == "a\n␣\n"
    assert (tmp_path / shown.sprite.image_path).read_bytes() == PNG and list(shown.sprite.single_image_dim) == [2, 2]


def test_settings_that_differ_are_the_first_columns(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    file.hparams({"seed": 3, "optim.lr": 0.5, "train.steps": 60}, {"seed": True, "optim.lr": False}, {"z_final/x": "x"})
    file.close()
    metadata = EventAccumulator(str(tmp_path)).Reload().SummaryMetadata
    content = HParamsPluginData.FromString(metadata("_hparams_/experiment").plugin_data.content).experiment
    assert [(info.name, info.differs) for info in content.hparam_infos] == [("seed", True), ("optim.lr", False)]
    assert [(info.name.tag, info.display_name) for info in content.metric_infos] == [("z_final/x", "x")]
    start = HParamsPluginData.FromString(metadata("_hparams_/session_start_info").plugin_data.content)
    values = start.session_start_info.hparams
    assert values["seed"].string_value == "3" and values["optim.lr"].number_value == 0.5


def test_what_is_flushed_can_be_read_before_the_file_is_closed(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    file.scalars(1, {"loss": 2.0})
    assert summaries(tmp_path) == []
    file.flush()
    assert len(summaries(tmp_path)) == 1
    file.close()
