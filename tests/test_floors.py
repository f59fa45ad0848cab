"""The house: a module imports only from floors below its own."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "microgpt"

FLOORS = [
    {"errors", "gpt"},
    {"tokenizer", "model", "datasets", "tracking", "plots", "ranks", "baselines", "novelty", "doctor", "arguments"},
    {"optim", "batches", "generate", "checkpoint", "probe", "portraits"},
    {"evaluate", "layers"},
    {"trainer"},
    {"config"},
    {"build", "runs", "failure"},
    {"samples", "summary"},
    {"insight", "report", "scoring"},
    {"training"},
    {"sweep"},
    {"cli"},
    {"corpora", "tune", "convert", "explain", "compare", "tradeoff"},
]
FLOOR = {module: number for number, modules in enumerate(FLOORS) for module in modules}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def imports(module: str) -> set[str]:
    """The modules of the package that `module` imports, anywhere in its text."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "microgpt":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("microgpt."):
            found.add(str(node.module).removeprefix("microgpt."))
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("microgpt.") for alias in node.names if "microgpt" in alias.name}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_floors_below(module: str) -> None:
    assert module in FLOOR, f"{module} has no floor: give it one here"
    above = {other for other in imports(module) if FLOOR[other] >= FLOOR[module]}
    assert not above


@pytest.mark.parametrize("module", MODULES)
def test_only_the_upper_floors_know_hydra(module: str) -> None:
    text = (PACKAGE / f"{module}.py").read_text()
    if FLOOR[module] < FLOOR["config"]:
        assert "hydra" not in text.lower() and "omegaconf" not in text.lower()


@pytest.mark.parametrize("module", ["microgpt", "microgpt.cli", "microgpt.config", "microgpt.plots"])
def test_what_answers_help_imports_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_gpt_imports_the_standard_library_alone() -> None:
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / "gpt.py").read_text())):
        if isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
    assert found - sys.stdlib_module_names == {"matplotlib"}  # which is only asked for
    assert "gpt" not in {other for module in MODULES for other in imports(module)}


def test_every_module_has_its_tests() -> None:
    tested = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert set(MODULES) <= tested
