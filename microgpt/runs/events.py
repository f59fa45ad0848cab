"""TensorBoard's event file of a run, written with TensorBoard's own messages.

`torch.utils.tensorboard` does the same, but it imports all plugins, and TensorFlow where that is installed: a part of a
second, or several.
"""

# The classes of messages are made when they are imported.
# pyright: reportAttributeAccessIssue=false

import os
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

PROJECTOR = "projector_config.pbtxt"


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


class EventFile:
    """A new event file in `folder`, which TensorBoard shows as the continuation of those that are there.

    `purge_step`: TensorBoard ignores what earlier files hold from this step on; None for a new run.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        self.folder = folder
        # TensorBoard reads the files of a folder in the order of their names.
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self.file = (folder / name).open("xb")
        self.write(Event(file_version="brain.Event:2"))
        if purge_step is not None:
            self.write(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))
        self.flush()

    def write(self, event: Event) -> None:
        """Append a record (TensorFlow's `core/lib/io/record_writer.h`): length, its checksum, event, its checksum."""
        event.wall_time = time.time()
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        self.file.write(length + masked_crc(length) + data + masked_crc(data))

    def scalar(self, step: int, tag: str, value: float) -> None:
        self.write(Event(step=step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)])))

    def text(self, step: int, tag: str, markdown: str) -> None:
        plugin = SummaryMetadata.PluginData(plugin_name="text", content=TextPluginData(version=0).SerializeToString())
        self.tensor(step, f"{tag}/text_summary", plugin, markdown.encode(), [1])

    def chart(self, category: str, title: str, tags: Sequence[str]) -> None:
        """Show these tags in one chart, in TensorBoard's custom scalars."""
        chart = Chart(title=title, multiline=MultilineChartContent(tag=tags))
        layout = Layout(category=[Category(title=category, chart=[chart])])
        plugin = SummaryMetadata.PluginData(plugin_name="custom_scalars")
        self.tensor(0, "custom_scalars__config__", plugin, layout.SerializeToString(), [])

    def tensor(
        self, step: int, tag: str, plugin: SummaryMetadata.PluginData, content: bytes, shape: Sequence[int]
    ) -> None:
        """Write bytes for a plugin of TensorBoard, as a tensor of this shape."""
        dim = [TensorShapeProto.Dim(size=size) for size in shape]
        tensor = TensorProto(dtype="DT_STRING", string_val=[content], tensor_shape=TensorShapeProto(dim=dim))
        value = Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin), tensor=tensor)
        self.write(Event(step=step, summary=Summary(value=[value])))

    def hparams(self, settings: Mapping[str, bool | int | float | str], metrics: Sequence[str]) -> None:
        """Write the row of this run in TensorBoard's HPARAMS tab: its settings, and the tags of its final metrics."""
        infos, start = [], SessionStartInfo()
        for name, value in settings.items():
            if isinstance(value, bool):
                start.hparams[name].bool_value, kind = value, api_pb2.DATA_TYPE_BOOL
            elif isinstance(value, str):
                start.hparams[name].string_value, kind = value, api_pb2.DATA_TYPE_STRING
            else:
                start.hparams[name].number_value, kind = value, api_pb2.DATA_TYPE_FLOAT64
            infos.append(api_pb2.HParamInfo(name=name, type=kind))
        tags = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in metrics]
        # The tags that `tensorboard/plugins/hparams/metadata.py` states; that module imports TensorFlow.
        contents = {
            "experiment": HParamsPluginData(experiment=api_pb2.Experiment(hparam_infos=infos, metric_infos=tags)),
            "session_start_info": HParamsPluginData(session_start_info=start),
            "session_end_info": HParamsPluginData(session_end_info=SessionEndInfo(status=api_pb2.STATUS_SUCCESS)),
        }
        for name, content in contents.items():
            plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=content.SerializeToString())
            value = Summary.Value(tag=f"_hparams_/{name}", metadata=SummaryMetadata(plugin_data=plugin))
            self.write(Event(summary=Summary(value=[value])))

    def embeddings(self, step: int, tag: str, vectors: Sequence[Sequence[float]], names: Sequence[str]) -> None:
        """Write vectors and their names for TensorBoard's projector, which shows only those that were written last."""
        folder = self.folder / f"{step:05}" / tag
        folder.mkdir(parents=True, exist_ok=True)
        rows = {"tensors.tsv": ["\t".join(map(str, vector)) for vector in vectors], "metadata.tsv": names}
        for name, lines in rows.items():
            (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        config, path = ProjectorConfig(), folder.relative_to(self.folder).as_posix()
        config.embeddings.add(
            tensor_name=f"{tag}:{step:05}", tensor_path=f"{path}/tensors.tsv", metadata_path=f"{path}/metadata.tsv"
        )
        (self.folder / PROJECTOR).write_text(text_format.MessageToString(config), encoding="utf-8")

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        self.file.close()
