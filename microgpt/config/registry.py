"""The choices of a setting. Each is registered in the module that implements it.

A registry is the only list of its choices: the schema checks values against it, `--help` prints it, and the code takes
the implementation from it.
"""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """A mapping from names to choices, in the order in which `module` registers them.

    The first look-up imports `module`, which fills the registry. So the schema can refer to a registry and need not
    import the implementations. `module` must not import torch at its top, so that `--help` and completion are fast.
    """

    def __init__(self, module: str) -> None:
        self.module = module
        self.choices: dict[str, T] = {}

    def register(self, choice: T, name: str = "") -> T:
        """Add a choice and return it; usable as a decorator. The default of `name` is the `__name__` of the choice."""
        self.choices[name or getattr(choice, "__name__")] = choice  # noqa: B009 - not every T has a name
        return choice

    def load(self) -> dict[str, T]:
        importlib.import_module(self.module)  # the first import runs its calls of `register`
        return self.choices

    def __getitem__(self, name: str) -> T:
        return self.load()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.load())

    def __len__(self) -> int:
        return len(self.load())


ACTIVATIONS: Registry[Any] = Registry("microgpt.model.activations")  # of the MLP: Tensor → Tensor
CHECKPOINTS: Registry[str] = Registry("microgpt.runs.directory")  # best or last → the file of these weights
DEVICES: Registry[Any] = Registry("microgpt.model.device")  # (number of the GPU or None) → torch.device or None
LOGGERS: Registry[Any] = Registry("microgpt.runs.loggers")  # what a run is logged to beside its files: a `Logger`
MODES: Registry[Any] = Registry("microgpt.data.modes")  # how a corpus is read: a `Mode`
OPTIMIZERS: Registry[Any] = Registry("microgpt.training.optimizers")  # (GPT, OptimConfig) → Optimizers
READERS: Registry[Any] = Registry("microgpt.data.readers")  # how a file is converted to texts: a `Reader`
SCHEDULES: Registry[Any] = Registry("microgpt.training.schedules")  # (time, final fraction) → fraction of the peak
