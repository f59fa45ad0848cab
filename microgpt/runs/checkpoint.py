"""Checkpoints: the state of a run, saved so that the file is whole at every moment, and loaded with checks."""

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from microgpt.errors import UserError

FORMAT = "microgpt-1"


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (plain data and tensors) to `path`: afterwards it holds all of it or what it held before."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        # Through memory, so that a full disk is an OSError with the file's name in it.
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, **state}, buffer)
        with partial.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """The state that `save` wrote, on the CPU. Raises `UserError` for what is no such file, or a damaged one."""
    if not path.is_file():
        raise UserError(f"{path}: no checkpoint here; give the directory of a run that has one")
    data = io.BytesIO(path.read_bytes())
    try:
        with zipfile.ZipFile(data) as archive:
            assert archive.testzip() is None  # torch itself does not look at the checksums
        data.seek(0)
        state = torch.load(data, map_location="cpu", weights_only=True)
    except Exception:  # torch raises a dozen kinds, according to what is wrong where
        raise UserError(f"{path}: corrupt, or not a checkpoint; start the run anew, or use another") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path}: a checkpoint, but not one of microgpt's ({FORMAT}); use one of its runs")
    return state
