"""The short form of `make torture`: real programs are killed, resumed, and compared with unbroken ones."""

import sys
from pathlib import Path

import pytest
from fork_server import ForkServer
from torture import PROGRAMS, Torture

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kills are placed by names in /proc")


@pytest.mark.parametrize("name", ["sweep", "gpt"])
def test_a_program_that_is_killed_and_resumed_leaves_what_an_unbroken_one_does(
    name: str, fork_server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torture = Torture(PROGRAMS[name], fork_server, tmp_path / name, seed=0)
    while not torture.kills:
        torture.trial(1)
