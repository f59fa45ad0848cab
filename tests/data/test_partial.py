"""Files that are being written: what killed writers have left goes, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path
from socket import gethostname

import pytest

from microgpt.data.partial import partial_path, remove_abandoned


@pytest.mark.parametrize("name", ["a.txt", "*"])
def test_what_a_killed_writer_has_left_is_removed(name: str, tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = f".a.txt.{ended.pid}-1@{gethostname()}.partial"
    kept = {f".a.txt.{os.getpid()}-1@{gethostname()}.partial", f".a.txt.{ended.pid}-1@elsewhere.partial", "a.txt"}
    for file in (left, *kept):
        (tmp_path / file).touch()
    remove_abandoned(tmp_path, name)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_writer_finds_its_own_file_beside_the_one_it_writes(tmp_path: Path) -> None:
    partial = partial_path(tmp_path / "a.txt")
    assert partial.parent == tmp_path and partial.name.startswith(f".a.txt.{os.getpid()}-")
