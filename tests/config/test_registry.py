"""Registries: the choices of every setting, listed without torch, and how a choice is added."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from microgpt.config import registry
from microgpt.config.registry import Registry

# In their order, which is that of --help.
CHOICES = {
    "ACTIVATIONS": ["relu", "relu_squared", "gelu"],
    "CHECKPOINTS": ["best", "last"],
    "DEVICES": ["auto", "cpu", "cuda", "mps"],
    "LOGGERS": ["wandb", "mlflow"],
    "MODES": ["discrete", "stream"],
    "OPTIMIZERS": ["adam", "adamw", "muon"],
    "READERS": ["text", "csv", "jsonl", "zip", "colors", "python_docs"],
    "SCHEDULES": ["linear", "cosine", "constant"],
}


def test_every_registry_is_tested() -> None:
    assert {name for name, value in vars(registry).items() if isinstance(value, Registry)} == set(CHOICES)


@pytest.mark.parametrize("name", CHOICES)
def test_the_choices_are_listed_without_torch(name: str) -> None:
    code = f"import sys; from microgpt.config.registry import {name}; print(*{name}, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [*CHOICES[name], "False"]


def test_a_choice_is_registered_under_its_own_name_or_another() -> None:
    shapes: Registry[Any] = Registry("math")

    @shapes.register
    def circle() -> str:
        return "round"

    assert circle() == "round" and shapes["circle"] is circle
    assert shapes.register("a value", "square") == "a value"
    assert dict(shapes) == {"circle": circle, "square": "a value"}
    assert len(shapes) == 2 and "circle" in shapes and "triangle" not in shapes


def test_a_choice_without_a_name_needs_one() -> None:
    shapes: Registry[Any] = Registry("math")
    with pytest.raises(AttributeError):
        shapes.register(5)


def test_the_module_is_imported_at_the_first_access_to_the_choices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: Registry[Any] = Registry("shapes_of_a_test")
    monkeypatch.setattr(registry, "SHAPES", shapes, raising=False)
    text = "from microgpt.config.registry import SHAPES\nSHAPES.register('a value', 'square')\n"
    (tmp_path / "shapes_of_a_test.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert "shapes_of_a_test" not in sys.modules
    assert list(shapes) == ["square"]


def test_an_unknown_choice_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        registry.SCHEDULES["exponential"]
