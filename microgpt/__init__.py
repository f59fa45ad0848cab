# pyright: strict
"""microgpt: a Hydra-configured framework for experiments with character-level GPTs.

    import microgpt
    run = microgpt.train("dataset=names", "model.n_embd=32", steps=300)
    run.sample("ka", n=5)

`train`, `load` and `sweep` are the commands as functions: docs/python.md. The parts can be used without Hydra: build a
`microgpt.model.transformer.GPT` and a `microgpt.training.trainer.Trainer`, and call `fit`. What this module exports is
imported when it is asked for, so that importing it, `--help` and shell completion are fast.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from microgpt.api import load, sweep, train
    from microgpt.errors import InterruptedRunError, UserError
    from microgpt.notebook import Run, Sweep

__version__ = "0.1.0"
__all__ = ["InterruptedRunError", "Run", "Sweep", "UserError", "load", "sweep", "train"]

_MODULES = {
    **dict.fromkeys(("load", "sweep", "train"), "api"),
    **dict.fromkeys(("InterruptedRunError", "UserError"), "errors"),
    **dict.fromkeys(("Run", "Sweep"), "notebook"),
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'microgpt' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"microgpt.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
