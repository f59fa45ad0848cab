"""Reads what Weights & Biases has logged from the files that it writes to the run directory, `run-<id>.wandb`.

wandb itself cannot tell a resumed run without a network. A killed process leaves what wandb wrote last: it writes about
every 15 seconds. The format is the log of LevelDB: blocks of 32 KiB, in which a record is one part or several.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

MAGIC, HEADER, BLOCK = b":W&B", 7, 32 * 1024  # bytes at the start of the file, of the header of a part, of a block
FULL, LAST = 1, 4  # the kinds of the part that ends a record


def logged_steps(folder: Path, run_id: str) -> dict[str, set[int]]:
    """The steps at which each key was logged in all sessions of the run `run_id`, whose directory is `folder`.

    A text is an item for each of its properties, whose first key is that of the text.
    """
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore - an optional extra

    steps: dict[str, set[int]] = {}
    for file in sorted(folder.glob(f"wandb/*run-*/run-{run_id}.wandb")):
        for data in records(file.read_bytes()):
            record = Record()
            try:
                record.ParseFromString(data)
            except DecodeError:  # damaged: what follows cannot be trusted
                break
            for item in record.history.item:
                steps.setdefault(item.key or item.nested_key[0], set()).add(record.history.step.num)
    return steps


def records(data: bytes) -> Iterator[bytes]:
    """The whole records of a file; a torn last one, as a killed process leaves it, is left out."""
    position, begun = HEADER if data.startswith(MAGIC) else len(data), b""
    while position + HEADER <= len(data):
        if (left := BLOCK - position % BLOCK) < HEADER:  # too short for a part
            position += left
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)  # after a checksum
        part = data[position + HEADER : position + HEADER + length]
        if not kind or len(part) < length:
            return
        position += HEADER + length
        begun = part if kind <= 2 else begun + part
        if kind in (FULL, LAST):
            yield begun
