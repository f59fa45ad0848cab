"""The files of Weights & Biases: records in parts, across blocks, and torn."""

import importlib.util
import struct
from pathlib import Path

import pytest

from microgpt.runs.wandb_files import BLOCK, logged_steps, records

START = b":W&B\xe1\xbe\x00"
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def part(kind: int, data: bytes) -> bytes:
    return struct.pack("<IHB", 0, len(data), kind) + data


def test_records_are_put_together_of_their_parts() -> None:
    data = START + part(FULL, b"one") + part(FIRST, b"t") + part(MIDDLE, b"w") + part(LAST, b"o") + part(FULL, b"three")
    assert list(records(data)) == [b"one", b"two", b"three"]


def test_the_end_of_a_block_that_is_too_short_for_a_part_is_skipped() -> None:
    filling = b"x" * (BLOCK - len(START) - 7 - 3)
    data = START + part(FULL, filling) + bytes(3) + part(FULL, b"next")
    assert list(records(data)) == [filling, b"next"]


@pytest.mark.parametrize("tail", [b"\x00\x00", part(FULL, b"torn")[:-1], part(FIRST, b"begun"), bytes(20)])
def test_a_torn_last_record_is_left_out(tail: bytes) -> None:
    assert list(records(START + part(FULL, b"one") + tail)) == [b"one"]


@pytest.mark.parametrize("data", [b"", b"another format, and more of it"])
def test_another_file_has_no_records(data: bytes) -> None:
    assert list(records(data)) == []


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_the_steps_of_a_run_are_those_of_all_its_sessions(tmp_path: Path) -> None:
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore - an optional extra

    def row(step: int, *keys: str) -> bytes:
        record = Record()
        record.history.step.num = step
        for key in keys:
            record.history.item.add(nested_key=[key, "path"], value_json="1")
        return part(FULL, record.SerializeToString())

    for name, content in {
        "offline-run-1-a/run-a": START + row(1, "x") + row(2, "x", "y"),
        "offline-run-2-a/run-a": START + row(3, "x") + part(FULL, b"\xff\xff") + row(4, "x"),
        "offline-run-3-b/run-b": START + row(9, "x"),
    }.items():
        file = tmp_path / f"wandb/{name}.wandb"
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
    assert logged_steps(tmp_path, "a") == {"x": {1, 2, 3}, "y": {2}}
    assert logged_steps(tmp_path, "c") == {}
