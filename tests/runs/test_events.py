"""TensorBoard's event file: the same messages as those of torch's writer, in files that TensorBoard reads."""

from pathlib import Path
from typing import Any

from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig  # type: ignore[attr-defined] - made by protobuf
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from microgpt.runs.events import PROJECTOR, EventFile, masked_crc


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
    file.scalar(10, "train/loss", 1.5)
    file.scalar(20, "train/loss", float("nan"))
    file.text(20, "samples", "    é\n")
    file.chart("microgpt", "losses", ["train/loss", "val/loss"])
    file.hparams(settings, ["final/val_loss"])
    file.close()
    writer = SummaryWriter(str(theirs))
    writer.add_scalar("train/loss", 1.5, 10)
    writer.add_scalar("train/loss", float("nan"), 20)
    writer.add_text("samples", "    é\n", 20)
    writer.add_custom_scalars({"microgpt": {"losses": ["Multiline", ["train/loss", "val/loss"]]}})
    assert writer.file_writer is not None
    for summary in hparams(settings, {"final/val_loss": 0.0}):
        writer.file_writer.add_summary(summary)
    writer.close()
    assert sorted(summaries(ours)) == sorted(summaries(theirs))
    assert len(summaries(ours)) == 7


def test_many_files_of_a_second_are_read_in_their_order(tmp_path: Path) -> None:
    for step in range(1, 13):
        file = EventFile(tmp_path, purge_step=step)
        file.scalar(step, "loss", step)
        file.scalar(step + 1, "loss", 100.0)  # purged by the next file
        file.close()
    shown = [(event.step, event.value) for event in EventAccumulator(str(tmp_path)).Reload().Scalars("loss")]
    assert shown == [*((step, step) for step in range(1, 13)), (13, 100.0)]


def test_the_projector_finds_the_vectors_and_their_names(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    for step in (10, 20):
        file.embeddings(step, "characters", [[0.25, -1.0], [3.0, 1e-9]], ["a", "␣"])
    file.close()
    (shown,) = text_format.Parse((tmp_path / PROJECTOR).read_text(), ProjectorConfig()).embeddings
    assert shown.tensor_name == "characters:00020"
    vectors = [line.split("\t") for line in (tmp_path / shown.tensor_path).read_text().splitlines()]
    assert [[float(x) for x in vector] for vector in vectors] == [[0.25, -1.0], [3.0, 1e-9]]
    assert (tmp_path / shown.metadata_path).read_text(encoding="utf-8") == "a\n␣\n"


def test_what_is_flushed_can_be_read_before_the_file_is_closed(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    file.scalar(1, "loss", 2.0)
    assert summaries(tmp_path) == []
    file.flush()
    assert len(summaries(tmp_path)) == 1
    file.close()
