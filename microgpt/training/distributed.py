"""Data-parallel training: the ranks that `torchrun` starts, and the collective operations between them."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from microgpt.errors import UserError


@dataclass(frozen=True)
class Ranks:
    """This process: its `rank` among `world_size` processes, and its `local_rank` on its machine; all count from 0.

    With one process (the default), nothing is communicated and the operations return their argument.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    def shard(self, n: int) -> slice | Tensor:
        """An index that selects this rank's rows out of `n` rows: every `world_size`-th one, from `rank` on."""
        return slice(None) if self.world_size == 1 else torch.arange(self.rank, n, self.world_size)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over all ranks; `values` is overwritten with it."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether `flag` is set on any rank. Every rank gets the same answer."""
        return flag if self.world_size == 1 else bool(self.sum(torch.tensor(float(flag), device=device)) > 0)

    def broadcast(self, value: Any = None) -> Any:
        """Returns, on every rank, the `value` that rank 0 passed."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))  # replaces the item in place
        return values[0]

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model; after each backward pass through it, its gradients are the mean over all ranks."""
        return model if self.world_size == 1 else DistributedDataParallel(model)


def no_gradient_sync(wrapped: nn.Module) -> AbstractContextManager[None]:
    """A context in which a backward pass adds to this rank's gradients without averaging them over the ranks."""
    return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()


@contextmanager
def process_group() -> Iterator[Ranks]:
    """Join the process group if `torchrun` started several processes: gloo between CPUs, nccl between GPUs.

    Raises `UserError` if only some of the variables that torchrun sets are there.
    """
    if "RANK" not in os.environ:
        yield Ranks()
        return
    numbers = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")
    for name in (*numbers, "MASTER_ADDR"):
        value = os.environ.get(name, "")
        if not value or (name in numbers and not value.isdecimal()):
            hint = "start several processes with torchrun, or unset RANK"
            raise UserError(f"{name}={value}: is not what torchrun sets in the environment; {hint}")
    if int(os.environ["WORLD_SIZE"]) == 1:
        yield Ranks()
        return
    dist.init_process_group()
    yield Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))
    # Skipped after an exception: it could wait for the other ranks, which torchrun ends together with this one.
    dist.destroy_process_group()
