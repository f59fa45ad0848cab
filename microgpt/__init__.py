"""microgpt: a Hydra-configured framework for experiments with character-level GPTs.

The parts are importable without Hydra: `from microgpt.model.transformer import GPT`, `from microgpt.training.trainer import
Trainer`. This module imports nothing, so that `--help` and shell completion stay quick.
"""

__version__ = "0.1.0"
