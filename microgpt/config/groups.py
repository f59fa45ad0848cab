"""The groups of settings: the folders of YAML files in `conf/`, from which a config is composed.

A folder of the user's own (`--config-dir`) adds choices to them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import microgpt
from microgpt.errors import UserError

PACKAGE = Path(str(microgpt.__file__)).parent

# Beside the package in a checkout, within it when it is installed from a wheel.
CONF = next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir())
IS_CHECKOUT = CONF.parent != PACKAGE

# Where settings that a command finds are saved: not in an installed package, so they need `--config-dir conf` there.
OWN_CONF = CONF if IS_CHECKOUT else Path("conf")

# Folders of `conf/` that are not groups to choose from: for Hydra itself, for the search, and the recipes that follow
# from the choices of `model` and `dataset`.
OTHER_FOLDERS = ("hydra", "tune", "recipe")

_own_folders: list[Path] = []  # that of --config-dir, in `with_groups_in`


@contextmanager
def with_groups_in(folder: Path | None) -> Iterator[None]:
    """A context in which the groups in `folder`, if there is one, are known beside those in `conf/`."""
    before = _own_folders[:]
    _own_folders[:] = [folder] if folder else []
    try:
        yield
    finally:
        _own_folders[:] = before


def own_folder() -> Path | None:
    """The folder of `--config-dir`, if it is given."""
    return _own_folders[0] if _own_folders else None


def check_own_folder(text: str) -> Path:
    """The folder that is typed after `--config-dir`. Raises `UserError` if there is none."""
    folder = Path(text)
    if not text or not folder.is_dir():
        reason = "is a file" if folder.is_file() else "there is no such folder" if text else "names no folder"
        raise UserError(f"--config-dir {text}: {reason}; leave it out, or give a folder laid out as conf/")
    return folder


def groups() -> tuple[str, ...]:
    """The names of all groups: dataset, experiment, insight, model, …"""
    return tuple(sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name not in OTHER_FOLDERS))


def choices(group: str) -> list[str]:
    """The choices of a group: the names of its files."""
    return sorted({file.stem for file in files(group)})


def files(group: str) -> list[Path]:
    """The files of a group. Where both folders have one of the same name, Hydra takes that in `conf/`."""
    return [file for folder in (CONF, *_own_folders) for file in sorted((folder / group).glob("*.yaml"))]
