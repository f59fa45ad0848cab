"""Checkpoints: the state of a run. A file is replaced atomically and validated when it is loaded."""

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from microgpt.errors import UserError
from microgpt.runs.directory import read_bytes, write_atomically

FORMAT = "microgpt-1"


def save(path: Path, state: dict[str, Any], keep: Path | None = None) -> None:
    """Write `state` (plain data and tensors) to `path`. If this fails, the old file is unchanged.

    The old file is kept as `keep`, if that is given.
    """
    # torch.save writes to memory, so that a full disk raises an OSError, not an error of torch.
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    write_atomically(path, buffer.getbuffer(), keep)


def load(path: Path) -> dict[str, Any]:
    """The state that `save` wrote, with tensors on the CPU. Raises `UserError` for a missing, damaged or other file."""
    if not path.is_file():
        raise UserError(f"{path}: no checkpoint here; give the directory of a run that has one")
    data = io.BytesIO(read_bytes(path))
    try:
        with zipfile.ZipFile(data) as archive:
            # Compressed entries, which torch does not write, could be larger than the memory.
            assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
            assert archive.testzip() is None  # torch.load does not verify the checksums
        data.seek(0)
        state = torch.load(data, map_location="cpu", weights_only=True)
    except Exception:  # torch raises many types of exception for damaged files
        raise UserError(f"{path}: corrupt, or not a checkpoint; use another, or resume the run") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path}: a checkpoint, but not one of microgpt's ({FORMAT}); use one of its runs")
    return state
