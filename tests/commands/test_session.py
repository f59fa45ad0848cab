"""Commands called by a process that goes on; what `microgpt.train` and `sweep` make of it is in tests/test_api.py."""

import os
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton

from microgpt.commands import session
from microgpt.commands.session import restored_process, run_command, sweep_apart
from microgpt.errors import UserError


def test_what_hydra_changes_is_restored_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    GlobalHydra.instance().hydra = own = object()  # type: ignore[assignment]
    argv, instances = sys.argv[:], dict(Singleton._instances)
    with pytest.raises(KeyError), restored_process():
        assert GlobalHydra not in Singleton._instances and os.environ["HYDRA_FULL_ERROR"] == "1"
        GlobalHydra.instance()
        sys.argv[1:] = ["a=1"]
        raise KeyError
    assert sys.argv == argv and os.environ["HYDRA_FULL_ERROR"] == "0"
    assert GlobalHydra.instance().hydra is own and Singleton._instances == instances
    GlobalHydra.instance().clear()


def test_the_output_of_a_command_is_printed_and_its_error_raised(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    run_command(["summarize", "--help"])
    assert "Summarize the runs" in capsys.readouterr().out
    run_command(["train", "--help"])
    assert 90 < max(map(len, capsys.readouterr().out.split("Settings:")[1].splitlines())) <= 100, "as a cell is wide"
    with pytest.raises(UserError, match=r"^fodler: there is no such key; did you mean folder\?$"):
        run_command(["summarize", "fodler=x"])
    assert capsys.readouterr() == ("", "")


def test_only_paths_are_read_as_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run: list[list[str]] = []
    monkeypatch.setattr(session, "run_command", run.append)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sweep_apart(["run.note=~10 percent smaller", "hydra.sweep.dir=~/sweep"]) == tmp_path / "sweep"
    assert run == [["train", "-m", "run.note=~10 percent smaller", "hydra.sweep.dir=~/sweep"]]
