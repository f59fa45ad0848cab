"""The wheel, installed in an environment of its own: it works in an empty folder as a checkout does."""

import importlib.util
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from settings import QUICK, ROOT

Run = Callable[..., str]

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("hatchling"), reason="needs hatchling")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.glob("microgpt-*.whl")
    return file


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a new environment with the wheel. It finds other packages where this Python has them."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (python,) = [folder / name / "python" for name in ("bin", "Scripts") if (folder / name).is_dir()]
    install = ["-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet", str(wheel)]
    subprocess.run([sys.executable, *install], check=True, capture_output=True)
    (packages,) = folder.rglob("site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


@pytest.fixture
def run(environment: Path, tmp_path: Path) -> Run:
    """Runs a program of the environment in an empty folder, and returns what it prints."""

    def run(program: str, *words: str) -> str:
        variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            [str(environment / program), *words], cwd=tmp_path, env=variables, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_the_wheel_holds_every_file_of_conf_and_the_types(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    conf = {f"microgpt/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert conf | {"microgpt/py.typed", "microgpt/sweeps/report.html.j2"} <= names
    assert not any(name.startswith(("tests/", "conf/")) for name in names)


def test_it_trains_samples_and_sweeps_in_an_empty_folder(run: Run, tmp_path: Path) -> None:
    out = run("microgpt", "train", "dataset=colors", *QUICK)
    assert "finished after" in out
    run("microgpt", "sample", "run=latest")
    out = run("microgpt", "train", "-m", "seed=1,2", "insight=off", *QUICK)
    assert "sample from the best:    microgpt sample run=multirun/" in out
    assert "train it for longer:     microgpt train resume=multirun/" in out
    code = f"import microgpt; print(microgpt.__file__); print(microgpt.train(*{QUICK!r}).val_loss)"
    assert str(ROOT) not in run("python", "-c", code).splitlines()[0]
    assert "colors" in run("microgpt", "corpora")
    text = run("microgpt", "train", "--help") + run("microgpt", "sample", "--help")
    assert "  microgpt train dataset=names" in text and ".py" not in text


def test_it_takes_groups_of_ones_own(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine/dataset").mkdir(parents=True)
    (tmp_path / "mine/dataset/rivers.yaml").write_text(
        "# @package _global_\ndataset: {name: rivers, mode: discrete, reader: csv, column: name, path: rivers.csv}\n"
    )
    (tmp_path / "rivers.csv").write_text("name\n" + "".join(f"river {i}\n" for i in range(30)))
    run("microgpt", "train", "--config-dir", "mine", "dataset=rivers", *QUICK)
    assert len(list(tmp_path.glob("outputs/rivers/*/best.pt"))) == 1
    assert "rivers" in run("microgpt", "corpora", "--config-dir", "mine")
    assert "rivers, shakespeare" in run("microgpt", "train", "--help", "--config-dir", "mine")
