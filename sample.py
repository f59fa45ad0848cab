"""Sample from a trained run: `python sample.py run=latest prompt=ka`; --help lists all settings."""

import hydra
from omegaconf import DictConfig

from microgpt import cli


@hydra.main(version_base="1.3", config_path="conf", config_name="sample")
def main(cfg: DictConfig) -> None:
    cli.sample(cfg)


if __name__ == "__main__":
    cli.run(main)
