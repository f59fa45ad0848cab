"""How this program was started, so that a hint names a command as the user can type it."""

import platform
import re
import shlex
import sys
from importlib import metadata
from pathlib import Path

import microgpt
from microgpt.config.groups import IS_CHECKOUT, PACKAGE

CHECKOUT = PACKAGE.parent  # the folder of train.py, if this is a checkout


def program(command: str) -> str:
    """How a command, such as `train`, is typed: `microgpt train` by someone who started the installed `microgpt`.

    In a checkout it is otherwise `python train.py`, with the path of the script if the working directory is another.
    """
    started = Path(sys.argv[0] if sys.argv else "")
    script = CHECKOUT / f"{command}.py"
    if started.stem == "microgpt":
        return f"microgpt {command}"
    if IS_CHECKOUT and script.is_file():
        return f"python {shlex.quote(str(relative(script)))}"
    is_module = started.stem == "__main__" and started.parent.name == "microgpt"
    return f"python -m microgpt {command}" if IS_CHECKOUT or is_module else f"microgpt {command}"


def install(extra: str) -> str:
    """How the packages of an extra of pyproject.toml are installed."""
    if not IS_CHECKOUT:
        return f"pip install 'microgpt[{extra}]'"
    folder = relative(CHECKOUT)
    return f"pip install -c {shlex.quote(str(folder / 'constraints.txt'))} -e {shlex.quote(f'{folder}[{extra}]')}"


def version() -> str:
    """The versions of microgpt and of what it is made of: `microgpt 0.1.0, Python 3.11.7, torch 2.13.0, …`."""
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "hydra-core"))
    return f"microgpt {microgpt.__version__}, Python {platform.python_version()}, {packages}"


def in_help(text: str) -> str:
    """The text of a help with its `python train.py` and `python sample.py` as they are typed."""
    if (typed := program("train")).startswith("python ") and typed.endswith(".py"):
        return text
    return re.sub(r"python (train|sample)\.py", lambda match: program(match[1]), text)


def relative(path: Path) -> Path:
    """The path as a user would type it: relative to the working directory, if it is below that."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
