"""`python -m microgpt.convert run=latest`: makes a run of gpt.py one that sample.py reads.

Writes `best.pt` beside the run's `ckpt.json`. The optimizer is left behind: to go on with training is gpt.py's affair.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from microgpt.arguments import read_words
from microgpt.config.schema import Config, DatasetConfig, ModelConfig, SamplingConfig
from microgpt.errors import UserError
from microgpt.failure import guard
from microgpt.runs import checkpoint, directory


def convert(folder: Path) -> Path:
    """The `best.pt` of the run of gpt.py in `folder`. Raises `UserError` if it holds none."""
    try:
        run = json.loads((folder / directory.GPT_CHECKPOINT).read_text())
        state = {f"{name}.weight": torch.tensor(matrix) for name, matrix in run["weights"].items()}
        config, chars = to_config(run["settings"]), run["chars"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"run={folder}: its {directory.GPT_CHECKPOINT} is not one of gpt.py's; make one with: python microgpt/gpt.py"
        ) from None
    checkpoint.save(folder / directory.BEST, {"model": state, "tokenizer": chars, "config": asdict(config)})
    return folder / directory.BEST


def to_config(settings: dict[str, Any]) -> Config:
    """What the settings of gpt.py are called here."""
    return Config(
        dataset=DatasetConfig(name="gpt", note="a run of microgpt/gpt.py", path=settings["data"] or None),
        model=ModelConfig(**{name: settings[name] for name in ("n_embd", "n_layer", "n_head", "block_size")}),
        sampling=SamplingConfig(
            n_samples=max(1, settings["n_samples"]), temperature=settings["temperature"], top_k=settings["topk"]
        ),
        seed=settings["seed"],
    )


def main() -> None:
    values = read_words(
        sys.argv[1:], {"run": ""}, {"run": "say which run of gpt.py; add run=latest or run=outputs/gpt/…"}
    )
    file = convert(directory.find_run(values["run"], "run", directory.GPT_CHECKPOINT))
    print(f"{file}; sample from it with: python sample.py run={directory.relative(file.parent.absolute())}")


if __name__ == "__main__":
    guard(main, __doc__)
