"""What a run asks of the machine: threads, device, processes and memory. It is refused before anything is allocated."""

import logging
import os

import torch

from microgpt.config.schema import Config
from microgpt.data.loading import Data
from microgpt.errors import UserError
from microgpt.model.device import find_device
from microgpt.model.memory import check_sampling, check_training, format_bytes
from microgpt.training.distributed import Ranks

log = logging.getLogger(__name__)


def set_up_torch(config: Config, ranks: Ranks, gpu: int | None = None) -> torch.device:
    """Set the threads and the floating-point mode of this process; returns its device."""
    if config.train.threads:
        n_cores = os.cpu_count() or 1
        if config.train.threads > n_cores:  # more only wait for each other
            log.info(
                "train.threads=%d: this machine has %d cores, so it uses %d", config.train.threads, n_cores, n_cores
            )
        torch.set_num_threads(min(config.train.threads, n_cores))
    torch.set_flush_denormal(True)  # denormal numbers are slow on CPUs and too small to matter
    device = find_device(config.device, ranks.local_rank if ranks.world_size > 1 else gpu)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


def check_ranks(config: Config, ranks: Ranks, device: torch.device) -> None:
    """Raise `UserError` if the run cannot be trained by so many processes."""
    if config.train.batch_size < ranks.world_size:
        raise UserError(
            f"train.batch_size={config.train.batch_size}: must be at least {ranks.world_size}, one row per process"
        )
    if config.model.ngrams > 1 and ranks.world_size > 1 and device.type == "cuda":
        raise UserError(
            f"model.ngrams={config.model.ngrams}: several GPUs cannot average its sparse gradient; leave out"
            " torchrun, or set model.ngrams=0"
        )


def check_memory(config: Config, data: Data, device: torch.device, ranks: Ranks) -> None:
    """Log the memory that the run needs. Raises `UserError` if the device does not have it."""
    data.check_block_size(config.model.block_size)  # often the tighter limit
    packed = data.mode.ends_at_bos  # several documents in a row
    memory = check_training(config, data.tokenizer.vocab_size, device, packed, ranks.world_size)
    check_sampling(config, device)
    log.info("needs about %s of memory beside torch and the corpus", format_bytes(memory))
