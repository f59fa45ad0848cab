"""Builds the model and the trainer of a run from its config. Each part takes only its own dataclass of the schema."""

from collections.abc import Sequence

import torch

from microgpt.config.schema import Config
from microgpt.data.loading import Data
from microgpt.model.transformer import GPT
from microgpt.runs.callback import Callback
from microgpt.training.distributed import Ranks
from microgpt.training.trainer import Trainer


def build_model(config: Config, vocab_size: int, device: torch.device) -> GPT:
    """A new model on `device`; its weights are drawn from `config.seed`."""
    torch.manual_seed(config.seed)
    return GPT(vocab_size, config.model).to(device)


def build_trainer(
    config: Config, data: Data, model: GPT, callbacks: Sequence[Callback] = (), ranks: Ranks | None = None
) -> Trainer:
    """A trainer of `model` on `data`. Raises `UserError` if the data is too short for the block size."""
    block_size, device = config.model.block_size, model.head.weight.device
    return Trainer(
        model,
        data.batches(block_size, config.train.batch_size, config.dataset.pack, device),
        data.val_rows(block_size, device),
        data.count_characters,
        config.optim,
        config.train,
        callbacks=callbacks,
        ranks=ranks,
    )
