"""The lock of a run directory, between real processes."""

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from microgpt.errors import UserError
from microgpt.runs import lock
from microgpt.runs.lock import LOCK, RunInUseError, locked

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the other process is a fork of this one")


@contextmanager
def other_process(folder: Path) -> Iterator[int]:
    """A process that has locked `folder` and waits for its end; yields its id."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with locked(folder):
            os.write(writer, b".")
            signal.pause()
    os.read(reader, 1)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_second_process_is_refused_by_name_until_the_first_is_killed(tmp_path: Path) -> None:
    with other_process(tmp_path) as pid:
        for _ in range(2):
            with (
                pytest.raises(RunInUseError, match=rf"is being trained by process {pid} on ") as error,
                locked(tmp_path),
            ):
                pass
            assert "\n" not in str(error.value)
    with locked(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")


def test_one_process_cannot_lock_a_run_twice(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RunInUseError), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(file: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "lock", no_locks)
    with locked(tmp_path):
        pass
    assert "No locks available; do not train this run in two processes at once" in caplog.text


def test_a_directory_that_cannot_be_written_is_an_error_that_names_the_file() -> None:
    with pytest.raises(OSError) as error, locked(Path("/proc")):
        pass
    assert error.value.filename == "/proc/.lock" and not isinstance(error.value, UserError)
