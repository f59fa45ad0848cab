"""The processes of a data-parallel run, as `torchrun` starts them: who this one is, and what they tell each other."""

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Ranks:
    """Process `rank` of `world`, the `local`-th on its machine. Alone (the default), a call answers at once."""

    rank: int = 0
    world: int = 1
    local: int = 0

    def share(self, n: int) -> slice | Tensor:
        """Which of `n` rows are this rank's."""
        return slice(None) if self.world == 1 else torch.arange(self.rank, n, self.world)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is up in any rank: in all of them alike."""
        return flag if self.world == 1 else bool(self.sum(torch.tensor(float(flag), device=device)) > 0)

    def tell(self, value: Any = None) -> Any:
        """What rank 0 calls this with, in every rank."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with the mean of all ranks' gradients after each backward pass."""
        return model if self.world == 1 else DistributedDataParallel(model)


ALONE = Ranks()


def join() -> Ranks:
    """Meet the other ranks that `torchrun` has started, if it has: gloo among CPUs, nccl among GPUs."""
    if "RANK" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        return ALONE
    if not dist.is_initialized():
        dist.init_process_group()
    return Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))


def leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
