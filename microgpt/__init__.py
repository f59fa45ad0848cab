"""microgpt: a Hydra-configured framework for experiments with character-level GPTs.

The parts can be used without Hydra: build a `microgpt.model.transformer.GPT` and a `microgpt.training.trainer.Trainer`,
and call `fit`. This module imports nothing, so that `--help` and shell completion are fast.
"""

__version__ = "0.1.0"
