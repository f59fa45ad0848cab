"""The cache of what is computed from a corpus: named arrays and a few facts, in the user's cache directory.

An entry is one file, named after a hash of its key. It holds a checksum, a line of JSON and the arrays, which are
mapped into memory when it is read. A damaged or missing entry is built again. Where nothing can be written, nothing is
kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mmap
import os
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from microgpt.data.partial import partial_path, remove_abandoned

if TYPE_CHECKING:
    import numpy as np

MAX_BYTES = 4 << 30  # of all entries; beyond it, those that were not used for the longest time are deleted
ALIGNMENT = 64  # bytes; each array begins at a multiple of it
BYTES_AT_ONCE = 1 << 20
CHECKSUM_BYTES = 9  # at the beginning of an entry: eight hexadecimal digits and a newline

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The user's cache directory for this package; it may not exist yet."""
    return platformdirs.user_cache_path("microgpt")


@lru_cache(maxsize=1)
def version() -> str:
    """A hash of the code that makes entries: of the modules in this folder, and of the version of Python."""
    sources = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256(b"\0".join([sys.version.encode(), *sources])).hexdigest()


def file_checksum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. A 100 MB file takes 0.1 to 0.3 s."""
    digest, buffer = hashlib.sha256(), bytearray(BYTES_AT_ONCE)
    with path.open("rb", buffering=0) as file:
        while n := file.readinto(buffer):
            digest.update(memoryview(buffer)[:n])
    return digest.hexdigest()


@dataclass(frozen=True)
class Entry:
    """Named arrays, of which changes do not reach the file, and facts that JSON can hold."""

    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any] = field(default_factory=dict)


class Cache:
    """The entries of one corpus. `key` (what JSON can hold) says all that they depend on; with None nothing is kept.

    A `build` that finds that its result does not belong to the key sets it to None.
    """

    def __init__(self, key: Any = None) -> None:
        self.key = key

    def get(self, name: Any, build: Callable[[], Entry]) -> Entry:
        """The entry `name` (what JSON can hold): read from its file, or else built and written to it."""
        if self.key is None:
            return build()
        key = json.dumps([version(), self.key, name]).encode()
        path = cache_folder() / "corpora" / hashlib.sha256(key).hexdigest()[:32]
        if (entry := read(path)) is not None:
            return entry
        entry = build()
        if self.key is None:
            return entry
        try:
            write(path, entry)
            prune(path.parent, keep=path)
        except OSError as error:
            log.debug("the corpus could not be written to the cache: %s", error)
            return entry
        return read(path) or entry  # mapped, so that what was built can be freed


def read(path: Path) -> Entry | None:
    """The entry in a file; None if there is no such file or it is damaged."""
    import numpy as np

    try:
        with path.open("rb", buffering=0) as file:
            checksum, found, buffer = file.read(CHECKSUM_BYTES), 0, bytearray(BYTES_AT_ONCE)
            while n := file.readinto(buffer):  # not through the map: what is only checked takes no memory
                found = zlib.crc32(memoryview(buffer)[:n], found)
            if checksum != b"%08x\n" % found:
                return None
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError):  # ValueError: the file is empty
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # `prune` deletes what was not used for the longest time
    end = mapped.find(b"\n", CHECKSUM_BYTES) + 1
    header = json.loads(mapped[CHECKSUM_BYTES:end])
    arrays = {
        name: np.ndarray(shape, dtype, buffer=mapped, offset=end + offset)
        for name, (shape, dtype, offset) in header["arrays"].items()
    }
    return Entry(arrays, header["facts"])


def write(path: Path, entry: Entry) -> None:
    """Write an entry to a file of its own, which then takes the place of `path`. Raises `OSError`."""
    places, end = {}, 0
    for name, array in entry.arrays.items():
        places[name] = array.shape, array.dtype.str, end
        end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    header = json.dumps({"arrays": places, "facts": dict(entry.facts)}).encode()
    header += b" " * (-(CHECKSUM_BYTES + len(header) + 1) % ALIGNMENT) + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(path)
    try:
        with partial.open("wb") as file:
            file.write(b"\0" * CHECKSUM_BYTES)
            file.write(header)
            checksum = zlib.crc32(header)
            for array in entry.arrays.values():
                data = array.reshape(-1).view("u1").data
                padding = b"\0" * (-array.nbytes % ALIGNMENT)
                file.write(data)
                file.write(padding)
                checksum = zlib.crc32(padding, zlib.crc32(data, checksum))
            file.seek(0)
            file.write(b"%08x\n" % checksum)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def prune(folder: Path, keep: Path) -> None:
    """Delete from `folder` what killed processes have left, and the entries that were not used for the longest time.

    The rest, with the entry `keep`, is at most MAX_BYTES.
    """
    remove_abandoned(folder)
    found = [(file, file.stat()) for file in folder.iterdir() if file != keep]
    total = keep.stat().st_size
    for file, stat in sorted(found, key=lambda pair: pair[1].st_mtime, reverse=True):
        total += stat.st_size
        if total > MAX_BYTES:
            file.unlink()
