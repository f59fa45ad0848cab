"""The groups of settings: the folders of YAML files in `conf/`, from which a config is composed."""

from pathlib import Path

import microgpt

PACKAGE = Path(str(microgpt.__file__)).parent

# Beside the package in a checkout, within it when it is installed from a wheel.
CONF = next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir())
IS_CHECKOUT = CONF.parent != PACKAGE

# Where settings that a command finds are saved: not in an installed package, so they need `--config-dir conf` there.
OWN_CONF = CONF if IS_CHECKOUT else Path("conf")

# Folders of `conf/` that are not groups to choose from: for Hydra itself, for the search, and the recipes that follow
# from the choices of `model` and `dataset`.
OTHER_FOLDERS = ("hydra", "tune", "recipe")


def groups() -> tuple[str, ...]:
    """The names of all groups: dataset, experiment, insight, model, …"""
    return tuple(sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name not in OTHER_FOLDERS))


def choices(group: str) -> list[str]:
    """The choices of a group: the names of its files."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def program(command: str) -> str:
    """How `train` or `sample` is typed: `python train.py` in a checkout, `microgpt train` if a wheel is installed."""
    return f"python {command}.py" if IS_CHECKOUT else f"microgpt {command}"
