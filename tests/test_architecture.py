"""The layout: the order of imports, short modules, facts defined once, and documents that name every module."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from settings import QUICK, ROOT

PACKAGE = ROOT / "microgpt"
TESTS = ROOT / "tests"

# Each may import from itself and from those before it; insight and sweeps are on the same level.
ORDER = [
    ("errors",),
    ("config",),
    ("data",),
    ("model",),
    ("runs",),
    ("plots",),
    ("insight", "sweeps"),
    ("training",),
    ("commands",),
    ("notebook",),
    ("api",),
    ("__main__",),
]
PLACE = {folder: number for number, folders in enumerate(ORDER) for folder in folders}

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
NAMES = {path: path.relative_to(PACKAGE).with_suffix("").as_posix() for path in MODULES}

MAX_MODULE_LINES, MAX_GPT_LINES, MAX_FUNCTION_LINES = 260, 420, 45


def folder_of(path: Path) -> str:
    return NAMES[path].partition("/")[0]


def imported_folders(path: Path) -> set[str]:
    """The folders of the package from which a module imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "microgpt":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("microgpt."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("microgpt.")}
    return found


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "gpt.py"], ids=NAMES.get)
def test_a_folder_imports_only_folders_below_it(path: Path) -> None:
    own = folder_of(path)
    later = {other for other in imported_folders(path) - {own} if PLACE[other] >= PLACE[own]}
    # The table of commands is asked for by the one command that completes their names.
    assert later <= ({"__main__"} if path.name == "completion.py" else set())


def test_gpt_imports_the_standard_library_alone() -> None:
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / "gpt.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
    assert found - sys.stdlib_module_names == {"matplotlib"}  # used only if it is installed
    assert "gpt" not in {other for path in MODULES for other in imported_folders(path)}


def test_only_the_commands_and_the_callback_of_sweeps_import_hydra() -> None:
    pattern = re.compile(r"^\s*(?:from|import) hydra\b", re.MULTILINE)
    importing = {NAMES[path] for path in MODULES if pattern.search(path.read_text(encoding="utf-8"))}
    assert all(name.startswith("commands/") or name == "sweeps/callback" for name in importing)
    schema = (PACKAGE / "config" / "schema.py").read_text(encoding="utf-8")
    assert not re.search(r"^\s*(?:from|import) (?:hydra|omegaconf|torch)\b", schema, re.MULTILINE)


@pytest.mark.parametrize("path", MODULES, ids=NAMES.get)
def test_modules_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= (MAX_GPT_LINES if path.name == "gpt.py" else MAX_MODULE_LINES)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION_LINES, node.name


def test_every_folder_and_module_has_a_docstring() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


@pytest.mark.parametrize("path", MODULES, ids=NAMES.get)
def test_every_module_has_a_test_file(path: Path) -> None:
    name = NAMES[path].replace("__main__", "main")
    folder, _, module = name.rpartition("/")
    assert (TESTS / folder / f"test_{module}.py").is_file()


def test_the_mode_is_looked_up_by_name_in_two_modules_only() -> None:
    """Other modules call the methods of the mode, so that a third mode is only a new class."""
    comparison = re.compile(
        r"""(?:==|!=|\bin\b)\s*\(?["'](?:discrete|stream)["']|["'](?:discrete|stream)["']\s*(?:==|!=)"""
    )
    lookup = re.compile(r"\bfind_mode\(|\bMODES\[")
    places = []
    for path in MODULES:
        if folder_of(path) != "config" and NAMES[path] != "data/modes":
            text = path.read_text(encoding="utf-8")
            places += [NAMES[path]] * len(comparison.findall(text) + lookup.findall(text))
    assert places == ["data/corpus", "runs/opening"]  # where a corpus is read, and where a run is opened


def test_only_data_loading_splits_a_corpus() -> None:
    calls = {NAMES[path] for path in MODULES if "mode.split(" in path.read_text(encoding="utf-8")}
    assert calls == {"data/loading"}
    fraction = {NAMES[path] for path in MODULES if "VALIDATION_FRACTION" in path.read_text(encoding="utf-8")}
    assert fraction == {"data/modes"}


COMMANDS = sorted(path.stem for path in (PACKAGE / "commands").glob("*.py") if "def main(" in path.read_text())


def test_the_table_of_commands_lists_every_command() -> None:
    from microgpt.__main__ import COMMANDS as TABLE

    assert sorted(TABLE) == COMMANDS


@pytest.mark.parametrize(
    "arguments", [["-m", "microgpt"], *(["-m", "microgpt", name, "--help"] for name in COMMANDS)], ids=" ".join
)
def test_help_imports_no_torch(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) > 5
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["torch.py"]


# What is slow to import, and imported when it is used or not at all. Torch itself imports none of these.
NEVER = [
    "torch._dynamo",
    "sympy",
    "torch.utils.tensorboard",
    "tensorboard.summary",
    "tensorboard.compat.tensorflow_stub",
    "pooch",
    "requests",
]
UNUSED = [*NEVER, "tensorboard", "matplotlib", "PIL", "rich", "rapidfuzz", "jinja2", "optuna"]


def imported(code: str, *words: str, folder: Path) -> set[str]:
    """The modules that a new Python has imported after `code`; `words` are its arguments."""
    show = "print('\\nMODULES', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\ntry:\n    {code}\nfinally:\n    {show}", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return set(done.stdout.partition("\nMODULES ")[2].split())


def call(command: str) -> str:
    """Code that runs a command with the arguments of the process."""
    return f"from microgpt.commands import {command}; {command}.main(sys.argv[1:])"


def test_importing_the_parts_of_a_run_imports_nothing_that_is_slow(tmp_path: Path) -> None:
    found = imported("import microgpt.training.run", folder=tmp_path)
    assert "torch" in found and not found & {*UNUSED, "hydra"}


@pytest.mark.parametrize("flags", [["--help"], ["--cfg", "job"]], ids=" ".join)
@pytest.mark.parametrize("command", ["train", "sample"])
def test_help_and_the_config_import_nothing_that_is_slow(command: str, flags: list[str], tmp_path: Path) -> None:
    words = [*flags, "run=x"] if command == "sample" else flags
    found = imported(call(command), *words, folder=tmp_path)
    assert "hydra" in found and not found & {*UNUSED, "torch", "numpy"}


def test_a_run_and_its_samples_import_only_what_they_use(tmp_path: Path) -> None:
    found = imported(call("train"), *QUICK, "plot=false", f"hydra.run.dir={tmp_path / 'run'}", folder=tmp_path)
    assert "tensorboard" in found and not found & {*NEVER, "rich", "jinja2", "optuna"}
    found = imported(call("sample"), f"run={tmp_path / 'run'}", folder=tmp_path)
    assert "torch" in found and not found & set(UNUSED)


def test_the_architecture_names_each_module_once_and_each_folder() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    way = text[text.index("## The way of a text") : text.index("## Why a resumed run")]
    named = re.findall(r"`([a-z_/]+)`", way)
    for path in MODULES:
        assert named.count(NAMES[path]) == 1, NAMES[path]
    (line,) = (line for line in text.splitlines() if line.startswith("errors →"))
    assert re.findall(r"\w+", line) == [folder for folders in ORDER[:-1] for folder in folders]


def test_the_readme_shows_the_existing_folders() -> None:
    tree = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Where things are")[2]
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(re.findall(r"^  (\w+)/ ", tree, re.MULTILINE))
