"""Convert a run of gpt.py for the other commands: write `best.pt` next to its `ckpt.json`.

    microgpt convert run=latest

The state of the optimizer is not converted: only gpt.py itself can resume the run.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from microgpt.commands.arguments import print_help_if_asked, read_arguments
from microgpt.config.program import program, relative
from microgpt.config.schema import REQUIRED, Config, DatasetConfig, ModelConfig, SamplingConfig, key, typed
from microgpt.errors import UserError
from microgpt.runs.directory import BEST, GPT_CHECKPOINT
from microgpt.runs.finding import choose_run


@dataclass
class ConvertConfig:
    run: str = key(REQUIRED, "the directory of a run of gpt.py, or latest", example="latest", free_text=True)


def main(words: Sequence[str]) -> None:
    print_help_if_asked(words, __doc__, ConvertConfig)
    config = read_arguments(words, ConvertConfig)
    file = convert(choose_run(config.run, "run", GPT_CHECKPOINT))
    print(f"{file}; sample from it with: {program('sample')} {typed('run', relative(file.parent.absolute()))}")


def convert(folder: Path) -> Path:
    """Write `best.pt` for the run of gpt.py in `folder`; returns its path. Raises `UserError` if it cannot be read."""
    import torch

    from microgpt.runs import checkpoint

    try:
        run = json.loads((folder / GPT_CHECKPOINT).read_text())
        state = {f"{name}.weight": torch.tensor(matrix) for name, matrix in run["weights"].items()}
        config, chars = to_config(run["settings"]), run["chars"]
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError):
        raise UserError(
            f"run={folder}: its {GPT_CHECKPOINT} is not a checkpoint of gpt.py; make one with: python microgpt/gpt.py"
        ) from None
    checkpoint.save(folder / BEST, {"model": state, "tokenizer": chars, "config": asdict(config)})
    return folder / BEST


def to_config(settings: dict[str, Any]) -> Config:
    """The config that corresponds to the settings of a run of gpt.py."""
    return Config(
        dataset=DatasetConfig(name="gpt", note="a run of microgpt/gpt.py", path=settings["data"] or None),
        model=ModelConfig(**{name: settings[name] for name in ("n_embd", "n_layer", "n_head", "block_size")}),
        sampling=SamplingConfig(
            n_samples=max(1, settings["n_samples"]), temperature=settings["temperature"], top_k=settings["topk"]
        ),
        seed=settings["seed"],
    )
