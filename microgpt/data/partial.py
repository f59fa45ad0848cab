"""Files that are being written: each writer has one of its own, which takes the place of the old file at the end."""

import glob
import os
from pathlib import Path
from socket import gethostname
from threading import get_ident

PARTIAL = ".partial"  # ends the name of a file while it is written


def partial_path(path: Path) -> Path:
    """Where this thread writes what will be `path`: several processes may write the same file at once."""
    return path.with_name(f".{path.name}.{os.getpid()}-{get_ident()}@{gethostname()}{PARTIAL}")


def remove_abandoned(folder: Path, name: str = "*") -> None:
    """Remove what processes of this machine that were killed have left in `folder` of a file `name`, or of any."""
    for partial in folder.glob(f".{name}.*@{glob.escape(gethostname())}{PARTIAL}"):
        import psutil

        writer = partial.name.rpartition("@")[0].rpartition(".")[2].partition("-")[0]
        if writer.isdecimal() and not psutil.pid_exists(int(writer)):
            partial.unlink(missing_ok=True)
