"""Data-parallel training: the processes that `torchrun` starts, and the collective operations between them."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Ranks:
    """Process `rank` of `world_size`, the `local_rank`-th on its machine.

    With one process (the default) the operations return their argument.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    def shard(self, n: int) -> slice | Tensor:
        """The indices of this rank's rows, of `n`."""
        return slice(None) if self.world_size == 1 else torch.arange(self.rank, n, self.world_size)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is set in any rank; the same answer in all of them."""
        return flag if self.world_size == 1 else bool(self.sum(torch.tensor(float(flag), device=device)) > 0)

    def broadcast(self, value: Any = None) -> Any:
        """The value that rank 0 passes, in every rank."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, which after each backward pass holds the mean of all ranks' gradients."""
        return model if self.world_size == 1 else DistributedDataParallel(model)


def no_gradient_sync(wrapped: nn.Module) -> AbstractContextManager[None]:
    """Within, a backward pass adds to this rank's gradients and does not average them over the ranks."""
    return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()


@contextmanager
def process_group() -> Iterator[Ranks]:
    """Join the processes that `torchrun` has started, if it has: gloo between CPUs, nccl between GPUs."""
    if "RANK" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        yield Ranks()
        return
    dist.init_process_group()
    yield Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))
    # Not after an exception: the other ranks would wait for this one, which torchrun ends with them.
    dist.destroy_process_group()
