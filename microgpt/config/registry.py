"""The choices of a setting, registered beside the code that carries them out.

A choice has one home: the schema checks against these registries, `--help` lists them, and the code looks them up.
"""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Names → choices, in the order in which `module` registers them.

    The module is imported when the choices are first asked for. It must not import torch at its top, so that `--help`
    and shell completion answer at once.
    """

    def __init__(self, module: str) -> None:
        self.module = module
        self.choices: dict[str, T] = {}

    def register(self, choice: T, name: str = "") -> T:
        """Add a choice, under its own `__name__` if no other name is given; usable as a decorator."""
        self.choices[name or getattr(choice, "__name__")] = choice  # noqa: B009 - not every T has a name
        return choice

    def load(self) -> dict[str, T]:
        importlib.import_module(self.module)
        return self.choices

    def __getitem__(self, name: str) -> T:
        return self.load()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.load())

    def __len__(self) -> int:
        return len(self.load())


ACTIVATIONS: Registry[Any] = Registry("microgpt.model.activations")  # of the MLP: Tensor → Tensor
CHECKPOINTS: Registry[str] = Registry("microgpt.runs.directory")  # which weights of a run: the file that holds them
DEVICES: Registry[Any] = Registry("microgpt.model.device")  # (number of the GPU or None) → torch.device or None
MODES: Registry[Any] = Registry("microgpt.data.modes")  # how a corpus is read: a `Mode`
OPTIMIZERS: Registry[Any] = Registry("microgpt.training.optimizers")  # (GPT, OptimConfig) → Optimizers
READERS: Registry[Any] = Registry("microgpt.data.readers")  # how a file becomes texts: a `Reader`
SCHEDULES: Registry[Any] = Registry("microgpt.training.schedules")  # (time, final fraction) → fraction of the peak
