"""How commands and installations are typed: by the way in which the program was started, and from where."""

import shlex
import sys
from pathlib import Path

import pytest
from settings import ROOT

from microgpt.config import program as module
from microgpt.config.program import in_help, install, program


@pytest.fixture
def anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "started", [str(ROOT / "train.py"), "/x/ipykernel_launcher.py", "-c", "/x/microgpt/__main__.py"]
)
def test_a_checkout_names_its_scripts(started: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [started])
    monkeypatch.chdir(ROOT)
    assert [program(name) for name in ("train", "sample", "convert")] == [
        "python train.py",
        "python sample.py",
        "python -m microgpt convert",
    ]


def test_from_elsewhere_a_script_has_its_path(anywhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(ROOT / "train.py")])
    assert shlex.split(program("sample")) == ["python", str(ROOT / "sample.py")]
    assert install("tune") == f"pip install -c {ROOT}/constraints.txt -e '{ROOT}[tune]'"
    monkeypatch.chdir(ROOT)
    assert install("tune") == "pip install -c constraints.txt -e '.[tune]'"


@pytest.mark.parametrize("started", ["/venv/bin/microgpt", r"microgpt.exe"])
def test_the_installed_program_names_itself(started: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [started])
    assert program("train") == "microgpt train"
    assert in_help("  python train.py a\n  python sample.py b") == "  microgpt train a\n  microgpt sample b"


def test_a_wheel_has_no_scripts(anywhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IS_CHECKOUT", False)
    for started, expected in [
        ("/x/site-packages/microgpt/__main__.py", "python -m microgpt train"),
        ("/x/ipykernel_launcher.py", "microgpt train"),
        ("", "microgpt train"),
    ]:
        monkeypatch.setattr(sys, "argv", [started])
        assert program("train") == expected
    assert install("tune") == "pip install 'microgpt[tune]'"


def test_help_keeps_the_scripts_of_a_checkout(anywhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(ROOT / "train.py")])
    assert in_help("python train.py a") == "python train.py a"
