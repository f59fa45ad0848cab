"""Train a character-level GPT: `python train.py dataset=names model.n_embd=64`; --help lists all settings.

Kept short on purpose: conf/ says what can be set, microgpt/training/run.py what a run is.
"""

import hydra
from omegaconf import DictConfig

from microgpt import cli


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> None:
    cli.train(cfg)


if __name__ == "__main__":
    cli.run(main)
