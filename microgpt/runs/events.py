"""TensorBoard's event file of a run, written with TensorBoard's own messages, and read when the run is resumed.

`torch.utils.tensorboard` does the same, but it imports all plugins, and TensorFlow where that is installed: a part of a
second, or several.
"""

# The classes of messages are made when they are imported.
# pyright: reportAttributeAccessIssue=false

import logging
import os
import re
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from google.protobuf import text_format
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout, MultilineChartContent
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from tensorboard.plugins.text.plugin_data_pb2 import TextPluginData

from microgpt.runs.directory import naming, read_bytes, write_atomically

PREFIX = "events.out.tfevents."
PROJECTOR = "projector_config.pbtxt"
PROJECTOR_FOLDER = "projector"  # holds the files that PROJECTOR names
LAYOUT, HPARAMS = "custom_scalars__config__", "_hparams_/"  # tags that TensorBoard's plugins look for

log = logging.getLogger(__name__)


def crc_of_byte(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


CRC_OF_BYTES = [crc_of_byte(byte) for byte in range(256)]


def masked_crc(data: bytes) -> bytes:
    """The checksum of a record: CRC-32C (Castagnoli 1993), masked as in TensorFlow's `core/lib/hash/crc32c.h`."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_OF_BYTES[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def read_records(path: Path) -> tuple[list[tuple[Event, bytes]], int]:
    """The whole records of an event file, parsed and as bytes, and how many are damaged.

    Nothing can be read behind a record of a damaged length. A last record without its end is not counted: that is what
    a killed process leaves.
    """
    data, records, damaged, start = read_bytes(path), [], 0, 0
    while start + 12 <= len(data):
        length = data[start : start + 8]
        if masked_crc(length) != data[start + 8 : start + 12]:
            return records, damaged + 1
        stop = start + 16 + struct.unpack("<Q", length)[0]
        if stop > len(data):
            break
        content = data[start + 12 : stop - 4]
        if masked_crc(content) == data[stop - 4 : stop]:
            records.append((Event.FromString(content), data[start:stop]))
        else:
            damaged += 1
        start = stop
    return records, damaged


def events_until(folder: Path, step: int) -> list[bytes]:
    """The records that the run in `folder` had written when it saved the checkpoint of `step`, in their order.

    Left out are those that the start and the end of a run write again, and those that TensorBoard would not show.
    """
    kept: list[tuple[Event, bytes]] = []
    stop = None
    for path in sorted(folder.glob(f"{PREFIX}*")):
        records, damaged = read_records(path)
        if damaged:
            log.warning("%s: %d damaged records left out", path, damaged)
        for event, record in records:
            if event.session_log.status == SessionLog.START:  # hides what was written before for these steps
                kept, stop = [other for other in kept if other[0].step < event.step], None
            elif not event.file_version:
                kept.append((event, record))
                if event.session_log.status == SessionLog.CHECKPOINT and event.step == step:
                    stop = len(kept)
    # Without the record of that checkpoint, what is known is the step.
    return [record for event, record in kept[:stop] if event.step <= step and not is_written_again(event)]


def is_written_again(event: Event) -> bool:
    return any(value.tag.startswith((LAYOUT, HPARAMS)) or value.HasField("image") for value in event.summary.value)


def encode(event: Event) -> bytes:
    """A record (TensorFlow's `core/lib/io/record_writer.h`): length, its checksum, event, its checksum."""
    event.wall_time = time.time()
    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    return length + masked_crc(length) + data + masked_crc(data)


class EventFile:
    """The event file of a run in `folder`. A resumed run replaces the old one, or ones, by a new one that continues it.

    `resumed_at`: the step from which the run is resumed. What was written after the checkpoint of this step is left
    out, so that the file is that of a run that was never stopped. None for a new run: nothing is kept.
    """

    def __init__(self, folder: Path, resumed_at: int | None = None) -> None:
        self.folder = folder
        kept = [] if resumed_at is None else events_until(folder, resumed_at)
        old = list(folder.glob(f"{PREFIX}*"))
        # TensorBoard reads the files of a folder in the order of their names.
        self.path = folder / f"{PREFIX}{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        version = encode(Event(file_version="brain.Event:2"))
        start = encode(Event(step=0, session_log=SessionLog(status=SessionLog.START)))  # what older files hold is void
        write_atomically(self.path, b"".join([version, start, *kept]))
        for path in old:
            path.unlink()
        with naming(self.path):
            self.file = self.path.open("ab")

    def write(self, event: Event) -> None:
        with naming(self.path):
            self.file.write(encode(event))

    def checkpoint(self, step: int) -> None:
        """Mark what has been written when the checkpoint of `step` is saved."""
        self.write(Event(step=step, session_log=SessionLog(status=SessionLog.CHECKPOINT)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write scalars, by tag, in one record."""
        found = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self.write(Event(step=step, summary=Summary(value=found)))

    def text(self, step: int, tag: str, markdown: str) -> None:
        plugin = SummaryMetadata.PluginData(plugin_name="text", content=TextPluginData(version=0).SerializeToString())
        self.tensor(step, f"{tag}/text_summary", plugin, markdown.encode(), [1])

    def image(self, step: int, tag: str, png: bytes) -> None:
        width, height = struct.unpack(">II", png[16:24])  # the header of a PNG file
        image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)  # 4: RGBA
        self.write(Event(step=step, summary=Summary(value=[Summary.Value(tag=tag, image=image)])))

    def chart(self, category: str, title: str, tags: Sequence[str]) -> None:
        """Show these tags in one chart, in TensorBoard's custom scalars."""
        patterns = [f"{re.escape(tag)}$" for tag in tags]  # TensorBoard takes them as regular expressions
        chart = Chart(title=title, multiline=MultilineChartContent(tag=patterns))
        layout = Layout(category=[Category(title=category, chart=[chart])])
        plugin = SummaryMetadata.PluginData(plugin_name="custom_scalars")
        self.tensor(0, LAYOUT, plugin, layout.SerializeToString(), [])

    def tensor(
        self, step: int, tag: str, plugin: SummaryMetadata.PluginData, content: bytes, shape: Sequence[int]
    ) -> None:
        """Write bytes for a plugin of TensorBoard, as a tensor of this shape."""
        dim = [TensorShapeProto.Dim(size=size) for size in shape]
        tensor = TensorProto(dtype="DT_STRING", string_val=[content], tensor_shape=TensorShapeProto(dim=dim))
        value = Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin), tensor=tensor)
        self.write(Event(step=step, summary=Summary(value=[value])))

    def hparams(
        self,
        settings: Mapping[str, bool | int | float | str],
        columns: Mapping[str, bool],
        metrics: Mapping[str, str],
    ) -> None:
        """Write the row of this run in TensorBoard's HPARAMS tab.

        `settings` are all that is known of the run. `columns` are those with a column, and whether they differ between
        runs, which come first. `metrics` are the headings of the final metrics, by tag. TensorBoard takes the columns
        from one of the runs. It shows numbers with five digits, 32 as 32.000, so an integer is written as a text.
        """
        infos, start = [], SessionStartInfo()
        for name, value in settings.items():
            if isinstance(value, bool):
                start.hparams[name].bool_value, kind = value, api_pb2.DATA_TYPE_BOOL
            elif isinstance(value, float):
                start.hparams[name].number_value, kind = value, api_pb2.DATA_TYPE_FLOAT64
            else:
                start.hparams[name].string_value, kind = str(value), api_pb2.DATA_TYPE_STRING
            if name in columns:
                infos.append(api_pb2.HParamInfo(name=name, type=kind, differs=columns[name]))
        finals = [
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=heading)
            for tag, heading in metrics.items()
        ]
        # The tags that `tensorboard/plugins/hparams/metadata.py` states; that module imports TensorFlow.
        contents = {
            "experiment": HParamsPluginData(experiment=api_pb2.Experiment(hparam_infos=infos, metric_infos=finals)),
            "session_start_info": HParamsPluginData(session_start_info=start),
            "session_end_info": HParamsPluginData(session_end_info=SessionEndInfo(status=api_pb2.STATUS_SUCCESS)),
        }
        for name, content in contents.items():
            data = content.SerializeToString(deterministic=True)  # the settings are a map, which has no order
            plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=data)
            value = Summary.Value(tag=HPARAMS + name, metadata=SummaryMetadata(plugin_data=plugin))
            self.write(Event(summary=Summary(value=[value])))

    def embeddings(
        self, name: str, vectors: Sequence[Sequence[float]], labels: Sequence[str], pictures: bytes, size: int
    ) -> None:
        """Write vectors for TensorBoard's projector, with a label and a picture of each, which is drawn as its point.

        `pictures` is a PNG file: a square grid of pictures of `size` x `size` pixels, row by row.
        """
        folder = self.folder / PROJECTOR_FOLDER
        folder.mkdir(exist_ok=True)
        files = {"vectors.tsv": ["\t".join(map(str, vector)) for vector in vectors], "labels.tsv": labels}
        for file, lines in files.items():
            write_atomically(folder / file, "".join(f"{line}\n" for line in lines))
        write_atomically(folder / "pictures.png", pictures)
        shown = ProjectorConfig().embeddings.add(
            tensor_name=name,
            tensor_path=f"{PROJECTOR_FOLDER}/vectors.tsv",
            metadata_path=f"{PROJECTOR_FOLDER}/labels.tsv",
        )
        shown.sprite.image_path = f"{PROJECTOR_FOLDER}/pictures.png"
        shown.sprite.single_image_dim.extend([size, size])
        config = ProjectorConfig(embeddings=[shown])
        write_atomically(self.folder / PROJECTOR, text_format.MessageToString(config))

    def flush(self) -> None:
        with naming(self.path):
            self.file.flush()

    def close(self) -> None:
        with naming(self.path):
            self.file.close()
